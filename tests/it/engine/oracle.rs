//! The oracle: stock Cedar through its public API from the same texts, with our error rule on top.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityUid as CedarUid, Policy,
    PolicyId as CedarPolicyId, PolicySet, Request, Response, Schema, SlotId, Template,
};
use remit_core::{Effect, Entity, EntityUid, Facts, Link, Reason};
use serde_json::{Value, json};

use super::questions::{Case, cedar_facts};
use super::rules::Rule;

/// A bundle as Cedar sees it.
pub struct Oracle {
    schema: Schema,
    enforced: PolicySet,
    /// Shadow policies by effect: a response names the satisfied ones of the effect that decides, so that one set for
    /// each effect names them all.
    shadow: [PolicySet; 2],
    stored: Vec<Entity>,
    entities: Entities,
    forbids: BTreeSet<String>,
}

/// What should come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub reason: Reason,
    pub determining: BTreeSet<String>,
    pub errors: BTreeSet<String>,
    /// Shadow policies, and whether each errored.
    pub shadow: BTreeMap<String, bool>,
}

impl Oracle {
    /// Reads the same texts; the schema gets the facts namespace joined, as the engine joins it.
    pub fn new(schema: &str, rules: &[Rule], entities: &[Entity]) -> Self {
        let (schema, _) = Schema::from_cedarschema_str(schema).unwrap();
        let mut sets = [PolicySet::new(), PolicySet::new(), PolicySet::new()];
        let mut forbids = BTreeSet::new();
        for rule in rules {
            let forbid = rule.effect == Effect::Forbid;
            let set = &mut sets[match (rule.shadow, forbid) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            }];
            for id in add(set, rule) {
                if forbid {
                    forbids.insert(id);
                }
            }
        }
        let [enforced, permits, denies] = sets;
        Self {
            entities: cedar_entities(&schema, entities),
            schema,
            enforced,
            shadow: [permits, denies],
            stored: entities.to_vec(),
            forbids,
        }
    }

    /// Asks Cedar and applies the error rule.
    pub fn expect(&self, case: &Case) -> Expected {
        let overlaid;
        let entities = if case.asserted.is_empty() {
            &self.entities
        } else {
            overlaid = self.overlay(case);
            &overlaid
        };
        let facts = |approved: bool| Facts {
            approved,
            ..case.facts.clone()
        };
        // Nobody's approval is needed for what is permitted without; an approval cures no error.
        let mut counted = facts(false);
        let (mut reason, mut response) = self.enforce(case, &counted, entities);
        let requestable = |reason| matches!(reason, Reason::PolicyForbid | Reason::NoPermit);
        let mut helps = false;
        if requestable(reason) {
            let approved = self.enforce(case, &facts(true), entities);
            if case.facts.approved {
                counted = facts(true);
                (reason, response) = approved;
            } else {
                helps = approved.0 == Reason::PolicyPermit;
            }
        }
        let mut expected = Expected {
            reason,
            determining: reasons(&response),
            errors: errors(&response),
            shadow: BTreeMap::new(),
        };
        if reason == Reason::PolicyError {
            if response.decision() == CedarDecision::Allow {
                expected.determining.clear();
            }
            let failed = expected.errors.intersection(&self.forbids).cloned();
            expected.determining.extend(failed);
        }
        if helps {
            expected.reason = Reason::ApprovalRequired;
        }
        for set in &self.shadow {
            let response = self.ask(set, case, &counted, entities);
            expected
                .shadow
                .extend(reasons(&response).into_iter().map(|id| (id, false)));
            expected
                .shadow
                .extend(errors(&response).into_iter().map(|id| (id, true)));
        }
        expected
    }

    fn enforce(&self, case: &Case, facts: &Facts, entities: &Entities) -> (Reason, Response) {
        let response = self.ask(&self.enforced, case, facts, entities);
        let failed = errors(&response).iter().any(|id| self.forbids.contains(id));
        let determined = response.diagnostics().reason().next().is_some();
        let reason = match (failed, response.decision(), determined) {
            (true, _, _) => Reason::PolicyError,
            (false, CedarDecision::Allow, _) => Reason::PolicyPermit,
            (false, CedarDecision::Deny, true) => Reason::PolicyForbid,
            (false, CedarDecision::Deny, false) => Reason::NoPermit,
        };
        (reason, response)
    }

    fn ask(&self, set: &PolicySet, case: &Case, facts: &Facts, entities: &Entities) -> Response {
        Authorizer::new().is_authorized(&self.request(case, facts), set, entities)
    }

    /// Makes Cedar's request; it is validated, so that a question outside the schema would show.
    pub fn request(&self, case: &Case, facts: &Facts) -> Request {
        let question = &case.question;
        let name = question.action.name.as_str();
        let action = if name.ends_with('"') {
            name.to_owned()
        } else {
            format!("App::Action::\"{name}\"")
        };
        let action = CedarUid::from_str(&action).unwrap();
        let mut context = case.context.clone();
        context.insert("facts".to_owned(), cedar_facts(facts));
        let context = Context::from_json_value(Value::Object(context), None).unwrap();
        let uid = |kind: &str, id: &str| cedar_uid(&EntityUid::new(kind, id));
        Request::new(
            uid(&question.subject.kind, &question.subject.id),
            action,
            uid(&question.resource.kind, &question.resource.id),
            context,
            Some(&self.schema),
        )
        .unwrap()
    }

    /// Returns the entities with what the subject asserts of itself.
    ///
    /// One that is not stored has nothing but what is asserted, which no schema would let Cedar load.
    fn overlay(&self, case: &Case) -> Entities {
        let subject = EntityUid::new(&case.question.subject.kind, &case.question.subject.id);
        let mut entities = self.stored.clone();
        match entities.iter_mut().find(|entity| entity.uid == subject) {
            Some(entity) => {
                entity.attrs.extend(case.asserted.clone());
                cedar_entities(&self.schema, &entities)
            }
            None => {
                let alone = json!([{"uid": {"type": subject.kind, "id": subject.id}, "attrs": case.asserted, "parents": []}]);
                let alone = Entities::from_json_value(alone, None).unwrap();
                self.entities.clone().add_entities(alone, None).unwrap()
            }
        }
    }
}

/// Loads entities as Cedar does, actions included.
pub fn cedar_entities(schema: &Schema, entities: &[Entity]) -> Entities {
    let json = serde_json::to_value(entities).unwrap();
    Entities::from_json_value(json, Some(schema)).unwrap()
}

/// Names an entity without going through a parser.
pub fn cedar_uid(uid: &EntityUid) -> CedarUid {
    CedarUid::from_json(json!({"type": uid.kind, "id": uid.id})).unwrap()
}

/// Adds a rule or the links of a template; returns the ids that can determine a decision.
fn add(set: &mut PolicySet, rule: &Rule) -> Vec<String> {
    let id = CedarPolicyId::new(&rule.id);
    match &rule.links {
        None => {
            set.add(Policy::parse(Some(id), &rule.text).unwrap())
                .unwrap();
            vec![rule.id.clone()]
        }
        Some(links) => {
            set.add_template(Template::parse(Some(id.clone()), &rule.text).unwrap())
                .unwrap();
            links.iter().map(|one| link(set, &id, one)).collect()
        }
    }
}

fn link(set: &mut PolicySet, template: &CedarPolicyId, link: &Link) -> String {
    let slots = link
        .slots
        .iter()
        .map(|(slot, uid)| {
            let slot = if slot == "?principal" {
                SlotId::principal()
            } else {
                SlotId::resource()
            };
            (slot, cedar_uid(uid))
        })
        .collect();
    let id = link.id.to_string();
    set.link(template.clone(), CedarPolicyId::new(&id), slots)
        .unwrap();
    id
}

fn reasons(response: &Response) -> BTreeSet<String> {
    response
        .diagnostics()
        .reason()
        .map(ToString::to_string)
        .collect()
}

fn errors(response: &Response) -> BTreeSet<String> {
    let errors = response.diagnostics().errors();
    errors
        .map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                error.policy_id().to_string()
            }
        })
        .collect()
}
