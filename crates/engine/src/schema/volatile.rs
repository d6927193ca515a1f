//! Volatile: members of a context that differ from call to call and say nothing of what is done, by the schema's `@volatile`.

use std::collections::BTreeMap;

use cedar_policy_core::validator::RawName;
use cedar_policy_core::validator::json_schema::{Fragment, RecordType, Type, TypeVariant};
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::{SmolStr, ToSmolStr};

use super::build::{flagged, full_name};
use crate::finding::Finding;

/// The annotation by which a schema says that an approval is not bound to a member of the context.
const VOLATILE: &str = "volatile";
/// How many names of types may stand for one another; Cedar refuses a circle.
const MOST_NAMES: usize = 64;

/// The volatile members of the context, by action as `Ns::Action::"id"`.
pub(super) type Volatile = FxHashMap<String, FxHashSet<SmolStr>>;

/// Named types by their full name.
type Named<'f> = BTreeMap<SmolStr, &'f Type<RawName>>;

/// Reads which members of the contexts of actions are annotated `@volatile`: those of the context itself, not of records in it.
///
/// # Errors
///
/// [`Finding`] for an annotation that has a value.
pub(super) fn volatile(fragments: &[Fragment<RawName>]) -> Result<Volatile, Finding> {
    let mut named = Named::default();
    for (namespace, definition) in fragments.iter().flat_map(|fragment| &fragment.0) {
        for (name, declared) in &definition.common_types {
            let name = full_name(namespace.as_ref(), &name.to_smolstr());
            named.insert(name, &declared.ty);
        }
    }
    let mut found = Volatile::default();
    for (namespace, definition) in fragments.iter().flat_map(|fragment| &fragment.0) {
        for (id, action) in &definition.actions {
            let Some(applies) = &action.applies_to else {
                continue;
            };
            let within = namespace.as_ref().map(ToSmolStr::to_smolstr);
            let Some(record) = record_of(&applies.context.0, within.as_deref(), &named) else {
                continue;
            };
            let mut members = FxHashSet::default();
            for (member, attribute) in &record.attributes {
                let help = "leave the annotation out for what an approval is bound to";
                if flagged(&attribute.annotations, VOLATILE, member, help)? {
                    members.insert(member.clone());
                }
            }
            let kind = full_name(namespace.as_ref(), "Action");
            found.insert(remit_core::EntityUid::new(kind, id).to_string(), members);
        }
    }
    Ok(found)
}

/// Follows the names of a type to the record that it is.
fn record_of<'f>(
    mut kind: &'f Type<RawName>,
    within: Option<&str>,
    named: &Named<'f>,
) -> Option<&'f RecordType<RawName>> {
    let mut within = within.map(SmolStr::new);
    for _ in 0..MOST_NAMES {
        let name = match kind {
            Type::Type {
                ty: TypeVariant::Record(record),
                ..
            } => return Some(record),
            Type::Type {
                ty: TypeVariant::EntityOrCommon { type_name },
                ..
            }
            | Type::CommonTypeRef { type_name, .. } => type_name.to_smolstr(),
            Type::Type { .. } => return None,
        };
        // A name without a namespace is one of the same namespace, or else of none.
        let own = within
            .as_ref()
            .map(|within| smol_str::format_smolstr!("{within}::{name}"))
            .filter(|own| named.contains_key(own));
        let full = own.unwrap_or(name);
        kind = named.get(&full)?;
        within = full.rsplit_once("::").map(|(of, _)| SmolStr::new(of));
    }
    None
}
