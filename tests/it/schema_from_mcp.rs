//! `remit schema from-mcp`, the real binary: a schema and a catalogue of tools that somebody else described.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn remit(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remit"))
        .args(["schema", "from-mcp"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn made(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Real tools: each becomes an action whose typed arguments a strictly validated policy can read.
#[test]
fn tools_of_real_suites_import_and_validate() {
    let Some(vectors) = remit_tests::vectors("agentdojo") else {
        return;
    };
    let mut suites = 0;
    for entry in fs::read_dir(&vectors).unwrap() {
        let path = entry.unwrap().path();
        let Ok(file) = fs::read_to_string(&path) else {
            continue;
        };
        let Ok(suite) = serde_json::from_str::<Value>(&file) else {
            continue;
        };
        let Some(tools) = suite.get("tools").and_then(Value::as_array) else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("tools.json"),
            json!({ "tools": tools }).to_string(),
        )
        .unwrap();
        let output = remit(
            folder.path(),
            &[
                "tools.json",
                "--domain",
                "suite",
                "--out",
                "tools.cedarschema",
                "-o",
                "json",
            ],
        );
        let made = made(&output);
        assert_eq!(made["tools"].as_object().unwrap().len(), tools.len());

        // A policy on the first text argument of each tool, and on each fraction as a decimal.
        let mut policies = String::new();
        let (mut texts, mut decimals) = (0, 0);
        for tool in tools {
            let name = tool["name"].as_str().unwrap();
            let arguments = tool["parameters"]["properties"].as_object().unwrap();
            for (argument, schema) in arguments {
                let condition = match schema["type"].as_str() {
                    Some("string") => {
                        texts += 1;
                        format!("context.action[\"{argument}\"] like \"*\"")
                    }
                    Some("number") => {
                        decimals += 1;
                        format!("context.action[\"{argument}\"].lessThan(decimal(\"10.5\"))")
                    }
                    _ => continue,
                };
                write!(policies,
                    "@id(\"{name}-{argument}\") @owner(\"tests\")\nforbid (principal, action == Action::\"{name}\", \
                     resource) when {{ context has action && context.action has \"{argument}\" && {condition} }};\n"
                ).unwrap();
            }
        }
        assert!(texts > 5, "{}", path.display());
        println!(
            "{}: {} tools, {texts} texts, {decimals} decimals",
            path.display(),
            tools.len()
        );
        fs::write(folder.path().join("rules.cedar"), policies).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_remit"))
            .args(["policy", "validate"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            checked.status.success(),
            "{}{}",
            text(&checked.stdout),
            text(&checked.stderr)
        );
        suites += 1;
    }
    assert!(suites >= 2);
}

#[test]
fn the_catalogue_corrects_and_pins() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    let tools = |description: &str| {
        json!({ "tools": [
            { "name": "look.up", "description": description, "annotations": { "readOnlyHint": true },
              "inputSchema": { "type": "object", "properties": { "q": { "type": "string" }, "any": {} } } },
            { "name": "send", "inputSchema": { "type": "object", "properties": { "to": { "type": "string" } } } },
        ] })
    };
    write("tools.json", &tools("Looks."));
    let first = remit(
        folder.path(),
        &[
            "tools.json",
            "--catalogue-out",
            "catalogue.json",
            "-o",
            "json",
        ],
    );
    let first = made(&first);
    assert_eq!(first["tools"]["look.up"]["effect"], "read");
    assert_eq!(first["tools"]["look.up"]["integrity"], "untrusted");
    assert_eq!(
        first["tools"]["send"]["effect"], "destroy",
        "the worst without a hint"
    );
    assert_eq!(first["tools"]["send"]["sinks"], json!(["to"]));
    assert_eq!(first["left_out"].as_array().unwrap().len(), 1, "{first:#}");

    // A person corrects one entry.
    let path = folder.path().join("catalogue.json");
    let mut catalogue: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(catalogue["tools"], first["tools"]);
    catalogue["tools"]["send"] = json!({ "effect": "egress", "sinks": ["to"], "domain": "mail" });
    write("catalogue.json", &catalogue);
    let again = made(&remit(
        folder.path(),
        &["tools.json", "--catalogue", "catalogue.json", "-o", "json"],
    ));
    let schema = again["schema"].as_str().unwrap();
    assert!(
        schema.contains("action \"send\" in [\"mail/egress\"]"),
        "{schema}"
    );
    assert!(
        schema.contains("action \"look.up\" in [\"read\"]"),
        "{schema}"
    );
    assert_eq!(again["drifted"], json!([]));

    // One byte of a descriptor changes: it is reported, and the old hash stays pinned until somebody says otherwise.
    write("tools.json", &tools("Looks!"));
    let drifted = remit(
        folder.path(),
        &["tools.json", "--catalogue", "catalogue.json", "-o", "json"],
    );
    assert_eq!(drifted.status.code(), Some(6), "{}", text(&drifted.stderr));
    assert!(
        text(&drifted.stderr).contains("tool `look.up`"),
        "{}",
        text(&drifted.stderr)
    );
    let drifted: Value = serde_json::from_slice(&drifted.stdout).unwrap();
    let pinned = |of: &Value| {
        of["tools"]["look.up"]["descriptor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(pinned(&drifted), pinned(&first));
    let repinned = made(&remit(
        folder.path(),
        &[
            "tools.json",
            "--catalogue",
            "catalogue.json",
            "--repin",
            "-o",
            "json",
        ],
    ));
    assert_ne!(pinned(&repinned), pinned(&first));
}

/// A server says of itself that it only reads; what somebody who looked says of the tool holds, with all that follows.
#[test]
fn what_a_server_says_of_itself_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    let texts = |names: &[&str]| {
        let of = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "type": "string" })));
        json!({ "type": "object", "properties": Value::Object(of.collect()) })
    };
    write(
        "tools.json",
        &json!({ "tools": [
            { "name": "ask", "annotations": { "readOnlyHint": true, "openWorldHint": false },
              "inputSchema": texts(&["q", "to.whom"]) },
            { "name": "transfer", "inputSchema": texts(&["payee", "sum"]) },
            { "name": "fresh", "inputSchema": texts(&["x"]) },
        ] }),
    );
    let first = remit(folder.path(), &["tools.json", "-o", "json"]);
    let told = text(&first.stderr);
    assert_eq!(made(&first)["tools"]["ask"]["integrity"], "untrusted");
    assert!(
        told.contains("tool `ask`: only its own server says that it is no more than `read`"),
        "{told}"
    );

    write(
        "catalogue.json",
        &json!({ "tools": { "ask": { "effect": "egress" }, "transfer": { "effect": "pay" }, "gone": {} } }),
    );
    let again = remit(
        folder.path(),
        &["tools.json", "--catalogue", "catalogue.json", "-o", "json"],
    );
    let told = text(&again.stderr);
    let again = made(&again);
    // What is no read affects whatever it is given.
    assert_eq!(again["tools"]["ask"]["sinks"], json!(["q"]), "{again:#}");
    assert_eq!(again["tools"]["transfer"]["sinks"], json!(["payee", "sum"]));
    assert_eq!(again["unknown"], json!(["fresh"]));
    assert_eq!(again["missing"], json!(["gone"]));
    for expected in [
        "tool `ask`: no sink covers to.whom",
        "tool `transfer`: it pays",
        "tool `fresh`: it is new",
        "tool `gone`: the catalogue has it",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("only its own server"), "{told}");
}

#[test]
fn hostile_descriptors_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let crowd: Vec<String> = (0..100_000)
        .map(|n| format!(r#"{{"name":"t{n}"}}"#))
        .collect();
    for (tools, expected) in [
        (
            format!(r#"[{{"name": "deep", "x": {deep}}}]"#),
            "nests deeper than 32",
        ),
        (
            format!("[{}]", crowd.join(",")),
            "100000 tools, the most is 1000",
        ),
        (r#"[{"name": "pay"}]"#.to_owned(), "tool `pay`"),
        (
            r#"[{"name": "x"}, {"name": "x"}]"#.to_owned(),
            "tool `x`: the list has it twice",
        ),
        ("{}".to_owned(), "expected an array of tools"),
        ("nonsense".to_owned(), "cannot be read"),
    ] {
        fs::write(folder.path().join("tools.json"), tools).unwrap();
        let output = remit(folder.path(), &["tools.json"]);

        assert_eq!(output.status.code(), Some(3), "{expected}");
        let told = text(&output.stderr);
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(output.stdout.is_empty());
    }
    let missing = remit(folder.path(), &["nowhere.json"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing.stderr));
}
