//! The operations and schemas of versions and of single policies: how what decides changes, and how it is taken back.

use serde_json::{Value, json};

use crate::problem::Kind;

use super::examples::{HASH, KEY};
use super::{Operation, examples, or_null, reference};

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        list_versions(),
        get_version(),
        rollback_bundle(),
        list_policies(),
        get_policy(),
        put_policy(),
        delete_policy(),
    ]
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// The schema of a message.
pub(super) fn message() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 1_024, "description": "What the change is for: one line of at most 1,024 bytes, in Unicode NFC." })
}

/// Takes a message as a parameter.
pub(super) fn noted(operation: Operation) -> Operation {
    let about = "What the change is for; it is kept with the version. It is no part of what is put, so it stands beside \
                 it, and as a parameter it may hold any language. One line of at most 1,024 bytes, in Unicode NFC.";
    operation
        .query(
            "message",
            &text(),
            about,
            &json!("Invoices over 1,000 need a person"),
        )
        .until()
}

/// Takes a name for the request.
pub(super) fn once(operation: Operation) -> Operation {
    let about = "A name for this change, new for each, such as a UUID: sent again within 24 hours, the same request is \
                 answered as it was the first time and makes no second change, and another one is 422. A request that was \
                 refused is not remembered.";
    operation.header(
        "Idempotency-Key",
        about,
        "7a1c1c1e-3c52-4f0e-9b43-0c8b5e2f1a77",
    )
}

/// Takes the parameters of a page.
pub(super) fn paged(operation: Operation) -> Operation {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1_000, "default": 100 });
    operation
        .query(
            "limit",
            &limit,
            "How many a page holds at most.",
            &json!(100),
        )
        .query(
            "cursor",
            &text(),
            "The `next` of the page before.",
            &json!(""),
        )
}

fn list_versions() -> Operation {
    let operation = Operation::new("GET", "/v1/bundle/versions", "list_versions", "Bundle").says(
        "List versions of the bundle",
        "Every bundle there has been, newest first, with who put it, when and what for. A version never changes and none \
         is removed.",
    );
    paged(operation)
        .scope("read")
        .gives(200, "One page.", "VersionPage", &page(), &["Link"])
        .fails(&[Kind::INVALID_REQUEST, Kind::STORE_UNAVAILABLE])
}

fn get_version() -> Operation {
    let path = "/v1/bundle/versions/{revision}";
    Operation::new("GET", path, "get_version", "Bundle")
        .says(
            "Read a version of the bundle",
            "The bundle that a revision brought, exactly as it was put.",
        )
        .scope("read")
        .part("revision", "The revision that brought it.", "42")
        .header(
            "If-None-Match",
            "An `ETag`: 304 when it is this version's.",
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

/// How a change of the bundle can fail, its preconditions included.
pub(super) const UNCHANGED: &[&Kind] = &[
    Kind::INVALID_REQUEST,
    Kind::STALE_REVISION,
    Kind::POLICY_INVALID,
    Kind::CASES_FAILED,
    Kind::LOCK_OUT,
    Kind::IDEMPOTENCY_KEY_REUSED,
    Kind::REVIEW_REQUIRED,
    Kind::PRECONDITION_REQUIRED,
    Kind::CONFLICT,
    Kind::NOT_READY,
    Kind::STALE_POLICY,
    Kind::REVISION_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];

fn rollback_bundle() -> Operation {
    let operation = Operation::new("POST", "/v1/bundle/rollback", "rollback_bundle", "Bundle");
    once(operation)
        .says(
            "Roll back the bundle",
            "Puts the bundle of an older version in force again, as a new version: history only grows. It is compiled \
             against the entities of today and its cases are run, as for any other bundle.\n\n\
             `If-Match` with the `ETag` of the bundle that it replaces is required.",
        )
        .scope("write")
        .until()
        .header("If-Match", "The `ETag` of the bundle in force.", "\"42\"")
        .takes("Rollback", "Which version, and why.", &json!({ "to": 41, "message": "Reports came out empty" }))
        .gives(200, "It is in force.", "BundleApplied", &examples::bundle_applied(), &["ETag", "Remit-Revision"])
        .fails(UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

fn list_policies() -> Operation {
    let operation = Operation::new("GET", "/v1/policies", "list_policies", "Policies").says(
        "List policies",
        "The policies and templates of the bundle in force by id, without their texts. Links of templates are not among \
         them. The `ETag` is that of the bundle, as for each of its policies.",
    );
    paged(operation)
        .scope("read")
        .gives(
            200,
            "One page.",
            "PolicyPage",
            &json!({ "policies": [policy(false)] }),
            &["ETag", "Link", "Remit-Revision"],
        )
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn of_policy(method: &'static str, id: &'static str) -> Operation {
    Operation::new(method, "/v1/policies/{id}", id, "Policies").part(
        "id",
        "The policy's `@id`, percent-encoded and byte-exact: `/` is `%2F`.",
        "mail-for-all",
    )
}

fn get_policy() -> Operation {
    of_policy("GET", "get_policy")
        .says(
            "Read a policy",
            "One policy or template of the bundle in force, with its text from its first annotation to its semicolon.",
        )
        .scope("read")
        .header(
            "If-None-Match",
            "An `ETag`: 304 when the bundle has not changed since.",
            "\"42\"",
        )
        .gives(
            200,
            "The policy.",
            "Policy",
            &policy(true),
            &["ETag", "Remit-Revision"],
        )
        .gives_nothing(304, "The policy is the one you have.", &["ETag"])
        .fails(&[
            Kind::INVALID_REQUEST,
            Kind::NOT_FOUND,
            Kind::NOT_READY,
            Kind::STALE_POLICY,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn put_policy() -> Operation {
    let operation = of_policy("PUT", "put_policy").says(
        "Write a policy",
        "Replaces the text of a policy in its file, or puts a new policy at the end of `file`, and keeps every other byte \
         of the bundle. The result is compiled and its cases are run as for a whole bundle, and makes a new version.\n\n\
         `If-Match` with the `ETag` that was read, or `If-None-Match: *` for a policy that is not there yet, is required. \
         The `ETag` of a policy is that of its bundle: what two people wrote at once was never tried together, so one of \
         them gets 412 and tries again on what is in force then.\n\n\
         With 422, a finding about the text that was sent names no `file` and its `span` counts in that text.",
    );
    once(noted(operation))
        .scope("write")
        .header(
            "If-Match",
            "The `ETag` of the policy that this one replaces.",
            "\"41\"",
        )
        .header(
            "If-None-Match",
            "`*`: put it only where there is none.",
            "*",
        )
        .takes("PolicyBody", "What it is to be.", &body())
        .gives(
            200,
            "It is in force; `warnings` are those about this policy.",
            "BundleApplied",
            &examples::bundle_applied(),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

fn delete_policy() -> Operation {
    let operation = of_policy("DELETE", "delete_policy").says(
        "Remove a policy",
        "Takes a policy out of its file; a file that has nothing left goes with it. The result is compiled and its cases \
         are run as for a whole bundle, and makes a new version. `If-Match` is required.",
    );
    once(noted(operation))
        .scope("write")
        .header("If-Match", "The `ETag` that was read.", "\"41\"")
        .gives(
            200,
            "It is gone.",
            "BundleApplied",
            &examples::bundle_applied(),
            &["ETag", "Remit-Revision"],
        )
        .fails(UNCHANGED)
        .fails(&[Kind::NOT_FOUND])
}

/// Returns the schemas by name.
pub(super) fn schemas() -> Value {
    let revision = |about: &str| json!({ "allOf": [reference("Revision")], "description": about });
    let told = |about: &str| json!({ "type": "string", "description": about });
    json!({
        "Version": {
            "type": "object", "description": "One version of the bundle, without the bundle.",
            "required": ["revision", "hash", "at"],
            "properties": {
                "revision": revision("The revision that brought it."), "hash": reference("ContentHash"),
                "at": { "type": "string", "format": "date-time", "description": "When it was put." },
                "author": {
                    "type": "object", "description": "The API key that put it; absent for Remit itself, as with `serve --dev`.",
                    "required": ["key"],
                    "properties": { "key": { "type": "string", "format": "uuid" }, "name": told("What the key is called.") },
                },
                "message": message(),
                "restores": revision("The version that it brought back; absent for any but a roll-back."),
                "evidence": reference("Evidence"),
            },
        },
        "VersionPage": {
            "type": "object", "description": "One page of versions.", "required": ["versions"],
            "properties": {
                "versions": { "type": "array", "items": reference("Version"), "description": "Newest first." },
                "next": told("The cursor of the next page, of older versions; absent on the last one."),
            },
        },
        "Rollback": {
            "type": "object", "description": "Which version is to be in force again.",
            "required": ["to"], "additionalProperties": false,
            "properties": { "to": revision("The revision that brought it."), "message": or_null(message()) },
        },
        "Policy": {
            "type": "object", "description": "A policy or template as it is written.",
            "required": ["id", "effect", "mode", "template", "annotations", "file", "span"],
            "properties": {
                "id": told("Its `@id`."), "effect": reference("Effect"),
                "mode": { "type": "string", "enum": ["enforce", "shadow"], "description": "Whether it takes part in decisions, or is only evaluated and listed." },
                "template": { "type": "boolean", "description": "Whether it has slots, and so decides only through its links." },
                "annotations": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Its annotations by name." },
                "file": told("The file it stands in."), "span": reference("Span"),
                "text": told("Its text, from its first annotation to its semicolon; not in a list."),
            },
        },
        "PolicyPage": {
            "type": "object", "description": "One page of policies.", "required": ["policies"],
            "properties": {
                "policies": { "type": "array", "items": reference("Policy"), "description": "By id, bytewise." },
                "next": told("The cursor of the next page; absent on the last one."),
            },
        },
        "PolicyBody": {
            "type": "object", "description": "What a policy is to be.",
            "required": ["text"], "additionalProperties": false,
            "properties": {
                "text": told("Exactly one policy, with the `@id` of the path; comments stand between its first annotation and its semicolon."),
                "file": or_null(told("The file that a new policy is put at the end of, `policies.cedar` where left out; one that is there already stays in its own.")),
            },
        },
    })
}

fn page() -> Value {
    json!({ "versions": [
        { "revision": 42, "hash": HASH, "at": "2026-11-22T09:31:00.000000Z", "author": { "key": KEY, "name": "release" },
          "message": "Reports came out empty", "restores": 40, "evidence": {
              "authors": ["ana"], "publisher": "ana", "reviewers": ["ben"], "cases": { "passed": 12, "failed": 0 }, "warnings": 0, "loosens": true,
          } },
        { "revision": 40, "hash": HASH, "at": "2026-11-22T09:00:00.000000Z" },
    ] })
}

fn body() -> Value {
    json!({ "text": "@id(\"mail-for-all\")\npermit (principal is Agent, action == Action::\"call\", resource == Tool::\"mail.send\");" })
}

fn policy(text: bool) -> Value {
    let mut policy = json!({
        "id": "mail-for-all", "effect": "permit", "mode": "enforce", "template": false,
        "annotations": { "id": "mail-for-all" }, "file": "tools.cedar",
        "span": {
            "start": 0, "end": 110, "start_line": 1, "start_column": 1, "end_line": 2, "end_column": 90,
            "utf16_start": 0, "utf16_end": 110, "utf16_start_column": 1, "utf16_end_column": 90,
        },
    });
    if let (true, Some(members), Some(text)) =
        (text, policy.as_object_mut(), body().get("text").cloned())
    {
        members.insert("text".to_owned(), text);
    }
    policy
}
