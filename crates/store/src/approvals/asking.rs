//! Asking for an approval: a request is made, or one that is pending of the very same is joined.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    AdminAction, ApprovalId, Bound, ContentHash, DecisionId, EntityUid, KeyId, PrincipalName,
    Question, Revision, TaskId, TenantId, Timestamp,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::limits::{PendingLimits, Room};
use super::{RequestRow, StoredRequest, Wants, at, columns, find, hash_of, micros, text_of};
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events;
use crate::store::Store;

/// A request that is to be made.
#[derive(Debug, Clone)]
pub struct NewRequest<'a> {
    /// Its id, unless one is joined.
    pub id: ApprovalId,
    /// What it is bound to.
    pub bound: Bound,
    /// The decision that was denied.
    pub decision: DecisionId,
    /// Who has to approve.
    pub wants: Wants,
    /// What whoever answers is shown: canonical JSON.
    pub card: String,
    /// What was denied.
    pub question: &'a Question,
    /// What the caller said beside the question.
    pub said: Map<String, Value>,
    /// How long it can be answered.
    pub lives: Duration,
    /// After which time somebody else is asked as well.
    pub escalates_after: Option<Duration>,
}

/// Several requests made as one.
#[derive(Debug, Clone, Copy)]
pub struct NewBulk {
    /// The id of all of them together.
    pub id: ApprovalId,
}

/// What a caller calls what it asks for.
#[derive(Debug, Clone, Copy)]
pub struct RequestName<'a> {
    /// The name.
    pub name: &'a str,
    /// The hash of everything that is asked.
    pub request: ContentHash,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// They are pending, each made or joined, in their order.
    Pending {
        /// The requests.
        requests: Vec<StoredRequest>,
        /// The id of the request, or of several together.
        whole: ApprovalId,
        /// How many of them were joined.
        joined: usize,
        /// The revision that it brought.
        revision: Revision,
    },
    /// The same was asked under this name before: the id of the request, or of several together.
    Before(ApprovalId),
    /// Something else was asked under this name before.
    Reused,
    /// Too many are pending: whose, and how many there may be.
    Full(&'static str, u64),
    /// It was asked too often for this agent: how often it may be within a minute.
    TooOften(u64),
}

pub(crate) mod sql {
    use super::columns;

    statements! {
        /// Finds a pending request of the same.
        SAME_PENDING = concat!("SELECT ", columns!(), " FROM access_requests \
            WHERE tenant = $1 AND bound = $2 AND state = 'pending' AND expires_at > $3");
        /// Finds a request of the same whose time is over and that nobody has ended yet.
        SAME_OVER = "SELECT id FROM access_requests WHERE tenant = $1 AND bound = $2 AND state = 'pending' \
            AND expires_at <= $3";
        /// Adds a request.
        INSERT_REQUEST = "INSERT INTO access_requests (tenant, id, revision, state, decision, digest, bundle, \
            violations, environment, bound, subject_type, subject_id, action, resource_type, resource_id, task, sinks, \
            wants, requested_by, requested_key, requested_at, expires_at, escalates_at, card, card_hash, question, \
            said, callback, currency, root) VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
            $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, (SELECT coalesce(t.root, t.id) FROM tasks AS t \
            WHERE t.tenant = $1 AND t.id = $15))";
        /// Notes a group that a request waits for.
        INSERT_GROUP = "INSERT INTO access_request_groups (tenant, name, state, request) VALUES ($1, $2, 'pending', $3)";
        /// Notes who else asked.
        INSERT_JOIN = "INSERT INTO access_request_joins (tenant, request, decision, joined_by, at, callback) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, request, decision) DO NOTHING";
        /// Adds several requests as one.
        INSERT_BULK = "INSERT INTO bulk_requests (tenant, id, items, requested_by, requested_key, at, expires_at, \
            callback) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        /// Finds several requests that were made as one.
        BULK = "SELECT items, requested_by, expires_at FROM bulk_requests WHERE tenant = $1 AND id = $2";
        /// Finds what was asked under a name.
        NAMED = "SELECT request, task FROM access_request_names WHERE tenant = $1 AND requested_by = $2 AND name = $3";
        /// Keeps what was asked under a name.
        INSERT_NAME = "INSERT INTO access_request_names (tenant, requested_by, name, request, task, at) \
            VALUES ($1, $2, $3, $4, $5, $6)";
        /// Finds whether somebody joined a request.
        HAS_JOINED = "SELECT count(*) FROM access_request_joins WHERE tenant = $1 AND request = $2 AND joined_by = $3";
    }
}

/// Who asks, and where the end is to be told.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// The principal.
    pub by: &'a PrincipalName,
    /// Its key.
    pub key: KeyId,
    /// Where the end is to be told, as canonical JSON.
    pub callback: Option<&'a str>,
}

/// Several requests that were made as one, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBulk {
    /// The requests, in order.
    pub items: Vec<ApprovalId>,
    /// Who asked.
    pub requested_by: PrincipalName,
    /// Until when they can be answered.
    pub expires_at: Timestamp,
}

// === impl Store ===

impl Store {
    /// Makes requests, all of them or none: what is pending of the very same is joined. The record of the change is
    /// completed with what came of it.
    ///
    /// # Errors
    ///
    /// [`Error::Withdrawn`]; [`Error::NotFound`] when there is no such tenant.
    pub async fn insert_requests(
        &self,
        tenant: TenantId,
        (requests, bulk): (&[NewRequest<'_>], Option<NewBulk>),
        (requester, named): (Requester<'_>, Option<RequestName<'_>>),
        limits: PendingLimits,
        change: Change<'_>,
    ) -> Result<Asked, Error> {
        let asking = async {
            let (mut conn, next) = self.begin_change(tenant).await?;
            if let Some(asked) = before(&mut conn, tenant, requester.by, named).await? {
                conn.rollback().await?;
                return Ok(asked);
            }
            let now = dialect::time(&mut conn, self.clock()).await?;
            let asking = Asking {
                store: self,
                tenant,
                requester,
                next,
                now,
                // The callback of several is told once, of all of them.
                callback: requester.callback.filter(|_| bulk.is_none()),
            };
            let mut room = Room::new((tenant, now), limits);
            if room.too_often(&mut conn, requests).await? {
                conn.rollback().await?;
                return Ok(Asked::TooOften(limits.asked));
            }
            let mut made = Vec::with_capacity(requests.len());
            let mut joined = BTreeSet::new();
            for request in requests {
                if let Some(there) = asking.join(&mut conn, request).await? {
                    joined.insert(request.id);
                    made.push(there);
                    continue;
                }
                if let Some((whose, most)) = room.full(&mut conn, request).await? {
                    conn.rollback().await?;
                    return Ok(Asked::Full(whose, most));
                }
                made.push(asking.insert(&mut conn, request).await?);
            }
            let first = made.first().map(|request| request.id);
            let whole = bulk
                .map(|bulk| bulk.id)
                .or(first)
                .unwrap_or(ApprovalId::NIL);
            if bulk.is_some() {
                asking.insert_bulk(&mut conn, whole, &made).await?;
            }
            if let Some(named) = named {
                asking.name(&mut conn, named, whole).await?;
            }
            let told = change.record.map(|record| {
                let asked = requests.iter().zip(&made);
                let items = asked.map(|(new, there)| (new, there, joined.contains(&new.id)));
                record_of(record, whole, bulk.is_some(), items.collect())
            });
            let change = Change {
                record: told.as_ref(),
                ..change
            };
            self.accompany(&mut conn, tenant, next, change).await?;
            conn.commit().await?;
            Ok(Asked::Pending {
                requests: made,
                whole,
                joined: joined.len(),
                revision: next,
            })
        };
        self.within("ask for an approval", Box::pin(asking)).await
    }

    /// Returns what was asked under a name: [`Asked::Before`] or [`Asked::Reused`]; `None` where nothing was.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn asked_before(
        &self,
        tenant: TenantId,
        by: &PrincipalName,
        named: RequestName<'_>,
    ) -> Result<Option<Asked>, Error> {
        self.within("find what was asked", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let asked = before(&mut conn, tenant, by, Some(named)).await?;
            conn.end().await?;
            Ok(asked)
        })
        .await
    }

    /// Returns several requests that were made as one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when the row cannot be read.
    pub async fn bulk_request(
        &self,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<Option<StoredBulk>, Error> {
        let row: Option<(String, String, i64)> =
            read!(self, tenant, "read several access requests", |raw| {
                sqlx::query_as(sql::BULK)
                    .bind(tenant.uuid())
                    .bind(id.uuid())
                    .fetch_optional(raw)
            })?;
        let corrupt = |what: String| Error::corrupt("bulk_requests", what);
        row.map(|(items, by, expires_at)| {
            Ok(StoredBulk {
                items: serde_json::from_str(&items).map_err(|error| corrupt(error.to_string()))?,
                requested_by: by.parse().map_err(|error| corrupt(format!("{error}")))?,
                expires_at: Timestamp::from_micros(expires_at),
            })
        })
        .transpose()
    }

    /// Tells whether a principal joined a request that another made.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn has_joined(
        &self,
        tenant: TenantId,
        id: ApprovalId,
        by: &PrincipalName,
    ) -> Result<bool, Error> {
        let found: i64 = read!(self, tenant, "find who joined a request", |raw| {
            sqlx::query_scalar(sql::HAS_JOINED)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(by.as_str())
                .fetch_one(raw)
        })?;
        Ok(found > 0)
    }
}

async fn before(
    conn: &mut Conn,
    tenant: TenantId,
    by: &PrincipalName,
    named: Option<RequestName<'_>>,
) -> Result<Option<Asked>, Failure> {
    let Some(named) = named else {
        return Ok(None);
    };
    let found: Option<(String, Uuid)> = on!(conn, |raw| sqlx::query_as(sql::NAMED)
        .bind(tenant.uuid())
        .bind(by.as_str())
        .bind(named.name)
        .fetch_optional(raw)
        .await)?;
    Ok(found.map(|(request, task)| {
        if request == named.request.to_string() {
            Asked::Before(ApprovalId::from_uuid(task))
        } else {
            Asked::Reused
        }
    }))
}

/// Completes the record of asking: which requests they are, and which of them were there before. One that was joined alone
/// is no new one.
fn record_of(
    record: &AdminAction,
    whole: ApprovalId,
    bulk: bool,
    items: Vec<(&NewRequest<'_>, &StoredRequest, bool)>,
) -> AdminAction {
    let mut record = record.clone();
    if !bulk && items.iter().all(|(.., joined)| *joined) {
        "join_request".clone_into(&mut record.action);
    }
    record.resource = EntityUid::new("AccessRequest", whole.to_string());
    let items = items.into_iter().map(|(new, there, joined)| {
        json!({
            "action": there.bound.action,
            "card_hash": there.card_hash,
            "decision": new.decision,
            "joined": joined,
            "request": there.id,
        })
    });
    let items = Value::Array(items.collect());
    record.details.insert("requests".to_owned(), items);
    record
}

/// Requests on their way into the database.
struct Asking<'a> {
    store: &'a Store,
    tenant: TenantId,
    requester: Requester<'a>,
    next: Revision,
    now: Timestamp,
    callback: Option<&'a str>,
}

// === impl Asking ===

impl Asking<'_> {
    /// Joins a pending request of the same, where there is one.
    async fn join(
        &self,
        conn: &mut Conn,
        request: &NewRequest<'_>,
    ) -> Result<Option<StoredRequest>, Failure> {
        let bound = hash_of(&request.bound)?.to_string();
        let row: Option<RequestRow> = on!(conn, |raw| sqlx::query_as(sql::SAME_PENDING)
            .bind(self.tenant.uuid())
            .bind(&bound)
            .bind(self.now.micros())
            .fetch_optional(raw)
            .await)?;
        let Some(there) = row.map(StoredRequest::read).transpose()? else {
            let over: Option<Uuid> = on!(conn, |raw| sqlx::query_scalar(sql::SAME_OVER)
                .bind(self.tenant.uuid())
                .bind(&bound)
                .bind(self.now.micros())
                .fetch_optional(raw)
                .await)?;
            if let Some(over) = over {
                let over = ApprovalId::from_uuid(over);
                let at = (self.next, self.now);
                self.store.expire(conn, self.tenant, over, at).await?;
            }
            return Ok(None);
        };
        on!(conn, |raw| sqlx::query(sql::INSERT_JOIN)
            .bind(self.tenant.uuid())
            .bind(there.id.uuid())
            .bind(request.decision.uuid())
            .bind(self.requester.by.as_str())
            .bind(self.now.micros())
            .bind(self.callback)
            .execute(raw)
            .await
            .map(drop))?;
        let body = json!({ "action": there.bound.action, "by": self.requester.by });
        self.tell(conn, "access_request.joined", there.id, &body)
            .await?;
        Ok(Some(there))
    }

    async fn insert(
        &self,
        conn: &mut Conn,
        request: &NewRequest<'_>,
    ) -> Result<StoredRequest, Failure> {
        let bound = &request.bound;
        let now = self.now.micros();
        let later = |time: Duration| now.saturating_add(micros(time));
        on!(conn, |raw| sqlx::query(sql::INSERT_REQUEST)
            .bind(self.tenant.uuid())
            .bind(request.id.uuid())
            .bind(at(self.next))
            .bind(request.decision.uuid())
            .bind(bound.digest.to_string())
            .bind(bound.bundle.to_string())
            .bind(text_of("violations", &bound.violations)?)
            .bind(bound.environment.as_str())
            .bind(hash_of(bound)?.to_string())
            .bind(bound.subject.kind.as_str())
            .bind(bound.subject.id.as_str())
            .bind(bound.action.as_str())
            .bind(bound.resource.kind.as_str())
            .bind(bound.resource.id.as_str())
            .bind(bound.task.map(TaskId::uuid))
            .bind(text_of("sinks", &bound.sinks)?)
            .bind(text_of("wants", &request.wants)?)
            .bind(self.requester.by.as_str())
            .bind(self.requester.key.uuid())
            .bind(now)
            .bind(later(request.lives))
            .bind(request.escalates_after.map(later))
            .bind(request.card.as_str())
            .bind(ContentHash::of(request.card.as_bytes()).to_string())
            .bind(exactly("question", request.question)?)
            .bind(exactly("said", &request.said)?)
            .bind(self.callback)
            .bind(bound.currency.as_deref())
            .execute(raw)
            .await
            .map(drop))?;
        for group in request.wants.keys() {
            on!(conn, |raw| sqlx::query(sql::INSERT_GROUP)
                .bind(self.tenant.uuid())
                .bind(group.as_str())
                .bind(request.id.uuid())
                .execute(raw)
                .await
                .map(drop))?;
        }
        let groups: Vec<&String> = request.wants.keys().collect();
        let body = json!({ "action": bound.action, "by": self.requester.by, "groups": groups });
        self.tell(conn, "access_request.created", request.id, &body)
            .await?;
        let made = find(conn, self.tenant, request.id).await?;
        made.ok_or_else(|| Error::corrupt("access_requests", "a row is not there").into())
    }

    async fn insert_bulk(
        &self,
        conn: &mut Conn,
        id: ApprovalId,
        made: &[StoredRequest],
    ) -> Result<(), Failure> {
        let items: Vec<ApprovalId> = made.iter().map(|request| request.id).collect();
        let last = made.iter().map(|request| request.expires_at).max();
        on!(conn, |raw| sqlx::query(sql::INSERT_BULK)
            .bind(self.tenant.uuid())
            .bind(id.uuid())
            .bind(text_of("items", &items)?)
            .bind(self.requester.by.as_str())
            .bind(self.requester.key.uuid())
            .bind(self.now.micros())
            .bind(last.unwrap_or(self.now).micros())
            .bind(self.requester.callback)
            .execute(raw)
            .await
            .map(drop))?;
        Ok(())
    }

    async fn name(
        &self,
        conn: &mut Conn,
        named: RequestName<'_>,
        whole: ApprovalId,
    ) -> Result<(), Failure> {
        on!(conn, |raw| sqlx::query(sql::INSERT_NAME)
            .bind(self.tenant.uuid())
            .bind(self.requester.by.as_str())
            .bind(named.name)
            .bind(named.request.to_string())
            .bind(whole.uuid())
            .bind(self.now.micros())
            .execute(raw)
            .await
            .map(drop))?;
        Ok(())
    }

    async fn tell(
        &self,
        conn: &mut Conn,
        kind: &str,
        id: ApprovalId,
        body: &Value,
    ) -> Result<(), Failure> {
        events::note(
            conn,
            self.tenant,
            (self.next, self.now),
            kind,
            &id.to_string(),
            body,
        )
        .await
    }
}

/// Writes JSON with every digit, which canonical JSON has not.
fn exactly(member: &'static str, value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|_| Error::invalid(member, "cannot be written as JSON"))
}
