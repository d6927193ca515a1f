//! Tests of explaining: what each clause came to and saw, and which permits were nearest.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

use remit_core::{Bundle, Entity, EntityUid, KeyId, Link, Source, Timestamp};
use serde_json::json;

use super::ClauseKind::{Unless, When};
use super::ClauseOutcome::{False, NotReached, True};
use super::*;

const SCHEMA: &str = r"
entity Team;
entity Person { level: Long };
entity Agent in [Team] { level: Long, owner?: Person };
entity Tool tags String;
action use, read appliesTo { principal: Agent, resource: Tool, context: { amount: Long, reason?: String } };
";

fn snapshot(policies: &str, links: Vec<Link>) -> Snapshot {
    let entity = |value: serde_json::Value| serde_json::from_value::<Entity>(value).unwrap();
    let bundle = Bundle {
        schema: vec![Source {
            file: "s.cedarschema".into(),
            text: SCHEMA.into(),
        }],
        policies: vec![Source {
            file: "p.cedar".into(),
            text: policies.into(),
        }],
        links,
        entities: vec![
            entity(
                json!({ "uid": { "type": "Agent", "id": "a" }, "attrs": { "level": 3 }, "parents": [{ "type": "Team", "id": "t" }] }),
            ),
            entity(json!({ "uid": { "type": "Tool", "id": "x" }, "tags": { "risk": "high" } })),
            entity(json!({ "uid": { "type": "Team", "id": "t" } })),
        ],
        ..Bundle::default()
    };
    Snapshot::compile(&bundle).unwrap()
}

fn explain(policies: &str) -> Explanation {
    explain_by(&snapshot(policies, Vec::new()))
}

fn explain_by(snapshot: &Snapshot) -> Explanation {
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" },
        "action": { "name": "use" },
        "resource": { "type": "Tool", "id": "x" },
        "context": { "amount": 9_223_372_036_854_775_807_i64 },
    }))
    .unwrap();
    let facts = Facts::plain(
        "01890a5d-ac96-774b-bcce-b302099a8057"
            .parse::<KeyId>()
            .unwrap(),
        "dev",
        "2026-01-05T10:00:00Z".parse::<Timestamp>().unwrap(),
    );
    let explanation = snapshot.explain(&question, &facts);
    assert_eq!(explanation.decision, snapshot.decide(&question, &facts));
    let text = serde_json::to_string(&explanation).unwrap();
    assert_eq!(
        serde_json::from_str::<Explanation>(&text).unwrap(),
        explanation,
        "it can be read back"
    );
    explanation
}

fn ids(explanation: &Explanation) -> Vec<(usize, &str)> {
    explanation
        .nearest
        .iter()
        .map(|permit| (permit.failing, permit.explanation.policy.as_str()))
        .collect()
}

fn seen(clause: &ClauseExplanation) -> Vec<(&str, Option<&str>)> {
    clause
        .values
        .iter()
        .map(|seen| (seen.expression.as_str(), seen.value.as_deref()))
        .collect()
}

#[test]
fn clauses_are_explained_one_by_one() {
    let explanation = explain(
        "\n@id(\"one\") permit(principal in Team::\"t\", action in [Action::\"use\", Action::\"read\"], resource is Tool)
        when { principal.level > 5 && (resource.hasTag(\"risk\") && resource.getTag(\"risk\") == \"high\") && principal != Agent::\"b\" }
        when { principal has owner && principal.owner.level > 3 }
        unless { context has reason && context.reason like \"a*\" };",
    );
    assert_eq!(explanation.decision.reason, Reason::NoPermit);
    let [policy] = explanation.candidates.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        (policy.file.as_str(), policy.line, policy.effect),
        ("p.cedar", 2, Effect::Permit)
    );
    assert!(policy.scope.matched());
    assert_eq!(policy.scope.principal.wants, "principal in Team::\"t\"");
    assert_eq!(
        policy.scope.action.wants,
        "action in [Action::\"use\", Action::\"read\"]"
    );
    assert_eq!(policy.scope.resource.wants, "resource is Tool");
    let clauses: Vec<_> = policy
        .clauses
        .iter()
        .map(|clause| (clause.kind, clause.text.as_str(), clause.outcome.clone()))
        .collect();
    assert_eq!(
        clauses,
        [
            (When, "principal.level > 5", False),
            (When, "resource.hasTag(\"risk\")", True),
            (When, "resource.getTag(\"risk\") == \"high\"", True),
            (When, "principal != Agent::\"b\"", True),
            (When, "principal has owner", False),
            (When, "principal.owner.level > 3", NotReached),
            (
                Unless,
                "context has reason && context.reason like \"a*\"",
                False
            ),
        ]
    );
    let at = |index: usize| &policy.clauses[index];
    assert_eq!(seen(at(0)), [("principal.level", Some("3"))]);
    assert_eq!(
        seen(at(2)),
        [("resource.getTag(\"risk\")", Some("\"high\""))]
    );
    assert_eq!(seen(at(3)), [("principal", Some("Agent::\"a\""))]);
    assert_eq!(seen(at(4)), [("principal has owner", Some("false"))]);
    assert_eq!(
        seen(at(6)),
        [
            ("context has reason", Some("false")),
            ("context.reason", None)
        ]
    );
    assert_eq!(ids(&explanation), [(3, "one")]);
}

#[test]
fn an_error_is_shown_where_it_happens() {
    let explanation = explain(
        "@id(\"all\") permit(principal, action, resource);
        @id(\"one\") forbid(principal, action, resource) when { context.amount > 3 && context.amount + 1 > 5 };",
    );
    assert_eq!(explanation.decision.reason, Reason::PolicyError);
    let names: Vec<_> = explanation
        .candidates
        .iter()
        .map(|policy| policy.policy.as_str())
        .collect();
    assert_eq!(
        names,
        ["one", "all"],
        "what determined the decision comes first"
    );
    let forbid = explanation.candidates.first().unwrap();
    assert!(
        matches!(&forbid.outcome, PolicyOutcome::Error { message } if message.contains("overflow"))
    );
    let [fine, failed] = forbid.clauses.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(fine.outcome, ClauseOutcome::True);
    assert!(
        matches!(&failed.outcome, ClauseOutcome::Error { message } if message.contains("overflow")),
        "{failed:?}"
    );
    assert_eq!(
        seen(failed),
        [("context.amount", Some("9223372036854775807"))]
    );
    assert!(explanation.nearest.is_empty());
    assert_eq!(explanation.candidates[1].outcome, PolicyOutcome::Satisfied);
}

#[test]
fn the_nearest_permits_are_ranked_by_what_fails() {
    let explanation = explain(
        "@id(\"f\") forbid(principal, action, resource) when { false };
        @id(\"shadow\") @mode(\"shadow\") permit(principal, action, resource);
        @id(\"two-clauses\") permit(principal, action, resource) when { context.amount < 1 } unless { principal.level == 3 };
        @id(\"one-clause\") permit(principal, action, resource) when { principal.level == 3 && context.amount < 1 };
        @id(\"other-action\") permit(principal, action == Action::\"read\", resource);
        @id(\"other-all\") permit(principal == Agent::\"b\", action == Action::\"read\", resource == Tool::\"y\");
        @id(\"other-tool-and-clause\") permit(principal, action, resource == Tool::\"y\") when { context.amount < 1 && context.amount < 0 };
        @id(\"other-two\") permit(principal == Agent::\"b\", action, resource == Tool::\"y\");
        @id(\"three\") permit(principal == Agent::\"b\", action, resource == Tool::\"y\") when { context.amount < 1 };",
    );
    assert_eq!(explanation.decision.reason, Reason::NoPermit);
    assert_eq!(
        ids(&explanation),
        [
            (1, "one-clause"),
            (1, "other-action"),
            (2, "two-clauses"),
            (2, "other-two"),
            (3, "other-tool-and-clause")
        ]
    );
    let other = &explanation.nearest[1];
    assert!(!other.explanation.scope.action.matched && other.explanation.scope.principal.matched);
    assert_eq!(other.explanation.outcome, PolicyOutcome::NotSatisfied);
    assert_eq!(
        explanation.candidates.len(),
        4,
        "the shadow permit, the forbid and the two whose clauses fail"
    );
}

#[test]
fn links_are_explained_with_their_slots_filled() {
    let link = Link {
        id: PolicyId::new("link"),
        template: PolicyId::new("template"),
        slots: [("?principal".to_owned(), EntityUid::new("Agent", "b"))].into(),
    };
    let explanation = explain_by(&snapshot(
        "@id(\"template\") permit(principal == ?principal, action, resource);",
        vec![link],
    ));
    assert_eq!(ids(&explanation), [(1, "link")]);
    assert_eq!(
        explanation
            .nearest
            .first()
            .unwrap()
            .explanation
            .scope
            .principal
            .wants,
        "principal == Agent::\"b\""
    );
}

#[test]
fn the_work_is_bounded() {
    let many: Vec<_> = (0..1_500).map(|n| format!("@id(\"p{n:04}\") permit(principal, action, resource) when {{ context.amount < {n} }};\n")).collect();
    let explanation = explain(&many.concat());
    assert_eq!(
        (explanation.candidates.len(), explanation.omitted),
        (1_000, 500)
    );
    assert_eq!(
        ids(&explanation),
        [
            (1, "p0000"),
            (1, "p0001"),
            (1, "p0002"),
            (1, "p0003"),
            (1, "p0004")
        ]
    );
    let long = format!(
        "@id(\"a\") permit(principal, action, resource) when {{ [{}\"x\"].contains(context.reason) && context has reason }};",
        "\"abcdefgh\", ".repeat(3)
    );
    assert!(
        Snapshot::compile(&Bundle {
            schema: vec![Source {
                file: "s".into(),
                text: SCHEMA.into()
            }],
            policies: vec![Source {
                file: "p".into(),
                text: long
            }],
            ..Bundle::default()
        })
        .is_err(),
        "reading an optional member before testing it is refused"
    );
}

#[test]
fn a_question_that_is_not_evaluated_has_no_candidates() {
    let snapshot = snapshot(
        "@id(\"all\") permit(principal, action, resource);",
        Vec::new(),
    );
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Robot", "id": "a" },
        "action": { "name": "use" },
        "resource": { "type": "Tool", "id": "x" },
    }))
    .unwrap();
    let facts = Facts::plain(
        "01890a5d-ac96-774b-bcce-b302099a8057"
            .parse::<KeyId>()
            .unwrap(),
        "dev",
        "2026-01-05T10:00:00Z".parse::<Timestamp>().unwrap(),
    );
    let explanation = snapshot.explain(&question, &facts);
    assert_eq!(explanation.decision.reason, Reason::UnknownSubjectType);
    assert!(explanation.candidates.is_empty() && explanation.nearest.is_empty());
}
