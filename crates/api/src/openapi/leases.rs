//! The operations of leases and revocations.

use serde_json::json;

use super::Operation;
use super::examples::{self, DECISION};
use crate::problem::Kind;

/// What a reader gets that begins, and one kill later.
const STREAM: &str = "\
: revision 42

id: 42
event: ready
data: {\"revision\":42}

id: 43
event: revoked
data: {\"changes\":[{\"kind\":\"kill_set\",\"kill\":\"019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20\",\"target\":{\"kind\":\"tenant\"}}],\"revision\":43}

";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![renew(), watch()]
}

fn renew() -> Operation {
    let path = "/v1/leases/{id}";
    Operation::new("POST", path, "renew_lease", "Decisions")
        .says(
            "Renew a lease",
            "Decides the question of a permit that has `context.lease` again, on what is known now, for the principal that \
             asked it. What the permit took of budgets and approvals is not taken again. A permit has a new lease of the same \
             id; a deny has none and ends it for good. 409 `lease-over` where the decision has no lease, renews another, ended \
             or is older than leases last (24 hours, unless configured otherwise). A decision that another replica has just \
             made is waited for, up to two seconds.",
        )
        .scope("evaluate")
        .part("id", "The id of the lease, which is that of the permit.", DECISION)
        .gives(
            200,
            "The decision.",
            "Answer",
            &examples::answer(),
            &["X-Decision-Id", "Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::LEASE_OVER,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::REVISION_NOT_REACHED,
            Kind::LOG_UNAVAILABLE,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn watch() -> Operation {
    let follow = json!({ "type": "boolean", "default": true });
    Operation::new("GET", "/v1/revocations", "watch_revocations", "Decisions")
        .says(
            "Watch revocations",
            "Tells an enforcement point of everything that it may have cached by and that is different now, as soon as it is in \
             force on the replica that answers: server-sent events. `ready` begins a stream; `revoked` has the `changes` of one \
             `revision`, all of them in one event; `gap` says that something may have been missed: drop what you cached. A \
             comment says every five seconds which revision is in force; nothing for 15 seconds is a gap, too. The id of an \
             event is its revision, which any replica takes in `Last-Event-ID`. At most 64 streams of a tenant at once.",
        )
        .scope("evaluate")
        .query(
            "follow",
            &follow,
            "Whether to wait for more once everything is told.",
            &json!(true),
        )
        .header(
            "Last-Event-ID",
            "The id of the last event that was read: what came after it is told first.",
            "42",
        )
        .gives_lines("What is different.", "text/event-stream", STREAM)
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::REVISION_NOT_REACHED,
        ])
}
