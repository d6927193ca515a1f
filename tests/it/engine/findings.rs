//! A corpus of bad drafts: each has its finding by name, and every kind of finding occurs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use remit_core::{Bundle, Entity, EntityUid, Link, PolicyId, Source};
use remit_engine::{EditError, FINDINGS, Snapshot};
use serde_json::json;

use super::changes::{BASE, DRAFTS, SCHEMA};

/// A policy beside those of the base, and what is found about it: the code of an error, of a warning or of the review.
const BAD: &[(&str, &str)] = &[
    ("permit (principal, action", "parse_error"),
    ("permit (principal, action, resource);", "missing_id"),
    (
        "@id(\"\") permit (principal, action, resource);",
        "empty_id",
    ),
    (
        "@id(\"a\\tb\") permit (principal, action, resource);",
        "invalid_id",
    ),
    (
        "@id(\"e\u{301}\") permit (principal, action, resource);",
        "not_nfc",
    ),
    (
        "@id(\"x\") permit (principal == Agent::\"e\u{301}\", action, resource);",
        "not_nfc",
    ),
    (
        "@id(\"cap\") permit (principal, action, resource);",
        "duplicate_id",
    ),
    (
        "@id(\"x\") @mode(\"off\") permit (principal, action, resource);",
        "unknown_mode",
    ),
    (
        "@id(\"x\") @ttl(\"soon\") permit (principal, action, resource);",
        "invalid_annotation",
    ),
    (
        "@id(\"x\") permit (principal, action == Action::\"red\", resource);",
        "invalid_policy",
    ),
    (
        "@id(\"x\") permit (principal, action, resource) when { principal.level > 1 };",
        "invalid_policy",
    ),
    (
        "@id(\"x\") permit (principal, action, resource) when { principal.nick == \"x\" };",
        "missing_guard",
    ),
    (
        "@id(\"x\") permit (principal, action, resource) when { context.note == \"x\" };",
        "missing_guard",
    ),
    (
        "@id(\"x\") permit (principal, action, resource) when { context.amount == \"7\" };",
        "invalid_policy",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource);",
        "unscoped_permit",
    ),
    (
        "@id(\"x\") forbid (principal, action, resource);",
        "missing_owner",
    ),
    (
        "@id(\"x\") @owner(\"o\") forbid (principal, action, resource) when { context.amount * 7 > 9 };",
        "forbid_can_error",
    ),
    (
        "@id(\"x\") @owner(\"o\") forbid (principal, action, resource) when { Agent::\"a\".trust > 9 };",
        "forbid_can_error",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal is Tool, action, resource);",
        "never_applies",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { false };",
        "never_applies",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount > 7 && principal is Tool };",
        "never_applies",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal in Team::\"readers\", action == Action::\"read\", resource is Tool);",
        "subsumed",
    ),
    (
        "@id(\"x\") @owner(\"o\") forbid (principal == Agent::\"a\", action == Action::\"write\", resource) when { context has note && context.amount > 1000 };",
        "subsumed",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal == Agent::\"bad\", action == Action::\"read\", resource) when { context.amount > 7 };",
        "overridden",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action == Action::\"write\", resource) when { context.amount > 1000 };",
        "overridden",
    ),
    // Each limit of a text.
    (
        "@id(\"x\") @owner(\"open) permit (principal, action, resource);",
        "unterminated_string",
    ),
    // What a condition always comes to.
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { true } when { context.amount > 7 };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 || 1 == 2 };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 } unless { principal is Tool };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 || principal in Tool::\"t\" };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action == Action::\"read\", resource) when { context.amount == 7 && action == Action::\"read\" };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context has amount && context.amount == 7 };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount > 7 && context.amount > 3 };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 } unless { context has note && context.amount == 8 };",
        "constant_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount > 7 && context.amount < 3 };",
        "contradiction",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 } when { context.amount == 8 };",
        "contradiction",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount > 7 } unless { context.amount > 7 };",
        "contradiction",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 && !(7 == context.amount) };",
        "contradiction",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount > 7 && context.amount < 3 && context has note };",
        "contradiction unreachable_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 } unless { principal is Tool && context has note };",
        "constant_clause unreachable_clause",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { if principal is Agent then context.amount == 7 else context has note };",
        "constant_clause unreachable_clause",
    ),
    // What a policy names and is not there.
    (
        "@id(\"x\") @owner(\"o\") permit (principal == Agent::\"nobody\", action, resource) when { context.amount == 7 };",
        "missing_entity",
    ),
    (
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { context.amount == 7 && principal != Agent::\"nobody\" };",
        "missing_entity",
    ),
];

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

/// The base, with every agent that it names.
fn base() -> Bundle {
    let entities = ["a", "bad", "new"].iter().map(|id| {
        let entity =
            json!({ "uid": { "type": "Agent", "id": id }, "attrs": { "trust": 1 }, "parents": [] });
        serde_json::from_value::<Entity>(entity).unwrap()
    });
    Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", BASE)],
        entities: entities.collect(),
        ..Bundle::default()
    }
}

fn with_policy(text: &str) -> Bundle {
    let mut bundle = base();
    bundle.policies[0].text.push_str(text);
    bundle
}

/// Names what is found about a bundle that the base does not have: its errors, or its warnings and what a review says.
fn found(bundle: &Bundle) -> Vec<String> {
    let mut codes: Vec<String> = match Snapshot::compile(bundle) {
        Err(refused) => refused
            .diagnostics
            .into_iter()
            .map(|one| one.code)
            .collect(),
        Ok(snapshot) => {
            let warnings = snapshot.warnings().iter().cloned();
            // Beside a policy that permits everything, those of the base make no difference either.
            let all = warnings.chain(snapshot.review());
            let all = all.filter(|one| one.policy.as_ref().is_none_or(|id| id.as_str() == "x"));
            all.map(|one| {
                assert!(one.span.is_some() || one.code == "never_applies", "{one:?}");
                one.code
            })
            .collect()
        }
    };
    // The validator tells it for each action that the policy may be about.
    codes.dedup();
    codes
}

/// Drafts that are wrong in more than one policy, and what is found about them.
fn whole() -> Vec<(&'static str, Bundle, &'static str)> {
    let template = "@id(\"t\") @owner(\"o\") permit (principal == ?principal, action == Action::\"write\", resource) when { context.amount == 7 };";
    let linked = |template_id: &str, slots: &[(&str, EntityUid)]| {
        let mut bundle = with_policy(template);
        bundle.links = vec![Link {
            id: PolicyId::new("link"),
            template: PolicyId::new(template_id),
            slots: slots
                .iter()
                .map(|(slot, uid)| ((*slot).to_owned(), uid.clone()))
                .collect(),
        }];
        bundle
    };
    let agent = ("?principal", EntityUid::new("Agent", "a"));
    let condition = |condition: &str| {
        with_policy(&format!(
            "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when {{ {condition} }};"
        ))
    };
    let schema = |text: &str| Bundle {
        schema: vec![source("s.cedarschema", text)],
        ..base()
    };
    let and = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = base();
        change(&mut bundle);
        bundle
    };
    let deep = format!(
        "{}true{}",
        "(".repeat(12),
        format!("{})", "&&true".repeat(100)).repeat(12)
    );
    let many = (0..120).fold(String::new(), |all, n| {
        all + &format!("@id(\"x{n}\") permit (principal, action == Action::\"red\", resource);\n")
    });
    let crowd = |count: usize| {
        (0..count).fold(String::new(), |all, _| {
            all + "permit(principal,action,resource);"
        })
    };
    vec![
        (
            "nesting",
            condition(&format!("{}true{}", "(".repeat(40), ")".repeat(40))),
            "nesting_too_deep",
        ),
        (
            "a chain",
            condition(&vec!["context.amount == 7"; 300].join(" || ")),
            "chain_too_long",
        ),
        ("depth", condition(&deep), "expression_too_deep"),
        (
            "a pattern",
            condition(&format!(
                "context has note && context.note like \"{}\"",
                "a".repeat(300)
            )),
            "pattern_too_long",
        ),
        (
            "a long policy",
            with_policy(&format!(
                "@id(\"x\") @advice(\"{}\") permit (principal, action, resource);",
                "a".repeat(17_000)
            )),
            "policy_too_large",
        ),
        (
            "a long id",
            with_policy(&format!(
                "@id(\"{}\") permit (principal, action, resource);",
                "a".repeat(300)
            )),
            "id_too_long",
        ),
        (
            "look-alikes",
            condition("context has note && context.note == \"sc\u{43e}pe\""),
            "confusable_text",
        ),
        (
            "more errors than are listed",
            with_policy(&many),
            "invalid_policy more_errors",
        ),
        (
            "more policies than may be",
            and(&|bundle| bundle.policies.push(source("q.cedar", &crowd(200_001)))),
            "too_many_policies",
        ),
        (
            "more text than may be",
            and(&|bundle| {
                bundle
                    .policies
                    .push(source("q.cedar", &" ".repeat((64 << 20) + 1)));
            }),
            "bundle_too_large",
        ),
        (
            "one name for two files",
            and(&|bundle| bundle.policies.push(source("p.cedar", ""))),
            "duplicate_file",
        ),
        (
            "no schema",
            and(&|bundle| bundle.schema.clear()),
            "no_schema",
        ),
        ("a schema that is none", schema("entity"), "schema_error"),
        (
            "a large schema",
            schema(&"/".repeat((1 << 20) + 1)),
            "schema_too_large",
        ),
        (
            "a schema with a name twice",
            and(&|bundle| {
                bundle
                    .schema
                    .push(source("t.cedarschema", "entity Extra; type Extra = Long;"));
            }),
            "schema_shadowing",
        ),
        (
            "an entity that does not fit",
            and(&|bundle| {
                bundle.entities[0].attrs.clear();
            }),
            "entity",
        ),
        (
            "an entity that the schema lists",
            schema_of_levels(),
            "missing_entity",
        ),
        (
            "a link of nothing",
            linked("nothing", std::slice::from_ref(&agent)),
            "unknown_template",
        ),
        (
            "a link of a policy",
            linked("cap", std::slice::from_ref(&agent)),
            "not_a_template",
        ),
        ("a slot left out", linked("t", &[]), "missing_slot"),
        (
            "a slot too many",
            linked(
                "t",
                &[agent.clone(), ("?resource", EntityUid::new("Tool", "t"))],
            ),
            "unknown_slot",
        ),
        (
            "a slot with no type",
            linked("t", &[("?principal", EntityUid::new("(", "a"))]),
            "invalid_slot",
        ),
        (
            "a slot with an unknown type",
            linked("t", &[("?principal", EntityUid::new("Robot", "a"))]),
            "invalid_link",
        ),
    ]
}

/// A bundle that names an id which its enumerated type does not have.
fn schema_of_levels() -> Bundle {
    let mut bundle = with_policy(
        "@id(\"x\") @owner(\"o\") permit (principal, action, resource) when { principal.level == Level::\"hihg\" };",
    );
    bundle.schema[0].text = SCHEMA.replace("trust: Long", "trust: Long, level: Level")
        + "\nentity Level enum [\"low\", \"high\"];";
    for entity in &mut bundle.entities {
        let level = json!({ "__entity": { "type": "Level", "id": "low" } });
        entity.attrs.insert("level".to_owned(), level);
    }
    bundle
}

/// Texts put as the policy `x`, and what is found about them.
const PUT: &[(&str, &str)] = &[
    ("", "no_policy"),
    (
        "@id(\"x\") permit (principal, action, resource);\n@id(\"y\") permit (principal, action, resource);",
        "many_policies",
    ),
    (
        "// why\n@id(\"x\") permit (principal, action, resource);",
        "outside_policy",
    ),
    (
        "@id(\"y\") permit (principal, action, resource);",
        "other_id",
    ),
];

#[test]
fn every_bad_draft_has_its_finding() {
    assert_eq!(
        found(&base()),
        Vec::<String>::new(),
        "the base itself is well"
    );
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let (mut drafts, mut wrong) = (0, Vec::new());
    let mut check = |what: &str, codes: Vec<String>, expected: &str| {
        if codes.join(" ") != expected {
            wrong.push(format!("{what}: {codes:?}, not {expected}"));
        }
        seen.extend(codes);
        drafts += 1;
    };
    for (policy, expected) in BAD {
        check(policy, found(&with_policy(policy)), expected);
    }
    for (what, bundle, expected) in whole() {
        check(what, found(&bundle), expected);
    }
    let snapshot = Snapshot::compile(&base()).unwrap();
    for (text, expected) in PUT {
        let edited = snapshot.put_policy(base(), &PolicyId::new("x"), text, None);
        let Err(EditError::Text(refused)) = edited else {
            panic!("{text}: {edited:?}")
        };
        let codes = refused.diagnostics.into_iter().map(|one| one.code);
        check(text, codes.collect(), expected);
    }
    assert_eq!(wrong, Vec::<String>::new());
    let known: BTreeSet<String> = FINDINGS.iter().map(|one| one.0.to_owned()).collect();
    let missing: Vec<&String> = known.difference(&seen).collect();
    assert_eq!(
        missing,
        ["internal"],
        "a fault of our own cannot be provoked; every other kind occurs"
    );
    let unlisted: Vec<&String> = seen.difference(&known).collect();
    assert_eq!(
        unlisted,
        Vec::<&String>::new(),
        "every kind is listed and documented"
    );
    let changes = DRAFTS.iter().filter(|one| !one.2.is_empty()).count();
    println!(
        "{drafts} bad drafts of {} kinds of findings, and {changes} found against the base",
        seen.len()
    );
    assert!(drafts >= 30);
}

/// A code that the list does not have is in no document, and in no corpus.
#[test]
fn every_code_of_the_engine_is_listed() {
    let known: BTreeSet<&str> = FINDINGS.iter().map(|one| one.0).collect();
    assert!(FINDINGS.is_sorted_by_key(|one| one.0));
    let mut made = BTreeSet::new();
    let mut folders = vec![remit_tests::root().join("crates/engine/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.ends_with("tests.rs") {
                continue;
            }
            let text: String = fs::read_to_string(&path)
                .unwrap()
                .split_whitespace()
                .collect();
            let text = text.replace("#[error(", "");
            for before in [
                "::error(",
                "::warning(",
                "::unplaced(",
                ".excess(",
                "finding(",
                "cedar_errors(",
                "error(",
                "code:",
                "Severity::Error,",
                "Severity::Warning,",
                "push((",
                "Err((",
            ] {
                for rest in text.split(&format!("{before}\"")).skip(1) {
                    let code = rest.split('"').next().unwrap();
                    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
                    if !code.is_empty() && code.chars().all(plain) {
                        made.insert(code.to_owned());
                    }
                }
            }
        }
    }
    assert!(made.len() > 30, "{made:?}");
    let unlisted: Vec<&String> = made
        .iter()
        .filter(|code| !known.contains(code.as_str()))
        .collect();
    assert_eq!(unlisted, Vec::<&String>::new());
}

#[test]
fn the_page_of_findings_is_the_table() {
    let mut page = "# Findings\n\nWhat `remit policy validate`, a check and a push find in a bundle. An error refuses it; a warning does not. Each finding has\n\
        its code, a place in lines and columns, and where it is known what to do. This page is written from the table in\n\
        `crates/engine/src/finding/kinds.rs`: `REMIT_GOLDEN=write cargo test the_page_of_findings_is_the_table`.\n\n\
        What differs from the bundle in force is told by the comparison of a check ([api.md](api.md)), not here.\n\n\
        | code | what is found | what to do |\n|---|---|---|\n"
        .to_owned();
    for (code, what, help) in FINDINGS {
        writeln!(page, "| `{code}` | {what} | {help} |").unwrap();
    }
    remit_tests::golden::compare("docs/findings.md", &page);
}

/// What is stored, or named as a parent of what is, exists; and of a type that lives outside the bundle nothing is missing.
#[test]
fn an_entity_that_is_somewhere_is_not_missing() {
    let policy = "@id(\"x\") @owner(\"o\") permit (principal == Agent::\"nobody\", action, resource) when { context.amount == 7 };";
    let snapshot = Snapshot::compile(&with_policy(policy)).unwrap();
    let codes = |snapshot: &Snapshot| -> Vec<String> {
        let found = snapshot.review().into_iter();
        found.map(|one| one.code).collect()
    };
    assert_eq!(codes(&snapshot), ["missing_entity"]);
    let told = &snapshot.review()[0];
    assert_eq!(told.policy.as_ref().unwrap().as_str(), "x");
    assert!(told.message.contains("`Agent::\"nobody\"`"), "{told:?}");
    assert!(told.help.is_some() && told.span.is_some(), "{told:?}");
    let agent = |id: &str| -> Entity {
        let json = json!({ "uid": { "type": "Agent", "id": id }, "attrs": { "trust": 1 } });
        serde_json::from_value(json).unwrap()
    };
    for live in ["nobody", "somebody-else"] {
        let live = snapshot.with_entities(&[agent(live)], &[]).unwrap();
        assert_eq!(codes(&live), Vec::<String>::new());
    }
    // A group that only its members name.
    let team = |id: &str| -> Entity {
        serde_json::from_value(json!({ "uid": { "type": "Team", "id": id } })).unwrap()
    };
    let mut bundle = base();
    bundle.entities.push(team("others"));
    let alone = Snapshot::compile(&bundle).unwrap();
    assert_eq!(codes(&alone), ["missing_entity"], "`readers` is nowhere");
    bundle.entities[0]
        .parents
        .push(EntityUid::new("Team", "readers"));
    assert_eq!(
        codes(&Snapshot::compile(&bundle).unwrap()),
        Vec::<String>::new()
    );
}
