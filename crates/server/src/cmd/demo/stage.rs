//! What happens on the stage: each step of the story asked over HTTP, shown, and checked to be what it is said to be.

use std::collections::BTreeMap;

use remit_core::{ContentHash, DecisionRecord, PolicyId, Reason, Tool};
use remit_engine::Explanation;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::story::{self, AGENT, Call, OWNER};
use super::{Denied, Label, Summary, say, show};
use crate::client::{Client, Reply};
use crate::cmd::schema;
use crate::embedded::Embedded;
use crate::error::Error;
use crate::output::{Output, Tone};
use crate::starter;

pub(super) mod approving;

/// The most records that are fetched at once.
const PAGE: &str = "1000";
/// How often what is recorded is listed until it is all there.
const LISTS: usize = 5;

/// The demo while it runs.
pub(super) struct Stage<'a> {
    client: Client,
    /// What questions are asked with.
    asks: Client,
    out: &'a Output,
    remit: &'a Embedded,
    /// The hash of each tool's descriptor, as the gateway sees it.
    pins: BTreeMap<String, ContentHash>,
    /// The newest revision that was answered with: the next answer knows it.
    revision: Option<String>,
    pub(super) summary: Summary,
}

/// The answer to one question, as far as the demo reads it.
#[derive(Debug, Deserialize)]
struct Answer {
    decision: bool,
    context: AnswerContext,
}

#[derive(Debug, Deserialize)]
struct AnswerContext {
    evaluation_id: String,
    reason: Reason,
    policies: Vec<PolicyId>,
    /// How to ask for an approval.
    #[serde(default)]
    access_request: Value,
    /// What came of the approval that was presented.
    #[serde(default)]
    approval: Value,
    /// What to do next about a denial of it.
    #[serde(default)]
    next_action: Option<String>,
}

/// A task, as far as the demo reads it.
#[derive(Debug, Deserialize)]
struct Task {
    id: String,
    digest: String,
    #[serde(default)]
    labels: Vec<Label>,
}

/// One page of records.
#[derive(Debug, Deserialize)]
struct Records {
    decisions: Vec<DecisionRecord>,
}

/// A decision made again, clause by clause.
#[derive(Debug, Deserialize)]
struct Explained {
    explanation: Explanation,
}

/// Says that the story did not go as it is told.
fn astray(what: &str) -> Error {
    Error::Invalid(format!("the demo does not come out as it should: {what}"))
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Prepares one.
    ///
    /// # Errors
    ///
    /// As [`Embedded::client`].
    pub(super) fn new(remit: &'a Embedded, out: &'a Output) -> Result<Self, Error> {
        let client = remit.client()?;
        Ok(Self {
            asks: client.clone(),
            client,
            out,
            remit,
            pins: BTreeMap::new(),
            revision: None,
            summary: Summary::default(),
        })
    }

    /// Tells the story.
    ///
    /// # Errors
    ///
    /// Those of the client; [`Error::Invalid`] when something comes out otherwise than it is told.
    pub(super) async fn tell(&mut self, tools: &[Tool]) -> Result<(), Error> {
        self.register(tools).await?;
        let task = self.give().await?;
        self.work(&task).await?;
        self.read(&task).await?;
        self.obey(&task).await?;
        self.clean().await?;
        let child = self.hand_on(&task).await?;
        self.complete(&task, &child).await?;
        self.approve().await?;
        let query = [("limit", PAGE.to_owned())];
        // Each list waits for what was just answered, but not for long.
        for _ in 0..LISTS {
            let page: Records = self.client.get(&["v1", "decisions"], &query).await?;
            self.summary.recorded = page.decisions.len();
            if self.summary.recorded >= self.summary.answered {
                break;
            }
        }
        Ok(())
    }

    async fn register(&mut self, tools: &[Tool]) -> Result<(), Error> {
        let owner = json!({ "kind": "person", "roles": ["author"] });
        self.send(Method::PUT, &["v1", "principals", OWNER], Some(&owner))
            .await?;
        let path = ["v1", "agents", starter::AGENT, AGENT];
        self.send(Method::PUT, &path, Some(&story::agent())).await?;
        self.pins = tools
            .iter()
            .filter_map(|tool| Some((tool.name.to_string(), tool.descriptor?)))
            .collect();
        let catalogue = json!({ "tools": schema::catalogue(tools)? });
        self.send(Method::PUT, &["v1", "tools"], Some(&catalogue))
            .await?;
        Ok(())
    }

    async fn give(&mut self) -> Result<String, Error> {
        self.heading(1, "A task is given", "POST /v1/tasks")?;
        let declared = story::task();
        let task = self.open(&declared).await?;
        for (what, member) in [
            ("intent", "intent"),
            ("may use", "actions"),
            ("may affect", "sinks"),
            ("budget", "budget"),
        ] {
            let value = declared.get(member).unwrap_or(&Value::Null);
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(items) => {
                    let items = items.iter().filter_map(Value::as_str);
                    items.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            self.say(&format!(
                "  {:<10}  {text}",
                self.out.paint(Tone::Strong, what)
            ))?;
        }
        let line = format!(
            "{AGENT} has the task {}, declared as {}.",
            task.id, task.digest
        );
        self.remark(&line)?;
        self.summary.task.clone_from(&task.id);
        Ok(task.id)
    }

    async fn work(&mut self, task: &str) -> Result<(), Error> {
        self.heading(2, "It works", "POST /access/v1/evaluation, context.task")?;
        self.permitted(task, &story::look()).await?;
        let paid = self.permitted(task, &story::pay()).await?;
        let path = ["v1", "decisions", &paid.context.evaluation_id, "outcome"];
        let outcome = json!({ "result": "succeeded", "bytes": 512, "destination": story::PAYEE });
        self.send(Method::POST, &path, Some(&outcome)).await?;
        self.remark("The payee is declared, and the amount is within the budget.")
    }

    async fn read(&mut self, task: &str) -> Result<(), Error> {
        self.heading(3, "It reads what somebody outside wrote", "")?;
        self.permitted(task, &story::read()).await?;
        self.say(&show::remark(self.out, 6, story::MESSAGE))?;
        let labels = self.labels(task).await?;
        let line = "Before that answer left, the task was labelled. Nothing the agent does takes a label away:";
        self.remark(line)?;
        self.say(&show::labels(self.out, &labels))?;
        if !labels.iter().any(|found| found.label == "untrusted") {
            return Err(astray("the task is not labelled untrusted"));
        }
        self.summary.labels = labels;
        Ok(())
    }

    async fn obey(&mut self, task: &str) -> Result<(), Error> {
        self.heading(4, "The agent obeys the message", "remit explain")?;
        let denied = self.ask(task, &story::obey()).await?;
        if denied.decision {
            return Err(astray("the injected payment is permitted"));
        }
        let id = denied.context.evaluation_id;
        let path = ["v1", "decisions", &id, "explain"];
        let reply = self.send(Method::POST, &path, None).await?;
        let explained: Explained = reply.json()?;
        self.say(&show::explanation(self.out, &explained.explanation))?;
        let set = self
            .summary
            .labels
            .iter()
            .find(|found| found.label == "untrusted")
            .map(|found| found.decision.clone())
            .unwrap_or_default();
        let record: DecisionRecord = self.client.get(&["v1", "decisions", &set], &[]).await?;
        let line = format!(
            "Where `untrusted` comes from: decision {set}, which permitted {}.",
            record.question.action.name
        );
        self.remark(&line)?;
        self.summary.injected = Some(Denied {
            decision: id,
            reason: denied.context.reason,
            policies: denied.context.policies,
        });
        Ok(())
    }

    async fn clean(&mut self) -> Result<(), Error> {
        let aside = "another task, whose declaration names the account";
        self.heading(5, "The same payment, because a person wants it", aside)?;
        let declared = story::clean_task();
        let intent = declared.get("intent").and_then(Value::as_str);
        self.remark(intent.unwrap_or_default())?;
        let task = self.open(&declared).await?;
        self.permitted(&task.id, &story::obey()).await?;
        self.summary.clean_permitted = true;
        Ok(())
    }

    /// Returns the child that was opened in the end.
    async fn hand_on(&mut self, task: &str) -> Result<String, Error> {
        let aside = "POST /v1/tasks, parent";
        self.heading(6, "A part of the task cannot be wider than the task", aside)?;
        let wide = story::wide_child(task);
        let refused = self.send(Method::POST, &["v1", "tasks"], Some(&wide)).await;
        let Err(Error::Refused(problem)) = refused else {
            return Err(astray("a child is opened that is wider than its parent"));
        };
        let line = format!(
            "  422  {}  {}: {}",
            self.out.paint(Tone::Bad, &problem.code),
            problem.dimension,
            problem.title
        );
        self.say(&line)?;
        self.summary.exceeded.clone_from(&problem.dimension);
        let child = self.open(&story::child(task)).await?;
        let labels: Vec<&str> = child.labels.iter().map(|found| &*found.label).collect();
        let line = format!(
            "One that is within it is opened, and begins with the labels of its parent: {}.",
            labels.join(", ")
        );
        self.remark(&line)?;
        if !labels.contains(&"untrusted") {
            return Err(astray("the child does not begin with its parent's labels"));
        }
        self.permitted(&child.id, &story::tell()).await?;
        Ok(child.id)
    }

    async fn complete(&mut self, task: &str, child: &str) -> Result<(), Error> {
        let aside = "POST /v1/tasks/{id}/complete";
        self.heading(
            7,
            "The task is done, and everything under it is over",
            aside,
        )?;
        self.send(Method::POST, &["v1", "tasks", task, "complete"], None)
            .await?;
        for (task, call) in [(task, story::pay()), (child, story::tell())] {
            let answer = self.ask(task, &call).await?;
            if answer.decision {
                return Err(astray("something is permitted in a task that is over"));
            }
            self.summary.over.push(answer.context.reason);
        }
        Ok(())
    }

    // --- one request ---

    /// Opens a task, which is a decision as well.
    async fn open(&mut self, declared: &Value) -> Result<Task, Error> {
        let reply = self
            .send(Method::POST, &["v1", "tasks"], Some(declared))
            .await?;
        self.summary.answered += 1;
        self.summary.permitted += 1;
        reply.json()
    }

    async fn labels(&self, task: &str) -> Result<Vec<Label>, Error> {
        let task: Task = self.client.get(&["v1", "tasks", task], &[]).await?;
        Ok(task.labels)
    }

    async fn permitted(&mut self, task: &str, call: &Call) -> Result<Answer, Error> {
        let answer = self.ask(task, call).await?;
        if answer.decision {
            return Ok(answer);
        }
        Err(astray(&format!("{} is denied", call.tool)))
    }

    /// Asks for one call and shows the answer.
    async fn ask(&mut self, task: &str, call: &Call) -> Result<Answer, Error> {
        self.ask_with(task, call, None).await
    }

    /// Writes the question of one call.
    fn question(&self, task: &str, call: &Call) -> Value {
        json!({
            "subject": { "type": starter::AGENT, "id": AGENT },
            "action": { "name": call.tool, "properties": call.arguments },
            "resource": { "type": starter::SERVICE, "id": call.service },
            "context": { "task": task, "tool_hash": self.pins.get(call.tool) },
        })
    }

    /// Asks for one call and presents an approval.
    async fn ask_with(
        &mut self,
        task: &str,
        call: &Call,
        approval: Option<&Value>,
    ) -> Result<Answer, Error> {
        let mut question = self.question(task, call);
        let context = question.get_mut("context").and_then(Value::as_object_mut);
        if let (Some(context), Some(approval)) = (context, approval) {
            context.insert("approval".to_owned(), approval.clone());
        }
        let path = ["access", "v1", "evaluation"];
        let asks = self.asks.clone();
        let reply = self
            .send_by(&asks, Method::POST, &path, Some(&question))
            .await?;
        let answer: Answer = reply.json()?;
        let context = &answer.context;
        self.summary.answered += 1;
        if answer.decision {
            self.summary.permitted += 1;
        } else {
            self.summary.denied += 1;
        }
        if context.reason == Reason::ApprovalRequired {
            self.summary.approval_required += 1;
        }
        let line = show::call(
            self.out,
            call,
            answer.decision,
            context.reason,
            &context.policies,
        );
        self.say(&line)?;
        Ok(answer)
    }

    /// Sends a request that knows of everything before it.
    async fn send(
        &mut self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Reply, Error> {
        let client = self.client.clone();
        self.send_by(&client, method, path, body).await
    }

    async fn send_by(
        &mut self,
        client: &Client,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Reply, Error> {
        let mut request = client.request(method, path)?;
        if let Some(revision) = &self.revision {
            request = request.header("remit-revision", revision);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = client.send(request).await?;
        if let Some(revision) = reply.header("remit-revision") {
            self.revision = Some(revision.to_owned());
        }
        Ok(reply)
    }

    // --- what is shown ---

    fn heading(&self, number: usize, title: &str, aside: &str) -> Result<(), Error> {
        self.say(&show::heading(self.out, number, title, aside))
    }

    fn remark(&self, text: &str) -> Result<(), Error> {
        self.say(&show::remark(self.out, 2, text))
    }

    fn say(&self, text: &str) -> Result<(), Error> {
        say(self.out, text)
    }
}
