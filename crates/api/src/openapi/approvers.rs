//! The operations and schemas of approvers: groups, delegations, and the answers to access requests.

use serde_json::{Map, Value, json};

use super::examples::HASH;
use super::lifecycle::{once, paged};
use super::{Operation, or_null, reference};
use crate::problem::Kind;

/// The ids of the examples.
const REQUEST: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c30";
const DECISION: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
const GROUPS: &str = "/v1/approver-groups";
const GROUP: &str = "/v1/approver-groups/{name}";
const DELEGATIONS: &str = "/v1/approver-delegations";
const DELEGATION: &str = "/v1/approver-delegations/{name}";

/// What a change of who answers fails with.
const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::NOT_FOUND,
    Kind::CONFLICT,
    Kind::STALE_REVISION,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list_groups(),
        get_group(),
        put_group(),
        delete_group(),
        list_delegations(),
        get_delegation(),
        put_delegation(),
        delete_delegation(),
        list(),
        count(),
        get(),
        approve(),
        deny(),
        escalate(),
        withdraw(),
    ]
}

fn new(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Approvals")
}

fn of_group(method: &'static str, id: &'static str) -> Operation {
    new(method, GROUP, id).part("name", "The group.", "finance")
}

fn of_delegation(method: &'static str, id: &'static str) -> Operation {
    new(method, DELEGATION, id).part("name", "Whose part it is.", "ben")
}

fn of_request(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    new(method, path, id).part("id", "The access request.", REQUEST)
}

fn list_groups() -> Operation {
    paged(new("GET", GROUPS, "list_approver_groups").says("List groups of approvers", "By name."))
        .scope("read")
        .gives(
            200,
            "One page.",
            "ApproverGroupPage",
            &json!({ "groups": [group()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get_group() -> Operation {
    of_group("GET", "get_approver_group")
        .says("Read a group of approvers", "One group.")
        .scope("read")
        .header(
            "If-None-Match",
            "An `ETag`: 304 if it is still that.",
            "\"42\"",
        )
        .gives(
            200,
            "The group.",
            "ApproverGroup",
            &group(),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(304, "It is still that.", &["ETag", "Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put_group() -> Operation {
    once(of_group("PUT", "put_approver_group"))
        .says(
            "Make or replace a group of approvers",
            "A policy names it with `@cure(\"approval:finance\")`: what that policy forbids can be approved by its members who \
             have the role `approver`. What it has not answered after `escalate_after` seconds goes on to another group as well. \
             Where a second person is demanded, nobody puts an account of their own into one. A tenant has at most 200 \
             groups of at most 200 members; `any` is no name of one.",
        )
        .scope("keys")
        .header("If-Match", "The `ETag` that it replaces.", "\"42\"")
        .header("If-None-Match", "`*`: only if there is none.", "*")
        .until()
        .takes("ApproverGroupBody", "What it is to be.", &group_body())
        .gives(200, "It is so.", "ApproverGroup", &group(), &["ETag", "Remit-Revision"])
        .fails(UNCHANGED)
}

fn delete_group() -> Operation {
    once(of_group("DELETE", "delete_approver_group"))
        .says(
            "Remove a group of approvers",
            "What waits for it is answered by nobody of it any more.",
        )
        .scope("keys")
        .header("If-Match", "The `ETag` that was read.", "\"42\"")
        .header("If-None-Match", "Not with this `ETag`.", "\"41\"")
        .until()
        .gives_nothing(204, "It is gone.", &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn list_delegations() -> Operation {
    let operation = new("GET", DELEGATIONS, "list_approver_delegations");
    paged(operation.says(
        "List delegations of approvers",
        "By whose part it is, those that are over included.",
    ))
    .scope("read")
    .gives(
        200,
        "One page.",
        "ApproverDelegationPage",
        &json!({ "delegations": [delegation()] }),
        &["Link"],
    )
    .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get_delegation() -> Operation {
    of_delegation("GET", "get_approver_delegation")
        .says(
            "Read a delegation",
            "Who answers in the place of one principal, be it over.",
        )
        .scope("read")
        .gives(
            200,
            "The delegation.",
            "ApproverDelegation",
            &delegation(),
            &["ETag", "Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put_delegation() -> Operation {
    once(of_delegation("PUT", "put_approver_delegation"))
        .says(
            "Hand the part of an approver on",
            "Until the moment that it says, exactly, `to` answers for the groups of `from`, in place of whoever did. An approver \
             hands on their own part, whoever has the role `admin` that of anybody; where a second person is demanded, not to \
             themself. Both must be persons with the role `approver`. What somebody has a hand in, whoever answers in their \
             place cannot approve either. At most 90 days.",
        )
        .scope("approve")
        .header("If-Match", "The `ETag` that it replaces.", "\"42\"")
        .header("If-None-Match", "`*`: only if there is none.", "*")
        .until()
        .takes("ApproverDelegationBody", "To whom, until when, and why.", &json!({
            "to": "cy", "until": "2026-11-29T18:00:00.000000Z", "reason": "On leave",
        }))
        .gives(200, "It is so.", "ApproverDelegation", &delegation(), &["ETag", "Remit-Revision"])
        .fails(UNCHANGED)
}

fn delete_delegation() -> Operation {
    once(of_delegation("DELETE", "delete_approver_delegation"))
        .says("Take the part of an approver back", "At once.")
        .scope("approve")
        .until()
        .gives_nothing(204, "It is over.", &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn list() -> Operation {
    let text = json!({ "type": "string" });
    let states = json!({ "type": "string", "enum": ["pending", "approved", "denied", "expired", "cancelled"] });
    paged(new("GET", "/v1/approvals", "list_approvals").says(
        "List access requests",
        "Those in one state, pending ones where none is named: pending ones the oldest first, which are the first to expire, \
         others the newest first. With `mine`, those that wait for a group that you stand for and that you have not asked for; \
         whether you may approve one, it says itself.",
    ))
    .scope("approve")
    .query("state", &states, "Only those.", &json!("pending"))
    .query("group", &text, "Only those that wait for this group, or did; `any` for any approver.", &json!("finance"))
    .query("agent_type", &text, "The type of the agent, with `agent_id`.", &json!("Agent"))
    .query("agent_id", &text, "The id of the agent, with `agent_type`.", &json!("invoice-bot"))
    .query("action", &text, "Only those of this action.", &json!("call"))
    .query("task", &json!({ "type": "string", "format": "uuid" }), "Only those in this task.", &json!(DECISION))
    .query("mine", &json!({ "type": "boolean" }), "Only those that wait for you.", &json!(true))
    .gives(200, "One page.", "ApprovalRequestPage", &json!({ "approvals": [listed()] }), &["Link"])
    .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn count() -> Operation {
    new("GET", "/v1/approvals/facets", "count_approvals")
        .says("Count access requests", "By state, and the pending ones by group, each up to 10,000; by agent and action the 10,000 that wait longest.")
        .scope("approve")
        .gives(200, "How many there are.", "ApprovalRequestCounts", &json!({
            "states": { "pending": 2, "approved": 1, "denied": 0, "expired": 0, "cancelled": 0 },
            "groups": { "finance": 2 }, "actions": { "call": 2 },
            "agents": [{ "agent": { "type": "Agent", "id": "invoice-bot" }, "count": 2 }],
            "counted_to": 10_000, "more": false,
        }), &[])
        .fails(&[Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_request("GET", "/v1/approvals/{id}", "get_approval")
        .says(
            "Read an access request",
            "Its card, which is what whoever answers is shown; how far each group is; what was said; and whether you may approve \
             it now. The `ETag` is the hash of the card, which never changes: an answer names it as `seen`.",
        )
        .scope("approve")
        .gives(200, "The access request.", "ApprovalRequest", &shown(), &["ETag"])
        .fails(&[Kind::INVALID_REQUEST, Kind::NOT_FOUND, Kind::NOT_READY, Kind::STORE_UNAVAILABLE])
}

/// What an answer fails with.
const UNANSWERED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::NOT_FOUND,
    Kind::CONFLICT,
    Kind::CARD_DIFFERS,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::TOO_MANY_REQUESTS,
    Kind::NOT_READY,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

fn approve() -> Operation {
    once(of_request("POST", "/v1/approvals/{id}/approve", "approve_request"))
        .says(
            "Approve an access request",
            "As the person that the key is of, for every group that it waits for and that they stand for. It is approved when \
             as many persons of each have approved as it wants; what all of them approve is the least of what each does. \
             Nobody approves what they have a hand in (403, with `why`). It is decided on what is known now: where the policies \
             changed, another one forbids it, or it would be denied all the same, the request ends (409) and is asked again. \
             409 names who was faster; 429 says when the next answer is taken.",
        )
        .scope("approve")
        .until()
        .takes("ApproveBody", "What was seen, and for what it is approved.", &json!({
            "seen": HASH, "scope": { "kind": "task", "uses": 3, "amount": 500_000, "minutes": 60 }, "comment": "As agreed with Acme",
        }))
        .gives(200, "It counts.", "Answered", &json!({
            "id": REQUEST, "state": "approved", "progress": [{ "group": "finance", "needed": 1, "approved": 1 }],
            "approved_until": "2026-11-22T10:40:00.000000Z",
        }), &["Remit-Revision"])
        .fails(UNANSWERED)
}

fn deny() -> Operation {
    once(of_request("POST", "/v1/approvals/{id}/deny", "deny_request"))
        .says(
            "Refuse an access request",
            "For good: one refusal is enough, whoever has approved. After three refusals in one task the task is suspended, \
             in the same transaction.",
        )
        .scope("approve")
        .until()
        .takes("DenyBody", "What was seen, and why it is refused.", &json!({ "seen": HASH, "reason": "Nobody ordered this" }))
        .gives(200, "It is refused.", "Answered", &json!({ "id": REQUEST, "state": "denied" }), &["Remit-Revision"])
        .fails(UNANSWERED)
}

fn escalate() -> Operation {
    once(of_request("POST", "/v1/approvals/{id}/escalate", "escalate_request"))
        .says(
            "Let an access request go on",
            "At once to the groups to which those go on that it waits for: their members then answer for these. By itself it \
             does after the time that the group says.",
        )
        .scope("approve")
        .until()
        .gives(200, "Others are asked as well.", "Answered", &json!({
            "id": REQUEST, "state": "pending", "escalated_to": ["board"],
        }), &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn withdraw() -> Operation {
    once(of_request("POST", "/v1/approvals/{id}/withdraw", "withdraw_approval"))
        .says("Take an approval back", "Whatever is left of it cannot be used from the revision of the answer on. 409 where it is none.")
        .scope("approve")
        .until()
        .takes("WithdrawBody", "Why.", &json!({ "reason": "The supplier's account was taken over" }))
        .gives(200, "It is taken back.", "Answered", &json!({ "id": REQUEST, "state": "cancelled" }), &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn group_body() -> Value {
    json!({
        "members": [{ "principal": "ben" }, { "principal": "cy", "until": "2026-12-31T00:00:00.000000Z" }],
        "escalates_to": "board", "escalate_after": 3_600, "most_open": 100, "most_per_hour": 60,
    })
}

fn group() -> Value {
    with(group_body(), json!({ "name": "finance" }))
}

fn delegation() -> Value {
    json!({
        "from": "ben", "to": "cy", "until": "2026-11-29T18:00:00.000000Z", "reason": "On leave", "made_by": "ben",
        "at": "2026-11-22T09:30:00.000000Z", "in_force": true,
    })
}

fn listed() -> Value {
    json!({
        "id": REQUEST, "state": "pending", "agent": { "type": "Agent", "id": "invoice-bot" }, "action": "call",
        "resource": { "type": "Tool", "id": "payments.send" }, "environment": "live", "sinks": ["billing@acme.example"],
        "wants": { "finance": 1 }, "requested_by": "gateway", "requested_at": "2026-11-22T09:30:00.000000Z",
        "expires_at": "2026-11-22T10:30:00.000000Z", "decision": DECISION, "card_hash": HASH,
    })
}

fn shown() -> Value {
    with(
        listed(),
        json!({
            "card": { "version": 1, "call": { "action": "call" }, "said_by_agent": [] },
            "progress": [{ "group": "finance", "needed": 1, "approved": 0 }], "answers": [], "mine": { "may": true, "may_deny": true },
        }),
    )
}

fn with(mut value: Value, members: Value) -> Value {
    if let (Some(value), Value::Object(members)) = (value.as_object_mut(), members) {
        value.extend(members);
    }
    value
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = of_who();
    all.extend(of_what());
    all
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

fn whole(about: &str, least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": about })
}

fn object(about: &str, required: &[&str], properties: &Value) -> Value {
    json!({ "type": "object", "description": about, "required": required, "properties": properties })
}

fn strict(about: &str, required: &[&str], properties: &Value) -> Value {
    with(
        object(about, required, properties),
        json!({ "additionalProperties": false }),
    )
}

fn page(name: &str, of: &str) -> Value {
    let items = json!({ "type": "array", "items": reference(of) });
    object(
        "One page.",
        &[name],
        &json!({ name: items, "next": text("The cursor of the next page.") }),
    )
}

fn of_who() -> Map<String, Value> {
    let member = strict(
        "A member of a group.",
        &["principal"],
        &json!({
            "principal": text("Who."), "until": or_null(time("The moment from which they are none any more.")),
        }),
    );
    let members = json!({ "type": "array", "maxItems": 200, "items": reference("ApproverMember"), "description": "Who belongs to it." });
    let rules = json!({
        "members": members,
        "escalates_to": or_null(text("The group to which goes on what it has not answered.")),
        "escalate_after": or_null(whole("After how many seconds.", 60, 604_800)),
        "most_open": or_null(whole("How many requests may wait for it, for each of its members.", 1, 10_000)),
        "most_per_hour": or_null(whole("How many answers a member gives within an hour at most.", 1, 10_000)),
    });
    let schemas = json!({
        "ApproverMember": member,
        "ApproverGroupBody": strict("A group of approvers.", &["members"], &rules),
        "ApproverGroup": object("A group of approvers.", &["name", "members", "most_open", "most_per_hour"],
            &with(rules, json!({ "name": text("Its name.") }))),
        "ApproverGroupPage": page("groups", "ApproverGroup"),
        "ApproverDelegationBody": strict("Who answers in the place of another.", &["to", "until", "reason"], &json!({
            "to": text("Who answers."), "until": time("The moment from which they do not any more."),
            "reason": text("Why: one line of at most 1,024 bytes."),
        })),
        "ApproverDelegation": object("Who answers in the place of another.",
            &["from", "to", "until", "reason", "made_by", "at", "in_force"], &json!({
            "from": text("Whose part it is."), "to": text("Who answers."), "until": time("The moment from which they do not any more."),
            "reason": text("Why."), "made_by": text("Who said so."), "at": time("When."),
            "in_force": { "type": "boolean", "description": "Whether it counts." },
        })),
        "ApproverDelegationPage": page("delegations", "ApproverDelegation"),
    });
    members_of(schemas)
}

fn of_what() -> Map<String, Value> {
    let mut all = of_answers();
    all.extend(of_requests());
    all
}

fn id(about: &str) -> Value {
    json!({ "type": "string", "format": "uuid", "description": about })
}

fn texts(about: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": about })
}

fn numbers(about: &str) -> Value {
    json!({ "type": "object", "description": about, "additionalProperties": { "type": "integer" } })
}

fn progress() -> Value {
    let one = object(
        "One group.",
        &["group", "needed", "approved"],
        &json!({
            "group": text("The group; `any` for any approver."), "needed": whole("How many persons it wants.", 1, 100),
            "approved": whole("How many have approved and count.", 0, 1_000),
        }),
    );
    json!({ "type": "array", "description": "How far each group is.", "items": one })
}

fn of_answers() -> Map<String, Value> {
    let most = 9_223_372_036_854_775_807;
    let amount = whole(
        "How much money all of them together may move, in the smallest unit of its currency.",
        0,
        most,
    );
    let scope = json!({ "description": "For what: exactly the call once, or calls of the same action on the same resource to no other sinks in the same task.", "oneOf": [
        { "type": "object", "required": ["kind"], "additionalProperties": false, "properties": { "kind": { "type": "string", "enum": ["once"] } } },
        { "type": "object", "required": ["kind", "uses"], "properties": {
            "kind": { "type": "string", "enum": ["task"] }, "uses": whole("How often.", 1, 100), "amount": or_null(amount),
            "minutes": whole("For how long.", 1, 1_440),
        } },
    ] });
    let asked = json!({ "anyOf": [{ "type": "string", "enum": ["once"] }, reference("ApprovalScope"), { "type": "null" }], "description": "For what; once where it is left out." });
    let seen = text("The hash of the card.");
    let reason = text("Why: one line of at most 1,024 bytes.");
    let schemas = json!({
        "ApprovalScope": scope,
        "ApproveBody": strict("An approval.", &["seen"], &json!({
            "seen": seen, "scope": asked,
            "until": or_null(time("Until when it can be used once, at most 24 hours ahead; what the settings say where it is left out.")),
            "comment": or_null(text("What is to be said to it: one line of at most 1,024 bytes.")),
        })),
        "DenyBody": strict("A refusal.", &["seen", "reason"], &json!({ "seen": seen, "reason": reason })),
        "WithdrawBody": strict("Why.", &["reason"], &json!({ "reason": reason })),
        "Answered": object("What came of it.", &["id", "state"], &json!({
            "id": id("The access request."), "state": text("How it stands."), "progress": progress(),
            "approved_until": time("Until when it can be used."), "suspended": id("The task that is suspended by it."),
            "escalated_to": texts("The groups that are asked as well."),
        })),
    });
    members_of(schemas)
}

/// What a list tells of a request.
fn listed_members() -> Value {
    let states = json!({ "type": "string", "enum": ["pending", "approved", "denied", "expired", "cancelled"], "description": "How it stands." });
    json!({
        "id": id("Its id, and that of the approval."), "state": states, "agent": reference("EntityUid"), "action": text("The action."),
        "resource": reference("EntityUid"), "task": id("The task."), "environment": text("The environment of the key that asked."),
        "sinks": texts("Whom and what it affects, by the catalogue."),
        "wants": numbers("How many persons of each group have to approve."), "requested_by": text("Who asked."),
        "requested_at": time("When."), "expires_at": time("Until when it can be answered."),
        "escalates_at": time("When others are asked as well."), "escalated_at": time("Since when they are."),
        "decision": id("The decision that was denied."), "card_hash": text("The SHA-256 of the card."),
        "ended_at": time("When it ended."), "ended_by": text("Who ended it."), "ended_why": text("Why."),
        "scope": reference("ApprovalScope"), "approvers": texts("Who approved."),
        "approved_until": time("Until when it can be used."),
        "uses_left": { "type": "integer", "description": "How often it can be used still." },
        "amount_left": { "type": "integer", "description": "How much money it can move still." },
    })
}

fn of_requests() -> Map<String, Value> {
    let listed = listed_members();
    let answer = object(
        "One answer.",
        &["by", "answer", "at", "groups"],
        &json!({
            "by": text("Who."), "answer": { "type": "string", "enum": ["approve", "deny"] }, "at": time("When."),
            "groups": texts("The groups that they stood for."),
            "for_person": text("In whose place."), "reason": text("What they said to it."),
        }),
    );
    let mine = json!({
        "may": { "type": "boolean", "description": "Whether you may." },
        "may_deny": { "type": "boolean", "description": "Whether you may refuse it." },
        "why": text("Why you may not approve it."),
    });
    let shown = with(
        listed.clone(),
        json!({
            "card": { "type": "object", "description": "What whoever answers is shown: made of what Remit verified, but for `said_by_agent`." },
            "progress": progress(),
            "answers": { "type": "array", "description": "What was said, the first first.", "items": answer },
            "mine": object("Whether you may approve it now.", &["may", "may_deny"], &mine),
        }),
    );
    let required = [
        "id",
        "state",
        "agent",
        "action",
        "resource",
        "environment",
        "sinks",
        "wants",
        "requested_by",
        "requested_at",
        "expires_at",
        "decision",
        "card_hash",
    ];
    let all_of_it: Vec<&str> = required
        .iter()
        .copied()
        .chain(["card", "progress", "answers", "mine"])
        .collect();
    let agent = object(
        "One agent.",
        &["agent", "count"],
        &json!({
            "agent": reference("EntityUid"), "count": { "type": "integer", "description": "How many." },
        }),
    );
    let schemas = json!({
        "ApprovalRequestListed": object("An access request.", &required, &listed),
        "ApprovalRequestPage": page("approvals", "ApprovalRequestListed"),
        "ApprovalRequest": object("An access request with its card.", &all_of_it, &shown),
        "ApprovalRequestCounts": object("How many there are.", &["states", "groups", "agents", "actions", "counted_to", "more"], &json!({
            "states": numbers("By state."), "groups": numbers("The pending ones by group."), "actions": numbers("The pending ones by action."),
            "agents": { "type": "array", "description": "The pending ones by agent.", "items": agent },
            "counted_to": { "type": "integer", "description": "How far it is counted." },
            "more": { "type": "boolean", "description": "Whether there are more than are counted." },
        })),
    });
    members_of(schemas)
}

fn members_of(schemas: Value) -> Map<String, Value> {
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
