//! Attenuation: a part of a task is taken exactly when it is nowhere wider than the task.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{
    Declaration, Dimension, EntityUid, Facts, KeyId, Reason, TaskFacts, TaskId, TaskState,
    Timestamp, Tool, Verdict, Window,
};
use serde_json::json;

use super::compiled;
use super::draw::{Ground, NOW, pick, some, world};
use super::monotone::ground;

/// Makes a child wider than its parent in one dimension; false where that cannot be.
type Widen = fn(&mut StdRng, &mut Declaration, &Declaration) -> bool;

const WIDENINGS: &[(Dimension, Widen)] = &[
    (Dimension::Actions, |rng, child, parent| {
        parent.actions.is_some() && {
            child.actions = rng
                .random_bool(0.5)
                .then(|| BTreeSet::from(["unheard of".into()]));
            true
        }
    }),
    (Dimension::Resources, |rng, child, parent| {
        parent.resources.is_some() && {
            child.resources = rng
                .random_bool(0.5)
                .then(|| BTreeSet::from([EntityUid::new("Document", "unheard of")]));
            true
        }
    }),
    (Dimension::Sinks, |rng, child, parent| {
        parent.sinks.is_some() && {
            child.sinks = rng
                .random_bool(0.5)
                .then(|| BTreeSet::from(["mallory@evil.example".into()]));
            true
        }
    }),
    (Dimension::DataClasses, |rng, child, parent| {
        parent.data_classes.is_some() && {
            child.data_classes = rng
                .random_bool(0.5)
                .then(|| BTreeSet::from(["unheard of".into()]));
            true
        }
    }),
    (Dimension::Calls, |rng, child, parent| {
        wider(rng, &mut child.budget.calls, parent.budget.calls)
    }),
    (Dimension::Cost, |rng, child, parent| {
        wider(rng, &mut child.budget.cost, parent.budget.cost)
    }),
    (Dimension::Amount, |rng, child, parent| {
        wider(rng, &mut child.budget.amount, parent.budget.amount)
    }),
    (Dimension::Bytes, |rng, child, parent| {
        wider(rng, &mut child.budget.bytes, parent.budget.bytes)
    }),
    (Dimension::Irreversible, |rng, child, parent| {
        wider(
            rng,
            &mut child.budget.irreversible,
            parent.budget.irreversible,
        )
    }),
    (Dimension::Window, |rng, child, parent| {
        let Some(window) = &parent.window else {
            return false;
        };
        let mut wider = window.clone();
        match rng.random_range(0..4) {
            0 if window.from > 0 => wider.from -= 1,
            1 if window.until < 1_440 => wider.until += 1,
            2 => match (1..=7).find(|day| !window.days.contains(day)) {
                Some(day) => drop(wider.days.insert(day)),
                None => return false,
            },
            _ => {
                child.window = None;
                return true;
            }
        }
        child.window = Some(wider);
        true
    }),
    (Dimension::Expiry, |_, child, parent| {
        child.expires_at = Timestamp::from_micros(parent.expires_at.micros() + 1);
        true
    }),
    (Dimension::OnBehalfOf, |_, child, parent| {
        child.on_behalf_of = match parent.on_behalf_of {
            Some(_) => None,
            None => Some(EntityUid::new("User", "mallory")),
        };
        true
    }),
];

fn wider(rng: &mut StdRng, child: &mut Option<u64>, parent: Option<u64>) -> bool {
    let Some(most) = parent else { return false };
    *child = rng
        .random_bool(0.5)
        .then(|| most + rng.random_range(1..100));
    true
}

/// Draws a declaration that is limited in every dimension now and then.
fn limited(rng: &mut StdRng, ground: &Ground<'_>) -> Declaration {
    let mut declaration = ground.declaration(rng);
    for budget in [
        &mut declaration.budget.bytes,
        &mut declaration.budget.cost,
        &mut declaration.budget.irreversible,
    ] {
        *budget = rng.random_bool(0.5).then(|| rng.random_range(0..50));
    }
    declaration.may_delegate = true;
    declaration
}

#[test]
fn attenuate_takes_a_child_exactly_when_it_is_nowhere_wider() {
    let snapshot = compiled("");
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(9_000);
    let mut wide = std::collections::BTreeMap::new();
    for number in 0..10_000 {
        let parent = limited(&mut rng, &ground);
        let mut child = ground.within(&mut rng, &parent);
        child.budget = parent.budget;
        let exceeds = |child: &Declaration, parent: &Declaration, depth| {
            world(&snapshot, |world| child.exceeds(parent, depth, &world))
        };
        assert_eq!(
            exceeds(&child, &parent, 1),
            None,
            "{number}: {child:?} {parent:?}"
        );
        assert_eq!(
            exceeds(&parent, &parent, 8),
            None,
            "{number}: within itself"
        );
        assert_eq!(exceeds(&child, &parent, 9), Some(Dimension::Depth));
        let closed = Declaration {
            may_delegate: false,
            ..parent.clone()
        };
        assert_eq!(exceeds(&child, &closed, 1), Some(Dimension::MayDelegate));
        // A grandchild within the child is within the parent.
        child.may_delegate = true;
        let mut grandchild = ground.within(&mut rng, &child);
        grandchild.budget = child.budget;
        assert_eq!(
            exceeds(&grandchild, &parent, 2),
            None,
            "{number}: {grandchild:?} {parent:?}"
        );
        for (dimension, widen) in WIDENINGS {
            let mut wider = child.clone();
            if widen(&mut rng, &mut wider, &parent) {
                assert_eq!(
                    exceeds(&wider, &parent, 1),
                    Some(*dimension),
                    "{number}: {wider:?} {parent:?}"
                );
                *wide.entry(*dimension).or_insert(0) += 1;
            }
        }
    }
    println!("{wide:?}");
    assert_eq!(wide.len(), WIDENINGS.len());
    assert!(wide.values().all(|times| *times > 500), "{wide:?}");
}

/// Asks in a task for an action on a resource by a tool of these classes; everything is permitted but by the task.
fn within_task(
    snapshot: &remit_engine::Snapshot,
    task: &Declaration,
    name: &str,
    on: &EntityUid,
    tool: &Tool,
    now: i64,
) -> bool {
    let question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": task.agent.id }, "action": { "name": name },
        "resource": { "type": on.kind, "id": on.id },
    }));
    let facts = Facts {
        agent: Some(remit_core::AgentFacts {
            standing: remit_core::Standing::Active,
            presented_build: None,
            registered: Some(registered(&task.agent)),
            revision: None,
        }),
        task: Some(TaskFacts {
            declaration: Some(Declaration {
                parent: None,
                on_behalf_of: None,
                ..task.clone()
            }),
            depth: 0,
            digest: None,
            exhausted: None,
            id: TaskId::nil(),
            labels: BTreeSet::new(),
            state: TaskState::Active,
            trusted_sinks: BTreeSet::new(),
        }),
        tool: Some(tool.clone()),
        ..Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(now))
    };
    let decision = snapshot.decide(&question.unwrap(), &facts);
    let by_task = matches!(
        decision.reason,
        Reason::OutsideTask | Reason::TaskOutsideWindow | Reason::TaskExpired
    );
    assert!(
        by_task || decision.verdict == Verdict::Permit,
        "{decision:?}"
    );
    decision.verdict == Verdict::Permit
}

fn registered(uid: &EntityUid) -> remit_core::Agent {
    serde_json::from_value(json!({
        "uid": uid, "ends_at": "2030-01-01T00:00:00Z", "review_at": "2030-01-01T00:00:00Z", "environment": "dev", "model": "m",
        "owner": "ann", "purpose": "p", "roles": [], "status": "active", "trust": 3,
    }))
    .unwrap()
}

/// What is taken as a part of a task permits nothing that the task does not.
#[test]
fn attenuate_a_child_that_is_taken_may_no_more_than_its_parent() {
    let snapshot = compiled(r#"@id("all") permit (principal, action, resource);"#);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(9_100);
    let (mut taken, mut refused, mut asked) = (0, 0, 0);
    for number in 0..8_000 {
        let parent = limited(&mut rng, &ground);
        let mut child = limited(&mut rng, &ground);
        // Drawn apart, two are hardly ever within each other in everything.
        child.budget = parent.budget;
        child.on_behalf_of.clone_from(&parent.on_behalf_of);
        match rng.random_range(0..4) {
            0 => {}
            1 => {
                let actions = child.actions.clone();
                child = Declaration {
                    actions,
                    ..ground.within(&mut rng, &parent)
                };
            }
            _ => child = ground.within(&mut rng, &parent),
        }
        child.budget = parent.budget;
        if world(&snapshot, |world| child.exceeds(&parent, 1, &world)).is_some() {
            refused += 1;
            continue;
        }
        taken += 1;
        for (name, on, _) in &ground.calls {
            let classes = some(&mut rng, ground.classes.iter().map(|class| (*class).into()));
            let tool = Tool {
                classes,
                amount: None,
                ..ground.tool(&mut rng, name)
            };
            let now = NOW
                + 1_000_000 * rng.random_range(0..1_200)
                + 86_400_000_000 * *pick(&mut rng, &[0, 0, 1, 5]);
            let may = |task| within_task(&snapshot, task, name, on, &tool, now);
            if may(&child) {
                asked += 1;
                assert!(
                    may(&parent),
                    "{number}: {name} on {on}: {child:?} {parent:?}"
                );
            }
        }
    }
    println!("{taken} taken, {refused} refused, {asked} permitted to the child");
    assert!(
        taken > 500 && refused > 500 && asked > 300,
        "{taken} {refused} {asked}"
    );
}

#[test]
fn a_list_as_long_as_allowed_is_compared_in_bounded_time() {
    let snapshot = compiled("");
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(9_200);
    let numbered = |prefix: &str| {
        (0..256)
            .map(|number| format!("{prefix}{number}"))
            .collect::<Vec<_>>()
    };
    let uids = |prefix: &str| {
        numbered(prefix)
            .iter()
            .map(|name| EntityUid::new("Document", name))
            .collect()
    };
    let declaration = |prefix: &str, base: &Declaration| Declaration {
        actions: Some(numbered(prefix).iter().map(Into::into).collect()),
        resources: Some(uids(prefix)),
        sinks: Some(numbered(prefix).iter().map(Into::into).collect()),
        intent: "x ".repeat(8 << 10),
        window: None::<Window>,
        ..base.clone()
    };
    let base = limited(&mut rng, &ground);
    let (parent, child) = (declaration("a", &base), declaration("b", &base));
    assert_eq!(parent.check(), Ok(()));
    let before = std::time::Instant::now();
    for _ in 0..10 {
        let exceeded = world(&snapshot, |world| child.exceeds(&parent, 1, &world));
        assert_eq!(exceeded, Some(Dimension::Actions));
    }
    assert!(before.elapsed().as_secs() < 20, "{:?}", before.elapsed());
}
