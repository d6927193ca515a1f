//! Shipping: decision records from a replica's spool into the database, each exactly once.

use std::borrow::Cow;
use std::collections::BTreeSet;

use remit_core::controls::{Protection, holds};
use remit_core::{DecisionId, RecordHead, ReplicaId, TaskId, Verdict};
use serde::Serialize;
use sqlx::{Database, Encode, QueryBuilder, Type};
use uuid::Uuid;

use crate::db::Conn;
use crate::dialect::{self, Rows, deadline_of};
use crate::error::{Error, Failure};
use crate::reach::{Across, Reach};
use crate::store::Store;

/// How many rows one statement writes: far from the most parameters of Postgres, 65,535, and of SQLite, 32,766.
const CHUNK: usize = 250;
/// Which rows are left alone where records are shipped: those that another process ships at this moment as well, which Postgres
/// may notice by any unique name of theirs. What is there instead is looked at then.
const ANY_NAME: &str = " ON CONFLICT DO NOTHING";
/// Which row is left alone where a decision is written with what it takes.
const THE_ID: &str = " ON CONFLICT (tenant, id) DO NOTHING";
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
    /// The replica that made it.
    pub replica: ReplicaId,
    /// Its number in that replica's spool.
    pub sequence: u64,
    /// What it is found by, as `body` says.
    pub head: RecordHead,
    /// The record as canonical JSON, the bytes that were made durable.
    pub body: String,
}

/// One record that is written in the transaction in which it consumes something, and was in no spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRecord {
    /// The replica that made it.
    pub replica: ReplicaId,
    /// Its number among those of that replica, counted down from -1.
    pub sequence: i64,
    /// What it is found by, as `body` says.
    pub head: RecordHead,
    /// The record as canonical JSON.
    pub body: String,
}

/// A record as its row holds it.
#[derive(Clone, Copy)]
pub(crate) struct DecisionRow<'r> {
    pub(crate) head: &'r RecordHead,
    pub(crate) body: &'r str,
    pub(crate) replica: Uuid,
    pub(crate) revision: i64,
    pub(crate) sequence: i64,
    /// The task in which it was asked.
    pub(crate) task: Option<Uuid>,
}

/// What tells one record from every other, as a row of [`sql::COUNT_SHIPPED`].
#[derive(Serialize)]
struct ShippedRow<'a> {
    tenant: String,
    id: String,
    replica: String,
    sequence: u64,
    body: &'a str,
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
        /// Counts the decisions that are there exactly as given.
        // A scalar subquery looks each up by the index. A join would not where row-level security is in force: Postgres
        // lets no condition that reads JSON go before its own, and would read every decision of every tenant.
        COUNT_SHIPPED = "SELECT count(*) FROM json_each($1) AS made WHERE (SELECT d.id FROM decisions AS d \
            WHERE d.tenant = unhex(made.value ->> 'tenant') AND d.id = unhex(made.value ->> 'id') \
            AND d.replica = unhex(made.value ->> 'replica') \
            AND d.sequence = CAST(made.value ->> 'sequence' AS BIGINT) AND d.body = made.value ->> 'body') IS NOT NULL";
    }
}

// === impl Store ===

impl Store {
    /// Stores records and moves the spool's position, in one transaction.
    ///
    /// A record that is stored already is left alone and a position never goes back, so a batch whose answer was lost
    /// is simply shipped again. When this returns, every record of the batch is stored exactly as given, but for those
    /// of tenants that were deleted: they are passed over, so that nothing of such a tenant comes back.
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
            let mut conn = self.begin(Across::Shipping).await?;
            let records = &without_deleted(&mut conn, records).await?;
            for chunk in records.chunks(CHUNK) {
                let batch = chunk.len();
                let rows = chunk
                    .iter()
                    .map(|&shipped| DecisionRow::of(shipped))
                    .collect::<Result<Vec<_>, Error>>()?;
                let inserted = on!(conn, |raw| insert_decisions(&rows, ANY_NAME)
                    .build()
                    .persistent(batch == CHUNK)
                    .execute(raw)
                    .await
                    .map(|done| done.rows_affected()))
                .map_err(Failure::from)
                .map_err(sequence_taken)?;
                if usize::try_from(inserted) != Ok(batch) {
                    let rows = Rows::of(chunk.iter().copied().map(ShippedRow::of))?;
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
            }
            let heads = records.iter().map(|one| &one.head);
            let policies: Vec<_> = heads.flat_map(determining).collect();
            for chunk in policies.chunks(CHUNK) {
                on!(conn, |raw| insert_policies(chunk)
                    .build()
                    .persistent(chunk.len() == CHUNK)
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
            read!(self, Reach::Nobody, "read a spool position", |raw| {
                sqlx::query_as(sql::SPOOL_POSITION)
                    .bind(replica.uuid())
                    .fetch_optional(raw)
            })?;
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

/// Leaves out the records of tenants that were deleted, and keeps the others from being deleted until this is committed.
async fn without_deleted<'r>(
    conn: &mut Conn,
    records: &'r [ShippedRecord],
) -> Result<Vec<&'r ShippedRecord>, Failure> {
    let tenants: BTreeSet<Uuid> = records.iter().map(|one| one.head.tenant.uuid()).collect();
    let deleted = dialect::deleted_of(conn, &tenants).await?;
    Ok(records
        .iter()
        .filter(|one| !deleted.contains(&one.head.tenant.uuid()))
        .collect())
}

/// Adds the decisions that are not there yet.
///
/// `there` says which rows are left alone.
///
/// Values and no JSON, unlike other statements for many rows: of everything that the database does, this is done most.
fn insert_decisions<'r, D>(rows: &[DecisionRow<'r>], there: &str) -> QueryBuilder<D>
where
    D: Database,
    Uuid: Encode<'r, D> + Type<D>,
    Option<Uuid>: Encode<'r, D> + Type<D>,
    i64: Encode<'r, D> + Type<D>,
    &'r str: Encode<'r, D> + Type<D>,
    Cow<'r, str>: Encode<'r, D> + Type<D>,
{
    let mut insert = QueryBuilder::new(
        "INSERT INTO decisions (tenant, id, at, verdict, reason, subject_type, subject_id, action, \
        resource_type, resource_id, caller, revision, replica, sequence, body, task, renews) ",
    );
    insert.push_values(rows.iter().copied(), |mut row, made| {
        let head = made.head;
        let question = &head.question;
        let renews = head.facts.as_ref().and_then(|facts| facts.lease);
        let renews = renews.map(DecisionId::uuid);
        row.push_bind(head.tenant.uuid())
            .push_bind(head.id.uuid())
            .push_bind(head.at.micros())
            .push_bind(verdict(head.decision.verdict))
            .push_bind(head.decision.reason.code())
            .push_bind(indexed(&question.subject.kind))
            .push_bind(indexed(&question.subject.id))
            .push_bind(indexed(&question.action.name))
            .push_bind(indexed(&question.resource.kind))
            .push_bind(indexed(&question.resource.id))
            .push_bind(head.caller.key.uuid())
            .push_bind(made.revision)
            .push_bind(made.replica)
            .push_bind(made.sequence)
            .push_bind(made.body)
            .push_bind(made.task)
            .push_bind(renews);
    });
    if holds(Protection::ExactlyOnceShipping) {
        insert.push(there);
    }
    insert
}

/// Adds which policies settled decisions.
fn insert_policies<'r, D>(rows: &'r [(Uuid, &'r str, Uuid)]) -> QueryBuilder<D>
where
    D: Database,
    Uuid: Encode<'r, D> + Type<D>,
    Cow<'r, str>: Encode<'r, D> + Type<D>,
{
    let mut insert = QueryBuilder::new("INSERT INTO decision_policies (tenant, policy, decision) ");
    insert.push_values(rows, |mut row, (tenant, policy, decision)| {
        row.push_bind(*tenant)
            .push_bind(indexed(policy))
            .push_bind(*decision);
    });
    insert.push(" ON CONFLICT (tenant, policy, decision) DO NOTHING");
    insert
}

/// Writes one decision, and which policies settled it, in the transaction in which it consumes something.
pub(crate) async fn insert_shared(conn: &mut Conn, made: DecisionRow<'_>) -> Result<(), Failure> {
    let rows = [made];
    on!(conn, |raw| insert_decisions(&rows, THE_ID)
        .build()
        .execute(raw)
        .await
        .map(drop))
    .map_err(Failure::from)
    .map_err(sequence_taken)?;
    let policies: Vec<_> = determining(made.head).collect();
    if !policies.is_empty() {
        on!(conn, |raw| insert_policies(&policies)
            .build()
            .persistent(false)
            .execute(raw)
            .await
            .map(drop))?;
    }
    Ok(())
}

/// Lists the policies that settled a decision, each with its tenant before and its decision after it.
fn determining(head: &RecordHead) -> impl Iterator<Item = (Uuid, &str, Uuid)> {
    let (tenant, decision) = (head.tenant.uuid(), head.id.uuid());
    let policies = &head.decision.determining;
    policies
        .iter()
        .map(move |policy| (tenant, policy.as_str(), decision))
}

/// The only unique name of `decisions` that such an insert can meet is `decisions_sequence_key`: its other is handled.
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

impl<'r> DecisionRow<'r> {
    fn of(shipped: &'r ShippedRecord) -> Result<Self, Error> {
        Ok(Self {
            head: &shipped.head,
            body: &shipped.body,
            replica: shipped.replica.uuid(),
            revision: column("revision", shipped.head.decision.revision.number())?,
            sequence: column("sequence", shipped.sequence)?,
            task: shipped
                .head
                .facts
                .as_ref()
                .and_then(|facts| Some(facts.task.as_ref()?.id.uuid())),
        })
    }

    pub(crate) fn of_shared(shared: &'r SharedRecord, task: Option<TaskId>) -> Result<Self, Error> {
        Ok(Self {
            head: &shared.head,
            body: &shared.body,
            replica: shared.replica.uuid(),
            revision: column("revision", shared.head.decision.revision.number())?,
            sequence: shared.sequence,
            task: task.map(TaskId::uuid),
        })
    }
}

// === impl ShippedRow ===

impl<'a> ShippedRow<'a> {
    fn of(shipped: &'a ShippedRecord) -> Self {
        Self {
            tenant: digits(shipped.head.tenant.uuid()),
            id: digits(shipped.head.id.uuid()),
            replica: digits(shipped.replica.uuid()),
            sequence: shipped.sequence,
            body: &shipped.body,
        }
    }
}
