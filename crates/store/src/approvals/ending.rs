//! How access requests end, each once: approved, refused, cancelled, or withdrawn after they were approved.

use std::collections::BTreeSet;

use remit_core::{ApprovalId, ApprovalScope, PrincipalName, Revision, TenantId, Timestamp};
use serde_json::{Value, json};

use super::{RequestState, StoredRequest, at, find, text_of};
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events;
use crate::store::Store;

/// What is approved, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Approving<'a> {
    /// For what.
    pub scope: ApprovalScope,
    /// By whom.
    pub approvers: &'a BTreeSet<PrincipalName>,
    /// Until when it can be used.
    pub until: Timestamp,
    /// Who or what completed it, as it is shown.
    pub by: &'a str,
    /// Why: one line.
    pub why: Option<&'a str>,
}

/// What came of ending a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRequest {
    /// The request as it is now.
    pub request: StoredRequest,
    /// The revision that it brought.
    pub revision: Revision,
}

pub(crate) mod sql {
    statements! {
        /// Approves a request that is pending and not over, where the approval is not over before it begins.
        APPROVE_REQUEST = "UPDATE access_requests SET state = 'approved', revision = $3, ended_at = $4, ended_by = $5, \
            ended_why = $6, scope = $7, approvers = $8, approved_until = $9, uses_left = $10, amount_left = $11 \
            WHERE tenant = $1 AND id = $2 AND state = 'pending' AND expires_at > $4 AND $9 > $4";
        /// Ends a request that is pending and not over.
        END_REQUEST = "UPDATE access_requests SET state = $3, revision = $4, ended_at = $5, ended_by = $6, ended_why = $7 \
            WHERE tenant = $1 AND id = $2 AND state = 'pending' AND expires_at > $5";
        /// Withdraws an approval.
        WITHDRAW_APPROVAL = "UPDATE access_requests SET state = 'cancelled', revision = $3, ended_at = $4, ended_by = $5, \
            ended_why = $6 WHERE tenant = $1 AND id = $2 AND state = 'approved'";
        /// Moves the groups of a request to another state.
        TURN_GROUPS = "UPDATE access_request_groups SET state = $3 WHERE tenant = $1 AND request = $2";
    }
}

// === impl Store ===

impl Store {
    /// Approves a request; the approval can be used from the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Unfit`] when it is not pending any more; [`Error::Withdrawn`].
    pub async fn approve(
        &self,
        tenant: TenantId,
        id: ApprovalId,
        approving: Approving<'_>,
        change: Change<'_>,
    ) -> Result<EndedRequest, Error> {
        self.within("approve an access request", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let approved = approve(&mut conn, tenant, id, approving, (next, now)).await?;
            finish(conn, approved, next).await
        })
        .await
    }

    /// Takes back those of several requests that are pending: at least one must be.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when none is pending any more; [`Error::Withdrawn`].
    pub async fn cancel_requests(
        &self,
        tenant: TenantId,
        ids: &[ApprovalId],
        (by, why): (&str, &str),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("cancel access requests", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let mut cancelled = 0;
            for id in ids {
                let ending = (RequestState::Cancelled, Some(by), Some(why));
                if end(&mut conn, tenant, *id, ending, (next, now))
                    .await?
                    .is_ok()
                {
                    cancelled += 1;
                }
            }
            if cancelled == 0 {
                conn.rollback().await?;
                let problem = "none of the requests is pending any more".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Withdraws an approval: from the revision that is returned it cannot be used, whatever is left of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Unfit`] when it is no approval; [`Error::Withdrawn`].
    pub async fn withdraw_approval(
        &self,
        tenant: TenantId,
        id: ApprovalId,
        (by, why): (&str, &str),
        change: Change<'_>,
    ) -> Result<EndedRequest, Error> {
        self.within("withdraw an approval", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let rows = on!(conn, |raw| sqlx::query(sql::WITHDRAW_APPROVAL)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(at(next))
                .bind(now.micros())
                .bind(by)
                .bind(why)
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if rows == 0 {
                let error = unfit(&mut conn, tenant, id, now).await?;
                return finish(conn, Err(error), next).await;
            }
            turn_groups(&mut conn, tenant, id, "cancelled").await?;
            let there = tell(&mut conn, tenant, id, (next, now), "approval.withdrawn").await?;
            finish(conn, Ok(there), next).await
        })
        .await
    }
}

/// Commits what has ended, or undoes everything and says why it could not.
async fn finish(
    conn: Conn,
    ended: Result<StoredRequest, Error>,
    revision: Revision,
) -> Result<EndedRequest, Failure> {
    match ended {
        Ok(request) => {
            conn.commit().await?;
            Ok(EndedRequest { request, revision })
        }
        Err(error) => {
            conn.rollback().await?;
            Err(error.into())
        }
    }
}

/// Approves a request within a transaction that has moved the tenant's revision on.
///
/// What it fails with is of the request: then the transaction must not be committed.
pub(crate) async fn approve(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    approving: Approving<'_>,
    (next, now): (Revision, Timestamp),
) -> Result<Result<StoredRequest, Error>, Failure> {
    let (uses, amount) = match approving.scope {
        ApprovalScope::Once => (1, None),
        ApprovalScope::Task { amount, uses } => (i64::from(uses), amount),
    };
    let amount = amount.map(|amount| i64::try_from(amount).unwrap_or(i64::MAX));
    let rows = on!(conn, |raw| sqlx::query(sql::APPROVE_REQUEST)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(at(next))
        .bind(now.micros())
        .bind(approving.by)
        .bind(approving.why)
        .bind(text_of("scope", &approving.scope)?)
        .bind(text_of("approvers", approving.approvers)?)
        .bind(approving.until.micros())
        .bind(uses)
        .bind(amount)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 0 {
        return Ok(Err(unfit(conn, tenant, id, now).await?));
    }
    turn_groups(conn, tenant, id, "approved").await?;
    Ok(Ok(tell(
        conn,
        tenant,
        id,
        (next, now),
        "access_request.approved",
    )
    .await?))
}

/// Ends a request that is pending within a transaction that has moved the tenant's revision on.
///
/// What it fails with is of the request: then the transaction must not be committed.
pub(crate) async fn end(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    (state, by, why): (RequestState, Option<&str>, Option<&str>),
    (next, now): (Revision, Timestamp),
) -> Result<Result<StoredRequest, Error>, Failure> {
    let rows = on!(conn, |raw| sqlx::query(sql::END_REQUEST)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(state.as_str())
        .bind(at(next))
        .bind(now.micros())
        .bind(by)
        .bind(why)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 0 {
        return Ok(Err(unfit(conn, tenant, id, now).await?));
    }
    turn_groups(conn, tenant, id, state.as_str()).await?;
    let kind = format!("access_request.{}", state.as_str());
    Ok(Ok(tell(conn, tenant, id, (next, now), &kind).await?))
}

/// Moves the groups of a request to the state that it is in.
pub(crate) async fn turn_groups(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    state: &str,
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::TURN_GROUPS)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(state)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Writes the event of what became of a request, and returns the request.
async fn tell(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    at_time: (Revision, Timestamp),
    kind: &str,
) -> Result<StoredRequest, Failure> {
    let Some(request) = find(conn, tenant, id).await? else {
        return Err(Error::NotFound { what: "request" }.into());
    };
    events::note(
        conn,
        tenant,
        at_time,
        kind,
        &id.to_string(),
        &body(&request),
    )
    .await?;
    Ok(request)
}

/// Returns what an event tells of a request: nothing of what was asked but its action.
pub(crate) fn body(request: &StoredRequest) -> Value {
    let groups: Vec<&String> = request.wants.keys().collect();
    json!({
        "action": request.bound.action,
        "by": request.ended_by,
        "groups": groups,
        "state": request.state,
        "why": request.ended_why,
    })
}

/// Says why a request cannot be ended.
async fn unfit(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    now: Timestamp,
) -> Result<Error, Failure> {
    Ok(match find(conn, tenant, id).await? {
        None => Error::NotFound { what: "request" },
        Some(there) if there.state == RequestState::Pending && there.expires_at <= now => {
            let problem = "the request expired before it was answered".to_owned();
            Error::Unfit { problem }
        }
        Some(there) if there.state == RequestState::Pending => {
            let problem = "the approval would be over before it begins".to_owned();
            Error::Unfit { problem }
        }
        Some(there) => {
            let by = there.ended_by.map(|by| format!(" by {by}"));
            let by = by.unwrap_or_default();
            let problem = format!("the request is {}{by}", there.state.as_str());
            Error::Unfit { problem }
        }
    })
}
