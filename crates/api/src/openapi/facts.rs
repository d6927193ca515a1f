//! Schemas of what Remit knew when it decided. The shapes are those of `remit-core`.

use remit_core::{Dimension, Standing, TaskState};
use serde_json::{Value, json};

use super::reference;

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn texts(about: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true, "description": about })
}

fn object(about: &str) -> Value {
    json!({ "type": "object", "description": about })
}

fn hash(about: &str) -> Value {
    json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": about })
}

/// Returns the schemas of facts and of what a denial says of them.
pub(super) fn schemas() -> Value {
    let dimensions: Vec<&str> = Dimension::ALL.iter().map(|one| one.as_str()).collect();
    let standings: Vec<&str> = Standing::ALL.iter().map(|one| one.as_str()).collect();
    let states: Vec<&str> = TaskState::ALL.iter().map(|one| one.as_str()).collect();
    json!({
        "Dimension": { "type": "string", "enum": dimensions, "description": "A dimension in which a task is limited." },
        "Limit": {
            "type": "object", "description": "Which limit a denial met, where the reason alone does not say.",
            "properties": {
                "dimension": reference("Dimension"),
                "hop": { "type": "integer", "minimum": 1, "description": "Which hop of the chain of delegation, from 1 for whoever handed the task to the subject." },
                "principal": reference("EntityUid"), "reason": reference("Reason"),
            },
        },
        "AgentFacts": {
            "type": "object", "description": "What was known of an agent.", "required": ["standing"],
            "properties": {
                "standing": { "type": "string", "enum": standings, "description": "How it stood." },
                "presented_build": text("What it proved to be built of (`context.build`)."),
                "registered": object("Its entry in the registry, as it was."), "revision": reference("Revision"),
            },
        },
        "TaskFacts": {
            "type": "object", "description": "What was known of a task.", "required": ["id", "state"],
            "properties": {
                "id": { "type": "string", "format": "uuid", "description": "Which." },
                "state": { "type": "string", "enum": states, "description": "How it stood, the tasks above it and the time considered." },
                "declaration": object("What was declared; absent where there is no such task."), "digest": hash("The SHA-256 of the declaration."),
                "depth": { "type": "integer", "minimum": 0, "description": "How many hops it is from the task that nobody handed on." },
                "labels": texts("What it had touched."), "exhausted": reference("Dimension"),
                "trusted_sinks": texts("Those of the call's sinks and links that were declared, stand in the intent, or came from a trusted tool."),
            },
        },
        "CallFacts": {
            "type": "object", "description": "What was known of the call.",
            "properties": {
                "sinks": texts("Whom and what it affects, by the catalogue."), "links": texts("The links and addresses in its arguments."),
                "digest": hash("The SHA-256 of the canonical JSON of agent, task, action, resource and arguments."),
                "presented_tool": text("The hash of the tool's descriptor that the caller sees (`context.tool_hash`)."),
                "raises": texts("The labels that a permit brings onto the task."),
                "charges": object("What it uses of the budgets."),
            },
        },
        "Hop": {
            "type": "object", "description": "One principal on whose authority the subject acts; it must be allowed the same.", "required": ["principal"],
            "properties": { "principal": reference("EntityUid"), "agent": reference("AgentFacts"), "task": reference("TaskFacts") },
        },
        "Facts": {
            "type": "object", "description": "What Remit knew of its own knowledge.",
            "required": ["now", "caller", "environment", "approved"],
            "properties": {
                "now": { "type": "string", "format": "date-time", "description": "When it was asked." },
                "caller": { "type": "string", "format": "uuid", "description": "The asking key." },
                "environment": text("The key's environment."), "approved": { "type": "boolean" },
                "agent": reference("AgentFacts"), "task": reference("TaskFacts"), "call": reference("CallFacts"),
                "tool": object("The tool of the catalogue, as it was."), "kill": object("The kill that stopped it."),
                "subject_not_yours": { "type": "boolean", "description": "Whether the asking key is an agent's own, and the subject another." },
                "hops": { "type": "array", "items": reference("Hop"), "description": "The chain of delegation, nearest first." },
            },
        },
    })
}
