//! The store: one suite, run on SQLite in memory, on SQLite in a file, and on Postgres, there as the superuser whom nothing
//! binds and as the role that Remit is meant to run as.

use std::collections::BTreeSet;

use remit_core::{
    Bundle, Clock, DecisionId, Entity, EntityUid, KeyId, ReplicaId, Source, TenantId, Timestamp,
};
use remit_store::{ApiKey, Change, Error, Expected, NewKey, Options, Pepper, Scope, Store};
use remit_tests::postgres::Postgres;
use remit_tests::sql::execute;
pub use remit_tests::sql::patient;
use serde_json::json;
use tempfile::TempDir;

/// Makes a module of each test, with one test a database in it.
macro_rules! for_each_database {
    ($($(#[doc = $doc:literal])* $test:ident;)*) => {$(
        mod $test {
            use crate::store::Fixture;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                super::$test(Fixture::memory().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test(Fixture::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(fixture) = Fixture::postgres().await {
                    super::$test(fixture).await;
                }
            }

            /// As a role that owns nothing, which row-level security binds.
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn bound() {
                if let Some(fixture) = Fixture::bound().await {
                    super::$test(fixture).await;
                }
            }
        }
    )*};
}

pub mod approvals;
mod break_glass;
mod budgets;
mod bundles;
mod consuming;
mod decisions;
mod drafts;
mod entities;
mod escrow;
mod events;
mod exceptions;
mod keys;
mod kills;
mod outages;
mod outcomes;
mod principals;
mod registry;
mod replicas;
mod row_security;
mod settings;
mod shadows;
mod shipping;
mod tasks;
mod tenants;
mod versions;

for_each_database! {
    migrations_are_applied_once;
    a_changed_migration_is_refused;
    every_statement_prepares_on_both_databases;
    tenants_have_one_id_a_name;
    nothing_crosses_tenants;
    a_change_of_no_tenant_is_refused;
}

/// A migrated database, and where it is.
pub struct Fixture {
    pub store: Store,
    pub clock: Clock,
    /// The address; empty for a database in memory, which nobody else can reach.
    pub url: String,
    /// The address as somebody who may do everything.
    admin: String,
    _folder: Option<TempDir>,
}

// === impl Fixture ===

impl Fixture {
    pub async fn memory() -> Self {
        Self {
            url: String::new(),
            ..Self::open("sqlite::memory:".into(), None).await
        }
    }

    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("remit.db").display());
        Self::open(url, Some(folder)).await
    }

    pub async fn postgres() -> Option<Self> {
        Some(Self::open(Postgres::database().await?, None).await)
    }

    /// A database that one role owns and another one, which this is, may read and write.
    pub async fn bound() -> Option<Self> {
        let roles = Postgres::database_of_roles().await?;
        let owner = Store::open(&patient(&roles.owner), Clock::system())
            .await
            .unwrap();
        owner.migrate().await.unwrap();
        owner.admit_role("remit_app").await.unwrap();
        Some(Self {
            admin: roles.admin,
            ..Self::open(roles.app, None).await
        })
    }

    async fn open(url: String, folder: Option<TempDir>) -> Self {
        let clock = Clock::system();
        let store = Store::open(&patient(&url), clock.clone()).await.unwrap();
        store.migrate().await.unwrap();
        Self {
            store,
            clock,
            admin: url.clone(),
            url,
            _folder: folder,
        }
    }

    /// Makes a tenant.
    pub async fn tenant(&self, name: &str) -> TenantId {
        self.store.ensure_tenant(name).await.unwrap()
    }

    /// Damages the database; false for one in memory, which cannot be.
    pub async fn damage(&self, text: &str) -> bool {
        if self.url.is_empty() {
            return false;
        }
        execute(&self.admin, text).await;
        true
    }

    pub fn key_id(&self) -> KeyId {
        KeyId::from_uuid(self.clock.id())
    }

    pub fn decision_id(&self) -> DecisionId {
        DecisionId::from_uuid(self.clock.id())
    }

    pub fn replica(&self) -> ReplicaId {
        ReplicaId::from_uuid(self.clock.id())
    }
}

pub fn bundle(text: &str) -> Bundle {
    Bundle {
        policies: vec![Source {
            file: "a.cedar".into(),
            text: text.into(),
        }],
        ..Bundle::default()
    }
}

pub fn entity(kind: &str, id: &str, level: i64) -> Entity {
    let attrs = json!({ "level": level, "note": "\u{0} \" \\ \n é 😀" });
    Entity {
        uid: EntityUid::new(kind, id),
        attrs: attrs.as_object().unwrap().clone(),
        parents: vec![EntityUid::new("Team", "ops")],
        tags: serde_json::Map::new(),
    }
}

pub fn pepper() -> Pepper {
    Pepper::new(&[7; 32]).unwrap()
}

pub fn new_key() -> NewKey {
    NewKey {
        name: "gateway".into(),
        environment: "live".into(),
        scopes: BTreeSet::from([Scope::Evaluate, Scope::Read]),
        expires_at: None,
        principal: None,
    }
}

async fn migrations_are_applied_once(fixture: Fixture) {
    let store = &fixture.store;
    assert_eq!(store.pending_migrations().await.unwrap(), [""; 0]);
    assert_eq!(
        store.migrate().await.unwrap(),
        [""; 0],
        "a second time there is nothing to do"
    );
    store.ping().await.unwrap();

    // A database nobody has migrated, and four processes that all want to.
    let (url, _folder) = match store.kind() {
        "sqlite" => {
            let folder = tempfile::tempdir().unwrap();
            (
                format!("sqlite:{}", folder.path().join("remit.db").display()),
                Some(folder),
            )
        }
        _ => (Postgres::database().await.unwrap(), None),
    };
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(Store::open(&patient(&url), Clock::system()).await.unwrap());
    }
    let names = stores[0].pending_migrations().await.unwrap();
    assert!(names.len() >= 6, "{names:?}");
    assert!(
        matches!(stores[0].heads().await, Err(Error::Database { .. })),
        "there are no tables yet"
    );
    let migrating: Vec<_> = stores
        .iter()
        .cloned()
        .map(|store| tokio::spawn(async move { store.migrate().await.unwrap() }))
        .collect();
    let mut applied = Vec::new();
    for one in migrating {
        applied.extend(one.await.unwrap());
    }
    assert_eq!(applied, names, "each is applied by exactly one of them");
    assert_eq!(stores[3].pending_migrations().await.unwrap(), [""; 0]);
    assert_eq!(stores[3].heads().await.unwrap(), []);
}

async fn a_changed_migration_is_refused(fixture: Fixture) {
    if !fixture
        .damage("UPDATE migrations SET hash = 'other' WHERE name = '0002_bundles'")
        .await
    {
        return;
    }
    for result in [
        fixture.store.migrate().await,
        fixture.store.pending_migrations().await,
    ] {
        assert!(matches!(result, Err(Error::MigrationChanged { name }) if name == "0002_bundles"));
    }
    // One that a newer version of this program has applied is no obstacle.
    fixture
        .damage("UPDATE migrations SET name = '9999_later', hash = 'x' WHERE name = '0002_bundles'")
        .await;
    assert_eq!(
        fixture.store.pending_migrations().await.unwrap(),
        ["0002_bundles"]
    );
}

/// INV-7: each statement is written once and holds on both databases.
async fn every_statement_prepares_on_both_databases(fixture: Fixture) {
    assert!(fixture.store.check_statements().await.unwrap() >= 35);
    // The check finds a schema that is not ours.
    if fixture
        .damage("ALTER TABLE api_keys RENAME COLUMN mac TO hash")
        .await
    {
        match fixture.store.check_statements().await {
            Err(Error::Corrupt { what, .. }) => assert!(what.contains("KEY"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn tenants_have_one_id_a_name(fixture: Fixture) {
    let store = &fixture.store;
    let mut ids = Vec::new();
    for name in [
        "acme",
        "Acme",
        "ACME",
        "аcme",
        "e\u{301}",
        "\u{e9}",
        "o'neill\"; --",
    ] {
        let id = fixture.tenant(name).await;
        assert_eq!(fixture.tenant(name).await, id, "{name:?}");
        ids.push(id);
    }
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        7,
        "names are byte-exact"
    );
    let names: Vec<String> = store
        .tenants(None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names.len(), 7);
    assert_eq!(names[0], "acme", "oldest first");
    assert!(
        store
            .heads()
            .await
            .unwrap()
            .iter()
            .all(|head| head.revision.number() == 0)
    );

    // Many at once, one tenant.
    let making: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.ensure_tenant("everybody").await.unwrap() })
        })
        .collect();
    let mut made = BTreeSet::new();
    for one in making {
        made.insert(one.await.unwrap());
    }
    assert_eq!(made.len(), 1);

    for name in ["", "a\0b", "a\nb", &"x".repeat(129)] {
        let refused = store.ensure_tenant(name).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    member: "tenant.name",
                    ..
                })
            ),
            "{name:?}"
        );
    }
}

/// F44: no method reads or changes anything of another tenant, though it knows its ids.
async fn nothing_crosses_tenants(fixture: Fixture) {
    let store = &fixture.store;
    let (ours, theirs) = (fixture.tenant("ours").await, fixture.tenant("theirs").await);
    store
        .put_bundle(ours, Expected::Any, &bundle("// ours"), None)
        .await
        .unwrap();
    store
        .upsert_entities(ours, &[entity("Agent", "a", 1)])
        .await
        .unwrap();
    let (key, _) = store.create_key(ours, &new_key(), &pepper()).await.unwrap();
    let record = decisions::record(&fixture, ours, 1);
    let id = record.head.id;
    store
        .ship(&decisions::position(record.replica, 1), &[record])
        .await
        .unwrap();
    let head = |tenant| async move {
        let heads = store.heads().await.unwrap();
        heads
            .into_iter()
            .find(|head| head.tenant == tenant)
            .unwrap()
            .revision
    };
    let before = head(ours).await;

    assert_eq!(store.bundle(theirs).await.unwrap(), None);
    assert_eq!(store.bundle_in_force(theirs, before).await.unwrap(), None);
    let uid = EntityUid::new("Agent", "a");
    assert_eq!(store.entity(theirs, &uid).await.unwrap(), None);
    assert_eq!(store.entities(theirs, None, None, 10).await.unwrap(), []);
    assert_eq!(
        store
            .entities(theirs, Some("Agent"), None, 10)
            .await
            .unwrap(),
        []
    );
    let zero = remit_core::Revision::new(0);
    let changes = store
        .entity_changes(theirs, zero, before, None, 10)
        .await
        .unwrap();
    assert_eq!(changes, remit_store::EntityChanges::default());
    assert!(store.key(theirs, key.id).await.unwrap().is_none());
    assert!(store.keys(theirs).await.unwrap().is_empty());
    assert!(matches!(
        store
            .revoke_key(theirs, key.id, None, Change::default())
            .await,
        Err(Error::NotFound { .. })
    ));
    let same = ApiKey::from_secret("live", key.id, [1; 32]).unwrap();
    let taken = store
        .insert_key(theirs, &same, &new_key(), &pepper(), Change::default())
        .await;
    assert!(matches!(taken, Err(Error::KeyTaken)));
    let filter = remit_store::DecisionFilter::default();
    assert_eq!(
        store.decisions(theirs, &filter, None, 10).await.unwrap(),
        []
    );
    assert_eq!(store.decision(theirs, id).await.unwrap(), None);
    assert_eq!(
        store
            .delete_entities(theirs, std::slice::from_ref(&uid))
            .await
            .unwrap()
            .1,
        0
    );
    store
        .upsert_entities(theirs, &[entity("Agent", "a", 2)])
        .await
        .unwrap();
    store
        .put_bundle(theirs, Expected::Absent, &bundle("// theirs"), None)
        .await
        .unwrap();

    assert_eq!(
        head(ours).await,
        before,
        "nothing done to another tenant moves this one"
    );
    let kept = store.entity(ours, &uid).await.unwrap().unwrap();
    assert_eq!(kept.entity, entity("Agent", "a", 1));
    assert_eq!(
        store.bundle(ours).await.unwrap().unwrap().bundle,
        bundle("// ours")
    );
    assert!(
        store
            .key(ours, key.id)
            .await
            .unwrap()
            .unwrap()
            .revoked_at
            .is_none()
    );
    assert!(store.decision(ours, id).await.unwrap().is_some());
}

async fn a_change_of_no_tenant_is_refused(fixture: Fixture) {
    let nobody = TenantId::from_uuid(fixture.clock.id());
    let store = &fixture.store;
    let results = [
        store
            .put_bundle(nobody, Expected::Any, &bundle(""), None)
            .await
            .map(drop),
        store
            .upsert_entities(nobody, &[entity("A", "b", 1)])
            .await
            .map(drop),
        store
            .delete_entities(nobody, &[EntityUid::new("A", "b")])
            .await
            .map(drop),
        store
            .create_key(nobody, &new_key(), &pepper())
            .await
            .map(drop),
        store
            .revoke_key(nobody, fixture.key_id(), None, Change::default())
            .await
            .map(drop),
    ];
    for result in results {
        assert!(
            matches!(result, Err(Error::NotFound { what: "tenant" })),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn an_address_that_is_no_database_is_refused_without_repeating_it() {
    for url in [
        "mysql://root:hunter2@db/remit",
        "postgres://remit:hunter2@db:port/remit",
        "sqlite:/no/such/folder/hunter2.db?mode=odd",
        "sqlite:/no/such/folder/remit.db",
        "hunter2",
    ] {
        let error = Store::open(&Options::new(url), Clock::system())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    assert!(!format!("{:?}", Options::new("postgres://a:hunter2@b/c")).contains("hunter2"));
}

#[test]
fn migrations_have_the_checksums_of_the_list() {
    let folder = remit_tests::root().join("migrations");
    let list = std::fs::read_to_string(folder.join("CHECKSUMS")).unwrap();
    let listed: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    for database in ["postgres", "sqlite"] {
        for file in std::fs::read_dir(folder.join(database)).unwrap() {
            let file = file.unwrap();
            let hash =
                remit_core::ContentHash::of(&std::fs::read(file.path()).unwrap()).to_string();
            let hash = hash.trim_start_matches("sha256:");
            found.insert(format!("{hash}  {database}/{}", file.file_name().display()));
        }
    }
    assert_eq!(
        found, listed,
        "a migration is never edited; for a new one run `sha256sum */*.sql > CHECKSUMS`"
    );
}

/// A whole microsecond, as both databases keep it.
pub fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}
