//! Where a revision is in force: the operation that asks, its schemas, and the parameter that waits with a change.

use serde_json::{Map, Value, json};

use crate::problem::Kind;

use super::{Operation, reference};

/// What a change says where it takes `wait`.
const UNTIL: &str = "`fleet`: answer when every live replica decides with the change, and say in `fleet` which those are. \
    After ten seconds it is 504 `fleet-not-reached`, and the change is committed all the same. Without it the answer \
    comes when this replica does.";

pub(super) fn operations() -> Vec<Operation> {
    let number = json!({ "type": "integer", "minimum": 0, "maximum": 10_000, "default": 0 });
    vec![
        Operation::new("GET", "/v1/revisions/{number}", "get_revision", "Service")
            .says(
                "Ask where a revision is in force",
                "Every replica that was seen within a day, and whether it has this revision of your tenant or a later one. \
                 `reached` says whether every live one has. A replica that is `lost` has not been seen for longer than it \
                 may permit without the database; it is not waited for.",
            )
            .scope("read")
            .part("number", "The revision, such as the `Remit-Revision` that a change answered with.", "42")
            .query("wait", &number, "How long to wait until it is reached, in milliseconds.", &json!(2_000))
            .gives(200, "Where it is in force.", "Barrier", &barrier(), &["Remit-Revision"])
            .fails(&[Kind::INVALID_REQUEST, Kind::NOT_FOUND, Kind::STORE_UNAVAILABLE]),
    ]
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let schemas = json!({
        "Barrier": {
            "type": "object", "description": "Where a revision is in force.",
            "required": ["revision", "head", "reached", "replicas"],
            "properties": {
                "revision": reference("Revision"),
                "head": { "allOf": [reference("Revision")], "description": "The newest revision of the tenant." },
                "reached": { "type": "boolean", "description": "Whether every live replica has it." },
                "replicas": { "type": "array", "items": reference("Replica"), "description": "By name, lost ones included." },
            },
        },
        "Replica": {
            "type": "object", "description": "One process that decides, and how far it is.",
            "required": ["id", "name", "version", "started_at", "seen_at", "revision", "state"],
            "properties": {
                "id": { "type": "string", "format": "uuid", "description": "Its id; new at every start." },
                "name": text("What it is called: `replica.name` of its configuration, or its host and port."),
                "version": text("Which version of Remit it is."),
                "started_at": time("When it was first seen."), "seen_at": time("When it was last seen, by the database's clock."),
                "revision": { "allOf": [reference("Revision")], "description": "The revision that it decides at; 0 before the first." },
                "state": {
                    "type": "string", "enum": ["reached", "behind", "failed", "lost"],
                    "description": "`reached`: it has the revision or a later one. `behind`: not yet. `failed`: not, because of `failure`. `lost`: it was not seen for longer than it may permit without the database.",
                },
                "failure": text("Why its last load failed. It tries again by itself."),
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

pub(super) fn barrier() -> Value {
    let replica = |id: &str, name: &str, revision: u64, state: &str| {
        json!({
            "id": id, "name": name, "version": "0.1.0", "started_at": "2026-11-22T08:00:00.000000Z",
            "seen_at": "2026-11-22T09:30:00.000000Z", "revision": revision, "state": state,
        })
    };
    json!({
        "revision": 42, "head": 42, "reached": false,
        "replicas": [
            replica("019aa8df-0b51-7b62-8d0c-2f1f0e4a9c01", "pdp-1:7364", 42, "reached"),
            replica("019aa8df-0c4e-7f13-a1b2-9c7d5e3b8a02", "pdp-2:7364", 41, "behind"),
        ],
    })
}

// === impl Operation ===

impl Operation {
    /// Takes `wait=fleet`.
    pub(super) fn until(self) -> Self {
        let schema = json!({ "type": "string", "enum": ["fleet"] });
        self.query("wait", &schema, UNTIL, &json!("fleet"))
            .fails(&[Kind::FLEET_NOT_REACHED])
    }
}
