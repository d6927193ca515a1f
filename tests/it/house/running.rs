//! `cargo run` in the README runs `remit`, whatever other binaries the workspace has.

use std::process::Command;

use remit_tests::root;
use serde_json::{Value, json};

#[test]
fn cargo_runs_the_binary_that_the_readme_means() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let told = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let default = told["workspace_default_members"].as_array().unwrap();
    let is_binary = |target: &Value| target["kind"][0] == "bin";
    let packages = told["packages"].as_array().unwrap();
    let runs: Vec<(&Value, &Value)> = packages
        .iter()
        .filter(|one| default.contains(&one["id"]))
        .filter(|one| one["targets"].as_array().unwrap().iter().any(is_binary))
        .map(|one| (&one["name"], &one["default_run"]))
        .collect();
    assert_eq!(runs, [(&json!("remit-server"), &json!("remit"))]);
}
