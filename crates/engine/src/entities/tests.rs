//! Laws of the store: whatever was put in and taken out, it says what the plainest model says, and what a fresh one says.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy_core::ast::EntityUID;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use remit_core::{Entity, EntityUid, Source};
use serde_json::{Map, json};

use super::{EntityChange, EntityStore, Key};
use crate::entity::{EntityError, locate, wire};
use crate::schema::CompiledSchema;

const SCHEMA: &str = r"
entity Node in [Node];
entity Leaf in [Node] { number: Long };
";
/// So few that they meet each other.
const NODES: u8 = 6;
const LEAVES: u8 = 4;

/// What is done to one entity.
#[derive(Debug, Clone)]
enum Step {
    Put(EntityUid, i64, BTreeSet<u8>),
    Remove(EntityUid),
}

/// Each entity with its number and its parents, as a textbook would have it.
type Model = BTreeMap<EntityUid, (i64, BTreeSet<EntityUid>)>;

/// What a store says of everything in it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    above: BTreeMap<EntityUid, BTreeSet<EntityUid>>,
    below: BTreeMap<EntityUid, BTreeSet<EntityUid>>,
    entities: Vec<String>,
    ids: Vec<String>,
}

fn schema() -> CompiledSchema {
    let source = Source {
        file: "a.cedarschema".to_owned(),
        text: SCHEMA.to_owned(),
    };
    CompiledSchema::compile(&[source]).unwrap()
}

fn node(number: u8) -> EntityUid {
    EntityUid::new("Node", format!("n{number}"))
}

/// Everything that may be stored or named.
fn names() -> Vec<EntityUid> {
    let leaves = (0..LEAVES).map(|leaf| EntityUid::new("Leaf", format!("l{leaf}")));
    (0..NODES).map(node).chain(leaves).collect()
}

fn step() -> impl Strategy<Value = Step> {
    let name = (0..NODES + LEAVES).prop_map(|place| names().swap_remove(usize::from(place)));
    prop_oneof![
        3 => (name.clone(), 0..3_i64, btree_set(0..NODES, 0..3))
            .prop_map(|(name, number, parents)| Step::Put(name, number, parents)),
        1 => name.prop_map(Step::Remove),
    ]
}

/// Draws the steps of one change; some are done twice, and the second has nothing new to say of the parents.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let twice = (step(), proptest::bool::weighted(0.3));
    vec(twice, 1..6).prop_map(|steps| {
        let times = |(step, twice): (Step, bool)| {
            let second = twice.then(|| step.clone());
            std::iter::once(step).chain(second)
        };
        steps.into_iter().flat_map(times).collect()
    })
}

fn entity(name: &EntityUid, number: i64, parents: &BTreeSet<EntityUid>) -> Entity {
    let attrs = match name.kind.as_str() {
        "Leaf" => json!({"number": number}),
        _ => json!({}),
    };
    Entity {
        uid: name.clone(),
        attrs: attrs.as_object().unwrap().clone(),
        parents: parents.iter().cloned().collect(),
        tags: Map::new(),
    }
}

/// Does the steps to the store, and checks the hierarchy at the end alone.
fn change(
    schema: &CompiledSchema,
    store: &EntityStore,
    steps: &[Step],
) -> Result<EntityStore, EntityError> {
    let mut change = EntityChange::of(store.clone());
    for step in steps {
        match step {
            Step::Put(name, number, parents) => {
                let parents = parents.iter().map(|number| node(*number)).collect();
                change.upsert(schema, &[entity(name, *number, &parents)])?;
            }
            Step::Remove(name) => change.remove(schema, std::slice::from_ref(name))?,
        }
    }
    change.finish()
}

/// Does the steps to the model.
fn model_of(before: &Model, steps: &[Step]) -> Model {
    let mut model = before.clone();
    for step in steps {
        match step {
            Step::Put(name, number, parents) => {
                let parents = parents.iter().map(|number| node(*number)).collect();
                model.insert(name.clone(), (*number, parents));
            }
            Step::Remove(name) => {
                model.remove(name);
            }
        }
    }
    model
}

/// Adds parents of parents until there is nothing to add.
fn closure(model: &Model, name: &EntityUid) -> BTreeSet<EntityUid> {
    let parents = |name: &EntityUid| {
        model
            .get(name)
            .map_or_else(BTreeSet::new, |(_, it)| it.clone())
    };
    let mut above = parents(name);
    loop {
        let more: BTreeSet<EntityUid> = above.iter().flat_map(parents).collect();
        if more.is_subset(&above) {
            return above;
        }
        above.extend(more);
    }
}

fn cedar(schema: &CompiledSchema, name: &EntityUid) -> EntityUID {
    locate(schema, name).unwrap().0
}

/// Everything that the store says, by each of the ways in which it can be asked.
fn said(schema: &CompiledSchema, store: &EntityStore) -> Said {
    let mut said = Said {
        above: BTreeMap::new(),
        below: BTreeMap::new(),
        entities: Vec::new(),
        ids: Vec::new(),
    };
    for name in names() {
        let uid = cedar(schema, &name);
        let above = store.ancestors(&uid);
        let set: BTreeSet<EntityUid> = above.iter().map(|uid| wire(uid)).collect();
        assert_eq!(set.len(), above.len(), "each once: {above:?}");
        for other in names() {
            let is_below = store.is_below(&uid, &cedar(schema, &other));
            assert_eq!(is_below, set.contains(&other), "{name} below {other}");
        }
        said.above.insert(name.clone(), set);
        let mut below = BTreeSet::new();
        for kind in ["Node", "Leaf"] {
            let kind = kind.parse().unwrap();
            let family = store.ids_of_families(&kind, std::slice::from_ref(&uid));
            below.extend(family.iter().map(|id| EntityUid::new(kind.to_string(), id)));
        }
        said.below.insert(name, below);
        if let Some(entity) = store.entity(&uid) {
            let above: BTreeSet<String> = entity.ancestors().map(ToString::to_string).collect();
            let parents: BTreeSet<String> = entity.parents().map(ToString::to_string).collect();
            let number = entity.get("number");
            said.entities
                .push(format!("{uid} {number:?} in {parents:?} below {above:?}"));
        }
    }
    for kind in ["Leaf", "Node"] {
        let kind = kind.parse().unwrap();
        said.ids
            .extend(store.ids(&kind, None).map(ToString::to_string));
    }
    assert_eq!(said.ids.len(), store.len());
    said
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(2),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn law_the_store_says_what_a_fresh_one_and_a_model_say(
        changes in vec(steps(), 1..12),
        shuffle in any::<proptest::sample::Index>(),
    ) {
        let schema = schema();
        let (mut store, mut model) = (EntityStore::default(), Model::new());
        for steps in changes {
            let next = model_of(&model, &steps);
            let cyclic = next.keys().any(|name| closure(&next, name).contains(name));
            let before = said(&schema, &store);
            match change(&schema, &store, &steps) {
                Err(error) => {
                    prop_assert!(cyclic, "{error}, and nothing is above itself");
                    prop_assert!(error.problem.contains("is above itself"), "{error}");
                    prop_assert!(closure(&next, &error.entity).contains(&error.entity), "{error}");
                }
                Ok(changed) => {
                    prop_assert!(!cyclic, "a cycle was let in");
                    prop_assert_eq!(&said(&schema, &store), &before, "the old store is as it was");
                    (store, model) = (changed, next);
                }
            }
            let now = said(&schema, &store);
            for name in names() {
                let above = closure(&model, &name);
                prop_assert_eq!(now.above.get(&name), Some(&above), "above {}", name);
                let mut below: BTreeSet<EntityUid> =
                    model.keys().filter(|it| closure(&model, it).contains(&name)).cloned().collect();
                below.insert(name.clone());
                prop_assert_eq!(now.below.get(&name), Some(&below), "below {}", name);
            }
            // The same entities into an empty store, in another order.
            let mut fresh: Vec<Entity> =
                model.iter().map(|(name, (number, parents))| entity(name, *number, parents)).collect();
            if !fresh.is_empty() {
                let by = shuffle.index(fresh.len());
                fresh.rotate_left(by);
            }
            let fresh = EntityStore::of_bundle(&schema, &fresh).unwrap();
            prop_assert_eq!(&said(&schema, &fresh), &now);
            prop_assert_eq!(fresh.children.len(), store.children.len(), "no edge is left over");
            for parent in fresh.children.keys() {
                let children = store.children.get(&Key::of(&parent.0));
                prop_assert_eq!(children, fresh.children.get(&Key::of(&parent.0)));
            }
        }
    }
}
