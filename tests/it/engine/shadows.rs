//! The law of shadows: what one finds of live decisions is what the impact of its bundle over their records is.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::Bundle;
use remit_engine::Snapshot;
use remit_tests::app::TestApp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::questions::case;
use super::rules::{Rule, rule};
use super::{bundle, trial};

const WORLDS: u64 = 24;
/// How long what is told late may take.
const PATIENCE: Duration = Duration::from_mins(1);
const QUESTIONS: u32 = 40;

/// How often something happened that the law is about.
#[derive(Debug, Default)]
struct Seen {
    worlds: u32,
    decided: u64,
    differing: u64,
    /// Worlds whose two bundles have different schemas.
    schemas: u32,
    outcomes: std::collections::BTreeSet<String>,
}

/// Other rules, some of them those of the bundle in force.
fn other(rng: &mut StdRng, rules: &[Rule], entities: &Bundle) -> Option<Bundle> {
    let mut changed: Vec<Rule> = rules
        .iter()
        .filter(|_| rng.random_bool(0.6))
        .cloned()
        .collect();
    for number in 500..rng.random_range(501..508) {
        changed.push(rule(rng, number));
    }
    let changed = tame(&bundle(&changed, entities.entities.clone()));
    Snapshot::compile(&changed).is_ok().then_some(changed)
}

async fn put_shadow(test: &TestApp, bundle: &Bundle) {
    let request = test
        .request(Method::PUT, "/v1/shadow")
        .header("if-none-match", "*");
    let put = test
        .send(request, serde_json::to_string(bundle).unwrap())
        .await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
}

/// Asks random questions, and changes live entities in between.
///
/// Returns how many were decided.
async fn ask(test: &TestApp, rng: &mut StdRng, live: &[remit_core::Entity]) -> u64 {
    let mut decided = 0;
    for number in 0..QUESTIONS {
        if number % 9 == 8 && !live.is_empty() {
            let one = &live[rng.random_range(0..live.len())];
            let changed = match rng.random_range(0..3) {
                0 => {
                    test.store
                        .change_entities(
                            test.tenant,
                            None,
                            &[],
                            std::slice::from_ref(&one.uid),
                            remit_store::Change::default(),
                        )
                        .await
                        .unwrap()
                        .revision
                }
                _ => test
                    .store
                    .upsert_entities(test.tenant, std::slice::from_ref(one))
                    .await
                    .unwrap(),
            };
            test.reached(changed).await;
        }
        let question = serde_json::to_string(&tame(&case(rng).question)).unwrap();
        let reply = test.post("/access/v1/evaluation", question).await;
        // Some cannot be asked at all.
        assert!(
            matches!(reply.status, StatusCode::OK | StatusCode::BAD_REQUEST),
            "{}",
            reply.text
        );
        decided += u64::from(reply.status == StatusCode::OK);
    }
    decided
}

/// Makes whole numbers small enough for JSON, which the API insists on.
fn tame<T: Serialize + DeserializeOwned>(thing: &T) -> T {
    fn walk(value: &mut Value) {
        match value {
            Value::Number(number)
                if number
                    .as_i64()
                    .is_some_and(|it| it.unsigned_abs() >> 53 != 0) =>
            {
                *value = json!(number.as_i64().unwrap() % 1_000);
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::Object(members) => members.values_mut().for_each(walk),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(thing).unwrap();
    walk(&mut value);
    serde_json::from_value(value).unwrap()
}

fn sorted(value: &Value) -> Vec<String> {
    let mut groups: Vec<String> = value["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    groups.sort();
    groups
}

async fn check(number: u64, seen: &mut Seen) {
    let mut rng = StdRng::seed_from_u64(number);
    let Some(trial) = trial(&mut rng) else { return };
    let Some(mut shadow) = other(&mut rng, &trial.rules, &trial.bundle) else {
        return;
    };
    if rng.random_bool(0.5) {
        shadow.schema[0]
            .text
            .push_str("\n// another text, another schema\n");
        seen.schemas += 1;
    }
    let in_force: Bundle = tame(&trial.bundle);
    let bundled = &in_force.entities;
    let live: Vec<remit_core::Entity> = trial
        .stored
        .iter()
        .filter(|entity| !bundled.iter().any(|other| other.uid == entity.uid))
        .map(tame)
        .collect();
    let test = TestApp::shipping(&in_force).await;
    if !live.is_empty() {
        let stored = test.store.upsert_entities(test.tenant, &live).await;
        test.reached(stored.unwrap()).await;
    }
    put_shadow(&test, &shadow).await;
    let decided = ask(&test, &mut rng, &live).await;

    // Its window ends before now.
    test.clock.advance(Duration::from_secs(1));
    let began = Instant::now();
    let found = loop {
        let found = test.get("/v1/shadow").await.json();
        let of = |member: &str| found[member].as_u64().unwrap();
        // It tells what there is, where it takes long.
        if of("decided") + of("failed") + of("dropped") == decided {
            break found;
        }
        assert!(began.elapsed() < PATIENCE, "{decided}: {found:#}");
    };
    assert!(test.log.caught_up(PATIENCE).await);
    let path = "/v1/bundle/impact";
    let impact = test
        .post(path, serde_json::to_string(&shadow).unwrap())
        .await;
    assert_eq!(impact.status, StatusCode::OK, "{}", impact.text);
    let impact = impact.json();
    let context = format!("seed {number}: {found:#} {impact:#}");
    assert_eq!(found["decided"], impact["replayed"], "{context}");
    assert_eq!(found["same"], impact["unchanged"], "{context}");
    assert_eq!(found["totals"], impact["totals"], "{context}");
    assert_eq!(sorted(&found), sorted(&impact), "{context}");
    assert_eq!(
        (&found["dropped"], &found["failed"]),
        (&0.into(), &0.into())
    );
    seen.worlds += 1;
    seen.decided += found["decided"].as_u64().unwrap();
    seen.differing += found["differing"].as_u64().unwrap();
    let outcomes = found["totals"].as_object().unwrap().keys().cloned();
    seen.outcomes.extend(outcomes);
}

#[tokio::test]
async fn law_a_shadow_finds_what_an_impact_finds() {
    let mut seen = Seen::default();
    for seed in 0..WORLDS {
        check(70_000 + seed, &mut seen).await;
    }
    println!("{seen:?}");
    assert!(u64::from(seen.worlds) * 2 > WORLDS, "{seen:?}");
    assert!(seen.decided > 200 && seen.differing > 20, "{seen:?}");
    assert!(seen.schemas > 0 && seen.outcomes.len() >= 3, "{seen:?}");
}
