//! How the operations of access requests are asked.

use serde_json::{Value, json};

use super::Recipe;

/// A request that nobody has made: whoever may is told so.
const NONE: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c21";

/// Returns a request for an operation of access requests.
pub(super) fn recipe(id: &str) -> Option<Recipe> {
    let one = format!("/access/v1/requests/{NONE}");
    let (path, body) = match id {
        // About a decision that nobody has made.
        "create_access_request" => (
            "/access/v1/requests".to_owned(),
            json!({
                "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
                "resource": { "type": "Tool", "id": "mail.send" },
                "denial": { "evaluation_id": NONE, "expires_at": "2026-01-05T10:10:00Z" },
            }),
        ),
        "get_access_request" => (one, Value::Null),
        "cancel_access_request" | "delete_access_request" => (format!("{one}/cancel"), Value::Null),
        _ => return None,
    };
    Some(Recipe {
        path,
        condition: None,
        body,
    })
}
