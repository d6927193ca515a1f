//! Using an approval: counted in the transaction that writes the record of the decision, and nowhere else.

use remit_core::{ApprovalId, ApprovalState, DecisionId, TenantId};
use uuid::Uuid;

use crate::budgets::Step;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;

/// What a permit uses of an approval.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalUse<'a> {
    /// The money that the call moves, where that is known.
    pub amount: Option<u64>,
    /// Which approval.
    pub id: ApprovalId,
    /// What the use is called: the same name is the same decision.
    pub name: &'a str,
}

/// What is left of an approval: its state, until when, how often, how much money, and when that was found to be nothing.
type Left = (String, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

pub(crate) mod sql {
    statements! {
        /// Finds the decision that used an approval under a name.
        USE_OF = "SELECT decision FROM approval_uses WHERE tenant = $1 AND approval = $2 AND name = $3";
        /// Finds what is left of an approval.
        LEFT_OF = "SELECT state, approved_until, uses_left, amount_left, forgotten_at FROM access_requests \
            WHERE tenant = $1 AND id = $2";
        /// Uses an approval, as far as anything is left of it.
        USE_APPROVAL = "UPDATE access_requests SET uses_left = uses_left - 1, amount_left = amount_left - $3 \
            WHERE tenant = $1 AND id = $2 AND state = 'approved' AND approved_until > $4 AND uses_left > 0 \
            AND (amount_left IS NULL OR amount_left >= $3)";
        /// Notes the decision that used an approval.
        INSERT_USE = "INSERT INTO approval_uses (tenant, approval, name, decision, at) VALUES ($1, $2, $3, $4, $5)";
    }
}

// === impl Store ===

impl Store {
    /// Returns the decision that used an approval under a name.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn use_of(
        &self,
        tenant: TenantId,
        approval: ApprovalId,
        name: &str,
    ) -> Result<Option<DecisionId>, Error> {
        let found: Option<Uuid> = read!(self, tenant, "find what used an approval", |raw| {
            sqlx::query_scalar(sql::USE_OF)
                .bind(tenant.uuid())
                .bind(approval.uuid())
                .bind(name)
                .fetch_optional(raw)
        })?;
        Ok(found.map(DecisionId::from_uuid))
    }
}

/// Tells why an approval cannot be used, or that it was used under this name, before anything is written; `None` where it
/// can. For SQLite, which has one writer.
pub(crate) async fn refused(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &ApprovalUse<'_>,
    now: i64,
) -> Result<Option<Step>, Failure> {
    let before: Option<Uuid> = on!(conn, |raw| sqlx::query_scalar(sql::USE_OF)
        .bind(tenant.uuid())
        .bind(wanted.id.uuid())
        .bind(wanted.name)
        .fetch_optional(raw)
        .await)?;
    if let Some(before) = before {
        return Ok(Some(Step::Named(DecisionId::from_uuid(before))));
    }
    let left: Option<Left> = on!(conn, |raw| sqlx::query_as(sql::LEFT_OF)
        .bind(tenant.uuid())
        .bind(wanted.id.uuid())
        .fetch_optional(raw)
        .await)?;
    let state = match left {
        Some((state, Some(until), Some(uses), amount, forgotten)) if state == "approved" => {
            let wants = wanted.amount.map(column);
            let short = amount.is_some_and(|left| wants.is_none_or(|wants| wants > left));
            // Found to be over before: a clock that is set back revives nothing.
            let was_over = forgotten.is_some() && uses > 0;
            if until <= now || was_over {
                ApprovalState::Expired
            } else if uses < 1 || short {
                ApprovalState::Used
            } else {
                return Ok(None);
            }
        }
        _ => ApprovalState::Unknown,
    };
    Ok(Some(Step::Approval(state)))
}

/// Uses an approval within a transaction that found that it can be.
pub(crate) async fn take(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &ApprovalUse<'_>,
    (decision, now): (Uuid, i64),
) -> Result<(), Failure> {
    let used = on!(conn, |raw| sqlx::query(sql::USE_APPROVAL)
        .bind(tenant.uuid())
        .bind(wanted.id.uuid())
        .bind(wanted.amount.map_or(0, column))
        .bind(now)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if used != 1 {
        let what = "an approval changed under the one writer".to_owned();
        return Err(Error::corrupt("access_requests", what).into());
    }
    on!(conn, |raw| sqlx::query(sql::INSERT_USE)
        .bind(tenant.uuid())
        .bind(wanted.id.uuid())
        .bind(wanted.name)
        .bind(decision)
        .bind(now)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Reads how an approval stands as the function of Postgres writes it.
pub(crate) fn state_of(text: &str) -> Result<ApprovalState, Error> {
    match text {
        "unknown" => Ok(ApprovalState::Unknown),
        "expired" => Ok(ApprovalState::Expired),
        "used" => Ok(ApprovalState::Used),
        other => Err(Error::corrupt(
            "schema",
            format!("an approval is `{other}`"),
        )),
    }
}

/// Writes an amount for its column; one that no column holds is more than any approval is for.
pub(crate) fn column(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
