//! The operations and schemas of kills.

use serde_json::{Map, Value, json};

use super::lifecycle::{once, paged};
use super::{Operation, reference};
use crate::problem::Kind;

/// The id of the kill in the examples.
const KILL: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1c20";
const PATH: &str = "/v1/kills";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![create(), list(), get(), lift(), confirm()]
}

fn of_kill(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Kills").part("id", "The kill.", KILL)
}

fn create() -> Operation {
    let sent = json!({ "target": { "kind": "agent", "agent": { "type": "Agent", "id": "invoice-bot" } }, "reason": "It pays nobody knows whom, incident 4711" });
    once(Operation::new("POST", PATH, "create_kill", "Kills"))
        .says(
            "Stop something",
            "Denies every question of the target with `killed`, whatever the policies say, on every replica within its \
             `max_staleness`; with `wait=fleet`, before the answer comes. What is stopped need not be there. One of a target \
             that is stopped already is answered as it is, with 200; that is on record, and whatever was asked about lifting \
             it is taken back. A 503 or 504 may tell of a kill that is in force and not everywhere yet: send it again. `everything` is in force in every tenant, and takes the \
             scope `tenants` as well and whoever may host. A tenant has at most 1,000 at a time, of everything and of the \
             tenant apart: 409.",
        )
        .scope("tasks")
        .until()
        .takes("KillBody", "What, and why.", &sent)
        .gives(201, "It is stopped.", "Kill", &standing(), &["Location", "Remit-Revision"])
        .gives(200, "It was stopped already.", "Kill", &standing(), &["Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn list() -> Operation {
    let state = json!({ "type": "string", "enum": ["in_force", "lifted"] });
    let operation = Operation::new("GET", PATH, "list_kills", "Kills").says(
        "List kills",
        "Those in force and those that were lifted, newest first, with those of everything that whoever runs this \
         installation has set; those are in force `by` `remit`.",
    );
    paged(operation)
        .scope("read")
        .query("state", &state, "Only those.", &json!("in_force"))
        .gives(
            200,
            "One page.",
            "KillPage",
            &json!({ "kills": [standing()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_kill("GET", "/v1/kills/{id}", "get_kill")
        .says("Read a kill", "One kill that this tenant has set.")
        .scope("read")
        .gives(200, "The kill.", "Kill", &standing(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn lift() -> Operation {
    once(of_kill("POST", "/v1/kills/{id}/lift", "lift_kill"))
        .says(
            "Ask to lift a kill",
            "Asks that its target may go on, to which another person has to agree within an hour. It stays in force. Only a \
             person can ask.",
        )
        .scope("tasks")
        .gives(202, "It waits for another person.", "Kill", &waiting(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn confirm() -> Operation {
    let path = "/v1/kills/{id}/lift/confirm";
    once(of_kill("POST", path, "confirm_kill_lift"))
        .says(
            "Lift a kill",
            "Agrees that its target may go on. Only a person can who is not the one who asked, whatever the settings demand. \
             409 where nobody has asked within the last hour, or whoever did may not any more.",
        )
        .scope("tasks")
        .until()
        .gives(200, "It is lifted.", "Kill", &lifted(), &["Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn with(mut kill: Value, members: Value) -> Value {
    if let (Some(kill), Value::Object(members)) = (kill.as_object_mut(), members) {
        kill.extend(members);
    }
    kill
}

fn standing() -> Value {
    json!({
        "id": KILL, "state": "in_force", "target": { "kind": "agent", "agent": { "type": "Agent", "id": "invoice-bot" } },
        "reason": "It pays nobody knows whom, incident 4711", "by": "ana", "at": "2026-11-22T09:30:00.000000Z", "revision": 43,
    })
}

fn waiting() -> Value {
    let lift = json!({ "asked_by": "ana", "asked_at": "2026-11-22T10:00:00.000000Z", "expires_at": "2026-11-22T11:00:00.000000Z" });
    with(standing(), json!({ "lift": lift }))
}

fn lifted() -> Value {
    let ended = json!({ "state": "lifted", "lifted_by": "ben", "lifted_at": "2026-11-22T10:04:00.000000Z" });
    with(standing(), ended)
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let one = |kind: &str, about: &str, member: Option<(&str, Value)>| {
        let mut properties = Map::new();
        let mut required = vec!["kind"];
        properties.insert(
            "kind".to_owned(),
            json!({ "type": "string", "enum": [kind] }),
        );
        if let Some((name, schema)) = member {
            properties.insert(name.to_owned(), schema);
            required.push(name);
        }
        json!({ "type": "object", "description": about, "required": required, "additionalProperties": false, "properties": properties })
    };
    let short = |most: usize| json!({ "type": "string", "minLength": 1, "maxLength": most });
    let target = json!({ "description": "What must stop.", "oneOf": [
        one("everything", "Everything, in every tenant of the installation.", None),
        one("tenant", "Everything in the tenant.", None),
        one("agent", "One agent, and whoever acts on its authority.", Some(("agent", reference("EntityUid")))),
        one("task", "One task with all below it.", Some(("task", json!({ "type": "string", "format": "uuid" })))),
        one("tool", "One tool.", Some(("tool", short(256)))),
        one("model", "Every agent that this model drives.", Some(("model", short(128)))),
    ] });
    let schemas = json!({
        "KillTarget": target,
        "KillBody": {
            "type": "object", "description": "A kill to be set.", "required": ["target", "reason"], "additionalProperties": false,
            "properties": {
                "target": reference("KillTarget"),
                "reason": { "type": "string", "minLength": 1, "maxLength": 1_024, "description": "Why: one line of at most 1,024 bytes. Whoever reads a decision that it denied reads it." },
            },
        },
        "Kill": {
            "type": "object", "description": "What must stop, and since when.", "required": ["id", "state", "target", "reason", "by", "at"],
            "properties": {
                "id": { "type": "string", "format": "uuid", "description": "Its id." },
                "state": { "type": "string", "enum": ["in_force", "lifted"], "description": "Whether it stops its target." },
                "target": reference("KillTarget"), "reason": text("Why."), "by": text("Who set it; `remit` for one of everything that another tenant has set."), "at": time("When."),
                "revision": { "allOf": [reference("Revision")], "description": "The revision that brought it; absent for one that another tenant has set." },
                "lift": { "type": "object", "description": "That somebody asks for it to be lifted.", "required": ["asked_by", "asked_at", "expires_at"], "properties": {
                    "asked_by": text("Who."), "asked_at": time("When."), "expires_at": time("Until when another person can agree."),
                } },
                "lifted_by": text("Who agreed."), "lifted_at": time("Since when it is not in force."),
            },
        },
        "KillPage": {
            "type": "object", "required": ["kills"],
            "properties": { "kills": { "type": "array", "items": reference("Kill"), "description": "Newest first." }, "next": text("The cursor of the next page.") },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
