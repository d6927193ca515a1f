//! F28: requests that two servers in a row could understand differently: none of them carries a second one in.

use std::thread;
use std::time::{Duration, Instant};

use remit_tests::raw;
use remit_tests::smuggling::{self, CORPUS, Outcome, PIPELINED, Recorded};

use super::{answers, get, served};
use crate::serve::Server;

/// Reads the records once that of the last question, `agent`, is among them.
fn records(server: &Server, agent: &str) -> Vec<Recorded> {
    let deadline = Instant::now() + raw::PATIENCE;
    loop {
        let found = smuggling::recorded(&get(server, "/v1/decisions?limit=1000"));
        if found.iter().any(|one| one.agent == agent) {
            return found;
        }
        assert!(Instant::now() < deadline, "{agent} is not recorded");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn f28_no_request_carries_a_second_one_in() {
    let server = served(&[]);
    let address = raw::address(&server.url);
    let mut outcomes = smuggling::send(CORPUS, address, &server.key);
    let mut wrong: Vec<String> = outcomes.iter().filter_map(unexpected).collect();
    // Where a second request is meant, it is served and noticed, so the search below does find one.
    let pair = smuggling::send_one(PIPELINED, CORPUS.len(), address, &server.key);
    wrong.extend(unexpected(&pair));
    let records = records(&server, &pair.inside);
    let noticed = smuggling::faults(std::slice::from_ref(&pair), &records);
    assert!(
        noticed.iter().any(|fault| fault.contains("was served")),
        "{noticed:?}"
    );
    wrong.extend(smuggling::faults(&outcomes, &records));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    outcomes.retain(|one| one.exchange.statuses() == [200]);
    println!(
        "smuggling corpus: {} requests, {} answered 200 and recorded once, 0 second requests served",
        CORPUS.len(),
        outcomes.len()
    );
    answers(&server);
}

/// Says where the answers are not the expected ones, or the connection outlives a refusal.
fn unexpected(outcome: &Outcome) -> Option<String> {
    let (case, exchange) = (outcome.case, &outcome.exchange);
    let ends = |one: &raw::Response| one.header("connection") == "close";
    let open = !exchange.closed && exchange.responses().iter().any(ends);
    (exchange.statuses() != case.direct || open).then(|| {
        format!(
            "{}: {:?} instead of {:?}, closed {}, {:?}",
            case.name,
            exchange.statuses(),
            case.direct,
            exchange.closed,
            exchange.text().lines().last()
        )
    })
}
