//! The engine: that it decides as Cedar does, plus our error rule, whatever the bundle.

mod approvals;
mod changes;
mod duties;
mod entities;
mod exceptions;
mod findings;
mod laws;
mod limits;
mod narrowing;
mod numbers;
mod oracle;
mod questions;
mod rules;
mod searches;
mod shadows;
mod shaping;
mod supposed;
pub mod tasks;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{Bundle, Decision, Entity, EntityUid, Note, Reason, Source, Verdict};
use remit_engine::{FACTS_SCHEMA, Snapshot};

use self::oracle::{Expected, Oracle};
use self::questions::{Case, case};
use self::rules::{Rule, rule};

/// Random bundles, and questions to each.
const BUNDLES: u64 = 1_250;
const QUESTIONS: u32 = 88;
/// Where the seeds start; each bundle has the next.
const FIRST_SEED: u64 = 20_261_122;

/// A random bundle with everything made of it.
pub struct Trial {
    pub rules: Vec<Rule>,
    pub stored: Vec<Entity>,
    pub bundle: Bundle,
    pub snapshot: Snapshot,
}

/// How often each thing happened.
type Counts = BTreeMap<&'static str, u64>;

#[test]
fn engine_equals_cedar() {
    let seeds: Vec<u64> = match std::env::var("REMIT_SEED") {
        Ok(seed) => vec![seed.parse().expect("REMIT_SEED is a whole number")],
        Err(_) => (FIRST_SEED..FIRST_SEED + BUNDLES).collect(),
    };
    let workers = thread::available_parallelism()
        .map_or(2, usize::from)
        .min(seeds.len());
    let chunk = seeds.len().div_ceil(workers);
    let mut counts = Counts::new();
    thread::scope(|scope| {
        let running: Vec<_> = seeds
            .chunks(chunk)
            .map(|seeds| {
                let work = || {
                    seeds
                        .iter()
                        .map(|seed| compare(*seed))
                        .fold(Counts::new(), add)
                };
                thread::Builder::new()
                    .stack_size(16 << 20)
                    .spawn_scoped(scope, work)
                    .unwrap()
            })
            .collect();
        for worker in running {
            counts = add(
                std::mem::take(&mut counts),
                worker.join().expect("a case differs; see above"),
            );
        }
    });
    println!(
        "seeds {:?} to {:?}: {counts:#?}",
        seeds.first(),
        seeds.last()
    );
    let times = |what: &str| counts.get(what).copied().unwrap_or(0);
    println!(
        "candidates, mean: {:.1}",
        times("candidates explained") as f64 / times("explained") as f64
    );
    if seeds.len() == 1 {
        return;
    }
    let at_least = |what: &str, least: u64| {
        let found = times(what);
        assert!(
            found >= least,
            "only {found} times `{what}`: the test means too little"
        );
    };
    at_least("cases", 100_000);
    at_least("permit", 10_000);
    at_least("deny", 10_000);
    at_least("policy_forbid", 5_000);
    at_least("policy_error", 5_000);
    at_least("no_permit", 5_000);
    at_least("approval_required", 100);
    at_least("cases with erroring permits", 2_000);
    at_least("cases with shadow policies", 5_000);
    at_least("cases with erroring shadow policies", 500);
    at_least("determined by a link", 500);
    at_least("unknown entities", 5_000);
    at_least("asserted attributes", 500);
    let discarded = times("bundles discarded");
    assert!(
        discarded * 5 < BUNDLES,
        "{discarded} bundles did not validate"
    );
}

fn add(mut sum: Counts, counts: Counts) -> Counts {
    for (what, times) in counts {
        *sum.entry(what).or_default() += times;
    }
    sum
}

/// Compares every question to one random bundle.
fn compare(seed: u64) -> Counts {
    let mut counts = Counts::new();
    let mut count = |what| *counts.entry(what).or_default() += 1;
    let mut rng = StdRng::seed_from_u64(seed);
    let Some(trial) = trial(&mut rng) else {
        count("bundles discarded");
        return counts;
    };
    count("bundles");
    let schema = format!("{}\n{FACTS_SCHEMA}", world::SCHEMA);
    let oracle = Oracle::new(&schema, &trial.rules, &trial.stored);
    for number in 0..QUESTIONS {
        let case = case(&mut rng);
        let decision = trial.snapshot.decide(&case.question, &case.facts);
        if case.question.action.name.contains("peek") && !bot_on_folder(&case) {
            assert_eq!(
                decision.reason,
                Reason::ActionNotApplicable,
                "seed {seed} question {number}"
            );
            count("not applicable");
            continue;
        }
        let expected = oracle.expect(&case);
        let found = seen(&decision);
        assert_eq!(
            found,
            expected,
            "REMIT_SEED={seed} question {number}: {}\nrules: {}",
            serde_json::to_string(&case.question).unwrap(),
            trial
                .rules
                .iter()
                .map(|rule| rule.text.as_str())
                .collect::<Vec<_>>()
                .join("\n")
        );
        count("cases");
        if number % 16 == 0 {
            let explained = trial.snapshot.explain(&case.question, &case.facts);
            assert_eq!(
                explained.decision, decision,
                "an explanation explains this decision"
            );
            count("explained");
            explained
                .candidates
                .iter()
                .for_each(|_| count("candidates explained"));
        }
        tally(&trial, &case, &decision, &mut count);
    }
    counts
}

fn bot_on_folder(case: &Case) -> bool {
    case.question.subject.kind == "App::Bot" && case.question.resource.kind == "App::Folder"
}

/// Reads off a decision what the oracle knows.
fn seen(decision: &Decision) -> Expected {
    assert_eq!(
        decision.verdict == Verdict::Permit,
        decision.reason == Reason::PolicyPermit
    );
    let sorted: BTreeSet<String> = decision
        .determining
        .iter()
        .map(ToString::to_string)
        .collect();
    let listed: Vec<String> = decision
        .determining
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        listed,
        sorted.iter().cloned().collect::<Vec<_>>(),
        "sorted, each once"
    );
    Expected {
        reason: decision.reason,
        determining: sorted,
        errors: decision
            .errors
            .iter()
            .map(|error| error.policy.to_string())
            .collect(),
        shadow: decision
            .shadow
            .iter()
            .map(|shadow| (shadow.policy.to_string(), shadow.error.is_some()))
            .collect(),
    }
}

fn tally(trial: &Trial, case: &Case, decision: &Decision, count: &mut impl FnMut(&'static str)) {
    count(decision.reason.code());
    count(if decision.verdict == Verdict::Permit {
        "permit"
    } else {
        "deny"
    });
    let permits = |id: &str| {
        trial
            .rules
            .iter()
            .any(|rule| rule.id == id && rule.effect == remit_core::Effect::Permit)
    };
    if decision
        .errors
        .iter()
        .any(|error| permits(error.policy.as_str()))
    {
        count("cases with erroring permits");
    }
    if !decision.shadow.is_empty() {
        count("cases with shadow policies");
    }
    if decision.shadow.iter().any(|shadow| shadow.error.is_some()) {
        count("cases with erroring shadow policies");
    }
    if decision
        .determining
        .iter()
        .any(|id| id.as_str().contains('-'))
    {
        count("determined by a link");
    }
    if decision
        .notes
        .iter()
        .any(|note| matches!(note, Note::NotStored { .. }))
    {
        count("unknown entities");
    }
    if !case.asserted.is_empty() {
        count("asserted attributes");
    }
    let obliged = decision.determining.iter().filter(|id| {
        let rule = id.as_str().split('-').next().unwrap_or_default();
        trial
            .rules
            .iter()
            .any(|other| other.id == rule && other.obligation)
    });
    assert_eq!(
        decision
            .obligations
            .iter()
            .map(|one| &one.policy)
            .collect::<Vec<_>>(),
        obliged.collect::<Vec<_>>(),
        "the annotated determining policies oblige"
    );
}

/// Makes a random bundle and a snapshot of it, with live entities that came and went in several changes.
///
/// Nothing if a policy does not validate.
pub fn trial(rng: &mut StdRng) -> Option<Trial> {
    let rules: Vec<Rule> = (0..rng.random_range(3..18))
        .map(|number| rule(rng, number))
        .collect();
    let stored = world::entities(rng);
    let (bundled, live): (Vec<Entity>, Vec<Entity>) =
        stored.iter().cloned().partition(|_| rng.random_bool(0.3));
    let bundle = bundle(&rules, bundled.clone());
    let snapshot = match Snapshot::compile(&bundle) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            println!("discarded: {error}");
            return None;
        }
    };
    let snapshot = with_history(rng, &snapshot, &bundled, &live);
    assert_eq!(snapshot.entity_count(), stored.len());
    Some(Trial {
        rules,
        stored,
        bundle,
        snapshot,
    })
}

/// Assembles a bundle of rules.
pub fn bundle(rules: &[Rule], entities: Vec<Entity>) -> Bundle {
    let source = |file: &str, text: String| Source {
        file: file.to_owned(),
        text,
    };
    Bundle {
        schema: vec![source("app.cedarschema", world::SCHEMA.to_owned())],
        policies: rules
            .iter()
            .map(|rule| source(&format!("{}.cedar", rule.id), rule.text.clone()))
            .collect(),
        links: rules
            .iter()
            .flat_map(|rule| rule.links.clone().unwrap_or_default())
            .collect(),
        entities,
        ..Bundle::default()
    }
}

/// Stores `live` over other versions of itself and beside entities that go again.
fn with_history(
    rng: &mut StdRng,
    snapshot: &Snapshot,
    bundled: &[Entity],
    live: &[Entity],
) -> Snapshot {
    let mut noise = Vec::new();
    for _ in 0..rng.random_range(0..12) {
        let kind = world::pick(rng, &["Team", "User", "Bot", "Folder", "File"]);
        let number = rng.random_range(0..7);
        noise.push(world::entity(rng, kind, number));
    }
    noise.retain(|one| bundled.iter().all(|other| other.uid != one.uid));
    let gone: Vec<EntityUid> = noise
        .iter()
        .map(|one| one.uid.clone())
        .filter(|uid| live.iter().all(|other| other.uid != *uid))
        .collect();
    let (first, second) = live.split_at(rng.random_range(0..=live.len()));
    let snapshot = snapshot.with_entities(&noise, &[]).unwrap();
    let snapshot = snapshot.with_entities(first, &[]).unwrap();
    snapshot.with_entities(second, &gone).unwrap()
}
