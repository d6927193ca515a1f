//! A bundle in the form that Cedar's symbolic compiler takes.

use std::collections::HashMap;
use std::str::FromStr;

use cedar_policy::{
    EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Schema, SchemaFragment, SlotId,
};
use remit_core::{Bundle, Link};
use remit_engine::{FACTS_SCHEMA, Snapshot};

use crate::Error;

/// A bundle that compiles, as Cedar's own values.
pub(crate) struct Program {
    /// The schema, Remit's facts included.
    pub(crate) schema: Schema,
    /// The policies that are enforced, under their `@id`, templates linked.
    pub(crate) enforced: PolicySet,
}

impl Program {
    /// Translates a bundle, which is compiled by the engine first: its limits hold here too.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, Error> {
        Snapshot::compile(bundle)?;
        let mut fragments = Vec::new();
        let mut declares_remit = false;
        for source in &bundle.schema {
            let (fragment, _) =
                SchemaFragment::from_cedarschema_str(&source.text).map_err(translation)?;
            declares_remit |= fragment
                .namespaces()
                .flatten()
                .any(|namespace| namespace.to_string() == "Remit");
            fragments.push(fragment);
        }
        if !declares_remit {
            let (facts, _) =
                SchemaFragment::from_cedarschema_str(FACTS_SCHEMA).map_err(translation)?;
            fragments.push(facts);
        }
        Ok(Self {
            schema: Schema::from_schema_fragments(fragments).map_err(translation)?,
            enforced: enforced(bundle)?,
        })
    }
}

fn enforced(bundle: &Bundle) -> Result<PolicySet, Error> {
    let mut found = PolicySet::new();
    for source in &bundle.policies {
        let set = PolicySet::from_str(&source.text).map_err(translation)?;
        for policy in set.policies() {
            if policy.annotation("mode") != Some("shadow") {
                let id = PolicyId::new(policy.annotation("id").unwrap_or_default());
                found.add(policy.new_id(id)).map_err(translation)?;
            }
        }
        for template in set.templates() {
            if template.annotation("mode") != Some("shadow") {
                let id = PolicyId::new(template.annotation("id").unwrap_or_default());
                found
                    .add_template(template.new_id(id))
                    .map_err(translation)?;
            }
        }
    }
    for link in &bundle.links {
        let template = PolicyId::new(link.template.as_str());
        // One that is in shadow was left out, and its links with it.
        if found.template(&template).is_some() {
            let id = PolicyId::new(link.id.as_str());
            found
                .link(template, id, slots(link)?)
                .map_err(translation)?;
        }
    }
    Ok(found)
}

fn slots(link: &Link) -> Result<HashMap<SlotId, EntityUid>, Error> {
    let slots = link.slots.iter().map(|(name, uid)| {
        let slot = match name.as_str() {
            "?principal" => SlotId::principal(),
            _ => SlotId::resource(),
        };
        let kind = EntityTypeName::from_str(&uid.kind).map_err(translation)?;
        let id = EntityId::new(uid.id.as_str());
        Ok((slot, EntityUid::from_type_name_and_id(kind, id)))
    });
    slots.collect()
}

/// Says that Cedar's library does not take what the engine took.
fn translation(error: impl std::fmt::Display) -> Error {
    Error::Translation(error.to_string())
}
