//! Where a revision is in force: asked, and waited for with a change.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::Options;
use remit_core::{Bundle, ReplicaId, Revision};
use remit_store::{Applied, Replica};
use remit_tests::app::{Reply, TestApp};
use serde_json::{Value, json};

/// How long a test leaves between two looks.
const BREATH: Duration = Duration::from_millis(10);

/// Agents that may call while they are active.
pub(crate) fn bundle() -> Bundle {
    serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity Agent = { status?: String };\nentity Tool;\n\
                action call appliesTo { principal: [Agent], resource: [Tool] };\n",
        }],
        "policies": [{
            "file": "agents.cedar",
            "text": "@id(\"active\")\npermit (principal is Agent, action, resource is Tool)\n\
                when { principal has status && principal.status == \"active\" };\n",
        }],
    }))
    .unwrap()
}

async fn start(deadline: Duration) -> TestApp {
    let mut app = TestApp::empty(Options {
        deadline,
        replica: "here".to_owned(),
        ..Options::default()
    })
    .await;
    app.put(&bundle()).await;
    app
}

async fn patient() -> TestApp {
    start(Duration::from_secs(30)).await
}

/// A short deadline, so that a wait for what never comes is over soon: after two thirds of it.
async fn impatient() -> TestApp {
    start(Duration::from_secs(6)).await
}

fn other(app: &TestApp) -> Replica {
    Replica {
        id: ReplicaId::from_uuid(app.clock.id()),
        name: "there".to_owned(),
        version: "0.0.9".to_owned(),
        lease: Duration::from_secs(5),
    }
}

/// Says that another replica has a revision in force.
async fn tell(app: &TestApp, replica: &Replica, revision: u64, failure: Option<&str>) {
    let applied = Applied {
        tenant: app.tenant,
        revision: Revision::new(revision),
        failure: failure.map(str::to_owned),
    };
    app.store.heartbeat(replica, &[applied]).await.unwrap();
}

/// Asks until every live replica has the revision; this one tells of itself in the background.
async fn reached(app: &TestApp, revision: u64) -> Reply {
    app.get(&format!("/v1/revisions/{revision}?wait=1000"))
        .await
}

async fn head(app: &TestApp) -> u64 {
    let heads = app.store.heads().await.unwrap();
    heads[0].revision.number()
}

fn states(body: &Value) -> Vec<(&str, &str)> {
    let replicas = body["replicas"].as_array().unwrap();
    replicas
        .iter()
        .map(|replica| {
            (
                replica["name"].as_str().unwrap(),
                replica["state"].as_str().unwrap(),
            )
        })
        .collect()
}

async fn put(app: &TestApp, query: &str) -> Reply {
    let request = app.request(
        Method::PUT,
        &format!("/v1/entities/Agent/courier-bot{query}"),
    );
    app.send(request, json!({})).await
}

#[tokio::test]
async fn a_revision_tells_which_replicas_have_it() {
    let app = patient().await;
    let newest = head(&app).await;
    let reply = reached(&app, newest).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.header("remit-revision"), newest.to_string());
    let body = reply.json();
    assert_eq!(body["reached"], json!(true));
    assert_eq!(body["head"], json!(newest));
    assert_eq!(states(&body), [("here", "reached")]);
    assert_eq!(
        body["replicas"][0]["id"],
        json!(app.log.replica()),
        "the id under which it records"
    );
    assert_eq!(body["replicas"][0]["revision"], json!(newest));

    // Another that is behind, fails, arrives.
    let there = other(&app);
    tell(&app, &there, newest - 1, None).await;
    let body = app.get(&format!("/v1/revisions/{newest}")).await.json();
    assert_eq!(body["reached"], json!(false));
    assert_eq!(states(&body), [("here", "reached"), ("there", "behind")]);
    let older = app
        .get(&format!("/v1/revisions/{}", newest - 1))
        .await
        .json();
    assert_eq!(older["reached"], json!(true), "{older}");
    tell(&app, &there, newest - 1, Some("no such attribute")).await;
    let body = app.get(&format!("/v1/revisions/{newest}")).await.json();
    assert_eq!(states(&body)[1], ("there", "failed"));
    assert_eq!(body["replicas"][1]["failure"], json!("no such attribute"));
    tell(&app, &there, newest, None).await;
    let body = reached(&app, newest).await.json();
    assert_eq!(states(&body), [("here", "reached"), ("there", "reached")]);

    // Nothing is known of what is not there yet.
    let absent = app.get(&format!("/v1/revisions/{}", newest + 1)).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert!(absent.text.contains(&format!("the newest is {newest}")));
    let huge = app.get(&format!("/v1/revisions/{}", u64::MAX)).await;
    assert_eq!(huge.status, StatusCode::NOT_FOUND);
    assert_eq!(
        app.get("/v1/revisions/0").await.json()["reached"],
        json!(true)
    );
    for wrong in [
        "/v1/revisions/-1",
        "/v1/revisions/x",
        "/v1/revisions/18446744073709551616",
        "/v1/revisions/0?wait=10001",
        "/v1/revisions/0?wait=-1",
        "/v1/revisions/0?wait=fleet",
        "/v1/revisions/0?weight=1",
    ] {
        let reply = app.get(wrong).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_question_waits_no_longer_than_it_says() {
    let app = impatient().await;
    let newest = head(&app).await;
    tell(&app, &other(&app), 0, None).await;
    let path = format!("/v1/revisions/{newest}?wait=300");
    let began = Instant::now();
    let body = app.get(&path).await.json();
    let took = began.elapsed();
    assert_eq!(body["reached"], json!(false));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_millis(3_500), "{took:?}");
    // Longer than its deadline allows: an answer all the same.
    let late = app.get(&format!("/v1/revisions/{newest}?wait=10000")).await;
    assert_eq!(late.status, StatusCode::OK);
}

#[tokio::test]
async fn a_replica_that_is_lost_is_named_and_not_waited_for() {
    let app = patient().await;
    let newest = head(&app).await;
    tell(&app, &other(&app), newest - 1, None).await;
    app.clock.advance(Duration::from_secs(6));
    // This one is seen again at its next beat, and the other is not. Until then it may be lost as well, and nobody is waited for.
    let deadline = Instant::now() + Duration::from_mins(2);
    let body = loop {
        let body = reached(&app, newest).await.json();
        if states(&body) == [("here", "reached"), ("there", "lost")] {
            break body;
        }
        assert!(Instant::now() < deadline, "{body:#}");
        tokio::time::sleep(BREATH).await;
    };
    assert_eq!(body["reached"], json!(true));
    // On a machine that stands still for a while this replica may be late as well; the lost one would be for ever. An answer that
    // comes at once lets nothing else have its turn, such as what makes it not late any more.
    let done = loop {
        let done = put(&app, "?wait=fleet").await;
        let late = [StatusCode::GATEWAY_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE];
        if !late.contains(&done.status) || Instant::now() > deadline {
            break done;
        }
        tokio::time::sleep(BREATH).await;
    };
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(states(&done.json()["fleet"])[1], ("there", "lost"));
}

/// What it read after it was last seen lets it permit a little longer than what it had read by then.
#[tokio::test]
async fn a_replica_is_not_lost_while_it_may_permit() {
    let app = patient().await;
    let fleet = app.store.fleet(app.tenant).await.unwrap();
    let here = fleet
        .replicas
        .iter()
        .find(|seen| seen.replica.name == "here");
    let lease = here.unwrap().replica.lease;
    let beat = Duration::from_secs(1);
    assert!(
        lease >= Options::default().max_staleness + beat,
        "{lease:?} ends before a permit that was confirmed after the last beat"
    );
}

#[tokio::test]
async fn a_change_waits_for_the_fleet_where_that_is_asked_for() {
    let app = impatient().await;
    let plain = put(&app, "").await;
    assert_eq!(plain.json().get("fleet"), None, "nobody asked");
    let done = put(&app, "?wait=fleet").await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let body = done.json();
    assert_eq!(body["fleet"]["reached"], json!(true));
    assert_eq!(body["fleet"]["revision"], body["revision"]);
    assert_eq!(states(&body["fleet"]), [("here", "reached")]);
    for path in [
        "/v1/entities/Agent/courier-bot?wait=all",
        "/v1/entities/Agent/courier-bot?wait=fleet&wait=fleet",
        "/v1/entities/Agent/courier-bot?await=fleet",
    ] {
        let refused = app.send(app.request(Method::PUT, path), json!({})).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{path}");
    }

    let there = other(&app);
    tell(&app, &there, 0, None).await;
    let before = head(&app).await;
    let began = Instant::now();
    let late = put(&app, "?wait=fleet").await;
    assert!(began.elapsed() >= Duration::from_millis(3_900));
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
    let body = late.json();
    assert_eq!(body["code"], json!("fleet-not-reached"));
    assert_eq!(body["revision"], json!(before + 1));
    assert_eq!(late.header("remit-revision"), (before + 1).to_string());
    assert_eq!(late.header("retry-after"), "", "it is done already");
    let missing = body["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0]["name"], json!("there"));
    assert_eq!(missing[0]["state"], json!("behind"));
    assert_eq!(head(&app).await, before + 1, "committed all the same");
    assert_eq!(
        app.get("/v1/entities/Agent/courier-bot").await.status,
        StatusCode::OK
    );

    // A change that names itself waits once, and says the same when it comes again.
    let bundle = app.get("/v1/bundle").await;
    for _ in 0..2 {
        let request = app
            .request(Method::PUT, "/v1/bundle?wait=fleet")
            .header("if-match", bundle.header("etag"))
            .header("idempotency-key", "once");
        // Had it waited twice, the deadline of the request would have come first, and told of no revision.
        let late = app.send(request, bundle.text.clone()).await;
        assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT, "{}", late.text);
        assert_eq!(late.json()["revision"], json!(before + 2));
    }
    assert_eq!(head(&app).await, before + 2, "it is made once");
}

/// What cannot be loaded is told with its cause, and told no more when it has been mended.
#[tokio::test]
async fn a_replica_that_cannot_load_says_why() {
    let app = patient().await;
    let agent = |status: Value| -> remit_core::Entity {
        let uid = json!({ "type": "Agent", "id": "courier-bot" });
        serde_json::from_value(json!({ "uid": uid, "attrs": { "status": status } })).unwrap()
    };
    // The store takes what the API would refuse, as an older version or a person with SQL might write it.
    let write = async |status: Value| {
        let written = app
            .store
            .upsert_entities(app.tenant, &[agent(status)])
            .await;
        written.unwrap().number()
    };
    let bad = write(json!(7)).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let body = loop {
        let body = app
            .get(&format!("/v1/revisions/{bad}?wait=50"))
            .await
            .json();
        if states(&body) == [("here", "failed")] {
            break body;
        }
        assert!(Instant::now() < deadline, "{body:#}");
    };
    assert_eq!(body["reached"], json!(false));
    assert_eq!(body["replicas"][0]["revision"], json!(bad - 1));
    let failure = body["replicas"][0]["failure"].as_str().unwrap();
    assert!(failure.contains("courier-bot"), "{failure}");
    let before = app.get(&format!("/v1/revisions/{}", bad - 1)).await.json();
    assert_eq!(states(&before), [("here", "reached")], "it has that one");

    let mended = write(json!("active")).await;
    let body = app
        .get(&format!("/v1/revisions/{mended}?wait=10000"))
        .await
        .json();
    assert_eq!(states(&body), [("here", "reached")]);
    assert_eq!(body["replicas"][0].get("failure"), None, "{body:#}");
}

/// Every change that takes `wait` obeys it.
#[tokio::test]
async fn every_change_that_can_wait_does() {
    let app = patient().await;
    let key = app.new_key(&[remit_store::Scope::Read], "dev", None).await;
    let key: remit_core::KeyId = key.split('_').nth(2).unwrap().parse().unwrap();
    let etag = app.get("/v1/bundle").await.header("etag").to_owned();
    put(&app, "").await;
    let there = other(&app);
    tell(&app, &there, 0, None).await;
    let bundle = serde_json::to_value(bundle()).unwrap();
    let bulk = json!([{ "uid": { "type": "Agent", "id": "courier-bot" } }]);
    for (method, path, condition, body, status) in [
        (Method::PUT, "/v1/bundle", Some(etag), bundle, 200),
        (Method::POST, "/v1/entities/bulk", None, bulk, 200),
        (
            Method::DELETE,
            "/v1/entities/Agent/courier-bot",
            None,
            Value::Null,
            200,
        ),
        (
            Method::DELETE,
            &format!("/v1/keys/{key}"),
            None,
            Value::Null,
            204,
        ),
    ] {
        let mut request = app.request(method.clone(), &format!("{path}?wait=fleet"));
        if let Some(etag) = condition {
            request = request.header("if-match", etag);
        }
        let next = head(&app).await + 1;
        let waiting = app.send(
            request,
            if body.is_null() {
                String::new()
            } else {
                body.to_string()
            },
        );
        let arriving = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tell(&app, &there, next, None).await;
        };
        let (reply, ()) = tokio::join!(waiting, arriving);
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{method} {path}: {}",
            reply.text
        );
        assert_eq!(reply.header("remit-revision"), next.to_string(), "{path}");
        if status == 200 {
            assert_eq!(
                states(&reply.json()["fleet"]),
                [("here", "reached"), ("there", "reached")]
            );
        }
    }
}

/// A replica whose sync stops takes its leave; nobody waits for it.
#[tokio::test]
async fn a_replica_that_stops_takes_its_leave() {
    let mut app = patient().await;
    let newest = head(&app).await;
    assert_eq!(reached(&app, newest).await.json()["reached"], json!(true));
    app.pause().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let body = app.get(&format!("/v1/revisions/{newest}")).await.json();
        if body["replicas"] == json!([]) {
            assert_eq!(
                body["reached"],
                json!(false),
                "nobody is there who could have it"
            );
            break;
        }
        assert!(Instant::now() < deadline, "{body:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
