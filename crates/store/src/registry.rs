//! What a tenant has registered: its agents, its tools, what must stop, and what does not count for a while.

use remit_core::{Exception, Kill, PrincipalName, Revision, TenantId};

use crate::error::Error;
use crate::reach::Across;
use crate::store::Store;
use crate::tenants::revision;

pub(crate) mod agents;
pub(crate) mod exceptions;
pub(crate) mod kills;
pub(crate) mod tools;
pub(crate) mod webhooks;

pub use agents::{AgentCursor, AgentFilter, AgentPage, MAX_AGENTS, StoredAgent, UnknownAgent};
pub use exceptions::{ExceptionBy, MAX_EXCEPTIONS, ProposedException, StoredException};
pub use kills::{LiftAsked, Lifted, MAX_KILLS, NewKill, StoredKill};
pub use tools::{MAX_TOOLS, StoredTool, ToolCursor, ToolPage};
pub use webhooks::*;

/// What is in force of a tenant beside its bundle and its entities, as far as it is small; and how far the rest has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNow {
    /// The revision of the newest version of an agent; 0 where there is none.
    pub agents: Revision,
    /// The revision of the newest version of a tool; 0 where there is none.
    pub tools: Revision,
    /// The persons who are enabled, and so can answer for an agent.
    pub owners: Vec<PrincipalName>,
    /// The exceptions that are confirmed and not ended; the time of some may be over.
    pub exceptions: Vec<Exception>,
    /// The kills in force, those of everything included.
    pub kills: Vec<Kill>,
}

pub(crate) mod sql {
    statements! {
        /// Finds the newest version of an agent and of a tool.
        NEWEST_REGISTERED = "SELECT (SELECT max(revision) FROM agents WHERE tenant = $1), \
            (SELECT max(revision) FROM tools WHERE tenant = $1)";
        /// Lists the persons who are enabled.
        LIVE_PERSONS = "SELECT name FROM principals WHERE tenant = $1 AND kind = 'person' AND disabled_at IS NULL";
    }
}

// === impl Store ===

impl Store {
    /// Returns what is in force of a tenant at a revision beside its bundle and its entities.
    ///
    /// Who answers for agents, and what stops every tenant, is told as it is now, which is that revision or later.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn live_now(&self, tenant: TenantId, upto: Revision) -> Result<LiveNow, Error> {
        let (newest, names, kills, exceptions) = self
            .within("read what is registered", async {
                let mut conn = self.connect_to_read(Across::Live).await?;
                let newest: (Option<i64>, Option<i64>) =
                    on!(conn, |raw| sqlx::query_as(sql::NEWEST_REGISTERED)
                        .bind(tenant.uuid())
                        .fetch_one(raw)
                        .await)?;
                let names: Vec<String> = on!(conn, |raw| sqlx::query_scalar(sql::LIVE_PERSONS)
                    .bind(tenant.uuid())
                    .fetch_all(raw)
                    .await)?;
                let kills = kills::read_in_force(&mut conn, tenant, upto).await?;
                let at = (upto, self.clock().now());
                let exceptions = exceptions::read_in_force(&mut conn, tenant, at).await?;
                conn.end().await?;
                Ok((newest, names, kills, exceptions))
            })
            .await?;
        let owners = names.into_iter().map(|name| {
            let corrupt = |error| Error::corrupt("principals", format!("{error}"));
            name.parse::<PrincipalName>().map_err(corrupt)
        });
        Ok(LiveNow {
            agents: revision(newest.0.unwrap_or_default())?,
            tools: revision(newest.1.unwrap_or_default())?,
            owners: owners.collect::<Result<_, _>>()?,
            exceptions,
            kills: kills
                .into_iter()
                .map(|row| kills::in_force(tenant, row))
                .collect::<Result<_, _>>()?,
        })
    }
}
