//! What becomes of requests by time alone: pending ones expire, approvals that are used up or over are forgotten.

use remit_core::{
    AdminAction, AdminActionId, ApprovalId, EntityUid, Revision, TenantId, Timestamp,
};
use uuid::Uuid;

use super::ending::{body, turn_groups};
use super::{StoredRequest, at, find};
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events;
use crate::store::Store;

/// How many requests one sweep ends: few enough that it holds the tenant's row for a moment only.
const MOST: i64 = 50;

/// What came of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The requests that expired.
    pub expired: Vec<ApprovalId>,
    /// How many approvals were forgotten.
    pub forgotten: u64,
    /// The revision that it brought, where there was anything.
    pub revision: Option<Revision>,
}

pub(crate) mod sql {
    statements! {
        /// Lists pending requests whose time is over.
        DUE_REQUESTS = "SELECT id FROM access_requests WHERE tenant = $1 AND state = 'pending' AND expires_at <= $2 \
            ORDER BY expires_at, id LIMIT $3";
        /// Tells whether an approval is over or used up, and not forgotten: each by an index of its own.
        ANY_SPENT = "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM access_requests WHERE tenant = $1 AND state = 'approved' \
            AND forgotten_at IS NULL AND approved_until <= $2) OR EXISTS (SELECT 1 FROM access_requests WHERE tenant = $1 \
            AND state = 'approved' AND forgotten_at IS NULL AND uses_left = 0) THEN 1 ELSE 0 END AS BIGINT)";
        /// Ends a pending request whose time is over.
        EXPIRE_REQUEST = "UPDATE access_requests SET state = 'expired', revision = $3, ended_at = $4, \
            ended_why = 'nobody answered in time' WHERE tenant = $1 AND id = $2 AND state = 'pending' AND expires_at <= $4";
        /// Forgets approvals that are over or used up.
        FORGET_APPROVALS = "UPDATE access_requests SET revision = $2, forgotten_at = $3 WHERE tenant = $1 AND id IN ( \
            SELECT o.id FROM (SELECT r.id FROM access_requests AS r WHERE r.tenant = $1 AND r.state = 'approved' \
            AND r.forgotten_at IS NULL AND r.approved_until <= $3 LIMIT 1000) AS o UNION ALL \
            SELECT u.id FROM (SELECT r.id FROM access_requests AS r WHERE r.tenant = $1 AND r.state = 'approved' \
            AND r.forgotten_at IS NULL AND r.uses_left = 0 LIMIT 1000) AS u)";
    }
}

// === impl Store ===

impl Store {
    /// Ends the pending requests of a tenant whose time is over, by the database's time, each with its record and its event;
    /// forgets approvals that cannot be used any more.
    ///
    /// Call again while something comes of it: one call ends fifty requests and forgets a thousand approvals.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn expire_requests(&self, tenant: TenantId) -> Result<Swept, Error> {
        self.within("end the access requests whose time is over", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let due = due(&mut conn, tenant, now).await?;
            let spent: i64 = on!(conn, |raw| sqlx::query_scalar(sql::ANY_SPENT)
                .bind(tenant.uuid())
                .bind(now.micros())
                .fetch_one(raw)
                .await)?;
            conn.end().await?;
            if due.is_empty() && spent == 0 {
                return Ok(Swept::default());
            }
            let (mut conn, next) = self.begin_change(tenant).await?;
            let mut expired = Vec::new();
            for id in due {
                if self.expire(&mut conn, tenant, id, (next, now)).await? {
                    expired.push(id);
                }
            }
            let forgotten = on!(conn, |raw| sqlx::query(sql::FORGET_APPROVALS)
                .bind(tenant.uuid())
                .bind(at(next))
                .bind(now.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if expired.is_empty() && forgotten == 0 {
                // Another replica was faster.
                conn.rollback().await?;
                return Ok(Swept::default());
            }
            conn.commit().await?;
            Ok(Swept {
                expired,
                forgotten,
                revision: Some(next),
            })
        })
        .await
    }

    /// Ends a pending request whose time is over within a transaction that has moved the tenant's revision on; tells
    /// whether it was that.
    pub(super) async fn expire(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        id: ApprovalId,
        (next, now): (Revision, Timestamp),
    ) -> Result<bool, Failure> {
        let rows = on!(conn, |raw| sqlx::query(sql::EXPIRE_REQUEST)
            .bind(tenant.uuid())
            .bind(id.uuid())
            .bind(at(next))
            .bind(now.micros())
            .execute(raw)
            .await
            .map(|done| done.rows_affected()))?;
        let expired = if rows == 0 {
            None
        } else {
            find(conn, tenant, id).await?
        };
        let Some(request) = expired else {
            return Ok(false);
        };
        turn_groups(conn, tenant, id, "expired").await?;
        self.accompany(
            conn,
            tenant,
            next,
            Change {
                record: Some(&self.expiry(&request, now)),
                once: None,
            },
        )
        .await?;
        let kind = "access_request.expired";
        events::note(
            conn,
            tenant,
            (next, now),
            kind,
            &id.to_string(),
            &body(&request),
        )
        .await?;
        Ok(true)
    }

    fn expiry(&self, request: &StoredRequest, now: Timestamp) -> AdminAction {
        let resource = EntityUid::new("AccessRequest", request.id.to_string());
        let id = AdminActionId::from_uuid(self.clock().id());
        AdminAction::of_itself(id, now, "expire_request", resource)
    }
}

async fn due(
    conn: &mut Conn,
    tenant: TenantId,
    now: Timestamp,
) -> Result<Vec<ApprovalId>, Failure> {
    let rows: Vec<Uuid> = on!(conn, |raw| sqlx::query_scalar(sql::DUE_REQUESTS)
        .bind(tenant.uuid())
        .bind(now.micros())
        .bind(MOST)
        .fetch_all(raw)
        .await)?;
    Ok(rows.into_iter().map(ApprovalId::from_uuid).collect())
}
