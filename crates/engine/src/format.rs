//! Formatting: policies in the one layout of Cedar's own formatter.

use cedar_policy_core::parser::parse_policyset;
use cedar_policy_formatter::{Config, policies_str_to_pretty};

use crate::diagnostic::{CompileError, Diagnostic, Lines};
use crate::finding::Finding;
use crate::guard;
use crate::rule::cedar_errors;
use crate::stack::on_large_stack;

/// The width of a line, in columns, beyond which an expression is broken.
const LINE_WIDTH: usize = 100;
/// The columns by which a line is indented.
const INDENT_WIDTH: isize = 2;

/// Lays out policies anew and keeps their comments; the meaning does not change, which is checked.
///
/// The text need not be valid against any schema and its policies need no `@id`. Formatting twice is formatting once.
///
/// # Errors
///
/// [`CompileError`] when the text is beyond the limits of a policy file or does not parse.
pub fn format_policies(text: &str) -> Result<String, CompileError> {
    if text.len() > guard::BUNDLE_BYTES {
        let message = format!(
            "the text has {} bytes, the most is {}",
            text.len(),
            guard::BUNDLE_BYTES
        );
        return Err(CompileError {
            diagnostics: vec![Diagnostic::error("bundle_too_large", message)],
        });
    }
    let (_, excesses) = guard::split(text);
    if !excesses.is_empty() {
        return Err(refused(
            text,
            &excesses.iter().map(Finding::from).collect::<Vec<_>>(),
        ));
    }
    on_large_stack(|| {
        parse_policyset(text)
            .map_err(|error| refused(text, &cedar_errors("parse_error", &error)))?;
        let config = Config {
            line_width: LINE_WIDTH,
            indent_width: INDENT_WIDTH,
        };
        policies_str_to_pretty(text, &config).map_err(|report| CompileError {
            diagnostics: vec![Diagnostic::error("internal", report.to_string())],
        })
    })
}

fn refused(text: &str, findings: &[Finding]) -> CompileError {
    let lines = Lines::new(text);
    let placed = |finding: &Finding| Diagnostic {
        span: finding.range.map(|(start, end)| lines.span(start, end)),
        ..finding.diagnostic()
    };
    CompileError {
        diagnostics: findings.iter().map(placed).collect(),
    }
}

#[cfg(test)]
mod tests;
