//! Tenants: made, suspended, resumed and deleted, and their revisions.
//!
//! Of a deleted tenant the row stays as a tombstone, so that its id is never given again. Its `name` is then [`TOMB`], the
//! id, and as long as rows are left a space and the name it had: names that are given cannot begin so.

use remit_core::{KillTarget, Revision, TenantId, Timestamp};
use uuid::Uuid;

use crate::admin_actions::{Operation, keep_operation};
use crate::error::{Error, Failure};
use crate::keys::FirstKey;
use crate::reach::Across;
use crate::registry::kills;
use crate::store::Store;

pub(crate) mod row_security;
pub(crate) mod rows;
pub(crate) mod settings;

pub use row_security::{RowSecurity, Unbound};
pub use rows::{ExportCursor, ExportPage, exported_columns};
pub use settings::{PendingSettings, Settings, StoredSettings};

/// The longest name of a tenant, in bytes.
const NAME_BYTES: usize = 128;
/// The most tenants of one page.
const MOST: usize = 1_001;
/// What the name of a tombstone begins with; a control character, which no name that is given has.
const TOMB: char = '\u{1}';

/// One isolated customer of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique and byte-exact; of a deleted one empty once nothing is left.
    pub name: String,
    /// The number of its newest state.
    pub revision: Revision,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was suspended, if it is.
    pub suspended_at: Option<Timestamp>,
    /// When it was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
    /// Whether what loosens its policies takes a second person.
    pub second_person: bool,
}

/// What may be done with a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// Everything.
    Active,
    /// Nothing by its own keys, until it is resumed.
    Suspended,
    /// Nothing ever again; some of its rows may be left.
    Deleting,
    /// Nothing ever again; nothing of it is left.
    Deleted,
}

/// How far one tenant has got: what a replica compares with what it has installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The tenant.
    pub tenant: TenantId,
    /// The number of its newest state.
    pub revision: Revision,
    /// Whether its keys are refused until it is resumed.
    pub suspended: bool,
    /// Whether it is no more.
    pub deleted: bool,
}

type Row = (Uuid, String, i64, i64, Option<i64>, Option<i64>, bool);

pub(crate) mod sql {
    statements! {
        /// Makes a tenant unless one of this name exists.
        INSERT_TENANT = "INSERT INTO tenants (id, name, revision, created_at) VALUES ($1, $2, $4, $3) \
            ON CONFLICT (name) DO NOTHING";
        /// Finds a tenant by name.
        TENANT_ID = "SELECT id FROM tenants WHERE name = $1";
        /// Finds a tenant.
        TENANT = "SELECT id, name, revision, created_at, suspended_at, deleted_at, second_person FROM tenants WHERE id = $1";
        /// Lists tenants after an id; of the deleted ones those of which something is left.
        TENANTS = "SELECT id, name, revision, created_at, suspended_at, deleted_at, second_person FROM tenants \
            WHERE id > $1 AND (deleted_at IS NULL OR length(name) > 37) ORDER BY id LIMIT $2";
        /// Lists the newest revision of every tenant.
        HEADS = "SELECT id, revision, suspended_at IS NOT NULL, deleted_at IS NOT NULL FROM tenants";
        /// Suspends a tenant.
        SUSPEND = "UPDATE tenants SET suspended_at = $2 WHERE id = $1 AND suspended_at IS NULL";
        /// Resumes a tenant.
        RESUME = "UPDATE tenants SET suspended_at = NULL WHERE id = $1 AND suspended_at IS NOT NULL";
        /// Deletes a suspended tenant, which gives it another name: so this waits for whoever counts on the tenant.
        BURY = "UPDATE tenants SET name = $2, deleted_at = $3, revision = revision + 1 \
            WHERE id = $1 AND suspended_at IS NOT NULL AND deleted_at IS NULL";
        /// Notes that nothing of a deleted tenant is left.
        SEAL_TOMB = "UPDATE tenants SET name = $2 WHERE id = $1 AND deleted_at IS NOT NULL";
    }
}

// === impl Store ===

impl Store {
    /// Returns the id of the tenant called `name`, making it at revision 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that is empty, longer than 128 bytes or has a control character.
    pub async fn ensure_tenant(&self, name: &str) -> Result<TenantId, Error> {
        let id = TenantId::from_uuid(self.clock().id());
        self.find_or_make(id, name, None, None)
            .await
            .map(|(tenant, _)| tenant)
    }

    /// Makes a tenant of this id with its first key, both or neither; at revision 1, and without a key at revision 0.
    ///
    /// # Errors
    ///
    /// [`Error::TenantTaken`] when one of this name exists; [`Error::Invalid`] as [`Store::ensure_tenant`] and for a key
    /// that cannot be made; [`Error::KeyTaken`]; [`Error::Withdrawn`] when whoever makes it may not any more.
    pub async fn create_tenant(
        &self,
        id: TenantId,
        name: &str,
        first: Option<FirstKey<'_>>,
        operation: Option<Operation<'_>>,
    ) -> Result<(), Error> {
        match self.find_or_make(id, name, first, operation).await? {
            (_, true) => Ok(()),
            (_, false) => Err(Error::TenantTaken),
        }
    }

    async fn find_or_make(
        &self,
        id: TenantId,
        name: &str,
        first: Option<FirstKey<'_>>,
        operation: Option<Operation<'_>>,
    ) -> Result<(TenantId, bool), Error> {
        check_text("tenant.name", name, NAME_BYTES)?;
        if name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "tenant.name",
                "must not contain a control character",
            ));
        }
        first.map_or(Ok(()), |first| first.check())?;
        self.within("make a tenant", async {
            let mut conn = self.begin(Across::Tenants).await?;
            conn.told = self.tells() && first.is_some();
            let made = on!(conn, |raw| sqlx::query(sql::INSERT_TENANT)
                .bind(id.uuid())
                .bind(name)
                .bind(self.clock().now().micros())
                .bind(i64::from(first.is_some()))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if made == 1 {
                keep_operation(&mut conn, operation).await?;
                if let Some((of, once)) = operation.and_then(|one| Some((one.of, one.once?))) {
                    self.keep_answer(&mut conn, of, Revision::default(), once)
                        .await?;
                }
                if let Some(first) = first {
                    self.keep_first_key(&mut conn, id, first).await?;
                }
            }
            let id: Uuid = on!(conn, |raw| sqlx::query_scalar(sql::TENANT_ID)
                .bind(name)
                .fetch_one(raw)
                .await)?;
            conn.commit().await?;
            Ok((TenantId::from_uuid(id), made == 1))
        })
        .await
    }

    /// Returns one tenant, a deleted one included; `None` when there never was one of this id.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, Error> {
        let row: Option<Row> = read!(self, id, "read a tenant", |raw| sqlx::query_as(sql::TENANT)
            .bind(id.uuid())
            .fetch_optional(raw))?;
        row.map(Tenant::read).transpose()
    }

    /// Lists tenants, oldest first: those after `after`, at most `limit` and never more than 1,001.
    ///
    /// Those that were deleted are not among them, but for those of which something is left.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn tenants(
        &self,
        after: Option<TenantId>,
        limit: usize,
    ) -> Result<Vec<Tenant>, Error> {
        let rows: Vec<Row> = read!(self, Across::Tenants, "list the tenants", |raw| {
            sqlx::query_as(sql::TENANTS)
                .bind(after.map_or(Uuid::nil(), TenantId::uuid))
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        rows.into_iter().map(Tenant::read).collect()
    }

    /// Returns the newest revision of every tenant, deleted ones included; the poll that proves a replica fresh.
    pub async fn heads(&self) -> Result<Vec<Head>, Error> {
        let rows: Vec<(Uuid, i64, bool, bool)> =
            read!(self, Across::Heads, "read the heads", |raw| sqlx::query_as(
                sql::HEADS
            )
            .fetch_all(raw))?;
        rows.into_iter()
            .map(|(id, number, suspended, deleted)| {
                Ok(Head {
                    tenant: TenantId::from_uuid(id),
                    revision: revision(number)?,
                    suspended,
                    deleted,
                })
            })
            .collect()
    }

    /// Suspends a tenant, and returns the revision from which it is; one that is suspended stays so since the first time.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant, or it was deleted.
    pub async fn suspend_tenant(
        &self,
        tenant: TenantId,
        operation: Option<Operation<'_>>,
    ) -> Result<Revision, Error> {
        self.within("suspend a tenant", async {
            let (mut conn, next) = self
                .begin_change_within(Across::Tenants, tenant, None)
                .await?;
            let changed = on!(conn, |raw| sqlx::query(sql::SUSPEND)
                .bind(tenant.uuid())
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            settled(conn, changed, next, operation).await
        })
        .await
    }

    /// Resumes a suspended tenant, and returns the revision from which it is; again changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::suspend_tenant`].
    pub async fn resume_tenant(
        &self,
        tenant: TenantId,
        operation: Option<Operation<'_>>,
    ) -> Result<Revision, Error> {
        self.within("resume a tenant", async {
            let (mut conn, next) = self
                .begin_change_within(Across::Tenants, tenant, None)
                .await?;
            let changed = on!(conn, |raw| sqlx::query(sql::RESUME)
                .bind(tenant.uuid())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            settled(conn, changed, next, operation).await
        })
        .await
    }

    /// Deletes a tenant: from now on it is no more, whatever is left of it. [`Store::erase_tenant`] removes that.
    ///
    /// Deleting one of which something is left is no error, so that what was interrupted can be taken up again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant or nothing is left of it, [`Error::Invalid`] when `name` is not
    /// its name, [`Error::NotSuspended`] when it was not suspended first, [`Error::Unfit`] while a kill of everything is in
    /// force that it has set.
    pub async fn delete_tenant(
        &self,
        tenant: TenantId,
        name: &str,
        operation: Option<Operation<'_>>,
    ) -> Result<(), Error> {
        let missing = || Error::NotFound { what: "tenant" };
        let found = self.tenant(tenant).await?.ok_or_else(missing)?;
        let state = found.state();
        if state == TenantState::Deleted {
            return Err(missing());
        }
        if found.name != name {
            return Err(Error::invalid("name", "is not the name of this tenant"));
        }
        match state {
            TenantState::Active => return Err(Error::NotSuspended),
            TenantState::Deleting => return Ok(()),
            TenantState::Suspended | TenantState::Deleted => {}
        }
        self.within("delete a tenant", async {
            let mut conn = self.begin(Across::Tenants).await?;
            conn.told = self.tells();
            let buried = on!(conn, |raw| sqlx::query(sql::BURY)
                .bind(tenant.uuid())
                .bind(format!("{} {name}", tomb(tenant)))
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if buried == 0 {
                // Somebody has resumed it meanwhile, or was faster.
                conn.rollback().await?;
                return Err(Error::NotSuspended.into());
            }
            // With its rows the kill would go, lifted by one.
            if kills::stands(&mut conn, tenant, &KillTarget::Everything).await? {
                conn.rollback().await?;
                let problem = "the tenant has stopped every tenant; resume it, lift that kill, and suspend it again";
                return Err(Error::Unfit {
                    problem: problem.to_owned(),
                }
                .into());
            }
            keep_operation(&mut conn, operation).await?;
            conn.commit().await
        })
        .await
    }

    /// Removes everything that is left of a deleted tenant, and returns how many rows that was.
    ///
    /// It takes as long as it takes, a thousand rows at a time; each of these is one call with its deadline.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a tenant that was not deleted. After any other error call it again.
    pub async fn erase_tenant(&self, tenant: TenantId) -> Result<u64, Error> {
        let found = self.tenant(tenant).await?;
        if found.is_none_or(|found| found.deleted_at.is_none()) {
            return Err(Error::NotFound { what: "tenant" });
        }
        let erased = self.erase_rows(tenant).await?;
        self.within("note that nothing of a tenant is left", async {
            let mut conn = self.begin(tenant).await?;
            on!(conn, |raw| sqlx::query(sql::SEAL_TOMB)
                .bind(tenant.uuid())
                .bind(tomb(tenant))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await?;
        Ok(erased)
    }
}

/// Ends a change of a tenant's state; where it is in that state already, it moves on to no new revision.
async fn settled(
    mut conn: crate::db::Conn,
    changed: u64,
    next: Revision,
    operation: Option<Operation<'_>>,
) -> Result<Revision, Failure> {
    if changed == 0 {
        conn.rollback().await?;
        return Ok(Revision::new(next.number().saturating_sub(1)));
    }
    keep_operation(&mut conn, operation).await?;
    conn.commit().await?;
    Ok(next)
}

fn tomb(tenant: TenantId) -> String {
    format!("{TOMB}{}", tenant.uuid().hyphenated())
}

// === impl Tenant ===

impl Tenant {
    /// Returns what may be done with it.
    pub fn state(&self) -> TenantState {
        match (self.deleted_at, self.suspended_at) {
            (Some(_), _) if self.name.is_empty() => TenantState::Deleted,
            (Some(_), _) => TenantState::Deleting,
            (None, Some(_)) => TenantState::Suspended,
            (None, None) => TenantState::Active,
        }
    }

    fn read(
        (id, name, number, created_at, suspended_at, deleted_at, second_person): Row,
    ) -> Result<Self, Error> {
        let id = TenantId::from_uuid(id);
        let name = match name.strip_prefix(&tomb(id)) {
            Some(had) => had.strip_prefix(' ').unwrap_or_default().to_owned(),
            None => name,
        };
        Ok(Self {
            id,
            name,
            revision: revision(number)?,
            created_at: Timestamp::from_micros(created_at),
            suspended_at: suspended_at.map(Timestamp::from_micros),
            deleted_at: deleted_at.map(Timestamp::from_micros),
            second_person,
        })
    }
}

/// Reads a revision from its column.
pub(crate) fn revision(number: i64) -> Result<Revision, Error> {
    u64::try_from(number)
        .map(Revision::new)
        .map_err(|_| Error::corrupt("tenants", format!("the revision {number} is negative")))
}

/// Writes a revision for its column; one that is larger than any stored compares as the largest.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.number()).unwrap_or(i64::MAX)
}

/// Checks that a text fits a column and an index of it on either database.
pub(crate) fn check_text(member: &'static str, text: &str, most: usize) -> Result<(), Error> {
    let problem = if text.is_empty() {
        "must not be empty".to_owned()
    } else if text.len() > most {
        format!("is longer than {most} bytes")
    } else if text.contains('\0') {
        "must not contain a NUL character".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid(member, problem))
}
