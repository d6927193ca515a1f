//! `remit policy test`, the real binary: what a person learns about cases that fail and case files that are wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A bundle in which two cases pass.
const SCHEMA: &str = "entity user;\nentity record;\naction read appliesTo { principal: [user], resource: [record] };\n";
const POLICIES: &str = "@id(\"alice-reads\") @owner(\"tests\")\npermit (principal == user::\"alice\", action == Action::\"read\", resource is record);\n";
const CASES: &str = "\
- name: alice reads
  question:
    subject: { type: user, id: alice }
    action: { name: read }
    resource: { type: record, id: one }
  expect: { decision: permit, reason: policy_permit, because: [alice-reads], errors: [] }

- name: bob does not
  question:
    subject: { type: user, id: bob }
    action: { name: read }
    resource: { type: record, id: one }
  expect: { decision: deny, reason: no_permit, because: [], errors: [] }
";

#[test]
fn policy_test_passes_the_packs_we_ship() {
    for (pack, line) in [
        ("starter", "28 of 28 policies"),
        ("authzen-certification", "6 of 6 policies"),
        ("system", "8 of 8 policies"),
    ] {
        let output = run(&remit_tests::root().join("policies").join(pack), &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("ok: ") && text.contains(line), "{text}");
    }
}

#[test]
fn policy_test_shows_what_was_expected_and_what_came_out() {
    let folder = bundle(&CASES.replace("deny, reason: no_permit", "permit, reason: policy_permit"));
    let report = folder.path().join("report.xml");
    let output = run(folder.path(), &["--junit", report.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "FAIL bob does not  cases/all.yaml:8",
        "decision  expected permit, got deny",
        "reason    expected policy_permit, got no_permit",
        "because   no policy",
        "failed: 1 of 2 cases passed, 1 of 1 policies shown at work",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"2\" failures=\"1\""), "{report}");
    assert!(
        report.contains("<failure message=\"decision: expected permit, got deny; reason"),
        "{report}"
    );

    let output = run(folder.path(), &["-o", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["passed"], json!(1));
    assert_eq!(value["failed"][0]["line"], json!(8));
    assert_eq!(value["failed"][0]["mismatches"][0]["actual"], json!("deny"));
}

#[test]
fn policy_test_notes_policies_that_no_case_shows() {
    let folder = bundle(&CASES[CASES.find("- name: bob").unwrap()..]);
    let output = run(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("no case shows these policies at work: alice-reads"),
        "{text}"
    );
}

/// Every wrong case file is refused with its place, and with the case where there is one.
#[test]
fn policy_test_says_where_a_case_file_is_wrong() {
    let misspelt = CASES.replace("decision: deny", "decision: refuse");
    let unknown = CASES.replace("  expect: { decision: deny", "  expects: { decision: deny");
    let twice = CASES.replace("bob does not", "alice reads");
    let facts = CASES.replace(
        "\n  expect: { decision: deny",
        "\n    context: { facts: { approved: true } }\n  expect: { decision: deny",
    );
    for (cases, expected) in [
        (
            misspelt.as_str(),
            "cases/all.yaml:13: case `bob does not`: ",
        ),
        (&unknown, "case `bob does not`: "),
        (
            &twice,
            "cases/all.yaml:8: there is a case `alice reads` already, at cases/all.yaml:1",
        ),
        (
            &facts,
            "cases/all.yaml:8: case `bob does not`: `context.facts` is supplied by Remit",
        ),
        ("- name: [unfinished", "cases/all.yaml:"),
        ("name: not a list\n", "cases/all.yaml"),
        (&"[".repeat(10_000), "cases/all.yaml"),
    ] {
        let folder = bundle(cases);
        let output = run(folder.path(), &[]);
        assert_eq!(output.status.code(), Some(3), "{expected}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "no `{expected}` in:\n{text}");
    }
}

#[test]
fn policy_test_refuses_policies_that_do_not_compile() {
    let folder = bundle(CASES);
    fs::write(
        folder.path().join("more.cedar"),
        "@id(\"broken\")\npermit (principal, action, resource) when { principal.rank > 3 };\n",
    )
    .unwrap();
    let output = run(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("more.cedar")
    );
}

fn bundle(cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    for (name, text) in [
        ("schema.cedarschema", SCHEMA),
        ("all.cedar", POLICIES),
        ("cases/all.yaml", cases),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["policy", "test"])
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap()
}
