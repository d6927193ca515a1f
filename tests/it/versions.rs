//! Versions of the bundle over HTTP: listed, read as they were put, and rolled back to.

use http::{Method, StatusCode};
use remit_core::{Bundle, Source};
use remit_store::Scope;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

const VERSIONS: &str = "/v1/bundle/versions";
const ROLLBACK: &str = "/v1/bundle/rollback";

/// The starter bundle with one policy text added in a file of its own.
fn with_policy(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(Source {
        file: "added.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

async fn put(test: &TestApp, query: &str, bundle: &Bundle) -> Reply {
    let request = test
        .request(Method::PUT, &format!("/v1/bundle{query}"))
        .header("if-match", "*");
    test.send(request, serde_json::to_string(bundle).unwrap())
        .await
}

async fn roll_back(test: &TestApp, condition: Option<&str>, body: &Value) -> Reply {
    let mut request = test.request(Method::POST, ROLLBACK);
    if let Some(condition) = condition {
        request = request.header("if-match", condition);
    }
    test.send(request, body).await
}

async fn etag(test: &TestApp) -> String {
    test.get("/v1/bundle").await.header("etag").to_owned()
}

#[tokio::test]
async fn the_history_tells_who_put_what_and_why() {
    let test = TestApp::start(&pack("starter")).await;
    let changed = with_policy("// a remark");
    let second = put(&test, "?message=f%C3%BCr%20Maya%20%2B%20co", &changed).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let page = test.get(VERSIONS).await.json();
    let versions = page["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2, "{page}");
    assert_eq!(versions[0]["revision"], second.json()["revision"]);
    assert_eq!(versions[0]["hash"], json!(changed.content_hash()));
    assert_eq!(versions[0]["message"], "für Maya + co");
    assert_eq!(versions[0]["author"]["name"], "test");
    assert_eq!(
        versions[0]["author"]["key"],
        test.get("/v1/whoami").await.json()["key"]
    );
    assert_eq!(versions[0]["at"], "2026-01-05T10:00:00.000000Z");
    // The first was put by Remit itself, without a word.
    assert_eq!(versions[1]["author"], Value::Null, "{page}");
    assert_eq!(versions[1]["message"], Value::Null, "{page}");

    // Page by page it is the same.
    let first = test.get(&format!("{VERSIONS}?limit=1")).await;
    assert_eq!(first.json()["versions"], json!([versions[0]]));
    let next = first.json()["next"].as_str().unwrap().to_owned();
    assert!(first.header("link").contains(&next));
    let last = test.get(&format!("{VERSIONS}?limit=1&cursor={next}")).await;
    assert_eq!(last.json(), json!({ "versions": [versions[1]] }));
    for wrong in ["?limit=0", "?limit=1001", "?cursor=x", "?before=1"] {
        let refused = test.get(&format!("{VERSIONS}{wrong}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_version_is_read_as_it_was_put() {
    let test = TestApp::start(&pack("starter")).await;
    let first = etag(&test).await;
    let before = test.get("/v1/bundle").await;
    put(&test, "", &with_policy("// a remark")).await;
    assert_ne!(etag(&test).await, first);

    let path = format!("{VERSIONS}/{}", first.trim_matches('"'));
    let old = test.get(&path).await;
    assert_eq!(old.text, before.text);
    assert_eq!(old.header("etag"), first);
    assert_eq!(old.header("remit-bundle"), before.header("remit-bundle"));
    let known = test
        .request(Method::GET, &path)
        .header("if-none-match", &first);
    assert_eq!(test.send(known, "").await.status, StatusCode::NOT_MODIFIED);

    // A revision that brought a key brought no bundle.
    test.new_key(&[Scope::Read], "dev", None).await;
    let head: u64 = test
        .get("/v1/whoami")
        .await
        .header("remit-revision")
        .parse()
        .unwrap();
    for absent in [0, head, head + 1, u64::MAX] {
        let reply = test.get(&format!("{VERSIONS}/{absent}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{absent}");
    }
    for wrong in ["latest", "-1", "1.5"] {
        let reply = test.get(&format!("{VERSIONS}/{wrong}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn rolling_back_makes_a_new_version_of_an_old_bundle() {
    let test = TestApp::start(&pack("starter")).await;
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    let decided = async || {
        let answer = test.post("/access/v1/evaluation", &question).await.json();
        answer["decision"].as_bool().unwrap()
    };
    let first: u64 = etag(&test).await.trim_matches('"').parse().unwrap();
    let mut closed =
        with_policy("@id(\"closed\") @owner(\"t\") forbid (principal, action, resource);");
    closed.cases.clear();
    assert!(decided().await);
    assert_eq!(put(&test, "", &closed).await.status, StatusCode::OK);
    assert!(!decided().await);

    let etag_before = etag(&test).await;
    let body = json!({ "to": first, "message": "too much was closed" });
    let back = roll_back(&test, Some(&etag_before), &body).await;
    assert_eq!(back.status, StatusCode::OK, "{}", back.text);
    assert!(decided().await, "in force when it answers");
    assert_eq!(back.json()["hash"], json!(pack("starter").content_hash()));
    assert_eq!(back.header("etag"), etag(&test).await);

    let page = test.get(VERSIONS).await.json();
    assert_eq!(
        page["versions"].as_array().unwrap().len(),
        3,
        "history only grows"
    );
    let newest = &page["versions"][0];
    assert_eq!(newest["revision"], back.json()["revision"]);
    assert_eq!(newest["restores"], first);
    assert_eq!(newest["message"], "too much was closed");
    assert_eq!(newest["hash"], page["versions"][2]["hash"]);
}

#[tokio::test]
async fn rolling_back_says_what_it_replaces_and_fails_as_a_put_does() {
    let test = TestApp::start(&pack("starter")).await;
    let first: u64 = etag(&test).await.trim_matches('"').parse().unwrap();
    let current = put(&test, "", &with_policy("// a remark")).await;
    let tag = current.header("etag").to_owned();
    let to = json!({ "to": first });

    let blind = roll_back(&test, None, &to).await;
    assert_eq!(blind.status, StatusCode::PRECONDITION_REQUIRED);
    let stale = roll_back(&test, Some(&format!("\"{first}\"")), &to).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(stale.json()["current"], json!(tag));
    let absent = roll_back(&test, Some(&tag), &json!({ "to": first + 1_000 })).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    for wrong in [
        json!({}),
        json!({ "to": "1" }),
        json!({ "to": first, "why": "x" }),
        json!({ "to": first, "message": "two\nlines" }),
        json!({ "to": first, "message": "" }),
        json!({ "to": first, "message": "x".repeat(1_025) }),
    ] {
        let refused = roll_back(&test, Some(&tag), &wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let refused = put(&test, "?message=e%CC%81", &pack("starter")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    assert!(refused.text.contains("`message`"), "{}", refused.text);
    assert_eq!(etag(&test).await, tag, "nothing was changed");

    // What was in force once need not fit what is stored today.
    let mut wider = pack("starter");
    wider.schema[0].text.push_str("\nentity Drone;\n");
    let wide = put(&test, "", &wider).await;
    assert_eq!(wide.status, StatusCode::OK, "{}", wide.text);
    let stored = test.request(Method::PUT, "/v1/entities/Drone/d1");
    assert_eq!(test.send(stored, "{}").await.status, StatusCode::OK);
    let unfit = roll_back(&test, Some(wide.header("etag")), &to).await;
    assert_eq!(
        unfit.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        unfit.text
    );
    assert_eq!(unfit.json()["code"], "policy-invalid");
    assert!(unfit.text.contains("Drone"), "{}", unfit.text);
    assert_eq!(etag(&test).await, wide.header("etag"));
}
