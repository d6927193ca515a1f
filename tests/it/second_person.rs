//! The second person: what may permit more is published when somebody else, who counts, has agreed to exactly that.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_core::{Bundle, PrincipalKind, PrincipalName, Role, Source};
use remit_store::{Change, Settings};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

use crate::drafts::{Draft, bundle, idle, refused};

mod accounts;
mod settings;

/// A permit that is new, and so loosens; the cases do not meet it.
pub(crate) fn permit(id: &str) -> String {
    format!(
        "@id(\"{id}\")\n@owner(\"tests\")\npermit (principal == Person::\"nobody-{id}\", action == Action::\"suspend\", resource is Agent);"
    )
}

/// A forbid that takes away what no case asks for.
fn shut(id: &str) -> String {
    permit(id).replace("permit (", "forbid (")
}

fn starter_with(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(Source {
        file: "more.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

/// A tenant that demands a second person, and people in it.
struct World {
    test: TestApp,
    /// Writes and publishes, and may review what others write.
    ana: String,
    /// Reviews.
    ben: String,
}

// === impl World ===

impl World {
    async fn make(bundle: &Bundle) -> Self {
        let test = TestApp::start(bundle).await;
        let all = [Role::Author, Role::Publisher, Role::Approver];
        let ana = test.key_of(PrincipalKind::Person, "ana", &all).await;
        let ben = test
            .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
            .await;
        demand(&test, true).await;
        Self { test, ana, ben }
    }

    /// Makes a draft of Ana's that loosens.
    async fn draft(&self, name: &str) -> Draft<'_> {
        let mut draft = Draft::make_with(&self.test, &self.ana, json!({ "name": name })).await;
        let policy = json!({ "text": permit(name), "file": "more.cedar" });
        draft
            .edit(Method::PUT, &format!("/policies/{name}"), &policy)
            .await;
        draft
    }

    async fn actions(&self, action: &str, verdict: &str) -> Vec<Value> {
        let path = format!("/v1/admin/actions?action={action}&verdict={verdict}");
        let page = self.test.get(&path).await.json();
        page["actions"].as_array().unwrap().clone()
    }

    /// Counts the versions there are.
    async fn versions(&self) -> usize {
        let page = self.test.get("/v1/bundle/versions").await.json();
        page["versions"].as_array().unwrap().len()
    }
}

pub(crate) async fn demand(test: &TestApp, second_person: bool) {
    let heads = test.store.heads().await.unwrap();
    let settings = Settings { second_person };
    test.store
        .change_settings(test.tenant, heads[0].revision, settings, Change::default())
        .await
        .unwrap();
    test.caught_up().await;
}

pub(crate) async fn disable(test: &TestApp, name: &str) {
    let name: PrincipalName = name.parse().unwrap();
    test.store
        .disable_principal(test.tenant, None, &name, Change::default())
        .await
        .unwrap();
    test.caught_up().await;
}

async fn approve(draft: &Draft<'_>, key: &str) -> Reply {
    let approve = json!({ "verdict": "approve" });
    draft.by(key).ask(Method::POST, "/review", &approve).await
}

async fn approved(draft: &Draft<'_>, key: &str) {
    let given = approve(draft, key).await;
    assert_eq!(given.status, StatusCode::CREATED, "{}", given.text);
}

fn waits(reply: &Reply) {
    let problem = refused(reply, StatusCode::FORBIDDEN, "review-required");
    assert_eq!(problem["policies"], json!(["remit.second-person"]));
    assert!(problem["detail"].as_str().unwrap().contains("/review"));
}

#[tokio::test]
async fn what_loosens_waits_for_a_second_person_on_every_road() {
    let world = World::make(&starter_with(&shut("more"))).await;
    let test = &world.test;
    let first = test.get("/v1/bundle").await.header("etag").to_owned();
    let send = async |method, path: &str, body: Value| {
        let request = test.request_with(&world.ana, method, path);
        let request = match path {
            "/v1/policies/other" => request.header("if-none-match", "*"),
            _ => request.header("if-match", "*"),
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        test.send(request, body).await
    };
    let loose = json!(starter_with(&permit("more")));
    waits(&send(Method::PUT, "/v1/bundle", loose).await);
    let policy = json!({ "text": permit("other") });
    waits(&send(Method::PUT, "/v1/policies/other", policy).await);
    waits(&send(Method::DELETE, "/v1/policies/more", Value::Null).await);
    assert_eq!(test.get("/v1/bundle").await.header("etag"), first);

    // What takes away waits for nobody, and going back from it does.
    let policy = json!({ "text": shut("other").replace("nobody", "somebody") });
    let put = send(Method::PUT, "/v1/policies/other", policy).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let to: u64 = first.trim_matches('"').parse().unwrap();
    waits(&send(Method::POST, "/v1/bundle/rollback", json!({ "to": to })).await);
    waits(&world.draft("loose").await.publish().await);
    assert_eq!(world.versions().await, 2);
    // Each is on record.
    for action in [
        "put_bundle",
        "put_policy",
        "delete_policy",
        "rollback_bundle",
        "publish_draft",
    ] {
        let denied = world.actions(action, "deny").await;
        assert_eq!(denied.len(), 1, "{action}");
        assert_eq!(denied[0]["principal"], "ana");
        assert_eq!(denied[0]["loosens"], true);
        assert_eq!(denied[0]["determining"], json!(["remit.second-person"]));
    }

    demand(test, false).await;
    let free = world.draft("free").await.publish().await;
    assert_eq!(free.status, StatusCode::OK, "{}", free.text);
}

#[tokio::test]
async fn a_draft_that_another_person_has_approved_is_published() {
    let world = World::make(&pack("starter")).await;
    let draft = world.draft("loose").await;
    waits(&draft.publish().await);
    approved(&draft, &world.ben).await;
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    let versions = world.test.get("/v1/bundle/versions?limit=1").await.json();
    let evidence = &versions["versions"][0]["evidence"];
    assert_eq!(evidence["authors"], json!(["ana"]));
    assert_eq!(evidence["reviewers"], json!(["ben"]));
    assert_eq!(evidence["publisher"], "ana");
    assert_eq!(evidence["loosens"], true);
    let reviews = world.actions("review_draft", "permit").await;
    assert_eq!(reviews[0]["principal"], "ben");
    assert_eq!(reviews[0]["resource"]["id"], draft.id.as_str());
    assert_eq!(reviews[0]["details"]["verdict"], "approve");
    let made = world.actions("publish_draft", "permit").await;
    assert_eq!(made[0]["revision"], published.json()["revision"]);
}

#[tokio::test]
async fn whoever_publishes_what_others_wrote_is_the_second_person() {
    let world = World::make(&pack("starter")).await;
    let eve = [Role::Publisher, Role::Approver];
    let eve = world.test.key_of(PrincipalKind::Person, "eve", &eve).await;
    let max = [Role::Publisher];
    let max = world.test.key_of(PrincipalKind::Person, "max", &max).await;
    let draft = world.draft("loose").await;
    // Max may publish and not review.
    waits(&draft.by(&max).publish().await);
    let published = draft.by(&eve).publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
}

#[tokio::test]
async fn nobody_is_their_own_second_person_and_no_machine_is_one() {
    let world = World::make(&pack("starter")).await;
    let test = &world.test;
    let draft = world.draft("loose").await;
    let all = [Role::Author, Role::Publisher, Role::Approver];
    let again = test.key_of(PrincipalKind::Person, "ana", &all).await;
    let robot = test.key_of(PrincipalKind::Machine, "robot", &all).await;
    for (key, rule) in [
        (&world.ana, "remit.own-review"),
        (&again, "remit.own-review"),
        (&robot, "remit.person-reviews"),
    ] {
        let problem = refused(
            &approve(&draft, key).await,
            StatusCode::FORBIDDEN,
            "not-permitted",
        );
        assert_eq!(problem["policies"], json!([rule]));
    }
    waits(&draft.publish().await);
    waits(&draft.by(&again).publish().await);
    waits(&draft.by(&robot).publish().await);
    assert_eq!(draft.read().await["reviews"], json!([]));
    // Who reviews and then writes is an author too, even if the text is what it was.
    let eve = [Role::Author, Role::Approver];
    let eve = test.key_of(PrincipalKind::Person, "eve", &eve).await;
    approved(&draft, &eve).await;
    let mut theirs = draft.by(&eve);
    let other = json!({ "text": idle("loose") });
    theirs.edit(Method::PUT, "/policies/loose", &other).await;
    let back = json!({ "text": permit("loose") });
    theirs.edit(Method::PUT, "/policies/loose", &back).await;
    let read = theirs.read().await;
    assert_eq!(
        read["reviews"][0]["principal"], "eve",
        "it is about this content"
    );
    assert_eq!(read["authors"], json!(["ana", "eve"]));
    waits(&theirs.by(&world.ana).publish().await);
}

#[tokio::test]
async fn who_agreed_counts_only_while_they_may() {
    let world = World::make(&pack("starter")).await;
    let test = &world.test;
    let draft = world.draft("loose").await;
    // Who took it back.
    approved(&draft, &world.ben).await;
    let reject = json!({ "verdict": "reject" });
    let given = draft
        .by(&world.ben)
        .ask(Method::POST, "/review", &reject)
        .await;
    assert_eq!(given.status, StatusCode::CREATED, "{}", given.text);
    waits(&draft.publish().await);
    // Who may not review any more.
    approved(&draft, &world.ben).await;
    test.key_of(PrincipalKind::Person, "ben", &[Role::Reader])
        .await;
    waits(&draft.publish().await);
    test.key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    // Who is disabled.
    disable(test, "ben").await;
    waits(&draft.publish().await);
    let gone = approve(&draft, &world.ben).await;
    refused(&gone, StatusCode::UNAUTHORIZED, "unauthenticated");
    // Somebody else agrees, for good.
    let eve = test
        .key_of(PrincipalKind::Person, "eve", &[Role::Approver])
        .await;
    approved(&draft, &eve).await;
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    let versions = test.get("/v1/bundle/versions?limit=1").await.json();
    let evidence = &versions["versions"][0]["evidence"];
    assert_eq!(
        evidence["reviewers"],
        json!(["eve"]),
        "not Ben's, who is disabled"
    );
}

#[tokio::test]
async fn an_edit_or_another_base_takes_the_approval_away() {
    let world = World::make(&pack("starter")).await;
    let mut draft = world.draft("loose").await;
    approved(&draft, &world.ben).await;
    let policy = json!({ "text": permit("loose").replace("nobody", "somebody") });
    draft.edit(Method::PUT, "/policies/loose", &policy).await;
    waits(&draft.publish().await);
    approved(&draft, &world.ben).await;
    let request = world
        .test
        .request_with(&world.ana, Method::PUT, "/v1/policies/idle")
        .header("if-none-match", "*");
    let put = world
        .test
        .send(request, json!({ "text": idle("idle") }))
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    refused(
        &draft.publish().await,
        StatusCode::PRECONDITION_FAILED,
        "stale-revision",
    );
    draft.edit(Method::POST, "/rebase", &Value::Null).await;
    waits(&draft.publish().await);
    approved(&draft, &world.ben).await;
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
}

#[tokio::test]
async fn what_is_edited_while_it_is_published_is_not_published_unseen() {
    let world = World::make(&pack("starter")).await;
    let mut published = 0;
    for round in 0..20 {
        let name = format!("loose{round}");
        let draft = world.draft(&name).await;
        approved(&draft, &world.ben).await;
        let slipped = json!({ "text": permit(&name).replace("nobody", "anybody") });
        let path = format!("/policies/{name}");
        // Both know the version that was approved.
        let theirs = draft.by(&world.ana);
        let edit = async {
            tokio::time::sleep(Duration::from_micros(200 * round)).await;
            draft.ask(Method::PUT, &path, &slipped).await
        };
        let (edited, done) = tokio::join!(edit, theirs.publish());
        let text: String = bundle(&world.test)
            .await
            .policies
            .into_iter()
            .map(|one| one.text)
            .collect();
        assert!(
            !text.contains("anybody"),
            "round {round} published what nobody approved"
        );
        if done.status == StatusCode::OK {
            refused(&edited, StatusCode::CONFLICT, "conflict");
            published += 1;
        } else {
            assert_eq!(edited.status, StatusCode::OK, "{}", edited.text);
            // The edit came before it was looked at, or between that and the write.
            assert!(
                matches!(
                    done.status,
                    StatusCode::PRECONDITION_FAILED | StatusCode::FORBIDDEN | StatusCode::CONFLICT
                ),
                "{}",
                done.text
            );
            let open = Draft {
                tag: "*".to_owned(),
                ..draft.by(&world.ana)
            };
            open.ask(Method::DELETE, "", &Value::Null).await;
        }
    }
    assert_eq!(world.versions().await, 1 + published);
}

#[tokio::test]
async fn of_two_who_publish_what_was_approved_one_does() {
    let world = World::make(&pack("starter")).await;
    let eve = [Role::Publisher];
    let eve = world.test.key_of(PrincipalKind::Person, "eve", &eve).await;
    let draft = world.draft("loose").await;
    approved(&draft, &world.ben).await;
    let theirs = draft.by(&eve);
    let (left, right) = tokio::join!(draft.publish(), theirs.publish());
    let mut statuses = [left.status, right.status];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::OK, StatusCode::CONFLICT],
        "{} {}",
        left.text,
        right.text
    );
    assert_eq!(world.versions().await, 2);
}

#[tokio::test]
async fn who_may_review_can_be_said_by_the_tenant_and_that_takes_two_as_well() {
    let world = World::make(&pack("starter")).await;
    let test = &world.test;
    let max = [Role::Publisher];
    let max = test.key_of(PrincipalKind::Person, "max", &max).await;
    let draft = world.draft("loose").await;
    let early = approve(&draft, &max).await;
    refused(&early, StatusCode::FORBIDDEN, "not-permitted");
    assert!(early.json()["roles"].to_string().contains("approver"));

    let rule = "@id(\"publishers-review\")\npermit (principal, action == Action::\"review_draft\", resource)\nwhen { principal.roles.contains(Role::\"publisher\") };\n";
    let mut bundle = pack("starter");
    bundle.admin.push(Source {
        file: "admin/review.cedar".to_owned(),
        text: rule.to_owned(),
    });
    let mut of_admin = Draft::make_with(test, &world.ana, json!({ "name": "reviewers" })).await;
    let saved = of_admin.edit(Method::PUT, "/bundle", &json!(bundle)).await;
    assert_eq!(saved["compiles"], true, "{saved}");
    let read = of_admin.read().await;
    assert_eq!(read["differences"]["parts"], json!(["admin"]));
    waits(&of_admin.publish().await);
    approved(&of_admin, &world.ben).await;
    let published = of_admin.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);

    // Now Max counts, for a draft that was moved on.
    let mut draft = draft.by(&world.ana);
    draft.edit(Method::POST, "/rebase", &Value::Null).await;
    approved(&draft, &max).await;
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);

    // And no longer, when the rule is gone: that only takes away, and waits for nobody.
    let draft = world.draft("more").await;
    approved(&draft, &max).await;
    let mut less = world.test.get("/v1/bundle").await.json();
    less.as_object_mut().unwrap().remove("admin");
    let request = test
        .request_with(&world.ana, Method::PUT, "/v1/bundle")
        .header("if-match", "*");
    let put = test.send(request, less).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    let mut draft = draft;
    draft.edit(Method::POST, "/rebase", &Value::Null).await;
    waits(&draft.publish().await);
}

#[tokio::test]
async fn a_first_bundle_takes_a_second_person_too() {
    let test = TestApp::empty(remit_api::Options::default()).await;
    let all = [Role::Author, Role::Publisher];
    let ana = test.key_of(PrincipalKind::Person, "ana", &all).await;
    let ben = test
        .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    demand(&test, true).await;
    let request = test
        .request_with(&ana, Method::PUT, "/v1/bundle")
        .header("if-none-match", "*");
    waits(&test.send(request, json!(pack("starter"))).await);
    let body = json!({ "name": "first", "bundle": pack("starter") });
    let draft = Draft::make_with(&test, &ana, body).await;
    waits(&draft.publish().await);
    approved(&draft, &ben).await;
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    let read = bundle(&test).await;
    assert_eq!(read.content_hash(), pack("starter").content_hash());
}

/// Nobody answers for what they have not read.
#[tokio::test]
async fn a_review_and_a_publish_name_the_version_that_was_read() {
    let world = World::make(&pack("starter")).await;
    let draft = world.draft("loose").await;
    for path in ["/review", "/publish"] {
        let (key, body) = match path {
            "/review" => (&world.ben, json!({ "verdict": "approve" })),
            _ => (&world.ana, json!({})),
        };
        for tag in ["*", "\"1\", \"2\""] {
            let any = Draft {
                tag: tag.to_owned(),
                ..draft.by(key)
            };
            let asked = any.ask(Method::POST, path, &body).await;
            let status = StatusCode::PRECONDITION_REQUIRED;
            refused(&asked, status, "precondition-required");
        }
    }
}

/// What came with a key that was revoked since may not have been theirs.
#[tokio::test]
async fn an_approval_goes_with_the_key_that_it_came_with() {
    let world = World::make(&pack("starter")).await;
    let draft = world.draft("loose").await;
    approved(&draft, &world.ben).await;
    let id: remit_core::KeyId = world.ben.split('_').nth(2).unwrap().parse().unwrap();
    let test = &world.test;
    test.store
        .revoke_key(test.tenant, id, None, Change::default())
        .await
        .unwrap();
    test.caught_up().await;
    waits(&draft.by(&world.ana).publish().await);
}
