//! What an agent has done before, as far as it helps whoever answers: a look at its newest decisions.

use std::collections::BTreeSet;

use remit_core::{EntityUid, TenantId, Timestamp};
use serde::Deserialize;

use crate::error::Error;
use crate::store::Store;

/// Until when a refusal is recent: a day.
const RECENT: i64 = 86_400_000_000;

/// What an agent has done before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Whether the action was permitted to it before.
    pub action: bool,
    /// Whom and what it affected by it.
    pub sinks: BTreeSet<String>,
    /// How many of its access requests were refused within a day.
    pub refusals: u64,
}

#[derive(Deserialize)]
struct Body {
    facts: Known,
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    call: Option<Call>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    sinks: BTreeSet<String>,
}

pub(crate) mod sql {
    statements! {
        /// Lists the newest permits of an action among the newest thousand decisions about an agent.
        PAST_CALLS = "SELECT d.body FROM (SELECT id, verdict, action, subject_type, body FROM decisions \
            WHERE tenant = $1 AND subject_id = $2 ORDER BY id DESC LIMIT 1000) AS d \
            WHERE d.verdict = 'permit' AND d.subject_type = $3 AND d.action = $4 ORDER BY d.id DESC LIMIT 100";
        /// Counts the access requests of an agent that were refused lately, at most a hundred.
        PAST_REFUSALS = "SELECT count(*) FROM (SELECT 1 AS one FROM access_requests WHERE tenant = $1 \
            AND subject_type = $2 AND subject_id = $3 AND state = 'denied' AND ended_at > $4 ORDER BY id DESC LIMIT 100) AS r";
    }
}

// === impl Store ===

impl Store {
    /// Returns what an agent has done before with an action, as its newest thousand decisions tell.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] when a row cannot be read.
    pub async fn past_of(
        &self,
        tenant: TenantId,
        agent: &EntityUid,
        action: &str,
        now: Timestamp,
    ) -> Result<Past, Error> {
        let bodies: Vec<String> = read!(self, tenant, "look at what an agent has done", |raw| {
            sqlx::query_scalar(sql::PAST_CALLS)
                .bind(tenant.uuid())
                .bind(agent.id.as_str())
                .bind(agent.kind.as_str())
                .bind(action)
                .fetch_all(raw)
        })?;
        let refusals: i64 = read!(self, tenant, "count what an agent was refused", |raw| {
            sqlx::query_scalar(sql::PAST_REFUSALS)
                .bind(tenant.uuid())
                .bind(agent.kind.as_str())
                .bind(agent.id.as_str())
                .bind(now.micros().saturating_sub(RECENT))
                .fetch_one(raw)
        })?;
        let mut past = Past {
            action: !bodies.is_empty(),
            refusals: u64::try_from(refusals).unwrap_or(0),
            ..Past::default()
        };
        for body in bodies {
            let body: Body = serde_json::from_str(&body)
                .map_err(|error| Error::corrupt("decisions", error.to_string()))?;
            past.sinks
                .extend(body.facts.call.map(|call| call.sinks).unwrap_or_default());
        }
        Ok(past)
    }
}
