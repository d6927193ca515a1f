//! Reviews: what somebody says of a draft as it is. None is ever changed; of one person the last one counts.

use std::collections::BTreeMap;

use remit_core::{ContentHash, DraftId, KeyId, TenantId, Timestamp};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::error::Error;
use crate::store::Store;
use crate::versions::{MESSAGE_BYTES, check_line};

use super::{StoredDraft, corrupt};

/// The most reviews of one draft.
const MOST: u64 = 1_000;

/// What somebody says of a draft.
#[derive(Debug, Clone, Copy)]
pub struct NewReview<'a> {
    /// The principal.
    pub principal: &'a str,
    /// The API key that it came with.
    pub key: KeyId,
    /// When it is given.
    pub at: Timestamp,
    /// Whether it may be published.
    pub verdict: ReviewVerdict,
    /// Why: one line of at most 1,024 bytes in Unicode NFC.
    pub message: Option<&'a str>,
}

/// Whether a draft may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewVerdict {
    /// It may.
    Approve,
    /// It may not.
    Reject,
}

/// A review as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReview {
    /// The principal.
    pub principal: String,
    /// The API key that it came with.
    pub key: KeyId,
    /// Whether the draft may be published.
    pub verdict: ReviewVerdict,
    /// The [`StoredDraft::about`] of the draft that it is about.
    pub about: ContentHash,
    /// Why.
    pub message: Option<String>,
    /// When it was given.
    pub at: Timestamp,
}

type Row = (String, Uuid, String, String, Option<String>, i64);

pub(crate) mod sql {
    statements! {
        /// Adds a review.
        INSERT_REVIEW = "INSERT INTO draft_reviews (tenant, id, draft, principal, key, verdict, about, message, at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        /// Counts a review with its draft.
        COUNT_REVIEW = "UPDATE drafts SET reviews = reviews + 1 WHERE tenant = $1 AND id = $2";
        /// Lists the reviews of a draft, oldest first.
        REVIEWS = "SELECT principal, key, verdict, about, message, at FROM draft_reviews \
            WHERE tenant = $1 AND draft = $2 ORDER BY id";
    }
}

// === impl Store ===

impl Store {
    /// Keeps a review of a draft that is still as `version` has it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a message that cannot be kept; otherwise as [`Store::edit_draft`], and [`Error::Unfit`]
    /// after 1,000 reviews.
    pub async fn review_draft(
        &self,
        tenant: TenantId,
        (id, version): (DraftId, u64),
        new: NewReview<'_>,
        change: Change<'_>,
    ) -> Result<StoredReview, Error> {
        check_line("message", new.message, MESSAGE_BYTES)?;
        self.within("review a draft", async {
            let (mut conn, head, found) = self.begin_draft(tenant, id, version).await?;
            if found.reviews >= MOST {
                conn.rollback().await?;
                let problem = format!("the draft has {MOST} reviews; make another one of it");
                return Err(Error::Unfit { problem }.into());
            }
            let about = found.about();
            let told = about.to_string();
            on!(conn, |raw| sqlx::query(sql::INSERT_REVIEW)
                .bind(tenant.uuid())
                .bind(self.clock().id())
                .bind(id.uuid())
                .bind(new.principal)
                .bind(new.key.uuid())
                .bind(new.verdict.as_str())
                .bind(told.as_str())
                .bind(new.message)
                .bind(new.at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            on!(conn, |raw| sqlx::query(sql::COUNT_REVIEW)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .execute(raw)
                .await
                .map(drop))?;
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            conn.commit().await?;
            Ok(StoredReview {
                principal: new.principal.to_owned(),
                key: new.key,
                verdict: new.verdict,
                about,
                message: new.message.map(str::to_owned),
                at: new.at,
            })
        })
        .await
    }

    /// Lists the reviews of a draft, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn draft_reviews(
        &self,
        tenant: TenantId,
        id: DraftId,
    ) -> Result<Vec<StoredReview>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list the reviews of a draft", |raw| {
            sqlx::query_as(sql::REVIEWS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_all(raw)
        })?;
        rows.into_iter()
            .map(|row| StoredReview::read(id, row))
            .collect()
    }
}

// === impl StoredDraft ===

impl StoredDraft {
    /// Returns the reviews that still stand: of each principal the last one, where it is about the draft as it is now.
    pub fn standing(&self, reviews: Vec<StoredReview>) -> Vec<StoredReview> {
        let about = self.about();
        let last: BTreeMap<String, StoredReview> = reviews
            .into_iter()
            .map(|review| (review.principal.clone(), review))
            .collect();
        let standing = last.into_values();
        standing.filter(|review| review.about == about).collect()
    }
}

// === impl ReviewVerdict ===

impl ReviewVerdict {
    /// Returns its name: `approve` or `reject`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

// === impl StoredReview ===

impl StoredReview {
    fn read(
        draft: DraftId,
        (principal, key, verdict, about, message, at): Row,
    ) -> Result<Self, Error> {
        Ok(Self {
            principal,
            key: KeyId::from_uuid(key),
            verdict: match verdict.as_str() {
                "approve" => ReviewVerdict::Approve,
                "reject" => ReviewVerdict::Reject,
                other => return Err(corrupt(draft, &format!("`{other}` is no verdict"))),
            },
            about: about
                .parse()
                .map_err(|_| corrupt(draft, "a review has no content hash"))?,
            message,
            at: Timestamp::from_micros(at),
        })
    }
}
