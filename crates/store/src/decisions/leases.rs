//! Leases that ended: a permit that was denied when it was renewed is never renewed again.

use std::time::Duration;

use remit_core::{DecisionId, TenantId, Timestamp};

use crate::error::Error;
use crate::store::Store;

pub(crate) mod sql {
    statements! {
        /// Notes that a lease has ended.
        END_LEASE = "INSERT INTO lease_ends (tenant, decision, at) VALUES ($1, $2, $3) \
            ON CONFLICT (tenant, decision) DO NOTHING";
        /// Tells whether a lease has ended.
        LEASE_ENDED = "SELECT count(*) FROM lease_ends WHERE tenant = $1 AND decision = $2";
        /// Forgets the ends of leases that are too old to be renewed.
        FORGET_LEASES = "DELETE FROM lease_ends WHERE tenant = $1 AND at < $2";
    }
}

// === impl Store ===

impl Store {
    /// Notes that the lease of a permit has ended, and forgets those that ended longer ago than one can last.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn end_lease(
        &self,
        tenant: TenantId,
        decision: DecisionId,
        (at, longest): (Timestamp, Duration),
    ) -> Result<(), Error> {
        let longest = i64::try_from(longest.as_micros()).unwrap_or(i64::MAX);
        let old = at.micros().saturating_sub(longest.saturating_mul(2));
        self.within("end a lease", async {
            let mut conn = self.begin(tenant).await?;
            on!(conn, |raw| sqlx::query(sql::FORGET_LEASES)
                .bind(tenant.uuid())
                .bind(old)
                .execute(raw)
                .await
                .map(drop))?;
            on!(conn, |raw| sqlx::query(sql::END_LEASE)
                .bind(tenant.uuid())
                .bind(decision.uuid())
                .bind(at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }

    /// Tells whether the lease of a permit has ended.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn lease_ended(&self, tenant: TenantId, decision: DecisionId) -> Result<bool, Error> {
        let ended: i64 = read!(self, tenant, "ask whether a lease has ended", |raw| {
            sqlx::query_scalar(sql::LEASE_ENDED)
                .bind(tenant.uuid())
                .bind(decision.uuid())
                .fetch_one(raw)
        })?;
        Ok(ended > 0)
    }
}
