//! A database that holds something else than it should: F19 a poisoned row, F20 an older state.

use std::time::Duration;

use remit_chaos::{Pdp, Pg, Plan, Row};
use remit_tests::sql;
use serde_json::json;

/// Makes a second tenant with the starter bundle, and returns the plan that has its key.
async fn second_tenant(plan: &Plan, pdp: &Pdp) -> Plan {
    let second = plan.clone().set("REMIT__AUTH__TENANT", "second").with_key();
    let pack = remit_tests::root().join("policies/starter");
    pdp.until("the second tenant's key is known", || async {
        pdp.ask_as(second.key()).await.status != 401
    })
    .await;
    second.run_as(pdp, &["bundle", "push", pack.to_str().unwrap()]);
    second
}

async fn status(pdp: &Pdp, key: &str) -> u16 {
    pdp.ask_as(key).await.status
}

/// Asserts that the tenant whose row is poisoned goes stale and is named, and that the other is served all the while.
async fn only_second_suffers(pdp: &mut Pdp, first: &str, second: &str, what: &str) {
    pdp.until("the poisoned tenant is refused", || async {
        assert_eq!(status(pdp, first).await, 200);
        status(pdp, second).await != 200
    })
    .await;
    for _ in 0..20 {
        assert_eq!(status(pdp, first).await, 200, "{what}");
        let refused = status(pdp, second).await;
        assert!(matches!(refused, 401 | 503), "{what}: {refused}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(pdp.ended().is_none(), "{}", pdp.output());
    let (ready, page) = pdp.readiness().await;
    assert_eq!(ready, 200, "{page}");
    let failures: Vec<&str> = page["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tenant| tenant["failure"].as_str())
        .collect();
    assert_eq!(failures.len(), 1, "{page}");
    assert!(failures[0].contains(what), "{page}");
}

/// F19: a row that cannot be read stops its own tenant and nobody else, before a restart and after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_poisoned_row() {
    let row = Row::new("F19");
    let Some(postgres) = Pg::start() else { return };
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let mut pdp = plan.start().await;
    let second = second_tenant(&plan, &pdp).await;
    let (first, second) = (plan.key().to_owned(), second.key().to_owned());
    assert_eq!(status(&pdp, &second).await, 200);
    let poisons = [
        (
            "INSERT INTO bundles (tenant, revision, hash, body, at) \
             SELECT id, revision, 'nonsense', '{', 0 FROM tenants WHERE name = 'second'",
            "DELETE FROM bundles WHERE hash = 'nonsense'",
            "bundles",
        ),
        (
            "INSERT INTO entities (tenant, kind, id, revision, body) \
             SELECT id, 'Agent', 'poison', revision, '{' FROM tenants WHERE name = 'second'",
            "DELETE FROM entities WHERE id = 'poison'",
            "entities",
        ),
        (
            "INSERT INTO api_keys (id, tenant, name, environment, scopes, mac, created_at) \
             SELECT id, id, 'poison', 'live', 'no-such-scope', '', 0 FROM tenants WHERE name = 'second'",
            "DELETE FROM api_keys WHERE name = 'poison'",
            "api_keys",
        ),
    ];
    let moved = "UPDATE tenants SET revision = revision + 1 WHERE name = 'second'";
    for (poison, cure, what) in poisons {
        sql::execute(&url, &format!("{moved}; {poison}")).await;
        only_second_suffers(&mut pdp, &first, &second, what).await;
        assert!(pdp.stop().await.success());
        pdp = plan.start().await;
        only_second_suffers(&mut pdp, &first, &second, what).await;
        sql::execute(&url, &format!("{cure}; {moved}")).await;
        pdp.until("it is cured", || async {
            status(&pdp, &second).await == 200
        })
        .await;
    }
    row.passed(
        "bundle, entity and key poisoned, each before and after a restart",
        "none",
    );
}

/// Whether a replica decides nothing although it has every chance to.
async fn refuses_for(pdp: &Pdp, time: Duration) -> bool {
    let until = std::time::Instant::now() + time;
    while std::time::Instant::now() < until {
        if pdp.ask().await.status != 503 {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// F20: a database restored to an older state under a live replica is found out, and nothing is permitted by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_database_set_back() {
    let row = Row::new("F20");
    let Some(mut postgres) = Pg::start() else {
        return;
    };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let pdp = plan.start().await;
    postgres.stop();
    postgres.back_up();
    postgres.restart();
    let made = remit_tests::server::send(
        pdp.request(reqwest::Method::POST, "/v1/keys")
            .json(&json!({ "name": "later", "environment": "live", "scopes": ["evaluate"] })),
    );
    let unprotected = plan.beside().without("SetBack").start().await;
    pdp.until_ready().await;
    let made = made.await;
    assert!(matches!(made.status, 200 | 201), "{}", made.text());
    unprotected.until_ready().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(pdp.ask().await.status, 200);

    postgres.stop();
    postgres.restore();
    postgres.restart();
    let noticed = pdp
        .until("it notices", || async {
            pdp.metric("remit_policy_set_back").await > 0.5
        })
        .await;
    assert!(refuses_for(&pdp, Duration::from_secs(3)).await);
    unprotected.until_ready().await;
    assert!(!refuses_for(&unprotected, Duration::from_secs(1)).await);
    let (status, page) = pdp.readiness().await;
    assert_eq!(status, 503, "{page}");
    assert!(page["causes"].to_string().contains("set back"), "{page}");
    assert!(
        pdp.output().contains("the database was set back"),
        "{}",
        pdp.output()
    );
    assert!(pdp.stop().await.success());
    // Whoever restarts it accepts what the database holds.
    let pdp = plan.start().await;
    assert_eq!(pdp.ask().await.status, 200);
    row.passed(
        &format!("noticed {} ms after the restore", noticed.as_millis()),
        "failed as it must: decided by the older state",
    );
}
