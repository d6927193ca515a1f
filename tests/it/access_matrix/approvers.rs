//! How the operations of approvers are asked.

use serde_json::{Value, json};

use super::Recipe;

/// A request that nobody has: whoever may is told so.
const NONE: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c30";
const HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Returns a request for an operation of approvers.
pub(super) fn recipe(id: &str) -> Option<Recipe> {
    let request = |verb: &str| format!("/v1/approvals/{NONE}{verb}");
    let group = "/v1/approver-groups/finance";
    let part = "/v1/approver-delegations/approver";
    let (path, body) = match id {
        "list_approver_groups" => ("/v1/approver-groups".to_owned(), Value::Null),
        "get_approver_group" | "delete_approver_group" => (group.to_owned(), Value::Null),
        "put_approver_group" => (group.to_owned(), json!({ "members": [] })),
        "list_approver_delegations" => ("/v1/approver-delegations".to_owned(), Value::Null),
        "get_approver_delegation" | "delete_approver_delegation" => (part.to_owned(), Value::Null),
        "put_approver_delegation" => (
            part.to_owned(),
            json!({ "to": "approver", "until": "2026-01-06T00:00:00Z", "reason": "x" }),
        ),
        "list_approvals" => ("/v1/approvals".to_owned(), Value::Null),
        "count_approvals" => ("/v1/approvals/facets".to_owned(), Value::Null),
        "get_approval" => (request(""), Value::Null),
        "approve_request" => (request("/approve"), json!({ "seen": HASH })),
        "deny_request" => (request("/deny"), json!({ "seen": HASH, "reason": "x" })),
        "escalate_request" => (request("/escalate"), Value::Null),
        "withdraw_approval" => (request("/withdraw"), json!({ "reason": "x" })),
        _ => return None,
    };
    Some(Recipe {
        path,
        // Only over what is there, so that no tenant has anything to be read.
        condition: id.starts_with("put_").then_some(("if-match", "*")),
        body,
    })
}
