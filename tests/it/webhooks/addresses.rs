//! Where nothing is sent: to addresses that only this server can reach, however they are spelled.

use remit_core::WebhookId;
use remit_store::{Change, WebhookTarget};
use remit_tests::receiver::Receiver;
use serde_json::json;

use super::{Method, StatusCode, WEBHOOKS, ask, newest, register, send, start};
use crate::approvals::{REQUESTS, ask as evaluate, payment, submission};

/// Spellings of this machine and of what is around it; `PORT` stands for that of a receiver that waits.
const INSIDE: [&str; 30] = [
    "http://127.0.0.1:PORT/",
    "https://127.0.0.1:PORT/",
    "https://127.0.0.1/",
    "https://127.1:PORT/",
    "https://127.1/",
    "https://2130706433/",
    "https://2130706433:PORT/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.0x1/",
    "https://127.0.0.1./",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::1]:PORT/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:127.0.0.1]:PORT/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fd00::1]/",
    "https://[fe80::1]/",
    "https://user@127.0.0.1:PORT/",
];

fn inside(receiver: &Receiver) -> impl Iterator<Item = String> {
    let port = receiver.address().port().to_string();
    INSIDE.iter().map(move |url| url.replace("PORT", &port))
}

#[tokio::test]
async fn none_inside_is_registered_and_none_is_dialled() {
    let (receiver, allowed) = (Receiver::start(), Receiver::start());
    let test = start(&[&allowed]).await;
    let body = json!({ "url": allowed.url("/"), "events": ["approval."] });
    let (path, _) = register(&test, &body).await;
    for url in inside(&receiver) {
        let body = json!({ "url": url, "events": ["access_request."] });
        for (method, path) in [(Method::POST, WEBHOOKS), (Method::PUT, path.as_str())] {
            let refused = send(&test, method, path, &body).await;
            assert_eq!(
                refused.status,
                StatusCode::BAD_REQUEST,
                "{url}: {}",
                refused.text
            );
            assert!(refused.text.contains("`url`"), "{url}: {}", refused.text);
        }
    }
    let listed = test.get(WEBHOOKS).await.json();
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1, "{listed}");
    ask(&test, 100).await;
    assert_eq!(receiver.connections(), 0);
}

/// An address that was let through once is looked at again when something is sent there.
#[tokio::test]
async fn none_inside_is_sent_to_that_stands_in_the_database() {
    let receiver = Receiver::start();
    let test = start(&[]).await;
    let mut paths = Vec::new();
    for scheme in ["http", "https"] {
        let id = WebhookId::from_uuid(test.clock.id());
        let target = WebhookTarget {
            url: format!("{scheme}://{}/", receiver.address()),
            kinds: vec!["access_request.".to_owned()],
            callbacks: false,
        };
        let by = "maya".parse().unwrap();
        let new = (id, &by, &target, "sealed");
        let made = test
            .store
            .create_webhook(test.tenant, None, new, Change::default());
        test.reached(made.await.unwrap()).await;
        let path = format!("{WEBHOOKS}/{id}");
        // Its secret is none of this installation's; a new one is.
        let rotated = send(&test, Method::POST, &format!("{path}/rotate"), &json!(null)).await;
        assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
        paths.push((path, json!(null)));
    }
    test.clock.advance(std::time::Duration::from_hours(25));
    test.caught_up().await;
    ask(&test, 100).await;
    for (path, status) in paths {
        let tried = newest(&test, &path, |found| found["last_problem"].is_string()).await;
        assert_eq!(tried["last_status"], status, "{tried}");
        let problem = tried["last_problem"].as_str().unwrap();
        assert!(
            problem.contains("https") || problem.contains("443"),
            "{problem}"
        );
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn no_request_has_one_inside_called() {
    let (receiver, allowed) = (Receiver::start(), Receiver::start());
    let test = start(&[&allowed]).await;
    register(
        &test,
        &json!({ "url": allowed.url("/"), "callbacks": true }),
    )
    .await;
    let question = payment();
    let denied = evaluate(&test, &question).await;
    for url in inside(&receiver) {
        let mut body = submission(&question, &denied);
        body["callback"] = json!({ "endpoint": url });
        let refused = test.post(REQUESTS, &body).await;
        assert_eq!(
            refused.status,
            StatusCode::BAD_REQUEST,
            "{url}: {}",
            refused.text
        );
        assert!(
            refused.text.contains("`callback.endpoint`"),
            "{}",
            refused.text
        );
    }
    assert_eq!((receiver.connections(), allowed.connections()), (0, 0));
}
