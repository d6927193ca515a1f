//! A database that holds something else than it should: F19 a poisoned row, F20 an older state.

use std::time::{Duration, Instant};

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

/// Whether the other tenant is served until the one whose row is poisoned is refused, and a while after that.
///
/// # Errors
///
/// What the other tenant was answered instead.
async fn other_is_served(pdp: &Pdp, first: &str, second: &str) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut refused = 0;
    while refused < 20 {
        assert!(Instant::now() < until, "the poisoned tenant is served");
        let other = status(pdp, first).await;
        if other != 200 {
            return Err(format!("the other tenant was answered {other}"));
        }
        match status(pdp, second).await {
            200 => assert_eq!(refused, 0, "the poisoned tenant is served again"),
            401 | 503 => refused += 1,
            status => panic!("{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Asserts that the tenant whose row is poisoned goes stale and is named, and that the other is served all the while.
async fn only_second_suffers(pdp: &mut Pdp, first: &str, second: &str, what: &str) {
    let served = other_is_served(pdp, first, second).await;
    assert_eq!(served, Ok(()), "{what}");
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
    // With its protection off, one tenant's key that cannot be read keeps every tenant from being brought up to date.
    assert!(pdp.stop().await.success());
    let unprotected = plan.beside().without("TenantsApart").start().await;
    unprotected
        .until("both tenants are served", || async {
            status(&unprotected, &second).await == 200
        })
        .await;
    let (poison, _, _) = poisons[2];
    sql::execute(&url, &format!("{moved}; {poison}")).await;
    let suffered = other_is_served(&unprotected, &first, &second)
        .await
        .unwrap_err();
    row.passed(
        "bundle, entity and key poisoned, each before and after a restart",
        &format!("failed as it must: {suffered}"),
    );
}

/// Whether a replica decides nothing although it has every chance to.
async fn refuses_for(pdp: &Pdp, time: Duration) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
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
