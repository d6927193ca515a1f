//! Recorded decisions over HTTP: listed, filtered, followed, explained.

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
