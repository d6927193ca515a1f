//! The size of a schema once its common types are written out.
//!
//! Cedar resolves `type A = { x: B, y: B }` by copying `B` into `A`. Thirty such lines make a thousand million types,
//! so what they come to is counted first.

use cedar_policy_core::ast::Name;
use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::{
    CommonType, EntityTypeKind, Fragment, Type, TypeVariant,
};
use rustc_hash::FxHashMap;

use crate::finding::Finding;

/// The deepest type, through records, sets and references.
const DEPTH: usize = 64;
/// The most types that the declarations of a schema come to, each counted as often as it is referred to.
const TYPES: usize = 500_000;
/// The most combinations of principal type, action and resource type; every policy is checked against each of them.
const COMBINATIONS: usize = 65_536;

/// The common types of all files of a schema.
struct Expansion<'s> {
    common: FxHashMap<String, (&'s CommonType<RawName>, Option<&'s Name>)>,
    /// What each of them comes to; 1 while it is being counted, as a cycle is for Cedar to report.
    sizes: FxHashMap<String, usize>,
}

/// A type that goes too deep.
struct TooDeep;

/// Measures the fragments of a schema.
///
/// # Errors
///
/// A finding without a place, which names the declaration at fault.
pub(crate) fn check(fragments: &[Fragment<RawName>]) -> Result<(), Finding> {
    let mut expansion = Expansion::new(fragments);
    let (mut types, mut combinations) = (0_usize, 0_usize);
    for (namespace, definition) in fragments.iter().flat_map(|fragment| &fragment.0) {
        let namespace = namespace.as_ref();
        let mut count = |what: &str, declared: &Type<RawName>| {
            let size = expansion.size(declared, namespace, 0).map_err(|TooDeep| {
                excess(format!(
                    "{what} nests deeper than {DEPTH} levels once its types are written out"
                ))
            })?;
            types = types.saturating_add(size);
            if types > TYPES {
                return Err(excess(format!(
                    "{what} takes the schema beyond {TYPES} types once they are written out"
                )));
            }
            Ok(())
        };
        for (name, common) in &definition.common_types {
            count(&format!("type `{name}`"), &common.ty)?;
        }
        for (name, entity) in &definition.entity_types {
            if let EntityTypeKind::Standard(standard) = &entity.kind {
                count(&format!("entity type `{name}`"), &standard.shape.0)?;
                if let Some(tags) = &standard.tags {
                    count(&format!("entity type `{name}`"), tags)?;
                }
            }
        }
        for (name, action) in &definition.actions {
            if let Some(applies) = &action.applies_to {
                count(&format!("action `{name}`"), &applies.context.0)?;
                let pairs = applies
                    .principal_types
                    .len()
                    .saturating_mul(applies.resource_types.len());
                combinations = combinations.saturating_add(pairs);
            }
        }
    }
    if combinations > COMBINATIONS {
        return Err(excess(format!(
            "the actions apply to {combinations} combinations of principal and resource types, the most is {COMBINATIONS}"
        )));
    }
    Ok(())
}

fn excess(message: String) -> Finding {
    Finding::unplaced("schema_too_large", message)
}

fn full_name(namespace: Option<&Name>, name: &str) -> String {
    namespace.map_or_else(
        || name.to_owned(),
        |namespace| format!("{namespace}::{name}"),
    )
}

// === impl Expansion ===

impl<'s> Expansion<'s> {
    fn new(fragments: &'s [Fragment<RawName>]) -> Self {
        let common = fragments
            .iter()
            .flat_map(|fragment| &fragment.0)
            .flat_map(|(namespace, definition)| {
                definition.common_types.iter().map(move |(name, common)| {
                    let namespace = namespace.as_ref();
                    (full_name(namespace, &name.to_string()), (common, namespace))
                })
            })
            .collect();
        Self {
            common,
            sizes: FxHashMap::default(),
        }
    }

    fn size(
        &mut self,
        declared: &Type<RawName>,
        namespace: Option<&Name>,
        depth: usize,
    ) -> Result<usize, TooDeep> {
        if depth > DEPTH {
            return Err(TooDeep);
        }
        match declared {
            Type::Type {
                ty: TypeVariant::Set { element },
                ..
            } => Ok(self.size(element, namespace, depth + 1)?.saturating_add(1)),
            Type::Type {
                ty: TypeVariant::Record(record),
                ..
            } => {
                let mut size = 1_usize;
                for member in record.attributes.values() {
                    size = size.saturating_add(self.size(&member.ty, namespace, depth + 1)?);
                }
                Ok(size)
            }
            Type::Type {
                ty: TypeVariant::EntityOrCommon { type_name },
                ..
            }
            | Type::CommonTypeRef { type_name, .. } => self.referred(type_name, namespace, depth),
            Type::Type { .. } => Ok(1),
        }
    }

    fn referred(
        &mut self,
        name: &RawName,
        namespace: Option<&Name>,
        depth: usize,
    ) -> Result<usize, TooDeep> {
        // A name without a namespace is looked for in its own namespace first, then in the empty one.
        let own = name.qualify_with_name(namespace).to_string();
        let Some((key, (common, home))) = [own, name.to_string()]
            .into_iter()
            .find_map(|key| self.common.get(&key).copied().map(|found| (key, found)))
        else {
            return Ok(1);
        };
        if let Some(size) = self.sizes.get(&key) {
            return Ok(*size);
        }
        self.sizes.insert(key.clone(), 1);
        let size = self.size(&common.ty, home, depth + 1)?;
        self.sizes.insert(key, size);
        Ok(size)
    }
}
