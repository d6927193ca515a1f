//! The operations around exceptions and leases, and the proposal that is restored for them.

use std::time::Duration;

use remit_core::{ExceptionId, ExceptionScope, PolicyId};
use remit_store::{Change, ExceptionBy, ProposedException};
use serde_json::{Value, json};

use super::{Recipe, World};

/// A policy of the bundle that forbids.
const CONTROL: &str = "spare";

/// Returns a request for an operation, or `None` for one that this table does not know yet.
pub(super) fn recipe(world: &World, id: &str) -> Option<Recipe> {
    let (exception, hash) = &world.exception;
    let one = format!("/v1/exceptions/{exception}");
    let (path, body) = match id {
        "list_exceptions" => ("/v1/exceptions".to_owned(), Value::Null),
        // The policy is none of the bundle's, so that none is made: what is asked first is who may.
        "propose_exception" => (
            "/v1/exceptions".to_owned(),
            json!({
                "policy": "nowhere", "scope": { "action": "call" }, "owner": "grantee", "reason": "x",
                "compensating": "x", "until": "2026-01-06T00:00:00Z",
            }),
        ),
        "get_exception" => (one, Value::Null),
        "confirm_exception" => (format!("{one}/confirm"), json!({ "seen": hash })),
        // The decision has none, which is told to whoever asked for it.
        "renew_lease" => (format!("/v1/leases/{}", world.decision), Value::Null),
        // It ends once everything is told.
        "watch_revocations" => ("/v1/revocations?follow=false".to_owned(), Value::Null),
        "end_exception" => (format!("{one}/end"), Value::Null),
        _ => return None,
    };
    Some(Recipe {
        path,
        condition: None,
        body,
    })
}

// === impl World ===

impl World {
    /// Puts a proposal in the place of one that does not wait any more.
    pub(super) async fn propose(&mut self) {
        let (store, tenant) = (&self.test.store, self.test.tenant);
        let at = self.test.clock.now();
        let waits = match self.exception.0.parse::<ExceptionId>() {
            Ok(id) => store.exception(tenant, id).await.unwrap(),
            Err(_) => None,
        };
        if waits.is_some_and(|found| found.waits(at)) {
            return;
        }
        let keys = store.keys(tenant).await.unwrap();
        let mut keys = keys.iter();
        // A person in the role that may propose; who confirms it is another.
        let publisher = keys.find(|key| key.principal.name.as_str() == "publisher");
        let publisher = publisher.unwrap();
        let proposed = ProposedException {
            compensating: "x".to_owned(),
            id: ExceptionId::from_uuid(self.test.clock.id()),
            owner: "grantee".parse().unwrap(),
            policy: PolicyId::new(CONTROL),
            reason: "x".to_owned(),
            scope: ExceptionScope {
                action: Some("call".into()),
                ..ExceptionScope::default()
            },
            until: at.plus(Duration::from_hours(24)),
        };
        let by = ExceptionBy {
            name: publisher.principal.name.clone(),
            key: publisher.id,
            at,
        };
        let lapses_at = at.plus(Duration::from_hours(1));
        let made = store.propose_exception(tenant, &proposed, (&by, lapses_at), Change::default());
        made.await.unwrap();
        let hash = proposed.hash().unwrap().to_string();
        self.exception = (proposed.id.to_string(), hash);
    }
}
