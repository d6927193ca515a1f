//! A shadow over HTTP: a bundle beside the one in force, which changes no answer and tells where it would have.

use std::fs;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, Source};
use remit_store::{Change, Expected};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use remit_tests::sql;
use serde_json::{Value, json};

use crate::revisions;
use crate::serve::Server;

mod away;
mod judged;

const SHADOW: &str = "/v1/shadow";
const PATIENCE: Duration = Duration::from_secs(30);

/// The starter bundle with one more policy file.
fn with(text: &str) -> Bundle {
    let mut bundle = pack("starter");
    bundle.policies.push(Source {
        file: "added.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

fn without_mail() -> Bundle {
    with(
        "@id(\"no-mail\") @owner(\"o\") forbid (principal, action, resource == Tool::\"mail.list\");",
    )
}

async fn send(
    test: &TestApp,
    method: Method,
    condition: Option<(&str, &str)>,
    body: &str,
) -> Reply {
    let mut request = test.request(method, SHADOW);
    if let Some((name, value)) = condition {
        request = request.header(name, value);
    }
    test.send(request, body).await
}

async fn put(test: &TestApp, condition: (&str, &str), bundle: &Bundle) -> Reply {
    let body = serde_json::to_string(bundle).unwrap();
    send(test, Method::PUT, Some(condition), &body).await
}

async fn begin(test: &TestApp, bundle: &Bundle) -> Reply {
    let begun = put(test, ("if-none-match", "*"), bundle).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", begun.text);
    begun
}

async fn found(test: &TestApp) -> Value {
    let reply = test.get(SHADOW).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

/// Asks a question, and returns the id of the decision and whether it was permitted.
async fn ask(test: &TestApp, agent: &str, tool: &str) -> (String, bool) {
    let question = json!({
        "subject": { "type": "Agent", "id": agent }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": tool },
    });
    let reply = test.post("/access/v1/evaluation", question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let permitted = reply.json()["decision"].as_bool().unwrap();
    (reply.header("x-decision-id").to_owned(), permitted)
}

fn counts(found: &Value) -> [u64; 5] {
    ["decided", "same", "differing", "dropped", "failed"].map(|name| found[name].as_u64().unwrap())
}

#[tokio::test]
async fn a_shadow_is_put_read_replaced_and_ended() {
    let test = TestApp::start(&pack("starter")).await;
    assert_eq!(test.get(SHADOW).await.status, StatusCode::NOT_FOUND);
    let starter = serde_json::to_string(&pack("starter")).unwrap();
    let unconditional = send(&test, Method::PUT, None, &starter).await;
    assert_eq!(unconditional.status, StatusCode::PRECONDITION_REQUIRED);
    let nothing = put(&test, ("if-match", "\"1\""), &pack("starter")).await;
    assert_eq!(nothing.status, StatusCode::PRECONDITION_FAILED);
    let none = send(&test, Method::DELETE, None, "").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND, "{}", none.text);

    let before = test.get("/v1/bundle").await;
    let first = begin(&test, &without_mail()).await;
    let revision = first.json()["revision"].as_u64().unwrap();
    assert_eq!(first.header("etag"), format!("\"{revision}\""));
    assert_eq!(first.header("remit-revision"), revision.to_string());
    assert_eq!(first.json()["hash"], json!(without_mail().content_hash()));
    assert_eq!(
        first.json()["comparison"]["loosens"],
        false,
        "{}",
        first.text
    );
    let read = test.get(SHADOW).await;
    assert_eq!(read.header("etag"), first.header("etag"));
    let told = read.json();
    assert_eq!(told["since"], "2026-01-05T10:00:00.000000Z");
    assert_eq!(told["by"], test.get("/v1/whoami").await.json()["key"]);
    assert_eq!(counts(&told), [0; 5]);
    let after = test.get("/v1/bundle").await;
    assert_eq!(
        (after.text, after.headers.get("etag")),
        (before.text, before.headers.get("etag"))
    );
    let versions = test.get("/v1/bundle/versions").await.json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);

    let taken = put(&test, ("if-none-match", "*"), &pack("starter")).await;
    assert_eq!(taken.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(taken.json()["current"], json!(format!("\"{revision}\"")));
    ask(&test, "invoice-bot", "mail.list").await;
    assert_eq!(counts(&found(&test).await), [1, 0, 1, 0, 0]);
    let second = put(&test, ("if-match", first.header("etag")), &pack("starter")).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    assert_eq!(counts(&found(&test).await), [0; 5], "it begins anew");
    let stale = send(
        &test,
        Method::DELETE,
        Some(("if-match", first.header("etag"))),
        "",
    )
    .await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let ended = send(
        &test,
        Method::DELETE,
        Some(("if-match", second.header("etag"))),
        "",
    )
    .await;
    assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
    assert!(ended.json()["revision"].as_u64() > second.json()["revision"].as_u64());
    assert_eq!(test.get(SHADOW).await.status, StatusCode::NOT_FOUND);
    ask(&test, "invoice-bot", "mail.list").await;
    let metrics = test.operations("/metrics").await.text;
    let made = "remit_shadow_decisions_total{outcome=\"newly_denied\"} 1";
    assert!(
        metrics.contains(made),
        "nothing is made again now: {metrics}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_shadow_is_refused() {
    let empty = TestApp::empty(Options::default()).await;
    let beside_nothing = put(&empty, ("if-none-match", "*"), &pack("starter")).await;
    assert_eq!(
        beside_nothing.status,
        StatusCode::NOT_FOUND,
        "{}",
        beside_nothing.text
    );

    let test = TestApp::start(&pack("starter")).await;
    let broken = put(&test, ("if-none-match", "*"), &with("permit (principal")).await;
    assert_eq!(
        broken.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        broken.text
    );
    assert_eq!(broken.json()["diagnostics"][0]["code"], "parse_error");
    for body in ["{", "[]", "{\"schema\": [], \"policies\": [], \"more\": 1}"] {
        let refused = send(&test, Method::PUT, Some(("if-none-match", "*")), body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{body}: {}",
            refused.text
        );
    }
    for method in [Method::PUT, Method::DELETE] {
        let request = test
            .request(method, "/v1/shadow?wait=none")
            .header("if-match", "*");
        let refused = test.send(request, "{}").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
    }
    assert_eq!(test.get(SHADOW).await.status, StatusCode::NOT_FOUND);

    // Cases are run and told of; they need not pass.
    let mut failing = without_mail();
    let case = json!({
        "name": "mail is listed", "expect": { "decision": "permit" },
        "question": { "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.list" } },
    });
    failing.cases = vec![serde_json::from_value(case).unwrap()];
    let begun = begin(&test, &failing).await.json();
    assert_eq!(
        begun["cases"][0]["mismatches"][0]["member"], "decision",
        "{begun}"
    );
}

#[tokio::test]
async fn it_tells_where_it_would_have_decided_otherwise_and_changes_nothing() {
    let test = TestApp::shipping(&pack("starter")).await;
    ask(&test, "invoice-bot", "mail.list").await;
    begin(&test, &without_mail()).await;
    let mut mail = Vec::new();
    for _ in 0..7 {
        let (id, permitted) = ask(&test, "invoice-bot", "mail.list").await;
        assert!(permitted, "the bundle in force decides");
        mail.push(id);
    }
    let batch = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "evaluations": [{ "resource": { "type": "Tool", "id": "mail.list" } }, { "resource": { "type": "Tool", "id": "no-such-tool" } }],
    });
    let batch = test.post("/access/v1/evaluations", batch).await;
    assert_eq!(batch.status, StatusCode::OK, "{}", batch.text);
    let told = found(&test).await;
    assert_eq!(counts(&told), [9, 1, 8, 0, 0], "{told:#}");
    assert_eq!(told["totals"], json!({ "newly_denied": 8 }));
    let group = &told["groups"][0];
    assert_eq!(
        (&group["outcome"], &group["count"]),
        (&json!("newly_denied"), &json!(8))
    );
    assert_eq!(group["action"], "call");
    assert_eq!(group["before"]["verdict"], "permit");
    let forbidden =
        json!({ "verdict": "deny", "reason": "policy_forbid", "policies": ["no-mail"] });
    assert_eq!(group["after"], forbidden);
    assert_eq!(group["samples"], json!(&mail[..5]), "the first ones");
    assert_eq!(told["failures"], json!([]));

    // What is recorded is what was answered, and nothing of the shadow is a decision.
    let listed = test.get("/v1/decisions").await.json();
    let listed = listed["decisions"].as_array().unwrap();
    assert_eq!(listed.len(), 10);
    let bundle = json!(pack("starter").content_hash());
    assert!(listed.iter().all(|one| one["decision"]["bundle"] == bundle));
    let metrics = test.operations("/metrics").await.text;
    for line in [
        "# TYPE remit_shadow_decisions_total counter",
        "remit_shadow_decisions_total{outcome=\"newly_denied\"} 8",
        "remit_shadow_decisions_total{outcome=\"same\"} 1",
        "remit_shadow_decisions_total{outcome=\"failed\"} 0",
        "remit_shadow_dropped_total 0",
    ] {
        assert!(metrics.contains(line), "`{line}` is not in\n{metrics}");
    }
}

/// Nobody has to read it: what was found is in the database a second later.
#[tokio::test]
async fn what_is_found_is_noted_by_itself() {
    let test = TestApp::start(&pack("starter")).await;
    let begun = begin(&test, &without_mail()).await.json();
    let shadow = remit_core::Revision::new(begun["revision"].as_u64().unwrap());
    let (id, _) = ask(&test, "invoice-bot", "mail.list").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let findings = test
            .store
            .shadow_findings(test.tenant, shadow)
            .await
            .unwrap();
        if let [(replica, tally)] = findings.tallies.as_slice() {
            assert_eq!(*replica, test.log.replica());
            assert_eq!((tally.decided, tally.differing), (1, 1));
            assert_eq!(findings.groups[0].2[0].to_string(), id);
            break;
        }
        assert!(Instant::now() < deadline, "nothing is noted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn entity(test: &TestApp, kind: &str, id: &str, entity: &Value) {
    let path = format!("/v1/entities/{kind}/{id}");
    let put = test.send(test.request(Method::PUT, &path), entity).await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
}

/// Both decide over the same entities, also right after a change, and also where the shadow reads them by another schema.
#[tokio::test]
async fn it_decides_over_the_entities_of_the_decision() {
    let mut other = revisions::bundle();
    other.schema[0].text = other.schema[0]
        .text
        .replace("status?: String", "status?: String, level?: Long");
    for shadow in [revisions::bundle(), other] {
        let test = TestApp::start(&revisions::bundle()).await;
        begin(&test, &shadow).await;
        for number in 0..12 {
            let status = if number % 3 == 0 {
                "suspended"
            } else {
                "active"
            };
            entity(
                &test,
                "Agent",
                "courier-bot",
                &json!({ "attrs": { "status": status } }),
            )
            .await;
            let (_, permitted) = ask(&test, "courier-bot", "mail.send").await;
            assert_eq!(permitted, status == "active");
        }
        let told = found(&test).await;
        assert_eq!(counts(&told), [12, 12, 0, 0, 0], "{told:#}");
    }
}

/// A change that the shadow cannot follow stops the shadow, says why, and stops nothing else.
#[tokio::test]
async fn live_entities_that_do_not_fit_it_are_its_own_trouble() {
    let test = TestApp::start(&revisions::bundle()).await;
    let mut shadow = revisions::bundle();
    let bundled =
        json!({ "uid": { "type": "Agent", "id": "courier-bot" }, "attrs": { "status": "active" } });
    shadow.entities = vec![serde_json::from_value(bundled).unwrap()];
    begin(&test, &shadow).await;
    ask(&test, "courier-bot", "mail.send").await;
    entity(
        &test,
        "Agent",
        "courier-bot",
        &json!({ "attrs": { "status": "active" } }),
    )
    .await;
    let (_, permitted) = ask(&test, "courier-bot", "mail.send").await;
    assert!(permitted);
    let told = found(&test).await;
    assert_eq!(counts(&told), [1, 0, 1, 0, 1], "{told:#}");
    let because = told["failures"][0]["because"].as_str().unwrap();
    assert!(because.contains("courier-bot"), "{because}");
    assert_eq!(test.operations("/readyz").await.status, StatusCode::OK);

    let removed = test.send(
        test.request(Method::DELETE, "/v1/entities/Agent/courier-bot"),
        "",
    );
    assert_eq!(removed.await.status, StatusCode::OK);
    ask(&test, "courier-bot", "mail.send").await;
    let told = found(&test).await;
    assert_eq!(counts(&told), [2, 0, 2, 0, 1], "{told:#}");
    assert_eq!(told["failures"], json!([]), "it goes on");
}

/// A bundle put in force meanwhile is what the shadow is held against from then on.
#[tokio::test]
async fn it_stands_beside_whatever_is_in_force() {
    let mut test = TestApp::start(&pack("starter")).await;
    begin(&test, &without_mail()).await;
    ask(&test, "invoice-bot", "mail.list").await;
    test.put(&without_mail()).await;
    ask(&test, "invoice-bot", "mail.list").await;
    let told = found(&test).await;
    assert_eq!(counts(&told), [2, 1, 1, 0, 0], "{told:#}");
}

/// Two replicas on one Postgres.
async fn pair() -> Option<(String, TestApp, TestApp)> {
    let url = Postgres::database().await?;
    let database = remit_tests::sql::patient(&url);
    let named = |name: &str| Options {
        replica: name.to_owned(),
        deadline: PATIENCE,
        max_staleness: Duration::from_secs(30),
        ..Options::default()
    };
    let mut a = TestApp::sharing(&database, named("a")).await;
    let b = TestApp::sharing(&database, named("b")).await;
    a.put(&pack("starter")).await;
    b.caught_up().await;
    a.caught_up().await;
    Some((url, a, b))
}

/// Asks until what was found pleases.
async fn until(test: &TestApp, pleases: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = found(test).await;
        if pleases(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "{told:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a replica counts a decision that it answers.
async fn at_work(test: &TestApp) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = 0;
    loop {
        ask(test, "invoice-bot", "mail.list").await;
        asked += 1;
        let metrics = test.operations("/metrics").await.text;
        let denied = metrics.lines().find_map(|line| {
            line.strip_prefix("remit_shadow_decisions_total{outcome=\"newly_denied\"} ")?
                .parse::<u64>()
                .ok()
        });
        if denied > Some(0) {
            return asked;
        }
        assert!(Instant::now() < deadline, "{metrics}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_find_adds_up() {
    let Some((_, a, b)) = pair().await else {
        return;
    };
    begin(&a, &without_mail()).await;
    // It is at work on B soon after.
    at_work(&b).await;
    let before = until(&a, |told| told["differing"].as_u64() > Some(0)).await;
    for test in [&a, &b, &b] {
        ask(test, "invoice-bot", "mail.list").await;
    }
    let wanted = before["differing"].as_u64().unwrap() + 3;
    for test in [&a, &b] {
        let told = until(test, |told| told["differing"] == wanted).await;
        assert_eq!(told["groups"][0]["count"], wanted, "{told:#}");
        assert_eq!(told["groups"].as_array().unwrap().len(), 1);
    }
    // Replaced on B, ended on A.
    let etag = b.get(SHADOW).await.header("etag").to_owned();
    let replaced = put(&b, ("if-match", &etag), &pack("starter")).await;
    assert_eq!(replaced.status, StatusCode::OK, "{}", replaced.text);
    assert_eq!(
        send(&a, Method::DELETE, None, "").await.status,
        StatusCode::OK
    );
    assert_eq!(b.get(SHADOW).await.status, StatusCode::NOT_FOUND);
}

/// A row that cannot be read is the trouble of the shadow alone, before a replica has it and after a cure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_shadow_harms_nothing() {
    let Some((url, a, b)) = pair().await else {
        return;
    };
    let bundle = without_mail();
    let revision = a
        .store
        .put_shadow(a.tenant, Expected::Absent, &bundle, None, Change::default())
        .await
        .unwrap();
    drop(b);
    let poison = "UPDATE shadows SET body = '{\"schema\": 7}'";
    sql::execute(
        &url,
        &format!("{poison}; UPDATE tenants SET revision = revision + 1"),
    )
    .await;
    // A process that finds it like that; the one that had it already goes on with it.
    let database = remit_tests::sql::patient(&url);
    let c = TestApp::sharing(&database, Options::default()).await;
    c.reached(revision).await;
    let told = until(&c, |told| told["failures"] != json!([])).await;
    assert_eq!(told["failures"][0]["replica"], json!(c.log.replica()));
    let because = told["failures"][0]["because"].as_str().unwrap();
    assert!(because.contains("`shadows`"), "{because}");
    for _ in 0..20 {
        let (_, permitted) = ask(&c, "invoice-bot", "mail.list").await;
        assert!(permitted);
        assert_eq!(c.operations("/readyz").await.status, StatusCode::OK);
    }
    assert!(found(&c).await["failed"].as_u64() >= Some(20));

    let body = String::from_utf8(remit_core::canonical_json(&bundle).unwrap()).unwrap();
    let cure = format!("UPDATE shadows SET body = $cure${body}$cure$");
    sql::execute(
        &url,
        &format!("{cure}; UPDATE tenants SET revision = revision + 1"),
    )
    .await;
    at_work(&c).await;
    until(&c, |told| told["failures"] == json!([])).await;
    let failed = found(&c).await["failed"].as_u64();
    assert!(failed >= Some(20), "what was counted stays: {failed:?}");
    ask(&a, "invoice-bot", "mail.list").await;
}

#[test]
fn a_shadow_is_started_followed_and_stopped_from_the_command_line() {
    let server = Server::dev();
    let home = crate::cli::folder();
    let draft = crate::cli::starter(home.path());
    let draft = draft.to_str().unwrap();
    server
        .run(&["policy", "shadow", "status"])
        .fails(3, &["there is no shadow"]);
    let rule = "@id(\"no-mail\") @owner(\"ops\") forbid (principal, action, resource == Tool::\"mail.list\");";
    fs::write(format!("{draft}/added.cedar"), rule).unwrap();
    server
        .run(&["policy", "shadow", "start", draft])
        .succeeds(&["in shadow since revision ", " cases failed, sha256:"]);
    let ask = || {
        let tool = "Tool:mail.list";
        let asked = server.run(&[
            "decide",
            "-s",
            "Agent:invoice-bot",
            "-a",
            "call",
            "-r",
            tool,
        ]);
        asked.succeeds(&["permit"]);
    };
    ask();
    ask();
    server
        .run(&["policy", "shadow", "status", "--deny-loosening"])
        .succeeds(&[
            "newly denied  2",
            "no-mail",
            "2 decisions since ",
            ": 2 differ",
        ]);
    // Started again it takes the place of the one before.
    fs::write(format!("{draft}/added.cedar"), "permit (principal").unwrap();
    let broken = server.run(&["policy", "shadow", "start", draft]);
    assert_eq!(broken.code, 3, "{}", broken.stderr);
    assert!(broken.stderr.contains("added.cedar"), "{}", broken.stderr);
    fs::write(
        format!("{draft}/added.cedar"),
        "@id(\"all\") permit (principal, action, resource);",
    )
    .unwrap();
    for name in ["agents.cedar", "tools.cedar"] {
        fs::remove_file(format!("{draft}/{name}")).unwrap();
    }
    server
        .run(&["policy", "shadow", "start", draft])
        .succeeds(&["in shadow since revision "]);
    server.run(&[
        "decide",
        "-s",
        "Agent:payroll-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
    ]);
    let looser = server.run(&[
        "policy",
        "shadow",
        "status",
        "--deny-loosening",
        "-o",
        "json",
    ]);
    assert_eq!(looser.code, 6, "{}{}", looser.stdout, looser.stderr);
    assert_eq!(
        looser.json()["totals"]["newly_permitted"],
        1,
        "{}",
        looser.stdout
    );
    server
        .run(&["policy", "shadow", "stop"])
        .succeeds(&["the shadow has ended at revision "]);
    server
        .run(&["policy", "shadow", "stop"])
        .fails(3, &["there is no shadow"]);
}
