//! Narrowing: the call that a policy would not forbid, made as it says and decided again.

use std::cmp::Ordering;

use remit_core::{CallFacts, Decision, Facts, Modify, Question, Reason, Spending, Verdict};
use serde_json::{Map, Value, json};

use crate::Snapshot;
use crate::rule::Narrowing;

// === impl Snapshot ===

impl Snapshot {
    /// Adds to a denial the narrower call that would be permitted as it stands, where the policies that forbid this one say how
    /// to narrow it; the denial stays one.
    pub(super) fn with_narrower(
        &self,
        question: &Question,
        facts: &Facts,
        decision: Decision,
    ) -> Decision {
        let modify = match decision.reason {
            Reason::PolicyForbid | Reason::ApprovalRequired | Reason::DelegationDenied => {
                self.narrower(question, facts, &decision)
            }
            _ => None,
        };
        Decision { modify, ..decision }
    }

    fn narrower(&self, question: &Question, facts: &Facts, decision: &Decision) -> Option<Modify> {
        let policies = &self.rules().program.policies;
        let determining = decision.determining.iter().filter_map(|id| {
            let place = policies.binary_search_by(|policy| policy.id.cmp(id));
            policies.get(place.ok()?)
        });
        let mut narrowings: Vec<&Narrowing> = determining
            .flat_map(|policy| &policy.terms.modify)
            .collect();
        if narrowings.is_empty() {
            return None;
        }
        narrowings.sort();
        narrowings.dedup();
        let mut narrowed = question.clone();
        let arguments = &mut narrowed.action.properties;
        narrowings.retain(|narrowing| narrowing.narrow(arguments));
        if narrowings.is_empty() {
            return None;
        }
        let facts = facts_of(&narrowed, facts)?;
        let again = self.answer(&narrowed, &facts, false, &mut Vec::new());
        (again.verdict == Verdict::Permit).then(|| Modify {
            narrowings: sorted(narrowings),
            properties: narrowed.action.properties,
        })
    }
}

// === impl Narrowing ===

impl Narrowing {
    /// Narrows the arguments of a call; says whether that changed them.
    fn narrow(&self, arguments: &mut Map<String, Value>) -> bool {
        match self {
            Self::Cap(argument, most) => {
                let Some(value) = arguments.get_mut(argument) else {
                    return false;
                };
                let above = exceeds(value, *most);
                if above {
                    *value = json!(most);
                }
                above
            }
            Self::Drop(argument) => arguments.remove(argument).is_some(),
            Self::Redact(argument) => match arguments.get_mut(argument) {
                Some(Value::String(text)) if !text.is_empty() => {
                    text.clear();
                    true
                }
                _ => false,
            },
        }
    }
}

fn sorted(narrowings: Vec<&Narrowing>) -> Vec<String> {
    let mut texts: Vec<String> = narrowings.into_iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

/// Whether a value is a number above another.
fn exceeds(value: &Value, most: i64) -> bool {
    let Value::Number(number) = value else {
        return false;
    };
    if let Some(whole) = number.as_i64() {
        return whole > most;
    }
    // Between 2^63 and 2^64 everything is above; a fraction is compared as the double it is.
    number.is_u64()
        || number.as_f64().is_some_and(|double| {
            let whole = double.floor();
            #[expect(
                clippy::cast_precision_loss,
                reason = "what the rounding hides is decided again, and denied"
            )]
            let most = most as f64;
            match whole.partial_cmp(&most) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => double > whole,
                _ => false,
            }
        })
}

/// Returns the facts of a narrowed call, for which nobody has approved anything; nothing where it is nowhere narrower, or
/// somewhere wider.
fn facts_of(narrowed: &Question, facts: &Facts) -> Option<Facts> {
    let call = match &facts.call {
        None => None,
        Some(before) => {
            let labels = facts.task.as_ref().map(|task| &task.labels);
            let now = CallFacts::of(narrowed, facts.tool.as_ref(), labels);
            let charges = before.charges.map(|charges| Spending {
                amount: now.charges.map_or(charges.amount, |charges| charges.amount),
                ..charges
            });
            let within = now.sinks.is_subset(&before.sinks)
                && now.links.is_subset(&before.links)
                && charges.map(|charges| charges.amount)
                    <= before.charges.map(|charges| charges.amount);
            let call = CallFacts {
                charges,
                digest: now.digest,
                links: now.links,
                sinks: now.sinks,
                ..before.clone()
            };
            Some(within.then_some(call)?)
        }
    };
    Some(Facts {
        approval: None,
        approved: false,
        call,
        ..facts.clone()
    })
}
