//! Coverage: what every policy and clause came to while cases were run.
//!
//! Counted is what an evaluation reaches: a clause after one that does not hold is not evaluated, nor is an alternative
//! after one that is true. So a clause that was seen true and seen false has made a difference at least once. Noting
//! this is a second evaluation beside the decision, and has no part in it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cedar_policy_core::ast::{Expr, ExprKind};
use cedar_policy_core::evaluator::Evaluator;
use remit_core::{Decision, Effect, Facts, PolicyId, Question};
use serde::Serialize;

use crate::Snapshot;
use crate::decide::{Outcome, evaluate};
use crate::explain::ClauseKind;
use crate::explain::clauses::split;
use crate::parts::{conjuncts, disjuncts, written};
use crate::policy::CompiledPolicy;

/// What the policies of one bundle came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    policies: Vec<PolicyCoverage>,
}

/// What one policy came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyCoverage {
    /// Which policy.
    pub policy: PolicyId,
    /// What it does when it is satisfied.
    pub effect: Effect,
    /// Whether it is in shadow mode.
    pub shadow: bool,
    /// The file it stands in; its template's, for a link.
    pub file: String,
    /// The line it starts on.
    pub line: usize,
    /// How often its scope matched, and what it came to then: true is satisfied.
    #[serde(flatten)]
    pub seen: Seen,
    /// Its clauses in their order; a `when` whose conditions are joined by `&&` is one clause for each of them.
    pub clauses: Vec<ClauseCoverage>,
}

/// What one clause came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClauseCoverage {
    /// Whether it must be true or must be false.
    pub kind: ClauseKind,
    /// Its text as written.
    pub text: String,
    /// What it came to.
    #[serde(flatten)]
    pub seen: Seen,
    /// What `||`, or in an `unless` `&&`, joins in it; empty where nothing is joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermCoverage>,
}

/// What one term of a clause came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermCoverage {
    /// Its text as written.
    pub text: String,
    /// What it came to.
    #[serde(flatten)]
    pub seen: Seen,
}

/// How often something was evaluated, and what it came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// How often it was evaluated.
    pub reached: u64,
    /// How often it was true.
    #[serde(rename = "true")]
    pub held: u64,
    /// How often it was false.
    #[serde(rename = "false")]
    pub failed: u64,
    /// How often it could not be evaluated.
    #[serde(rename = "error")]
    pub errors: u64,
}

// === impl Coverage ===

impl Coverage {
    /// Begins with nothing seen of the policies of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let policies = snapshot.rules().program.policies.iter();
        Self {
            policies: policies.map(|policy| PolicyCoverage::of(policy)).collect(),
        }
    }

    /// Returns what was seen of each policy, by id.
    pub fn policies(&self) -> &[PolicyCoverage] {
        &self.policies
    }

    /// Counts the points there are, and those that were seen: each policy satisfied, each clause and term true and false.
    pub fn points(&self) -> (usize, usize) {
        let points = self.policies.iter().map(PolicyCoverage::points);
        points.fold((0, 0), |(seen, all), (s, a)| (seen + s, all + a))
    }

    /// Notes what a question comes to, where it was decided. The snapshot has the policies this was begun for, over whatever entities.
    pub(crate) fn see(
        &mut self,
        snapshot: &Snapshot,
        question: &Question,
        facts: &Facts,
        decision: &Decision,
    ) {
        // What was counted before a panic stays; the decision has its own reason then.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let Ok(asked) = snapshot.ask(question, facts, &mut Vec::new()) else {
                return;
            };
            let context = snapshot.seen_in(&asked, question, facts, decision);
            let evaluator = asked.evaluator(context);
            let policies = &snapshot.rules().program.policies;
            for place in &asked.candidates {
                if let (Some(policy), Some(seen)) =
                    (policies.get(*place), self.policies.get_mut(*place))
                {
                    seen.see(policy, &evaluator);
                }
            }
        }));
    }
}

// === impl PolicyCoverage ===

impl PolicyCoverage {
    fn of(policy: &CompiledPolicy) -> Self {
        let clauses = policy.body.as_deref().map(|body| split(body, &policy.text));
        let clauses = clauses.unwrap_or_default().into_iter();
        Self {
            policy: policy.id.clone(),
            effect: policy.effect,
            shadow: policy.shadow,
            file: policy.file.to_string(),
            line: policy.span.start_line,
            seen: Seen::default(),
            clauses: clauses
                .map(|clause| ClauseCoverage {
                    kind: clause.kind,
                    text: written(clause.expr, &policy.text),
                    seen: Seen::default(),
                    terms: terms(clause.expr)
                        .into_iter()
                        .map(|term| TermCoverage {
                            text: written(term, &policy.text),
                            seen: Seen::default(),
                        })
                        .collect(),
                })
                .collect(),
        }
    }

    /// Counts the points that were seen and those there are.
    pub fn points(&self) -> (usize, usize) {
        let both = |seen: &Seen| usize::from(seen.held > 0) + usize::from(seen.failed > 0);
        let clauses = self.clauses.iter();
        let parts = clauses.flat_map(|clause| {
            let terms = clause.terms.iter().map(|term| &term.seen);
            terms.chain([&clause.seen])
        });
        parts.fold((usize::from(self.seen.held > 0), 1), |(seen, all), part| {
            (seen + both(part), all + 2)
        })
    }

    fn see(&mut self, policy: &CompiledPolicy, evaluator: &Evaluator<'_>) {
        let Some(body) = policy.body.as_deref() else {
            self.seen.add(&Outcome::Satisfied);
            return;
        };
        self.seen.add(&evaluate(body, evaluator));
        for (clause, seen) in split(body, &policy.text).into_iter().zip(&mut self.clauses) {
            let outcome = evaluate(clause.expr, evaluator);
            seen.seen.add(&outcome);
            // What ends the evaluation of the terms.
            let last = match clause.expr.expr_kind() {
                ExprKind::Or { .. } => Outcome::Satisfied,
                _ => Outcome::Unsatisfied,
            };
            for (term, seen) in terms(clause.expr).into_iter().zip(&mut seen.terms) {
                let outcome = evaluate(term, evaluator);
                seen.seen.add(&outcome);
                if outcome == last || matches!(outcome, Outcome::Error(_)) {
                    break;
                }
            }
            let holds = match clause.kind {
                ClauseKind::When => Outcome::Satisfied,
                ClauseKind::Unless => Outcome::Unsatisfied,
            };
            if outcome != holds {
                break;
            }
        }
    }
}

/// Takes a clause apart at its outermost operator; nothing where that joins nothing.
fn terms(clause: &Expr) -> Vec<&Expr> {
    match clause.expr_kind() {
        ExprKind::Or { .. } => disjuncts(clause),
        ExprKind::And { .. } => conjuncts(clause),
        _ => Vec::new(),
    }
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, outcome: &Outcome) {
        self.reached += 1;
        match outcome {
            Outcome::Satisfied => self.held += 1,
            Outcome::Unsatisfied => self.failed += 1,
            Outcome::Error(_) => self.errors += 1,
        }
    }
}
