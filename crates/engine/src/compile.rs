//! Compiling: a bundle in, a program that can be decided with out.

use std::sync::Arc;

use remit_core::{Bundle, ContentHash, Entity, PolicyId, Source};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnostic::{CompileError, Diagnostic};
use crate::file::{Draft, Piece, Placed, PolicyFile};
use crate::finding::Finding;
use crate::guard;
use crate::link::Linked;
use crate::policy::CompiledPolicy;
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
    /// The bundle's policies of the administration, as given: they decide nothing here.
    pub(crate) admin: Vec<Source>,
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

/// Files by their names; rules and links by the hash of everything they were made of but the schema.
#[derive(Debug, Default)]
struct Kept {
    files: FxHashMap<String, Arc<PolicyFile>>,
    rules: FxHashMap<ContentHash, Arc<Rule>>,
    links: FxHashMap<ContentHash, Arc<Linked>>,
}

/// A file that the program before has read, or one to be read.
enum File<'b> {
    Known(Arc<PolicyFile>),
    New(Draft<'b>),
}

/// Policies and templates by id.
type Names<'f> = FxHashMap<&'f PolicyId, &'f Placed>;

/// A compilation under way.
struct Compiler<'b> {
    bundle: &'b Bundle,
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

fn place(one: &Diagnostic) -> (Option<&str>, Option<usize>) {
    (one.file.as_deref(), one.span.map(|span| span.start))
}

// === impl Program ===

impl Program {
    /// Returns a program that decides by these policies under this one's schema; for trying, never to compile from.
    pub(crate) fn deciding_by(&self, policies: Vec<Arc<CompiledPolicy>>) -> Self {
        Self {
            schema: Arc::clone(&self.schema),
            policies,
            entities: Vec::new(),
            admin: Vec::new(),
            warnings: Vec::new(),
            content_hash: self.content_hash,
            validated: 0,
            kept: Kept::default(),
        }
    }

    /// Returns every policy and template in its place, in no order.
    pub(crate) fn placed(&self) -> impl Iterator<Item = &Placed> {
        self.kept.files.values().flat_map(|file| &file.policies)
    }

    /// Returns the hash of the text of a file of policies.
    pub(crate) fn file_hash(&self, name: &str) -> Option<ContentHash> {
        self.kept.files.get(name).map(|file| file.hash)
    }
}

// === impl Compiler ===

impl<'b> Compiler<'b> {
    fn new(bundle: &'b Bundle) -> Self {
        Self {
            bundle,
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
        let drafts = self.draft(previous);
        let policies: usize = drafts.iter().map(File::len).sum();
        if policies.saturating_add(self.bundle.links.len()) > guard::POLICIES {
            let message = format!(
                "the bundle has more than {} policies and links",
                guard::POLICIES
            );
            self.errors
                .push(Diagnostic::error("too_many_policies", message));
            return Err(self.refuse());
        }
        let files = self.read(drafts, schema.as_deref(), previous);
        let named = self.name(&files);
        let Some(schema) = schema else {
            return Err(self.refuse());
        };
        let links = self.link(&named, &schema, previous);
        self.errors.extend(misspelt(&self.bundle.entities));
        if !self.errors.is_empty() {
            return Err(self.refuse());
        }
        let mut policies: Vec<Arc<CompiledPolicy>> = named
            .values()
            .filter_map(|one| one.policy.as_ref().map(Arc::clone))
            .chain(links)
            .collect();
        policies.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let warnings = self.warnings(&files);
        let sources = self.bundle.policies.iter();
        let paths = sources.map(|source| source.file.clone());
        self.kept.files = paths.zip(files).collect();
        Ok(Program {
            schema,
            policies,
            entities: self.bundle.entities.clone(),
            admin: self.bundle.admin.clone(),
            warnings,
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

    /// Takes the files that the program before has read, and splits the others into policies.
    fn draft(&self, previous: Option<&Program>) -> Vec<File<'b>> {
        let sources = self.bundle.policies.iter();
        let draft = sources.map(|source| {
            let hash = ContentHash::of(source.text.as_bytes());
            let known = previous.and_then(|old| old.kept.files.get(&source.file));
            match known.filter(|file| file.hash == hash) {
                Some(file) => File::Known(Arc::clone(file)),
                None => File::New(Draft::new(source, hash)),
            }
        });
        draft.collect()
    }

    /// Reads every policy that the program before has not read under this schema.
    fn read(
        &mut self,
        files: Vec<File<'b>>,
        schema: Option<&CompiledSchema>,
        previous: Option<&Program>,
    ) -> Vec<Arc<PolicyFile>> {
        let known = |one: &Piece<'_>| {
            previous
                .and_then(|old| old.kept.rules.get(&one.hash))
                .cloned()
        };
        let unknown: Vec<&str> = files
            .iter()
            .flat_map(File::pieces)
            .filter(|one| known(one).is_none())
            .map(|one| one.text)
            .collect();
        self.validated += unknown.len();
        let mut read = in_chunks(&unknown, |text| Rule::read(text, schema)).into_iter();
        let mut finished = Vec::with_capacity(files.len());
        for file in files {
            finished.push(match file {
                File::Known(file) => file,
                File::New(draft) => {
                    let rules: Vec<Result<Arc<Rule>, Refused>> = draft
                        .pieces()
                        .iter()
                        .map_while(|one| match known(one) {
                            Some(rule) => Some(Ok(rule)),
                            None => read.next().map(|read| read.map(Arc::new)),
                        })
                        .collect();
                    Arc::new(draft.finish(rules.into_iter(), &mut self.errors))
                }
            });
        }
        finished
    }

    /// Checks that ids are unique and keeps the rules for next time.
    fn name<'f>(&mut self, files: &'f [Arc<PolicyFile>]) -> Names<'f> {
        let mut found = Names::default();
        for one in files.iter().flat_map(|file| &file.policies) {
            let id = &one.rule.id;
            if let Some(first) = found.get(id) {
                let error = duplicate(id, &first.at()).at(&one.file, Some(one.id));
                self.errors.push(error);
                continue;
            }
            self.kept.rules.insert(one.hash, Arc::clone(&one.rule));
            found.insert(id, one);
        }
        found
    }

    /// Collects the warnings, those of the first places first.
    fn warnings(&self, files: &[Arc<PolicyFile>]) -> Vec<Diagnostic> {
        let of_files = files.iter().flat_map(|file| &file.warnings);
        let mut all: Vec<&Diagnostic> = of_files.chain(&self.warnings).collect();
        all.sort_by(|a, b| place(a).cmp(&place(b)));
        all.into_iter().take(WARNINGS).cloned().collect()
    }

    /// Fills in the templates, except for links that the program before has filled in.
    fn link(
        &mut self,
        names: &Names<'_>,
        schema: &CompiledSchema,
        previous: Option<&Program>,
    ) -> Vec<Arc<CompiledPolicy>> {
        let mut found = Vec::with_capacity(self.bundle.links.len());
        let mut taken = FxHashSet::default();
        for link in &self.bundle.links {
            if let Some(first) = names.get(&link.id) {
                self.errors.push(duplicate(&link.id, &first.at()));
                continue;
            }
            if !taken.insert(&link.id) {
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
                    let (rule, policy) = (&template.rule, &linked.policy);
                    let id = link.id.clone();
                    match CompiledPolicy::of(id, rule, policy, &template.file, template.span) {
                        Some(policy) => found.push(Arc::new(policy)),
                        None => self.errors.push(
                            Diagnostic::error(
                                "internal",
                                "this link has a slot that is not filled",
                            )
                            .with_policy(&link.id),
                        ),
                    }
                    self.kept.links.insert(hash, linked);
                }
                Err(errors) => self.errors.extend(errors),
            }
        }
        found
    }

    fn refuse(mut self) -> CompileError {
        self.errors.sort_by(|a, b| place(a).cmp(&place(b)));
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

// === impl File ===

impl<'b> File<'b> {
    /// Returns how many policies and templates it has.
    fn len(&self) -> usize {
        match self {
            Self::Known(file) => file.policies.len(),
            Self::New(draft) => draft.pieces().len(),
        }
    }

    /// Returns the policies that may have to be read.
    fn pieces(&self) -> &[Piece<'b>] {
        match self {
            Self::Known(_) => &[],
            Self::New(draft) => draft.pieces(),
        }
    }
}

#[cfg(test)]
mod tests;
