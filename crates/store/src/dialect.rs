//! Everything that differs between Postgres and SQLite.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use remit_core::{Clock, Timestamp};
use serde::Serialize;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgTypeInfo};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous, SqliteTypeInfo,
};
use sqlx::{Connection, Database, Encode, PgConnection, Postgres, Sqlite, SqliteConnection, Type};
use uuid::Uuid;

use crate::db::{Conn, Db, Either};
use crate::error::{Error, Failure};
use crate::reach::Reach;
use crate::store::Options;

pub(crate) mod consuming;

/// How long Postgres lets a connection sit inside a transaction before it ends it.
///
/// A replica that is cut off in the middle of a change must not keep the tenant's row locked for all others.
const IDLE_IN_TRANSACTION: &str = "SET idle_in_transaction_session_timeout = '30s'";

/// The key of the advisory lock that migrations hold: `remit` in ASCII.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(491327940980)";

/// The channel on which Postgres tells that something of some tenant has changed.
pub(crate) const CHANNEL: &str = "remit_changes";

/// Ends a transaction and tells of it, in one message: it is told when the change is committed, and not at all otherwise.
pub(crate) const COMMIT_AND_TELL: &str = "NOTIFY remit_changes; COMMIT";

/// The time at this moment, not at the start of the transaction, in microseconds since 1970.
const TIME: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The pool, and for a database in memory the connection that keeps it alive.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) anchor: Option<SqliteConnection>,
}

/// Rows of a statement that writes many at once: `json_each($n)` gives one row a value.
///
/// One parameter whatever the number of rows, so no limit on parameters is met. The JSON is an object, because
/// `json_each` of Postgres takes only objects and SQLite's takes both.
#[derive(Debug, Clone)]
pub(crate) struct Rows(String);

/// Opens the database at `options.url`: Postgres at the first use, so that Remit starts without it; SQLite at once.
pub(crate) async fn open(options: &Options) -> Result<Opened, Error> {
    let url = options.url.as_str();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        open_postgres(options)
    } else if url.starts_with("sqlite:") {
        open_sqlite(options).await
    } else {
        Err(Error::Address {
            problem: "it begins with none of `postgres://`, `postgresql://` and `sqlite:`".into(),
        })
    }
}

fn open_postgres(options: &Options) -> Result<Opened, Error> {
    let connect = PgConnectOptions::from_str(&options.url)
        .map_err(|error| Error::Address {
            problem: error.to_string(),
        })?
        .application_name("remit");
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections.max(1))
        .acquire_timeout(options.deadline)
        // `acquire` does that, where it is wanted.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(IDLE_IN_TRANSACTION)
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        .connect_lazy_with(connect);
    Ok(Opened {
        db: Either::Postgres(pool),
        anchor: None,
    })
}

async fn open_sqlite(options: &Options) -> Result<Opened, Error> {
    let unusable = |error: sqlx::Error| Error::Address {
        problem: error.to_string(),
    };
    // Whatever `sqlite::memory:` is spelled as, it is one database for all connections of this pool.
    let memory = options.url.contains(":memory:") || options.url.contains("mode=memory");
    let connect = SqliteConnectOptions::from_str(&options.url)
        .map_err(unusable)?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.deadline);
    let anchor = if memory {
        Some(
            SqliteConnection::connect_with(&connect)
                .await
                .map_err(unusable)?,
        )
    } else {
        None
    };
    let pool = SqlitePoolOptions::new()
        // Connections that share a cache lock each other out by table; one is as fast and cannot.
        .max_connections(if memory {
            1
        } else {
            options.max_connections.max(1)
        })
        .acquire_timeout(options.deadline)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(connect)
        .await
        .map_err(unusable)?;
    Ok(Opened {
        db: Either::Sqlite(pool),
        anchor,
    })
}

/// Takes a connection out of the pool.
///
/// The pool retries a refused connection until the deadline and then tells only that it timed out; so while it has
/// none at all, one is tried here first, for an answer at once and with its cause.
///
/// A connection is asked whether it is still alive, which costs a round trip, unless whoever takes it tries again anyway.
pub(crate) async fn acquire(db: &Db, asked: bool) -> Result<Conn, Failure> {
    match db {
        Either::Postgres(pool) => {
            if pool.size() == 0 {
                PgConnection::connect_with(&pool.connect_options())
                    .await?
                    .close()
                    .await?;
            }
            loop {
                let mut raw = pool.acquire().await?;
                if !asked || raw.ping().await.is_ok() {
                    return Ok(Conn::new(Either::Postgres(raw)));
                }
                // It is dead. Each that is dropped makes room for a new one, which can be opened or not.
                raw.close_on_drop();
            }
        }
        Either::Sqlite(pool) => Ok(Conn::new(Either::Sqlite(pool.acquire().await?))),
    }
}

/// Begins a transaction that will write. SQLite takes its write lock now: upgrading later would fail, not wait.
pub(crate) async fn begin(conn: &mut Conn, reach: Reach) -> Result<(), Failure> {
    match &mut conn.raw {
        Either::Postgres(raw) => run(raw, within("BEGIN", reach)).await,
        Either::Sqlite(raw) => {
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut **raw).await?;
            Ok(())
        }
    }
}

/// Begins a transaction that reads within a reach; SQLite, which keeps tenants apart by statements alone, needs none.
pub(crate) async fn begin_to_read(conn: &mut Conn, reach: Reach) -> Result<(), Failure> {
    if let Either::Postgres(raw) = &mut conn.raw
        && reach != Reach::Nobody
    {
        run(raw, within("BEGIN READ ONLY", reach)).await?;
        conn.reading = true;
    }
    Ok(())
}

/// Writes the beginning of a transaction and its reach as one message: to say whose rows it means costs no question.
///
/// For this transaction only (the last argument): what stayed behind on a pooled connection would be the next call's.
fn within(begin: &str, reach: Reach) -> String {
    match reach.setting() {
        Some(setting) => format!("{begin}; SELECT set_config('remit.tenant', '{setting}', true)"),
        None => begin.to_owned(),
    }
}

async fn run(raw: &mut PgConnection, text: String) -> Result<(), Failure> {
    // Nothing in it comes from outside: an id is written by its own type.
    sqlx::raw_sql(sqlx::AssertSqlSafe(text))
        .execute(raw)
        .await?;
    Ok(())
}

/// Waits until no other process migrates; held to the end of the transaction.
///
/// On SQLite the transaction that writes is alone already.
pub(crate) async fn lock_migrations(conn: &mut Conn) -> Result<(), Failure> {
    if let Either::Postgres(raw) = &mut conn.raw {
        sqlx::raw_sql(MIGRATION_LOCK).execute(&mut **raw).await?;
    }
    Ok(())
}

/// Returns the database's time; SQLite has none but that of this host.
pub(crate) async fn time(conn: &mut Conn, clock: &Clock) -> Result<Timestamp, Failure> {
    match &mut conn.raw {
        Either::Postgres(raw) => {
            let micros: i64 = sqlx::query_scalar(TIME).fetch_one(&mut **raw).await?;
            Ok(Timestamp::from_micros(micros))
        }
        Either::Sqlite(_) => Ok(clock.now()),
    }
}

/// Returns the statement that tells what holds for one principal, with the time at which that is so.
///
/// The time is never before `$3`; SQLite has none of its own, so that there `$3` is it.
pub(crate) fn standing(conn: &Conn) -> &'static str {
    macro_rules! standing {
        ($time:literal) => {
            concat!(
                "SELECT t.second_person, ",
                $time,
                ", b.id, b.roles, b.ends_at FROM tenants t \
                 LEFT JOIN break_glass b ON b.tenant = t.id AND b.principal = $2 AND b.approved_at IS NOT NULL \
                 AND b.ended_at IS NULL AND EXISTS (SELECT 1 FROM principals p \
                 WHERE p.tenant = $1 AND p.name = $2 AND p.disabled_at IS NULL) \
                 WHERE t.id = $1 ORDER BY b.ends_at DESC LIMIT 1"
            )
        };
    }
    match conn.raw {
        Either::Postgres(_) => standing!(
            "greatest(CAST($3 AS BIGINT), CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT))"
        ),
        Either::Sqlite(_) => standing!("CAST($3 AS INTEGER)"),
    }
}

/// Returns which of these tenants were deleted. Those that were not, are not before this transaction ends.
///
/// SQLite has one writer, which is this one; Postgres is asked for the weakest lock that stands in the way of a new name,
/// which a tenant gets when it is deleted, and not in the way of its other changes.
pub(crate) async fn deleted_of(
    conn: &mut Conn,
    tenants: &BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>, Failure> {
    if tenants.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = Rows::of(tenants.iter().map(|tenant| tenant.simple().to_string()))?;
    let text = match conn.raw {
        Either::Postgres(_) => {
            "SELECT t.id, t.deleted_at FROM tenants AS t \
             WHERE t.id IN (SELECT unhex(made.value #>> '{}') FROM json_each($1) AS made) FOR KEY SHARE OF t"
        }
        Either::Sqlite(_) => {
            "SELECT t.id, t.deleted_at FROM tenants AS t \
             WHERE t.id IN (SELECT unhex(made.value) FROM json_each($1) AS made)"
        }
    };
    let found: Vec<(Uuid, Option<i64>)> = on!(conn, |raw| sqlx::query_as(text)
        .bind(&rows)
        .fetch_all(raw)
        .await)?;
    let deleted = found.into_iter().filter(|(_, deleted)| deleted.is_some());
    Ok(deleted.map(|(tenant, _)| tenant).collect())
}

/// Tells whether a table exists.
pub(crate) async fn has_table(conn: &mut Conn, table: &'static str) -> Result<bool, Failure> {
    let text = match conn.raw {
        Either::Postgres(_) => "SELECT count(*) FROM pg_class WHERE oid = to_regclass($1)",
        Either::Sqlite(_) => {
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
        }
    };
    let count: i64 = on!(conn, |raw| sqlx::query_scalar(text)
        .bind(table)
        .fetch_one(raw)
        .await)?;
    Ok(count > 0)
}

/// Tells whether an error means that the database is away or cannot serve just now.
pub(crate) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_outage_code(&code)),
        _ => false,
    }
}

/// Postgres: connection exceptions, resources, operator intervention, a demoted primary, serialisation and lock
/// failures (SQLSTATE, PostgreSQL appendix A). SQLite: busy, locked, I/O error, full, cannot open (its result codes).
fn is_outage_code(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "53", "57", "40"]
            .iter()
            .any(|class| code.starts_with(class))
            || code == "25006"
            || code == "55P03";
    }
    // An extended result code keeps the primary one in its low byte.
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

/// How long many rows may take: the deadline of a call for each begun thousand.
pub(crate) fn deadline_of(rows: usize, deadline: Duration) -> Duration {
    let thousands = u32::try_from(rows / 1_000).unwrap_or(u32::MAX);
    deadline.saturating_mul(thousands.saturating_add(1))
}

// === impl Rows ===

impl Rows {
    /// Writes `rows` as one JSON object.
    pub(crate) fn of<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let mut text = String::from("{");
        for (index, row) in rows.into_iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            let row = serde_json::to_string(&row).map_err(|error| Error::Invalid {
                member: "row",
                problem: format!("is not JSON: {error}"),
            })?;
            text.push('"');
            text.push_str(&index.to_string());
            text.push_str("\":");
            text.push_str(&row);
        }
        text.push('}');
        Ok(Self(text))
    }
}

impl Type<Postgres> for Rows {
    fn type_info() -> PgTypeInfo {
        // `json`, which keeps the text as it is; pg_type.dat fixes its object id.
        PgTypeInfo::with_oid(Oid(114))
    }
}

impl Encode<'_, Postgres> for Rows {
    fn encode_by_ref(
        &self,
        buffer: &mut <Postgres as Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl Type<Sqlite> for Rows {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Rows {
    fn encode_by_ref(
        &self,
        buffer: &mut <Sqlite as Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        <String as Encode<'_, Sqlite>>::encode_by_ref(&self.0, buffer)
    }
}
