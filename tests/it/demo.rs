//! `remit demo`, the real binary: what it tells is true, and it leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use remit_tests::server::{client, send};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_remit");
/// The widest line of the demo, in characters.
const COLUMNS: usize = 100;

#[test]
fn demo_tells_of_a_task_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let output = demo(home.path(), &[]);
    let text = told(&output);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    // Plain where it is no terminal, and narrow.
    assert!(!text.contains('\u{1b}'), "colour codes in a pipe");
    for line in text.lines() {
        assert!(
            line.chars().count() <= COLUMNS,
            "{} columns: {line}",
            line.chars().count()
        );
    }

    for reason in ["policy_permit", "approval_required", "task_completed"] {
        assert!(text.contains(reason), "no {reason} in the run");
    }
    // What was answered, what was recorded and what is in the log fit together.
    let line = text
        .lines()
        .find(|line| line.contains("decisions answered ="))
        .unwrap();
    let numbers: Vec<usize> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 5, "{line}");
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert_eq!(numbers[1], numbers[2] + numbers[3], "{line}");
    assert_eq!(numbers[4], 0, "{line}");
    assert_quoted(&text);
    assert_left_nothing(home.path());
}

#[test]
fn demo_tells_a_program_the_same() {
    let home = tempfile::tempdir().unwrap();
    let output = demo(home.path(), &["-o", "json"]);
    let summary: Value = serde_json::from_str(&told(&output)).unwrap();
    for (member, expected) in [
        ("answered", json!(16)),
        ("recorded", json!(16)),
        ("permitted", json!(10)),
        ("denied", json!(6)),
        ("approval_required", json!(4)),
        ("clean_permitted", json!(true)),
    ] {
        assert_eq!(summary[member], expected, "{summary}");
    }
    assert_eq!(summary["log"]["problems"], json!([]), "{summary}");
    assert_left_nothing(home.path());
}

/// Nothing that the environment names for a real server is touched by a demonstration.
#[test]
fn demo_is_not_led_astray_by_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let output = command(home.path())
        .args(["demo", "--color", "always"])
        .env(
            "REMIT__DATABASE__URL",
            "postgres://nobody@192.0.2.1/nothing",
        )
        .env("REMIT__LISTEN__HTTP", "192.0.2.1:7364")
        .env("REMIT_URL", "http://192.0.2.1:7364")
        .env("REMIT_KEY", "remit_live_not_a_key")
        .output()
        .unwrap();
    assert!(
        told(&output).contains("\u{1b}[32mpermit"),
        "colour was asked for"
    );
    assert_left_nothing(home.path());
}

/// With `--serve` it answers other people's questions until it is interrupted, and then it is gone.
#[tokio::test]
async fn demo_serves_until_it_is_interrupted() {
    let home = tempfile::tempdir().unwrap();
    let mut child = command(home.path())
        .args(["demo", "--serve"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut exported = |name: &str| -> String {
        let wanted = format!("export {name}=");
        let mut found = lines.by_ref().map(Result::unwrap);
        let line = found
            .find(|line| line.contains(&wanted))
            .expect("the demo ended early");
        line.split_once('=').unwrap().1.to_owned()
    };
    let (url, key) = (exported("REMIT_URL"), exported("REMIT_KEY"));
    let request = client().get(format!("{url}/v1/tasks")).bearer_auth(key);
    let answer = send(request).await;
    let tasks: Value = answer.json();
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 4, "{tasks:#}");

    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    // What it says last is read, so that it is not held up by a full pipe.
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:#?}");
    assert!(
        rest.iter()
            .any(|line| line.contains("Nothing is left behind")),
        "{rest:#?}"
    );
    assert_left_nothing(home.path());
}

/// Interrupted at its first word, it still cleans up.
#[test]
fn demo_cleans_up_when_it_is_interrupted_early() {
    let home = tempfile::tempdir().unwrap();
    let mut child = command(home.path())
        .arg("demo")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let status = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(
        status.success() && first.starts_with("Remit decides"),
        "{first}"
    );
    let _: Vec<String> = lines.map_while(Result::ok).collect();
    // It may have come to its end first; either way it ended by itself.
    let ended = child.wait().unwrap();
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended}");
    assert_left_nothing(home.path());
}

/// What the README quotes of it comes out, in that order, but for the ids.
#[track_caller]
fn assert_quoted(told: &str) {
    let readme = fs::read_to_string(remit_tests::root().join("README.md")).unwrap();
    let (_, quoted) = readme.split_once("Some of its lines:").unwrap();
    let (_, quoted) = quoted.split_once("```text\n").unwrap();
    let (quoted, _) = quoted.split_once("```").unwrap();
    let quoted: Vec<String> = quoted.lines().map(without_ids).collect();
    assert!(quoted.len() > 5, "{quoted:?}");
    let mut lines = told.lines().map(without_ids);
    for line in &quoted {
        assert!(
            lines.any(|told| told == *line),
            "the README quotes what is not told, or not after the line before it: {line}"
        );
    }
}

/// Writes `ID` in the place of every id of a line.
fn without_ids(line: &str) -> String {
    let is_id =
        |word: &&str| word.len() == 36 && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    let ids: Vec<&str> = line.split(' ').filter(is_id).collect();
    ids.iter()
        .fold(line.to_owned(), |line, id| line.replace(id, "ID"))
}

fn demo(home: &Path, arguments: &[&str]) -> Output {
    command(home).arg("demo").args(arguments).output().unwrap()
}

/// Prepares the binary in an empty folder that is also where temporary files go.
fn command(home: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .current_dir(home)
        .env("TMPDIR", home)
        .env("HOME", home)
        .env_remove("REMIT_KEY");
    command
}

fn told(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{complaint}",
        output.status
    );
    text
}

fn assert_left_nothing(home: &Path) {
    let left: Vec<_> = fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "the demo left {left:?}");
}
