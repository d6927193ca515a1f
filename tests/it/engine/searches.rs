//! The searches: exactly what a decision for each stored entity would permit, page by page.

use rand::SeedableRng;
use rand::rngs::StdRng;
use remit_core::{Question, Reason};
use remit_engine::{Found, Snapshot};

use super::questions::{Case, case};
use super::{Trial, trial};

/// Walks a search to its end in pages of `limit`.
fn walk(limit: usize, search: impl Fn(Option<&str>, usize) -> Found) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let found = search(ids.last().map(String::as_str), limit);
        assert!(found.ids.len() <= limit);
        assert!(
            !found.more || found.ids.len() == limit,
            "a page that is not the last is full"
        );
        ids.extend(found.ids);
        if !found.more {
            return ids;
        }
    }
}

fn stored(trial: &Trial, kind: &str) -> Vec<String> {
    let of_kind = trial.stored.iter().filter(|entity| entity.uid.kind == kind);
    let mut ids: Vec<String> = of_kind.map(|entity| entity.uid.id.to_string()).collect();
    ids.sort();
    ids
}

fn permitted(snapshot: &Snapshot, case: &Case, change: impl FnOnce(&mut Question)) -> bool {
    let mut question = case.question.clone();
    change(&mut question);
    snapshot.decide(&question, &case.facts).reason == Reason::PolicyPermit
}

#[test]
fn searches_find_exactly_what_is_permitted() {
    let (mut hits, mut misses) = (0, 0);
    for seed in 8_000..8_100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let Some(trial) = trial(&mut rng) else {
            continue;
        };
        for limit in [1, 3, 100] {
            let case = case(&mut rng);
            let Question {
                subject,
                action,
                resource,
                context,
            } = &case.question;
            let snapshot = &trial.snapshot;
            let facts = &|_: &Question| case.facts.clone();

            let candidates = stored(&trial, &subject.kind);
            // What the caller says of the subject searched is not part of a search.
            let expected: Vec<String> = candidates
                .iter()
                .filter(|id| {
                    permitted(snapshot, &case, |question| {
                        question.subject.id.clone_from(*id);
                        question.subject.properties.clear();
                    })
                })
                .cloned()
                .collect();
            let found = walk(limit, |after, limit| {
                snapshot.search_subjects(
                    &subject.kind,
                    action,
                    resource,
                    context,
                    facts,
                    after,
                    limit,
                )
            });
            assert_eq!(found, expected, "seed {seed}: subjects");
            hits += expected.len();
            misses += candidates.len() - expected.len();

            let candidates = stored(&trial, &resource.kind);
            let expected: Vec<String> = candidates
                .iter()
                .filter(|id| {
                    permitted(snapshot, &case, |question| {
                        question.resource.id.clone_from(*id);
                    })
                })
                .cloned()
                .collect();
            let found = walk(limit, |after, limit| {
                snapshot.search_resources(
                    subject,
                    action,
                    &resource.kind,
                    context,
                    facts,
                    after,
                    limit,
                )
            });
            assert_eq!(found, expected, "seed {seed}: resources");
            hits += expected.len();
            misses += candidates.len() - expected.len();

            let expected: Vec<&str> =
                ["all", "list", "peek", "read", "readers", "write", "writers"]
                    .into_iter()
                    .filter(|name| {
                        permitted(snapshot, &case, |question| {
                            question.action.name = (*name).to_owned();
                            question.action.properties.clear();
                        })
                    })
                    .collect();
            let found = walk(limit, |after, limit| {
                snapshot.search_actions(subject, resource, context, facts, after, limit)
            });
            assert_eq!(found, expected, "seed {seed}: actions");
        }
    }
    assert!(
        hits > 200 && misses > 200,
        "{hits} hits and {misses} misses mean too little"
    );
}

#[test]
fn a_search_for_what_the_schema_does_not_know_finds_nothing() {
    let mut rng = StdRng::seed_from_u64(8_000);
    let trial = std::iter::repeat_with(|| trial(&mut rng))
        .flatten()
        .next()
        .unwrap();
    let case = case(&mut rng);
    let Question {
        subject,
        action,
        resource,
        context,
    } = &case.question;
    let snapshot = &trial.snapshot;
    let nothing = Found::default();
    for kind in ["App::Nobody", "", "App::Action", "User"] {
        let found = snapshot.search_subjects(
            kind,
            action,
            resource,
            context,
            &|_| case.facts.clone(),
            None,
            10,
        );
        assert_eq!(found, nothing, "{kind}");
        let found = snapshot.search_resources(
            subject,
            action,
            kind,
            context,
            &|_| case.facts.clone(),
            None,
            10,
        );
        assert_eq!(found, nothing, "{kind}");
    }
}
