//! Who may call what: every operation of the OpenAPI document, asked by everybody, as one table.

use std::fmt::Write;

use http::{Request, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, DraftId, Entity, PrincipalKind, Role};
use remit_store::{Change, DraftFilter, DraftState, Expected, NewDraft, NewKey, Scope};
use remit_tests::app::{Reply, TestApp};
use remit_tests::contract::DOCUMENT;
use remit_tests::golden;
use serde_json::{Value, json};

mod approvers;
mod exceptions;
mod registered;
mod requests;
mod tasks;
mod webhooks;

/// The callers: nobody, a key that was revoked, one key a scope, a key with all of them, a person in each role with a key
/// that has every scope, and all of another tenant.
const CALLERS: [&str; 19] = [
    "nobody",
    "revoked",
    "evaluate",
    "search",
    "read",
    "write",
    "keys",
    "tasks",
    "approve",
    "tenants",
    "all",
    "reader",
    "author",
    "publisher",
    "approver",
    "admin",
    "auditor",
    "operator",
    "other",
];

/// What the operations are asked about.
struct World {
    test: TestApp,
    keys: Vec<(&'static str, Option<String>)>,
    decision: String,
    victim: String,
    version: String,
    draft: String,
    grant: String,
    agent: String,
    kill: String,
    exception: (String, String),
}

/// One request of an operation: its path with the parts filled in, a precondition, and a body.
struct Recipe {
    path: String,
    condition: Option<(&'static str, &'static str)>,
    body: Value,
}

/// A policy that can be removed without a case failing.
const SPARE: &str = "@id(\"spare\") forbid (principal, action, resource) when { false };";

/// The bundle of the document's own example, and one policy more.
fn bundle() -> Value {
    let mut bundle = DOCUMENT["paths"]["/v1/bundle"]["put"]["requestBody"]["content"]["application/json"]
        ["example"]
        .clone();
    let policies = bundle["policies"].as_array_mut().unwrap();
    policies.push(json!({ "file": "spare.cedar", "text": SPARE }));
    bundle
}

/// Returns a request for an operation, or `None` for one that this table does not know yet.
fn recipe(world: &World, id: &str) -> Option<Recipe> {
    let body = |body: Value| (None, body);
    let entity = "/v1/entities/Agent/invoice-bot";
    let decision = format!("/v1/decisions/{}", world.decision);
    let tenant = format!("/v1/tenants/{}", world.test.tenant);
    let draft = format!("/v1/drafts/{}", world.draft);
    let grant = format!("/v1/break-glass/{}", world.grant);
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.send" },
    });
    let (path, (condition, body)) = match id {
        "evaluate" => ("/access/v1/evaluation".to_owned(), body(question)),
        "evaluate_batch" => (
            "/access/v1/evaluations".to_owned(),
            body(json!({ "evaluations": [question] })),
        ),
        "search_subjects" => ("/access/v1/search/subject".to_owned(), body(question)),
        "search_resources" => ("/access/v1/search/resource".to_owned(), body(question)),
        "search_actions" => ("/access/v1/search/action".to_owned(), body(question)),
        "get_configuration" => (
            "/.well-known/authzen-configuration".to_owned(),
            body(Value::Null),
        ),
        "get_openapi" => ("/openapi.json".to_owned(), body(Value::Null)),
        "get_bundle" => ("/v1/bundle".to_owned(), body(Value::Null)),
        "put_bundle" => ("/v1/bundle".to_owned(), (Some(("if-match", "*")), bundle())),
        "check_bundle" => ("/v1/bundle/check".to_owned(), body(bundle())),
        "assess_bundle" => ("/v1/bundle/impact".to_owned(), body(bundle())),
        "get_shadow" | "delete_shadow" => ("/v1/shadow".to_owned(), body(Value::Null)),
        // Only over the one that is there, as for entities.
        "put_shadow" => ("/v1/shadow".to_owned(), (Some(("if-match", "*")), bundle())),
        "list_versions" => ("/v1/bundle/versions".to_owned(), body(Value::Null)),
        "get_version" => (
            format!("/v1/bundle/versions/{}", world.version),
            body(Value::Null),
        ),
        "rollback_bundle" => (
            "/v1/bundle/rollback".to_owned(),
            (
                Some(("if-match", "*")),
                json!({ "to": world.version.parse::<u64>().unwrap() }),
            ),
        ),
        "list_drafts" => ("/v1/drafts".to_owned(), body(Value::Null)),
        "create_draft" => (
            "/v1/drafts".to_owned(),
            body(json!({ "name": world.test.clock.id().to_string() })),
        ),
        "get_draft" => (draft, body(Value::Null)),
        "check_draft" => (format!("{draft}/check"), body(Value::Null)),
        "assess_draft" => (format!("{draft}/impact"), body(Value::Null)),
        "discard_draft" => (draft, (Some(("if-match", "*")), Value::Null)),
        "put_draft_bundle" => (
            format!("{draft}/bundle"),
            (Some(("if-match", "*")), bundle()),
        ),
        "put_draft_policy" => (
            format!("{draft}/policies/spare"),
            (Some(("if-match", "*")), json!({ "text": SPARE })),
        ),
        "delete_draft_policy" => (
            format!("{draft}/policies/spare"),
            (Some(("if-match", "*")), Value::Null),
        ),
        "rebase_draft" => (
            format!("{draft}/rebase"),
            (Some(("if-match", "*")), Value::Null),
        ),
        "review_draft" => (
            format!("{draft}/review"),
            (Some(("if-match", "\"1\"")), json!({ "verdict": "approve" })),
        ),
        "publish_draft" => (
            format!("{draft}/publish"),
            (Some(("if-match", "\"1\"")), json!({})),
        ),
        "request_break_glass" => (
            "/v1/break-glass".to_owned(),
            body(json!({ "principal": "grantee", "reason": "an incident" })),
        ),
        "list_break_glass" => ("/v1/break-glass".to_owned(), body(Value::Null)),
        "get_break_glass" | "end_break_glass" => (grant, body(Value::Null)),
        "approve_break_glass" => (format!("{grant}/approve"), body(Value::Null)),
        "get_settings" => ("/v1/settings".to_owned(), body(Value::Null)),
        // What is there already, so that nothing is demanded of what comes after.
        "put_settings" => (
            "/v1/settings".to_owned(),
            (Some(("if-match", "*")), json!({ "second_person": false })),
        ),
        "confirm_settings" => (
            "/v1/settings/confirm".to_owned(),
            body(json!({ "second_person": false })),
        ),
        "list_policies" => ("/v1/policies".to_owned(), body(Value::Null)),
        "get_policy" => ("/v1/policies/spare".to_owned(), body(Value::Null)),
        "put_policy" => (
            "/v1/policies/spare".to_owned(),
            (Some(("if-match", "*")), json!({ "text": SPARE })),
        ),
        "delete_policy" => (
            "/v1/policies/spare".to_owned(),
            (Some(("if-match", "*")), Value::Null),
        ),
        "list_entities" => ("/v1/entities".to_owned(), body(Value::Null)),
        "get_entity" | "delete_entity" => (entity.to_owned(), body(Value::Null)),
        // Only over what is there, so that another tenant has nothing to write over.
        "put_entity" => (entity.to_owned(), (Some(("if-match", "*")), json!({}))),
        "change_entities" => (
            "/v1/entities/bulk".to_owned(),
            body(json!([{ "remove": { "type": "Agent", "id": "invoice-bot" } }])),
        ),
        "get_revision" => ("/v1/revisions/0".to_owned(), body(Value::Null)),
        "list_decisions" => ("/v1/decisions".to_owned(), body(Value::Null)),
        "get_decision" => (decision, body(Value::Null)),
        "explain_decision" => (format!("{decision}/explain"), body(Value::Null)),
        "make_case" => (format!("{decision}/case"), body(Value::Null)),
        "report_outcome" => (
            format!("{decision}/outcome"),
            body(json!({ "result": "succeeded" })),
        ),
        "list_outcomes" => ("/v1/outcomes".to_owned(), body(Value::Null)),
        "list_orphans" => ("/v1/orphans".to_owned(), body(Value::Null)),
        "create_key" => (
            "/v1/keys".to_owned(),
            body(json!({ "name": "child", "environment": "dev", "scopes": ["keys"] })),
        ),
        "list_keys" => ("/v1/keys".to_owned(), body(Value::Null)),
        "get_key" | "revoke_key" => (format!("/v1/keys/{}", world.victim), body(Value::Null)),
        "list_principals" => ("/v1/principals".to_owned(), body(Value::Null)),
        "get_principal" | "disable_principal" => {
            ("/v1/principals/victim".to_owned(), body(Value::Null))
        }
        "put_principal" => (
            // Not the one to be disabled, so that another tenant has none of that name.
            "/v1/principals/newcomer".to_owned(),
            body(json!({ "kind": "machine", "roles": ["reader"] })),
        ),
        "list_admin_actions" => ("/v1/admin/actions".to_owned(), body(Value::Null)),
        "who_am_i" => ("/v1/whoami".to_owned(), body(Value::Null)),
        "list_tenants" => ("/v1/tenants".to_owned(), body(Value::Null)),
        // The name of the tenant that asks, so that none is made.
        "create_tenant" => ("/v1/tenants".to_owned(), body(json!({ "name": "default" }))),
        // The tenant that asks, which it cannot suspend or delete.
        "get_tenant" => (tenant, body(Value::Null)),
        "suspend_tenant" => (format!("{tenant}/suspend"), body(Value::Null)),
        "resume_tenant" => (format!("{tenant}/resume"), body(Value::Null)),
        "export_tenant" => (format!("{tenant}/export"), body(Value::Null)),
        "delete_tenant" => (format!("{tenant}?name=default"), body(Value::Null)),
        _ => {
            return registered::recipe(world, id)
                .or_else(|| exceptions::recipe(world, id))
                .or_else(|| tasks::recipe(id))
                .or_else(|| webhooks::recipe(id))
                .or_else(|| requests::recipe(id))
                .or_else(|| approvers::recipe(id));
        }
    };
    Some(Recipe {
        path,
        condition,
        body,
    })
}

impl World {
    async fn make() -> Self {
        let bundle: Bundle = serde_json::from_value(bundle()).unwrap();
        let test = TestApp::empty(Options::default()).await;
        let (log, store) = (test.log.clone(), test.store.clone());
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
        let version = test
            .store
            .put_bundle(test.tenant, Expected::Any, &bundle, None)
            .await
            .unwrap();
        test.caught_up().await;
        let mut keys = vec![("nobody", None)];
        let revoked = test.new_key(&[Scope::Read], "dev", None).await;
        let id: remit_core::KeyId = revoked.split('_').nth(2).unwrap().parse().unwrap();
        test.store
            .revoke_key(test.tenant, id, None, Change::default())
            .await
            .unwrap();
        keys.push(("revoked", Some(revoked)));
        for scope in Scope::EVERY {
            keys.push((
                scope.as_str(),
                Some(test.new_key(&[*scope], "dev", None).await),
            ));
        }
        keys.push(("all", Some(test.key.clone())));
        for role in Role::ALL {
            let key = test.person(role.as_str(), &[*role], Scope::ALL).await;
            keys.push((role.as_str(), Some(key)));
        }
        let tenant = test.store.ensure_tenant("other").await.unwrap();
        test.store
            .put_bundle(tenant, Expected::Any, &bundle, None)
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
            .create_key(tenant, &new, &test.pepper)
            .await
            .unwrap();
        keys.push(("other", Some(key.reveal())));
        let mut world = Self {
            test,
            keys,
            decision: String::new(),
            victim: String::new(),
            version: version.to_string(),
            draft: String::new(),
            grant: String::new(),
            agent: String::new(),
            kill: String::new(),
            exception: Default::default(),
        };
        world.settle(key.reveal()).await;
        world.decision = world.ask().await;
        world.restore().await;
        world
    }

    /// Waits until the other tenant is served.
    async fn settle(&self, key: String) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while self
            .send("GET", "/v1/entities", Some(&key), None, &Value::Null)
            .await
            .status
            != StatusCode::OK
            || self
                .send("POST", "/v1/bundle/check", Some(&key), None, &bundle())
                .await
                .header("remit-revision")
                == "0"
        {
            assert!(
                std::time::Instant::now() < deadline,
                "the other tenant is not served"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn ask(&self) -> String {
        let question = json!({
            "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.send" },
        });
        self.test
            .post("/access/v1/evaluation", question)
            .await
            .header("x-decision-id")
            .to_owned()
    }

    /// Puts back what an operation may have taken away: the entity, a policy, the shadow, and a key to be revoked.
    async fn restore(&mut self) {
        let stored = self.test.store.bundle(self.test.tenant).await.unwrap();
        let mut files = stored.iter().flat_map(|stored| &stored.bundle.policies);
        if !files.any(|source| source.file == "spare.cedar") {
            let bundle: Bundle = serde_json::from_value(bundle()).unwrap();
            self.test
                .store
                .put_bundle(self.test.tenant, Expected::Any, &bundle, None)
                .await
                .unwrap();
        }
        let shadow = self.test.store.shadow_head(self.test.tenant).await.unwrap();
        if shadow.is_none() {
            let bundle: Bundle = serde_json::from_value(bundle()).unwrap();
            let written = self.test.store.put_shadow(
                self.test.tenant,
                Expected::Absent,
                &bundle,
                None,
                Change::default(),
            );
            written.await.unwrap();
        }
        let entity: Entity =
            serde_json::from_value(json!({ "uid": { "type": "Agent", "id": "invoice-bot" } }))
                .unwrap();
        self.test
            .store
            .upsert_entities(self.test.tenant, &[entity])
            .await
            .unwrap();
        self.test
            .principal("victim", PrincipalKind::Machine, &[])
            .await;
        let victim = self.test.new_key(&[Scope::Read], "dev", None).await;
        let id: remit_core::KeyId = victim.split('_').nth(2).unwrap().parse().unwrap();
        self.victim = id.to_string();
        let bundle: Bundle = serde_json::from_value(bundle()).unwrap();
        let (store, tenant) = (&self.test.store, self.test.tenant);
        let open = DraftFilter {
            state: Some(DraftState::Open),
            name: None,
        };
        for old in store.drafts(tenant, open, None, 100).await.unwrap() {
            store
                .discard_draft(tenant, old.id, old.version, Change::default())
                .await
                .unwrap();
        }
        let new = NewDraft {
            id: DraftId::from_uuid(self.test.clock.id()),
            at: self.test.clock.now(),
            name: "draft",
            message: None,
            base: store.bundle_revision(tenant).await.unwrap(),
            bundle: &bundle,
            author: "somebody",
        };
        let draft = store
            .create_draft(tenant, new, Change::default())
            .await
            .unwrap();
        self.draft = draft.id.to_string();
        self.ask_for_break_glass().await;
        self.register().await;
        self.propose().await;
        self.keep_webhook().await;
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        condition: Option<(&str, &str)>,
        body: &Value,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        if body.is_null() {
            return self.test.send(request, "").await;
        }
        self.test
            .send(request.header("content-type", "application/json"), body)
            .await
    }
}

#[tokio::test]
async fn every_operation_is_asked_by_everybody() {
    let mut world = World::make().await;
    assert_eq!(
        world.keys.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        CALLERS
    );
    let mut table = format!("{:<20}", "operation");
    for caller in CALLERS {
        write!(table, "{caller:>10}").unwrap();
    }
    table.push('\n');
    // Restoring brings keys and revisions of its own: only where something may be different.
    let mut changed = true;
    let mut uncovered = Vec::new();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    for (method, operation) in paths.values().flat_map(|item| item.as_object().unwrap()) {
        let id = operation["operationId"].as_str().unwrap();
        write!(table, "{id:<20}").unwrap();
        for (caller, key) in world.keys.clone() {
            if std::mem::take(&mut changed) {
                world.restore().await;
            }
            let Some(Recipe {
                path,
                condition,
                body,
            }) = recipe(&world, id)
            else {
                uncovered.push(id);
                break;
            };
            let reply = world
                .send(
                    &method.to_uppercase(),
                    &path,
                    key.as_deref(),
                    condition,
                    &body,
                )
                .await;
            changed = method != "get" && reply.status.is_success();
            write!(table, "{:>10}", reply.status.as_u16()).unwrap();
            if caller == "other" {
                let ours = [
                    &world.decision,
                    &world.victim,
                    &world.draft,
                    &world.kill,
                    &world.exception.0,
                    &world.test.tenant.to_string(),
                ];
                // A refusal says what was asked of whom, whether that is there or not.
                let told = reply.status != StatusCode::FORBIDDEN
                    && ours.iter().any(|id| reply.text.contains(id.as_str()));
                assert!(!told, "{id} tells another tenant of ours: {}", reply.text);
            }
        }
        table.push('\n');
    }
    assert_eq!(uncovered, Vec::<&str>::new(), "operations without a row");
    golden::compare("tests/golden/access_matrix.txt", &table);
}

/// What another tenant's key does leaves ours as it was.
#[tokio::test]
async fn what_belongs_to_another_tenant_is_not_there() {
    let world = World::make().await;
    let other = world
        .keys
        .iter()
        .find(|(name, _)| *name == "other")
        .unwrap()
        .1
        .clone()
        .unwrap();
    let before = world.test.get("/v1/bundle").await;
    for id in [
        "get_entity",
        "delete_entity",
        "get_decision",
        "explain_decision",
        "get_key",
        "revoke_key",
        "get_principal",
        "disable_principal",
        "get_draft",
        "discard_draft",
        "put_draft_bundle",
        "put_draft_policy",
        "delete_draft_policy",
        "rebase_draft",
        "check_draft",
        "assess_draft",
        "publish_draft",
    ] {
        let Recipe {
            path,
            condition,
            body,
        } = recipe(&world, id).unwrap();
        let method = match id {
            "delete_entity"
            | "revoke_key"
            | "disable_principal"
            | "discard_draft"
            | "delete_draft_policy" => "DELETE",
            "put_draft_bundle" | "put_draft_policy" => "PUT",
            "get_entity" | "get_decision" | "get_key" | "get_principal" | "get_draft" => "GET",
            _ => "POST",
        };
        let reply = world
            .send(method, &path, Some(&other), condition, &body)
            .await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{id}");
    }
    let theirs = world
        .send(
            "PUT",
            "/v1/entities/Agent/invoice-bot",
            Some(&other),
            None,
            &json!({}),
        )
        .await;
    assert_eq!(
        theirs.status,
        StatusCode::OK,
        "their own entity of the same name: {}",
        theirs.text
    );
    let gone = world
        .send(
            "DELETE",
            "/v1/entities/Agent/invoice-bot",
            Some(&other),
            None,
            &Value::Null,
        )
        .await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(
        world
            .test
            .get("/v1/entities/Agent/invoice-bot")
            .await
            .status,
        StatusCode::OK,
        "ours is still there"
    );
    assert_eq!(world.test.get("/v1/bundle").await.text, before.text);
    let lists = world
        .send("GET", "/v1/decisions", Some(&other), None, &Value::Null)
        .await;
    assert_eq!(lists.json()["decisions"], json!([]));
    let actions = world
        .send("GET", "/v1/admin/actions", Some(&other), None, &Value::Null)
        .await;
    for action in actions.json()["actions"].as_array().unwrap() {
        let told = action.to_string();
        assert!(!told.contains(&world.test.tenant.to_string()), "{told}");
    }
}
