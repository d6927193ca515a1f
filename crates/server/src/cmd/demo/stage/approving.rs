//! The second story: a payment above the limit, which a person approves, exactly and once.

use std::process::{Command, Output as Ran, Stdio};

use remit_core::{AdminAction, PrincipalName, Verdict};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Stage, astray};
use crate::client::Client;
use crate::cmd::demo::show;
use crate::cmd::demo::story::{self, APPROVER, OWNER};
use crate::error::Error;
use crate::output::Tone;

/// The group that the policy wants an approval of.
const GROUP: &str = "finance";
/// The most records of administration that are looked at.
const PAGE: &str = "100";

/// What came of it, for `-o json`.
#[derive(Debug, Default, Serialize)]
pub(in crate::cmd::demo) struct Approving {
    /// The request, which is the approval as well.
    request: String,
    /// What an enforcement point is told with the denial.
    access_request: Value,
    /// Why whoever asked cannot approve it.
    own_answer: String,
    approved_by: Vec<PrincipalName>,
    /// The hash of what the approver was shown, and of what the record says they were.
    shown: String,
    recorded: String,
    /// The decision that used it, and how often it permitted anything.
    decision: String,
    permitted: usize,
    /// What was said of the changed amount, and of the second run.
    changed: Value,
    again: Value,
}

/// Somebody with a key of their own.
struct Person {
    name: &'static str,
    client: Client,
}

/// An access request, as whoever asked is told of it.
#[derive(Debug, Deserialize)]
struct Handle {
    task: HandleTask,
    #[serde(default)]
    result: Value,
}

#[derive(Debug, Deserialize)]
struct HandleTask {
    id: String,
    status: String,
}

/// A request, as approvers see it.
#[derive(Debug, Deserialize)]
struct Waiting {
    state: String,
    card_hash: String,
    #[serde(default)]
    approvers: Vec<PrincipalName>,
}

/// Records of administration, the newest first.
#[derive(Debug, Deserialize)]
struct Actions {
    actions: Vec<AdminAction>,
}

// === impl Stage ===

impl Stage<'_> {
    /// Tells it.
    ///
    /// # Errors
    ///
    /// As the first story.
    pub(in crate::cmd::demo) async fn approve(&mut self) -> Result<(), Error> {
        let (owner, approver) = self.people().await?;
        let declared = story::large_task();
        let task = self.open(&declared).await?.id;
        self.asks = owner.client.clone();
        let mut told = Approving::default();
        let denied = self.above_the_limit(&task, &mut told).await?;
        let shown = self.request(&owner, &task, &denied, &mut told).await?;
        self.refuse(&owner, &shown, &mut told).await?;
        let approval = self.answer(&owner, &approver, &shown, &mut told).await?;
        self.run_once(&task, &approval, &mut told).await?;
        self.look_back(&approver, &mut told).await?;
        self.summary.approving = Some(told);
        Ok(())
    }

    /// Brings two persons in who may both approve payments, each with a key of their own.
    async fn people(&mut self) -> Result<(Person, Person), Error> {
        for name in [OWNER, APPROVER] {
            let body = json!({ "kind": "person", "roles": ["author", "approver"] });
            self.send(Method::PUT, &["v1", "principals", name], Some(&body))
                .await?;
        }
        let members = [OWNER, APPROVER].map(|name| json!({ "principal": name }));
        let path = ["v1", "approver-groups", GROUP];
        self.send(Method::PUT, &path, Some(&json!({ "members": members })))
            .await?;
        Ok((self.person(OWNER).await?, self.person(APPROVER).await?))
    }

    async fn person(&mut self, name: &'static str) -> Result<Person, Error> {
        let body = json!({
            "name": name, "environment": "dev", "scopes": ["evaluate", "read", "approve"], "principal": name,
        });
        let reply = self
            .send(Method::POST, &["v1", "keys"], Some(&body))
            .await?;
        let made: Value = reply.json()?;
        let key = made.get("key").and_then(Value::as_str).unwrap_or_default();
        let client = self.remit.client_of(name, key)?;
        Ok(Person { name, client })
    }

    async fn above_the_limit(&mut self, task: &str, told: &mut Approving) -> Result<Answer, Error> {
        self.heading(
            8,
            "A payment above the limit wants a person",
            "POST /access/v1/evaluation",
        )?;
        let denied = self.ask(task, &story::pay_large(12_500.00)).await?;
        let hint = &denied.context.access_request;
        let (Some(endpoint), Some(template)) = (text(hint, "endpoint"), text(hint, "template"))
        else {
            return Err(astray("the denial does not say how to ask"));
        };
        let line =
            format!("The denial says how to ask: POST {endpoint}, which waits for {template}.");
        self.remark(&line)?;
        told.access_request.clone_from(hint);
        Ok(denied)
    }

    /// Makes the request; returns what is shown of it.
    async fn request(
        &mut self,
        owner: &Person,
        task: &str,
        denied: &Answer,
        told: &mut Approving,
    ) -> Result<Waiting, Error> {
        self.heading(9, "It is asked for", "POST /access/v1/requests")?;
        let mut body = self.question(task, &story::pay_large(12_500.00));
        let context = &denied.context;
        if let Some(members) = body.as_object_mut() {
            let denial = json!({
                "evaluation_id": context.evaluation_id,
                "reason": context.reason,
                "expires_at": context.access_request.get("expires_at"),
            });
            members.insert("denial".to_owned(), denial);
        }
        if let Some(said) = body.get_mut("context").and_then(Value::as_object_mut) {
            said.insert(
                "business_justification".to_owned(),
                Value::from(story::JUSTIFICATION),
            );
        }
        let request = owner
            .client
            .request(Method::POST, &["access", "v1", "requests"])?;
        let handle: Handle = owner.client.send(request.json(&body)).await?.json()?;
        let line = format!(
            "  202  {}  {}",
            self.out.paint(Tone::Warn, &handle.task.status),
            handle.task.id
        );
        self.say(&line)?;
        let line = format!(
            "{} asks for the agent, which adds: “{}”",
            owner.name,
            story::JUSTIFICATION
        );
        self.remark(&line)?;
        told.request = handle.task.id;
        let path = ["v1", "approvals", &told.request];
        let shown: Waiting = self.client.get(&path, &[]).await?;
        told.shown.clone_from(&shown.card_hash);
        Ok(shown)
    }

    /// Lets whoever asked try to approve it.
    async fn refuse(
        &mut self,
        owner: &Person,
        shown: &Waiting,
        told: &mut Approving,
    ) -> Result<(), Error> {
        let title = format!("{} asked for it, and cannot approve it", owner.name);
        self.heading(10, &title, "remit approvals approve")?;
        let ran = self.approve_as(owner, &told.request, shown).await?;
        if ran.status.success() {
            return Err(astray("whoever asked approves it"));
        }
        self.ran(owner, "approve … --yes --seen …", &ran)?;
        let complaint = String::from_utf8_lossy(&ran.stderr);
        complaint.trim().clone_into(&mut told.own_answer);
        Ok(())
    }

    /// Lets the approver look and approve; returns what whoever asked presents from then on.
    async fn answer(
        &mut self,
        owner: &Person,
        approver: &Person,
        shown: &Waiting,
        told: &mut Approving,
    ) -> Result<Value, Error> {
        let title = format!(
            "{} sees exactly what will run, and approves it",
            approver.name
        );
        self.heading(11, &title, "remit approvals approve")?;
        let looked = self.approvals(approver, &["show", &told.request]).await?;
        self.ran(approver, "show …", &looked)?;
        let ran = self.approve_as(approver, &told.request, shown).await?;
        self.ran(approver, "approve … --yes --seen …", &ran)?;
        if !looked.status.success() || !ran.status.success() {
            return Err(astray("the approver cannot approve it"));
        }
        let path = ["v1", "approvals", &told.request];
        let now: Waiting = self.client.get(&path, &[]).await?;
        if now.state != "approved" {
            return Err(astray("it is not approved"));
        }
        told.approved_by = now.approvers;
        let path = ["access", "v1", "requests", &told.request];
        let handle: Handle = owner.client.get(&path, &[]).await?;
        match handle.result.get("approval") {
            Some(approval) => Ok(approval.clone()),
            None => Err(astray("whoever asked is not told of the approval")),
        }
    }

    async fn run_once(
        &mut self,
        task: &str,
        approval: &Value,
        told: &mut Approving,
    ) -> Result<(), Error> {
        self.heading(12, "It runs, once", "context.approval")?;
        let changed = self
            .ask_with(task, &story::pay_large(12_500.01), Some(approval))
            .await?;
        self.next("One cent more", &changed)?;
        let once = self
            .ask_with(task, &story::pay_large(12_500.00), Some(approval))
            .await?;
        self.remark("What was approved, to the letter.")?;
        let again = self
            .ask_with(task, &story::pay_large(12_500.00), Some(approval))
            .await?;
        self.next("The same once more", &again)?;
        let verdicts = [&changed, &once, &again].map(|answer| answer.decision);
        if verdicts != [false, true, false] {
            return Err(astray("the approval is not good for one run of one call"));
        }
        told.permitted = verdicts.iter().filter(|permitted| **permitted).count();
        told.decision = once.context.evaluation_id;
        told.changed = changed.context.approval;
        told.again = again.context.approval;
        Ok(())
    }

    /// Shows the records of what people did with the request.
    async fn look_back(&mut self, approver: &Person, told: &mut Approving) -> Result<(), Error> {
        self.heading(13, "The records have all of it", "remit admin actions")?;
        let query = [("limit", PAGE.to_owned())];
        let actions: Actions = self.client.get(&["v1", "admin", "actions"], &query).await?;
        for acted in actions.actions.iter().rev() {
            if acted.resource.id != *told.request {
                continue;
            }
            let (verdict, tone) = match acted.verdict {
                Verdict::Permit => ("permit", Tone::Good),
                Verdict::Deny => ("deny", Tone::Bad),
            };
            let line = format!(
                "  {:<14}  {:<22}  {}",
                acted.principal.as_str(),
                acted.action,
                self.out.paint(tone, verdict)
            );
            self.say(&line)?;
            if acted.principal.as_str() == approver.name {
                told.recorded = hash_in(&json!(acted.details), &told.shown);
            }
        }
        if told.recorded != told.shown {
            return Err(astray(
                "the record does not have what the approver was shown",
            ));
        }
        let line = format!(
            "{} saw {}, and decision {} used it.",
            approver.name, told.shown, told.decision
        );
        self.remark(&line)
    }

    // --- pieces ---

    /// Runs `remit approvals approve` as somebody, to whom this was shown.
    async fn approve_as(&self, by: &Person, id: &str, shown: &Waiting) -> Result<Ran, Error> {
        let arguments = ["approve", id, "--yes", "--seen", &shown.card_hash];
        self.approvals(by, &arguments).await
    }

    /// Runs `remit approvals` as somebody.
    async fn approvals(&self, by: &Person, arguments: &[&str]) -> Result<Ran, Error> {
        let binary = std::env::current_exe().map_err(|why| Error::io("find this program", why))?;
        let mut command = Command::new(binary);
        command
            .arg("approvals")
            .args(arguments)
            .args(["--color", "never"])
            .env("REMIT_URL", &self.remit.url)
            .env("REMIT_KEY_FILE", self.remit.key_file(by.name))
            .env_remove("REMIT_KEY")
            .stdin(Stdio::null());
        let running = tokio::task::spawn_blocking(move || command.output());
        let ran = running.await.map_err(Error::Crashed)?;
        ran.map_err(|why| Error::io("run `remit approvals`", why))
    }

    /// Shows a command that was run, and what it said, but for how to come by other keys.
    fn ran(&self, by: &Person, what: &str, ran: &Ran) -> Result<(), Error> {
        let code = ran.status.code();
        let code = code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"));
        let line = format!("  {}$ remit approvals {what}  ({code})", by.name);
        self.say(&self.out.paint(Tone::Strong, &line))?;
        let said = [&ran.stdout, &ran.stderr].map(|said| String::from_utf8_lossy(said));
        let lines = said.iter().flat_map(|said| said.lines());
        let told = lines.take_while(|line| !line.trim_start().starts_with("help:"));
        for line in told.filter(|line| !line.trim().is_empty()) {
            self.say(&show::quoted(line))?;
        }
        Ok(())
    }

    /// Shows what an enforcement point is told to do next.
    fn next(&self, what: &str, answer: &Answer) -> Result<(), Error> {
        let context = &answer.context;
        let next = context.next_action.as_deref().unwrap_or("nothing");
        let why = text(&context.approval, "reason").unwrap_or("no reason");
        self.remark(&format!("{what}: {why}; next_action {next}."))
    }
}

fn text<'v>(value: &'v Value, member: &str) -> Option<&'v str> {
    value.get(member).and_then(Value::as_str)
}

/// Returns the hash where it stands anywhere in a value, and nothing where it does not.
fn hash_in(value: &Value, hash: &str) -> String {
    let found = match value {
        Value::String(text) => text == hash,
        Value::Array(items) => items.iter().any(|item| !hash_in(item, hash).is_empty()),
        Value::Object(members) => members.values().any(|item| !hash_in(item, hash).is_empty()),
        _ => false,
    };
    if found {
        hash.to_owned()
    } else {
        String::new()
    }
}
