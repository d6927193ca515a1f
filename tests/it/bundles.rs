//! Bundles over HTTP: put, read, checked, and refused without a trace.

use std::fmt::Write;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, Verdict, canonical_json};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use remit_tests::server::{Remit, send};
use remit_tests::sql;
use serde_json::{Value, json};

const PATH: &str = "/v1/bundle";

async fn put(test: &TestApp, condition: (&str, &str), bundle: &impl serde::Serialize) -> Reply {
    let request = test
        .request(Method::PUT, PATH)
        .header(condition.0, condition.1);
    test.send(request, serde_json::to_string(bundle).unwrap())
        .await
}

/// The starter bundle with one policy text added in a file of its own.
fn with_policy(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(remit_core::Source {
        file: "added.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

#[tokio::test]
async fn a_bundle_is_put_read_back_and_replaced() {
    let test = TestApp::empty(Options::default()).await;
    assert_eq!(test.get(PATH).await.status, StatusCode::NOT_FOUND);
    let bundle = pack("starter");

    let first = put(&test, ("if-none-match", "*"), &bundle).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let applied = first.json();
    assert_eq!(applied["hash"], json!(bundle.content_hash()));
    assert!(applied["policies"].as_u64().unwrap() > 10, "{applied}");
    let etag = first.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", applied["revision"]));
    assert_eq!(
        first.header("remit-revision"),
        applied["revision"].to_string()
    );

    let read = test.get(PATH).await;
    let kept: Bundle = serde_json::from_str(&read.text).unwrap();
    assert_eq!(
        String::from_utf8(canonical_json(&kept).unwrap()),
        String::from_utf8(canonical_json(&bundle).unwrap()),
        "what is read is what was put, but for the spelling of numbers"
    );
    assert_eq!(read.header("etag"), etag);
    assert_eq!(
        read.header("remit-bundle"),
        bundle.content_hash().to_string()
    );
    let again = test
        .send(
            test.request(Method::GET, PATH)
                .header("if-none-match", &etag),
            "",
        )
        .await;
    assert_eq!(
        (again.status, again.text.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );

    let second = put(&test, ("if-match", &etag), &with_policy("@id(\"more\") @owner(\"t\") forbid (principal, action, resource is Tool) when { false };")).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    assert!(second.json()["revision"].as_u64() > applied["revision"].as_u64());
    assert_ne!(second.json()["hash"], applied["hash"]);
}

#[tokio::test]
async fn a_change_says_what_it_replaces() {
    let test = TestApp::start(&pack("starter")).await;
    let etag = test.get(PATH).await.header("etag").to_owned();
    let bundle = pack("starter");

    let blind = test
        .send(
            test.request(Method::PUT, PATH),
            serde_json::to_string(&bundle).unwrap(),
        )
        .await;
    assert_eq!(blind.status, StatusCode::PRECONDITION_REQUIRED);
    for (name, value) in [
        ("if-match", "\"999\""),
        ("if-none-match", "*"),
        ("if-match", &format!("W/{etag}")),
    ] {
        let stale = put(&test, (name, value), &bundle).await;
        assert_eq!(
            stale.status,
            StatusCode::PRECONDITION_FAILED,
            "{name}: {value}"
        );
        assert_eq!(stale.json()["current"], json!(etag), "{name}: {value}");
    }
    for value in ["42", "\"41", "\"41\", *", "\"a\"b\""] {
        let malformed = put(&test, ("if-match", value), &bundle).await;
        assert_eq!(malformed.status, StatusCode::BAD_REQUEST, "{value}");
    }
    assert_eq!(
        test.get(PATH).await.header("etag"),
        etag,
        "nothing was changed"
    );
    let listed = put(&test, ("if-match", &format!("\"7\", {etag}")), &bundle).await;
    assert_eq!(listed.status, StatusCode::OK, "{}", listed.text);
    let any = put(&test, ("if-match", "*"), &bundle).await;
    assert_eq!(any.status, StatusCode::OK, "{}", any.text);
}

#[tokio::test]
async fn of_two_writers_with_the_same_etag_one_is_told() {
    let test = TestApp::start(&pack("starter")).await;
    let etag = test.get(PATH).await.header("etag").to_owned();
    let condition = ("if-match", etag.as_str());
    let (one, two) = (with_policy("// one"), with_policy("// two"));
    let (left, right) = tokio::join!(put(&test, condition, &one), put(&test, condition, &two));
    let mut statuses = [left.status, right.status];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::OK, StatusCode::PRECONDITION_FAILED],
        "{} {}",
        left.text,
        right.text
    );
}

#[tokio::test]
async fn a_bundle_that_does_not_compile_changes_nothing() {
    let test = TestApp::start(&pack("starter")).await;
    let before = test.get(PATH).await;
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    let answer = test.post("/access/v1/evaluation", &question).await.json();
    let broken = "// first line\n@id(\"broken\")\npermit (principal is Agent, action, resource)\nwhen { principal.nosuch == \"é\" };\n";

    let refused = put(
        &test,
        ("if-match", before.header("etag")),
        &with_policy(broken),
    )
    .await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    let problem = refused.json();
    assert_eq!(problem["code"], "policy-invalid");
    let diagnostic = &problem["diagnostics"][0];
    assert_eq!(diagnostic["severity"], "error");
    assert_eq!(diagnostic["file"], "added.cedar");
    assert_eq!(diagnostic["policy"], "broken");
    assert!(
        diagnostic["span"]["start_line"].as_u64() >= Some(2),
        "{diagnostic}"
    );

    let after = test.get(PATH).await;
    assert_eq!(
        (after.header("etag"), &after.text),
        (before.header("etag"), &before.text)
    );
    let mut again = test.post("/access/v1/evaluation", &question).await.json();
    again["context"]["evaluation_id"] = answer["context"]["evaluation_id"].clone();
    assert_eq!(again, answer, "the same policies decide");
}

#[tokio::test]
async fn a_bundle_whose_cases_fail_changes_nothing() {
    let test = TestApp::start(&pack("starter")).await;
    let before = test.get(PATH).await.header("etag").to_owned();
    let mut bundle = pack("starter");
    let expect = &mut bundle.cases[0].steps[0].expect;
    expect.decision = match expect.decision {
        Verdict::Permit => Verdict::Deny,
        Verdict::Deny => Verdict::Permit,
    };
    let refused = put(&test, ("if-match", &before), &bundle).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    let problem = refused.json();
    assert_eq!(problem["code"], "cases-failed");
    assert_eq!(problem["cases"].as_array().unwrap().len(), 1, "{problem}");
    assert_eq!(problem["cases"][0]["name"], json!(bundle.cases[0].name));
    assert_eq!(problem["cases"][0]["mismatches"][0]["member"], "decision");
    assert_eq!(test.get(PATH).await.header("etag"), before);
}

#[tokio::test]
async fn a_check_says_what_a_put_would_and_writes_nothing() {
    let test = TestApp::start(&pack("starter")).await;
    let before = test.get(PATH).await.header("etag").to_owned();
    let check = async |bundle: &Bundle| {
        let reply = test
            .post("/v1/bundle/check", serde_json::to_string(bundle).unwrap())
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        reply.json()
    };
    let good = check(&pack("starter")).await;
    assert_eq!(good["valid"], true);
    assert_eq!(
        good["cases"].as_array().unwrap().len(),
        pack("starter").cases.len()
    );
    let broken = check(&with_policy("permit (principal, action, resource);")).await;
    assert_eq!(
        (&broken["valid"], &broken["policies"]),
        (&json!(false), &json!(0))
    );
    assert!(broken["diagnostics"][0]["message"].is_string(), "{broken}");
    let mut failing = pack("starter");
    failing.cases[0].steps[0].expect.because =
        Some(vec![remit_core::PolicyId::new("no-such-policy")]);
    let failing = check(&failing).await;
    assert_eq!(failing["valid"], false);
    assert_eq!(failing["cases"][0]["mismatches"][0]["member"], "because");
    assert_eq!(test.get(PATH).await.header("etag"), before);
}

#[tokio::test]
async fn a_policy_bomb_is_refused_and_the_process_lives() {
    let test = TestApp::start(&pack("starter")).await;
    let etag = test.get(PATH).await.header("etag").to_owned();
    let policy = |condition: &str| {
        format!("@id(\"bomb\") permit (principal, action, resource) when {{ {condition} }};")
    };
    let mut chain = "true".to_owned();
    for _ in 0..4_000 {
        write!(chain, " && true").unwrap();
    }
    let bombs = [
        policy(&format!("{}true{}", "(".repeat(20_000), ")".repeat(20_000))),
        policy(&format!("{}true", "!".repeat(20_000))),
        policy(&format!(
            "{}1{} == [1]",
            "[".repeat(10_000),
            "]".repeat(10_000)
        )),
        policy(&format!("context{}", ".a".repeat(10_000))),
        policy(&format!(
            "{}true{}",
            "if ".repeat(5_000),
            " then true else true".repeat(5_000)
        )),
        policy(&chain),
    ];
    let pid = std::process::id();
    for bomb in &bombs {
        let refused = put(&test, ("if-match", &etag), &with_policy(bomb)).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        assert_eq!(refused.json()["code"], "policy-invalid");
    }
    assert_eq!(std::process::id(), pid);
    assert_eq!(test.get(PATH).await.header("etag"), etag);
}

#[tokio::test]
async fn a_bundle_must_go_with_the_stored_entities() {
    let test = TestApp::start(&pack("starter")).await;
    let stored = test
        .send(test.request(Method::PUT, "/v1/entities/Team/legal"), "{}")
        .await;
    assert_eq!(stored.status, StatusCode::OK, "{}", stored.text);
    let etag = test.get(PATH).await.header("etag").to_owned();
    let small = json!({
        "schema": [{ "file": "s.cedarschema", "text": "entity Agent; action call appliesTo { principal: [Agent], resource: [Agent] };" }],
        "policies": [{ "file": "p.cedar", "text": "@id(\"p\") permit (principal, action, resource);" }],
    });
    let refused = put(&test, ("if-match", &etag), &small).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    assert!(refused.text.contains("Team"), "{}", refused.text);
    let mut twin = pack("starter");
    twin.entities
        .push(serde_json::from_value(json!({ "uid": { "type": "Team", "id": "legal" } })).unwrap());
    let refused = put(&test, ("if-match", &etag), &twin).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        refused.text
    );
    assert_eq!(test.get(PATH).await.header("etag"), etag);
}

#[tokio::test]
async fn a_body_that_is_no_bundle_is_named() {
    let test = TestApp::start(&pack("starter")).await;
    for (body, named) in [
        (json!({ "policies": [] }), "`schema`"),
        (
            json!({ "schema": [], "policies": [], "policy": [] }),
            "`policy`",
        ),
        (
            json!({ "schema": [{ "file": "a" }], "policies": [] }),
            "schema[0]",
        ),
        (json!({ "schema": "entity A;", "policies": [] }), "`schema`"),
    ] {
        let refused = put(&test, ("if-match", "*"), &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{body} → {detail}");
    }
    let announced = test
        .request(Method::PUT, PATH)
        .header("if-match", "*")
        .header("content-length", "70000000");
    assert_eq!(
        test.send(announced, "{").await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let _: Value = test.get(PATH).await.json();
}

/// What a replica has compiled to try it is what comes into force there; a bundle that is spoilt on its way back from the
/// database shows that it was not read and compiled a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_compiled_once_where_it_is_put() {
    let remit = Remit::dev(env!("CARGO_BIN_EXE_remit")).start().await;
    let database = format!("sqlite:{}", remit.data().join("remit.db").display());
    remit.is_not_replayed("its bundle is spoilt");
    sql::execute(
        &database,
        "CREATE TRIGGER spoilt AFTER INSERT ON bundles BEGIN \
         UPDATE bundles SET body = '{}' WHERE tenant = new.tenant AND revision = new.revision; END",
    )
    .await;
    let mut bundle =
        with_policy("@id(\"nobody\") @owner(\"security\") forbid (principal, action, resource);");
    bundle.cases.clear();
    let put = remit.request(Method::PUT, PATH).header("if-match", "*");
    let put = send(put.json(&bundle)).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" },
        "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    let answer = remit.post("/access/v1/evaluation", &question).await;
    assert!(answer.text().contains("nobody"), "{}", answer.text());
}
