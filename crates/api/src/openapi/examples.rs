//! The examples of the document. A test holds each against its schema.

use serde_json::{Value, json};

use crate::problem::Kind;

pub(super) const HASH: &str =
    "sha256:6fa2c1f9d1f7e0b56d4c7d2f0a7c4bb3b4d8be0a7f60b02a1f8e19d9c0f1a2b3";
pub(super) const DECISION: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
pub(super) const KEY: &str = "019aa8e0-11d4-7a30-8f52-6d1c7b9e4f01";
const TENANT: &str = "019aa8df-f0a2-7c11-b0aa-5b7f3c2d1e00";

pub(super) fn problem(kind: &Kind) -> Value {
    let mut body = json!({
        "type": kind.urn(),
        "code": kind.code,
        "title": kind.title,
        "status": kind.status,
        "request_id": "0d6c2f6e7a1b4f0f",
    });
    if kind == Kind::POLICY_INVALID
        && let Some(members) = body.as_object_mut()
    {
        members.insert("diagnostics".to_owned(), json!([diagnostic("error")]));
    }
    body
}

fn diagnostic(severity: &str) -> Value {
    json!({
        "severity": severity, "code": "missing_id", "message": "this policy has no `@id`", "file": "payments.cedar",
        "span": {
            "start": 0, "end": 41, "start_line": 1, "start_column": 1, "end_line": 1, "end_column": 42,
            "utf16_start": 0, "utf16_end": 41, "utf16_start_column": 1, "utf16_end_column": 42,
        },
    })
}

pub(super) fn question() -> Value {
    json!({
        "subject": { "type": "Agent", "id": "invoice-bot" },
        "action": { "name": "call", "properties": { "to": "maya@fernhill.example" } },
        "resource": { "type": "Tool", "id": "mail.send" },
    })
}

pub(super) fn answer() -> Value {
    json!({ "decision": true, "context": {
        "evaluation_id": DECISION,
        "reason": "policy_permit", "message": "A policy permits it and none forbids it.",
        "policies": ["reader-floor"], "revision": 42,
    } })
}

pub(super) fn questions() -> Value {
    json!({
        "subject": { "type": "Agent", "id": "invoice-bot" },
        "action": { "name": "call" },
        "evaluations": [
            { "resource": { "type": "Tool", "id": "mail.list" } },
            { "resource": { "type": "Tool", "id": "mail.delete" } },
        ],
        "options": { "evaluations_semantic": "execute_all" },
    })
}

pub(super) fn answers() -> Value {
    json!({ "evaluations": [{ "decision": true }, { "decision": false }] })
}

pub(super) fn subject_query() -> Value {
    json!({
        "subject": { "type": "Agent" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.send" },
        "page": { "limit": 50 },
    })
}

pub(super) fn resource_query() -> Value {
    json!({ "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool" } })
}

pub(super) fn action_query() -> Value {
    json!({ "subject": { "type": "Agent", "id": "invoice-bot" }, "resource": { "type": "Document", "id": "invoice-4471" } })
}

pub(super) fn found(kind: &str, id: &str) -> Value {
    json!({ "page": { "next_token": "" }, "results": [{ "type": kind, "id": id }] })
}

pub(super) fn found_actions() -> Value {
    json!({ "results": [{ "name": "read_data" }, { "name": "send_data" }] })
}

pub(super) fn metadata() -> Value {
    let url = |path: &str| format!("https://pdp.example.com{path}");
    json!({
        "policy_decision_point": url(""),
        "access_evaluation_endpoint": url("/access/v1/evaluation"),
        "access_evaluations_endpoint": url("/access/v1/evaluations"),
        "search_subject_endpoint": url("/access/v1/search/subject"),
        "search_resource_endpoint": url("/access/v1/search/resource"),
        "search_action_endpoint": url("/access/v1/search/action"),
    })
}

pub(super) fn bundle() -> Value {
    json!({
        "schema": [{ "file": "schema.cedarschema", "text": "entity Agent;\nentity Tool;\naction call appliesTo { principal: [Agent], resource: [Tool] };\n" }],
        "policies": [{ "file": "tools.cedar", "text": "@id(\"mail-for-all\")\npermit (principal is Agent, action == Action::\"call\", resource == Tool::\"mail.send\");\n" }],
        "cases": [{
            "name": "an agent may send mail",
            "question": { "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.send" } },
            "expect": { "decision": "permit", "reason": "policy_permit", "because": ["mail-for-all"] },
        }],
    })
}

pub(super) fn bundle_applied() -> Value {
    json!({ "revision": 42, "hash": HASH, "policies": 1, "warnings": [], "loosens": false })
}

pub(super) fn bundle_checked() -> Value {
    json!({ "valid": false, "hash": HASH, "policies": 0, "diagnostics": [diagnostic("error")], "cases": [] })
}

pub(super) fn entity_body() -> Value {
    json!({
        "attrs": { "status": "active", "trust": 2, "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": "reader" }],
    })
}

pub(super) fn entity() -> Value {
    let mut entity = entity_body();
    if let Some(members) = entity.as_object_mut() {
        members.insert(
            "uid".to_owned(),
            json!({ "type": "Agent", "id": "invoice-bot" }),
        );
    }
    entity
}

pub(super) fn entity_page() -> Value {
    json!({ "entities": [entity()] })
}

pub(super) fn entity_changes() -> Value {
    json!([entity(), { "remove": { "type": "Agent", "id": "old-bot" } }])
}

/// The same changes as NDJSON.
pub(super) fn entity_lines() -> String {
    format!(
        "{}\n{}\n",
        entity(),
        json!({ "remove": { "type": "Agent", "id": "old-bot" } })
    )
}

pub(super) fn entities_applied() -> Value {
    json!({ "revision": 43, "written": 1, "removed": 1 })
}

fn decision() -> Value {
    json!({
        "verdict": "deny", "reason": "policy_forbid", "determining": ["active-agents"],
        "obligations": [{ "policy": "active-agents", "annotations": { "severity": "high" } }],
        "revision": 42, "bundle": HASH,
    })
}

pub(super) fn record() -> Value {
    json!({
        "id": DECISION, "tenant": TENANT, "at": "2026-11-22T09:30:00.000000Z",
        "caller": { "key": KEY, "request_id": "0d6c2f6e7a1b4f0f" },
        "question": question(),
        "facts": { "now": "2026-11-22T09:30:00.000000Z", "caller": KEY, "environment": "live", "approved": false },
        "decision": decision(), "duration_us": 38,
    })
}

pub(super) fn decision_page() -> Value {
    json!({ "decisions": [record()] })
}

pub(super) fn explained() -> Value {
    json!({
        "id": DECISION, "against": "recorded", "entities": "recorded", "recorded": decision(), "reproduced": true,
        "explanation": { "decision": decision(), "candidates": [{
            "policy": "active-agents", "effect": "forbid", "shadow": false, "outcome": { "result": "satisfied" },
            "file": "agents.cedar", "line": 6,
            "scope": {
                "principal": { "matched": true, "wants": "principal is Agent" },
                "action": { "matched": true, "wants": "action" },
                "resource": { "matched": true, "wants": "resource" },
            },
            "clauses": [{
                "kind": "unless", "text": "principal has status && principal.status == \"active\"",
                "outcome": { "result": "false" },
                "values": [{ "expression": "principal.status", "value": "\"suspended\"" }],
            }],
        }] },
    })
}

pub(super) fn drawn_case() -> Value {
    json!({
        "case": {
            "name": format!("decision {DECISION}"), "question": question(), "at": "2026-11-22T09:30:00.000000Z", "environment": "live",
            "expect": { "decision": "permit", "reason": "policy_permit", "because": ["reader-floor"], "errors": [] },
        },
        "passes": true, "notes": [],
    })
}

pub(super) const CASE_FILE: &str = "\
- name: decision 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77
  question:
    action:
      name: call
    resource:
      id: mail.send
      type: Tool
    subject:
      id: invoice-bot
      type: Agent
  at: 2026-11-22T09:30:00.000000Z
  environment: live
  expect:
    decision: permit
    reason: policy_permit
    because:
    - reader-floor
    errors: []
";

pub(super) fn new_key() -> Value {
    json!({ "name": "mail gateway", "environment": "live", "scopes": ["evaluate"], "expires_at": "2027-01-01T00:00:00Z", "principal": "deploy" })
}

pub(super) fn key() -> Value {
    json!({
        "id": KEY, "name": "mail gateway", "environment": "live", "scopes": ["evaluate"],
        "created_at": "2026-11-22T09:00:00.000000Z", "expires_at": "2027-01-01T00:00:00.000000Z",
        "principal": "deploy",
    })
}

pub(super) fn created_key() -> Value {
    let mut created = key();
    if let Some(members) = created.as_object_mut() {
        let text = format!(
            "remit_live_{}_{}_{}",
            KEY.replace('-', ""),
            "0".repeat(64),
            "00000000"
        );
        members.insert("key".to_owned(), json!(text));
    }
    created
}

pub(super) fn key_list() -> Value {
    json!({ "keys": [key()] })
}

pub(super) fn who_am_i() -> Value {
    json!({
        "key": KEY, "tenant": TENANT, "environment": "live", "scopes": ["read", "write"], "revision": 42,
        "principal": { "name": "maya", "kind": "person", "roles": ["author", "approver"] },
    })
}
