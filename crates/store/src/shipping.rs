//! Shipping: decision records from a replica's spool into the database, each exactly once.

use std::borrow::Cow;

use remit_core::controls::{Protection, holds};
use remit_core::{DecisionRecord, ReplicaId, TenantId, Verdict};
use serde::Serialize;
use uuid::Uuid;

use crate::dialect::{Rows, deadline_of};
use crate::error::{Error, Failure};
use crate::store::Store;

/// How many rows one statement writes.
const CHUNK: usize = 1_000;
/// How much of a text the columns for filtering keep, in bytes: an index row of Postgres has room for 2,704.
const INDEXED_BYTES: usize = 1_024;

/// How far the spool of one replica has been shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolPosition {
    /// The replica.
    pub replica: ReplicaId,
    /// The number of the segment.
    pub segment: u64,
    /// The byte in the segment before which everything is shipped.
    pub offset: u64,
    /// The sequence number of the last record shipped.
    pub sequence: u64,
}

/// One record on its way from a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShippedRecord {
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// The replica that made it.
    pub replica: ReplicaId,
    /// Its number in that replica's spool.
    pub sequence: u64,
    /// The record.
    pub record: DecisionRecord,
    /// The record as canonical JSON, the bytes that were made durable.
    pub body: String,
}

#[derive(Serialize)]
struct DecisionRow<'a> {
    tenant: String,
    id: String,
    at: i64,
    verdict: &'static str,
    reason: &'static str,
    subject_type: Cow<'a, str>,
    subject_id: Cow<'a, str>,
    action: Cow<'a, str>,
    resource_type: Cow<'a, str>,
    resource_id: Cow<'a, str>,
    caller: String,
    revision: i64,
    replica: String,
    sequence: i64,
    body: &'a str,
}

#[derive(Serialize)]
struct PolicyRow<'a> {
    tenant: String,
    decision: String,
    policy: Cow<'a, str>,
}

pub(crate) mod sql {
    statements! {
        /// Finds how far a replica's spool has been shipped.
        SPOOL_POSITION = "SELECT segment, position, sequence FROM spool_positions WHERE replica = $1";
        /// Moves a spool position on, never back.
        MOVE_POSITION = "INSERT INTO spool_positions (replica, segment, position, sequence) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (replica) DO UPDATE SET \
            segment = excluded.segment, position = excluded.position, sequence = excluded.sequence \
            WHERE (spool_positions.segment, spool_positions.position) < (excluded.segment, excluded.position) \
            AND spool_positions.sequence <= excluded.sequence";
        /// Adds the decisions that are not there yet. Materialised, because SQLite writes a row of `json_each` out anew
        /// for each mention of its value.
        INSERT_DECISIONS = "WITH made AS MATERIALIZED (SELECT value FROM json_each($1)) \
            INSERT INTO decisions (tenant, id, at, verdict, reason, subject_type, \
            subject_id, action, resource_type, resource_id, caller, revision, replica, sequence, body) \
            SELECT unhex(made.value ->> 'tenant'), unhex(made.value ->> 'id'), \
            CAST(made.value ->> 'at' AS BIGINT), made.value ->> 'verdict', made.value ->> 'reason', \
            made.value ->> 'subject_type', made.value ->> 'subject_id', made.value ->> 'action', \
            made.value ->> 'resource_type', made.value ->> 'resource_id', \
            unhex(made.value ->> 'caller'), CAST(made.value ->> 'revision' AS BIGINT), \
            unhex(made.value ->> 'replica'), CAST(made.value ->> 'sequence' AS BIGINT), \
            made.value ->> 'body' FROM made WHERE TRUE ON CONFLICT (tenant, id) DO NOTHING";
        /// Counts the decisions that are there exactly as given.
        COUNT_SHIPPED = "SELECT count(*) FROM json_each($1) AS made CROSS JOIN decisions AS d \
            WHERE d.tenant = unhex(made.value ->> 'tenant') AND d.id = unhex(made.value ->> 'id') \
            AND d.replica = unhex(made.value ->> 'replica') \
            AND d.sequence = CAST(made.value ->> 'sequence' AS BIGINT) AND d.body = made.value ->> 'body'";
        /// Adds which policies settled them.
        INSERT_POLICIES = "INSERT INTO decision_policies (tenant, policy, decision) \
            SELECT unhex(made.value ->> 'tenant'), made.value ->> 'policy', unhex(made.value ->> 'decision') \
            FROM json_each($1) AS made WHERE TRUE ON CONFLICT (tenant, policy, decision) DO NOTHING";
    }
}

// === impl Store ===

impl Store {
    /// Stores records and moves the spool's position, in one transaction.
    ///
    /// A record that is stored already is left alone and a position never goes back, so a batch whose answer was lost
    /// is simply shipped again. When this returns, every record of the batch is stored exactly as given.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] when another record has the id, or the sequence number, of one of these; then nothing is
    /// written, and shipping again will not help.
    pub async fn ship(
        &self,
        position: &SpoolPosition,
        records: &[ShippedRecord],
    ) -> Result<(), Error> {
        let deadline = deadline_of(records.len(), self.deadline());
        self.within_time("ship decision records", deadline, async {
            let mut conn = self.begin().await?;
            let insert = if holds(Protection::ExactlyOnceShipping) {
                sql::INSERT_DECISIONS
            } else {
                sql::INSERT_DECISIONS.trim_end_matches(" ON CONFLICT (tenant, id) DO NOTHING")
            };
            for chunk in records.chunks(CHUNK) {
                let batch = chunk.len();
                let rows = chunk
                    .iter()
                    .map(DecisionRow::of)
                    .collect::<Result<Vec<_>, _>>()?;
                let rows = Rows::of(rows)?;
                let inserted = on!(conn, |raw| sqlx::query(insert)
                    .bind(&rows)
                    .execute(raw)
                    .await
                    .map(|done| done.rows_affected()))
                .map_err(Failure::from)
                .map_err(sequence_taken)?;
                if usize::try_from(inserted) != Ok(batch) {
                    let there: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_SHIPPED)
                        .bind(&rows)
                        .fetch_one(raw)
                        .await)?;
                    if usize::try_from(there) != Ok(batch) {
                        conn.rollback().await?;
                        let what = format!(
                            "{there} of {batch} records are stored as they are in the spool"
                        );
                        return Err(Error::Diverged { what }.into());
                    }
                }
                let policies = Rows::of(chunk.iter().flat_map(PolicyRow::of))?;
                on!(conn, |raw| sqlx::query(sql::INSERT_POLICIES)
                    .bind(&policies)
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            on!(conn, |raw| sqlx::query(sql::MOVE_POSITION)
                .bind(position.replica.uuid())
                .bind(column("segment", position.segment)?)
                .bind(column("offset", position.offset)?)
                .bind(column("sequence", position.sequence)?)
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(())
        })
        .await
    }

    /// Returns how far a replica's spool has been shipped; `None` when nothing of it has.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn shipped(&self, replica: ReplicaId) -> Result<Option<SpoolPosition>, Error> {
        let row: Option<(i64, i64, i64)> =
            read!(self, "read a spool position", |raw| sqlx::query_as(
                sql::SPOOL_POSITION
            )
            .bind(replica.uuid())
            .fetch_optional(raw))?;
        row.map(|(segment, offset, sequence)| {
            let read = |value: i64| {
                u64::try_from(value).map_err(|_| {
                    Error::corrupt(
                        "spool_positions",
                        format!("replica {replica}: {value} is negative"),
                    )
                })
            };
            Ok(SpoolPosition {
                replica,
                segment: read(segment)?,
                offset: read(offset)?,
                sequence: read(sequence)?,
            })
        })
        .transpose()
    }
}

/// The only unique name of `decisions` that an insert can meet is `decisions_sequence_key`: its other is handled.
fn sequence_taken(failure: Failure) -> Failure {
    if failure.is_unique_violation() {
        let what = "another record has the sequence number of one of these".into();
        return Error::Diverged { what }.into();
    }
    failure
}

fn column(member: &'static str, value: u64) -> Result<i64, Error> {
    i64::try_from(value)
        .map_err(|_| Error::invalid(member, format!("is {value}, more than a column holds")))
}

/// Cuts a text to what the columns for filtering keep; a filter is cut alike, the body is not.
///
/// A NUL character, which Postgres cannot hold, is replaced: no record may be too odd to be kept.
pub(crate) fn indexed(text: &str) -> Cow<'_, str> {
    let end = text.floor_char_boundary(INDEXED_BYTES);
    let cut = text.get(..end).unwrap_or_default();
    if cut.contains('\0') {
        Cow::Owned(cut.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(cut)
    }
}

pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Permit => "permit",
        Verdict::Deny => "deny",
    }
}

fn digits(uuid: Uuid) -> String {
    uuid.simple().to_string()
}

// === impl DecisionRow ===

impl<'a> DecisionRow<'a> {
    fn of(shipped: &'a ShippedRecord) -> Result<Self, Error> {
        let record = &shipped.record;
        let question = &record.question;
        Ok(Self {
            tenant: digits(shipped.tenant.uuid()),
            id: digits(record.id.uuid()),
            at: record.at.micros(),
            verdict: verdict(record.decision.verdict),
            reason: record.decision.reason.code(),
            subject_type: indexed(&question.subject.kind),
            subject_id: indexed(&question.subject.id),
            action: indexed(&question.action.name),
            resource_type: indexed(&question.resource.kind),
            resource_id: indexed(&question.resource.id),
            caller: digits(record.caller.key.uuid()),
            revision: column("revision", record.decision.revision.number())?,
            replica: digits(shipped.replica.uuid()),
            sequence: column("sequence", shipped.sequence)?,
            body: &shipped.body,
        })
    }
}

// === impl PolicyRow ===

impl<'a> PolicyRow<'a> {
    fn of(shipped: &'a ShippedRecord) -> impl Iterator<Item = Self> {
        let (tenant, decision) = (shipped.tenant.uuid(), shipped.record.id.uuid());
        let policies = &shipped.record.decision.determining;
        policies.iter().map(move |policy| Self {
            tenant: digits(tenant),
            decision: digits(decision),
            policy: indexed(policy.as_str()),
        })
    }
}
