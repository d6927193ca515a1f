//! Facts: what Remit itself verified or counted.

use serde::{Deserialize, Serialize};

use crate::{KeyId, Timestamp};

/// What Remit knows about one question of its own knowledge, never what the caller claims.
///
/// A policy reads them as `context.facts` where its action declares `facts: Remit::Facts`. The same facts are recorded,
/// so that a decision can be made again later and come out the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether a person has approved exactly this call.
    pub approved: bool,
    /// Which enforcement point asks: the id of its API key.
    pub caller: KeyId,
    /// The environment that key belongs to, such as `live` or `dev`.
    pub environment: String,
    /// When the question arrived.
    pub now: Timestamp,
}
