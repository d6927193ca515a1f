//! The operations on tenants, and their schemas.

use serde_json::{Map, Value, json};

use super::examples::created_key;
use super::{Operation, lifecycle, or_null, reference};
use crate::problem::Kind;

const TENANT: &str = "019aa8d0-0000-7a30-8f52-6d1c7b9e4f01";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list_tenants(),
        create_tenant(),
        get_tenant(),
        suspend_tenant(),
        resume_tenant(),
        export_tenant(),
        delete_tenant(),
    ]
}

fn list_tenants() -> Operation {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1_000, "default": 100 });
    let text = json!({ "type": "string" });
    Operation::new("GET", "/v1/tenants", "list_tenants", "Tenants")
        .says(
            "List tenants",
            "Every tenant of this installation, oldest first. Those that were deleted are not listed, but for those of which \
             something is left.",
        )
        .scope("tenants")
        .query("limit", &limit, "How many a page holds at most.", &json!(100))
        .query("cursor", &text, "The `next` of the page before.", &json!(""))
        .gives(200, "One page.", "TenantPage", &json!({ "tenants": [tenant("active")] }), &["Link"])
        .fails(&[Kind::STORE_UNAVAILABLE])
}

fn create_tenant() -> Operation {
    lifecycle::once(Operation::new("POST", "/v1/tenants", "create_tenant", "Tenants"))
        .says(
            "Make a tenant",
            "The answer has the tenant's first key, whole and this once; it has every scope but `tenants`, and so can make \
             all its other keys. The tenant decides nothing before that key has put a bundle. 409 where one of this name \
             exists. Sent again under its `Idempotency-Key`, the request is 409 and names the `tenant` it made: the key is \
             told once.",
        )
        .scope("tenants")
        .takes("NewTenant", "What it is called.", &json!({ "name": "acme" }))
        .gives(201, "The tenant, and its first key, shown this once.", "CreatedTenant", &created(), &["Location"])
        .fails(&[
            Kind::CONFLICT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::NOT_FOUND,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn of_tenant(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Tenants")
        .scope("tenants")
        .part("id", "The id of the tenant.", TENANT)
        .fails(&[Kind::NOT_FOUND, Kind::STORE_UNAVAILABLE])
}

fn get_tenant() -> Operation {
    of_tenant("GET", "/v1/tenants/{id}", "get_tenant")
        .says(
            "Read a tenant",
            "One tenant and its state. Of one that was deleted the id stays, so that it is never given again.",
        )
        .gives(200, "The tenant.", "Tenant", &tenant("active"), &[])
}

fn suspend_tenant() -> Operation {
    of_tenant("POST", "/v1/tenants/{id}/suspend", "suspend_tenant")
        .says(
            "Suspend a tenant",
            "Every key of it is answered 403 `tenant-suspended`, by this replica when the answer comes and by the others \
             within their bound of staleness; with `wait=fleet` by all of them. Nothing is lost. Again changes nothing. \
             409 for the tenant of your own key.",
        )
        .until()
        .gives(200, "It is suspended.", "Tenant", &tenant("suspended"), &[])
        .fails(&[Kind::CONFLICT, Kind::STALE_POLICY, Kind::REVISION_NOT_REACHED])
}

fn resume_tenant() -> Operation {
    of_tenant("POST", "/v1/tenants/{id}/resume", "resume_tenant")
        .says(
            "Resume a tenant",
            "Takes a suspension back. Again changes nothing.",
        )
        .until()
        .gives(200, "It is active.", "Tenant", &tenant("active"), &[])
        .fails(&[Kind::STALE_POLICY, Kind::REVISION_NOT_REACHED])
}

fn export_tenant() -> Operation {
    let row = json!({ "table": "entities", "kind": "Agent", "id": "invoice-bot", "revision": 3, "body": "{}" });
    let lines = [
        json!({ "tenant": tenant("suspended") }),
        row,
        json!({ "end": { "rows": { "entities": 1 } } }),
    ];
    let lines = lines.map(|line| line.to_string()).join("\n");
    of_tenant("GET", "/v1/tenants/{id}/export", "export_tenant")
        .says(
            "Export a tenant",
            "Everything that belongs to a tenant as JSON, an object a line: the tenant, then every row of every table, then \
             `end` with the number of rows of each table. An answer without `end` was cut off. Columns without a value are \
             left out, times are microseconds since 1970, and a `body` is the text that is stored, JSON in a string. Hashes \
             of keys are not in it. It is not bound by the deadline of a request. Suspend the tenant first, so that all of \
             it is of one moment.",
        )
        .gives_lines("The lines.", "application/x-ndjson", &lines)
}

fn delete_tenant() -> Operation {
    let text = json!({ "type": "string" });
    of_tenant("DELETE", "/v1/tenants/{id}", "delete_tenant")
        .says(
            "Delete a tenant",
            "Removes a suspended tenant with everything that belongs to it, for good; decisions that were not shipped yet \
             are not kept either. `name` is the tenant's name, said again. Its name is free at once, its id is never given \
             again. 409 where it was not suspended, where a kill of everything is in force that it has set, and for the tenant \
             of your own key.\n\n\
             202 after ten seconds: it goes on. Where the server is stopped meanwhile the state stays `deleting`; delete it \
             again then.",
        )
        .query("name", &text, "The name of the tenant.", &json!("acme"))
        .gives(200, "Nothing of it is left.", "Tenant", &tenant("deleted"), &[])
        .gives(202, "It is deleted, and what is left of it is being removed.", "Tenant", &tenant("deleting"), &[])
        .fails(&[Kind::CONFLICT])
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let name = json!({ "type": "string", "minLength": 1, "maxLength": 128, "description": "Its name, byte-exact: at most 128 bytes, no control character." });
    let environment = json!({ "type": "string", "pattern": "^[a-z0-9]{1,16}$", "description": "The environment of its first key; `live` where left out." });
    let schemas = json!({
        "NewTenant": {
            "type": "object", "description": "A tenant to be made.", "required": ["name"], "additionalProperties": false,
            "properties": { "name": name, "environment": or_null(environment) },
        },
        "Tenant": {
            "type": "object", "description": "One isolated customer of this installation.",
            "required": ["id", "state", "revision", "created_at", "second_person"],
            "properties": {
                "id": { "type": "string", "format": "uuid", "description": "Its id." },
                "name": { "type": "string", "description": "Its name; absent once nothing of it is left." },
                "state": {
                    "type": "string", "enum": ["active", "suspended", "deleting", "deleted"],
                    "description": "`suspended`: its keys are refused until it is resumed. `deleting`: it is no more, and some of its rows are left. `deleted`: nothing is left.",
                },
                "revision": reference("Revision"),
                "created_at": time("When it was made."), "suspended_at": time("When it was suspended."), "deleted_at": time("When it was deleted."),
                "second_person": { "type": "boolean", "description": "Whether what loosens its policies takes a second person." },
            },
        },
        "CreatedTenant": {
            "allOf": [reference("Tenant"), { "type": "object", "required": ["key"], "properties": { "key": { "type": "string", "description": "The whole first key. It is shown this once and cannot be read again." } } }],
            "description": "A new tenant with its first key.",
        },
        "TenantPage": {
            "type": "object", "description": "One page of tenants.", "required": ["tenants"],
            "properties": {
                "tenants": { "type": "array", "items": reference("Tenant"), "description": "Oldest first." },
                "next": { "type": "string", "description": "The cursor of the next page; absent on the last one." },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

fn tenant(state: &str) -> Value {
    let mut tenant = json!({ "id": TENANT, "state": state, "revision": 42, "created_at": "2026-11-22T09:00:00Z", "second_person": false });
    let later = "2026-11-23T09:00:00Z";
    if let Some(members) = tenant.as_object_mut() {
        if state != "deleted" {
            members.insert("name".to_owned(), json!("acme"));
        }
        if state != "active" {
            members.insert("suspended_at".to_owned(), json!(later));
        }
        if state.starts_with("delet") {
            members.insert("deleted_at".to_owned(), json!(later));
        }
    }
    tenant
}

fn created() -> Value {
    let mut created = tenant("active");
    if let (Some(members), Some(key)) = (created.as_object_mut(), created_key().get("key")) {
        members.insert("key".to_owned(), key.clone());
    }
    created
}
