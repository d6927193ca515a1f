//! Entities: the people, agents, tools and things that policies speak of.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::normal::NOT_NFC;
use crate::{Invalid, ParseIdError, is_nfc};

/// The name of one entity: its type and its id, both byte-exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EntityUid {
    /// The entity type, with its namespace: `Acme::Agent`.
    #[serde(rename = "type")]
    pub kind: SmolStr,
    /// The id within the type: any text.
    pub id: SmolStr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UidMembers {
    #[serde(rename = "type")]
    kind: SmolStr,
    id: SmolStr,
}

struct UidVisitor;

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

    /// Checks that both members are in Unicode NFC; `kind` and `id` are what they are called in an error.
    ///
    /// # Errors
    ///
    /// [`Invalid`] names the member that is not.
    pub fn check(&self, kind: &'static str, id: &'static str) -> Result<(), Invalid> {
        for (member, text) in [(kind, &self.kind), (id, &self.id)] {
            if !is_nfc(text) {
                let problem = NOT_NFC;
                return Err(Invalid { member, problem });
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for EntityUid {
    /// Reads an object with these members and no others; serde would take an array of them in order as well.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UidVisitor)
    }
}

impl FromStr for EntityUid {
    type Err = ParseIdError;

    /// Reads what [`Display`](fmt::Display) writes: `Type::"id"` with the escapes of a policy.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parsed = text
            .strip_suffix('"')
            .and_then(|text| text.split_once("::\""))
            .filter(|(kind, _)| !kind.is_empty())
            .and_then(|(kind, id)| Some(Self::new(kind, unescape(id)?)));
        parsed.ok_or_else(|| ParseIdError {
            text: text.chars().take(80).collect(),
            expected: "name of an entity, such as `Agent::\"invoice-bot\"`",
        })
    }
}

impl fmt::Display for EntityUid {
    /// Writes `Type::"id"` with control characters and quotes escaped, as in a policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::\"{}\"", self.kind, self.id.escape_debug())
    }
}

// === impl UidVisitor ===

impl<'de> Visitor<'de> for UidVisitor {
    type Value = EntityUid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<EntityUid, A::Error> {
        let UidMembers { kind, id } = UidMembers::deserialize(MapAccessDeserializer::new(members))?;
        Ok(EntityUid { kind, id })
    }
}

// === impl Entity ===

impl Entity {
    /// Checks what holds for every entity that comes in, whatever the schema.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for a name, its own or that of a parent, which is not in Unicode NFC.
    pub fn check(&self) -> Result<(), Invalid> {
        self.uid.check("entity.type", "entity.id")?;
        let mut parents = self.parents.iter();
        parents.try_for_each(|parent| parent.check("parents.type", "parents.id"))
    }
}

/// Undoes the escapes of a string in a policy; `None` for one that does not exist or a quote without one.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        plain.push(match character {
            '"' => return None,
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                escaped @ ('"' | '\'' | '\\') => escaped,
                'u' => {
                    let (digits, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                    rest = after.chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}
