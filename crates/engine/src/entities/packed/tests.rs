//! What is packed opens to what was read, and to the JSON it was read from.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed"
)]

use std::sync::Arc;

use cedar_policy_core::ast::Entity;
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use remit_core::{EntityUid, Source, is_nfc};
use serde_json::{Map, Value as Json, json};
use smol_str::SmolStr;

use crate::decode::Reader;
use crate::entity::{Record, partial};
use crate::schema::CompiledSchema;

const SCHEMA: &str = r"
entity Group;
entity Thing in [Group] {
  flag: Bool, long: Long, text?: String, of?: Thing, when?: datetime, price?: decimal,
  names: Set<String>, deep?: { inner: Set<Set<Long>>, at?: ipaddr, more?: { of: Group } },
} tags Set<String>;
action act appliesTo { principal: Thing, resource: Thing };
";

fn schema() -> CompiledSchema {
    let source = Source {
        file: "a.cedarschema".to_owned(),
        text: SCHEMA.to_owned(),
    };
    CompiledSchema::compile(&[source]).unwrap()
}

/// An id in Unicode NFC; another spelling is refused where it is read.
fn id(pattern: &'static str) -> impl Strategy<Value = String> {
    pattern.prop_filter("an id is in NFC", |id| is_nfc(id))
}

fn attributes() -> impl Strategy<Value = Map<String, Json>> {
    let deep = (
        btree_set(btree_set(any::<i64>(), 0..12), 0..4),
        option::of(Just("192.0.2.0/24")),
        option::of(id(".{0,4}")),
    );
    let all = (
        (
            any::<bool>(),
            any::<i64>(),
            option::of(".{0,40}"),
            option::of(id(".{0,8}")),
        ),
        (option::of(0..4_000_000_000_i64), option::of(0..10_000_i32)),
        btree_set(".{0,30}", 0..20),
        option::of(deep),
    );
    all.prop_map(|((flag, long, text, of), (when, price), names, deep)| {
        let mut members = json!({"flag": flag, "long": long, "names": names});
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                members[name] = value;
            }
        };
        put("text", text.map(Json::from));
        put("of", of.map(|id| json!({"type": "Thing", "id": id})));
        put(
            "when",
            when.map(|at| json!({"fn": "offset", "args": ["1970-01-01", format!("{at}ms")]})),
        );
        put(
            "price",
            price.map(|cents| Json::from(format!("{}.{:02}", cents / 100, cents % 100))),
        );
        put(
            "deep",
            deep.map(|(inner, at, more)| {
                let mut deep = json!({"inner": inner});
                if let Some(at) = at {
                    deep["at"] = Json::from(at);
                }
                if let Some(id) = more {
                    deep["more"] = json!({"of": {"type": "Group", "id": id}});
                }
                deep
            }),
        );
        members.as_object().cloned().unwrap_or_default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_packed_entity_is_the_entity_it_was_made_of(
        attrs in attributes(),
        tags in btree_map(".{0,8}", btree_set(".{0,6}", 0..12), 0..4),
        parents in btree_set("[a-c]{0,2}", 0..4),
    ) {
        let schema = schema();
        let kind = &schema.entities["Thing"];
        let given = remit_core::Entity {
            uid: EntityUid::new("Thing", "it"),
            attrs,
            parents: parents.iter().map(|id| EntityUid::new("Group", id)).collect(),
            tags: tags.iter().map(|(name, tags)| (name.clone(), json!(tags))).collect(),
        };
        let mut notes = Vec::new();
        let mut reader = Reader::new(&schema, "", &mut notes);
        let attributes = reader.record(&kind.attributes, &given.attrs).unwrap();
        let tags = given.tags.iter().map(|(name, json)| {
            (SmolStr::new(name), reader.value(kind.tags.as_ref().unwrap(), json).unwrap())
        });
        let tags: Vec<(SmolStr, _)> = tags.collect();
        prop_assert!(notes.is_empty());

        let record = Record::read(&schema, &given, false).unwrap();
        let above: Vec<_> = record.parents.iter().map(AsRef::as_ref).collect();
        let expected = Entity::new_with_attr_partial_value(
            "Thing::\"it\"".parse().unwrap(),
            partial(attributes),
            std::collections::HashSet::new(),
            above.iter().copied().cloned().collect(),
            partial(tags),
        );
        let opened = record.entity(&above).unwrap();
        prop_assert!(opened.deep_eq(&expected), "{opened:?}\n{expected:?}");

        // What is written back is read as the same again.
        let again = Record::read(&schema, &record.source(), false).unwrap();
        prop_assert!(again.entity(&above).unwrap().deep_eq(&expected));
        prop_assert!(Arc::ptr_eq(&again.kind, kind));
    }
}
