//! Searching: who may, on what, and what one may do, over everything stored.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cedar_policy_core::ast::{Eid, EntityType, EntityUID, Value};
use remit_core::{Action, Effect, Facts, Question, Reason, Resource, Subject, Verdict};
use rustc_hash::FxHashSet;
use serde_json::{Map, Value as Json};
use smol_str::SmolStr;

use crate::Snapshot;
use crate::policy::{ActionScope, EntityScope};
use crate::schema::ActionSchema;
use crate::shape::{Frame, Known, Party, Scope, Shaped, Shaper, resolve};

/// One page of what a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Ids of entities or names of actions, in byte order, each of them permitted.
    pub ids: Vec<String>,
    /// Whether there are more after these.
    pub more: bool,
}

/// A search for a subject or a resource, shaped but for the entity searched.
struct Search<'s> {
    side: Side,
    /// Asks every candidate whole.
    whole: Option<Whole<'s>>,
    frame: Frame<'s>,
    /// The other party.
    known: Party,
    context: Arc<BTreeMap<SmolStr, Value>>,
}

/// A question with the facts that go with it, where these depend on who is searched for, or may deny by themselves.
struct Whole<'s> {
    question: Question,
    facts: &'s dyn Fn(&Question) -> Facts,
}

/// Which of the two parties is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Subject,
    Resource,
}

// === impl Snapshot ===

impl Snapshot {
    /// Finds the stored entities of a type that may do `action` to `resource` (AuthZEN 1.0 §8.4).
    ///
    /// Exact: every id found is permitted, and every stored entity that is permitted is found. Ids come in byte order
    /// after `after`, at most `limit` of them. `facts` gives what is known of each question; where that cannot depend on
    /// who is searched for, it is asked once.
    pub fn search_subjects<'s>(
        &'s self,
        kind: &str,
        action: &Action,
        resource: &Resource,
        context: &Map<String, Json>,
        facts: &'s dyn Fn(&Question) -> Facts,
        after: Option<&str>,
        limit: usize,
    ) -> Found {
        let searched = || -> Result<Found, Reason> {
            let schema = &self.rules().program.schema;
            let frame = Frame::find(schema, kind, &action.name, &resource.kind)?;
            let mut notes = Vec::new();
            let mut shaper = Shaper {
                schema,
                store: self.entities(),
                notes: &mut notes,
            };
            let known = shaper.party(
                "resource",
                frame.resource,
                &resource.id,
                &resource.properties,
                None,
            )?;
            let question = Question {
                action: action.clone(),
                context: context.clone(),
                resource: resource.clone(),
                subject: Subject {
                    id: String::new(),
                    properties: Map::new(),
                    kind: kind.to_owned(),
                },
            };
            let sample = facts(&question);
            let facts_known = Known {
                facts: &sample,
                scope: Scope::ANY,
                arguments: &action.properties,
                reads: self.rules().reads,
            };
            let context = shaper.context(frame.action, context, facts_known)?;
            let plain = self.is_plain(&sample, &question);
            let search = Search {
                side: Side::Subject,
                whole: (!plain).then_some(Whole { question, facts }),
                frame,
                known,
                context: Arc::new(context),
            };
            Ok(self.search(&search, after, limit))
        };
        searched().unwrap_or_default()
    }

    /// Finds the stored entities of a type that `subject` may do `action` to (AuthZEN 1.0 §8.5).
    ///
    /// Exact and ordered as [`Snapshot::search_subjects`].
    pub fn search_resources<'s>(
        &'s self,
        subject: &Subject,
        action: &Action,
        kind: &str,
        context: &Map<String, Json>,
        facts: &'s dyn Fn(&Question) -> Facts,
        after: Option<&str>,
        limit: usize,
    ) -> Found {
        let searched = || -> Result<Found, Reason> {
            let schema = &self.rules().program.schema;
            let frame = Frame::find(schema, &subject.kind, &action.name, kind)?;
            let mut notes = Vec::new();
            let mut shaper = Shaper {
                schema,
                store: self.entities(),
                notes: &mut notes,
            };
            let known = shaper.party(
                "subject",
                frame.principal,
                &subject.id,
                &subject.properties,
                None,
            )?;
            let question = Question {
                action: action.clone(),
                context: context.clone(),
                resource: Resource {
                    id: String::new(),
                    properties: Map::new(),
                    kind: kind.to_owned(),
                },
                subject: subject.clone(),
            };
            let sample = facts(&question);
            let facts_known = Known {
                facts: &sample,
                scope: Scope::ANY,
                arguments: &action.properties,
                reads: self.rules().reads,
            };
            let context = shaper.context(frame.action, context, facts_known)?;
            let plain = self.is_plain(&sample, &question);
            let search = Search {
                side: Side::Resource,
                whole: (!plain).then_some(Whole { question, facts }),
                frame,
                known,
                context: Arc::new(context),
            };
            Ok(self.search(&search, after, limit))
        };
        searched().unwrap_or_default()
    }

    /// Finds what `subject` may do to `resource` (AuthZEN 1.0 §8.6).
    ///
    /// A name found is one that [`Snapshot::decide`] takes for the same action: the id, or the full form
    /// `Ns::Action::"id"` where the id alone would mean another namespace's action.
    pub fn search_actions(
        &self,
        subject: &Subject,
        resource: &Resource,
        context: &Map<String, Json>,
        facts: &dyn Fn(&Question) -> Facts,
        after: Option<&str>,
        limit: usize,
    ) -> Found {
        let schema = &self.rules().program.schema;
        let Ok((principal, kind)) = Frame::types(schema, &subject.kind, &resource.kind) else {
            return Found::default();
        };
        let mut named: BTreeMap<String, &ActionSchema> = BTreeMap::new();
        for action in schema.actions.values().flatten() {
            let id: &str = action.uid.eid().as_ref();
            let meant = resolve(schema, id, principal, kind);
            let name = match meant {
                Some(meant) if meant.uid == action.uid => id.to_owned(),
                _ => action.uid.to_string(),
            };
            let frame = Frame {
                principal,
                action,
                resource: kind,
            };
            if frame.applies() {
                named.insert(name, action);
            }
        }
        let mut notes = Vec::new();
        let mut shaper = Shaper {
            schema,
            store: self.entities(),
            notes: &mut notes,
        };
        let Ok(parties) = shaper.parties(principal, subject, kind, resource) else {
            return Found::default();
        };
        let mut question = Question {
            action: Action {
                name: String::new(),
                properties: Map::new(),
            },
            context: context.clone(),
            resource: resource.clone(),
            subject: subject.clone(),
        };
        let sample = facts(&question);
        let plain = self.is_plain(&sample, &question);
        let hits = named
            .into_iter()
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .filter(|(name, action)| {
                if !plain {
                    question.action.name.clone_from(name);
                    return self.permits_whole(&question, facts);
                }
                let known = Known {
                    facts: &sample,
                    scope: Scope::ANY,
                    arguments: &Map::new(),
                    reads: self.rules().reads,
                };
                let context = shaper.context(action, context, known);
                context.is_ok_and(|context| {
                    let (principal, resource) = parties.clone();
                    self.may(Shaped {
                        principal,
                        action,
                        resource,
                        context: Arc::new(context),
                        scope: Scope::ANY,
                    })
                })
            })
            .map(|(name, _)| name);
        page(hits, limit)
    }

    /// Whether the facts of every candidate are these: nothing is registered, stopped or in a task that bears on it.
    fn is_plain(&self, sample: &Facts, question: &Question) -> bool {
        let bare = sample.agent.is_none()
            && sample.call.is_none()
            && sample.hops.is_empty()
            && sample.kill.is_none()
            && !sample.hop
            && !sample.subject_not_yours
            && sample.task.is_none()
            && sample.tool.is_none()
            && sample.approval.is_none()
            && !sample.approved
            && sample.exceptions.is_empty();
        bare && question.obligations_supported().is_none()
            && question.task().is_none()
            && !self.has_registered()
            && self.live().is_quiet()
    }

    fn permits_whole(&self, question: &Question, facts: &dyn Fn(&Question) -> Facts) -> bool {
        self.decide(question, &facts(question)).verdict == Verdict::Permit
    }

    /// Tries the stored entities of a type, or only those that some permit names if every permit names some.
    fn search(&self, search: &Search<'_>, after: Option<&str>, limit: usize) -> Found {
        let ids = self.entities().ids(search.kind(), after);
        let mut question = search.whole.as_ref().map(|whole| whole.question.clone());
        let permitted = |id: &&SmolStr| match (&search.whole, &mut question) {
            (Some(whole), Some(question)) => {
                match search.side {
                    Side::Subject => id.as_str().clone_into(&mut question.subject.id),
                    Side::Resource => id.as_str().clone_into(&mut question.resource.id),
                }
                self.permits_whole(question, whole.facts)
            }
            _ => self.may(search.with(id)),
        };
        match self.named(search) {
            None => page(ids.filter(permitted), limit),
            Some(named) => page(
                ids.filter(|id| named.contains(*id)).filter(permitted),
                limit,
            ),
        }
    }

    /// Whether a shaped question is permitted; what cannot be decided is not.
    fn may(&self, shaped: Shaped<'_>) -> bool {
        let permitted = || self.gather(shaped).is_ok_and(|asked| self.permits(&asked));
        catch_unwind(AssertUnwindSafe(permitted)).unwrap_or(false)
    }

    /// Returns the ids that the permits which can apply name or have below what they name; `None` if one names nothing.
    fn named(&self, search: &Search<'_>) -> Option<FxHashSet<SmolStr>> {
        let mut roots = Vec::new();
        for policy in &self.rules().program.policies {
            let scope = &policy.scope;
            if policy.effect == Effect::Forbid
                || policy.shadow
                || !in_action(&scope.action, search.frame.action)
            {
                continue;
            }
            let (known, searched) = match search.side {
                Side::Subject => (&scope.resource, &scope.principal),
                Side::Resource => (&scope.principal, &scope.resource),
            };
            if !self.in_scope(known, &search.known) {
                continue;
            }
            match searched {
                EntityScope::Any => return None,
                EntityScope::Is(kind) if kind == search.kind() => return None,
                EntityScope::Is(_) => {}
                EntityScope::Eq(uid) | EntityScope::In(uid) | EntityScope::IsIn(_, uid) => {
                    roots.push(EntityUID::clone(uid));
                }
            }
        }
        Some(self.entities().ids_of_families(search.kind(), &roots))
    }

    /// Whether a party satisfies what a scope demands of it.
    fn in_scope(&self, scope: &EntityScope, party: &Party) -> bool {
        let within =
            |above: &EntityUID| party.uid == *above || self.entities().is_below(&party.uid, above);
        match scope {
            EntityScope::Any => true,
            EntityScope::Is(kind) => party.uid.entity_type() == kind,
            EntityScope::Eq(uid) => party.uid == **uid,
            EntityScope::In(uid) => within(uid),
            EntityScope::IsIn(kind, uid) => party.uid.entity_type() == kind && within(uid),
        }
    }
}

// === impl Search ===

impl<'s> Search<'s> {
    fn kind(&self) -> &'s EntityType {
        match self.side {
            Side::Subject => &self.frame.principal.name,
            Side::Resource => &self.frame.resource.name,
        }
    }

    /// Asks about one of the entities searched.
    fn with(&self, id: &SmolStr) -> Shaped<'s> {
        let searched = Party {
            uid: EntityUID::from_components(self.kind().clone(), Eid::new(id.clone()), None),
            asserted: None,
        };
        let (principal, resource) = match self.side {
            Side::Subject => (searched, self.known.clone()),
            Side::Resource => (self.known.clone(), searched),
        };
        Shaped {
            principal,
            action: self.frame.action,
            resource,
            context: Arc::clone(&self.context),
            scope: Scope::ANY,
        }
    }
}

/// Whether an action satisfies what a scope demands of it.
fn in_action(scope: &ActionScope, action: &ActionSchema) -> bool {
    match scope {
        ActionScope::Any => true,
        ActionScope::Eq(uid) => *uid == action.uid,
        ActionScope::In(uids) => uids
            .iter()
            .any(|uid| *uid == action.uid || action.ancestors.contains(uid)),
    }
}

/// Takes the first `limit` of what was found, and looks whether there is one more.
fn page<T: ToString>(mut hits: impl Iterator<Item = T>, limit: usize) -> Found {
    let ids = hits
        .by_ref()
        .take(limit)
        .map(|hit| hit.to_string())
        .collect();
    Found {
        ids,
        more: hits.next().is_some(),
    }
}
