//! Bringing the schema up to this program: forward only, under a lock, all or nothing.
//!
//! Each migration is a file of the same name for both databases, embedded in the binary. A schema that is ahead of this
//! program is no error: during a rolling upgrade the old version runs on the new schema, which only ever expands.

use std::time::Duration;

use remit_core::ContentHash;

use crate::db::{Conn, Either};
use crate::dialect;
use crate::error::{Error, Failure};
use crate::reach::Across;
use crate::store::Store;
use crate::tenants::row_security;

/// How long a migration may take: building an index of a large table is slow.
const MIGRATION_DEADLINE: Duration = Duration::from_mins(10);

struct Migration {
    name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! migrations {
    ($($name:literal,)*) => {
        const MIGRATIONS: &[Migration] = &[$(Migration {
            name: $name,
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
        }),*];
    };
}

migrations! {
    "0001_tenants",
    "0002_bundles",
    "0003_entities",
    "0004_api_keys",
    "0005_decisions",
    "0006_spool_positions",
    "0007_replicas",
    "0008_bundle_versions",
    "0009_idempotency",
    "0010_principals",
    "0011_admin_actions",
    "0012_drafts",
    "0013_second_person",
    "0014_tenants",
    "0015_row_security",
    "0016_shadows",
    "0017_break_glass",
    "0018_agents",
    "0019_tools",
    "0020_kills",
    "0021_tasks",
    "0022_budgets",
    "0023_outcomes",
    "0024_approvals",
    "0025_approvers",
    "0026_exceptions",
    "0027_events",
    "0028_webhooks",
    "0029_ends_take_turns",
}

/// Which migrations have been applied, with the hash of the text that was.
const CREATE_APPLIED: &str = "CREATE TABLE IF NOT EXISTS migrations (
    name       TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL,
    applied_at BIGINT NOT NULL
)";

pub(crate) mod sql {
    statements! {
        /// Lists what has been applied.
        APPLIED = "SELECT name, hash FROM migrations ORDER BY name";
        /// Notes that a migration has been applied.
        RECORD_MIGRATION = "INSERT INTO migrations (name, hash, applied_at) VALUES ($1, $2, $3)";
    }
}

// === impl Store ===

impl Store {
    /// Applies every migration that is pending, in one transaction, and returns their names.
    ///
    /// Several processes may call this at once: one applies, the others wait and find nothing to do.
    ///
    /// # Errors
    ///
    /// [`Error::MigrationChanged`] when an applied migration is not the one in this binary; then nothing is applied.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        self.within_time("migrate the database", MIGRATION_DEADLINE, async {
            let mut conn = self.begin(Across::Migration).await?;
            dialect::lock_migrations(&mut conn).await?;
            // Only where it is missing: a role that may not make tables can still find that there is nothing to do.
            if !dialect::has_table(&mut conn, "migrations").await? {
                on!(conn, |raw| sqlx::raw_sql(CREATE_APPLIED)
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            let pending = pending(&mut conn).await?;
            let now = self.clock().now().micros();
            for migration in &pending {
                let text = migration.text(&conn);
                on!(conn, |raw| sqlx::raw_sql(text).execute(raw).await.map(drop))?;
                on!(conn, |raw| sqlx::query(sql::RECORD_MIGRATION)
                    .bind(migration.name)
                    .bind(ContentHash::of(text.as_bytes()).to_string())
                    .bind(now)
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            if !pending.is_empty() {
                row_security::protect(&mut conn).await?;
            }
            conn.commit().await?;
            Ok(pending.iter().map(|one| one.name.to_owned()).collect())
        })
        .await
    }

    /// Returns the names of the migrations that this program needs and the database has not had.
    ///
    /// # Errors
    ///
    /// [`Error::MigrationChanged`] when an applied migration is not the one in this binary.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, Error> {
        self.within("read which migrations have been applied", async {
            let mut conn = self.connect().await?;
            let pending = if dialect::has_table(&mut conn, "migrations").await? {
                pending(&mut conn).await?
            } else {
                MIGRATIONS.iter().collect()
            };
            conn.release();
            Ok(pending.iter().map(|one| one.name.to_owned()).collect())
        })
        .await
    }
}

async fn pending(conn: &mut Conn) -> Result<Vec<&'static Migration>, Failure> {
    let applied: Vec<(String, String)> = on!(conn, |raw| sqlx::query_as(sql::APPLIED)
        .fetch_all(raw)
        .await)?;
    let mut pending = Vec::new();
    for migration in MIGRATIONS {
        let hash = ContentHash::of(migration.text(conn).as_bytes()).to_string();
        match applied.iter().find(|(name, _)| name == migration.name) {
            Some((_, applied)) if *applied == hash => {}
            Some((name, _)) => return Err(Error::MigrationChanged { name: name.clone() }.into()),
            None => pending.push(migration),
        }
    }
    Ok(pending)
}

// === impl Migration ===

impl Migration {
    fn text(&self, conn: &Conn) -> &'static str {
        match conn.raw {
            Either::Postgres(_) => self.postgres,
            Either::Sqlite(_) => self.sqlite,
        }
    }
}
