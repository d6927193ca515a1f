//! Approvals in the engine: one that is said to help does, no other does, and none is used where none is needed.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{
    ApprovalFacts, ApprovalId, ApprovalState, Decision, Facts, Note, PolicyId, Question, Reason,
    Timestamp, Verdict,
};
use remit_engine::Snapshot;
use serde_json::json;

use super::laws::for_random_bundles;
use super::questions::case;
use super::tasks::{POLICIES, compiled, monotone};

mod digest;

/// The approval that the facts of these tests speak of.
pub const ID: ApprovalId = ApprovalId::from_uuid(uuid::Uuid::from_u128(7));

/// Facts in which a person approved what these policies forbid.
pub fn approved(facts: &Facts, violations: BTreeSet<PolicyId>) -> Facts {
    Facts {
        approval: Some(ApprovalFacts {
            approvers: ["ann".parse().unwrap()].into(),
            id: ID,
            state: ApprovalState::Valid,
            until: Some(Timestamp::from_micros(facts.now.micros() + 1)),
            violations,
        }),
        approved: true,
        ..facts.clone()
    }
}

fn permits(decision: &Decision) -> bool {
    decision.verdict == Verdict::Permit
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Counts {
    permitted: u32,
    requestable: u32,
    partly: u32,
    hopeless: u32,
    used: u32,
}

/// Holds one question against the law; `policies` are all there are.
fn check(
    snapshot: &Snapshot,
    question: &Question,
    facts: &Facts,
    policies: &BTreeSet<PolicyId>,
    counts: &mut Counts,
) {
    let plain = Facts {
        approval: None,
        approved: false,
        ..facts.clone()
    };
    let without = snapshot.decide(question, &plain);
    let violations = snapshot.violations(question, &plain);
    let everything = snapshot.decide(question, &approved(&plain, policies.clone()));
    let unsaid = Facts {
        approved: true,
        ..plain.clone()
    };
    let unsaid = snapshot.decide(question, &unsaid);
    assert_eq!(
        (unsaid.verdict, unsaid.reason),
        (everything.verdict, everything.reason)
    );
    assert_eq!(without.approval, None);
    if permits(&without) {
        counts.permitted += 1;
        assert_eq!(everything, without, "one that is not needed is not used");
        return;
    }
    if without.reason != Reason::ApprovalRequired {
        counts.hopeless += 1;
        assert!(
            !permits(&everything),
            "no approval opens it: {without:?} {everything:?}"
        );
        return;
    }
    counts.requestable += 1;
    let shown = snapshot.decide(question, &approved(&plain, violations.clone()));
    assert!(permits(&shown), "{without:?} {shown:?} {violations:?}");
    assert_eq!(shown.approval, Some(ID));
    counts.used += 1;
    for missing in &violations {
        let mut fewer = violations.clone();
        fewer.remove(missing);
        let again = snapshot.decide(question, &approved(&plain, fewer));
        assert_eq!(again, without, "`{missing}` was not shown");
        counts.partly += 1;
    }
    // One that is not valid at this moment is none.
    for state in [
        ApprovalState::Used,
        ApprovalState::Expired,
        ApprovalState::Unknown,
        ApprovalState::OutOfScope,
        ApprovalState::OtherPolicy,
    ] {
        let mut facts = approved(&plain, violations.clone());
        if let Some(approval) = &mut facts.approval {
            approval.state = state;
        }
        assert_eq!(snapshot.decide(question, &facts), without, "{state:?}");
    }
    let mut late = approved(&plain, violations);
    if let Some(approval) = &mut late.approval {
        approval.until = Some(plain.now);
    }
    assert_eq!(snapshot.decide(question, &late), without);
}

#[test]
fn stepup_sound() {
    let mut counts = Counts::default();
    for_random_bundles(9_000..9_300, |rng, trial| {
        let policies: BTreeSet<PolicyId> = trial.snapshot.policy_ids().cloned().collect();
        for _ in 0..60 {
            let case = case(rng);
            let (snapshot, facts) = (&trial.snapshot, &case.facts);
            check(snapshot, &case.question, facts, &policies, &mut counts);
        }
    });
    println!("{counts:?}");
    assert!(counts.permitted > 1_000 && counts.requestable > 100 && counts.hopeless > 1_000);
    assert!(counts.partly > 50, "{counts:?}");
}

#[test]
fn stepup_sound_in_chains() {
    let snapshot = compiled(POLICIES);
    let ground = monotone::ground(&snapshot);
    let policies: BTreeSet<PolicyId> = snapshot.policy_ids().cloned().collect();
    let mut rng = StdRng::seed_from_u64(9_400);
    let (mut counts, mut of_hops) = (Counts::default(), 0);
    for _ in 0..20_000 {
        let drawn = ground.draw(&mut rng);
        let before = counts.requestable;
        check(
            &snapshot,
            &drawn.question,
            &drawn.facts,
            &policies,
            &mut counts,
        );
        of_hops += u32::from(!drawn.facts.hops.is_empty() && counts.requestable > before);
    }
    println!("{counts:?}, {of_hops} of chains");
    assert!(counts.requestable > 500 && counts.partly > 500 && of_hops > 100);
}

const SEND: &str = r#"@id("all") permit (principal, action, resource);"#;

fn question() -> Question {
    serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "send" },
        "resource": { "type": "Document", "id": "out" },
    }))
    .unwrap()
}

/// What is known of an agent and those behind it, as a case supposes it.
fn known(facts: &serde_json::Value) -> Facts {
    let facts: remit_core::CaseFacts = serde_json::from_value(facts.clone()).unwrap();
    let now = Timestamp::from_micros(super::tasks::draw::NOW);
    facts.over(
        Facts::plain(remit_core::KeyId::nil(), "dev", now),
        &question(),
    )
}

fn ids(ids: &[&str]) -> BTreeSet<PolicyId> {
    ids.iter().map(PolicyId::new).collect()
}

#[test]
fn every_hop_shows_what_forbids_it() {
    let policies = format!(
        r#"{SEND}
        @id("agents") forbid (principal is Agent, action, resource) unless {{ context.facts.approved }};
        @id("boss") forbid (principal == Agent::"boss", action, resource) unless {{ context.facts.approved }};
        @id("people") forbid (principal is User, action, resource) unless {{ context.facts.approved }};
        @mode("shadow") @id("quiet") forbid (principal, action, resource);"#
    );
    let snapshot = compiled(&policies);
    let facts = known(&json!({
        "agent": {}, "task": { "parent": uuid::Uuid::nil(), "on_behalf_of": "User::\"ann\"" },
        "hops": [{ "principal": "Agent::\"boss\"", "agent": {}, "task": { "on_behalf_of": "User::\"ann\"" } }],
    }));
    let all = ids(&["agents", "boss", "people"]);
    assert_eq!(snapshot.violations(&question(), &facts), all);
    let decision = snapshot.decide(&question(), &facts);
    assert_eq!(decision.reason, Reason::ApprovalRequired);
    assert_eq!(decision.determining, [PolicyId::new("agents")]);
    let decision = snapshot.decide(&question(), &approved(&facts, all.clone()));
    assert_eq!((decision.approval, permits(&decision)), (Some(ID), true));
    let decision = snapshot.decide(&question(), &approved(&facts, ids(&["agents", "boss"])));
    assert_eq!(decision.reason, Reason::ApprovalRequired);
}

#[test]
fn an_error_is_never_cured_and_neither_is_a_gate() {
    let policies = format!(
        r#"{SEND}
        @id("broken") forbid (principal == User::"ann", action, resource)
        unless {{ context.facts.approved || 9223372036854775807 + context.facts.minute_of_day > 0 }};
        @id("ask") forbid (principal is Agent, action, resource) unless {{ context.facts.approved }};"#
    );
    let snapshot = compiled(&policies);
    // Whoever is behind it meets an error, which an approval would hide.
    let facts = known(&json!({ "agent": {}, "task": { "on_behalf_of": "User::\"ann\"" } }));
    let decision = snapshot.decide(&question(), &facts);
    assert_eq!(decision.reason, Reason::PolicyForbid, "{decision:?}");
    let all = ids(&["ask", "broken"]);
    assert_eq!(snapshot.violations(&question(), &facts), ids(&["ask"]));
    let decision = snapshot.decide(&question(), &approved(&facts, all.clone()));
    assert_eq!(decision.reason, Reason::DelegationDenied, "{decision:?}");
    assert_eq!(decision.limit.unwrap().reason, Some(Reason::PolicyError));
    let mut own = question();
    (own.subject.kind, own.subject.id) = ("User".to_owned(), "ann".to_owned());
    let alone = Facts {
        agent: None,
        hops: Vec::new(),
        task: None,
        call: None,
        ..facts.clone()
    };
    let decision = snapshot.decide(&own, &approved(&alone, all.clone()));
    assert_eq!(decision.reason, Reason::PolicyError, "{decision:?}");
    let shut = known(&json!({ "agent": { "standing": "suspended" } }));
    let decision = snapshot.decide(&question(), &approved(&shut, all));
    assert_eq!(
        (decision.reason, decision.approval),
        (Reason::AgentSuspended, None)
    );
}

#[test]
fn policies_read_who_approved_while_it_is_valid_and_never_while_it_is_supposed() {
    let policies = format!(
        r#"{SEND}
        @id("ask") forbid (principal is Agent, action, resource) unless {{ context.facts.approved }};
        @id("not-interns") forbid (principal is Agent, action, resource)
        when {{ context.facts has approval && context.facts.approval.approvers.contains("intern") }};
        @id("in-time") forbid (principal is Agent, action, resource)
        when {{
          context.facts has approval && context.facts.approval.expires_at <= context.facts.now
          || context.facts has approval && context.facts.approval.id == "x"
        }};"#
    );
    let snapshot = compiled(&policies);
    let facts = known(&json!({ "agent": {} }));
    assert_eq!(
        snapshot.decide(&question(), &facts).reason,
        Reason::ApprovalRequired
    );
    let by = |who: &str| {
        let mut facts = approved(&facts, ids(&["ask"]));
        let approval = facts.approval.as_mut().unwrap();
        approval.approvers = [who.parse().unwrap()].into();
        approval.until = Some(Timestamp::from_micros(facts.now.micros() + 2_000_000));
        facts
    };
    assert!(permits(&snapshot.decide(&question(), &by("ann"))));
    // Somebody else may approve it.
    let decision = snapshot.decide(&question(), &by("intern"));
    assert_eq!(decision.reason, Reason::ApprovalRequired, "{decision:?}");
    assert_eq!(decision.determining, [PolicyId::new("ask")]);
    // What is not known of it is not passed off as absent.
    let mut unknown = by("ann");
    unknown.approval.as_mut().unwrap().until = None;
    let decision = snapshot.decide(&question(), &unknown);
    assert_eq!(decision.reason, Reason::MissingContext);
    let missing = Note::Missing {
        member: "context.facts".to_owned(),
    };
    assert!(decision.notes.contains(&missing), "{decision:?}");
    // The explanation shows what decided.
    let outcome = |facts: &Facts, id: &str| {
        let explained = snapshot.explain(&question(), facts);
        let mut all = explained.candidates.into_iter();
        let found = all.find(|one| one.policy.as_str() == id).unwrap();
        format!("{:?}", found.outcome)
    };
    assert_eq!(outcome(&facts, "ask"), "Satisfied");
    assert_eq!(outcome(&by("ann"), "ask"), "NotSatisfied");
    assert_eq!(outcome(&by("intern"), "ask"), "Satisfied");
}

/// What a caller says of an approval is for Remit to look up, and no policy sees it.
#[test]
fn what_presents_an_approval_is_nothing_that_policies_read() {
    let decide = |declared: &str| {
        let schema = format!(
            "entity A; action look appliesTo {{ principal: [A], resource: [A], context: {{ {declared} }} }};"
        );
        let policies = r#"@id("all") permit (principal, action, resource);
            @id("seen") forbid (principal, action, resource) when { context has approval || context has obligations_supported };"#;
        let bundle = serde_json::from_value(json!({
            "schema": [{ "file": "s.cedarschema", "text": schema }],
            "policies": [{ "file": "p.cedar", "text": policies }],
        }));
        let question = serde_json::from_value(json!({
            "subject": { "type": "A", "id": "a" }, "action": { "name": "look" }, "resource": { "type": "A", "id": "b" },
            "context": { "approval": { "id": ID }, "obligations_supported": [] },
        }));
        let facts = Facts::plain(
            remit_core::KeyId::nil(),
            "dev",
            Timestamp::from_micros(super::tasks::draw::NOW),
        );
        let snapshot = Snapshot::compile(&bundle.unwrap()).unwrap();
        snapshot.decide(&question.unwrap(), &facts)
    };
    let decision = decide("approval?: { id: String }, obligations_supported?: Set<String>");
    assert!(permits(&decision), "{decision:?}");
    assert_eq!(
        decision.notes.len(),
        4,
        "two that are not stored, two that no caller may assert"
    );
    let decision = decide("approval: { id: String }, obligations_supported?: Set<String>");
    assert_eq!(decision.reason, Reason::MissingContext, "{decision:?}");
}

/// A policy that approvals close is no reason to close what is open without one.
#[test]
fn adding_an_approval_never_denies() {
    let policies = format!(
        r#"{SEND} @id("odd") forbid (principal, action, resource) when {{ context.facts.approved }};"#
    );
    let snapshot = compiled(&policies);
    let facts = known(&json!({ "agent": {} }));
    let decision = snapshot.decide(&question(), &approved(&facts, ids(&[])));
    assert_eq!((permits(&decision), decision.approval), (true, None));
}

#[test]
fn the_digest_is_of_all_that_is_bound_and_of_nothing_else() {
    let schema = r#"
        namespace Bank {
          entity Agent { @assertable level?: Long };
          entity Account;
          type Base = Ask;
          type Ask = { reason?: String, @volatile trace?: String, deep?: { @volatile id?: String }, facts: Remit::Facts, action?: { amount: Long } };
          action pay, "look" appliesTo { principal: [Agent], resource: [Account], context: Base };
        }
        namespace Shop { action pay appliesTo { principal: [Bank::Agent], resource: [Bank::Account], context: { trace?: String } }; }
    "#;
    let bundle = serde_json::from_value(json!({
        "schema": [{ "file": "s.cedarschema", "text": schema }], "policies": [],
    }));
    let snapshot = Snapshot::compile(&bundle.unwrap()).unwrap();
    let whole = json!({
        "subject": { "type": "Bank::Agent", "id": "a", "properties": { "level": 2, "act": { "sub": "x" } } },
        "action": { "name": "pay", "properties": { "amount": 10 } },
        "resource": { "type": "Bank::Account", "id": "main", "properties": { "note": "x" } },
        "context": { "reason": "r", "trace": "1", "deep": { "id": "1" }, "undeclared": 1, "build": "b", "tool_hash": "t",
                     "approval": { "id": ID }, "obligations_supported": ["step-up"] },
    });
    let digest = |pointer: &str, value: serde_json::Value| {
        let mut question = whole.clone();
        let (above, last) = pointer.rsplit_once('/').unwrap();
        question.pointer_mut(above).unwrap()[last] = value;
        let question: Question = serde_json::from_value(question).unwrap();
        snapshot.approval_digest(&question)
    };
    let own = digest("/action/name", json!("pay"));
    for (pointer, value) in [
        ("/context/trace", json!("2")),
        ("/context/undeclared", json!(2)),
        ("/context/approval", json!({ "id": ApprovalId::NIL })),
        ("/context/obligations_supported", json!([])),
        ("/subject/properties/act", json!({ "sub": "y" })),
        ("/action/name", json!("Bank::Action::\"pay\"")),
        ("/action/properties/amount", json!(10.0)),
    ] {
        assert_eq!(digest(pointer, value), own, "{pointer}");
    }
    let changes = [
        ("/context/reason", json!("other")),
        ("/context/deep", json!({ "id": "2" })),
        ("/context/build", json!("c")),
        ("/context/tool_hash", json!("u")),
        (
            "/context/task",
            json!("019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77"),
        ),
        ("/subject/id", json!("b")),
        ("/subject/properties/level", json!(3)),
        ("/action/name", json!("look")),
        ("/action/name", json!("Shop::Action::\"pay\"")),
        ("/action/properties/amount", json!(11)),
        ("/action/properties/more", json!(1)),
        ("/resource/id", json!("other")),
        ("/resource/type", json!("Bank::Agent")),
        ("/resource/properties/note", json!("y")),
    ];
    let mut seen = BTreeSet::from([own.to_string()]);
    for (pointer, value) in changes {
        assert!(seen.insert(digest(pointer, value).to_string()), "{pointer}");
    }
}

#[test]
fn a_volatile_with_a_value_is_refused() {
    let schema = r#"entity A; action look appliesTo { principal: [A], resource: [A], context: { @volatile("no") trace?: String } };"#;
    let bundle = serde_json::from_value(json!({
        "schema": [{ "file": "s.cedarschema", "text": schema }], "policies": [],
    }));
    let error = Snapshot::compile(&bundle.unwrap()).unwrap_err();
    assert_eq!(error.diagnostics[0].code, "schema_error");
    assert!(error.to_string().contains("@volatile"), "{error}");
}

/// The name of an approval by which nothing is approved changes nothing.
#[test]
fn law_an_approval_adds_permits_only_where_one_is_required() {
    let (mut same, mut opened) = (0, 0);
    for_random_bundles(9_500..9_600, |rng, trial| {
        let policies: BTreeSet<PolicyId> = trial.snapshot.policy_ids().cloned().collect();
        for _ in 0..60 {
            let case = case(rng);
            let none = Facts {
                approved: false,
                ..case.facts.clone()
            };
            let shown = policies.iter().filter(|_| rng.random_bool(0.7)).cloned();
            let with = approved(&none, shown.collect());
            let (before, after) = (
                trial.snapshot.decide(&case.question, &none),
                trial.snapshot.decide(&case.question, &with),
            );
            assert!(!permits(&before) || permits(&after));
            if permits(&after) && !permits(&before) {
                assert_eq!(before.reason, Reason::ApprovalRequired);
                opened += 1;
            } else {
                same += 1;
            }
        }
    });
    println!("{opened} opened, {same} not");
    assert!(opened > 50 && same > 1_000, "{opened} {same}");
}
