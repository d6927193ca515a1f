//! Mutants: policies changed in one place, to see whether a case notices.
//!
//! A policy that can be changed without any case failing is not tested in that place. Each mutant is a text of its own,
//! read and validated like any policy; what the schema refuses is no mutant that could ever be in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{Case, Effect, Link, PolicyId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{CompileError, Lines};
use crate::file::Placed;
use crate::guard;
use crate::link::Linked;
use crate::policy::CompiledPolicy;
use crate::rule::Rule;
use crate::stack::{in_chunks, on_large_stack};
use crate::{CaseOutcome, Snapshot};

mod scopes;
mod writing;

#[cfg(test)]
mod tests;

use writing::Written;

/// The most mutants that are made of one policy.
pub(crate) const MOST: usize = 200;

/// What the cases made of every mutant of one policy or template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyMutation {
    /// Which policy.
    pub policy: PolicyId,
    /// What it does when it is satisfied.
    pub effect: Effect,
    /// The file it stands in.
    pub file: String,
    /// The line it starts on.
    pub line: usize,
    /// The controls it is annotated with, by `@controls` or `@control`.
    pub controls: BTreeSet<String>,
    /// How many mutants failed a case.
    pub killed: usize,
    /// How many the schema refuses.
    pub invalid: usize,
    /// How many say the same as the policy in every question the schema allows.
    pub equivalent: usize,
    /// How many were not tried: there are more than 200, or the time was over.
    pub untried: usize,
    /// Every mutant that no case noticed.
    pub survivors: Vec<Survivor>,
}

/// A mutant that no case noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// What kind of change it is.
    pub kind: MutantKind,
    /// The line of the change in the policy's file.
    pub line: usize,
    /// Its column, in bytes.
    pub column: usize,
    /// What stands there.
    pub before: String,
    /// What stands there in the mutant; empty where the policy is left out.
    pub after: String,
}

/// How a mutant differs from its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MutantKind {
    /// The policy is left out.
    PolicyDropped,
    /// It permits what it forbade, or the reverse.
    EffectFlipped,
    /// A part of its scope is wider.
    ScopeWidened,
    /// One action of a list, or one member of a set, is left out.
    MemberDropped,
    /// A clause is left out.
    ClauseDropped,
    /// What `&&` or `||` joins is left out, or a condition of `if` always or never holds.
    TermDropped,
    /// A condition is turned round.
    Negated,
    /// A comparison is another one.
    ComparisonChanged,
    /// A number is one more or one less.
    NumberShifted,
    /// A text is another one.
    StringChanged,
    /// `containsAll` is `containsAny` or the reverse, or the two sets have changed places.
    ContainmentChanged,
}

/// What became of one mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
    Invalid,
    Equivalent,
    Untried,
}

/// A policy or template with what is made of it.
struct Subject<'s> {
    placed: &'s Placed,
    /// Where its compiled policies stand in the program: one, or one for each link of the template.
    places: Vec<(usize, Option<&'s Link>)>,
    mutants: Vec<Written>,
    /// How many more there would be.
    beyond: usize,
}

/// Everything that trying a mutant needs.
struct Trial<'s> {
    snapshot: &'s Snapshot,
    cases: Vec<Known<'s>>,
    go_on: &'s (dyn Fn() -> bool + Sync),
}

/// A case that passes, and the policies that its decisions name.
struct Known<'s> {
    case: &'s Case,
    named: BTreeSet<PolicyId>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Makes mutants of every enforced policy and runs `cases` against each until one fails, in the order of the ids.
    ///
    /// `links` are those of the bundle this was compiled from. Cases that fail without any mutant show nothing and are
    /// left out. `go_on` is asked before each mutant; once it says no, the others are not tried.
    ///
    /// # Errors
    ///
    /// [`CompileError`] when no thread can be started for it.
    pub fn mutate(
        &self,
        links: &[Link],
        cases: &[&Case],
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<PolicyMutation>, CompileError> {
        on_large_stack(|| {
            let subjects = self.subjects(links);
            let cases = cases.iter().filter_map(|case| Known::of(self, case));
            let trial = Trial {
                snapshot: self,
                cases: cases.collect(),
                go_on,
            };
            let jobs: Vec<(&Subject<'_>, &Written)> = subjects
                .iter()
                .flat_map(|subject| subject.mutants.iter().map(move |mutant| (subject, mutant)))
                .collect();
            let fates = in_chunks(&jobs, |(subject, mutant)| trial.fate(subject, mutant));
            // A thread that fell leaves fewer fates than mutants.
            let mut fates = fates.into_iter().chain(std::iter::repeat(Fate::Untried));
            Ok(subjects
                .iter()
                .map(|subject| subject.finish(&mut fates))
                .collect())
        })
    }

    fn subjects<'s>(&'s self, links: &'s [Link]) -> Vec<Subject<'s>> {
        let program = &self.rules().program;
        let at: FxHashMap<&PolicyId, usize> = (program.policies.iter().enumerate())
            .map(|(place, policy)| (&policy.id, place))
            .collect();
        let mut found: Vec<Subject<'s>> = program
            .placed()
            .filter(|placed| !placed.rule.shadow)
            .map(|placed| {
                let id = &placed.rule.id;
                let places = if placed.rule.is_template() {
                    links
                        .iter()
                        .filter(|link| link.template == *id)
                        .filter_map(|link| Some((*at.get(&link.id)?, Some(link))))
                        .collect()
                } else {
                    at.get(id).map(|place| (*place, None)).into_iter().collect()
                };
                let (mutants, beyond) = writing::mutants(&placed.rule);
                Subject {
                    placed,
                    places,
                    mutants,
                    beyond,
                }
            })
            // A template that nothing links decides nothing.
            .filter(|subject| !subject.places.is_empty())
            .collect();
        found.sort_by(|a, b| a.placed.rule.id.cmp(&b.placed.rule.id));
        found
    }
}

// === impl Known ===

impl<'s> Known<'s> {
    fn of(snapshot: &Snapshot, case: &'s Case) -> Option<Self> {
        let outcome = snapshot.run_case(case);
        let named = |outcome: &CaseOutcome| {
            let decisions = outcome.decisions();
            decisions.flat_map(|one| one.determining.clone()).collect()
        };
        outcome.passed().then(|| Self {
            case,
            named: named(&outcome),
        })
    }
}

// === impl Trial ===

impl Trial<'_> {
    fn fate(&self, subject: &Subject<'_>, mutant: &Written) -> Fate {
        if !(self.go_on)() {
            return Fate::Untried;
        }
        let program = &self.snapshot.rules().program;
        let mut policies: Vec<Option<Arc<CompiledPolicy>>> =
            program.policies.iter().cloned().map(Some).collect();
        let mut same = true;
        for (place, link) in &subject.places {
            let Some(slot) = policies.get_mut(*place) else {
                return Fate::Invalid;
            };
            let Some(text) = &mutant.text else {
                (same, *slot) = (false, None);
                continue;
            };
            let Some((rule, policy)) = self.read(subject.placed, text, *link) else {
                return Fate::Invalid;
            };
            same &= slot.as_ref().is_some_and(|before| {
                let rules = (&*subject.placed.rule, &rule);
                scopes::same(&program.schema, rules, (before, &policy))
            });
            *slot = Some(Arc::new(policy));
        }
        if same {
            return Fate::Equivalent;
        }
        let changed = self
            .snapshot
            .mutated(policies.into_iter().flatten().collect());
        // Those in which the policy has a say are the likeliest to notice.
        let names = |known: &&Known<'_>| {
            let mut places = subject.places.iter();
            places.any(|(place, _)| {
                let policy = program.policies.get(*place);
                policy.is_some_and(|policy| known.named.contains(&policy.id))
            })
        };
        let (first, then): (Vec<_>, Vec<_>) = self.cases.iter().partition(names);
        let notices = |known: &&Known<'_>| !changed.run_case(known.case).passed();
        if first.iter().any(notices) || then.iter().any(notices) {
            Fate::Killed
        } else {
            Fate::Survived
        }
    }

    /// Reads the text of a mutant as the policy it takes the place of; nothing where that is no valid one.
    fn read(
        &self,
        placed: &Placed,
        text: &str,
        link: Option<&Link>,
    ) -> Option<(Rule, CompiledPolicy)> {
        let schema = &self.snapshot.rules().program.schema;
        let (segments, excesses) = guard::split(text);
        if segments.len() != 1 || !excesses.is_empty() {
            return None;
        }
        let rule = match Rule::read(text, Some(schema)) {
            Ok(rule) => rule,
            // What an annotation says of the effect that it had, it does not say of the other.
            Err(refused)
                if refused
                    .errors
                    .iter()
                    .all(|one| one.code == "invalid_annotation") =>
            {
                let mut bare = text.to_owned();
                for key in ["lease", "modify", "relax", "ttl"] {
                    bare = bare.replace(&format!("@{key}("), &format!("@was_{key}("));
                }
                Rule::read(&bare, Some(schema)).ok()?
            }
            Err(_) => return None,
        };
        let (file, span) = (&placed.file, placed.span);
        let policy = match link {
            None => CompiledPolicy::of_rule(&rule, file, span)?,
            Some(link) => {
                let linked = Linked::new(link, &rule, schema).ok()?;
                CompiledPolicy::of(link.id.clone(), &rule, &linked.policy, file, span)?
            }
        };
        Some((rule, policy))
    }
}

// === impl Subject ===

impl Subject<'_> {
    fn finish(&self, fates: &mut impl Iterator<Item = Fate>) -> PolicyMutation {
        let Placed {
            rule, file, span, ..
        } = self.placed;
        let mut report = PolicyMutation {
            policy: rule.id.clone(),
            effect: rule.effect,
            file: file.to_string(),
            line: span.start_line,
            controls: controls(rule),
            killed: 0,
            invalid: 0,
            equivalent: 0,
            untried: self.beyond,
            survivors: Vec::new(),
        };
        let lines = Lines::new(&rule.text);
        for mutant in &self.mutants {
            match fates.next().unwrap_or(Fate::Untried) {
                Fate::Killed => report.killed += 1,
                Fate::Invalid => report.invalid += 1,
                Fate::Equivalent => report.equivalent += 1,
                Fate::Untried => report.untried += 1,
                Fate::Survived => {
                    let at = lines.span(mutant.range.start, mutant.range.end);
                    // The first line of a policy need not begin where its text does.
                    let indent = if at.start_line == 1 {
                        span.start_column - 1
                    } else {
                        0
                    };
                    report.survivors.push(Survivor {
                        kind: mutant.kind,
                        line: span.start_line + at.start_line - 1,
                        column: at.start_column + indent,
                        before: mutant.before(&rule.text),
                        after: mutant.after.clone(),
                    });
                }
            }
        }
        report
    }
}

// === impl PolicyMutation ===

impl PolicyMutation {
    /// Returns how many mutants were tried.
    pub fn tried(&self) -> usize {
        self.killed + self.survivors.len()
    }
}

// === impl MutantKind ===

impl MutantKind {
    /// Says for people what was done.
    pub const fn words(self) -> &'static str {
        match self {
            Self::PolicyDropped => "policy dropped",
            Self::EffectFlipped => "effect flipped",
            Self::ScopeWidened => "scope widened",
            Self::MemberDropped => "member dropped",
            Self::ClauseDropped => "clause dropped",
            Self::TermDropped => "term dropped",
            Self::Negated => "negated",
            Self::ComparisonChanged => "comparison changed",
            Self::NumberShifted => "number shifted",
            Self::StringChanged => "string changed",
            Self::ContainmentChanged => "containment changed",
        }
    }
}

/// Splits the list of controls in a policy's annotations.
fn controls(rule: &Rule) -> BTreeSet<String> {
    let annotated = ["controls", "control"]
        .iter()
        .filter_map(|key| rule.obligations.get(*key));
    annotated
        .flat_map(|list| list.split(','))
        .map(|control| control.trim().to_owned())
        .filter(|control| !control.is_empty())
        .collect()
}
