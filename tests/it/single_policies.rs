//! Single policies over HTTP: listed, read, written and removed, without touching any other.

use http::{Method, StatusCode};
use remit_core::Bundle;
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

const POLICIES: &str = "/v1/policies";

fn path(id: &str) -> String {
    format!("{POLICIES}/{id}")
}

async fn put(test: &TestApp, id: &str, condition: (&str, &str), body: &Value) -> Reply {
    let request = test
        .request(Method::PUT, &path(id))
        .header(condition.0, condition.1);
    test.send(request, body).await
}

async fn delete(test: &TestApp, id: &str, condition: (&str, &str)) -> Reply {
    let request = test
        .request(Method::DELETE, &path(id))
        .header(condition.0, condition.1);
    test.send(request, "").await
}

async fn bundle(test: &TestApp) -> Bundle {
    serde_json::from_str(&test.get("/v1/bundle").await.text).unwrap()
}

async fn etag(test: &TestApp) -> String {
    test.get("/v1/bundle").await.header("etag").to_owned()
}

/// A policy that changes nothing.
fn idle(id: &str) -> String {
    format!(
        "@id(\"{id}\")\n@owner(\"tests\")\nforbid (principal, action, resource is Tool)\nwhen {{ false }};"
    )
}

#[tokio::test]
async fn policies_are_listed_and_read_as_they_are_written() {
    let test = TestApp::start(&pack("starter")).await;
    let starter = pack("starter");
    let list = test.get(POLICIES).await;
    assert_eq!(list.status, StatusCode::OK, "{}", list.text);
    assert_eq!(list.header("etag"), etag(&test).await);
    let listed = list.json()["policies"].as_array().unwrap().clone();
    let ids: Vec<&str> = listed
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids.contains(&"managed-tools"), "{ids:?}");
    for one in &listed {
        let read = test.get(&path(one["id"].as_str().unwrap())).await;
        assert_eq!(read.header("etag"), list.header("etag"));
        let mut read = read.json();
        let written = read.as_object_mut().unwrap().remove("text").unwrap();
        assert_eq!(&read, one);
        let mut files = starter.policies.iter();
        let file = files
            .find(|source| one["file"] == source.file.as_str())
            .unwrap();
        let place = |member: &str| usize::try_from(one["span"][member].as_u64().unwrap()).unwrap();
        assert_eq!(
            file.text.get(place("start")..place("end")),
            written.as_str()
        );
    }
    let managed = listed
        .iter()
        .find(|one| one["id"] == "managed-tools")
        .unwrap();
    assert_eq!(managed["effect"], "forbid");
    assert_eq!(managed["mode"], "enforce");
    assert_eq!(managed["annotations"]["owner"], "platform");

    let mut walked = Vec::new();
    let mut next = Some(String::new());
    while let Some(cursor) = next {
        let page = test
            .get(&format!("{POLICIES}?limit=7&cursor={cursor}"))
            .await
            .json();
        walked.extend(page["policies"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(walked, listed);
    let known = test
        .request(Method::GET, &path("managed-tools"))
        .header("if-none-match", list.header("etag"));
    assert_eq!(test.send(known, "").await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(
        test.get(&path("nobody")).await.status,
        StatusCode::NOT_FOUND
    );
    let empty = TestApp::empty(remit_api::Options::default()).await;
    assert_eq!(empty.get(POLICIES).await.status, StatusCode::NOT_FOUND);
    let early = put(
        &empty,
        "a",
        ("if-none-match", "*"),
        &json!({ "text": idle("a") }),
    )
    .await;
    assert_eq!(
        early.status,
        StatusCode::NOT_FOUND,
        "there is no schema yet"
    );
}

#[tokio::test]
async fn a_policy_is_replaced_in_its_place_and_nothing_else_moves() {
    let test = TestApp::start(&pack("starter")).await;
    let before = bundle(&test).await;
    let read = test.get(&path("managed-tools")).await;
    let old = read.json()["text"].as_str().unwrap().to_owned();
    let new = old.replace("severity(\"high\")", "severity(\"grün\")");
    assert_ne!(new, old);
    let body = json!({ "text": format!("\n{new}\n") });
    let request = test
        .request(
            Method::PUT,
            &format!("{}?message=green", path("managed-tools")),
        )
        .header("if-match", read.header("etag"));
    let done = test.send(request, &body).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(done.json()["warnings"], json!([]));

    let mut wanted = before.clone();
    for source in &mut wanted.policies {
        source.text = source.text.replace(&old, &new);
    }
    assert_eq!(
        bundle(&test).await,
        wanted,
        "every other byte is what it was"
    );
    assert_eq!(done.json()["hash"], json!(wanted.content_hash()));
    let again = test.get(&path("managed-tools")).await;
    assert_eq!(again.json()["text"], json!(new));
    assert_eq!(again.header("etag"), done.header("etag"));
    let versions = test.get("/v1/bundle/versions").await.json();
    assert_eq!(versions["versions"][0]["message"], "green");
    assert_eq!(versions["versions"][0]["author"]["name"], "test");
}

#[tokio::test]
async fn a_policy_comes_and_goes_and_leaves_no_trace_in_the_text() {
    let test = TestApp::start(&pack("starter")).await;
    let before = bundle(&test).await;
    for (id, file) in [
        ("plain", json!(null)),
        ("a%2Fb%20%C3%BC", json!("tools.cedar")),
    ] {
        let written = idle(if id == "plain" { id } else { "a/b ü" });
        let body = json!({ "text": written, "file": file });
        let made = put(&test, id, ("if-none-match", "*"), &body).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.text);
        let read = test.get(&path(id)).await.json();
        assert_eq!(read["text"], json!(written));
        assert_eq!(
            read["file"],
            json!(file.as_str().unwrap_or("policies.cedar"))
        );
        // A second time it is there already.
        let twice = put(&test, id, ("if-none-match", "*"), &body).await;
        assert_eq!(twice.status, StatusCode::PRECONDITION_FAILED);
        let gone = delete(&test, id, ("if-match", made.header("etag"))).await;
        assert_eq!(gone.status, StatusCode::OK, "{}", gone.text);
        assert_eq!(test.get(&path(id)).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(bundle(&test).await, before);
}

#[tokio::test]
async fn a_change_says_which_state_it_was_made_for() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let body = json!({ "text": test.get(&path("managed-tools")).await.json()["text"] });
    let new = json!({ "text": idle("new") });

    let blind = test.request(Method::PUT, &path("managed-tools"));
    let blind = test.send(blind, &body).await;
    assert_eq!(blind.status, StatusCode::PRECONDITION_REQUIRED);
    let blind = test.request(Method::DELETE, &path("managed-tools"));
    let blind = test.send(blind, "").await;
    assert_eq!(blind.status, StatusCode::PRECONDITION_REQUIRED);
    for (id, name, value) in [
        ("managed-tools", "if-match", "\"999\""),
        ("managed-tools", "if-none-match", "*"),
        // There is no such policy, so no state of it can be matched.
        ("new", "if-match", tag.as_str()),
        ("new", "if-match", "*"),
    ] {
        let sent = if id == "new" { &new } else { &body };
        let stale = put(&test, id, (name, value), sent).await;
        assert_eq!(
            stale.status,
            StatusCode::PRECONDITION_FAILED,
            "{id} {name}: {value}"
        );
    }
    let stale = delete(&test, "managed-tools", ("if-match", "\"999\"")).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(stale.json()["current"], json!(tag));
    let absent = delete(&test, "new", ("if-match", "*")).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert_eq!(etag(&test).await, tag, "nothing was changed");
    let any = put(&test, "managed-tools", ("if-match", "*"), &body).await;
    assert_eq!(any.status, StatusCode::OK, "{}", any.text);
}

#[tokio::test]
async fn of_two_editors_of_different_policies_one_is_told_and_loses_nothing() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let ids = ["managed-tools", "same-environment"];
    let mut changes = Vec::new();
    for id in ids {
        let written = test.get(&path(id)).await.json()["text"].clone();
        let written = written
            .as_str()
            .unwrap()
            .replace("@severity(\"high\")", "@severity(\"low\")");
        changes.push(json!({ "text": written }));
    }
    let (left, right) = tokio::join!(
        put(&test, ids[0], ("if-match", &tag), &changes[0]),
        put(&test, ids[1], ("if-match", &tag), &changes[1])
    );
    let lost = match (left.status, right.status) {
        (StatusCode::OK, StatusCode::PRECONDITION_FAILED) => 1,
        (StatusCode::PRECONDITION_FAILED, StatusCode::OK) => 0,
        _ => panic!("{} {}", left.text, right.text),
    };
    let (winner, loser) = if lost == 1 {
        (&left, &right)
    } else {
        (&right, &left)
    };
    assert_eq!(loser.json()["current"], json!(winner.header("etag")));
    let shown = async |id: &str| test.get(&path(id)).await.json()["text"].clone();
    assert_eq!(shown(ids[1 - lost]).await, changes[1 - lost]["text"]);
    assert_ne!(shown(ids[lost]).await, changes[lost]["text"]);

    // The same change again, over what is in force now: both are there.
    let again = put(
        &test,
        ids[lost],
        ("if-match", winner.header("etag")),
        &changes[lost],
    )
    .await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    for (id, change) in ids.iter().zip(&changes) {
        assert_eq!(shown(id).await, change["text"], "{id}");
    }
}

/// New policies are put beside each other, whatever else changes meanwhile.
#[tokio::test]
async fn many_who_add_a_policy_at_once_all_do() {
    let test = TestApp::start(&pack("starter")).await;
    let before = etag(&test).await;
    let one = async |number: usize| {
        let id = format!("new-{number}");
        let body = json!({ "text": idle(&id), "file": "tools.cedar" });
        put(&test, &id, ("if-none-match", "*"), &body).await.status
    };
    let added = tokio::join!(one(0), one(1), one(2), one(3));
    assert_eq!(
        added,
        (
            StatusCode::OK,
            StatusCode::OK,
            StatusCode::OK,
            StatusCode::OK
        )
    );
    for number in 0..4 {
        let there = test.get(&path(&format!("new-{number}"))).await;
        assert_eq!(there.status, StatusCode::OK);
    }
    assert_ne!(etag(&test).await, before);
}

#[tokio::test]
async fn a_refused_policy_is_placed_in_its_text_and_changes_nothing() {
    let test = TestApp::start(&pack("starter")).await;
    let tag = etag(&test).await;
    let condition = ("if-match", tag.as_str());
    let sent = "// é\n@id(\"managed-tools\")\nforbid (principal is Agent, action, resource)\nwhen { principal.nosuch };";
    let outside = put(&test, "managed-tools", condition, &json!({ "text": sent })).await;
    assert_eq!(
        outside.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        outside.text
    );
    assert_eq!(outside.json()["diagnostics"][0]["code"], "outside_policy");
    let sent = sent.trim_start_matches("// é\n");
    let refused = put(&test, "managed-tools", condition, &json!({ "text": sent })).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    let problem = refused.json();
    assert_eq!(problem["code"], "policy-invalid");
    let found = &problem["diagnostics"][0];
    assert_eq!(found["policy"], "managed-tools");
    assert_eq!(found["file"], Value::Null, "{found}");
    let place = |member: &str| usize::try_from(found["span"][member].as_u64().unwrap()).unwrap();
    assert_eq!(&sent[place("start")..place("end")], "principal.nosuch");
    assert_eq!(place("start_line"), 3);

    let (two, other) = (format!("{}\n{}", idle("a"), idle("b")), idle("b"));
    for (id, sent, code) in [
        ("a", two.as_str(), "many_policies"),
        ("a", other.as_str(), "other_id"),
        ("a", "", "no_policy"),
        (
            "a",
            "@id(\"a\") permit (principal, action, resource)",
            "parse_error",
        ),
    ] {
        let refused = put(&test, id, ("if-none-match", "*"), &json!({ "text": sent })).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        assert_eq!(refused.json()["diagnostics"][0]["code"], code, "{sent}");
    }

    // The cases are those of the whole bundle.
    let gone = delete(&test, "managed-tools", condition).await;
    assert_eq!(
        gone.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        gone.text
    );
    assert_eq!(gone.json()["code"], "cases-failed");
    assert!(!gone.json()["cases"].as_array().unwrap().is_empty());

    let written = test.get(&path("managed-tools")).await.json()["text"].clone();
    let moved = put(
        &test,
        "managed-tools",
        condition,
        &json!({ "text": written, "file": "new.cedar" }),
    )
    .await;
    assert_eq!(moved.status, StatusCode::CONFLICT, "{}", moved.text);
    assert!(moved.text.contains("tools.cedar"), "{}", moved.text);
    for body in [
        json!({ "text": idle("a"), "file": "../a.cedar" }),
        json!({ "text": idle("a"), "file": "schema.cedarschema" }),
        json!({ "text": 1 }),
        json!({}),
        json!({ "text": idle("a"), "files": "a.cedar" }),
    ] {
        let refused = put(&test, "a", ("if-none-match", "*"), &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(etag(&test).await, tag);
}
