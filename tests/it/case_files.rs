//! Case files: fixtures, steps, matrices and obligations, and what is said of one that is wrong.

use std::fs;

use remit_core::{Bundle, Case, Source};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::run;
use crate::serve::Server;

const SCHEMA: &str = "entity Team;
entity Agent in [Team] { status: String };
entity Doc { class: String };
action read, write appliesTo { principal: [Agent], resource: [Doc], context: { ip?: String, facts: Remit::Facts } };
";

const POLICIES: &str = "@id(\"team-reads\") @owner(\"t\") @obligation(\"log\") @severity(\"low\")
permit (principal in Team::\"a\", action == Action::\"read\", resource);
@id(\"write-needs-a-person\") @owner(\"t\")
permit (principal, action == Action::\"write\", resource) when { context.facts.approved };
@id(\"active\") @owner(\"t\") @advice(\"wake it\") forbid (principal, action, resource)
unless { principal has status && principal.status == \"active\" };
@id(\"weekend\") @owner(\"t\") forbid (principal, action, resource) when { context.facts.weekday > 5 };
@id(\"inside\") @owner(\"t\") forbid (principal, action, resource) when { context has ip && context.ip == \"9.9.9.9\" };
";

const ENTITIES: &str = r#"[
  {"uid": {"type": "Team", "id": "a"}},
  {"uid": {"type": "Agent", "id": "one"}, "attrs": {"status": "active"}, "parents": [{"type": "Team", "id": "a"}]},
  {"uid": {"type": "Agent", "id": "two"}, "attrs": {"status": "active"}},
  {"uid": {"type": "Doc", "id": "x"}, "attrs": {"class": "public"}},
  {"uid": {"type": "Doc", "id": "y"}, "attrs": {"class": "public"}}
]"#;

/// A file that uses everything there is.
const FULL: &str = r#"
# What the cases share.
fixtures:
  questions:
    one-reads:
      subject: { type: Agent, id: one }
      action: { name: read }
      resource: { type: Doc, id: x }
  contexts:
    outside: { ip: 9.9.9.9 }
  entities:
    asleep:
      uid: { type: Agent, id: one }
      attrs: { status: suspended }
      parents:
        - { type: Team, id: a }
cases:
  - name: a day in the life of one
    question: one-reads
    expect: { decision: permit, reason: policy_permit, because: [team-reads], errors: [] }
    steps:
      - expect:
          decision: permit
          obligations: { team-reads: { obligation: log } }
      - at: 2026-01-10T10:00:00Z
        expect: { decision: deny, because: [weekend] }
      - context: outside
        expect: { decision: deny, because: [inside], obligations: {} }
      - entities: [asleep]
        expect: { decision: deny, because: [active], obligations: { active: { advice: wake it } } }
      - {}
  - name: a person approves
    question:
      subject: { type: Agent, id: two }
      action: { name: write }
      resource: { type: Doc, id: y }
    steps:
      - expect: { decision: deny, reason: approval_required }
      - approved: true
        expect: { decision: permit, because: [write-needs-a-person] }

  - name: who reads what
    matrix:
      subjects: ['Agent::"one"', 'Agent::"two"', { type: Agent, id: ghost }]
      actions: [read, { name: write }]
      resources: ['Doc::"x"', 'Doc::"y"']
      except:
        - { subject: 'Agent::"one"', action: read, expect: { decision: permit, because: [team-reads] } }
        - { subject: 'Agent::"ghost"', expect: { decision: deny, because: [active] } }
    expect: { decision: deny, because: [] }
"#;

fn folder(cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("cases")).unwrap();
    for (name, text) in [
        ("schema.cedarschema", SCHEMA),
        ("all.cedar", POLICIES),
        ("entities.json", ENTITIES),
        ("cases/all.yaml", cases),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn tested(cases: &str) -> (i32, Value, String) {
    let folder = folder(cases);
    let ran = run(folder.path(), &["policy", "test", "-o", "json"]);
    let value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran.code, value, ran.stderr)
}

#[test]
fn fixtures_steps_and_matrices_are_run() {
    let (code, report, told) = tested(FULL);
    assert_eq!(code, 0, "{report:#}\n{told}");
    // Two cases of several steps, and three subjects with two actions on two resources.
    assert_eq!(report["passed"], json!(2 + 12));
    assert_eq!(
        report["not_covered"],
        json!([]),
        "every step shows its policies at work"
    );
}

/// Whatever is changed in what a step, a row or an obligation expects, is noticed, with its step and its line.
#[test]
fn what_differs_is_told_by_its_step() {
    for (was, is, expected) in [
        (
            "because: [weekend]",
            "because: [active]",
            (
                "a day in the life of one",
                18,
                2,
                "because",
                "`active`",
                "`weekend`",
            ),
        ),
        (
            "{ active: { advice: wake it } }",
            "{ active: { advice: kill it } }",
            (
                "a day in the life of one",
                18,
                4,
                "obligations",
                "`active` @advice(\"kill it\")",
                "`active` @advice(\"wake it\")",
            ),
        ),
        (
            "obligations: {} }",
            "obligations: { inside: {} } }",
            (
                "a day in the life of one",
                18,
                3,
                "obligations",
                "`inside`",
                "none",
            ),
        ),
        (
            "      - approved: true\n",
            "      - approved: false\n",
            ("a person approves", 32, 2, "decision", "permit", "deny"),
        ),
    ] {
        assert_eq!(FULL.matches(was).count(), 1, "{was}");
        let (code, report, told) = tested(&FULL.replace(was, is));
        assert_eq!(code, 4, "{was}: {told}");
        let failed = &report["failed"][0];
        let first = &failed["mismatches"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        assert_eq!(
            (
                text(&failed["name"]).as_str(),
                failed["line"].as_u64().unwrap(),
                first["step"].as_u64().unwrap(),
                text(&first["member"]).as_str(),
                text(&first["expected"]).as_str(),
                text(&first["actual"]).as_str(),
            ),
            expected,
            "{failed:#}"
        );
    }
    let rows = FULL.replace(
        "because: [team-reads] } }\n        - {",
        "because: [inside] } }\n        - {",
    );
    let (code, report, _) = tested(&rows);
    assert_eq!(code, 4);
    let names: Vec<_> = report["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    assert_eq!(
        names,
        [
            json!("who reads what: Agent::\"one\" read Doc::\"x\""),
            json!("who reads what: Agent::\"one\" read Doc::\"y\"")
        ]
    );
}

#[test]
fn a_case_file_that_is_wrong_is_told_by_member_and_line() {
    for (was, is, parts) in [
        (
            "question: one-reads",
            "question: one-writes",
            &[
                "cases/all.yaml:18",
                "`question`: there is no fixture `one-writes`; the file has `one-reads`",
            ][..],
        ),
        (
            "context: outside",
            "context: inside",
            &["step 3: `context`: there is no fixture `inside`"],
        ),
        (
            "entities: [asleep]",
            "entities: [awake]",
            &["step 4: `entities`: there is no fixture `awake`"],
        ),
        (
            "    question: one-reads\n",
            "",
            &["case `a day in the life of one`: step 1: missing field `question`"],
        ),
        (
            "      - {}\n",
            "      - { until: noon }\n",
            &["unknown field `until`"],
        ),
        (
            "      - expect: { decision: deny, reason: approval_required }\n",
            "      - {}\n",
            &["case `a person approves`: step 1: missing field `expect`"],
        ),
        (
            "      actions: [read, { name: write }]",
            "      actions: []",
            &["`matrix.actions` is empty"],
        ),
        (
            "['Agent::\"one\"', 'Agent",
            "[one, 'Agent",
            &["`matrix.subjects`: `one` is not written `Type::\"id\"`"],
        ),
        (
            "{ subject: 'Agent::\"ghost\"', expect",
            "{ subject: 'Agent::\"three\"', expect",
            &["`matrix.except[1]` fits no combination"],
        ),
        (
            "  - name: who reads what\n",
            "  - name: who reads what\n    question: one-reads\n",
            &["`question` and `steps` do not stand beside it"],
        ),
        ("fixtures:\n", "fixture:\n", &["unknown field `fixture`"]),
        (
            "  - name: a person approves\n",
            "  - name: a day in the life of one\n",
            &["there is a case `a day in the life of one` already, at cases/all.yaml:18"],
        ),
        (
            "attrs: { status: suspended }",
            "attrs: { state: suspended }",
            &[],
        ),
    ] {
        assert_eq!(FULL.matches(was).count(), 1, "{was}");
        let (code, report, told) = tested(&FULL.replace(was, is));
        if parts.is_empty() {
            // It is a file; what it supposes does not fit the schema, and that fails the step.
            assert_eq!(code, 4, "{told}");
            assert_eq!(
                report["failed"][0]["mismatches"][0]["member"], "entities",
                "{report:#}"
            );
            continue;
        }
        assert_eq!(code, 3, "{was} → {is}: {told}");
        for part in parts {
            assert!(told.contains(part), "no `{part}` in {told}");
        }
    }
}

#[test]
fn a_short_file_cannot_stand_for_too_much() {
    let many = |count: usize| -> String {
        (0..count).fold(String::new(), |all, n| all + &format!("'Doc::\"{n}\"', "))
    };
    let matrix = format!(
        "- name: all\n  matrix:\n    subjects: ['Agent::\"one\"']\n    actions: [read]\n    resources: [{}]\n  expect: {{ decision: deny }}\n",
        many(10_001)
    );
    let (code, _, told) = tested(&matrix);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("more than 10000 cases"), "{told}");
    let large = format!(
        "- name: all\n  matrix:\n    subjects: ['Agent::\"one\"']\n    actions: [read]\n    resources: [{}]\n  context: {{ ip: {} }}\n  expect: {{ decision: deny }}\n",
        many(1_000),
        "x".repeat(100_000)
    );
    let (code, _, told) = tested(&large);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("more than 67108864 bytes"), "{told}");
    let steps = format!(
        "- name: all\n  question: {{ subject: {{ type: Agent, id: one }}, action: {{ name: read }}, resource: {{ type: Doc, id: x }} }}\n  expect: {{ decision: permit }}\n  steps: [{}]\n",
        "{}, ".repeat(51)
    );
    let (code, _, told) = tested(&steps);
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("more than 50 steps"), "{told}");
}

/// What is written as before is read as before, and hashed as before: bundles that are stored keep their names.
#[test]
fn a_case_of_one_step_is_written_as_it_always_was() {
    let old = json!({
        "name": "n", "at": "2026-01-05T10:00:00.000000Z", "environment": "prod", "approved": true,
        "question": { "subject": { "type": "A", "id": "a" }, "action": { "name": "x" }, "resource": { "type": "R", "id": "r" } },
        "expect": { "decision": "permit", "reason": "policy_permit", "because": ["p"], "errors": [], "shadow": [] },
    });
    let case: Case = serde_json::from_value(old.clone()).unwrap();
    assert_eq!(serde_json::to_value(&case).unwrap(), old);
    let bundle = Bundle {
        schema: vec![Source {
            file: "s.cedarschema".into(),
            text: "entity A;".into(),
        }],
        cases: vec![case],
        ..Bundle::default()
    };
    // SHA-256 of the canonical JSON, taken by another program.
    assert_eq!(
        bundle.content_hash().to_string(),
        "sha256:dc1736d7e1cafd2b13b5c7b9cfe61527a12f0b57da9156630fbbee9cdcadd9b3"
    );
    let several = json!({ "name": "n", "steps": [
        { "question": old["question"], "expect": { "decision": "deny" } },
        { "question": old["question"], "approved": true, "expect": { "decision": "permit", "obligations": { "p": { "advice": "x" } } } },
    ] });
    let case: Case = serde_json::from_value(several.clone()).unwrap();
    assert_eq!(serde_json::to_value(&case).unwrap(), several);
    for (wrong, told) in [
        (json!({ "name": "n", "steps": [] }), "`steps` is empty"),
        (
            json!({ "name": "n", "steps": several["steps"], "approved": true }),
            "`approved` stands beside `steps`",
        ),
        (
            json!({ "name": "n", "expect": { "decision": "deny" } }),
            "missing field `question`",
        ),
        (
            json!({ "name": "n", "question": old["question"] }),
            "missing field `expect`",
        ),
        (
            json!({ "name": "n", "steps": several["steps"], "then": 1 }),
            "unknown field `then`",
        ),
    ] {
        let error = serde_json::from_value::<Case>(wrong)
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{error}");
    }
}

/// The server runs the same cases, refuses a bundle of which a step fails, and gives back what it was given.
#[test]
fn a_server_runs_every_step_and_keeps_them() {
    let server = Server::dev();
    server.run(&["bundle", "pull", "ours"]).succeeds(&[]);
    let ours = server.path().join("ours");
    fs::remove_dir_all(&ours).unwrap();
    let fill = |cases: &str| {
        let filled = folder(cases);
        for part in ["", "cases"] {
            fs::create_dir_all(ours.join(part)).unwrap();
            for entry in fs::read_dir(filled.path().join(part)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::copy(&path, ours.join(part).join(path.file_name().unwrap())).unwrap();
                }
            }
        }
    };
    let push = ["bundle", "push", "ours", "--if-match", "1", "-o", "json"];
    fill(&FULL.replace("- approved: true", "- approved: false"));
    let refused = server.run(&push);
    assert_eq!(refused.code, 4, "{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.stderr.contains("a person approves"),
        "{}",
        refused.stderr
    );
    fill(FULL);
    let pushed = server.run(&push);
    pushed.succeeds(&["sha256:"]);
    let hash = pushed.json()["hash"].as_str().unwrap().to_owned();
    server.run(&["bundle", "pull", "second"]).succeeds(&[]);
    let again = server
        .run(&["bundle", "push", "second", "--dry-run", "-o", "json"])
        .json();
    assert_eq!(again["hash"], hash.as_str());
    assert_eq!(again["cases"].as_array().unwrap().len(), 14);
    let tested = server
        .run(&["policy", "test", "second", "-o", "json"])
        .json();
    assert_eq!(tested["passed"], json!(14));
}

/// A bundle keeps no files of its cases: all of them come back in one, and that one can be read.
#[test]
fn cases_of_one_name_and_many_of_them_are_pulled_into_a_file_that_reads() {
    let home = crate::cli::folder();
    let written = |name: &str| {
        format!(
            "- name: {name}\n  question:\n    subject: {{ type: Agent, id: one }}\n    action: {{ name: read }}\n    resource: {{ type: Doc, id: x }}\n  expect: {{ decision: permit }}\n"
        )
    };
    let ours = folder(&format!("{}{}", written("reads"), written("reads (2)")));
    fs::write(ours.path().join("cases/more.yaml"), written("reads")).unwrap();
    let server = Server::dev();
    let there = ours.path().to_str().unwrap();
    server
        .run(&["bundle", "push", there, "--if-match", "1"])
        .succeeds(&[]);
    let pulled = home.path().join("pulled");
    server
        .run(&["bundle", "pull", pulled.to_str().unwrap()])
        .succeeds(&[]);
    let file = fs::read_to_string(pulled.join("cases/cases.yaml")).unwrap();
    for name in ["name: reads\n", "name: reads (2)\n", "name: reads (3)\n"] {
        assert_eq!(file.matches(name).count(), 1, "{file}");
    }
    let tested = run(&pulled, &["policy", "test", "-o", "json"]);
    assert_eq!(tested.code, 0, "{}{}", tested.stdout, tested.stderr);
    assert_eq!(tested.json()["passed"], 3);

    let many: String = (0..10_001).map(|n| written(&format!("case {n}"))).collect();
    fs::write(pulled.join("cases/cases.yaml"), many).unwrap();
    let tested = run(&pulled, &["policy", "test", "-o", "json"]);
    assert_eq!(tested.code, 0, "{}", tested.stderr);
    assert_eq!(tested.json()["passed"], 10_001);
}
