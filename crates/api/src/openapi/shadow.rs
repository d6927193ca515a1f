//! The operations of a shadow: a bundle beside the one in force, and how far the two disagree.

use serde_json::{Map, Value, json};

use super::examples::{HASH, KEY};
use super::{Operation, examples, lifecycle, reference};
use crate::problem::Kind;

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![get_shadow(), put_shadow(), delete_shadow()]
}

fn get_shadow() -> Operation {
    Operation::new("GET", "/v1/shadow", "get_shadow", "Bundle")
        .says(
            "Read what a shadow has found",
            "How the decisions since the shadow was put come out under it, on all replicas: counted, grouped by how they \
             differ as an impact groups them, with ids of some. What another replica has found is told within a second.",
        )
        .scope("read")
        .gives(200, "What it has found.", "ShadowFindings", &found(), &["ETag", "Remit-Revision"])
        .fails(&[Kind::NOT_FOUND, Kind::STORE_UNAVAILABLE])
}

fn put_shadow() -> Operation {
    lifecycle::once(Operation::new("PUT", "/v1/shadow", "put_shadow", "Bundle"))
        .says(
            "Decide by a bundle beside the one in force",
            "Every decision from now on is made again by this bundle, over the same entities and after its answer, and how \
             it differs is counted. Nothing that it decides is enforced. It must compile; its cases are run and reported and \
             need not pass. It takes the place of the shadow there is, with all that was found by that.\n\n\
             `If-Match` with the `ETag` of the shadow, or `If-None-Match: *` where there is none, is required. The body may \
             have 64 MiB.",
        )
        .scope("write")
        .header("If-Match", "The `ETag` of the shadow that this one replaces.", "\"43\"")
        .header("If-None-Match", "`*`: put it only where there is none.", "*")
        .until()
        .takes("Bundle", "The whole bundle.", &examples::bundle())
        .gives(200, "It decides on this replica.", "ShadowBegun", &begun(), &["ETag", "Remit-Revision"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::STALE_REVISION,
            Kind::POLICY_INVALID,
            Kind::PRECONDITION_REQUIRED,
            Kind::CONFLICT,
            Kind::NOT_READY,
            Kind::REVISION_NOT_REACHED,
            Kind::STALE_POLICY,
            Kind::STORE_UNAVAILABLE,
            Kind::NOT_FOUND,
        ])
}

fn delete_shadow() -> Operation {
    lifecycle::once(Operation::new(
        "DELETE",
        "/v1/shadow",
        "delete_shadow",
        "Bundle",
    ))
    .says(
        "End the shadow",
        "It decides no more, and what it has found is forgotten.",
    )
    .scope("write")
    .header("If-Match", "An `ETag`: end only that one.", "\"43\"")
    .until()
    .gives(
        200,
        "It has ended.",
        "ShadowEnded",
        &json!({ "revision": 44 }),
        &["Remit-Revision"],
    )
    .fails(&[
        Kind::INVALID_REQUEST,
        Kind::IDEMPOTENCY_KEY_REUSED,
        Kind::NOT_FOUND,
        Kind::STALE_REVISION,
        Kind::CONFLICT,
        Kind::REVISION_NOT_REACHED,
        Kind::STALE_POLICY,
        Kind::STORE_UNAVAILABLE,
    ])
}

fn begun() -> Value {
    json!({ "revision": 43, "hash": HASH, "policies": 1, "warnings": [], "cases": [] })
}

fn found() -> Value {
    let said = |verdict: &str, reason: &str| json!({ "verdict": verdict, "reason": reason, "policies": ["reader-floor"] });
    json!({
        "revision": 43, "hash": HASH, "since": "2026-11-25T10:00:00Z", "by": KEY,
        "decided": 9_120, "same": 9_100, "differing": 20, "dropped": 0, "failed": 0, "totals": { "newly_denied": 20 },
        "groups": [{
            "outcome": "newly_denied", "action": "call", "count": 20,
            "before": said("permit", "policy_permit"), "after": said("deny", "policy_forbid"),
            "samples": ["019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"],
        }],
        "failures": [],
    })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let count = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    let list = |of: &str, about: &str| json!({ "type": "array", "items": reference(of), "description": about });
    let revision = |about: &str| json!({ "allOf": [reference("Revision")], "description": about });
    let schemas = json!({
        "ShadowBegun": {
            "type": "object", "description": "A shadow that decides on this replica.",
            "required": ["revision", "hash", "policies", "warnings", "cases"],
            "properties": {
                "revision": revision("The revision that brought it."), "hash": reference("ContentHash"),
                "policies": count("How many policies it has, links of templates included."),
                "warnings": list("Diagnostic", "What somebody should look at."),
                "cases": list("CaseOutcome", "What came of each case, in order; they need not pass."),
                "comparison": reference("Comparison"),
                "fleet": reference("Barrier"),
            },
        },
        "ShadowEnded": {
            "type": "object", "description": "There is no shadow any more.", "required": ["revision"],
            "properties": { "revision": revision("The revision that ended it."), "fleet": reference("Barrier") },
        },
        "ShadowFindings": {
            "type": "object", "description": "What a shadow has found on all replicas.",
            "required": ["revision", "hash", "since", "decided", "same", "differing", "dropped", "failed", "totals", "groups", "failures"],
            "properties": {
                "revision": revision("The revision that brought it."), "hash": reference("ContentHash"),
                "since": { "type": "string", "format": "date-time", "description": "When it was put." },
                "by": { "type": "string", "format": "uuid", "description": "The API key that put it." },
                "decided": count("How many decisions it has made again."),
                "same": count("How many of them come out the same: verdict, reason, policies and errors."),
                "differing": count("How many come out otherwise."),
                "dropped": count("Decisions that it let go because too many were waiting."),
                "failed": count("Decisions that it could not make."),
                "totals": { "type": "object", "additionalProperties": { "type": "integer" }, "description": "How many differ, by outcome." },
                "groups": { "type": "array", "items": reference("ImpactGroup"), "maxItems": 500, "description": "Those that differ, by how they do; beyond 500 groups only `totals` counts. Ids are among the first 10,000 that differ." },
                "failures": list("ShadowFailure", "Replicas that cannot decide by it now, and others that could not when they stopped."),
            },
        },
        "ShadowFailure": {
            "type": "object", "description": "A replica that cannot decide by the shadow.", "required": ["replica", "because"],
            "properties": {
                "replica": { "type": "string", "format": "uuid", "description": "The id under which it records." },
                "because": { "type": "string", "description": "Why." },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}
