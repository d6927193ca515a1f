//! API keys as they are kept: an id, a keyed hash, and what the holder may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{
    AdminAction, AdminActionId, EntityUid, KeyId, ParseIdError, Principal, PrincipalKind,
    PrincipalName, Revision, TenantId, Timestamp,
};
use serde_json::{Map, json};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::api_key::{ApiKey, KeyMac, Pepper, check_environment};
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::principals;
use crate::reach::Across;
use crate::scope::Scope;
use crate::store::Store;
use crate::tenants::check_text;

/// The longest name of a key, in bytes.
const NAME_BYTES: usize = 128;

/// What a new API key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it is for, in words.
    pub name: String,
    /// The environment it is for: 1 to 16 of `a-z0-9`, such as `live`.
    pub environment: String,
    /// What its holder may do; at least one.
    pub scopes: BTreeSet<Scope>,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Who acts through it; `None` for the key itself.
    pub principal: Option<PrincipalName>,
}

/// The first key of a tenant that is made with it.
#[derive(Debug, Clone, Copy)]
pub struct FirstKey<'a> {
    /// Its text.
    pub key: &'a ApiKey,
    /// What it is to be.
    pub new: &'a NewKey,
    /// What it is hashed with.
    pub pepper: &'a Pepper,
    /// The record of it, which the new tenant keeps.
    pub record: &'a AdminAction,
}

/// An API key as it is kept; the secret is not in it.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its public id.
    pub id: KeyId,
    /// Whose it is; the only thing that says which tenant a request belongs to.
    pub tenant: TenantId,
    /// What it is for, in words.
    pub name: String,
    /// The environment it is for.
    pub environment: String,
    /// What its holder may do.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// Who acts through it: the principal it is bound to, otherwise the key itself, in the roles of its scopes.
    pub principal: Arc<Principal>,
    /// Whether it is bound to a principal.
    pub bound: bool,
    /// When that principal was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    mac: KeyMac,
}

/// Why a key that is the right one may still not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its end has come.
    #[error("the API key has expired")]
    Expired,
    /// Somebody has revoked it.
    #[error("the API key has been revoked")]
    Revoked,
    /// The principal that it is bound to has been disabled.
    #[error("the principal of the API key has been disabled")]
    Disabled,
}

/// What a key is, and below it what its principal is where it has one.
type Row = (
    Uuid,
    Uuid,
    String,
    String,
    String,
    Vec<u8>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

pub(crate) mod sql {
    statements! {
        /// Adds a key; one of this id and tenant gets what is given here but keeps its revocation.
        UPSERT_KEY = "INSERT INTO api_keys \
            (id, tenant, name, environment, scopes, mac, created_at, expires_at, principal) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, environment = excluded.environment, \
            scopes = excluded.scopes, mac = excluded.mac, expires_at = excluded.expires_at, \
            principal = excluded.principal \
            WHERE api_keys.tenant = excluded.tenant";
        /// Finds one key.
        KEY = "SELECT k.id, k.tenant, k.name, k.environment, k.scopes, k.mac, k.created_at, k.expires_at, k.revoked_at, \
            k.principal, p.kind, p.roles, p.disabled_at FROM api_keys k \
            LEFT JOIN principals p ON p.tenant = k.tenant AND p.name = k.principal \
            WHERE k.tenant = $1 AND k.id = $2";
        /// Finds one key, whosever it is.
        ANY_KEY = "SELECT k.id, k.tenant, k.name, k.environment, k.scopes, k.mac, k.created_at, k.expires_at, k.revoked_at, \
            k.principal, p.kind, p.roles, p.disabled_at FROM api_keys k \
            LEFT JOIN principals p ON p.tenant = k.tenant AND p.name = k.principal \
            WHERE k.id = $1";
        /// Lists a tenant's keys, oldest first.
        KEYS = "SELECT k.id, k.tenant, k.name, k.environment, k.scopes, k.mac, k.created_at, k.expires_at, k.revoked_at, \
            k.principal, p.kind, p.roles, p.disabled_at FROM api_keys k \
            LEFT JOIN principals p ON p.tenant = k.tenant AND p.name = k.principal \
            WHERE k.tenant = $1 ORDER BY k.id";
        /// Lists the keys of every tenant.
        ALL_KEYS = "SELECT k.id, k.tenant, k.name, k.environment, k.scopes, k.mac, k.created_at, k.expires_at, k.revoked_at, \
            k.principal, p.kind, p.roles, p.disabled_at FROM api_keys k \
            LEFT JOIN principals p ON p.tenant = k.tenant AND p.name = k.principal \
            ORDER BY k.tenant, k.id";
        /// Revokes a key; one that is revoked stays so since the first time.
        REVOKE_KEY = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) \
            WHERE tenant = $1 AND id = $2";
    }
}

// === impl Store ===

impl Store {
    /// Makes a key and returns it with its text, which is told this once and kept nowhere.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the member of `new` at fault; [`Error::NotFound`] when there is no such tenant.
    pub async fn create_key(
        &self,
        tenant: TenantId,
        new: &NewKey,
        pepper: &Pepper,
    ) -> Result<(StoredKey, ApiKey), Error> {
        let id = KeyId::from_uuid(self.clock().id());
        let key = ApiKey::generate(&new.environment, id)?;
        let stored = self
            .insert_key(tenant, &key, new, pepper, Change::default())
            .await?;
        Ok((stored, key))
    }

    /// Keeps a key whose text is given; doing it again changes nothing, and is recorded no second time.
    ///
    /// A key of this id that is there already gets the secret and settings given here, but stays revoked if it was.
    ///
    /// # Errors
    ///
    /// [`Error::KeyTaken`] when the id belongs to another tenant, [`Error::Invalid`] for a principal that is not there or
    /// is disabled, [`Error::Withdrawn`]; otherwise as [`Store::create_key`].
    pub async fn insert_key(
        &self,
        tenant: TenantId,
        key: &ApiKey,
        new: &NewKey,
        pepper: &Pepper,
        change: Change<'_>,
    ) -> Result<StoredKey, Error> {
        new.check_for(key)?;
        change.check()?;
        let mac = pepper.mac(key);
        let found = self.any_key(key.id()).await?;
        if found.as_ref().is_some_and(|stored| stored.tenant != tenant) {
            return Err(Error::KeyTaken);
        }
        if let Some(stored) = found.filter(|stored| stored.is(new) && stored.matches(key, pepper)) {
            return Ok(stored);
        }
        self.within("keep an API key", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            if let Some(principal) = &new.principal {
                self.check_principal(&mut conn, tenant, principal).await?;
            }
            if !self.write_key(&mut conn, tenant, key, new, &mac).await? {
                conn.rollback().await?;
                return Err(Error::KeyTaken.into());
            }
            let row: Row = on!(conn, |raw| sqlx::query_as(sql::KEY)
                .bind(tenant.uuid())
                .bind(key.id().uuid())
                .fetch_one(raw)
                .await)?;
            conn.commit().await?;
            StoredKey::read(row).map_err(Failure::from)
        })
        .await
    }

    /// Writes the first key of a tenant and its record, in the transaction that makes the tenant at revision 1.
    pub(crate) async fn keep_first_key(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        first: FirstKey<'_>,
    ) -> Result<(), Failure> {
        let change = Change {
            record: Some(first.record),
            once: None,
        };
        self.accompany(conn, tenant, Revision::new(1), change)
            .await?;
        let mac = first.pepper.mac(first.key);
        if self
            .write_key(conn, tenant, first.key, first.new, &mac)
            .await?
        {
            return Ok(());
        }
        Err(Error::KeyTaken.into())
    }

    /// Writes a key; false when its id belongs to another tenant.
    async fn write_key(
        &self,
        conn: &mut Conn,
        tenant: TenantId,
        key: &ApiKey,
        new: &NewKey,
        mac: &KeyMac,
    ) -> Result<bool, Failure> {
        let written = on!(conn, |raw| sqlx::query(sql::UPSERT_KEY)
            .bind(key.id().uuid())
            .bind(tenant.uuid())
            .bind(new.name.as_str())
            .bind(new.environment.as_str())
            .bind(join(&new.scopes))
            .bind(mac.0.as_slice())
            .bind(self.clock().now().micros())
            .bind(new.expires_at.map(Timestamp::micros))
            .bind(new.principal.as_ref().map(PrincipalName::as_str))
            .execute(raw)
            .await
            .map(|done| done.rows_affected()))?;
        Ok(written > 0)
    }

    /// Returns a key, whosever it is; what is done with it must not tell one tenant of another's.
    async fn any_key(&self, id: KeyId) -> Result<Option<StoredKey>, Error> {
        let row: Option<Row> = read!(self, Across::Keys, "read an API key", |raw| sqlx::query_as(
            sql::ANY_KEY
        )
        .bind(id.uuid())
        .fetch_optional(raw))?;
        row.map(StoredKey::read).transpose()
    }

    /// Returns one key of a tenant.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Option<StoredKey>, Error> {
        let row: Option<Row> = read!(self, tenant, "read an API key", |raw| sqlx::query_as(
            sql::KEY
        )
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(raw))?;
        row.map(StoredKey::read).transpose()
    }

    /// Lists the keys of a tenant, oldest first, revoked and expired ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn keys(&self, tenant: TenantId) -> Result<Vec<StoredKey>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list the API keys", |raw| sqlx::query_as(
            sql::KEYS
        )
        .bind(tenant.uuid())
        .fetch_all(raw))?;
        rows.into_iter().map(StoredKey::read).collect()
    }

    /// Lists the keys of every tenant: what a replica authenticates with.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn all_keys(&self) -> Result<Vec<StoredKey>, Error> {
        let rows: Vec<Row> = read!(self, Across::Keys, "load the API keys", |raw| {
            sqlx::query_as(sql::ALL_KEYS).fetch_all(raw)
        })?;
        rows.into_iter().map(StoredKey::read).collect()
    }

    /// Revokes a key, for good, and returns the revision from which it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the tenant has no such key; [`Error::Moved`] when something of it has changed since
    /// `checked`, where that is given; [`Error::Withdrawn`].
    pub async fn revoke_key(
        &self,
        tenant: TenantId,
        id: KeyId,
        checked: Option<Revision>,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("revoke an API key", async {
            let (mut conn, revision) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, revision, change).await?;
            let found = on!(conn, |raw| sqlx::query(sql::REVOKE_KEY)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(self.clock().now().micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "API key" }.into());
            }
            conn.commit().await?;
            Ok(revision)
        })
        .await
    }
}

// === impl NewKey ===

impl NewKey {
    /// Makes the record of a key that nobody of its tenant asked for, such as the first one.
    pub fn record(
        &self,
        id: AdminActionId,
        at: Timestamp,
        tenant: TenantId,
        key: KeyId,
    ) -> AdminAction {
        AdminAction {
            details: Map::from_iter([
                ("key".to_owned(), json!(key)),
                ("scopes".to_owned(), json!(self.scopes)),
                ("principal".to_owned(), json!(self.principal)),
            ]),
            ..AdminAction::of_itself(
                id,
                at,
                "create_key",
                EntityUid::new("Tenant", tenant.to_string()),
            )
        }
    }

    /// Checks each member, and that the key is one for the environment.
    fn check_for(&self, key: &ApiKey) -> Result<(), Error> {
        self.check()?;
        if self.environment == key.environment() {
            return Ok(());
        }
        Err(Error::invalid(
            "environment",
            "is not the one in the API key",
        ))
    }

    /// Checks each member.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the one at fault.
    pub fn check(&self) -> Result<(), Error> {
        check_text("name", &self.name, NAME_BYTES)?;
        if self.name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "name",
                "must not contain a control character",
            ));
        }
        check_environment(&self.environment)
            .map_err(|error| Error::invalid("environment", format!("is wrong: {error}")))?;
        if self.scopes.is_empty() {
            return Err(Error::invalid("scopes", "must name at least one scope"));
        }
        Ok(())
    }
}

// === impl FirstKey ===

impl FirstKey<'_> {
    /// Checks what it is to be.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the member at fault.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.new.check_for(self.key)
    }
}

// === impl StoredKey ===

impl StoredKey {
    /// Tells whether `key` is this key: same id, environment and secret, compared in constant time.
    ///
    /// For an id that is not stored call [`StoredKey::reject`] instead, so that both take equally long.
    #[must_use]
    pub fn matches(&self, key: &ApiKey, pepper: &Pepper) -> bool {
        let same: bool = pepper.mac(key).0.ct_eq(&self.mac.0).into();
        same && key.id() == self.id
    }

    /// Does the work of [`StoredKey::matches`] for a key that is not stored, so that an unknown id takes equally long.
    pub fn reject(key: &ApiKey, pepper: &Pepper) {
        let same: bool = pepper.mac(key).0.ct_eq(&[0; 32]).into();
        std::hint::black_box(same);
    }

    /// Says whether the key may be used at `now`.
    ///
    /// # Errors
    ///
    /// [`Unusable`]; a key that is several of these is revoked, or else disabled.
    pub fn usable(&self, now: Timestamp) -> Result<(), Unusable> {
        if self.revoked_at.is_some() {
            Err(Unusable::Revoked)
        } else if self.disabled_at.is_some() {
            Err(Unusable::Disabled)
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Err(Unusable::Expired)
        } else {
            Ok(())
        }
    }

    /// Tells whether the holder may do what `scope` names.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    fn is(&self, new: &NewKey) -> bool {
        self.name == new.name
            && self.environment == new.environment
            && self.scopes == new.scopes
            && self.expires_at == new.expires_at
            && self.bound == new.principal.is_some()
            && new
                .principal
                .as_ref()
                .is_none_or(|name| *name == self.principal.name)
    }

    fn read(row: Row) -> Result<Self, Error> {
        let (id, tenant, name, environment, scopes, mac, created_at, expires_at, revoked_at, ..) =
            row;
        let (.., bound, kind, roles, disabled_at) = row;
        let id = KeyId::from_uuid(id);
        let corrupt = |what: &str| Error::corrupt("api_keys", format!("the key {id}: {what}"));
        let scopes: BTreeSet<Scope> = scopes
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|error: ParseIdError| corrupt(&error.to_string()))?;
        let principal = match (&bound, &kind, &roles) {
            (None, ..) => Principal {
                kind: PrincipalKind::Machine,
                name: PrincipalName::of_key(id),
                roles: scopes
                    .iter()
                    .flat_map(|scope| scope.roles())
                    .copied()
                    .collect(),
            },
            (Some(name), Some(kind), Some(roles)) => principals::read(name, kind, roles)?,
            // Without its principal nobody knows what it may do.
            (Some(_), ..) => return Err(corrupt("its principal is not there")),
        };
        Ok(Self {
            id,
            tenant: TenantId::from_uuid(tenant),
            name,
            environment,
            scopes,
            created_at: Timestamp::from_micros(created_at),
            expires_at: expires_at.map(Timestamp::from_micros),
            revoked_at: revoked_at.map(Timestamp::from_micros),
            bound: bound.is_some(),
            principal: Arc::new(principal),
            disabled_at: disabled_at.map(Timestamp::from_micros),
            mac: KeyMac(
                mac.try_into()
                    .map_err(|_| corrupt("its hash is not 32 bytes"))?,
            ),
        })
    }
}

fn join(scopes: &BTreeSet<Scope>) -> String {
    let mut names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    names.sort_unstable();
    names.join(" ")
}
