//! How the demo looks: aligned lines of at most 100 columns, plain where there is no colour.

use remit_core::{Effect, PolicyId, Reason};
use remit_engine::{ClauseExplanation, ClauseKind, ClauseOutcome, Explanation, PolicyOutcome};

use super::Label;
use super::story::Call;
use crate::output::{Output, Tone};

/// The columns of one call: what is called, verdict, reason; the policy after them is short.
const CALL: usize = 37;
const VERDICT: usize = 6;
const REASON: usize = 17;
/// The columns of one part of a policy: what it came to, and the word before it.
const RESULT: usize = 7;
const KIND: usize = 7;
/// Where its text begins.
const TEXT: usize = 4 + RESULT + KIND + 1;
/// The widest line.
const COLUMNS: usize = 100;

/// Writes the heading of one step.
pub(super) fn heading(out: &Output, number: usize, title: &str, aside: &str) -> String {
    format!(
        "\n{}  {}",
        out.paint(Tone::Strong, &format!("{number}  {title}")),
        out.paint(Tone::Dim, aside)
    )
}

/// Writes one call with its answer.
pub(super) fn call(
    out: &Output,
    call: &Call,
    permitted: bool,
    reason: Reason,
    policies: &[PolicyId],
) -> String {
    let called = format!("{} → {}", call.tool, call.about);
    let (word, tone) = match (permitted, reason) {
        (true, _) => ("permit", Tone::Good),
        (false, Reason::ApprovalRequired) => ("deny", Tone::Warn),
        (false, _) => ("deny", Tone::Bad),
    };
    let because = match policies {
        [] => "–".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} +{}", rest.len()),
    };
    format!(
        "  {called:<CALL$}  {}  {:<REASON$}  {because}",
        out.paint(tone, &format!("{word:<VERDICT$}")),
        reason.code(),
    )
}

/// Writes what a task has touched, and by which decision.
pub(super) fn labels(out: &Output, labels: &[Label]) -> String {
    let lines = labels.iter().map(|found| {
        format!(
            "  {:<10}  {}",
            out.paint(Tone::Warn, &found.label),
            out.paint(Tone::Dim, &format!("set by decision {}", found.decision))
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes a remark, broken into lines.
pub(super) fn remark(out: &Output, indent: usize, text: &str) -> String {
    let lines = wrapped(text, COLUMNS - indent);
    let lines = lines
        .iter()
        .map(|line| format!("{:indent$}{}", "", out.paint(Tone::Dim, line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes the policies that settled a decision, clause by clause, and names the others in scope.
pub(super) fn explanation(out: &Output, explanation: &Explanation) -> String {
    let decision = &explanation.decision;
    let (settled, others): (Vec<_>, Vec<_>) = explanation
        .candidates
        .iter()
        .partition(|policy| decision.determining.contains(&policy.policy));
    let mut lines = Vec::new();
    for policy in settled {
        let effect = effect(policy.effect);
        let place = out.paint(
            Tone::Dim,
            &format!("policies/agent-baseline/{}:{}", policy.file, policy.line),
        );
        lines.push(format!(
            "  {effect} {}  {place}",
            out.paint(Tone::Bad, policy.policy.as_str())
        ));
        let scope = &policy.scope;
        for part in [&scope.principal, &scope.action, &scope.resource] {
            // A part that takes anything says nothing.
            if part.wants.contains(' ') {
                lines.push(row(out, "true", "", &part.wants));
            }
        }
        policy
            .clauses
            .iter()
            .for_each(|found| lines.extend(clause(out, found)));
        let demands = decision
            .obligations
            .iter()
            .filter(|demand| demand.policy == policy.policy);
        for advice in demands.filter_map(|demand| demand.annotations.get("advice")) {
            lines.push(row(out, "", "advice", advice));
        }
    }
    let permits: Vec<&str> = others
        .iter()
        .filter(|other| other.effect == Effect::Permit && other.outcome == PolicyOutcome::Satisfied)
        .map(|other| other.policy.as_str())
        .collect();
    lines.push(remark(
        out,
        2,
        &format!(
            "{} more are in scope; without the above, `{}` would permit it.",
            others.len(),
            permits.join("`, `")
        ),
    ));
    lines.join("\n")
}

/// Writes a line of another program's, below the command; no wider than the others.
pub(super) fn quoted(line: &str) -> String {
    const INDENT: usize = 4;
    let room = COLUMNS - INDENT;
    if line.chars().count() <= room {
        return format!("{:INDENT$}{line}", "");
    }
    // What was aligned stays so as far as it goes; what is too wide is broken between words.
    let own = line.chars().take_while(|letter| *letter == ' ').count();
    let lines = wrapped(line, room.saturating_sub(own + 2));
    let indent = INDENT + own;
    let lines = lines.iter().enumerate().map(|(place, line)| {
        let indent = if place == 0 { indent } else { indent + 2 };
        format!("{:indent$}{line}", "")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn clause(out: &Output, clause: &ClauseExplanation) -> Vec<String> {
    let kind = match clause.kind {
        ClauseKind::When => "when",
        ClauseKind::Unless => "unless",
    };
    let result = match clause.outcome {
        ClauseOutcome::True => "true",
        ClauseOutcome::False => "false",
        ClauseOutcome::Error { .. } => "error",
        ClauseOutcome::NotReached => "–",
    };
    let mut lines = vec![row(out, result, kind, &clause.text)];
    for seen in &clause.values {
        let value = seen.value.as_deref().unwrap_or("not there");
        lines.push(remark(out, TEXT, &format!("{} = {value}", seen.expression)));
    }
    lines
}

/// Writes what one part of a policy came to: the result, the word before it, and its text.
fn row(out: &Output, result: &str, kind: &str, text: &str) -> String {
    let text = wrapped(text, COLUMNS - TEXT).join(&format!("\n{:TEXT$}", ""));
    format!(
        "    {}{} {text}",
        out.paint(Tone::Strong, &format!("{result:<RESULT$}")),
        out.paint(Tone::Dim, &format!("{kind:<KIND$}"))
    )
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

/// Breaks text into lines of at most `width` characters, between words.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| {
            !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width
        });
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
