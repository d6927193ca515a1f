//! Lists of access requests, and how many of what there are: each a walk along one index, which holds the filters against
//! the rows and reads no card that is not listed.

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
    /// That none of these asked for; heeded where groups are given.
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
            columns!(narrow),
            " FROM access_requests WHERE tenant = $1 AND ",
            $where,
            " AND (subject_type = $5 OR $5 IS NULL) AND (subject_id = $6 OR $6 IS NULL) \
            AND (action = $7 OR $7 IS NULL) AND (task = $8 OR $8 IS NULL) ORDER BY id ",
            $order,
            " LIMIT $4"
        )
    };
}

macro_rules! of_group {
    ($where:literal, $order:literal) => {
        concat!(
            "SELECT g.request FROM access_request_groups AS g JOIN access_requests AS r ON r.tenant = g.tenant \
            AND r.id = g.request WHERE g.tenant = $1 AND g.name = $2 AND g.state = $3 AND ",
            $where,
            " AND (r.subject_type = $6 OR $6 IS NULL) AND (r.subject_id = $7 OR $7 IS NULL) \
            AND (r.action = $8 OR $8 IS NULL) AND (r.task = $9 OR $9 IS NULL) \
            AND r.requested_by NOT IN (SELECT made.value ->> 'by' FROM json_each($10) AS made) ORDER BY g.request ",
            $order,
            " LIMIT $5"
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
        /// Lists the ids of the pending requests of a group that fit, the oldest first.
        PENDING_OF_GROUP = of_group!("g.request > $4", "ASC");
        /// Lists the ids of the requests of a group in another state that fit, the newest first.
        ENDED_OF_GROUP = of_group!("g.request < $4", "DESC");
        /// Reads requests by their ids.
        REQUESTS_OF_IDS = concat!("SELECT ", columns!(narrow), " FROM access_requests WHERE tenant = $1 \
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
        let from = after.map_or(end, ApprovalId::uuid);
        let wanted = (filter, state);
        match &filter.groups {
            Some(groups) => self.of_groups(tenant, groups, wanted, from, limit).await,
            None => self.of_state(tenant, wanted, from, limit).await,
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
        groups: &BTreeSet<String>,
        (filter, state): (&RequestFilter, RequestState),
        from: Uuid,
        limit: usize,
    ) -> Result<Vec<StoredRequest>, Error> {
        let pending = state == RequestState::Pending;
        let agent = filter.agent.as_ref();
        let not_by = filter.not_by.iter();
        let not_by = Rows::of(not_by.map(|by| json!({ "by": by })))?;
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
                    .bind(agent.map(|agent| agent.kind.as_str()))
                    .bind(agent.map(|agent| agent.id.as_str()))
                    .bind(filter.action.as_deref())
                    .bind(filter.task.map(TaskId::uuid))
                    .bind(not_by.clone())
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
