//! Settings of a tenant, and what somebody has asked to change and another has to confirm.

use remit_core::{KeyId, PrincipalName, Revision, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::error::Error;
use crate::store::Store;
use crate::tenants::{number, revision};

/// What a tenant demands of its administration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether what may permit more needs a second person.
    pub second_person: bool,
}

/// Settings as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSettings {
    /// The settings.
    pub settings: Settings,
    /// The revision at which they were last changed; 0 for never.
    pub revision: Revision,
    /// What they are to be once another person has confirmed it.
    pub pending: Option<PendingSettings>,
}

/// Settings that somebody has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSettings {
    /// The settings.
    pub settings: Settings,
    /// The principal that asks.
    pub asked_by: PrincipalName,
    /// The API key that it came with.
    pub key: KeyId,
    /// When it was asked.
    pub at: Timestamp,
}

type Row = (
    bool,
    i64,
    Option<String>,
    Option<String>,
    Option<Uuid>,
    Option<i64>,
);

pub(crate) mod sql {
    statements! {
        /// Finds the settings of a tenant, and what is asked of them.
        SETTINGS = "SELECT t.second_person, t.settings_revision, p.settings, p.asked_by, p.key, p.at FROM tenants t \
            LEFT JOIN pending_settings p ON p.tenant = t.id WHERE t.id = $1";
        /// Changes the settings of a tenant.
        CHANGE_SETTINGS = "UPDATE tenants SET second_person = $2, settings_revision = $3 WHERE id = $1";
        /// Forgets what was asked.
        FORGET_SETTINGS = "DELETE FROM pending_settings WHERE tenant = $1";
        /// Forgets what one principal asked at one time.
        TAKE_SETTINGS = "DELETE FROM pending_settings WHERE tenant = $1 AND asked_by = $2 AND at = $3 AND settings = $4";
        /// Keeps what is asked.
        ASK_SETTINGS = "INSERT INTO pending_settings (tenant, settings, asked_by, key, at) VALUES ($1, $2, $3, $4, $5)";
    }
}

// === impl Store ===

impl Store {
    /// Returns the settings of a tenant.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant; [`Error::Corrupt`] when a row cannot be read.
    pub async fn settings(&self, tenant: TenantId) -> Result<StoredSettings, Error> {
        let row: Option<Row> = read!(self, tenant, "read the settings", |raw| sqlx::query_as(
            sql::SETTINGS
        )
        .bind(tenant.uuid())
        .fetch_optional(raw))?;
        StoredSettings::read(row.ok_or(Error::NotFound { what: "tenant" })?)
    }

    /// Changes the settings, if nothing of the tenant has changed since `checked`; what was asked before is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Moved`], [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn change_settings(
        &self,
        tenant: TenantId,
        checked: Revision,
        settings: Settings,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("change the settings", async {
            let (mut conn, next) = self.begin_change_since(tenant, Some(checked)).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::FORGET_SETTINGS)
                .bind(tenant.uuid())
                .execute(raw)
                .await
                .map(drop))?;
            on!(conn, |raw| sqlx::query(sql::CHANGE_SETTINGS)
                .bind(tenant.uuid())
                .bind(settings.second_person)
                .bind(number(next))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Keeps what somebody asks of the settings in place of what was asked before; with `None`, forgets that.
    ///
    /// # Errors
    ///
    /// [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn ask_settings(
        &self,
        tenant: TenantId,
        pending: Option<&PendingSettings>,
        change: Change<'_>,
    ) -> Result<(), Error> {
        self.within("ask for settings", async {
            let (mut conn, head) = self.begin_aside(tenant).await?;
            self.accompany_aside(&mut conn, tenant, head, change)
                .await?;
            on!(conn, |raw| sqlx::query(sql::FORGET_SETTINGS)
                .bind(tenant.uuid())
                .execute(raw)
                .await
                .map(drop))?;
            if let Some(pending) = pending {
                let settings = json!(pending.settings).to_string();
                on!(conn, |raw| sqlx::query(sql::ASK_SETTINGS)
                    .bind(tenant.uuid())
                    .bind(settings.as_str())
                    .bind(pending.asked_by.as_str())
                    .bind(pending.key.uuid())
                    .bind(pending.at.micros())
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            conn.commit().await
        })
        .await
    }

    /// Makes of settings that somebody asked for those of the tenant, because `confirmer` agrees.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when this is not asked any more, or was asked by `confirmer`; otherwise as
    /// [`Store::change_settings`].
    pub async fn confirm_settings(
        &self,
        tenant: TenantId,
        checked: Revision,
        pending: &PendingSettings,
        confirmer: &PrincipalName,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        let refuse = |problem: &str| {
            let problem = problem.to_owned();
            Error::Unfit { problem }
        };
        if *confirmer == pending.asked_by {
            return Err(refuse("whoever asked for it cannot confirm it"));
        }
        let settings = json!(pending.settings).to_string();
        self.within("confirm settings", async {
            let (mut conn, next) = self.begin_change_since(tenant, Some(checked)).await?;
            let taken = on!(conn, |raw| sqlx::query(sql::TAKE_SETTINGS)
                .bind(tenant.uuid())
                .bind(pending.asked_by.as_str())
                .bind(pending.at.micros())
                .bind(settings.as_str())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if taken == 0 {
                conn.rollback().await?;
                return Err(refuse("it is not asked for any more").into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::CHANGE_SETTINGS)
                .bind(tenant.uuid())
                .bind(pending.settings.second_person)
                .bind(number(next))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }
}

// === impl StoredSettings ===

impl StoredSettings {
    fn read((second_person, changed, settings, asked_by, key, at): Row) -> Result<Self, Error> {
        let corrupt = |what: String| Error::corrupt("pending_settings", what);
        let pending = match (settings, asked_by, key, at) {
            (Some(settings), Some(asked_by), Some(key), Some(at)) => Some(PendingSettings {
                settings: serde_json::from_str(&settings)
                    .map_err(|error| corrupt(error.to_string()))?,
                asked_by: asked_by
                    .parse()
                    .map_err(|error| corrupt(format!("{error}")))?,
                key: KeyId::from_uuid(key),
                at: Timestamp::from_micros(at),
            }),
            _ => None,
        };
        Ok(Self {
            settings: Settings { second_person },
            revision: revision(changed)?,
            pending,
        })
    }
}
