//! Versions: every bundle a tenant has had, who put it and why. A version never changes, and none is ever removed.

use remit_core::{ContentHash, KeyId, Revision, TenantId, Timestamp, is_nfc};
use uuid::Uuid;

use crate::bundles::{StoredBundle, content_hash};
use crate::drafts::DraftMark;
use crate::error::Error;
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// The longest message of a version, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 1_024;
/// The most versions that one call returns.
const MOST: usize = 1_001;

/// Who puts a bundle in force, and what they say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Authorship<'a> {
    /// The API key that puts it; `None` for Remit itself.
    pub by: Option<KeyId>,
    /// What the change is for: one line of at most 1,024 bytes in Unicode NFC.
    pub message: Option<&'a str>,
    /// The revision of the version that it brings back.
    pub restores: Option<Revision>,
    /// The draft that it is, which is published by it.
    pub draft: Option<DraftMark>,
    /// What speaks for it, as JSON that its writer understands.
    pub evidence: Option<&'a str>,
}

/// A version of the bundle, without the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// The revision that brought it.
    pub revision: Revision,
    /// The hash of its content.
    pub hash: ContentHash,
    /// When it was put.
    pub at: Timestamp,
    /// The API key that put it; `None` for Remit itself.
    pub by: Option<KeyId>,
    /// What that key is called.
    pub author: Option<String>,
    /// What its author says of it.
    pub message: Option<String>,
    /// The revision of the version that it brought back.
    pub restores: Option<Revision>,
    /// What spoke for it, as JSON that its writer understands.
    pub evidence: Option<String>,
}

type Row = (
    i64,
    String,
    i64,
    Option<Uuid>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
);

pub(crate) mod sql {
    statements! {
        /// Lists the versions before a revision, newest first, with the names of their authors' keys.
        VERSIONS = "SELECT b.revision, b.hash, b.at, b.author, k.name, b.message, b.restores, b.evidence \
            FROM bundles b \
            LEFT JOIN api_keys k ON k.id = b.author AND k.tenant = b.tenant \
            WHERE b.tenant = $1 AND b.revision < $2 ORDER BY b.revision DESC LIMIT $3";
    }
}

// === impl Store ===

impl Store {
    /// Lists versions of the bundle, newest first: those before `before`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn bundle_versions(
        &self,
        tenant: TenantId,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<StoredVersion>, Error> {
        let limit = i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX);
        let rows: Vec<Row> = read!(self, tenant, "list the versions of the bundle", |raw| {
            sqlx::query_as(sql::VERSIONS)
                .bind(tenant.uuid())
                .bind(before.map_or(i64::MAX, number))
                .bind(limit)
                .fetch_all(raw)
        })?;
        rows.into_iter().map(StoredVersion::read).collect()
    }

    /// Returns the bundle that a revision brought; `None` when that revision brought none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn bundle_version(
        &self,
        tenant: TenantId,
        revision: Revision,
    ) -> Result<Option<StoredBundle>, Error> {
        // Without the body first: the bundle in force at a revision may be an older one, and large.
        match self.bundle_hash(tenant, revision).await? {
            Some((found, _)) if found == revision => self.bundle_in_force(tenant, revision).await,
            _ => Ok(None),
        }
    }
}

// === impl Authorship ===

impl Authorship<'_> {
    /// Checks what is said of a version.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a message that is empty, too long, of several lines or not in Unicode NFC.
    pub fn check(&self) -> Result<(), Error> {
        check_line("message", self.message, MESSAGE_BYTES)
    }
}

/// Checks a line that somebody wrote, where there is one.
pub(crate) fn check_line(
    member: &'static str,
    text: Option<&str>,
    most: usize,
) -> Result<(), Error> {
    let Some(text) = text else {
        return Ok(());
    };
    check_text(member, text, most)?;
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(
            member,
            "must be one line without control characters",
        ));
    }
    if !is_nfc(text) {
        return Err(Error::invalid(
            member,
            "must be in Unicode normal form C (NFC)",
        ));
    }
    Ok(())
}

// === impl StoredVersion ===

impl StoredVersion {
    fn read(
        (number, hash, at, by, author, message, restores, evidence): Row,
    ) -> Result<Self, Error> {
        Ok(Self {
            revision: revision(number)?,
            hash: content_hash(number, &hash)?,
            at: Timestamp::from_micros(at),
            by: by.map(KeyId::from_uuid),
            author,
            message,
            restores: restores.map(revision).transpose()?,
            evidence,
        })
    }
}
