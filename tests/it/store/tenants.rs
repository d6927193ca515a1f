//! Tenants in the store: suspended, resumed, exported and deleted, and nothing left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::TenantId;
use remit_store::{Applied, Error, Expected, ExportCursor, Replica, TenantState, exported_columns};
use remit_tests::sql::{columns, texts};
use serde_json::Value;

use super::decisions::{batch, position};
use super::{Fixture, bundle, entity, new_key, pepper};

mod filled;

use filled::fill;

for_each_database! {
    a_tenant_is_suspended_and_resumed;
    what_is_deleted_was_suspended_and_named;
    nothing_is_left_of_a_deleted_tenant_and_others_are_whole;
    a_deletion_that_was_cut_short_is_taken_up_again;
    records_of_a_deleted_tenant_do_not_jam_the_spool;
    an_export_has_everything_but_secrets;
    every_table_of_tenants_is_exported;
    tenants_are_listed_in_pages;
}

/// Everything that an export of a tenant tells, by table.
async fn export(fixture: &Fixture, tenant: TenantId) -> BTreeMap<&'static str, Vec<Value>> {
    let mut tables: BTreeMap<&'static str, Vec<Value>> = BTreeMap::new();
    let mut cursor: Option<ExportCursor> = None;
    loop {
        let page = fixture
            .store
            .export_tenant(tenant, cursor.as_ref())
            .await
            .unwrap();
        let rows = page.rows.iter().map(|line| {
            assert!(!line.contains('\n'));
            serde_json::from_str::<Value>(line).unwrap()
        });
        tables.entry(page.table).or_default().extend(rows);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return tables,
        }
    }
}

/// The tables that have rows of tenants, by the catalogue of the database itself.
async fn tables(fixture: &Fixture) -> BTreeSet<String> {
    let all = columns(&fixture.admin).await.into_iter();
    all.filter(|(_, column)| column == "tenant")
        .map(|(table, _)| table)
        .collect()
}

/// How many rows of a tenant each table has, past the store.
async fn rows(fixture: &Fixture, tenant: TenantId) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for table in tables(fixture).await {
        let whose = if fixture.store.kind() == "sqlite" {
            format!("lower(hex(tenant)) = '{}'", tenant.uuid().simple())
        } else {
            format!("tenant = '{tenant}'")
        };
        let query = format!("SELECT CAST(count(*) AS TEXT) FROM {table} WHERE {whose}");
        let count = texts(&fixture.admin, &query).await[0][0].parse().unwrap();
        counts.insert(table, count);
    }
    counts
}

async fn state(fixture: &Fixture, tenant: TenantId) -> TenantState {
    let found = fixture.store.tenant(tenant).await.unwrap();
    found.unwrap().state()
}

async fn a_tenant_is_suspended_and_resumed(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    let head = async |tenant: TenantId| {
        let heads = store.heads().await.unwrap();
        heads
            .into_iter()
            .find(|head| head.tenant == tenant)
            .unwrap()
    };
    assert_eq!(state(&fixture, tenant).await, TenantState::Active);
    assert!(!head(tenant).await.suspended);
    let suspended = store.suspend_tenant(tenant, None).await.unwrap();
    assert_eq!(suspended.number(), 1, "every replica hears of it");
    let first = store.tenant(tenant).await.unwrap().unwrap();
    assert_eq!(first.state(), TenantState::Suspended);
    assert!(first.suspended_at.is_some());
    assert_eq!(store.suspend_tenant(tenant, None).await.unwrap(), suspended);
    assert_eq!(store.tenant(tenant).await.unwrap().unwrap(), first);
    let told = head(tenant).await;
    assert!(told.suspended && !told.deleted);
    assert_eq!(told.revision, suspended);
    assert!(!head(other).await.suspended, "another one is not");

    let resumed = store.resume_tenant(tenant, None).await.unwrap();
    assert_eq!(resumed.number(), 2);
    assert_eq!(store.resume_tenant(tenant, None).await.unwrap(), resumed);
    assert_eq!(state(&fixture, tenant).await, TenantState::Active);
    assert!(!head(tenant).await.suspended);

    let nobody = TenantId::from_uuid(fixture.clock.id());
    assert_eq!(store.tenant(nobody).await.unwrap(), None);
    for refused in [
        store.suspend_tenant(nobody, None).await.map(drop),
        store.resume_tenant(nobody, None).await.map(drop),
        store.delete_tenant(nobody, "acme", None).await,
        store.erase_tenant(nobody).await.map(drop),
    ] {
        assert!(
            matches!(refused, Err(Error::NotFound { what: "tenant" })),
            "{refused:?}"
        );
    }
}

async fn what_is_deleted_was_suspended_and_named(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    assert!(matches!(
        store
            .create_tenant(TenantId::from_uuid(fixture.clock.id()), "acme", None, None)
            .await,
        Err(Error::TenantTaken)
    ));
    let early = store.delete_tenant(tenant, "acme", None).await;
    assert!(matches!(early, Err(Error::NotSuspended)), "{early:?}");
    store.suspend_tenant(tenant, None).await.unwrap();
    for name in ["", "Acme", "acme ", "other"] {
        let wrong = store.delete_tenant(tenant, name, None).await;
        assert!(
            matches!(wrong, Err(Error::Invalid { member: "name", .. })),
            "{wrong:?}"
        );
    }
    let erased = store.erase_tenant(tenant).await;
    assert!(
        matches!(erased, Err(Error::NotFound { .. })),
        "it is not deleted"
    );
    assert_eq!(state(&fixture, tenant).await, TenantState::Suspended);
    // Resumed again, it cannot be deleted after all.
    store.resume_tenant(tenant, None).await.unwrap();
    assert!(matches!(
        store.delete_tenant(tenant, "acme", None).await,
        Err(Error::NotSuspended)
    ));
    assert_eq!(state(&fixture, tenant).await, TenantState::Active);
}

async fn nothing_is_left_of_a_deleted_tenant_and_others_are_whole(fixture: Fixture) {
    let store = &fixture.store;
    let (gone, stays) = (fixture.tenant("gone").await, fixture.tenant("stays").await);
    // More than one batch of a thousand.
    fill(&fixture, gone, 1_203).await;
    fill(&fixture, stays, 40).await;
    let before = export(&fixture, stays).await;
    let in_catalogue = !fixture.url.is_empty();
    let others = if in_catalogue {
        let filled = rows(&fixture, gone).await;
        assert!(
            filled.values().all(|count| *count > 0),
            "this test makes no row of some table: {filled:?}"
        );
        rows(&fixture, stays).await
    } else {
        BTreeMap::new()
    };
    store.suspend_tenant(gone, None).await.unwrap();
    store.delete_tenant(gone, "gone", None).await.unwrap();
    assert_eq!(state(&fixture, gone).await, TenantState::Deleting);
    let erased = store.erase_tenant(gone).await.unwrap();
    assert!(erased > 3 * 1_203, "{erased}");
    if in_catalogue {
        let left = rows(&fixture, gone).await;
        assert!(left.values().all(|count| *count == 0), "{left:?}");
        assert_eq!(rows(&fixture, stays).await, others);
    }
    assert!(export(&fixture, gone).await.values().all(Vec::is_empty));
    assert_eq!(
        export(&fixture, stays).await,
        before,
        "the other is as it was"
    );

    // The tombstone: no name, no way back, and the id in the heads so that replicas forget it.
    let tomb = store.tenant(gone).await.unwrap().unwrap();
    assert_eq!(
        (tomb.state(), tomb.name.as_str()),
        (TenantState::Deleted, "")
    );
    assert!(tomb.deleted_at.is_some());
    let heads = store.heads().await.unwrap();
    assert!(heads.iter().any(|head| head.tenant == gone && head.deleted));
    let listed = store.tenants(None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [stays]);
    // Somebody was denied something by a replica that has not heard of it yet.
    let id = remit_core::AdminActionId::from_uuid(fixture.clock.id());
    let tenant = remit_core::EntityUid::new("Tenant", gone.to_string());
    let late = remit_core::AdminAction::of_itself(id, fixture.clock.now(), "put_bundle", tenant);
    for refused in [
        store.suspend_tenant(gone, None).await.map(drop),
        store.resume_tenant(gone, None).await.map(drop),
        store.delete_tenant(gone, "gone", None).await,
        store.delete_tenant(gone, "", None).await,
        store
            .upsert_entities(gone, &[entity("Agent", "a", 1)])
            .await
            .map(drop),
        store
            .create_key(gone, &new_key(), &pepper())
            .await
            .map(drop),
        store.fleet(gone).await.map(drop),
        store.record_alone(gone, &late).await,
    ] {
        assert!(
            matches!(refused, Err(Error::NotFound { what: "tenant" })),
            "{refused:?}"
        );
    }
    // A heartbeat of a replica that has not heard of it yet.
    let beating = Replica {
        id: fixture.replica(),
        name: "late".into(),
        version: "1".into(),
        lease: Duration::from_secs(5),
    };
    let applied = [gone, stays].map(|tenant| Applied {
        tenant,
        revision: remit_core::Revision::new(1),
        failure: None,
    });
    store.heartbeat(&beating, &applied).await.unwrap();
    if in_catalogue {
        let left = rows(&fixture, gone).await;
        assert!(left.values().all(|count| *count == 0), "{left:?}");
    }
    // The name is free, and the id is another.
    let again = TenantId::from_uuid(fixture.clock.id());
    store
        .create_tenant(again, "gone", None, None)
        .await
        .unwrap();
    assert_ne!(again, gone);
    assert!(export(&fixture, again).await.values().all(Vec::is_empty));
}

async fn a_deletion_that_was_cut_short_is_taken_up_again(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant(" acme").await);
    fill(&fixture, tenant, 12).await;
    store.suspend_tenant(tenant, None).await.unwrap();
    store.delete_tenant(tenant, " acme", None).await.unwrap();
    // The process ended here. Its name is free already, and whoever goes on still has to say it.
    let half = store.tenant(tenant).await.unwrap().unwrap();
    assert_eq!(
        (half.state(), half.name.as_str()),
        (TenantState::Deleting, " acme")
    );
    let listed = store.tenants(None, 10).await.unwrap();
    assert_eq!(listed, [half], "it is listed while something is left");
    let next = TenantId::from_uuid(fixture.clock.id());
    store
        .create_tenant(next, " acme", None, None)
        .await
        .unwrap();
    assert_ne!(next, tenant);
    assert!(matches!(
        store.delete_tenant(tenant, "acme", None).await,
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        store.resume_tenant(tenant, None).await,
        Err(Error::NotFound { .. })
    ));
    store.delete_tenant(tenant, " acme", None).await.unwrap();
    // Two at once, as when somebody is impatient.
    let (one, other) = tokio::join!(store.erase_tenant(tenant), store.erase_tenant(tenant));
    assert!(one.unwrap() + other.unwrap() > 12);
    assert_eq!(state(&fixture, tenant).await, TenantState::Deleted);
    assert!(export(&fixture, tenant).await.values().all(Vec::is_empty));
    assert_eq!(store.erase_tenant(tenant).await.unwrap(), 0);
    assert_eq!(state(&fixture, next).await, TenantState::Active);
}

/// A spool holds what was decided before: it must neither bring a deleted tenant back nor stop at it.
async fn records_of_a_deleted_tenant_do_not_jam_the_spool(fixture: Fixture) {
    let store = &fixture.store;
    let (gone, stays) = (fixture.tenant("gone").await, fixture.tenant("stays").await);
    let replica = fixture.replica();
    let mut records = batch(&fixture, gone, replica, 1..21);
    records.extend(batch(&fixture, stays, replica, 21..41));
    // Half of them arrive before, as in a batch whose answer was lost.
    store
        .ship(&position(replica, 10), &records[..10])
        .await
        .unwrap();
    store.suspend_tenant(gone, None).await.unwrap();
    store.delete_tenant(gone, "gone", None).await.unwrap();
    for round in 0..3 {
        store.ship(&position(replica, 40), &records).await.unwrap();
        assert_eq!(
            store.shipped(replica).await.unwrap(),
            Some(position(replica, 40))
        );
        let kept = super::decisions::all(&fixture, stays).await;
        assert_eq!(kept.len(), 20, "round {round}");
        if round == 0 {
            assert_eq!(super::decisions::all(&fixture, gone).await.len(), 10);
            store.erase_tenant(gone).await.unwrap();
        }
        let left = super::decisions::all(&fixture, gone).await;
        assert_eq!(left.len(), 0, "round {round}");
    }
    // A tenant that the database never knew is no deleted one: its records are kept.
    let unknown = TenantId::from_uuid(fixture.clock.id());
    let strange = batch(&fixture, unknown, replica, 41..42);
    store.ship(&position(replica, 41), &strange).await.unwrap();
    assert_eq!(super::decisions::all(&fixture, unknown).await.len(), 1);

    // Shipping while it is being deleted, again and again: whichever comes first, nothing is left.
    for number in 0..10 {
        let name = format!("racing {number}");
        let tenant = fixture.tenant(&name).await;
        store.suspend_tenant(tenant, None).await.unwrap();
        let replica = fixture.replica();
        let racing = batch(&fixture, tenant, replica, 1..300);
        let upto = position(replica, 300);
        let deleting = async {
            store.delete_tenant(tenant, &name, None).await.unwrap();
            store.erase_tenant(tenant).await.unwrap();
        };
        let (shipped, ()) = tokio::join!(store.ship(&upto, &racing), deleting);
        shipped.unwrap();
        let left = super::decisions::all(&fixture, tenant).await;
        assert_eq!(left.len(), 0, "{name}");
    }
}

async fn an_export_has_everything_but_secrets(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    // More than a page of each.
    fill(&fixture, tenant, 1_007).await;
    fill(&fixture, other, 3).await;
    let second = bundle("// another");
    store
        .put_bundle(tenant, Expected::Any, &second, None)
        .await
        .unwrap();
    let tables = export(&fixture, tenant).await;
    let count = |table: &str| tables[table].len();
    assert_eq!(count("bundles"), 2);
    assert_eq!(count("entities"), 1_008, "every version, a removal too");
    assert_eq!(
        count("decisions"),
        1_009,
        "one consumed a budget, one an approval"
    );
    assert_eq!(count("api_keys"), 1);
    assert_eq!(count("idempotency"), 1);
    assert_eq!(count("replica_revisions"), 1);
    if !fixture.url.is_empty() {
        let there = rows(&fixture, tenant).await;
        for (table, count) in there {
            assert_eq!(tables[table.as_str()].len() as u64, count, "{table}");
        }
    }
    // What was put in comes out, to the letter.
    let body = |row: &Value| serde_json::from_str::<Value>(row["body"].as_str().unwrap()).unwrap();
    let version = tables["bundles"].last().unwrap();
    assert_eq!(body(version), serde_json::to_value(&second).unwrap());
    let row = |id: &str| {
        tables["entities"]
            .iter()
            .find(|row| row["id"] == id)
            .unwrap()
    };
    assert_eq!(
        body(row("a7")),
        serde_json::to_value(entity("Agent", "a7", 1)).unwrap()
    );
    assert!(row("a7").get("superseded").is_none(), "no value, no member");
    let gone: Vec<_> = tables["entities"]
        .iter()
        .filter(|row| row.get("body").is_none())
        .collect();
    assert_eq!(gone.len(), 1);
    let key = &tables["api_keys"][0];
    assert_eq!(
        (key["name"].as_str(), key.get("mac")),
        (Some("gateway"), None)
    );
    let ids: BTreeSet<&str> = tables["decisions"]
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1_009, "none twice");
    assert!(
        tables
            .values()
            .flatten()
            .all(|row| row.get("tenant").is_none())
    );
}

/// A new table or column that nobody exports, and so nobody deletes, is found here.
async fn every_table_of_tenants_is_exported(fixture: Fixture) {
    if fixture.url.is_empty() {
        return; // Its catalogue cannot be read, and is that of a file.
    }
    let all = columns(&fixture.admin).await;
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for table in tables(&fixture).await {
        let own = all
            .iter()
            .filter(|(name, column)| *name == table && column != "tenant");
        there.insert(
            table.clone(),
            own.map(|(_, column)| column.clone()).collect(),
        );
    }
    let listed = exported_columns().into_iter().map(|(table, columns)| {
        let columns = columns
            .into_iter()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>();
        (table.to_owned(), columns)
    });
    assert_eq!(
        listed.collect::<BTreeMap<_, _>>(),
        there,
        "see tenants/rows.rs"
    );
}

async fn tenants_are_listed_in_pages(fixture: Fixture) {
    let store = &fixture.store;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(fixture.tenant(&format!("t{number}")).await);
    }
    let mut seen = Vec::new();
    loop {
        let page = store.tenants(seen.last().copied(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        seen.extend(page.iter().map(|one| one.id));
    }
    made.sort();
    assert_eq!(seen, made);
}
