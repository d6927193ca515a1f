//! The pack `agent-baseline`: every control permits and denies, and a case notices whatever is changed of one.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::str::FromStr;

use cedar_policy::{Effect, Policy, PolicySet};
use remit_core::{Bundle, Timestamp};
use remit_engine::Snapshot;
use remit_tests::bundles;
use serde_json::Value;

/// Returns where the pack is.
fn folder() -> std::path::PathBuf {
    remit_tests::root().join("policies/agent-baseline")
}

/// Reads the pack without its cases.
pub fn bundle() -> Bundle {
    bundles::without_cases(&folder())
}

fn policies() -> Vec<Policy> {
    let sources = bundle().policies;
    let sets = sources
        .iter()
        .map(|source| PolicySet::from_str(&source.text).unwrap());
    sets.flat_map(|set| set.policies().cloned().collect::<Vec<_>>())
        .collect()
}

fn remit(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remit"));
    let command = command.args(["policy"]).args(arguments);
    command.arg(folder()).output().unwrap()
}

/// Reads every `expect` of the pack's cases, as written.
fn expectations() -> Vec<Value> {
    fn collect(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("expect").cloned());
                members.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder().join("cases")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        collect(&serde_norway::from_str(&text).unwrap(), &mut found);
    }
    found
}

#[test]
fn baseline_compiles_without_a_finding() {
    let output = remit(&["validate", "--deny-warnings"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let snapshot = Snapshot::compile(&bundle()).unwrap();
    let found = snapshot.review();
    assert!(found.is_empty(), "{found:#?}");
}

/// Every case passes, shows every policy at work, and no change of a policy goes unnoticed.
#[test]
fn every_mutant_of_the_baseline_is_noticed() {
    let output = remit(&["test", "--deny-survivors"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    assert_eq!(output.status.code(), Some(0), "{text}{output:?}");
    let output = remit(&["test", "--mutants", "-o", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["not_covered"], serde_json::json!([]), "{told:#}");
    let controls = told["mutants"]["controls"].as_object().unwrap();
    for (control, tally) in controls {
        let [killed, survived] = ["killed", "survived"].map(|one| tally[one].as_u64().unwrap());
        assert!(killed > 2 && survived == 0, "{control}: {tally}");
    }
    assert!(told["passed"].as_u64().unwrap() > 75, "{told:#}");
    assert!(
        told["mutants"]["killed"].as_u64().unwrap() > 300,
        "{told:#}"
    );
}

#[test]
fn every_control_is_seen_to_deny_and_everything_is_expected() {
    let all = expectations();
    let denied: BTreeSet<&str> = all
        .iter()
        .filter(|expect| expect["decision"] == "deny")
        .flat_map(|expect| expect["because"].as_array().unwrap())
        .map(|id| id.as_str().unwrap())
        .collect();
    for policy in policies() {
        let id = policy.annotation("id").unwrap();
        assert_eq!(
            policy.effect() == Effect::Forbid,
            denied.contains(id),
            "a case in which `{id}` denies"
        );
    }
    for expect in &all {
        let whole = ["decision", "reason", "because", "errors"];
        let missing: Vec<_> = whole.iter().filter(|one| expect[**one].is_null()).collect();
        assert!(missing.is_empty(), "{expect} does not say {missing:?}");
    }
    let permits = all.iter().filter(|expect| expect["decision"] == "permit");
    println!("{} expectations, {} permits", all.len(), permits.count());
}

#[test]
fn every_control_says_what_it_is_for() {
    for policy in policies() {
        let of = |key: &str| policy.annotation(key).unwrap_or_default().to_owned();
        let id = of("id");
        assert!(!of("owner").is_empty(), "`{id}` lacks @owner");
        let review = format!("{}T00:00:00Z", of("review"));
        assert!(
            review.parse::<Timestamp>().is_ok(),
            "`{id}`: @review {review}"
        );
        let controls = of("controls");
        assert!(!controls.is_empty(), "`{id}` lacks @controls");
        for control in controls.split(", ") {
            assert!(is_control(control), "`{id}`: `{control}` is no control");
        }
        if policy.effect() == Effect::Permit {
            continue;
        }
        let severities = ["medium", "high", "critical"];
        assert!(
            severities.contains(&of("severity").as_str()),
            "`{id}`: @severity"
        );
        assert!(of("advice").ends_with('.'), "`{id}`: @advice is a sentence");
        // What a person can cure looks at the approval, and nothing else does.
        let curable = policy.to_string().contains("context.facts.approved");
        let cure = of("cure");
        assert_eq!(
            cure.starts_with("approval:"),
            curable,
            "`{id}`: @cure {cure}"
        );
        assert!(curable || cure == "none", "`{id}`: @cure {cure}");
    }
}

/// Says whether a text is the id of a control, `TK-04`, or an item of a framework, `OWASP-ASI-2026:ASI01`.
fn is_control(text: &str) -> bool {
    match (text.split_once(':'), text.split_once('-')) {
        (Some((framework, item)), _) => {
            let known = [
                "OWASP-ASI-2026",
                "OWASP-NHI-2025",
                "OWASP-T&M-1.1",
                "CSA-MAESTRO",
                "NIST-AI-RMF-1.0",
                "NIST-CSF-2.0",
            ];
            known.contains(&framework) && !item.is_empty()
        }
        (None, Some((family, number))) => {
            let families = ["ID", "TK", "FL", "DL", "AP", "EN", "RS", "GV"];
            families.contains(&family) && number.len() == 2 && number.parse::<u8>().is_ok()
        }
        (None, None) => false,
    }
}

/// The page and the pack name the same policies and the same controls.
#[test]
fn the_page_of_the_baseline_is_the_pack() {
    let page = fs::read_to_string(remit_tests::root().join("docs/agent-baseline.md")).unwrap();
    let (_, table) = page.split_once("\n## Controls\n").unwrap();
    let (table, uncovered) = table.split_once("\n## What it does not cover\n").unwrap();
    for policy in policies() {
        let id = policy.annotation("id").unwrap();
        assert!(table.contains(&format!("`{id}`")), "the page lacks `{id}`");
        let controls = policy.annotation("controls").unwrap();
        for control in controls.split(", ").filter(|one| !one.contains(':')) {
            let row = table
                .lines()
                .find(|line| line.starts_with("| ") && line.contains(&format!("{control} ")));
            let row = row.unwrap_or_else(|| panic!("the page lacks {control}"));
            assert!(
                row.contains(&format!("`{id}`")),
                "{control} of `{id}`: {row}"
            );
            let row = |line: &str| line.starts_with("| ") && line.contains(control);
            assert!(!uncovered.lines().any(row), "{control} is covered");
        }
    }
}

/// The pack is measured by suites of others; it must not know them.
#[test]
fn the_baseline_names_no_suite() {
    let named = [
        "agentdojo",
        "banking",
        "workspace",
        "slack",
        "travel",
        "suite",
        "benchmark",
    ];
    let mut files = vec![folder(), folder().join("cases")];
    while let Some(next) = files.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap().to_lowercase();
            for name in named {
                assert!(!text.contains(name), "{}: {name}", path.display());
            }
        }
    }
}

/// Nor does anything else that we ship name a tool of theirs.
#[test]
fn nothing_that_is_shipped_names_a_tool_of_a_suite() {
    let Some(vectors) = remit_tests::vectors("agentdojo") else {
        return;
    };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(vectors).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        let suite = serde_json::from_str(&text).unwrap_or(Value::Null);
        let tools = suite["tools"].as_array().into_iter().flatten();
        names.extend(tools.map(|tool| tool["name"].as_str().unwrap().to_owned()));
    }
    assert!(names.len() > 20, "{names:?}");
    let mut files = vec![
        remit_tests::root().join("policies"),
        remit_tests::root().join("crates"),
    ];
    let mut read = 0;
    while let Some(next) = files.pop() {
        if next.is_dir() {
            files.extend(
                fs::read_dir(next)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let Ok(text) = fs::read_to_string(&next) else {
            continue;
        };
        let words = text.split(|mark: char| !mark.is_alphanumeric() && mark != '_');
        // A function may be called like a tool.
        let code = next.extension().is_some_and(|of| of == "rs");
        let found: Vec<&str> = words
            .filter(|word| names.contains(*word))
            .filter(|word| !code || text.contains(&format!("\"{word}\"")))
            .collect();
        assert!(found.is_empty(), "{}: {found:?}", next.display());
        read += 1;
    }
    assert!(read > 200, "{read} files");
}
