//! The policies we ship: they compile, their cases pass, and the cases bite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::str::FromStr;

use cedar_policy::{Policy, PolicySet};
use remit_core::{
    Action, Bundle, Case, Expectation, Facts, KeyId, PolicyId, Question, Resource, Source, Step,
    Subject, Verdict,
};
use remit_engine::{Found, Snapshot};
use remit_tests::bundles;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const PACKS: &[&str] = &["starter", "authzen-certification", "system"];

#[test]
fn packs_compile_and_their_cases_pass() {
    for pack in PACKS {
        let bundle = bundles::pack(pack);
        let snapshot =
            Snapshot::compile(&bundle).unwrap_or_else(|error| panic!("{pack}: {error:#?}"));
        let warnings: Vec<String> = snapshot
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(warnings.is_empty(), "{pack}: {warnings:#?}");
        let failed = failing(&snapshot, &bundle.cases);
        assert!(failed.is_empty(), "{pack}: {failed:#?}");
        println!(
            "{pack}: {} policies, {} cases passed",
            snapshot.policy_count(),
            bundle.cases.len()
        );
    }
    assert!(bundles::pack("starter").cases.len() >= 40);
}

#[test]
fn cases_assert_the_whole_answer() {
    for pack in PACKS {
        for case in bundles::pack(pack).cases {
            let whole = case.steps.iter().all(|step| {
                let expect = &step.expect;
                expect.reason.is_some() && expect.because.is_some() && expect.errors.is_some()
            });
            assert!(
                whole,
                "{pack}: case `{}` must expect reason, because and errors",
                case.name
            );
        }
    }
}

#[test]
fn every_policy_is_shown_at_work() {
    for pack in PACKS {
        let bundle = bundles::pack(pack);
        let snapshot = Snapshot::compile(&bundle).unwrap();
        let mut seen: BTreeSet<PolicyId> = BTreeSet::new();
        for case in &bundle.cases {
            for decision in snapshot.run_case(case).decisions().cloned() {
                seen.extend(decision.determining);
                seen.extend(decision.shadow.into_iter().map(|shadow| shadow.policy));
            }
        }
        let all: BTreeSet<PolicyId> = snapshot.policy_ids().cloned().collect();
        assert_eq!(
            seen, all,
            "{pack}: every policy determines an answer in at least one case"
        );
    }
}

#[test]
fn every_enforced_control_is_annotated() {
    for policy in policies(&bundles::pack("starter")) {
        let annotations = ["id", "owner", "control"];
        let forbids = ["severity", "advice"];
        let wanted = annotations.iter().chain(if is_forbid(&policy) {
            &forbids[..]
        } else {
            &[]
        });
        for key in wanted {
            assert!(
                policy.annotation(key).is_some(),
                "`{}` lacks @{key}",
                id(&policy)
            );
        }
    }
}

/// Whatever is taken out of a policy, a case notices: the policy itself, and each of its conditions.
#[test]
fn cases_notice_every_mutation() {
    for pack in PACKS {
        let bundle = bundles::pack(pack);
        let whole = Snapshot::compile(&bundle).unwrap();
        let policies = policies(&bundle);
        let mut killed = 0;
        for (index, policy) in policies.iter().enumerate() {
            for (mutation, mutant) in mutants(policy) {
                let text: String = policies
                    .iter()
                    .enumerate()
                    .filter_map(|(other, policy)| {
                        if other == index {
                            mutant.clone()
                        } else {
                            Some(policy.to_string())
                        }
                    })
                    .map(|text| text + "\n")
                    .collect();
                let mutated = Bundle {
                    policies: vec![Source {
                        file: "mutant.cedar".to_owned(),
                        text,
                    }],
                    ..bundle.clone()
                };
                let snapshot = whole
                    .recompile(&mutated)
                    .unwrap_or_else(|error| panic!("{}: {error}", id(policy)));
                assert!(
                    !failing(&snapshot, &bundle.cases).is_empty(),
                    "{pack}: no case notices that `{}` is {mutation}",
                    id(policy)
                );
                killed += 1;
            }
        }
        println!("{pack}: {killed} mutants, each noticed by a case");
        assert!(killed >= policies.len());
    }
}

/// The demo's story does not depend on the hour it is told at.
#[test]
fn recorded_runs_come_out_as_told_at_any_hour() {
    #[derive(Deserialize)]
    struct Run {
        calls: Vec<Call>,
    }
    #[derive(Deserialize)]
    struct Call {
        question: Question,
        expect: Expectation,
    }
    let snapshot = Snapshot::compile(&bundles::pack("starter")).unwrap();
    let folder = remit_tests::root().join("policies/starter/runs");
    let mut runs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let run: Run = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let mut cases = Vec::new();
        for (index, call) in run.calls.into_iter().enumerate() {
            for at in ["2026-11-03T09:14:00Z", "2026-11-08T03:00:00Z"] {
                let step = Step {
                    question: call.question.clone(),
                    at: Some(at.parse().unwrap()),
                    environment: None,
                    approved: false,
                    entities: Vec::new(),
                    facts: remit_core::CaseFacts::default(),
                    expect: call.expect.clone(),
                };
                cases.push(Case::new(format!("call {index} at {at}"), step));
            }
        }
        assert!(cases.len() >= 24);
        let failed = failing(&snapshot, &cases);
        assert!(failed.is_empty(), "{failed:#?}");
        runs += 1;
    }
    assert!(runs > 0, "there is no recorded run");
}

/// The decisions and searches of all certification vectors that expect an answer, without HTTP in between.
#[test]
fn certification_fixture_answers_every_vector() {
    let Some(file) = remit_tests::vectors("authzen/certification.json") else {
        return;
    };
    let snapshot = Snapshot::compile(&bundles::pack("authzen-certification")).unwrap();
    let document: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for vector in document["vectors"].as_array().unwrap() {
        let (body, expected) = (&vector["body"], &vector["expected"]);
        let endpoint = vector["endpoint"].as_str().unwrap();
        if !body.is_object() || !expected.is_object() {
            continue;
        }
        let got = match endpoint.rsplit('/').next().unwrap() {
            "evaluation" => json!({"decision": evaluate(&snapshot, body)}),
            "evaluations" => evaluations(&snapshot, body),
            kind => search(&snapshot, kind, body),
        };
        assert!(
            covers(&got, expected),
            "{}: {got} lacks something of {expected}",
            vector["test"]
        );
        *counts.entry(endpoint.to_owned()).or_default() += 1;
    }
    println!("{counts:#?}");
    assert!(
        counts.values().sum::<usize>() >= 50 && counts.len() == 5,
        "{counts:?}"
    );
}

// === reading policies ===

fn policies(bundle: &Bundle) -> Vec<Policy> {
    let sets = bundle
        .policies
        .iter()
        .map(|source| PolicySet::from_str(&source.text).unwrap());
    sets.flat_map(|set| set.policies().cloned().collect::<Vec<_>>())
        .collect()
}

fn id(policy: &Policy) -> &str {
    policy.annotation("id").unwrap()
}

fn is_forbid(policy: &Policy) -> bool {
    policy.effect() == cedar_policy::Effect::Forbid
}

/// Makes what a careless edit could make of a policy; `None` is its absence.
fn mutants(policy: &Policy) -> Vec<(String, Option<String>)> {
    let mut mutants = vec![("deleted".to_owned(), None)];
    let whole = policy.to_json().unwrap();
    for index in 0..whole["conditions"].as_array().unwrap().len() {
        let mut json = whole.clone();
        json["conditions"].as_array_mut().unwrap().remove(index);
        let mutant = Policy::from_json(None, json).unwrap().to_cedar().unwrap();
        mutants.push((format!("without its condition {}", index + 1), Some(mutant)));
    }
    mutants
}

/// Runs the cases and describes those that fail.
fn failing(snapshot: &Snapshot, cases: &[Case]) -> Vec<String> {
    let runs = cases.iter().map(|case| snapshot.run_case(case));
    runs.filter(|run| !run.passed())
        .map(|run| format!("{}: {:?}", run.name, run.mismatches))
        .collect()
}

// === asking as the suite asks ===

fn facts() -> Facts {
    Facts::plain(KeyId::nil(), "dev", "2026-01-05T10:00:00Z".parse().unwrap())
}

fn evaluate(snapshot: &Snapshot, body: &Value) -> bool {
    let question = serde_json::from_value::<Question>(body.clone());
    question.is_ok_and(|question| snapshot.decide(&question, &facts()).verdict == Verdict::Permit)
}

/// Answers a batch: whole-entity defaults, the three semantics, a lone question without items.
fn evaluations(snapshot: &Snapshot, body: &Value) -> Value {
    let items = body["evaluations"]
        .as_array()
        .filter(|items| !items.is_empty());
    let Some(items) = items else {
        return json!({"decision": evaluate(snapshot, body)});
    };
    let stop = match body["options"]["evaluations_semantic"].as_str() {
        Some("deny_on_first_deny") => Some(false),
        Some("permit_on_first_permit") => Some(true),
        _ => None,
    };
    let mut answers = Vec::new();
    for item in items {
        let mut merged = body.clone();
        for (key, value) in item.as_object().unwrap() {
            merged[key] = value.clone();
        }
        let decision = evaluate(snapshot, &merged);
        answers.push(json!({"decision": decision}));
        if stop == Some(decision) {
            break;
        }
    }
    json!({"evaluations": answers})
}

fn search(snapshot: &Snapshot, kind: &str, body: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let subject = Subject {
        kind: text(&body["subject"]["type"]),
        id: text(&body["subject"]["id"]),
        properties: map(&body["subject"]["properties"]),
    };
    let resource = Resource {
        kind: text(&body["resource"]["type"]),
        id: text(&body["resource"]["id"]),
        properties: map(&body["resource"]["properties"]),
    };
    let action = Action {
        name: text(&body["action"]["name"]),
        properties: map(&body["action"]["properties"]),
    };
    let context: Map<String, Value> = map(&body["context"]);
    let page = |after: Option<&str>| -> Found {
        let (facts, after, limit) = (facts(), after, 1);
        match kind {
            "subject" => snapshot.search_subjects(
                &subject.kind,
                &action,
                &resource,
                &context,
                &|_| facts.clone(),
                after,
                limit,
            ),
            "resource" => snapshot.search_resources(
                &subject,
                &action,
                &resource.kind,
                &context,
                &|_| facts.clone(),
                after,
                limit,
            ),
            _ => snapshot.search_actions(
                &subject,
                &resource,
                &context,
                &|_| facts.clone(),
                after,
                limit,
            ),
        }
    };
    // Walked one result a page, so that the paging is exercised with every vector.
    let mut ids: Vec<String> = Vec::new();
    loop {
        let found = page(ids.last().map(String::as_str));
        ids.extend(found.ids);
        if !found.more {
            break;
        }
    }
    assert!(ids.is_sorted(), "{ids:?}");
    let results = ids.into_iter().map(|id| match kind {
        "subject" => json!({"type": subject.kind, "id": id}),
        "resource" => json!({"type": resource.kind, "id": id}),
        _ => json!({"name": id}),
    });
    json!({"results": results.collect::<Vec<_>>()})
}

/// Says whether `got` holds everything that `expected` names; results of a search in any order.
fn covers(got: &Value, expected: &Value) -> bool {
    if let (Some(got), Some(expected)) = (got["results"].as_array(), expected["results"].as_array())
    {
        return expected.iter().all(|entry| got.contains(entry))
            && expected.is_empty() == got.is_empty();
    }
    got == expected
}
