//! F50: names that an attacker chooses, a million of them, leave nothing behind in memory.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use remit_tests::server::{Remit, send};
use reqwest::Method;
use serde_json::{Value, json};

use super::EVALUATION;

const BINARY: &str = env!("CARGO_BIN_EXE_remit");
/// How many member names a request may carry and still be read.
const NAMES: usize = 9_000;
/// What the process may have grown by once it has seen every kind of name; a million of them kept would be 40 MiB and more.
const GROWTH_KIB: u64 = 24 * 1024;
/// What it may have grown by after five times as many, where it grew by more at once: less than three fifths of that.
const GROWTH_IN_ALL_KIB: u64 = 3 * GROWTH_KIB;

/// Memory of a process that is in use, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.unwrap().trim().trim_end_matches(" kB");
    size.parse().unwrap()
}

/// Asks one question whose context has `NAMES` members nobody has used before.
async fn ask(remit: &Remit, round: usize) -> usize {
    let mut context = String::new();
    for number in 0..NAMES {
        write!(context, "\"n{round}x{number}\":0,").unwrap();
    }
    let context = context.trim_end_matches(',');
    let body = format!(
        "{{\"subject\":{{\"type\":\"Agent\",\"id\":\"s{round}\"}},\"action\":{{\"name\":\"call\"}},\
         \"resource\":{{\"type\":\"Tool\",\"id\":\"r{round}\"}},\"context\":{{{context}}}}}"
    );
    let request = remit.request(Method::POST, EVALUATION);
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    NAMES + 2
}

/// Asks questions whose every name is new, and shows keys, request ids and paths that are.
async fn name(remit: &Remit, round: usize) -> usize {
    let mut items = Vec::new();
    for number in 0..50 {
        let own = format!("{round}y{number}");
        let action = if number % 2 == 0 {
            "call".to_owned()
        } else {
            format!("act{own}")
        };
        let kind = if number % 3 == 0 {
            format!("Kind{own}")
        } else {
            "Agent".to_owned()
        };
        items.push(json!({
            "subject": { "type": kind, "id": format!("s{own}") }, "action": { "name": action },
            "resource": { "type": "Tool", "id": format!("r{own}") },
        }));
    }
    let answer = remit
        .post("/access/v1/evaluations", &json!({ "evaluations": items }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let denied = answer.json::<Value>()["evaluations"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(denied, items.len());
    for number in 0..10 {
        let path = format!("/v1/entities/Agent/{round}z{number}");
        let request = remit.request(Method::GET, &path);
        let request = request.header("x-request-id", format!("id-{round}-{number}"));
        assert_eq!(send(request).await.status, 404);
        let path = format!("/nothing/{round}/{number}");
        assert_eq!(remit.get(&path).await.status, 404);
        let stranger = remit.request(Method::GET, "/v1/bundle");
        let key = format!("Bearer stranger-{round}-{number}");
        let mut request = stranger.build().unwrap();
        request
            .headers_mut()
            .insert("authorization", key.parse().unwrap());
        let answer = remit_tests::server::client()
            .execute(request)
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 401);
    }
    items.len() * 3 + 30
}

#[tokio::test(flavor = "multi_thread")]
async fn f50_a_million_names_leave_nothing_in_memory() {
    /// Rounds in which every kind of name is seen, as often as they are repeated.
    const ROUNDS: usize = 90;
    let remit = Remit::dev(BINARY).start().await;
    let series = async || {
        let metrics = reqwest::get(format!("{}/metrics", remit.operations))
            .await
            .unwrap();
        let text = metrics.text().await.unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let began = Instant::now();
    let all = async |from: usize| {
        let mut names = 0;
        for round in (from..from + ROUNDS).step_by(3) {
            let (one, two, three) = tokio::join!(
                ask(&remit, round),
                ask(&remit, round + 1),
                ask(&remit, round + 2)
            );
            names += one + two + three;
            if round % 6 == 0 {
                names += name(&remit, round).await;
            }
        }
        names
    };
    let mut names = all(0).await;
    let lines = series().await;
    let mut memory = vec![resident(remit.pid())];
    let grown = |memory: &[u64]| memory[memory.len() - 1].saturating_sub(memory[0]);
    // What is kept of names grows each time; what an allocator holds back does not.
    while memory.len() < 2 || grown(&memory) >= GROWTH_KIB && memory.len() < 6 {
        names += all(memory.len() * ROUNDS).await;
        memory.push(resident(remit.pid()));
    }
    let lines_after = series().await;
    println!(
        "{names} names in {:?}: {memory:?} KiB, one time after another; {lines} and {lines_after} lines of metrics",
        began.elapsed()
    );
    assert!(names > 1_000_000);
    let most = if memory.len() < 6 {
        GROWTH_KIB
    } else {
        GROWTH_IN_ALL_KIB
    };
    assert!(grown(&memory) < most, "{memory:?} KiB");
    assert!(
        lines_after <= lines + 5,
        "{lines} lines of metrics, then {lines_after}"
    );
}
