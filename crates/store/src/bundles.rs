//! Bundles: every one a tenant has had, under the revision that brought it.

use remit_core::{Bundle, ContentHash, KeyId, Revision, TenantId, Timestamp, canonical_json};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::error::Error;
use crate::store::{Store, off_the_runtime};
use crate::tenants::{number, revision};
use crate::versions::Authorship;

/// Which bundle a writer believes is in force: the precondition of its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It does not care.
    Any,
    /// There is none yet.
    Absent,
    /// The one of this revision.
    At(Revision),
    /// This one or none, and nothing of the tenant has changed since `head`: the new bundle was compiled against the
    /// entities of that revision, and is put over no others.
    Unchanged {
        /// The revision of the bundle.
        bundle: Option<Revision>,
        /// The revision of the tenant.
        head: Revision,
    },
}

/// A bundle as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBundle {
    /// The revision that brought it.
    pub revision: Revision,
    /// The hash of its content.
    pub hash: ContentHash,
    /// The bundle.
    pub bundle: Bundle,
    /// When it was put.
    pub at: Timestamp,
    /// The API key that put it; `None` for Remit itself, as `serve --dev` does.
    pub by: Option<KeyId>,
}

/// Revision, hash, body, time and author.
pub(crate) type Row = (i64, String, String, i64, Option<Uuid>);

pub(crate) mod sql {
    statements! {
        /// Finds the revision of the newest bundle.
        BUNDLE_REVISION = "SELECT max(revision) FROM bundles WHERE tenant = $1";
        /// Finds which bundle was the last at or before a revision.
        BUNDLE_HASH_AT = "SELECT revision, hash FROM bundles \
            WHERE tenant = $1 AND revision <= $2 ORDER BY revision DESC LIMIT 1";
        /// Finds the last bundle at or before a revision.
        BUNDLE_AT = "SELECT revision, hash, body, at, author FROM bundles \
            WHERE tenant = $1 AND revision <= $2 ORDER BY revision DESC LIMIT 1";
        /// Adds a bundle.
        INSERT_BUNDLE = "INSERT INTO bundles \
            (tenant, revision, hash, body, at, author, message, restores, evidence) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    }
}

// === impl Store ===

impl Store {
    /// Puts a bundle in force and returns the revision that brings it.
    ///
    /// Whether it compiles is not asked here: the caller must have compiled it.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when another bundle than the expected one is in force, [`Error::Moved`] when something else
    /// has changed that was not to; then nothing is written.
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn put_bundle(
        &self,
        tenant: TenantId,
        expected: Expected,
        bundle: &Bundle,
        by: Option<KeyId>,
    ) -> Result<Revision, Error> {
        let authorship = Authorship {
            by,
            ..Authorship::default()
        };
        self.put_version(tenant, expected, bundle, authorship, Change::default())
            .await
    }

    /// Puts a bundle in force as [`Store::put_bundle`] does, and keeps what its author says of it.
    ///
    /// # Errors
    ///
    /// As [`Store::put_bundle`]; [`Error::Invalid`] for a message that cannot be kept, [`Error::Withdrawn`].
    pub async fn put_version(
        &self,
        tenant: TenantId,
        expected: Expected,
        bundle: &Bundle,
        authorship: Authorship<'_>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        authorship.check()?;
        change.check()?;
        let (body, hash) = written(bundle).await?;
        self.within("put the bundle", async {
            let (mut conn, next) = self.begin_change_since(tenant, expected.head()).await?;
            let current: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::BUNDLE_REVISION)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            let current = current.map(revision).transpose()?;
            if !expected.allows(current) {
                conn.rollback().await?;
                return Err(Error::Conflict { current }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_BUNDLE)
                .bind(tenant.uuid())
                .bind(number(next))
                .bind(hash.as_str())
                .bind(body.as_str())
                .bind(self.clock().now().micros())
                .bind(authorship.by.map(KeyId::uuid))
                .bind(authorship.message)
                .bind(authorship.restores.map(number))
                .bind(authorship.evidence)
                .execute(raw)
                .await
                .map(drop))?;
            if let Some(draft) = authorship.draft {
                let taken = self.publish_draft(&mut conn, tenant, draft, next).await?;
                if !taken {
                    conn.rollback().await?;
                    let what = "draft";
                    let current = draft.version.saturating_add(1);
                    return Err(Error::Stale { what, current }.into());
                }
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns the newest bundle; `None` when there has been none, or there is no such tenant.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn bundle(&self, tenant: TenantId) -> Result<Option<StoredBundle>, Error> {
        self.bundle_in_force(tenant, Revision::new(u64::MAX)).await
    }

    /// Returns which revision put the newest bundle, whatever has become of that bundle since.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the number cannot be read.
    pub async fn bundle_revision(&self, tenant: TenantId) -> Result<Option<Revision>, Error> {
        let found: Option<i64> = read!(self, tenant, "find the bundle", |raw| sqlx::query_scalar(
            sql::BUNDLE_REVISION
        )
        .bind(tenant.uuid())
        .fetch_one(raw))?;
        found.map(revision).transpose()
    }

    /// Returns which bundle was in force at a revision, and since which one, without reading it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn bundle_hash(
        &self,
        tenant: TenantId,
        at: Revision,
    ) -> Result<Option<(Revision, ContentHash)>, Error> {
        let found: Option<(i64, String)> =
            read!(self, tenant, "find the bundle", |raw| sqlx::query_as(
                sql::BUNDLE_HASH_AT
            )
            .bind(tenant.uuid())
            .bind(number(at))
            .fetch_optional(raw))?;
        let Some((number, hash)) = found else {
            return Ok(None);
        };
        Ok(Some((revision(number)?, content_hash(number, &hash)?)))
    }

    /// Returns the bundle that was in force at a revision: the last one put at or before it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn bundle_in_force(
        &self,
        tenant: TenantId,
        revision: Revision,
    ) -> Result<Option<StoredBundle>, Error> {
        let row: Option<Row> = read!(self, tenant, "read the bundle", |raw| sqlx::query_as(
            sql::BUNDLE_AT
        )
        .bind(tenant.uuid())
        .bind(number(revision))
        .fetch_optional(raw))?;
        match row {
            Some(row) => off_the_runtime("bundles", move || StoredBundle::read(row))
                .await
                .map(Some),
            None => Ok(None),
        }
    }
}

// === impl Expected ===

impl Expected {
    pub(crate) fn allows(self, current: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::At(revision) => current == Some(revision),
            Self::Unchanged { bundle, .. } => current == bundle,
        }
    }

    pub(crate) fn head(self) -> Option<Revision> {
        match self {
            Self::Unchanged { head, .. } => Some(head),
            Self::Any | Self::Absent | Self::At(_) => None,
        }
    }
}

// === impl StoredBundle ===

impl StoredBundle {
    pub(crate) fn read((number, hash, body, at, by): Row) -> Result<Self, Error> {
        let bundle: Bundle =
            serde_json::from_str(&body).map_err(|error| corrupt(number, &error.to_string()))?;
        let hash = content_hash(number, &hash)?;
        if bundle.content_hash() != hash {
            return Err(corrupt(
                number,
                &format!("its content is not that of {hash}"),
            ));
        }
        Ok(Self {
            revision: revision(number)?,
            hash,
            bundle,
            at: Timestamp::from_micros(at),
            by: by.map(KeyId::from_uuid),
        })
    }
}

/// Writes a bundle and its hash as columns hold them.
pub(crate) async fn written(bundle: &Bundle) -> Result<(String, String), Error> {
    let bundle = bundle.clone();
    off_the_runtime("bundles", move || {
        let body = canonical_json(&bundle)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Error::invalid("bundle", "cannot be written as JSON"))?;
        Ok((body, bundle.content_hash().to_string()))
    })
    .await
}

pub(crate) fn content_hash(revision: i64, column: &str) -> Result<ContentHash, Error> {
    column
        .parse()
        .map_err(|_| corrupt(revision, "no content hash"))
}

fn corrupt(revision: i64, what: &str) -> Error {
    Error::corrupt(
        "bundles",
        format!("the bundle of revision {revision}: {what}"),
    )
}
