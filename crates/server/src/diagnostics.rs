//! Diagnostics of policies, shown to people with the lines they are about.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use remit_core::Bundle;
use remit_engine::{Diagnostic, Severity};

use crate::output::plain;

/// Some diagnostics, with the text of the files they point into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// What was found, in the order of the files.
    pub(crate) diagnostics: Vec<Diagnostic>,
    sources: BTreeMap<String, String>,
    /// The folder that the files are in, where they came from one.
    dir: PathBuf,
}

/// One diagnostic in the shape that miette draws.
#[derive(Debug)]
struct Drawn<'a> {
    diagnostic: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

// === impl Found ===

impl Found {
    /// Keeps `diagnostics` with the text of the files of `bundle`.
    pub(crate) fn new(diagnostics: Vec<Diagnostic>, bundle: &Bundle) -> Self {
        let files = bundle.schema.iter().chain(&bundle.policies);
        let files = files.chain(&bundle.admin);
        Self {
            diagnostics,
            sources: files
                .map(|source| (source.file.clone(), source.text.clone()))
                .collect(),
            dir: PathBuf::new(),
        }
    }

    /// Says which folder the files are in, so that a terminal can open them.
    #[must_use]
    pub(crate) fn within(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.dir);
        self
    }

    /// Counts the errors; the rest are warnings.
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .count()
    }

    /// Writes one annotation of GitHub Actions a diagnostic.
    pub(crate) fn github(&self) -> Vec<String> {
        self.diagnostics
            .iter()
            .map(|found| annotation(&self.dir, found))
            .collect()
    }
}

fn annotation(dir: &Path, found: &Diagnostic) -> String {
    let kind = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut place = String::new();
    if let Some(file) = &found.file {
        place = format!(" file={}", property(&dir.join(file).display().to_string()));
    }
    if let Some(span) = &found.span {
        place = format!(
            "{place},line={},col={},endLine={},endColumn={}",
            span.start_line, span.start_column, span.end_line, span.end_column
        );
    }
    let help = found
        .help
        .as_ref()
        .map(|help| format!("\n{help}"))
        .unwrap_or_default();
    let text = format!("{}{help}", found.message);
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    format!("::{kind}{place}::{text}")
}

/// Escapes a property of an annotation, where commas and colons separate.
fn property(text: &str) -> String {
    text.replace('%', "%25")
        .replace(':', "%3A")
        .replace(',', "%2C")
        .replace('\n', "%0A")
}

/// Replaces what would steer a terminal, byte for byte, so that places stay where they are.
fn shown(text: &str) -> String {
    let steers =
        |character: char| character.is_ascii_control() && !matches!(character, '\n' | '\t');
    text.replace('\r', " ").replace(steers, "?")
}

/// Draws diagnostics for a terminal; plain when `color` is off.
pub(crate) fn render(found: &Found, color: bool) -> String {
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(110)
        .with_links(false);
    let mut text = String::new();
    for diagnostic in &found.diagnostics {
        let source = diagnostic.file.as_ref().and_then(|file| {
            found.sources.get(file).map(|text| {
                NamedSource::new(found.dir.join(file).display().to_string(), shown(text))
            })
        });
        let drawn = Drawn { diagnostic, source };
        if handler.render_report(&mut text, &drawn).is_err() {
            // What cannot be drawn is still said.
            text.push_str(&diagnostic.message);
        }
        text.push('\n');
    }
    text
}

// === impl Drawn ===

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.diagnostic.message))?;
        match (&self.diagnostic.policy, &self.diagnostic.file, &self.source) {
            (Some(policy), _, _) => write!(f, " (policy `{policy}`)"),
            (None, Some(file), None) => write!(f, " (in `{file}`)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic
            .help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self
            .diagnostic
            .span
            .as_ref()
            .filter(|_| self.source.is_some())?;
        let length = span.end.saturating_sub(span.start);
        Some(Box::new(std::iter::once(LabeledSpan::new(
            None, span.start, length,
        ))))
    }
}
