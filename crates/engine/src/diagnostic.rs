//! Diagnostics: what is wrong with a bundle, and exactly where.

use std::fmt;

use remit_core::PolicyId;
use serde::{Deserialize, Serialize};

/// A bundle that does not compile, with every error found in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the bundle does not compile: {}", summary(.diagnostics))]
pub struct CompileError {
    /// The errors, by file and place; warnings are not among them. At most 100, then one that counts the rest.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding about a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Whether the bundle can be used in spite of it.
    pub severity: Severity,
    /// A stable code, such as `missing_id` or `never_applies`.
    pub code: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The policy it is about, where that has an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyId>,
    /// The file it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The place in that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The bundle is refused.
    Error,
    /// The bundle is taken, and somebody should look.
    Warning,
}

/// A place in a file, counted both as UTF-8 (Rust, terminals) and as UTF-16 (JavaScript, the Language Server Protocol).
///
/// Offsets start at 0 and `end` is exclusive; lines and columns start at 1. A column is a distance from the start of
/// its line in code units of its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// Line of `start`.
    pub start_line: usize,
    /// Column of `start`, in bytes.
    pub start_column: usize,
    /// Line of `end`.
    pub end_line: usize,
    /// Column of `end`, in bytes.
    pub end_column: usize,
    /// First UTF-16 code unit.
    pub utf16_start: usize,
    /// The UTF-16 code unit after the last.
    pub utf16_end: usize,
    /// Column of `start`, in UTF-16 code units.
    pub utf16_start_column: usize,
    /// Column of `end`, in UTF-16 code units.
    pub utf16_end_column: usize,
}

/// Turns byte offsets of one file into [`Span`]s without reading the file again for each.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// For each line: its first byte and its first UTF-16 code unit.
    starts: Vec<(usize, usize)>,
}

/// One position in both encodings.
struct Position {
    line: usize,
    column: usize,
    utf16: usize,
    utf16_column: usize,
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "no reason given".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

// === impl Diagnostic ===

impl Diagnostic {
    /// Makes an error of a code and a message.
    pub(crate) fn error(code: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.to_owned(),
            message: message.into(),
            help: None,
            policy: None,
            file: None,
            span: None,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the policy.
    pub(crate) fn with_policy(mut self, policy: &PolicyId) -> Self {
        self.policy = Some(policy.clone());
        self
    }

    /// Adds the file and the place in it.
    pub(crate) fn at(mut self, file: &str, span: Option<Span>) -> Self {
        self.file = Some(file.to_owned());
        self.span = span;
        self
    }
}

impl fmt::Display for Diagnostic {
    /// Writes `file:line:column: message`, leaving out what is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(span) = &self.span {
                write!(f, "{}:{}:", span.start_line, span.start_column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

// === impl Lines ===

impl<'a> Lines<'a> {
    /// Reads `text` once and remembers where its lines begin.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut starts = vec![(0, 0)];
        let mut utf16 = 0;
        for (offset, character) in text.char_indices() {
            utf16 += character.len_utf16();
            if character == '\n' {
                starts.push((offset + 1, utf16));
            }
        }
        Self { text, starts }
    }

    /// Makes the span of `start..end`; offsets beyond the text or inside a character are moved back to the last
    /// character boundary.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let start = self.boundary(start);
        let end = self.boundary(end).max(start);
        let (from, to) = (self.position(start), self.position(end));
        Span {
            start,
            end,
            start_line: from.line,
            start_column: from.column,
            end_line: to.line,
            end_column: to.column,
            utf16_start: from.utf16,
            utf16_end: to.utf16,
            utf16_start_column: from.utf16_column,
            utf16_end_column: to.utf16_column,
        }
    }

    fn boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset.min(self.text.len()))
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|(start, _)| *start <= offset);
        let (start, utf16_start) = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        let units: usize = before.chars().map(char::len_utf16).sum();
        Position {
            line,
            column: offset - start + 1,
            utf16: utf16_start + units,
            utf16_column: units + 1,
        }
    }
}
