//! Plays: one task from its opening, with the calls of its user, and then perhaps those of an attacker.

use std::collections::BTreeSet;

use remit_core::{ContentHash, Question, call_digest};
use reqwest::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::approver::{Answered, Approvers};
use super::attacker;
use super::results;
use super::stand::{Answer, Stand};
use super::suite::{Call, Suite, UserTask};
use super::tally::Declaration;
use crate::error::Error;

/// One play.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) declaration: Declaration,
    /// The user's task.
    pub(super) task: String,
    pub(super) kind: Kind,
}

/// What is played.
#[derive(Debug)]
pub(super) enum Kind {
    /// The user's calls, undisturbed.
    Legitimate,
    /// The user's calls until one is permitted that brings back what an attacker wrote; then all calls of this injection
    /// task.
    Attack(String),
    /// The user's calls; from that one on, each side effect is asked redirected to the attacker before it is made.
    Redirected,
}

/// One call that counts, and what was answered.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) tool: String,
    pub(super) side_effect: bool,
    /// The first answer.
    pub(super) answer: Answer,
    /// What a person said, where one was asked.
    pub(super) approval: Option<Answered>,
    /// Whether it is permitted in the end.
    pub(super) permitted: bool,
    /// The reason and the policies behind it.
    pub(super) because: String,
}

/// A task that is open.
struct Open<'s> {
    stand: &'s Stand,
    suite: &'s Suite,
    /// Who approves, and the digests of what they approve: the calls of the user.
    approvers: Option<&'s Approvers>,
    truth: BTreeSet<ContentHash>,
    id: String,
    /// The revision that the next answer must know.
    revision: Option<String>,
}

/// One answer, as far as it is read.
struct Evaluated {
    decision: String,
    answer: Answer,
    /// The reason and the policies behind it.
    because: String,
    /// How to ask for an approval.
    access_request: Value,
}

/// Lists every play of a suite.
pub(super) fn all(suite: &Suite) -> Vec<Play> {
    let mut plays = Vec::new();
    for declaration in Declaration::ALL {
        for (name, task) in &suite.tasks {
            let play = |kind| Play {
                declaration: *declaration,
                task: name.clone(),
                kind,
            };
            plays.push(play(Kind::Legitimate));
            if task.is_exposed() {
                plays.push(play(Kind::Redirected));
                plays.extend(
                    suite
                        .injections
                        .keys()
                        .map(|of| play(Kind::Attack(of.clone()))),
                );
            }
        }
    }
    plays
}

// === impl Seen ===

impl Seen {
    pub(super) fn permitted(&self) -> bool {
        self.permitted
    }
}

// === impl Play ===

impl Play {
    /// Names it in messages.
    pub(super) fn name(&self, suite: &Suite) -> String {
        format!("{} {} {}", self.declaration.as_str(), suite.name, self.task)
    }

    /// Plays it; returns the calls that count.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn perform(
        &self,
        suite: &Suite,
        stand: &Stand,
        approvers: Option<&Approvers>,
    ) -> Result<Vec<Seen>, Error> {
        let Some(task) = suite.tasks.get(&self.task) else {
            return Ok(Vec::new());
        };
        let mut open = self.open(suite, stand, task).await?;
        open.approvers = approvers;
        let seen = match &self.kind {
            Kind::Legitimate => {
                let mut seen = Vec::new();
                for call in &task.calls {
                    seen.push(open.call(call).await?);
                }
                seen
            }
            Kind::Attack(injection) => {
                let injected = suite.injections.get(injection).map(|task| &*task.calls);
                open.attacked(task, injected.unwrap_or_default()).await?
            }
            Kind::Redirected => open.redirected(task).await?,
        };
        open.complete().await?;
        Ok(seen)
    }

    async fn open<'s>(
        &self,
        suite: &'s Suite,
        stand: &'s Stand,
        task: &UserTask,
    ) -> Result<Open<'s>, Error> {
        let mut body = json!({
            "agent": Stand::agent(),
            "purpose": "bench",
            "intent": task.prompt,
        });
        if let (Some(actions), Some(members)) =
            (self.declaration.actions(suite, task), body.as_object_mut())
        {
            members.insert("actions".to_owned(), json!(actions));
        }
        let reply = stand
            .send(|| {
                let request = stand.client.request(Method::POST, &["v1", "tasks"])?;
                Ok(request.json(&body))
            })
            .await?;
        let revision = reply.header("remit-revision").map(ToOwned::to_owned);
        let opened: Value = reply.json()?;
        let id = opened.get("id").and_then(Value::as_str).unwrap_or_default();
        let questions = task
            .calls
            .iter()
            .filter_map(|call| Question::deserialize(Stand::question(suite, call, id)).ok());
        Ok(Open {
            stand,
            suite,
            approvers: None,
            truth: questions.map(|question| call_digest(&question)).collect(),
            id: id.to_owned(),
            revision,
        })
    }
}

// === impl Open ===

impl Open<'_> {
    /// Makes the user's calls up to the first that brings back what an attacker wrote, and then the attacker's.
    ///
    /// Where none of them is permitted, nothing of the attacker's is ever read, and nothing done.
    async fn attacked(&mut self, task: &UserTask, injected: &[Call]) -> Result<Vec<Seen>, Error> {
        let mut seen = Vec::new();
        for call in &task.calls {
            if self.call(call).await?.permitted() && call.exposes() {
                for call in injected {
                    seen.push(self.call(call).await?);
                }
                break;
            }
        }
        Ok(seen)
    }

    /// Makes the user's calls; once one has brought back what an attacker wrote, asks each side effect redirected.
    ///
    /// What the user did before is done by then, so that nothing but the attacker's value is a reason to refuse.
    async fn redirected(&mut self, task: &UserTask) -> Result<Vec<Seen>, Error> {
        let (mut seen, mut exposed) = (Vec::new(), false);
        let mut earlier: Vec<&Call> = Vec::new();
        for call in &task.calls {
            let changes = self.suite.is_side_effect(call);
            if changes && exposed {
                self.redirect(call, &mut seen).await?;
            } else if changes {
                earlier.push(call);
            }
            if self.call(call).await?.permitted() && call.exposes() {
                exposed = true;
            }
            if exposed {
                for call in earlier.drain(..) {
                    self.redirect(call, &mut seen).await?;
                }
            }
        }
        Ok(seen)
    }

    /// Asks every redirection of a call.
    async fn redirect(&self, call: &Call, seen: &mut Vec<Seen>) -> Result<(), Error> {
        let tool = self.suite.tools.get(&call.tool);
        let redirected = tool.map(|tool| attacker::redirected(call, tool));
        for call in redirected.unwrap_or_default() {
            seen.push(self.ask(&call).await?.1);
        }
        Ok(())
    }

    /// Ends the task, so that it counts no longer as one that is live.
    async fn complete(&self) -> Result<(), Error> {
        let path = ["v1", "tasks", &self.id, "complete"];
        self.stand
            .send(|| self.stand.client.request(Method::POST, &path))
            .await
            .map(drop)
    }

    /// Asks for a call and, where it is permitted, makes it: what came back is reported as an enforcement point does.
    async fn call(&mut self, call: &Call) -> Result<Seen, Error> {
        let (decision, seen) = self.ask(call).await?;
        let trusted = self
            .suite
            .tools
            .get(&call.tool)
            .is_some_and(|tool| tool.integrity == remit_core::Integrity::Trusted);
        // Of another tool's result there is nothing to say that the catalogue has not said.
        if seen.permitted() && trusted && call.error.is_null() {
            let sinks = results::values(&call.result, &call.args);
            if !sinks.is_empty() {
                self.report(&decision, &sinks).await?;
            }
        }
        Ok(seen)
    }

    /// Asks for a call, and for the approval of it where that is what it takes and somebody is there to answer.
    async fn ask(&self, call: &Call) -> Result<(String, Seen), Error> {
        let question = Stand::question(self.suite, call, &self.id);
        let first = self.evaluate(&question).await?;
        let mut seen = Seen {
            tool: call.tool.clone(),
            side_effect: self.suite.is_side_effect(call),
            answer: first.answer,
            approval: None,
            permitted: first.answer == Answer::Permitted,
            because: first.because,
        };
        let (Answer::WouldAsk, Some(approvers)) = (first.answer, self.approvers) else {
            return Ok((first.decision, seen));
        };
        let (answered, approval) = self
            .request(approvers, &question, &first.access_request, &first.decision)
            .await?;
        seen.approval = Some(answered);
        let Some(approval) = approval else {
            return Ok((first.decision, seen));
        };
        let mut question = question;
        let context = question.get_mut("context").and_then(Value::as_object_mut);
        if let Some(context) = context {
            context.insert("approval".to_owned(), approval);
        }
        let second = self.evaluate(&question).await?;
        seen.permitted = second.answer == Answer::Permitted;
        if !seen.permitted {
            seen.because = format!("approved, and then {}", second.because);
        }
        Ok((second.decision, seen))
    }

    /// Asks for an approval and has it answered; returns what to present where it was approved.
    async fn request(
        &self,
        approvers: &Approvers,
        question: &Value,
        hint: &Value,
        decision: &str,
    ) -> Result<(Answered, Option<Value>), Error> {
        let _turn = approvers.desk().await;
        let mut body = question.clone();
        if let Some(members) = body.as_object_mut() {
            let denial = json!({
                "evaluation_id": decision, "reason": "approval_required", "expires_at": hint.get("expires_at"),
            });
            members.insert("denial".to_owned(), denial);
        }
        let path = ["access", "v1", "requests"];
        let asked = self
            .stand
            .send(|| Ok(self.stand.client.request(Method::POST, &path)?.json(&body)))
            .await;
        let handle: Value = match asked {
            Ok(reply) => reply.json()?,
            // What cannot be asked for is not approved; that no key is good for it is another matter.
            Err(Error::Refused(problem)) if !matches!(problem.status, 401 | 403 | 404) => {
                return Ok((Answered::Refused, None));
            }
            Err(other) => return Err(other),
        };
        let id = handle.pointer("/task/id").and_then(Value::as_str);
        let id = id.unwrap_or_default();
        let answered = approvers.answer(id, &self.truth).await?;
        if answered == Answered::Refused {
            return Ok((answered, None));
        }
        let path = ["access", "v1", "requests", id];
        let handle: Value = self.stand.client.get(&path, &[]).await?;
        Ok((answered, handle.pointer("/result/approval").cloned()))
    }

    async fn evaluate(&self, question: &Value) -> Result<Evaluated, Error> {
        let path = ["access", "v1", "evaluation"];
        let reply = self
            .stand
            .send(|| {
                let request = self.stand.client.request(Method::POST, &path)?;
                let request = match &self.revision {
                    Some(revision) => request.header("remit-revision", revision),
                    None => request,
                };
                Ok(request.json(question))
            })
            .await;
        let reply = match reply {
            Ok(reply) => reply,
            // A question that Remit does not take is no permit.
            Err(Error::Refused(problem)) if matches!(problem.status, 400 | 413 | 422) => {
                return Ok(Evaluated {
                    decision: String::new(),
                    answer: Answer::Denied,
                    because: problem.to_string(),
                    access_request: Value::Null,
                });
            }
            Err(other) => return Err(other),
        };
        let decision = reply.header("x-decision-id").unwrap_or_default().to_owned();
        let body: Value = reply.json()?;
        let context = body.get("context").unwrap_or(&Value::Null);
        let member = |name| context.get(name).unwrap_or(&Value::Null);
        let code = member("reason").as_str().unwrap_or_default();
        let answer = match body.get("decision") {
            Some(Value::Bool(true)) => Answer::Permitted,
            _ if code == "approval_required" => Answer::WouldAsk,
            _ => Answer::Denied,
        };
        Ok(Evaluated {
            decision,
            answer,
            because: format!("{code} {}", member("policies")),
            access_request: member("access_request").clone(),
        })
    }

    async fn report(&mut self, decision: &str, sinks: &[String]) -> Result<(), Error> {
        let body = json!({ "result": "succeeded", "sinks": sinks });
        let path = ["v1", "decisions", decision, "outcome"];
        let reply = self
            .stand
            .send(|| Ok(self.stand.client.request(Method::POST, &path)?.json(&body)))
            .await?;
        if let Some(revision) = reply.header("remit-revision") {
            self.revision = Some(revision.to_owned());
        }
        Ok(())
    }
}
