//! Idempotency: what was answered to changes that name themselves, so that one sent twice is made once.
//!
//! The answer is written in the transaction of the change itself: there is no moment at which one is there without the
//! other.

use std::time::Duration;

use remit_core::{ContentHash, Revision, TenantId};

use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_hours(24);
/// The longest name of a request, in bytes.
const KEY_BYTES: usize = 255;

/// A request that is to be carried out once, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once<'a> {
    /// What the client calls it.
    pub key: &'a str,
    /// The hash of everything that it asks for, so that another request under the same name is noticed.
    pub request: ContentHash,
    /// What it is answered, but for the revision.
    pub answer: &'a str,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The hash of what it asked for.
    pub request: ContentHash,
    /// The revision that it brought.
    pub revision: Revision,
    /// The answer.
    pub answer: String,
}

pub(crate) mod sql {
    statements! {
        /// Finds what a request was answered, unless that was too long ago.
        ANSWER = "SELECT request, revision, answer FROM idempotency WHERE tenant = $1 AND key = $2 AND at > $3";
        /// Forgets what was answered too long ago.
        FORGET_ANSWERS = "DELETE FROM idempotency WHERE tenant = $1 AND at <= $2";
        /// Keeps what a request is answered.
        INSERT_ANSWER = "INSERT INTO idempotency (tenant, key, request, revision, answer, at) \
            VALUES ($1, $2, $3, $4, $5, $6)";
    }
}

// === impl Store ===

impl Store {
    /// Returns what the request of this name was answered within the last 24 hours.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn answered(
        &self,
        tenant: TenantId,
        key: &str,
    ) -> Result<Option<StoredAnswer>, Error> {
        let row: Option<(String, i64, String)> =
            read!(self, tenant, "find an answer", |raw| sqlx::query_as(
                sql::ANSWER
            )
            .bind(tenant.uuid())
            .bind(key)
            .bind(self.kept_since())
            .fetch_optional(raw))?;
        let Some((request, number, answer)) = row else {
            return Ok(None);
        };
        let request = request
            .parse()
            .map_err(|_| Error::corrupt("idempotency", format!("`{request}` is no hash")))?;
        Ok(Some(StoredAnswer {
            request,
            revision: revision(number)?,
            answer,
        }))
    }

    /// Keeps the answer to a request within the transaction that carries it out.
    pub(crate) async fn keep_answer(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        next: Revision,
        once: Once<'_>,
    ) -> Result<(), Failure> {
        on!(conn, |raw| sqlx::query(sql::FORGET_ANSWERS)
            .bind(tenant.uuid())
            .bind(self.kept_since())
            .execute(raw)
            .await
            .map(drop))?;
        let request = once.request.to_string();
        on!(conn, |raw| sqlx::query(sql::INSERT_ANSWER)
            .bind(tenant.uuid())
            .bind(once.key)
            .bind(request.as_str())
            .bind(number(next))
            .bind(once.answer)
            .bind(self.clock().now().micros())
            .execute(raw)
            .await
            .map(drop))?;
        Ok(())
    }

    fn kept_since(&self) -> i64 {
        let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        self.clock().now().micros().saturating_sub(kept)
    }
}

// === impl Once ===

impl Once<'_> {
    /// Checks the name of a request.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for one that is empty, too long, or not of printable ASCII.
    pub fn check(&self) -> Result<(), Error> {
        check_text("Idempotency-Key", self.key, KEY_BYTES)?;
        if self.key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Ok(());
        }
        Err(Error::invalid("Idempotency-Key", "must be printable ASCII"))
    }
}
