//! Two processes over one Postgres: what is revoked on one is told by the other.

use remit_tests::postgres::Postgres;
use remit_tests::server::{Remit, send};

use super::*;

async fn process(url: &str, name: &str) -> Remit {
    Remit::dev(env!("CARGO_BIN_EXE_remit"))
        .variable("REMIT__DATABASE__URL", url)
        .variable("REMIT__REPLICA__NAME", name)
        .variable("REMIT__AUTH__PEPPER", &"pepper".repeat(8))
        // A stop that waited for its streams would take longer than the harness waits for it.
        .variable("REMIT__LIMITS__DRAIN_MS", "120000")
        .start()
        .await
}

/// A stream of another process.
struct Remote {
    response: reqwest::Response,
    text: Text,
}

impl Remote {
    async fn open(server: &Remit, last: Option<&str>) -> Self {
        let mut request = server.request(Method::GET, PATH);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let media = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(media, "text/event-stream");
        Self {
            response,
            text: Text::default(),
        }
    }

    /// Returns the next event; `None` where the stream has ended.
    async fn event(&mut self) -> Option<Event> {
        loop {
            match self.text.next() {
                Some(Ok(event)) => return Some(event),
                Some(Err(_)) => {}
                None => {
                    let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
                    let chunk = chunk.expect("nothing came").ok()??;
                    self.text.0.push_str(std::str::from_utf8(&chunk).unwrap());
                }
            }
        }
    }
}

async fn kill(server: &Remit, name: &str) -> String {
    let body = json!({ "target": tool(name), "reason": "incident 4711" });
    let set = send(server.request(Method::POST, "/v1/kills").json(&body)).await;
    assert_eq!(set.status, 201, "{}", set.text());
    set.json::<Value>()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_a_reader_on_the_other_replica() {
    let Some(url) = Postgres::database().await else {
        return;
    };
    let a = process(&url, "a").await;
    let b = process(&url, "b").await;
    let mut stream = Remote::open(&b, None).await;
    assert_eq!(stream.event().await.unwrap().kind, "ready");
    let mut took = Vec::new();
    let mut last = String::new();
    for round in 0..20 {
        let began = Instant::now();
        let id = kill(&a, &format!("tool-{round}")).await;
        let event = stream.event().await.unwrap();
        took.push(began.elapsed());
        assert_eq!(change(&event, "kill_set")["kill"], json!(id));
        last = event.id;
    }
    took.sort();
    println!(
        "from the request on one replica to the event on the other: median {:.1} ms, slowest {:.1} ms of {}",
        took[took.len() / 2].as_secs_f64() * 1e3,
        took[took.len() - 1].as_secs_f64() * 1e3,
        took.len()
    );
    // Cut off, and on again at the other replica.
    drop(stream);
    let missed = [kill(&a, "x").await, kill(&b, "y").await];
    let mut stream = Remote::open(&a, Some(&last)).await;
    for id in &missed {
        let event = stream.event().await.unwrap();
        assert_eq!(change(&event, "kill_set")["kill"], json!(id));
    }
    let newest = kill(&a, "z").await;
    let event = stream.event().await.unwrap();
    assert_eq!(change(&event, "kill_set")["kill"], json!(newest));
    // A stop waits for no stream, and one that started again knows nothing of before.
    assert!(a.stop().await.success());
    assert_eq!(stream.event().await, None);
    let c = process(&url, "c").await;
    let mut stream = Remote::open(&c, Some(&last)).await;
    let gap = stream.event().await.unwrap();
    assert_eq!(gap.kind, "gap", "{gap:?}");
}
