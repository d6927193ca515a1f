//! The operations that manage what decides, and read what was decided.

use serde_json::{Value, json};

use crate::problem::Kind;

use super::{Operation, admin, examples, lifecycle};

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![get_bundle(), put_bundle(), check_bundle()];
    all.extend(lifecycle::operations());
    all.extend([
        list_entities(),
        get_entity(),
        put_entity(),
        delete_entity(),
        change_entities(),
    ]);
    all.extend([list_decisions(), get_decision(), explain_decision()]);
    all.extend([
        create_key(),
        list_keys(),
        get_key(),
        revoke_key(),
        who_am_i(),
    ]);
    all
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn limit() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": 1_000, "default": 100 })
}

fn get_bundle() -> Operation {
    Operation::new("GET", "/v1/bundle", "get_bundle", "Bundle")
        .says(
            "Read the bundle",
            "The bundle in force, exactly as it was put; what is read can be put again.",
        )
        .scope("read")
        .header(
            "If-None-Match",
            "An `ETag`: 304 when that is still the newest.",
            "\"42\"",
        )
        .gives(
            200,
            "The bundle.",
            "Bundle",
            &examples::bundle(),
            &["ETag", "Remit-Bundle", "Remit-Revision"],
        )
        .gives_nothing(304, "The bundle is the one you have.", &["ETag"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put_bundle() -> Operation {
    let operation = Operation::new("PUT", "/v1/bundle", "put_bundle", "Bundle").says(
            "Replace the bundle",
            "The bundle is compiled against the stored entities and its cases are run first; a bundle that does not \
             compile or fails a case changes nothing. The answer comes when this replica decides with it.\n\n\
             `If-Match` with the `ETag` that was read, or `If-None-Match: *` where there is no bundle yet, is required. \
             The body may have 64 MiB.",
        );
    lifecycle::once(lifecycle::noted(operation))
        .scope("write")
        .header(
            "If-Match",
            "The `ETag` of the bundle that this one replaces.",
            "\"41\"",
        )
        .header(
            "If-None-Match",
            "`*`: put it only where there is none.",
            "*",
        )
        .takes("Bundle", "The whole bundle.", &examples::bundle())
        .gives(
            200,
            "It is in force.",
            "BundleApplied",
            &examples::bundle_applied(),
            &["ETag", "Remit-Revision"],
        )
        .fails(lifecycle::UNCHANGED)
}

fn check_bundle() -> Operation {
    Operation::new("POST", "/v1/bundle/check", "check_bundle", "Bundle")
        .says(
            "Check a bundle",
            "Compiles a bundle against the stored entities and runs its cases, as putting it would, and changes nothing. \
             Findings are the answer, not an error. The body may have 64 MiB.",
        )
        .scope("read")
        .takes("Bundle", "The whole bundle.", &examples::bundle())
        .gives(200, "What would come of putting it.", "BundleChecked", &examples::bundle_checked(), &["Remit-Revision"])
        .fails(&[Kind::NOT_READY])
}

fn list_entities() -> Operation {
    Operation::new("GET", "/v1/entities", "list_entities", "Entities")
        .says(
            "List entities",
            "Live entities by type and id. Those of the bundle are not among them.",
        )
        .scope("read")
        .query("type", &text(), "Only this type.", &json!("Agent"))
        .query(
            "limit",
            &limit(),
            "How many a page holds at most.",
            &json!(100),
        )
        .query(
            "cursor",
            &text(),
            "The `next` of the page before.",
            &json!(""),
        )
        .gives(
            200,
            "One page.",
            "EntityPage",
            &examples::entity_page(),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn of_entity(operation: Operation) -> Operation {
    let operation = if operation.method == "GET" {
        operation
    } else {
        lifecycle::once(operation)
    };
    operation
        .part("type", "The entity's type, percent-encoded.", "Agent")
        .part(
            "id",
            "The entity's id, percent-encoded and byte-exact: `/` is `%2F`.",
            "invoice-bot",
        )
}

fn get_entity() -> Operation {
    of_entity(Operation::new(
        "GET",
        "/v1/entities/{type}/{id}",
        "get_entity",
        "Entities",
    ))
    .says("Read an entity", "One live entity.")
    .scope("read")
    .header(
        "If-None-Match",
        "An `ETag`: 304 when that is still the newest.",
        "\"42\"",
    )
    .gives(
        200,
        "The entity.",
        "Entity",
        &examples::entity(),
        &["ETag", "Remit-Revision"],
    )
    .gives_nothing(304, "The entity is the one you have.", &["ETag"])
    .fails(&[
        Kind::INVALID_REQUEST,
        Kind::NOT_FOUND,
        Kind::STORE_UNAVAILABLE,
    ])
}

/// How a change of entities can fail.
const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::CONFLICT,
    Kind::ENTITY_INVALID,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::NOT_READY,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

fn put_entity() -> Operation {
    of_entity(Operation::new("PUT", "/v1/entities/{type}/{id}", "put_entity", "Entities"))
        .says(
            "Write an entity",
            "Makes the entity or replaces it whole. It is checked against the schema in force first. The answer comes \
             when this replica decides with it. An entity of the bundle cannot be written here: that is a 409.",
        )
        .scope("write")
        .header("If-Match", "An `ETag`: write only over that state.", "\"42\"")
        .header("If-None-Match", "`*`: write only where there is none.", "*")
        .until()
        .takes("EntityBody", "What it is to be.", &examples::entity_body())
        .gives(200, "It is written.", "EntitiesApplied", &json!({ "revision": 43, "written": 1, "removed": 0 }), &["ETag", "Remit-Revision"])
        .fails(UNCHANGED)
        .fails(&[Kind::STALE_REVISION])
}

fn delete_entity() -> Operation {
    of_entity(Operation::new(
        "DELETE",
        "/v1/entities/{type}/{id}",
        "delete_entity",
        "Entities",
    ))
    .says(
        "Remove an entity",
        "It is gone from decisions of this replica when the answer comes.",
    )
    .scope("write")
    .header("If-Match", "An `ETag`: remove only that state.", "\"42\"")
    .until()
    .gives(
        200,
        "It is removed.",
        "EntitiesApplied",
        &json!({ "revision": 44, "written": 0, "removed": 1 }),
        &["Remit-Revision"],
    )
    .fails(UNCHANGED)
    .fails(&[Kind::NOT_FOUND, Kind::STALE_REVISION])
}

fn change_entities() -> Operation {
    let operation = Operation::new("POST", "/v1/entities/bulk", "change_entities", "Entities");
    lifecycle::once(operation)
        .says(
            "Change many entities",
            "Writes and removes up to 100,000 entities, all of them or none. As `application/json` an array, as \
             `application/x-ndjson` one item a line. An error names the item or the line, the entity and what is wrong \
             with it. The body may have 64 MiB.",
        )
        .scope("write")
        .until()
        .takes("EntityChanges", "The changes.", &examples::entity_changes())
        .or_takes("application/x-ndjson", &examples::entity_lines())
        .gives(200, "All of it is done.", "EntitiesApplied", &examples::entities_applied(), &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn list_decisions() -> Operation {
    let time = json!({ "type": "string", "format": "date-time" });
    Operation::new("GET", "/v1/decisions", "list_decisions", "Record")
        .says(
            "List decisions",
            "The records that match every parameter given, newest first. A decision that this replica has answered is \
             there when you ask here. An unknown parameter is an error.\n\n\
             To follow decisions, keep the newest id and ask for those `after` it; walk `next` until it is missing. \
             Another replica may ship a decision some seconds late with an older id: to miss none, ask again from some \
             seconds back and leave out the ids you have.",
        )
        .scope("read")
        .query("from", &time, "Made at this time or later.", &json!("2026-11-22T00:00:00Z"))
        .query("until", &time, "Made before this time.", &json!("2026-11-23T00:00:00Z"))
        .query("decision", &json!({ "type": "string", "enum": ["permit", "deny"] }), "Only these.", &json!("deny"))
        .query("reason", &super::reference("Reason"), "Only with this reason.", &json!("no_permit"))
        .query("subject", &text(), "Only of this subject, as `Type::\"id\"`.", &json!("Agent::\"invoice-bot\""))
        .query("agent", &text(), "Only of subjects with this id, whatever their type.", &json!("invoice-bot"))
        .query("action", &text(), "Only with this action name.", &json!("call"))
        .query("resource", &text(), "Only on this resource, as `Type::\"id\"`, or on resources with this id.", &json!("mail.send"))
        .query("policy", &text(), "Only where this policy was determining.", &json!("active-agents"))
        .query("after", &json!({ "type": "string", "format": "uuid" }), "Only newer than this decision.", &json!("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"))
        .query("limit", &limit(), "How many a page holds at most.", &json!(100))
        .query("cursor", &text(), "The `next` of the page before, with the same other parameters.", &json!(""))
        .gives(200, "One page.", "DecisionPage", &examples::decision_page(), &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

const DECISION: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";

fn get_decision() -> Operation {
    Operation::new("GET", "/v1/decisions/{id}", "get_decision", "Record")
        .says("Read a decision", "The record of one decision.")
        .scope("read")
        .part("id", "The id of the decision.", DECISION)
        .gives(
            200,
            "The record.",
            "DecisionRecord",
            &examples::record(),
            &[],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn explain_decision() -> Operation {
    Operation::new("POST", "/v1/decisions/{id}/explain", "explain_decision", "Record")
        .says(
            "Explain a decision",
            "Makes the recorded decision again, from its own question and facts, over the bundle and the entities of its \
             revision, and shows every candidate policy and every clause with the values it saw. Nothing is recorded.",
        )
        .scope("read")
        .part("id", "The id of the decision.", DECISION)
        .query("against", &json!({ "type": "string", "enum": ["recorded", "current"], "default": "recorded" }), "The bundle of the record, or today's.", &json!("current"))
        .gives(200, "The explanation.", "Explained", &examples::explained(), &["Remit-Revision"])
        .fails(&[Kind::INVALID_REQUEST, Kind::NOT_FOUND, Kind::CONFLICT, Kind::NOT_READY, Kind::STORE_UNAVAILABLE])
}

const KEY: &str = "019aa8e0-11d4-7a30-8f52-6d1c7b9e4f01";

fn create_key() -> Operation {
    lifecycle::once(Operation::new("POST", "/v1/keys", "create_key", "Keys"))
        .says(
            "Make a key",
            "The whole key is in the answer and nowhere else: Remit keeps a keyed hash. A key cannot give scopes that it \
             does not have itself. Sent again under its `Idempotency-Key`, the request is 409 and names the key it made: \
             the secret is not told twice.",
        )
        .scope("keys")
        .takes("NewKey", "What it is for and what it may do.", &examples::new_key())
        .gives(201, "The key, shown this once.", "CreatedKey", &examples::created_key(), &["Location", "Remit-Revision"])
        .fails(&[Kind::CONFLICT, Kind::IDEMPOTENCY_KEY_REUSED, Kind::REVISION_NOT_REACHED, Kind::STORE_UNAVAILABLE])
}

fn list_keys() -> Operation {
    Operation::new("GET", "/v1/keys", "list_keys", "Keys")
        .says("List keys", "Every key of the tenant, without its secret.")
        .scope("keys")
        .gives(200, "The keys.", "KeyList", &examples::key_list(), &[])
        .fails(&[Kind::STORE_UNAVAILABLE])
}

fn get_key() -> Operation {
    Operation::new("GET", "/v1/keys/{id}", "get_key", "Keys")
        .says("Read a key", "One key, without its secret.")
        .scope("keys")
        .part("id", "The id of the key.", KEY)
        .gives(200, "The key.", "Key", &examples::key(), &[])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn revoke_key() -> Operation {
    lifecycle::once(Operation::new("DELETE", "/v1/keys/{id}", "revoke_key", "Keys"))
        .says("Revoke a key", "It is refused by this replica when the answer comes, and by the others within seconds; with `wait=fleet` by all of them. Revoking it again changes nothing. Revoking the last key by which somebody could publish policies or manage principals is refused: 422 `lock-out`.")
        .scope("keys")
        .part("id", "The id of the key.", KEY)
        .until()
        .gives_nothing(204, "It is revoked.", &["Remit-Revision"])
        .fails(admin::UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

fn who_am_i() -> Operation {
    Operation::new("GET", "/v1/whoami", "who_am_i", "Keys")
        .says(
            "Ask who I am",
            "What the presented key is and may do, who acts through it, and the revision this replica decides at.",
        )
        .any_key()
        .gives(
            200,
            "The key you sent.",
            "WhoAmI",
            &examples::who_am_i(),
            &["Remit-Revision"],
        )
}
