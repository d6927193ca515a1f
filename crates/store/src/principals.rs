//! Principals: who administers a tenant. None is ever removed, so that a record always names somebody who was.

use std::collections::BTreeSet;

use remit_core::{Principal, PrincipalKind, PrincipalName, Revision, Role, TenantId, Timestamp};

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;

pub(crate) mod break_glass;

pub use break_glass::{NewBreakGlass, Standing, StandingGrant, StoredBreakGlass};

/// The most principals of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;

/// A principal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPrincipal {
    /// The principal.
    pub principal: Principal,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// The natural person behind it, by the name of their first account; `None` where that is this one.
    pub person: Option<PrincipalName>,
}

/// Who is behind an account, where somebody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind<'a> {
    /// Whoever was.
    AsItWas,
    /// Nobody but itself.
    Itself,
    /// The natural person whose first account this is.
    Person(&'a PrincipalName),
}

type Row = (String, String, String, i64, Option<i64>, Option<String>);

pub(crate) mod sql {
    statements! {
        /// Makes a principal, or gives one other roles and takes back that it is disabled.
        UPSERT_PRINCIPAL = "INSERT INTO principals (tenant, name, kind, roles, created_at, person) \
            VALUES ($1, $2, $3, $4, $5, nullif($6, '')) ON CONFLICT (tenant, name) DO UPDATE SET \
            kind = excluded.kind, roles = excluded.roles, disabled_at = NULL, \
            person = nullif(coalesce($6, principals.person), '')";
        /// Counts the accounts that this one is the first of.
        SECOND_ACCOUNTS = "SELECT count(*) FROM principals WHERE tenant = $1 AND person = $2";
        /// Disables a principal; one that is disabled stays so since the first time.
        DISABLE_PRINCIPAL = "UPDATE principals SET disabled_at = coalesce(disabled_at, $3) \
            WHERE tenant = $1 AND name = $2";
        /// Finds one principal.
        PRINCIPAL = "SELECT name, kind, roles, created_at, disabled_at, person FROM principals WHERE tenant = $1 AND name = $2";
        /// Lists principals by name.
        PRINCIPALS = "SELECT name, kind, roles, created_at, disabled_at, person FROM principals \
            WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3";
    }
}

// === impl Store ===

impl Store {
    /// Makes a principal, or gives the one of this name another kind and other roles; either way it is enabled.
    ///
    /// With `checked`, nothing of the tenant may have changed since that revision.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that only Remit gives; [`Error::Moved`], [`Error::Withdrawn`], and
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn put_principal(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        principal: &Principal,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.put_principal_of(tenant, checked, (principal, Behind::AsItWas), change)
            .await
    }

    /// Makes a principal or changes one as [`Store::put_principal`] does, and says who is behind it.
    ///
    /// # Errors
    ///
    /// As [`Store::put_principal`]; [`Error::Invalid`] for a person who is not the first account of one, and
    /// [`Error::Unfit`] where this one is the first account of others.
    pub async fn put_principal_of(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (principal, behind): (&Principal, Behind<'_>),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        if principal.name.is_reserved() {
            return Err(Error::invalid(
                "name",
                "must not be `remit` or begin with `key:`, which are names that Remit gives",
            ));
        }
        self.within("keep a principal", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            if let Behind::Person(person) = behind {
                first_account(&mut conn, tenant, &principal.name, person).await?;
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::UPSERT_PRINCIPAL)
                .bind(tenant.uuid())
                .bind(principal.name.as_str())
                .bind(principal.kind.as_str())
                .bind(join(&principal.roles))
                .bind(self.clock().now().micros())
                .bind(match behind {
                    Behind::AsItWas => None,
                    Behind::Itself => Some(""),
                    Behind::Person(person) => Some(person.as_str()),
                })
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Disables a principal: none of its keys can be used from the revision that is returned.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the tenant has no such principal; otherwise as [`Store::put_principal`].
    pub async fn disable_principal(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        name: &PrincipalName,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("disable a principal", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let found = on!(conn, |raw| sqlx::query(sql::DISABLE_PRINCIPAL)
                .bind(tenant.uuid())
                .bind(name.as_str())
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "principal" }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns one principal of a tenant.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn principal(
        &self,
        tenant: TenantId,
        name: &PrincipalName,
    ) -> Result<Option<StoredPrincipal>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a principal", |raw| sqlx::query_as(
            sql::PRINCIPAL
        )
        .bind(tenant.uuid())
        .bind(name.as_str())
        .fetch_optional(raw))?;
        row.map(StoredPrincipal::read).transpose()
    }

    /// Lists principals by name, bytewise, disabled ones included: those after `after`, at most `limit` and never more
    /// than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn principals(
        &self,
        tenant: TenantId,
        after: Option<&PrincipalName>,
        limit: usize,
    ) -> Result<Vec<StoredPrincipal>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list the principals", |raw| sqlx::query_as(
            sql::PRINCIPALS
        )
        .bind(tenant.uuid())
        .bind(after.map_or("", PrincipalName::as_str))
        .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
        .fetch_all(raw))?;
        rows.into_iter().map(StoredPrincipal::read).collect()
    }

    /// Checks, within the transaction that binds a key to it, that a principal is there and enabled.
    pub(crate) async fn check_principal(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        name: &PrincipalName,
    ) -> Result<(), Failure> {
        let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::PRINCIPAL)
            .bind(tenant.uuid())
            .bind(name.as_str())
            .fetch_optional(raw)
            .await)?;
        let problem = match row {
            None => "names nobody; make the principal first, with `PUT /v1/principals/{name}`",
            Some((.., Some(_), _)) => "names a principal that is disabled",
            Some((.., None, _)) => return Ok(()),
        };
        Err(Error::invalid("principal", problem).into())
    }
}

/// Checks that `person` is the first account of a natural person, and can be that of `name`.
async fn first_account(
    conn: &mut Conn,
    tenant: TenantId,
    name: &PrincipalName,
    person: &PrincipalName,
) -> Result<(), Failure> {
    let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::PRINCIPAL)
        .bind(tenant.uuid())
        .bind(person.as_str())
        .fetch_optional(raw)
        .await)?;
    let found = row.map(StoredPrincipal::read).transpose()?;
    let first = found.filter(|found| {
        found.principal.kind == PrincipalKind::Person && found.person.is_none() && person != name
    });
    if first.is_none() {
        let problem = "must name another principal that is a person and has no `person` of its own";
        return Err(Error::invalid("person", problem).into());
    }
    let others: i64 = on!(conn, |raw| sqlx::query_scalar(sql::SECOND_ACCOUNTS)
        .bind(tenant.uuid())
        .bind(name.as_str())
        .fetch_one(raw)
        .await)?;
    if others > 0 {
        let problem =
            format!("`{name}` is the first account of others, and can be nobody's second");
        return Err(Error::Unfit { problem }.into());
    }
    Ok(())
}

// === impl StoredPrincipal ===

impl StoredPrincipal {
    fn read((name, kind, roles, created_at, disabled_at, person): Row) -> Result<Self, Error> {
        Ok(Self {
            principal: read(&name, &kind, &roles)?,
            created_at: Timestamp::from_micros(created_at),
            disabled_at: disabled_at.map(Timestamp::from_micros),
            person: person
                .map(|person| person.parse())
                .transpose()
                .map_err(|error| Error::corrupt("principals", format!("{error}")))?,
        })
    }
}

/// Reads a principal from its columns.
pub(crate) fn read(name: &str, kind: &str, roles: &str) -> Result<Principal, Error> {
    let corrupt = |what: String| {
        let name: String = name.chars().take(80).collect();
        Error::corrupt("principals", format!("`{name}`: {what}"))
    };
    Ok(Principal {
        kind: kind.parse().map_err(|error| corrupt(format!("{error}")))?,
        name: name.parse().map_err(|error| corrupt(format!("{error}")))?,
        roles: roles
            .split(' ')
            .filter(|role| !role.is_empty())
            .map(str::parse)
            .collect::<Result<BTreeSet<Role>, _>>()
            .map_err(|error| corrupt(error.to_string()))?,
    })
}

fn join(roles: &BTreeSet<Role>) -> String {
    let mut names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}
