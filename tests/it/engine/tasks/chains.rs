//! Chains: the rights of a chain are what all its members may, and a hop more never permits more.

use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{Decision, EntityUid, Facts, Hop, Question, Reason, TaskFacts, Verdict};
use remit_engine::Snapshot;

use super::draw::Drawn;
use super::monotone::ground;
use super::{POLICIES, compiled};

/// Decides as if a member of a chain stood alone in its task.
fn alone(snapshot: &Snapshot, drawn: &Drawn, who: &EntityUid, hop: Option<&Hop>) -> Decision {
    let mut question = Question {
        context: serde_json::Map::new(),
        ..drawn.question.clone()
    };
    question.subject.kind = who.kind.to_string();
    question.subject.id = who.id.to_string();
    let (agent, task) = match hop {
        Some(hop) => (hop.agent.clone(), hop.task.clone()),
        None => (drawn.facts.agent.clone(), drawn.facts.task.clone()),
    };
    let task = task.map(|task| TaskFacts {
        depth: 0,
        declaration: task.declaration.map(|declaration| remit_core::Declaration {
            parent: None,
            on_behalf_of: None,
            ..declaration
        }),
        ..task
    });
    snapshot.decide(
        &question,
        &Facts {
            agent,
            task,
            hops: Vec::new(),
            ..drawn.facts.clone()
        },
    )
}

fn permits(decision: &Decision) -> bool {
    decision.verdict == Verdict::Permit
}

#[test]
fn attenuate_a_chain_is_the_meet_of_its_links() {
    let snapshot = compiled(POLICIES);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(6_000);
    let (mut chains, mut whole, mut stopped) = (0, 0, 0);
    for number in 0..20_000 {
        let drawn = ground.draw(&mut rng);
        if drawn.facts.hops.is_empty() {
            continue;
        }
        chains += 1;
        let subject = EntityUid::new(&drawn.question.subject.kind, &drawn.question.subject.id);
        let own = alone(&snapshot, &drawn, &subject, None);
        let links: Vec<Decision> = drawn
            .facts
            .hops
            .iter()
            .map(|hop| alone(&snapshot, &drawn, &hop.principal, Some(hop)))
            .collect();
        let decision = snapshot.decide(&drawn.question, &drawn.facts);
        let meet = permits(&own) && links.iter().all(permits);
        assert_eq!(
            permits(&decision),
            meet,
            "{number}: {decision:?} {own:?} {links:?}"
        );
        whole += u64::from(meet);
        if permits(&own) && !meet {
            stopped += 1;
            let first = links.iter().position(|link| !permits(link)).unwrap();
            let limit = decision.limit.as_ref().expect("the limit names the hop");
            assert_eq!(
                limit.hop,
                Some(u16::try_from(first + 1).unwrap()),
                "{number}"
            );
            assert_eq!(
                limit.principal.as_ref(),
                Some(&drawn.facts.hops[first].principal)
            );
            assert_eq!(limit.reason, Some(links[first].reason), "{number}");
            assert!(matches!(
                decision.reason,
                Reason::DelegationDenied | Reason::ApprovalRequired
            ));
        }
        // Whoever is approved may be asked again: an approval that is said to help does.
        if decision.reason == Reason::ApprovalRequired {
            let facts = Facts {
                approved: true,
                ..drawn.facts.clone()
            };
            assert!(
                permits(&snapshot.decide(&drawn.question, &facts)),
                "{number}"
            );
        } else if !permits(&decision) && !drawn.facts.approved {
            let facts = Facts {
                approved: true,
                ..drawn.facts.clone()
            };
            assert!(
                !permits(&snapshot.decide(&drawn.question, &facts)),
                "{number}: {decision:?}"
            );
        }
    }
    println!("{chains} chains, {whole} permitted whole, {stopped} stopped at a hop");
    assert!(
        chains > 5_000 && whole > 100 && stopped > 300,
        "{chains} {whole} {stopped}"
    );
}

#[test]
fn attenuate_a_hop_more_never_adds_a_permit() {
    let snapshot = compiled(POLICIES);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(6_001);
    let mut compared = 0;
    for _ in 0..6_000 {
        let drawn = ground.draw(&mut rng);
        let before = snapshot.decide(&drawn.question, &drawn.facts);
        let other = ground.draw(&mut rng);
        for hop in other.facts.hops {
            for place in 0..=drawn.facts.hops.len() {
                let mut facts = drawn.facts.clone();
                facts.hops.insert(place, hop.clone());
                let after = snapshot.decide(&drawn.question, &facts);
                assert!(permits(&before) || !permits(&after), "{before:?} {after:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 1_000, "{compared}");
}

#[test]
fn a_chain_that_is_not_whole_permits_nothing() {
    let snapshot = compiled(POLICIES);
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(6_002);
    let mut compared = 0;
    while compared < 300 {
        let drawn = ground.draw(&mut rng);
        let whole = snapshot.decide(&drawn.question, &drawn.facts);
        if drawn.facts.hops.is_empty() || !permits(&whole) {
            continue;
        }
        compared += 1;
        for place in 0..drawn.facts.hops.len() {
            let mut facts = drawn.facts.clone();
            facts.hops.remove(place);
            let decision = snapshot.decide(&drawn.question, &facts);
            assert_eq!(decision.reason, Reason::DelegationDenied, "{decision:?}");
            let mut facts = drawn.facts.clone();
            if facts.hops[place].task.take().is_some() {
                let decision = snapshot.decide(&drawn.question, &facts);
                assert_eq!(decision.reason, Reason::DelegationDenied, "{decision:?}");
            }
        }
    }
}
