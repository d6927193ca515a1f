//! Replay equality: every record gives its own answer under its own revision, and a record that says otherwise is caught.
//!
//! `TestApp` and `Remit` do the same with whatever records any other test leaves; here is shown that they would notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{Bundle, Source, Verdict};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::postgres::Postgres;
use remit_tests::replay::{Remains, all, replay};
use remit_tests::server::Remit;
use remit_tests::sql;
use serde_json::{Value, json};

/// How long records may take to be shipped.
const PATIENCE: Duration = Duration::from_secs(30);

/// The starter, or the starter with one policy more.
fn variant(number: usize) -> Bundle {
    let mut bundle = pack("starter");
    bundle.cases.clear();
    let text = match number {
        0 => return bundle,
        1 => {
            "@id(\"v\") @owner(\"t\") forbid (principal, action, resource == Tool::\"mail.list\") unless { context.facts.approved };"
        }
        2 => {
            "@id(\"v\") @owner(\"t\") permit (principal is Agent, action == Action::\"call\", resource) when { context.facts.minute_of_day * 9223372036854775807 > 0 };"
        }
        _ => {
            "@id(\"v\") @owner(\"t\") @mode(\"shadow\") forbid (principal is Agent, action, resource);"
        }
    };
    bundle.policies.push(Source {
        file: "variant.cedar".to_owned(),
        text: text.to_owned(),
    });
    bundle
}

fn agent(rng: &mut StdRng) -> Value {
    let status = ["active", "suspended"][rng.random_range(0..2)];
    let role = ["reader", "editor", "courier"][rng.random_range(0..3)];
    json!({
        "attrs": { "status": status, "trust": rng.random_range(0..4), "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": role }],
    })
}

fn question(rng: &mut StdRng) -> Value {
    let who = [
        "invoice-bot",
        "payroll-bot",
        "crm-helper",
        "live-0",
        "live-1",
        "ghost",
    ][rng.random_range(0..6)];
    let (action, resource) = [
        ("call", json!({ "type": "Tool", "id": "mail.list" })),
        ("call", json!({ "type": "Tool", "id": "crm.update" })),
        (
            "read_data",
            json!({ "type": "Document", "id": "price-list" }),
        ),
        (
            "pay",
            json!({ "type": "Payee", "id": "FI2112345600000785" }),
        ),
        ("fly", json!({ "type": "Tool", "id": "mail.list" })),
    ][rng.random_range(0..5)]
    .clone();
    let mut question = json!({ "subject": { "type": "Agent", "id": who }, "action": { "name": action }, "resource": resource });
    if action == "pay" {
        question["action"]["properties"] =
            json!({ "amount": rng.random_range(-1..200_000), "currency": "EUR" });
    }
    question
}

/// Asks questions between changes of the bundle and of live entities; returns how many were asked.
async fn live(test: &mut TestApp, seed: u64, steps: usize) -> u64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut asked = 0;
    for _ in 0..steps {
        match rng.random_range(0..10) {
            0 => test.put(&variant(rng.random_range(0..4))).await,
            1..=2 => {
                let path = format!("/v1/entities/Agent/live-{}", rng.random_range(0..2));
                let request = test.request(Method::PUT, &path);
                let reply = test.send(request, agent(&mut rng)).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            }
            3 => {
                let path = format!("/v1/entities/Agent/live-{}", rng.random_range(0..2));
                let reply = test.send(test.request(Method::DELETE, &path), "").await;
                assert!(matches!(reply.status.as_u16(), 200 | 404), "{}", reply.text);
            }
            _ => {
                let reply = test.post("/access/v1/evaluation", question(&mut rng)).await;
                assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                // Little, so that the policies are confirmed again before they are older than allowed.
                test.clock.advance(Duration::from_millis(20));
                asked += 1;
            }
        }
    }
    asked
}

fn remains(test: &TestApp, least: u64) -> Remains {
    Remains {
        database: test.database.clone(),
        spool: test.spool(),
        least,
    }
}

/// Records in the spool and in the database alike, over many states of bundle and entities.
#[tokio::test]
async fn every_record_of_many_worlds_comes_out_the_same() {
    let mut records = 0;
    for seed in 0..6 {
        let bundle = variant(0);
        let shipping = seed % 2 == 0;
        let mut test = if shipping {
            TestApp::shipping(&bundle).await
        } else {
            TestApp::start(&bundle).await
        };
        let asked = live(&mut test, seed, 80).await;
        if shipping {
            assert!(test.log.caught_up(PATIENCE).await);
        }
        let replayed = all(remains(&test, asked)).unwrap();
        assert_eq!(replayed as u64, asked);
        assert!(asked > 30, "{asked}");
        records += replayed;
    }
    println!("{records} records of 6 worlds came out the same");
}

/// What is said when a test that left this lets go of it; `None` where it has nothing to say.
fn said(test: TestApp) -> Option<String> {
    let failed = catch_unwind(AssertUnwindSafe(|| drop(test))).err()?;
    Some(*failed.downcast::<String>().unwrap())
}

async fn world() -> TestApp {
    let mut test = TestApp::shipping(&variant(0)).await;
    assert!(live(&mut test, 7, 60).await > 20);
    assert!(test.log.caught_up(PATIENCE).await);
    test
}

/// A record of which a word is changed, a history that is, and a record that is gone: each fails the test that left it.
#[tokio::test]
async fn what_was_changed_afterwards_is_caught() {
    assert_eq!(said(world().await), None);
    let one = "id = (SELECT min(id) FROM decisions";
    for (change, expected) in [
        (
            format!(
                "UPDATE decisions SET body = replace(body, '\"verdict\":\"permit\"', '\"verdict\":\"deny\"') WHERE {one} WHERE verdict = 'permit')"
            ),
            "1 of ",
        ),
        (
            format!(
                "UPDATE decisions SET body = replace(body, '\"approved\":false', '\"approved\":true') WHERE {one} WHERE reason = 'approval_required')"
            ),
            "1 of ",
        ),
        (
            format!(
                "UPDATE decisions SET body = replace(body, 'EUR', 'USD') WHERE {one} WHERE action = 'pay')"
            ),
            "1 of ",
        ),
        (
            format!("DELETE FROM decisions WHERE {one})"),
            "decisions were given, and ",
        ),
        (
            "DELETE FROM bundles WHERE revision = (SELECT min(revision) FROM bundles)".to_owned(),
            "its bundle is not the one in force",
        ),
    ] {
        let test = world().await;
        let remit_store::Options { url, .. } = test.database.clone();
        // What is shipped may still be in the spool as well.
        std::fs::remove_dir_all(test.spool()).unwrap();
        sql::execute(&url, &change).await;
        let said = said(test).unwrap_or_else(|| panic!("nobody noticed: {change}"));
        assert!(said.contains(expected), "{change}: {said}");
    }
}

/// The check itself, on one record: what it takes and what it does not.
#[tokio::test]
async fn a_record_that_says_otherwise_is_told_by_its_id() {
    let test = world().await;
    let listed = test.get("/v1/decisions?limit=1").await.json();
    let record: remit_core::DecisionRecord =
        serde_json::from_value(listed["decisions"][0].clone()).unwrap();
    assert_eq!(
        replay(&test.store, std::slice::from_ref(&record)).await,
        Ok(Vec::new())
    );
    let mut flipped = record.clone();
    flipped.decision.verdict = match record.decision.verdict {
        Verdict::Permit => Verdict::Deny,
        Verdict::Deny => Verdict::Permit,
    };
    let wrong = replay(&test.store, &[record, flipped.clone()])
        .await
        .unwrap();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with(&flipped.id.to_string()), "{wrong:?}");
}

/// The command, over a server on Postgres whose bundle and entities change between the questions.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_postgres_is_replayed_by_the_command() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let remit = Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .variable("REMIT__DATABASE__URL", &url)
        .start()
        .await;
    let mut rng = StdRng::seed_from_u64(11);
    let (mut asked, mut changes) = (0, 0);
    for round in 0..8 {
        let put = remit
            .request(Method::PUT, "/v1/bundle")
            .header("if-match", "*");
        let put = remit_tests::server::send(put.json(&variant(round % 4))).await;
        assert_eq!(put.status, 200, "{}", put.text());
        for _ in 0..3 {
            let path = format!("/v1/entities/Agent/live-{}", rng.random_range(0..2));
            let put = remit.request(Method::PUT, &path).json(&agent(&mut rng));
            let put = remit_tests::server::send(put).await;
            assert_eq!(put.status, 200, "{}", put.text());
            changes += 1;
            for _ in 0..5 {
                let answer = remit
                    .post("/access/v1/evaluation", &question(&mut rng))
                    .await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                asked += 1;
            }
        }
    }
    let command = async || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_remit"));
        command.args(["decisions", "replay", "--url", &remit.url, "-o", "json"]);
        command.env("REMIT_KEY", &remit.key).output().await.unwrap()
    };
    let done = command().await;
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{told:#}");
    assert_eq!(
        (&told["replayed"], &told["reproduced"]),
        (&json!(asked), &json!(asked))
    );
    assert_eq!(
        (&told["differing"], &told["not_replayable"]),
        (&json!([]), &json!([]))
    );
    println!(
        "{asked} records between 8 bundles and {changes} changes of entities came out the same on Postgres"
    );

    // The same command notices one word.
    let flip = "UPDATE decisions SET body = replace(body, '\"reason\":\"policy_permit\"', '\"reason\":\"no_permit\"') \
        WHERE id = (SELECT id FROM decisions WHERE reason = 'policy_permit' ORDER BY id LIMIT 1)";
    sql::execute(&url, flip).await;
    let done = command().await;
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(6), "{told:#}");
    assert_eq!(told["differing"].as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(told["reproduced"], json!(asked - 1));
    remit.is_not_replayed("a record is changed on purpose");
}
