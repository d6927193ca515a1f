//! Records of administration: written in the transaction of the change that they are about, read newest first.

use std::collections::BTreeSet;

use remit_core::{
    AdminAction, AdminActionId, KeyId, PrincipalName, Revision, TenantId, Verdict, canonical_json,
};
use uuid::Uuid;

use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::idempotency::Once;
use crate::shipping::verdict as verdict_text;
use crate::store::Store;
use crate::tenants::number;

/// The most records of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;

/// What goes with a change, in its own transaction: both are there with it, or none of the three.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// The record of who makes it; its revision is filled in.
    ///
    /// Only what nobody asked for through the API has none: what `serve --dev` loads, and what tests arrange.
    pub record: Option<&'a AdminAction>,
    /// The request that makes it, where it is named.
    pub once: Option<Once<'a>>,
}

/// What is done to a tenant by somebody of another one, who keeps the record of it: in the same transaction.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// The tenant of whoever does it.
    pub of: TenantId,
    /// The record.
    pub record: &'a AdminAction,
    /// The request that asks for it, where it is named.
    pub once: Option<Once<'a>>,
}

/// Which records are wanted: those that fit every member given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminActionFilter {
    /// Of this principal.
    pub principal: Option<PrincipalName>,
    /// Of this operation.
    pub action: Option<String>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
}

pub(crate) mod sql {
    statements! {
        /// Keeps a record.
        INSERT_ADMIN_ACTION = "INSERT INTO admin_actions (tenant, id, at, principal, key, action, resource_type, \
            resource_id, verdict, reason, revision, request_id, body) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        /// Lists records, newest first.
        ADMIN_ACTIONS = "SELECT body FROM admin_actions WHERE tenant = $1 AND id < $2 \
            AND (principal = $3 OR $3 IS NULL) AND (action = $4 OR $4 IS NULL) AND (verdict = $5 OR $5 IS NULL) \
            ORDER BY id DESC LIMIT $6";
        /// Finds a tenant that was not deleted.
        TENANT_STANDS = "SELECT count(*) FROM tenants WHERE id = $1 AND deleted_at IS NULL";
        /// Finds a key that was not revoked, the principal that it is bound to, and whether its tenant is suspended.
        KEY_STANDS = "SELECT k.principal, p.roles, p.disabled_at IS NOT NULL, t.suspended_at IS NOT NULL \
            FROM api_keys k JOIN tenants t ON t.id = k.tenant \
            LEFT JOIN principals p ON p.tenant = k.tenant AND p.name = k.principal \
            WHERE k.tenant = $1 AND k.id = $2 AND k.revoked_at IS NULL";
    }
}

// === impl Change ===

impl Change<'_> {
    /// Checks the name of the request.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for one that cannot be kept.
    pub fn check(&self) -> Result<(), Error> {
        self.once.map_or(Ok(()), |once| once.check())
    }
}

// === impl Store ===

impl Store {
    /// Keeps a record that goes with no change: of what was denied, or given out.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant, or it was deleted. Those of the database: whoever cannot write it
    /// must not answer either.
    pub async fn record_alone(&self, tenant: TenantId, record: &AdminAction) -> Result<(), Error> {
        let body = body_of(record)?;
        self.within("keep a record", async {
            let mut conn = self.begin(tenant).await?;
            if record.verdict == Verdict::Permit {
                stands(&mut conn, tenant, record).await?;
            }
            insert(&mut conn, tenant, record, &body).await?;
            // The row refers to the tenant, so that whoever deletes it now waits and erases this row too.
            let stands: i64 = on!(conn, |raw| sqlx::query_scalar(sql::TENANT_STANDS)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            if stands == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "tenant" }.into());
            }
            conn.commit().await
        })
        .await
    }

    /// Lists records, newest first: those older than `before`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn admin_actions(
        &self,
        tenant: TenantId,
        filter: &AdminActionFilter,
        before: Option<AdminActionId>,
        limit: usize,
    ) -> Result<Vec<AdminAction>, Error> {
        let before = before.map_or(Uuid::max(), AdminActionId::uuid);
        let limit = i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX);
        let rows: Vec<String> = read!(self, tenant, "list the records of administration", |raw| {
            sqlx::query_scalar(sql::ADMIN_ACTIONS)
                .bind(tenant.uuid())
                .bind(before)
                .bind(filter.principal.as_ref().map(PrincipalName::as_str))
                .bind(filter.action.as_deref())
                .bind(filter.verdict.map(verdict_text))
                .bind(limit)
                .fetch_all(raw)
        })?;
        rows.iter()
            .map(|body| {
                serde_json::from_str(body)
                    .map_err(|error| Error::corrupt("admin_actions", error.to_string()))
            })
            .collect()
    }

    /// Writes what goes with a change, before its transaction is committed.
    ///
    /// # Errors
    ///
    /// [`Error::Withdrawn`] when whoever makes the change may not any more; then the transaction must not be committed.
    pub(crate) async fn accompany(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        next: Revision,
        change: Change<'_>,
    ) -> Result<(), Failure> {
        self.go_with(conn, tenant, Some(next), change).await?;
        if let Some(once) = change.once {
            self.keep_answer(conn, tenant, next, once).await?;
        }
        Ok(())
    }

    /// Writes what goes with a change that brings no revision, made at `head`, before its transaction is committed.
    ///
    /// # Errors
    ///
    /// As [`Store::accompany`].
    pub(crate) async fn accompany_aside(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        head: Revision,
        change: Change<'_>,
    ) -> Result<(), Failure> {
        self.go_with(conn, tenant, None, change).await?;
        if let Some(once) = change.once {
            self.keep_answer(conn, tenant, head, once).await?;
        }
        Ok(())
    }

    async fn go_with(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        next: Option<Revision>,
        change: Change<'_>,
    ) -> Result<(), Failure> {
        if let Some(record) = change.record {
            // The tenant's row is locked, so that a withdrawal is before this or after it.
            stands(conn, tenant, record).await?;
            let record = AdminAction {
                revision: next,
                ..record.clone()
            };
            let body = body_of(&record)?;
            insert(conn, tenant, &record, &body).await?;
        }
        Ok(())
    }
}

/// Writes the record of what is done to a tenant where whoever does it belongs, before the transaction is committed.
///
/// # Errors
///
/// [`Error::Withdrawn`] when whoever does it may not any more.
pub(crate) async fn keep_operation(
    conn: &mut Conn,
    operation: Option<Operation<'_>>,
) -> Result<(), Failure> {
    let Some(Operation { of, record, .. }) = operation else {
        return Ok(());
    };
    stands(conn, of, record).await?;
    insert(conn, of, record, &body_of(record)?).await
}

/// Checks that whoever makes a change still may, as far as no policy is needed to tell: the key is there, its principal is
/// enabled and has the roles by which it was decided, and the tenant is not suspended.
async fn stands(conn: &mut Conn, tenant: TenantId, record: &AdminAction) -> Result<(), Failure> {
    let Some(key) = record.key else {
        return Ok(());
    };
    let found: Option<(Option<String>, Option<String>, bool, bool)> =
        on!(conn, |raw| sqlx::query_as(sql::KEY_STANDS)
            .bind(tenant.uuid())
            .bind(key.uuid())
            .fetch_optional(raw)
            .await)?;
    let stands = match found {
        None | Some((_, _, _, true) | (Some(_), None, ..)) => false,
        // It is bound to nobody, and has the roles of its scopes, which never change.
        Some((None, ..)) => true,
        Some((Some(_), Some(roles), disabled, false)) => {
            let held: BTreeSet<&str> = roles.split(' ').filter(|role| !role.is_empty()).collect();
            let decided: BTreeSet<&str> = record.roles.iter().map(|role| role.as_str()).collect();
            // A grant of break-glass adds roles to those of the principal.
            let granted = record.break_glass.is_some() && held.is_subset(&decided);
            !disabled && (held == decided || granted)
        }
    };
    if stands {
        Ok(())
    } else {
        Err(Error::Withdrawn.into())
    }
}

async fn insert(
    conn: &mut Conn,
    tenant: TenantId,
    record: &AdminAction,
    body: &str,
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::INSERT_ADMIN_ACTION)
        .bind(tenant.uuid())
        .bind(record.id.uuid())
        .bind(record.at.micros())
        .bind(record.principal.as_str())
        .bind(record.key.map(KeyId::uuid))
        .bind(record.action.as_str())
        .bind(record.resource.kind.as_str())
        .bind(record.resource.id.as_str())
        .bind(verdict_text(record.verdict))
        .bind(record.reason.as_str())
        .bind(record.revision.map(number))
        .bind(record.request_id.as_deref())
        .bind(body)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

fn body_of(record: &AdminAction) -> Result<String, Error> {
    canonical_json(record)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("record", "cannot be written as JSON"))
}
