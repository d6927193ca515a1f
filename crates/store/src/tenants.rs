//! Tenants and their revisions.

use remit_core::{Revision, TenantId};
use uuid::Uuid;

use crate::error::Error;
use crate::store::Store;

/// The longest name of a tenant, in bytes.
const NAME_BYTES: usize = 128;

/// One isolated customer of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique and byte-exact.
    pub name: String,
    /// The number of its newest state.
    pub revision: Revision,
}

/// How far one tenant has got: what a replica compares with what it has installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The tenant.
    pub tenant: TenantId,
    /// The number of its newest state.
    pub revision: Revision,
}

pub(crate) mod sql {
    statements! {
        /// Makes a tenant unless one of this name exists.
        INSERT_TENANT = "INSERT INTO tenants (id, name, revision, created_at) VALUES ($1, $2, 0, $3) \
            ON CONFLICT (name) DO NOTHING";
        /// Finds a tenant by name.
        TENANT_ID = "SELECT id FROM tenants WHERE name = $1";
        /// Lists tenants by name.
        TENANTS = "SELECT id, name, revision FROM tenants ORDER BY name";
        /// Lists the newest revision of every tenant.
        HEADS = "SELECT id, revision FROM tenants";
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
        check_text("tenant.name", name, NAME_BYTES)?;
        if name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "tenant.name",
                "must not contain a control character",
            ));
        }
        self.within("make a tenant", async {
            let mut conn = self.begin().await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_TENANT)
                .bind(self.clock().id())
                .bind(name)
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(drop))?;
            let id: Uuid = on!(conn, |raw| sqlx::query_scalar(sql::TENANT_ID)
                .bind(name)
                .fetch_one(raw)
                .await)?;
            conn.commit().await?;
            Ok(TenantId::from_uuid(id))
        })
        .await
    }

    /// Lists every tenant, by name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, Error> {
        let rows: Vec<(Uuid, String, i64)> =
            read!(self, "list the tenants", |raw| sqlx::query_as(sql::TENANTS)
                .fetch_all(raw))?;
        rows.into_iter()
            .map(|(id, name, number)| {
                Ok(Tenant {
                    id: TenantId::from_uuid(id),
                    name,
                    revision: revision(number)?,
                })
            })
            .collect()
    }

    /// Returns the newest revision of every tenant; the poll that proves a replica fresh.
    pub async fn heads(&self) -> Result<Vec<Head>, Error> {
        let rows: Vec<(Uuid, i64)> =
            read!(self, "read the heads", |raw| sqlx::query_as(sql::HEADS)
                .fetch_all(raw))?;
        rows.into_iter()
            .map(|(id, number)| {
                Ok(Head {
                    tenant: TenantId::from_uuid(id),
                    revision: revision(number)?,
                })
            })
            .collect()
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
