//! Approvers: who may answer an access request, what they are shown, and what comes of it.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, PrincipalKind, Role, Source};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

mod answers;
mod cards;
mod commands;
mod groups;
mod hands;
mod limits;
mod quorum;

const SCHEMA: &str = r#"
@registered("agent")
entity Agent;
entity Person;
entity Purpose;
entity Payee;
action pay, look appliesTo {
  principal: [Agent, Person], resource: [Payee],
  context: {
    facts: Remit::Facts, note?: String,
    action?: { to?: String, amount?: Long, currency?: String, text?: String, api_key?: String, more?: String },
  },
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
@id("open")
permit (principal, action, resource);
@id("finance-pays")
@cure("approval:finance")
@advice("Somebody of finance looks at every payment")
@severity("high")
forbid (principal, action == Action::"pay", resource)
unless { context.facts.approved };
@id("two-of-the-board")
@cure("approval:board")
@quorum("2")
forbid (principal, action == Action::"pay", resource == Payee::"large")
unless { context.facts.approved };
@id("anybody-looks")
@cure("approval")
forbid (principal, action == Action::"look", resource == Payee::"secret")
unless { context.facts.approved };
@id("owner-looks")
@cure("approval:owner")
forbid (principal, action == Action::"look", resource == Payee::"owned")
unless { context.facts.approved };
"#;

/// Agents that pay when a person of finance approves.
pub(crate) fn bundle(admin: &str) -> Bundle {
    let mut bundle: Bundle = serde_json::from_value(json!({
        "schema": [{ "file": "schema.cedarschema", "text": SCHEMA }],
        "policies": [{ "file": "approvals.cedar", "text": POLICIES }],
    }))
    .unwrap();
    if !admin.is_empty() {
        bundle.admin = vec![Source {
            file: "admin/own.cedar".to_owned(),
            text: admin.to_owned(),
        }];
    }
    bundle
}

/// The API with an agent that pays, and people who answer.
pub(crate) struct World {
    pub(crate) test: TestApp,
    /// Of finance.
    pub(crate) ben: String,
    /// Of finance.
    pub(crate) cy: String,
    /// Of the board.
    pub(crate) dan: String,
    /// An admin.
    pub(crate) ada: String,
}

// === impl World ===

impl World {
    pub(crate) async fn make() -> Self {
        Self::governed("").await
    }

    /// Makes one with policies of the administration.
    pub(crate) async fn governed(admin: &str) -> Self {
        Self::within(Options::default().deadline, admin).await
    }

    /// Makes one that gives every request so much time.
    async fn within(deadline: Duration, admin: &str) -> Self {
        let options = Options {
            deadline,
            // The clock is moved by more than the usual.
            max_staleness: Duration::from_hours(24 * 400),
            ..Options::default()
        };
        let mut test = TestApp::empty(options).await;
        let (log, store) = (test.log.clone(), test.store.clone());
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
        test.put(&bundle(admin)).await;
        let person = PrincipalKind::Person;
        let ben = test.key_of(person, "ben", &[Role::Approver]).await;
        let cy = test.key_of(person, "cy", &[Role::Approver]).await;
        let dan = test.key_of(person, "dan", &[Role::Approver]).await;
        let ada = test.key_of(person, "ada", &[Role::Admin]).await;
        let world = Self {
            test,
            ben,
            cy,
            dan,
            ada,
        };
        world
            .group(
                "finance",
                &json!({ "members": [{ "principal": "ben" }, { "principal": "cy" }] }),
            )
            .await;
        world
            .group("board", &json!({ "members": [{ "principal": "dan" }] }))
            .await;
        world.agent("bot", Some("bot")).await;
        let pay = json!({
            "effect": "pay", "integrity": "trusted", "confidentiality": "public", "irreversible": true, "sinks": ["to"],
            "amount": { "argument": "amount", "scale": 2 },
        });
        let put = world
            .send(&world.test.key, Method::PUT, "/v1/tools/pay", &pay)
            .await;
        assert!(put.status.is_success(), "{}", put.text);
        world
    }

    /// Sends a request without a precondition.
    pub(crate) async fn send(&self, key: &str, method: Method, path: &str, body: &Value) -> Reply {
        let request = self.test.request_with(key, method, path);
        if body.is_null() {
            return self.test.send(request, "").await;
        }
        self.test.send(request, body).await
    }

    /// Makes or replaces a group.
    pub(crate) async fn group(&self, name: &str, body: &Value) {
        let path = format!("/v1/approver-groups/{name}");
        let put = self.send(&self.ada, Method::PUT, &path, body).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    }

    /// Registers an agent, with a machine principal of its own where it is named.
    pub(crate) async fn agent(&self, name: &str, principal: Option<&str>) {
        if let Some(principal) = principal {
            self.test
                .principal(principal, PrincipalKind::Machine, &[])
                .await;
        }
        let body = json!({
            "owner": "ada", "purpose": "Pays the invoices of suppliers", "environment": "live", "model": "m", "trust": 2,
            "principal": principal, "review_at": "2026-12-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z",
        });
        let path = format!("/v1/agents/Agent/{name}");
        let put = self.send(&self.test.key, Method::PUT, &path, &body).await;
        assert!(put.status.is_success(), "{}", put.text);
    }

    /// Opens a task by a key, and returns its id.
    pub(crate) async fn task(&self, key: &str, body: &Value) -> String {
        let opened = self.send(key, Method::POST, "/v1/tasks", body).await;
        assert_eq!(opened.status, StatusCode::CREATED, "{}", opened.text);
        opened.json()["id"].as_str().unwrap().to_owned()
    }

    /// Asks a question that is denied until a person approves, and asks for that by a key; returns the id.
    pub(crate) async fn requested_by(&self, key: &str, question: &Value) -> String {
        let reply = self.try_request(key, question).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
        reply.json()["task"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn try_request(&self, key: &str, question: &Value) -> Reply {
        let asked = self
            .send(key, Method::POST, "/access/v1/evaluation", question)
            .await;
        let denied = asked.json();
        assert_eq!(
            denied["context"]["reason"], "approval_required",
            "{}",
            asked.text
        );
        let context = &denied["context"];
        let mut body = question.clone();
        body["denial"] = json!({
            "evaluation_id": context["evaluation_id"], "evaluated_at": context["evaluated_at"],
            "expires_at": context["access_request"]["expires_at"], "reason": context["reason"],
        });
        self.send(key, Method::POST, "/access/v1/requests", &body)
            .await
    }

    pub(crate) async fn requested(&self, question: &Value) -> String {
        self.requested_by(&self.test.key, question).await
    }

    /// Reads a request.
    pub(crate) async fn shown(&self, id: &str) -> Value {
        self.shown_to(&self.test.key, id).await
    }

    pub(crate) async fn shown_to(&self, key: &str, id: &str) -> Value {
        let path = format!("/v1/approvals/{id}");
        let got = self.send(key, Method::GET, &path, &Value::Null).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.text);
        let shown = got.json();
        let tag = format!("\"{}\"", shown["card_hash"].as_str().unwrap());
        assert_eq!(got.header("etag"), tag);
        shown
    }

    /// Answers a request with what its card says.
    pub(crate) async fn answer(&self, key: &str, id: &str, verb: &str, more: Value) -> Reply {
        let mut body = more;
        if body.get("seen").is_none() && ["approve", "deny"].contains(&verb) {
            body["seen"] = self.shown(id).await["card_hash"].clone();
        }
        let path = format!("/v1/approvals/{id}/{verb}");
        self.send(key, Method::POST, &path, &body).await
    }

    pub(crate) async fn approve(&self, key: &str, id: &str) -> Reply {
        self.answer(key, id, "approve", json!({})).await
    }

    pub(crate) async fn deny(&self, key: &str, id: &str) -> Reply {
        self.answer(key, id, "deny", json!({ "reason": "Nobody ordered this" }))
            .await
    }

    /// Asks a question by an approval, and returns the whole answer.
    pub(crate) async fn ask_by(&self, question: &Value, id: &str) -> Value {
        let mut question = question.clone();
        question["context"]["approval"] = json!({ "id": id });
        let reply = self.test.post("/access/v1/evaluation", &question).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    }

    /// Makes another person with a key of theirs.
    pub(crate) async fn person(&self, name: &str, roles: &[Role]) -> String {
        self.test.person(name, roles, Scope::ALL).await
    }

    /// Says who is behind a principal.
    pub(crate) async fn behind(
        &self,
        name: &str,
        kind: &str,
        roles: &Value,
        person: &str,
    ) -> Reply {
        let path = format!("/v1/principals/{name}");
        let body = json!({ "kind": kind, "roles": roles, "person": person });
        self.send(&self.test.key, Method::PUT, &path, &body).await
    }
}

/// A payment, in a task or not.
pub(crate) fn payment(task: Option<&str>) -> Value {
    let mut question = json!({
        "subject": { "type": "Agent", "id": "bot" },
        "action": { "name": "pay", "properties": { "to": "acme", "amount": 100 } },
        "resource": { "type": "Payee", "id": "acme" }, "context": {},
    });
    if let Some(task) = task {
        question["context"]["task"] = json!(task);
    }
    question
}

/// A task of the agent.
pub(crate) fn task() -> Value {
    json!({ "agent": { "type": "Agent", "id": "bot" }, "purpose": "pay", "intent": "Pay acme" })
}

/// Checks that an answer was refused with a status, and says why.
pub(crate) fn refused(reply: &Reply, status: StatusCode, why: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert!(reply.text.contains(why), "{why}: {}", reply.text);
}
