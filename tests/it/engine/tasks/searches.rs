//! Searching where facts depend on who is searched for: what is found is what is permitted, one by one.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{
    Entity, EntityUid, Facts, Kill, KillId, KillTarget, PrincipalName, Question, Timestamp, Verdict,
};
use serde_json::Map;

use super::draw::{Drawn, NOW};
use super::monotone::ground;
use super::{POLICIES, compiled};

/// Gives facts that depend on who asks, for what, and by which action.
fn facts(drawn: &Drawn, question: &Question) -> Facts {
    let mut facts = drawn.facts.clone();
    let odd = question.subject.id.len() + question.resource.id.len() + question.action.name.len();
    facts
        .task
        .iter_mut()
        .filter_map(|task| task.declaration.as_mut())
        .for_each(|declaration| {
            declaration.agent = EntityUid::new(&question.subject.kind, &question.subject.id);
        });
    if odd.is_multiple_of(3) {
        facts.kill = Some(Kill {
            at: Timestamp::from_micros(NOW),
            by: PrincipalName::itself(),
            id: KillId::nil(),
            reason: "drill".into(),
            target: KillTarget::Tenant,
        });
    }
    facts
}

#[test]
fn a_search_finds_exactly_what_is_permitted_with_the_facts_of_each() {
    let stored: Vec<Entity> = (0..6)
        .flat_map(|number| [("Agent", number), ("User", number), ("Document", number)])
        .map(|(kind, number)| Entity {
            uid: EntityUid::new(kind, "x".repeat(number + 1)),
            attrs: Map::new(),
            parents: Vec::new(),
            tags: Map::new(),
        })
        .collect();
    let snapshot = compiled(POLICIES).with_entities(&stored, &[]).unwrap();
    let ground = ground(&snapshot);
    let mut rng = StdRng::seed_from_u64(12_000);
    let mut hits = 0;
    for number in 0..3_000 {
        let mut drawn = ground.draw(&mut rng);
        if rng.random_bool(0.5) {
            drawn.facts.hops.clear();
            drawn.facts.task = None;
            drawn.question.context.clear();
        }
        let of = |question: &Question| facts(&drawn, question);
        let Question {
            subject,
            action,
            resource,
            context,
        } = &drawn.question;
        let permitted = |edit: &dyn Fn(&mut Question)| {
            let mut question = drawn.question.clone();
            edit(&mut question);
            snapshot.decide(&question, &of(&question)).verdict == Verdict::Permit
        };
        let ids = |kind: &str| -> Vec<String> {
            let all = stored.iter().filter(|one| one.uid.kind == kind);
            all.map(|one| one.uid.id.to_string()).collect()
        };
        for kind in ["Agent", "User"] {
            let found = snapshot.search_subjects(kind, action, resource, context, &of, None, 100);
            let mut expected = ids(kind);
            expected.retain(|id| {
                permitted(&|question| {
                    question.subject.kind = kind.to_owned();
                    question.subject.id.clone_from(id);
                })
            });
            assert_eq!(found.ids, expected, "{number}: subjects {kind}");
            hits += expected.len();
        }
        if resource.kind == "Document" {
            let found =
                snapshot.search_resources(subject, action, "Document", context, &of, None, 100);
            let mut expected = ids("Document");
            expected.extend(["in f".to_owned(), "out".to_owned()]);
            expected.sort();
            expected.retain(|id| permitted(&|question| question.resource.id.clone_from(id)));
            assert_eq!(found.ids, expected, "{number}: resources");
            hits += expected.len();
        }
        let found = snapshot.search_actions(subject, resource, context, &of, None, 100);
        let expected: Vec<&str> = ["fetch", "open_task", "send", "transfer"]
            .into_iter()
            .filter(|name| {
                permitted(&|question| {
                    question.action.name = (*name).to_owned();
                    question.action.properties.clear();
                })
            })
            .collect();
        assert_eq!(found.ids, expected, "{number}: actions");
        hits += expected.len();
    }
    assert!(hits > 1_000, "{hits} hits mean too little");
}
