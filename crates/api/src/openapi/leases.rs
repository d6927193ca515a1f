//! The operation of leases.

use super::Operation;
use super::examples::{self, DECISION};
use crate::problem::Kind;

/// Returns the operation.
pub(super) fn operation() -> Operation {
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
        .gives(200, "The decision.", "Answer", &examples::answer(), &["X-Decision-Id", "Remit-Revision"])
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
