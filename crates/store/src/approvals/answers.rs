//! Answers: what persons said to an access request, once each, and what that makes of it, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::{
    ApprovalId, ApprovalScope, ContentHash, KeyId, PrincipalName, Revision, TaskId, TenantId,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::ending::{Approving, approve, body, end};
use super::{RequestState, find, micros, text_of};
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::dialect;
use crate::error::{Error, Failure};
use crate::events;
use crate::store::Store;
use crate::tasks::ending::suspend;
use crate::tenants::number;

/// An answer that is to be kept.
#[derive(Debug, Clone)]
pub struct NewAnswer<'a> {
    /// Who says it.
    pub by: &'a PrincipalName,
    /// The key that it came with.
    pub key: KeyId,
    /// Whether they approve.
    pub approves: bool,
    /// The groups that they stand for, each with the member whose place it is.
    pub groups: &'a BTreeMap<String, PrincipalName>,
    /// For what they approve, and until when.
    pub scope: Option<(ApprovalScope, Holds)>,
    /// What they were shown.
    pub card_hash: ContentHash,
    /// What they say to it: one line, be it empty.
    pub reason: &'a str,
    /// When.
    pub at: Timestamp,
}

/// What an answer makes of the request.
#[derive(Debug, Clone, Copy)]
pub enum Makes<'a> {
    /// It waits for others.
    Nothing,
    /// It is approved, by all of these.
    Approved {
        /// For what.
        scope: ApprovalScope,
        /// By whom.
        approvers: &'a BTreeSet<PrincipalName>,
        /// Until when it can be used.
        until: Timestamp,
    },
    /// It is refused, and the task is suspended that is named.
    Denied {
        /// The task, where enough was refused in it and below it.
        suspends: Option<TaskId>,
    },
}

/// Until when what somebody approves can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    /// The moment, where theirs is the last answer.
    pub until: Timestamp,
    /// Whether they named that moment; the time until then counts from the last answer otherwise.
    pub named: bool,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    /// Who said it.
    pub by: PrincipalName,
    /// The key that it came with.
    pub key: KeyId,
    /// Whether they approve.
    pub approves: bool,
    /// The groups that they stood for, each with the member whose place it was.
    pub groups: BTreeMap<String, PrincipalName>,
    /// For what they approved, and until when.
    pub scope: Option<(ApprovalScope, Holds)>,
    /// What they said to it.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

type Row = (String, Uuid, String, String, Option<String>, String, i64);

pub(crate) mod sql {
    statements! {
        /// Keeps an answer.
        INSERT_ANSWER = "INSERT INTO approval_answers (tenant, request, principal, by_key, answer, for_groups, for_person, \
            scope, card_hash, reason, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        /// Lists the answers to a request, the first first.
        ANSWERS = "SELECT principal, by_key, answer, for_groups, scope, reason, at FROM approval_answers \
            WHERE tenant = $1 AND request = $2 ORDER BY at, principal";
        /// Takes back that somebody approved.
        TAKE_BACK_ANSWER = "DELETE FROM approval_answers WHERE tenant = $1 AND request = $2 AND principal = $3 \
            AND answer = 'approve'";
        /// Lists when somebody answered since a moment, the first first.
        ANSWERED_SINCE = "SELECT at FROM approval_answers WHERE tenant = $1 AND principal = $2 AND at > $3 ORDER BY at";
        /// Finds the first task above a request, and counts the requests that were refused in it and below.
        REFUSED_WITH = "SELECT r.root, (SELECT count(*) FROM access_requests AS d WHERE d.tenant = $1 AND d.root = r.root \
            AND d.state = 'denied') FROM access_requests AS r WHERE r.tenant = $1 AND r.id = $2 AND r.root IS NOT NULL";
        /// Lists who joined a request.
        JOINED_BY = "SELECT DISTINCT joined_by FROM access_request_joins WHERE tenant = $1 AND request = $2";
        /// Counts what waits for a group, at most as far as is told.
        WAITING_FOR = "SELECT count(*) FROM (SELECT 1 AS one FROM access_request_groups WHERE tenant = $1 AND name = $2 \
            AND state = 'pending' LIMIT $3) AS w";
        /// Lists pending requests that nobody has answered for so long that they go on to others.
        DUE_TO_ESCALATE = "SELECT id FROM access_requests WHERE tenant = $1 AND state = 'pending' AND escalates_at <= $2 \
            AND escalated_at IS NULL AND expires_at > $2 ORDER BY escalates_at, id LIMIT 100";
        /// Notes that others are asked as well.
        ESCALATE_REQUEST = "UPDATE access_requests SET escalated_at = $3, revision = $4 \
            WHERE tenant = $1 AND id = $2 AND state = 'pending' AND escalated_at IS NULL AND expires_at > $3";
        /// Looks later again to whom a request goes on.
        POSTPONE_ESCALATION = "UPDATE access_requests SET escalates_at = $3 \
            WHERE tenant = $1 AND id = $2 AND state = 'pending' AND escalated_at IS NULL";
        /// Lets a request wait for another group as well.
        ADD_GROUP = "INSERT INTO access_request_groups (tenant, name, state, request) VALUES ($1, $2, 'pending', $3) \
            ON CONFLICT (tenant, name, state, request) DO NOTHING";
    }
}

// === impl Store ===

impl Store {
    /// Keeps an answer with what it makes of the request, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when the request is not pending any more, or they have answered it; [`Error::Moved`];
    /// [`Error::Withdrawn`].
    pub async fn answer_request(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        id: ApprovalId,
        (new, makes): (&NewAnswer<'_>, Makes<'_>),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("answer an access request", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            // Who approved may refuse it still, as long as it waits for others; nobody answers otherwise twice.
            if !new.approves {
                take_back(&mut conn, tenant, id, new.by).await?;
            }
            if answered(&mut conn, tenant, id, new.by).await? {
                conn.rollback().await?;
                let problem = "you have answered it already".to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            insert(&mut conn, tenant, id, new).await?;
            let why = Some(new.reason).filter(|reason| !reason.is_empty());
            let made = match makes {
                Makes::Nothing => pending(&mut conn, tenant, id, now).await?,
                Makes::Approved {
                    scope,
                    approvers,
                    until,
                } => {
                    let approving = Approving {
                        scope,
                        approvers,
                        until,
                        by: new.by.as_str(),
                        why,
                    };
                    approve(&mut conn, tenant, id, approving, (next, now))
                        .await?
                        .map(drop)
                }
                Makes::Denied { suspends } => {
                    // Nobody uses an approval of a request that waits: in which order these are locked does not matter.
                    if let Some(task) = suspends {
                        suspend(&mut conn, tenant, task, (next, now)).await?;
                    }
                    let ending = (RequestState::Denied, Some(new.by.as_str()), why);
                    let ended = end(&mut conn, tenant, id, ending, (next, now)).await?;
                    ended.map(drop)
                }
            };
            if let Err(error) = made {
                conn.rollback().await?;
                return Err(error.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Ends a request that cannot be approved any more as it was asked, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it is not pending any more; [`Error::Moved`]; [`Error::Withdrawn`].
    pub async fn overtake_request(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, why): (ApprovalId, &str),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        self.within("end an access request that was overtaken", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let ending = (RequestState::Expired, None, Some(why));
            if let Err(error) = end(&mut conn, tenant, id, ending, (next, now)).await? {
                conn.rollback().await?;
                return Err(error.into());
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Lets a request wait for other groups as well, if nothing of the tenant has changed since `checked`.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when it is not pending any more, or waits for them already; [`Error::Moved`];
    /// [`Error::Withdrawn`].
    pub async fn escalate_request(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        (id, groups): (ApprovalId, &BTreeSet<String>),
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        change.check()?;
        self.within("escalate an access request", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            self.accompany(&mut conn, tenant, next, change).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let turned = on!(conn, |raw| sqlx::query(sql::ESCALATE_REQUEST)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(now.micros())
                .bind(number(next))
                .execute(raw)
                .await
                .map(|done| done.rows_affected()))?;
            if turned == 0 {
                conn.rollback().await?;
                let problem = "it is not pending any more, or others are asked as well already";
                let problem = problem.to_owned();
                return Err(Error::Unfit { problem }.into());
            }
            for group in groups {
                on!(conn, |raw| sqlx::query(sql::ADD_GROUP)
                    .bind(tenant.uuid())
                    .bind(group.as_str())
                    .bind(id.uuid())
                    .execute(raw)
                    .await
                    .map(drop))?;
            }
            if let Some(request) = find(&mut conn, tenant, id).await? {
                let mut told = body(&request);
                if let Some(members) = told.as_object_mut() {
                    members.insert("escalated_to".to_owned(), json!(groups));
                }
                let kind = "access_request.escalated";
                events::note(&mut conn, tenant, (next, now), kind, &id.to_string(), &told).await?;
            }
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Lists the answers to a request, the first first.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn answers(
        &self,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<Vec<GivenAnswer>, Error> {
        let rows: Vec<Row> = read!(self, tenant, "read the answers to a request", |raw| {
            sqlx::query_as(sql::ANSWERS)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_all(raw)
        })?;
        rows.into_iter().map(GivenAnswer::read).collect()
    }

    /// Lists when somebody answered since a moment, the first first.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn answered_since(
        &self,
        tenant: TenantId,
        by: &PrincipalName,
        since: Timestamp,
    ) -> Result<Vec<Timestamp>, Error> {
        let times: Vec<i64> = read!(self, tenant, "count the answers of somebody", |raw| {
            sqlx::query_scalar(sql::ANSWERED_SINCE)
                .bind(tenant.uuid())
                .bind(by.as_str())
                .bind(since.micros())
                .fetch_all(raw)
        })?;
        Ok(times.into_iter().map(Timestamp::from_micros).collect())
    }

    /// Finds the first task above a request, and how many requests were refused in it and in what is below it; `None` for a
    /// request in no task.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn refused_with(
        &self,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<Option<(TaskId, u64)>, Error> {
        let row: Option<(Uuid, i64)> =
            read!(self, tenant, "count what was refused in a task", |raw| {
                sqlx::query_as(sql::REFUSED_WITH)
                    .bind(tenant.uuid())
                    .bind(id.uuid())
                    .fetch_optional(raw)
            })?;
        Ok(row.map(|(root, count)| (TaskId::from_uuid(root), u64::try_from(count).unwrap_or(0))))
    }

    /// Lists who joined a request.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn joined_by(
        &self,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<BTreeSet<PrincipalName>, Error> {
        let names: Vec<String> = read!(self, tenant, "find who joined a request", |raw| {
            sqlx::query_scalar(sql::JOINED_BY)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .fetch_all(raw)
        })?;
        names.iter().map(|name| name_of(name)).collect()
    }

    /// Counts the requests that wait for a group, and no further than `most`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn waiting_for(
        &self,
        tenant: TenantId,
        group: &str,
        most: u64,
    ) -> Result<u64, Error> {
        let count: i64 = read!(self, tenant, "count what waits for a group", |raw| {
            sqlx::query_scalar(sql::WAITING_FOR)
                .bind(tenant.uuid())
                .bind(group)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_one(raw)
        })?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Lists pending requests that go on to others by now, by the database's time: at most a hundred.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn due_to_escalate(&self, tenant: TenantId) -> Result<Vec<ApprovalId>, Error> {
        self.within("find requests that go on to others", async {
            let mut conn = self.connect_to_read(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            let ids: Vec<Uuid> = on!(conn, |raw| sqlx::query_scalar(sql::DUE_TO_ESCALATE)
                .bind(tenant.uuid())
                .bind(now.micros())
                .fetch_all(raw)
                .await)?;
            conn.end().await?;
            Ok(ids.into_iter().map(ApprovalId::from_uuid).collect())
        })
        .await
    }

    /// Looks later again whether a request goes on to others, so that it keeps none back for which it is time as well.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn postpone_escalation(
        &self,
        tenant: TenantId,
        id: ApprovalId,
        by: Duration,
    ) -> Result<(), Error> {
        self.within("look later to whom a request goes on", async {
            let mut conn = self.begin(tenant).await?;
            let now = dialect::time(&mut conn, self.clock()).await?;
            on!(conn, |raw| sqlx::query(sql::POSTPONE_ESCALATION)
                .bind(tenant.uuid())
                .bind(id.uuid())
                .bind(now.micros().saturating_add(micros(by)))
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await
        })
        .await
    }
}

async fn answered(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    by: &PrincipalName,
) -> Result<bool, Failure> {
    let rows: Vec<Row> = on!(conn, |raw| sqlx::query_as(sql::ANSWERS)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .fetch_all(raw)
        .await)?;
    Ok(rows.iter().any(|(name, ..)| name == by.as_str()))
}

async fn take_back(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    by: &PrincipalName,
) -> Result<(), Failure> {
    on!(conn, |raw| sqlx::query(sql::TAKE_BACK_ANSWER)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(by.as_str())
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

async fn insert(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    new: &NewAnswer<'_>,
) -> Result<(), Failure> {
    let groups = text_of("groups", new.groups)?;
    let scope = new
        .scope
        .map(|scope| text_of("scope", &scope))
        .transpose()?;
    let mut places = new.groups.values();
    let place = places.find(|member| *member != new.by);
    on!(conn, |raw| sqlx::query(sql::INSERT_ANSWER)
        .bind(tenant.uuid())
        .bind(id.uuid())
        .bind(new.by.as_str())
        .bind(new.key.uuid())
        .bind(if new.approves { "approve" } else { "deny" })
        .bind(groups)
        .bind(place.map(PrincipalName::as_str))
        .bind(scope)
        .bind(new.card_hash.to_string())
        .bind(new.reason)
        .bind(new.at.micros())
        .execute(raw)
        .await
        .map(drop))?;
    Ok(())
}

/// Makes sure that a request can still be answered.
async fn pending(
    conn: &mut Conn,
    tenant: TenantId,
    id: ApprovalId,
    now: Timestamp,
) -> Result<Result<(), Error>, Failure> {
    let found = find(conn, tenant, id).await?;
    let open = found.filter(|one| one.state == RequestState::Pending && now < one.expires_at);
    if open.is_some() {
        return Ok(Ok(()));
    }
    let problem = "the request is not pending any more".to_owned();
    Ok(Err(Error::Unfit { problem }))
}

fn name_of(text: &str) -> Result<PrincipalName, Error> {
    text.parse()
        .map_err(|error| Error::corrupt("approval_answers", format!("{error}")))
}

// === impl Holds ===

impl Holds {
    /// Returns the moment for an answer that was given at one time, where the last one is given at another.
    pub fn until(&self, given: Timestamp, last: Timestamp) -> Timestamp {
        if self.named {
            return self.until;
        }
        let time = self.until.micros().saturating_sub(given.micros());
        Timestamp::from_micros(last.micros().saturating_add(time))
    }
}

// === impl GivenAnswer ===

impl GivenAnswer {
    fn read((by, key, answer, groups, scope, reason, at): Row) -> Result<Self, Error> {
        let corrupt =
            |error: serde_json::Error| Error::corrupt("approval_answers", error.to_string());
        let scope = scope.as_deref().map(serde_json::from_str).transpose();
        Ok(Self {
            by: name_of(&by)?,
            key: KeyId::from_uuid(key),
            approves: answer == "approve",
            groups: serde_json::from_str(&groups).map_err(corrupt)?,
            scope: scope.map_err(corrupt)?,
            reason,
            at: Timestamp::from_micros(at),
        })
    }
}
