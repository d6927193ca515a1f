//! The operations and schemas of the administration: who may do what, and who did.

use serde_json::{Map, Value, json};

use super::examples::KEY;
use super::lifecycle::{once, paged};
use super::{Operation, or_null, reference};
use crate::admin::Action;
use crate::problem::Kind;

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list_principals(),
        get_principal(),
        put_principal(),
        disable_principal(),
        list_admin_actions(),
    ]
}

/// How a change of who administers can fail.
pub(super) const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::CONFLICT,
    Kind::LOCK_OUT,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

fn list_principals() -> Operation {
    let operation = Operation::new("GET", "/v1/principals", "list_principals", "Administration")
        .says(
            "List principals",
            "Everybody who administers the tenant by name, disabled ones included. A key that is bound to nobody acts for \
             itself, as `key:` and its id, and is not among them.",
        );
    paged(operation)
        .scope("keys")
        .gives(200, "One page.", "PrincipalPage", &page(), &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn of_principal(operation: Operation) -> Operation {
    operation.scope("keys").part(
        "name",
        "The name of the principal, percent-encoded and byte-exact.",
        "maya",
    )
}

fn get_principal() -> Operation {
    let path = "/v1/principals/{name}";
    of_principal(Operation::new(
        "GET",
        path,
        "get_principal",
        "Administration",
    ))
    .says("Read a principal", "One principal and its roles.")
    .gives(200, "The principal.", "Principal", &principal(), &[])
    .fails(&[
        Kind::INVALID_REQUEST,
        Kind::NOT_FOUND,
        Kind::STORE_UNAVAILABLE,
    ])
}

fn put_principal() -> Operation {
    let path = "/v1/principals/{name}";
    let operation = of_principal(Operation::new(
        "PUT",
        path,
        "put_principal",
        "Administration",
    ));
    once(operation)
        .says(
            "Set a principal",
            "Makes the principal, or gives it these roles in place of those it has, and enables it where it was disabled. \
             Its kind never changes: 409. A change after which nobody could publish policies and nobody could manage \
             principals is refused: 422 `lock-out`. Its keys have the new roles on this replica when the answer comes.",
        )
        .until()
        .takes("PrincipalBody", "What it is to be.", &json!({ "kind": "person", "roles": ["author", "approver"] }))
        .gives(200, "It is so.", "Principal", &principal(), &["Remit-Revision"])
        .fails(UNCHANGED)
}

fn disable_principal() -> Operation {
    let path = "/v1/principals/{name}";
    let operation = of_principal(Operation::new(
        "DELETE",
        path,
        "disable_principal",
        "Administration",
    ));
    once(operation)
        .says(
            "Disable a principal",
            "None of its keys is accepted by this replica when the answer comes. It is not removed: records go on naming \
             it. Disabling it again changes nothing.",
        )
        .until()
        .gives_nothing(204, "It is disabled.", &["Remit-Revision"])
        .fails(UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

fn list_admin_actions() -> Operation {
    let text = json!({ "type": "string" });
    let verdict = json!({ "type": "string", "enum": ["permit", "deny"] });
    let operation = Operation::new(
        "GET",
        "/v1/admin/actions",
        "list_admin_actions",
        "Administration",
    )
    .says(
        "List what was done",
        "The records of administration that match every parameter given, newest first: every change, written in one \
         transaction with it, and every change that was denied. What only reads is not recorded.",
    );
    paged(operation)
        .scope("read")
        .query(
            "principal",
            &text,
            "Only what this principal did.",
            &json!("maya"),
        )
        .query(
            "action",
            &text,
            "Only this operation.",
            &json!("put_policy"),
        )
        .query("verdict", &verdict, "Only these.", &json!("deny"))
        .gives(
            200,
            "One page.",
            "AdminActionPage",
            &json!({ "actions": [action()] }),
            &["Link"],
        )
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn principal() -> Value {
    json!({
        "name": "maya", "kind": "person", "roles": ["author", "approver"],
        "created_at": "2026-11-22T09:00:00.000000Z",
    })
}

fn page() -> Value {
    json!({ "principals": [principal()] })
}

fn action() -> Value {
    json!({
        "id": "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a78", "at": "2026-11-22T09:30:00.000000Z",
        "principal": "maya", "roles": ["publisher"], "key": KEY, "action": "put_policy",
        "resource": { "type": "Policy", "id": "payer-payments" }, "verdict": "permit", "reason": "policy_permit",
        "determining": ["remit.publisher"], "loosens": false, "revision": 42, "request_id": "0d6c2f6e7a1b4f0f",
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let id = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });
    let roles = json!({ "type": "array", "items": reference("Role"), "description": "What it is trusted with." });
    let kind = json!({ "type": "string", "enum": ["person", "machine"], "description": "A human being, or a program." });
    let changes = Action::ALL.iter().filter(|action| action.changes());
    let changes: Vec<&str> = changes.map(|action| action.name()).collect();
    let schemas = json!({
        "Role": {
            "type": "string", "enum": ["reader", "author", "publisher", "approver", "admin", "auditor", "operator"],
            "description": "`reader`: reads what decides and what was decided; every other role reads that too. `author`: writes drafts. `publisher`: brings policies and entities into force. `approver`: reviews what others want to. `admin`: looks after principals, keys and settings. `auditor`: reads who did what. `operator`: opens and ends tasks, and stops agents, tools and models.",
        },
        "PrincipalBody": {
            "type": "object", "description": "What a principal is to be.", "required": ["kind", "roles"], "additionalProperties": false,
            "properties": { "kind": kind, "roles": roles, "person": or_null(text("The natural person behind it, by the name of their first account: two accounts of one person are one approver. An empty text for nobody but itself; without it, whoever was.")) },
        },
        "Actor": {
            "type": "object", "description": "Who acts.", "required": ["name", "kind", "roles"],
            "properties": { "name": text("What it is called."), "kind": kind, "roles": roles },
        },
        "Principal": {
            "allOf": [reference("Actor"), { "type": "object", "required": ["created_at"], "properties": {
                "created_at": time("When it was made."), "disabled_at": time("When it was disabled."),
                "person": text("The natural person behind it, by the name of their first account."),
            } }],
            "description": "Somebody who administers.",
        },
        "PrincipalPage": {
            "type": "object", "required": ["principals"],
            "properties": { "principals": { "type": "array", "items": reference("Principal"), "description": "By name." }, "next": text("The cursor of the next page.") },
        },
        "AdminAction": {
            "type": "object", "description": "The record of one change, or of one that was denied.",
            "required": ["id", "at", "principal", "roles", "action", "resource", "verdict", "reason", "determining"],
            "properties": {
                "id": id("Its id."), "at": time("When it was decided."),
                "principal": text("Who: a principal, `key:` and an id for a key that is bound to nobody, `remit` for what was done in the database itself."),
                "roles": { "type": "array", "items": reference("Role"), "description": "The roles that it had then." },
                "key": id("The API key; absent for what was done without one."),
                "action": { "type": "string", "enum": changes, "description": "The operation." },
                "resource": reference("EntityUid"),
                "verdict": { "type": "string", "enum": ["permit", "deny"] },
                "reason": text("Why, as a code: those of a decision, `missing_scope` for a key without the scope, `direct` for what was done without a key."),
                "determining": { "type": "array", "items": { "type": "string" }, "description": "The policies of the administration that settled it; built-in ones begin with `remit.`." },
                "loosens": { "type": "boolean", "description": "Whether something that was denied may be permitted by it, where that was looked at." },
                "break_glass": text("The break-glass grant that it rests on."),
                "details": { "type": "object", "additionalProperties": true, "description": "What else is to be known: the hash of a bundle, the scopes of a key, the roles of a principal." },
                "revision": { "allOf": [reference("Revision")], "description": "The revision that it brought; absent for what was denied." },
                "request_id": text("The id of the request."),
            },
        },
        "AdminActionPage": {
            "type": "object", "required": ["actions"],
            "properties": { "actions": { "type": "array", "items": reference("AdminAction"), "description": "Newest first." }, "next": text("The cursor of the next page.") },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
