//! Drawing questions and facts for a bundle, at random.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use remit_core::{
    Action, Budget, CallFacts, CaseFacts, Declaration, Dimension, EntityUid, Facts, Hop, KeyId,
    Label, Question, Resource, Subject, TaskFacts, TaskId, TaskState, Timestamp, Tool, Window,
    World, trusted_sinks,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Monday, 2026-01-05T10:00:00Z.
pub const NOW: i64 = 1_767_607_200_000_000;

/// Draws the arguments of a call.
pub type Arguments = fn(&mut StdRng) -> Value;

/// What a bundle knows, to draw questions and facts from.
pub struct Ground<'g> {
    /// The bundle.
    pub snapshot: &'g Snapshot,
    /// The type of agents.
    pub agent: &'g str,
    /// Somebody for whom agents work.
    pub person: EntityUid,
    /// Names of actions, each with a resource that it applies to and arguments for it.
    pub calls: Vec<(&'g str, EntityUid, Arguments)>,
    /// Names of actions and groups that a task may be declared for.
    pub names: Vec<&'g str>,
    /// What a task may be declared to act on.
    pub resources: Vec<EntityUid>,
    /// Roles that policies know.
    pub roles: Vec<&'g str>,
    /// Data classes that policies know.
    pub classes: Vec<&'g str>,
    /// Sinks that calls name.
    pub sinks: Vec<&'g str>,
}

/// A question with the facts that go with it.
#[derive(Clone)]
pub struct Drawn {
    pub question: Question,
    pub facts: Facts,
}

/// Draws one of these.
pub fn pick<'t, T>(rng: &mut StdRng, all: &'t [T]) -> &'t T {
    &all[rng.random_range(0..all.len())]
}

/// Draws some of these, often all of them.
pub fn some<T: Clone + Ord>(rng: &mut StdRng, all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let most = if rng.random_bool(0.5) { 1.0 } else { 0.6 };
    all.into_iter().filter(|_| rng.random_bool(most)).collect()
}

// === impl Ground ===

impl Ground<'_> {
    /// Draws a question in a chain of tasks, with facts as they would be gathered.
    pub fn draw(&self, rng: &mut StdRng) -> Drawn {
        let (name, resource, arguments) = pick(rng, &self.calls);
        let Value::Object(properties) = arguments(rng) else {
            panic!("arguments are an object");
        };
        let subject = self.agent_named(0);
        let id = TaskId::from_uuid(Uuid::from_u128(rng.random()));
        let mut question = Question {
            action: Action {
                name: (*name).to_owned(),
                properties,
            },
            context: Map::new(),
            resource: Resource {
                id: resource.id.to_string(),
                properties: Map::new(),
                kind: resource.kind.to_string(),
            },
            subject: Subject {
                id: subject.id.to_string(),
                properties: Map::new(),
                kind: subject.kind.to_string(),
            },
        };
        if rng.random_bool(0.5) {
            question
                .context
                .insert("task".to_owned(), json!(id.to_string()));
        }
        let tool = rng.random_bool(0.9).then(|| self.tool(rng, name));
        let depth = *pick(rng, &[0, 0, 0, 1, 2]);
        let chain = self.chain(rng, depth);
        let labels = self.labels(rng);
        let call = CallFacts::of(&question, tool.as_ref(), Some(&labels));
        let mut hops: Vec<Hop> = Vec::new();
        let person = chain[0].on_behalf_of.clone();
        let mut task = None;
        for (place, declaration) in chain.into_iter().enumerate().rev() {
            let facts = task_facts(rng, declaration, place, &labels, &call);
            if task.is_none() {
                task = Some(TaskFacts { id, ..facts });
                continue;
            }
            hops.push(Hop {
                agent: Some(self.agent(rng, &question)),
                principal: self.agent_named(depth - place),
                task: Some(facts),
            });
        }
        hops.extend(person.map(|principal| Hop {
            agent: None,
            principal,
            task: None,
        }));
        let facts = Facts {
            agent: Some(self.agent(rng, &question)),
            approved: rng.random_bool(0.3),
            call: Some(call),
            hops,
            task,
            tool,
            ..Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW))
        };
        Drawn { question, facts }
    }

    /// Draws the labels of a task.
    pub fn labels(&self, rng: &mut StdRng) -> BTreeSet<Label> {
        let mut labels: BTreeSet<Label> = BTreeSet::new();
        for label in [Label::untrusted(), Label::private()] {
            if rng.random_bool(0.3) {
                labels.insert(label);
            }
        }
        for class in &self.classes {
            if rng.random_bool(0.2) {
                labels.insert(Label::class(class));
            }
        }
        labels
    }

    /// Draws declarations from the one that nobody handed on downwards, each within the one before it.
    pub fn chain(&self, rng: &mut StdRng, depth: usize) -> Vec<Declaration> {
        let mut chain = vec![self.declaration(rng)];
        chain[0].may_delegate = depth > 0 || rng.random_bool(0.5);
        for place in 1..=depth {
            let parent = chain[place - 1].clone();
            let mut child = self.within(rng, &parent);
            child.agent = self.agent_named(depth - place);
            child.may_delegate = place < depth;
            child.parent = Some(TaskId::from_uuid(Uuid::from_u128(rng.random())));
            let depth = u16::try_from(place).unwrap();
            let exceeded = world(self.snapshot, |world| child.exceeds(&parent, depth, &world));
            assert_eq!(exceeded, None, "{child:?} within {parent:?}");
            chain.push(child);
        }
        chain[0].agent = self.agent_named(depth);
        chain
    }

    /// Draws a declaration of its own.
    pub fn declaration(&self, rng: &mut StdRng) -> Declaration {
        let limited = |rng: &mut StdRng| rng.random_bool(0.5);
        Declaration {
            actions: limited(rng).then(|| some(rng, self.names.iter().map(|name| (*name).into()))),
            agent: self.agent_named(0),
            budget: Budget {
                calls: limited(rng).then(|| rng.random_range(1..10)),
                amount: limited(rng).then(|| rng.random_range(0..5_000)),
                ..Budget::default()
            },
            data_classes: limited(rng)
                .then(|| some(rng, self.classes.iter().map(|class| (*class).into()))),
            expires_at: Timestamp::from_micros(NOW + 1_000_000 * rng.random_range(1..1_000)),
            intent: (*pick(rng, &["", "Pay p and tell pal@acme.example."])).to_owned(),
            may_delegate: rng.random_bool(0.5),
            on_behalf_of: rng.random_bool(0.3).then(|| self.person.clone()),
            parent: None,
            purpose: "test".into(),
            resources: limited(rng).then(|| some(rng, self.resources.iter().cloned())),
            sinks: limited(rng).then(|| some(rng, self.sinks.iter().map(|sink| (*sink).into()))),
            template: None,
            window: rng.random_bool(0.2).then(|| Window {
                days: some(rng, 1..=7),
                from: rng.random_range(0..700),
                until: rng.random_range(701..=1_440),
            }),
        }
        .in_one_spelling()
    }

    /// Draws a declaration that is nowhere wider than another.
    pub fn within(&self, rng: &mut StdRng, parent: &Declaration) -> Declaration {
        let own = self.declaration(rng);
        let fewer = |rng: &mut StdRng, mine: Option<u64>, theirs: Option<u64>| match theirs {
            None => mine,
            Some(most) => Some(rng.random_range(0..=most)),
        };
        Declaration {
            actions: narrowed(rng, own.actions.clone(), parent.actions.as_ref()),
            budget: Budget {
                calls: fewer(rng, own.budget.calls, parent.budget.calls),
                amount: fewer(rng, own.budget.amount, parent.budget.amount),
                ..Budget::default()
            },
            data_classes: narrowed(rng, own.data_classes.clone(), parent.data_classes.as_ref()),
            expires_at: own.expires_at.min(parent.expires_at),
            on_behalf_of: parent.on_behalf_of.clone(),
            resources: narrowed(rng, own.resources.clone(), parent.resources.as_ref()),
            sinks: narrowed(rng, own.sinks.clone(), parent.sinks.as_ref()),
            window: parent.window.as_ref().map_or(own.window.clone(), |window| {
                let mut days = window.days.clone();
                if days.len() > 1 && rng.random_bool(0.3) {
                    days.pop_last();
                }
                let from = rng.random_range(window.from..window.until);
                Some(Window {
                    days,
                    from,
                    until: rng.random_range(from + 1..=window.until),
                })
            }),
            ..own
        }
    }

    /// Draws a tool of the name of an action.
    pub fn tool(&self, rng: &mut StdRng, name: &str) -> Tool {
        let classes: Vec<&str> = self
            .classes
            .iter()
            .copied()
            .filter(|_| rng.random_bool(0.2))
            .collect();
        let clearance: Option<Vec<&str>> = rng.random_bool(0.7).then(|| self.classes.clone());
        let sinks: &[&str] = if rng.random_bool(0.8) { &["to"] } else { &[] };
        let amount = (name == "transfer" && rng.random_bool(0.8))
            .then(|| json!({ "argument": "amount", "scale": 0 }));
        let mut tool = json!({
            "name": name, "effect": "write", "owner": "platform", "classes": classes, "integrity": pick(rng, &["trusted", "untrusted"]),
            "confidentiality": pick(rng, &["public", "private"]), "irreversible": rng.random_bool(0.5),
            "min_trust": rng.random_range(0..3), "sinks": sinks, "clearance": clearance,
        });
        if let Some(amount) = amount {
            tool["amount"] = amount;
        }
        serde_json::from_value(tool).unwrap()
    }

    fn agent(&self, rng: &mut StdRng, question: &Question) -> remit_core::AgentFacts {
        let roles: Vec<&str> = self
            .roles
            .iter()
            .copied()
            .filter(|_| rng.random_bool(0.9))
            .collect();
        let standing = if rng.random_bool(0.95) {
            "active"
        } else {
            "suspended"
        };
        let written = json!({ "agent": {
            "standing": standing, "trust": rng.random_range(0..=3), "roles": roles,
            "environment": pick(rng, &["dev", "production"]),
        } });
        let facts: CaseFacts = serde_json::from_value(written).unwrap();
        let plain = Facts::plain(KeyId::nil(), "dev", Timestamp::from_micros(NOW));
        facts.over(plain, question).agent.unwrap()
    }

    fn agent_named(&self, number: usize) -> EntityUid {
        EntityUid::new(self.agent, format!("agent {number}"))
    }
}

/// Makes what is known of a task.
fn task_facts(
    rng: &mut StdRng,
    declaration: Declaration,
    place: usize,
    labels: &BTreeSet<Label>,
    call: &CallFacts,
) -> TaskFacts {
    let trusted = trusted_sinks(&declaration, &[], call.sinks.iter().chain(&call.links));
    TaskFacts {
        depth: u16::try_from(place).unwrap(),
        digest: Some(declaration.digest()),
        exhausted: rng.random_bool(0.03).then_some(Dimension::Calls),
        id: TaskId::from_uuid(Uuid::from_u128(rng.random())),
        labels: labels.clone(),
        state: if rng.random_bool(0.97) {
            TaskState::Active
        } else {
            TaskState::Suspended
        },
        trusted_sinks: trusted,
        declaration: Some(declaration),
    }
}

/// Hands over what a snapshot says of names in declarations.
pub fn world<T>(snapshot: &Snapshot, with: impl for<'w> FnOnce(World<'w>) -> T) -> T {
    let action_in = |name: &str, group: &str| snapshot.action_in(name, group);
    let below = |uid: &EntityUid, above: &EntityUid| snapshot.below(uid, above);
    with(World {
        action_in: &action_in,
        below: &below,
    })
}

fn narrowed<T: Clone + Ord>(
    rng: &mut StdRng,
    own: Option<BTreeSet<T>>,
    parent: Option<&BTreeSet<T>>,
) -> Option<BTreeSet<T>> {
    match parent {
        None => own,
        Some(parent) => Some(some(rng, parent.iter().cloned())),
    }
}
