//! Tasks: declared, decided, kept within what they are a part of, and over for good when they are over.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, PrincipalKind, Role, TaskId, Timestamp};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

mod bounds;
mod chain;
mod commands;
mod endings;
mod fleet;
mod history;
mod model;
mod names;
mod narrowing;
mod opening;
mod scale;
mod templates;

const SCHEMA: &str = r#"
@registered("agent")
entity Agent;
entity Person;
entity Purpose;
entity Folder;
entity File in [Folder];
entity Payee;
action reading, writing;
action get_file in [reading] appliesTo { principal: [Agent, Person], resource: [File], context: { facts: Remit::Facts } };
action pay in [writing] appliesTo {
  principal: [Agent, Person], resource: [Payee],
  context: { facts: Remit::Facts, action?: { to?: String, amount?: Long } },
};
action open_task appliesTo {
  principal: [Agent, Person], resource: [Purpose],
  context: {
    facts: Remit::Facts,
    action: {
      agent?: String, actions?: Set<String>, sinks?: Set<String>, data_classes?: Set<String>, unbounded: Bool, depth: Long,
      may_delegate: Bool, on_behalf_of?: String, expires_in: Long, template?: String, named?: Set<String>,
      self_opened?: Bool,
    },
  },
};
"#;

const POLICIES: &str = r#"
@id("agents") permit (principal is Agent, action, resource);
@id("ann") permit (principal == Person::"ann", action, resource);
@id("boss-pays-not") forbid (principal == Agent::"boss", action == Action::"pay", resource);
@id("tainted-pay") forbid (principal is Agent, action == Action::"pay", resource)
when { context.facts has task && context.facts.task.labels.contains("untrusted") };
@id("not-mallory") forbid (principal, action == Action::"open_task", resource)
when { context.action has named && context.action.named.contains("mallory@evil.example") };
@id("not-alone") forbid (principal, action == Action::"open_task", resource == Purpose::"alone")
when { context.action has self_opened && context.action.self_opened };
@id("no-secrets") forbid (principal, action == Action::"open_task", resource == Purpose::"secret");
"#;

/// Agents that may do everything but what the policies name.
pub(crate) fn bundle() -> Bundle {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "tasks.cedar", "text": POLICIES }],
        "entities": [
            { "uid": uid("Folder", "hr"), "attrs": {}, "parents": [] },
            { "uid": uid("File", "hr-1"), "attrs": {}, "parents": [uid("Folder", "hr")] },
        ],
    }))
    .unwrap()
}

/// The API with agents, a tool that strangers write into, and people.
pub(crate) struct World {
    pub(crate) test: TestApp,
    /// A person with the role `operator`.
    pub(crate) ops: String,
}

// === impl World ===

impl World {
    async fn make() -> Self {
        let options = Options {
            // The clock is moved by more than the usual.
            max_staleness: Duration::from_hours(24 * 400),
            ..Options::default()
        };
        Self::with(options).await
    }

    async fn with(options: Options) -> Self {
        let mut test = TestApp::empty(options).await;
        test.put(&bundle()).await;
        Self::over(test).await
    }

    /// Registers what a tenant with the bundle needs.
    pub(crate) async fn over(test: TestApp) -> Self {
        let ops = test
            .key_of(PrincipalKind::Person, "maya", &[Role::Operator])
            .await;
        let world = Self { test, ops };
        for name in ["bot", "boss", "other"] {
            world.register(name, Some(name)).await;
        }
        let tool =
            json!({ "effect": "read", "integrity": "untrusted", "confidentiality": "public" });
        let key = &world.test.key;
        let put = world
            .test
            .as_key(key, Method::PUT, "/v1/tools/get_file", &tool)
            .await;
        // It must not be there yet, or is replaced.
        assert!(
            put.status.is_success() || put.status == StatusCode::PRECONDITION_FAILED,
            "{}",
            put.text
        );
        if put.status == StatusCode::PRECONDITION_FAILED {
            let put = world.test.request(Method::PUT, "/v1/tools/get_file");
            let put = world.test.send(put, &tool).await;
            assert!(put.status.is_success(), "{}", put.text);
        }
        let pay = json!({
            "effect": "pay", "integrity": "trusted", "confidentiality": "public", "irreversible": true, "sinks": ["to"],
        });
        let put = world.test.request(Method::PUT, "/v1/tools/pay");
        let put = world.test.send(put, &pay).await;
        assert!(put.status.is_success(), "{}", put.text);
        world
    }

    /// Registers an agent, with a machine principal of its own where it is named.
    async fn register(&self, name: &str, principal: Option<&str>) {
        let far = self.test.clock.now().plus(Duration::from_hours(24 * 300));
        let agent = json!({
            "owner": "maya", "purpose": "tests", "environment": "dev", "model": "none", "trust": 2, "review_at": far,
            "ends_at": far, "principal": principal,
        });
        if let Some(principal) = principal {
            let machine = PrincipalKind::Machine;
            self.test.principal(principal, machine, &[]).await;
        }
        let path = format!("/v1/agents/Agent/{name}");
        let put = self.test.request(Method::PUT, &path);
        let put = self.test.send(put, agent).await;
        assert!(put.status.is_success(), "{}", put.text);
    }

    /// Returns a key of an agent's own principal, in these roles.
    async fn own(&self, name: &str, roles: &[Role]) -> String {
        self.test.key_of(PrincipalKind::Machine, name, roles).await
    }

    async fn send(&self, key: &str, path: &str, body: &Value) -> Reply {
        let request = self.test.request_with(key, Method::POST, path);
        if body.is_null() {
            return self.test.send(request, "").await;
        }
        self.test.send(request, body).await
    }

    async fn open_by(&self, key: &str, body: &Value) -> Reply {
        self.send(key, "/v1/tasks", body).await
    }

    /// Opens a task as an operator, and returns its id.
    async fn open(&self, body: Value) -> String {
        let opened = self.open_by(&self.ops, &body).await;
        assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
        id_of(&opened)
    }

    /// Ends a task, stops it or lets it go on, as an operator.
    async fn turn(&self, task: &str, verb: &str) -> Reply {
        let path = format!("/v1/tasks/{task}/{verb}");
        self.send(&self.ops, &path, &Value::Null).await
    }

    async fn shown(&self, task: &str) -> Value {
        let shown = self.test.get(&format!("/v1/tasks/{task}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        shown.json()
    }

    /// Asks whether an agent may do something, in a task where one is given.
    async fn ask(&self, agent: &str, what: &Value, task: Option<&str>) -> Reply {
        let question = question(agent, what, task);
        let asked = self.test.post("/access/v1/evaluation", question).await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
        asked
    }

    /// Asks, and returns the reason of the answer.
    async fn reason(&self, agent: &str, what: &Value, task: Option<&str>) -> String {
        reason(&self.ask(agent, what, task).await)
    }

    /// Puts labels on a task and those above it.
    async fn label(&self, chain: &[&str], labels: &[&str]) {
        let chain: Vec<TaskId> = chain.iter().map(|id| id.parse().unwrap()).collect();
        let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        let decision = remit_core::DecisionId::from_uuid(self.test.clock.id());
        let done = self
            .test
            .store
            .label_tasks(self.test.tenant, &chain, &labels, decision);
        self.test.reached(done.await.unwrap()).await;
    }
}

pub(crate) fn question(agent: &str, what: &Value, task: Option<&str>) -> Value {
    let mut question = json!({
        "subject": { "type": "Agent", "id": agent }, "action": what["action"], "resource": what["resource"],
    });
    if let Some(task) = task {
        question["context"] = json!({ "task": task });
    }
    question
}

pub(crate) fn reason(asked: &Reply) -> String {
    let reason = asked.json()["context"]["reason"].clone();
    reason.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn id_of(opened: &Reply) -> String {
    opened.json()["id"].as_str().unwrap().to_owned()
}

/// A file is read, which strangers may have written.
pub(crate) fn read() -> Value {
    json!({ "action": { "name": "get_file" }, "resource": { "type": "File", "id": "hr-1" } })
}

/// Somebody is paid.
pub(crate) fn pay() -> Value {
    json!({
        "action": { "name": "pay", "properties": { "to": "DE89370400440532013000", "amount": 5 } },
        "resource": { "type": "Payee", "id": "supplier" },
    })
}

/// A task of an agent that may do anything.
pub(crate) fn task(agent: &str) -> Value {
    json!({ "agent": { "type": "Agent", "id": agent }, "purpose": "work" })
}

/// A task with more members.
fn with(mut body: Value, members: Value) -> Value {
    let (Value::Object(body), Value::Object(members)) = (&mut body, members) else {
        panic!("no objects");
    };
    body.extend(members);
    Value::Object(body.clone())
}

/// The labels of a task as it is shown.
fn labels(shown: &Value) -> Vec<&str> {
    let labels = shown["labels"].as_array().unwrap();
    labels
        .iter()
        .map(|label| label["label"].as_str().unwrap())
        .collect()
}

fn time(text: &Value) -> Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

const EVERY: &[Scope] = Scope::ALL;
