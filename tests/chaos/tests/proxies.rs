//! Another server in front of this one, which reads the same bytes in its own way: F28.
//!
//! The same corpus is sent straight to Remit in `tests/it/edge/smuggled.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use remit_chaos::pdp::binary;
use remit_chaos::{Front, Make, Manner, Row};
use remit_tests::raw;
use remit_tests::server::Remit;
use remit_tests::smuggling::{self, AT_A_TIME, CORPUS, Case, Outcome, PIPELINED, PLAIN, Recorded};
use serde_json::Value;

/// What came of the corpus behind one proxy.
#[derive(Debug, Default)]
struct Counts {
    /// Answered with 200, and recorded once.
    served: usize,
    /// Refused by Remit, so the proxy had let it pass.
    refused: usize,
    /// Refused by the proxy itself.
    stopped: usize,
    /// Read as two requests by the proxy itself, and answered and recorded as two.
    two: usize,
    /// Plain questions that shared the proxy's connections with the corpus.
    plain: usize,
}

/// Puts the corpus in an order of this row, and as many plain questions after each round of it.
///
/// Whatever an odd request leaves behind on a connection to Remit, the next plain question would be read as its rest.
fn order(row: &mut Row) -> Vec<Case> {
    let mut corpus = CORPUS.to_vec();
    for last in (1..corpus.len()).rev() {
        let other = row.below(u64::try_from(last).unwrap() + 1);
        corpus.swap(last, usize::try_from(other).unwrap());
    }
    corpus
        .chunks(AT_A_TIME)
        .flat_map(|round| [round, &[PLAIN; AT_A_TIME]].concat())
        .collect()
}

/// Reads the page of all records once that of `agent` is on it.
async fn records(remit: &Remit, agent: &str) -> Value {
    let deadline = Instant::now() + raw::PATIENCE;
    loop {
        let page: Value = remit.get("/v1/decisions?limit=1000").await.json();
        if smuggling::recorded(&page)
            .iter()
            .any(|one| one.agent == agent)
        {
            return page;
        }
        assert!(Instant::now() < deadline, "{agent} is not recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the proxy itself read two requests, which are then the client's own and nothing smuggled: each has an answer
/// on the client's connection, in order, that is recorded as its own and once.
fn read_as_two(outcome: &Outcome, records: &[Recorded]) -> bool {
    let mut answers = outcome.exchange.responses();
    answers.retain(|one| !one.header(Front::MARK).is_empty());
    let ids = |agent: &str| -> Vec<&str> {
        let of_agent = records.iter().filter(|one| one.agent == agent);
        of_agent.map(|one| one.id.as_str()).collect()
    };
    let [first, second] = answers.as_slice() else {
        return false;
    };
    let own: &[&str] = match first.status {
        200 => &[first.header("x-decision-id")],
        _ => &[],
    };
    ids(&outcome.front) == own && ids(&outcome.inside) == [second.header("x-decision-id")]
}

/// Says what is wrong with one exchange, and counts it otherwise.
fn judge(outcome: &Outcome, records: &[Recorded], counts: &mut Counts) -> Vec<String> {
    let (case, exchange) = (outcome.case, &outcome.exchange);
    let mut answers = exchange.responses();
    let all = answers.len();
    answers.retain(|one| !one.header(Front::MARK).is_empty());
    let statuses: Vec<u16> = answers.iter().map(|one| one.status).collect();
    let wrong = |what: &str| vec![format!("{}: {what}: {}", case.name, exchange.text())];
    match (case.direct, statuses.as_slice()) {
        (_, [200]) if case.name == PLAIN.name && all == 1 => counts.plain += 1,
        (_, _) if case.name == PLAIN.name => return wrong("not served"),
        // Who asks is nothing that a header without a key can say, and the proxy adds none.
        ([401], [200, ..]) => return wrong("served to nobody"),
        (_, [_, _]) if read_as_two(outcome, records) => {
            counts.two += 1;
            return Vec::new();
        }
        (_, [_, _, ..]) => return wrong("answered more than once"),
        (_, [200]) => counts.served += 1,
        (_, [_]) => counts.refused += 1,
        (_, []) => counts.stopped += 1,
    }
    smuggling::faults(std::slice::from_ref(outcome), records)
}

/// Sends the corpus through one proxy and checks that it carries nothing in.
async fn carries_nothing_in(make: Make, manner: Manner, cases: &[Case]) -> Option<Counts> {
    let remit = Remit::dev(binary().to_str().unwrap()).start().await;
    let front = Front::start(make, manner, raw::address(&remit.url))?;
    let (address, key, sent) = (front.address, remit.key.clone(), cases.to_vec());
    let sending = tokio::task::spawn_blocking(move || {
        let outcomes = smuggling::send(&sent, address, &key);
        let one = |case, after| smuggling::send_one(case, sent.len() + after, address, &key);
        (outcomes, one(PIPELINED, 0), one(PLAIN, 1))
    });
    let (outcomes, pair, last) = sending.await.unwrap();
    let page = records(&remit, &last.front).await;
    let recorded = smuggling::recorded(&page);
    let mut counts = Counts::default();
    let wrong: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| judge(outcome, &recorded, &mut counts))
        .collect();
    let shown = wrong.join("\n");
    assert!(wrong.is_empty(), "{make:?} {manner:?}:\n{shown}");
    // Everything was asked by the one key there is, whoever the headers named.
    let mut callers: Vec<&Value> = page["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["caller"]["key"])
        .collect();
    callers.dedup();
    assert!(callers.len() == 1 && callers[0].is_string(), "{callers:?}");
    // Nothing is proven where the proxy lets nothing pass, or where a second request could not be seen.
    assert!(counts.served > 0 && counts.refused > 0, "{counts:?}");
    assert!(read_as_two(&pair, &recorded), "{}", pair.exchange.text());
    let noticed = smuggling::faults(&[pair], &recorded);
    assert!(noticed.concat().contains("was served"), "{noticed:?}");
    Some(counts)
}

/// Starts a proxy for two clients that takes all that comes on a connection for one request, with one answer.
///
/// It puts both clients on one connection, as the others do; that is how one client's answer becomes another's.
fn careless(behind: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut behind = BufReader::new(raw::connect(behind));
        for client in listener.incoming().take(2) {
            let mut client = client.unwrap();
            let mut request = vec![0; 64 << 10];
            let length = client.read(&mut request).unwrap();
            behind.get_mut().write_all(&request[..length]).unwrap();
            client.write_all(&one_answer(&mut behind)).unwrap();
        }
        // The last request is still being answered: a connection that is reset would take it away.
        let _ = behind.read_to_end(&mut Vec::new());
    });
    address
}

/// Reads the bytes of one answer that says how long it is.
fn one_answer(behind: &mut BufReader<TcpStream>) -> Vec<u8> {
    let (mut answer, mut length) = (Vec::new(), 0);
    loop {
        let start = answer.len();
        behind.read_until(b'\n', &mut answer).unwrap();
        let line = String::from_utf8_lossy(&answer[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let head = answer.len();
    answer.resize(head + length, 0);
    behind.read_exact(&mut answer[head..]).unwrap();
    answer
}

/// Smuggles a request through a careless proxy, and returns what the check finds.
async fn control() -> Vec<String> {
    let remit = Remit::dev(binary().to_str().unwrap()).start().await;
    let (address, key) = (careless(raw::address(&remit.url)), remit.key.clone());
    let sending = tokio::task::spawn_blocking(move || {
        let one = |case, number| smuggling::send_one(case, number, address, &key);
        [one(PIPELINED, 0), one(PLAIN, 1)]
    });
    let outcomes = sending.await.unwrap();
    let page = records(&remit, &outcomes[1].front).await;
    smuggling::faults(&outcomes, &smuggling::recorded(&page))
}

/// Sends the corpus through a proxy in each manner, at the same time.
async fn behind(mut row: Row, make: Make) {
    let Some(version) = make.version() else {
        return;
    };
    let cases = order(&mut row);
    let (usual, lenient) = tokio::join!(
        carries_nothing_in(make, Manner::Default, &cases),
        carries_nothing_in(make, Manner::Lenient, &cases)
    );
    let (Some(usual), Some(lenient)) = (usual, lenient) else {
        return;
    };
    let found = control().await.concat();
    assert!(found.contains("the request inside was served"), "{found}");
    assert!(found.contains("is recorded as Some(\"inside-"), "{found}");
    let told = |manner: &str, counts: &Counts| {
        format!(
            "{manner}: {} served and recorded once, {} refused by Remit, {} by the proxy, {} read as two by the proxy \
             itself, {} plain ones between served",
            counts.served, counts.refused, counts.stopped, counts.two, counts.plain
        )
    };
    row.passed(
        &format!(
            "{} requests through {version}; {}; {}; nothing smuggled was served",
            CORPUS.len(),
            told("by default", &usual),
            told("lenient", &lenient)
        ),
        "failed as it must: through a careless proxy one was served, and its answer given to the next client",
    );
}

/// F28: nothing that nginx passes on carries a second request in, or another identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f28_smuggled_through_nginx() {
    behind(Row::new("F28"), Make::Nginx).await;
}

/// F28: nothing that haproxy passes on carries a second request in, or another identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f28_smuggled_through_haproxy() {
    behind(Row::new("F28"), Make::Haproxy).await;
}
