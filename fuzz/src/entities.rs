//! Entity import: lines or an array of changes, read strictly and applied to the starter's snapshot.

use remit_api::fuzzing::changes;
use remit_core::{Entity, EntityUid, canonical_json};
use serde_json::Value;

use crate::world::starter;

/// Reads an input as the body of a bulk import in both of its forms.
pub fn entities(data: &[u8]) {
    for lines in [true, false] {
        if let Ok((upserts, removals)) = changes(data, lines) {
            if !lines {
                named(&serde_json::from_slice(data).expect("what was taken is JSON"));
            }
            apply(&upserts, &removals);
        }
    }
}

/// Whatever was taken names each entity by an object of a type and an id.
fn named(body: &Value) {
    for item in body.as_array().expect("an array was taken") {
        let item = item.as_object().expect("an item is an object");
        let parents = item.get("parents").and_then(Value::as_array);
        let names = item.get("uid").or(item.get("remove"));
        for name in names.into_iter().chain(parents.into_iter().flatten()) {
            let members = name.as_object().expect("a name is an object");
            assert_eq!(members.len(), 2, "{name}");
        }
    }
}

/// A change is a function of its inputs, and made twice is made once.
fn apply(upserts: &[Entity], removals: &[EntityUid]) {
    for entity in upserts {
        let body = canonical_json(entity).expect("an entity that was taken can be stored");
        let read: Entity = serde_json::from_slice(&body).expect("a stored entity can be read");
        assert_eq!(read, *entity);
    }
    let first = starter().with_entities(upserts, removals);
    assert_eq!(
        first.as_ref().err(),
        starter().with_entities(upserts, removals).as_ref().err()
    );
    if let Ok(first) = first {
        let second = first.with_entities(upserts, removals);
        let second = second.expect("what could be written can be written again");
        assert_eq!(second.entity_count(), first.entity_count());
    }
}
