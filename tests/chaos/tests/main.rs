//! The failures that Remit must survive, one test a row, named after it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking, and tells why on the terminal"
)]

mod clients;
mod clock;
mod database;
mod disk;
mod fleet;
mod ledger;
mod listening;
mod log;
mod partition;
mod process;
mod proxies;
mod publish;
mod slow;
mod small;
mod state;
mod upgrade;

use std::collections::BTreeMap;

use remit_chaos::Pdp;
use serde_json::Value;

/// Waits until everything recorded is in the database.
async fn all_shipped(pdp: &Pdp) {
    pdp.until("all is shipped", || async {
        pdp.metric("remit_audit_unshipped_records").await < 0.5
    })
    .await;
}

/// Lists every decision in the database, once all are shipped: whether each was permitted. One listed twice is a failure.
async fn recorded(pdp: &Pdp) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for record in records(pdp).await {
        let id = record["id"].as_str().unwrap().to_owned();
        let permit = record["decision"]["verdict"] == "permit";
        assert_eq!(found.insert(id, permit), None);
    }
    found
}

/// Lists the record of every decision in the database, once all are shipped.
async fn records(pdp: &Pdp) -> Vec<Value> {
    all_shipped(pdp).await;
    let mut found = Vec::new();
    let mut path = "/v1/decisions?limit=500".to_owned();
    loop {
        let answer = pdp.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page: Value = answer.json();
        found.extend(page["decisions"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/decisions?limit=500&cursor={next}"),
            None => return found,
        }
    }
}
