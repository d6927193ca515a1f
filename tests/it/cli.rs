//! The command line: exit codes, what is written where, and what an operator reads when something is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use remit_tests::root;
use serde_json::Value;
use tempfile::TempDir;

/// The real binary.
const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// One run of the binary in a folder of its own, without the caller's environment.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Reads stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|why| panic!("{why}\n{}\n{}", self.stdout, self.stderr))
    }

    /// Checks how it ended, and what stands on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no `{part}` in:\n{}",
                self.stderr
            );
        }
    }

    /// Checks that it ended well, and what stands on stdout.
    #[track_caller]
    pub(crate) fn succeeds(&self, parts: &[&str]) {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(
                self.stdout.contains(part),
                "no `{part}` in:\n{}",
                self.stdout
            );
        }
    }
}

/// A command with a clean environment.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(REMIT);
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

pub(crate) fn finish(command: &mut Command) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Run {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Run {
    finish(&mut command(dir, arguments))
}

pub(crate) fn with(dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    finish(command(dir, arguments).envs(variables.iter().copied()))
}

pub(crate) fn folder() -> TempDir {
    TempDir::with_prefix("remit-cli-").unwrap()
}

/// An address that nobody listens on.
fn nobody() -> String {
    format!("http://{}", remit_tests::ports::free_address())
}

/// Copies the starter bundle, so that a test may break it.
pub(crate) fn starter(dir: &Path) -> PathBuf {
    let to = dir.join("starter");
    fs::create_dir_all(to.join("cases")).unwrap();
    for part in ["", "cases"] {
        for entry in fs::read_dir(root().join("policies/starter").join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, to.join(part).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    to
}

#[test]
fn wrong_usage_is_64_and_never_a_deny() {
    let dir = folder();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["decide", "--nonsense"],
        &["decide"],
        &["decide", "-s", "nobody", "-a", "call", "-r", "Tool:x"],
        &["decide", "-s", "Agent::bot", "-a", "call", "-r", "Tool:x"],
        &["key", "create", "x", "--scopes", "everything"],
        &[
            "key",
            "create",
            "x",
            "--scopes",
            "all",
            "--expires-in",
            "soon",
        ],
        &["decisions", "list", "--reason", "because"],
        &["decisions", "show", "no-uuid"],
        &["explain"],
        &["serve", "--bundle", "x"],
        &["version", "-o", "github"],
        &["config", "show", "-o", "yaml"],
        &["serve", "--dev", "--listen", "0.0.0.0:0"],
        &["doctor", "--url", "ftp://example.com", "--timeout", "0"],
    ] {
        let ran = run(dir.path(), arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?} writes on stdout");
        assert_ne!(ran.stderr, "", "{arguments:?} says nothing");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    let dir = folder();
    let top = run(dir.path(), &["--help"]);
    top.succeeds(&["Exit codes:", "124  timed out"]);
    let commands = [
        "serve",
        "demo",
        "decide",
        "explain",
        "policy validate",
        "policy fmt",
        "policy impact",
        "policy shadow start",
        "policy shadow status",
        "policy shadow stop",
        "policy test",
        "bundle push",
        "bundle pull",
        "entities import",
        "exception confirm",
        "exception propose",
        "key create",
        "key list",
        "key revoke",
        "decisions list",
        "decisions show",
        "decisions tail",
        "decisions replay",
        "decisions case",
        "decisions orphans",
        "outcome report",
        "outcome list",
        "log fsck",
        "migrate",
        "doctor",
        "config show",
        "config check",
        "completions",
        "version",
    ];
    for command in commands {
        let mut words: Vec<&str> = command.split(' ').collect();
        assert!(
            top.stdout.contains(&format!("\n  {}", words[0])),
            "{command} is not in:\n{}",
            top.stdout
        );
        words.push("--help");
        let help = run(dir.path(), &words);
        help.succeeds(&["Usage: remit"]);
        if command != "version" {
            help.succeeds(&["Examples:"]);
        }
        assert!(!help.stdout.contains('\u{1b}'), "{command} colours a pipe");
    }
    run(dir.path(), &["--version"]).succeeds(&["remit 0."]);
    run(dir.path(), &["version", "-o", "json"]).succeeds(&["\"version\": \"0."]);
    run(dir.path(), &["completions", "bash"]).succeeds(&["_remit()"]);
}

#[test]
fn a_bad_configuration_names_the_key_and_where_it_was_said() {
    let dir = folder();
    let file = dir.path().join("remit.toml");
    let shown = file.display().to_string();
    for (text, expected) in [
        (
            "[listen]\nhtpp = \"x\"\n",
            vec![
                "listen.htpp: is not a setting; did you mean `http`?",
                shown.as_str(),
            ],
        ),
        (
            "[lsten]\nhttp = \"x\"\n",
            vec!["lsten: is not a setting; did you mean `listen`?"],
        ),
        (
            "[listen]\nhttp = \"localhost\"\n",
            vec!["listen.http: ", "invalid socket address", shown.as_str()],
        ),
        (
            "[log]\nqueue = \"many\"\n",
            vec!["log.queue: ", "found string \"many\"", shown.as_str()],
        ),
        (
            "[log]\nqueue = 0\n",
            vec!["log.queue: must be more than 0, from ", shown.as_str()],
        ),
        (
            "[telemetry]\nlevel = \"info,=\"\n",
            vec!["telemetry.level: `info,=` is no filter"],
        ),
        (
            "[telemetry]\nformat = \"xml\"\n",
            vec!["telemetry.format: ", "xml"],
        ),
        (
            "[database]\nurl = \"mysql://u:hunter2@h/d\"\n",
            vec!["database.url: must begin with sqlite: or postgres://"],
        ),
        (
            "[auth]\npepper = \"hunter2-hunter2\"\npepper_file = \"p\"\n",
            vec!["auth.pepper_file: is set as well as auth.pepper"],
        ),
        (
            "[auth]\npepper = 12345\n",
            vec!["auth.pepper: has the wrong type; a text was expected"],
        ),
        ("[listen]\nhttp = \n", vec!["TOML parse error", "line 2"]),
        (
            "[auth]\npepper_file = \"missing\"\n",
            vec!["auth.pepper_file: cannot read `missing`"],
        ),
        (
            "[auth]\npepper = \"short\"\n",
            vec!["auth.pepper: has 5 bytes and needs 32 or more"],
        ),
    ] {
        fs::write(&file, text).unwrap();
        let ran = run(dir.path(), &["config", "check", "--config", &shown]);
        ran.fails(3, &["the configuration cannot be used"]);
        ran.fails(3, &expected);
        assert!(
            !ran.stderr.contains("hunter2"),
            "a secret is shown:\n{}",
            ran.stderr
        );
    }
    with(
        dir.path(),
        &[("REMIT__LISTEN__HTTTP", "x")],
        &["config", "check"],
    )
    .fails(
        3,
        &["listen.htttp: is not a setting; did you mean `http`?, from REMIT__LISTEN__HTTTP"],
    );
    with(
        dir.path(),
        &[("REMIT__LOG__QUEUE", "0")],
        &["config", "check"],
    )
    .fails(
        3,
        &["log.queue: must be more than 0, from REMIT__LOG__QUEUE"],
    );
    run(dir.path(), &["config", "check", "--config", "nowhere.toml"])
        .fails(3, &["cannot read `nowhere.toml`"]);
    run(dir.path(), &["config", "check"]).fails(
        0,
        &[
            "warning: auth.pepper_file is not set",
            "the configuration is good",
        ],
    );
}

#[test]
fn the_configuration_shows_its_sources_and_hides_its_secrets() {
    let dir = folder();
    fs::write(
        dir.path().join("remit.toml"),
        "[log]\nqueue = 7\n[limits]\nconnections = 9\n",
    )
    .unwrap();
    let variables = [
        ("REMIT__LIMITS__CONNECTIONS", "11"),
        ("REMIT__DATABASE__URL", "postgres://remit:hunter2@db/remit"),
        (
            "REMIT__AUTH__PEPPER",
            "hunter2-hunter2-hunter2-hunter2-hunter2",
        ),
    ];
    let shown = with(
        dir.path(),
        &variables,
        &["config", "show", "--config", "remit.toml", "-o", "json"],
    );
    shown.succeeds(&[]);
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
    let settings = shown.json();
    let setting = |key: &str| {
        let found = settings
            .as_array()
            .unwrap()
            .iter()
            .find(|setting| setting["key"] == key);
        found
            .map(|found| {
                (
                    found["value"].clone(),
                    found["source"].as_str().unwrap().to_owned(),
                )
            })
            .unwrap()
    };
    assert_eq!(setting("log.queue"), (7.into(), "`remit.toml`".to_owned()));
    assert_eq!(
        setting("limits.connections"),
        (11.into(), "REMIT__LIMITS__CONNECTIONS".to_owned())
    );
    assert_eq!(
        setting("policy.poll_ms"),
        (1000.into(), "default".to_owned())
    );
    assert_eq!(setting("auth.pepper").0, "***");
    assert_eq!(setting("database.url").0, "postgres://remit:***@db/remit");
    let text = with(dir.path(), &variables, &["config", "show"]);
    text.succeeds(&["setting", "limits.connections"]);
    assert!(!text.stdout.contains("hunter2"), "{}", text.stdout);
}

#[test]
fn the_configuration_page_is_current() {
    let page = run(&root(), &["config", "page"]);
    let written = fs::read_to_string(root().join("docs/config.md")).unwrap();
    assert_eq!(
        written, page.stdout,
        "write it again: cargo run -q -- config page > docs/config.md"
    );
    for section in [
        "listen",
        "data",
        "database",
        "log",
        "limits",
        "auth",
        "policy",
        "telemetry",
    ] {
        page.succeeds(&[&format!("## {section}\n")]);
    }
}

#[test]
fn commands_that_need_a_server_say_where_they_looked() {
    let dir = folder();
    let url = nobody();
    let key = ("REMIT_KEY", "remit_dev_x");
    let decide = ["decide", "-s", "Agent:a", "-a", "call", "-r", "Tool:b"];
    with(dir.path(), &[("REMIT_URL", &url), key], &decide).fails(
        69,
        &[
            &format!("cannot reach Remit at `{url}/`"),
            "help: is it running?",
        ],
    );
    with(dir.path(), &[("REMIT_URL", &url)], &decide)
        .fails(77, &["no API key given", "help: set REMIT_KEY"]);
    for context in ["{", "[1]", "@missing.json"] {
        let mut arguments = decide.to_vec();
        arguments.extend(["-c", context]);
        let ran = with(dir.path(), &[("REMIT_URL", &url), key], &arguments);
        assert!(matches!(ran.code, 1 | 3), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("--context") || ran.stderr.contains("missing.json"),
            "{}",
            ran.stderr
        );
    }
    let mut arguments = decide.to_vec();
    arguments.extend(["-c", "{\"facts\": {}}"]);
    with(dir.path(), &[("REMIT_URL", &url), key], &arguments)
        .fails(3, &["`context.facts` is supplied by Remit"]);
}

#[test]
fn colour_is_asked_for_or_for_a_terminal() {
    let dir = folder();
    let bundle = starter(dir.path());
    let bundle = bundle.to_str().unwrap();
    let explain = [
        "explain",
        "--bundle",
        bundle,
        "-s",
        "Agent:payroll-bot",
        "-a",
        "call",
        "-r",
        "Tool:mail.list",
    ];
    let piped = run(dir.path(), &explain);
    piped.succeeds(&[
        "deny",
        "active-agents  satisfied, and settled it",
        "principal.status = \"suspended\"",
    ]);
    assert!(!piped.stdout.contains('\u{1b}'), "{}", piped.stdout);
    let mut always = explain.to_vec();
    always.extend(["--color", "always"]);
    assert!(
        with(dir.path(), &[("NO_COLOR", "1")], &always)
            .stdout
            .contains('\u{1b}')
    );
    let wrong = run(dir.path(), &["policy", "validate", "nowhere"]);
    assert!(!wrong.stderr.contains('\u{1b}'), "{}", wrong.stderr);
}

#[test]
fn a_broken_policy_is_shown_with_its_place_and_its_help() {
    let dir = folder();
    let bundle = starter(dir.path());
    fs::write(
        bundle.join("extra.cedar"),
        "@id(\"typo\")\nforbid (principal is Agent, action == Action::\"call\", resource is Tool)\nwhen { resource.reviewd };\n",
    )
    .unwrap();
    let text = run(dir.path(), &["policy", "validate", "starter"]);
    text.fails(3, &["starter/extra.cedar:3:8", "reviewd", "help: ", "typo"]);
    let json = run(dir.path(), &["policy", "validate", "starter", "-o", "json"]);
    assert_eq!(json.code, 3);
    let found = &json.json()[0];
    assert_eq!(found["valid"], false);
    assert_eq!(found["diagnostics"][0]["file"], "extra.cedar");
    assert_eq!(found["diagnostics"][0]["span"]["start_line"], 3);
    let github = run(
        dir.path(),
        &["policy", "validate", "starter", "-o", "github"],
    );
    assert_eq!(github.code, 3);
    assert!(
        github
            .stdout
            .starts_with("::error file=starter/extra.cedar,line=3,col=8,"),
        "{}",
        github.stdout
    );
    run(dir.path(), &["policy", "test", "starter"]).fails(3, &["is not valid: 1 error"]);
    run(
        dir.path(),
        &[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--bundle",
            "starter",
        ],
    )
    .fails(
        3,
        &[
            "starter/extra.cedar:3:8",
            "the bundle in `starter` is not valid",
        ],
    );
}

#[test]
fn a_policy_cannot_steer_the_terminal_it_is_shown_on() {
    let dir = folder();
    let bundle = starter(dir.path());
    let text = "@id(\"a\u{1b}[2J\")\npermit (principal, action, resource) when { nosuch /* \u{1b}]0;owned\u{7} */ };\n";
    fs::write(bundle.join("extra.cedar"), text).unwrap();
    let ran = run(dir.path(), &["policy", "validate", "starter"]);
    ran.fails(3, &["starter/extra.cedar:2:"]);
    assert!(
        !ran.stderr.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        ran.stderr
    );
}

#[test]
fn policies_are_formatted_in_place_or_checked() {
    let dir = folder();
    fs::write(
        dir.path().join("a.cedar"),
        "@id(\"a\") permit(principal,action,resource) when{context.x   ==1};",
    )
    .unwrap();
    run(dir.path(), &["policy", "fmt", "--check", "a.cedar"]).fails(3, &[]);
    let before = fs::read_to_string(dir.path().join("a.cedar")).unwrap();
    assert!(before.contains("x   ==1"), "--check changes the file");
    run(dir.path(), &["policy", "fmt", "."]).succeeds(&["a.cedar"]);
    run(dir.path(), &["policy", "fmt", "--check", "."]).succeeds(&[]);
    let after = fs::read_to_string(dir.path().join("a.cedar")).unwrap();
    assert!(after.contains("context.x == 1"), "{after}");
    fs::write(dir.path().join("b.cedar"), "permit(principal").unwrap();
    run(dir.path(), &["policy", "fmt", "b.cedar"]).fails(3, &["b.cedar:1:"]);
    run(dir.path(), &["policy", "fmt", "nowhere"]).fails(1, &["cannot read `nowhere`"]);
}

#[test]
fn a_bundle_folder_is_read_carefully() {
    let dir = folder();
    let bundle = starter(dir.path());
    fs::write(bundle.join("notes.txt"), "x").unwrap();
    let ran = run(dir.path(), &["policy", "validate", "starter"]);
    ran.fails(
        0,
        &["warning: `notes.txt` is no part of a bundle and is left out"],
    );
    fs::write(bundle.join("entities.json"), "[\n  {\"uid\": 7}\n]").unwrap();
    run(dir.path(), &["policy", "validate", "starter"]).fails(3, &["entities.json:2:"]);
    fs::write(bundle.join("entities.json"), [b'[', 0xff, b']']).unwrap();
    run(dir.path(), &["policy", "validate", "starter"]).fails(3, &["`entities.json` is not UTF-8"]);
    fs::remove_file(bundle.join("entities.json")).unwrap();
    fs::write(bundle.join("cases/bad.yaml"), "- name: x\n  question: 3\n").unwrap();
    run(dir.path(), &["policy", "validate", "starter"]).fails(3, &["cases/bad.yaml"]);
    fs::remove_file(bundle.join("cases/bad.yaml")).unwrap();
    fs::write(dir.path().join("outside.cedar"), "").unwrap();
    std::os::unix::fs::symlink("../outside.cedar", bundle.join("link.cedar")).unwrap();
    run(dir.path(), &["policy", "validate", "starter"])
        .fails(3, &["`link.cedar` is a link that leads out"]);
    fs::remove_file(bundle.join("link.cedar")).unwrap();
    fs::write(bundle.join("huge.cedar"), vec![b' '; 5 << 20]).unwrap();
    run(dir.path(), &["policy", "validate", "starter"])
        .fails(3, &["`huge.cedar` is larger than 4194304 bytes"]);
    run(dir.path(), &["policy", "validate", "nowhere"])
        .fails(1, &["cannot open the folder `nowhere`"]);
}

#[test]
fn a_log_folder_that_is_not_there_is_no_sound_log() {
    let dir = folder();
    run(dir.path(), &["log", "fsck", "nowhere"])
        .fails(69, &["cannot check the decision log", "nowhere"]);
}

/// Every command line of the README is one that the binary takes: with `--help` added, clap reads all that stands before.
#[test]
fn the_readme_names_commands_and_flags_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut seen = 0;
    for line in readme.lines() {
        let Some(command) = line
            .strip_prefix("remit ")
            .or_else(|| line.strip_prefix("cargo run --release -- "))
        else {
            continue;
        };
        let command = command.split('#').next().unwrap();
        let command = command.replace("<decision id>", "01a20639-8971-732d-b942-c92c2a56203b");
        let read = std::process::Command::new(env!("CARGO_BIN_EXE_remit"))
            .args(command.split_whitespace())
            .arg("--help")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "README: `{line}`: {said}");
        seen += 1;
    }
    assert!(
        seen >= 7,
        "only {seen} command lines were found in the README"
    );
}
