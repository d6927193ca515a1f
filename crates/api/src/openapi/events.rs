//! The operation that tells what happens to access requests.

use super::Operation;
use crate::problem::Kind;

/// Returns the operation.
pub(super) fn operations() -> Vec<Operation> {
    vec![watch()]
}

fn watch() -> Operation {
    const EXAMPLE: &str = ": 2026-11-26T10:00:00.000000Z\n\nid: 43.0\nevent: access_request.created\n\
        data: {\"at\":\"2026-11-26T10:00:01.000000Z\",\"data\":{\"action\":\"pay\",\"groups\":[\"finance\"]},\
        \"kind\":\"access_request.created\",\"subject\":\"019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20\"}\n\n";
    Operation::new("GET", "/v1/approvals/events", "watch_approvals", "Approvals")
        .says(
            "Watch what happens to access requests",
            "A stream of server-sent events: every event of the tenant from now on, in the order of commits; with \
             `Last-Event-ID`, those that came after that one as well. Events are kept for a week: where some are not there any \
             more, `gap` comes first, and whoever reads asks for the whole again. The name of an event is its kind: \
             `access_request.created`, `.joined`, `.escalated`, `.approved`, `.denied`, `.expired`, `.cancelled`, \
             `approval.withdrawn`, `exception.…`; its data say when, of what (`subject`), and what there is to say. A comment \
             comes every five seconds. The stream ends when its key does not work any more, when whoever reads may not any \
             more, when the server stops, when ten seconds were not enough to take an event, and after an hour: come back with \
             the last id. A tenant reads at most 64 at once, all tenants 1,024: then 503 `overloaded`.",
        )
        .scope("approve")
        .header(
            "Last-Event-ID",
            "The last event that was seen.",
            "42.0",
        )
        .gives_lines("The events.", "text/event-stream", EXAMPLE)
        .fails(&[Kind::STORE_UNAVAILABLE])
}
