//! Live entities over HTTP: byte-exact names, checked by the schema, all or nothing.

use std::fmt::Write;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Entity, EntityUid};
use remit_store::{Change, Error};
use remit_tests::app::{Reply, TestApp};
use remit_tests::bundles::pack;
use serde_json::{Value, json};

async fn put(test: &TestApp, path: &str, body: &Value) -> Reply {
    test.send(test.request(Method::PUT, path), body).await
}

async fn delete(test: &TestApp, path: &str) -> Reply {
    test.send(test.request(Method::DELETE, path), "").await
}

async fn lines(test: &TestApp, body: &str) -> Reply {
    let mut request = test.request(Method::POST, "/v1/entities/bulk");
    request
        .headers_mut()
        .unwrap()
        .insert("content-type", "application/x-ndjson".parse().unwrap());
    test.send(request, body).await
}

/// An agent that the starter policies let call reading tools.
fn agent() -> Value {
    json!({
        "attrs": { "status": "active", "trust": 2, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } } },
        "parents": [{ "type": "Role", "id": "reader" }],
    })
}

async fn may_read_mail(test: &TestApp, id: &str) -> bool {
    let question = json!({
        "subject": { "type": "Agent", "id": id }, "action": { "name": "call" },
        "resource": { "type": "Tool", "id": "mail.list" },
    });
    test.post("/access/v1/evaluation", question).await.json()["decision"] == json!(true)
}

#[tokio::test]
async fn an_entity_decides_from_the_moment_it_is_answered() {
    let test = TestApp::start(&pack("starter")).await;
    let path = "/v1/entities/Agent/night-bot";
    assert_eq!(test.get(path).await.status, StatusCode::NOT_FOUND);
    assert!(!may_read_mail(&test, "night-bot").await);

    let written = put(&test, path, &agent()).await;
    assert_eq!(written.status, StatusCode::OK, "{}", written.text);
    assert_eq!(written.json()["written"], 1);
    assert!(may_read_mail(&test, "night-bot").await);

    let read = test.get(path).await;
    assert_eq!(read.json()["attrs"], agent()["attrs"]);
    assert_eq!(read.header("etag"), written.header("etag"));
    let cached = test
        .request(Method::GET, path)
        .header("if-none-match", read.header("etag"));
    assert_eq!(test.send(cached, "").await.status, StatusCode::NOT_MODIFIED);

    let same = put(&test, path, &agent()).await;
    assert_eq!(
        same.header("etag"),
        read.header("etag"),
        "what is written as it was keeps its tag"
    );

    let removed = delete(&test, path).await;
    assert_eq!(
        (removed.status, removed.json()["removed"].clone()),
        (StatusCode::OK, json!(1))
    );
    assert!(!may_read_mail(&test, "night-bot").await);
    assert_eq!(test.get(path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(delete(&test, path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn names_are_byte_exact() {
    let test = TestApp::start(&pack("starter")).await;
    let names = [
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("A%20b", "A%2520b"),
        ("quote\"inside", "quote%22inside"),
        ("line\nbreak", "line%0Abreak"),
        ("tab\tand\u{1}", "tab%09and%01"),
        ("caf\u{e9}", "caf%C3%A9"),
        // No character of its own, so that this is NFC.
        ("cafq\u{301}", "cafq%CC%81"),
        ("p\u{430}yroll", "p%D0%B0yroll"),
        ("payroll", "payroll"),
        ("Payroll", "Payroll"),
        ("..", "%2E%2E"),
    ];
    for (index, (_, encoded)) in names.iter().enumerate() {
        let mut body = agent();
        body["attrs"]["trust"] = json!(index);
        let written = put(&test, &format!("/v1/entities/Agent/{encoded}"), &body).await;
        assert_eq!(
            written.status,
            StatusCode::OK,
            "{encoded}: {}",
            written.text
        );
    }
    for (index, (id, encoded)) in names.iter().enumerate() {
        let read = test
            .get(&format!("/v1/entities/Agent/{encoded}"))
            .await
            .json();
        assert_eq!(
            (&read["uid"]["id"], &read["attrs"]["trust"]),
            (&json!(id), &json!(index))
        );
    }
    let mut sorted: Vec<&str> = names.iter().map(|(id, _)| *id).collect();
    sorted.sort_unstable();
    let listed = test.get("/v1/entities?type=Agent&limit=1000").await.json();
    let ids: Vec<&str> = listed["entities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| entity["uid"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, sorted);
    for bad in [
        "/v1/entities/Agent/%FF",
        "/v1/entities/Agent/a%00b",
        &format!("/v1/entities/Agent/{}", "x".repeat(1_025)),
    ] {
        assert_eq!(
            test.get(bad).await.status,
            StatusCode::BAD_REQUEST,
            "{bad:.60}"
        );
        assert_eq!(
            put(&test, bad, &agent()).await.status,
            StatusCode::BAD_REQUEST,
            "{bad:.60}"
        );
    }
}

#[tokio::test]
async fn preconditions_are_obeyed_where_they_are_sent() {
    let test = TestApp::start(&pack("starter")).await;
    let path = "/v1/entities/Agent/night-bot";
    let conditional = async |method: Method, name: &str, value: &str| {
        let body = if method == Method::PUT {
            agent().to_string()
        } else {
            String::new()
        };
        test.send(test.request(method, path).header(name, value), body)
            .await
    };
    assert_eq!(
        conditional(Method::PUT, "if-match", "*").await.status,
        StatusCode::PRECONDITION_FAILED
    );
    let made = conditional(Method::PUT, "if-none-match", "*").await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let etag = made.header("etag").to_owned();
    assert_eq!(
        conditional(Method::PUT, "if-none-match", "*").await.status,
        StatusCode::PRECONDITION_FAILED
    );
    for method in [Method::PUT, Method::DELETE] {
        let stale = conditional(method, "if-match", "\"1\"").await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
        assert_eq!(stale.json()["current"], json!(etag));
    }
    assert_eq!(
        conditional(Method::PUT, "if-match", &etag).await.status,
        StatusCode::OK
    );
    assert_eq!(
        conditional(Method::DELETE, "if-match", &etag).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let test = TestApp::start(&pack("starter")).await;
    let path = "/v1/entities/Agent/night-bot";
    let mut mistyped = agent();
    mistyped["attrs"]["trust"] = json!("high");
    let mut undeclared = agent();
    undeclared["attrs"]["colour"] = json!("red");
    for (path, body, named) in [
        (path, mistyped, "trust"),
        (path, undeclared, "colour"),
        (path, json!({}), "environment"),
        ("/v1/entities/Nobody/x", json!({}), "Nobody"),
        ("/v1/entities/RiskClass/enormous", json!({}), "enormous"),
    ] {
        let refused = put(&test, path, &body).await;
        assert_eq!(
            refused.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            refused.text
        );
        let problem = refused.json();
        assert_eq!(problem["code"], "entity-invalid");
        assert!(
            problem["detail"].as_str().unwrap().contains(named),
            "{problem}"
        );
        assert!(problem["entity"]["id"].is_string(), "{problem}");
        assert_eq!(test.get(path).await.status, StatusCode::NOT_FOUND);
    }
    for (body, named) in [
        (json!({ "attributes": {} }), "`attributes`"),
        (
            json!({ "uid": { "type": "Agent", "id": "Night-bot" } }),
            "`uid`",
        ),
        (json!({ "parents": [{ "type": "Team" }] }), "parents[0]"),
        (json!({ "parents": [["Team", "finance"]] }), "parents[0]"),
        (json!({ "uid": ["Agent", "night-bot"] }), "`uid`"),
        (
            json!({ "uid": { "type": "Agent", "id": "night-bot", "realm": "x" } }),
            "`uid.realm`",
        ),
    ] {
        let refused = put(&test, path, &body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(named),
            "{}",
            refused.text
        );
    }
}

#[tokio::test]
async fn entities_of_the_bundle_change_only_with_it() {
    let test = TestApp::start(&pack("starter")).await;
    let path = "/v1/entities/Agent/invoice-bot";
    for refused in [put(&test, path, &agent()).await, delete(&test, path).await] {
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        assert!(
            refused.json()["detail"]
                .as_str()
                .unwrap()
                .contains("belongs to the bundle")
        );
    }
    let bulk = test
        .post(
            "/v1/entities/bulk",
            json!([{ "remove": { "type": "Agent", "id": "invoice-bot" } }]),
        )
        .await;
    assert_eq!(bulk.status, StatusCode::CONFLICT, "{}", bulk.text);
    assert_eq!(
        test.get(path).await.status,
        StatusCode::NOT_FOUND,
        "it is not a live entity"
    );
}

#[tokio::test]
async fn without_a_bundle_there_is_no_schema_to_check_by() {
    let test = TestApp::empty(Options::default()).await;
    assert_eq!(
        put(&test, "/v1/entities/Agent/a", &agent()).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn a_bulk_change_is_done_whole_or_not_at_all() {
    let test = TestApp::start(&pack("starter")).await;
    let entity = |id: &str, trust: Value| {
        let mut entity = agent();
        entity["uid"] = json!({ "type": "Agent", "id": id });
        entity["attrs"]["trust"] = trust;
        entity
    };
    let first = test
        .post(
            "/v1/entities/bulk",
            json!([entity("b-1", json!(1)), entity("b-2", json!(2))]),
        )
        .await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert_eq!(
        (&first.json()["written"], &first.json()["removed"]),
        (&json!(2), &json!(0))
    );

    let removal = json!({ "remove": { "type": "Agent", "id": "b-1" } });
    let absent = json!({ "remove": { "type": "Agent", "id": "never-was" } });
    let body = format!("{}\n\n{removal}\r\n{absent}\n", entity("b-3", json!(3)));
    let mixed = lines(&test, &body).await;
    assert_eq!(mixed.status, StatusCode::OK, "{}", mixed.text);
    assert_eq!(
        (&mixed.json()["written"], &mixed.json()["removed"]),
        (&json!(1), &json!(1))
    );
    let ids = async || {
        let listed = test.get("/v1/entities").await.json();
        let all = listed["entities"].as_array().unwrap().iter();
        all.map(|entity| entity["uid"]["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids().await, ["b-2", "b-3"]);

    let good = entity("b-4", json!(4));
    let bad = entity("b-5", json!("high"));
    for (reply, status, member, place) in [
        (
            test.post("/v1/entities/bulk", json!([good, bad])).await,
            422,
            "index",
            1,
        ),
        (
            lines(&test, &format!("{good}\n\n{bad}\n")).await,
            422,
            "line",
            3,
        ),
        (
            lines(&test, &format!("{good}\n{{\"uid\": 1}}\n")).await,
            400,
            "line",
            2,
        ),
        (
            test.post(
                "/v1/entities/bulk",
                json!([good, { "remove": ["Agent", "b-2"] }]),
            )
            .await,
            400,
            "index",
            1,
        ),
        (
            test.post(
                "/v1/entities/bulk",
                json!([good, [bad["uid"], good["attrs"], []]]),
            )
            .await,
            400,
            "index",
            1,
        ),
        (
            lines(&test, &format!("{good}\nnot json\n")).await,
            400,
            "line",
            2,
        ),
        (
            test.post("/v1/entities/bulk", json!([good, good])).await,
            400,
            "index",
            1,
        ),
        (
            test.post(
                "/v1/entities/bulk",
                json!([good, { "remove": good["uid"] }]),
            )
            .await,
            400,
            "index",
            1,
        ),
        (
            test.post(
                "/v1/entities/bulk",
                json!([good, { "remove": good["uid"], "why": 1 }]),
            )
            .await,
            400,
            "index",
            1,
        ),
    ] {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        assert_eq!(reply.json()[member], json!(place), "{}", reply.text);
        assert_eq!(ids().await, ["b-2", "b-3"], "nothing of it was done");
    }
    for body in ["[]", "{}", "[", ""] {
        assert_eq!(
            test.post("/v1/entities/bulk", body).await.status,
            StatusCode::BAD_REQUEST,
            "{body:?}"
        );
    }
    assert_eq!(lines(&test, "\n\n").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_bulk_change_is_bounded() {
    let test = TestApp::start(&pack("starter")).await;
    let mut body = String::new();
    for number in 0..=100_000 {
        writeln!(
            body,
            "{{\"remove\":{{\"type\":\"Agent\",\"id\":\"{number}\"}}}}"
        )
        .unwrap();
    }
    let refused = lines(&test, &body).await;
    assert_eq!(
        refused.status,
        StatusCode::PAYLOAD_TOO_LARGE,
        "{}",
        refused.text
    );
    let (last, _) = body.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(lines(&test, last).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_list_is_walked_page_by_page() {
    let test = TestApp::start(&pack("starter")).await;
    let entity = |kind: &str, id: String| json!({ "uid": { "type": kind, "id": id } });
    let mut all: Vec<Value> = (0..25)
        .map(|number| entity("Team", format!("t{number:02}")))
        .collect();
    all.extend((0..3).map(|number| entity("PayeeList", format!("l{number}"))));
    assert_eq!(
        test.post("/v1/entities/bulk", json!(all)).await.status,
        StatusCode::OK
    );

    let mut path = "/v1/entities?type=Team&limit=10".to_owned();
    let mut walked = Vec::new();
    let mut cursors = Vec::new();
    loop {
        let page = test.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let body = page.json();
        walked.extend(
            body["entities"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["uid"]["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = body["next"].as_str() else {
            assert_eq!(page.header("link"), "");
            break;
        };
        cursors.push(next.to_owned());
        let link = page
            .header("link")
            .strip_prefix('<')
            .unwrap()
            .split_once('>')
            .unwrap();
        assert_eq!(link.1, "; rel=\"next\"");
        path = link.0.to_owned();
    }
    let expected: Vec<String> = (0..25).map(|number| format!("t{number:02}")).collect();
    assert_eq!((walked, cursors.len()), (expected, 2));

    let cursor = &cursors[0];
    let mut tampered = cursor.clone().into_bytes();
    tampered[5] ^= 1;
    let tampered = String::from_utf8(tampered).unwrap();
    for query in [
        format!("type=Team&cursor={tampered}"),
        format!("type=PayeeList&cursor={cursor}"),
        format!("cursor={cursor}"),
        "cursor=nonsense".to_owned(),
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "limit=ten".to_owned(),
        "kind=Team".to_owned(),
        "type=Team&type=Tool".to_owned(),
    ] {
        let refused = test.get(&format!("/v1/entities?{query}")).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{query}: {}",
            refused.text
        );
    }
}

/// What was checked against one state is written over no other; otherwise an entity and a schema that do not go
/// together could meet in the store, and no replica could load them.
#[tokio::test]
async fn a_checked_change_is_not_written_over_a_newer_state() {
    let test = TestApp::start(&pack("starter")).await;
    let head = test.store.heads().await.unwrap()[0].revision;
    let entity: Entity =
        serde_json::from_value(json!({ "uid": { "type": "Team", "id": "legal" } })).unwrap();
    let later = test
        .store
        .upsert_entities(test.tenant, std::slice::from_ref(&entity))
        .await
        .unwrap();
    let uid = EntityUid::new("Team", "legal");
    let refused = test
        .store
        .change_entities(
            test.tenant,
            Some(head),
            &[],
            std::slice::from_ref(&uid),
            Change::default(),
        )
        .await;
    assert!(
        matches!(refused, Err(Error::Moved { head }) if head == later),
        "{refused:?}"
    );
    assert!(
        test.store
            .entity(test.tenant, &uid)
            .await
            .unwrap()
            .is_some()
    );
    let done = test
        .store
        .change_entities(test.tenant, Some(later), &[], &[uid], Change::default())
        .await
        .unwrap();
    assert_eq!(done.removed, 1);
}

#[tokio::test]
async fn writers_at_once_all_get_through() {
    let test = TestApp::start(&pack("starter")).await;
    let (one, two, three) = (agent(), agent(), agent());
    let replies = tokio::join!(
        put(&test, "/v1/entities/Agent/w-1", &one),
        put(&test, "/v1/entities/Agent/w-2", &two),
        put(&test, "/v1/entities/Agent/w-3", &three),
    );
    for reply in [replies.0, replies.1, replies.2] {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
    assert_eq!(
        test.get("/v1/entities?type=Agent").await.json()["entities"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}
