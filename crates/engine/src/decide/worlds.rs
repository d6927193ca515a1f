//! Worlds: the same question without an approval, as if a person had approved it, and with the approval that it presents.
//!
//! The first decides where it permits: an approval that is not needed is not used. What an approval opens is what forbade
//! before it and was shown to whoever approved; a forbid that could not be evaluated is never among that.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cedar_policy_core::ast::{Value, ValueKind};
use remit_core::{
    ContentHash, Decision, Effect, ExceptionFacts, ExceptionId, Facts, PolicyId, Question, Reason,
    Verdict, approval_digest,
};
use smol_str::SmolStr;

use super::hops::Chained;
use super::{Asked, Outcome, Verdicts};
use crate::Snapshot;

/// A world in which a question is asked: what is known there of a person's approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    /// Nobody approved.
    Plain,
    /// As if somebody had; who is not known.
    Supposed,
    /// The approval that the facts speak of.
    Approved,
}

/// One forbid that does not count, and because of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relaxation {
    /// Its place in the program.
    pub(super) place: usize,
    /// The exception.
    pub(super) exception: ExceptionId,
}

/// What a question comes to in one world.
#[derive(Debug)]
struct Judged {
    outcomes: Vec<(usize, Outcome)>,
    verdicts: Verdicts,
    chained: Chained,
}

// === impl World ===

impl World {
    /// Returns the context of a question in this world; that of a question for which nobody approved is one in all.
    pub(crate) fn context(self, asked: &Asked<'_>, facts: &Facts) -> Arc<BTreeMap<SmolStr, Value>> {
        let shaped = &asked.shaped.context;
        let approved = match (self, facts.is_approved()) {
            (Self::Approved, _) | (Self::Plain, false) => return Arc::clone(shaped),
            (Self::Supposed, true) if facts.approval.is_none() => return Arc::clone(shaped),
            (Self::Supposed, _) => true,
            (Self::Plain, true) => false,
        };
        with_approval(shaped, approved).map_or_else(|| Arc::clone(shaped), Arc::new)
    }
}

/// What forbids a call where nobody approved, of the subject and of everybody behind it.
#[derive(Debug, Default)]
struct Violated {
    /// The policies, but for those that an exception relaxes.
    policies: BTreeSet<PolicyId>,
    /// Those exceptions.
    exceptions: BTreeSet<ExceptionId>,
}

// === impl Judged ===

impl Judged {
    fn permits(&self) -> bool {
        self.verdicts.reason == Reason::PolicyPermit && self.chained.stopped.is_none()
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns every policy that forbids what is asked where nobody approved: of the subject, and of everybody behind it.
    ///
    /// What a person who approves it must be shown. Policies in shadow mode, those that an exception relaxes and those
    /// that cannot be evaluated are not among them; the last deny whatever anybody approves.
    pub fn violations(&self, question: &Question, facts: &Facts) -> BTreeSet<PolicyId> {
        let mut found = Violated::default();
        // What a panic leaves out was not shown, so that it will ask again.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.violated(question, facts, &mut found);
        }));
        found.policies
    }

    /// Returns the digest of everything in a question that an approval is bound to.
    ///
    /// Of the context that is what the schema declares for the action, except for attributes annotated `@volatile`, and what
    /// the agent proves to be built of and the tool to be; the action counts by its one spelling.
    pub fn approval_digest(&self, question: &Question) -> ContentHash {
        let relevant = |member: &str| {
            let own = [Question::BUILD, Question::TOOL_HASH].contains(&member);
            own || self.binds(question, member)
        };
        let spelling = self.action_of(question).map(|(_, spelling)| spelling);
        match spelling.filter(|spelling| *spelling != question.action.name) {
            Some(spelling) => {
                let mut plainly = question.clone();
                plainly.action.name = spelling.into_owned();
                approval_digest(&plainly, relevant)
            }
            None => approval_digest(question, relevant),
        }
    }

    /// Whether an approval is bound to what the caller says in this member of the context.
    pub fn binds(&self, question: &Question, member: &str) -> bool {
        let action = self.action_schema(question);
        action.is_some_and(|action| action.binds(member))
    }

    fn violated(&self, question: &Question, facts: &Facts, found: &mut Violated) {
        self.violated_by_one(question, facts, found);
        for (question, facts) in Self::behind(question, facts) {
            self.violated_by_one(&question, &facts, found);
        }
    }

    fn violated_by_one(&self, question: &Question, facts: &Facts, found: &mut Violated) {
        let Ok(asked) = self.ask(question, facts, &mut Vec::new()) else {
            return;
        };
        let relaxations = self.relaxations(question, facts);
        for (place, outcome) in self.outcomes(&asked, World::Plain.context(&asked, facts)) {
            let policy = self.policy(place).filter(|policy| {
                policy.effect == Effect::Forbid && !policy.shadow && outcome == Outcome::Satisfied
            });
            let Some(policy) = policy else {
                continue;
            };
            let of = relaxations.iter().filter(|one| one.place == place);
            let relaxed: Vec<ExceptionId> = of.map(|one| one.exception).collect();
            if relaxed.is_empty() {
                found.policies.insert(policy.id.clone());
            }
            found.exceptions.extend(relaxed);
        }
    }

    /// Finds the forbids that do not count for whom a question is about.
    pub(super) fn relaxations(&self, question: &Question, facts: &Facts) -> Vec<Relaxation> {
        let policies = &self.rules().program.policies;
        let (kind, id) = (&question.subject.kind, &question.subject.id);
        let is_for = |exception: &&ExceptionFacts| {
            let agent = exception.agent.as_ref();
            facts.now < exception.until
                && agent.is_none_or(|agent| agent.kind == *kind && agent.id == *id)
        };
        let relaxed = facts.exceptions.iter().filter(is_for).filter_map(|one| {
            let place = policies.binary_search_by(|policy| policy.id.cmp(&one.policy));
            let place = place.ok()?;
            let policy = self.policy(place)?;
            let may = policy.effect == Effect::Forbid && !policy.terms.never_relaxed;
            may.then_some(Relaxation {
                place,
                exception: one.id,
            })
        });
        relaxed.collect()
    }

    /// Evaluates what was asked and makes one decision of it, hops included unless it is that of a `hop`.
    pub(super) fn settle(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        facts: &Facts,
        hop: bool,
    ) -> Decision {
        let outcomes = self.outcomes(asked, World::Plain.context(asked, facts));
        let plain = self.judge(question, facts, hop, World::Plain, outcomes);
        if plain.permits() {
            return fulfilled(question, hop, self.conclude(question, plain));
        }
        if plain.verdicts.reason == Reason::PolicyError {
            return self.conclude(question, plain);
        }
        let helps = || {
            let supposed = self.judge_in(asked, question, facts, hop, World::Supposed, &plain);
            supposed.is_some_and(|supposed| self.would_permit(question, hop, supposed))
        };
        if !facts.is_approved() {
            let helps = helps();
            return self.requestable(question, plain, helps);
        }
        let Some(given) = self.judge_in(asked, question, facts, hop, World::Approved, &plain)
        else {
            return self.conclude(question, plain);
        };
        if !given.permits() {
            // By somebody else it might be approved.
            return if facts.approval.is_some() && helps() {
                self.requestable(question, plain, true)
            } else {
                self.conclude(question, given)
            };
        }
        let mut violated = Violated::default();
        if let Some(approval) = facts.approval.as_ref().filter(|_| !hop) {
            self.violated(question, facts, &mut violated);
            // Not everything that forbids it was shown to whoever approved.
            if !violated.policies.is_subset(&approval.violations) {
                return self.requestable(question, plain, true);
            }
        }
        let mut decision = Decision {
            approval: facts.approval.as_ref().map(|approval| approval.id),
            ..self.conclude(question, given)
        };
        // What an exception relaxes was not shown, so that the permit rests on it as well, though an approval would do.
        violated.exceptions.extend(decision.exceptions);
        decision.exceptions = violated.exceptions.into_iter().collect();
        fulfilled(question, hop, decision)
    }

    fn judge(
        &self,
        question: &Question,
        facts: &Facts,
        hop: bool,
        world: World,
        outcomes: Vec<(usize, Outcome)>,
    ) -> Judged {
        let verdicts = self.weigh(&outcomes, &self.relaxations(question, facts));
        let permitted = verdicts.reason == Reason::PolicyPermit;
        let chained = if permitted && !hop && (facts.task.is_some() || !facts.hops.is_empty()) {
            self.chain(question, facts, world)
        } else {
            Chained::default()
        };
        Judged {
            outcomes,
            verdicts,
            chained,
        }
    }

    /// Judges in a world where there is an approval; nothing where only supposing one cannot change what came of it without.
    ///
    /// Whoever is permitted without an approval needs none, so that a chain is what each of its members may.
    fn judge_in(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        facts: &Facts,
        hop: bool,
        world: World,
        plain: &Judged,
    ) -> Option<Judged> {
        if let Some(stopped) = &plain.chained.stopped {
            let may = world == World::Approved || stopped.wants_approval();
            return may.then(|| self.judge(question, facts, hop, world, plain.outcomes.clone()));
        }
        let looks = |place: &usize| self.looks_at_approval(*place);
        let could_change = plain.outcomes.iter().any(|(place, _)| looks(place))
            && plain.verdicts.determining.iter().all(looks);
        if world == World::Supposed && !could_change {
            return None;
        }
        let evaluator = asked.evaluator(world.context(asked, facts));
        let outcomes = plain.outcomes.iter().map(|(place, outcome)| {
            let outcome = if looks(place) {
                self.outcome(*place, &evaluator)
            } else {
                outcome.clone()
            };
            (*place, outcome)
        });
        let outcomes = outcomes.collect();
        Some(self.judge(question, facts, hop, world, outcomes))
    }

    fn would_permit(&self, question: &Question, hop: bool, judged: Judged) -> bool {
        let permits = judged.permits();
        permits && {
            let decision = fulfilled(question, hop, self.conclude(question, judged));
            decision.verdict == Verdict::Permit
        }
    }

    /// Writes a deny, as one that an approval would turn where it `helps`.
    fn requestable(&self, question: &Question, plain: Judged, helps: bool) -> Decision {
        let decision = self.conclude(question, plain);
        let reason = if helps {
            Reason::ApprovalRequired
        } else {
            decision.reason
        };
        Decision { reason, ..decision }
    }

    /// Writes what was judged as a decision.
    fn conclude(&self, question: &Question, judged: Judged) -> Decision {
        let Judged {
            outcomes,
            mut verdicts,
            chained,
        } = judged;
        verdicts.relaxed.extend(chained.exceptions);
        let Some(stopped) = chained.stopped else {
            return self.decision(question, &verdicts, outcomes);
        };
        verdicts.determining.clear();
        verdicts.reason = Reason::DelegationDenied;
        Decision {
            limit: Some(stopped.limit),
            determining: stopped.by.determining,
            duties: stopped.by.duties,
            obligations: stopped.by.obligations,
            ..self.decision(question, &verdicts, outcomes)
        }
    }

    /// Returns the context in which the policies of a decision were evaluated.
    pub(crate) fn seen_in(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        facts: &Facts,
        decision: &Decision,
    ) -> Arc<BTreeMap<SmolStr, Value>> {
        let plain = World::Plain.context(asked, facts);
        let by_policies = matches!(
            decision.reason,
            Reason::PolicyPermit
                | Reason::PolicyForbid
                | Reason::NoPermit
                | Reason::PolicyError
                | Reason::DelegationDenied
                | Reason::ObligationUnsupported
        );
        let needed = facts.is_approved() && by_policies && {
            let outcomes = self.outcomes(asked, Arc::clone(&plain));
            let verdicts = self.weigh(&outcomes, &self.relaxations(question, facts));
            matches!(verdicts.reason, Reason::PolicyForbid | Reason::NoPermit)
        };
        if needed {
            World::Approved.context(asked, facts)
        } else {
            plain
        }
    }

    /// Returns the exception because of which a policy that is satisfied does not count.
    pub(crate) fn relaxed_by(
        &self,
        place: usize,
        question: &Question,
        facts: &Facts,
    ) -> Option<ExceptionId> {
        let relaxations = self.relaxations(question, facts);
        let mut of = relaxations.iter().filter(|one| one.place == place);
        of.next().map(|one| one.exception)
    }
}

/// Denies a permit that obliges the enforcement point to what it says it cannot do.
fn fulfilled(question: &Question, hop: bool, decision: Decision) -> Decision {
    if hop || decision.duties.is_empty() || decision.verdict == Verdict::Deny {
        return decision;
    }
    let Some(supported) = question.obligations_supported() else {
        return decision;
    };
    let supported: BTreeSet<&str> = supported.collect();
    let mut duties = decision.duties.iter();
    if duties.all(|duty| supported.contains(duty.kind.as_str())) {
        return decision;
    }
    Decision {
        approval: None,
        lease: None,
        reason: Reason::ObligationUnsupported,
        ttl: None,
        verdict: Verdict::Deny,
        ..decision
    }
}

/// Returns a context in which a person has approved or has not, without what is known of the approval; nothing where the
/// action takes no facts.
fn with_approval(
    context: &BTreeMap<SmolStr, Value>,
    approved: bool,
) -> Option<BTreeMap<SmolStr, Value>> {
    let ValueKind::Record(facts) = &context.get("facts")?.value else {
        return None;
    };
    let mut facts = BTreeMap::clone(facts);
    if let Some(flag) = facts.get_mut("approved") {
        *flag = Value::new(approved, None);
    }
    facts.remove("approval");
    let mut context = context.clone();
    context.insert(
        SmolStr::new_static("facts"),
        Value::record_arc(Arc::new(facts), None),
    );
    Some(context)
}
