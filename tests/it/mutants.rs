//! `remit policy test --mutants`, the real binary: would a case notice if a policy were another?

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const SCHEMA: &str = "entity user;\nentity record;\naction read, write appliesTo { principal: [user], resource: [record], context: { n: Long } };\n";
const POLICY: &str = "@id(\"alice-reads\") @owner(\"tests\") @controls(\"EN-06, T-1\")\npermit (principal == user::\"alice\", action == Action::\"read\", resource)\nwhen { context.n <= 5 };\n";

/// Writes a case of one question.
fn case(name: &str, who: &str, action: &str, n: i64, decision: &str) -> Value {
    json!({
        "name": name,
        "question": {
            "subject": { "type": "user", "id": who },
            "action": { "name": action },
            "resource": { "type": "record", "id": "one" },
            "context": { "n": n },
        },
        "expect": { "decision": decision },
    })
}

fn run(cases: &[Value], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    fs::write(folder.path().join("s.cedarschema"), SCHEMA).unwrap();
    fs::write(folder.path().join("p.cedar"), POLICY).unwrap();
    // JSON is YAML.
    let cases = serde_json::to_string(cases).unwrap();
    fs::write(folder.path().join("cases/all.yaml"), cases).unwrap();
    of(folder.path(), arguments)
}

fn of(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["policy", "test"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap()
}

/// Reads the JSON that a run printed.
fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Every case that there must be of the policy.
fn all() -> Vec<Value> {
    vec![
        case("at the limit", "alice", "read", 5, "permit"),
        case("beyond it", "alice", "read", 6, "deny"),
        case("another", "bob", "read", 5, "deny"),
        case("another action", "alice", "write", 5, "deny"),
    ]
}

#[test]
fn mutants_that_no_case_notices_are_told_with_their_place() {
    let output = run(&all(), &["--mutants", "--deny-survivors"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "mutants: 9 of 9 killed, 0 survived (0 invalid, 0 equivalent, 0 not tried)",
        "alice-reads",
        "EN-06",
        "T-1",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let some = all()[..3].to_vec();
    let output = run(&some, &["--mutants"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "SURVIVES alice-reads (scope widened)  p.cedar:2:37",
        "       action == Action::\"read\"\n       → action\n",
        "mutants: 8 of 9 killed, 1 survived",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let output = run(&some, &["--deny-survivors", "-o", "json"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        note.contains("1 mutants survived, 0 were not tried"),
        "{note}"
    );
    let mutants = &told(&output)["mutants"];
    let figures =
        |of: &Value| ["mutants", "killed", "survived"].map(|one| of[one].as_u64().unwrap());
    assert_eq!(figures(mutants), [9, 8, 1]);
    assert_eq!(figures(&mutants["controls"]["T-1"]), [9, 8, 1]);
    let survivor = &mutants["policies"][0]["survivors"][0];
    assert_eq!(survivor["kind"], json!("scope_widened"));
    assert_eq!(
        (&survivor["line"], &survivor["column"]),
        (&json!(2), &json!(37))
    );
    assert_eq!(survivor["after"], json!("action"));
}

#[test]
fn with_no_cases_every_mutant_survives() {
    let output = run(&[], &["--mutants", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mutants = &told(&output)["mutants"];
    assert_eq!(
        (&mutants["killed"], &mutants["survived"]),
        (&json!(0), &json!(9))
    );
}

#[test]
fn cases_that_fail_are_told_before_any_mutant() {
    let mut cases = all();
    cases.push(case("wrong", "alice", "read", 5, "deny"));
    cases[4]["question"]["context"]["n"] = json!(4);
    let output = run(&cases, &["--deny-survivors", "-o", "json"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(told(&output)["mutants"], Value::Null);
    for wrong in ["0", "86401", "soon"] {
        let output = run(&all(), &["--mutants", "--mutant-time", wrong]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
}

/// What the cases of the packs notice; the figures are printed.
#[test]
fn mutants_of_the_packs_we_ship() {
    // In `starter`, `own-team-data` tests for two attributes of which an entity has both or neither.
    for (pack, most) in [("starter", 2), ("system", 0), ("agent-baseline", 0)] {
        let folder = remit_tests::root().join("policies").join(pack);
        let output = of(&folder, &["--mutants"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{pack}: {text}");
        let output = of(&folder, &["--mutants", "-o", "json"]);
        let survived = told(&output)["mutants"]["survived"].as_u64().unwrap();
        assert!(survived <= most, "{pack}: {survived} survive\n{text}");
    }
}
