//! F17 and F18: policies that are malformed, and policies that would end the process.

use std::fmt::Write as _;
use std::fs;

use http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::Bundle;
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use remit_tests::server::{Answer, Remit, send};
use reqwest::Method;
use serde_json::{Value, json};

use super::{BUNDLE, EVALUATION, call, put, source, with_policy};
use crate::cli;

const BINARY: &str = env!("CARGO_BIN_EXE_remit");

/// Texts that are no policies, each with the code of what is wrong.
const MALFORMED: &[(&str, &str)] = &[
    ("nonsense", "parse_error"),
    ("permit", "parse_error"),
    ("permit (principal, action, resource)", "parse_error"),
    ("permit (principal, action);", "parse_error"),
    ("permit (principal, resource, action);", "parse_error"),
    ("allow (principal, action, resource);", "parse_error"),
    (
        "@id(\"a\") permit (principal, action, resource) when { };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { true }",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { true true };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { 1 + };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { (true };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { true) };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { principal.\u{0} };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { 9223372036854775808 > 1 };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { \"\\u{110000}\" == \"\" };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { \"\\q\" == \"\" };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal == ?resource, action, resource);",
        "parse_error",
    ),
    (
        "@id(\"a\") @id(\"b\") permit (principal, action, resource);",
        "parse_error",
    ),
    (
        "@id(\"a) permit (principal, action, resource);",
        "unterminated_string",
    ),
    ("permit (principal, action, resource);", "missing_id"),
    ("@id permit (principal, action, resource);", "empty_id"),
    (
        "@id(\"\") permit (principal, action, resource);",
        "empty_id",
    ),
    (
        "@id(\"a\\nb\") permit (principal, action, resource);",
        "invalid_id",
    ),
    (
        "@id(\"a\") @mode(\"maybe\") permit (principal, action, resource);",
        "unknown_mode",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { 1 };",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal, action, resource) when { unknown(1) };",
        "parse_error",
    ),
    (
        "@id(\"a\") permit (principal == Nobody::\"x\", action, resource);",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal, action == Action::\"fly\", resource);",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal is Agent, action, resource) when { principal.nosuch };",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal is Agent, action, resource) when { principal.trust == \"x\" };",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal is Agent, action, resource) when { ip(\"300.1.1.1\").isIpv4() };",
        "invalid_policy",
    ),
    (
        "@id(\"a\") permit (principal is Agent, action, resource) when { decimal(\"x\").lessThan(decimal(\"1.0\")) };",
        "invalid_policy",
    ),
    (
        "\u{feff}@id(\"a\") permit (principal, action, resource);",
        "parse_error",
    ),
];

/// Checks one refusal: a 422 whose first error has this code and a place within `text`.
fn check_refusal(status: u16, problem: &Value, code: Option<&str>, text: &str) {
    assert_eq!(status, 422, "{text}: {problem}");
    assert_eq!(problem["code"], "policy-invalid", "{text}: {problem}");
    let diagnostics = problem["diagnostics"].as_array().unwrap();
    let one = diagnostics
        .iter()
        .find(|one| code.is_none_or(|code| one["code"] == code));
    let one = one.unwrap_or_else(|| panic!("no {code:?} for {text}: {problem}"));
    assert!(!one["message"].as_str().unwrap().is_empty(), "{one}");
    assert_eq!(one["file"], "added.cedar", "{text}: {one}");
    let (line, column) = (&one["span"]["start_line"], &one["span"]["start_column"]);
    let lines = text.split('\n').count() as u64;
    assert!(
        (1..=lines).contains(&line.as_u64().unwrap_or(0)) && column.as_u64() >= Some(1),
        "{text}: {one}"
    );
}

#[tokio::test]
async fn f17_a_malformed_policy_is_placed_and_changes_nothing() {
    let app = TestApp::start(&pack("starter")).await;
    let before = app.get(BUNDLE).await;
    let etag = before.header("etag").to_owned();
    for (text, code) in MALFORMED {
        let refused = put(&app, &etag, &with_policy(text)).await;
        check_refusal(refused.status.as_u16(), &refused.json(), Some(code), text);
    }
    let after = app.get(BUNDLE).await;
    assert_eq!(
        (after.header("etag"), &after.text),
        (etag.as_str(), &before.text)
    );
}

/// Every starter policy cut off, or with some bytes exchanged, at random places.
#[tokio::test]
async fn f17_damaged_policies_are_placed_and_change_nothing() {
    const ROUNDS: usize = 150;
    let seed = std::env::var("REMIT_SEED").map_or(20_261_125, |seed| seed.parse().unwrap());
    println!("REMIT_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let app = TestApp::start(&pack("starter")).await;
    let etag = app.get(BUNDLE).await.header("etag").to_owned();
    let files: Vec<String> = pack("starter")
        .policies
        .into_iter()
        .map(|one| one.text)
        .collect();
    let mut refused_count = 0;
    for round in 0..ROUNDS {
        let whole = &files[rng.random_range(0..files.len())];
        let text = damaged(&mut rng, whole);
        // Alone in its file, so that its ids do not clash with those of the original.
        let mut bundle = pack("starter");
        bundle.policies = vec![source("added.cedar", &text)];
        bundle.cases.clear();
        let checked = app
            .post("/v1/bundle/check", serde_json::to_string(&bundle).unwrap())
            .await
            .json();
        if checked["valid"] == true {
            continue;
        }
        let refused = put(&app, &etag, &bundle).await;
        check_refusal(refused.status.as_u16(), &refused.json(), None, &text);
        refused_count += 1;
        assert_eq!(
            app.get(BUNDLE).await.header("etag"),
            etag,
            "round {round}: {text}"
        );
    }
    println!("{refused_count} of {ROUNDS} damaged files were refused, the rest are valid");
    assert!(refused_count > ROUNDS / 2);
}

/// Cuts a text off, takes a piece out of it, or puts a piece of another kind in.
fn damaged(rng: &mut StdRng, whole: &str) -> String {
    let characters: Vec<char> = whole.chars().collect();
    let at = rng.random_range(1..characters.len());
    let upto = (at + rng.random_range(1..20)).min(characters.len());
    let (head, tail): (String, String) = (
        characters[..at].iter().collect(),
        characters[upto..].iter().collect(),
    );
    match rng.random_range(0..3) {
        0 => head,
        1 => head + &tail,
        _ => {
            let pieces = [
                "(", ")", "{", "}", "\"", ";", "@", "when", "\u{0}", "é", "// ", "\\",
            ];
            format!("{head}{}{tail}", pieces[rng.random_range(0..pieces.len())])
        }
    }
}

/// One bad file keeps the good ones beside it out as well.
#[tokio::test]
async fn f17_a_bundle_is_in_force_whole_or_not_at_all() {
    let app = TestApp::start(&pack("starter")).await;
    let verdict = async |app: &TestApp| {
        app.post(EVALUATION, call("ghost-bot")).await.json()["decision"].clone()
    };
    assert_eq!(verdict(&app).await, json!(false));
    let mut open = pack("starter");
    open.policies = vec![source(
        "open.cedar",
        "@id(\"open\") permit (principal is Agent, action, resource);",
    )];
    open.cases.clear();
    let etag = app.get(BUNDLE).await.header("etag").to_owned();
    let mut broken = open.clone();
    broken.policies.push(source(
        "added.cedar",
        "@id(\"shut\") forbid (principal, action, resource) when {",
    ));
    let mut unlike = open.clone();
    unlike.schema[0].text = unlike.schema[0]
        .text
        .replace("trust: Long", "trust: Strange");
    let mut entity = open.clone();
    entity
        .entities
        .push(serde_json::from_value(json!({ "uid": { "type": "Nobody", "id": "x" } })).unwrap());
    for bundle in [&broken, &unlike, &entity] {
        let refused = put(&app, &etag, bundle).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        assert_eq!(
            verdict(&app).await,
            json!(false),
            "the good half of a bad bundle decides"
        );
        assert_eq!(app.get(BUNDLE).await.header("etag"), etag);
    }
    assert_eq!(put(&app, &etag, &open).await.status, StatusCode::OK);
    assert_eq!(verdict(&app).await, json!(true), "alone it would have");
}

// === F18 ===

/// Policies that a parser or an evaluator would not survive, each with the code it is refused with.
fn policy_bombs() -> Vec<(String, String, &'static str)> {
    let policy = |condition: &str| {
        format!("@id(\"bomb\") permit (principal, action, resource) when {{ {condition} }};")
    };
    let mut bombs = Vec::new();
    for times in [120, 1_000, 20_000] {
        for (open, inner, close) in [
            ("(", "true", ")"),
            ("[", "1", "]"),
            ("{a:", "1", "}"),
            ("!(", "true", ")"),
            ("!(!(", "true", "))"),
            ("-(", "1", ")"),
            ("!", "true", ""),
            ("if true then ", "true", " else false"),
            ("if (", "true", ") then true else false"),
            ("if true then true else ", "true", ""),
            ("context[", "\"a\"", "]"),
            ("context.contains(", "1", ")"),
        ] {
            let text = format!("{}{inner}{}", open.repeat(times), close.repeat(times));
            bombs.push((
                format!("{open} × {times}"),
                policy(&text),
                "nesting_too_deep",
            ));
        }
    }
    for terms in [1_000, 5_000, 20_000] {
        for operator in ["&&", "||", "+", "*"] {
            let text = vec!["true"; terms].join(operator);
            bombs.push((
                format!("{terms} terms of {operator}"),
                policy(&text),
                "chain_too_long",
            ));
        }
        let text = format!("context{}", ".a".repeat(terms));
        bombs.push((format!("{terms} members"), policy(&text), "chain_too_long"));
        let text = format!(
            "@id(\"bomb\") permit (principal, action, resource) {};",
            "when { true } ".repeat(terms)
        );
        bombs.push((format!("{terms} clauses"), text, "chain_too_long"));
    }
    let level = "&&true".repeat(100);
    let deep = format!("{}true{}", "(".repeat(12), format!("{level})").repeat(12));
    bombs.push((
        "chains in brackets".to_owned(),
        policy(&deep),
        "expression_too_deep",
    ));
    let large = policy(&format!("\"a\" == \"{}\"", "x".repeat(17 << 10)));
    bombs.push(("17 KiB".to_owned(), large, "policy_too_large"));
    let pattern = policy(&format!("\"a\" like \"*{}b\"", "a".repeat(1_000)));
    bombs.push(("a long pattern".to_owned(), pattern, "pattern_too_long"));
    bombs
}

fn schema_bombs() -> Vec<(String, String, &'static str)> {
    let nested = |open: &str, close: &str, times: usize| {
        format!(
            "type T = {}Long{};",
            open.repeat(times),
            close.repeat(times)
        )
    };
    let mut doubling = "type T0 = { a: Long };".to_owned();
    for n in 1..40 {
        let under = n - 1;
        write!(doubling, " type T{n} = {{ a: T{under}, b: T{under} }};").unwrap();
    }
    doubling.push_str(" entity Bomb { t: T39 };");
    let members: Vec<String> = (0..1_001).map(|n| format!("a{n}: Long")).collect();
    let names: Vec<String> = (0..2_000).map(|n| format!("E{n}")).collect();
    vec![
        (
            "sets in sets".to_owned(),
            nested("Set<", ">", 100_000),
            "nesting_too_deep",
        ),
        (
            "records in records".to_owned(),
            nested("{a: ", "}", 20_000),
            "nesting_too_deep",
        ),
        ("types that double".to_owned(), doubling, "schema_too_large"),
        (
            "members".to_owned(),
            format!("entity Bomb {{ {} }};", members.join(", ")),
            "schema_too_large",
        ),
        (
            "names times members".to_owned(),
            format!(
                "entity {} {{ {} }};",
                names.join(", "),
                "a: Long, ".repeat(900)
            ),
            "schema_too_large",
        ),
        (
            "2 MiB".to_owned(),
            format!("// {}\nentity Bomb;", "x".repeat(2 << 20)),
            "schema_too_large",
        ),
    ]
}

async fn publish(remit: &Remit, etag: &str, bundle: &Bundle) -> Answer {
    let request = remit.request(Method::PUT, BUNDLE).header("if-match", etag);
    send(request.json(bundle)).await
}

/// When the process with this id was started, in ticks since the machine was: another process would differ.
fn started(pid: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = line
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_ne!(fields[0], "Z", "the process has ended");
    fields[19].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_policy_bombs_are_refused_and_the_process_lives() {
    let remit = Remit::dev(BINARY).start().await;
    let (pid, born) = (remit.pid(), started(remit.pid()));
    let etag = remit.get(BUNDLE).await.header("etag").to_owned();
    let mut bombs: Vec<(String, Bundle, &str)> = Vec::new();
    for (what, text, code) in policy_bombs() {
        bombs.push((what, with_policy(&text), code));
    }
    for (what, text, code) in schema_bombs() {
        let mut bundle = pack("starter");
        bundle.schema.push(source("added.cedarschema", &text));
        bombs.push((what, bundle, code));
    }
    let mut many = String::new();
    for n in 0..=200_000 {
        writeln!(many, "@id(\"p{n}\") permit (principal, action, resource);").unwrap();
    }
    bombs.push((
        "200,001 policies".to_owned(),
        with_policy(&many),
        "too_many_policies",
    ));
    let count = bombs.len();
    for (what, bundle, code) in bombs {
        let refused = publish(&remit, &etag, &bundle).await;
        assert_eq!(refused.status, 422, "{what}: {}", refused.text());
        let problem: Value = refused.json();
        assert_eq!(problem["code"], "policy-invalid", "{what}");
        let first = &problem["diagnostics"][0];
        assert_eq!(first["code"], code, "{what}: {first}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(first["message"].as_str().unwrap()),
            "{what}: {detail}"
        );
        let answer = remit.post(EVALUATION, &call("invoice-bot")).await;
        assert_eq!(answer.json::<Value>()["decision"], true, "{what}");
    }
    assert_eq!(
        (remit.pid(), started(pid)),
        (pid, born),
        "it is the same process"
    );
    assert_eq!(remit.get(BUNDLE).await.header("etag"), etag);
    println!("{count} bombs refused by process {pid}, which still decides");
}

/// The commands that read policies without a server are as careful.
#[test]
fn f18_policy_bombs_do_not_end_a_command() {
    let dir = cli::folder();
    for (number, (what, text, code)) in policy_bombs().into_iter().step_by(9).enumerate() {
        let folder = dir.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        let bundle = cli::starter(&folder);
        fs::write(bundle.join("bomb.cedar"), &text).unwrap();
        let shown = bundle.display().to_string();
        let file = bundle.join("bomb.cedar").display().to_string();
        for arguments in [
            ["policy", "validate", &shown],
            ["policy", "test", &shown],
            ["policy", "fmt", &file],
        ] {
            let ran = cli::run(&folder, &arguments);
            assert_eq!(ran.code, 3, "{what}, {arguments:?}: {}", ran.stderr);
            assert!(
                ran.stderr.contains(code) || !ran.stderr.is_empty(),
                "{what}"
            );
        }
    }
}
