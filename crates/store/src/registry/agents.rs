//! Agents: every version of each; none is ever removed, so that no id is used twice.

use remit_core::{
    Agent, AgentStatus, EntityUid, KillTarget, PrincipalKind, PrincipalName, Reason, Revision,
    TenantId, Timestamp, canonical_json,
};

use super::kills;
use crate::admin_actions::Change;
use crate::db::Conn;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::tenants::{check_text, number, revision};

/// The most agents of one tenant, those included that are retired.
pub const MAX_AGENTS: u64 = 100_000;
/// The most agents of one page, and one more that tells whether there is another.
const MOST: usize = 10_001;
/// The longest type of an agent, in bytes.
const KIND_BYTES: usize = 256;
/// The longest id of an agent, in bytes.
const ID_BYTES: usize = 1_024;
/// How many decisions about agents that nobody knows are looked at, the newest.
const UNKNOWN_WINDOW: i64 = 100_000;

/// An agent as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAgent {
    /// The agent.
    pub agent: Agent,
    /// The revision that made it what it is.
    pub revision: Revision,
    /// Whether its owner is a person who is enabled.
    pub owner_is_live: bool,
}

/// Which agents are wanted: those that fit every member given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentFilter {
    /// In this status.
    pub status: Option<AgentStatus>,
    /// Of this owner.
    pub owner: Option<PrincipalName>,
}

/// One page of what became of the agents between two revisions: each once, as it is at the later one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentPage {
    /// The agents, each with the revision of its version.
    pub agents: Vec<(Agent, Revision)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<AgentCursor>,
}

/// Where a page of agents ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCursor {
    revision: Revision,
    uid: EntityUid,
}

/// A subject that asked as an agent and is not in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAgent {
    /// Its name in questions, cut to 1,024 bytes as the record of decisions is.
    pub uid: EntityUid,
    /// When it was first seen, within the decisions that are looked at.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// How many of these decisions are about it.
    pub count: u64,
}

type Row = (String, String, i64, String, bool);
type ChangeRow = (String, String, i64, String);

pub(crate) mod sql {
    statements! {
        /// Finds the current version of one agent, and whether its owner is there.
        AGENT = "SELECT a.kind, a.id, a.revision, a.body, p.name IS NOT NULL FROM agents a LEFT JOIN principals p \
            ON p.tenant = a.tenant AND p.name = a.owner AND p.kind = 'person' AND p.disabled_at IS NULL \
            WHERE a.tenant = $1 AND a.kind = $2 AND a.id = $3 AND a.superseded IS NULL";
        /// Lists current agents by name, and whether their owners are there.
        AGENTS = "SELECT a.kind, a.id, a.revision, a.body, p.name IS NOT NULL FROM agents a LEFT JOIN principals p \
            ON p.tenant = a.tenant AND p.name = a.owner AND p.kind = 'person' AND p.disabled_at IS NULL \
            WHERE a.tenant = $1 AND (a.kind, a.id) > ($2, $3) AND a.superseded IS NULL \
            AND (a.status = $4 OR $4 IS NULL) AND (a.owner = $5 OR $5 IS NULL) ORDER BY a.kind, a.id LIMIT $6";
        /// Lists the version at $3 of each agent that changed after $2, in the order of the changes.
        AGENT_CHANGES = "SELECT kind, id, revision, body FROM agents \
            WHERE tenant = $1 AND revision > $2 AND revision <= $3 \
            AND (superseded IS NULL OR superseded > $3) AND (revision, kind, id) > ($4, $5, $6) \
            ORDER BY revision, kind, id LIMIT $7";
        /// Counts agents.
        COUNT_AGENTS = "SELECT count(*) FROM agents WHERE tenant = $1 AND superseded IS NULL";
        /// Ends the current version of an agent.
        SUPERSEDE_AGENT = "UPDATE agents SET superseded = $4 \
            WHERE tenant = $1 AND kind = $2 AND id = $3 AND superseded IS NULL";
        /// Adds a version of an agent.
        INSERT_AGENT = "INSERT INTO agents (tenant, kind, id, revision, status, owner, body) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        /// Finds what a principal is, and whether it is disabled.
        KIND_OF_PRINCIPAL = "SELECT kind, disabled_at IS NOT NULL FROM principals WHERE tenant = $1 AND name = $2";
        /// Counts what the newest decisions of one reason are about that is not registered.
        UNKNOWN_AGENTS = "SELECT seen.subject_type, seen.subject_id, count(*), min(seen.at), max(seen.at) FROM \
            (SELECT subject_type, subject_id, at FROM decisions WHERE tenant = $1 AND reason = $2 \
            ORDER BY id DESC LIMIT $3) AS seen \
            WHERE (seen.subject_type, seen.subject_id) > ($4, $5) AND NOT EXISTS (SELECT 1 FROM agents a \
            WHERE a.tenant = $1 AND a.kind = seen.subject_type AND a.id = seen.subject_id AND a.superseded IS NULL) \
            GROUP BY seen.subject_type, seen.subject_id ORDER BY seen.subject_type, seen.subject_id LIMIT $6";
    }
}

// === impl Store ===

impl Store {
    /// Registers an agent, or replaces what is registered of it; the revision that is returned brings it.
    ///
    /// With `checked`, nothing of the tenant may have changed since that revision.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be kept, an owner who is no person that is enabled, or a principal that is
    /// not there; [`Error::Unfit`] for an agent that was retired, and when the tenant has [`MAX_AGENTS`];
    /// [`Error::Killed`] for another model where the one that it has is killed; [`Error::Moved`], [`Error::Withdrawn`], and [`Error::NotFound`] when there is no such tenant.
    pub async fn put_agent(
        &self,
        tenant: TenantId,
        checked: Option<Revision>,
        agent: &Agent,
        change: Change<'_>,
    ) -> Result<Revision, Error> {
        check_uid(&agent.uid)?;
        let body = body_of(agent)?;
        self.within("keep an agent", async {
            let (mut conn, next) = self.begin_change_since(tenant, checked).await?;
            let before = current(&mut conn, tenant, &agent.uid).await?;
            let refused = match &before {
                Some(before) if before.status == AgentStatus::Retired => Some(format!(
                    "`{}` was retired, and its id is never used again",
                    agent.uid
                )),
                Some(_) => None,
                None => too_many(&mut conn, tenant).await?,
            };
            if let Some(problem) = refused {
                conn.rollback().await?;
                return Err(Error::Unfit { problem }.into());
            }
            if let Some(what) = escapes(&mut conn, tenant, before.as_ref(), agent).await? {
                conn.rollback().await?;
                return Err(Error::Killed { what }.into());
            }
            // What is stopped needs nobody who answers for it; what works does, and whoever comes new is looked at.
            let stays = before.is_some_and(|before| {
                before.owner == agent.owner && before.principal == agent.principal
            });
            let stops = stays && agent.status != AgentStatus::Active;
            if !stops && let Err(failure) = answers(&mut conn, tenant, agent).await {
                conn.rollback().await?;
                return Err(failure);
            }
            self.accompany(&mut conn, tenant, next, change).await?;
            on!(conn, |raw| sqlx::query(sql::SUPERSEDE_AGENT)
                .bind(tenant.uuid())
                .bind(agent.uid.kind.as_str())
                .bind(agent.uid.id.as_str())
                .bind(number(next))
                .execute(raw)
                .await
                .map(drop))?;
            on!(conn, |raw| sqlx::query(sql::INSERT_AGENT)
                .bind(tenant.uuid())
                .bind(agent.uid.kind.as_str())
                .bind(agent.uid.id.as_str())
                .bind(number(next))
                .bind(status(agent.status))
                .bind(agent.owner.as_str())
                .bind(body.as_str())
                .execute(raw)
                .await
                .map(drop))?;
            conn.commit().await?;
            Ok(next)
        })
        .await
    }

    /// Returns one agent.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be stored; [`Error::Corrupt`] when the row cannot be read.
    pub async fn agent(
        &self,
        tenant: TenantId,
        uid: &EntityUid,
    ) -> Result<Option<StoredAgent>, Error> {
        check_uid(uid)?;
        let row: Option<Row> = read!(self, tenant, "read an agent", |raw| sqlx::query_as(
            sql::AGENT
        )
        .bind(tenant.uuid())
        .bind(uid.kind.as_str())
        .bind(uid.id.as_str())
        .fetch_optional(raw))?;
        row.map(StoredAgent::read).transpose()
    }

    /// Lists agents by type and id, bytewise: those after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that cannot be stored; [`Error::Corrupt`] when a row cannot be read.
    pub async fn agents(
        &self,
        tenant: TenantId,
        filter: &AgentFilter,
        after: Option<&EntityUid>,
        limit: usize,
    ) -> Result<Vec<StoredAgent>, Error> {
        after.map(check_uid).transpose()?;
        let (kind, id) = after.map_or(("", ""), |uid| (uid.kind.as_str(), uid.id.as_str()));
        let rows: Vec<Row> = read!(self, tenant, "list agents", |raw| sqlx::query_as(
            sql::AGENTS
        )
        .bind(tenant.uuid())
        .bind(kind)
        .bind(id)
        .bind(filter.status.map(status))
        .bind(filter.owner.as_ref().map(PrincipalName::as_str))
        .bind(page(limit))
        .fetch_all(raw))?;
        rows.into_iter().map(StoredAgent::read).collect()
    }

    /// Returns one page of what became of the agents after one revision and up to another.
    ///
    /// Each agent that changed is told once, as it was at `upto`, whatever was written since. Call again with `next` until
    /// there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn agent_changes(
        &self,
        tenant: TenantId,
        after: Revision,
        upto: Revision,
        from: Option<&AgentCursor>,
        limit: usize,
    ) -> Result<AgentPage, Error> {
        let (seen, kind, id) = from.map_or((after, "", ""), |cursor| {
            let AgentCursor { revision, uid } = cursor;
            (*revision, uid.kind.as_str(), uid.id.as_str())
        });
        let limit = page(limit);
        let rows: Vec<ChangeRow> = read!(self, tenant, "read the changes of agents", |raw| {
            sqlx::query_as(sql::AGENT_CHANGES)
                .bind(tenant.uuid())
                .bind(number(after))
                .bind(number(upto))
                .bind(number(seen))
                .bind(kind)
                .bind(id)
                .bind(limit)
                .fetch_all(raw)
        })?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
        let agents = rows.into_iter().map(|(kind, id, at, body)| {
            let agent = read(&EntityUid::new(kind, id), &body)?;
            Ok((agent, revision(at)?))
        });
        let agents: Vec<(Agent, Revision)> = agents.collect::<Result<_, Error>>()?;
        let last = agents.last().filter(|_| full);
        let next = last.map(|(agent, revision)| AgentCursor {
            revision: *revision,
            uid: agent.uid.clone(),
        });
        Ok(AgentPage { agents, next })
    }

    /// Lists, by type and id, the subjects that asked as agents and are not registered: those after `after`, at most
    /// `limit`, among the newest 100,000 decisions that say so.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn unknown_agents(
        &self,
        tenant: TenantId,
        after: Option<&EntityUid>,
        limit: usize,
    ) -> Result<Vec<UnknownAgent>, Error> {
        let (kind, id) = after.map_or(("", ""), |uid| (uid.kind.as_str(), uid.id.as_str()));
        let rows: Vec<(String, String, i64, i64, i64)> =
            read!(self, tenant, "list unknown agents", |raw| sqlx::query_as(
                sql::UNKNOWN_AGENTS
            )
            .bind(tenant.uuid())
            .bind(Reason::AgentUnregistered.code())
            .bind(UNKNOWN_WINDOW)
            .bind(kind)
            .bind(id)
            .bind(page(limit))
            .fetch_all(raw))?;
        let unknown = rows.into_iter().map(|(kind, id, count, first, last)| {
            let corrupt = |_| Error::corrupt("decisions", "a count is negative");
            Ok(UnknownAgent {
                uid: EntityUid::new(kind, id),
                first_seen: Timestamp::from_micros(first),
                last_seen: Timestamp::from_micros(last),
                count: u64::try_from(count).map_err(corrupt)?,
            })
        });
        unknown.collect()
    }
}

/// Reads the current version of an agent, within a transaction that changes it.
async fn current(
    conn: &mut Conn,
    tenant: TenantId,
    uid: &EntityUid,
) -> Result<Option<Agent>, Failure> {
    let row: Option<Row> = on!(conn, |raw| sqlx::query_as(sql::AGENT)
        .bind(tenant.uuid())
        .bind(uid.kind.as_str())
        .bind(uid.id.as_str())
        .fetch_optional(raw)
        .await)?;
    let found = row.map(StoredAgent::read).transpose()?;
    Ok(found.map(|found| found.agent))
}

/// Names the model that is killed and would drive the agent no more, where that is so.
async fn escapes(
    conn: &mut Conn,
    tenant: TenantId,
    before: Option<&Agent>,
    agent: &Agent,
) -> Result<Option<String>, Failure> {
    let Some(before) = before.filter(|before| before.model != agent.model) else {
        return Ok(None);
    };
    let model = before.model.clone();
    let killed = KillTarget::Model { model };
    let stands = kills::stands(conn, tenant, &killed).await?;
    Ok(stands.then(|| format!("the model `{}`", before.model)))
}

/// Says why there can be no more agents, where that is so.
async fn too_many(conn: &mut Conn, tenant: TenantId) -> Result<Option<String>, Failure> {
    let there: i64 = on!(conn, |raw| sqlx::query_scalar(sql::COUNT_AGENTS)
        .bind(tenant.uuid())
        .fetch_one(raw)
        .await)?;
    let full = u64::try_from(there).is_ok_and(|there| there >= MAX_AGENTS);
    Ok(full.then(|| format!("the tenant has {MAX_AGENTS} agents, the most there can be")))
}

/// Checks that the owner of an agent is a person who is enabled, and that the principal it calls as is there.
async fn answers(conn: &mut Conn, tenant: TenantId, agent: &Agent) -> Result<(), Failure> {
    let person = PrincipalKind::Person.as_str();
    match kind_of(conn, tenant, &agent.owner).await? {
        Some((kind, false)) if kind == person => {}
        Some((_, true)) => {
            return Err(Error::invalid(
                "owner",
                "names a principal that is disabled; name a person",
            )
            .into());
        }
        Some(_) => return Err(Error::invalid("owner", "names a machine; name a person").into()),
        None => {
            let problem = "names nobody; make the person first, with `PUT /v1/principals/{name}`";
            return Err(Error::invalid("owner", problem).into());
        }
    }
    // A key that is bound to nobody acts under a name of its own, which is no row.
    let calls_as = agent.principal.as_ref().filter(|name| !name.is_reserved());
    let Some(name) = calls_as else {
        return Ok(());
    };
    let problem = match kind_of(conn, tenant, name).await? {
        Some((kind, false)) if kind != person => return Ok(()),
        Some((_, true)) => "names a principal that is disabled",
        Some(_) => "names a person; an agent calls as a machine",
        None => "names nobody; make the machine first, with `PUT /v1/principals/{name}`",
    };
    Err(Error::invalid("principal", problem).into())
}

async fn kind_of(
    conn: &mut Conn,
    tenant: TenantId,
    name: &PrincipalName,
) -> Result<Option<(String, bool)>, Failure> {
    Ok(on!(conn, |raw| sqlx::query_as(sql::KIND_OF_PRINCIPAL)
        .bind(tenant.uuid())
        .bind(name.as_str())
        .fetch_optional(raw)
        .await)?)
}

fn check_uid(uid: &EntityUid) -> Result<(), Error> {
    check_text("agent.type", &uid.kind, KIND_BYTES)?;
    check_text("agent.id", &uid.id, ID_BYTES)
}

fn body_of(agent: &Agent) -> Result<String, Error> {
    canonical_json(agent)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("agent", "cannot be written as JSON"))
}

fn read(uid: &EntityUid, body: &str) -> Result<Agent, Error> {
    let corrupt = |what: String| Error::corrupt("agents", format!("`{uid}`: {what}"));
    let agent: Agent = serde_json::from_str(body).map_err(|error| corrupt(error.to_string()))?;
    if agent.uid != *uid {
        return Err(corrupt(format!("its body is that of `{}`", agent.uid)));
    }
    Ok(agent)
}

/// Writes a status as its column has it, which is as it stands in the body.
const fn status(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Active => "active",
        AgentStatus::Suspended => "suspended",
        AgentStatus::Retired => "retired",
    }
}

fn page(limit: usize) -> i64 {
    i64::try_from(limit.clamp(1, MOST)).unwrap_or(1)
}

// === impl StoredAgent ===

impl StoredAgent {
    fn read((kind, id, at, body, owner_is_live): Row) -> Result<Self, Error> {
        Ok(Self {
            agent: read(&EntityUid::new(kind, id), &body)?,
            revision: revision(at)?,
            owner_is_live,
        })
    }
}
