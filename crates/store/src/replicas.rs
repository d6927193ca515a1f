//! Replicas: the processes that decide, when each was last seen, and what it has in force of every tenant.

use std::time::Duration;

use remit_core::{ReplicaId, Revision, TenantId, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::dialect::{self, Rows};
use crate::error::Error;
use crate::reach::Across;
use crate::shipping::indexed;
use crate::store::Store;
use crate::tenants::{number, revision};

pub(crate) mod hints;

pub use hints::Hints;

/// How long a replica that is not seen is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);

/// One running process that decides, as it makes itself known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its id, under which it records decisions too.
    pub id: ReplicaId,
    /// What people call it, such as its host and port.
    pub name: String,
    /// Which version of the program it is.
    pub version: String,
    /// How long after it was last seen it may still permit.
    pub lease: Duration,
}

/// What a replica has in force of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The tenant.
    pub tenant: TenantId,
    /// The revision in force; zero before the first.
    pub revision: Revision,
    /// Why the last load failed, if it did; of a long text the beginning is kept.
    pub failure: Option<String>,
}

/// Every replica that has been seen within a day, as one tenant sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The newest revision of the tenant.
    pub head: Revision,
    /// The database's time, after which every `seen_at` is judged.
    pub now: Timestamp,
    /// The replicas, by name.
    pub replicas: Vec<SeenReplica>,
}

/// One replica, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenReplica {
    /// What it said of itself.
    pub replica: Replica,
    /// When it was first seen.
    pub started_at: Timestamp,
    /// When it was last seen.
    pub seen_at: Timestamp,
    /// The revision of the tenant that it has in force; zero before the first.
    pub revision: Revision,
    /// Why its last load of the tenant failed, if it did.
    pub failure: Option<String>,
}

/// A row of [`sql::NOTE_APPLIED`].
#[derive(Serialize)]
struct AppliedRow<'a> {
    replica: String,
    tenant: String,
    revision: i64,
    failure: Option<std::borrow::Cow<'a, str>>,
}

type Row = (
    Uuid,
    String,
    String,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<String>,
);

pub(crate) mod sql {
    statements! {
        /// Makes a replica known, or notes that it is still there.
        BEAT = "INSERT INTO replicas (id, name, version, started_at, seen_at, lease, beats) \
            VALUES ($1, $2, $3, $4, $4, $5, 1) ON CONFLICT (id) DO UPDATE SET \
            name = excluded.name, version = excluded.version, seen_at = excluded.seen_at, lease = excluded.lease, \
            beats = replicas.beats + 1 RETURNING beats";
        /// Notes what a replica has in force of the tenants given.
        NOTE_APPLIED = "INSERT INTO replica_revisions (replica, tenant, revision, failure) \
            SELECT unhex(made.value ->> 'replica'), t.id, CAST(made.value ->> 'revision' AS BIGINT), \
            made.value ->> 'failure' \
            FROM json_each($1) AS made JOIN tenants AS t ON t.id = unhex(made.value ->> 'tenant') \
            WHERE t.deleted_at IS NULL \
            ON CONFLICT (tenant, replica) DO UPDATE SET revision = excluded.revision, failure = excluded.failure";
        /// Finds the newest revision of a tenant.
        HEAD = "SELECT revision FROM tenants WHERE id = $1 AND deleted_at IS NULL";
        /// Lists the replicas with what each has in force of a tenant.
        FLEET = "SELECT r.id, r.name, r.version, r.started_at, r.seen_at, r.lease, a.revision, a.failure \
            FROM replicas AS r LEFT JOIN replica_revisions AS a ON a.replica = r.id AND a.tenant = $1 \
            ORDER BY r.name, r.id";
        /// Forgets a replica.
        FORGET = "DELETE FROM replicas WHERE id = $1";
        /// Forgets the replicas that have not been seen since.
        FORGET_UNSEEN = "DELETE FROM replicas WHERE seen_at < $1";
    }
}

// === impl Store ===

impl Store {
    /// Notes that a replica is there, and what it has in force of the tenants in `applied`; others stay as noted.
    ///
    /// Returns whether the database knew nothing of the replica: it is new, or was forgotten with all that was noted of
    /// it, and should tell of every tenant. A tenant that is not there any more is passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when no column holds a number; what can be away is [`Error::Unavailable`] and
    /// [`Error::Deadline`].
    pub async fn heartbeat(&self, replica: &Replica, applied: &[Applied]) -> Result<bool, Error> {
        let rows = Rows::of(applied.iter().map(|one| AppliedRow::of(replica.id, one)))?;
        self.within("say that this replica is there", async {
            // Two statements that may be apart: seen, with a revision that is older than it could be.
            let mut conn = self.connect_to_write().await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let beats: i64 = on!(conn, |raw| sqlx::query_scalar(sql::BEAT)
                .bind(replica.id.uuid())
                .bind(indexed(&replica.name))
                .bind(indexed(&replica.version))
                .bind(now.micros())
                .bind(i64::try_from(replica.lease.as_micros()).unwrap_or(i64::MAX))
                .fetch_one(raw)
                .await)?;
            if applied.is_empty() {
                conn.release();
            } else {
                dialect::begin(&mut conn, Across::Heartbeat.into()).await?;
                on!(conn, |raw| sqlx::query(sql::NOTE_APPLIED)
                    .bind(&rows)
                    .execute(raw)
                    .await
                    .map(drop))?;
                conn.commit().await?;
            }
            Ok(beats == 1)
        })
        .await
    }

    /// Returns every replica that has been seen lately, and how far each is with a tenant.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant, [`Error::Corrupt`] when a row cannot be read.
    pub async fn fleet(&self, tenant: TenantId) -> Result<Fleet, Error> {
        self.within("list the replicas", async {
            let mut conn = self.connect_to_read(tenant).await?;
            // In this order: no replica is taken for lost by a time at which it had not been read yet, and one that
            // appears after the head was read may have the newer.
            let head: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::HEAD)
                .bind(tenant.uuid())
                .fetch_optional(raw)
                .await)?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let rows: Vec<Row> = on!(conn, |raw| sqlx::query_as(sql::FLEET)
                .bind(tenant.uuid())
                .fetch_all(raw)
                .await)?;
            conn.end().await?;
            Ok((head, now, rows))
        })
        .await
        .and_then(|(head, now, rows)| {
            Ok(Fleet {
                head: revision(head.ok_or(Error::NotFound { what: "tenant" })?)?,
                now,
                replicas: rows
                    .into_iter()
                    .map(SeenReplica::read)
                    .collect::<Result<_, _>>()?,
            })
        })
    }

    /// Forgets a replica, which has stopped.
    pub async fn forget_replica(&self, replica: ReplicaId) -> Result<(), Error> {
        self.within("say that this replica stops", async {
            let mut conn = self.connect_to_write().await?;
            on!(conn, |raw| sqlx::query(sql::FORGET)
                .bind(replica.uuid())
                .execute(raw)
                .await
                .map(drop))?;
            conn.release();
            Ok(())
        })
        .await
    }

    /// Forgets every replica that has not been seen for a day, and returns how many those were.
    pub async fn forget_unseen_replicas(&self) -> Result<u64, Error> {
        self.within("forget replicas of long ago", async {
            let mut conn = self.connect_to_write().await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let remembered = i64::try_from(REMEMBERED.as_micros()).unwrap_or(i64::MAX);
            let forgotten = on!(conn, |raw| sqlx::query(sql::FORGET_UNSEEN)
                .bind(now.micros().saturating_sub(remembered))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.release();
            Ok(forgotten)
        })
        .await
    }
}

// === impl SeenReplica ===

impl SeenReplica {
    /// Tells whether it has not been seen for longer than it may permit without the database, by its own word.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        let lease = i64::try_from(self.replica.lease.as_micros()).unwrap_or(i64::MAX);
        now.micros().saturating_sub(self.seen_at.micros()) > lease
    }

    fn read(row: Row) -> Result<Self, Error> {
        let (id, name, version, started_at, seen_at, lease, applied, failure) = row;
        let corrupt = |what: &str| Error::corrupt("replicas", format!("the replica {id}: {what}"));
        let lease = u64::try_from(lease).map_err(|_| corrupt("its lease is negative"))?;
        Ok(Self {
            replica: Replica {
                id: ReplicaId::from_uuid(id),
                name,
                version,
                lease: Duration::from_micros(lease),
            },
            started_at: Timestamp::from_micros(started_at),
            seen_at: Timestamp::from_micros(seen_at),
            revision: applied.map(revision).transpose()?.unwrap_or_default(),
            failure,
        })
    }
}

// === impl AppliedRow ===

impl<'a> AppliedRow<'a> {
    fn of(replica: ReplicaId, applied: &'a Applied) -> Self {
        Self {
            replica: replica.uuid().simple().to_string(),
            tenant: applied.tenant.uuid().simple().to_string(),
            revision: number(applied.revision),
            failure: applied.failure.as_deref().map(indexed),
        }
    }
}
