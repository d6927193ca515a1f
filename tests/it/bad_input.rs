//! Input that is wrong on purpose: every kind gets a clear refusal, and the service goes on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use remit_api::{Limits, Options};
use remit_store::Scope;
use remit_tests::app::TestApp;
use remit_tests::bundles;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

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
            "line 1, column 108: the text ends too early",
        ),
        (
            &GOOD.replace("alice", "\\ud800"),
            "line 1, column 36: a string holds half of a surrogate pair",
        ),
        (
            &format!("{GOOD}{GOOD}"),
            "line 1, column 111: there is something after the end of the object",
        ),
        (
            &deep,
            "line 1, column 37: arrays and objects are nested more than 32 deep",
        ),
        (&wide, "line 1, column 20003: there are too many values"),
        (
            &twice("{\"subject\""),
            "line 1, column 2: a member name in double quotes is expected",
        ),
        (
            &twice("\"subject\":{"),
            "line 1, column 19: the member `x` appears twice in one object",
        ),
        (
            &twice("\"action\":{"),
            "line 1, column 58: the member `x` appears twice in one object",
        ),
        (
            &twice("\"resource\":{"),
            "line 1, column 87: the member `x` appears twice in one object",
        ),
        (
            &format!(
                "{{\"context\":{{\"a\":[{{\"b\":1,\"\\u0062\":2}}]}},{}",
                &GOOD[1..]
            ),
            "line 1, column 26: the member `b` appears twice in one object",
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
        app.post(EVALUATION, padded(1 << 20)).await.status,
        StatusCode::OK
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
    app.store.revoke_key(app.tenant, id).await.unwrap();
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
        "/nothing",
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
        revision_wait: Duration::from_secs(60),
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

// From here on real sockets: what a client can do before there is a request.

/// A server on a real socket, in this process.
struct Served {
    address: SocketAddr,
    app: TestApp,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served(limits: Limits, options: Options) -> Served {
    let mut app = TestApp::empty(options).await;
    app.put(&bundles::pack("authzen-certification")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = remit_api::router(Arc::clone(&app.app));
    let done = tokio::spawn(remit_api::serve(listener, router, limits, async {
        let _ = stopped.await;
    }));
    Served {
        address,
        app,
        stop: Some(stop),
        done,
    }
}

impl Served {
    /// Sends bytes on a connection of their own and returns everything that comes back until it is closed.
    async fn raw(&self, bytes: impl Into<Vec<u8>>) -> String {
        let (address, bytes) = (self.address, bytes.into());
        tokio::task::spawn_blocking(move || exchange(address, &bytes))
            .await
            .unwrap()
    }

    fn head(&self, lines: &str) -> String {
        format!(
            "POST {EVALUATION} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{lines}",
            self.app.key
        )
    }
}

fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may have closed already, which is an answer as well.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn quick() -> Limits {
    Limits {
        head: Duration::from_millis(400),
        idle: Duration::from_millis(400),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_exactly_one_host_and_one_framing() {
    let served = served(quick(), Options::default()).await;
    let length = GOOD.len();
    let chunked = format!("{length:x}\r\n{GOOD}\r\n0\r\n\r\n");
    let body = |lines: &str, body: &str| format!("{}\r\n{body}", served.head(lines));
    for (request, status) in [
        (
            body(&format!("Host: x\r\nContent-Length: {length}\r\n"), GOOD),
            "200",
        ),
        (
            body("Host: x:80\r\nTransfer-Encoding: chunked\r\n", &chunked),
            "200",
        ),
        (body(&format!("Content-Length: {length}\r\n"), GOOD), "400"),
        (
            body(
                &format!("Host: x\r\nHost: x\r\nContent-Length: {length}\r\n"),
                GOOD,
            ),
            "400",
        ),
        (
            body(&format!("Host: a b\r\nContent-Length: {length}\r\n"), GOOD),
            "400",
        ),
        (
            body(&format!("Host: u@x\r\nContent-Length: {length}\r\n"), GOOD),
            "400",
        ),
        (
            body(&format!("Host:\r\nContent-Length: {length}\r\n"), GOOD),
            "400",
        ),
        (
            body(
                &format!("Host: x\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                &chunked,
            ),
            "400",
        ),
        (
            body(
                &format!("Host: x\r\nTransfer-Encoding: chunked\r\ncontent-length: {length}\r\n"),
                &chunked,
            ),
            "400",
        ),
        (
            body(
                &format!("Host: x\r\nContent-Length: {length}\r\nContent-Length: 5\r\n"),
                GOOD,
            ),
            "400",
        ),
        (body("Host: x\r\nContent-Length: +5\r\n", GOOD), "400"),
        (
            body(
                "Host: x\r\nTransfer-Encoding: chunked, identity\r\n",
                &chunked,
            ),
            "400",
        ),
        (body("Host: x\r\nTransfer-Encoding: gzip\r\n", GOOD), "400"),
        (
            body(&format!("Host: x\r\nContent-Length : {length}\r\n"), GOOD),
            "400",
        ),
        (
            body(
                &format!("Host: x\r\nX: a\r\n b\r\nContent-Length: {length}\r\n"),
                GOOD,
            ),
            "400",
        ),
    ] {
        let answer = served.raw(request.clone()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}\n{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_framings_are_seen_when_they_come_byte_by_byte() {
    let served = served(Limits::default(), Options::default()).await;
    let request = format!(
        "{}\r\n{:x}\r\n{GOOD}\r\n0\r\n\r\n",
        served.head("Host: x\r\nConTent-LENGTH: 5\r\nTransfer-Encoding: chunked\r\n"),
        GOOD.len()
    );
    let address = served.address;
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        for byte in request.as_bytes() {
            if socket.write_all(&[*byte]).is_err() {
                break;
            }
        }
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer
    })
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("must not be sent together"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_limits() {
    let served = served(quick(), Options::default()).await;
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = served
        .raw(format!(
            "{}\r\n",
            served.head(&format!("Host: x\r\n{many}"))
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let large = format!("X: {}\r\n", "x".repeat(20_000));
    let answer = served
        .raw(format!(
            "{}\r\n",
            served.head(&format!("Host: x\r\n{large}"))
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // A head that never ends is cut off before it is buffered without end.
    let answer = served
        .raw(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(100_000)))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_cut_off() {
    let options = Options {
        body_deadline: Duration::from_millis(400),
        ..Options::default()
    };
    let served = served(quick(), options).await;
    for (what, bytes, answer) in [
        ("nothing at all", String::new(), ""),
        ("half a head", "POST / HTTP/1.1\r\nHost:".to_owned(), ""),
        (
            "half a body",
            format!(
                "{}\r\n{{\"a\"",
                served.head("Host: x\r\nContent-Length: 100\r\n")
            ),
            "HTTP/1.1 408 ",
        ),
        (
            "no more after an answer",
            "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "HTTP/1.1 404 ",
        ),
    ] {
        let began = Instant::now();
        let came = served.raw(bytes).await;
        assert!(
            came.starts_with(answer) && (came.is_empty() == answer.is_empty()),
            "{what}: {came}"
        );
        assert!(
            began.elapsed() > Duration::from_millis(300),
            "{what}: cut off too early"
        );
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{what}: not cut off"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trickling_bytes_do_not_extend_the_deadline() {
    let served = served(quick(), Options::default()).await;
    let address = served.address;
    let took = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        let began = Instant::now();
        socket.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
        while began.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(50));
            if socket.write_all(b"x").is_err() {
                break;
            }
        }
        began.elapsed()
    })
    .await
    .unwrap();
    assert!(
        took < Duration::from_secs(10),
        "a byte every 50 ms kept the connection for {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_hold_up_others() {
    let served = served(Limits::default(), Options::default()).await;
    let address = served.address;
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(b"POST / HTTP/1.1\r\nHost:").unwrap();
            socket
        })
        .collect();
    let lines = format!(
        "Host: x\r\nConnection: close\r\nContent-Length: {}\r\n",
        GOOD.len()
    );
    let answer = served
        .raw(format!("{}\r\n{GOOD}", served.head(&lines)))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_before_the_service_stops() {
    let options = Options {
        revision_wait: Duration::from_millis(500),
        ..Options::default()
    };
    let mut served = served(Limits::default(), options).await;
    let lines = format!(
        "Host: x\r\nRemit-Revision: 1000\r\nContent-Length: {}\r\n",
        GOOD.len()
    );
    let request = format!("{}\r\n{GOOD}", served.head(&lines));
    let address = served.address;
    let waiting = tokio::task::spawn_blocking(move || exchange(address, request.as_bytes()));
    let deadline = Instant::now() + Duration::from_secs(10);
    // In flight as soon as it waits for its revision; a new connection afterwards finds nobody.
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.take().unwrap().send(()).unwrap();
    let answer = waiting.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    served.done.await.unwrap().unwrap();
    assert!(Instant::now() < deadline);
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_split_a_decision() {
    let served = served(Limits::default(), Options::default()).await;
    let lines = format!("Host: x\r\nContent-Length: {}\r\n", GOOD.len());
    let request = format!("{}\r\n{GOOD}", served.head(&lines));
    let address = served.address;
    let count = 200;
    tokio::task::spawn_blocking(move || {
        for n in 0..count {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            // Some go at once, some in the middle, some after the answer.
            std::thread::sleep(Duration::from_micros(n * 7 % 1_500));
            drop(socket);
        }
    })
    .await
    .unwrap();
    let lines = format!(
        "Host: x\r\nConnection: close\r\nContent-Length: {}\r\n",
        GOOD.len()
    );
    let answer = served
        .raw(format!("{}\r\n{GOOD}", served.head(&lines)))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // What was counted as decided is what was recorded, no more and no less.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = served.app.operations("/metrics").await.text;
        let counted = sample(
            &metrics,
            r#"remit_decisions_total{decision="allow",reason="policy_permit",mode="enforce"}"#,
        );
        let recorded = served.app.log.status().sequence;
        if counted == Some(recorded) {
            println!(
                "{recorded} of {} requests were decided, counted and recorded",
                count + 1
            );
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{counted:?} counted, {recorded} recorded"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sample(metrics: &str, series: &str) -> Option<u64> {
    let line = metrics.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
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
