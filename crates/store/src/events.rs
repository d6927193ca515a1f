//! Events: what happened that somebody may want to be told of, written in the transaction in which it happens.
//!
//! They are kept for a week, in the order in which they were committed: whoever writes one has locked the tenant's row.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use remit_core::{Revision, TenantId, Timestamp, canonical_json};
use serde_json::Value;

use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::reach::{Across, Reach};
use crate::store::Store;
use crate::tenants::{number, revision};

/// How long an event is kept.
pub const EVENTS_KEPT: Duration = Duration::from_hours(7 * 24);
/// How many events are forgotten at most at a time.
pub const FORGOTTEN_AT_ONCE: u64 = 1_000;
/// The most events of one page.
const MOST: usize = 1_000;
/// The longest body, in bytes.
const BODY_BYTES: usize = 16 * 1024;

/// Where an event stands among all of its tenant: the revision that the tenant had with it, and which one of that it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The revision.
    pub revision: Revision,
    /// Which one of that revision, from 0.
    pub place: u64,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it stands.
    pub id: EventId,
    /// What happened, such as `access_request.created`.
    pub kind: String,
    /// To what: the id of a request, an exception.
    pub subject: String,
    /// When.
    pub at: Timestamp,
    /// What there is to say of it.
    pub body: Value,
}

/// A page of events, and where its tenant stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// Whether some that came after the one that was named are not kept any more.
    pub lost: bool,
    /// The newest revision of the tenant, whether or not it brought an event; read before the events were.
    pub head: Revision,
}

/// One event as it stands in its row.
type Row = (i64, i64, String, String, i64, String);

pub(crate) mod sql {
    statements! {
        /// Keeps an event after those of the same revision that are there.
        INSERT_EVENT = "INSERT INTO events (tenant, revision, place, kind, subject, at, body) \
            SELECT $1, $2, COALESCE((SELECT max(e.place) FROM events AS e WHERE e.tenant = $1 AND e.revision = $2), -1) + 1, \
            $3, $4, $5, $6";
        /// Lists events after one, oldest first.
        EVENTS = "SELECT revision, place, kind, subject, at, body FROM events WHERE tenant = $1 \
            AND (revision > $2 OR (revision = $2 AND place > $3)) ORDER BY revision, place LIMIT $4";
        /// Tells whether an event is kept.
        IS_EVENT = "SELECT count(*) FROM events WHERE tenant = $1 AND revision = $2 AND place = $3";
        /// Finds the newest event.
        NEWEST_EVENT = "SELECT revision, place FROM events WHERE tenant = $1 ORDER BY revision DESC, place DESC LIMIT 1";
        /// Finds a tenant that was not deleted, and its revision.
        EVENTS_HEAD = "SELECT revision FROM tenants WHERE id = $1 AND deleted_at IS NULL";
        /// Forgets events of long ago, but none that is the newest of its tenant: whoever has read it has missed nothing.
        FORGET_EVENTS = "DELETE FROM events WHERE (tenant, revision, place) IN \
            (SELECT e.tenant, e.revision, e.place FROM events AS e WHERE e.at < $1 AND EXISTS (SELECT 1 FROM events AS n \
            WHERE n.tenant = e.tenant AND (n.revision > e.revision OR (n.revision = e.revision AND n.place > e.place))) \
            LIMIT 1000)";
    }
}

/// Writes an event in the transaction in which it happens, which must have locked the tenant's row (`begin_change` and
/// `begin_aside` have): `at` is the revision that the tenant has with it, `now` the database's time.
///
/// # Errors
///
/// [`Error::Invalid`] for a body of more than 16 KiB. Those of the database.
pub(crate) async fn note(
    conn: &mut Conn,
    tenant: TenantId,
    (at, now): (Revision, Timestamp),
    kind: &str,
    subject: &str,
    body: &Value,
) -> Result<(), Failure> {
    let text = canonical_json(body)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| text.len() <= BODY_BYTES)
        .ok_or_else(|| Error::invalid("event", format!("is more than {BODY_BYTES} bytes")))?;
    on!(conn, |raw| sqlx::query(sql::INSERT_EVENT)
        .bind(tenant.uuid())
        .bind(number(at))
        .bind(kind)
        .bind(subject)
        .bind(now.micros())
        .bind(&text)
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

// === impl Store ===

impl Store {
    /// Lists events that came after one, oldest first, at most `limit` and never more than 1,000; `None` for the oldest
    /// that are kept.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such tenant; [`Error::Corrupt`] when a row cannot be read.
    pub async fn events(
        &self,
        tenant: TenantId,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Events, Error> {
        let limit = i64::try_from(limit.min(MOST)).unwrap_or(i64::MAX);
        self.within("list events", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let head: Option<i64> = on!(conn, |raw| sqlx::query_scalar(sql::EVENTS_HEAD)
                .bind(tenant.uuid())
                .fetch_optional(raw)
                .await)?;
            let head = revision(head.ok_or(Error::NotFound { what: "tenant" })?)?;
            let (from, place) = match after {
                Some(after) => (number(after.revision), place_of(after)),
                None => (-1, -1),
            };
            let rows: Vec<Row> = on!(conn, |raw| sqlx::query_as(sql::EVENTS)
                .bind(tenant.uuid())
                .bind(from)
                .bind(place)
                .bind(limit)
                .fetch_all(raw)
                .await)?;
            // After the events: where the one that was named is there still, none that came after it is gone.
            let kept: i64 = match after {
                Some(_) => on!(conn, |raw| sqlx::query_scalar(sql::IS_EVENT)
                    .bind(tenant.uuid())
                    .bind(from)
                    .bind(place)
                    .fetch_one(raw)
                    .await)?,
                None => 1,
            };
            conn.end().await?;
            let events = rows.into_iter().map(StoredEvent::read);
            Ok(Events {
                events: events.collect::<Result<_, _>>()?,
                lost: kept == 0,
                head,
            })
        })
        .await
    }

    /// Returns where the newest event of a tenant stands; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn newest_event(&self, tenant: TenantId) -> Result<Option<EventId>, Error> {
        let row: Option<(i64, i64)> = read!(self, tenant, "find the newest event", |raw| {
            sqlx::query_as(sql::NEWEST_EVENT)
                .bind(tenant.uuid())
                .fetch_optional(raw)
        })?;
        row.map(|(at, place)| EventId::read(at, place)).transpose()
    }

    /// Forgets events of more than a week ago, of every tenant, at most [`FORGOTTEN_AT_ONCE`] of them, and returns how many.
    /// The newest of each tenant stays.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`].
    pub async fn forget_events(&self) -> Result<u64, Error> {
        self.within("forget events of long ago", async {
            let mut conn = self.begin(Reach::Across(Across::Events)).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let kept = i64::try_from(EVENTS_KEPT.as_micros()).unwrap_or(i64::MAX);
            let forgotten = on!(conn, |raw| sqlx::query(sql::FORGET_EVENTS)
                .bind(now.micros().saturating_sub(kept))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            conn.commit().await?;
            Ok(forgotten)
        })
        .await
    }
}

fn place_of(id: EventId) -> i64 {
    i64::try_from(id.place).unwrap_or(i64::MAX)
}

// === impl EventId ===

impl EventId {
    fn read(at: i64, place: i64) -> Result<Self, Error> {
        Ok(Self {
            revision: revision(at)?,
            place: u64::try_from(place).unwrap_or_default(),
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.place)
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || {
            let (at, place) = text.split_once('.')?;
            let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            (plain(at) && plain(place)).then_some(())?;
            Some(Self {
                revision: Revision::new(at.parse().ok()?),
                place: place.parse().ok()?,
            })
        };
        let told = "is no id of an event, such as `42.0`";
        read().ok_or_else(|| Error::invalid("Last-Event-ID", told))
    }
}

// === impl StoredEvent ===

impl StoredEvent {
    fn read((at, place, kind, subject, time, body): Row) -> Result<Self, Error> {
        let body = serde_json::from_str(&body)
            .map_err(|error| Error::corrupt("events", format!("a body is no JSON: {error}")))?;
        Ok(Self {
            id: EventId::read(at, place)?,
            kind,
            subject,
            at: Timestamp::from_micros(time),
            body,
        })
    }
}
