//! A small bundle whose answers a test can work out: agents that may call while they are active.

use serde_json::{Value, json};

/// The bundle, with a forbid for each tool named.
pub fn bundle(forbidden: &[&str]) -> Value {
    let mut policies = vec![json!({
        "file": "agents.cedar",
        "text": "@id(\"active\")\npermit (principal is Agent, action, resource is Tool)\n\
            when { principal has status && principal.status == \"active\" };\n",
    })];
    policies.extend(
        forbidden
            .iter()
            .map(|tool| json!({ "file": format!("{tool}.cedar"), "text": forbid(tool) })),
    );
    json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity Agent = { status?: String };\nentity Tool;\n\
                action call appliesTo { principal: [Agent], resource: [Tool] };\n",
        }],
        "policies": policies,
    })
}

/// A policy that forbids one tool, under an id that is its name.
pub fn forbid(tool: &str) -> String {
    format!("@id(\"{tool}\")\nforbid (principal, action, resource == Tool::\"{tool}\");\n")
}

/// An agent that is active, or is not.
pub fn agent(active: bool) -> Value {
    json!({ "attrs": { "status": if active { "active" } else { "suspended" } } })
}

/// Asks whether an agent may call a tool that nobody forbids.
pub fn question(agent: &str) -> Value {
    about(agent, "mail.send")
}

/// Asks whether an agent may call a tool.
pub fn about(agent: &str, tool: &str) -> Value {
    json!({
        "subject": { "type": "Agent", "id": agent }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": tool },
    })
}
