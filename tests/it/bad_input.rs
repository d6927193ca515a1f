//! Input that is wrong on purpose: every kind gets a clear refusal, and the service goes on.

use std::time::Duration;

use http::{Method, StatusCode};
use remit_api::Options;
use remit_store::{Change, Scope};
use remit_tests::app::TestApp;
use remit_tests::bundles;
use serde_json::{Value, json};

const EVALUATION: &str = "/access/v1/evaluation";
const GOOD: &str = r#"{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}"#;

async fn app() -> TestApp {
    TestApp::start(&bundles::pack("authzen-certification")).await
}

#[tokio::test]
async fn a_bad_body_is_a_400_that_names_the_place() {
    let app = app().await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(20_000));
    let twice = |outer: &str| GOOD.replace(outer, &format!("{outer}\"x\":1,\"x\":2,"));
    for (body, message) in [
        (
            "",
            "line 1, column 1: the body is empty; a JSON object is expected",
        ),
        ("null", "line 1, column 1: the body must be a JSON object"),
        ("[]", "line 1, column 1: the body must be a JSON object"),
        (
            GOOD.trim_end_matches('}'),
            "line 1, column 109: the text ends too early",
        ),
        (
            &GOOD.replace("alice", "\\ud800"),
            "line 1, column 33: a string holds half of a surrogate pair",
        ),
        (
            &format!("{GOOD}{GOOD}"),
            "line 1, column 111: there is something after the end of the value",
        ),
        (
            &deep,
            "line 1, column 37: arrays and objects are nested more than 32 deep",
        ),
        (&wide, "line 1, column 20003: there are too many values"),
        (
            &format!("{{\"x\":1,\"x\":2,{}", &GOOD[1..]),
            "line 1, column 8: the member `x` appears twice in one object",
        ),
        (
            &twice("\"subject\":{"),
            "line 1, column 19: the member `x` appears twice in one object",
        ),
        (
            &twice("\"action\":{"),
            "line 1, column 57: the member `x` appears twice in one object",
        ),
        (
            &twice("\"resource\":{"),
            "line 1, column 84: the member `x` appears twice in one object",
        ),
        (
            &format!(
                "{{\"context\":{{\"a\":[{{\"b\":1,\"\\u0062\":2}}]}},{}",
                &GOOD[1..]
            ),
            "line 1, column 25: the member `b` appears twice in one object",
        ),
        (
            &format!("{{\"subject\":{{}},{}", &GOOD[1..]),
            "line 1, column 15: the member `subject` appears twice in one object",
        ),
        (
            r#"{"subject":"alice","action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}"#,
            "`subject` must be an object, not a string",
        ),
        (
            &GOOD.replace("\"alice\"", "5"),
            "`subject.id` must be a string, not a number",
        ),
        (
            &GOOD.replace("\"alice\"", "null"),
            "`subject.id` must be a string, not null",
        ),
        (
            &GOOD.replace("\"alice\"", "true"),
            "`subject.id` must be a string, not a boolean",
        ),
        (
            &GOOD.replace("\"alice\"", "[1]"),
            "`subject.id` must be a string, not an array",
        ),
        (
            r#"{"subject":["user","alice"],"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}"#,
            "`subject` must be an object, not an array",
        ),
        (
            r#"{"subject":{"type":"user","id":"alice"},"action":["read"],"resource":{"type":"record","id":"record-1"}}"#,
            "`action` must be an object, not an array",
        ),
        (
            &GOOD.replace("\"alice\"", "\"\""),
            "`subject.id` must not be empty",
        ),
        (
            &GOOD.replace("alice", "\\u0000"),
            "`subject.id` must not contain a NUL character",
        ),
        (
            &GOOD.replace("alice", &"a".repeat(1_025)),
            "`subject.id` is longer than 1024 bytes",
        ),
        (
            &GOOD.replace("\"name\":\"read\"", "\"nome\":\"read\""),
            "`action.name` is missing",
        ),
        (
            &GOOD.replace("\"name\":\"read\"", "\"name\":\"read\",\"properties\":3"),
            "`action.properties` must be an object, not a number",
        ),
        (
            &GOOD.replace("\"subject\"", "\"context\":\"x\",\"subject\""),
            "`context` must be an object, not a string",
        ),
        (
            &GOOD.replace("\"subject\"", "\"context\":{\"facts\":{}},\"subject\""),
            "`context.facts` is supplied by Remit and must not be sent",
        ),
        (
            &GOOD.replace(
                "\"subject\"",
                "\"context\":{\"n\":9007199254740993},\"subject\"",
            ),
            "line 1, column 17: this number is too large to be exact (beyond 2^53 - 1); send it as a string",
        ),
    ] {
        let reply = app.post(EVALUATION, body).await;
        let shown: String = body.chars().take(160).collect();
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{shown}: {}",
            reply.text
        );
        assert_eq!(reply.json(), json!(message), "{shown}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("x-decision-id"), "");
    }
    assert_eq!(app.log.status().sequence, 0, "nothing of that was recorded");
}

#[tokio::test]
async fn a_body_is_at_most_a_mebibyte_of_json() {
    let app = app().await;
    let padded = |length: usize| {
        let body = GOOD.replace("\"subject\"", "\"context\":{\"pad\":\"\"},\"subject\"");
        let pad = "x".repeat(length - body.len());
        body.replace("\"pad\":\"\"", &format!("\"pad\":\"{pad}\""))
    };
    assert_eq!(
        app.post(EVALUATION, padded(1_000_000)).await.status,
        StatusCode::OK
    );
    // It may be sent, but with everything that is recorded around it the record would be too large.
    let reply = app.post(EVALUATION, padded(1 << 20)).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        reply.text.contains("than the decision log records at once"),
        "{}",
        reply.text
    );
    let reply = app.post(EVALUATION, padded((1 << 20) + 1)).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reply.json(), json!("the body is larger than 1048576 bytes"));

    for media in [
        "text/plain",
        "application/jsonx",
        "application/json; charset=latin1",
        "",
    ] {
        let request = http::Request::post(EVALUATION)
            .header("authorization", format!("Bearer {}", app.key))
            .header("content-type", media);
        let reply = app.send(request, GOOD).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{media}");
    }
    for media in [
        "application/json; charset=UTF-8",
        "Application/JSON;charset=\"utf-8\"",
    ] {
        let request = http::Request::post(EVALUATION)
            .header("authorization", format!("Bearer {}", app.key))
            .header("content-type", media);
        assert_eq!(
            app.send(request, GOOD).await.status,
            StatusCode::OK,
            "{media}"
        );
    }
}

#[tokio::test]
async fn errors_are_problem_json_where_that_is_asked_for() {
    let app = app().await;
    let request = app
        .request(Method::POST, EVALUATION)
        .header("accept", "application/problem+json")
        .header("x-request-id", "r-1");
    let reply = app.send(request, "{}").await;
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(
        reply.json(),
        json!({
            "type": "urn:remit:problem:invalid-request",
            "code": "invalid-request",
            "title": "the request is not valid",
            "status": 400,
            "detail": "`subject` is missing",
            "request_id": "r-1",
        })
    );
}

#[tokio::test]
async fn a_key_that_does_not_work_does_not_say_why() {
    let app = app().await;
    let end = "2026-01-05T10:00:01Z".parse().unwrap();
    let expired = app.new_key(Scope::ALL, "dev", Some(end)).await;
    let revoked = app.new_key(Scope::ALL, "dev", None).await;
    let id = remit_store::ApiKey::parse(&revoked).unwrap().id();
    app.store
        .revoke_key(app.tenant, id, None, Change::default())
        .await
        .unwrap();
    app.caught_up().await;
    app.clock.advance(Duration::from_secs(1));
    let secret_changed = {
        let good = remit_store::ApiKey::parse(&app.key).unwrap();
        remit_store::ApiKey::from_secret("dev", good.id(), [1; 32])
            .unwrap()
            .reveal()
    };
    let unknown =
        remit_store::ApiKey::generate("dev", remit_core::KeyId::from_uuid(app.clock.id()))
            .unwrap()
            .reveal();
    let other_environment = app.key.replacen("remit_dev_", "remit_live_", 1);
    let refused = json!("the API key is not valid here: it may be mistyped, expired or revoked");
    for key in [
        &expired,
        &revoked,
        &secret_changed,
        &unknown,
        &other_environment,
        "nonsense",
        &format!("{}x", app.key),
    ] {
        let request = http::Request::post(EVALUATION)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"));
        let reply = app.send(request, GOOD).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.json(), refused);
        assert_eq!(
            reply.header("www-authenticate"),
            r#"Bearer realm="remit", error="invalid_token""#
        );
    }
    for (header, challenge) in [
        (None, r#"Bearer realm="remit""#),
        (Some(""), r#"Bearer realm="remit", error="invalid_request""#),
        (
            Some("Bearer"),
            r#"Bearer realm="remit", error="invalid_request""#,
        ),
        (
            Some("Bearer "),
            r#"Bearer realm="remit", error="invalid_request""#,
        ),
        (
            Some("Basic YTpi"),
            r#"Bearer realm="remit", error="invalid_request""#,
        ),
    ] {
        let mut request =
            http::Request::post(EVALUATION).header("content-type", "application/json");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let reply = app.send(request, GOOD).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{header:?}");
        assert_eq!(reply.header("www-authenticate"), challenge, "{header:?}");
    }
    assert_eq!(app.log.status().sequence, 0, "nothing of that was decided");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let app = app().await;
    let searcher = app.new_key(&[Scope::Search], "live", None).await;
    let request = http::Request::post(EVALUATION)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {searcher}"));
    let reply = app.send(request, GOOD).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(
        reply.json(),
        json!("this needs an API key with the scope `evaluate`")
    );
    assert_eq!(
        reply.header("www-authenticate"),
        r#"Bearer realm="remit", error="insufficient_scope""#
    );
}

#[tokio::test]
async fn identity_comes_from_the_key_alone() {
    let app = app().await;
    let mut request = app.request(Method::POST, EVALUATION);
    for name in [
        "x-forwarded-user",
        "x-tenant-id",
        "x-remit-tenant",
        "x-forwarded-for",
        "forwarded",
        "x-original-url",
    ] {
        request = request.header(name, "other");
    }
    assert_eq!(app.send(request, GOOD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn request_ids_are_echoed_or_refused() {
    let app = app().await;
    for id in ["a", "with spaces and \"quotes\"", &"x".repeat(128)] {
        let request = app
            .request(Method::POST, EVALUATION)
            .header("x-request-id", id);
        assert_eq!(app.send(request, GOOD).await.header("x-request-id"), id);
        let request = app
            .request(Method::POST, EVALUATION)
            .header("x-request-id", id);
        let reply = app.send(request, "{").await;
        assert_eq!(
            (reply.status, reply.header("x-request-id")),
            (StatusCode::BAD_REQUEST, id)
        );
        // Also where there is no handler.
        let request = app
            .request(Method::POST, "/nothing")
            .header("x-request-id", id);
        assert_eq!(app.send(request, "").await.header("x-request-id"), id);
    }
    for id in ["", &"x".repeat(129), "tab\there", "\u{e9}"] {
        let request = app
            .request(Method::POST, EVALUATION)
            .header("x-request-id", id);
        let reply = app.send(request, GOOD).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{id:?}");
        assert_ne!(reply.header("x-request-id"), "");
    }
}

#[tokio::test]
async fn a_path_matches_exactly_or_not_at_all() {
    let app = app().await;
    for path in [
        "/access/v1/evaluation/",
        "//access/v1/evaluation",
        "/access//v1/evaluation",
        "/access/v1/./evaluation",
        "/access/v1/x/../evaluation",
        "/access/v1/%65valuation",
        "/access/v1/evaluation%2f",
        "/access/v1/evaluation%00",
        "/access/v1/evaluation;x=1",
        "/Access/v1/evaluation",
        "/access/v1/Evaluation",
        "/access/v2/evaluation",
    ] {
        let reply = app.post(path, GOOD).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        // The right shape even for nobody.
        let reply = app.send(http::Request::get(path), "").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
        assert!(
            reply.text.contains("there is nothing here"),
            "{}",
            reply.text
        );
    }
    for method in [
        Method::GET,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ] {
        let reply = app
            .send(app.request(method.clone(), EVALUATION), GOOD)
            .await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(reply.header("allow"), "POST");
        assert_eq!(reply.json(), json!("this path does not take that method"));
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let app = TestApp::empty(Options {
        concurrency: 0,
        ..Options::default()
    })
    .await;
    let reply = app.post(EVALUATION, GOOD).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text.contains("too many requests at once"));
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn a_request_has_a_deadline() {
    let options = Options {
        deadline: Duration::from_millis(100),
        revision_wait: Duration::from_mins(1),
        ..Options::default()
    };
    let app = TestApp::empty(options).await;
    let request = app
        .request(Method::POST, EVALUATION)
        .header("remit-revision", "1000");
    let reply = app.send(request, GOOD).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text.contains("took too long"), "{}", reply.text);
}

#[tokio::test]
async fn nothing_in_a_log_line_can_be_forged() {
    // The path never reaches the log and a request id cannot hold a line break; what can be sent is echoed whole.
    let app = app().await;
    let forged = r#"x","level":"ERROR","y":"z"#;
    let request = app
        .request(Method::POST, EVALUATION)
        .header("x-request-id", forged);
    let reply = app.send(request, "{}").await;
    assert_eq!(reply.header("x-request-id"), forged);
    let body: Value = reply.json();
    assert_eq!(body, json!("`subject` is missing"));
}
