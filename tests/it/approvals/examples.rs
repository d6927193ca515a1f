//! The two worked examples of the Access Request and Approval Profile (Draft 1), replayed over HTTP with our own ids and times.

use std::fmt::Write as _;
use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{ApprovalScope, Role};
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::golden;
use serde_json::{Value, json};

use super::{EVALUATION, REQUESTS, approve, ask, by, id_of, payment, requested, start, submission};

/// One exchange after another, as they are written down.
struct Exchange<'a> {
    app: &'a TestApp,
    text: String,
    /// Ids, each with the name that stands for it.
    ids: Vec<(String, String)>,
}

impl Exchange<'_> {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        name: Option<&str>,
    ) -> Value {
        let mut request = self.app.request(method.clone(), path);
        if let Some(name) = name {
            request = request.header("idempotency-key", name);
        }
        let sent = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let reply = self.app.send(request, sent).await;
        let status = reply.status;
        let _ = writeln!(self.text, "{method} {path}");
        if let Some(name) = name {
            let _ = writeln!(self.text, "idempotency-key: {name}");
        }
        if !body.is_null() {
            let _ = writeln!(self.text, "{}", serde_json::to_string_pretty(body).unwrap());
        }
        let answer = reply.json();
        let _ = writeln!(self.text, "→ {}", status.as_u16());
        for header in ["content-type", "location", "retry-after"] {
            if !reply.header(header).is_empty() {
                let _ = writeln!(self.text, "{header}: {}", reply.header(header));
            }
        }
        let _ = writeln!(
            self.text,
            "{}\n",
            serde_json::to_string_pretty(&answer).unwrap()
        );
        answer
    }

    fn masks(&mut self, id: &Value, name: &str) {
        self.ids
            .push((id.as_str().unwrap().to_owned(), name.to_owned()));
    }

    /// Returns what was written, with names for ids. The clock stands still but where a test moves it, so that times stay.
    fn masked(self) -> String {
        let mut text = self.text;
        for (id, name) in self.ids {
            text = text.replace(&id, &name);
        }
        text
    }
}

/// Makes a person who answers for `finance`, and returns their key.
async fn approver(app: &TestApp) -> String {
    let key = app
        .person("maya", &[Role::Approver], &[Scope::Approve])
        .await;
    let group = json!({ "members": [{ "principal": "maya" }] });
    let path = "/v1/approver-groups/finance";
    let put = app.request(Method::PUT, path).header("if-none-match", "*");
    let put = app.send(put, &group).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    app.caught_up().await;
    key
}

/// Approves a request as a person does who has seen its card. How somebody is asked is no matter of the profile.
async fn approve_by(app: &TestApp, key: &str, id: &str, until: &str) {
    let path = format!("/v1/approvals/{id}");
    let shown = app.request_with(key, Method::GET, &path);
    let shown = app.send(shown, "").await.json();
    let body = json!({ "seen": shown["card_hash"], "until": until });
    let path = format!("{path}/approve");
    let done = app.as_key(key, Method::POST, &path, &body).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(done.json()["state"], "approved", "{}", done.text);
}

#[tokio::test]
async fn a_document_is_read_after_an_approval() {
    let app = start().await;
    let maya = approver(&app).await;
    let mut exchange = Exchange {
        app: &app,
        text: String::new(),
        ids: Vec::new(),
    };
    let mut question = json!({
        "subject": { "type": "user", "id": "alice@example.com" },
        "resource": { "type": "document", "id": "q4-plan" },
        "action": { "name": "can_read" },
        "context": { "time": "2026-04-30T20:15:00Z" },
    });
    let denied = exchange
        .send(Method::POST, EVALUATION, &question, None)
        .await;
    let told = &denied["context"];
    exchange.masks(&told["evaluation_id"], "<evaluation>");
    assert_eq!(denied["decision"], false);
    let submission = json!({
        "subject": question["subject"], "resource": question["resource"], "action": question["action"],
        "context": { "business_justification": "Needed for customer renewal review" },
        "requested_access": { "requested_until": "2026-05-01T00:15:00Z" },
        "denial": {
            "evaluation_id": told["evaluation_id"], "evaluated_at": told["evaluated_at"],
            "expires_at": told["access_request"]["expires_at"], "reason": told["reason"],
            "template": told["access_request"]["template"],
        },
    });
    let name = "7b8d0f0d-65a1-4af1-9fd3-a684f08a5d13";
    let handle = exchange
        .send(Method::POST, REQUESTS, &submission, Some(name))
        .await;
    let id = handle["task"]["id"].as_str().unwrap().to_owned();
    exchange.masks(&handle["task"]["id"], "<request>");
    let path = format!("{REQUESTS}/{id}");
    exchange.send(Method::GET, &path, &Value::Null, None).await;
    app.clock.advance(Duration::from_mins(2));
    app.caught_up().await;
    approve_by(&app, &maya, &id, "2026-01-05T14:02:00Z").await;
    let done = exchange.send(Method::GET, &path, &Value::Null, None).await;
    question["context"] =
        json!({ "time": "2026-04-30T20:43:00Z", "approval": done["result"]["approval"] });
    let answer = exchange
        .send(Method::POST, EVALUATION, &question, None)
        .await;
    exchange.masks(&answer["context"]["evaluation_id"], "<final>");
    assert_eq!(answer["decision"], true, "{answer}");
    assert_eq!(
        answer["context"]["approval"]["approved_until"],
        done["result"]["approval"]["approved_until"]
    );
    golden::compare("tests/golden/approvals/document.txt", &exchange.masked());
}

/// The agent stands in the subject's `act` where it asks, and in `client.actor` where it submits.
#[tokio::test]
async fn an_agent_calls_a_tool_after_an_approval() {
    let app = start().await;
    let maya = approver(&app).await;
    let mut exchange = Exchange {
        app: &app,
        text: String::new(),
        ids: Vec::new(),
    };
    let mut question = json!({
        "subject": {
            "type": "user", "id": "alice@example.com",
            "properties": { "act": { "iss": "https://agents.example.com", "sub": "agent_renewal_assistant_v3", "sub_profile": "ai_agent" } },
        },
        "resource": { "type": "tool", "id": "crm.search_accounts" },
        "action": { "name": "invoke" },
        "context": { "time": "2026-05-12T15:00:00Z" },
    });
    let denied = exchange
        .send(Method::POST, EVALUATION, &question, None)
        .await;
    let told = &denied["context"];
    exchange.masks(&told["evaluation_id"], "<evaluation>");
    let submission = json!({
        "subject": { "type": "user", "id": "alice@example.com" },
        "resource": question["resource"], "action": question["action"],
        "context": { "business_justification": "Assembling Q2 renewal report for customer ACME-1042" },
        "requested_access": { "requested_until": "2026-05-19T15:00:00Z" },
        "client": {
            "id": "renewal_assistant",
            "actor": { "id": "agent_renewal_assistant_v3", "issuer": "https://agents.example.com", "type": "ai_agent" },
            "source": { "session_id": "session_01HX69WJ8Q0K7P4F0V0K9D6Z7N" },
        },
        "denial": {
            "evaluation_id": told["evaluation_id"], "evaluated_at": told["evaluated_at"],
            "expires_at": told["access_request"]["expires_at"], "reason": told["reason"],
        },
    });
    let handle = exchange
        .send(Method::POST, REQUESTS, &submission, None)
        .await;
    let id = handle["task"]["id"].as_str().unwrap().to_owned();
    exchange.masks(&handle["task"]["id"], "<request>");
    approve_by(&app, &maya, &id, "2026-01-05T11:00:00Z").await;
    let path = format!("{REQUESTS}/{id}");
    let done = exchange.send(Method::GET, &path, &Value::Null, None).await;
    question["context"] =
        json!({ "time": "2026-05-12T17:31:00Z", "approval": done["result"]["approval"] });
    let answer = exchange
        .send(Method::POST, EVALUATION, &question, None)
        .await;
    exchange.masks(&answer["context"]["evaluation_id"], "<final>");
    assert_eq!(answer["decision"], true, "{answer}");
    golden::compare("tests/golden/approvals/tool.txt", &exchange.masked());
}

/// What an enforcement point says of an approval beside its id is not read.
#[tokio::test]
async fn an_approval_is_what_is_recorded_and_not_what_a_caller_says() {
    let app = start().await;
    let id = id_of(&requested(&app, &payment()).await);
    approve(&app, &id, ApprovalScope::Once, 60).await;
    app.clock.advance(Duration::from_mins(1));
    app.caught_up().await;
    let mut question = by(&payment(), &id);
    question["context"]["approval"]["approved_until"] = json!("2030-01-01T00:00:00Z");
    question["context"]["approval"]["state"] = json!("eyJhbGciOiJub25lIn0.e30.");
    let answer = ask(&app, &question).await;
    assert_eq!(answer["decision"], false, "{answer}");
    assert_eq!(answer["context"]["next_action"], "request", "{answer}");
}

/// A person's approval does not last longer than the access is wanted, and what is no time is refused before anything is kept.
#[tokio::test]
async fn an_approval_lasts_no_longer_than_it_is_wanted() {
    let app = start().await;
    let maya = approver(&app).await;
    let denied = ask(&app, &payment()).await;
    let mut body = submission(&payment(), &denied);
    body["requested_access"] = json!({ "requested_until": "tomorrow" });
    let refused = app.post(REQUESTS, &body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("requested_until"), "{}", refused.text);
    let waiting = app.store.count_requests(app.tenant).await.unwrap();
    assert_eq!(waiting.states["pending"], 0);
    body["requested_access"] = json!({ "requested_until": "2026-01-05T10:05:00Z" });
    let id = id_of(&app.post(REQUESTS, &body).await.json());
    approve_by(&app, &maya, &id, "2026-01-05T14:00:00Z").await;
    let path = format!("{REQUESTS}/{id}");
    let done = app.get(&path).await.json();
    let until = &done["result"]["approval"]["approved_until"];
    assert_eq!(*until, "2026-01-05T10:05:00.000000Z", "{done}");
    // It can be asked about for a day after it was to be answered.
    let told = &done["task"]["expires_at"];
    assert_eq!(*told, "2026-01-06T11:00:00.000000Z", "{done}");
    app.clock.advance(Duration::from_hours(25));
    app.caught_up().await;
    let gone = app.get(&path).await;
    assert_eq!(gone.status, StatusCode::GONE, "{}", gone.text);
}

#[tokio::test]
async fn the_metadata_says_what_is_spoken() {
    let app = start().await;
    let metadata = app.get("/.well-known/authzen-configuration").await.json();
    let base = metadata["policy_decision_point"].as_str().unwrap();
    assert_eq!(
        metadata["access_request_endpoint"],
        format!("{base}/access/v1/requests")
    );
    assert_eq!(
        metadata["capabilities"],
        json!(["urn:openid:authzen:capability:access-request"])
    );
    let types = json!(["step-up", "notification", "session_termination", "custom"]);
    assert_eq!(metadata["obligations_supported"], types);
}

/// An item of a batch that can be approved is named, so that it can be asked for.
#[tokio::test]
async fn an_item_of_a_batch_can_be_asked_for() {
    let app = start().await;
    let question = super::payment();
    let batch = json!({ "evaluations": [question, { "subject": question["subject"], "resource": question["resource"], "action": { "name": "look" } }] });
    let reply = app.post("/access/v1/evaluations", &batch).await;
    let items = reply.json()["evaluations"].clone();
    assert!(items[1].get("context").is_none(), "{items}");
    let submission = super::submission(&question, &items[0]);
    let reply = app.post(REQUESTS, &submission).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
}
