//! Links: templates filled in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy_core::ast::{self, Eid, EntityType, EntityUID, PolicySet, SlotId, Template};
use cedar_policy_core::validator::{ValidationMode, ValidationWarning};
use remit_core::{ContentHash, EntityUid, Link, canonical_json};

use crate::diagnostic::Diagnostic;
use crate::finding::Finding;
use crate::rule::{self, Rule, cedar_errors, cedar_warnings};
use crate::schema::CompiledSchema;

/// One link that is valid.
#[derive(Debug)]
pub(crate) struct Linked {
    /// Cedar's form.
    pub(crate) policy: ast::Policy,
    /// The warnings about it; their places are those of the template.
    pub(crate) warnings: Vec<Finding>,
}

impl Linked {
    /// Returns the hash of everything a link is made of but the schema.
    pub(crate) fn hash(link: &Link, template: &ContentHash) -> ContentHash {
        // A link is JSON by construction.
        let mut bytes = canonical_json(link).unwrap_or_default();
        bytes.extend_from_slice(template.bytes());
        ContentHash::of(&bytes)
    }

    /// Fills in a template and validates the result, on a large stack.
    ///
    /// # Errors
    ///
    /// Every error in the link; none has a place, as a link stands in no file.
    pub(crate) fn new(
        link: &Link,
        template: &Rule,
        schema: &CompiledSchema,
    ) -> Result<Self, Vec<Diagnostic>> {
        let error =
            |code: &str, message: String| Diagnostic::error(code, message).with_policy(&link.id);
        if let Err(problem) = rule::check_id(link.id.as_str()) {
            return Err(vec![error(
                problem.0,
                format!("the id of a link {}", problem.1),
            )]);
        }
        if !template.is_template() {
            let message = format!("`{}` has no slots, so it cannot be linked", link.template);
            return Err(vec![error("not_a_template", message)]);
        }
        let (values, errors) = slots(link, template);
        if !errors.is_empty() {
            return Err(errors
                .into_iter()
                .map(|(code, message)| error(code, message))
                .collect());
        }
        let id = ast::PolicyID::from_string(link.id.as_str());
        let policy = Template::link(Arc::clone(&template.template), id, values)
            .map_err(|cause| vec![error("invalid_link", cause.to_string())])?;
        let warnings = validate(&policy, template, schema).map_err(|findings| {
            findings
                .into_iter()
                .map(|finding| finding.diagnostic().with_policy(&link.id))
                .collect::<Vec<_>>()
        })?;
        Ok(Self { policy, warnings })
    }
}

type Problem = (&'static str, String);

fn slots(link: &Link, template: &Rule) -> (HashMap<SlotId, EntityUID>, Vec<Problem>) {
    let mut wanted: BTreeMap<String, SlotId> = template
        .template
        .slots()
        .map(|slot| (slot.id.to_string(), slot.id))
        .collect();
    let (mut values, mut errors) = (HashMap::new(), Vec::new());
    for (name, value) in &link.slots {
        let Some(slot) = wanted.remove(name) else {
            let message = format!(
                "the template `{}` has no slot `{}`",
                link.template,
                name.escape_debug()
            );
            errors.push(("unknown_slot", message));
            continue;
        };
        if let Err(invalid) = value.check("type", "id") {
            let message = format!("the slot `{}`: {invalid}", name.escape_debug());
            errors.push(("not_nfc", message));
            continue;
        }
        match entity(value) {
            Some(uid) => {
                values.insert(slot, uid);
            }
            None => {
                let message = format!(
                    "`{}` is not the name of an entity type",
                    value.kind.escape_debug()
                );
                errors.push(("invalid_slot", message));
            }
        }
    }
    let missing = wanted.keys().map(|name| {
        (
            "missing_slot",
            format!(
                "the slot `{name}` of the template `{}` is not filled",
                link.template
            ),
        )
    });
    errors.extend(missing);
    (values, errors)
}

fn entity(uid: &EntityUid) -> Option<EntityUID> {
    let kind = EntityType::from_normalized_str(&uid.kind).ok()?;
    Some(EntityUID::from_components(
        kind,
        Eid::new(uid.id.clone()),
        None,
    ))
}

/// Validates a link; what is said of its template is left out, as that has been said.
fn validate(
    policy: &ast::Policy,
    template: &Rule,
    schema: &CompiledSchema,
) -> Result<Vec<Finding>, Vec<Finding>> {
    let internal = |message: String| vec![Finding::error("internal", message, (0, 0))];
    let mut alone = PolicySet::new();
    alone
        .add_template(Template::clone(&template.template))
        .map_err(|error| internal(error.to_string()))?;
    alone
        .add(policy.clone())
        .map_err(|error| internal(error.to_string()))?;
    let result = schema.validator.validate(&alone, ValidationMode::Strict);
    if !result.validation_passed() {
        let mut errors: Vec<_> = result
            .validation_errors()
            .flat_map(|error| cedar_errors("invalid_link", error))
            .collect();
        errors.sort_by(|a, b| a.message.cmp(&b.message));
        errors.dedup();
        return Err(errors);
    }
    let own = result.validation_warnings().filter(
        |warning| matches!(warning, ValidationWarning::InvalidActionApplication(warning) if &warning.policy_id == policy.id()),
    );
    Ok(cedar_warnings(own))
}
