//! Drafts over HTTP: made, edited, moved on, checked, reviewed and published, without losing what anybody wrote.

use http::{Method, StatusCode};
use remit_core::{Bundle, PrincipalKind, Role, Source};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

pub(crate) mod commands;

const DRAFTS: &str = "/v1/drafts";

/// A policy that changes nothing.
pub(crate) fn idle(id: &str) -> String {
    format!(
        "@id(\"{id}\")\n@owner(\"tests\")\nforbid (principal, action, resource is Tool)\nwhen {{ false }};"
    )
}

/// The starter bundle with one file more.
fn with(file: &str, text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(Source {
        file: file.to_owned(),
        text: text.to_owned(),
    });
    bundle
}

/// One draft, as somebody works on it.
pub(crate) struct Draft<'t> {
    pub(crate) test: &'t TestApp,
    /// The key of whoever does.
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) tag: String,
}

// === impl Draft ===

impl<'t> Draft<'t> {
    async fn make(test: &'t TestApp, body: Value) -> Self {
        Self::make_with(test, &test.key, body).await
    }

    pub(crate) async fn make_with(test: &'t TestApp, key: &str, body: Value) -> Self {
        let request = test.request_with(key, Method::POST, DRAFTS);
        let made = test.send(request, body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let id = made.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(made.header("location"), format!("{DRAFTS}/{id}"));
        Self {
            test,
            key: key.to_owned(),
            id,
            tag: made.header("etag").to_owned(),
        }
    }

    /// Sends a request about the draft as it was last read.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> Reply {
        self.ask_at(&self.tag, method, path, body).await
    }

    async fn ask_at(&self, tag: &str, method: Method, path: &str, body: &Value) -> Reply {
        let path = format!("{DRAFTS}/{}{path}", self.id);
        let mut request = self.test.request_with(&self.key, method, &path);
        if !tag.is_empty() {
            request = request.header("if-match", tag);
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.test.send(request, body).await
    }

    /// Lets somebody else work on it.
    pub(crate) fn by(&self, key: &str) -> Self {
        Self {
            test: self.test,
            key: key.to_owned(),
            id: self.id.clone(),
            tag: self.tag.clone(),
        }
    }

    /// Edits the draft, and remembers what it is then.
    pub(crate) async fn edit(&mut self, method: Method, path: &str, body: &Value) -> Value {
        let saved = self.ask(method, path, body).await;
        assert_eq!(saved.status, StatusCode::OK, "{}", saved.text);
        saved.header("etag").clone_into(&mut self.tag);
        saved.json()
    }

    pub(crate) async fn read(&self) -> Value {
        let read = self.test.get(&format!("{DRAFTS}/{}", self.id)).await;
        assert_eq!(read.status, StatusCode::OK, "{}", read.text);
        read.json()
    }

    pub(crate) async fn publish(&self) -> Reply {
        self.ask(Method::POST, "/publish", &json!({})).await
    }
}

pub(crate) fn refused(reply: &Reply, status: StatusCode, code: &str) -> Value {
    assert_eq!(reply.status, status, "{}", reply.text);
    let problem = reply.json();
    assert_eq!(problem["code"], code, "{}", reply.text);
    problem
}

pub(crate) async fn bundle(test: &TestApp) -> Bundle {
    serde_json::from_str(&test.get("/v1/bundle").await.text).unwrap()
}

/// Returns the hash of a bundle as it is told.
fn hash(bundle: &Value) -> Value {
    let bundle: Bundle = serde_json::from_value(bundle.clone()).unwrap();
    json!(bundle.content_hash())
}

/// Returns the hash of the bundle in force.
async fn in_force(test: &TestApp) -> Value {
    json!(bundle(test).await.content_hash())
}

async fn put(test: &TestApp, bundle: &Bundle) -> u64 {
    let request = test
        .request(Method::PUT, "/v1/bundle")
        .header("if-match", "*");
    let put = test.send(request, json!(bundle)).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    put.json()["revision"].as_u64().unwrap()
}

#[tokio::test]
async fn a_draft_goes_from_the_first_edit_to_a_version() {
    let test = TestApp::start(&pack("starter")).await;
    let base = test.get("/v1/bundle").await.header("etag").to_owned();
    let mut draft = Draft::make(&test, json!({ "name": "idle", "message": "For the tests" })).await;
    let read = draft.read().await;
    assert_eq!(hash(&read["bundle"]), json!(pack("starter").content_hash()));
    assert_eq!(read["base"].to_string(), base.trim_matches('"'));
    assert_eq!(
        (&read["behind"], &read["version"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(read["differences"]["added"], json!([]));
    assert_eq!(read["authors"].as_array().unwrap().len(), 1);

    let policy = json!({ "text": idle("idle") });
    let saved = draft.edit(Method::PUT, "/policies/idle", &policy).await;
    assert_eq!(saved["compiles"], true);
    let saved = draft
        .edit(Method::DELETE, "/policies/trust-floor", &Value::Null)
        .await;
    assert_eq!(
        (&saved["version"], draft.tag.as_str()),
        (&json!(3), "\"3\"")
    );
    let read = draft.read().await;
    let differences = &read["differences"];
    assert_eq!(differences["added"], json!(["idle"]));
    assert_eq!(differences["removed"], json!(["trust-floor"]));
    assert_eq!(
        in_force(&test).await,
        json!(pack("starter").content_hash()),
        "it decides nothing"
    );

    // The cases want that policy.
    let checked = draft.ask(Method::POST, "/check", &Value::Null).await;
    assert_eq!(checked.json()["valid"], false, "{}", checked.text);
    let kept = draft.read().await["results"]["check"].clone();
    assert_eq!(kept["valid"], false);
    assert_eq!(kept["loosens"], true);
    assert!(kept["cases"]["failed"].as_u64().unwrap() > 0, "{kept}");
    let blocked = draft.publish().await;
    refused(&blocked, StatusCode::UNPROCESSABLE_ENTITY, "cases-failed");

    let whole = json!(with("policies.cedar", &format!("{}\n", idle("idle"))));
    draft.edit(Method::PUT, "/bundle", &whole).await;
    let read = draft.read().await;
    assert_eq!(
        read["results"],
        json!({}),
        "what was found out is of another content"
    );
    let checked = draft.ask(Method::POST, "/check", &Value::Null).await;
    assert_eq!(checked.json()["valid"], true, "{}", checked.text);
    let impact = draft
        .ask(Method::POST, "/impact?hours=1", &Value::Null)
        .await;
    assert_eq!(impact.json()["replayed"], 0, "{}", impact.text);
    let results = draft.read().await["results"].clone();
    assert_eq!(results["check"]["loosens"], false);
    assert_eq!(results["impact"]["totals"], json!({}));

    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    assert_eq!(in_force(&test).await, hash(&whole));
    let read = draft.read().await;
    assert_eq!(read["state"], "published");
    assert_eq!(read["published_as"], published.json()["revision"]);
    assert_eq!(hash(&read["bundle"]), hash(&whole), "that of the version");
    let versions = test.get("/v1/bundle/versions?limit=1").await.json();
    let version = &versions["versions"][0];
    assert_eq!(version["message"], "For the tests");
    let evidence = &version["evidence"];
    assert_eq!(evidence["draft"], draft.id.as_str());
    assert_eq!(evidence["loosens"], false);
    assert_eq!(evidence["cases"], results["check"]["cases"]);
    assert_eq!(evidence["impact"], results["impact"]);
    assert_eq!(evidence["authors"], read["authors"]);

    // It is done with.
    for (method, path, body) in [
        (Method::POST, "/publish", json!({})),
        (Method::PUT, "/bundle", whole),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/check", Value::Null),
        (Method::POST, "/impact", Value::Null),
        (Method::POST, "/rebase", Value::Null),
    ] {
        let over = draft.ask(method, path, &body).await;
        refused(&over, StatusCode::CONFLICT, "conflict");
    }
    let reviewer = test
        .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    let approve = json!({ "verdict": "approve" });
    let over = draft
        .by(&reviewer)
        .ask(Method::POST, "/review", &approve)
        .await;
    refused(&over, StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn a_direct_change_has_evidence_too() {
    let test = TestApp::start(&pack("starter")).await;
    put(&test, &with("more.cedar", &idle("more"))).await;
    let versions = test.get("/v1/bundle/versions").await.json();
    let evidence = &versions["versions"][0]["evidence"];
    assert_eq!(evidence["loosens"], false);
    assert_eq!(evidence["cases"]["failed"], 0);
    assert_eq!(evidence["cases"]["passed"], pack("starter").cases.len());
    assert_eq!(evidence["authors"], json!([evidence["publisher"]]));
    assert_eq!(
        versions["versions"][1].get("evidence"),
        None,
        "Remit itself put it"
    );
}

#[tokio::test]
async fn a_draft_may_hold_what_does_not_compile() {
    let test = TestApp::start(&pack("starter")).await;
    let mut draft = Draft::make(&test, json!({ "name": "broken" })).await;
    let broken = json!(with(
        "broken.cedar",
        "@id(\"broken\")\npermit (principal;\n"
    ));
    let saved = draft.edit(Method::PUT, "/bundle", &broken).await;
    assert_eq!(saved["compiles"], false);
    assert_eq!(saved["diagnostics"][0]["file"], "broken.cedar");
    assert_eq!(hash(&draft.read().await["bundle"]), hash(&broken));
    assert_eq!(
        draft.read().await["differences"]["unreadable"],
        json!(["broken.cedar"])
    );
    let checked = draft.ask(Method::POST, "/check", &Value::Null).await;
    assert_eq!(checked.json()["valid"], false);
    refused(
        &draft.publish().await,
        StatusCode::UNPROCESSABLE_ENTITY,
        "policy-invalid",
    );
    let impact = draft.ask(Method::POST, "/impact", &Value::Null).await;
    refused(&impact, StatusCode::UNPROCESSABLE_ENTITY, "policy-invalid");

    // One policy beside it can be written; what the schema says of it is told.
    let unknown = json!({ "text": "@id(\"x\")\npermit (principal is Nobody, action, resource);", "file": "x.cedar" });
    let saved = draft.edit(Method::PUT, "/policies/x", &unknown).await;
    assert_eq!(saved["compiles"], false);
    for (id, text) in [
        ("y", "permit ("),
        ("y", "@id(\"z\") permit (principal, action, resource);"),
    ] {
        let path = format!("/policies/{id}");
        let refusal = draft
            .ask(Method::PUT, &path, &json!({ "text": text }))
            .await;
        refused(&refusal, StatusCode::UNPROCESSABLE_ENTITY, "policy-invalid");
    }
    let gone = draft.ask(Method::DELETE, "/policies/y", &Value::Null).await;
    refused(&gone, StatusCode::NOT_FOUND, "not-found");
    let elsewhere = json!({ "text": idle("x"), "file": "other.cedar" });
    let elsewhere = draft.ask(Method::PUT, "/policies/x", &elsewhere).await;
    refused(&elsewhere, StatusCode::CONFLICT, "conflict");
    let unnamed = json!({ "text": idle("y"), "file": "../y.cedar" });
    let unnamed = draft.ask(Method::PUT, "/policies/y", &unnamed).await;
    refused(&unnamed, StatusCode::BAD_REQUEST, "invalid-request");
}

#[tokio::test]
async fn of_two_who_edit_at_once_one_wins_and_nothing_is_lost() {
    let test = TestApp::start(&pack("starter")).await;
    let mut draft = Draft::make(&test, json!({ "name": "both" })).await;
    let ours = json!(with("more.cedar", &idle("ours")));
    let theirs = json!(with("more.cedar", &idle("theirs")));
    let (left, right) = tokio::join!(
        draft.ask(Method::PUT, "/bundle", &ours),
        draft.ask(Method::PUT, "/bundle", &theirs)
    );
    let (won, lost) = if left.status == StatusCode::OK {
        (&ours, right)
    } else {
        assert_eq!(right.status, StatusCode::OK);
        (&theirs, left)
    };
    let problem = refused(&lost, StatusCode::PRECONDITION_FAILED, "stale-revision");
    assert_eq!(problem["current"], "\"2\"");
    assert_eq!(hash(&draft.read().await["bundle"]), hash(won));

    let reviewer = test
        .key_of(PrincipalKind::Person, "ben", &[Role::Approver])
        .await;
    for (method, path, body) in [
        (Method::PUT, "/bundle", &ours),
        (
            Method::PUT,
            "/policies/more",
            &json!({ "text": idle("more") }),
        ),
        (Method::DELETE, "/policies/trust-floor", &Value::Null),
        (Method::POST, "/rebase", &Value::Null),
        (Method::POST, "/review", &json!({ "verdict": "approve" })),
        (Method::POST, "/publish", &json!({})),
        (Method::DELETE, "", &Value::Null),
    ] {
        let draft = match path {
            "/review" => draft.by(&reviewer),
            _ => draft.by(&test.key),
        };
        let stale = draft.ask_at("\"1\"", method.clone(), path, body).await;
        refused(&stale, StatusCode::PRECONDITION_FAILED, "stale-revision");
        let blind = draft.ask_at("", method, path, body).await;
        refused(
            &blind,
            StatusCode::PRECONDITION_REQUIRED,
            "precondition-required",
        );
    }
    assert_eq!(hash(&draft.read().await["bundle"]), hash(won));
    draft.tag = "\"2\"".to_owned();
    let gone = draft.ask(Method::DELETE, "", &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let read = draft.read().await;
    assert_eq!(read["state"], "discarded");
    assert_eq!((read.get("bundle"), read.get("differences")), (None, None));
    assert!(read["reviews"].is_array() && read["hash"].is_string());
    let over = draft.ask(Method::POST, "/check", &Value::Null).await;
    refused(&over, StatusCode::CONFLICT, "conflict");
    Draft::make(&test, json!({ "name": "both" })).await;
}

#[tokio::test]
async fn a_draft_that_is_behind_is_moved_on_first() {
    let test = TestApp::start(&with("more.cedar", &idle("more"))).await;
    let mut draft = Draft::make(&test, json!({ "name": "behind" })).await;
    let policy = json!({ "text": idle("ours"), "file": "ours.cedar" });
    draft.edit(Method::PUT, "/policies/ours", &policy).await;
    // Not behind: it stays as it is.
    let same = draft.ask(Method::POST, "/rebase", &Value::Null).await;
    assert_eq!(same.header("etag"), draft.tag);

    let theirs = idle("more").replace("false", "1 == 2");
    let now = put(&test, &with("more.cedar", &theirs)).await;
    assert_eq!(draft.read().await["behind"], true);
    let problem = refused(
        &draft.publish().await,
        StatusCode::PRECONDITION_FAILED,
        "stale-revision",
    );
    assert_eq!(problem["in_force"], now);
    assert!(problem["detail"].as_str().unwrap().contains("rebase"));

    let saved = draft.edit(Method::POST, "/rebase", &Value::Null).await;
    assert_eq!(
        (&saved["base"], &saved["behind"]),
        (&json!(now), &json!(false))
    );
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    let written: String = bundle(&test)
        .await
        .policies
        .iter()
        .map(|one| one.text.clone())
        .collect();
    assert!(written.contains(&theirs) && written.contains(&idle("ours")));

    // The same policy, changed here and there.
    let mut draft = Draft::make(&test, json!({ "name": "clash" })).await;
    let policy = json!({ "text": idle("more").replace("false", "2 == 3") });
    draft.edit(Method::PUT, "/policies/more", &policy).await;
    let mut current = bundle(&test).await;
    current.policies.retain(|one| one.file != "more.cedar");
    put(&test, &current).await;
    let before = draft.read().await;
    let clash = draft.ask(Method::POST, "/rebase", &Value::Null).await;
    let problem = refused(&clash, StatusCode::CONFLICT, "conflict");
    assert_eq!(
        problem["conflicts"],
        json!([{ "kind": "policy", "name": "more" }])
    );
    assert_eq!(draft.read().await, before);
}

#[tokio::test]
async fn of_two_who_publish_one_draft_one_does() {
    let test = TestApp::start(&pack("starter")).await;
    let mut draft = Draft::make(&test, json!({ "name": "twice" })).await;
    let policy = json!({ "text": idle("idle") });
    draft.edit(Method::PUT, "/policies/idle", &policy).await;
    let (left, right) = tokio::join!(draft.publish(), draft.publish());
    let (won, lost) = if left.status == StatusCode::OK {
        (left, right)
    } else {
        (right, left)
    };
    assert_eq!(won.status, StatusCode::OK, "{}", won.text);
    refused(&lost, StatusCode::CONFLICT, "conflict");
    let versions = test.get("/v1/bundle/versions").await.json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_publication_that_is_sent_again_is_made_once() {
    let test = TestApp::start(&pack("starter")).await;
    let mut draft = Draft::make(&test, json!({ "name": "again" })).await;
    let policy = json!({ "text": idle("idle") });
    draft.edit(Method::PUT, "/policies/idle", &policy).await;
    let path = format!("{DRAFTS}/{}/publish", draft.id);
    let send = async || {
        let request = test
            .request(Method::POST, &path)
            .header("if-match", &draft.tag)
            .header("idempotency-key", "release 8");
        test.send(request, json!({ "message": "Again" })).await
    };
    let (first, again) = (send().await, send().await);
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert_eq!(again.text, first.text);
    let versions = test.get("/v1/bundle/versions").await.json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    assert_eq!(versions["versions"][0]["message"], "Again");
    // A new name is another request, and the draft is done with.
    refused(&draft.publish().await, StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn drafts_are_listed_found_by_name_and_bounded() {
    let test = TestApp::start(&pack("starter")).await;
    let small = json!({ "schema": [], "policies": [] });
    let mut ids = Vec::new();
    for number in 0..100 {
        let body = json!({ "name": format!("draft {number}"), "bundle": small });
        ids.push(Draft::make(&test, body).await.id);
    }
    let one_more = test
        .post(DRAFTS, json!({ "name": "one more", "bundle": small }))
        .await;
    let problem = refused(&one_more, StatusCode::CONFLICT, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains("100"));
    let mut path = format!("{DRAFTS}?limit=60");
    let mut listed = Vec::new();
    for _ in 0..2 {
        let page = test.get(&path).await.json();
        let drafts = page["drafts"].as_array().unwrap();
        listed.extend(
            drafts
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        path = format!(
            "{DRAFTS}?limit=60&cursor={}",
            page["next"].as_str().unwrap_or_default()
        );
    }
    listed.reverse();
    assert_eq!(listed, ids);
    let named = test
        .get("/v1/drafts?name=draft%207&state=open")
        .await
        .json();
    assert_eq!(named["drafts"][0]["id"], ids[7].as_str());
    assert_eq!(named["drafts"].as_array().unwrap().len(), 1);
    let none = test.get("/v1/drafts?state=published").await.json();
    assert_eq!(none["drafts"], json!([]));

    let taken = test
        .post(DRAFTS, json!({ "name": "draft 7", "bundle": small }))
        .await;
    assert!(
        refused(&taken, StatusCode::CONFLICT, "conflict")["detail"]
            .as_str()
            .unwrap()
            .contains("draft 7")
    );
    for (body, member) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "a\nb" }), "name"),
        (json!({ "name": "e\u{301}" }), "name"),
        (json!({ "name": "x".repeat(129) }), "name"),
        (json!({ "name": "x", "message": "" }), "message"),
        (json!({ "name": "x", "more": 1 }), "more"),
        (json!({}), "name"),
    ] {
        let invalid = test.post(DRAFTS, &body).await;
        let problem = refused(&invalid, StatusCode::BAD_REQUEST, "invalid-request");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{member}`")), "{body}: {detail}");
    }
    for path in [
        "/v1/drafts?state=closed",
        "/v1/drafts?limit=0",
        "/v1/drafts/7",
    ] {
        let invalid = test.get(path).await;
        refused(&invalid, StatusCode::BAD_REQUEST, "invalid-request");
    }
    let nobody = format!("{DRAFTS}/{}", test.clock.id());
    refused(&test.get(&nobody).await, StatusCode::NOT_FOUND, "not-found");
}

#[tokio::test]
async fn a_first_bundle_can_be_a_draft() {
    let test = TestApp::empty(remit_api::Options::default()).await;
    let none = test.post(DRAFTS, json!({ "name": "first" })).await;
    refused(&none, StatusCode::NOT_FOUND, "not-found");
    let body = json!({ "name": "first", "bundle": pack("starter") });
    let draft = Draft::make(&test, body).await;
    let read = draft.read().await;
    assert_eq!(read.get("base"), None);
    assert_eq!(read["behind"], false);
    let checked = draft.ask(Method::POST, "/check", &Value::Null).await;
    assert_eq!(checked.json()["valid"], true, "{}", checked.text);
    assert_eq!(draft.read().await["results"]["check"]["loosens"], true);
    let published = draft.publish().await;
    assert_eq!(published.status, StatusCode::OK, "{}", published.text);
    assert_eq!(in_force(&test).await, json!(pack("starter").content_hash()));
}

#[tokio::test]
async fn a_review_stands_until_the_draft_is_another_one() {
    let test = TestApp::start(&pack("starter")).await;
    let mut draft = Draft::make(&test, json!({ "name": "reviewed" })).await;
    let approver = [Role::Approver];
    let reviewer = test.key_of(PrincipalKind::Person, "ben", &approver).await;
    let reviewer = draft.by(&reviewer);
    let approve = json!({ "verdict": "approve", "message": "Fine" });
    let given = reviewer.ask(Method::POST, "/review", &approve).await;
    assert_eq!(given.status, StatusCode::CREATED, "{}", given.text);
    assert_eq!(draft.read().await["reviews"], json!([given.json()]));
    let reject = json!({ "verdict": "reject" });
    let given = reviewer.ask(Method::POST, "/review", &reject).await;
    assert_eq!(
        draft.read().await["reviews"],
        json!([given.json()]),
        "the last one counts"
    );
    let policy = json!({ "text": idle("idle") });
    draft.edit(Method::PUT, "/policies/idle", &policy).await;
    assert_eq!(draft.read().await["reviews"], json!([]));
    let reviewer = draft.by(&reviewer.key);
    for (body, member) in [
        (json!({ "verdict": "maybe" }), "verdict"),
        (
            json!({ "verdict": "approve", "message": "a\tb" }),
            "message",
        ),
        (json!({}), "verdict"),
    ] {
        let invalid = reviewer.ask(Method::POST, "/review", &body).await;
        let problem = refused(&invalid, StatusCode::BAD_REQUEST, "invalid-request");
        assert!(problem["detail"].as_str().unwrap().contains(member));
    }
}
