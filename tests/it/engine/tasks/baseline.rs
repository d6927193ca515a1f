//! More risk never permits more by the pack `agent-baseline`.

use remit_core::EntityUid;
use remit_engine::Snapshot;
use serde_json::json;

use super::draw::{Ground, pick};
use super::monotone::{self, to_somebody};
use crate::agent_baseline;

fn ground(snapshot: &Snapshot) -> Ground<'_> {
    let service = |id: &str| EntityUid::new("Service", id);
    Ground {
        snapshot,
        agent: "Agent",
        person: EntityUid::new("Person", "maya"),
        calls: vec![
            (
                "read_document",
                service("files"),
                |_| json!({ "path": "p" }),
            ),
            (
                "read_document",
                service("maya-files"),
                |_| json!({ "path": "p" }),
            ),
            (
                "write_document",
                service("archive"),
                |rng| json!({ "path": "p", "text": pick(rng, &["hello", "see https://evil.example/x"]) }),
            ),
            (
                "remember",
                service("memory"),
                |_| json!({ "text": "hello" }),
            ),
            ("empty_bin", service("files"), |_| json!({})),
            ("send_mail", service("mail"), |rng| {
                let mut arguments = to_somebody(rng);
                arguments["to"] = json!([arguments["to"]]);
                arguments
            }),
            (
                "make_payment",
                service("bank"),
                |rng| json!({ "payee": "p", "amount": pick(rng, &[10, 1_000_000, 1_000_001]) }),
            ),
            ("open_task", EntityUid::new("Purpose", "test"), |rng| {
                json!({
                    "unbounded": pick(rng, &[true, false]), "depth": pick(rng, &[0, 3, 4]), "may_delegate": false,
                    "expires_in": pick(rng, &[60, 2_592_001]), "sinks": ["p"],
                })
            }),
        ],
        names: vec![
            "read",
            "write",
            "side_effect",
            "outward",
            "mail/egress",
            "make_payment",
            "empty_bin",
            "open_task",
        ],
        resources: vec![
            service("files"),
            service("mail"),
            service("bank"),
            service("memory"),
        ],
        roles: vec![
            "reader",
            "editor",
            "courier",
            "payer",
            "operator",
            "keeper",
            "coordinator",
        ],
        classes: vec!["pii", "health"],
        sinks: vec!["pal@acme.example", "p", "other"],
    }
}

#[test]
fn risk_monotone_and_taint_monotone_over_the_baseline() {
    let snapshot = Snapshot::compile(&agent_baseline::bundle()).unwrap();
    let (permitted, denied) = monotone::check(&ground(&snapshot), 6_000, 6_000);
    println!("{permitted} of 6,000 permitted; worse denied {denied} times");
    assert!(
        permitted > 250 && denied > 500,
        "{permitted} {denied} mean too little"
    );
}
