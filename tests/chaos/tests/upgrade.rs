//! A rolling upgrade: F48 the program runs on the schema of a newer one, under load and from its start.

use std::time::Duration;

use remit_chaos::{Ledger, Load, Outcome, Pdp, Pg, Plan, Row};
use remit_tests::server::send;
use remit_tests::sql;
use reqwest::Method;
use serde_json::{Value, json};

use crate::small::bundle;
use crate::{all_shipped, recorded};

/// Every table there is, but those of Postgres itself.
const TABLES: &str =
    "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";

/// What a newer version may do in its first release: new columns that may be left out, new tables, new indexes.
async fn expand(url: &str) -> usize {
    let tables = sql::texts(url, TABLES).await;
    for table in &tables {
        let name = &table[0];
        sql::execute(
            url,
            &format!(
                "ALTER TABLE {name} ADD COLUMN later TEXT; \
                 ALTER TABLE {name} ADD COLUMN flagged BOOLEAN NOT NULL DEFAULT false"
            ),
        )
        .await;
    }
    sql::execute(
        url,
        "CREATE TABLE later (tenant UUID NOT NULL REFERENCES tenants (id), note TEXT NOT NULL); \
         CREATE INDEX later_decisions_idx ON decisions (tenant, flagged); \
         INSERT INTO migrations (name, hash, applied_at) VALUES ('9999_later', 'sha256:later', 0)",
    )
    .await;
    tables.len()
}

/// Does everything that writes a table, as an operator would.
async fn operate(pdp: &Pdp, plan: &Plan) {
    let done = |answer: remit_tests::server::Answer| {
        assert!(
            matches!(answer.status, 200 | 201 | 204),
            "{}",
            answer.text()
        );
        answer
    };
    let etag = pdp.get("/v1/bundle").await.header("etag").to_owned();
    let mut whole: Value = pdp.get("/v1/bundle").await.json();
    whole["policies"][0]["text"] = json!(format!(
        "{}\n// again",
        whole["policies"][0]["text"].as_str().unwrap()
    ));
    let put = pdp.request(Method::PUT, "/v1/bundle?message=again");
    let put = put
        .header("if-match", etag)
        .header("idempotency-key", uuid());
    done(send(put.json(&whole)).await);
    let entity = json!({ "attrs": {
        "status": "active", "trust": 1, "environment": "production", "owner": { "__entity": { "type": "Person", "id": "maya" } },
    } });
    let path = "/v1/entities/Agent/upgrade-bot?wait=fleet";
    done(send(pdp.request(Method::PUT, path).json(&entity)).await);
    done(send(pdp.request(Method::DELETE, "/v1/entities/Agent/upgrade-bot")).await);
    let new = json!({ "name": "short", "environment": "live", "scopes": ["evaluate"] });
    let made = done(send(pdp.request(Method::POST, "/v1/keys").json(&new)).await);
    let id = made.json::<Value>()["id"].as_str().unwrap().to_owned();
    done(send(pdp.request(Method::DELETE, &format!("/v1/keys/{id}"))).await);
    let shadow = pdp
        .request(Method::PUT, "/v1/shadow")
        .header("if-none-match", "*");
    done(send(shadow.json(&bundle(&[]))).await);
    pdp.ask().await;
    let found: Value = pdp.get("/v1/shadow").await.json();
    assert!(found["decided"].as_u64() > Some(0), "{found}");
    done(send(pdp.request(Method::DELETE, "/v1/shadow")).await);
    done(pdp.get("/v1/decisions?limit=1").await);
    // Its own commands take the schema for one of its own.
    assert_eq!(plan.run(&["migrate"]).status.code(), Some(0));
}

fn uuid() -> String {
    remit_core::Clock::system().id().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f48_an_old_program_runs_on_a_newer_schema() {
    let row = Row::new("F48");
    let Some(postgres) = Pg::start() else { return };
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let pdp = plan.start().await;
    operate(&pdp, &plan).await;
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    load.until_decided(100).await;
    let tables = expand(&url).await;
    load.until_decided(100).await;
    operate(&pdp, &plan).await;
    // And from its start: a replica of the old version may be restarted during the upgrade.
    let other = plan.beside().start().await;
    operate(&other, &plan).await;
    load.until_decided(100).await;
    let calls = load.stop().await;
    for call in &calls {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    let answered = calls.len();
    assert!(recorded(&pdp).await.len() >= answered);
    all_shipped(&other).await;
    assert!(other.stop().await.success());
    let mut ledger = Ledger::new();
    ledger.hear(&calls);
    let totals = ledger.totals(&url).await;
    assert_eq!(
        (totals.missing, totals.differing, totals.gaps),
        (0, 0, 0),
        "{totals}"
    );
    assert!(pdp.stop().await.success());

    // The control: a step that contracts stops what the old program does, and it is seen.
    let pdp = plan.start().await;
    sql::execute(&url, "ALTER TABLE decisions ADD COLUMN must TEXT NOT NULL DEFAULT ''; ALTER TABLE decisions ALTER COLUMN must DROP DEFAULT").await;
    for _ in 0..5 {
        assert_eq!(pdp.ask().await.status, 200, "the spool still takes them");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left = pdp.metric("remit_audit_unshipped_records").await;
    assert!(left > 4.0, "{left}");
    row.passed(
        &format!(
            "{tables} tables with two columns more, a table, an index and a migration of the future: {answered} decisions, \
             none refused, all recorded; every kind of change before and after, by a process that ran and one that started"
        ),
        &format!("failed as it must: a column that must not be left out kept {left} records from being shipped"),
    );
}
