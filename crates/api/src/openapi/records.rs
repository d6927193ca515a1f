//! Schemas of what Remit keeps: bundles, entities, decisions, keys. The shapes are those of `remit-core`.

use remit_core::Reason;
use serde_json::{Map, Value, json};

use super::{facts, lifecycle, or_null, reference};

/// Returns the schemas by name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = Map::new();
    for group in [
        bundles(),
        comparisons(),
        lifecycle::schemas(),
        cases(),
        entities(),
        decisions(),
        facts::schemas(),
        explanations(),
        keys(),
    ] {
        if let Value::Object(mut group) = group {
            all.append(&mut group);
        }
    }
    all
}

fn list_of(schema: &str, about: &str) -> Value {
    json!({ "type": "array", "items": reference(schema), "description": about })
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

fn id(about: &str) -> Value {
    json!({ "type": "string", "format": "uuid", "description": about })
}

fn count(about: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": about })
}

fn bundles() -> Value {
    json!({
        "Bundle": {
            "type": "object",
            "description": "What decides, as one value. It is stored, replaced and read back whole.",
            "required": ["schema", "policies"],
            "additionalProperties": false,
            "properties": {
                "schema": list_of("Source", "The schema files, joined in the order of their names. The namespace `Remit` is supplied where no file declares it."),
                "policies": list_of("Source", "The policy files. Every policy has a unique `@id`."),
                "links": list_of("TemplateLink", "Links of the templates in those files."),
                "entities": list_of("Entity", "Entities that belong to the policies and change only with them."),
                "admin": list_of("Source", "Files of policies that say who may administer, beside the built-in ones: `admin/` and a plain name ending in .cedar."),
                "cases": list_of("Case", "The tests of the policies; a bundle whose cases fail is refused."),
            },
        },
        "Source": {
            "type": "object", "description": "One file of a bundle.",
            "required": ["file", "text"], "additionalProperties": false,
            "properties": { "file": text("Its name within the bundle, such as `payments.cedar`."), "text": text("Its text.") },
        },
        "TemplateLink": {
            "type": "object", "description": "One use of a policy template, under an id of its own.",
            "required": ["id", "template", "slots"], "additionalProperties": false,
            "properties": {
                "id": text("The id of the linked policy."),
                "template": text("The `@id` of the template."),
                "slots": { "type": "object", "description": "The entity for `?principal`, `?resource` or both.", "additionalProperties": reference("EntityUid") },
            },
        },
        "BundleApplied": {
            "type": "object", "description": "A bundle that is in force on this replica.",
            "required": ["revision", "hash", "policies", "warnings", "loosens"],
            "properties": {
                "revision": reference("Revision"), "hash": reference("ContentHash"),
                "policies": count("How many policies decide, links of templates included."),
                "warnings": list_of("Diagnostic", "What somebody should look at."),
                "loosens": { "type": "boolean", "description": "Whether a question that was denied before may now be permitted: `false` is certain, `true` is not." },
                "fleet": reference("Barrier"),
            },
        },
        "BundleChecked": {
            "type": "object", "description": "What would come of putting a bundle.",
            "required": ["valid", "hash", "policies", "diagnostics", "cases"],
            "properties": {
                "valid": { "type": "boolean", "description": "Whether it would be accepted: it compiles and every case passes." },
                "hash": reference("ContentHash"),
                "policies": count("How many policies decide; zero when it does not compile."),
                "diagnostics": list_of("Diagnostic", "Errors, or the warnings of a bundle that compiles."),
                "cases": list_of("CaseOutcome", "What came of each case, in order; empty when it does not compile."),
                "comparison": reference("Comparison"),
            },
        },
        "Diagnostic": {
            "type": "object", "description": "One finding about a bundle.",
            "required": ["severity", "code", "message"],
            "properties": {
                "severity": { "type": "string", "enum": ["error", "warning"] },
                "code": text("A stable code, such as `missing_id`."), "message": text("What is wrong."), "help": text("What to do about it."),
                "policy": text("The policy it is about."), "file": text("The file it is in."), "span": reference("Span"),
            },
        },
        "Span": {
            "type": "object",
            "description": "A place in a file, in UTF-8 bytes and in UTF-16 code units. Offsets start at 0 and `end` is exclusive; lines and columns start at 1.",
            "required": SPAN, "properties": SPAN.iter().map(|name| ((*name).to_owned(), json!({ "type": "integer" }))).collect::<Map<_, _>>(),
        },
        "ContentHash": { "type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "description": "The SHA-256 of a bundle's canonical JSON (RFC 8785)." },
        "Revision": { "type": "integer", "minimum": 0, "description": "The number of one state of the tenant. It only grows." },
    })
}

fn comparisons() -> Value {
    json!({
        "Comparison": {
            "type": "object", "description": "What a bundle changes against the one in force; missing where there is none.",
            "required": ["loosens", "changes", "more"],
            "properties": {
                "loosens": { "type": "boolean", "description": "Whether a question that was denied may now be permitted: `false` is certain, `true` is not." },
                "changes": list_of("Change", "What changes, that which loosens first; at most 1,000."),
                "more": count("How many changes there are beyond those."),
            },
        },
        "Change": {
            "type": "object", "description": "One change.", "required": ["code", "loosens", "message"],
            "properties": {
                "code": text("A stable code, such as `permit_widened` or `forbid_removed`."),
                "loosens": { "type": "boolean", "description": "Whether it may permit what was denied." },
                "policy": text("The policy it is about."), "message": text("What changes."),
                "file": text("The file that the policy is or was in."), "line": count("The line there, from 1."),
            },
        },
    })
}

fn cases() -> Value {
    let ids = |about: &str| {
        or_null(json!({ "type": "array", "items": { "type": "string" }, "description": about }))
    };
    let step = json!({
        "question": reference("Question"),
        "at": or_null(time("When it is asked; Monday 2026-01-05T10:00:00Z where left out.")),
        "environment": or_null(text("The environment of the asking key; `dev` where left out.")),
        "approved": { "type": "boolean", "description": "Whether a person has approved the call." },
        "entities": { "type": "array", "maxItems": 100, "items": reference("Entity"), "description": "Entities that are as they stand here while this is asked, in place of the bundle's or beside them." },
        "facts": { "type": "object", "description": "What Remit has registered, counted or verified while this is asked, as cases suppose it." },
        "expect": reference("Expectation"),
    });
    let mut case = step.clone();
    if let Some(members) = case.as_object_mut() {
        members.insert("name".to_owned(), text("What the case shows."));
        let steps = json!({ "type": ["array", "null"], "minItems": 1, "maxItems": 50, "items": reference("Step"), "description": "What is asked one after another, where that is more than one question." });
        members.insert("steps".to_owned(), steps);
    }
    json!({
        "Case": {
            "type": "object", "description": "Questions with the answers their author expects: one, whose members stand here, or `steps`.",
            "required": ["name"], "additionalProperties": false,
            "anyOf": [{ "required": ["question", "expect"] }, { "required": ["steps"] }],
            "properties": case,
        },
        "DrawnCase": {
            "type": "object", "description": "A case made of a recorded decision.", "required": ["case", "passes", "notes"],
            "properties": {
                "case": reference("Case"),
                "passes": { "type": ["boolean", "null"], "description": "Whether it passes over the bundle of the record and its own entities alone; null where that bundle is not kept." },
                "notes": { "type": "array", "items": { "type": "string" }, "description": "What the case lacks, in sentences." },
            },
        },
        "Step": {
            "type": "object", "description": "One question of a case.",
            "required": ["question", "expect"], "additionalProperties": false,
            "properties": step,
        },
        "Expectation": {
            "type": "object", "description": "What must come out. Members left out are not checked.",
            "required": ["decision"], "additionalProperties": false,
            "properties": {
                "decision": reference("Verdict"), "reason": or_null(reference("Reason")),
                "limit": or_null(text("The dimension of the task that it met.")),
                "because": ids("Exactly these determining policies, in any order."),
                "errors": ids("Exactly these policies errored, in any order."),
                "shadow": ids("Exactly these policies in shadow mode had something to say, in any order."),
                "obligations": {
                    "type": ["object", "null"], "description": "By policy: exactly these oblige to something, by these annotations among others.",
                    "additionalProperties": { "type": "object", "additionalProperties": { "type": "string" } },
                },
                "approval": { "type": ["boolean", "null"], "description": "Whether it is permitted by the approval that the facts suppose, and by nothing less." },
                "exceptions": ids("Exactly these policies are satisfied and do not count because of an exception, in any order."),
                "duties": {
                    "type": ["object", "null"], "description": "By policy: exactly these demand something, with these members, `type` included, among others.",
                    "additionalProperties": { "type": "object" },
                },
                "modify": ids("Exactly these narrowings make the call that would be permitted, in any order."),
                "lease": { "type": ["integer", "null"], "minimum": 0, "description": "For how many seconds the permit holds; 0 where no policy says." },
                "ttl": { "type": ["integer", "null"], "minimum": 0, "description": "For how many seconds the permit can be acted by; 0 where no policy says." },
            },
        },
        "CaseOutcome": {
            "type": "object", "description": "What came of one case.",
            "required": ["name", "decision", "mismatches"],
            "properties": {
                "name": text("The name of the case."),
                "decision": reference("Decision"),
                "earlier": list_of("Decision", "What was decided at the steps before the last."),
                "mismatches": { "type": "array", "description": "Where a decision is not the expected one; empty when the case passes.", "items": {
                    "type": "object", "required": ["member", "expected", "actual"],
                    "properties": { "step": count("The step, from 1, of a case that has several."), "member": text("The member of the expectation."), "expected": text("What the case says."), "actual": text("What came out.") },
                } },
            },
        },
    })
}

const SPAN: [&str; 10] = [
    "start",
    "end",
    "start_line",
    "start_column",
    "end_line",
    "end_column",
    "utf16_start",
    "utf16_end",
    "utf16_start_column",
    "utf16_end_column",
];

fn entities() -> Value {
    json!({
        "EntityUid": {
            "type": "object", "description": "The name of an entity; both members are byte-exact.",
            "required": ["type", "id"],
            "properties": { "type": text("The type with its namespace, such as `Acme::Agent`."), "id": text("Any text.") },
        },
        "Entity": {
            "type": "object", "description": "One entity, in the JSON form of Cedar's entity files.",
            "required": ["uid"], "additionalProperties": false,
            "properties": {
                "uid": reference("EntityUid"),
                "attrs": { "type": "object", "description": "Attributes, in Cedar's JSON value format." },
                "parents": list_of("EntityUid", "Its direct parents."),
                "tags": { "type": "object", "description": "Tags, in the same format." },
            },
        },
        "EntityBody": {
            "type": "object", "description": "What an entity is to be. `uid` may be left out; where it is given it equals the path.",
            "additionalProperties": false,
            "properties": {
                "uid": or_null(reference("EntityUid")),
                "attrs": { "type": "object", "description": "Attributes, in Cedar's JSON value format." },
                "parents": list_of("EntityUid", "Its direct parents."),
                "tags": { "type": "object", "description": "Tags, in the same format." },
            },
        },
        "EntityPage": {
            "type": "object", "description": "One page of entities, by type and id.",
            "required": ["entities"],
            "properties": { "entities": list_of("Entity", "Sorted by type and id, bytewise."), "next": text("The cursor of the next page; absent on the last one.") },
        },
        "EntityChanges": {
            "type": "array", "minItems": 1, "maxItems": 100_000,
            "description": "Entities to write and entities to remove; no entity may be named twice.",
            "items": { "anyOf": [reference("Entity"), {
                "type": "object", "title": "Removal", "required": ["remove"], "additionalProperties": false,
                "properties": { "remove": reference("EntityUid") },
            }] },
        },
        "EntitiesApplied": {
            "type": "object", "description": "What a change of entities came to.",
            "required": ["revision", "written", "removed"],
            "properties": { "revision": reference("Revision"), "written": count("Entities written."), "removed": count("Entities that were there and are gone."), "fleet": reference("Barrier") },
        },
    })
}

fn decisions() -> Value {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    let told: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("`{}`: {}", reason.code(), reason.sentence()))
        .collect();
    json!({
        "Verdict": { "type": "string", "enum": ["permit", "deny"] },
        "Reason": { "type": "string", "enum": codes, "description": format!("Why. {}", told.join(" ")) },
        "Effect": { "type": "string", "enum": ["permit", "forbid"] },
        "Decision": {
            "type": "object", "description": "What was decided and everything that explains it. Empty lists are left out, but for `determining`.",
            "required": ["verdict", "reason", "determining", "revision", "bundle"],
            "properties": {
                "verdict": reference("Verdict"), "reason": reference("Reason"), "limit": reference("Limit"),
                "determining": { "type": "array", "items": { "type": "string" }, "description": "The policies that settled it, by id." },
                "errors": { "type": "array", "description": "Enforced policies that could not be evaluated.", "items": {
                    "type": "object", "required": ["policy", "effect", "message"],
                    "properties": { "policy": text("Which."), "effect": reference("Effect"), "message": text("Why not.") },
                } },
                "obligations": { "type": "array", "description": "What the enforcement point is to do, from annotations of the determining policies.", "items": {
                    "type": "object", "required": ["policy", "annotations"],
                    "properties": { "policy": text("Which policy demands it."), "annotations": { "type": "object", "additionalProperties": { "type": "string" } } },
                } },
                "shadow": { "type": "array", "description": "What policies in shadow mode would have done.", "items": {
                    "type": "object", "required": ["policy", "effect"],
                    "properties": { "policy": text("Which."), "effect": reference("Effect"), "error": text("Why it could not be evaluated.") },
                } },
                "notes": { "type": "array", "description": "What was odd in the question or left out of it.", "items": {
                    "type": "object", "required": ["note"],
                    "properties": {
                        "note": { "type": "string", "enum": ["undeclared", "not_assertable", "mistyped", "missing", "not_stored"] },
                        "member": text("The member it is about."), "expected": text("What the schema declares."), "entity": text("The entity it is about."),
                    },
                } },
                "revision": reference("Revision"), "bundle": reference("ContentHash"),
            },
        },
        "DecisionRecord": {
            "type": "object", "description": "The record of one decision.",
            "required": ["id", "tenant", "at", "caller", "question", "facts", "decision", "duration_us"],
            "properties": {
                "id": id("The decision."), "tenant": id("Whose it is."), "at": time("When it was made."),
                "caller": {
                    "type": "object", "description": "Who asked.", "required": ["key"],
                    "properties": { "key": id("The API key."), "request_id": text("The caller's `X-Request-Id`."), "trace_id": text("The W3C trace id.") },
                },
                "question": reference("Question"), "facts": reference("Facts"), "decision": reference("Decision"),
                "duration_us": count("How long shaping and evaluation took, in microseconds."),
            },
        },
        "DecisionPage": {
            "type": "object", "description": "One page of records.", "required": ["decisions"],
            "properties": { "decisions": list_of("DecisionRecord", "Newest first."), "next": text("The cursor of the next page, of older decisions; absent on the last one.") },
        },
    })
}

fn outcome(results: &[&str]) -> Value {
    json!({
        "type": "object", "required": ["result"],
        "properties": { "result": { "type": "string", "enum": results }, "message": text("Why it could not be evaluated.") },
    })
}

fn explanations() -> Value {
    json!({
        "Explained": {
            "type": "object", "description": "One recorded decision made again, step by step.",
            "required": ["id", "against", "entities", "recorded", "reproduced", "explanation"],
            "properties": {
                "id": id("The decision."),
                "against": { "type": "string", "enum": ["recorded", "current"], "description": "Which bundle decided this time: that of the record, or today's." },
                "entities": { "type": "string", "enum": ["recorded", "current"], "description": "As of when live entities were taken: of the record's revision, or today's, also where more than 100,000 would have to be read back." },
                "recorded": reference("Decision"),
                "reproduced": { "type": "boolean", "description": "Whether the same came out." },
                "explanation": reference("Explanation"),
            },
        },
        "Explanation": {
            "type": "object", "description": "A decision with everything that led to it.", "required": ["decision", "candidates"],
            "properties": {
                "decision": reference("Decision"),
                "candidates": list_of("PolicyExplanation", "The policies whose scope the question satisfies: those that settled it first."),
                "omitted": count("How many candidates beyond the first 1,000 are left out."),
                "nearest": { "type": "array", "description": "Where no policy permits: the permits with the fewest failing parts, nearest first.", "items": {
                    "allOf": [reference("PolicyExplanation"), { "required": ["failing"], "properties": { "failing": count("How many parts do not hold.") } }],
                } },
            },
        },
        "PolicyExplanation": {
            "type": "object", "description": "What one policy made of the question.",
            "required": ["policy", "effect", "shadow", "outcome", "file", "line", "scope", "clauses"],
            "properties": {
                "policy": text("Which."), "effect": reference("Effect"),
                "shadow": { "type": "boolean", "description": "Whether it is in shadow mode, with no part in the decision." },
                "outcome": outcome(&["satisfied", "not_satisfied", "error"]),
                "exception": id("The exception because of which it does not count although it is satisfied; missing where there is none."),
                "file": text("The file it stands in."), "line": count("The line it starts on."),
                "scope": {
                    "type": "object", "description": "Its head, part by part.", "required": ["principal", "action", "resource"],
                    "properties": { "principal": reference("ScopePart"), "action": reference("ScopePart"), "resource": reference("ScopePart") },
                },
                "clauses": list_of("ClauseExplanation", "Its clauses in their order."),
            },
        },
        "ScopePart": {
            "type": "object", "description": "One part of a policy's head.", "required": ["matched", "wants"],
            "properties": { "matched": { "type": "boolean", "description": "Whether the question satisfies it." }, "wants": text("What it says.") },
        },
        "ClauseExplanation": {
            "type": "object", "description": "One clause of a policy.", "required": ["kind", "text", "outcome"],
            "properties": {
                "kind": { "type": "string", "enum": ["when", "unless"], "description": "Whether it must be true or must be false." },
                "text": text("As written, without its braces."),
                "outcome": outcome(&["true", "false", "error", "not_reached"]),
                "values": { "type": "array", "description": "What it read, in order.", "items": {
                    "type": "object", "required": ["expression"],
                    "properties": { "expression": text("What was read."), "value": text("Its value, printed as in a policy; left out when there is none to read.") },
                } },
            },
        },
    })
}

fn keys() -> Value {
    let scopes =
        json!({ "type": "array", "items": reference("Scope"), "description": "What it may do." });
    json!({
        "Scope": {
            "type": "string", "enum": ["evaluate", "search", "read", "write", "keys", "tasks", "approve", "tenants"],
            "description": "`evaluate`: ask. `search`: search. `read`: read bundle, entities and decisions. `write`: change bundle and entities. `keys`: make, list and revoke keys. `tenants`: make, suspend, export and delete tenants; it is no part of `all`.",
        },
        "NewKey": {
            "type": "object", "description": "A key to be made.", "required": ["name", "environment", "scopes"], "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 200, "description": "What or who it is for." },
                "environment": { "type": "string", "pattern": "^[a-z0-9]{1,16}$", "description": "Where it is used; policies read it as a fact." },
                "scopes": { "type": "array", "minItems": 1, "items": reference("Scope"), "description": "What it may do; its maker has all of them." },
                "expires_at": or_null(time("When it stops working; never where left out.")),
                "principal": or_null(text("Who acts through it: the name of a principal that is there and enabled. Where left out the key acts for itself, in the roles of its scopes.")),
            },
        },
        "Key": {
            "type": "object", "description": "An API key without its secret.",
            "required": ["id", "name", "environment", "scopes", "created_at"],
            "properties": {
                "id": id("The public half of the key."), "name": text("What or who it is for."), "environment": text("Where it is used."), "scopes": scopes,
                "created_at": time("When it was made."), "expires_at": time("When it stops working."), "revoked_at": time("When it was revoked."),
                "principal": text("Who acts through it; absent where it acts for itself."),
            },
        },
        "CreatedKey": {
            "allOf": [reference("Key"), { "type": "object", "required": ["key"], "properties": { "key": text("The whole key. It is shown this once and cannot be read again.") } }],
            "description": "A new key with its secret.",
        },
        "KeyList": { "type": "object", "required": ["keys"], "properties": { "keys": list_of("Key", "Oldest first, revoked and expired ones included.") } },
        "WhoAmI": {
            "type": "object", "description": "What the presented key is.",
            "required": ["key", "tenant", "environment", "scopes", "principal", "revision"],
            "properties": {
                "key": id("The key."), "tenant": id("The tenant."), "environment": text("The key's environment."), "scopes": scopes,
                "principal": reference("Actor"), "revision": reference("Revision"), "break_glass": reference("BreakGlassHeld"),
            },
        },
    })
}
