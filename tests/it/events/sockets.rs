//! Streams over real sockets: longer than any deadline, ended by a stop, and taken from who does not read.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use remit_api::{Limits, Options};
use remit_tests::app::TestApp;
use remit_tests::app::stream::Stream;
use remit_tests::bundles::pack;
use remit_tests::raw;
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{EVENTS, PATIENCE, are_reading, ids, write};

/// A server on a real socket, in this process.
struct Served {
    address: SocketAddr,
    test: TestApp,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<std::io::Result<()>>,
}

// === impl Served ===

impl Served {
    async fn start(limits: Limits, options: Options) -> Self {
        let mut test = TestApp::empty(options).await;
        test.put(&pack("starter")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = remit_api::router(Arc::clone(&test.app));
        let done = tokio::spawn(remit_api::serve(listener, router, limits, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            test,
            stop,
            done,
        }
    }

    async fn open(&self) -> Stream {
        let url = format!("http://{}{EVENTS}", self.address);
        Stream::connect(&url, &self.test.key).await
    }
}

/// Neither the deadline of a request nor one of a connection is for a stream.
#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_every_deadline() {
    let short = Duration::from_secs(2);
    let limits = Limits {
        head: short,
        idle: short,
        write: short,
        ..Limits::default()
    };
    let options = Options {
        deadline: Duration::from_secs(3),
        ..Options::default()
    };
    let served = Served::start(limits, options).await;
    let mut stream = served.open().await;
    stream.is_quiet(Duration::from_secs(4)).await;
    write(&served.test, &[(100, 0)], &json!({})).await;
    assert_eq!(ids(&mut stream, 1).await, ["100.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_streams() {
    let grace = Duration::from_mins(2);
    let limits = Limits {
        grace,
        ..Limits::default()
    };
    let served = Served::start(limits, Options::default()).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(served.open().await);
    }
    are_reading(&served.test, "16").await;
    let began = Instant::now();
    served.test.app.retire();
    served.stop.send(()).unwrap();
    served.done.await.unwrap().unwrap();
    let took = began.elapsed();
    for stream in &mut streams {
        assert_eq!(stream.next(PATIENCE).await, None);
    }
    println!("stop with 16 streams: {took:?}");
    assert!(took < grace / 2, "{took:?}");
}

/// What a reader does not take is kept for it in the database, not here.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_nobody_up_and_is_let_go() {
    let served = Served::start(Limits::default(), Options::default()).await;
    let mut quick = served.open().await;
    let (address, key) = (served.address, served.test.key.clone());
    let mut slow = tokio::task::spawn_blocking(move || {
        let mut socket = raw::connect(address);
        let request =
            format!("GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        socket
    })
    .await
    .unwrap();
    are_reading(&served.test, "2").await;
    // More than the buffers of a connection take.
    let body = json!({ "text": "x".repeat(16_000) });
    let events: Vec<(u64, u64)> = (100..1_100).map(|at| (at, 0)).collect();
    let writing = async {
        for some in events.chunks(100) {
            write(&served.test, some, &body).await;
        }
        Instant::now()
    };
    let (began, told) = tokio::join!(writing, ids(&mut quick, events.len()));
    assert_eq!(told.last().unwrap(), "1099.0");
    are_reading(&served.test, "1").await;
    println!("who does not read is let go after {:?}", began.elapsed());
    // What had been sent ends before the last event, and the reader can come back for the rest.
    let (sent, last) = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let _ = slow.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let last = text
            .lines()
            .filter_map(|line| line.strip_prefix("id: "))
            .next_back();
        (bytes.len(), last.map(str::to_owned))
    })
    .await
    .unwrap();
    println!("of 16 MB it had taken {sent} bytes, up to {last:?}");
    assert_ne!(last.as_deref(), Some("1099.0"));
}
