//! A policy file as compiled: its policies, each in its place, and what somebody should look at in it.
//!
//! A file depends on its name, its text and the schema and on nothing else. That is what makes it safe to keep it whole
//! when another file of the bundle changes.

use std::sync::Arc;

use remit_core::{ContentHash, Source};

use crate::diagnostic::{Diagnostic, Lines, Span};
use crate::finding::Finding;
use crate::guard::{self, Excess, Segment};
use crate::policy::CompiledPolicy;
use crate::rule::{Refused, Rule};

/// A file without errors.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// The hash of its text.
    pub(crate) hash: ContentHash,
    /// Its policies and templates, in the order of the text.
    pub(crate) policies: Vec<Placed>,
    /// The warnings about them.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A policy or template in its place.
#[derive(Debug)]
pub(crate) struct Placed {
    /// What it says.
    pub(crate) rule: Arc<Rule>,
    /// The hash of its text.
    pub(crate) hash: ContentHash,
    /// The file's name.
    pub(crate) file: Arc<str>,
    /// Where in the file it stands.
    pub(crate) span: Span,
    /// Where its `@id` stands.
    pub(crate) id: Span,
    /// What is evaluated; `None` for a template.
    pub(crate) policy: Option<Arc<CompiledPolicy>>,
}

/// A file being read.
pub(crate) struct Draft<'b> {
    name: Arc<str>,
    hash: ContentHash,
    lines: Lines<'b>,
    pieces: Vec<Piece<'b>>,
    excesses: Vec<Excess>,
}

/// The text of one policy or template, and where it stands.
pub(crate) struct Piece<'b> {
    segment: Segment,
    /// The text.
    pub(crate) text: &'b str,
    /// Its hash.
    pub(crate) hash: ContentHash,
}

// === impl Draft ===

impl<'b> Draft<'b> {
    /// Splits a file, whose text has this hash, into its policies.
    pub(crate) fn new(source: &'b Source, hash: ContentHash) -> Self {
        let (segments, excesses) = guard::split(&source.text);
        let piece = |segment: Segment| {
            let text = source.text.get(segment.start..segment.end);
            let text = text.unwrap_or_default();
            Piece {
                segment,
                text,
                hash: ContentHash::of(text.as_bytes()),
            }
        };
        Self {
            name: Arc::from(source.file.as_str()),
            hash,
            lines: Lines::new(&source.text),
            pieces: segments.into_iter().map(piece).collect(),
            excesses,
        }
    }

    /// Returns the policies to be read; those beyond a limit are not among them.
    pub(crate) fn pieces(&self) -> &[Piece<'b>] {
        &self.pieces
    }

    /// Puts the file together from what each piece was read as; adds what is wrong with it to `errors`.
    pub(crate) fn finish(
        self,
        read: impl Iterator<Item = Result<Arc<Rule>, Refused>>,
        errors: &mut Vec<Diagnostic>,
    ) -> PolicyFile {
        let excesses = self.excesses.iter().map(Finding::from);
        errors.extend(excesses.map(|finding| finding.place(None, &self.name, &self.lines, 0)));
        let mut file = PolicyFile {
            hash: self.hash,
            policies: Vec::with_capacity(self.pieces.len()),
            warnings: Vec::new(),
        };
        let mut read = read.fuse();
        for piece in &self.pieces {
            let start = piece.segment.start;
            match read.next() {
                Some(Ok(rule)) => {
                    let warnings = rule.warnings.iter();
                    file.warnings.extend(warnings.map(|finding| {
                        finding.place(Some(&rule.id), &self.name, &self.lines, start)
                    }));
                    file.policies.push(self.place(piece, rule));
                }
                Some(Err(refused)) => errors.extend(refused.errors.iter().map(|finding| {
                    finding.place(refused.id.as_ref(), &self.name, &self.lines, start)
                })),
                None => {
                    let error = Diagnostic::error("internal", "a policy could not be read");
                    errors.push(error);
                }
            }
        }
        file
    }

    fn place(&self, piece: &Piece<'_>, rule: Arc<Rule>) -> Placed {
        let Segment { start, end } = piece.segment;
        let span = self.lines.span(start, end);
        let (from, to) = rule.id_range;
        Placed {
            id: self.lines.span(start + from, start + to),
            policy: CompiledPolicy::of_rule(&rule, &self.name, span).map(Arc::new),
            hash: piece.hash,
            file: Arc::clone(&self.name),
            span,
            rule,
        }
    }
}

// === impl Placed ===

impl Placed {
    /// Says for people where the `@id` stands: `file:line:column`.
    pub(crate) fn at(&self) -> String {
        let Self { file, id, .. } = self;
        format!("{file}:{}:{}", id.start_line, id.start_column)
    }
}

#[cfg(test)]
mod tests;
