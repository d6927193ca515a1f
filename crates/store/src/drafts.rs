//! Drafts: bundles that somebody works on. None decides anything until it is published, which makes it a version.
//!
//! Every change of a draft holds the tenant's row, as a change of what decides does: a draft is edited, reviewed and
//! published one after the other, never at once. An edit raises the draft's version; a review raises its count of reviews.

use std::collections::BTreeSet;

use remit_core::{Bundle, ContentHash, DraftId, Revision, TenantId, Timestamp, canonical_json};
use serde_json::json;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::bundles::written;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::{Store, off_the_runtime};
use crate::tenants::{number, revision};
use crate::versions::{MESSAGE_BYTES, check_line};

pub(crate) mod reviews;
pub(crate) mod room;

pub use reviews::{NewReview, ReviewVerdict, StoredReview};

/// The longest name of a draft, in bytes.
const NAME_BYTES: usize = 128;
/// The most drafts that one call returns.
const MOST: usize = 1_001;

/// What a new draft is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewDraft<'a> {
    /// Its id.
    pub id: DraftId,
    /// When it is made.
    pub at: Timestamp,
    /// What it is called, unlike every other open draft: one line of at most 128 bytes in Unicode NFC.
    pub name: &'a str,
    /// What it is for: one line of at most 1,024 bytes in Unicode NFC.
    pub message: Option<&'a str>,
    /// The revision of the bundle that it changes; `None` where there is none yet.
    pub base: Option<Revision>,
    /// What it holds.
    pub bundle: &'a Bundle,
    /// The principal that makes it.
    pub author: &'a str,
}

/// An edit of a draft.
#[derive(Debug, Clone, Copy)]
pub struct DraftEdit<'a> {
    /// The principal that makes it.
    pub author: &'a str,
    /// When it is made.
    pub at: Timestamp,
    /// The base that the draft is understood over.
    pub base: Option<Revision>,
    /// What it is to hold.
    pub bundle: &'a Bundle,
}

/// A draft without its bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDraft {
    /// Its id.
    pub id: DraftId,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub message: Option<String>,
    /// The revision of the bundle that it changes; `None` where there was none.
    pub base: Option<Revision>,
    /// The hash of its bundle.
    pub hash: ContentHash,
    /// Every principal that has edited it.
    pub authors: BTreeSet<String>,
    /// What has become of it.
    pub state: DraftState,
    /// Counts its edits, from 1.
    pub version: u64,
    /// Counts its reviews.
    pub reviews: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last edited, published or discarded.
    pub updated_at: Timestamp,
    /// The revision that it was published as.
    pub published_as: Option<Revision>,
    /// What was found out about it, as JSON that its writer understands.
    pub results: Option<String>,
}

/// What has become of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DraftState {
    /// It is worked on.
    Open,
    /// It is a version now.
    Published,
    /// It was given up.
    Discarded,
}

/// A draft in the state in which somebody looked at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftMark {
    /// The draft.
    pub id: DraftId,
    /// Its edits.
    pub version: u64,
    /// Its reviews.
    pub reviews: u64,
}

/// Which drafts to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftFilter<'a> {
    /// Those in this state.
    pub state: Option<DraftState>,
    /// Those of this name.
    pub name: Option<&'a str>,
}

type Row = (
    Uuid,
    String,
    Option<String>,
    Option<i64>,
    String,
    String,
    String,
    i64,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<String>,
);

pub(crate) mod sql {
    statements! {
        /// Finds an open draft by name.
        DRAFT_NAMED = "SELECT count(*) FROM drafts WHERE tenant = $1 AND name = $2 AND state = 'open'";
        /// Adds a draft.
        INSERT_DRAFT = "INSERT INTO drafts \
            (tenant, id, name, message, base, hash, body, authors, state, version, created_at, updated_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', 1, $9, $9)";
        /// Finds a draft without its bundle.
        DRAFT = "SELECT id, name, message, base, hash, authors, state, version, reviews, created_at, updated_at, \
            published_as, results FROM drafts WHERE tenant = $1 AND id = $2";
        /// Finds the bundle of an open draft in one version.
        DRAFT_BODY = "SELECT body FROM drafts WHERE tenant = $1 AND id = $2 AND version = $3 AND state = 'open'";
        /// Lists drafts, newest first.
        DRAFTS = "SELECT id, name, message, base, hash, authors, state, version, reviews, created_at, updated_at, \
            published_as, results FROM drafts WHERE tenant = $1 AND id < $2 \
            AND (CAST($3 AS TEXT) IS NULL OR state = $3) AND (CAST($4 AS TEXT) IS NULL OR name = $4) \
            ORDER BY id DESC LIMIT $5";
        /// Replaces the bundle of a draft.
        EDIT_DRAFT = "UPDATE drafts SET base = $3, hash = $4, body = $5, authors = $6, version = version + 1, \
            updated_at = $7 WHERE tenant = $1 AND id = $2";
        /// Gives a draft up, with its bundle.
        DISCARD_DRAFT = "UPDATE drafts SET state = 'discarded', body = '', updated_at = $3 WHERE tenant = $1 AND id = $2";
        /// Marks a draft published, if it is as it was looked at; its bundle is that of the version.
        PUBLISH_DRAFT = "UPDATE drafts SET state = 'published', body = '', published_as = $5, updated_at = $6 \
            WHERE tenant = $1 AND id = $2 AND state = 'open' AND version = $3 AND reviews = $4";
        /// Keeps what was found out about a draft, if it is as it was looked at.
        KEEP_RESULTS = "UPDATE drafts SET results = $4 \
            WHERE tenant = $1 AND id = $2 AND state = 'open' AND version = $3";
    }
}

// === impl Store ===

impl Store {
    /// Makes a draft.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name or message that cannot be kept; [`Error::Unfit`] when an open draft has the name, or
    /// 100 are open, or they would have more than 256 MiB together.
    pub async fn create_draft(
        &self,
        tenant: TenantId,
        new: NewDraft<'_>,
        change: Change<'_>,
    ) -> Result<StoredDraft, Error> {
        check_line("name", Some(new.name), NAME_BYTES)?;
        check_line("message", new.message, MESSAGE_BYTES)?;
        let (body, hash) = written(new.bundle).await?;
        let id = new.id;
        let authors = json!([new.author]).to_string();
        self.within("make a draft", async {
            let (mut conn, at) = self.begin_aside(tenant).await?;
            let named: i64 = on!(conn, |raw| sqlx::query_scalar(sql::DRAFT_NAMED)
                .bind(tenant.uuid())
                .bind(new.name)
                .fetch_one(raw)
                .await)?;
            let problem = if named > 0 {
                Some(format!("an open draft is called `{}` already", new.name))
            } else {
                room::lacking(&mut conn, tenant, id, &body).await?
            };
            if let Some(problem) = problem {
                conn.rollback().await?;
                return Err(Error::Unfit { problem }.into());
            }
            on!(conn, |raw| sqlx::query(sql::INSERT_DRAFT)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(new.name)
                .bind(new.message)
                .bind(new.base.map(number))
                .bind(hash.as_str())
                .bind(body.as_str())
                .bind(authors.as_str())
                .bind(new.at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            self.accompany_aside(&mut conn, tenant, at, change).await?;
            let made = head(&mut conn, tenant, id).await?;
            conn.commit().await?;
            Ok(made)
        })
        .await
    }

    /// Lists drafts, newest first: those before `before`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn drafts(
        &self,
        tenant: TenantId,
        filter: DraftFilter<'_>,
        before: Option<DraftId>,
        limit: usize,
    ) -> Result<Vec<StoredDraft>, Error> {
        let limit = i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX);
        let before = before.map_or(Uuid::max(), DraftId::uuid);
        let rows: Vec<Row> = read!(self, tenant, "list the drafts", |raw| sqlx::query_as(
            sql::DRAFTS
        )
        .bind(tenant.uuid())
        .bind(before)
        .bind(filter.state.map(DraftState::as_str))
        .bind(filter.name)
        .bind(limit)
        .fetch_all(raw))?;
        rows.into_iter().map(StoredDraft::read).collect()
    }

    /// Returns a draft without its bundle.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn draft(&self, tenant: TenantId, id: DraftId) -> Result<Option<StoredDraft>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a draft", |raw| sqlx::query_as(
            sql::DRAFT
        )
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(raw))?;
        row.map(StoredDraft::read).transpose()
    }

    /// Returns the bundle of a draft that was just read; of a published one that of its version.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] for a discarded one, which has none; [`Error::Stale`] when it has been edited or closed since; [`Error::Corrupt`] when the row cannot be read.
    pub async fn draft_bundle(
        &self,
        tenant: TenantId,
        draft: &StoredDraft,
    ) -> Result<Bundle, Error> {
        if let Some(version) = draft.published_as {
            let stored = self.bundle_version(tenant, version).await?;
            let missing = || corrupt(draft.id, "its version is not there");
            return Ok(stored.ok_or_else(missing)?.bundle);
        }
        if draft.state == DraftState::Discarded {
            draft.changeable(draft.version)?;
        }
        let body: Option<String> = read!(self, tenant, "read the bundle of a draft", |raw| {
            sqlx::query_scalar(sql::DRAFT_BODY)
                .bind(tenant.uuid())
                .bind(draft.id.uuid())
                .bind(count(draft.version))
                .fetch_optional(raw)
        })?;
        let Some(body) = body else {
            let what = "draft";
            let current = draft.version.saturating_add(1);
            return Err(Error::Stale { what, current });
        };
        let (id, hash) = (draft.id, draft.hash);
        off_the_runtime("drafts", move || {
            let bundle: Bundle =
                serde_json::from_str(&body).map_err(|error| corrupt(id, &error.to_string()))?;
            if bundle.content_hash() != hash {
                return Err(corrupt(id, &format!("its content is not that of {hash}")));
            }
            Ok(bundle)
        })
        .await
    }

    /// Replaces the bundle of a draft that is still as `version` has it, and the base that it is understood over.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Stale`] when somebody else edited it first; [`Error::Unfit`] when it is open no more,
    /// or the open ones would have more than 256 MiB together.
    pub async fn edit_draft(
        &self,
        tenant: TenantId,
        (id, version): (DraftId, u64),
        edit: DraftEdit<'_>,
        change: Change<'_>,
    ) -> Result<StoredDraft, Error> {
        let (body, hash) = written(edit.bundle).await?;
        self.within("edit a draft", async {
            let (mut conn, at, found) = self.begin_draft(tenant, id, version).await?;
            if let Some(problem) = room::lacking(&mut conn, tenant, id, &body).await? {
                conn.rollback().await?;
                return Err(Error::Unfit { problem }.into());
            }
            let mut authors = found.authors;
            authors.insert(edit.author.to_owned());
            let authors = json!(authors).to_string();
            on!(conn, |raw| sqlx::query(sql::EDIT_DRAFT)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(edit.base.map(number))
                .bind(hash.as_str())
                .bind(body.as_str())
                .bind(authors.as_str())
                .bind(edit.at.micros())
                .execute(raw)
                .await
                .map(drop))?;
            self.accompany_aside(&mut conn, tenant, at, change).await?;
            let edited = head(&mut conn, tenant, id).await?;
            conn.commit().await?;
            Ok(edited)
        })
        .await
    }

    /// Gives a draft up; all but its bundle stays readable.
    ///
    /// # Errors
    ///
    /// As [`Store::edit_draft`].
    pub async fn discard_draft(
        &self,
        tenant: TenantId,
        id: DraftId,
        version: u64,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.within("discard a draft", async {
            let (mut conn, at, _) = self.begin_draft(tenant, id, version).await?;
            self.accompany_aside(&mut conn, tenant, at, change).await?;
            on!(conn, |raw| sqlx::query(sql::DISCARD_DRAFT)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }

    /// Keeps what was found out about a draft; false when it has been edited since or is open no more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn keep_draft_results(
        &self,
        tenant: TenantId,
        id: DraftId,
        version: u64,
        results: &str,
        change: Change<'_>,
    ) -> Result<bool, Error> {
        self.within("keep the results of a draft", async {
            let (mut conn, at) = self.begin_aside(tenant).await?;
            let kept = on!(conn, |raw| sqlx::query(sql::KEEP_RESULTS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(count(version))
                .bind(results)
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            self.accompany_aside(&mut conn, tenant, at, change).await?;
            conn.commit().await?;
            Ok(kept > 0)
        })
        .await
    }

    /// Marks a draft published within the transaction that puts it in force; false when it is not as it was looked at.
    pub(crate) async fn publish_draft(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        draft: DraftMark,
        next: Revision,
    ) -> Result<bool, Failure> {
        let taken = on!(conn, |raw| sqlx::query(sql::PUBLISH_DRAFT)
            .bind(tenant.uuid())
            .bind(draft.id.uuid())
            .bind(count(draft.version))
            .bind(count(draft.reviews))
            .bind(number(next))
            .bind(self.clock().now().micros())
            .execute(raw)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(taken > 0)
    }

    /// Begins a change of an open draft that is still as `version` has it.
    async fn begin_draft(
        &self,
        tenant: TenantId,
        id: DraftId,
        version: u64,
    ) -> Result<(Conn, Revision, StoredDraft), Failure> {
        let (mut conn, at) = self.begin_aside(tenant).await?;
        let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::DRAFT)
            .bind(tenant.uuid())
            .bind(id.uuid())
            .fetch_optional(raw)
            .await)?;
        let checked = row
            .ok_or(Error::NotFound { what: "draft" })
            .and_then(StoredDraft::read)
            .and_then(|found| found.changeable(version).map(|()| found));
        match checked {
            Ok(found) => Ok((conn, at, found)),
            Err(error) => {
                conn.rollback().await?;
                Err(error.into())
            }
        }
    }
}

/// Reads a draft that is there.
async fn head(conn: &mut Conn, tenant: TenantId, id: DraftId) -> Result<StoredDraft, Failure> {
    let row: Row = on!(conn, |raw| sqlx::query_as(sql::DRAFT)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_one(raw)
        .await)?;
    Ok(StoredDraft::read(row)?)
}

/// Writes a count for its column.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn corrupt(id: DraftId, what: &str) -> Error {
    Error::corrupt("drafts", format!("the draft {id}: {what}"))
}

// === impl DraftState ===

impl DraftState {
    /// Returns its name: `open`, `published` or `discarded`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Published => "published",
            Self::Discarded => "discarded",
        }
    }
}

// === impl StoredDraft ===

impl StoredDraft {
    /// Returns the hash of what a reviewer looks at: the bundle, and the one that it changes.
    pub fn about(&self) -> ContentHash {
        let about = json!({ "bundle": self.hash, "base": self.base });
        // Two texts are JSON.
        ContentHash::of(&canonical_json(&about).unwrap_or_default())
    }

    /// Returns the state in which it was read.
    pub fn mark(&self) -> DraftMark {
        DraftMark {
            id: self.id,
            version: self.version,
            reviews: self.reviews,
        }
    }

    /// Says whether it can be changed by somebody who looked at `version`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it is open no more; [`Error::Stale`] when it has been edited since.
    pub fn changeable(&self, version: u64) -> Result<(), Error> {
        if self.state != DraftState::Open {
            let problem = format!("the draft is {}", self.state.as_str());
            return Err(Error::Unfit { problem });
        }
        if self.version != version {
            let (what, current) = ("draft", self.version);
            return Err(Error::Stale { what, current });
        }
        Ok(())
    }

    fn read(row: Row) -> Result<Self, Error> {
        let (
            id,
            name,
            message,
            base,
            hash,
            authors,
            state,
            version,
            reviews,
            created,
            updated,
            published,
            results,
        ) = row;
        let id = DraftId::from_uuid(id);
        let counted = |number: i64| {
            u64::try_from(number)
                .map_err(|_| corrupt(id, &format!("the count {number} is negative")))
        };
        Ok(Self {
            id,
            name,
            message,
            base: base.map(revision).transpose()?,
            hash: hash.parse().map_err(|_| corrupt(id, "no content hash"))?,
            authors: serde_json::from_str(&authors)
                .map_err(|error| corrupt(id, &format!("its authors: {error}")))?,
            state: match state.as_str() {
                "open" => DraftState::Open,
                "published" => DraftState::Published,
                "discarded" => DraftState::Discarded,
                other => return Err(corrupt(id, &format!("`{other}` is no state"))),
            },
            version: counted(version)?,
            reviews: counted(reviews)?,
            created_at: Timestamp::from_micros(created),
            updated_at: Timestamp::from_micros(updated),
            published_as: published.map(revision).transpose()?,
            results,
        })
    }
}
