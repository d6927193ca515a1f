//! The rules of the house: what DESIGN and CONTRIBUTING ask for, as tests.
//!
//! A rule that is not a test is not a rule. Each test reads the tree as text and names the file and the line at fault.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use remit_tests::root;

mod migrations;
mod running;

/// Who may depend on whom, among our crates.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("engine", &["core"]),
    ("store", &["core"]),
    ("log", &["core", "store"]),
    ("api", &["core", "engine", "store", "log"]),
    (
        "server",
        &["core", "engine", "store", "log", "api", "verify"],
    ),
];

/// Which outside crates only their owners may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("cedar-policy", &["engine"]),
    ("cedar-policy-core", &["engine"]),
    ("cedar-policy-formatter", &["engine"]),
    ("cedar-policy-symcc", &[]),
    ("imbl", &["engine"]),
    ("sqlx", &["store"]),
    ("crc32c", &["store", "log"]),
    ("axum", &["api"]),
    ("hyper", &["api"]),
    ("hyper-util", &["api"]),
    ("tower", &["api"]),
    ("prometheus-client", &["api"]),
    ("clap", &["server"]),
    ("figment", &["server"]),
    ("opentelemetry", &["server"]),
    ("opentelemetry-otlp", &["server"]),
    ("opentelemetry_sdk", &["server"]),
    ("tracing-subscriber", &["server"]),
    ("unicode-normalization", &["core"]),
    ("reqwest", &["api", "server"]),
    ("arc-swap", &["engine", "api"]),
    ("tokio", &["store", "log", "api", "server"]),
    ("tracing", &["store", "log", "api", "server"]),
];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helpers", "manager", "service", "misc", "mod",
];

/// What the negative controls can switch off.
const CONTROLS: &str = "crates/core/src/controls.rs";

const FILE_LINES: usize = 600;
const LIB_LINES: usize = 60;
const README_LINES: usize = 150;

#[test]
fn crates_depend_in_one_direction() {
    for (name, allowed) in EDGES {
        for dependency in dependencies(name) {
            if let Some(ours) = dependency.strip_prefix("remit-") {
                assert!(
                    allowed.contains(&ours),
                    "crates/{name} may not depend on remit-{ours}"
                );
            }
        }
    }
    let listed: Vec<String> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut present: Vec<String> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    present.sort_by_key(|name| listed.iter().position(|other| other == name));
    assert_eq!(
        present, listed,
        "a new crate needs an ADR and an edge in this test"
    );
}

#[test]
fn outside_crates_have_owners() {
    for (name, _) in EDGES {
        for dependency in dependencies(name) {
            if let Some((_, owners)) = OWNERS.iter().find(|(owned, _)| *owned == dependency) {
                assert!(
                    owners.contains(name),
                    "crates/{name} may not name `{dependency}`, which belongs to {owners:?}"
                );
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        let most = if file.ends_with("src/lib.rs") {
            LIB_LINES
        } else {
            FILE_LINES
        };
        assert!(
            lines <= most,
            "{} has {lines} lines, the limit is {most}",
            shown(&file)
        );
        assert!(
            text.starts_with("//!"),
            "{} does not say on its first line what it is",
            shown(&file)
        );
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(
            !EMPTY_NAMES.contains(&name),
            "{}: the name says nothing",
            shown(&file)
        );
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.lines().count() <= README_LINES,
        "README.md is longer than {README_LINES} lines"
    );
}

/// A test file without a `mod` line would never run, and nobody would notice.
#[test]
fn every_test_file_runs() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let listed = main
            .lines()
            .any(|line| line.ends_with(&format!("mod {name};")));
        assert!(
            path.is_dir() || name == "main" || listed,
            "tests/it/{name}.rs is not in main.rs"
        );
    }
}

#[test]
fn sql_stands_only_in_store() {
    let sql = [
        "SELECT ",
        "INSERT INTO ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "ALTER TABLE ",
        "PRAGMA ",
    ];
    for file in product_files().filter(|file| !shown(file).starts_with("crates/store/")) {
        for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
            assert!(
                !sql.iter().any(|word| line.contains(word)),
                "{}:{number} speaks SQL outside store: {line}",
                shown(&file)
            );
        }
    }
}

#[test]
fn migrations_are_paired() {
    let names = |database: &str| -> Vec<String> {
        let folder = root().join("migrations").join(database);
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let (postgres, sqlite) = (names("postgres"), names("sqlite"));
    assert!(!sqlite.is_empty(), "there are no migrations");
    assert_eq!(
        postgres, sqlite,
        "both databases have the same migrations by name"
    );
    for (index, name) in sqlite.iter().enumerate() {
        assert!(
            name.starts_with(&format!("{:04}_", index + 1)),
            "{name} is not number {}",
            index + 1
        );
    }
}

#[test]
fn only_sync_installs_a_snapshot() {
    only_in(
        ".install(",
        &["crates/api/src/sync.rs"],
        &["crates/engine/"],
    );
}

#[test]
fn only_app_decides() {
    // `Snapshot::decide` is reached from `App`, and in the engine itself; commands that need no server evaluate cases.
    only_in(
        "snapshot.decide(",
        &["crates/api/src/app.rs"],
        &["crates/engine/", "crates/server/src/cmd/"],
    );
    only_in("Ok(Answer {", &["crates/api/src/app.rs"], &[]);
}

/// A change that somebody asks for through the API is written with its record.
#[test]
fn no_change_of_the_api_goes_unrecorded() {
    only_in(
        "Change::default()",
        &["crates/server/src/dev.rs"],
        &["crates/store/"],
    );
    for file in product_files().filter(|file| shown(file).starts_with("crates/api/")) {
        for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
            let unrecorded = line.contains("record: None") || line.contains(".create_key(");
            assert!(
                !unrecorded,
                "{}:{number} changes without a record: {line}",
                shown(&file)
            );
        }
    }
}

#[test]
fn the_engine_reads_nothing_but_its_inputs() {
    let banned = [
        "std::fs",
        "std::env",
        "std::net",
        "std::process",
        "Instant::now",
        "SystemTime",
        "tokio",
        "tracing::",
        "rand::",
        "getrandom",
        "async fn",
    ];
    for file in product_files().filter(|file| shown(file).starts_with("crates/engine/")) {
        for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
            for word in banned {
                assert!(
                    !line.contains(word),
                    "{}:{number} names `{word}`: {line}",
                    shown(&file)
                );
            }
        }
    }
}

#[test]
fn time_and_ids_come_from_the_clock() {
    for file in product_files().filter(|file| !shown(file).starts_with("crates/core/")) {
        for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
            for word in ["SystemTime::now", "Utc::now", "now_v7", "new_v4"] {
                assert!(
                    !line.contains(word),
                    "{}:{number} names `{word}`: {line}",
                    shown(&file)
                );
            }
        }
    }
}

#[test]
fn the_api_reads_no_environment() {
    for crate_name in ["core", "engine", "store", "log", "api"] {
        for file in
            product_files().filter(|file| shown(file).starts_with(&format!("crates/{crate_name}/")))
        {
            for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
                assert!(
                    !line.contains("env::var"),
                    "{}:{number} reads the environment: {line}",
                    shown(&file)
                );
            }
        }
    }
}

/// What the feature `controls` can switch off must never be off where somebody relies on it.
#[test]
fn protections_are_switched_off_by_no_default() {
    let manifests = files(&root(), &["toml"]);
    for path in manifests.iter().filter(|path| path.ends_with("Cargo.toml")) {
        let manifest: toml::Value = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let features = manifest.get("features").and_then(toml::Value::as_table);
        for (name, value) in features.into_iter().flatten() {
            assert!(
                name == "controls" || !value.to_string().contains("controls"),
                "{}: the feature `{name}` brings `controls` with it",
                shown(path)
            );
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let asked = manifest.get(kind).map(ToString::to_string);
            assert!(
                !asked.unwrap_or_default().contains("controls"),
                "{}: a dependency asks for `controls`",
                shown(path)
            );
        }
    }
    only_in(
        "switch_off(",
        &[
            "crates/core/src/controls.rs",
            "crates/server/src/controls.rs",
        ],
        &[],
    );
}

/// A protection that nothing asks for cannot be switched off, and its negative control would prove nothing.
#[test]
fn every_protection_is_asked_for() {
    let product: String = product_files()
        .filter(|file| shown(file) != CONTROLS)
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for name in protections() {
        let asked = format!("Protection::{name}");
        assert!(
            product.contains(&format!("holds({asked})")),
            "no code asks whether {asked} holds"
        );
    }
}

/// A protection that no failure test does without has no negative control.
#[test]
fn every_protection_has_a_negative_control() {
    let rows: String = files(&root().join("tests/chaos/tests"), &["rs"])
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let without: Vec<&str> = rows
        .split(".without(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .flat_map(|names| names.split(','))
        .collect();
    for name in protections() {
        assert!(
            without.contains(&name.as_str()),
            "no test in tests/chaos/tests does without `{name}`"
        );
    }
}

#[test]
fn a_nearer_clippy_file_repeats_the_root_one() {
    let entries = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let value: toml::Value = toml::from_str(&text).unwrap();
        value["disallowed-methods"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["path"].as_str().unwrap().to_owned())
            .collect()
    };
    let nearer = entries("crates/engine/clippy.toml");
    for path in entries("clippy.toml") {
        assert!(
            nearer.contains(&path),
            "crates/engine/clippy.toml lacks `{path}` of the root file"
        );
    }
}

/// Features are unified over what is built together, so the package that opens doors for fuzzing is built by name alone.
#[test]
fn doors_for_fuzzing_are_not_shipped() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let workspace: toml::Value = toml::from_str(&text).unwrap();
    let listed = |member: &str| -> Vec<String> {
        let paths = workspace["workspace"][member].as_array().unwrap().iter();
        paths
            .map(|path| path.as_str().unwrap().to_owned())
            .collect()
    };
    let mut members = listed("members");
    members.retain(|path| !matches!(path.as_str(), "fuzz" | "tests/chaos" | "verify"));
    assert_eq!(listed("default-members"), members);
    for (name, _) in EDGES {
        let manifest =
            fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        assert_eq!(
            manifest.contains("fuzzing"),
            *name == "api",
            "crates/{name} names the feature `fuzzing`"
        );
    }
}

/// Every invariant of ARCHITECTURE.md names a test, and that test exists.
#[test]
fn every_invariant_names_its_test() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let tests: String = rust_files()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for number in 1..=10 {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| INV-{number} |")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for INV-{number}"));
        let named: Vec<&str> = row
            .rsplit('|')
            .nth(1)
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(!named.is_empty(), "INV-{number} names no test");
        for name in named {
            assert!(
                tests.contains(&format!("fn {name}(")),
                "INV-{number} names `{name}`, which is no test"
            );
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = files(&root(), &["md"]);
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let target = document.parent().unwrap().join(path);
            assert!(
                target.exists(),
                "{} links to `{link}`, which is not there",
                shown(&document)
            );
        }
    }
}

// === reading the tree ===

/// Names every protection that a build for negative controls can switch off.
fn protections() -> Vec<String> {
    let text = fs::read_to_string(root().join(CONTROLS)).unwrap();
    let (_, all) = text.split_once("pub const ALL").unwrap();
    let names: Vec<String> = all
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.strip_suffix(','))
        .map(str::to_owned)
        .collect();
    assert!(!names.is_empty(), "{CONTROLS} names no protection");
    names
}

/// Asserts that `needle` occurs in product code only in `allowed` files and below `exempt` folders.
fn only_in(needle: &str, allowed: &[&str], exempt: &[&str]) {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for file in product_files() {
        for (number, line) in code_lines(&fs::read_to_string(&file).unwrap()) {
            if line.contains(needle) {
                found.entry(shown(&file)).or_insert(number);
            }
        }
    }
    for (file, line) in &found {
        let fine = allowed.contains(&file.as_str())
            || exempt.iter().any(|folder| file.starts_with(folder));
        assert!(
            fine,
            "{file}:{line} has `{needle}`, which belongs in {allowed:?}"
        );
    }
    for file in allowed {
        assert!(
            found.contains_key(*file),
            "`{needle}` is not in {file}: this test looks for the wrong text"
        );
    }
}

/// Numbers the lines of a file up to its unit tests, without comments.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with("//"))
        .collect()
}

fn dependencies(name: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
    let manifest: toml::Value = toml::from_str(&text).unwrap();
    manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

fn product_files() -> impl Iterator<Item = PathBuf> {
    rust_files().filter(|file| {
        let shown = shown(file);
        shown.starts_with("crates/") && !shown.ends_with("/tests.rs") && !shown.contains("/tests/")
    })
}

fn rust_files() -> impl Iterator<Item = PathBuf> {
    ["crates", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| files(&root().join(folder), &["rs"]))
}

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                found.extend(files(&path, endings));
            }
        } else if path
            .extension()
            .is_some_and(|ending| endings.contains(&ending.to_str().unwrap_or("")))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
