//! The outcome of cases in the JUnit form that build servers read: a suite for each file.

use std::fmt::Write as _;

use remit_engine::CaseOutcome;

use super::place_in;
use crate::cases::Located;

/// Writes the report.
pub(super) fn write(located: &[Located], runs: &[CaseOutcome]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"remit policy test\" {}>\n",
        counts(runs)
    );
    // The cases of a file follow each other.
    let mut rest = runs;
    for suite in located.chunk_by(|a, b| a.file == b.file) {
        let (runs, others) = rest.split_at(suite.len().min(rest.len()));
        rest = others;
        let file = suite.first().map_or("", |first| &first.file);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" {}>",
            xml(file),
            counts(runs)
        );
        for (located, run) in suite.iter().zip(runs) {
            case(&mut text, located, run);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn counts(runs: &[CaseOutcome]) -> String {
    let failed = runs.iter().filter(|run| !run.passed()).count();
    format!(
        "tests=\"{}\" failures=\"{failed}\" errors=\"0\"",
        runs.len()
    )
}

fn case(text: &mut String, located: &Located, run: &CaseOutcome) {
    let file = xml(&located.file);
    let _ = write!(
        text,
        "    <testcase classname=\"{file}\" name=\"{}\" file=\"{file}\"",
        xml(&run.name)
    );
    if let Some(line) = located.line {
        let _ = write!(text, " line=\"{line}\"");
    }
    if run.passed() {
        text.push_str("/>\n");
        return;
    }
    let differences = run.mismatches.iter().map(|failure| {
        format!(
            "{}: expected {}, got {}",
            place_in(failure),
            failure.expected,
            failure.actual
        )
    });
    let differences: Vec<String> = differences.collect();
    let _ = writeln!(
        text,
        ">\n      <failure message=\"{}\"/>\n    </testcase>",
        xml(&differences.join("; "))
    );
}

/// Escapes text for an XML attribute; characters that XML 1.0 cannot hold become U+FFFD.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\r' => escaped.push_str("&#13;"),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            other => escaped.push(other),
        }
    }
    escaped
}
