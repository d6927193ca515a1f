//! Approvals: what a person was asked to approve, what came of it, and what an approval was used for.
//!
//! An access request and the approval that answers it are one row with one id. Every transition moves the tenant's revision
//! on, in the transaction in which its record is written; using an approval does not, since the database alone counts that.

use std::collections::BTreeMap;
use std::time::Duration;

use remit_core::{
    Approval, ApprovalId, ApprovalScope, Bound, ContentHash, DecisionId, EntityUid, KeyId,
    PrincipalName, Question, Revision, TaskId, TenantId, Timestamp, canonical_json,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{number, revision};

pub(crate) mod answers;
pub(crate) mod asking;
pub(crate) mod changes;
pub(crate) mod ending;
pub(crate) mod groups;
pub(crate) mod limits;
pub(crate) mod lists;
pub(crate) mod past;
pub(crate) mod sweeping;
pub(crate) mod using;

pub use answers::{GivenAnswer, Holds, Makes, NewAnswer};
pub use asking::{Asked, NewBulk, NewRequest, RequestName, Requester, StoredBulk};
pub use changes::{ApprovalChanges, ApprovalCursor};
pub use ending::{Approving, EndedRequest};
pub use groups::*;
pub use limits::PendingLimits;
pub use lists::{COUNTED, RequestCounts, RequestFilter};
pub use past::Past;
pub use sweeping::Swept;
pub use using::ApprovalUse;

/// How many persons of each group have to approve; the group `any` is whoever may approve.
pub type Wants = BTreeMap<String, u32>;

/// How an access request stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Somebody is to answer it.
    Pending,
    /// It was approved.
    Approved,
    /// It was refused.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// Who asked took it back, or the approval was withdrawn.
    Cancelled,
}

/// An access request as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRequest {
    /// Its id, and that of the approval.
    pub id: ApprovalId,
    /// The revision that made it what it is.
    pub revision: Revision,
    /// How it stands.
    pub state: RequestState,
    /// The decision that was denied.
    pub decision: DecisionId,
    /// What it is bound to.
    pub bound: Bound,
    /// Who has to approve.
    pub wants: Wants,
    /// Who asked.
    pub requested_by: PrincipalName,
    /// With which key.
    pub requested_key: KeyId,
    /// When.
    pub requested_at: Timestamp,
    /// Until when it can be answered.
    pub expires_at: Timestamp,
    /// When somebody else is asked as well.
    pub escalates_at: Option<Timestamp>,
    /// When somebody else was asked as well.
    pub escalated_at: Option<Timestamp>,
    /// What whoever answers is shown: canonical JSON. Empty in lists, as are the question and what was said.
    pub card: String,
    /// The hash of that.
    pub card_hash: ContentHash,
    /// What was denied.
    pub question: Question,
    /// What the caller said beside the question: nothing of it is verified.
    pub said: Map<String, Value>,
    /// Where its end is to be told, as the profile has it.
    pub callback: Option<Value>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who ended it; nobody where its time was over.
    pub ended_by: Option<String>,
    /// Why.
    pub ended_why: Option<String>,
    /// What was approved, where it was.
    pub grant: Option<Grant>,
    /// Whether replicas know of it no more: it was used up, or its time was over.
    pub forgotten: bool,
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// For what.
    pub scope: ApprovalScope,
    /// By whom.
    pub approvers: std::collections::BTreeSet<PrincipalName>,
    /// Until when it can be used.
    pub until: Timestamp,
    /// How often it can be used still.
    pub uses_left: u64,
    /// How much money it can move still, where that is limited.
    pub amount_left: Option<u64>,
}

/// The columns of a request, in one place: every statement that reads requests selects them.
macro_rules! columns {
    () => {
        concat!($crate::approvals::narrow!(), ", card, question, said, callback")
    };
    // As lists read them: without what is wide, in the place of which stands what is empty.
    (narrow) => {
        concat!(
            $crate::approvals::narrow!(),
            ", '' AS card, '{\"subject\":{\"type\":\"\",\"id\":\"\"},\"action\":{\"name\":\"\"},\
            \"resource\":{\"type\":\"\",\"id\":\"\"}}' AS question, '{}' AS said, NULL AS callback"
        )
    };
}
macro_rules! narrow {
    () => {
        "id, revision, state, decision, digest, bundle, violations, environment, subject_type, subject_id, action, \
        resource_type, resource_id, task, sinks, currency, wants, requested_by, requested_key, requested_at, expires_at, \
        escalates_at, escalated_at, card_hash, ended_at, ended_by, ended_why, scope, approvers, approved_until, \
        uses_left, amount_left, forgotten_at"
    };
}
pub(crate) use {columns, narrow};

pub(crate) mod sql {
    statements! {
        /// Finds a request.
        REQUEST = concat!("SELECT ", columns!(), " FROM access_requests WHERE tenant = $1 AND id = $2");
    }
}

/// A row with the [`columns`].
pub(crate) struct RequestRow {
    ids: [Uuid; 3],
    revision: i64,
    texts: [String; 17],
    task: Option<Uuid>,
    requested_at: i64,
    expires_at: i64,
    times: [Option<i64>; 5],
    callback: Option<String>,
    currency: Option<String>,
    ended: [Option<String>; 2],
    scope: Option<String>,
    approvers: Option<String>,
    left: [Option<i64>; 2],
}

/// What holds one row of either database.
impl<'r, R> FromRow<'r, R> for RequestRow
where
    R: Row,
    &'static str: ColumnIndex<R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let text = |name: &'static str| row.try_get::<String, _>(name);
        let maybe = |name: &'static str| row.try_get::<Option<String>, _>(name);
        let time = |name: &'static str| row.try_get::<Option<i64>, _>(name);
        Ok(Self {
            ids: [
                row.try_get("id")?,
                row.try_get("decision")?,
                row.try_get("requested_key")?,
            ],
            revision: row.try_get("revision")?,
            texts: [
                text("state")?,
                text("digest")?,
                text("bundle")?,
                text("violations")?,
                text("environment")?,
                text("subject_type")?,
                text("subject_id")?,
                text("action")?,
                text("resource_type")?,
                text("resource_id")?,
                text("sinks")?,
                text("wants")?,
                text("requested_by")?,
                text("card")?,
                text("card_hash")?,
                text("question")?,
                text("said")?,
            ],
            task: row.try_get("task")?,
            requested_at: row.try_get("requested_at")?,
            expires_at: row.try_get("expires_at")?,
            times: [
                time("escalates_at")?,
                time("escalated_at")?,
                time("ended_at")?,
                time("approved_until")?,
                time("forgotten_at")?,
            ],
            callback: maybe("callback")?,
            currency: maybe("currency")?,
            ended: [maybe("ended_by")?, maybe("ended_why")?],
            scope: maybe("scope")?,
            approvers: maybe("approvers")?,
            left: [time("uses_left")?, time("amount_left")?],
        })
    }
}

// === impl Store ===

impl Store {
    /// Returns one access request of a tenant, however it stands.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn request(
        &self,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<Option<StoredRequest>, Error> {
        let row: Option<RequestRow> = read!(self, tenant, "read an access request", |raw| {
            sqlx::query_as(sql::REQUEST)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_optional(raw)
        })?;
        row.map(StoredRequest::read).transpose()
    }
}

/// Reads one access request within a transaction.
pub(crate) async fn find(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<Option<StoredRequest>, Failure> {
    let row: Option<RequestRow> = on!(conn, |raw| sqlx::query_as(sql::REQUEST)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_optional(raw)
        .await)?;
    Ok(row.map(StoredRequest::read).transpose()?)
}

/// Returns the hash of everything that a request is bound to: those of one hash are one request while it is pending.
pub(crate) fn hash_of(bound: &Bound) -> Result<ContentHash, Error> {
    text_of("bound", bound).map(|text| ContentHash::of(text.as_bytes()))
}

/// Writes canonical JSON for a column.
pub(crate) fn text_of(member: &'static str, value: &impl Serialize) -> Result<String, Error> {
    canonical_json(value)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid(member, "cannot be written as JSON"))
}

/// Returns a duration in the microseconds that columns hold.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

// === impl RequestState ===

impl RequestState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Approved,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Returns it as its column and the wire have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    fn read(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| corrupt(format!("the state is `{text}`")))
    }
}

// === impl StoredRequest ===

impl StoredRequest {
    /// Reads a row.
    pub(crate) fn read(row: RequestRow) -> Result<Self, Error> {
        let [id, decision, key] = row.ids;
        let [
            state,
            digest,
            bundle,
            violations,
            environment,
            subject_type,
            subject_id,
            action,
            resource_type,
            resource_id,
            sinks,
            wants,
            requested_by,
            card,
            card_hash,
            question,
            said,
        ] = row.texts;
        let [escalates_at, escalated, ended_at, until, forgotten_at] =
            row.times.map(|time| time.map(Timestamp::from_micros));
        let [ended_by, ended_why] = row.ended;
        let hash = |text: String| -> Result<ContentHash, Error> {
            text.parse()
                .map_err(|_| corrupt(format!("`{text}` is no hash")))
        };
        let grant = match (row.scope, row.approvers, until, row.left) {
            (Some(scope), Some(approvers), Some(until), [Some(uses), amount]) => Some(Grant {
                scope: json(&scope)?,
                approvers: json(&approvers)?,
                until,
                uses_left: unsigned(uses)?,
                amount_left: amount.map(unsigned).transpose()?,
            }),
            _ => None,
        };
        Ok(Self {
            id: ApprovalId::from_uuid(id),
            revision: revision(row.revision)?,
            state: RequestState::read(&state)?,
            decision: DecisionId::from_uuid(decision),
            bound: Bound {
                action,
                bundle: hash(bundle)?,
                currency: row.currency,
                digest: hash(digest)?,
                environment,
                resource: EntityUid::new(resource_type, resource_id),
                sinks: json(&sinks)?,
                subject: EntityUid::new(subject_type, subject_id),
                task: row.task.map(TaskId::from_uuid),
                violations: json(&violations)?,
            },
            wants: json(&wants)?,
            requested_by: requested_by
                .parse()
                .map_err(|error| corrupt(format!("{error}")))?,
            requested_key: KeyId::from_uuid(key),
            requested_at: Timestamp::from_micros(row.requested_at),
            expires_at: Timestamp::from_micros(row.expires_at),
            escalates_at,
            escalated_at: escalated,
            card,
            card_hash: hash(card_hash)?,
            question: json(&question)?,
            said: json(&said)?,
            callback: row.callback.as_deref().map(json).transpose()?,
            ended_at,
            ended_by,
            ended_why,
            grant,
            forgotten: forgotten_at.is_some(),
        })
    }

    /// Whether the time of what was approved is over at `now`, or was found to be before: a clock that is set back revives
    /// nothing. What was not approved has none.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let grant = self.grant.as_ref();
        grant.is_none_or(|grant| now >= grant.until || (self.forgotten && grant.uses_left > 0))
    }

    /// Returns the approval that can be used by it; `None` where it was not approved, or is known to be over.
    pub fn approval(&self) -> Option<Approval> {
        let grant = self.grant.as_ref();
        let grant = grant.filter(|_| self.state == RequestState::Approved && !self.forgotten)?;
        Some(Approval {
            approvers: grant.approvers.clone(),
            approved_until: grant.until,
            bound: self.bound.clone(),
            id: self.id,
            scope: grant.scope,
        })
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))
}

fn unsigned(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| corrupt(format!("{value} is negative")))
}

fn corrupt(what: String) -> Error {
    Error::corrupt("access_requests", what)
}

/// Writes the revision of a change for its column.
pub(crate) fn at(next: Revision) -> i64 {
    number(next)
}
