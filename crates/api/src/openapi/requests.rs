//! The operations of access requests, and what answers tell of them.

use serde_json::{Map, Value, json};

use super::examples::DECISION;
use super::{Operation, or_null, reference};
use crate::problem::Kind;

const REQUEST: &str = "019aa8f3-1b2c-7d10-8a55-3e9d6c4f7a01";
const ONE: &str = "/access/v1/requests/{id}";
const CANCEL: &str = "/access/v1/requests/{id}/cancel";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        submit(),
        get(),
        cancel("POST", "cancel_access_request"),
        cancel("DELETE", "delete_access_request"),
    ]
}

fn submit() -> Operation {
    Operation::new("POST", "/access/v1/requests", "create_access_request", "Access requests")
        .says(
            "Ask for an approval",
            "Asks persons to approve exactly what a decision with the reason `approval_required` denied, or several such \
             things together (`items`). Subject (but its `act`), resource, action and the members of the context that the \
             schema declares must be those of the decision, by the same principal and from the same environment; what else \
             the context has is kept as what the caller says. What is pending of the very same is joined.\n\n\
             202: it is pending. 201: it has ended already. An error is `application/problem+json`; a type that the profile \
             names is the profile's.",
        )
        .header(
            "Idempotency-Key",
            "What you call this request, quoted or not: the same name and body get the same request again.",
            "7b8d0f0d-65a1-4af1-9fd3-a684f08a5d13",
        )
        .scope("evaluate")
        .takes("AccessRequestSubmission", "What is asked. Unknown members are ignored.", &submission())
        .gives(202, "It is pending.", "TaskHandle", &pending(), &["Location", "Retry-After", "Remit-Revision"])
        .gives(201, "It has ended already.", "TaskHandle", &approved(), &["Location", "Remit-Revision"])
        .fails(&[
            Kind::NOT_REQUESTABLE,
            Kind::INVALID_DENIAL_BINDING,
            Kind::NOT_FOUND,
            Kind::UNKNOWN_TASK,
            Kind::DUPLICATE_REQUEST,
            Kind::EXPIRED_DENIAL,
            Kind::TASK_EXPIRED,
            Kind::TOO_MANY_REQUESTS,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn get() -> Operation {
    Operation::new("GET", ONE, "get_access_request", "Access requests")
        .says(
            "Read an access request",
            "How it stands, for whoever asked. Of several together each item tells for itself; `partial` says that they \
             ended differently.",
        )
        .header(
            "Prefer",
            "`wait=` and seconds (RFC 7240): the answer waits until it ends, at most 25 seconds and two less than a request \
             may take.",
            "wait=10",
        )
        .scope("evaluate")
        .part("id", "The id of the request.", REQUEST)
        .gives(200, "How it stands.", "TaskHandle", &pending(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::UNKNOWN_TASK,
            Kind::TASK_EXPIRED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn cancel(method: &'static str, id: &'static str) -> Operation {
    Operation::new(method, CANCEL, id, "Access requests")
        .says(
            "Take an access request back",
            "For whoever asked first, while it is pending; of several together those of them that are pending. Whoever only \
             joined cannot.",
        )
        .scope("evaluate")
        .part("id", "The id of the request.", REQUEST)
        .takes_or_nothing(
            "AccessRequestCancellation",
            "Why.",
            &json!({ "reason": "not_needed" }),
        )
        .gives(
            200,
            "It is cancelled.",
            "TaskHandle",
            &cancelled(),
            &["Remit-Revision"],
        )
        .fails(&[
            Kind::NOT_PERMITTED,
            Kind::NOT_FOUND,
            Kind::UNKNOWN_TASK,
            Kind::INVALID_TASK_STATE,
            Kind::TASK_EXPIRED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn submission() -> Value {
    json!({
        "subject": { "type": "Agent", "id": "invoice-bot" },
        "resource": { "type": "Payee", "id": "acme" },
        "action": { "name": "pay_supplier", "properties": { "amount": 125_000 } },
        "context": { "business_justification": "The invoice is due today." },
        "denial": { "evaluation_id": DECISION, "expires_at": "2026-11-22T09:40:00.000000Z", "reason": "approval_required" },
    })
}

fn task(status: &str, links: &Value) -> Value {
    let endpoint = format!("https://remit.example.com/access/v1/requests/{REQUEST}");
    json!({
        "id": REQUEST, "status": status, "status_endpoint": endpoint, "expires_at": "2026-11-22T10:30:00.000000Z",
        "display": { "title": "Waiting for an approval", "description": "Somebody has been asked to approve this." },
        "links": links,
    })
}

fn pending() -> Value {
    let links = json!({
        "review": format!("https://remit.example.com/approvals/{REQUEST}"),
        "cancel": format!("https://remit.example.com/access/v1/requests/{REQUEST}/cancel"),
    });
    let mut task = task("pending", &links);
    if let Some(members) = task.as_object_mut() {
        members.insert("progress".to_owned(), json!({ "awaiting": ["finance"] }));
    }
    json!({ "task": task })
}

fn approved() -> Value {
    json!({
        "task": task("approved", &json!({})),
        "result": { "mode": "reevaluate", "approval": {
            "id": REQUEST, "approved_at": "2026-11-22T09:42:00.000000Z", "approved_until": "2026-11-22T09:57:00.000000Z",
        } },
    })
}

fn cancelled() -> Value {
    json!({ "task": task("cancelled", &json!({})) })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    for group in [submitted(), told(), of_answers()] {
        if let Value::Object(mut group) = group {
            all.append(&mut group);
        }
    }
    all
}

fn submitted() -> Value {
    let denial = or_null(reference("Denial"));
    let free = |about: &str| or_null(json!({ "type": "object", "description": about }));
    json!({
        "Denial": {
            "type": "object", "description": "Which decision was denied; what else it has is an echo.", "required": ["expires_at"],
            "properties": {
                "evaluation_id": or_null(text("The `context.evaluation_id` of the decision.")),
                "expires_at": { "type": "string", "format": "date-time", "description": "The `context.access_request.expires_at` of the decision." },
            },
        },
        "AccessRequestSubmission": {
            "type": "object", "description": "What is asked: one thing, or several as `items`.", "required": ["subject"],
            "properties": {
                "subject": reference("Subject"), "resource": or_null(reference("Resource")), "action": or_null(reference("Action")),
                "context": free("The context of the decision, and what the caller says beside it, at most 16 KiB."),
                "denial": denial,
                "items": or_null(json!({ "type": "array", "minItems": 1, "maxItems": 20, "items": {
                    "type": "object", "description": "One thing, with the denial of its own.", "required": ["resource", "action"],
                    "properties": { "resource": reference("Resource"), "action": reference("Action"), "denial": denial, "requested_access": free("As at the top, and before it.") },
                } })),
                "requested_access": free("What access is wanted, such as `requested_until`; at most 4 KiB."),
                "client": free("Who says to ask; nothing of it is believed. Each text has at most 1 KiB."),
                "callback": free("Where the end is to be told."),
            },
        },
        "AccessRequestCancellation": {
            "type": "object", "description": "Why it is taken back.",
            "properties": { "reason": or_null(short("A stable code.")), "comment": or_null(short("A note.")) },
        },
    })
}

fn told() -> Value {
    let status = json!({ "type": "string", "enum": ["pending", "approved", "denied", "expired", "cancelled", "partial"] });
    json!({
        "TaskHandle": {
            "type": "object", "description": "A task handle of the profile, and what was approved.", "required": ["task"],
            "properties": {
                "task": {
                    "type": "object", "required": ["id", "status", "status_endpoint", "expires_at", "display", "links"],
                    "properties": {
                        "id": uuid(), "status": status, "status_endpoint": text("Where it is asked about."),
                        "progress": {
                            "type": "object", "description": "While it is pending: the groups that are waited for.",
                            "properties": { "awaiting": { "type": "array", "items": { "type": "string" } } },
                        },
                        "expires_at": time("Until when it can be answered."),
                        "display": reference("Hints"),
                        "links": { "type": "object", "description": "`review` for whoever answers, `cancel` while it is pending.", "additionalProperties": { "type": "string" } },
                        "items": { "type": "array", "description": "Of several together, each in its place.", "items": {
                            "type": "object", "required": ["resource", "action", "status"],
                            "properties": { "resource": reference("Resource"), "action": reference("Action"), "status": status, "result": reference("ApprovalResult") },
                        } },
                    },
                },
                "result": reference("ApprovalResult"),
            },
        },
        "ApprovalResult": {
            "type": "object", "description": "What was approved: present `approval` unchanged as `context.approval` of the question.", "required": ["mode", "approval"],
            "properties": {
                "mode": { "type": "string", "enum": ["reevaluate"] },
                "approval": {
                    "type": "object", "required": ["id", "approved_until"],
                    "properties": { "id": uuid(), "approved_at": time("When it was approved."), "approved_until": time("Until when it can be used.") },
                },
            },
        },
        "Hints": {
            "type": "object", "description": "For a person.", "required": ["title", "description"],
            "properties": { "title": { "type": "string" }, "description": { "type": "string" } },
        },
    })
}

fn of_answers() -> Value {
    json!({
        "RequestableDenial": {
            "type": "object", "description": "A person may approve this: ask there, with `evaluation_id` and `expires_at` as the `denial`.", "required": ["endpoint", "expires_at", "display"],
            "properties": {
                "endpoint": text("Where to ask."), "expires_at": time("Until when it can be asked."),
                "template": text("Whose approval lacks, such as `approval:finance`; several are separated by spaces."), "display": reference("Hints"),
            },
        },
        "PresentedApproval": {
            "type": "object", "description": "How the approval stands that the question presents: that it made the permit, or why it did not help.", "required": ["id"],
            "properties": {
                "id": uuid(), "approved_until": time("Of a permit by it: the enforcement point does not act later."),
                "reason": { "type": "string", "enum": ["approval_pending", "approval_unverifiable", "approval_expired", "approval_used", "out_of_scope", "approval_superseded", "not_covered", "policy_denied"], "description": "Of a deny: why it did not help." },
            },
        },
        "CountedException": {
            "type": "object", "required": ["id", "policy", "until"],
            "properties": { "id": uuid(), "policy": text("The control that did not count."), "until": time("From when it counts again.") },
        },
        "NarrowerCall": {
            "type": "object", "description": "The narrower call that would be permitted; ask for it itself.", "required": ["narrowings", "action"],
            "properties": { "narrowings": { "type": "array", "items": { "type": "string" } }, "action": reference("Action") },
        },
        "Lease": {
            "type": "object", "description": "For how long the permit holds before it must be renewed.", "required": ["id", "expires_at"],
            "properties": { "id": uuid(), "expires_at": time("When it ends.") },
        },
        "Obligation": {
            "type": "object", "description": "Something the enforcement point must do, with the members that its type has.", "required": ["id", "type"],
            "properties": { "id": { "type": "string" }, "type": { "type": "string", "enum": ["step-up", "notification", "session_termination", "custom"] } },
        },
    })
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn short(about: &str) -> Value {
    json!({ "type": "string", "maxLength": 1024, "description": about })
}

fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

fn uuid() -> Value {
    json!({ "type": "string", "format": "uuid" })
}
