//! The operations and schemas of the registry of agents.

use serde_json::{Map, Value, json};

use super::examples::HASH;
use super::lifecycle::{once, paged};
use super::{Operation, or_null, reference};
use crate::problem::Kind;

const ONE: &str = "/v1/agents/{type}/{id}";

/// How a change of what is registered can fail.
pub(super) const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::CONFLICT,
    Kind::STALE_REVISION,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list(),
        unknown(),
        get(),
        put(),
        suspend(),
        resume(),
        retire(),
    ]
}

fn of_agent(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Agents")
        .part("type", "The entity type of the agent.", "Agent")
        .part(
            "id",
            "The id, percent-encoded and byte-exact.",
            "invoice-bot",
        )
}

fn list() -> Operation {
    let status = json!({ "type": "string", "enum": ["active", "suspended", "retired"] });
    let operation = Operation::new("GET", "/v1/agents", "list_agents", "Agents").says(
        "List agents",
        "The agents that are registered, those included that are retired, by type and id.",
    );
    paged(operation)
        .scope("read")
        .query(
            "status",
            &status,
            "Only those in this status.",
            &json!("active"),
        )
        .query(
            "owner",
            &json!({ "type": "string" }),
            "Only those of this owner.",
            &json!("maya"),
        )
        .gives(
            200,
            "One page.",
            "AgentPage",
            &json!({ "agents": [agent("active")] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn unknown() -> Operation {
    let example = json!({ "agents": [{
        "uid": { "type": "Agent", "id": "stray" }, "first_seen": "2026-11-22T09:00:00.000000Z",
        "last_seen": "2026-11-22T09:30:00.000000Z", "count": 12,
    }] });
    let operation = Operation::new("GET", "/v1/agents/unknown", "list_unknown_agents", "Agents")
        .says(
            "List unknown agents",
            "Subjects that asked as agents and are not registered, by type and id. Counted are the newest 100,000 decisions \
             with the reason `agent_unregistered`; one that was registered since is not listed. A decision is here once it \
             was shipped to the database.",
        );
    paged(operation)
        .scope("read")
        .gives(200, "One page.", "UnknownAgentPage", &example, &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_agent("GET", ONE, "get_agent")
        .says(
            "Read an agent",
            "What is registered of it, and how it stands at this moment.",
        )
        .scope("read")
        .header("If-None-Match", "An `ETag` you have already.", "\"42\"")
        .gives(
            200,
            "The agent.",
            "Agent",
            &agent("active"),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(304, "It is the one you have.", &["ETag", "Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put() -> Operation {
    once(of_agent("PUT", ONE, "put_agent"))
        .says(
            "Register an agent",
            "Registers the agent, or replaces what is registered of it; one that is suspended stays so. Its owner must be a \
             person who is enabled. It must end, and be reviewed, within 366 days. A tenant has at most 100,000 agents, \
             retired ones included: 409. The id of a retired agent is never used again: 409. While its model is killed it \
             takes no other: 409 `killed`. The answer comes when this replica decides with it.",
        )
        .scope("keys")
        .header("If-Match", "An `ETag`: write only over that state.", "\"42\"")
        .header("If-None-Match", "`*`: write only where there is none.", "*")
        .until()
        .takes("AgentBody", "What it is to be.", &body())
        .gives(200, "It is registered.", "Agent", &agent("active"), &["ETag", "Remit-Revision"])
        .fails(UNCHANGED)
        .fails(&[Kind::KILLED])
}

fn turned(operation: Operation, status: &str) -> Operation {
    once(operation)
        .header("If-Match", "An `ETag`: change only that state.", "\"42\"")
        .until()
        .gives(
            200,
            "It is so.",
            "Agent",
            &agent(status),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

fn suspend() -> Operation {
    let path = "/v1/agents/{type}/{id}/suspend";
    let operation = of_agent("POST", path, "suspend_agent")
        .says(
            "Suspend an agent",
            "Stops it until it is resumed: every question of it is denied with `agent_suspended`. 409 for a retired one.",
        )
        .scope("tasks");
    turned(operation, "suspended")
}

fn resume() -> Operation {
    let path = "/v1/agents/{type}/{id}/resume";
    let operation = of_agent("POST", path, "resume_agent")
        .says(
            "Resume an agent",
            "Lets it work again. Its owner must be a person who is enabled: 400. 409 for a retired one.",
        )
        .scope("keys");
    turned(operation, "active")
}

fn retire() -> Operation {
    let operation = of_agent("DELETE", ONE, "retire_agent")
        .says(
            "Retire an agent",
            "Stops it for good. It stays in the registry, and its id is never used again. 409 for one that is retired.",
        )
        .scope("keys");
    turned(operation, "retired")
}

fn body() -> Value {
    json!({
        "build": HASH, "ends_at": "2027-06-30T00:00:00.000000Z", "environment": "production",
        "model": "claude-sonnet-4-5", "owner": "maya", "purpose": "Pays the invoices of suppliers",
        "review_at": "2027-02-28T00:00:00.000000Z", "roles": ["payer"], "trust": 2,
    })
}

fn agent(status: &str) -> Value {
    let mut agent = body();
    if let Some(members) = agent.as_object_mut() {
        let standing = if status == "retired" {
            "expired"
        } else {
            status
        };
        members.insert("status".to_owned(), json!(status));
        members.insert("standing".to_owned(), json!(standing));
        members.insert("revision".to_owned(), json!(42));
        let uid = json!({ "type": "Agent", "id": "invoice-bot" });
        members.insert("uid".to_owned(), uid);
    }
    agent
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str, most: usize| json!({ "type": "string", "minLength": 1, "maxLength": most, "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let hash = json!({ "allOf": [reference("ContentHash")], "description": "The SHA-256 of what it is built of: prompt, tools, model, code." });
    let members = json!({
        "build": hash,
        "ends_at": time("When it must stop."),
        "environment": text("Where it runs, such as `production`.", 64),
        "model": text("The model that drives it.", 128),
        "owner": text("The person who answers for it, by the name of a principal.", 128),
        "principal": text("The machine as which it calls Remit itself: the name of a principal, or `key:` and the id of a key that is bound to nobody.", 128),
        "purpose": text("What it is for, in one line.", 1_024),
        "review_at": time("By when somebody must have looked at it again."),
        "roles": { "type": "array", "maxItems": 32, "items": { "type": "string", "minLength": 1, "maxLength": 64 }, "description": "What it may do at most, by names that policies know." },
        "trust": { "type": "integer", "minimum": 0, "maximum": 3, "description": "How well it proves what it is: 0 not at all, 1 by a signed token, 2 by a token bound to a key, 3 attested by hardware or platform." },
    });
    let mut asked = members.clone();
    for optional in ["build", "principal"] {
        if let Some(member) = asked.get_mut(optional) {
            *member = or_null(member.take());
        }
    }
    let required = [
        "ends_at",
        "environment",
        "model",
        "owner",
        "purpose",
        "review_at",
        "trust",
    ];
    let mut shown = members;
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("uid".to_owned(), reference("EntityUid"));
        shown.insert("status".to_owned(), json!({ "type": "string", "enum": ["active", "suspended", "retired"], "description": "Whether it is in use." }));
        shown.insert("standing".to_owned(), json!({ "type": "string", "enum": ["active", "unregistered", "suspended", "expired", "ownerless", "review_overdue"], "description": "How it stands at this moment, everything considered; whatever is not `active` is denied with the reason `agent_` and this." }));
        shown.insert("revision".to_owned(), json!({ "allOf": [reference("Revision")], "description": "The revision that made it what it is." }));
    }
    let page = |of: &str| {
        json!({
            "type": "object", "required": ["agents"],
            "properties": { "agents": { "type": "array", "items": reference(of), "description": "By type and id." }, "next": { "type": "string", "description": "The cursor of the next page." } },
        })
    };
    let schemas = json!({
        "AgentBody": { "type": "object", "description": "What an agent is to be.", "required": required, "additionalProperties": false, "properties": asked },
        "Agent": {
            "type": "object", "description": "An agent of the registry.",
            "required": ["uid", "status", "standing", "revision", "owner", "purpose", "environment", "model", "trust", "roles", "review_at", "ends_at"],
            "properties": shown,
        },
        "AgentPage": page("Agent"),
        "UnknownAgent": {
            "type": "object", "description": "A subject that asked as an agent and is not registered.", "required": ["uid", "first_seen", "last_seen", "count"],
            "properties": {
                "uid": reference("EntityUid"), "first_seen": time("When it asked first, among the decisions counted."), "last_seen": time("When it asked last."),
                "count": { "type": "integer", "minimum": 1, "description": "How many decisions." },
            },
        },
        "UnknownAgentPage": page("UnknownAgent"),
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
