//! Findings: diagnostics that do not know yet where their text stands.
//!
//! A policy is read by itself, so that what was found can be kept while the text moves within its file.

use miette::Diagnostic as CedarDiagnostic;
use remit_core::PolicyId;

use crate::diagnostic::{Diagnostic, Lines, Severity};
use crate::guard::Excess;

mod kinds;

pub use kinds::FINDINGS;

/// One finding about a text, with its place counted from the start of that text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether the text can be used in spite of it.
    pub(crate) severity: Severity,
    /// A stable code.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
    /// The first byte concerned and the byte after the last.
    pub(crate) range: Option<(usize, usize)>,
}

// === impl Finding ===

impl Finding {
    /// Makes an error at a place.
    pub(crate) fn error(
        code: &'static str,
        message: impl Into<String>,
        range: (usize, usize),
    ) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            help: None,
            range: Some(range),
        }
    }

    /// Makes an error about the text as a whole.
    pub(crate) fn unplaced(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            range: None,
            ..Self::error(code, message, (0, 0))
        }
    }

    /// Makes a warning at a place.
    pub(crate) fn warning(
        code: &'static str,
        message: impl Into<String>,
        range: (usize, usize),
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message, range)
        }
    }

    /// Adds what to do about it.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Takes over what Cedar says: its sentence, its help, what it expected, its first label.
    ///
    /// Errors related to this one are not looked at; see [`each`].
    pub(crate) fn from_cedar(
        severity: Severity,
        code: &'static str,
        error: &dyn CedarDiagnostic,
    ) -> Self {
        let label = error.labels().and_then(|mut labels| labels.next());
        let expected = label
            .as_ref()
            .and_then(|label| label.label().map(str::to_owned));
        let help = error.help().map(|help| help.to_string());
        Self {
            severity,
            code,
            message: without_policy(&error.to_string()).to_owned(),
            help: match (expected, help) {
                (Some(expected), Some(help)) => Some(format!("{expected}; {help}")),
                (expected, help) => expected.or(help),
            },
            range: label.map(|label| (label.offset(), label.offset() + label.len())),
        }
    }

    /// Makes a diagnostic without a place.
    pub(crate) fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            severity: self.severity,
            code: self.code.to_owned(),
            message: self.message.clone(),
            help: self.help.clone(),
            policy: None,
            file: None,
            span: None,
        }
    }

    /// Puts the finding in its place: a file, and where in the file the text starts.
    pub(crate) fn place(
        &self,
        policy: Option<&PolicyId>,
        file: &str,
        lines: &Lines<'_>,
        offset: usize,
    ) -> Diagnostic {
        Diagnostic {
            policy: policy.cloned(),
            file: Some(file.to_owned()),
            span: self
                .range
                .map(|(start, end)| lines.span(offset + start, offset + end)),
            ..self.diagnostic()
        }
    }
}

impl From<&Excess> for Finding {
    fn from(excess: &Excess) -> Self {
        Self::error(excess.code, &excess.message, (excess.start, excess.end))
    }
}

/// Shows `visit` an error of Cedar's and every error related to it.
///
/// Cedar's lists of errors show the first as themselves and the others as related.
pub(crate) fn each<'a>(
    error: &'a dyn CedarDiagnostic,
    visit: &mut dyn FnMut(&'a dyn CedarDiagnostic),
) {
    visit(error);
    for related in error.related().into_iter().flatten() {
        each(related, visit);
    }
}

/// Drops the words by which Cedar names the policy, which a diagnostic names in a field of its own.
fn without_policy(message: &str) -> &str {
    let rest = message.strip_prefix("for policy `").unwrap_or(message);
    // The id may hold anything, also what looks like the end of it: the words after it are one of these.
    ["`, ", "`: "]
        .iter()
        .filter_map(|end| rest.split_once(end))
        .map(|(_, sentence)| sentence)
        .max_by_key(|sentence| sentence.len())
        .filter(|_| rest.len() < message.len())
        .unwrap_or(message)
}
