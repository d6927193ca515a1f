//! What is to be told to webhooks: kept until it is done, and begun by one replica at a time.

use remit_core::{ApprovalId, TenantId, Timestamp, WebhookId};
use serde_json::Value;
use uuid::Uuid;

use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events::EventId;
use crate::reach::{Across, Reach};
use crate::store::Store;
use crate::tenants::number;

/// The most deliveries that wait for one webhook; what else happens waits among the events.
pub const MOST_PENDING: u64 = 1_000;
/// How long a delivery is kept after it was made, in microseconds: a week.
pub const KEPT_DELIVERIES: i64 = 7 * 86_400_000_000;
/// The most webhooks of one look.
const MOST_DUE: i64 = 1_000;
/// The most deliveries that are taken from the queue of one webhook at a time.
const MOST_TAKEN: i64 = 16;
/// The most deliveries of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;

/// Something to be told to a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The id.
    pub id: Uuid,
    /// What it tells, by a name that the webhook is told once only.
    pub about: String,
    /// The kind of the event.
    pub kind: String,
    /// What it is about: the id of a request.
    pub subject: String,
    /// Where it goes, if not where the webhook does.
    pub url: Option<String>,
    /// What is sent.
    pub body: String,
}

/// A webhook for which something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hook {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub webhook: WebhookId,
}

/// A delivery that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The id.
    pub id: Uuid,
    /// The kind of the event.
    pub kind: String,
    /// Where it goes, if not where the webhook does.
    pub url: Option<String>,
    /// What is sent.
    pub body: String,
    /// How often it was begun to be sent.
    pub attempts: u32,
    /// When it was made.
    pub at: Timestamp,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is still to be sent.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// It was given up.
    Dead,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How far the delivery is.
    pub state: DeliveryState,
    /// When the attempt ended.
    pub at: Timestamp,
    /// From when on it is tried again.
    pub next: Timestamp,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// What went wrong.
    pub problem: Option<String>,
}

/// A delivery as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// The id.
    pub id: Uuid,
    /// The kind of the event.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// How far it is.
    pub state: DeliveryState,
    /// How often it was begun to be sent.
    pub attempts: u32,
    /// When it was made.
    pub at: Timestamp,
    /// From when on it is tried next.
    pub next_at: Timestamp,
    /// When it was tried last.
    pub last_at: Option<Timestamp>,
    /// What the receiver answered last.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_problem: Option<String>,
}

/// Who wants to be called when a request ends, or several that were made as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Callback {
    /// The request, or several as one.
    pub task: ApprovalId,
    /// The items, where it is several as one.
    pub items: Vec<ApprovalId>,
    /// Tells it from others about the same.
    pub about: String,
    /// What was asked for.
    pub wanted: Value,
}

type Callers = (
    Option<String>,
    Vec<(Uuid, String)>,
    Vec<(Uuid, String, String)>,
);
type DeliveryRow = (Uuid, String, Option<String>, String, i64, i64);
type ListedRow = (
    Uuid,
    String,
    String,
    String,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
);

pub(crate) mod sql {
    statements! {
        /// Lists enabled webhooks, of tenants that are not suspended, that have not been given every event and whose queue
        /// has room.
        WEBHOOKS_BEHIND = "SELECT w.tenant, w.id FROM webhooks AS w JOIN tenants AS t ON t.id = w.tenant \
            WHERE w.disabled_at IS NULL AND t.suspended_at IS NULL AND t.deleted_at IS NULL \
            AND EXISTS (SELECT 1 FROM events AS e WHERE e.tenant = w.tenant AND (e.revision > w.seen_revision \
            OR (e.revision = w.seen_revision AND e.place > w.seen_place))) AND (SELECT count(*) FROM (SELECT 1 AS one \
            FROM webhook_deliveries AS d WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'pending' LIMIT $2) \
            AS waiting) < $2 ORDER BY w.tenant, w.id LIMIT $1";
        /// Lists webhooks, of tenants that are not suspended, for which something waits: what waits longest first.
        WEBHOOKS_DUE = "SELECT d.tenant, d.webhook FROM webhook_deliveries AS d \
            JOIN tenants AS t ON t.id = d.tenant WHERE d.state = 'pending' AND d.next_at <= $1 \
            AND t.suspended_at IS NULL AND t.deleted_at IS NULL GROUP BY d.tenant, d.webhook \
            ORDER BY min(d.next_at), d.tenant, d.webhook LIMIT $2";
        /// Counts what waits for a webhook.
        COUNT_PENDING = "SELECT count(*) FROM webhook_deliveries WHERE tenant = $1 AND webhook = $2 AND state = 'pending'";
        /// Notes up to where events stand in the queue, unless somebody was faster.
        ADVANCE_WEBHOOK = "UPDATE webhooks SET seen_revision = $5, seen_place = $6 WHERE tenant = $1 AND id = $2 \
            AND seen_revision = $3 AND seen_place = $4 AND disabled_at IS NULL";
        /// Puts something into the queue, once.
        INSERT_DELIVERY = "INSERT INTO webhook_deliveries (tenant, id, webhook, about, kind, subject, url, body, state, \
            attempts, at, next_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', 0, $9, $9) \
            ON CONFLICT (tenant, webhook, about) DO NOTHING";
        /// Lists what is to be sent to a webhook now, oldest first.
        DELIVERIES_DUE = "SELECT id, kind, url, body, attempts, at FROM webhook_deliveries \
            WHERE tenant = $1 AND webhook = $2 AND state = 'pending' AND next_at <= $3 ORDER BY id LIMIT $4";
        /// Takes a delivery, unless somebody was faster: nobody else does before a time.
        TAKE_DELIVERY = "UPDATE webhook_deliveries SET attempts = attempts + 1, next_at = $4 \
            WHERE tenant = $1 AND id = $2 AND attempts = $3 AND state = 'pending'";
        /// Notes what came of an attempt, unless another one was begun.
        END_ATTEMPT = "UPDATE webhook_deliveries SET state = $4, next_at = $5, last_at = $6, last_status = $7, \
            last_problem = $8 WHERE tenant = $1 AND id = $2 AND attempts = $3 AND state = 'pending'";
        /// Lists deliveries of a webhook, newest first.
        DELIVERIES = "SELECT id, kind, subject, state, attempts, at, next_at, last_at, last_status, last_problem \
            FROM webhook_deliveries WHERE tenant = $1 AND webhook = $2 AND id < $3 AND (state = $4 OR $4 IS NULL) \
            ORDER BY id DESC LIMIT $5";
        /// Forgets deliveries that ended long ago.
        FORGET_DELIVERIES = "DELETE FROM webhook_deliveries WHERE (tenant, id) IN \
            (SELECT tenant, id FROM webhook_deliveries WHERE state <> 'pending' AND at < $1 LIMIT 1000)";
        /// Finds whom a request calls when it ends.
        CALLBACK_OF = "SELECT callback FROM access_requests WHERE tenant = $1 AND id = $2 AND callback IS NOT NULL";
        /// Lists whom those call who joined a request.
        CALLBACKS_OF_JOINS = "SELECT decision, callback FROM access_request_joins \
            WHERE tenant = $1 AND request = $2 AND callback IS NOT NULL ORDER BY decision";
        /// Lists whom those call who asked for a request together with others: those wait as long as the last of them.
        CALLBACKS_OF_BULKS = "SELECT id, items, callback FROM bulk_requests WHERE tenant = $1 \
            AND callback IS NOT NULL AND expires_at >= (SELECT r.expires_at FROM access_requests AS r \
            WHERE r.tenant = $1 AND r.id = $2) AND items LIKE $3 ORDER BY id";
    }
}

// === impl Store ===

impl Store {
    /// Lists webhooks that have not been given every event and whose queue has room, of every tenant.
    pub async fn webhooks_behind(&self) -> Result<Vec<Hook>, Error> {
        let rows: Vec<(Uuid, Uuid)> =
            read!(self, Across::Webhooks, "find events to tell", |raw| {
                sqlx::query_as(sql::WEBHOOKS_BEHIND)
                    .bind(MOST_DUE)
                    .bind(i64::try_from(MOST_PENDING).unwrap_or(i64::MAX))
                    .fetch_all(raw)
            })?;
        Ok(rows.into_iter().map(Hook::read).collect())
    }

    /// Lists webhooks for which something waits to be sent, of every tenant.
    pub async fn webhooks_due(&self, now: Timestamp) -> Result<Vec<Hook>, Error> {
        let rows: Vec<(Uuid, Uuid)> =
            read!(self, Across::Webhooks, "find what is to be sent", |raw| {
                sqlx::query_as(sql::WEBHOOKS_DUE)
                    .bind(now.micros())
                    .bind(MOST_DUE)
                    .fetch_all(raw)
            })?;
        Ok(rows.into_iter().map(Hook::read).collect())
    }

    /// Returns how much waits for a webhook.
    pub async fn pending_deliveries(&self, due: Hook) -> Result<u64, Error> {
        let count: i64 = read!(self, due.tenant, "count what waits for a webhook", |raw| {
            sqlx::query_scalar(sql::COUNT_PENDING)
                .bind(due.tenant.uuid())
                .bind(due.webhook.uuid())
                .fetch_one(raw)
        })?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Puts the events after `from` and up to `upto` into the queue of a webhook, all or none; whether nobody was faster.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where the tenant was deleted.
    pub async fn queue_deliveries(
        &self,
        due: Hook,
        (from, upto): (EventId, EventId),
        new: &[NewDelivery],
    ) -> Result<bool, Error> {
        self.within("queue what is to be told", async {
            let (mut conn, _) = self.begin_aside(due.tenant).await?;
            let moved = on!(conn, |raw| sqlx::query(sql::ADVANCE_WEBHOOK)
                .bind(due.tenant.uuid())
                .bind(due.webhook.uuid())
                .bind(number(from.revision))
                .bind(place(from))
                .bind(number(upto.revision))
                .bind(place(upto))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if moved == 0 {
                conn.rollback().await?;
                return Ok(false);
            }
            let now = dialect::time(&mut conn, self.clock()).await?;
            for delivery in new {
                delivery.insert(&mut conn, due, now).await?;
            }
            conn.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Puts one thing into the queue of a webhook, because somebody asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Withdrawn`]; [`Error::NotFound`] where there is no such tenant.
    pub async fn queue_delivery(
        &self,
        due: Hook,
        new: &NewDelivery,
        change: Change<'_>,
    ) -> Result<(), Error> {
        change.check()?;
        self.within("queue what somebody asks for", async {
            let (mut conn, head) = self.begin_aside(due.tenant).await?;
            self.accompany_aside(&mut conn, due.tenant, head, change)
                .await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            new.insert(&mut conn, due, now).await?;
            conn.commit().await
        })
        .await
    }

    /// Lists what is to be sent to a webhook now, oldest first; a few at a time.
    pub async fn deliveries_due(&self, due: Hook, now: Timestamp) -> Result<Vec<Delivery>, Error> {
        let rows: Vec<DeliveryRow> = read!(self, due.tenant, "read what is to be sent", |raw| {
            sqlx::query_as(sql::DELIVERIES_DUE)
                .bind(due.tenant.uuid())
                .bind(due.webhook.uuid())
                .bind(now.micros())
                .bind(MOST_TAKEN)
                .fetch_all(raw)
        })?;
        let read = |(id, kind, url, body, attempts, at)| Delivery {
            id,
            kind,
            url,
            body,
            attempts: count(attempts),
            at: Timestamp::from_micros(at),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Takes a delivery to send it: nobody else does before `until`. Whether nobody was faster.
    pub async fn take_delivery(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        until: Timestamp,
    ) -> Result<bool, Error> {
        self.within("take a delivery", async {
            let mut conn = self.begin(tenant).await?;
            let taken = on!(conn, |raw| sqlx::query(sql::TAKE_DELIVERY)
                .bind(tenant.uuid())
                .bind(delivery.id)
                .bind(i64::from(delivery.attempts))
                .bind(until.micros())
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.commit().await?;
            Ok(taken > 0)
        })
        .await
    }

    /// Notes what came of the attempt that [`Store::take_delivery`] began.
    pub async fn end_attempt(
        &self,
        tenant: TenantId,
        delivery: &Delivery,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        self.within("note what came of a delivery", async {
            let mut conn = self.begin(tenant).await?;
            on!(conn, |raw| sqlx::query(sql::END_ATTEMPT)
                .bind(tenant.uuid())
                .bind(delivery.id)
                .bind(i64::from(delivery.attempts) + 1)
                .bind(outcome.state.as_str())
                .bind(outcome.next.micros())
                .bind(outcome.at.micros())
                .bind(outcome.status.map(i64::from))
                .bind(outcome.problem.as_deref())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }

    /// Lists deliveries of a webhook, newest first: those before `before`, at most `limit` and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn deliveries(
        &self,
        due: Hook,
        state: Option<DeliveryState>,
        before: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<StoredDelivery>, Error> {
        let rows: Vec<ListedRow> = read!(self, due.tenant, "list deliveries", |raw| {
            sqlx::query_as(sql::DELIVERIES)
                .bind(due.tenant.uuid())
                .bind(due.webhook.uuid())
                .bind(before.unwrap_or(Uuid::max()))
                .bind(state.map(DeliveryState::as_str))
                .bind(i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX))
                .fetch_all(raw)
        })?;
        rows.into_iter().map(StoredDelivery::read).collect()
    }

    /// Forgets deliveries of more than a week ago that ended, of every tenant, at most [`crate::FORGOTTEN_AT_ONCE`] of them, and
    /// returns how many those were.
    pub async fn forget_deliveries(&self) -> Result<u64, Error> {
        self.within("forget deliveries of long ago", async {
            let mut conn = self.begin(Reach::Across(Across::Webhooks)).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let forgotten = on!(conn, |raw| sqlx::query(sql::FORGET_DELIVERIES)
                .bind(now.micros().saturating_sub(KEPT_DELIVERIES))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.commit().await?;
            Ok(forgotten)
        })
        .await
    }

    /// Lists who wants to be called because a request ended.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn callbacks_of(
        &self,
        tenant: TenantId,
        request: ApprovalId,
    ) -> Result<Vec<Callback>, Error> {
        let (own, joins, bulks): Callers = self
            .within("find whom to call", async {
                let mut conn = self.connect_to_read(tenant).await?;
                let own = on!(conn, |raw| sqlx::query_scalar(sql::CALLBACK_OF)
                    .bind(tenant.uuid())
                    .bind(request.uuid())
                    .fetch_optional(raw)
                    .await)?;
                let joins = on!(conn, |raw| sqlx::query_as(sql::CALLBACKS_OF_JOINS)
                    .bind(tenant.uuid())
                    .bind(request.uuid())
                    .fetch_all(raw)
                    .await)?;
                let bulks = on!(conn, |raw| sqlx::query_as(sql::CALLBACKS_OF_BULKS)
                    .bind(tenant.uuid())
                    .bind(request.uuid())
                    .bind(format!("%{request}%"))
                    .fetch_all(raw)
                    .await)?;
                conn.end().await?;
                Ok((own, joins, bulks))
            })
            .await?;
        let one = |about: String, text: &str| {
            Ok::<_, Error>(Callback {
                task: request,
                items: Vec::new(),
                about,
                wanted: json(text)?,
            })
        };
        let mut callbacks = Vec::new();
        if let Some(text) = own {
            callbacks.push(one(format!("callback/{request}"), &text)?);
        }
        for (decision, text) in joins {
            callbacks.push(one(format!("callback/{request}/{decision}"), &text)?);
        }
        for (id, items, text) in bulks {
            callbacks.push(Callback {
                task: ApprovalId::from_uuid(id),
                items: json(&items)?,
                about: format!("callback/{id}"),
                wanted: json(&text)?,
            });
        }
        Ok(callbacks)
    }
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::corrupt("callback", error.to_string()))
}

fn place(id: EventId) -> i64 {
    i64::try_from(id.place).unwrap_or(i64::MAX)
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

// === impl NewDelivery ===

impl NewDelivery {
    async fn insert(&self, conn: &mut Conn, due: Hook, now: Timestamp) -> Result<(), Failure> {
        on!(conn, |raw| sqlx::query(sql::INSERT_DELIVERY)
            .bind(due.tenant.uuid())
            .bind(self.id)
            .bind(due.webhook.uuid())
            .bind(self.about.as_str())
            .bind(self.kind.as_str())
            .bind(self.subject.as_str())
            .bind(self.url.as_deref())
            .bind(self.body.as_str())
            .bind(now.micros())
            .execute(raw)
            .await
            .map(drop))?;
        Ok(())
    }
}

// === impl Hook ===

impl Hook {
    fn read((tenant, webhook): (Uuid, Uuid)) -> Self {
        Self {
            tenant: TenantId::from_uuid(tenant),
            webhook: WebhookId::from_uuid(webhook),
        }
    }
}

// === impl DeliveryState ===

impl DeliveryState {
    /// Returns its name, as its column has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// Reads a name.
    pub fn of(text: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Delivered, Self::Dead];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

// === impl StoredDelivery ===

impl StoredDelivery {
    fn read(row: ListedRow) -> Result<Self, Error> {
        let (id, kind, subject, state, attempts, at, next, last, status, problem) = row;
        let state = DeliveryState::of(&state)
            .ok_or_else(|| Error::corrupt("webhook_deliveries", format!("state `{state}`")))?;
        Ok(Self {
            id,
            kind,
            subject,
            state,
            attempts: count(attempts),
            at: Timestamp::from_micros(at),
            next_at: Timestamp::from_micros(next),
            last_at: last.map(Timestamp::from_micros),
            last_status: status.and_then(|status| u16::try_from(status).ok()),
            last_problem: problem,
        })
    }
}
