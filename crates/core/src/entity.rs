//! Entities: the people, agents, tools and things that policies speak of.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;

/// The name of one entity: its type and its id, both byte-exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityUid {
    /// The entity type, with its namespace: `Acme::Agent`.
    #[serde(rename = "type")]
    pub kind: SmolStr,
    /// The id within the type: any text.
    pub id: SmolStr,
}

/// One entity with everything stored about it, in the JSON shape of Cedar's entity files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its name.
    pub uid: EntityUid,
    /// Its attributes, in Cedar's JSON value format (`__entity` and `__extn` escapes allowed).
    #[serde(default)]
    pub attrs: Map<String, Value>,
    /// Its direct parents in the hierarchy.
    #[serde(default)]
    pub parents: Vec<EntityUid>,
    /// Its tags, in the same value format.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
}

// === impl EntityUid ===

impl EntityUid {
    /// Names an entity.
    pub fn new(kind: impl AsRef<str>, id: impl AsRef<str>) -> Self {
        Self {
            kind: SmolStr::new(kind),
            id: SmolStr::new(id),
        }
    }
}

impl fmt::Display for EntityUid {
    /// Writes `Type::"id"` with control characters and quotes escaped, as in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind, self.id.escape_debug())
    }
}
