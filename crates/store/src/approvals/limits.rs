//! How many access requests may wait, and how often one may be asked for.

use std::time::Duration;

use remit_core::{TenantId, Timestamp};
use uuid::Uuid;

use super::asking::NewRequest;
use super::micros;
use crate::db::Conn;
use crate::error::Failure;

/// Within which time it is counted how often somebody asks.
const MINUTE: Duration = Duration::from_mins(1);
/// How much older than its request an id may be, which another clock names: a minute and some minutes of difference.
const SKEW: Duration = Duration::from_mins(10);

/// How many requests may be pending, and how often one may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingLimits {
    /// Made or joined for one agent within a minute, whatever became of them.
    pub asked: u64,
    /// Of one agent.
    pub agent: u64,
    /// In one task.
    pub task: u64,
    /// Of the tenant.
    pub tenant: u64,
}

pub(crate) mod sql {
    statements! {
        /// Counts the pending requests of a tenant, up to as many as matter: by an index alone.
        COUNT_PENDING = "SELECT count(*) FROM (SELECT id FROM access_requests WHERE tenant = $1 AND state = 'pending' \
            LIMIT $2) AS waiting";
        /// Counts the pending requests of an agent.
        COUNT_PENDING_OF = "SELECT count(*) FROM access_requests WHERE tenant = $1 AND subject_type = $2 \
            AND subject_id = $3 AND state = 'pending'";
        /// Counts the pending requests in a task.
        COUNT_PENDING_IN = "SELECT count(*) FROM access_requests WHERE tenant = $1 AND task = $2 AND state = 'pending'";
        /// Counts how often it was asked for an agent of late: requests that were made, however they stand, and joined.
        /// Ids begin with the time, so that the index leads past those that are old.
        COUNT_ASKED = "SELECT (SELECT count(*) FROM access_requests AS r WHERE r.tenant = $1 AND r.subject_type = $2 \
            AND r.subject_id = $3 AND r.state IN ('pending', 'approved', 'denied', 'expired', 'cancelled') \
            AND r.id >= $4 AND r.requested_at > $5) \
            + (SELECT count(*) FROM access_request_joins AS j JOIN access_requests AS r ON r.tenant = j.tenant \
            AND r.id = j.request WHERE j.tenant = $1 AND j.at > $5 AND r.subject_type = $2 AND r.subject_id = $3)";
    }
}

/// What room there is for the requests of one submission.
pub(super) struct Room {
    tenant: TenantId,
    now: Timestamp,
    limits: PendingLimits,
    /// How many wait in the tenant: counted once.
    pending: Option<i64>,
}

// === impl Room ===

impl Room {
    /// Begins to look, at a time of the database.
    pub(super) const fn new((tenant, now): (TenantId, Timestamp), limits: PendingLimits) -> Self {
        Self {
            tenant,
            now,
            limits,
            pending: None,
        }
    }

    /// Whether it would be asked too often for an agent within a minute.
    pub(super) async fn too_often(
        &self,
        conn: &mut Conn,
        requests: &[NewRequest<'_>],
    ) -> Result<bool, Failure> {
        let Some(first) = requests.first() else {
            return Ok(false);
        };
        // All of a submission are of one.
        let subject = &first.bound.subject;
        let asked: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_ASKED)
            .bind(self.tenant.uuid())
            .bind(subject.kind.as_str())
            .bind(subject.id.as_str())
            .bind(first_id(self.now))
            .bind(self.now.micros().saturating_sub(micros(MINUTE)))
            .fetch_one(raw)
            .await)?;
        let others = i64::try_from(requests.len() - 1).unwrap_or(i64::MAX);
        Ok(reaches(asked.saturating_add(others), self.limits.asked))
    }

    /// Says whose limit is met by those that wait, where one is; counts the request, where none is.
    pub(super) async fn full(
        &mut self,
        conn: &mut Conn,
        request: &NewRequest<'_>,
    ) -> Result<Option<(&'static str, u64)>, Failure> {
        let (tenant, limits) = (self.tenant.uuid(), self.limits);
        let subject = &request.bound.subject;
        let of: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_PENDING_OF)
            .bind(tenant)
            .bind(subject.kind.as_str())
            .bind(subject.id.as_str())
            .fetch_one(raw)
            .await)?;
        if reaches(of, limits.agent) {
            return Ok(Some(("agent", limits.agent)));
        }
        if let Some(task) = request.bound.task {
            let within: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_PENDING_IN)
                .bind(tenant)
                .bind(task.uuid())
                .fetch_one(raw)
                .await)?;
            if reaches(within, limits.task) {
                return Ok(Some(("task", limits.task)));
            }
        }
        let all: i64 = match self.pending {
            Some(all) => all,
            None => on!(conn, |raw| sqlx::query_scalar(sql::COUNT_PENDING)
                .bind(tenant)
                .bind(i64::try_from(limits.tenant).unwrap_or(i64::MAX))
                .fetch_one(raw)
                .await)?,
        };
        self.pending = Some(all.saturating_add(1));
        Ok(reaches(all, limits.tenant).then_some(("tenant", limits.tenant)))
    }
}

/// Returns an id that is less than those of all requests of the last minute, whoever's clock named them.
fn first_id(now: Timestamp) -> Uuid {
    let millis = now.micros().saturating_sub(micros(SKEW)) / 1_000;
    Uuid::from_u128(u128::try_from(millis).unwrap_or(0) << 80)
}

fn reaches(count: i64, most: u64) -> bool {
    u64::try_from(count).is_ok_and(|count| count >= most)
}
