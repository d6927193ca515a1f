//! Kills: what must stop now, whatever the policies say.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{EntityUid, KillId, PrincipalName, TaskId, Timestamp};

/// One kill in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Since when.
    pub at: Timestamp,
    /// Who set it.
    pub by: PrincipalName,
    /// Its id.
    pub id: KillId,
    /// Why.
    pub reason: SmolStr,
    /// What must stop.
    pub target: KillTarget,
}

/// What a kill stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum KillTarget {
    /// Everything, in every tenant of the installation; only the first tenant's administrators may.
    Everything,
    /// Everything in the tenant.
    Tenant,
    /// One agent.
    Agent {
        /// Which.
        agent: EntityUid,
    },
    /// One task with all below it.
    Task {
        /// Which.
        task: TaskId,
    },
    /// One tool.
    Tool {
        /// Which.
        tool: SmolStr,
    },
    /// Every agent that a model drives.
    Model {
        /// Which.
        model: SmolStr,
    },
}

// === impl KillTarget ===

impl KillTarget {
    /// Returns what kind of thing it stops, as it stands in `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Tenant => "tenant",
            Self::Agent { .. } => "agent",
            Self::Task { .. } => "task",
            Self::Tool { .. } => "tool",
            Self::Model { .. } => "model",
        }
    }
}
