//! The operations and schemas of drafts.

use serde_json::{Map, Value, json};

use super::examples::{self, HASH, KEY};
use super::lifecycle::{UNCHANGED, message, once, paged};
use super::{Operation, impact, or_null, reference};
use crate::problem::Kind;

/// The id of the draft in the examples.
const DRAFT: &str = "019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a90";
const MATCH: &str = "The `ETag` of the draft as you read it.";

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        create(),
        list(),
        get(),
        discard(),
        put_bundle(),
        put_policy(),
        delete_policy(),
        rebase(),
        check(),
        assess(),
        review(),
        publish(),
    ]
}

fn of_draft(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    Operation::new(method, path, id, "Drafts").part("id", "The draft.", DRAFT)
}

/// An operation that changes an open draft.
fn changes(method: &'static str, path: &'static str, id: &'static str) -> Operation {
    once(of_draft(method, path, id))
        .scope("write")
        .header("If-Match", MATCH, "\"3\"")
        .fails(&[
            Kind::IDEMPOTENCY_KEY_REUSED,
            Kind::NOT_FOUND,
            Kind::CONFLICT,
            Kind::STALE_REVISION,
            Kind::PRECONDITION_REQUIRED,
            Kind::STORE_UNAVAILABLE,
        ])
}

/// An operation that answers with a draft that was saved.
fn saves(operation: Operation) -> Operation {
    let about = "It is saved, whatever the diagnostics say of it.";
    operation.gives(200, about, "DraftSaved", &saved(), &["ETag"])
}

fn create() -> Operation {
    once(Operation::new("POST", "/v1/drafts", "create_draft", "Drafts"))
        .says(
            "Make a draft",
            "Begins a change of the bundle that is in force. Without a bundle the draft begins as that one. A draft need not \
             compile: what is wrong with it is told, and it is saved. Names are unique among open drafts, of which there may \
             be 100. The body may have 64 MiB.",
        )
        .scope("write")
        .takes("DraftBody", "What it is called, and what it holds.", &json!({ "name": "refunds", "message": "Refunds up to 50" }))
        .gives(201, "It is made.", "DraftSaved", &saved(), &["ETag", "Location"])
        .fails(&[Kind::NOT_FOUND, Kind::CONFLICT, Kind::IDEMPOTENCY_KEY_REUSED, Kind::STORE_UNAVAILABLE])
}

fn list() -> Operation {
    let state = json!({ "type": "string", "enum": ["open", "published", "discarded"] });
    let text = json!({ "type": "string" });
    let operation = Operation::new("GET", "/v1/drafts", "list_drafts", "Drafts")
        .says("List drafts", "Drafts without their bundles, newest first.")
        .query("state", &state, "Those in this state.", &json!("open"))
        .query("name", &text, "Those of this name.", &json!("refunds"));
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "DraftPage",
            &json!({ "drafts": [head()] }),
            &["Link"],
        )
        .fails(&[Kind::STORE_UNAVAILABLE])
}

fn get() -> Operation {
    of_draft("GET", "/v1/drafts/{id}", "get_draft")
        .says(
            "Read a draft",
            "One draft with its bundle, what it changes against its base, what was found out about it and the reviews that \
             stand. What was found out and what was said of another content or over another base is left out.",
        )
        .scope("read")
        .gives(200, "The draft.", "Draft", &whole(), &["ETag"])
        .fails(&[Kind::NOT_FOUND, Kind::STALE_REVISION, Kind::STORE_UNAVAILABLE])
}

fn discard() -> Operation {
    changes("DELETE", "/v1/drafts/{id}", "discard_draft")
        .says(
            "Discard a draft",
            "Gives an open draft up. All but its bundle stays readable, and its name is free again. `If-Match` is required.",
        )
        .gives_nothing(204, "It is given up.", &[])
}

fn put_bundle() -> Operation {
    let path = "/v1/drafts/{id}/bundle";
    let operation = changes("PUT", path, "put_draft_bundle").says(
        "Edit a draft",
        "Replaces the bundle of a draft. It is compiled to tell what is wrong with it, and saved either way. `If-Match` is \
         required: of two who edit at once the second gets 412, and nothing of the first is written over. The body may have \
         64 MiB.",
    );
    saves(operation.takes("Bundle", "The whole bundle.", &examples::bundle()))
}

fn put_policy() -> Operation {
    let path = "/v1/drafts/{id}/policies/{policy}";
    let operation = changes("PUT", path, "put_draft_policy")
        .part("policy", "The policy's `@id`, percent-encoded and byte-exact.", "mail-for-all")
        .says(
            "Edit a policy of a draft",
            "Replaces one policy in its file, or puts a new one at the end of `file`, and keeps every other byte. The text \
             must be one policy with that id, because that is how its place is found (422); what the schema says of it is \
             told and saved. `If-Match` is required.",
        )
        .takes("PolicyBody", "What it is to be.", &json!({ "text": "@id(\"mail-for-all\")\npermit (principal is Agent, action == Action::\"call\", resource == Tool::\"mail.send\");" }))
        .fails(&[Kind::POLICY_INVALID]);
    saves(operation)
}

fn delete_policy() -> Operation {
    let path = "/v1/drafts/{id}/policies/{policy}";
    let operation = changes("DELETE", path, "delete_draft_policy")
        .part("policy", "The policy's `@id`, percent-encoded and byte-exact.", "mail-for-all")
        .says(
            "Remove a policy of a draft",
            "Takes one policy out of its file; a file that has nothing left goes with it. `If-Match` is required.",
        );
    saves(operation)
}

fn rebase() -> Operation {
    let operation = changes("POST", "/v1/drafts/{id}/rebase", "rebase_draft").says(
        "Move a draft on",
        "Makes of the draft the same change of the bundle that is in force now: policy by policy, schema file by schema file, \
         and link, entity and case each by itself. What both sides have changed in different ways is a 409 that lists it as \
         `conflicts`, and nothing is changed. A draft that is not behind stays as it is. `If-Match` is required.",
    );
    saves(operation)
}

fn check() -> Operation {
    of_draft("POST", "/v1/drafts/{id}/check", "check_draft")
        .says(
            "Check a draft",
            "Compiles the draft over the entities of today, runs its cases, and says what it changes against the bundle in \
             force, as `POST /v1/bundle/check` does. What comes of it is kept with the draft, in numbers.",
        )
        .scope("write")
        .gives(200, "What would come of publishing it.", "BundleChecked", &examples::bundle_checked(), &["Remit-Revision"])
        .fails(&[Kind::NOT_FOUND, Kind::CONFLICT, Kind::STALE_REVISION, Kind::STORE_UNAVAILABLE])
}

fn assess() -> Operation {
    let operation = of_draft("POST", "/v1/drafts/{id}/impact", "assess_draft").says(
        "Assess a draft by what was decided",
        "Makes recorded decisions again under the draft, as `POST /v1/bundle/impact` does, with server-sent events where they \
         are asked for. The totals are kept with the draft.",
    );
    impact::windowed(operation).scope("write").fails(&[
        Kind::NOT_FOUND,
        Kind::CONFLICT,
        Kind::STALE_REVISION,
        Kind::STORE_UNAVAILABLE,
    ])
}

fn review() -> Operation {
    changes("POST", "/v1/drafts/{id}/review", "review_draft")
        .says(
            "Review a draft",
            "Says of a draft, exactly as it was read, whether it may be published. `If-Match` is required. A review stands \
             until the draft is edited or moved on, or its author says something else. A draft may have 1,000.",
        )
        .takes("ReviewBody", "The verdict, and why.", &json!({ "verdict": "approve", "message": "Limits are those of the contract" }))
        .gives(201, "It is kept.", "Review", &reviewed(), &[])
}

fn publish() -> Operation {
    let operation = changes("POST", "/v1/drafts/{id}/publish", "publish_draft").says(
        "Publish a draft",
        "Puts what a draft holds in force, as `PUT /v1/bundle` does with a bundle, and marks the draft published in the same \
         transaction. `If-Match` with the draft's `ETag` is required. It is published over its base and over no other bundle: \
         412 with `in_force` says that it is behind, and `POST …/rebase` moves it on. Cases that fail block it.",
    );
    once(operation.until())
        .takes(
            "PublishBody",
            "A message in place of the draft's.",
            &json!({}),
        )
        .gives(
            200,
            "It is in force.",
            "BundleApplied",
            &examples::bundle_applied(),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
}

fn head() -> Value {
    json!({
        "id": DRAFT, "name": "refunds", "message": "Refunds up to 50", "state": "open", "version": 3, "base": 41, "behind": false,
        "hash": HASH, "authors": ["ana"], "created_at": "2026-11-22T09:00:00.000000Z", "updated_at": "2026-11-22T09:31:00.000000Z",
    })
}

/// Returns the head of the example with more members.
fn with(mut more: Value) -> Value {
    let mut all = head();
    if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object_mut()) {
        all.append(more);
    }
    all
}

fn saved() -> Value {
    with(json!({ "compiles": true, "diagnostics": [] }))
}

fn reviewed() -> Value {
    json!({ "principal": "ben", "key": KEY, "verdict": "approve", "message": "Limits are those of the contract", "at": "2026-11-22T09:40:00.000000Z" })
}

fn whole() -> Value {
    with(json!({
        "differences": { "added": ["refund-small"], "changed": [], "removed": [], "unreadable": [], "parts": ["cases"] },
        "results": {
            "check": {
                "about": HASH, "at": "2026-11-22T09:32:00.000000Z", "revision": 41, "valid": true, "errors": 0, "warnings": 0,
                "cases": { "passed": 12, "failed": 0 }, "loosens": true,
            },
        },
        "reviews": [reviewed()],
        "bundle": examples::bundle(),
    }))
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

fn count(about: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": about })
}

fn yes(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

fn names(about: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": about })
}

fn revision(about: &str) -> Value {
    json!({ "allOf": [reference("Revision")], "description": about })
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    for group in [of_drafts(), of_findings(), of_reviews()] {
        if let Value::Object(mut group) = group {
            all.append(&mut group);
        }
    }
    all
}

fn of_drafts() -> Value {
    json!({
        "DraftHead": {
            "type": "object", "description": "A draft without its bundle.",
            "required": ["id", "name", "state", "version", "behind", "hash", "authors", "created_at", "updated_at"],
            "properties": {
                "id": { "type": "string", "format": "uuid" }, "name": text("What it is called."), "message": message(),
                "state": { "type": "string", "enum": ["open", "published", "discarded"], "description": "What has become of it." },
                "version": count("Counts its edits; the `ETag` is this number in quotes."),
                "base": revision("The revision of the bundle that it changes; absent where there was none."),
                "behind": yes("Whether another bundle than its base is in force."),
                "hash": reference("ContentHash"), "authors": names("Every principal that has edited it."),
                "created_at": time("When it was made."), "updated_at": time("When it was last edited, published or discarded."),
                "published_as": revision("The revision that it was published as."),
            },
        },
        "DraftSaved": {
            "description": "A draft that is saved, and what is wrong with it.",
            "allOf": [reference("DraftHead"), {
                "type": "object", "required": ["compiles", "diagnostics"],
                "properties": {
                    "compiles": yes("Whether it could decide, its cases apart."),
                    "diagnostics": { "type": "array", "items": reference("Diagnostic"), "description": "What is wrong with it, or what somebody should look at." },
                },
            }],
        },
        "Draft": {
            "description": "A draft with all that is known of it.",
            "allOf": [reference("DraftHead"), {
                "type": "object", "required": ["results", "reviews"],
                "description": "`differences` and `bundle` are absent where it was discarded.",
                "properties": {
                    "differences": reference("Differences"), "results": reference("DraftResults"),
                    "reviews": { "type": "array", "items": reference("Review"), "description": "Those that stand: of each principal the last one, where it is about this content and base." },
                    "bundle": reference("Bundle"),
                },
            }],
        },
        "DraftPage": {
            "type": "object", "description": "One page of drafts.", "required": ["drafts"],
            "properties": {
                "drafts": { "type": "array", "items": reference("DraftHead"), "description": "Newest first." },
                "next": text("The cursor of the next page; absent on the last one."),
            },
        },
        "DraftBody": {
            "type": "object", "description": "A draft to be made.", "required": ["name"], "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 128, "description": "Unlike every other open draft's: one line of at most 128 bytes, in Unicode NFC." },
                "message": or_null(message()), "bundle": or_null(reference("Bundle")),
            },
        },
    })
}

fn of_findings() -> Value {
    json!({
        "Differences": {
            "type": "object", "description": "What a draft changes against its base; where a policy stands in its file is no change.",
            "required": ["added", "changed", "removed", "unreadable", "parts"],
            "properties": {
                "added": names("Policies that are new."), "changed": names("Policies whose text is another one."),
                "removed": names("Policies that are gone."),
                "unreadable": names("Files that differ and hold something that cannot be read as a policy."),
                "parts": { "type": "array", "items": { "type": "string", "enum": ["schema", "links", "entities", "cases", "admin"] }, "description": "What else differs." },
            },
        },
        "DraftResults": {
            "type": "object", "description": "What was found out about a draft as it is.",
            "properties": { "check": reference("DraftCheck"), "impact": reference("ImpactTotals") },
        },
        "DraftCheck": {
            "type": "object", "description": "What came of a check.",
            "required": ["about", "at", "revision", "valid", "errors", "warnings", "cases"],
            "properties": {
                "about": reference("ContentHash"), "at": time("When it was checked."),
                "revision": revision("The revision whose entities and bundle it was checked against."),
                "valid": yes("Whether it compiles and its cases pass."), "errors": count("Errors."), "warnings": count("Warnings."),
                "cases": reference("CaseCount"), "loosens": yes("Whether it may permit what is denied; absent where it does not compile."),
            },
        },
        "CaseCount": {
            "type": "object", "description": "How many cases came out as expected.", "required": ["passed", "failed"],
            "properties": { "passed": count("Those that did."), "failed": count("Those that did not.") },
        },
        "ImpactTotals": {
            "type": "object", "description": "What recorded decisions would have been, in numbers.",
            "required": ["about", "at", "from", "until", "replayed", "unchanged", "truncated", "not_replayable", "totals"],
            "properties": {
                "about": reference("ContentHash"), "at": time("When it was found out."), "from": time("Decisions from this time on."),
                "until": time("And before this one."), "replayed": count("How many were made again."),
                "unchanged": count("How many of them come out the same."), "truncated": yes("Whether there were more."),
                "not_replayable": count("How many could not be made again."),
                "totals": { "type": "object", "additionalProperties": { "type": "integer" }, "description": "How many differ, by outcome." },
            },
        },
    })
}

fn of_reviews() -> Value {
    let verdict = json!({ "type": "string", "enum": ["approve", "reject"], "description": "Whether it may be published." });
    json!({
        "ReviewBody": {
            "type": "object", "description": "What somebody says of a draft.", "required": ["verdict"], "additionalProperties": false,
            "properties": { "verdict": verdict, "message": or_null(message()) },
        },
        "Review": {
            "type": "object", "description": "A review.", "required": ["principal", "key", "verdict", "at"],
            "properties": {
                "principal": text("Whose it is."), "key": { "type": "string", "format": "uuid", "description": "The API key that it came with." },
                "verdict": verdict, "message": message(), "at": time("When it was given."),
            },
        },
        "PublishBody": {
            "type": "object", "description": "What is said of the version.", "additionalProperties": false,
            "properties": { "message": or_null(message()) },
        },
        "Evidence": {
            "type": "object", "description": "What spoke for a version when it was published.",
            "required": ["authors", "publisher", "reviewers", "cases", "warnings", "loosens"],
            "properties": {
                "draft": { "type": "string", "format": "uuid", "description": "The draft that it was." },
                "authors": names("Every principal that had a hand in it."), "publisher": text("The principal that published it."),
                "reviewers": names("Those who had approved exactly this."), "cases": reference("CaseCount"),
                "warnings": count("How many warnings there were."), "loosens": yes("Whether it may permit what was denied."),
                "impact": reference("ImpactTotals"),
            },
        },
    })
}
