//! Explaining: what every policy that bears on a question saw, clause by clause.
//!
//! Off the hot path: an explanation evaluates each clause by itself and prints values, and for a default deny looks at
//! every permit of the bundle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use remit_core::{Decision, Effect, ExceptionId, Facts, PolicyId, Question, Reason};
use serde::{Deserialize, Serialize};

use crate::Snapshot;
use crate::decide::Asked;
use crate::policy::CompiledPolicy;
use crate::shape::Shaped;

pub(crate) mod clauses;
mod scope;

/// The most candidates that are written out.
const CANDIDATES: usize = 1_000;
/// The most permits whose clauses are evaluated in search of the nearest.
const EVALUATED: usize = 1_000;
/// The most nearest permits.
const NEAREST: usize = 5;

/// A decision with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The decision, as [`Snapshot::decide`] gives it.
    pub decision: Decision,
    /// The policies whose scope the question satisfies: those that determined the decision first, then by id.
    pub candidates: Vec<PolicyExplanation>,
    /// How many candidates beyond the first 1,000 are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// For a deny because no policy permits: the permits with the fewest failing parts, at most five, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearestPermit>,
}

/// What one policy made of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyExplanation {
    /// Which policy.
    pub policy: PolicyId,
    /// What it does when it is satisfied.
    pub effect: Effect,
    /// Whether it is in shadow mode, and so has no part in the decision.
    pub shadow: bool,
    /// What came of it.
    pub outcome: PolicyOutcome,
    /// The exception because of which it does not count although it is satisfied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<ExceptionId>,
    /// The file it stands in; its template's, for a link.
    pub file: String,
    /// The line it starts on.
    pub line: usize,
    /// Its head, part by part.
    pub scope: ScopeExplanation,
    /// Its clauses in their order; a `when` whose conditions are joined by `&&` is one clause for each of them.
    pub clauses: Vec<ClauseExplanation>,
}

/// What came of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum PolicyOutcome {
    /// Its scope and all its clauses hold.
    Satisfied,
    /// Its scope or a clause does not hold.
    NotSatisfied,
    /// It could not be evaluated.
    Error {
        /// Cedar's message.
        message: String,
    },
}

/// The head of a policy, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeExplanation {
    /// What it wants of the principal.
    pub principal: ScopePart,
    /// What it wants of the action.
    pub action: ScopePart,
    /// What it wants of the resource.
    pub resource: ScopePart,
}

/// One part of a policy's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopePart {
    /// Whether the question satisfies it.
    pub matched: bool,
    /// What it says, such as `principal in Team::"payments"`.
    pub wants: String,
}

/// One clause of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClauseExplanation {
    /// Whether it must be true or must be false.
    pub kind: ClauseKind,
    /// Its text as written, without the word before it and without its braces.
    pub text: String,
    /// What it came to.
    pub outcome: ClauseOutcome,
    /// What it read, in the order of reading; at most 64 values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<SeenValue>,
}

/// Whether a clause must be true or must be false for its policy to be satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClauseKind {
    /// It must be true.
    When,
    /// It must be false.
    Unless,
}

/// What the text of one clause came to; for an `unless`, `false` is what the policy wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ClauseOutcome {
    /// It is true.
    True,
    /// It is false.
    False,
    /// It could not be evaluated.
    Error {
        /// Cedar's message.
        message: String,
    },
    /// It makes sense only where a clause before it holds, and that one does not.
    NotReached,
}

/// One thing that a clause read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenValue {
    /// What was read, such as `context.amount`.
    pub expression: String,
    /// Its value, printed as in a policy and cut after 1,000 characters; absent when there is none to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A permit that was not given, and how far the question was from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearestPermit {
    /// How many parts of its scope and clauses do not hold.
    pub failing: usize,
    /// The permit.
    #[serde(flatten)]
    pub explanation: PolicyExplanation,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

// === impl Snapshot ===

impl Snapshot {
    /// Answers a question as [`Snapshot::decide`] does, and says what every policy that bears on it saw.
    ///
    /// A question that no policy is evaluated for, such as one about an unknown action, has no candidates. Call it on a
    /// thread with [`EVALUATION_STACK`](crate::EVALUATION_STACK) bytes of stack.
    pub fn explain(&self, question: &Question, facts: &Facts) -> Explanation {
        let mut explanation = Explanation {
            decision: self.decide(question, facts),
            candidates: Vec::new(),
            omitted: 0,
            nearest: Vec::new(),
        };
        // The notes are in the decision already.
        let explained = catch_unwind(AssertUnwindSafe(|| {
            let asked = self.ask(question, facts, &mut Vec::new()).ok()?;
            let nearest = match explanation.decision.reason {
                Reason::NoPermit => self.nearest(&asked.shaped),
                _ => Vec::new(),
            };
            Some((
                self.candidates(&asked, question, facts, &explanation.decision),
                asked.candidates.len(),
                nearest,
            ))
        }));
        if let Ok(Some((candidates, all, nearest))) = explained {
            explanation.omitted = all - candidates.len();
            explanation.candidates = candidates;
            explanation.nearest = nearest;
        }
        explanation
    }

    fn candidates(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        facts: &Facts,
        decision: &Decision,
    ) -> Vec<PolicyExplanation> {
        let policies = &self.rules().program.policies;
        let mut candidates: Vec<_> = asked
            .candidates
            .iter()
            .filter_map(|place| Some((*place, policies.get(*place)?)))
            .collect();
        // They come by id, and so do the determining ones.
        candidates
            .sort_by_key(|(_, policy)| decision.determining.binary_search(&policy.id).is_err());
        let evaluator = asked.evaluator(self.seen_in(asked, question, facts, decision));
        let shown = candidates.into_iter().take(CANDIDATES);
        shown
            .map(|(place, policy)| {
                let scope = self.scope(policy, &asked.shaped);
                let explained = clauses::explain(policy, scope, &evaluator);
                let satisfied = explained.outcome == PolicyOutcome::Satisfied;
                let exception = self.relaxed_by(place, question, facts);
                PolicyExplanation {
                    exception: exception.filter(|_| satisfied && !policy.shadow),
                    ..explained
                }
            })
            .collect()
    }

    /// Finds the permits that fail in the fewest parts.
    ///
    /// Scopes are compared for every permit; clauses are evaluated from the best scopes on, until no other permit can
    /// be nearer. A permit for another principal, another action and another resource is near to nothing.
    fn nearest(&self, shaped: &Shaped<'_>) -> Vec<NearestPermit> {
        let policies = &self.rules().program.policies;
        let mut by_scope: [Vec<(usize, &CompiledPolicy)>; 3] = Default::default();
        for (place, policy) in policies.iter().enumerate() {
            if policy.effect == Effect::Permit && !policy.shadow {
                let failing = self.mismatches(policy, shaped);
                if let Some(same) = by_scope.get_mut(failing) {
                    same.push((place, policy));
                }
            }
        }
        let mut found: Vec<NearestPermit> = Vec::new();
        let mut left = EVALUATED;
        for (failing_scope, same) in by_scope.into_iter().enumerate() {
            if found
                .get(NEAREST - 1)
                .is_some_and(|last| last.failing <= failing_scope)
            {
                break;
            }
            let examined = same.len().min(left);
            left -= examined;
            found.extend(
                same.into_iter()
                    .take(examined)
                    .filter_map(|(place, policy)| {
                        let explanation = self.alone(place, policy, shaped)?;
                        let clauses = explanation.clauses.iter().filter(|clause| !clause.holds());
                        let failing = failing_scope + clauses.count();
                        Some(NearestPermit {
                            failing,
                            explanation,
                        })
                    }),
            );
            // Stable, so that equals stay in the order of their ids.
            found.sort_by_key(|permit| permit.failing);
            found.truncate(NEAREST);
        }
        found
    }

    /// Explains one policy whose scope the question need not satisfy, over the entities that it can look at.
    fn alone(
        &self,
        place: usize,
        policy: &CompiledPolicy,
        shaped: &Shaped<'_>,
    ) -> Option<PolicyExplanation> {
        let asked = Asked {
            shaped: shaped.clone(),
            candidates: Vec::new(),
            entities: self.slice(shaped, &[place]).ok()?,
        };
        let evaluator = asked.evaluator(Arc::clone(&shaped.context));
        Some(clauses::explain(
            policy,
            self.scope(policy, shaped),
            &evaluator,
        ))
    }
}

// === impl ScopeExplanation ===

impl ScopeExplanation {
    /// Says whether every part is matched.
    pub fn matched(&self) -> bool {
        self.principal.matched && self.action.matched && self.resource.matched
    }
}

// === impl ClauseExplanation ===

impl ClauseExplanation {
    /// Says whether the clause came to what its policy wants: true for a `when`, false for an `unless`.
    pub fn holds(&self) -> bool {
        match self.kind {
            ClauseKind::When => self.outcome == ClauseOutcome::True,
            ClauseKind::Unless => self.outcome == ClauseOutcome::False,
        }
    }
}

#[cfg(test)]
mod tests;
