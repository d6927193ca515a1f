//! Agents: non-human identities that somebody answers for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{ContentHash, EntityUid, PrincipalName, Revision, Timestamp};

/// One agent of the registry.
///
/// A subject whose entity type the schema annotates `@registered("agent")` must be one; every other subject is none of
/// the registry's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The SHA-256 of what it is built of (prompt, tools, model, code), where it was registered with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<ContentHash>,
    /// When it must stop; at most a year ahead.
    pub ends_at: Timestamp,
    /// Where it runs, such as `production`.
    pub environment: SmolStr,
    /// The model that drives it, such as `claude-sonnet-4-5`.
    pub model: SmolStr,
    /// The person who answers for it, by the name of a principal.
    pub owner: PrincipalName,
    /// The machine principal as which it calls Remit itself, where it does: the tasks it opens inherit its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalName>,
    /// What it is for.
    pub purpose: SmolStr,
    /// By when somebody must have looked at it again.
    pub review_at: Timestamp,
    /// What it may do at most, by names that policies know.
    pub roles: BTreeSet<SmolStr>,
    /// Whether it is in use.
    pub status: AgentStatus,
    /// How well it proves what it is, from the method of its attestation: 0 (none), 1 (a signed token), 2 (a token bound to
    /// a key), 3 (attested by hardware or platform).
    pub trust: u8,
    /// Its name in questions.
    pub uid: EntityUid,
}

/// Whether an agent is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// It works.
    Active,
    /// It is stopped for now.
    Suspended,
    /// It is stopped for good; its id is never used again.
    Retired,
}

/// How an agent stands at one moment, everything considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It works.
    Active,
    /// It is not in the registry.
    Unregistered,
    /// Somebody stopped it.
    Suspended,
    /// It was retired, or its end date has passed.
    Expired,
    /// Nobody who is still there answers for it.
    Ownerless,
    /// Nobody has looked at it in time.
    ReviewOverdue,
}

/// What is known of the agent that asks, at the moment it asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// How it stands.
    pub standing: Standing,
    /// What it proved to be built of, where the caller presented that (`context.build`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presented_build: Option<SmolStr>,
    /// Its entry in the registry, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Agent>,
    /// The revision of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
}

// === impl Standing ===

impl Standing {
    /// Every standing.
    pub const ALL: &'static [Self] = &[
        Self::Active,
        Self::Unregistered,
        Self::Suspended,
        Self::Expired,
        Self::Ownerless,
        Self::ReviewOverdue,
    ];

    /// Returns the name, as it stands in answers and in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unregistered => "unregistered",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Ownerless => "ownerless",
            Self::ReviewOverdue => "review_overdue",
        }
    }
}

// === impl Agent ===

impl Agent {
    /// Returns how it stands at `now`, given whether its owner is still there.
    pub fn standing(&self, now: Timestamp, owner_is_live: bool) -> Standing {
        match self.status {
            AgentStatus::Suspended => Standing::Suspended,
            AgentStatus::Retired => Standing::Expired,
            AgentStatus::Active if now >= self.ends_at => Standing::Expired,
            AgentStatus::Active if !owner_is_live => Standing::Ownerless,
            AgentStatus::Active if now >= self.review_at => Standing::ReviewOverdue,
            AgentStatus::Active => Standing::Active,
        }
    }
}
