//! Tests of mutants: which there are of a policy, and what cases make of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use remit_core::{Bundle, EntityUid, Source};

use super::*;

const SCHEMA: &str = "
entity Team;
entity Agent in [Team] { trust: Long, roles: Set<String> };
entity Person in [Team] { trust: Long };
entity Doc { level: Long, owners: Set<String> };
action read, write appliesTo { principal: Agent, resource: Doc, context: { n: Long, names: Set<String>, why?: String } };
action call appliesTo { principal: [Agent, Person], resource: Doc, context: { n: Long, names: Set<String>, why?: String } };
";

fn bundle(policies: &str) -> Bundle {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", policies)],
        ..Bundle::default()
    }
}

/// Tries the mutants of a bundle by these cases, given as JSON.
fn mutate(bundle: &Bundle, cases: &serde_json::Value) -> Vec<PolicyMutation> {
    let cases: Vec<Case> = serde_json::from_value(cases.clone()).unwrap();
    let snapshot = Snapshot::compile(bundle).unwrap();
    let cases: Vec<&Case> = cases.iter().collect();
    snapshot.mutate(&bundle.links, &cases, &|| true).unwrap()
}

fn none() -> serde_json::Value {
    serde_json::json!([])
}

/// Returns `before → after` of every survivor of the only policy, with its kind.
fn survivors(policies: &str) -> BTreeSet<String> {
    let mut found = mutate(&bundle(policies), &none());
    let only = found.remove(0);
    assert_eq!((only.killed, only.untried), (0, 0), "no case, no kill");
    let told = only.survivors.iter().map(|one| {
        let Survivor {
            kind,
            before,
            after,
            ..
        } = one;
        format!("{}: {before} → {after}", kind.words())
    });
    told.collect()
}

fn expect(policies: &str, wanted: &[&str]) {
    let found = survivors(policies);
    for wanted in wanted {
        assert!(found.contains(*wanted), "no `{wanted}` in {found:#?}");
    }
}

#[test]
fn every_part_of_a_policy_is_changed() {
    expect(
        r#"@id("a") @permit("not the effect") forbid (principal is Agent in Team::"t", action in [Action::"call", Action::"write"], resource == Doc::"d")
        when { context.n >= 5 && (principal.trust == 1 || context.names.containsAll(resource.owners)) }
        unless { ["x", "y"].contains("x") && !(resource.level < 3) };"#,
        &[
            "effect flipped: forbid → permit",
            "scope widened: principal is Agent in Team::\"t\" → principal in Team::\"t\"",
            "scope widened: principal is Agent in Team::\"t\" → principal is Agent",
            "scope widened: principal is Agent in Team::\"t\" → principal",
            "scope widened: action in [Action::\"call\", Action::\"write\"] → action",
            "scope widened: resource == Doc::\"d\" → resource",
            "member dropped: Action::\"call\", → ",
            "member dropped: , Action::\"write\" → ",
            "clause dropped: context.n >= 5 → true",
            "comparison changed: >= → >",
            "comparison changed: >= → <",
            "string changed: \"x\" → \"xx\"",
            "number shifted: 5 → 6",
            "number shifted: 5 → 4",
            "term dropped: principal.trust == 1 → false",
            "comparison changed: == → !=",
            "term dropped: context.names.containsAll(resource.owners) → false",
            "negated: context.names.containsAll(resource.owners) → !(context.names.containsAll(resource.owners))",
            "containment changed: containsAll → containsAny",
            "containment changed: context.names.containsAll(resource.owners) → (resource.owners).containsAll(context.names)",
            "member dropped: \"x\", → ",
            "member dropped: , \"y\" → ",
            "term dropped: [\"x\", \"y\"].contains(\"x\") → true",
            "negated: !(resource.level < 3) → (resource.level < 3)",
            "comparison changed: < → <=",
        ],
    );
}

#[test]
fn no_mutant_is_the_policy_or_another_mutant() {
    let policies = r#"@id("a") @owner("t")
    permit (principal, action, resource is Doc) // permit, not forbid
    when { context.n > 0 && context.n > 0 && (if context.n == 1 then true else principal has trust && principal.trust != -1) }
    unless { context has why && context.why like "*5 < 6*" };"#;
    let snapshot = Snapshot::compile(&bundle(policies)).unwrap();
    let placed = snapshot.rules().program.placed().next().unwrap();
    let (mutants, _) = writing::mutants(&placed.rule);
    let texts: BTreeSet<_> = mutants.iter().map(|one| &one.text).collect();
    assert_eq!(texts.len(), mutants.len());
    assert!(!texts.contains(&Some(placed.rule.text.to_string())));
    assert!(mutants.len() > 15, "{mutants:#?}");
    // Each text is the policy with that one piece changed.
    for one in &mutants {
        let Some(text) = &one.text else { continue };
        let mut again = placed.rule.text.to_string();
        again.replace_range(one.range.clone(), &one.after);
        assert_eq!(again, *text);
    }
}

#[test]
fn a_test_of_the_only_type_there_is_changes_nothing() {
    let of = |policies: &str| {
        let mut found = mutate(&bundle(policies), &none());
        let one = found.remove(0);
        let kinds: Vec<_> = one.survivors.iter().map(|one| one.kind).collect();
        (one.equivalent, kinds)
    };
    // Only agents read, and only documents are read.
    let (equivalent, kinds) =
        of(r#"@id("a") permit (principal is Agent, action == Action::"read", resource is Doc);"#);
    assert_eq!(equivalent, 2);
    assert_eq!(
        kinds,
        [
            MutantKind::PolicyDropped,
            MutantKind::EffectFlipped,
            MutantKind::ScopeWidened
        ]
    );
    // People call, too.
    let (equivalent, _) =
        of(r#"@id("a") permit (principal is Agent, action == Action::"call", resource is Doc);"#);
    assert_eq!(equivalent, 1);
    // All actions but one are not all.
    let (equivalent, _) = of(
        r#"@id("a") permit (principal, action in [Action::"call", Action::"read", Action::"write"], resource);"#,
    );
    assert_eq!(equivalent, 1);
}

#[test]
fn what_the_schema_refuses_is_no_mutant() {
    let mut found = mutate(
        &bundle(
            r#"@id("a") permit (principal, action == Action::"call", resource) when { context has why && context.why == "x" };"#,
        ),
        &none(),
    );
    let only = found.remove(0);
    // Without the guard, or with it turned round, `context.why` is no member that is there.
    assert_eq!(only.invalid, 2, "{only:#?}");
}

/// Cases kill what they notice and nothing else.
#[test]
fn a_mutant_lives_until_a_case_notices() {
    let policies = "@id(\"a\") @controls(\"X-1, X-2\") @control(\"X-2,X-3\")\npermit (principal, action == Action::\"read\", resource)\nwhen { context.n <= 5 };";
    let case = |n: i64, decision: &str| {
        serde_json::json!({
            "name": format!("{n} {decision}"),
            "question": {
                "subject": { "type": "Agent", "id": "a" },
                "action": { "name": "read" },
                "resource": { "type": "Doc", "id": "d" },
                "context": { "n": n, "names": [] },
            },
            "expect": { "decision": decision },
        })
    };
    let run = |cases: serde_json::Value| mutate(&bundle(policies), &cases).remove(0);
    let one = run(serde_json::json!([case(4, "permit")]));
    assert_eq!(
        one.controls,
        ["X-1", "X-2", "X-3"].map(str::to_owned).into()
    );
    let left: Vec<_> = one
        .survivors
        .iter()
        .map(|one| (one.kind, one.line, one.column))
        .collect();
    // `action` for `action == read`, `true`, `<`, 6 and 4 for 5 say the same of 4; `>` and the others do not.
    assert_eq!(
        left,
        [
            (MutantKind::ScopeWidened, 2, 20),
            (MutantKind::ClauseDropped, 3, 8),
            (MutantKind::ComparisonChanged, 3, 18),
            (MutantKind::NumberShifted, 3, 21),
            (MutantKind::NumberShifted, 3, 21),
        ]
    );
    let one = run(serde_json::json!([case(5, "permit"), case(6, "deny")]));
    let left: Vec<_> = one.survivors.iter().map(|one| one.kind).collect();
    assert_eq!(left, [MutantKind::ScopeWidened]);
    assert_eq!(one.killed, 7);
    // A case that fails by itself shows nothing.
    let one = run(serde_json::json!([case(5, "deny")]));
    assert_eq!(one.killed, 0);
}

#[test]
fn templates_are_tried_through_their_links() {
    let mut bundle = bundle(
        "@id(\"t\") permit (principal == ?principal, action, resource) when { context.n == 1 };\n@id(\"unlinked\") permit (principal == ?principal, action, resource);",
    );
    assert_eq!(mutate(&bundle, &none()).len(), 0, "nothing is linked");
    bundle.links = serde_json::from_value(serde_json::json!([
        { "id": "one", "template": "t", "slots": { "?principal": EntityUid::new("Agent", "a") } },
        { "id": "two", "template": "t", "slots": { "?principal": EntityUid::new("Agent", "b") } },
    ]))
    .unwrap();
    let found = mutate(&bundle, &none());
    assert_eq!(found.len(), 1);
    // Without its slot it cannot be linked.
    assert_eq!((found[0].policy.as_str(), found[0].invalid), ("t", 1));
    assert!(found[0].survivors.len() > 4, "{found:#?}");
}

#[test]
fn what_is_not_tried_is_told() {
    let terms: Vec<String> = (0..60).map(|n| format!("context.n == {n}")).collect();
    let policies = format!(
        "@id(\"a\") permit (principal, action, resource) when {{ {} }};\n@id(\"b\") @mode(\"shadow\") permit (principal, action, resource);",
        terms.join(" || ")
    );
    let bundle = bundle(&policies);
    let found = mutate(&bundle, &none());
    let [only] = found.as_slice() else {
        panic!("a policy in shadow mode decides nothing: {found:#?}")
    };
    let all = only.tried() + only.invalid + only.equivalent;
    assert_eq!(all, MOST);
    assert!(only.untried >= 40, "{}", only.untried);

    let snapshot = Snapshot::compile(&bundle).unwrap();
    let asked = AtomicUsize::new(0);
    let found = snapshot
        .mutate(&[], &[], &|| asked.fetch_add(1, Ordering::Relaxed) < 10)
        .unwrap();
    assert_eq!(
        found[0].tried() + found[0].invalid + found[0].equivalent,
        10
    );
    assert_eq!(found[0].untried, only.untried + MOST - 10);
}
