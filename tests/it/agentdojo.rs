//! Real agents' calls: the `banking` and `workspace` suites of AgentDojo, every ground-truth call asked over HTTP.
//!
//! The bundle is made from the suites' tools and the catalogue of their effects: a role that may use every tool of its
//! suite, and a role that may only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use remit_core::{Note, Reason, Verdict, canonical_json};
use remit_tests::server::Remit;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const SUITES: [&str; 2] = ["banking", "workspace"];

#[derive(Deserialize)]
struct Suite {
    tools: Vec<Tool>,
    user_tasks: BTreeMap<String, Task>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    parameters: Value,
}

#[derive(Deserialize)]
struct Task {
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    tool: String,
    args: Map<String, Value>,
}

#[derive(Deserialize)]
struct Profile {
    effect: String,
}

/// The effects of tools, by suite and name.
type Catalogue = BTreeMap<String, BTreeMap<String, Profile>>;

#[tokio::test]
async fn agentdojo_roles() {
    let Some(folder) = remit_tests::vectors("agentdojo") else {
        return;
    };
    let catalogue: Catalogue = read(&folder.join("tool-catalogue.json"));
    let suites: Vec<(&str, Suite)> = SUITES
        .iter()
        .map(|name| (*name, read(&folder.join(format!("{name}.json")))))
        .collect();
    let bundle = tempfile::tempdir().unwrap();
    write_bundle(bundle.path(), &suites, &catalogue);
    let remit = Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .bundle(bundle.path())
        .start()
        .await;

    for (name, suite) in &suites {
        let (mut permitted, mut denied, mut reads) = (0, 0, 0);
        for call in suite.user_tasks.values().flat_map(|task| &task.calls) {
            let effect = &catalogue[*name][&call.tool].effect;
            let typed = types(suite, &call.tool);

            let record = ask(&remit, &format!("{name}-agent"), name, call).await;
            let because = (
                Verdict::Permit,
                Reason::PolicyPermit,
                vec![format!("{name}-{effect}")],
            );
            assert_eq!(
                outcome(&record),
                because,
                "{name}: {} {:?}",
                call.tool,
                call.args
            );
            // What the schema cannot type is dropped and noted, and nothing else is.
            for note in &record.decision.notes {
                let Note::Undeclared { member } = note else {
                    panic!("{name}: {}: {note:?}", call.tool);
                };
                let argument = member.rsplit('.').next().unwrap();
                assert!(
                    !typed.contains_key(argument),
                    "{name}: {}: {member} was dropped",
                    call.tool
                );
            }
            permitted += 1;

            let record = ask(&remit, "reader-agent", name, call).await;
            if effect == "read" {
                let because = (
                    Verdict::Permit,
                    Reason::PolicyPermit,
                    vec!["reader-read".to_owned()],
                );
                assert_eq!(outcome(&record), because, "{name}: {}", call.tool);
                reads += 1;
            } else {
                let because = (
                    Verdict::Deny,
                    Reason::PolicyForbid,
                    vec!["readers-only-read".to_owned()],
                );
                assert_eq!(outcome(&record), because, "{name}: {}", call.tool);
                denied += 1;
            }
        }
        println!(
            "{name}: {} tasks, {permitted} calls permitted to the suite's role; to a read-only role {reads} reads \
             permitted, {denied} side effects denied",
            suite.user_tasks.len()
        );
        assert!(permitted > 30 && denied >= 14 && reads + denied == permitted);
    }
    replayed(&remit).await;
    remit.stop().await;
}

/// Makes every decision again under its own revision, which must give its own answer.
async fn replayed(remit: &Remit) {
    let mut replay = tokio::process::Command::new(env!("CARGO_BIN_EXE_remit"));
    replay.args(["decisions", "replay", "-n", "100000", "--url", &remit.url]);
    let done = replay.env("REMIT_KEY", &remit.key).output().await.unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    println!("{told}");
    assert!(done.status.success(), "{told}");
    let count: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert!(count > 200, "{told}");
    assert!(
        told.contains(&format!(" {count} came out the same")),
        "{told}"
    );
}

/// Asks one call over HTTP and returns its record.
async fn ask(remit: &Remit, agent: &str, suite: &str, call: &Call) -> remit_core::DecisionRecord {
    let arguments: Map<String, Value> = call
        .args
        .clone()
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect();
    let question = json!({
        "subject": {"type": "Agent", "id": agent},
        "action": {"name": call.tool, "properties": arguments},
        "resource": {"type": "Suite", "id": suite},
    });
    let answer = remit.post("/access/v1/evaluation", &question).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.headers["x-decision-id"].to_str().unwrap().to_owned();
    let began = Instant::now();
    let record: remit_core::DecisionRecord = loop {
        let found = remit.get(&format!("/v1/decisions/{id}")).await;
        // It is waited for, and not for ever.
        if found.status != 404 || began.elapsed() > Duration::from_secs(30) {
            break found.json();
        }
    };
    assert_eq!(
        answer.json::<Value>()["decision"],
        json!(record.decision.verdict == Verdict::Permit)
    );
    // Records are canonical JSON, which writes 10.0 as 10.
    assert_eq!(
        canonical_json(&record.question.action.properties).unwrap(),
        canonical_json(&arguments).unwrap(),
        "the record keeps the arguments as asked"
    );
    record
}

fn outcome(record: &remit_core::DecisionRecord) -> (Verdict, Reason, Vec<String>) {
    let decision = &record.decision;
    let policies = decision
        .determining
        .iter()
        .map(ToString::to_string)
        .collect();
    (decision.verdict, decision.reason, policies)
}

// === the bundle ===

/// Writes a schema with one action a tool, in groups by effect, and the two kinds of roles.
fn write_bundle(folder: &Path, suites: &[(&str, Suite)], catalogue: &Catalogue) {
    let effects: BTreeSet<&str> = catalogue
        .values()
        .flat_map(|tools| tools.values())
        .map(|tool| tool.effect.as_str())
        .collect();
    let mut schema = "entity Role;\nentity Agent in [Role];\nentity Suite;\n".to_owned();
    for effect in &effects {
        writeln!(schema, "action \"{effect}\";").unwrap();
    }
    let mut policies = String::new();
    let mut entities = vec![
        entity("Role", "reader", &[]),
        entity("Agent", "reader-agent", &["reader"]),
    ];
    for (name, suite) in suites {
        for tool in &suite.tools {
            let effect = &catalogue[*name][&tool.name].effect;
            let arguments: Vec<String> = types(suite, &tool.name)
                .iter()
                .map(|(name, kind)| format!("\"{name}\"?: {kind}"))
                .collect();
            let arguments = arguments.join(", ");
            writeln!(
                schema,
                "action \"{}\" in [\"{effect}\"] appliesTo {{ principal: [Agent], resource: [Suite], \
                 context: {{ facts: Remit::Facts, action?: {{ {arguments} }} }} }};",
                tool.name
            )
            .unwrap();
        }
        for effect in catalogue[*name]
            .values()
            .map(|tool| &tool.effect)
            .collect::<BTreeSet<_>>()
        {
            writeln!(
                policies,
                "@id(\"{name}-{effect}\") @owner(\"tests\")\n\
                 permit (principal in Role::\"{name}\", action in [Action::\"{effect}\"], resource == Suite::\"{name}\");"
            )
            .unwrap();
        }
        entities.push(entity("Role", name, &[]));
        entities.push(entity("Agent", &format!("{name}-agent"), &[name]));
        entities.push(entity("Suite", name, &[]));
    }
    policies.push_str(
        "@id(\"reader-read\") @owner(\"tests\")\n\
         permit (principal in Role::\"reader\", action in [Action::\"read\"], resource is Suite);\n\
         @id(\"readers-only-read\") @owner(\"tests\")\n\
         forbid (principal in Role::\"reader\", action, resource) unless { action in Action::\"read\" };\n",
    );
    fs::write(folder.join("schema.cedarschema"), schema).unwrap();
    fs::write(folder.join("roles.cedar"), policies).unwrap();
    fs::write(
        folder.join("entities.json"),
        serde_json::to_vec_pretty(&entities).unwrap(),
    )
    .unwrap();
}

fn entity(kind: &str, id: &str, roles: &[&str]) -> Value {
    let parents: Vec<Value> = roles
        .iter()
        .map(|role| json!({"type": "Role", "id": role}))
        .collect();
    json!({"uid": {"type": kind, "id": id}, "attrs": {}, "parents": parents})
}

/// Returns the Cedar types of a tool's arguments; those that Cedar has no type for, such as fractions, are left out.
fn types(suite: &Suite, tool: &str) -> BTreeMap<String, &'static str> {
    let tool = suite.tools.iter().find(|other| other.name == tool).unwrap();
    let properties = tool.parameters["properties"].as_object().unwrap();
    properties
        .iter()
        .filter_map(|(name, schema)| Some((name.clone(), cedar_type(schema)?)))
        .collect()
}

fn cedar_type(schema: &Value) -> Option<&'static str> {
    if let Some(options) = schema["anyOf"].as_array() {
        let mut options = options.iter().filter(|option| option["type"] != "null");
        return options
            .next()
            .filter(|_| options.next().is_none())
            .and_then(cedar_type);
    }
    match schema["type"].as_str()? {
        "string" => Some("String"),
        "integer" => Some("Long"),
        "boolean" => Some("Bool"),
        "array" if schema["items"]["type"] == "string" => Some("Set<String>"),
        _ => None,
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
