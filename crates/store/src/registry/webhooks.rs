//! Webhooks: where a tenant wants to be told of events.

use remit_core::{PrincipalName, Revision, TenantId, Timestamp, WebhookId};
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events::EventId;
use crate::store::Store;
use crate::tenants::{number, revision};

pub(crate) mod queue;

pub use queue::{
    Callback, Delivery, DeliveryState, Hook, KEPT_DELIVERIES, MOST_PENDING, NewDelivery, Outcome,
    StoredDelivery,
};

/// The most webhooks of a tenant.
pub const MOST_WEBHOOKS: u64 = 20;
/// The most webhooks of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;

/// A webhook as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWebhook {
    /// The id.
    pub id: WebhookId,
    /// The revision that made it what it is.
    pub revision: Revision,
    /// What it is told, and where.
    pub target: WebhookTarget,
    /// What is signed with, sealed.
    pub secrets: SealedSecrets,
    /// Who made it.
    pub created_by: PrincipalName,
    /// When.
    pub created_at: Timestamp,
    /// Since when nothing is sent there, and why.
    pub disabled: Option<(Timestamp, String)>,
    /// The last event that was put into its queue.
    pub seen: EventId,
}

/// What a webhook is told, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    /// Where.
    pub url: String,
    /// Kinds of events, and beginnings of them that end in a dot.
    pub kinds: Vec<String>,
    /// Whether access requests may name it, or what is below it, as their callback.
    pub callbacks: bool,
}

/// The secrets of a webhook, each sealed with a key that the database does not have.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecrets {
    /// The newest.
    pub now: String,
    /// The one before, until when it signs as well.
    pub before: Option<(String, Timestamp)>,
}

type Row = (
    Uuid,
    i64,
    String,
    String,
    i64,
    String,
    Option<String>,
    Option<i64>,
    String,
    i64,
    Option<i64>,
    Option<String>,
    i64,
    i64,
);

pub(crate) mod sql {
    statements! {
        /// Finds a webhook.
        WEBHOOK = "SELECT id, revision, url, kinds, callbacks, secret, old_secret, old_until, created_by, created_at, \
            disabled_at, disabled_why, seen_revision, seen_place FROM webhooks WHERE tenant = $1 AND id = $2";
        /// Lists webhooks, oldest first.
        WEBHOOKS = "SELECT id, revision, url, kinds, callbacks, secret, old_secret, old_until, created_by, created_at, \
            disabled_at, disabled_why, seen_revision, seen_place FROM webhooks WHERE tenant = $1 AND id > $2 \
            ORDER BY id LIMIT $3";
        /// Counts webhooks.
        COUNT_WEBHOOKS = "SELECT count(*) FROM webhooks WHERE tenant = $1";
        /// Keeps a new webhook, which is told of nothing that was before it.
        INSERT_WEBHOOK = "INSERT INTO webhooks (tenant, id, revision, url, kinds, callbacks, secret, created_by, \
            created_at, seen_revision, seen_place) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, \
            COALESCE((SELECT max(e.revision) FROM events AS e WHERE e.tenant = $1), 0), \
            COALESCE((SELECT max(e.place) FROM events AS e WHERE e.tenant = $1 AND e.revision = \
            (SELECT max(f.revision) FROM events AS f WHERE f.tenant = $1)), 0)";
        /// Replaces what a webhook is told, and where.
        UPDATE_WEBHOOK = "UPDATE webhooks SET revision = $3, url = $4, kinds = $5, callbacks = $6 \
            WHERE tenant = $1 AND id = $2";
        /// Has a webhook told again of what happens from now on.
        ENABLE_WEBHOOK = "UPDATE webhooks SET disabled_at = NULL, disabled_why = NULL, \
            seen_revision = COALESCE((SELECT max(e.revision) FROM events AS e WHERE e.tenant = $1), 0), \
            seen_place = COALESCE((SELECT max(e.place) FROM events AS e WHERE e.tenant = $1 AND e.revision = \
            (SELECT max(f.revision) FROM events AS f WHERE f.tenant = $1)), 0) \
            WHERE tenant = $1 AND id = $2 AND disabled_at IS NOT NULL";
        /// Has a webhook told of nothing any more.
        DISABLE_WEBHOOK = "UPDATE webhooks SET revision = $3, disabled_at = $4, disabled_why = $5 \
            WHERE tenant = $1 AND id = $2 AND disabled_at IS NULL";
        /// Gives up what waits for a webhook.
        GIVE_UP_PENDING = "UPDATE webhook_deliveries SET state = 'dead', last_problem = 'the webhook was disabled' \
            WHERE tenant = $1 AND webhook = $2 AND state = 'pending'";
        /// Gives a webhook a new secret.
        ROTATE_SECRET = "UPDATE webhooks SET revision = $3, old_secret = secret, old_until = $4, secret = $5 \
            WHERE tenant = $1 AND id = $2";
        /// Forgets what was to be told to a webhook.
        DELETE_DELIVERIES = "DELETE FROM webhook_deliveries WHERE tenant = $1 AND webhook = $2";
        /// Forgets a webhook.
        DELETE_WEBHOOK = "DELETE FROM webhooks WHERE tenant = $1 AND id = $2";
    }
}

// === impl Store ===

impl Store {
    /// Returns one webhook.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn webhook(
        &self,
        tenant: TenantId,
        id: WebhookId,
    ) -> Result<Option<StoredWebhook>, Error> {
        let row: Option<Row> = read!(self, tenant, "read a webhook", |raw| {
            sqlx::query_as(sql::WEBHOOK)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_optional(raw)
        })?;
        row.map(StoredWebhook::read).transpose()
    }

    /// Lists webhooks, oldest first: those after `after`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn webhooks(
        &self,
        tenant: TenantId,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<StoredWebhook>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "list the webhooks", |raw| {
            sqlx::query_as(sql::WEBHOOKS)
                .bind(tenant.uuid())
                .bind(after.map_or(Uuid::nil(), WebhookId::uuid))
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        rows.into_iter().map(StoredWebhook::read).collect()
    }

    /// Keeps a new webhook with its sealed secret, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when the tenant has [`MOST_WEBHOOKS`]; [`Error::Moved`]; [`Error::Withdrawn`].
    pub async fn create_webhook(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, by, target, secret): (WebhookId, &PrincipalName, &WebhookTarget, &str),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        let kinds = kinds_of(target)?;
        self.within("keep a webhook", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let there: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_WEBHOOKS)
                .bind(tenant.uuid())
                .fetch_one(raw)
                .await)?;
            if u64::try_from(there).is_ok_and(|there| there >= MOST_WEBHOOKS) {
                conn.rollback().await?;
                let problem = format!("a tenant has at most {MOST_WEBHOOKS} webhooks");
                return Err(Error::Unfit { problem }.into());
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            on!(conn, |raw| sqlx::query(sql::INSERT_WEBHOOK)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(number(next))
                .bind(target.url.as_str())
                .bind(kinds.as_str())
                .bind(i64::from(target.callbacks))
                .bind(secret)
                .bind(by.as_str())
                .bind(now.micros())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Replaces what a webhook is told and where, enables or disables it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Moved`], [`Error::Withdrawn`].
    pub async fn put_webhook(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, target, disabled): (WebhookId, &WebhookTarget, Option<&str>),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        let kinds = kinds_of(target)?;
        self.within("replace a webhook", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let found = on!(conn, |raw| sqlx::query(sql::UPDATE_WEBHOOK)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(number(next))
                .bind(target.url.as_str())
                .bind(kinds.as_str())
                .bind(i64::from(target.callbacks))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "webhook" }.into());
            }
            match disabled {
                None => on!(conn, |raw| sqlx::query(sql::ENABLE_WEBHOOK)
                    .bind(tenant.uuid())
                    .bind(id.uuid())
                    .execute(raw)
                    .await
                    .map(drop))?,
                Some(why) => {
                    let now = dialect::time(&mut conn, self.clock()).await?;
                    disable(&mut conn, tenant, (id, why), (next, now)).await?;
                }
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Has a webhook told of nothing any more, and gives up what waits for it; whether it was enabled.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where there is no such tenant.
    pub async fn disable_webhook(
        &self,
        tenant: TenantId,
        (id, why): (WebhookId, &str),
        change: Change<'_>,
    ) -> Result<bool, Error> {
        self.within("disable a webhook", async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            if !disable(&mut conn, tenant, (id, why), (next, now)).await? {
                conn.rollback().await?;
                return Ok(false);
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Gives a webhook a new sealed secret; the one that it had signs as well until `old_until`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Moved`], [`Error::Withdrawn`].
    pub async fn rotate_webhook(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, secret, old_until): (WebhookId, &str, Timestamp),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("give a webhook a new secret", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let found = on!(conn, |raw| sqlx::query(sql::ROTATE_SECRET)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(number(next))
                .bind(old_until.micros())
                .bind(secret)
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "webhook" }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Forgets a webhook, and what waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Moved`], [`Error::Withdrawn`].
    pub async fn delete_webhook(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        id: WebhookId,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("delete a webhook", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let mut found = 0;
            for text in [sql::DELETE_DELIVERIES, sql::DELETE_WEBHOOK] {
                found = on!(conn, |raw| sqlx::query(text)
                    .bind(tenant.uuid())
                    .bind(id.uuid())
                    .execute(raw)
                    .await
                    .map(|done| done.rows_affected()))?;
            }
            if found == 0 {
                conn.rollback().await?;
                return Err(Error::NotFound { what: "webhook" }.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }
}

async fn disable(
    conn: &mut Conn,
    tenant: TenantId,
    (id, why): (WebhookId, &str),
    (next, now): (Revision, Timestamp),
) -> Result<bool, Failure> {
    let found = on!(conn, |raw| sqlx::query(sql::DISABLE_WEBHOOK)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(number(next))
        .bind(now.micros())
        .bind(why)
        .execute(raw)
        .await
        .map(|done| done.rows_affected()))?;
    if found == 0 {
        return Ok(false);
    }
    on!(conn, |raw| sqlx::query(sql::GIVE_UP_PENDING)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .execute(raw)
        .await
        .map(drop))?;
    Ok(true)
}

fn kinds_of(target: &WebhookTarget) -> Result<String, Error> {
    serde_json::to_string(&target.kinds)
        .map_err(|error| Error::invalid("events", error.to_string()))
}

// === impl StoredWebhook ===

impl StoredWebhook {
    fn read(row: Row) -> Result<Self, Error> {
        let (id, brought, url, kinds, callbacks, secret, old, until, by, at, off, why, seen, place) =
            row;
        let corrupt = |what: String| Error::corrupt("webhooks", what);
        let kinds = serde_json::from_str(&kinds).map_err(|error| corrupt(error.to_string()))?;
        let created_by = by.parse();
        Ok(Self {
            id: WebhookId::from_uuid(id),
            revision: revision(brought)?,
            target: WebhookTarget {
                url,
                kinds,
                callbacks: callbacks != 0,
            },
            secrets: SealedSecrets {
                now: secret,
                before: old
                    .zip(until)
                    .map(|(secret, until)| (secret, Timestamp::from_micros(until))),
            },
            created_by: created_by.map_err(|error| corrupt(format!("{error}")))?,
            created_at: Timestamp::from_micros(at),
            disabled: off.map(|at| (Timestamp::from_micros(at), why.unwrap_or_default())),
            seen: EventId {
                revision: revision(seen)?,
                place: u64::try_from(place).unwrap_or_default(),
            },
        })
    }
}

// === impl WebhookTarget ===

impl WebhookTarget {
    /// Whether it is told of events of a kind.
    pub fn wants(&self, kind: &str) -> bool {
        self.kinds
            .iter()
            .any(|wanted| wanted == kind || (wanted.ends_with('.') && kind.starts_with(wanted)))
    }
}

// === impl SealedSecrets ===

impl std::fmt::Debug for SealedSecrets {
    /// Shows none of them: also a sealed one is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedSecrets")
    }
}
