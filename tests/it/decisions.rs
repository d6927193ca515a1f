//! Recorded decisions over HTTP: listed, filtered, followed, explained.

mod behind;

use std::time::Duration;

use http::{Method, StatusCode};
use remit_tests::app::TestApp;
use remit_tests::bundles::pack;
use serde_json::{Value, json};

/// Asks one question and returns the id of the decision.
async fn ask(test: &TestApp, subject: &str, action: &str, (kind, id): (&str, &str)) -> String {
    let question = json!({
        "subject": { "type": "Agent", "id": subject }, "action": { "name": action }, "resource": { "type": kind, "id": id },
    });
    let reply = test.post("/access/v1/evaluation", question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    test.clock.advance(Duration::from_secs(1));
    // The endpoint waits by itself, but not for ever; how long a loaded machine takes is not what is tested here.
    assert!(
        test.log.caught_up(Duration::from_secs(30)).await,
        "the record was not shipped"
    );
    reply.header("x-decision-id").to_owned()
}

/// A list that is asked for before the record is shipped has it all the same.
#[tokio::test]
async fn a_list_waits_for_what_was_answered() {
    let test = TestApp::start(&pack("starter")).await;
    let question = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    let asked = test.post("/access/v1/evaluation", question).await;
    let (log, store) = (test.log.clone(), test.store.clone());
    let (found, ()) = tokio::join!(ids(&test, ""), async move {
        tokio::task::yield_now().await;
        tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    });
    assert_eq!(found, [asked.header("x-decision-id")]);
}

async fn ids(test: &TestApp, query: &str) -> Vec<String> {
    let page = test.get(&format!("/v1/decisions?{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{query}: {}", page.text);
    let body = page.json();
    body["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_caller_reads_its_own_decisions_newest_first() {
    let test = TestApp::shipping(&pack("starter")).await;
    let mail = ask(&test, "invoice-bot", "call", ("Tool", "mail.list")).await;
    let ghost = ask(&test, "ghost-bot", "call", ("Tool", "mail.list")).await;
    let data = ask(
        &test,
        "invoice-bot",
        "read_data",
        ("Document", "salaries-2026"),
    )
    .await;
    let all = [data.as_str(), &ghost, &mail];
    for (query, expected) in [
        ("", &all[..]),
        ("decision=permit", &[&mail]),
        ("decision=deny", &[&data, &ghost]),
        ("reason=policy_forbid", &[&data, &ghost]),
        ("reason=no_permit", &[]),
        ("agent=invoice-bot", &[&data, &mail]),
        ("agent=Invoice-bot", &[]),
        ("subject=Agent%3A%3A%22ghost-bot%22", &[&ghost]),
        ("subject=Person%3A%3A%22ghost-bot%22", &[]),
        ("action=read_data", &[&data]),
        ("resource=mail.list", &[&ghost, &mail]),
        ("resource=Document%3A%3A%22salaries-2026%22", &[&data]),
        ("policy=active-agents", &[&ghost]),
        ("from=2026-01-05T10:00:01Z", &[&data, &ghost]),
        ("until=2026-01-05T10:00:01Z", &[&mail]),
        (
            "from=2026-01-05T10:00:01Z&until=2026-01-05T10:00:02Z",
            &[&ghost],
        ),
        (&format!("after={mail}"), &[&data, &ghost]),
        (&format!("after={data}"), &[]),
        (
            "agent=invoice-bot&decision=permit&action=call&resource=mail.list",
            &[&mail],
        ),
        ("limit=1", &[&data]),
    ] {
        assert_eq!(ids(&test, query).await, expected, "{query}");
    }
    let one = test.get(&format!("/v1/decisions/{mail}")).await.json();
    assert_eq!(
        (
            &one["question"]["subject"]["id"],
            &one["decision"]["verdict"]
        ),
        (&json!("invoice-bot"), &json!("permit"))
    );
}

#[tokio::test]
async fn a_list_is_walked_and_followed() {
    let test = TestApp::shipping(&pack("starter")).await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.insert(
            0,
            ask(&test, "invoice-bot", "call", ("Tool", "mail.list")).await,
        );
    }
    let mut path = "/v1/decisions?agent=invoice-bot&limit=3".to_owned();
    let mut walked = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = test.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let body = page.json();
        walked.extend(
            body["decisions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = body["next"].as_str() else {
            break;
        };
        next.clone_into(&mut cursor);
        path = page
            .header("link")
            .trim_start_matches('<')
            .split_once('>')
            .unwrap()
            .0
            .to_owned();
    }
    assert_eq!(walked, expected);

    for query in [
        format!("agent=crm-helper&limit=3&cursor={cursor}"),
        format!("limit=3&cursor={cursor}"),
        format!("agent=invoice-bot&cursor=A{cursor}"),
        "cursor=AAAA".to_owned(),
    ] {
        assert_eq!(
            test.get(&format!("/v1/decisions?{query}")).await.status,
            StatusCode::BAD_REQUEST,
            "{query}"
        );
    }

    let newest = walked[0].clone();
    let fresh = ask(&test, "crm-helper", "call", ("Tool", "mail.list")).await;
    assert_eq!(ids(&test, &format!("after={newest}")).await, [fresh]);
}

#[tokio::test]
async fn a_parameter_that_is_not_known_is_named() {
    let test = TestApp::shipping(&pack("starter")).await;
    for (query, named) in [
        ("agnt=invoice-bot", "agnt"),
        ("decision=maybe", "decision"),
        ("reason=because", "reason"),
        ("from=yesterday", "from"),
        ("subject=invoice-bot", "subject"),
        ("subject=Agent%3A%3A%22a%22&agent=a", "agent"),
        ("after=7", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=2", "limit"),
        ("action=%00", "NUL"),
        ("action=%FF", "UTF-8"),
        ("%c3%28=pay", "UTF-8"),
    ] {
        let refused = test.get(&format!("/v1/decisions?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(named),
            "{query}: {}",
            refused.text
        );
    }
    assert_eq!(
        test.get("/v1/decisions/not-an-id").await.status,
        StatusCode::BAD_REQUEST
    );
    let nobody = "/v1/decisions/019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77";
    assert_eq!(test.get(nobody).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        test.post(&format!("{nobody}/explain"), "").await.status,
        StatusCode::NOT_FOUND
    );
}

async fn explain(test: &TestApp, id: &str, query: &str) -> Value {
    let reply = test
        .post(&format!("/v1/decisions/{id}/explain{query}"), "")
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    reply.json()
}

#[tokio::test]
async fn an_explanation_makes_the_decision_again() {
    let test = TestApp::shipping(&pack("starter")).await;
    let denied = ask(&test, "ghost-bot", "call", ("Tool", "mail.list")).await;
    let explained = explain(&test, &denied, "").await;
    assert_eq!(explained["reproduced"], true, "{explained}");
    assert_eq!(explained["recorded"]["reason"], "policy_forbid");
    assert_eq!(explained["explanation"]["decision"], explained["recorded"]);
    assert!(
        explained["explanation"]
            .to_string()
            .contains("active-agents"),
        "{explained}"
    );
    let unknown = test
        .post(
            &format!("/v1/decisions/{denied}/explain?against=tomorrow"),
            "",
        )
        .await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

/// The bundle and the live entities of the record's revision decide again, whatever has changed since.
#[tokio::test]
async fn an_explanation_goes_back_to_the_state_that_decided() {
    let mut test = TestApp::shipping(&pack("starter")).await;
    let path = "/v1/entities/Agent/night-bot";
    let agent = json!({
        "attrs": { "status": "active", "trust": 2, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": "reader" }],
    });
    let put = async |body: &Value| {
        let reply = test.send(test.request(Method::PUT, path), body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    };
    put(&agent).await;
    let permitted = ask(&test, "night-bot", "call", ("Tool", "mail.list")).await;

    let mut suspended = agent.clone();
    suspended["attrs"]["status"] = json!("suspended");
    put(&suspended).await;
    let then = explain(&test, &permitted, "").await;
    assert_eq!(
        (&then["reproduced"], &then["entities"]),
        (&json!(true), &json!("recorded")),
        "{then}"
    );
    let now = explain(&test, &permitted, "?against=current").await;
    assert_eq!(
        (&now["reproduced"], &now["entities"]),
        (&json!(false), &json!("current")),
        "{now}"
    );
    assert_eq!(now["explanation"]["decision"]["reason"], "policy_forbid");

    put(&agent).await;
    let mut bundle = pack("starter");
    bundle.policies.push(remit_core::Source {
        file: "freeze.cedar".to_owned(),
        text: "@id(\"freeze\") @owner(\"t\") forbid (principal is Agent, action, resource);"
            .to_owned(),
    });
    test.put(&bundle).await;
    let then = explain(&test, &permitted, "").await;
    assert_eq!(
        (
            &then["reproduced"],
            &then["explanation"]["decision"]["verdict"]
        ),
        (&json!(true), &json!("permit")),
        "{then}"
    );
    let now = explain(&test, &permitted, "?against=current").await;
    assert_eq!(now["reproduced"], false);
    assert!(
        now["explanation"]["decision"]["determining"]
            .as_array()
            .unwrap()
            .contains(&json!("freeze")),
        "{now}"
    );
}

/// Asks a question as it stands and returns the id of the decision.
async fn asked(test: &TestApp, question: &Value) -> String {
    let reply = test.post("/access/v1/evaluation", question).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(test.log.caught_up(Duration::from_secs(30)).await);
    reply.header("x-decision-id").to_owned()
}

async fn drawn(test: &TestApp, id: &str) -> (Value, String) {
    let path = format!("/v1/decisions/{id}/case");
    let json = test.post(&path, "").await;
    assert_eq!(json.status, StatusCode::OK, "{}", json.text);
    let request = test.request(Method::POST, &path);
    let yaml = test
        .send(
            request.header("accept", "text/html, Application/YAML;q=0.9"),
            "",
        )
        .await;
    assert_eq!(yaml.status, StatusCode::OK, "{}", yaml.text);
    assert_eq!(yaml.header("content-type"), "application/yaml");
    (json.json(), yaml.text)
}

/// What was decided becomes a file that `remit policy test` passes beside the bundle that decided.
#[tokio::test]
async fn a_decision_becomes_a_case_that_passes() {
    let mut test = TestApp::shipping(&pack("starter")).await;
    let mut ids = vec![
        ask(&test, "invoice-bot", "call", ("Tool", "mail.list")).await,
        ask(&test, "ghost-bot", "call", ("Tool", "mail.list")).await,
        ask(&test, "invoice-bot", "fly", ("Tool", "mail.list")).await,
    ];
    let pay = json!({
        "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "pay", "properties": { "amount": 100_001, "currency": "EUR" } },
        "resource": { "type": "Payee", "id": "FI2112345600000785" },
    });
    ids.push(asked(&test, &pay).await);
    // The case is that of the bundle that decided, whatever is in force since.
    let mut frozen = pack("starter");
    frozen.cases.clear();
    frozen.policies.push(remit_core::Source {
        file: "freeze.cedar".to_owned(),
        text: "@id(\"freeze\") @owner(\"t\") forbid (principal, action, resource);".to_owned(),
    });
    test.put(&frozen).await;
    let home = crate::cli::folder();
    let starter = crate::cli::starter(home.path());
    for id in &ids {
        let (json, yaml) = drawn(&test, id).await;
        assert_eq!(json["passes"], true, "{json:#}");
        assert_eq!(json["case"]["name"], format!("decision {id}"));
        let record = test.get(&format!("/v1/decisions/{id}")).await.json();
        assert_eq!(json["case"]["question"], record["question"]);
        assert_eq!(json["case"]["at"], record["facts"]["now"]);
        assert_eq!(
            json["case"]["expect"]["reason"],
            record["decision"]["reason"]
        );
        assert_eq!(
            json["case"]["expect"]["because"],
            record["decision"]["determining"]
        );
        std::fs::write(starter.join(format!("cases/{id}.yaml")), yaml).unwrap();
    }
    let ghost = drawn(&test, &ids[1]).await.0;
    let note = ghost["notes"][0].as_str().unwrap();
    assert!(
        note.contains("`Agent::\"ghost-bot\"` is no entity of the bundle"),
        "{ghost}"
    );
    let tested = crate::cli::run(home.path(), &["policy", "test", "starter", "-o", "json"]);
    assert_eq!(tested.code, 0, "{}{}", tested.stdout, tested.stderr);
    let before = pack("starter").cases.len();
    assert_eq!(tested.json()["passed"], before + ids.len());
    // The cases bite: under what is in force now they fail.
    std::fs::write(
        starter.join("freeze.cedar"),
        &frozen.policies.last().unwrap().text,
    )
    .unwrap();
    let tested = crate::cli::run(home.path(), &["policy", "test", "starter"]);
    assert_eq!(tested.code, 4, "{}{}", tested.stdout, tested.stderr);
}

/// A case is asked by no key, and a policy that goes by the key is not helped by entities.
#[tokio::test]
async fn a_case_says_that_it_cannot_have_the_caller() {
    let mut test = TestApp::shipping(&pack("starter")).await;
    let me = test.get("/v1/whoami").await.json();
    let mut bundle = pack("starter");
    bundle.policies.push(remit_core::Source {
        file: "mine.cedar".to_owned(),
        text: format!("@id(\"not-mine\") @owner(\"t\") forbid (principal, action == Action::\"call\", resource) when {{ context.facts.caller == {} }};", me["key"]),
    });
    test.put(&bundle).await;
    let id = ask(&test, "invoice-bot", "call", ("Tool", "mail.list")).await;
    let (json, yaml) = drawn(&test, &id).await;
    assert_eq!(json["passes"], false, "{json:#}");
    let notes = json["notes"].to_string();
    assert!(notes.contains("`context.facts.caller`"), "{notes}");
    assert!(!notes.contains("put what was stored"), "{notes}");
    assert!(yaml.contains("context.facts.caller"), "{yaml}");
}

/// Live entities are in no bundle: the case says that it lacks them, and passes when they are supposed.
#[tokio::test]
async fn a_case_says_what_it_lacks() {
    let test = TestApp::shipping(&pack("starter")).await;
    let agent = json!({
        "attrs": { "status": "active", "trust": 2, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": "reader" }],
    });
    let put = test.request(Method::PUT, "/v1/entities/Agent/night-bot");
    assert_eq!(test.send(put, &agent).await.status, StatusCode::OK);
    let id = ask(&test, "night-bot", "call", ("Tool", "mail.list")).await;
    let (json, yaml) = drawn(&test, &id).await;
    assert_eq!(json["passes"], false, "{json:#}");
    let notes: Vec<&str> = json["notes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        notes[0].contains("`Agent::\"night-bot\"` is no entity of the bundle"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("`decision` comes out as deny"),
        "{notes:?}"
    );
    assert!(
        yaml.starts_with("# `Agent::\"night-bot\"` is no entity"),
        "{yaml}"
    );
    let mut case = json["case"].clone();
    let mut entity = agent.clone();
    entity["uid"] = json!({ "type": "Agent", "id": "night-bot" });
    case["entities"] = json!([entity]);
    let case: remit_core::Case = serde_json::from_value(case).unwrap();
    let snapshot = remit_engine::Snapshot::compile(&pack("starter")).unwrap();
    let outcome = snapshot.run_case(&case);
    assert!(outcome.passed(), "{outcome:#?}");

    assert_eq!(
        test.post("/v1/decisions/not-an-id/case", "").await.status,
        StatusCode::BAD_REQUEST
    );
    let asked_for_more = test
        .post(&format!("/v1/decisions/{id}/case?yaml=1"), "")
        .await;
    assert_eq!(asked_for_more.status, StatusCode::BAD_REQUEST);
    assert!(
        asked_for_more.text.contains("yaml"),
        "{}",
        asked_for_more.text
    );
    let nobody = "/v1/decisions/019aa8f2-6c1e-7d20-9a44-0c8b5e2f1a77/case";
    assert_eq!(test.post(nobody, "").await.status, StatusCode::NOT_FOUND);
}

/// Whatever a caller may send is read from the file as it was sent.
#[tokio::test]
async fn a_case_keeps_every_value() {
    let test = TestApp::shipping(&pack("starter")).await;
    let long = "k".repeat(2_000);
    let strings = [
        "",
        " ",
        "yes",
        "no",
        "null",
        "~",
        "true",
        "1",
        "1.0",
        "1e3",
        "0x1F",
        "0o17",
        ".nan",
        "-.inf",
        "2026-01-05",
        "2026-01-05T10:00:00Z",
        "- a",
        "a: b",
        "# c",
        "&a",
        "*a",
        "!t",
        "%x",
        "@x",
        "`x",
        "'",
        "\"",
        "\\",
        "|",
        ">",
        "{",
        "[",
        "a\nb",
        "a\n",
        "\n",
        "\t",
        "\r\n",
        "a\u{85}b",
        "\u{7f}",
        "\u{1}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffe}",
        "\u{ffff}",
        "é名😀",
        "<<",
        "=",
        "---",
        "...",
        &long,
    ];
    let mut context: serde_json::Map<String, Value> = json!({
        "numbers": [0, -1, -9_007_199_254_740_991_i64, 9_007_199_254_740_991_i64, 0.5, -0.5, 1e-300, 0.1, 123_456_789.125],
        "nested": { "empty": {}, "none": [], "null": null, "flags": [true, false] },
    })
    .as_object()
    .unwrap()
    .clone();
    for (index, text) in strings.iter().enumerate() {
        context.insert(format!("v{index}"), json!(text));
        context.insert((*text).to_owned(), json!(index));
    }
    let id = asked(
        &test,
        &json!({
            "subject": { "type": "Agent", "id": "a\nb: 'c' #" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "~" },
            "context": context,
        }),
    )
    .await;
    let (json, yaml) = drawn(&test, &id).await;
    let read: Vec<remit_core::Case> = serde_norway::from_str(&yaml).unwrap();
    assert_eq!(serde_json::to_value(&read[0]).unwrap(), json["case"]);
    let record = test.get(&format!("/v1/decisions/{id}")).await.json();
    assert_eq!(json["case"]["question"], record["question"]);
}

/// A record outlives its bundle where somebody removed that from the database: there is a case, and nobody knows about it.
#[tokio::test]
async fn a_case_of_a_bundle_that_is_not_kept_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("remit.db").display());
    let options = remit_tests::sql::patient(&url);
    let mut test = TestApp::sharing(&options, remit_api::Options::default()).await;
    test.put(&pack("starter")).await;
    let (log, store) = (test.log.clone(), test.store.clone());
    tokio::spawn(async move { log.ship(store, std::future::pending()).await });
    let id = asked(
        &test,
        &json!({ "subject": { "type": "Agent", "id": "invoice-bot" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "mail.list" } }),
    )
    .await;
    let mut other = pack("starter");
    other.cases.clear();
    test.put(&other).await;
    test.is_not_replayed("its bundle is removed");
    remit_tests::sql::execute(
        &url,
        "DELETE FROM bundles WHERE revision = (SELECT min(revision) FROM bundles)",
    )
    .await;
    let (json, yaml) = drawn(&test, &id).await;
    assert_eq!(json["passes"], Value::Null, "{json}");
    let notes = "the bundle of the record is not kept, so that the case could not be tried";
    assert_eq!(json["notes"], json!([notes]));
    assert!(
        yaml.starts_with(&format!("# {notes}\n- name: decision {id}")),
        "{yaml}"
    );
}
