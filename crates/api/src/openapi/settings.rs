//! The operations and schemas of settings.

use serde_json::{Map, Value, json};

use super::examples::KEY;
use super::lifecycle::once;
use super::{Operation, reference};
use crate::problem::Kind;

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![get(), put(), confirm()]
}

fn get() -> Operation {
    Operation::new("GET", "/v1/settings", "get_settings", "Settings")
        .says(
            "Read the settings",
            "What the tenant demands of its administration, and what somebody has asked to change.",
        )
        .scope("read")
        .gives(200, "The settings.", "Settings", &pending(), &["ETag"])
        .fails(&[Kind::STORE_UNAVAILABLE])
}

fn put() -> Operation {
    once(Operation::new("PUT", "/v1/settings", "put_settings", "Settings"))
        .says(
            "Change the settings",
            "With `second_person`, what may permit more is published only when a person who had no hand in it has approved \
             exactly that. To demand it holds at once. To demand it no more is only asked for (202), until another person \
             confirms it within 24 hours; asking for what is there takes that back. `If-Match` is required.",
        )
        .scope("keys")
        .until()
        .header("If-Match", "The `ETag` that was read.", "\"0\"")
        .takes("SettingsBody", "What they are to be.", &json!({ "second_person": true }))
        .gives(200, "They are in force.", "Settings", &json!({ "second_person": true }), &["ETag", "Remit-Revision"])
        .gives(202, "It is asked for, and waits for another person.", "Settings", &pending(), &["ETag"])
        .fails(&[
            Kind::STALE_REVISION,
            Kind::PRECONDITION_REQUIRED,
            Kind::CONFLICT,
            Kind::LOCK_OUT,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::REVISION_NOT_REACHED,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn confirm() -> Operation {
    let path = "/v1/settings/confirm";
    once(Operation::new("POST", path, "confirm_settings", "Settings"))
        .says(
            "Confirm settings",
            "Agrees to what another person has asked of the settings, which the body names once more. Only a person can, and \
             not the one who asked.",
        )
        .scope("write")
        .until()
        .takes("SettingsBody", "What was asked for.", &json!({ "second_person": false }))
        .gives(200, "They are in force.", "Settings", &json!({ "second_person": false }), &["ETag", "Remit-Revision"])
        .fails(&[Kind::CONFLICT, Kind::IDEMPOTENCY_KEY_REUSED, Kind::REVISION_NOT_REACHED, Kind::STORE_UNAVAILABLE])
}

fn pending() -> Value {
    json!({ "second_person": true, "pending": {
        "second_person": false, "asked_by": "ana", "key": KEY, "at": "2026-11-22T09:00:00.000000Z",
        "expires_at": "2026-11-23T09:00:00.000000Z",
    } })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let second = json!({ "type": "boolean", "description": "Whether what may permit more needs the approval of a person who had no hand in it." });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let schemas = json!({
        "Settings": {
            "type": "object", "description": "What a tenant demands of its administration.", "required": ["second_person"],
            "properties": { "second_person": second, "pending": reference("PendingSettings"),
                "break_glass": { "type": "array", "items": { "type": "string", "format": "uuid" }, "description": "The break-glass grants that are active; absent where none is, and in the answer to a change." },
            },
        },
        "SettingsBody": {
            "type": "object", "description": "What the settings are to be.", "required": ["second_person"],
            "additionalProperties": false, "properties": { "second_person": second },
        },
        "PendingSettings": {
            "type": "object", "description": "What somebody has asked for and another person has to confirm.",
            "required": ["second_person", "asked_by", "key", "at", "expires_at"],
            "properties": {
                "second_person": second,
                "asked_by": { "type": "string", "description": "The principal that asks." },
                "key": { "type": "string", "format": "uuid", "description": "The API key that it came with." },
                "at": time("When it was asked."), "expires_at": time("Until when it can be confirmed."),
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
