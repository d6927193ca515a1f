//! Lists of access requests, and how many of what there are: each a bounded walk along one index.

use std::collections::{BTreeMap, BTreeSet};

use remit_core::{ApprovalId, EntityUid, PrincipalName, TaskId, TenantId};
use serde_json::json;
use uuid::Uuid;

use super::{RequestRow, RequestState, StoredRequest, columns};
use crate::dialect::Rows;
use crate::error::Error;
use crate::store::Store;

/// The most requests of one page, and one more that tells whether there is another.
const MOST: usize = 1_001;
/// How far it is counted.
pub const COUNTED: i64 = 10_000;

/// Which requests are wanted: those that fit every member given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// In this state; pending ones where none is given.
    pub state: Option<RequestState>,
    /// That wait for one of these groups, or did.
    pub groups: Option<BTreeSet<String>>,
    /// Of this agent.
    pub agent: Option<EntityUid>,
    /// Of this action.
    pub action: Option<String>,
    /// In this task.
    pub task: Option<TaskId>,
    /// That none of these asked for.
    pub not_by: BTreeSet<PrincipalName>,
}

/// How many requests there are: agents and actions of the [`COUNTED`] that wait longest, the others counted up to that each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// By state.
    pub states: BTreeMap<&'static str, u64>,
    /// The pending ones by the group that they wait for.
    pub groups: BTreeMap<String, u64>,
    /// The pending ones by agent.
    pub agents: BTreeMap<EntityUid, u64>,
    /// The pending ones by action.
    pub actions: BTreeMap<String, u64>,
}

macro_rules! listed {
    ($where:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM access_requests WHERE tenant = $1 AND ",
            $where,
            " AND (subject_type = $5 OR $5 IS NULL) AND (subject_id = $6 OR $6 IS NULL) \
            AND (action = $7 OR $7 IS NULL) AND (task = $8 OR $8 IS NULL) ORDER BY id ",
            $order,
            " LIMIT $4"
        )
    };
}

pub(crate) mod sql {
    use super::columns;

    statements! {
        /// Lists the pending requests that fit, the oldest first.
        PENDING_REQUESTS = listed!("state = $2 AND id > $3", "ASC");
        /// Lists the requests in another state that fit, the newest first.
        ENDED_REQUESTS = listed!("state = $2 AND id < $3", "DESC");
        /// Lists the ids of the pending requests of a group, the oldest first.
        PENDING_OF_GROUP = "SELECT request FROM access_request_groups WHERE tenant = $1 AND name = $2 AND state = $3 \
            AND request > $4 ORDER BY request ASC LIMIT $5";
        /// Lists the ids of the requests of a group in another state, the newest first.
        ENDED_OF_GROUP = "SELECT request FROM access_request_groups WHERE tenant = $1 AND name = $2 AND state = $3 \
            AND request < $4 ORDER BY request DESC LIMIT $5";
        /// Reads requests by their ids.
        REQUESTS_OF_IDS = concat!("SELECT ", columns!(), " FROM access_requests WHERE tenant = $1 \
            AND id IN (SELECT unhex(made.value ->> 'id') FROM json_each($2) AS made)");
        /// Counts the requests in a state.
        COUNT_STATE = "SELECT count(*) FROM (SELECT 1 AS one FROM access_requests WHERE tenant = $1 AND state = $2 \
            LIMIT $3) AS counted";
        /// Counts pending requests by group: each group is found by the one before it, so what waits for one hides no other.
        COUNT_GROUPS = "WITH RECURSIVE names (name) AS (SELECT min(name) FROM access_request_groups WHERE tenant = $1 \
            UNION ALL SELECT (SELECT min(g.name) FROM access_request_groups AS g WHERE g.tenant = $1 AND g.name > n.name) \
            FROM names AS n WHERE n.name IS NOT NULL) SELECT n.name, (SELECT count(*) FROM (SELECT 1 AS one \
            FROM access_request_groups AS g WHERE g.tenant = $1 AND g.name = n.name AND g.state = $2 LIMIT $3) AS counted) \
            FROM names AS n WHERE n.name IS NOT NULL";
        /// Counts by agent and action the pending requests that wait longest.
        COUNT_CALLS = "SELECT subject_type, subject_id, action, count(*) FROM (SELECT subject_type, subject_id, action \
            FROM access_requests WHERE tenant = $1 AND state = $2 ORDER BY id LIMIT $3) AS counted \
            GROUP BY subject_type, subject_id, action";
    }
}

// === impl Store ===

impl Store {
    /// Lists requests that fit: pending ones the oldest first, others the newest first; those beyond `after`, at most `limit`
    /// and never more than 1,001.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn requests(
        &self,
        tenant: TenantId,
        filter: &RequestFilter,
        after: Option<ApprovalId>,
        limit: usize,
    ) -> Result<Vec<StoredRequest>, Error> {
        let limit = limit.min(MOST);
        let state = filter.state.unwrap_or(RequestState::Pending);
        let pending = state == RequestState::Pending;
        let end = if pending { Uuid::nil() } else { Uuid::max() };
        let mut from = after.map_or(end, ApprovalId::uuid);
        let mut found = Vec::new();
        // What a filter leaves out is made up for by the next stretch.
        loop {
            let stretch = match &filter.groups {
                Some(groups) => self.of_groups(tenant, state, groups, from, limit).await?,
                None => self.of_state(tenant, (filter, state), from, limit).await?,
            };
            let whole = stretch.len() < limit;
            let Some(last) = stretch.last() else {
                return Ok(found);
            };
            from = last.id.uuid();
            found.extend(stretch.into_iter().filter(|one| filter.fits(one)));
            if whole || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    async fn of_state(
        &self,
        tenant: TenantId,
        (filter, state): (&RequestFilter, RequestState),
        from: Uuid,
        limit: usize,
    ) -> Result<Vec<StoredRequest>, Error> {
        let text = if state == RequestState::Pending {
            sql::PENDING_REQUESTS
        } else {
            sql::ENDED_REQUESTS
        };
        let agent = filter.agent.as_ref();
        let rows: Vec<RequestRow> = read!(self, tenant, "list the access requests", |raw| {
            sqlx::query_as(text)
                .bind(tenant.uuid())
                .bind(state.as_str())
                .bind(from)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(agent.map(|agent| agent.kind.as_str()))
                .bind(agent.map(|agent| agent.id.as_str()))
                .bind(filter.action.as_deref())
                .bind(filter.task.map(TaskId::uuid))
                .fetch_all(raw)
        })?;
        rows.into_iter().map(StoredRequest::read).collect()
    }

    /// Lists those of several groups: as many of each as one page has, and of all those the first.
    async fn of_groups(
        &self,
        tenant: TenantId,
        state: RequestState,
        groups: &BTreeSet<String>,
        from: Uuid,
        limit: usize,
    ) -> Result<Vec<StoredRequest>, Error> {
        let pending = state == RequestState::Pending;
        let text = if pending {
            sql::PENDING_OF_GROUP
        } else {
            sql::ENDED_OF_GROUP
        };
        let mut ids = BTreeSet::new();
        for group in groups {
            let some: Vec<Uuid> = read!(self, tenant, "list what waits for a group", |raw| {
                sqlx::query_scalar(text)
                    .bind(tenant.uuid())
                    .bind(group.as_str())
                    .bind(state.as_str())
                    .bind(from)
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                    .fetch_all(raw)
            })?;
            ids.extend(some);
        }
        let ids: Vec<Uuid> = if pending {
            ids.into_iter().take(limit).collect()
        } else {
            ids.into_iter().rev().take(limit).collect()
        };
        let wanted = ids
            .iter()
            .map(|id| json!({ "id": id.simple().to_string() }));
        let wanted = Rows::of(wanted)?;
        let rows: Vec<RequestRow> =
            read!(self, tenant, "read access requests", |raw| sqlx::query_as(
                sql::REQUESTS_OF_IDS
            )
            .bind(tenant.uuid())
            .bind(wanted.clone())
            .fetch_all(raw))?;
        let mut found: Vec<StoredRequest> = rows
            .into_iter()
            .map(StoredRequest::read)
            .collect::<Result<_, _>>()?;
        found.sort_by_key(|one| one.id);
        if !pending {
            found.reverse();
        }
        Ok(found)
    }

    /// Counts requests by state and the pending ones by group, each up to [`COUNTED`], and by agent and action the
    /// [`COUNTED`] that wait longest.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count_requests(&self, tenant: TenantId) -> Result<RequestCounts, Error> {
        let pending = RequestState::Pending.as_str();
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        self.within("count the access requests", async {
            let mut counts = RequestCounts::default();
            let mut conn = self.connect_to_read(tenant).await?;
            for state in RequestState::ALL {
                let count: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_STATE)
                    .bind(tenant.uuid())
                    .bind(state.as_str())
                    .bind(COUNTED)
                    .fetch_one(raw)
                    .await)?;
                counts.states.insert(state.as_str(), number(count));
            }
            let groups: Vec<(String, i64)> = on!(conn, |raw| sqlx::query_as(sql::COUNT_GROUPS)
                .bind(tenant.uuid())
                .bind(pending)
                .bind(COUNTED)
                .fetch_all(raw)
                .await)?;
            let calls: Vec<(String, String, String, i64)> =
                on!(conn, |raw| sqlx::query_as(sql::COUNT_CALLS)
                    .bind(tenant.uuid())
                    .bind(pending)
                    .bind(COUNTED)
                    .fetch_all(raw)
                    .await)?;
            conn.end().await?;
            let groups = groups.into_iter().filter(|(_, count)| *count > 0);
            counts.groups = groups.map(|(name, n)| (name, number(n))).collect();
            for (kind, id, action, n) in calls {
                let agent = EntityUid::new(kind, id);
                *counts.agents.entry(agent).or_default() += number(n);
                *counts.actions.entry(action).or_default() += number(n);
            }
            Ok(counts)
        })
        .await
    }
}

// === impl RequestFilter ===

impl RequestFilter {
    fn fits(&self, one: &StoredRequest) -> bool {
        self.agent
            .as_ref()
            .is_none_or(|agent| one.bound.subject == *agent)
            && self
                .action
                .as_ref()
                .is_none_or(|action| one.bound.action == *action)
            && self.task.is_none_or(|task| one.bound.task == Some(task))
            && !self.not_by.contains(&one.requested_by)
    }
}
