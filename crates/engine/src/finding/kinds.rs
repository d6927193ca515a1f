//! Every kind of finding that the engine makes; `docs/findings.md` is written from this list.

/// Every code, what it says, and what to do about it, by code.
///
/// A code that both an error and a warning have is told apart by their severity.
pub const FINDINGS: &[(&str, &str, &str)] = &[
    (
        "bundle_too_large",
        "error: the policies have more than 64 MiB",
        "split the bundle between tenants",
    ),
    (
        "chain_too_long",
        "error: more than 256 terms are joined by one operator",
        "use a set or a group",
    ),
    (
        "confusable_text",
        "warning: a text mixes scripts or holds marks that look like something else",
        "write it with the letters it seems to have",
    ),
    (
        "constant_clause",
        "warning: a condition comes to the same whatever is asked, or by what stands before it",
        "leave it out, or test what was meant",
    ),
    (
        "contradiction",
        "warning: a clause can never hold beside those before it, so that the policy never applies",
        "mend one of them",
    ),
    (
        "duplicate_file",
        "error: two files have one name",
        "rename one",
    ),
    (
        "duplicate_id",
        "error: policies, templates and links share their ids, and two have the same",
        "rename one",
    ),
    (
        "empty_id",
        "error: an `@id` or the id of a link is empty",
        "name it",
    ),
    (
        "entity",
        "error: an entity of the bundle, or a stored one, does not fit the schema or another entity",
        "mend the entity or the schema",
    ),
    (
        "expression_too_deep",
        "error: nesting and chains together go deeper than 512 levels",
        "split the policy",
    ),
    (
        "forbid_can_error",
        "warning: a forbid can fail to be evaluated, and denies then, whatever it was meant for",
        "test with `has` first; compare instead of calculating",
    ),
    (
        "id_too_long",
        "error: an `@id` is longer than 256 bytes",
        "shorten it",
    ),
    ("internal", "error: a fault of Remit's own", "report it"),
    (
        "invalid_annotation",
        "error: `@obligation`, `@modify`, `@relax`, `@lease`, `@ttl` or `@quorum` says what cannot be held to",
        "write it as docs/obligations.md says",
    ),
    (
        "invalid_id",
        "error: an `@id` holds a control character",
        "leave it out",
    ),
    (
        "invalid_link",
        "error: a link fills a slot with what its template cannot take",
        "fill it with an entity of a type the schema declares",
    ),
    (
        "invalid_policy",
        "error: a policy does not fit the schema",
        "mend it as the message says",
    ),
    (
        "invalid_slot",
        "error: a slot is filled with what is no name of an entity",
        "write its type as the schema does",
    ),
    (
        "many_policies",
        "error: a text that must be one policy holds several",
        "put each by itself",
    ),
    (
        "missing_entity",
        "warning: a policy names an entity that is nowhere, where all others of its type belong to the bundle; an error where the type lists its ids",
        "correct the name, or add the entity",
    ),
    (
        "missing_guard",
        "error: an optional attribute or a tag is read without a test before it",
        "test `has` or `hasTag` first",
    ),
    (
        "missing_id",
        "error: a policy has no `@id`",
        "put one before it",
    ),
    (
        "missing_owner",
        "warning: a policy has no `@owner`",
        "name the team that answers for it",
    ),
    (
        "missing_slot",
        "error: a link leaves a slot of its template empty",
        "fill it",
    ),
    (
        "more_errors",
        "error: there are more errors than are listed",
        "mend the first ones",
    ),
    (
        "nesting_too_deep",
        "error: a policy or schema nests deeper than 32 levels",
        "flatten it",
    ),
    (
        "never_applies",
        "warning: no question fits the policy: by its scope, or because its condition is always false",
        "mend the scope or the condition",
    ),
    (
        "no_policy",
        "error: a text that must be one policy holds none",
        "write it",
    ),
    (
        "no_schema",
        "error: the bundle has no schema",
        "add a `.cedarschema` file",
    ),
    (
        "not_a_template",
        "error: a link names a policy without slots",
        "link a template",
    ),
    (
        "not_nfc",
        "error: an id is not in Unicode normal form C",
        "write it in that form",
    ),
    (
        "other_id",
        "error: a text that must be one policy has another `@id`",
        "put it under its own id",
    ),
    (
        "outside_policy",
        "error: a text that must be one policy has something around it",
        "put comments within the policy",
    ),
    (
        "overridden",
        "warning: a forbid takes everything back that a permit gives",
        "take one of them out",
    ),
    (
        "parse_error",
        "error: the text is not Cedar",
        "mend the syntax",
    ),
    (
        "pattern_too_long",
        "error: a pattern of `like` has more than 256 bytes",
        "shorten it",
    ),
    (
        "policy_too_large",
        "error: a policy has more than 16 KiB",
        "split it",
    ),
    (
        "schema_error",
        "error: the schema is not valid",
        "mend it as the message says",
    ),
    (
        "schema_shadowing",
        "warning: a name of the schema hides another",
        "rename it",
    ),
    (
        "schema_too_large",
        "error: the schema has more than 1 MiB, or declares too much",
        "split the bundle between tenants",
    ),
    (
        "subsumed",
        "warning: another policy holds wherever this one does",
        "take it out",
    ),
    (
        "too_many_policies",
        "error: the bundle has more than 200,000 policies and links",
        "use groups or templates",
    ),
    (
        "unknown_mode",
        "error: `@mode` is neither `enforce` nor `shadow`",
        "correct it",
    ),
    (
        "unknown_slot",
        "error: a link fills a slot that its template does not have",
        "leave it out",
    ),
    (
        "unknown_template",
        "error: a link names a template that is not there",
        "correct the name",
    ),
    (
        "unreachable_clause",
        "warning: a condition is never evaluated, because what stands before it decides already",
        "leave it out, or mend what stands before it",
    ),
    (
        "unscoped_permit",
        "warning: a policy permits everything to everybody",
        "constrain it",
    ),
    (
        "unterminated_string",
        "error: a text in quotes is never closed",
        "close it",
    ),
];
