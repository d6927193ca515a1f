//! An explanation as text: the decision, then each policy with its clauses and the values they saw.

use std::fmt::Write as _;

use remit_core::{Effect, Note};
use remit_engine::{
    ClauseExplanation, ClauseKind, ClauseOutcome, Explanation, PolicyExplanation, PolicyOutcome,
};

use crate::cmd::decisions::verdict;
use crate::output::{Output, Tone, plain};

/// Writes an explanation; without `all`, policies that came to nothing are only named.
pub(super) fn explanation(explanation: &Explanation, all: bool, out: &Output) -> String {
    let decision = &explanation.decision;
    let mut lines = vec![format!(
        "{}  {}: {}",
        verdict(decision.verdict, out),
        decision.reason,
        decision.reason.sentence()
    )];
    lines.extend(
        decision
            .limit
            .iter()
            .map(|limit| format!("  limit: {}", plain(&limit.to_string()))),
    );
    lines.extend(
        decision
            .notes
            .iter()
            .map(|found| format!("  note: {}", plain(&note(found)))),
    );
    let (nothing, told): (Vec<_>, Vec<_>) = explanation
        .candidates
        .iter()
        .partition(|candidate| !all && candidate.outcome == PolicyOutcome::NotSatisfied);
    for candidate in told {
        let decided = decision.determining.contains(&candidate.policy);
        lines.push(String::new());
        lines.extend(policy(candidate, decided, out));
    }
    if !nothing.is_empty() {
        let names: Vec<_> = nothing
            .iter()
            .map(|policy| plain(policy.policy.as_str()))
            .collect();
        let text = format!("\nnot satisfied: {} (--all shows why)", names.join(", "));
        lines.push(out.paint(Tone::Dim, &text));
    }
    if explanation.omitted > 0 {
        lines.push(format!(
            "\nand {} more policies whose scope matches",
            explanation.omitted
        ));
    }
    if !explanation.nearest.is_empty() {
        lines.push(format!("\n{}", out.paint(Tone::Strong, "nearest permits")));
    }
    for near in &explanation.nearest {
        lines.push(String::new());
        lines.extend(policy(&near.explanation, false, out));
        lines.push(out.paint(
            Tone::Dim,
            &format!("    {} of its parts fail", near.failing),
        ));
    }
    lines.join("\n")
}

fn policy(policy: &PolicyExplanation, decided: bool, out: &Output) -> Vec<String> {
    let effect = match policy.effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    };
    let result = match &policy.outcome {
        PolicyOutcome::Satisfied => "satisfied".to_owned(),
        PolicyOutcome::NotSatisfied => "not satisfied".to_owned(),
        PolicyOutcome::Error { message } => format!("error: {}", plain(message)),
    };
    let mut heading = format!(
        "{effect} {}  {result}",
        out.paint(Tone::Strong, &plain(policy.policy.as_str()))
    );
    if policy.shadow {
        heading.push_str(", in shadow mode");
    }
    if let Some(exception) = policy.exception {
        let _ = write!(heading, ", and does not count by exception {exception}");
    }
    if decided {
        heading.push_str(", and settled it");
    }
    let place = format!("{}:{}", plain(&policy.file), policy.line);
    let mut lines = vec![format!("{heading}  {}", out.paint(Tone::Dim, &place))];
    let scope = &policy.scope;
    for part in [&scope.principal, &scope.action, &scope.resource] {
        lines.push(format!(
            "  {} {}",
            mark(part.matched, out),
            plain(&part.wants)
        ));
    }
    for clause in &policy.clauses {
        lines.extend(self::clause(clause, out));
    }
    lines
}

fn clause(clause: &ClauseExplanation, out: &Output) -> Vec<String> {
    let (word, wanted) = match clause.kind {
        ClauseKind::When => ("when", ClauseOutcome::True),
        ClauseKind::Unless => ("unless", ClauseOutcome::False),
    };
    let result = match &clause.outcome {
        ClauseOutcome::True => "true".to_owned(),
        ClauseOutcome::False => "false".to_owned(),
        ClauseOutcome::Error { message } => format!("error: {}", plain(message)),
        ClauseOutcome::NotReached => "not reached".to_owned(),
    };
    // A clause may be written over several lines; here it is one.
    let text = plain(&clause.text.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut lines = vec![format!(
        "  {} {word} {{ {text} }}  {result}",
        mark(clause.outcome == wanted, out)
    )];
    for seen in &clause.values {
        let value = seen
            .value
            .as_deref()
            .map_or_else(|| "not there".to_owned(), plain);
        lines.push(out.paint(
            Tone::Dim,
            &format!("      {} = {value}", plain(&seen.expression)),
        ));
    }
    lines
}

fn mark(good: bool, out: &Output) -> String {
    if good {
        out.paint(Tone::Good, "✓")
    } else {
        out.paint(Tone::Bad, "✗")
    }
}

/// Writes a note as a sentence.
fn note(note: &Note) -> String {
    match note {
        Note::Undeclared { member } => {
            format!("`{member}` is not in the schema, and no policy saw it")
        }
        Note::NotAssertable { member } => {
            format!("`{member}` may not be asserted; the stored value stands")
        }
        Note::Mistyped { member, expected } => format!("`{member}` is not {expected}"),
        Note::Missing { member } => format!("`{member}` is missing"),
        Note::NotStored { entity } => format!("{entity} is not stored"),
    }
}
