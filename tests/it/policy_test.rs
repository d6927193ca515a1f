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
        ("system", "28 of 28 policies"),
        ("agent-baseline", "45 of 45 policies"),
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

/// A bundle whose coverage can be counted by hand: one clause of three terms, one clause that is always false.
const COUNTED: &str = "@id(\"reads\") @owner(\"t\")
permit (principal, action == Action::\"read\", resource is record)
when { principal == user::\"alice\" || principal == user::\"bob\" || principal == user::\"carol\" }
unless { resource == record::\"secret\" };
@id(\"never\") @owner(\"t\") forbid (principal == user::\"dave\", action, resource);
";

fn counted() -> TempDir {
    let folder = bundle(
        &CASES
            .replace("because: [alice-reads]", "because: [reads]")
            .replace(
                "decision: deny, reason: no_permit, because: []",
                "decision: permit, reason: policy_permit, because: [reads]",
            ),
    );
    fs::write(folder.path().join("all.cedar"), COUNTED).unwrap();
    folder
}

#[test]
fn policy_test_tells_what_was_seen_of_every_clause() {
    let folder = counted();
    let output = run(folder.path(), &["--coverage", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let coverage = &value["coverage"];
    // Of `reads`: itself, true and false of two clauses and three terms; of `never`: itself.
    assert_eq!(coverage["points"], json!(12));
    // `reads`; the first clause true; alice true and false; bob true; the second clause false.
    assert_eq!(coverage["seen"], json!(6), "{coverage:#}");
    assert_eq!(coverage["percent"], json!(50.0));
    let seen = |value: &Value| {
        ["reached", "true", "false", "error"].map(|member| value[member].as_u64().unwrap())
    };
    let [never, reads] = coverage["policies"].as_array().unwrap().as_slice() else {
        panic!("{coverage:#}")
    };
    assert_eq!((&never["policy"], seen(never)), (&json!("never"), [0; 4]));
    assert_eq!(seen(reads), [2, 2, 0, 0]);
    let [people, secret] = reads["clauses"].as_array().unwrap().as_slice() else {
        panic!("{reads:#}")
    };
    assert_eq!(
        (&people["kind"], seen(people)),
        (&json!("when"), [2, 2, 0, 0])
    );
    let terms: Vec<_> = people["terms"]
        .as_array()
        .unwrap()
        .iter()
        .map(seen)
        .collect();
    assert_eq!(
        terms,
        [[2, 1, 1, 0], [1, 1, 0, 0], [0; 4]],
        "what is not reached is not seen"
    );
    assert_eq!(
        (&secret["kind"], seen(secret)),
        (&json!("unless"), [2, 0, 2, 0])
    );
    assert_eq!(secret["text"], json!("resource == record::\"secret\""));

    let text = String::from_utf8(run(folder.path(), &["--coverage"]).stdout).unwrap();
    for part in [
        "never (forbid)",
        "never satisfied",
        "unless resource == record::\"secret\"",
        "never true",
        "never true, never false",
        "50 % covered (6 of 12 points)",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let without = run(folder.path(), &["-o", "json"]);
    let without: Value = serde_json::from_slice(&without.stdout).unwrap();
    assert_eq!(without["coverage"], Value::Null);
}

#[test]
fn policy_test_holds_to_a_part_that_is_covered() {
    let folder = counted();
    for (minimum, code) in [("0", 0), ("50", 0), ("51", 4), ("100", 4)] {
        let output = run(folder.path(), &["--min-coverage", minimum]);
        assert_eq!(output.status.code(), Some(code), "{minimum}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let short = format!("50 % are covered, {minimum} % were asked for");
        assert_eq!(told.contains(&short), code == 4, "{told}");
    }
    for wrong in ["101", "-1", "half"] {
        let output = run(folder.path(), &["--min-coverage", wrong]);
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
}

#[test]
fn policy_test_covers_most_of_the_packs_we_ship() {
    for (pack, minimum) in [("starter", "90"), ("authzen-certification", "90")] {
        let folder = remit_tests::root().join("policies").join(pack);
        let output = run(&folder, &["--min-coverage", minimum]);
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{pack}: {}", text.lines().last().unwrap());
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
}

/// What a build server reads is XML, whatever stands in names and values.
#[test]
fn policy_test_writes_junit_that_is_xml() {
    let nasty = "<&\\\"'>]]> \\u0007 é 名";
    let mut cases = CASES.replace("- name: bob does not", &format!("- name: \"bob {nasty}\""));
    cases = cases.replace(
        "deny, reason: no_permit, because: []",
        "deny, because: [\"a<b>&\\\"\"]",
    );
    let folder = bundle(&cases);
    fs::write(
        folder.path().join("cases/more.yaml"),
        &CASES[..CASES.find("- name: bob").unwrap()],
    )
    .unwrap();
    let report = folder.path().join("report.xml");
    let output = run(folder.path(), &["--junit", report.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let text = fs::read_to_string(&report).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    assert_eq!(
        (root.attribute("tests"), root.attribute("failures")),
        (Some("3"), Some("1"))
    );
    let elements = |name: &'static str| {
        document
            .descendants()
            .filter(move |one| one.has_tag_name(name))
    };
    let suites: Vec<_> = elements("testsuite")
        .map(|suite| {
            (
                suite.attribute("name").unwrap(),
                suite.attribute("tests").unwrap(),
            )
        })
        .collect();
    assert_eq!(suites, [("cases/all.yaml", "2"), ("cases/more.yaml", "1")]);
    let names: Vec<_> = elements("testcase")
        .map(|case| case.attribute("name").unwrap())
        .collect();
    assert_eq!(
        names,
        ["alice reads", "bob <&\"'>]]> \u{fffd} é 名", "alice reads"]
    );
    let [failure] = elements("failure").collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    assert_eq!(
        failure.attribute("message").unwrap(),
        "because: expected `a<b>&\"`, got none"
    );
}

/// The cases are run again after a change, also after one that cannot be read, and the interrupt ends it.
#[test]
fn policy_test_watches_until_it_is_interrupted() {
    use std::io::{BufRead, BufReader};
    let folder = bundle(CASES);
    let mut child = Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["policy", "test", "--watch", "--color", "never"])
        .arg(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = |stream: Box<dyn std::io::Read + Send>| {
        let (told, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    break;
                }
            }
        });
        lines
    };
    let stdout = lines(Box::new(child.stdout.take().unwrap()));
    let stderr = lines(Box::new(child.stderr.take().unwrap()));
    let await_line = |lines: &std::sync::mpsc::Receiver<String>, part: &str| {
        let patience = std::time::Duration::from_mins(1);
        while let Ok(line) = lines.recv_timeout(patience) {
            if line.contains(part) {
                return;
            }
        }
        panic!("never wrote `{part}`");
    };
    let cases = folder.path().join("cases/all.yaml");
    await_line(&stdout, "ok: 2 of 2 cases passed");
    await_line(&stderr, "waiting for changes");
    fs::create_dir(folder.path().join("admin")).unwrap();
    let admin = "@id(\"late\") @owner(\"t\") forbid (principal, action, resource);";
    fs::write(folder.path().join("admin/late.cedar"), admin).unwrap();
    await_line(&stdout, "ok: 2 of 2 cases passed");
    await_line(&stderr, "waiting for changes");
    fs::write(&cases, "- name: [unfinished").unwrap();
    await_line(&stderr, "cases/all.yaml");
    await_line(&stderr, "waiting for changes");
    // A file that is no part of the bundle is no reason; the next summary is that of the change after it.
    fs::write(folder.path().join("notes.md"), "nothing").unwrap();
    fs::write(&cases, CASES.replace("decision: deny", "decision: permit")).unwrap();
    await_line(&stdout, "failed: 1 of 2 cases passed");
    await_line(&stderr, "waiting for changes");
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(
        child.wait().unwrap().code(),
        Some(4),
        "it ends as the last run did"
    );
}

/// What is stored on a server is not known where policies are written.
#[test]
fn an_entity_that_may_be_stored_is_not_missed_offline() {
    let folder = bundle(CASES);
    let entities =
        r#"[{"uid": {"type": "user", "id": "alice"}}, {"uid": {"type": "record", "id": "one"}}]"#;
    fs::write(folder.path().join("entities.json"), entities).unwrap();
    let named = "@id(\"bob-reads\") @owner(\"tests\")\npermit (principal == user::\"bob\", action, resource);\n";
    fs::write(folder.path().join("bob.cedar"), named).unwrap();
    let found = remit_engine::Snapshot::compile(
        &serde_json::from_value(json!({
            "schema": [{ "file": "s.cedarschema", "text": SCHEMA }],
            "policies": [{ "file": "bob.cedar", "text": named }],
            "entities": serde_json::from_str::<Value>(entities).unwrap(),
        }))
        .unwrap(),
    )
    .unwrap()
    .review();
    assert!(
        found.iter().any(|one| one.code == "missing_entity"),
        "{found:?}"
    );
    let told = Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["policy", "validate", "--deny-warnings", "-o", "json"])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(0), "{text}");
    assert!(!text.contains("missing_entity"), "{text}");
}
