//! Real sockets: what a client can do before there is a request, and when it goes away in the middle of one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remit_api::{Limits, Options};
use remit_tests::app::TestApp;
use remit_tests::bundles;
use remit_tests::raw;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const EVALUATION: &str = "/access/v1/evaluation";
const GOOD: &str = r#"{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}"#;

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
        head: Duration::from_secs(2),
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
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = many.concat();
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

/// An answer that is given at once, without a wait in between, is an end of its head like any other.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_head_ends_with_its_request() {
    let limits = Limits {
        head: Duration::from_secs(1),
        ..Limits::default()
    };
    let served = served(limits, Options::default()).await;
    let address = served.address;
    let statuses = tokio::task::spawn_blocking(move || {
        let mut socket = raw::connect(address);
        [0, 600, 600].map(|pause| {
            // Far from the idle deadline; the third request comes later than a head that began with the first may take.
            std::thread::sleep(Duration::from_millis(pause));
            let asked = socket.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
            asked.ok()?;
            Some(raw::read_one(&mut socket)?.status)
        })
    })
    .await
    .unwrap();
    assert_eq!(statuses, [Some(404); 3]);
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
        revision_wait: Duration::from_secs(3),
        ..Options::default()
    };
    let limits = Limits {
        grace: Duration::from_mins(2),
        ..Limits::default()
    };
    let mut served = served(limits, options).await;
    let lines = format!(
        "Host: x\r\nRemit-Revision: 1000\r\nContent-Length: {}\r\n",
        GOOD.len()
    );
    let request = format!("{}\r\n{GOOD}", served.head(&lines));
    let address = served.address;
    let waiting = tokio::task::spawn_blocking(move || exchange(address, request.as_bytes()));
    let deadline = Instant::now() + Duration::from_mins(1);
    // In flight as soon as it waits for its revision; a new connection afterwards finds nobody.
    tokio::time::sleep(Duration::from_secs(1)).await;
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
