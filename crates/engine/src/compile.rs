//! Compiling: a bundle in, a program that can be decided with out.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy_core::ast::Template;
use remit_core::{Bundle, ContentHash, Entity, PolicyId, Source};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnostic::{CompileError, Diagnostic, Lines, Span};
use crate::finding::Finding;
use crate::guard::{self, Segment};
use crate::link::Linked;
use crate::policy::{CompiledPolicy, Scope};
use crate::rule::{Refused, Rule};
use crate::schema::CompiledSchema;
use crate::stack::{in_chunks, on_large_stack};

/// The most errors that are reported of one bundle.
const ERRORS: usize = 100;
/// The most warnings that are kept of one bundle.
const WARNINGS: usize = 1_000;

/// A compiled bundle.
#[derive(Debug)]
pub(crate) struct Program {
    /// The schema every policy was validated against.
    pub(crate) schema: Arc<CompiledSchema>,
    /// Static policies and links in the order of their ids; a template itself is not among them.
    pub(crate) policies: Vec<Arc<CompiledPolicy>>,
    /// The bundle's own entities, as given.
    pub(crate) entities: Vec<Entity>,
    /// What somebody should look at, by file and place; at most 1,000.
    pub(crate) warnings: Vec<Diagnostic>,
    /// The hash of the bundle.
    pub(crate) content_hash: ContentHash,
    /// How many policies, templates and links were validated for this program; the others came from the one before.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what a test of the cache counts")
    )]
    pub(crate) validated: usize,
    /// What the next compilation need not do again, as long as the schema stays the same.
    kept: Kept,
}

/// Rules and links by the hash of everything they were made of but the schema.
#[derive(Debug, Default)]
struct Kept {
    rules: FxHashMap<ContentHash, Arc<Rule>>,
    links: FxHashMap<ContentHash, Arc<Linked>>,
}

/// A policy file, with what finding places in it takes.
struct File<'b> {
    name: Arc<str>,
    lines: Lines<'b>,
}

/// The text of one policy or template, where it stands.
struct Placed<'b> {
    file: usize,
    segment: Segment,
    text: &'b str,
    hash: ContentHash,
}

/// A valid policy or template under its id.
struct Named {
    rule: Arc<Rule>,
    hash: ContentHash,
    file: Arc<str>,
    span: Span,
    /// Where the id stands, for people.
    at: String,
}

/// A compilation under way.
struct Compiler<'b> {
    bundle: &'b Bundle,
    files: Vec<File<'b>>,
    kept: Kept,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    validated: usize,
}

/// Compiles a bundle, taking from `previous` whatever has the same text under the same schema.
///
/// # Errors
///
/// [`CompileError`] with every error in the bundle.
pub(crate) fn compile(
    bundle: &Bundle,
    previous: Option<&Program>,
) -> Result<Program, CompileError> {
    check_size(bundle)?;
    on_large_stack(|| Compiler::new(bundle).run(previous))
}

fn check_size(bundle: &Bundle) -> Result<(), CompileError> {
    let size: usize = bundle.policies.iter().map(|source| source.text.len()).sum();
    let mut diagnostics = Vec::new();
    if size > guard::BUNDLE_BYTES {
        let message = format!(
            "the policies have {size} bytes, the most is {}",
            guard::BUNDLE_BYTES
        );
        diagnostics.push(Diagnostic::error("bundle_too_large", message));
    }
    let mut names = FxHashSet::default();
    for source in bundle.schema.iter().chain(&bundle.policies) {
        if !names.insert(source.file.as_str()) {
            let message = format!(
                "two files of the bundle have the name `{}`",
                source.file.escape_debug()
            );
            diagnostics.push(Diagnostic::error("duplicate_file", message));
        }
    }
    if diagnostics.is_empty() {
        Ok(())
    } else {
        Err(CompileError { diagnostics })
    }
}

fn place(one: &Diagnostic) -> (Option<String>, Option<usize>) {
    (one.file.clone(), one.span.map(|span| span.start))
}

// === impl Compiler ===

impl<'b> Compiler<'b> {
    fn new(bundle: &'b Bundle) -> Self {
        let file = |source: &'b Source| File {
            name: Arc::from(source.file.as_str()),
            lines: Lines::new(&source.text),
        };
        Self {
            bundle,
            files: bundle.policies.iter().map(file).collect(),
            kept: Kept::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            validated: 0,
        }
    }

    fn run(mut self, previous: Option<&Program>) -> Result<Program, CompileError> {
        let schema = self.schema(previous);
        // Under another schema nothing of the program before can be taken over.
        let previous = previous.filter(|old| {
            schema
                .as_ref()
                .is_some_and(|new| new.hash == old.schema.hash)
        });
        let placed = self.split();
        if placed.len().saturating_add(self.bundle.links.len()) > guard::POLICIES {
            let message = format!(
                "the bundle has more than {} policies and links",
                guard::POLICIES
            );
            self.errors
                .push(Diagnostic::error("too_many_policies", message));
            return Err(self.refuse());
        }
        let rules = self.read(&placed, schema.as_deref(), previous);
        let named = self.name(&placed, rules);
        let Some(schema) = schema else {
            return Err(self.refuse());
        };
        let linked = self.link(&named, &schema, previous);
        self.errors.extend(misspelt(&self.bundle.entities));
        if !self.errors.is_empty() {
            return Err(self.refuse());
        }
        let policies = named
            .values()
            .filter(|one| !one.rule.is_template())
            .map(|one| (one.rule.id.clone(), (one, None)))
            .chain(
                linked
                    .iter()
                    .map(|(id, (template, linked))| (id.clone(), (*template, Some(linked)))),
            )
            .collect::<BTreeMap<_, _>>();
        let compiled = policies
            .into_iter()
            .map(|(id, (one, linked))| compiled(id, one, linked));
        let policies = compiled.collect::<Result<Vec<_>, _>>()?;
        self.warnings.sort_by_cached_key(place);
        self.warnings.truncate(WARNINGS);
        Ok(Program {
            schema,
            policies,
            entities: self.bundle.entities.clone(),
            warnings: self.warnings,
            content_hash: self.bundle.content_hash(),
            validated: self.validated,
            kept: self.kept,
        })
    }

    /// Takes the schema of the program before if it is the same, and compiles it otherwise.
    fn schema(&mut self, previous: Option<&Program>) -> Option<Arc<CompiledSchema>> {
        let hash = CompiledSchema::hash(&self.bundle.schema);
        let schema = match previous.filter(|old| old.schema.hash == hash) {
            Some(old) => Ok(Arc::clone(&old.schema)),
            None => CompiledSchema::compile(&self.bundle.schema).map(Arc::new),
        };
        match schema {
            Ok(schema) => {
                self.warnings.extend(schema.warnings.iter().cloned());
                Some(schema)
            }
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    /// Splits the files into policies; those beyond a limit are errors and go no further.
    fn split(&mut self) -> Vec<Placed<'b>> {
        let mut placed = Vec::new();
        for (index, (file, source)) in self.files.iter().zip(&self.bundle.policies).enumerate() {
            let (segments, excesses) = guard::split(&source.text);
            let placing = |excess| Finding::from(excess).place(None, &file.name, &file.lines, 0);
            self.errors.extend(excesses.iter().map(placing));
            for segment in segments {
                let text = source
                    .text
                    .get(segment.start..segment.end)
                    .unwrap_or_default();
                let hash = ContentHash::of(text.as_bytes());
                placed.push(Placed {
                    file: index,
                    segment,
                    text,
                    hash,
                });
            }
        }
        placed
    }

    /// Reads every policy that the program before has not read under this schema.
    fn read(
        &mut self,
        placed: &[Placed<'b>],
        schema: Option<&CompiledSchema>,
        previous: Option<&Program>,
    ) -> Vec<Option<Arc<Rule>>> {
        let known = |one: &Placed<'_>| {
            previous
                .and_then(|old| old.kept.rules.get(&one.hash))
                .cloned()
        };
        let unknown: Vec<_> = placed.iter().filter(|one| known(one).is_none()).collect();
        self.validated += unknown.len();
        let mut read = in_chunks(&unknown, |one| Rule::read(one.text, schema)).into_iter();
        let mut rules = Vec::with_capacity(placed.len());
        for one in placed {
            rules.push(known(one).or_else(|| match read.next() {
                Some(Ok(rule)) => Some(Arc::new(rule)),
                Some(Err(refused)) => {
                    self.report(one, &refused);
                    None
                }
                None => {
                    self.errors
                        .push(Diagnostic::error("internal", "a policy could not be read"));
                    None
                }
            }));
        }
        rules
    }

    fn report(&mut self, one: &Placed<'_>, refused: &Refused) {
        if let Some(file) = self.files.get(one.file) {
            let placing = |finding: &Finding| {
                finding.place(
                    refused.id.as_ref(),
                    &file.name,
                    &file.lines,
                    one.segment.start,
                )
            };
            self.errors.extend(refused.errors.iter().map(placing));
        }
    }

    /// Checks that ids are unique, collects the warnings and keeps the rules for next time.
    fn name(
        &mut self,
        placed: &[Placed<'b>],
        rules: Vec<Option<Arc<Rule>>>,
    ) -> BTreeMap<PolicyId, Named> {
        let mut found: BTreeMap<PolicyId, Named> = BTreeMap::new();
        for (one, rule) in placed.iter().zip(rules) {
            let (Some(rule), Some(file)) = (rule, self.files.get(one.file)) else {
                continue;
            };
            let start = one.segment.start;
            let id = file
                .lines
                .span(start + rule.id_range.0, start + rule.id_range.1);
            if let Some(first) = found.get(&rule.id) {
                let error = duplicate(&rule.id, &first.at).at(&file.name, Some(id));
                self.errors.push(error);
                continue;
            }
            let placing =
                |finding: &Finding| finding.place(Some(&rule.id), &file.name, &file.lines, start);
            self.warnings.extend(rule.warnings.iter().map(placing));
            self.kept.rules.insert(one.hash, Arc::clone(&rule));
            let named = Named {
                hash: one.hash,
                file: Arc::clone(&file.name),
                span: file.lines.span(start, one.segment.end),
                at: format!("{}:{}:{}", file.name, id.start_line, id.start_column),
                rule,
            };
            found.insert(named.rule.id.clone(), named);
        }
        found
    }

    /// Fills in the templates, except for links that the program before has filled in.
    fn link<'n>(
        &mut self,
        names: &'n BTreeMap<PolicyId, Named>,
        schema: &CompiledSchema,
        previous: Option<&Program>,
    ) -> BTreeMap<PolicyId, (&'n Named, Arc<Linked>)> {
        let mut found: BTreeMap<PolicyId, (&'n Named, Arc<Linked>)> = BTreeMap::new();
        for link in &self.bundle.links {
            if let Some(first) = names.get(&link.id) {
                self.errors.push(duplicate(&link.id, &first.at));
                continue;
            }
            if found.contains_key(&link.id) {
                self.errors.push(duplicate(&link.id, "an earlier link"));
                continue;
            }
            let Some(template) = names.get(&link.template) else {
                let message = format!("the bundle has no template `{}`", link.template);
                self.errors
                    .push(Diagnostic::error("unknown_template", message).with_policy(&link.id));
                continue;
            };
            let hash = Linked::hash(link, &template.hash);
            let known = previous.and_then(|old| old.kept.links.get(&hash)).cloned();
            let linked = match known {
                Some(linked) => Ok(linked),
                None => {
                    self.validated += 1;
                    Linked::new(link, &template.rule, schema).map(Arc::new)
                }
            };
            match linked {
                Ok(linked) => {
                    let warned = |finding: &Finding| Diagnostic {
                        policy: Some(link.id.clone()),
                        file: Some(template.file.to_string()),
                        span: Some(template.span),
                        ..finding.diagnostic()
                    };
                    self.warnings.extend(linked.warnings.iter().map(warned));
                    self.kept.links.insert(hash, Arc::clone(&linked));
                    found.insert(link.id.clone(), (template, linked));
                }
                Err(errors) => self.errors.extend(errors),
            }
        }
        found
    }

    fn refuse(mut self) -> CompileError {
        self.errors.sort_by_cached_key(place);
        let more = self.errors.len().saturating_sub(ERRORS);
        self.errors.truncate(ERRORS);
        if more > 0 {
            self.errors.push(Diagnostic::error(
                "more_errors",
                format!("there are {more} more errors"),
            ));
        }
        CompileError {
            diagnostics: self.errors,
        }
    }
}

/// Finds the entities of a bundle whose name, or that of a parent, is not in Unicode NFC.
fn misspelt(entities: &[Entity]) -> impl Iterator<Item = Diagnostic> {
    entities.iter().filter_map(|entity| {
        let invalid = entity.check().err()?;
        let message = format!("`{}`: {invalid}", entity.uid);
        Some(Diagnostic::error("not_nfc", message))
    })
}

fn duplicate(id: &PolicyId, first: &str) -> Diagnostic {
    Diagnostic::error("duplicate_id", format!("the id `{id}` is used twice"))
        .with_help(format!(
            "it is used first at {first}; policies, templates and links share their ids"
        ))
        .with_policy(id)
}

fn compiled(
    id: PolicyId,
    one: &Named,
    linked: Option<&Arc<Linked>>,
) -> Result<Arc<CompiledPolicy>, CompileError> {
    let rule = &one.rule;
    let policy = match linked {
        Some(linked) => Some(linked.policy.clone()),
        None => Template::try_as_policy(Arc::clone(&rule.template)).ok(),
    };
    let Some((policy, scope)) =
        policy.and_then(|policy| Scope::of(&policy).map(|scope| (policy, scope)))
    else {
        let error = Diagnostic::error("internal", "this policy has a slot that is not filled")
            .with_policy(&id);
        return Err(CompileError {
            diagnostics: vec![error],
        });
    };
    Ok(Arc::new(CompiledPolicy {
        id,
        effect: rule.effect,
        shadow: rule.shadow,
        mentions_approval: rule.mentions_approval,
        obligations: rule.obligations.clone(),
        scope,
        body: policy.non_scope_constraints_arc().cloned(),
        text: Arc::clone(&rule.text),
        file: Arc::clone(&one.file),
        span: one.span,
    }))
}

#[cfg(test)]
mod tests;
