//! What cases cover of a bundle, as a table and as a figure to be held to.

use std::fmt;

use remit_core::Effect;
use remit_engine::{ClauseKind, Coverage, PolicyCoverage, Seen};
use serde::Serialize;

use crate::output::{Output, Tone, plain};

/// The longest text of a clause that is shown in the table, in characters.
const SHOWN: usize = 70;

/// What was covered, policy by policy.
#[derive(Debug, Serialize)]
pub(super) struct Covered {
    /// How many points were seen.
    seen: usize,
    /// How many there are: one for each policy satisfied, two for each clause and term, true and false.
    points: usize,
    /// The part that was seen, in percent, rounded down to a tenth.
    percent: f64,
    /// What was asked for, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<u8>,
    policies: Vec<PolicyCoverage>,
}

// === impl Covered ===

impl Covered {
    /// Takes the figures of what was covered.
    pub(super) fn of(coverage: &Coverage, minimum: Option<u8>) -> Self {
        let (seen, points) = coverage.points();
        Self {
            seen,
            points,
            percent: f64::from(tenths(seen, points)) / 10.0,
            minimum,
            policies: coverage.policies().to_vec(),
        }
    }

    /// Says how much is missing, where less is covered than was asked for.
    pub(super) fn short_of(&self) -> Option<String> {
        let minimum = usize::from(self.minimum?);
        let enough = self.seen * 100 >= minimum * self.points;
        (!enough).then(|| format!("{} % are covered, {minimum} % were asked for", self.percent))
    }

    /// Lays out what each policy, clause and term came to.
    pub(super) fn table(&self, out: &Output) -> String {
        let mut rows = Vec::new();
        for policy in &self.policies {
            let effect = match policy.effect {
                Effect::Permit => "permit",
                Effect::Forbid => "forbid",
            };
            let mode = if policy.shadow { ", shadow" } else { "" };
            let name = format!("{} ({effect}{mode})", policy.policy);
            // Whether a policy without clauses is ever not satisfied is up to its scope.
            let missing = if policy.seen.held == 0 {
                "never satisfied"
            } else {
                ""
            };
            rows.push(row(&name, &policy.seen, missing, out));
            for clause in &policy.clauses {
                let kind = match clause.kind {
                    ClauseKind::When => "when",
                    ClauseKind::Unless => "unless",
                };
                let text = format!("  {kind} {}", shown(&clause.text));
                rows.push(row(&text, &clause.seen, missing_of(&clause.seen), out));
                for term in &clause.terms {
                    let text = format!("    · {}", shown(&term.text));
                    rows.push(row(&text, &term.seen, missing_of(&term.seen), out));
                }
            }
        }
        out.table(
            &["policy", "reached", "true", "false", "error", "missing"],
            &rows,
        )
    }
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seen,
            points,
            percent,
            ..
        } = self;
        write!(f, "{percent} % covered ({seen} of {points} points)")
    }
}

fn row(name: &str, seen: &Seen, missing: &str, out: &Output) -> Vec<String> {
    let count = |count: u64| count.to_string();
    vec![
        plain(name),
        count(seen.reached),
        count(seen.held),
        count(seen.failed),
        count(seen.errors),
        out.paint(Tone::Warn, missing),
    ]
}

fn missing_of(seen: &Seen) -> &'static str {
    match (seen.held, seen.failed) {
        (0, 0) => "never true, never false",
        (0, _) => "never true",
        (_, 0) => "never false",
        _ => "",
    }
}

/// Puts a clause on one line.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Returns a part in tenths of a percent, rounded down; all of nothing is all.
fn tenths(part: usize, whole: usize) -> u32 {
    let tenths = (part * 1_000).checked_div(whole).unwrap_or(1_000);
    u32::try_from(tenths).unwrap_or(1_000)
}
