//! Deciding: candidates evaluated by Cedar, and one verdict made of their outcomes.
//!
//! Cedar skips a policy that errors. Here an erroring forbid denies (INV-2): a deny never turns into an allow because
//! something was missing or overflowed.
//!
//! Cedar's evaluator checks the stack that is left and errors when it runs short, so that its result could depend on
//! the thread it is called on. Policies are held to a nesting and a length, when they are compiled, for which 2 MiB are
//! ample; callers give their threads 16 MiB. Should it happen all the same, it is an error like any other.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use cedar_policy_core::ast::{
    Context, Entity, EntityUIDEntry, Expr, Literal, Request, Value, ValueKind,
};
use cedar_policy_core::entities::Entities;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use remit_core::controls::{Protection, holds, provoke};
use remit_core::{
    Decision, Effect, ExceptionId, Facts, Note, Obligation, PolicyError, Question, Reason, Shadow,
    Verdict,
};
use smol_str::SmolStr;

use self::gates::{Gate, unreadable};
use self::worlds::{Relaxation, World};
use crate::Snapshot;
use crate::index::Place;
use crate::policy::CompiledPolicy;
use crate::reach::{Reach, Roots};
use crate::shape::{Party, Shaped, shape};

mod gates;
mod hops;
mod narrow;
mod worlds;

/// The most policies that one decision may evaluate.
const MOST_CANDIDATES: usize = 10_000;

/// What came of evaluating one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its conditions hold.
    Satisfied,
    /// They do not.
    Unsatisfied,
    /// They could not be evaluated; Cedar's message.
    Error(String),
}

/// A question with everything that its evaluation needs.
#[derive(Debug)]
pub(crate) struct Asked<'s> {
    /// The question in Cedar's values.
    pub(crate) shaped: Shaped<'s>,
    /// The policies whose scope it satisfies: places in the program, in the order of their ids.
    pub(crate) candidates: Vec<usize>,
    /// Every entity that those policies can look at.
    pub(crate) entities: Entities,
}

/// What the outcomes add up to.
#[derive(Debug)]
struct Verdicts {
    reason: Reason,
    determining: Vec<usize>,
    /// The exceptions that relaxed a satisfied forbid.
    relaxed: Vec<ExceptionId>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Answers a question; whatever goes wrong is a deny with a reason.
    ///
    /// First come the gates, which no policy opens: kills, the agent's standing, the task with its scope and budgets. Then
    /// the policies; and where they permit it, each hop of [`Facts::hops`] must be permitted the same. An approval is
    /// looked at last, where it is not permitted without one.
    ///
    /// A function of its inputs (INV-4): the same question, facts and snapshot always give an equal decision. Call it on
    /// a thread with 16 MiB of stack.
    pub fn decide(&self, question: &Question, facts: &Facts) -> Decision {
        let mut notes = Vec::new();
        // Nothing is seen of what a panic leaves behind but the notes, which are whole at all times.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            provoke(&question.subject.id);
            let decision = self.answer(question, facts, false, &mut notes);
            self.with_narrower(question, facts, decision)
        }));
        let decision = match decided {
            Ok(decision) => decision,
            Err(panic) if !holds(Protection::CatchPanic) => resume_unwind(panic),
            Err(_) => self.refuse(Reason::EngineFault),
        };
        Decision { notes, ..decision }
    }

    /// Answers a question, that of a `hop` without hops of its own.
    fn answer(
        &self,
        question: &Question,
        facts: &Facts,
        hop: bool,
        notes: &mut Vec<Note>,
    ) -> Decision {
        let gate = self.gate(question, facts, hop);
        let asked = self.ask(question, facts, notes).and_then(|asked| {
            if unreadable(question, facts, notes) {
                return Err(Reason::MistypedProperty);
            }
            Ok(asked)
        });
        match (asked, gate) {
            (Err(reason), None) => self.refuse(reason),
            (Err(_), Some(gate)) => Decision {
                limit: gate.limit,
                ..self.refuse(gate.reason)
            },
            (Ok(asked), gate) => {
                let scope = asked.shaped.scope;
                match gate.or_else(|| Self::inner_gate(facts, scope)) {
                    Some(gate) => self.shut(&asked, question, facts, gate),
                    None => self.settle(&asked, question, facts, hop),
                }
            }
        }
    }

    /// Shapes a question and finds the policies and entities that bear on it.
    ///
    /// # Errors
    ///
    /// The [`Reason`] to deny for.
    pub(crate) fn ask<'s>(
        &'s self,
        question: &Question,
        facts: &Facts,
        notes: &mut Vec<Note>,
    ) -> Result<Asked<'s>, Reason> {
        let rules = self.rules();
        let (schema, reads) = (&rules.program.schema, rules.reads);
        self.gather(shape(
            schema,
            self.entities(),
            question,
            facts,
            reads,
            notes,
        )?)
    }

    /// Finds the policies and entities that bear on a shaped question.
    ///
    /// # Errors
    ///
    /// [`Reason::TooManyCandidates`], or [`Reason::EngineFault`] where the policies look at more entities than one
    /// decision may.
    pub(crate) fn gather<'s>(&'s self, shaped: Shaped<'s>) -> Result<Asked<'s>, Reason> {
        let rules = self.rules();
        // What a caller asserts of an entity leaves it where it stands in the hierarchy.
        let above = |party: &Party| self.entities().ancestors(&party.uid);
        let (principal, resource) = (above(&shaped.principal), above(&shaped.resource));
        let candidates = rules
            .index
            .candidates(
                &rules.program.policies,
                Place {
                    uid: &shaped.principal.uid,
                    ancestors: principal.into_iter(),
                },
                Place {
                    uid: &shaped.action.uid,
                    ancestors: shaped.action.ancestors.iter(),
                },
                Place {
                    uid: &shaped.resource.uid,
                    ancestors: resource.into_iter(),
                },
                MOST_CANDIDATES,
            )
            .ok_or(Reason::TooManyCandidates)?;
        let entities = self.slice(&shaped, &candidates)?;
        Ok(Asked {
            shaped,
            candidates,
            entities,
        })
    }

    /// Collects every entity that these policies can look at for a shaped question.
    ///
    /// # Errors
    ///
    /// [`Reason::EngineFault`] where they are more than one decision may look at.
    pub(crate) fn slice(&self, shaped: &Shaped<'_>, places: &[usize]) -> Result<Entities, Reason> {
        let rules = self.rules();
        let action = rules
            .actions
            .get(&shaped.action.uid)
            .ok_or(Reason::EngineFault)?;
        let mut reach = Reach::default();
        for place in places {
            reach.widen(&self.policy(*place).ok_or(Reason::EngineFault)?.reach);
        }
        let asserted: Vec<Arc<Entity>> = [&shaped.principal, &shaped.resource]
            .into_iter()
            .filter_map(|party| party.asserted.clone())
            .collect();
        let roots = Roots {
            principal: &shaped.principal.uid,
            resource: &shaped.resource.uid,
            action,
            asserted: &asserted,
            context: &shaped.context,
        };
        reach
            .slice(self.entities(), &roots)
            .ok_or(Reason::EngineFault)
    }

    /// Denies for a gate; the policies that forbid it as well are named, and no approval helps.
    fn shut(&self, asked: &Asked<'_>, question: &Question, facts: &Facts, gate: Gate) -> Decision {
        let outcomes = self.outcomes(asked, World::Plain.context(asked, facts));
        let mut verdicts = self.weigh(&outcomes, &self.relaxations(question, facts));
        if verdicts.reason == Reason::PolicyPermit {
            verdicts.determining.clear();
        }
        verdicts.reason = gate.reason;
        // An exception opens no gate, so that none has changed anything.
        verdicts.relaxed.clear();
        Decision {
            limit: gate.limit,
            ..self.decision(question, &verdicts, outcomes)
        }
    }

    /// Whether what was asked is permitted, and nothing else: without an approval and without an exception.
    pub(crate) fn permits(&self, asked: &Asked<'_>) -> bool {
        let outcomes = self.outcomes(asked, Arc::clone(&asked.shaped.context));
        self.weigh(&outcomes, &[]).reason == Reason::PolicyPermit
    }

    /// Evaluates every candidate in a context.
    fn outcomes(
        &self,
        asked: &Asked<'_>,
        context: Arc<BTreeMap<SmolStr, Value>>,
    ) -> Vec<(usize, Outcome)> {
        let evaluator = asked.evaluator(context);
        asked
            .candidates
            .iter()
            .map(|place| (*place, self.outcome(*place, &evaluator)))
            .collect()
    }

    fn outcome(&self, place: usize, evaluator: &Evaluator<'_>) -> Outcome {
        let Some(policy) = self.policy(place) else {
            return Outcome::Error("the policy is not in the set".to_owned());
        };
        match &policy.body {
            None => Outcome::Satisfied,
            Some(body) => evaluate(body, evaluator),
        }
    }

    /// Applies the error rule: an erroring forbid denies, an erroring permit is not given.
    ///
    /// A forbid that is satisfied does not count where an exception relaxes it; one that errors always does.
    fn weigh(&self, outcomes: &[(usize, Outcome)], relaxations: &[Relaxation]) -> Verdicts {
        let (mut permits, mut forbids, mut failed) = (Vec::new(), Vec::new(), false);
        let mut relaxed: Vec<ExceptionId> = Vec::new();
        for (place, outcome) in outcomes {
            let Some(policy) = self.policy(*place).filter(|policy| !policy.shadow) else {
                continue;
            };
            match (policy.effect, outcome) {
                (_, Outcome::Unsatisfied) | (Effect::Permit, Outcome::Error(_)) => {}
                (Effect::Permit, Outcome::Satisfied) => permits.push(*place),
                (Effect::Forbid, Outcome::Satisfied) => {
                    let before = relaxed.len();
                    let of = relaxations.iter().filter(|one| one.place == *place);
                    relaxed.extend(of.map(|one| one.exception));
                    if relaxed.len() == before {
                        forbids.push(*place);
                    }
                }
                (Effect::Forbid, Outcome::Error(_)) if !holds(Protection::ErroringForbidDenies) => {
                }
                (Effect::Forbid, Outcome::Error(_)) => {
                    failed = true;
                    forbids.push(*place);
                }
            }
        }
        let (reason, determining) = match (failed, forbids.is_empty(), permits.is_empty()) {
            (true, _, _) => (Reason::PolicyError, forbids),
            (false, false, _) => (Reason::PolicyForbid, forbids),
            (false, true, false) => (Reason::PolicyPermit, permits),
            (false, true, true) => (Reason::NoPermit, Vec::new()),
        };
        Verdicts {
            reason,
            determining,
            relaxed,
        }
    }

    fn looks_at_approval(&self, place: usize) -> bool {
        self.policy(place)
            .is_some_and(|policy| policy.mentions_approval)
    }

    /// Writes the decision; places are in the order of ids, so everything in it is sorted.
    fn decision(
        &self,
        question: &Question,
        verdicts: &Verdicts,
        outcomes: Vec<(usize, Outcome)>,
    ) -> Decision {
        let mut decision = self.refuse(verdicts.reason);
        decision.exceptions.clone_from(&verdicts.relaxed);
        decision.exceptions.sort_unstable();
        decision.exceptions.dedup();
        let permitted = decision.verdict == Verdict::Permit;
        for policy in verdicts
            .determining
            .iter()
            .filter_map(|place| self.policy(*place))
        {
            decision.determining.push(policy.id.clone());
            let terms = &policy.terms;
            decision.duties.extend(terms.duty(&policy.id, question));
            if permitted {
                decision.lease = least(decision.lease, terms.lease);
                decision.ttl = least(decision.ttl, terms.ttl);
            }
            if !policy.obligations.is_empty() {
                decision.obligations.push(Obligation {
                    policy: policy.id.clone(),
                    annotations: policy.obligations.clone(),
                });
            }
        }
        for (place, outcome) in outcomes {
            let Some(policy) = self.policy(place) else {
                continue;
            };
            let (policy, effect, shadow) = (policy.id.clone(), policy.effect, policy.shadow);
            match (shadow, outcome) {
                (false, Outcome::Error(message)) => decision.errors.push(PolicyError {
                    policy,
                    effect,
                    message,
                }),
                (true, Outcome::Satisfied) => decision.shadow.push(Shadow {
                    policy,
                    effect,
                    error: None,
                }),
                (true, Outcome::Error(message)) => decision.shadow.push(Shadow {
                    policy,
                    effect,
                    error: Some(message),
                }),
                (_, Outcome::Unsatisfied) | (false, Outcome::Satisfied) => {}
            }
        }
        decision
    }

    /// Makes a decision of a reason alone.
    pub(crate) fn refuse(&self, reason: Reason) -> Decision {
        let verdict = match reason {
            Reason::PolicyPermit => Verdict::Permit,
            _ => Verdict::Deny,
        };
        Decision {
            verdict,
            limit: None,
            approval: None,
            duties: Vec::new(),
            exceptions: Vec::new(),
            lease: None,
            modify: None,
            ttl: None,
            reason,
            determining: Vec::new(),
            errors: Vec::new(),
            obligations: Vec::new(),
            shadow: Vec::new(),
            notes: Vec::new(),
            revision: self.revision(),
            bundle: self.content_hash(),
        }
    }

    fn policy(&self, place: usize) -> Option<&CompiledPolicy> {
        self.rules().program.policies.get(place).map(AsRef::as_ref)
    }
}

// === impl Asked ===

impl Asked<'_> {
    /// Returns Cedar's evaluator for this question in a context.
    pub(crate) fn evaluator(&self, context: Arc<BTreeMap<SmolStr, Value>>) -> Evaluator<'_> {
        let known =
            |uid: &cedar_policy_core::ast::EntityUID| EntityUIDEntry::known(uid.clone(), None);
        let request = Request::new_unchecked(
            known(&self.shaped.principal.uid),
            known(&self.shaped.action.uid),
            known(&self.shaped.resource.uid),
            Some(Context::Value(context)),
        );
        Evaluator::new(request, &self.entities, Extensions::all_available())
    }
}

/// Evaluates one condition.
pub(crate) fn evaluate(expr: &Expr, evaluator: &Evaluator<'_>) -> Outcome {
    let slots = std::collections::HashMap::new();
    match evaluator.interpret(expr, &slots) {
        Ok(value) => match value.value {
            ValueKind::Lit(Literal::Bool(true)) => Outcome::Satisfied,
            ValueKind::Lit(Literal::Bool(false)) => Outcome::Unsatisfied,
            _ => Outcome::Error("the condition is not a Bool".to_owned()),
        },
        Err(error) => Outcome::Error(error.to_string()),
    }
}

/// Returns the lesser of two numbers of which either may not be said.
fn least(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    one.into_iter().chain(other).min()
}
