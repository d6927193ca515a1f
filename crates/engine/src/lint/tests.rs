//! Tests of the lints: for each code a policy that earns it and one that does not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics has failed"
)]

use remit_core::{Bundle, EntityUid, Link, PolicyId, Source};

use crate::compile::compile;

const SCHEMA: &str = r"
entity Group;
entity Person { level: Long, name?: String };
entity Agent { owner: Person, limits: { daily: Long } };
entity Tool { owner: Person } tags Long;
action use appliesTo { principal: Agent, resource: Tool, context: { amount: Long, at: datetime, by: Person } };
";

fn warnings(bundle: &Bundle) -> Vec<(String, String)> {
    let program = compile(bundle, None).unwrap();
    program
        .warnings
        .into_iter()
        .map(|warning| (warning.code, warning.message))
        .collect()
}

fn codes(policy: &str) -> Vec<String> {
    let bundle = Bundle {
        schema: vec![Source {
            file: "s".into(),
            text: SCHEMA.into(),
        }],
        policies: vec![Source {
            file: "p".into(),
            text: format!("@id(\"a\") @owner(\"x\") {policy}"),
        }],
        ..Bundle::default()
    };
    warnings(&bundle)
        .into_iter()
        .map(|(code, _)| code)
        .collect()
}

#[test]
fn policies_that_never_apply() {
    assert_eq!(
        codes("permit(principal is Tool, action, resource);"),
        ["never_applies"]
    );
    assert_eq!(
        codes("permit(principal, action, resource is Group);"),
        ["never_applies"]
    );
    assert_eq!(
        codes("forbid(principal, action == Action::\"use\", resource) when { false };"),
        ["never_applies"]
    );
    assert_eq!(
        codes("permit(principal is Agent, action, resource is Tool);"),
        Vec::<String>::new()
    );
}

#[test]
fn links_that_never_apply() {
    let bundle = |kind: &str| Bundle {
        schema: vec![Source {
            file: "s".into(),
            text: SCHEMA.into(),
        }],
        policies: vec![Source {
            file: "p".into(),
            text: "\n@id(\"t\") @owner(\"x\") permit(principal == ?principal, action, resource);"
                .into(),
        }],
        links: vec![Link {
            id: PolicyId::new("l"),
            template: PolicyId::new("t"),
            slots: [("?principal".to_owned(), EntityUid::new(kind, "x"))].into(),
        }],
        ..Bundle::default()
    };
    let program = compile(&bundle("Tool"), None).unwrap();
    let [warning] = program.warnings.as_slice() else {
        panic!("{:?}", program.warnings)
    };
    assert_eq!(
        (
            warning.code.as_str(),
            warning.policy.as_ref().unwrap().as_str()
        ),
        ("never_applies", "l")
    );
    assert_eq!(
        (warning.file.as_deref(), warning.span.unwrap().start_line),
        (Some("p"), 2)
    );
    assert_eq!(warnings(&bundle("Agent")), []);
}

#[test]
fn permits_without_any_constraint() {
    assert_eq!(
        codes("permit(principal, action, resource);"),
        ["unscoped_permit"]
    );
    assert_eq!(
        codes("forbid(principal, action, resource);"),
        Vec::<String>::new()
    );
    assert_eq!(
        codes("permit(principal, action, resource) when { context.amount < 3 };"),
        Vec::<String>::new()
    );
    assert_eq!(
        codes("permit(principal, action == Action::\"use\", resource);"),
        Vec::<String>::new()
    );
}

#[test]
fn policies_without_an_owner() {
    let bundle = |head: &str| Bundle {
        schema: vec![Source {
            file: "s".into(),
            text: SCHEMA.into(),
        }],
        policies: vec![Source {
            file: "p".into(),
            text: format!("@id(\"a\") {head} forbid(principal, action, resource);"),
        }],
        ..Bundle::default()
    };
    let codes = |head: &str| {
        warnings(&bundle(head))
            .into_iter()
            .map(|(code, _)| code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes(""), ["missing_owner"]);
    assert_eq!(codes("@owner"), ["missing_owner"]);
    assert_eq!(codes("@owner(\"payments\")"), Vec::<String>::new());
}

#[test]
fn forbids_that_can_fail() {
    let risky = [
        "context.amount + 1 > 5",
        "context.amount * 2 > 5",
        "-context.amount < 5",
        "context.at.offset(duration(\"1h\")) > datetime(\"2026-01-01\")",
        "context.at.durationSince(datetime(\"2026-01-01\")) > duration(\"1h\")",
        "resource.owner.level > 5",
        "principal.owner.level > 5",
        "context.by.level > 5",
        "Person::\"x\".level > 5",
        "(if context.amount > 3 then principal.owner else context.by).level > 5",
        "principal.owner has name || (principal.owner has level && context.by.level > 3)",
    ];
    for condition in risky {
        let policy =
            |effect: &str| format!("{effect}(principal, action, resource) when {{ {condition} }};");
        assert_eq!(
            codes(&policy("forbid")),
            ["forbid_can_error"],
            "{condition}"
        );
        assert_eq!(
            codes(&policy("permit")),
            Vec::<String>::new(),
            "{condition}"
        );
    }
    let safe = [
        "context.amount > 5",
        "principal.limits.daily > 5",
        "resource.owner has level && resource.owner.level > 5",
        "resource has owner.level && resource.owner.level > 5",
        "if context.by has level then context.by.level > 5 else true",
        "resource.hasTag(\"risk\") && resource.getTag(\"risk\") > 5",
        "resource.owner has level && (context.amount > 4 || resource.owner.level > 5)",
        "resource.owner == principal.owner",
        "context.at > datetime(\"2026-01-01\")",
    ];
    for condition in safe {
        let policy = format!("forbid(principal, action, resource) when {{ {condition} }};");
        assert_eq!(codes(&policy), Vec::<String>::new(), "{condition}");
        let policy = format!("forbid(principal, action, resource) unless {{ {condition} }};");
        assert_eq!(codes(&policy), Vec::<String>::new(), "unless {condition}");
    }
    let after = "forbid(principal, action, resource) when { resource.owner has level } when { resource.owner.level > 5 };";
    assert_eq!(
        codes(after),
        Vec::<String>::new(),
        "a clause before guards a clause after"
    );
    let before = "forbid(principal, action, resource) when { resource.owner.level > 5 } when { resource.owner has level };";
    assert_eq!(codes(before), ["forbid_can_error"]);
}

/// Conditions of a permit for every agent, tool and action, and what is found about them, with its text.
const CONSTANT: &[(&str, &str, &str)] = &[
    ("true", "constant_clause", "true"),
    ("context.amount > 3 || false", "constant_clause", "false"),
    ("context.amount > 3 || 2 > 3", "constant_clause", "2 > 3"),
    (
        "context.amount > 3 || !(principal is Agent)",
        "constant_clause",
        "!(principal is Agent)",
    ),
    (
        "context.amount > 3 && resource is Tool",
        "constant_clause",
        "resource is Tool",
    ),
    (
        "context.amount > 3 || principal in Group::\"g\"",
        "constant_clause",
        "principal in Group::\"g\"",
    ),
    (
        "context.amount > 3 && action in [Action::\"use\"]",
        "constant_clause",
        "action in [Action::\"use\"]",
    ),
    (
        "context has by && context.amount > 3",
        "constant_clause",
        "context has by",
    ),
    (
        "context.amount > 3 || resource has limits",
        "constant_clause",
        "resource has limits",
    ),
    (
        "context.amount > 9223372036854775807 || context.amount < 4",
        "constant_clause",
        "context.amount > 9223372036854775807",
    ),
    (
        "context.amount > 3 && (context.amount >= 4 || resource.owner == principal.owner)",
        "constant_clause",
        "context.amount >= 4",
    ),
    (
        "context.amount > 3 && (resource.owner == principal.owner || 3 < context.amount)",
        "constant_clause",
        "3 < context.amount",
    ),
    (
        "context.amount <= 3 && context.amount > 3",
        "contradiction",
        "context.amount > 3",
    ),
    (
        "context.amount == 3 && 4 == context.amount",
        "contradiction",
        "4 == context.amount",
    ),
    (
        "principal.owner == Person::\"a\" && principal.owner == Person::\"b\"",
        "contradiction",
        "principal.owner == Person::\"b\"",
    ),
    (
        "!(context.amount > 3) && context.amount > 2 && context.amount != 3",
        "contradiction",
        "context.amount != 3",
    ),
    (
        "context.amount > 3 && !(resource.owner == principal.owner) && context.amount < 2",
        "contradiction",
        "context.amount < 2",
    ),
];

/// Conditions of which nothing is known.
const OPEN: &[&str] = &[
    "context.amount > 3 && context.amount < 5",
    "context.amount > 3 || context.amount < 2",
    "context.amount != 3 && context.amount != 4",
    "principal.owner == Person::\"a\" || principal.owner == Person::\"b\"",
    "principal.owner has name && principal.owner.name == \"x\"",
    "context.amount > 3 || (context.amount > 1 && resource.owner == principal.owner)",
    "if context.amount > 3 then resource.owner == principal.owner else context.amount > 1",
    "resource has owner && resource.owner == principal.owner",
    "principal.limits.daily > 3 && context.amount > 3",
];

#[test]
fn conditions_that_always_come_to_the_same() {
    let places = |policy: &str| -> Vec<(String, String)> {
        let text = format!("@id(\"a\") @owner(\"x\") {policy}");
        let bundle = Bundle {
            schema: vec![Source {
                file: "s".into(),
                text: SCHEMA.into(),
            }],
            policies: vec![Source {
                file: "p".into(),
                text: text.clone(),
            }],
            ..Bundle::default()
        };
        let program = compile(&bundle, None).unwrap();
        let warnings = program.warnings.into_iter();
        warnings
            .map(|warning| {
                let span = warning.span.unwrap();
                let at = text.get(span.start..span.end).unwrap().to_owned();
                (warning.code, at)
            })
            .collect()
    };
    let when = |condition: &str| {
        places(&format!(
            "permit(principal, action, resource) when {{ {condition} }};"
        ))
    };
    for (condition, code, at) in CONSTANT {
        let found = when(condition);
        let told = found.first().map(|(code, at)| (code.as_str(), at.as_str()));
        assert_eq!(told, Some((*code, *at)), "{condition}: {found:?}");
        let unreachable = |code: &str| code == "unreachable_clause";
        assert!(
            found.iter().skip(1).all(|(code, _)| unreachable(code)),
            "{found:?}"
        );
    }
    for condition in OPEN {
        assert_eq!(when(condition), [], "{condition}");
    }
    let after = "permit(principal, action, resource) when { context.amount > 3 } unless { context.amount > 2 } when { resource.hasTag(\"a\") };";
    let found = places(after);
    assert_eq!(
        found,
        [
            ("contradiction".to_owned(), "context.amount > 2".to_owned()),
            (
                "unreachable_clause".to_owned(),
                "resource.hasTag(\"a\")".to_owned()
            )
        ]
    );
}
