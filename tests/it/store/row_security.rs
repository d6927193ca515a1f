//! Row-level security: what Postgres itself keeps apart, whatever a statement asks for.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use remit_core::{Clock, EntityUid, TenantId};
use remit_store::{Expected, Options, Store, Unbound};
use remit_tests::postgres::{Postgres, Roles};
use remit_tests::sql::{columns, execute, refusal, texts};

use super::decisions::{batch, position, record};
use super::{Fixture, bundle, entity, new_key, patient, pepper};

/// The code of a refusal by privilege or by row-level security (SQLSTATE).
const REFUSED: &str = "42501";

/// Which statements may span tenants: each reason, and the one file that has it.
const ACROSS: &[(&str, &str)] = &[
    ("Heads", "tenants.rs"),
    ("Heartbeat", "replicas.rs"),
    ("Keys", "keys.rs"),
    ("Kills", "kills.rs"),
    ("Live", "registry.rs"),
    ("Migration", "migrations.rs"),
    ("Migration", "row_security.rs"),
    ("Events", "events.rs"),
    ("Reservations", "settling.rs"),
    ("Shadows", "shadows.rs"),
    ("Shipping", "shipping.rs"),
    ("Tenants", "tenants.rs"),
    ("Webhooks", "queue.rs"),
];

async fn open(url: &str) -> Store {
    Store::open(&patient(url), Clock::system()).await.unwrap()
}

/// A migrated database of two roles.
async fn migrated() -> Option<Roles> {
    let roles = Postgres::database_of_roles().await?;
    let owner = open(&roles.owner).await;
    owner.migrate().await.unwrap();
    owner.admit_role("remit_app").await.unwrap();
    Some(roles)
}

/// Puts something of every kind into a tenant.
async fn fill(fixture: &Fixture, tenant: TenantId) {
    let store = &fixture.store;
    store
        .put_bundle(tenant, Expected::Any, &bundle("// it"), None)
        .await
        .unwrap();
    store
        .upsert_entities(tenant, &[entity("Agent", "a", 1)])
        .await
        .unwrap();
    store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    let one = record(fixture, tenant, 1);
    store.ship(&position(one.replica, 1), &[one]).await.unwrap();
}

/// The address under which a connection has a setting of `remit.tenant` for as long as it lasts.
fn within(url: &str, setting: &str) -> String {
    format!("{url}?options=-c%20remit.tenant%3D{setting}")
}

async fn count(url: &str, query: &str) -> String {
    let rows = texts(url, &format!("SELECT CAST(count(*) AS TEXT) FROM {query}")).await;
    rows[0][0].clone()
}

/// Names every table with rows of tenants, and the column that says whose a row is.
async fn tables(admin: &str) -> Vec<(String, &'static str)> {
    let all = columns(admin).await.into_iter();
    let mut tables: Vec<_> = all
        .filter(|(_, column)| column == "tenant")
        .map(|(table, _)| (table, "tenant"))
        .collect();
    tables.push(("tenants".to_owned(), "id"));
    tables
}

#[tokio::test]
async fn a_statement_with_the_wrong_tenant_finds_nothing() {
    let Some(fixture) = Fixture::bound().await else {
        return;
    };
    let (ours, theirs) = (fixture.tenant("ours").await, fixture.tenant("theirs").await);
    fill(&fixture, ours).await;
    fill(&fixture, theirs).await;
    let setting = ours.to_string();
    let bound = within(&fixture.url, &setting);
    for (table, column) in tables(&fixture.admin).await {
        // As somebody who may do everything: are there rows to be found?
        let own = count(
            &fixture.admin,
            &format!("{table} WHERE {column} = '{ours}'"),
        )
        .await;
        let others = format!("{table} WHERE {column} = '{theirs}'");
        let there = count(&fixture.admin, &others).await;
        assert_eq!(count(&bound, &others).await, "0", "{table}");
        assert_eq!(count(&bound, &table).await, own, "{table}: only ours");
        assert_eq!(
            count(&fixture.url, &table).await,
            "0",
            "{table}: without a setting nothing"
        );
        // What cannot be seen can be neither changed nor removed.
        execute(&bound, &format!("DELETE FROM {others}")).await;
        execute(
            &bound,
            &format!("UPDATE {table} SET {column} = {column} WHERE {column} = '{theirs}'"),
        )
        .await;
        assert_eq!(count(&fixture.admin, &others).await, there, "{table}");
    }
    for (table, member) in [
        ("bundles", "revision"),
        ("entities", "kind"),
        ("api_keys", "mac"),
        ("decisions", "body"),
    ] {
        let there = count(
            &fixture.admin,
            &format!("{table} WHERE {member} IS NOT NULL"),
        )
        .await;
        assert_ne!(there, "0", "{table} has rows for this test");
    }
    // Nor can a row be given to another tenant, or taken over.
    let insert = |tenant: TenantId| {
        format!(
            "INSERT INTO bundles (tenant, revision, hash, body, at) VALUES ('{tenant}', 99, 'h', 'b', 1)"
        )
    };
    assert_eq!(refusal(&bound, &insert(theirs)).await, REFUSED);
    assert_eq!(refusal(&fixture.url, &insert(ours)).await, REFUSED);
    let give = format!("UPDATE bundles SET tenant = '{theirs}' WHERE tenant = '{ours}'");
    assert_eq!(refusal(&bound, &give).await, REFUSED);
    execute(&bound, &insert(ours)).await;
    // A setting that is no id is an error, and not every tenant.
    let odd = refusal(&within(&fixture.url, "ours"), "SELECT * FROM bundles").await;
    assert_eq!(odd, "22P02");
    // Those that span tenants by nature see all of them.
    let all = within(&fixture.url, "%2A");
    assert_eq!(count(&all, "tenants").await, "2");
}

/// The role that Remit runs as can read and write rows, and change nothing of what binds it.
#[tokio::test]
async fn the_role_of_the_server_can_only_read_and_write_rows() {
    let Some(roles) = migrated().await else {
        return;
    };
    for text in [
        "ALTER TABLE bundles DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenants_apart ON bundles",
        "CREATE POLICY mine ON bundles USING (true)",
        "TRUNCATE decisions",
        "DROP TABLE idempotency",
        "CREATE TABLE mine (a INT)",
        "SELECT remit_protect_tenants(true)",
        "UPDATE migrations SET hash = 'x'",
        "DELETE FROM migrations",
        "SET ROLE remit_owner",
    ] {
        assert_eq!(refusal(&roles.app, text).await, REFUSED, "{text}");
    }
    // It can still find that there is nothing to migrate.
    let app = open(&roles.app).await;
    assert_eq!(app.migrate().await.unwrap(), [""; 0]);
    assert_eq!(app.pending_migrations().await.unwrap(), [""; 0]);
    // Being admitted again changes nothing, and who is not there is not admitted.
    let owner = open(&roles.owner).await;
    owner.admit_role("remit_app").await.unwrap();
    assert!(
        owner
            .admit_role("nobody\"; DROP TABLE bundles")
            .await
            .is_err()
    );
    assert!(app.admit_role("remit_app").await.is_err());
    assert!(app.ensure_tenant("acme").await.is_ok());
}

/// Every table with a column `tenant` is protected, whichever migration made it, and also one that comes later.
#[tokio::test]
async fn every_table_of_tenants_is_protected() {
    let Some(roles) = migrated().await else {
        return;
    };
    let state = "SELECT CAST(c.relname AS TEXT), CAST(c.relrowsecurity AS TEXT), CAST(c.relforcerowsecurity AS TEXT), \
        CAST(count(p.oid) AS TEXT) FROM pg_class AS c LEFT JOIN pg_policy AS p ON p.polrelid = c.oid \
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1, 2, 3";
    let protected = |rows: Vec<Vec<String>>, forced: &str| -> BTreeSet<String> {
        let rows = rows.into_iter();
        rows.filter(|row| row[1..] == ["true", forced, "1"])
            .map(|mut row| row.swap_remove(0))
            .collect()
    };
    let owner = open(&roles.owner).await;
    for forced in ["false", "true", "false"] {
        owner.force_row_security(forced == "true").await.unwrap();
        let wanted: BTreeSet<String> = tables(&roles.admin)
            .await
            .into_iter()
            .map(|one| one.0)
            .collect();
        assert!(wanted.len() >= 8, "{wanted:?}");
        let found = protected(texts(&roles.admin, state).await, forced);
        assert_eq!(found, wanted, "forced: {forced}");
        // As a later migration might.
        let table = format!("later_{}", wanted.len());
        let make = format!(
            "CREATE TABLE {table} (tenant UUID NOT NULL); SELECT remit_protect_tenants(NULL)"
        );
        execute(&roles.owner, &make).await;
    }
}

/// F48: the version before runs as the owner, does not know the setting, and goes on over the new schema. Once the owner
/// is bound too it finds nothing, and this version finds what it found before.
#[tokio::test]
async fn the_version_before_goes_on_as_the_owner_until_it_is_bound() {
    let Some(roles) = migrated().await else {
        return;
    };
    let owner = open(&roles.owner).await;
    let tenant = owner.ensure_tenant("acme").await.unwrap();
    let before = [
        "UPDATE tenants SET revision = revision + 1 WHERE id = '{}' RETURNING revision",
        "INSERT INTO bundles (tenant, revision, hash, body, at) VALUES ('{}', (SELECT revision FROM tenants), 'h', 'b', 1)",
        "INSERT INTO tenants (id, name, revision, created_at) VALUES (gen_random_uuid(), 'acme', 0, 1) ON CONFLICT (name) DO NOTHING",
    ]
    .map(|text| text.replace("{}", &tenant.to_string()));
    for text in &before {
        execute(&roles.owner, text).await;
    }
    assert_eq!(count(&roles.owner, "tenants").await, "1");
    assert_eq!(count(&roles.owner, "bundles").await, "1");
    let unbound = owner.row_security().await.unwrap().unwrap();
    assert_eq!(unbound.unbound, Some(Unbound::Owner));

    owner.force_row_security(true).await.unwrap();
    assert_eq!(count(&roles.owner, "tenants").await, "0");
    assert_eq!(refusal(&roles.owner, &before[2]).await, REFUSED);
    assert_eq!(owner.row_security().await.unwrap().unwrap().unbound, None);
    assert_eq!(owner.heads().await.unwrap()[0].tenant, tenant);
    owner
        .upsert_entities(tenant, &[entity("Agent", "a", 1)])
        .await
        .unwrap();
    assert_eq!(owner.ensure_tenant("acme").await.unwrap(), tenant);

    owner.force_row_security(false).await.unwrap();
    execute(&roles.owner, &before[0]).await;
    assert_eq!(count(&roles.owner, "tenants").await, "1");
}

#[tokio::test]
async fn the_store_tells_whether_its_role_is_bound() {
    let Some(roles) = migrated().await else {
        return;
    };
    let standing = async |url: &str| open(url).await.row_security().await.unwrap().unwrap();
    assert_eq!(
        standing(&roles.admin).await.unbound,
        Some(Unbound::Superuser)
    );
    assert_eq!(standing(&roles.owner).await.unbound, Some(Unbound::Owner));
    let app = standing(&roles.app).await;
    assert_eq!((app.role.as_str(), app.unbound), ("remit_app", None));
    let empty = Postgres::database_of_roles().await.unwrap();
    assert_eq!(
        standing(&empty.app).await.unbound,
        Some(Unbound::Unprotected)
    );
    assert_eq!(
        Fixture::memory().await.store.row_security().await.unwrap(),
        None
    );
}

/// The setting ends with its transaction: the next call on the same connection starts with none.
#[tokio::test]
async fn the_setting_of_one_call_does_not_stay_for_the_next() {
    let Some(fixture) = Fixture::bound().await else {
        return;
    };
    let probe = "CREATE TABLE probe (at SERIAL, place TEXT, setting TEXT);
        GRANT INSERT ON probe TO remit_app; GRANT USAGE ON probe_at_seq TO remit_app;
        CREATE FUNCTION note() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO probe (place, setting) VALUES (TG_TABLE_NAME, coalesce(current_setting('remit.tenant', true), ''));
            RETURN NEW;
        END $$;
        CREATE TRIGGER note BEFORE INSERT ON bundles FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER note BEFORE INSERT ON decisions FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER note BEFORE INSERT ON replicas FOR EACH ROW EXECUTE FUNCTION note();";
    execute(&fixture.admin, probe).await;
    let (ours, theirs) = (fixture.tenant("ours").await, fixture.tenant("theirs").await);
    let options = Options {
        max_connections: 1,
        ..patient(&fixture.url)
    };
    let single = Fixture {
        store: Store::open(&options, Clock::system()).await.unwrap(),
        clock: Clock::system(),
        url: String::new(),
        admin: String::new(),
        _folder: None,
    };
    let beat = async || {
        let replica = remit_store::Replica {
            id: single.replica(),
            name: "a".into(),
            version: "1".into(),
            lease: Duration::from_secs(5),
        };
        single.store.heartbeat(&replica, &[]).await.unwrap();
    };
    fill(&single, ours).await;
    beat().await;
    assert_eq!(single.store.heads().await.unwrap().len(), 2);
    beat().await;
    single.store.bundle(ours).await.unwrap();
    beat().await;
    // A change that is refused, and one whose caller goes away.
    let refused = single
        .store
        .put_bundle(ours, Expected::Absent, &bundle("x"), None)
        .await;
    assert!(refused.is_err());
    beat().await;
    fill(&single, theirs).await;
    let noted = texts(
        &fixture.admin,
        "SELECT place, setting FROM probe ORDER BY at",
    )
    .await;
    let noted: Vec<(&str, &str)> = noted
        .iter()
        .map(|row| (row[0].as_str(), row[1].as_str()))
        .collect();
    let (ours, theirs) = (ours.to_string(), theirs.to_string());
    let own = [
        ("bundles", ours.as_str()),
        ("decisions", "*"),
        ("replicas", ""),
        ("replicas", ""),
        ("replicas", ""),
        ("replicas", ""),
        ("bundles", theirs.as_str()),
        ("decisions", "*"),
    ];
    assert_eq!(noted, own);
}

/// What spans tenants is a short list, and a new one is added to it on purpose.
#[test]
fn what_spans_tenants_is_named() {
    let mut found = BTreeSet::new();
    let mut folders = vec![remit_tests::root().join("crates/store/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            for rest in text.split("Across::").skip(1) {
                let name: String = rest
                    .chars()
                    .take_while(char::is_ascii_alphanumeric)
                    .collect();
                found.insert((name, file.clone()));
            }
        }
    }
    let listed: BTreeSet<_> = ACROSS
        .iter()
        .map(|(name, file)| ((*name).to_owned(), (*file).to_owned()))
        .collect();
    assert_eq!(found, listed);
}

/// Finds records that are there by the index, though the policy stands before what the statement asks.
#[tokio::test]
async fn shipping_again_looks_each_record_up_by_the_index() {
    let Some(fixture) = Fixture::bound().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    let replica = fixture.replica();
    for number in 0..20 {
        let records = batch(
            &fixture,
            tenant,
            replica,
            number * 500 + 1..number * 500 + 501,
        );
        let upto = position(replica, number * 500 + 500);
        fixture.store.ship(&upto, &records).await.unwrap();
    }
    execute(&fixture.admin, "ANALYZE").await;
    let last = batch(&fixture, tenant, replica, 10_001..10_101);
    fixture
        .store
        .ship(&position(replica, 10_100), &last)
        .await
        .unwrap();
    let plan = texts(
        &within(&fixture.url, "%2A"),
        "EXPLAIN SELECT count(*) FROM json_each('{}') AS made WHERE (SELECT d.id FROM decisions AS d \
         WHERE d.tenant = unhex(made.value ->> 'tenant') AND d.id = unhex(made.value ->> 'id') \
         AND d.replica = unhex(made.value ->> 'replica') \
         AND d.sequence = CAST(made.value ->> 'sequence' AS BIGINT) AND d.body = made.value ->> 'body') IS NOT NULL",
    )
    .await
    .concat()
    .join("\n");
    assert!(!plan.contains("Seq Scan on decisions"), "{plan}");
    fixture
        .store
        .ship(&position(replica, 10_100), &last)
        .await
        .unwrap();
}

/// What the second belt costs: the same calls as a superuser, whom nothing binds, and as the role that is bound.
#[tokio::test]
async fn what_row_security_costs_is_shown() {
    let (Some(free), Some(bound)) = (Fixture::postgres().await, Fixture::bound().await) else {
        return;
    };
    let uid = EntityUid::new("Agent", "a");
    let sides = [&free, &bound];
    let mut tenants = Vec::new();
    for side in sides {
        let tenant = side.tenant("acme").await;
        fill(side, tenant).await;
        tenants.push((tenant, side.replica()));
    }
    // In turns, and each as the first of the two, so that whatever else this machine does meets both.
    let mut times: [[Vec<Duration>; 4]; 2] = Default::default();
    for round in 0..15_u64 {
        for turn in 0..2 {
            let at = (usize::try_from(round).unwrap() + turn) % 2;
            let (side, (tenant, replica), times) = (sides[at], tenants[at], &mut times[at]);
            let store = &side.store;
            for _ in 0..8 {
                let began = Instant::now();
                store.shipped(replica).await.unwrap();
                times[0].push(began.elapsed());
                let began = Instant::now();
                assert!(store.entity(tenant, &uid).await.unwrap().is_some());
                times[1].push(began.elapsed());
            }
            let began = Instant::now();
            store
                .upsert_entities(tenant, &[entity("Agent", "a", round as i64)])
                .await
                .unwrap();
            times[2].push(began.elapsed());
            let first = round * 1_000 + 1;
            let records = batch(side, tenant, replica, first..first + 1_000);
            let upto = position(replica, first + 999);
            let began = Instant::now();
            store.ship(&upto, &records).await.unwrap();
            times[3].push(began.elapsed());
        }
    }
    // What disturbs a call makes it slower and never faster.
    let fastest = times
        .each_ref()
        .map(|kinds| kinds[3].iter().min().copied().unwrap());
    let medians = times.map(|kinds| {
        kinds.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
    });
    for (name, [plain, read, change, ship]) in ["superuser", "bound"].iter().zip(medians) {
        println!(
            "{name}: a read of no tenant {plain:?}, of one {read:?}, a change {change:?}, shipping 1,000 records {ship:?}"
        );
    }
    let [free, bound] = fastest;
    assert!(bound < free * 2, "{free:?} {bound:?}");
}
