//! F44: whoever knows an id of another tenant learns by it nothing that one made up would not tell.

use super::{DOCUMENT, NewKey, Reply, Request, Scope, StatusCode, TestApp, json, pack};

/// What everything of ours has in it, so that it is found wherever it is told.
const MARK: &str = "xyzzy";

/// Everything of ours that has an id.
struct Ours {
    test: TestApp,
    decision: String,
    key: String,
    draft: String,
    grant: String,
    kill: String,
    exception: String,
    request: String,
    task: String,
    webhook: String,
    version: u64,
    head: u64,
}

impl Ours {
    async fn make() -> Self {
        let mut bundle = pack("starter");
        let policy =
            format!("@id(\"{MARK}\") forbid (principal, action, resource) when {{ false }};");
        bundle.policies.push(remit_core::Source {
            file: format!("{MARK}.cedar"),
            text: policy,
        });
        bundle.schema.push(remit_core::Source {
            file: "tasks.cedarschema".to_owned(),
            text: "entity Purpose; action open_task appliesTo { principal: [Agent], resource: [Purpose], context: {} };".to_owned(),
        });
        bundle.policies.push(remit_core::Source {
            file: "tasks.cedar".to_owned(),
            text: "@id(\"tasks\") permit (principal, action == Action::\"open_task\", resource);"
                .to_owned(),
        });
        let mut test = TestApp::shipping(&bundle).await;
        let owner = json!({ "__entity": { "type": "Person", "id": "maya" } });
        let entity = json!({ "attrs": { "status": MARK, "trust": 1, "environment": "staging", "owner": owner } });
        let path = format!("/v1/entities/Agent/{MARK}");
        let written = test
            .send(test.request(http::Method::PUT, &path), entity)
            .await;
        assert_eq!(written.status, StatusCode::OK, "{}", written.text);
        for _ in 0..5 {
            test.put(&bundle).await;
        }
        let named = json!({ "name": MARK, "environment": "dev", "scopes": ["read"] });
        let key = test.post("/v1/keys", named).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let named = json!({ "name": MARK });
        let draft = test.post("/v1/drafts", named).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let principal = format!("/v1/principals/{MARK}");
        let body = json!({ "kind": "person", "roles": ["approver", "reader"] });
        let made = test.send(test.request(http::Method::PUT, &principal), body);
        assert_eq!(made.await.status, StatusCode::OK);
        let (kill, task) = register(&test).await;
        let named = json!({ "principal": MARK, "reason": MARK });
        let person = remit_core::PrincipalKind::Person;
        let proposal = json!({
            "policy": MARK, "scope": { "action": MARK }, "owner": MARK, "reason": MARK, "compensating": MARK,
            "until": test.clock.now().plus(std::time::Duration::from_hours(1)),
        });
        let approver = [remit_core::Role::Approver];
        test.person("approver", &approver, remit_store::Scope::ALL)
            .await;
        let until = test.clock.now().plus(std::time::Duration::from_hours(1));
        for (path, body) in [
            (
                "approver-groups",
                json!({ "members": [{ "principal": "approver" }] }),
            ),
            (
                "approver-delegations",
                json!({ "to": "approver", "until": until, "reason": MARK }),
            ),
        ] {
            let path = format!("/v1/{path}/{MARK}");
            let made = test.send(test.request(http::Method::PUT, &path), body);
            assert_eq!(made.await.status, StatusCode::OK, "{path}");
        }
        let publisher = [remit_core::Role::Publisher];
        let proposer = test.key_of(person, "proposer", &publisher).await;
        let made = test.as_key(&proposer, http::Method::POST, "/v1/exceptions", &proposal);
        let exception = made.await.json()["id"].as_str().unwrap().to_owned();
        let asker = test
            .key_of(person, "asker", &[remit_core::Role::Admin])
            .await;
        let made = test.as_key(&asker, http::Method::POST, "/v1/break-glass", &named);
        let grant = made.await.json()["id"].as_str().unwrap().to_owned();
        let question = json!({
            "subject": { "type": "Agent", "id": MARK }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": MARK },
        });
        let decision = test
            .post("/access/v1/evaluation", question)
            .await
            .header("x-decision-id")
            .to_owned();
        assert!(test.get("/v1/decisions").await.text.contains(&decision));
        let webhook = hooked(&test).await;
        let kept = (&test.store, &test.clock);
        let request = crate::store::approvals::pending(kept, test.tenant, 0).await;
        let versions = test.get("/v1/bundle/versions").await.json();
        Self {
            version: versions["versions"][0]["revision"].as_u64().unwrap(),
            head: test.get("/v1/whoami").await.json()["revision"]
                .as_u64()
                .unwrap(),
            test,
            decision,
            key,
            draft,
            grant,
            kill,
            exception,
            request: request.to_string(),
            task,
            webhook,
        }
    }

    /// The path of an operation with something of ours in it, and the same with something that nobody has.
    fn paths(&self, template: &str) -> (String, String) {
        let nobody = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
        let (ours, made_up) = if ["/v1/decisions/", "/v1/leases/"]
            .iter()
            .any(|named| template.starts_with(named))
        {
            (self.decision.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/keys/") {
            (self.key.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/drafts/") {
            (self.draft.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/break-glass/") {
            (self.grant.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/kills/") {
            (self.kill.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/exceptions/") {
            (self.exception.clone(), nobody.to_owned())
        } else if ["/access/v1/requests/", "/v1/approvals/"]
            .iter()
            .any(|named| template.starts_with(named))
        {
            (self.request.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/webhooks/") {
            (self.webhook.clone(), nobody.to_owned())
        } else if template.starts_with("/v1/tasks/") {
            (self.task.clone(), nobody.to_owned())
        } else if [
            "/v1/principals/",
            "/v1/agents/",
            "/v1/tools/",
            "/v1/task-templates/",
            "/v1/approver-groups/",
            "/v1/approver-delegations/",
        ]
        .iter()
        .any(|named| template.starts_with(named))
        {
            (MARK.to_owned(), "plugh".to_owned())
        } else if template.starts_with("/v1/tenants/") {
            (self.test.tenant.to_string(), nobody.to_owned())
        } else if template.starts_with("/v1/policies/") || template.starts_with("/v1/entities/") {
            (MARK.to_owned(), "plugh".to_owned())
        } else if template.starts_with("/v1/bundle/versions/") {
            (self.version.to_string(), "99999".to_owned())
        } else if template.starts_with("/v1/revisions/") {
            (self.head.to_string(), "99999".to_owned())
        } else {
            panic!("say here what of ours stands in {template}")
        };
        let fill = |id: &str| {
            let parts = template.split('/').map(|part| match part {
                "{type}" => "Agent",
                part if part.starts_with('{') => id,
                part => part,
            });
            parts.collect::<Vec<_>>().join("/")
        };
        (fill(&ours), fill(&made_up))
    }

    /// Everything that somebody else might have changed or taken away.
    async fn whole(&self) -> Vec<String> {
        let mut whole = Vec::new();
        for path in [
            "/v1/bundle".to_owned(),
            format!("/v1/entities/Agent/{MARK}"),
            format!("/v1/decisions/{}", self.decision),
            format!("/v1/keys/{}", self.key),
            format!("/v1/policies/{MARK}"),
            format!("/v1/drafts/{}", self.draft),
            format!("/v1/break-glass/{}", self.grant),
            format!("/v1/principals/{MARK}"),
            format!("/v1/agents/Agent/{MARK}"),
            format!("/v1/tools/{MARK}"),
            format!("/v1/kills/{}", self.kill),
            format!("/v1/exceptions/{}", self.exception),
            format!("/v1/tasks/{}", self.task),
            format!("/v1/webhooks/{}", self.webhook),
            format!("/v1/webhooks/{}/deliveries", self.webhook),
            format!("/v1/task-templates/{MARK}"),
            "/v1/whoami".to_owned(),
        ] {
            let reply = self.test.get(&path).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
            whole.push(reply.text);
        }
        whole
    }
}

/// Registers an agent, a tool, a template, and returns the ids of a kill and of a task.
async fn register(test: &TestApp) -> (String, String) {
    let agent = json!({
        "owner": MARK, "purpose": MARK, "environment": MARK, "model": MARK, "trust": 0,
        "review_at": "2026-06-01T00:00:00Z", "ends_at": "2026-06-01T00:00:00Z",
    });
    let tool = json!({ "effect": "egress", "owner": MARK });
    for (path, body) in [
        (format!("/v1/agents/Agent/{MARK}"), agent),
        (format!("/v1/tools/{MARK}"), tool),
        (
            format!("/v1/task-templates/{MARK}"),
            json!({ "purpose": MARK }),
        ),
    ] {
        let made = test
            .send(test.request(http::Method::PUT, &path), body)
            .await;
        assert_eq!(made.status, StatusCode::OK, "{path}: {}", made.text);
    }
    let kill = json!({ "target": { "kind": "tool", "tool": "stray" }, "reason": MARK });
    let agent = json!({ "type": "Agent", "id": "invoice-bot" });
    let task = json!({ "agent": agent, "purpose": MARK, "intent": MARK });
    let mut ids = Vec::new();
    for (path, body) in [("/v1/kills", kill), ("/v1/tasks", task)] {
        let made = test.post(path, body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{path}: {}", made.text);
        ids.push(made.json()["id"].as_str().unwrap().to_owned());
    }
    (ids[0].clone(), ids[1].clone())
}

/// Makes a webhook, at an address whose name nobody has to look up and to which nothing is sent, and returns its id.
async fn hooked(test: &TestApp) -> String {
    let body = json!({ "url": format!("https://9.9.9.9/{MARK}"), "callbacks": true });
    let made = test.post("/v1/webhooks", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()["id"].as_str().unwrap().to_owned()
}

/// An answer without what is of its request alone.
fn told(reply: &Reply, id: &str) -> String {
    if reply.text.is_empty() {
        return String::new();
    }
    let mut body = reply.json();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
    }
    body.to_string().replace(id, "…")
}

/// Every operation of the document with a part of its path that names something.
#[tokio::test]
async fn an_id_of_another_tenant_tells_nothing() {
    let ours = Ours::make().await;
    let test = &ours.test;
    let other = test.store.ensure_tenant("other").await.unwrap();
    test.store
        .put_bundle(other, remit_store::Expected::Any, &pack("starter"), None)
        .await
        .unwrap();
    let new = NewKey {
        name: "other".to_owned(),
        environment: "dev".to_owned(),
        scopes: Scope::ALL.iter().copied().collect(),
        expires_at: None,
        principal: None,
    };
    let (_, key) = test
        .store
        .create_key(other, &new, &test.pepper)
        .await
        .unwrap();
    let key = key.reveal();
    let began = std::time::Instant::now();
    while super::ask(test, &key).await.status != StatusCode::OK {
        assert!(
            began.elapsed() < super::PATIENCE,
            "the other tenant is not served"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = ours.whole().await;
    let mut asked = 0;
    for (template, item) in DOCUMENT["paths"].as_object().unwrap() {
        if !template.contains('{') {
            continue;
        }
        for (method, operation) in item.as_object().unwrap() {
            let (theirs, made_up) = ours.paths(template);
            let body = &operation["requestBody"]["content"]["application/json"]["example"];
            let conditional = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .any(|parameter| parameter["name"] == "If-Match");
            let mut answers = Vec::new();
            for path in [&theirs, &made_up] {
                let mut request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(path)
                    .header("authorization", format!("Bearer {key}"));
                if conditional {
                    request = request.header("if-match", "*");
                }
                let reply = if body.is_null() {
                    test.send(request, "").await
                } else {
                    test.send(request.header("content-type", "application/json"), body)
                        .await
                };
                let other = if *path == theirs { &made_up } else { &theirs };
                let mut parts = path.split('/').zip(other.split('/'));
                let (id, _) = parts.find(|(one, other)| one != other).unwrap();
                answers.push((reply.status, told(&reply, id)));
            }
            let what = format!("{method} {theirs}: {answers:?}");
            // A change that names its precondition finds it unfulfilled; the scope is asked for before the tenant.
            let wanted = match method.as_str() {
                _ if template.starts_with("/v1/tenants/") => StatusCode::FORBIDDEN,
                // So is the role; only a person approves, and this key is bound to none.
                _ if template.ends_with("/review")
                    || (template.ends_with("/approve")
                        && !template.starts_with("/v1/approvals/")) =>
                {
                    StatusCode::FORBIDDEN
                }
                // Nor does a machine vouch for a task, lift a kill or confirm an exception.
                _ if ["/endorse", "/lift", "/lift/confirm", "{id}/confirm"]
                    .iter()
                    .any(|end| template.ends_with(end)) =>
                {
                    StatusCode::FORBIDDEN
                }
                // Theirs of that name is made, and is not ours; so both are there or neither is.
                _ if template.starts_with("/v1/principals/") => answers[0].0,
                // The example's dates are not those of the clock here, or its name not that of the path: refused alike.
                "put"
                    if template.starts_with("/v1/agents/")
                        || template.starts_with("/v1/tools/") =>
                {
                    StatusCode::BAD_REQUEST
                }
                _ if template.starts_with("/v1/drafts/")
                    || template.starts_with("/v1/webhooks/") =>
                {
                    StatusCode::NOT_FOUND
                }
                "put" => StatusCode::PRECONDITION_FAILED,
                _ => StatusCode::NOT_FOUND,
            };
            assert!(
                answers[0].0 == wanted
                    || (conditional && answers[0].0 == StatusCode::PRECONDITION_FAILED),
                "{what}"
            );
            assert_eq!(answers[0], answers[1], "{what}");
            assert!(!answers[0].1.contains(MARK), "{what}");
            asked += 1;
        }
    }
    assert!(
        asked >= 28,
        "only {asked} operations have something to name"
    );
    assert_eq!(ours.whole().await, before, "ours is as it was");
    // Lists of theirs have nothing of ours.
    for path in [
        "/v1/entities",
        "/v1/decisions",
        "/v1/keys",
        "/v1/policies",
        "/v1/drafts",
        "/v1/settings",
        "/v1/break-glass",
        "/v1/bundle",
        "/v1/bundle/versions",
        "/v1/whoami",
    ] {
        let reply = super::get(test, &key, path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        for told in [MARK, &ours.decision, &ours.key, &test.tenant.to_string()] {
            assert!(!reply.text.contains(told), "{path} tells {told}");
        }
    }
}
