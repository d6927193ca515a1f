//! What a shadow could not judge: a gate does not pass by it, and who is gone is not told of.

use std::fs;

use remit_core::{ReplicaId, Revision};
use remit_store::{ShadowNote, ShadowTally};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde_json::json;

use super::{begin, counts, found, without_mail};
use crate::serve::Server;

/// An entity that is stored is the shadow's own as well: it can decide nothing.
#[test]
fn nothing_is_known_of_what_a_shadow_could_not_decide() {
    let server = Server::dev();
    let home = crate::cli::folder();
    let draft = crate::cli::starter(home.path());
    let entities = draft.join("entities.json");
    let mut own: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(&entities).unwrap()).unwrap();
    let mut agent = own
        .iter()
        .find(|one| one["uid"]["type"] == "Agent")
        .unwrap()
        .clone();
    agent["uid"]["id"] = json!("late-bot");
    own.push(agent.clone());
    fs::write(&entities, serde_json::to_string(&own).unwrap()).unwrap();
    let draft = draft.to_str().unwrap();
    server
        .run(&["policy", "shadow", "start", draft])
        .succeeds(&["in shadow since revision "]);
    let stored = home.path().join("late.json");
    fs::write(&stored, json!([agent]).to_string()).unwrap();
    server
        .run(&["entities", "import", stored.to_str().unwrap()])
        .succeeds(&[]);
    server
        .run(&[
            "decide",
            "-s",
            "Agent:invoice-bot",
            "-a",
            "call",
            "-r",
            "Tool:mail.list",
        ])
        .succeeds(&["permit"]);
    let status = ["policy", "shadow", "status"];
    server.run(&status).succeeds(&["1 decision failed"]);
    server
        .run(&[&status[..], &["--deny-loosening"]].concat())
        .fails(6, &["not known whether it loosens: 1 decision failed"]);
}

#[tokio::test]
async fn a_replica_that_is_gone_is_no_failure_and_what_it_counted_stays() {
    let test = TestApp::start(&pack("starter")).await;
    let begun = begin(&test, &without_mail()).await.json();
    let shadow = Revision::new(begun["revision"].as_u64().unwrap());
    let note = |failed: u64| ShadowNote {
        tally: ShadowTally {
            failed,
            failure: Some("it does not fit".to_owned()),
            ..ShadowTally::default()
        },
        groups: Vec::new(),
        disagreements: Vec::new(),
    };
    let gone = ReplicaId::from_uuid(test.clock.id());
    test.store
        .note_shadow(test.tenant, shadow, gone, &note(3))
        .await
        .unwrap();
    let told = found(&test).await;
    assert_eq!(counts(&told), [0, 0, 0, 0, 3], "{told:#}");
    assert_eq!(told["failures"], json!([]));
}
