//! Schemas of what travels only: AuthZEN messages, metadata, problems.

use serde_json::{Map, Value, json};

use super::{examples, or_null, reference};
use crate::problem::Kind;

/// Returns the schemas by name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = Map::new();
    for group in [questions(), answers(), searches(), service()] {
        if let Value::Object(mut group) = group {
            all.append(&mut group);
        }
    }
    all
}

fn entity(about: &str) -> Value {
    json!({
        "type": "object", "description": about, "required": ["type", "id"],
        "properties": {
            "type": { "type": "string", "description": "The entity type of the schema, such as `Agent`." },
            "id": { "type": "string", "description": "The id within the type, byte-exact." },
            "properties": or_null(json!({ "type": "object", "description": "What the caller says of it. Only attributes that the schema marks `@assertable` are taken." })),
        },
    })
}

/// What is searched for: of any shape but for its type.
fn kind() -> Value {
    json!({
        "type": "object", "description": "The type to search; all else is ignored.", "required": ["type"],
        "properties": { "type": { "type": "string", "description": "The entity type of the schema, such as `Agent`." } },
    })
}

fn questions() -> Value {
    let object = or_null(json!({ "type": "object" }));
    let semantic = or_null(json!({
        "type": "string", "enum": ["execute_all", "deny_on_first_deny", "permit_on_first_permit"],
        "description": "When to stop: never (the default), or at the first deny or permit, which is then the last item of the answer.",
    }));
    json!({
        "Subject": entity("Who wants to act (AuthZEN 1.0 §5.1)."),
        "Resource": entity("What is acted on (AuthZEN 1.0 §5.2)."),
        "Action": {
            "type": "object", "description": "What is done (AuthZEN 1.0 §5.3).", "required": ["name"],
            "properties": {
                "name": { "type": "string", "description": "The id of an action of the schema, such as `call`." },
                "properties": or_null(json!({ "type": "object", "description": "The arguments of the call; policies read them as `context.action`." })),
            },
        },
        "Context": { "type": "object", "description": "Everything else about this call. `facts` is Remit's own and must not be sent." },
        "Question": {
            "type": "object", "description": "One question: may this subject do this to that.", "required": ["subject", "action", "resource"],
            "properties": { "subject": reference("Subject"), "action": reference("Action"), "resource": reference("Resource"), "context": or_null(reference("Context")) },
        },
        "Questions": {
            "type": "object",
            "description": "Many questions. A member at the top stands in for the same member of an item that leaves it out, as a whole. Without `evaluations` it is one question.",
            "properties": {
                "subject": object, "action": object, "resource": object, "context": or_null(reference("Context")),
                "evaluations": or_null(json!({ "type": "array", "maxItems": 1_000, "items": {
                    "type": "object", "description": "Members of a `Question`. An item that is none is answered in its place with what is wrong.",
                } })),
                "options": or_null(json!({ "type": "object", "properties": { "evaluations_semantic": semantic } })),
            },
        },
    })
}

fn answers() -> Value {
    json!({
        "Answer": {
            "type": "object", "description": "Whether it may, and why (AuthZEN 1.0 §6.2).", "required": ["decision"],
            "properties": {
                "decision": { "type": "boolean" },
                "context": reference("AnswerContext"),
            },
        },
        "AnswerContext": {
            "type": "object", "description": "Why. In a batch it is there only where an item is invalid or leaves the caller something to do: ask for an approval, fulfil an obligation, renew a lease.",
            "properties": {
                "evaluation_id": { "type": "string", "format": "uuid", "description": "The id of the decision; in a batch the ids are in `X-Decision-Id`, and here where something is done by it." },
                "reason": reference("Reason"),
                "message": { "type": "string", "description": "The reason in a sentence." },
                "limit": reference("Limit"),
                "kill": {
                    "type": "object", "description": "What somebody has stopped, where the reason is `killed`.", "required": ["id", "target", "reason"],
                    "properties": { "id": { "type": "string", "format": "uuid" }, "target": reference("KillTarget"), "reason": { "type": "string", "description": "Why it was stopped." } },
                },
                "policies": { "type": "array", "items": { "type": "string" }, "description": "The policies that settled it." },
                "annotations": { "type": "array", "description": "What the determining policies say of themselves.", "items": { "type": "object", "required": ["policy", "annotations"] } },
                "obligations": { "type": "array", "items": reference("Obligation"), "description": "What the enforcement point must do; it denies what it cannot do (AuthZEN Obligations Profile, Draft 1)." },
                "evaluated_at": { "type": "string", "format": "date-time", "description": "When it was asked, where an approval can be asked for." },
                "access_request": reference("RequestableDenial"),
                "approval": reference("PresentedApproval"),
                "next_action": { "type": "string", "enum": ["request", "retry", "none"], "description": "Of a deny of a question that presents an approval: ask for another one as `access_request` says, ask the same again after `retry_after`, or neither." },
                "retry_after": { "type": "integer", "minimum": 1, "description": "After how many seconds to ask the same again." },
                "exceptions": { "type": "array", "items": reference("CountedException"), "description": "The controls that did not count, and because of which exceptions." },
                "modify": reference("NarrowerCall"),
                "lease": reference("Lease"),
                "expires_at": { "type": "string", "format": "date-time", "description": "Until when the enforcement point may act by the permit, where a policy limits that." },
                "revision": reference("Revision"),
                "error": {
                    "type": "object", "description": "Why an item of a batch is no question.", "required": ["status", "message"],
                    "properties": { "status": { "type": "integer" }, "message": { "type": "string" } },
                },
            },
        },
        "Answers": {
            "type": "object", "description": "The answers in the order of the questions; a single answer where `evaluations` was missing or empty.",
            "properties": {
                "evaluations": { "type": "array", "items": reference("Answer") },
                "decision": { "type": "boolean" }, "context": reference("AnswerContext"),
            },
        },
    })
}

fn searches() -> Value {
    let page = or_null(json!({
        "type": "object",
        "properties": {
            "token": or_null(json!({ "type": "string", "description": "The `next_token` of the page before. It belongs to one query and one revision." })),
            "limit": or_null(json!({ "type": "integer", "minimum": 1, "description": "How many results a page holds at most." })),
        },
    }));
    json!({
        "SubjectQuery": {
            "type": "object", "description": "Which subjects of a type may do this to that.", "required": ["subject", "action", "resource"],
            "properties": { "subject": kind(), "action": reference("Action"), "resource": reference("Resource"), "context": or_null(reference("Context")), "page": page },
        },
        "ResourceQuery": {
            "type": "object", "description": "To which resources of a type may this subject do this.", "required": ["subject", "action", "resource"],
            "properties": { "subject": reference("Subject"), "action": reference("Action"), "resource": kind(), "context": or_null(reference("Context")), "page": page },
        },
        "ActionQuery": {
            "type": "object", "description": "What may this subject do to that.", "required": ["subject", "resource"],
            "properties": { "subject": reference("Subject"), "resource": reference("Resource"), "context": or_null(reference("Context")), "page": page },
        },
        "PageInfo": {
            "type": "object", "required": ["next_token"],
            "properties": { "next_token": { "type": "string", "description": "The token of the next page; empty on the last one." }, "count": { "type": "integer", "minimum": 0 } },
        },
        "FoundEntities": {
            "type": "object", "required": ["results"],
            "properties": { "page": reference("PageInfo"), "results": { "type": "array", "items": {
                "type": "object", "required": ["type", "id"], "additionalProperties": false,
                "properties": { "type": { "type": "string" }, "id": { "type": "string" } },
            } } },
        },
        "FoundActions": {
            "type": "object", "required": ["results"],
            "properties": { "page": reference("PageInfo"), "results": { "type": "array", "items": {
                "type": "object", "required": ["name"], "additionalProperties": false, "properties": { "name": { "type": "string" } },
            } } },
        },
    })
}

fn service() -> Value {
    json!({
        "Metadata": {
            "type": "object", "description": "Where the endpoints are (AuthZEN 1.0 §9).", "required": ["policy_decision_point", "access_evaluation_endpoint"],
            "properties": {
                "policy_decision_point": { "type": "string" }, "access_evaluation_endpoint": { "type": "string" }, "access_evaluations_endpoint": { "type": "string" },
                "search_subject_endpoint": { "type": "string" }, "search_resource_endpoint": { "type": "string" }, "search_action_endpoint": { "type": "string" },
                "access_request_endpoint": { "type": "string", "description": "Where approvals are asked for." },
                "capabilities": { "type": "array", "items": { "type": "string" } },
                "obligations_supported": { "type": "array", "items": { "type": "string" }, "description": "The types of obligations that an answer may have." },
            },
        },
        "OpenApi": { "type": "object", "description": "This document.", "required": ["openapi", "info", "paths"] },
        "Problem": {
            "type": "object", "description": "What went wrong (RFC 9457). A status of 500 or more tells no detail; the request id finds it in the log.",
            "required": ["type", "code", "title", "status", "request_id"], "example": examples::problem(Kind::POLICY_INVALID),
            "properties": {
                "type": { "type": "string", "description": "`urn:remit:problem:` and the code; of what the profile of access requests names, `urn:openid:authzen:access-request:error:` and its name." },
                "code": { "type": "string", "description": "The stable code; `docs/errors.md` lists them all." },
                "title": { "type": "string", "description": "What the code means." },
                "status": { "type": "integer" },
                "detail": { "type": "string", "description": "What exactly is wrong: which member, and what was expected." },
                "request_id": { "type": "string" },
                "diagnostics": { "type": "array", "items": reference("Diagnostic"), "description": "With `policy-invalid`: what does not compile, and where." },
                "cases": { "type": "array", "items": reference("CaseOutcome"), "description": "With `cases-failed`: the cases that failed." },
                "index": { "type": "integer", "description": "With a bulk change: the place of the item at fault, from 0." },
                "line": { "type": "integer", "description": "With NDJSON: the line at fault, from 1." },
                "entity": reference("EntityUid"),
                "current": { "type": "string", "description": "With `stale-revision`: the current `ETag`." },
                "revision": { "allOf": [reference("Revision")], "description": "With `fleet-not-reached`: the revision that is committed." },
                "missing": { "type": "array", "items": reference("Replica"), "description": "With `fleet-not-reached`: the live replicas that do not have it." },
            },
        },
    })
}
