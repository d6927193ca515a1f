//! The operation that assesses a draft, and its schemas.

use serde_json::{Map, Value, json};

use super::{Operation, examples, reference};
use crate::problem::Kind;

/// Returns the operation.
pub(super) fn operation() -> Operation {
    let operation = Operation::new("POST", "/v1/bundle/impact", "assess_bundle", "Bundle").says(
            "Assess a bundle by what was decided",
            "Makes recorded decisions again under a bundle, each from its own question and facts and over the live entities of \
             its revision, and says what would have come out otherwise. Nothing is changed and nothing enforced. What cannot \
             be made again is counted and says why. The body may have 64 MiB.\n\n\
             With `Accept: text/event-stream` the answer is a stream of server-sent events: `progress` after each 1,000 \
             decisions, then `impact` with what is documented here, or `problem`. It is not bound by the deadline of a \
             request, and ends when the connection is closed.",
        );
    windowed(operation.takes("Bundle", "The whole bundle.", &examples::bundle())).scope("read")
}

/// Takes a window of decisions, and answers with what would have come of them.
pub(super) fn windowed(operation: Operation) -> Operation {
    let hours = json!({ "type": "integer", "minimum": 1, "maximum": 8_784, "default": 24 });
    let limit =
        json!({ "type": "integer", "minimum": 1, "maximum": 1_000_000, "default": 100_000 });
    operation
        .query(
            "hours",
            &hours,
            "How far back decisions are taken.",
            &json!(24),
        )
        .query(
            "limit",
            &limit,
            "How many decisions at most, the oldest of that time first.",
            &json!(100_000),
        )
        .gives(
            200,
            "What it would have changed.",
            "Impact",
            &example(),
            &["Remit-Revision"],
        )
        .or_gives(
            "text/event-stream",
            "event: progress\ndata: {\"replayed\":1000,\"unchanged\":998}\n\n",
        )
        .fails(&[Kind::POLICY_INVALID, Kind::NOT_READY])
}

fn example() -> Value {
    let said = |verdict: &str, reason: &str| json!({ "verdict": verdict, "reason": reason, "policies": ["reader-floor"] });
    json!({
        "from": "2026-11-24T10:00:00Z", "until": "2026-11-25T10:00:00Z", "replayed": 9_120, "unchanged": 9_100,
        "truncated": false, "entities": "recorded", "totals": { "newly_denied": 20 },
        "groups": [{
            "outcome": "newly_denied", "action": "call", "count": 20,
            "before": said("permit", "policy_permit"), "after": said("deny", "policy_forbid"),
            "samples": ["019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"],
        }],
        "not_replayable": [],
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let count = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let text = |about: &str| json!({ "type": "string", "description": about });
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let samples = json!({
        "type": "array", "items": { "type": "string", "format": "uuid" }, "maxItems": 5, "description": "Ids of some of them.",
    });
    let outcome = json!({
        "type": "string",
        "enum": ["newly_permitted", "newly_denied", "newly_needing_approval", "new_errors", "other_reason"],
    });
    let schemas = json!({
        "Impact": {
            "type": "object", "description": "What a bundle would have changed.",
            "required": ["from", "until", "replayed", "unchanged", "truncated", "entities", "totals", "groups", "not_replayable"],
            "properties": {
                "from": time("Decisions from this time on were taken."),
                "until": time("And those before this one."),
                "replayed": count("How many were made again."),
                "unchanged": count("How many of them come out the same: verdict, reason, policies and errors."),
                "truncated": { "type": "boolean", "description": "Whether there are more of that time than `limit`." },
                "entities": { "type": "string", "enum": ["recorded", "current"], "description": "As of when live entities were taken: of each decision's revision, or today's where there are more than 100,000." },
                "totals": { "type": "object", "additionalProperties": { "type": "integer" }, "description": "How many differ, by outcome." },
                "groups": { "type": "array", "items": reference("ImpactGroup"), "maxItems": 500, "description": "Those that differ, by how they do; beyond 500 groups only `totals` counts." },
                "not_replayable": { "type": "array", "items": reference("NotReplayable"), "description": "Those that could not be made again." },
            },
        },
        "ImpactGroup": {
            "type": "object", "description": "Decisions that differ in the same way.",
            "required": ["outcome", "action", "before", "after", "count", "samples"],
            "properties": {
                "outcome": outcome, "action": text("The action they were about."),
                "before": reference("Said"), "after": reference("Said"),
                "count": count("How many they are."), "samples": samples,
            },
        },
        "Said": {
            "type": "object", "description": "What a decision says.", "required": ["verdict", "reason", "policies"],
            "properties": {
                "verdict": { "type": "string", "enum": ["permit", "deny"] },
                "reason": reference("Reason"),
                "policies": { "type": "array", "items": { "type": "string" }, "description": "The policies that settled it." },
            },
        },
        "NotReplayable": {
            "type": "object", "description": "Decisions that could not be made again.", "required": ["because", "count", "samples"],
            "properties": { "because": text("Why."), "count": count("How many they are."), "samples": samples },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
