//! Decision records as they are read: newest first, filtered, a page at a time.

use std::time::Duration;

use remit_core::{
    DecisionId, DecisionRecord, PolicyId, Reason, ReplicaId, TenantId, Timestamp, Verdict,
};
use uuid::Uuid;

use crate::error::Error;
use crate::shipping::{indexed, verdict};
use crate::store::{Store, off_the_runtime};

pub(crate) mod leases;

/// The most decisions of one page.
const MAX_DECISIONS: usize = 1_000;
/// How far the time in a decision's id may be from the time in its record. Both come from one clock within one
/// question; the rest is for a clock that is set meanwhile.
const CLOCK_STEP: Duration = Duration::from_mins(10);

/// Which decisions are wanted: those that fit every member given.
///
/// Texts longer than 1,024 bytes fit by their first 1,024.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub until: Option<Timestamp>,
    /// With an id greater than this one's: made later, as far as one clock tells.
    pub newer_than: Option<DecisionId>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// About this subject; the agent.
    pub subject: EntityPattern,
    /// About the action of this name.
    pub action: Option<String>,
    /// About this resource.
    pub resource: EntityPattern,
    /// Settled by this policy, alone or with others.
    pub policy: Option<PolicyId>,
}

/// An entity of which the type, the id, both or neither are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityPattern {
    /// The entity type.
    pub kind: Option<String>,
    /// The id within the type.
    pub id: Option<String>,
}

/// A decision record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDecision {
    /// The record.
    pub record: DecisionRecord,
    /// The replica that made it.
    pub replica: ReplicaId,
    /// Its number in that replica's spool; below zero for one that was written with what it consumes, and in no spool.
    pub sequence: i64,
}

pub(crate) type Row = (Uuid, Uuid, i64, String);

/// One list: `$from` has the member that leads to few rows by an index, the rest is checked on each.
///
/// One statement a leading member, all with the same parameters, because a database that plans `$6 IS NULL OR …` once
/// for all values cannot use an index for it.
macro_rules! list {
    ($from:literal) => {
        concat!(
            "SELECT d.id, d.replica, d.sequence, d.body FROM ",
            $from,
            " AND d.tenant = $1 AND d.id < $2 AND d.id >= $3 AND d.at >= $4 AND d.at < $5",
            " AND (d.verdict = $6 OR $6 IS NULL) AND (d.reason = $7 OR $7 IS NULL)",
            " AND (d.subject_type = $8 OR $8 IS NULL) AND (d.subject_id = $9 OR $9 IS NULL)",
            " AND (d.action = $10 OR $10 IS NULL)",
            " AND (d.resource_type = $11 OR $11 IS NULL) AND (d.resource_id = $12 OR $12 IS NULL)",
            " AND (CAST($13 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM decision_policies AS q",
            " WHERE q.tenant = $1 AND q.policy = $13 AND q.decision = d.id))",
            " ORDER BY d.id DESC LIMIT $14"
        )
    };
}

pub(crate) mod sql {
    statements! {
        /// Finds one decision.
        DECISION = "SELECT id, replica, sequence, body FROM decisions WHERE tenant = $1 AND id = $2";
        /// Lists decisions, whatever they are.
        DECISIONS = list!("decisions AS d WHERE TRUE");
        /// Lists decisions in the order of their ids, whatever they are.
        DECISIONS_IN_ORDER = "SELECT id, replica, sequence, body FROM decisions WHERE tenant = $1 AND id > $2 \
            AND id < $3 AND at >= $4 AND at < $5 ORDER BY id LIMIT $6";
        /// Lists decisions that deny.
        DECISIONS_DENIED = list!("decisions AS d WHERE d.verdict = 'deny'");
        /// Lists decisions of one reason.
        DECISIONS_BY_REASON = list!("decisions AS d WHERE d.reason = $7");
        /// Lists decisions about one subject.
        DECISIONS_BY_SUBJECT = list!("decisions AS d WHERE d.subject_id = $9");
        /// Lists decisions about one action.
        DECISIONS_BY_ACTION = list!("decisions AS d WHERE d.action = $10");
        /// Lists decisions about one resource.
        DECISIONS_BY_RESOURCE = list!("decisions AS d WHERE d.resource_id = $12");
        /// Lists decisions that one policy settled.
        DECISIONS_BY_POLICY = list!("decision_policies AS p JOIN decisions AS d \
            ON d.tenant = p.tenant AND d.id = p.decision \
            WHERE p.tenant = $1 AND p.policy = $13 AND p.decision < $2 AND p.decision >= $3");
    }
}

// === impl Store ===

impl Store {
    /// Lists decisions that fit `filter`, newest id first: those before `after` if given, at most `limit` and 1,000.
    ///
    /// The next page begins after the last id of this one; a page that is not full is the last.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn decisions(
        &self,
        tenant: TenantId,
        filter: &DecisionFilter,
        after: Option<DecisionId>,
        limit: usize,
    ) -> Result<Vec<StoredDecision>, Error> {
        let text =
            |value: &Option<String>| value.as_deref().map(|value| indexed(value).into_owned());
        let before = after.map_or(filter.last_id(), |after| after.uuid().min(filter.last_id()));
        let policy = filter.policy.as_ref();
        let policy = policy.map(|policy| indexed(policy.as_str()).into_owned());
        let limit = i64::try_from(limit.clamp(1, MAX_DECISIONS)).unwrap_or(1);
        let rows: Vec<Row> = read!(self, tenant, "list decisions", |raw| {
            sqlx::query_as(filter.statement())
                .bind(tenant.uuid())
                .bind(before)
                .bind(filter.first_id())
                .bind(filter.from.map_or(i64::MIN, Timestamp::micros))
                .bind(filter.until.map_or(i64::MAX, Timestamp::micros))
                .bind(filter.verdict.map(verdict))
                .bind(filter.reason.map(Reason::code))
                .bind(text(&filter.subject.kind))
                .bind(text(&filter.subject.id))
                .bind(text(&filter.action))
                .bind(text(&filter.resource.kind))
                .bind(text(&filter.resource.id))
                .bind(policy.as_deref())
                .bind(limit)
                .fetch_all(raw)
        })?;
        rows.into_iter()
            .map(|row| StoredDecision::read(tenant, row))
            .collect()
    }

    /// Lists the decisions of a time, oldest id first: those after `after` if given, at most `limit` and 1,000.
    ///
    /// The next page begins after the last id of this one; a page that is not full is the last.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn decisions_in_order(
        &self,
        tenant: TenantId,
        (from, until): (Timestamp, Timestamp),
        after: Option<DecisionId>,
        limit: usize,
    ) -> Result<Vec<StoredDecision>, Error> {
        let bounds = DecisionFilter {
            from: Some(from),
            until: Some(until),
            newer_than: after,
            ..DecisionFilter::default()
        };
        // The statement wants those after an id, the bound is the first id there may be.
        let after = bounds.first_id().as_u128().saturating_sub(1);
        let limit = i64::try_from(limit.clamp(1, MAX_DECISIONS)).unwrap_or(1);
        let rows: Vec<Row> = read!(self, tenant, "read decisions in order", |raw| {
            sqlx::query_as(sql::DECISIONS_IN_ORDER)
                .bind(tenant.uuid())
                .bind(Uuid::from_u128(after))
                .bind(bounds.last_id())
                .bind(from.micros())
                .bind(until.micros())
                .bind(limit)
                .fetch_all(raw)
        })?;
        off_the_runtime("decisions", move || {
            rows.into_iter()
                .map(|row| StoredDecision::read(tenant, row))
                .collect()
        })
        .await
    }

    /// Returns one decision.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn decision(
        &self,
        tenant: TenantId,
        id: DecisionId,
    ) -> Result<Option<StoredDecision>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a decision", |raw| sqlx::query_as(
            sql::DECISION
        )
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(raw))?;
        row.map(|row| StoredDecision::read(tenant, row)).transpose()
    }
}

// === impl DecisionFilter ===

impl DecisionFilter {
    /// Picks the statement whose index leads to the fewest rows.
    fn statement(&self) -> &'static str {
        if self.policy.is_some() {
            sql::DECISIONS_BY_POLICY
        } else if self.subject.id.is_some() {
            sql::DECISIONS_BY_SUBJECT
        } else if self.resource.id.is_some() {
            sql::DECISIONS_BY_RESOURCE
        } else if self.reason.is_some() {
            sql::DECISIONS_BY_REASON
        } else if self.action.is_some() {
            sql::DECISIONS_BY_ACTION
        } else if self.verdict == Some(Verdict::Deny) {
            sql::DECISIONS_DENIED
        } else {
            sql::DECISIONS
        }
    }

    /// The id before which no decision of the wanted time is: ids begin with their milliseconds (RFC 9562 §5.7).
    fn first_id(&self) -> Uuid {
        let from = self.from.map_or(Uuid::nil(), |from| {
            id_at(from.millis().saturating_sub(step()))
        });
        let next = self.newer_than.map_or(Uuid::nil(), |id| {
            Uuid::from_u128(id.uuid().as_u128().saturating_add(1))
        });
        from.max(next)
    }

    /// The id after which no decision of the wanted time is.
    fn last_id(&self) -> Uuid {
        self.until.map_or(Uuid::max(), |until| {
            id_at(until.millis().saturating_add(step()))
        })
    }
}

fn step() -> i64 {
    i64::try_from(CLOCK_STEP.as_millis()).unwrap_or(i64::MAX)
}

/// The lowest id of a millisecond.
fn id_at(millis: i64) -> Uuid {
    let millis = u128::try_from(millis).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(millis << 80)
}

// === impl StoredDecision ===

impl StoredDecision {
    pub(crate) fn read(
        tenant: TenantId,
        (id, replica, sequence, body): Row,
    ) -> Result<Self, Error> {
        let corrupt =
            |what: String| Error::corrupt("decisions", format!("the decision {id}: {what}"));
        let record: DecisionRecord =
            serde_json::from_str(&body).map_err(|error| corrupt(error.to_string()))?;
        if record.id.uuid() != id || record.tenant != tenant {
            return Err(corrupt("its body is that of another decision".into()));
        }
        Ok(Self {
            record,
            replica: ReplicaId::from_uuid(replica),
            sequence,
        })
    }
}
