//! Questions that break the engine, and clients that do not wait for the answer: F21, F22, F23.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use remit_chaos::pdp::question;
use remit_chaos::{Call, Load, Outcome, Pdp, Pg, Plan, Row};
use remit_tests::raw;
use remit_tests::server::{Answer, send};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{recorded, records};

/// The subject that panics in the engine, in the build for negative controls.
const PANIC: &str = "remit-controls-panic";
/// How many clients go away.
const CLIENTS: usize = 400;
/// How many questions each of them asks at once.
const BATCH: usize = 4;
/// How many connections, and how many requests in flight, the server takes.
const ROOM: usize = 8;

/// Forbids what the starter permits, for a reason that cannot be evaluated: a weekday is 1 or more, so the sum overflows.
const OVERFLOW: &str = r#"
@id("overflow")
forbid (principal == Agent::"invoice-bot", action == Action::"call", resource == Tool::"mail.list")
when { context.facts.weekday + 9223372036854775807 < 0 };
"#;

async fn post(pdp: &Pdp, path: &str, body: &Value) -> Answer {
    send(pdp.request(Method::POST, path).json(body)).await
}

/// Checks that the forbid that errors denies, as it is answered and as it is recorded.
async fn an_error_denies(pdp: &Pdp) -> Result<(), String> {
    let answer = pdp.ask().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    if answer.json::<Value>()["decision"] != false {
        return Err(format!("permitted: {}", answer.text()));
    }
    let id = answer.headers["x-decision-id"].to_str().unwrap();
    let found = records(pdp).await;
    let record = found.iter().find(|record| record["id"] == id).unwrap();
    assert_eq!(record["decision"]["reason"], "policy_error", "{record}");
    assert_eq!(record["decision"]["verdict"], "deny", "{record}");
    Ok(())
}

/// F21: a forbid that cannot be evaluated denies, and the record says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_erroring_forbid() {
    let row = Row::new("F21");
    let Some(postgres) = Pg::start() else { return };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let pdp = plan.start().await;
    assert_eq!(pdp.ask().await.json::<Value>()["decision"], true);
    // The starter without its cases, which the forbid would fail.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(remit_tests::root().join("policies/starter")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::write(folder.path().join("overflow.cedar"), OVERFLOW).unwrap();
    plan.run_as(&pdp, &["bundle", "push", folder.path().to_str().unwrap()]);
    an_error_denies(&pdp).await.unwrap();
    let unprotected = plan.beside().without("ErroringForbidDenies").start().await;
    let control = an_error_denies(&unprotected).await.unwrap_err();
    assert!(control.contains("permitted"), "{control}");
    row.passed(
        "denied for an overflow in a forbid, and recorded so",
        "failed as it must: permitted",
    );
}

/// Checks that a panic is answered with a deny, alone and in the middle of a batch.
async fn panics_are_denied(pdp: &Pdp, times: usize) -> Result<(), String> {
    let batch = json!({ "evaluations": [
        question("invoice-bot"), question(PANIC), question("invoice-bot"),
    ] });
    for _ in 0..times {
        let one = post(pdp, "/access/v1/evaluation", &question(PANIC)).await;
        let many = post(pdp, "/access/v1/evaluations", &batch).await;
        for answer in [&one, &many] {
            if answer.status != 200 {
                return Err(format!("{}: {}", answer.status, answer.text()));
            }
        }
        assert_eq!(one.json::<Value>()["decision"], false, "{}", one.text());
        let items: Vec<Value> = many.json::<Value>()["evaluations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["decision"].clone())
            .collect();
        assert_eq!(items, [json!(true), json!(false), json!(true)]);
    }
    Ok(())
}

/// Counts the records of questions that panicked; each is a deny, and says why.
fn panics_recorded(found: &[Value]) -> usize {
    let panicked = found
        .iter()
        .filter(|record| record["question"]["subject"]["id"] == PANIC);
    for record in panicked.clone() {
        assert_eq!(record["decision"]["verdict"], "deny", "{record}");
        assert_eq!(record["decision"]["reason"], "engine_fault", "{record}");
    }
    panicked.count()
}

/// F22: a panic in the engine is a recorded deny, the process lives, and nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_evaluator_panics() {
    let row = Row::new("F22");
    let Some(postgres) = Pg::start() else { return };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let unprotected = plan.beside().without("CatchPanic").start().await;
    let control = panics_are_denied(&unprotected, 1).await.unwrap_err();
    assert!(control.contains("500"), "{control}");
    assert_eq!(panics_recorded(&records(&unprotected).await), 0);
    // Only this build can be made to panic; nothing is switched off in it.
    let mut pdp = plan.without("").start().await;
    let load = Load::start(&pdp, 3, Duration::from_millis(5));
    load.until_decided(20).await;
    panics_are_denied(&pdp, 20).await.unwrap();
    load.until_decided(20).await;
    let calls = load.stop().await;
    assert!(pdp.ended().is_none(), "{}", pdp.output());
    assert_eq!(panics_recorded(&records(&pdp).await), 40);
    let all = recorded(&pdp).await;
    for call in &calls {
        let Outcome::Decided { id, permit, .. } = &call.outcome else {
            panic!("{call:?}")
        };
        assert_eq!(*permit, call.agent == "invoice-bot", "{call:?}");
        assert_eq!(all.get(id), Some(permit), "{call:?}");
    }
    row.passed(
        &format!(
            "40 panics denied and recorded, {} others served meanwhile",
            calls.len()
        ),
        &format!("failed as it must: answered {control:.3}, and not recorded"),
    );
}

/// What one client does: how much of its request it sends, and how many microseconds later it goes.
#[derive(Debug, Clone, Copy)]
struct Leaver {
    part: f64,
    after: u64,
}

/// What a client knew when it went.
#[derive(Debug)]
struct Left {
    name: String,
    /// Whether it had sent all of its request.
    asked: bool,
    /// Whether it had the whole answer.
    answered: bool,
}

/// Asks a batch about an agent that nobody else asks about, and goes.
fn leave(pdp: &(String, String), name: String, leaver: Leaver) -> Left {
    let (url, key) = pdp;
    let batch = json!({ "evaluations": vec![question(&name); BATCH] }).to_string();
    let request = format!(
        "POST /access/v1/evaluations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{batch}",
        batch.len()
    );
    let mut socket: TcpStream = raw::connect(raw::address(url));
    let whole = request.len();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a few hundred bytes"
    )]
    let sent = ((whole as f64 * leaver.part) as usize).min(whole);
    socket.write_all(&request.as_bytes()[..sent]).unwrap();
    std::thread::sleep(Duration::from_micros(leaver.after));
    socket.set_nonblocking(true).unwrap();
    let mut answer = vec![0; 64 << 10];
    let length = socket.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    // A part of an answer is none.
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Left {
        name,
        asked: sent == whole,
        answered: answer.starts_with("HTTP/1.1 200")
            && body.is_some_and(|body| serde_json::from_str::<Value>(body).is_ok()),
    }
}

/// Lets all clients come and go, four at a time.
async fn come_and_go(pdp: &Pdp, leavers: &[Leaver]) -> Vec<Left> {
    let mut crowd = tokio::task::JoinSet::new();
    for (part, leavers) in leavers.chunks(leavers.len().div_ceil(4)).enumerate() {
        let (leavers, pdp) = (leavers.to_vec(), (pdp.url.clone(), pdp.key.clone()));
        crowd.spawn_blocking(move || {
            let gone = leavers.into_iter().enumerate();
            gone.map(|(number, leaver)| leave(&pdp, format!("gone-{part}-{number}"), leaver))
                .collect::<Vec<Left>>()
        });
    }
    crowd.join_all().await.into_iter().flatten().collect()
}

/// Checks that every batch is recorded wholly or not at all, and wholly when it was answered, as is every other answer.
///
/// Returns how many batches were recorded.
fn whole_or_not_at_all(left: &[Left], calls: &[Call], found: &[Value]) -> Result<usize, String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut ids = BTreeMap::<&str, bool>::new();
    for record in found {
        let subject = record["question"]["subject"]["id"].as_str().unwrap();
        *counts.entry(subject).or_default() += 1;
        let permit = record["decision"]["verdict"] == "permit";
        assert_eq!(ids.insert(record["id"].as_str().unwrap(), permit), None);
    }
    let mut whole = 0;
    for client in left {
        match counts.get(client.name.as_str()).copied().unwrap_or(0) {
            BATCH if client.asked => whole += 1,
            0 if !client.answered => {}
            other => return Err(format!("{other} of {BATCH} recorded: {client:?}")),
        }
    }
    for call in calls {
        if let Outcome::Decided { id, permit, .. } = &call.outcome
            && ids.get(id.as_str()) != Some(permit)
        {
            return Err(format!("answered and not recorded: {call:?}"));
        }
    }
    Ok(whole)
}

/// Sums what a metric counts under labels that contain `label`.
async fn sum(pdp: &Pdp, name: &str, label: &str) -> f64 {
    let page = pdp.operations("/metrics").await.unwrap().text();
    let lines = page
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Lets clients go away, checks that none is missed, and kills the server under the questions of others.
async fn survives_leavers(plan: &Plan, leavers: &[Leaver]) -> Result<(usize, usize), String> {
    let pdp = plan.start().await;
    let left = come_and_go(&pdp, leavers).await;
    // As many connections and requests as there is room for: a single place that was not given back would be missed.
    let load = Load::start(&pdp, ROOM, Duration::ZERO);
    load.until_decided(30 * ROOM).await;
    let mut calls = load.stop().await;
    for client in 0..ROOM {
        assert!(calls.iter().any(|call| call.client == client), "{client}");
    }
    for call in &calls {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    pdp.until("what was decided is what was recorded", || async {
        let decided = sum(&pdp, "remit_decisions_total", "mode=\"enforce\"").await;
        let taken = sum(&pdp, "remit_audit_records_total", "success").await;
        decided > 0.0 && (decided - taken).abs() < 0.5
    })
    .await;
    let load = Load::start(&pdp, ROOM, Duration::ZERO);
    load.until_decided(10 * ROOM).await;
    pdp.kill();
    calls.extend(load.stop().await);
    let pdp = plan.start().await;
    let found = records(&pdp).await;
    let whole = whole_or_not_at_all(&left, &calls, &found)?;
    assert!(pdp.stop().await.success());
    Ok((whole, left.iter().filter(|client| client.answered).count()))
}

/// F23: clients that go away at any moment split no batch, lose no record, and leave nothing behind that is held for them.
///
/// That the work goes on without its client has no switch of its own. The control answers before it records, so that
/// the same check finds answers without a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_clients_go_away() {
    let mut row = Row::new("F23");
    let Some(postgres) = Pg::start() else { return };
    let plan = Plan::new(&postgres.fresh_database())
        .prepared()
        .await
        .set("REMIT__LIMITS__CONNECTIONS", &ROOM.to_string())
        .set("REMIT__LIMITS__REQUESTS", &ROOM.to_string());
    let leavers: Vec<Leaver> = (0..CLIENTS)
        .map(|_| {
            // One in four goes before it has said all.
            let part = match row.below(4) {
                0 => f64::from(u32::try_from(row.below(1_000)).unwrap()) / 1_000.0,
                _ => 1.0,
            };
            // And one in four stays long enough to be answered, most times.
            let after = match row.below(4) {
                0 => 20_000 + row.below(60_000),
                _ => row.below(8_000),
            };
            Leaver { part, after }
        })
        .collect();
    let (whole, answered) = survives_leavers(&plan, &leavers).await.unwrap();
    assert!(
        answered > 0 && whole > answered && whole < CLIENTS,
        "{whole} {answered}"
    );
    let url = postgres.fresh_database();
    let unprotected = Plan::new(&url)
        .prepared()
        .await
        .without("RecordBeforeAnswer");
    let control = survives_leavers(&unprotected, &leavers[..40]).await;
    let control = control.unwrap_err();
    assert!(control.contains("not recorded"), "{control}");
    row.passed(
        &format!(
            "of {CLIENTS} batches {whole} were recorded, each whole, {answered} of them answered; no place was lost"
        ),
        "failed as it must: answered and not recorded",
    );
}
