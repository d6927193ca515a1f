//! How the operations of tasks are asked.

use serde_json::{Value, json};

use super::Recipe;

/// A task that nobody has: whoever may is told so.
const NONE: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20";

/// Returns a request for an operation of tasks.
pub(super) fn recipe(id: &str) -> Option<Recipe> {
    let task = |verb: &str| format!("/v1/tasks/{NONE}{verb}");
    let template = "/v1/task-templates/pay-invoices";
    let (path, body) = match id {
        "list_tasks" => ("/v1/tasks".to_owned(), Value::Null),
        // Below a task that is not there.
        "create_task" => (
            "/v1/tasks".to_owned(),
            json!({ "agent": { "type": "Agent", "id": "invoice-bot" }, "purpose": "pay", "parent": NONE }),
        ),
        "get_task" => (task(""), Value::Null),
        "narrow_task" => (task("/narrow"), json!({})),
        "complete_task" => (task("/complete"), Value::Null),
        "revoke_task" => (task("/revoke"), Value::Null),
        "suspend_task" => (task("/suspend"), Value::Null),
        "resume_task" => (task("/resume"), Value::Null),
        "endorse_task" => (
            task("/endorse"),
            json!({ "labels": ["untrusted"], "reason": "it was read" }),
        ),
        "list_task_templates" => ("/v1/task-templates".to_owned(), Value::Null),
        "get_task_template" | "delete_task_template" => (template.to_owned(), Value::Null),
        "put_task_template" => (template.to_owned(), json!({})),
        _ => return None,
    };
    Some(Recipe {
        path,
        // Only over what is there, so that no tenant has anything to be read.
        condition: (id == "put_task_template").then_some(("if-match", "*")),
        body,
    })
}
