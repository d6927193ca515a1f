//! Opening, migrating, probing and closing a database; the frame every call runs in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use remit_core::controls::{Protection, holds};
use remit_core::{Clock, Revision, TenantId, Timestamp};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::sync::{Mutex, Semaphore};

use crate::db::{Conn, Db, Either};
use crate::error::{Error, Failure};
use crate::reach::Reach;
use crate::{
    admin_actions, approvals, budgets, bundles, decisions, dialect, drafts, entities, events,
    idempotency, keys, migrations, outcomes, principals, registry, replicas, shadows, shipping,
    tasks, tenants, versions,
};

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct Options {
    /// `sqlite::memory:`, `sqlite:<path>` or `postgres://user:password@host:port/database`.
    pub url: String,
    /// The most connections at a time; a database in memory has one.
    pub max_connections: u32,
    /// How long one call may take, waiting for a connection included. A call that writes many rows has this for each
    /// begun thousand.
    pub deadline: Duration,
    /// Whether changes are told to those who listen, and listened for, where the database can: Postgres. Each change is
    /// found by the next poll either way.
    pub hints: bool,
}

/// A database with everything Remit keeps; cheap to clone, and every clone is the same one.
#[derive(Clone)]
pub struct Store(Arc<Inner>, Queue);

/// Where a call waits for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// With every other request, before the pool.
    Requests,
    /// At the pool itself, where no more requests wait than it has connections.
    Pool,
}

struct Inner {
    db: Db,
    clock: Clock,
    deadline: Duration,
    hints: bool,
    /// One turn at a time for writers of SQLite, which has one write lock.
    writers: Option<Arc<Semaphore>>,
    /// A place at the pool for each connection: requests without one wait here, and so never ahead of [`Store::ahead`].
    places: Arc<Semaphore>,
    /// Keeps a database in memory alive while the pool has no connection.
    anchor: Mutex<Option<SqliteConnection>>,
}

mod sql {
    statements! {
        /// Proves that the database answers.
        PING = "SELECT 1";
        /// Locks a tenant's row and moves its revision on; first in every change, so revisions follow commits.
        BUMP = "UPDATE tenants SET revision = revision + 1 WHERE id = $1 AND deleted_at IS NULL RETURNING revision";
        /// Locks a tenant's row for a change that alters nothing that decides.
        LOCK = "UPDATE tenants SET revision = revision WHERE id = $1 AND deleted_at IS NULL RETURNING revision";
    }
}

// === impl Options ===

impl Options {
    /// Uses the database at `url` with ten connections and two seconds a call.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 10,
            deadline: Duration::from_secs(2),
            hints: true,
        }
    }
}

impl fmt::Debug for Options {
    /// Leaves the address out: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_connections", &self.max_connections)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

// === impl Store ===

impl Store {
    /// Opens the database at `options.url`.
    ///
    /// SQLite is opened, and its file made, at once. Postgres is connected to at the first call, so that Remit can
    /// start before its database does.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the address is malformed or the SQLite file cannot be opened.
    pub async fn open(options: &Options, clock: Clock) -> Result<Self, Error> {
        let opened = dialect::open(options).await?;
        let writers = match opened.db {
            Either::Postgres(_) => None,
            Either::Sqlite(_) => Some(Arc::new(Semaphore::new(1))),
        };
        let places = usize::try_from(options.max_connections.max(1)).unwrap_or(1);
        let inner = Inner {
            hints: options.hints && writers.is_none(),
            db: opened.db,
            clock,
            deadline: options.deadline,
            writers,
            places: Arc::new(Semaphore::new(places)),
            anchor: Mutex::new(opened.anchor),
        };
        Ok(Self(Arc::new(inner), Queue::Requests))
    }

    /// Returns the same database for what must go on however many requests wait for a connection: reading what is new,
    /// and shipping decisions.
    #[must_use]
    pub fn ahead(&self) -> Self {
        if !holds(Protection::Ahead) {
            return self.clone();
        }
        Self(Arc::clone(&self.0), Queue::Pool)
    }

    /// Returns which database this is: `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match self.0.db {
            Either::Postgres(_) => "postgres",
            Either::Sqlite(_) => "sqlite",
        }
    }

    /// Asks the database for an answer, for a readiness probe.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn ping(&self) -> Result<(), Error> {
        let _: i32 = read!(self, Reach::Nobody, "reach the database", |raw| {
            sqlx::query_scalar(sql::PING).fetch_one(raw)
        })?;
        Ok(())
    }

    /// Returns the database's time, by which things expire on every replica alike.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn time(&self) -> Result<Timestamp, Error> {
        self.within("ask the database for the time", async {
            let mut conn = self.connect().await?;
            let time = dialect::time(&mut conn, self.clock()).await?;
            conn.release();
            Ok(time)
        })
        .await
    }

    /// Closes every connection, waiting for calls in flight for at most one deadline.
    pub async fn close(&self) {
        let closing = async {
            match &self.0.db {
                Either::Postgres(pool) => pool.close().await,
                Either::Sqlite(pool) => pool.close().await,
            }
        };
        // A database that does not answer the goodbye is left to notice by itself.
        let _ = tokio::time::timeout(self.0.deadline, closing).await;
        drop(self.0.anchor.lock().await.take());
    }

    /// Prepares every statement of this program, which finds a schema that does not fit it; returns how many there are.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the name of the first statement that the database does not take.
    pub async fn check_statements(&self) -> Result<usize, Error> {
        let all = [
            sql::ALL,
            admin_actions::sql::ALL,
            approvals::sql::ALL,
            approvals::asking::sql::ALL,
            approvals::changes::sql::ALL,
            approvals::ending::sql::ALL,
            approvals::limits::sql::ALL,
            approvals::sweeping::sql::ALL,
            approvals::using::sql::ALL,
            approvals::answers::sql::ALL,
            approvals::groups::sql::ALL,
            approvals::lists::sql::ALL,
            approvals::past::sql::ALL,
            budgets::escrow::sql::ALL,
            budgets::settling::sql::ALL,
            budgets::sql::ALL,
            bundles::sql::ALL,
            decisions::sql::ALL,
            decisions::leases::sql::ALL,
            drafts::sql::ALL,
            drafts::reviews::sql::ALL,
            drafts::room::sql::ALL,
            entities::sql::ALL,
            events::sql::ALL,
            idempotency::sql::ALL,
            keys::sql::ALL,
            migrations::sql::ALL,
            outcomes::sql::ALL,
            principals::sql::ALL,
            principals::break_glass::sql::ALL,
            registry::sql::ALL,
            registry::agents::sql::ALL,
            registry::exceptions::sql::ALL,
            registry::kills::sql::ALL,
            registry::tools::sql::ALL,
            registry::webhooks::queue::sql::ALL,
            registry::webhooks::sql::ALL,
            replicas::sql::ALL,
            shadows::sql::ALL,
            tasks::sql::ALL,
            tasks::changes::sql::ALL,
            tasks::ending::sql::ALL,
            tasks::labels::sql::ALL,
            tasks::templates::sql::ALL,
            tenants::settings::sql::ALL,
            shipping::sql::ALL,
            tenants::sql::ALL,
            versions::sql::ALL,
        ];
        let all = all.into_iter().flatten().copied();
        let all: Vec<(&'static str, &'static str)> =
            all.chain(tenants::rows::statements()).collect();
        self.within("prepare the statements", async {
            let mut conn = self.connect().await?;
            // A statement that is prepared already would not meet the schema again, and SQLite prepares against the
            // schema it read last, which it reads anew only when a statement runs.
            on!(conn, |raw| raw.clear_cached_statements().await)?;
            dialect::has_table(&mut conn, "migrations").await?;
            for (name, text) in &all {
                let text = sqlx::SqlSafeStr::into_sql_str(*text);
                let prepared = on!(conn, |raw| raw.prepare(text).await.map(drop));
                if let Err(sqlx::Error::Database(error)) = prepared {
                    return Err(Error::corrupt("schema", format!("`{name}`: {error}")).into());
                }
                prepared?;
            }
            conn.release();
            Ok(all.len())
        })
        .await
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Returns whether changes are told to those who listen.
    pub(crate) fn tells(&self) -> bool {
        self.0.hints
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    /// Returns how to reach Postgres for what needs a connection of its own, where that is wanted.
    pub(crate) fn listens(&self) -> Option<PgConnectOptions> {
        match &self.0.db {
            Either::Postgres(pool) if self.0.hints => Some((*pool.connect_options()).clone()),
            Either::Postgres(_) | Either::Sqlite(_) => None,
        }
    }

    /// Runs one call within the deadline.
    pub(crate) async fn within<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        self.within_time(doing, self.0.deadline, call).await
    }

    /// Runs one call within a deadline of its own. Nothing but a clock on this side helps against a frozen server.
    pub(crate) async fn within_time<T>(
        &self,
        doing: &'static str,
        deadline: Duration,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(deadline, call).await {
            Ok(done) => done.map_err(|failure| failure.while_doing(doing, deadline)),
            Err(_) => Err(Error::Deadline { doing, deadline }),
        }
    }

    /// Takes a connection to read rows within a reach; [`Conn::end`] gives it back.
    pub(crate) async fn connect_to_read(&self, reach: impl Into<Reach>) -> Result<Conn, Failure> {
        let mut conn = self.connect().await?;
        dialect::begin_to_read(&mut conn, reach.into()).await?;
        Ok(conn)
    }

    /// Takes a connection, for what concerns no rows of tenants.
    pub(crate) async fn connect(&self) -> Result<Conn, Failure> {
        self.connect_to(true).await
    }

    /// Takes a connection that may have been lost meanwhile, without the round trip in which that is found out: for one
    /// statement that is a transaction of its own, by whoever tries again.
    pub(crate) async fn connect_at_once(&self) -> Result<Conn, Failure> {
        self.connect_to(false).await
    }

    async fn connect_to(&self, asked: bool) -> Result<Conn, Failure> {
        let place = match self.1 {
            Queue::Requests => Some(
                Arc::clone(&self.0.places)
                    .acquire_owned()
                    .await
                    .map_err(|_| sqlx::Error::PoolClosed)?,
            ),
            Queue::Pool => None,
        };
        // Boxed: every call holds this future, and with it each of those that make up a request.
        let mut conn = Box::pin(dialect::acquire(&self.0.db, asked)).await?;
        conn.place = place;
        Ok(conn)
    }

    /// Takes a connection and begins a transaction that writes within a reach.
    pub(crate) async fn begin(&self, reach: impl Into<Reach>) -> Result<Conn, Failure> {
        let mut conn = self.connect_to_write().await?;
        dialect::begin(&mut conn, reach.into()).await?;
        Ok(conn)
    }

    /// Takes a connection for statements that write and need no others with them: each is a transaction of its own.
    pub(crate) async fn connect_to_write(&self) -> Result<Conn, Failure> {
        let turn = match &self.0.writers {
            Some(writers) => Some(
                Arc::clone(writers)
                    .acquire_owned()
                    .await
                    .map_err(|_| sqlx::Error::PoolClosed)?,
            ),
            None => None,
        };
        let mut conn = self.connect().await?;
        conn.turn = turn;
        Ok(conn)
    }

    /// Begins a change of one tenant: a transaction that has locked the tenant's row and moved its revision on.
    pub(crate) async fn begin_change(&self, tenant: TenantId) -> Result<(Conn, Revision), Failure> {
        self.begin_change_since(tenant, None).await
    }

    /// Begins a change of one tenant that alters nothing that decides: one at a time, and no new revision. Returns the
    /// revision that the tenant is at.
    pub(crate) async fn begin_aside(&self, tenant: TenantId) -> Result<(Conn, Revision), Failure> {
        let mut conn = self.begin(tenant).await?;
        let found: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::LOCK)
            .bind(tenant.uuid())
            .fetch_optional(raw)
            .await)?;
        match found {
            Some(head) => Ok((conn, tenants::revision(head)?)),
            None => {
                conn.rollback().await?;
                Err(Error::NotFound { what: "tenant" }.into())
            }
        }
    }

    /// Moves the tenant's revision on in a transaction that has locked its row: what was begun aside is a change after all.
    pub(crate) async fn move_on(&self, conn: &mut Conn, tenant: TenantId) -> Result<(), Failure> {
        conn.told = self.0.hints;
        on!(conn, |raw| sqlx::query(sql::BUMP)
            .bind(tenant.uuid())
            .execute(raw)
            .await
            .map(drop))?;
        Ok(())
    }

    /// Begins a change that holds only if nothing of the tenant has changed since `checked`.
    pub(crate) async fn begin_change_since(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
    ) -> Result<(Conn, Revision), Failure> {
        self.begin_change_within(tenant, tenant, checked).await
    }

    /// Begins a change of one tenant that also writes rows of others, within a reach.
    pub(crate) async fn begin_change_within(
        &self,
        reach: impl Into<Reach>,
        tenant: TenantId,
        checked: Option<Revision>,
    ) -> Result<(Conn, Revision), Failure> {
        let conn = self.begin(reach).await?;
        self.change_begun(conn, tenant, checked).await
    }

    /// Makes a transaction that has begun a change of one tenant.
    pub(crate) async fn change_begun(
        &self,
        mut conn: Conn,
        tenant: TenantId,
        checked: Option<Revision>,
    ) -> Result<(Conn, Revision), Failure> {
        conn.told = self.0.hints;
        let revision: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::BUMP)
            .bind(tenant.uuid())
            .fetch_optional(raw)
            .await)?;
        match revision {
            Some(revision) => {
                let next = tenants::revision(revision)?;
                let head = Revision::new(next.number().saturating_sub(1));
                if checked.is_some_and(|checked| checked != head) {
                    conn.rollback().await?;
                    return Err(Error::Moved { head }.into());
                }
                Ok((conn, next))
            }
            None => {
                conn.rollback().await?;
                Err(Error::NotFound { what: "tenant" }.into())
            }
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.kind()).finish()
    }
}

/// Runs what takes long where nothing else waits for it; a panic there means that a row of `table` cannot be read.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    table: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::corrupt(table, error.to_string())))
}
