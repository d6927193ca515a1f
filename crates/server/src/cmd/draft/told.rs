//! How drafts are shown to people.

use std::collections::BTreeMap;

use remit_core::{Bundle, PolicyId};
use serde::Deserialize;
use serde_json::Value;

use super::{Head, Saved, Whole};
use crate::cmd::policy_impact::decisions;
use crate::diagnostics::Found;
use crate::error::Error;
use crate::output::{Output, plain};

/// What came of a check.
#[derive(Deserialize)]
struct Check {
    valid: bool,
    errors: u64,
    warnings: u64,
    cases: Cases,
    #[serde(default)]
    loosens: Option<bool>,
}

#[derive(Deserialize)]
struct Cases {
    passed: u64,
    failed: u64,
}

/// What it would have changed.
#[derive(Deserialize)]
struct Impact {
    replayed: u64,
    unchanged: u64,
    not_replayable: u64,
    totals: BTreeMap<String, u64>,
}

/// Says in one line what was found out; what this program does not know is shown as it is.
fn result(name: &str, found: &Value) -> String {
    let known = match name {
        "check" => Check::deserialize(found).ok().map(|check| check.line()),
        "impact" => Impact::deserialize(found).ok().map(|impact| impact.line()),
        _ => None,
    };
    known.unwrap_or_else(|| format!("{} {}", plain(name), plain(&found.to_string())))
}

fn counted(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

// === impl Check ===

impl Check {
    fn line(&self) -> String {
        let accepted = if self.valid { "accepted" } else { "refused" };
        let loosens = match self.loosens {
            Some(true) => "it loosens",
            Some(false) => "it does not loosen",
            None => "whether it loosens is not known",
        };
        let Cases { passed, failed } = self.cases;
        let errors = counted(self.errors, "error");
        let warnings = counted(self.warnings, "warning");
        format!(
            "checked: would be {accepted}, {passed} of {} cases passed, {errors}, {warnings}; {loosens}",
            passed + failed
        )
    }
}

// === impl Impact ===

impl Impact {
    fn line(&self) -> String {
        let mut parts = vec![format!("{} the same", self.unchanged)];
        let totals = self.totals.iter().filter(|(_, count)| **count > 0);
        parts.extend(
            totals.map(|(name, count)| format!("{count} {}", plain(name).replace('_', " "))),
        );
        format!(
            "impact: {} made again, {}, {} not replayable",
            decisions(self.replayed),
            parts.join(", "),
            self.not_replayable
        )
    }
}

// === impl Head ===

impl Head {
    pub(super) fn cells(&self) -> Vec<String> {
        let base = self
            .base
            .map_or_else(|| "-".to_owned(), |base| base.to_string());
        let authors: Vec<&str> = self.authors.iter().map(String::as_str).collect();
        vec![
            plain(&self.name),
            self.version.to_string(),
            plain(&self.state),
            if self.behind {
                format!("{base}, behind")
            } else {
                base
            },
            plain(&authors.join(", ")),
            self.updated_at.to_string(),
            self.message.as_deref().map_or_else(String::new, plain),
        ]
    }

    fn line(&self) -> String {
        let behind = if self.behind {
            ", behind what is in force"
        } else {
            ""
        };
        let base = self
            .base
            .map_or_else(|| "nothing".to_owned(), |base| format!("revision {base}"));
        format!(
            "{} ({}): {}, version {}, over {base}{behind}",
            plain(&self.name),
            plain(&self.id),
            plain(&self.state),
            self.version
        )
    }
}

// === impl Saved ===

impl Saved {
    /// Says what was saved, and what is wrong with it.
    pub(super) fn tell(&self, bundle: &Bundle, out: &Output) -> Result<(), Error> {
        if !out.is_machine() {
            out.diagnostics(&Found::new(self.diagnostics.clone(), bundle));
        }
        out.value(self, |saved| {
            let compiles = if saved.compiles {
                ""
            } else {
                "; it does not compile"
            };
            format!("{}{compiles}", saved.head.line())
        })
    }
}

// === impl Whole ===

impl Whole {
    pub(super) fn text(&self) -> String {
        let mut lines = vec![self.head.line()];
        let authors: Vec<&str> = self.head.authors.iter().map(String::as_str).collect();
        lines.push(format!("written by {}", plain(&authors.join(", "))));
        // One that was discarded changes nothing.
        if let Some(changes) = &self.differences {
            let ids = |what: &str, ids: &[PolicyId]| {
                let ids = ids.iter();
                ids.map(|id| format!("{what} policy {}", plain(id.as_str())))
                    .collect::<Vec<_>>()
            };
            lines.extend(ids("added", &changes.added));
            lines.extend(ids("changed", &changes.changed));
            lines.extend(ids("removed", &changes.removed));
            for part in &changes.parts {
                // What is written as JSON is one word in quotes.
                let part = serde_json::to_string(part).unwrap_or_default();
                lines.push(format!("changed {}", part.trim_matches('"')));
            }
            for file in &changes.unreadable {
                lines.push(format!("unreadable {}", plain(file)));
            }
        }
        for (name, found) in &self.results {
            lines.push(result(name, found));
        }
        for review in &self.reviews {
            let message = review
                .message
                .as_deref()
                .map_or_else(String::new, |message| format!(": {}", plain(message)));
            let (who, verdict) = (plain(&review.principal), plain(&review.verdict));
            lines.push(format!("{verdict} by {who} at {}{message}", review.at));
        }
        lines.join("\n")
    }
}
