//! The record of an act of administration: who changed what, or was not allowed to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AdminActionId, EntityUid, KeyId, PolicyId, PrincipalName, Revision, Role, Timestamp, Verdict,
};

/// One change of a tenant, or one that was denied.
///
/// That of a change is written in the transaction of the change: neither is there without the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAction {
    /// The name of the operation, such as `put_policy`.
    pub action: String,
    /// When it was decided.
    pub at: Timestamp,
    /// The break-glass grant that it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// What else is to be known of it: the hash of a bundle, the scopes of a key.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// The policies of the administration that settled it, sorted; empty where none matched.
    pub determining: Vec<PolicyId>,
    /// Its id.
    pub id: AdminActionId,
    /// The API key that it was done with; none where Remit itself did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// Whether some question that was denied before may now be permitted, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loosens: Option<bool>,
    /// Who did it.
    pub principal: PrincipalName,
    /// Why it was allowed or not, as a stable code.
    pub reason: String,
    /// The client's id of the request, or the one it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What it was done to.
    pub resource: EntityUid,
    /// The revision that it brought; none for what was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The roles that the principal had.
    pub roles: BTreeSet<Role>,
    /// Whether it was allowed.
    pub verdict: Verdict,
}

// === impl AdminAction ===

impl AdminAction {
    /// Makes the record of what Remit itself does, or whoever administers its database, without a key.
    pub fn of_itself(id: AdminActionId, at: Timestamp, action: &str, resource: EntityUid) -> Self {
        Self {
            action: action.to_owned(),
            at,
            break_glass: None,
            details: Map::new(),
            determining: Vec::new(),
            id,
            key: None,
            loosens: None,
            principal: PrincipalName::itself(),
            reason: "direct".to_owned(),
            request_id: None,
            resource,
            revision: None,
            roles: BTreeSet::new(),
            verdict: Verdict::Permit,
        }
    }
}
