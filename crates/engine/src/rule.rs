//! Rules: one policy or template, read and validated by itself.
//!
//! A rule depends on its own text and on the schema and on nothing else. That is what makes it safe to keep it when
//! the rest of the bundle changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{self, Expr, ExprKind, Literal, PolicySet, Template, Var};
use cedar_policy_core::parser::parse_policy_or_template;
use cedar_policy_core::validator::{ValidationError, ValidationMode, ValidationWarning};
use miette::Diagnostic as CedarDiagnostic;
use remit_core::{Effect, PolicyId, is_nfc};
use smol_str::SmolStr;

use crate::diagnostic::Severity;
use crate::finding::{Finding, each};
use crate::lint;
use crate::reach::Reach;
use crate::schema::CompiledSchema;
use crate::shape::Reads;

mod terms;

pub(crate) use terms::{Narrowing, Terms};

/// The longest policy id, in bytes.
const ID_BYTES: usize = 256;
/// The annotations that travel with a decision.
const OBLIGATIONS: [&str; 9] = [
    "advice",
    "control",
    "controls",
    "cure",
    "modify",
    "obligation",
    "quorum",
    "relax",
    "severity",
];

/// One policy or template that is valid by itself.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Its `@id`.
    pub(crate) id: PolicyId,
    /// Where that annotation stands, in bytes of the text.
    pub(crate) id_range: (usize, usize),
    /// What it does.
    pub(crate) effect: Effect,
    /// Whether it is in shadow mode.
    pub(crate) shadow: bool,
    /// Whether its outcome may depend on `context.facts.approved` or `context.facts.approval`.
    pub(crate) mentions_approval: bool,
    /// The facts that it can get at.
    pub(crate) reads: Reads,
    /// The annotations that become obligations.
    pub(crate) obligations: BTreeMap<String, String>,
    /// What its annotations mean to the engine.
    pub(crate) terms: Arc<Terms>,
    /// How far its conditions look into entities.
    pub(crate) reach: Reach,
    /// Its text.
    pub(crate) text: Arc<str>,
    /// Cedar's form; a static policy is a template without slots.
    pub(crate) template: Arc<Template>,
    /// The warnings about it.
    pub(crate) warnings: Vec<Finding>,
}

/// What is wrong with a rule, and its id if that could be read.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its `@id`.
    pub(crate) id: Option<PolicyId>,
    /// The errors.
    pub(crate) errors: Vec<Finding>,
}

impl Rule {
    /// Reads and validates the text of one policy, which has passed the guards, on a large stack.
    ///
    /// Without a schema, which is when the bundle's own does not compile, only the text is checked.
    ///
    /// # Errors
    ///
    /// [`Refused`] with every error in it.
    pub(crate) fn read(text: &str, schema: Option<&CompiledSchema>) -> Result<Self, Refused> {
        let template = parse_policy_or_template(None, text).map_err(|error| Refused {
            id: None,
            errors: cedar_errors("parse_error", &error),
        })?;
        let mut errors = Vec::new();
        let annotated = id(&template, text).map_err(|error| errors.push(error)).ok();
        let shadow = shadow(&template).map_err(|error| errors.push(error)).ok();
        let terms = Terms::of(&template)
            .map_err(|found| errors.extend(found))
            .ok();
        errors.extend(misspelt(&template));
        let (id, id_range) = annotated.clone().unwrap_or((PolicyId::new(""), (0, 0)));
        let template = Arc::new(template.new_id(ast::PolicyID::from_string(id.as_str())));
        let mut warnings = Vec::new();
        if let Some(schema) = schema {
            warnings = validate(&template, schema).unwrap_or_else(|refused| {
                errors.extend(refused);
                Vec::new()
            });
            if errors.is_empty() {
                // Why it never applies is told with that, and better.
                if warnings.iter().all(|one| one.code != "never_applies") {
                    warnings.extend(lint::constant::check(&template, text, schema));
                }
                warnings.extend(lint::check(&template, text, schema));
            }
        }
        let (Some(shadow), Some(terms), true) = (shadow, terms, errors.is_empty()) else {
            return Err(Refused {
                id: annotated.map(|(id, _)| id),
                errors,
            });
        };
        Ok(Self {
            id,
            id_range,
            effect: effect(&template),
            shadow,
            mentions_approval: template
                .non_scope_constraints()
                .is_some_and(mentions_approval),
            reads: template
                .non_scope_constraints()
                .map(Reads::of)
                .unwrap_or_default(),
            obligations: obligations(&template),
            terms: Arc::new(terms),
            reach: template
                .non_scope_constraints()
                .map(Reach::of)
                .unwrap_or_default(),
            text: template
                .loc()
                .map_or_else(|| text.into(), |loc| Arc::clone(&loc.src)),
            template,
            warnings,
        })
    }

    /// Says whether it has slots and so decides only through its links.
    pub(crate) fn is_template(&self) -> bool {
        !self.template.is_static()
    }
}

/// Turns a list of Cedar's errors into findings.
pub(crate) fn cedar_errors(code: &'static str, error: &dyn CedarDiagnostic) -> Vec<Finding> {
    let mut found = Vec::new();
    each(error, &mut |error| {
        found.push(Finding::from_cedar(Severity::Error, code, error));
    });
    found
}

/// Turns Cedar's warnings into ours: a policy that can never apply is reported once, whoever noticed.
pub(crate) fn cedar_warnings<'w>(
    warnings: impl Iterator<Item = &'w ValidationWarning>,
) -> Vec<Finding> {
    let (mut found, mut never) = (Vec::new(), None);
    for warning in warnings {
        match warning {
            ValidationWarning::ImpossiblePolicy(_)
            | ValidationWarning::InvalidActionApplication(_) => {
                let finding = Finding::from_cedar(Severity::Warning, "never_applies", warning);
                // That no action fits the scope is the more telling of the two.
                if never.is_none()
                    || matches!(warning, ValidationWarning::InvalidActionApplication(_))
                {
                    never = Some(finding);
                }
            }
            _ => found.push(Finding::from_cedar(
                Severity::Warning,
                "confusable_text",
                warning,
            )),
        }
    }
    found.extend(never);
    found.sort_by(|a, b| (a.range, &a.message).cmp(&(b.range, &b.message)));
    found
}

fn validate(
    template: &Arc<Template>,
    schema: &CompiledSchema,
) -> Result<Vec<Finding>, Vec<Finding>> {
    let mut alone = PolicySet::new();
    let added = if template.is_static() {
        Template::try_as_policy(Arc::clone(template))
            .map_err(|error| error.to_string())
            .and_then(|policy| alone.add(policy).map_err(|error| error.to_string()))
    } else {
        alone
            .add_template(Template::clone(template))
            .map_err(|error| error.to_string())
    };
    added.map_err(|message| vec![Finding::error("internal", message, (0, 0))])?;
    let result = schema.validator.validate(&alone, ValidationMode::Strict);
    if result.validation_passed() {
        return Ok(cedar_warnings(result.validation_warnings()));
    }
    let mut errors: Vec<_> = result
        .validation_errors()
        .flat_map(|error| cedar_errors(code_of(error), error))
        .collect();
    // The validator looks at every combination of types and keeps its errors in a set.
    errors.sort_by(|a, b| (a.range, &a.message).cmp(&(b.range, &b.message)));
    errors.dedup();
    Err(errors)
}

/// Names what an author does wrong most often by itself.
fn code_of(error: &ValidationError) -> &'static str {
    match error {
        ValidationError::UnsafeOptionalAttributeAccess(_) | ValidationError::UnsafeTagAccess(_) => {
            "missing_guard"
        }
        ValidationError::InvalidEnumEntity(_) => "missing_entity",
        _ => "invalid_policy",
    }
}

fn annotation<'t>(template: &'t Template, name: &str) -> Option<(&'t str, Option<(usize, usize)>)> {
    template
        .annotations()
        .find(|(key, _)| key.as_ref() == name)
        .map(|(_, found)| {
            let range = found.loc.as_ref().map(|loc| (loc.start(), loc.end()));
            (found.val.as_str(), range)
        })
}

fn id(template: &Template, text: &str) -> Result<(PolicyId, (usize, usize)), Finding> {
    let head = text.find(['\n', ';', '{']).unwrap_or(text.len());
    let Some((id, range)) = annotation(template, "id") else {
        let error = Finding::error("missing_id", "this policy has no `@id`", (0, head));
        return Err(
            error.with_help("put an annotation such as `@id(\"payments.limit\")` before it")
        );
    };
    let range = range.unwrap_or((0, head));
    match check_id(id) {
        Ok(()) => Ok((PolicyId::new(id), range)),
        Err((code, problem)) => Err(Finding::error(code, format!("this `@id` {problem}"), range)),
    }
}

/// Checks the form of a policy's or link's id.
///
/// # Errors
///
/// A code and what is wrong, as the end of a sentence.
pub(crate) fn check_id(id: &str) -> Result<(), (&'static str, &'static str)> {
    if id.is_empty() {
        Err(("empty_id", "is empty"))
    } else if id.len() > ID_BYTES {
        Err(("id_too_long", "is longer than 256 bytes"))
    } else if id.chars().any(char::is_control) {
        Err(("invalid_id", "contains a control character"))
    } else if !is_nfc(id) {
        Err(("not_nfc", "is not in Unicode normal form C (NFC)"))
    } else {
        Ok(())
    }
}

/// Finds the entities that a policy names in another spelling than NFC: no question can name them, so that a rule about
/// them would never hold.
fn misspelt(template: &Template) -> Vec<Finding> {
    let condition = template.condition();
    let mut found = Vec::new();
    for expr in condition.subexpressions() {
        let ExprKind::Lit(Literal::EntityUID(uid)) = expr.expr_kind() else {
            continue;
        };
        if !is_nfc(uid.eid().as_ref()) {
            let message =
                format!("the id of `{uid}` is not in Unicode normal form C (NFC), as every id is");
            let range = uid.loc().or_else(|| expr.source_loc());
            let range = range.map_or((0, 0), |loc| (loc.start(), loc.end()));
            found.push(Finding::error("not_nfc", message, range));
        }
    }
    found
}

fn shadow(template: &Template) -> Result<bool, Finding> {
    match annotation(template, "mode") {
        None | Some(("enforce", _)) => Ok(false),
        Some(("shadow", _)) => Ok(true),
        Some((other, range)) => {
            let message = format!("the mode `{}` is unknown", other.escape_debug());
            let error = Finding::error("unknown_mode", message, range.unwrap_or((0, 0)));
            Err(error.with_help(
                "use `@mode(\"enforce\")`, which is the default, or `@mode(\"shadow\")`",
            ))
        }
    }
}

fn effect(template: &Template) -> Effect {
    match template.effect() {
        ast::Effect::Permit => Effect::Permit,
        ast::Effect::Forbid => Effect::Forbid,
    }
}

fn obligations(template: &Template) -> BTreeMap<String, String> {
    template
        .annotations()
        .filter(|(key, _)| OBLIGATIONS.contains(&key.as_ref()))
        .map(|(key, found)| (key.to_string(), found.val.to_string()))
        .collect()
}

/// Says whether the value of `context.facts.approved` or `context.facts.approval` can reach the outcome of an expression.
///
/// The one way to read them is by their names; the other is to take the whole context or the whole facts as a value.
fn mentions_approval(body: &Expr) -> bool {
    let is_context = |expr: &Expr| matches!(expr.expr_kind(), ExprKind::Var(Var::Context));
    let is_facts = |expr: &Expr| matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr } if attr == "facts" && is_context(expr));
    let is_name = |attr: &SmolStr| attr == "approved" || attr == "approval";
    let (mut whole, mut taken_apart) = (0, 0);
    for expr in body.subexpressions() {
        whole += usize::from(is_context(expr) || is_facts(expr));
        match expr.expr_kind() {
            ExprKind::GetAttr { attr, .. } | ExprKind::HasAttr { attr, .. } if is_name(attr) => {
                return true;
            }
            ExprKind::ExtHasAttr { attrs, .. } if attrs.iter().any(is_name) => return true,
            ExprKind::GetAttr { expr, .. }
            | ExprKind::HasAttr { expr, .. }
            | ExprKind::ExtHasAttr { expr, .. } => {
                taken_apart += usize::from(is_context(expr) || is_facts(expr));
            }
            _ => {}
        }
    }
    whole > taken_apart
}
