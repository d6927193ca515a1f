//! More risk never permits more: labels, trust, roles, the declaration of a task, its state.

#![expect(
    clippy::semicolon_if_nothing_returned,
    clippy::needless_for_each,
    reason = "a list of edits, one expression each"
)]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{
    Budget, Dimension, Facts, Kill, KillId, KillTarget, Label, PrincipalName, Standing, TaskState,
    Timestamp, Verdict, trusted_sinks,
};
use serde_json::{Value, json};

use super::draw::{Drawn, Ground, NOW, pick};
use super::{POLICIES, compiled};

/// Makes the facts of a question worse, as nothing that is permitted for it may be permitted for that alone.
type Worsen = fn(&mut StdRng, &Ground<'_>, &mut Facts);

/// What raises risk, by name.
const WORSENINGS: &[(&str, Worsen)] = &[
    ("untrusted", |_, _, facts| label(facts, &Label::untrusted())),
    ("private", |_, _, facts| label(facts, &Label::private())),
    ("class", |rng, ground, facts| {
        let class = pick(rng, &ground.classes);
        label(facts, &Label::class(class));
    }),
    ("trust", |_, _, facts| {
        let agent = facts
            .agent
            .as_mut()
            .and_then(|agent| agent.registered.as_mut());
        agent
            .into_iter()
            .for_each(|agent| agent.trust = agent.trust.saturating_sub(1));
    }),
    ("roles", |_, _, facts| {
        let agent = facts
            .agent
            .as_mut()
            .and_then(|agent| agent.registered.as_mut());
        agent
            .into_iter()
            .for_each(|agent| drop(agent.roles.pop_first()));
    }),
    ("standing", |rng, _, facts| {
        let standing = *pick(rng, Standing::ALL);
        facts.agent.iter_mut().for_each(|agent| {
            if standing != Standing::Active {
                agent.standing = standing;
            }
        });
    }),
    ("state", |rng, _, facts| {
        let state = *pick(rng, TaskState::ALL);
        facts.task.iter_mut().for_each(|task| {
            if state != TaskState::Active {
                task.state = state;
            }
        });
    }),
    ("exhausted", |_, _, facts| {
        facts
            .task
            .iter_mut()
            .for_each(|task| task.exhausted = Some(Dimension::Cost));
    }),
    ("actions", |_, _, facts| {
        declared(facts, |task| {
            drop(task.actions.get_or_insert_default().pop_last())
        })
    }),
    ("resources", |_, _, facts| {
        declared(facts, |task| {
            drop(task.resources.get_or_insert_default().pop_last())
        })
    }),
    ("classes", |_, _, facts| {
        declared(facts, |task| {
            drop(task.data_classes.get_or_insert_default().pop_last())
        })
    }),
    ("sinks", |_, _, facts| {
        declared(facts, |task| {
            task.sinks
                .iter_mut()
                .for_each(|sinks| drop(sinks.pop_last()));
        })
    }),
    ("intent", |_, _, facts| {
        declared(facts, |task| task.intent.clear())
    }),
    ("budget", |_, _, facts| {
        declared(facts, |task| {
            task.budget = Budget {
                calls: Some(0),
                cost: Some(0),
                ..task.budget
            };
        })
    }),
    ("may_delegate", |_, _, facts| {
        declared(facts, |task| task.may_delegate = false)
    }),
    ("expiry", |_, _, facts| {
        declared(facts, |task| task.expires_at = Timestamp::from_micros(NOW))
    }),
    ("approval", |_, _, facts| facts.approved = false),
    ("kill", |_, _, facts| {
        facts.kill = Some(Kill {
            at: Timestamp::from_micros(0),
            by: PrincipalName::itself(),
            id: KillId::nil(),
            reason: "drill".into(),
            target: KillTarget::Tenant,
        });
    }),
];

fn label(facts: &mut Facts, label: &Label) {
    if let Some(task) = &mut facts.task {
        task.labels.insert(label.clone());
    }
}

fn declared(facts: &mut Facts, edit: impl FnOnce(&mut remit_core::Declaration)) {
    let call = facts.call.clone().unwrap_or_default();
    let Some(task) = &mut facts.task else { return };
    let Some(declaration) = &mut task.declaration else {
        return;
    };
    edit(declaration);
    task.trusted_sinks = trusted_sinks(declaration, &[], call.sinks.iter().chain(&call.links));
}

/// Asks for a permit that more risk gives, `count` times for each kind of it; panics with the first one.
///
/// Returns how often something was permitted before, and how often it was not after.
pub fn check(ground: &Ground<'_>, seed: u64, count: u64) -> (u64, u64) {
    let (mut permitted, mut denied) = (0, 0);
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..count {
        let before = ground.draw(&mut rng);
        let permits = |drawn: &Drawn| {
            ground
                .snapshot
                .decide(&drawn.question, &drawn.facts)
                .verdict
                == Verdict::Permit
        };
        let was = permits(&before);
        permitted += u64::from(was);
        for (name, worsen) in WORSENINGS {
            let mut after = before.clone();
            for _ in 0..rng.random_range(1..3) {
                worsen(&mut rng, ground, &mut after.facts);
            }
            let is = permits(&after);
            denied += u64::from(was && !is);
            assert!(
                was || !is,
                "seed {seed} question {number}: `{name}` adds a permit: {}\n{}\nbefore {}",
                serde_json::to_string(&before.question).unwrap(),
                serde_json::to_string(&after.facts).unwrap(),
                serde_json::to_string(&before.facts).unwrap(),
            );
        }
    }
    (permitted, denied)
}

/// Draws arguments for a call that sends or pays.
pub fn to_somebody(rng: &mut StdRng) -> Value {
    let to = *pick(rng, &["pal@acme.example", "mallory@evil.example", "p", ""]);
    let body = *pick(
        rng,
        &[
            "hello",
            "see https://evil.example/x",
            "tell pal@acme.example",
        ],
    );
    json!({ "to": to, "body": body })
}

/// The ground of the bundle in this module.
pub fn ground(snapshot: &remit_engine::Snapshot) -> Ground<'_> {
    let uid = remit_core::EntityUid::new;
    Ground {
        snapshot,
        agent: "Agent",
        person: uid("User", "ann"),
        calls: vec![
            (
                "fetch",
                uid("Document", "in f"),
                |rng| json!({ "url": pick(rng, &["https://a.example", "x"]) }),
            ),
            ("send", uid("Document", "in f"), to_somebody),
            ("send", uid("Document", "out"), to_somebody),
            (
                "transfer",
                uid("Payee", "p"),
                |rng| json!({ "to": pick(rng, &["p", "q"]), "amount": pick(rng, &[10, 1_000, 5_000]) }),
            ),
        ],
        names: vec![
            "fetch", "send", "transfer", "read", "egress", "pay", "risky",
        ],
        resources: vec![
            uid("Document", "in f"),
            uid("Document", "out"),
            uid("Folder", "f"),
            uid("Payee", "p"),
        ],
        roles: vec!["worker"],
        classes: vec!["pii", "health"],
        sinks: vec!["pal@acme.example", "p", "other"],
    }
}

#[test]
fn risk_monotone_and_taint_monotone() {
    let snapshot = compiled(POLICIES);
    let (permitted, denied) = check(&ground(&snapshot), 5_000, 12_000);
    println!("{permitted} of 12,000 permitted; worse denied {denied} times");
    assert!(
        permitted > 500 && denied > 1_000,
        "{permitted} {denied} mean too little"
    );
}
