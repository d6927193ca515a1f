//! What a bundle changes: that what is said not to loosen permits nothing new, and that each bad draft has its finding.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{Bundle, Source, Verdict};
use remit_engine::{ChangeCode, Snapshot};
use serde_json::json;

use super::questions::case;
use super::rules::{Rule, rule};
use super::world::pick;
use super::{bundle, trial};

/// Conditions that hold, do not hold, or fail, depending on the question.
const CONDITIONS: &[&str] = &[
    "context.n > 3",
    "context.nested.flag",
    "context.n + 9223372036854775800 > 0",
    "principal in App::Team::\"team1\"",
    "App::User::\"user3\".level > 2",
    "true",
];

/// Makes one random change to some rules.
fn change(rng: &mut StdRng, rules: &mut Vec<Rule>) {
    let place = rng.random_range(0..rules.len());
    let rule_at = &mut rules[place];
    let lines: Vec<String> = rule_at
        .text
        .trim_end_matches(';')
        .lines()
        .map(str::to_owned)
        .collect();
    let clauses = lines
        .iter()
        .position(|line| line.starts_with("when ") || line.starts_with("unless "))
        .unwrap_or(lines.len());
    let (head, mut body) = (lines[..clauses].to_vec(), lines[clauses..].to_vec());
    match rng.random_range(0..8) {
        0 => {
            rules.remove(place);
            return;
        }
        1 => {
            rules.push(rule(rng, 800));
            return;
        }
        2 if !body.is_empty() => {
            body.remove(rng.random_range(0..body.len()));
        }
        3 => body.insert(0, format!("when {{ {} }}", pick(rng, CONDITIONS))),
        4 => body.push(format!("unless {{ {} }}", pick(rng, CONDITIONS))),
        5 => body.reverse(),
        6 if !rule_at.shadow => {
            rule_at.text = rule_at.text.replacen("permit (", "permit\n(", 1);
            rule_at.text.insert_str(0, "@mode(\"shadow\")\n");
            rule_at.text = rule_at.text.replacen("@mode(\"enforce\")\n", "", 1);
            return;
        }
        _ => {
            let mut twin = rule_at.clone();
            twin.id.push_str("-twin");
            twin.text = twin.text.replacen(
                &format!("\"{}\"", rule_at.id),
                &format!("\"{}\"", twin.id),
                1,
            );
            twin.links = None;
            rules.remove(place);
            rules.push(twin);
            return;
        }
    }
    rule_at.text = head.into_iter().chain(body).collect::<Vec<_>>().join("\n") + ";";
}

#[test]
fn law_what_does_not_loosen_permits_nothing_new() {
    let (mut tight, mut tighter, mut loose, mut opened) = (0, 0, 0, 0);
    for seed in 9_000..9_600 {
        let mut rng = StdRng::seed_from_u64(seed);
        let Some(trial) = trial(&mut rng) else {
            continue;
        };
        let mut rules = trial.rules.clone();
        for _ in 0..rng.random_range(1..3) {
            if !rules.is_empty() {
                change(&mut rng, &mut rules);
            }
        }
        let Ok(after) = trial
            .snapshot
            .recompile(&bundle(&rules, trial.bundle.entities.clone()))
        else {
            continue;
        };
        let comparison = after.compare(&trial.snapshot);
        let mut newly = 0;
        for _ in 0..60 {
            let case = case(&mut rng);
            let was = trial.snapshot.decide(&case.question, &case.facts);
            let is = after.decide(&case.question, &case.facts);
            if was.verdict == Verdict::Deny && is.verdict == Verdict::Permit {
                assert!(
                    comparison.loosens,
                    "seed {seed}: {comparison:#?}\n{was:?}\n{is:?}"
                );
                newly += 1;
            }
            tighter += u32::from(!comparison.loosens && was.verdict != is.verdict);
        }
        if comparison.loosens {
            loose += 1;
            opened += u32::from(newly > 0);
        } else {
            tight += 1;
        }
    }
    println!(
        "{tight} do not loosen ({tighter} answers became denials), {loose} may, {opened} of them seen to"
    );
    assert!(
        tight > 100 && tighter > 20 && opened > 30,
        "{tight} {tighter} {loose} {opened}"
    );
}

pub(super) const SCHEMA: &str = r"
entity Team;
entity Agent in [Team] { trust: Long, nick?: String };
entity Tool { risk: Long };
action read, write appliesTo { principal: Agent, resource: Tool, context: { amount: Long, note?: String } };
";

/// The bundle that the drafts change.
pub(super) const BASE: &str = r#"
@id("readers") @owner("ops") permit (principal in Team::"readers", action == Action::"read", resource);
@id("payers") @owner("ops") permit (principal is Agent, action == Action::"write", resource is Tool)
    when { context.amount <= 100 } when { context.amount > 0 };
@id("cap") @owner("ops") forbid (principal, action == Action::"write", resource) when { context.amount > 1000 };
@id("trial") @owner("ops") @mode("shadow") permit (principal == Agent::"new", action == Action::"write", resource);
@id("watched") @owner("ops") @obligation("log") forbid (principal == Agent::"bad", action, resource);
"#;

/// Compiles a bundle with these agents beside those that the base names.
fn compiled(policies: &str, schema: &str, agents: &[&str]) -> Result<Snapshot, Vec<String>> {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let named = ["bad", "new"].iter();
    let entities = named.chain(agents).map(|id| {
        let entity =
            json!({ "uid": { "type": "Agent", "id": id }, "attrs": { "trust": 1 }, "parents": [] });
        serde_json::from_value(entity).unwrap()
    });
    let bundle = Bundle {
        schema: vec![source("s.cedarschema", schema)],
        policies: vec![source("p.cedar", policies)],
        entities: entities.collect(),
        ..Bundle::default()
    };
    Snapshot::compile(&bundle).map_err(|refused| {
        refused
            .diagnostics
            .into_iter()
            .map(|one| one.code)
            .collect()
    })
}

/// What a draft replaces in the base, by what, and the changes that must be found: code, policy, whether it loosens.
pub(super) type Draft<'d> = (&'d str, &'d str, &'d [(ChangeCode, &'d str, bool)]);

pub(super) const DRAFTS: &[Draft<'_>] = &[
    // Loosening.
    (
        "@id(\"cap\")",
        "@id(\"more\") @owner(\"ops\") permit (principal, action, resource) when { context.amount == 7 };\n@id(\"cap\")",
        &[(ChangeCode::PermitAdded, "more", true)],
    ),
    (
        "principal in Team::\"readers\"",
        "principal",
        &[(ChangeCode::PermitWidened, "readers", true)],
    ),
    (
        "action == Action::\"read\"",
        "action",
        &[(ChangeCode::PermitWidened, "readers", true)],
    ),
    (
        "resource is Tool)",
        "resource)",
        &[(ChangeCode::PermitWidened, "payers", true)],
    ),
    (
        " when { context.amount > 0 }",
        "",
        &[(ChangeCode::PermitConditionDropped, "payers", true)],
    ),
    (
        "when { context.amount <= 100 } when { context.amount > 0 }",
        "",
        &[(ChangeCode::PermitConditionDropped, "payers", true)],
    ),
    (
        "context.amount <= 100",
        "context.amount <= 200",
        &[(ChangeCode::PermitChanged, "payers", true)],
    ),
    (
        "Team::\"readers\"",
        "Team::\"everybody\"",
        &[(ChangeCode::PermitChanged, "readers", true)],
    ),
    (
        "@mode(\"shadow\") ",
        "",
        &[(ChangeCode::PermitEnforced, "trial", true)],
    ),
    (
        "@id(\"cap\") @owner(\"ops\") forbid (principal, action == Action::\"write\", resource) when { context.amount > 1000 };",
        "",
        &[(ChangeCode::ForbidRemoved, "cap", true)],
    ),
    (
        "forbid (principal, action == Action::\"write\", resource)",
        "forbid (principal == Agent::\"a\", action == Action::\"write\", resource)",
        &[(ChangeCode::ForbidNarrowed, "cap", true)],
    ),
    (
        "when { context.amount > 1000 }",
        "when { context.amount > 1000 } unless { context has note }",
        &[(ChangeCode::ForbidConditionAdded, "cap", true)],
    ),
    (
        "context.amount > 1000",
        "context.amount > 5000",
        &[(ChangeCode::ForbidChanged, "cap", true)],
    ),
    (
        "@id(\"cap\")",
        "@id(\"cap\") @mode(\"shadow\")",
        &[(ChangeCode::ForbidToShadow, "cap", true)],
    ),
    (
        "forbid (principal == Agent::\"bad\"",
        "permit (principal == Agent::\"bad\"",
        &[(ChangeCode::EffectChanged, "watched", true)],
    ),
    // Not loosening.
    (
        "@id(\"cap\")",
        "@id(\"none\") @owner(\"ops\") forbid (principal, action, resource);\n@id(\"cap\")",
        &[(ChangeCode::ForbidAdded, "none", false)],
    ),
    (
        "@id(\"cap\")",
        "@id(\"same\") @owner(\"ops\") permit (principal == Agent::\"a\", action == Action::\"write\", resource is Tool) when { context.amount > 0 && context.amount <= 100 };\n@id(\"cap\")",
        &[(ChangeCode::PermitAdded, "same", false)],
    ),
    (
        "@id(\"readers\") @owner(\"ops\") permit (principal in Team::\"readers\", action == Action::\"read\", resource);",
        "",
        &[(ChangeCode::PermitRemoved, "readers", false)],
    ),
    (
        "when { context.amount <= 100 }",
        "when { context.amount <= 100 } when { context has note }",
        &[(ChangeCode::PermitNarrowed, "payers", false)],
    ),
    (
        "@id(\"payers\")",
        "@id(\"payers\") @mode(\"shadow\")",
        &[(ChangeCode::PermitToShadow, "payers", false)],
    ),
    (
        " when { context.amount > 1000 }",
        "",
        &[(ChangeCode::ForbidWidened, "cap", false)],
    ),
    (
        "@obligation(\"log\") ",
        "",
        &[(ChangeCode::ObligationsChanged, "watched", false)],
    ),
    (
        "@id(\"cap\") ",
        "@id(\"limit\") ",
        &[
            (ChangeCode::ForbidAdded, "limit", false),
            (ChangeCode::ForbidRemoved, "cap", false),
        ],
    ),
    (
        "when { context.amount <= 100 } when { context.amount > 0 }",
        "when { context.amount > 0 } when { context.amount <= 100 }",
        &[],
    ),
];

#[test]
fn every_draft_has_its_change() {
    let before = compiled(BASE, SCHEMA, &["a"]).unwrap();
    for (replaced, by, expected) in DRAFTS {
        assert_eq!(BASE.matches(replaced).count(), 1, "{replaced}");
        let draft = BASE.replacen(replaced, by, 1);
        let after = compiled(&draft, SCHEMA, &["a"]).unwrap();
        let comparison = after.compare(&before);
        let mut found: Vec<_> = comparison
            .changes
            .iter()
            .map(|one| {
                (
                    one.code,
                    one.policy.as_ref().map_or("", |id| id.as_str()),
                    one.loosens,
                )
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, *expected, "{replaced} → {by}");
        assert_eq!(
            comparison.loosens,
            expected.iter().any(|one| one.2),
            "{replaced} → {by}"
        );
        assert_eq!(comparison.more, 0);
        for change in &comparison.changes {
            println!(
                "{:?} {}: {}",
                change.code,
                change.policy.as_ref().unwrap(),
                change.message
            );
        }
    }
    assert_eq!(before.compare(&before).changes, []);
}

#[test]
fn schema_and_entities_are_changes_too() {
    let before = compiled(BASE, SCHEMA, &["a"]).unwrap();
    let other = SCHEMA.replace("note?: String", "note?: String, tone?: String");
    let after = compiled(BASE, &other, &["a"]).unwrap().compare(&before);
    assert_eq!(after.changes[0].code, ChangeCode::SchemaChanged);
    assert!(after.loosens);
    let after = compiled(BASE, SCHEMA, &["a", "b"])
        .unwrap()
        .compare(&before);
    assert_eq!(after.changes[0].code, ChangeCode::EntitiesChanged);
    assert_eq!(
        after.changes[0].message,
        "entities of the bundle are other ones: `Agent::\"b\"`"
    );
    assert!(after.loosens);
}

#[test]
fn of_two_that_say_the_same_one_is_named() {
    let twice = format!(
        "{BASE}@id(\"payers2\") @owner(\"o\") permit (principal is Agent, action == Action::\"write\", resource is Tool) when {{ context.amount > 0 && context.amount <= 100 }};"
    );
    let found = compiled(&twice, SCHEMA, &["a"]).unwrap().review();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].message,
        "whatever this policy permits, `payers` permits already"
    );
    assert_eq!(found[0].policy.as_ref().unwrap().as_str(), "payers2");
}
