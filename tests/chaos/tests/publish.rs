//! A change whose commit is cut off: made or not made, never half, and never twice.

use std::time::Duration;

use remit_chaos::{Fate, Pdp, Pg, Plan, Proxy, Row};
use remit_tests::server::{Answer, send};
use reqwest::Method;
use serde_json::Value;

use crate::small::bundle;

/// How a change ends its transaction, and nothing else does.
const COMMIT: &[u8] = b"NOTIFY remit_changes; COMMIT";

/// Puts a bundle that differs from every other by the tool it forbids.
async fn put(pdp: &Pdp, etag: &str, key: Option<&str>, tool: &str) -> Option<Answer> {
    let mut request = pdp
        .request(Method::PUT, "/v1/bundle")
        .header("if-match", etag);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let answer = request.json(&bundle(&[tool])).send().await.ok()?;
    Some(Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await.ok()?.to_vec(),
    })
}

/// Lists the versions: revision and hash, newest first.
async fn versions(pdp: &Pdp) -> Vec<(u64, String)> {
    let page: Value = pdp.get("/v1/bundle/versions?limit=1000").await.json();
    let versions = page["versions"].as_array().unwrap().iter();
    versions
        .map(|one| {
            let hash = one["hash"].as_str().unwrap().to_owned();
            (one["revision"].as_u64().unwrap(), hash)
        })
        .collect()
}

async fn etag(pdp: &Pdp) -> String {
    pdp.get("/v1/bundle").await.header("etag").to_owned()
}

/// Waits until the database answers through a proxy that has just cut connections.
async fn well(pdp: &Pdp) {
    pdp.until("it answers", || async {
        pdp.get("/v1/bundle").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f05_a_publish_cut_after_its_commit_is_made_once() {
    let row = Row::new("F5");
    let Some(postgres) = Pg::start() else { return };
    let proxy = Proxy::start(postgres.port()).await;
    let direct = postgres.fresh_database();
    let plan = Plan::new(&proxy.before(&direct)).prepared().await;
    let mut a = plan.start().await;
    let b = plan
        .beside()
        .set("REMIT__DATABASE__URL", &direct)
        .start()
        .await;
    let (mut named, mut told, mut unheard) = (0, 0, 0);
    for (number, kill) in [false, true, false, true, false, true]
        .into_iter()
        .enumerate()
    {
        let (before, tag) = (versions(&b).await, etag(&b).await);
        let (key, tool) = (format!("request-{number}"), format!("tool-{number}"));
        proxy.script(COMMIT, [Fate::Unanswered]);
        let putting = put(&a, &tag, Some(&key), &tool);
        let killing = async {
            a.until("the commit has got through", || async {
                proxy.fates_left() == 0
            })
            .await;
            if kill {
                // Before it can ask what became of it.
                proxy.blackhole(true);
                a.signal("-KILL");
            }
        };
        let (first, ()) = tokio::join!(putting, killing);
        // It may have found its own answer already.
        let first = first.filter(|answer| answer.status == 200);
        told += usize::from(first.is_some());
        if kill {
            unheard += usize::from(first.is_none());
            a.kill();
            proxy.blackhole(false);
            a = plan.start().await;
        }
        well(&a).await;
        for pdp in [&b, &a, &b] {
            let again = put(pdp, &tag, Some(&key), &tool).await.unwrap();
            assert_eq!(again.status, 200, "{}", again.text());
            let after = versions(&b).await;
            assert_eq!(after.len(), before.len() + 1, "it is made once");
            let made: Value = again.json();
            assert_eq!(made["revision"], after[0].0);
            assert_eq!(made["hash"], after[0].1.as_str());
            if let Some(first) = &first {
                assert_eq!(first.body, again.body);
            }
            named += 1;
        }
    }

    assert!(unheard > 0, "whoever asked always heard of it");

    // Without a name it is not known, and the ETag keeps it from being made twice.
    let (before, tag) = (versions(&b).await, etag(&b).await);
    proxy.script(COMMIT, [Fate::Unanswered]);
    let cut = put(&a, &tag, None, "unnamed").await.unwrap();
    assert_eq!(cut.status, 503, "{}", cut.text());
    well(&a).await;
    for pdp in [&a, &b] {
        let again = put(pdp, &tag, None, "unnamed").await.unwrap();
        assert_eq!(again.status, 412, "{}", again.text());
        assert_eq!(versions(&b).await.len(), before.len() + 1);
    }

    // Cut before its commit it is not made, whether it has a name or not.
    for key in [None, Some("lost")] {
        let (before, tag) = (versions(&b).await, etag(&b).await);
        let tool = key.unwrap_or("nameless");
        proxy.script(COMMIT, [Fate::Lost]);
        let cut = put(&a, &tag, key, tool).await.unwrap();
        assert_eq!(cut.status, 503, "{}", cut.text());
        well(&a).await;
        assert_eq!(versions(&b).await, before, "nothing of it is there");
        let again = put(&a, &tag, key, tool).await.unwrap();
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(versions(&b).await.len(), before.len() + 1);
    }

    // The control: a client that neither names its request nor keeps to the ETag makes a second version.
    let (before, tag) = (versions(&b).await, etag(&b).await);
    proxy.script(COMMIT, [Fate::Unanswered]);
    put(&a, &tag, None, "careless").await.unwrap();
    well(&a).await;
    let again = put(&a, &etag(&b).await, None, "careless").await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text());
    let twice = versions(&b).await.len() - before.len();
    assert_eq!(twice, 2);
    // Nothing of all that is stuck: a change is in force everywhere.
    let last = a
        .request(Method::PUT, "/v1/bundle?wait=fleet")
        .header("if-match", etag(&a).await)
        .timeout(Duration::from_secs(60));
    let last = send(last.json(&bundle(&[]))).await;
    assert_eq!(last.status, 200, "{}", last.text());
    row.passed(
        &format!(
            "6 cut after COMMIT, 3 of them killed then: {unheard} clients heard nothing, {told} were told; {named} retries \
             with the name were answered alike; without a name 412; cut before COMMIT nothing was made"
        ),
        "failed as it must: without name and ETag it was made twice",
    );
}
