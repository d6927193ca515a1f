//! Clients that are slow on purpose, by a tool that is made for it: F25.
//!
//! The same by our own sockets, chunked and idle ones among them, is in `tests/it/edge/slow.rs`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use remit_chaos::pdp::{binary, question};
use remit_chaos::{Row, Tool, tool};
use remit_tests::raw;
use remit_tests::server::Remit;
use serde_json::{Value, json};

/// How many decisions the longest page holds.
const DECISIONS: usize = 1_000;
/// Each deadline of the server, in milliseconds; the default ones are longer, and the same code.
const DEADLINE: &str = "3000";
/// How long the tool keeps its connections open when nobody closes them.
const LENGTH: Duration = Duration::from_secs(12);
/// No deadline at all, as far as the tool can see.
const NEVER: &str = "60000";
/// How long a healthy client may wait for its answer.
const HEALTHY: Duration = Duration::from_secs(10);
/// And how long most of them may.
const MOSTLY: Duration = Duration::from_secs(1);
/// How many sockets more than before may be open once the slow ones are gone: a healthy client's, and the tool's probe.
const FEW: usize = 4;
/// How the tool says that it is done: the server closed all its connections, or its time was up.
const ENDS: [&str; 2] = ["No open connections left", "Hit test time limit"];

/// One way of being slow.
#[derive(Debug, Clone, Copy)]
struct Attack {
    name: &'static str,
    /// How many connections the tool opens, within about a second.
    connections: usize,
    path: &'static str,
    arguments: &'static [&'static str],
}

/// A slow reader takes five bytes a second.
const ATTACKS: [Attack; 4] = [
    Attack {
        name: "headers",
        connections: 200,
        path: "/openapi.json",
        arguments: &["-H", "-i", "1"],
    },
    Attack {
        name: "body",
        connections: 200,
        path: "/access/v1/evaluation",
        arguments: &["-B", "-i", "1", "-s", "4096", "-f", "application/json"],
    },
    // The kernel takes these answers whole, and the connection stands idle for the server.
    Attack {
        name: "read",
        connections: 200,
        path: "/openapi.json",
        arguments: &["-X", "-z", "5", "-w", "10", "-y", "20", "-k", "3"],
    },
    // Of these, ten long pages on each connection, it cannot take all, and the server stands in the middle of one. The
    // connections are fewer, because the kernel holds some 4 MiB for each.
    Attack {
        name: "read of long pages",
        connections: 12,
        path: "/v1/decisions?limit=1000",
        arguments: &["-X", "-z", "5", "-w", "10", "-y", "20", "-k", "10"],
    },
];

/// What came of an attack that was fended off.
#[derive(Debug)]
struct Fended {
    most: usize,
    after: Duration,
    asked: usize,
    slowest: Duration,
}

/// Starts a server with these deadlines and a long page of decisions.
async fn served(deadline: &str) -> Remit {
    let mut plan = Remit::dev(binary().to_str().unwrap());
    for what in ["HEADER", "BODY", "IDLE", "WRITE"] {
        plan = plan.variable(&format!("REMIT__LIMITS__{what}_DEADLINE_MS"), deadline);
    }
    let remit = plan.start().await;
    let batch = json!({ "evaluations": vec![question("invoice-bot"); DECISIONS / 10] });
    for _ in 0..10 {
        let answer = remit.post("/access/v1/evaluations", &batch).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let until = Instant::now() + raw::PATIENCE;
    loop {
        let page: Value = remit.get("/v1/decisions?limit=1000").await.json();
        let found = page["decisions"].as_array().unwrap().len();
        if found == DECISIONS {
            return remit;
        }
        assert!(Instant::now() < until, "{found} of {DECISIONS} recorded");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Counts the sockets that a process has open.
fn sockets(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Asks a whole question on a connection of its own, and returns how long that took.
fn ask(remit: &Remit) -> Duration {
    let body = question("invoice-bot").to_string();
    let request = format!(
        "POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        remit.key,
        body.len()
    );
    let came = raw::exchange(raw::address(&remit.url), request.as_bytes());
    assert_eq!(came.statuses(), [200], "{}", came.text());
    came.took
}

/// Attacks a server, and checks that it closes what is slow while it serves who is not.
fn fends_off(remit: &Remit, program: &Path, attack: Attack) -> Result<Fended, String> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{}{}", remit.url, attack.path);
    let (connections, length) = (attack.connections.to_string(), LENGTH.as_secs().to_string());
    // The tool has no argument for a header of one's own, and sends this one as it stands. Without a key the server
    // would not wait for the body at all.
    let key = format!("a=b\r\nAuthorization: Bearer {}", remit.key);
    let mut arguments = vec![
        "-c",
        &connections,
        "-r",
        &connections,
        "-l",
        &length,
        "-p",
        "10",
    ];
    arguments.extend(attack.arguments);
    arguments.extend(["-j", &key, "-u", &url]);
    let pid = remit.pid();
    let before = sockets(pid);
    let began = Instant::now();
    let mut tool = Tool::start(program, &arguments, folder.path());
    let (mut most, mut left, mut after) = (0, 0, None);
    let mut asked = Vec::new();
    loop {
        let open = sockets(pid).saturating_sub(before);
        most = most.max(open);
        // Until its time is up the tool closes nothing itself.
        if began.elapsed() < LENGTH {
            left = open;
            if after.is_none() && most > attack.connections / 2 && left <= FEW {
                after = Some(began.elapsed());
            }
        }
        let runs = tool.runs();
        let waited = ask(remit);
        assert!(waited < HEALTHY, "a healthy client waited {waited:?}");
        asked.push(waited);
        if !runs {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "the tool does not end"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = tool.output();
    assert!(
        most > attack.connections / 2,
        "{most} connections at most\n{said}"
    );
    // It did not fail half-way, and its own client was served as well.
    let fine = ENDS.iter().any(|end| said.contains(end)) && !said.contains("NO");
    assert!(fine && said.contains("YES"), "{said}");
    asked.sort_unstable();
    assert!(
        asked[asked.len() / 2] < MOSTLY,
        "healthy clients waited: {asked:?}"
    );
    match after {
        Some(after) => Ok(Fended {
            most,
            after,
            asked: asked.len(),
            slowest: asked[asked.len() - 1],
        }),
        None => Err(format!("{left} sockets still open at the end")),
    }
}

/// F25: the server closes the slow connections of slowhttptest, of each kind, while a healthy client is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_slowhttptest() {
    let row = Row::new("F25");
    let Some(program) = tool::installed("slowhttptest", "slowhttptest") else {
        return;
    };
    let (remit, unprotected) = (served(DEADLINE).await, served(NEVER).await);
    let mut results = Vec::new();
    for attack in ATTACKS {
        let (fended, control) = std::thread::scope(|scope| {
            let control = scope.spawn(|| fends_off(&unprotected, &program, attack));
            let fended = fends_off(&remit, &program, attack);
            (fended, control.join().unwrap())
        });
        let fended = fended.unwrap_or_else(|error| panic!("{}: {error}", attack.name));
        let control = control.unwrap_err();
        assert!(control.contains("still open"), "{}: {control}", attack.name);
        results.push(format!(
            "slow {}: {} connections, all closed after {:.1} s, {} healthy questions answered, the slowest in {} ms",
            attack.name,
            fended.most,
            fended.after.as_secs_f64(),
            fended.asked,
            fended.slowest.as_millis()
        ));
    }
    row.passed(
        &results.join("; "),
        "failed as it must: without deadlines the connections stay open until the tool gives up",
    );
}
