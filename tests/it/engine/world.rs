//! The world of a random bundle: one schema with everything Cedar has, and entities that fit it.

use rand::RngExt;
use rand::rngs::StdRng;
use remit_core::{Entity, EntityUid};
use serde_json::{Map, Value, json};

/// Every kind of type: groups of groups, two kinds of principal, tags, records, sets, extension types, an enumeration,
/// optional attributes, assertable attributes, action groups, facts and arguments.
pub const SCHEMA: &str = r#"
namespace App {
  type Place = { city: String, zip?: Long };
  entity Team in [Team] { size: Long };
  entity User in [Team] {
    level: Long,
    boss: User,
    manager?: User,
    home: Place,
    limit: decimal,
    since: datetime,
    quota: duration,
    address: ipaddr,
    friends: Set<User>,
    @assertable score?: Long,
    @assertable nick?: String,
  } tags String;
  entity Bot in [Team, User] { level: Long, boss: User, purpose: String } tags Long;
  entity Folder in [Folder] { owner: User };
  entity File in [Folder] {
    owner: User,
    size: Long,
    labels: Set<String>,
    meta?: { kind: String, depth: Long },
    color: Color,
  };
  entity Color enum ["red", "green"];
  type Ask = {
    n: Long,
    m?: Long,
    ip: ipaddr,
    at: datetime,
    amount: decimal,
    span: duration,
    who: User,
    maybe?: User,
    labels: Set<String>,
    nested: { deep: { x: Long }, flag: Bool },
    action?: { path: String, bytes: Long },
    facts: Remit::Facts,
  };
  action all;
  action readers in [all];
  action writers in [all];
  action read in [readers] appliesTo { principal: [User, Bot], resource: [File, Folder], context: Ask };
  action list in [readers, writers] appliesTo { principal: [User, Bot], resource: [File, Folder], context: Ask };
  action write in [writers] appliesTo { principal: [User, Bot], resource: [File, Folder], context: Ask };
  action peek appliesTo { principal: [Bot], resource: [Folder], context: Ask };
}
"#;

/// How many ids of each type there are; not all of them are stored.
const IDS: u32 = 7;

/// Picks one of `items`.
pub fn pick<'a, T: ?Sized>(rng: &mut StdRng, items: &[&'a T]) -> &'a T {
    items[rng.random_range(0..items.len())]
}

/// Names an entity of a type, stored or not.
pub fn any(rng: &mut StdRng, kind: &str) -> EntityUid {
    let id = match kind {
        "Color" => pick(rng, &["red", "green"]).to_owned(),
        _ => format!("{}{}", kind.to_lowercase(), rng.random_range(0..IDS)),
    };
    EntityUid::new(format!("App::{kind}"), id)
}

/// Names a principal.
pub fn principal(rng: &mut StdRng) -> EntityUid {
    let kind = pick(rng, &["User", "User", "Bot"]);
    any(rng, kind)
}

/// Names a resource.
pub fn resource(rng: &mut StdRng) -> EntityUid {
    let kind = pick(rng, &["File", "File", "Folder"]);
    any(rng, kind)
}

/// Names an action that every principal may ask about, or now and then one that only a bot may.
pub fn action(rng: &mut StdRng) -> &'static str {
    match rng.random_range(0..20) {
        0 => "peek",
        _ => pick(rng, &["read", "list", "write"]),
    }
}

/// A whole number, often one at which arithmetic overflows.
pub fn long(rng: &mut StdRng) -> i64 {
    match rng.random_range(0..10) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => i64::MAX - 3,
        _ => rng.random_range(-3..12),
    }
}

/// A short text.
pub fn text(rng: &mut StdRng) -> &'static str {
    pick(rng, &["a", "b", "abc", "", "x*y", "é\"\n", "prod"])
}

/// The text of a decimal.
pub fn decimal(rng: &mut StdRng) -> &'static str {
    pick(rng, &["0.0", "1.5", "-2.25", "99.9999", "1.50"])
}

/// The text of an IP address or range.
pub fn ip(rng: &mut StdRng) -> &'static str {
    pick(
        rng,
        &[
            "10.0.0.1",
            "10.0.0.0/8",
            "127.0.0.1",
            "::1",
            "2001:db8::/32",
        ],
    )
}

/// The text of a point in time.
pub fn datetime(rng: &mut StdRng) -> &'static str {
    let texts = [
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999Z",
        "2024-06-01T12:00:00+0200",
    ];
    pick(rng, &texts)
}

/// The text of a duration.
pub fn duration(rng: &mut StdRng) -> &'static str {
    pick(rng, &["0ms", "1h30m", "-2d", "90m", "1d2h3m4s5ms"])
}

/// A reference as Cedar's JSON has it.
pub fn reference(uid: &EntityUid) -> Value {
    json!({"__entity": {"type": uid.kind, "id": uid.id}})
}

/// An extension value as Cedar's JSON has it.
pub fn extension(function: &str, text: &str) -> Value {
    json!({"__extn": {"fn": function, "arg": text}})
}

/// A random hierarchy of entities that fit the schema; each type has some ids that are not stored.
pub fn entities(rng: &mut StdRng) -> Vec<Entity> {
    let mut entities = Vec::new();
    for kind in ["Team", "User", "Bot", "Folder", "File"] {
        for number in 0..IDS {
            if rng.random_bool(0.75) {
                entities.push(entity(rng, kind, number));
            }
        }
    }
    entities
}

/// One random entity; a parent of its own type has a lower number, so that there is no cycle.
pub fn entity(rng: &mut StdRng, kind: &str, number: u32) -> Entity {
    let uid = EntityUid::new(
        format!("App::{kind}"),
        format!("{}{number}", kind.to_lowercase()),
    );
    let mut attrs = Map::new();
    let mut tags = Map::new();
    let mut set = |name: &str, value: Value| {
        attrs.insert(name.to_owned(), value);
    };
    let user = |rng: &mut StdRng| reference(&any(rng, "User"));
    match kind {
        "Team" => set("size", json!(long(rng))),
        "User" => {
            set("level", json!(long(rng)));
            set("boss", user(rng));
            if rng.random_bool(0.5) {
                set("manager", user(rng));
            }
            let zip = rng.random_bool(0.5).then(|| long(rng));
            let mut home = json!({"city": text(rng)});
            if let Some(zip) = zip {
                home["zip"] = json!(zip);
            }
            set("home", home);
            set("limit", extension("decimal", decimal(rng)));
            set("since", extension("datetime", datetime(rng)));
            set("quota", extension("duration", duration(rng)));
            set("address", extension("ip", ip(rng)));
            set(
                "friends",
                Value::Array((0..rng.random_range(0..3)).map(|_| user(rng)).collect()),
            );
            if rng.random_bool(0.3) {
                set("score", json!(long(rng)));
            }
            for tag in ["a", "b"] {
                if rng.random_bool(0.4) {
                    tags.insert(tag.to_owned(), json!(text(rng)));
                }
            }
        }
        "Bot" => {
            set("level", json!(long(rng)));
            set("boss", user(rng));
            set("purpose", json!(text(rng)));
            if rng.random_bool(0.4) {
                tags.insert("a".to_owned(), json!(long(rng)));
            }
        }
        "Folder" => set("owner", user(rng)),
        _ => {
            set("owner", user(rng));
            set("size", json!(long(rng)));
            let labels: Vec<&str> = (0..rng.random_range(0..3)).map(|_| text(rng)).collect();
            set("labels", json!(labels));
            if rng.random_bool(0.5) {
                set("meta", json!({"kind": text(rng), "depth": long(rng)}));
            }
            set("color", reference(&any(rng, "Color")));
        }
    }
    let parents = parents(rng, kind, number);
    Entity {
        uid,
        attrs,
        parents,
        tags,
    }
}

/// Random parents that the schema allows.
pub fn parents(rng: &mut StdRng, kind: &str, number: u32) -> Vec<EntityUid> {
    let above: &[&str] = match kind {
        "Bot" => &["Team", "User"],
        "User" | "Team" => &["Team"],
        _ => &["Folder"],
    };
    let mut parents = Vec::new();
    for kind_above in above {
        for _ in 0..rng.random_range(0..3) {
            let parent = any(rng, kind_above);
            let lower = format!("{}{number}", kind.to_lowercase());
            if *kind_above != kind || parent.id.as_str() < lower.as_str() {
                parents.push(parent);
            }
        }
    }
    parents.sort();
    parents.dedup();
    parents
}
