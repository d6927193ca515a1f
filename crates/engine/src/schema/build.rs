//! Building the compiled schema from the files of a bundle.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::{EntityUID, Name};
use cedar_policy_core::est::Annotations;
use cedar_policy_core::extensions::Extensions;
use cedar_policy_core::validator::json_schema::{
    EntityType as Declaration, EntityTypeKind, Fragment, Type as Declared, TypeVariant,
};
use cedar_policy_core::validator::types::{Attributes, EntityKind, Type};
use cedar_policy_core::validator::{
    RawName, Validator, ValidatorActionId, ValidatorEntityType, ValidatorEntityTypeKind,
    ValidatorSchema, ValidatorSchemaFragment,
};
use miette::Diagnostic as CedarDiagnostic;
use remit_core::{ContentHash, Source, is_nfc};
use rustc_hash::{FxHashMap, FxHashSet};
use smol_str::{SmolStr, ToSmolStr};

use super::volatile::{Volatile, volatile};
use super::{
    ActionSchema, CompiledSchema, EntitySchema, FACTS_SCHEMA, Field, Fields, Kind, Registry,
};
use crate::diagnostic::{Diagnostic, Lines, Severity};
use crate::finding::{Finding, each};
use crate::shape::Reads;
use crate::{expansion, guard};

/// The annotation by which a schema lets callers assert an attribute.
const ASSERTABLE: &str = "assertable";
/// The annotation by which a schema says that the entities of a type are registered.
const REGISTERED: &str = "registered";
/// The name under which errors speak of [`FACTS_SCHEMA`].
const FACTS_FILE: &str = "remit.cedarschema";

/// Schema files as Cedar reads them, and what it remarks on them.
type Parsed = (Vec<Fragment<RawName>>, Vec<Diagnostic>);

/// What its annotations say of an entity type.
#[derive(Debug, Clone, Default)]
struct Marks {
    /// Whether every attribute is assertable.
    whole: bool,
    /// The attributes that are.
    attributes: FxHashSet<SmolStr>,
    /// The registry that its entities are in.
    registry: Option<Registry>,
}

/// What annotations say, by entity type.
type Marked = FxHashMap<SmolStr, Marks>;

impl CompiledSchema {
    /// Returns the hash that a schema of these files has, without compiling it.
    pub(crate) fn hash(files: &[Source]) -> ContentHash {
        let mut sorted: Vec<_> = files.iter().collect();
        sorted.sort_by(|a, b| a.file.cmp(&b.file));
        let mut bytes = Vec::new();
        for source in sorted {
            bytes.extend_from_slice(&source.text.len().to_be_bytes());
            bytes.extend_from_slice(source.text.as_bytes());
        }
        ContentHash::of(&bytes)
    }

    /// Compiles the schema of these files, which must run on a large stack.
    ///
    /// # Errors
    ///
    /// Every error found, by file.
    pub(crate) fn compile(files: &[Source]) -> Result<Self, Vec<Diagnostic>> {
        if files.is_empty() {
            let error = Diagnostic::error("no_schema", "the bundle has no schema")
                .with_help("add a `.cedarschema` file: every policy is validated against the schema before it decides");
            return Err(vec![error]);
        }
        let size: usize = files.iter().map(|source| source.text.len()).sum();
        if size > guard::SCHEMA_BYTES {
            let message = format!(
                "the schema has {size} bytes, the most is {}",
                guard::SCHEMA_BYTES
            );
            return Err(vec![Diagnostic::error("schema_too_large", message)]);
        }
        let mut files = files.to_vec();
        files.sort_by(|a, b| a.file.cmp(&b.file));
        let hash = Self::hash(&files);
        let (mut fragments, warnings) = parse(&files)?;
        if !fragments.iter().any(declares_remit) {
            let facts = Source {
                file: FACTS_FILE.to_owned(),
                text: FACTS_SCHEMA.to_owned(),
            };
            fragments.extend(parse(std::slice::from_ref(&facts))?.0);
            files.push(facts);
        }
        expansion::check(&fragments).map_err(|finding| vec![finding.diagnostic()])?;
        let marked = marked(&fragments).map_err(|finding| vec![finding.diagnostic()])?;
        let volatile = volatile(&fragments).map_err(|finding| vec![finding.diagnostic()])?;
        let core = join(fragments).map_err(|error| locate(&files, &*error))?;
        check_spelling(&core)?;
        Ok(Self {
            hash,
            entities: entities(&core, &marked).ok_or_else(|| vec![unsupported()])?,
            actions: actions(&core, &volatile).ok_or_else(|| vec![unsupported()])?,
            validator: Validator::new(core),
            warnings,
        })
    }
}

fn parse(files: &[Source]) -> Result<Parsed, Vec<Diagnostic>> {
    let (mut fragments, mut warnings, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for source in files {
        if let Err(excess) = guard::check_schema(&source.text) {
            errors.push(Finding::from(&excess).place(
                None,
                &source.file,
                &Lines::new(&source.text),
                0,
            ));
            continue;
        }
        match Fragment::from_cedarschema_str(&source.text, Extensions::all_available()) {
            Ok((fragment, remarks)) => {
                fragments.push(fragment);
                let lines = Lines::new(&source.text);
                warnings.extend(remarks.map(|remark| {
                    Finding::from_cedar(Severity::Warning, "schema_shadowing", &remark).place(
                        None,
                        &source.file,
                        &lines,
                        0,
                    )
                }));
            }
            Err(error) => errors.extend(locate(std::slice::from_ref(source), &error)),
        }
    }
    if errors.is_empty() {
        Ok((fragments, warnings))
    } else {
        Err(errors)
    }
}

fn declares_remit(fragment: &Fragment<RawName>) -> bool {
    fragment
        .0
        .keys()
        .flatten()
        .any(|namespace| namespace.to_smolstr() == "Remit")
}

fn join(fragments: Vec<Fragment<RawName>>) -> Result<ValidatorSchema, Box<dyn CedarDiagnostic>> {
    let fragments = fragments
        .into_iter()
        .map(ValidatorSchemaFragment::from_schema_fragment)
        .collect::<Result<Vec<_>, _>>()?;
    let core = ValidatorSchema::from_schema_fragments(fragments, Extensions::all_available())?;
    core.check_complete()?;
    Ok(core)
}

/// Checks that the ids a schema declares, of actions and of enumerated types, are in Unicode NFC.
fn check_spelling(core: &ValidatorSchema) -> Result<(), Vec<Diagnostic>> {
    let actions = core.action_ids().map(|action| {
        let uid = action.name();
        (
            uid.entity_type().to_string(),
            uid.eid().clone().into_smolstr(),
        )
    });
    let enumerated = core.entity_types().flat_map(|declared| {
        let ids = ids(declared).unwrap_or_default();
        ids.into_iter().map(|id| (declared.name().to_string(), id))
    });
    let mut errors = Vec::new();
    for (kind, id) in actions.chain(enumerated).filter(|(_, id)| !is_nfc(id)) {
        let name = remit_core::EntityUid::new(kind, id);
        let message =
            format!("the id of `{name}` is not in Unicode normal form C (NFC), as every id is");
        errors.push(Diagnostic::error("not_nfc", message));
    }
    errors.sort_by(|a, b| a.message.cmp(&b.message));
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// Finds for each error the file whose text it speaks of.
fn locate(files: &[Source], error: &dyn CedarDiagnostic) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    each(error, &mut |error| {
        let finding = Finding::from_cedar(Severity::Error, "schema_error", error);
        let file = error.source_code().and_then(|code| {
            files.iter().find(|source| {
                code.read_span(&(0, source.text.len()).into(), 0, 0)
                    .is_ok_and(|contents| contents.data() == source.text.as_bytes())
            })
        });
        found.push(match (file, files) {
            (Some(source), _) => finding.place(None, &source.file, &Lines::new(&source.text), 0),
            (None, [only]) => finding.diagnostic().at(&only.file, None),
            (None, _) => finding.diagnostic(),
        });
    });
    found
}

fn unsupported() -> Diagnostic {
    Diagnostic::error("schema_error", "the schema holds a type that has no values")
}

/// Reads what the annotations of entity types say.
fn marked(fragments: &[Fragment<RawName>]) -> Result<Marked, Finding> {
    let mut found = Marked::default();
    for (namespace, definition) in fragments.iter().flat_map(|fragment| &fragment.0) {
        for (name, declaration) in &definition.entity_types {
            let name = full_name(namespace.as_ref(), &name.to_smolstr());
            let mut marks = Marks {
                whole: is_assertable(&declaration.annotations, &name)?,
                attributes: FxHashSet::default(),
                registry: registry(&declaration.annotations, &name)?,
            };
            for (attribute, annotations) in attributes_of(declaration) {
                if is_assertable(annotations, &format!("{name}.{attribute}"))? {
                    marks.attributes.insert(attribute.clone());
                }
            }
            found.insert(name, marks);
        }
    }
    Ok(found)
}

/// Says in which registry the entities of a type are; a name of none is refused, since it would say nothing.
fn registry(annotations: &Annotations, name: &str) -> Result<Option<Registry>, Finding> {
    let mut annotations = annotations.0.iter();
    let Some((_, value)) = annotations.find(|(key, _)| key.as_ref() == REGISTERED) else {
        return Ok(None);
    };
    match value.as_ref().map(|value| value.val.as_str()) {
        Some("agent") => Ok(Some(Registry::Agent)),
        Some("tool") => Ok(Some(Registry::Tool)),
        _ => {
            let message = format!("the annotation `@registered` of `{name}` names no registry");
            let help = "write `@registered(\"agent\")` or `@registered(\"tool\")`";
            Err(Finding::unplaced("schema_error", message).with_help(help))
        }
    }
}

fn attributes_of(
    declaration: &Declaration<RawName>,
) -> impl Iterator<Item = (&SmolStr, &Annotations)> {
    let record = match &declaration.kind {
        EntityTypeKind::Standard(standard) => match &standard.shape.0 {
            Declared::Type {
                ty: TypeVariant::Record(record),
                ..
            } => Some(record),
            _ => None,
        },
        EntityTypeKind::Enum { .. } => None,
    };
    record
        .into_iter()
        .flat_map(|record| &record.attributes)
        .map(|(name, attribute)| (name, &attribute.annotations))
}

fn is_assertable(annotations: &Annotations, what: &str) -> Result<bool, Finding> {
    let help = "leave the annotation out for what no caller may assert";
    flagged(annotations, ASSERTABLE, what, help)
}

/// Says whether an annotation stands there; a value after it is refused, since `@assertable("false")` would mislead.
pub(super) fn flagged(
    annotations: &Annotations,
    key: &str,
    what: &str,
    help: &str,
) -> Result<bool, Finding> {
    match annotations.0.iter().find(|(name, _)| name.as_ref() == key) {
        None => Ok(false),
        // Cedar reads an annotation without a value as one with an empty value.
        Some((_, value)) if value.as_ref().is_none_or(|value| value.val.is_empty()) => Ok(true),
        Some(_) => {
            let message =
                format!("the annotation `@{key}` of `{what}` has a value, and takes none");
            Err(Finding::unplaced("schema_error", message).with_help(help))
        }
    }
}

pub(super) fn full_name(namespace: Option<&Name>, name: &str) -> SmolStr {
    namespace.map_or_else(
        || name.to_smolstr(),
        |namespace| smol_str::format_smolstr!("{namespace}::{name}"),
    )
}

fn entities(
    core: &ValidatorSchema,
    marked: &Marked,
) -> Option<FxHashMap<SmolStr, Arc<EntitySchema>>> {
    let mut found = FxHashMap::default();
    for declared in core
        .entity_types()
        .filter(|declared| !declared.name().is_action())
    {
        let name = declared.name().to_smolstr();
        let marks = marked.get(&name).cloned().unwrap_or_default();
        let mut attributes = fields(declared.attributes())?;
        for (attribute, field) in &mut attributes {
            field.assertable = marks.whole || marks.attributes.contains(attribute);
        }
        let schema = EntitySchema {
            name: declared.name().clone(),
            attributes,
            tags: declared
                .tag_type()
                .map(|tags| kind(tags).ok_or(()))
                .transpose()
                .ok()?,
            ids: ids(declared),
            registry: marks.registry,
            ancestors: core
                .entity_types()
                .filter(|other| other.has_descendant_entity_type(declared.name()))
                .map(|other| other.name().clone())
                .collect(),
        };
        found.insert(name, Arc::new(schema));
    }
    Some(found)
}

fn ids(declared: &ValidatorEntityType) -> Option<std::collections::BTreeSet<SmolStr>> {
    match &declared.kind {
        ValidatorEntityTypeKind::Enum(ids) => {
            Some(ids.iter().map(|id| id.clone().into_smolstr()).collect())
        }
        _ => None,
    }
}

fn actions(
    core: &ValidatorSchema,
    volatile: &Volatile,
) -> Option<FxHashMap<SmolStr, Vec<Arc<ActionSchema>>>> {
    let mut ancestors: FxHashMap<&EntityUID, Vec<EntityUID>> = FxHashMap::default();
    for group in core.action_ids() {
        for member in group.descendants() {
            ancestors
                .entry(member)
                .or_default()
                .push(group.name().clone());
        }
    }
    let mut found: FxHashMap<SmolStr, Vec<Arc<ActionSchema>>> = FxHashMap::default();
    for declared in core.action_ids() {
        let mut ancestors = ancestors.remove(declared.name()).unwrap_or_default();
        ancestors.sort();
        let schema = action(declared, ancestors, volatile)?;
        let id: &str = declared.name().eid().as_ref();
        found.entry(id.into()).or_default().push(Arc::new(schema));
    }
    for same in found.values_mut() {
        same.sort_by(|a, b| a.uid.cmp(&b.uid));
    }
    Some(found)
}

fn action(
    declared: &ValidatorActionId,
    ancestors: Vec<EntityUID>,
    volatile: &Volatile,
) -> Option<ActionSchema> {
    let uid = declared.name();
    let id: &str = uid.eid().as_ref();
    let name = remit_core::EntityUid::new(uid.entity_type().to_string(), id).to_string();
    Some(ActionSchema {
        uid: Arc::new(declared.name().clone()),
        principals: declared.principals().cloned().collect(),
        resources: declared.resources().cloned().collect(),
        context: match declared.context() {
            Some(Type::Record { attrs, .. }) => fields(attrs)?,
            _ => BTreeMap::new(),
        },
        volatile: volatile.get(&name).cloned().unwrap_or_default(),
        ancestors,
    })
}

fn fields(attributes: &Attributes) -> Option<Fields> {
    attributes
        .iter()
        .map(|(name, attribute)| {
            let field = Field {
                kind: kind(&attribute.attr_type)?,
                required: attribute.is_required,
                fact: Reads::named(name),
                assertable: false,
            };
            Some((name.clone(), field))
        })
        .collect()
}

/// Translates Cedar's type of a declared value, which is never empty, abstract or a union.
fn kind(declared: &Type) -> Option<Kind> {
    Some(match declared {
        Type::Bool(_) => Kind::Bool,
        Type::Long => Kind::Long,
        Type::String => Kind::String,
        Type::Entity(EntityKind::Entity(one)) => Kind::Entity(one.get_single_entity()?.clone()),
        Type::Set {
            element_type: Some(element),
        } => Kind::Set(Arc::new(kind(element)?)),
        Type::Record { attrs, .. } => Kind::Record(Arc::new(fields(attrs)?)),
        Type::ExtensionType { name } => Kind::Extension(name.clone()),
        Type::Never | Type::Entity(EntityKind::AnyEntity) | Type::Set { element_type: None } => {
            return None;
        }
    })
}
