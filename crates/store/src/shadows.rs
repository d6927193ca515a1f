//! Shadows: a bundle that decides beside the one in force and answers nobody, and what was found by it.
//!
//! A tenant has one at most, under the revision that brought it. Each process notes what it has counted since it began,
//! so to note it again changes nothing; what all of them have counted is added up by whoever reads it.

use std::collections::BTreeMap;

use remit_core::{
    Bundle, ContentHash, DecisionId, KeyId, ReplicaId, Revision, TenantId, Timestamp,
};
use serde::Serialize;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::bundles::{self, Expected, StoredBundle, written};
use crate::dialect::Rows;
use crate::error::Error;
use crate::reach::Across;
use crate::shipping::indexed;
use crate::store::{Store, off_the_runtime};
use crate::tenants::{number, revision};

/// How many single disagreements of one shadow are kept; several processes may go a little beyond.
const MOST_DISAGREEMENTS: i64 = 10_000;
/// The most groups that are read.
const MOST_GROUPS: i64 = 500;
/// How many disagreements stand for a group.
const SAMPLES: i64 = 5;

/// A tenant that has a shadow, and the revision that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowHead {
    /// The tenant.
    pub tenant: TenantId,
    /// The revision that brought the shadow.
    pub revision: Revision,
}

/// What one process has counted since it began to decide by a shadow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowTally {
    /// Decisions that the shadow has made as well.
    pub decided: u64,
    /// How many of them came out the same.
    pub same: u64,
    /// How many came out otherwise.
    pub differing: u64,
    /// Decisions that it did not make because too many were waiting.
    pub dropped: u64,
    /// Decisions that it could not make.
    pub failed: u64,
    /// Why it cannot, if it cannot now.
    pub failure: Option<String>,
    /// How many came out otherwise, by the name of how.
    pub totals: BTreeMap<String, u64>,
}

/// One way in which decisions differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowGroup {
    /// The hash of what follows.
    pub kind: ContentHash,
    /// The name of how they differ.
    pub outcome: String,
    /// The action that they are about.
    pub action: String,
    /// What was decided, as JSON.
    pub before: String,
    /// What the shadow decides, as JSON.
    pub after: String,
}

/// A decision that the shadow makes otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The decision.
    pub decision: DecisionId,
    /// How it differs.
    pub group: ShadowGroup,
    /// When it was made.
    pub at: Timestamp,
}

/// What one process notes of a shadow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowNote {
    /// What it has counted.
    pub tally: ShadowTally,
    /// Groups with how many decisions it has counted in each; a group that is left out stays as it was noted.
    pub groups: Vec<(ShadowGroup, u64)>,
    /// Disagreements that it has not noted yet.
    pub disagreements: Vec<Disagreement>,
}

/// What all processes have noted of a shadow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowFindings {
    /// What each has counted.
    pub tallies: Vec<(ReplicaId, ShadowTally)>,
    /// The groups with the most decisions, at most 500: how many, and some of them.
    pub groups: Vec<(ShadowGroup, u64, Vec<DecisionId>)>,
}

#[derive(Serialize)]
struct TallyRow<'a> {
    replica: String,
    decided: i64,
    same: i64,
    differing: i64,
    dropped: i64,
    failed: i64,
    failure: Option<std::borrow::Cow<'a, str>>,
    totals: String,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    outcome: &'a str,
    action: std::borrow::Cow<'a, str>,
    was: &'a str,
    would_be: &'a str,
    number: i64,
}

type FoundTally = (Uuid, i64, i64, i64, i64, i64, Option<String>, String);
type FoundGroup = (String, String, String, String, String, i64);

pub(crate) mod sql {
    statements! {
        /// Lists which tenants have a shadow.
        SHADOWS = "SELECT tenant, revision FROM shadows";
        /// Finds a tenant's shadow.
        SHADOW_REVISION = "SELECT max(revision) FROM shadows WHERE tenant = $1";
        /// Reads a shadow without its body.
        SHADOW_HEAD = "SELECT revision, hash, at, author FROM shadows WHERE tenant = $1 ORDER BY revision DESC LIMIT 1";
        /// Reads a shadow.
        SHADOW = "SELECT revision, hash, body, at, author FROM shadows WHERE tenant = $1 AND revision = $2";
        /// Adds a shadow.
        INSERT_SHADOW = "INSERT INTO shadows (tenant, revision, hash, body, at, author) VALUES ($1, $2, $3, $4, $5, $6)";
        /// Removes a shadow with everything that was found by it.
        DELETE_SHADOWS = "DELETE FROM shadows WHERE tenant = $1";
        /// Notes what one process has counted.
        NOTE_COUNTS = "INSERT INTO shadow_counts \
            (tenant, shadow, replica, decided, same, differing, dropped, failed, failure, totals) \
            SELECT s.tenant, s.revision, unhex(made.value ->> 'replica'), CAST(made.value ->> 'decided' AS BIGINT), \
            CAST(made.value ->> 'same' AS BIGINT), CAST(made.value ->> 'differing' AS BIGINT), \
            CAST(made.value ->> 'dropped' AS BIGINT), CAST(made.value ->> 'failed' AS BIGINT), \
            made.value ->> 'failure', made.value ->> 'totals' \
            FROM json_each($3) AS made CROSS JOIN shadows AS s WHERE s.tenant = $1 AND s.revision = $2 \
            ON CONFLICT (tenant, shadow, replica) DO UPDATE SET decided = excluded.decided, same = excluded.same, \
            differing = excluded.differing, dropped = excluded.dropped, failed = excluded.failed, \
            failure = excluded.failure, totals = excluded.totals";
        /// Notes how many decisions one process has counted in groups.
        NOTE_GROUPS = "INSERT INTO shadow_groups \
            (tenant, shadow, kind, replica, outcome, action, was, would_be, number) \
            SELECT s.tenant, s.revision, made.value ->> 'kind', unhex(made.value ->> 'replica'), \
            made.value ->> 'outcome', made.value ->> 'action', made.value ->> 'was', made.value ->> 'would_be', \
            CAST(made.value ->> 'number' AS BIGINT) \
            FROM json_each($3) AS made CROSS JOIN shadows AS s WHERE s.tenant = $1 AND s.revision = $2 \
            ON CONFLICT (tenant, shadow, kind, replica) DO UPDATE SET number = excluded.number";
        /// Adds disagreements, unless there are enough.
        NOTE_DISAGREEMENTS = "INSERT INTO shadow_disagreements \
            (tenant, shadow, decision, kind, outcome, action, was, would_be, at) \
            SELECT s.tenant, s.revision, unhex(made.value ->> 'decision'), made.value ->> 'kind', \
            made.value ->> 'outcome', made.value ->> 'action', made.value ->> 'was', made.value ->> 'would_be', \
            CAST(made.value ->> 'number' AS BIGINT) \
            FROM json_each($3) AS made CROSS JOIN shadows AS s WHERE s.tenant = $1 AND s.revision = $2 \
            AND (SELECT count(*) FROM shadow_disagreements AS d WHERE d.tenant = $1 AND d.shadow = $2) < $4 \
            ON CONFLICT (tenant, shadow, decision) DO NOTHING";
        /// Lists what each process has counted.
        FOUND_COUNTS = "SELECT replica, decided, same, differing, dropped, failed, failure, totals FROM shadow_counts \
            WHERE tenant = $1 AND shadow = $2 ORDER BY replica";
        /// Adds up the groups.
        FOUND_GROUPS = "SELECT kind, min(outcome), min(action), min(was), min(would_be), \
            CAST(sum(number) AS BIGINT) AS total FROM shadow_groups WHERE tenant = $1 AND shadow = $2 \
            GROUP BY kind ORDER BY total DESC, kind LIMIT $3";
        /// Lists some disagreements of each group, those made first.
        FOUND_SAMPLES = "SELECT kind, decision FROM (SELECT kind, decision, \
            row_number() OVER (PARTITION BY kind ORDER BY decision) AS place FROM shadow_disagreements \
            WHERE tenant = $1 AND shadow = $2) AS found WHERE place <= $3 ORDER BY kind, decision";
    }
}

// === impl Store ===

impl Store {
    /// Puts a shadow in the place of the one there is, and returns the revision that brings it.
    ///
    /// What was found by the one before goes with it. Whether it compiles is not asked here.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when another shadow than the expected one is there; then nothing is written.
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn put_shadow(
        &self,
        tenant: TenantId,
        expected: Expected,
        bundle: &Bundle,
        by: Option<KeyId>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        let columns = written(bundle).await?;
        self.replace_shadow(tenant, expected, Some(columns), by, change)
            .await
    }

    /// Removes the shadow of a tenant with everything that was found by it, and returns the revision of that.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when another shadow than the expected one is there, or none; then nothing is written.
    pub async fn remove_shadow(
        &self,
        tenant: TenantId,
        expected: Expected,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.replace_shadow(tenant, expected, None, None, change)
            .await
    }

    async fn replace_shadow(
        &self,
        tenant: TenantId,
        expected: Expected,
        columns: Option<(String, String)>,
        by: Option<KeyId>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("change the shadow", async {
            let (mut conn, next) = self.begin_change_since(tenant, expected.head()).await?;
            let current: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::SHADOW_REVISION)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            let current = current.map(revision).transpose()?;
            if !expected.allows(current) || (current.is_none() && columns.is_none()) {
                conn.rollback().await?;
                return Err(Error::Conflict { current }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::DELETE_SHADOWS)
                .bind(tenant.uuid())
                .execute(raw)
                .await
                .map(drop))?;
            if let Some((body, hash)) = &columns {
                on!(conn, |raw| sqlx::query(sql::INSERT_SHADOW)
                    .bind(tenant.uuid())
                    .bind(number(next))
                    .bind(hash.as_str())
                    .bind(body.as_str())
                    .bind(self.clock().now().micros())
                    .bind(by.map(KeyId::uuid))
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Lists which tenants have a shadow; a row whose revision cannot be read is left out, whatever its tenant.
    pub async fn shadows(&self) -> Result<Vec<ShadowHead>, Error> {
        let rows: Vec<(Uuid, i64)> = read!(self, Across::Shadows, "list the shadows", |raw| {
            sqlx::query_as(sql::SHADOWS).fetch_all(raw)
        })?;
        let head = |(tenant, number): (Uuid, i64)| {
            Some(ShadowHead {
                tenant: TenantId::from_uuid(tenant),
                revision: revision(number).ok()?,
            })
        };
        Ok(rows.into_iter().filter_map(head).collect())
    }

    /// Returns the revision that brought a tenant's shadow, its hash, when it was put and by whom; `None` without one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn shadow_head(
        &self,
        tenant: TenantId,
    ) -> Result<Option<(Revision, ContentHash, Timestamp, Option<KeyId>)>, Error> {
        let row: Option<(i64, String, i64, Option<Uuid>)> =
            read!(self, tenant, "find the shadow", |raw| sqlx::query_as(
                sql::SHADOW_HEAD
            )
            .bind(tenant.uuid())
            .fetch_optional(raw))?;
        row.map(|(number, hash, at, by)| {
            Ok((
                revision(number)?,
                bundles::content_hash(number, &hash).map_err(of_shadows)?,
                Timestamp::from_micros(at),
                by.map(KeyId::from_uuid),
            ))
        })
        .transpose()
    }

    /// Returns the shadow that a revision brought; `None` where there is none of that revision any more.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn shadow(
        &self,
        tenant: TenantId,
        at: Revision,
    ) -> Result<Option<StoredBundle>, Error> {
        let row: Option<bundles::Row> =
            read!(self, tenant, "read the shadow", |raw| sqlx::query_as(
                sql::SHADOW
            )
            .bind(tenant.uuid())
            .bind(number(at))
            .fetch_optional(raw))?;
        match row {
            Some(row) => {
                off_the_runtime("shadows", move || {
                    StoredBundle::read(row).map(Some).map_err(of_shadows)
                })
                .await
            }
            None => Ok(None),
        }
    }

    /// Notes what a process has found by a shadow; of one that is not there any more, nothing.
    ///
    /// To note the same again changes nothing. Of single disagreements the first ten thousand or so are kept.
    ///
    /// # Errors
    ///
    /// What can be away is [`Error::Unavailable`] and [`Error::Deadline`]; then all of it may be noted again.
    pub async fn note_shadow(
        &self,
        tenant: TenantId,
        shadow: Revision,
        replica: ReplicaId,
        note: &ShadowNote,
    ) -> Result<(), Error> {
        let tally = Rows::of([TallyRow::of(replica, &note.tally)?])?;
        let groups = Rows::of(
            note.groups
                .iter()
                .map(|(group, count)| GroupRow::counted(replica, group, *count)),
        )?;
        let disagreements = Rows::of(note.disagreements.iter().map(GroupRow::single))?;
        self.within("note what a shadow found", async {
            let mut conn = self.begin(tenant).await?;
            for (statement, rows) in [(sql::NOTE_COUNTS, &tally), (sql::NOTE_GROUPS, &groups)] {
                on!(conn, |raw| sqlx::query(statement)
                    .bind(tenant.uuid())
                    .bind(number(shadow))
                    .bind(rows)
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            if !note.disagreements.is_empty() {
                on!(conn, |raw| sqlx::query(sql::NOTE_DISAGREEMENTS)
                    .bind(tenant.uuid())
                    .bind(number(shadow))
                    .bind(&disagreements)
                    .bind(MOST_DISAGREEMENTS)
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            conn.commit().await?;
            Ok(())
        })
        .await
    }

    /// Returns what all processes have noted of a shadow.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn shadow_findings(
        &self,
        tenant: TenantId,
        shadow: Revision,
    ) -> Result<ShadowFindings, Error> {
        let (tallies, groups, samples) = self
            .within("read what a shadow found", async {
                let mut conn = self.connect_to_read(tenant).await?;
                let tallies: Vec<FoundTally> = on!(conn, |raw| sqlx::query_as(sql::FOUND_COUNTS)
                    .bind(tenant.uuid())
                    .bind(number(shadow))
                    .fetch_all(raw)
                    .await)?;
                let groups: Vec<FoundGroup> = on!(conn, |raw| sqlx::query_as(sql::FOUND_GROUPS)
                    .bind(tenant.uuid())
                    .bind(number(shadow))
                    .bind(MOST_GROUPS)
                    .fetch_all(raw)
                    .await)?;
                let samples: Vec<(String, Uuid)> =
                    on!(conn, |raw| sqlx::query_as(sql::FOUND_SAMPLES)
                        .bind(tenant.uuid())
                        .bind(number(shadow))
                        .bind(SAMPLES)
                        .fetch_all(raw)
                        .await)?;
                conn.end().await?;
                Ok((tallies, groups, samples))
            })
            .await?;
        let mut ids: BTreeMap<String, Vec<DecisionId>> = BTreeMap::new();
        for (kind, id) in samples {
            ids.entry(kind).or_default().push(DecisionId::from_uuid(id));
        }
        Ok(ShadowFindings {
            tallies: tallies
                .into_iter()
                .map(ShadowTally::read)
                .collect::<Result<_, _>>()?,
            groups: groups
                .into_iter()
                .map(|row| {
                    let samples = ids.remove(&row.0).unwrap_or_default();
                    let (group, total) = ShadowGroup::read(row)?;
                    Ok((group, total, samples))
                })
                .collect::<Result<_, Error>>()?,
        })
    }
}

/// Says of a row that is written as bundles are that it is one of shadows.
fn of_shadows(error: Error) -> Error {
    match error {
        Error::Corrupt { what, .. } => Error::corrupt("shadows", what),
        error => error,
    }
}

fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(table: &'static str, column: i64) -> Result<u64, Error> {
    u64::try_from(column).map_err(|_| Error::corrupt(table, format!("{column} is negative")))
}

// === impl TallyRow ===

impl<'a> TallyRow<'a> {
    fn of(replica: ReplicaId, tally: &'a ShadowTally) -> Result<Self, Error> {
        Ok(Self {
            replica: replica.uuid().simple().to_string(),
            decided: column(tally.decided),
            same: column(tally.same),
            differing: column(tally.differing),
            dropped: column(tally.dropped),
            failed: column(tally.failed),
            failure: tally.failure.as_deref().map(indexed),
            totals: serde_json::to_string(&tally.totals)
                .map_err(|error| Error::invalid("totals", format!("is not JSON: {error}")))?,
        })
    }
}

// === impl GroupRow ===

impl<'a> GroupRow<'a> {
    fn of(group: &'a ShadowGroup, number: i64) -> Self {
        Self {
            kind: group.kind.to_string(),
            replica: None,
            decision: None,
            outcome: &group.outcome,
            action: indexed(&group.action),
            was: &group.before,
            would_be: &group.after,
            number,
        }
    }

    fn counted(replica: ReplicaId, group: &'a ShadowGroup, number: u64) -> Self {
        Self {
            replica: Some(replica.uuid().simple().to_string()),
            ..Self::of(group, column(number))
        }
    }

    fn single(one: &'a Disagreement) -> Self {
        Self {
            decision: Some(one.decision.uuid().simple().to_string()),
            ..Self::of(&one.group, one.at.micros())
        }
    }
}

// === impl ShadowTally ===

impl ShadowTally {
    fn read(row: FoundTally) -> Result<(ReplicaId, Self), Error> {
        const TABLE: &str = "shadow_counts";
        let (replica, decided, same, differing, dropped, failed, failure, totals) = row;
        let totals = serde_json::from_str(&totals)
            .map_err(|error| Error::corrupt(TABLE, error.to_string()))?;
        let tally = Self {
            decided: count(TABLE, decided)?,
            same: count(TABLE, same)?,
            differing: count(TABLE, differing)?,
            dropped: count(TABLE, dropped)?,
            failed: count(TABLE, failed)?,
            failure,
            totals,
        };
        Ok((ReplicaId::from_uuid(replica), tally))
    }
}

// === impl ShadowGroup ===

impl ShadowGroup {
    fn read(row: FoundGroup) -> Result<(Self, u64), Error> {
        const TABLE: &str = "shadow_groups";
        let (kind, outcome, action, before, after, total) = row;
        let kind = kind
            .parse()
            .map_err(|_| Error::corrupt(TABLE, format!("`{kind}` is no hash")))?;
        let group = Self {
            kind,
            outcome,
            action,
            before,
            after,
        };
        Ok((group, count(TABLE, total)?))
    }
}
