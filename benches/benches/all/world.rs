//! The policies, entities and questions of the engine's benchmark: agents that call tools on servers.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Instant;

use cedar_policy::{
    Context, Entities, EntityUid as CedarUid, Policy, PolicyId, PolicySet, Request, Schema,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{Action, Bundle, Entity, EntityUid, Question, Resource, Source, Subject};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};

const SCHEMA: &str = r#"
namespace Bench {
  entity Team in [Team];
  entity Agent in [Team] { level: Long, tenant: String, trusted: Bool };
  entity Server;
  entity Tool in [Server] { risk: Long, tenant: String };
  type Call = { amount: Long, path: String, mfa: Bool, depth: Long, score: decimal };
  action effects, views;
  action call, write, send in [effects] appliesTo { principal: Agent, resource: Tool, context: Call };
  action read, list in [views] appliesTo { principal: Agent, resource: Tool, context: Call };
}
"#;

/// How many agents are in a team, and tools on a server.
const GROUP: usize = 20;
const ACTIONS: [&str; 5] = ["call", "write", "send", "read", "list"];

/// Rules that every question meets, as an organisation's guard-rails do.
const GUARDS: [&str; 8] = [
    "forbid (principal, action, resource) when { context.depth > 8 };",
    "forbid (principal, action, resource) when { context.score.lessThan(decimal(\"0.01\")) };",
    "forbid (principal, action, resource) when { principal.tenant != resource.tenant };",
    "forbid (principal, action in Bench::Action::\"effects\", resource) unless { context.mfa };",
    "forbid (principal, action, resource) when { resource.risk > 95 && !principal.trusted };",
    "forbid (principal, action, resource) when { context.path like \"*/secret/*\" };",
    "forbid (principal, action == Bench::Action::\"send\", resource) when { context.amount > 9900 };",
    "permit (principal, action == Bench::Action::\"list\", resource) when { principal.level > 90 };",
];

/// Everything that is decided over.
pub struct World {
    pub snapshot: Snapshot,
    /// How long compiling the bundle took, in seconds.
    pub compiled: f64,
    texts: Vec<String>,
    agents: usize,
    tools: usize,
    guards: usize,
    /// Who and what the policies name, so that most questions meet one.
    named: Vec<(usize, usize, &'static str)>,
    /// The actions of the permits, by whom and what their scopes name.
    scopes: HashMap<(Name, Name), Vec<Acts>>,
}

/// The same policies and entities for Cedar's own `Authorizer`.
pub struct Plain {
    pub policies: PolicySet,
    pub entities: Entities,
    schema: Schema,
}

/// Which entity a scope names: itself, or the group it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Itself(usize),
    Group(usize),
}

/// Which actions a scope names.
#[derive(Debug, Clone, Copy)]
enum Acts {
    One(&'static str),
    Views,
    Any,
}

// === impl World ===

impl World {
    /// Makes a world of that many policies and about that many entities, always the same one.
    ///
    /// `revision` is in the policies' ids, so that a decision tells which of two worlds made it.
    pub fn new(policies: usize, entities: usize, revision: &str) -> Self {
        let mut rng = StdRng::seed_from_u64(20_261_122);
        let (agents, tools) = parties(entities);
        let mut world = Self {
            snapshot: Snapshot::compile(&schema_alone()).expect("a schema alone"),
            compiled: 0.0,
            texts: Vec::with_capacity(policies),
            agents,
            tools,
            guards: GUARDS.len().min(policies / 5),
            named: Vec::new(),
            scopes: HashMap::new(),
        };
        for number in 0..policies {
            let body = match GUARDS.get(number).filter(|_| number < world.guards) {
                Some(guard) => (*guard).to_owned(),
                None => world.permit(&mut rng),
            };
            world
                .texts
                .push(format!("@id(\"{revision}{number:06}\")\n{body}"));
        }
        let start = Instant::now();
        let snapshot = Snapshot::compile(&world.bundle()).expect("a bundle that compiles");
        world.compiled = start.elapsed().as_secs_f64();
        let mut stored = entities_of(agents, tools).peekable();
        world.snapshot = snapshot;
        while stored.peek().is_some() {
            let chunk: Vec<Entity> = stored.by_ref().take(10_000).collect();
            let next = world.snapshot.with_entities(&chunk, &[]);
            world.snapshot = next.expect("entities that fit");
        }
        world
    }

    /// Writes the policies as a bundle.
    pub fn bundle(&self) -> Bundle {
        Bundle {
            policies: self
                .texts
                .chunks(100)
                .enumerate()
                .map(|(number, texts)| source(&format!("{number:05}.cedar"), texts.join("\n")))
                .collect(),
            ..schema_alone()
        }
    }

    /// Makes the same for Cedar's own `Authorizer`.
    pub fn plain(&self) -> Plain {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a schema");
        let mut policies = PolicySet::new();
        for (number, text) in self.texts.iter().enumerate() {
            let id = text
                .split('"')
                .nth(1)
                .map_or(number.to_string(), str::to_owned);
            let policy = Policy::parse(Some(PolicyId::new(id)), text).expect("a policy");
            policies.add(policy).expect("a new id");
        }
        let stored: Vec<Entity> = entities_of(self.agents, self.tools).collect();
        let json = serde_json::to_value(stored).expect("JSON");
        Plain {
            policies,
            entities: Entities::from_json_value(json, Some(&schema)).expect("entities that fit"),
            schema,
        }
    }

    /// Counts the policies whose scope a question satisfies, worked out from how the policies were drawn.
    pub fn candidates(&self, question: &Question) -> usize {
        let number = |id: &str| {
            id.rsplit('-')
                .next()
                .and_then(|it| it.parse::<usize>().ok())
        };
        let (Some(agent), Some(tool)) =
            (number(&question.subject.id), number(&question.resource.id))
        else {
            return usize::MAX;
        };
        let action = question.action.name.as_str();
        let views = matches!(action, "read" | "list");
        // The guards that name an action: effects, send, list.
        let guards = (0..self.guards).filter(|guard| match guard {
            3 => !views,
            6 => action == "send",
            7 => action == "list",
            _ => true,
        });
        let mut permits = 0;
        for who in [Name::Itself(agent), Name::Group(agent / GROUP)] {
            for what in [Name::Itself(tool), Name::Group(tool / GROUP)] {
                let acts = self.scopes.get(&(who, what)).into_iter().flatten();
                permits += acts
                    .filter(|acts| match acts {
                        Acts::One(one) => *one == action,
                        Acts::Views => views,
                        Acts::Any => true,
                    })
                    .count();
            }
        }
        guards.count() + permits
    }

    /// Draws questions that meet ten policies or fewer.
    pub fn narrow_questions(&self, round: usize, number: usize) -> Vec<Question> {
        let mut rng = StdRng::seed_from_u64(1_000 + round as u64);
        let mut questions = Vec::with_capacity(number);
        while questions.len() < number {
            let question = self.question(&mut rng);
            if self.candidates(&question) <= 10 {
                questions.push(question);
            }
        }
        questions
    }

    /// Draws questions, most of them about a pair that some policy names.
    pub fn questions(&self, round: usize, number: usize) -> Vec<Question> {
        let mut rng = StdRng::seed_from_u64(round as u64);
        (0..number).map(|_| self.question(&mut rng)).collect()
    }

    fn question(&self, rng: &mut StdRng) -> Question {
        let (agent, tool, action) = if rng.random_bool(0.8) && !self.named.is_empty() {
            self.named
                .get(rng.random_range(0..self.named.len()))
                .copied()
                .unwrap_or_default()
        } else {
            (
                rng.random_range(0..self.agents),
                rng.random_range(0..self.tools),
                pick(rng),
            )
        };
        let context = json!({
            "amount": rng.random_range(0..10_000),
            "path": format!("/home/{}/report", rng.random_range(0..100)),
            "mfa": rng.random_bool(0.9),
            "depth": rng.random_range(0..10),
            "score": {"__extn": {"fn": "decimal", "arg": format!("0.{:02}", rng.random_range(1..100))}},
        });
        Question {
            subject: Subject {
                kind: "Bench::Agent".to_owned(),
                id: format!("agent-{agent}"),
                properties: Map::new(),
            },
            action: Action {
                name: action.to_owned(),
                properties: Map::new(),
            },
            resource: Resource {
                kind: "Bench::Tool".to_owned(),
                id: format!("tool-{tool}"),
                properties: Map::new(),
            },
            context: match context {
                Value::Object(members) => members,
                _ => Map::new(),
            },
        }
    }

    /// Makes a permit: mostly one agent and one tool, else a team and a server.
    fn permit(&mut self, rng: &mut StdRng) -> String {
        let (agent, tool) = (
            rng.random_range(0..self.agents),
            rng.random_range(0..self.tools),
        );
        let action = pick(rng);
        let (team, server) = (agent / GROUP, tool / GROUP);
        let one = format!("action == Bench::Action::\"{action}\"");
        let itself = format!("principal == Bench::Agent::\"agent-{agent}\"");
        let in_team = format!("principal in Bench::Team::\"team-{team}\"");
        let this_tool = format!("resource == Bench::Tool::\"tool-{tool}\"");
        let on_server = format!("resource in Bench::Server::\"server-{server}\"");
        let (who, what, acts, scope) = match rng.random_range(0..10) {
            0..7 => (
                Name::Itself(agent),
                Name::Itself(tool),
                Acts::One(action),
                format!("{itself}, {one}, {this_tool}"),
            ),
            7 => (
                Name::Itself(agent),
                Name::Group(server),
                Acts::Any,
                format!("{itself}, action, {on_server}"),
            ),
            8 => (
                Name::Group(team),
                Name::Itself(tool),
                Acts::One(action),
                format!("{in_team}, {one}, {this_tool}"),
            ),
            _ => (
                Name::Group(team),
                Name::Group(server),
                Acts::Views,
                format!("{in_team}, action in Bench::Action::\"views\", {on_server}"),
            ),
        };
        if matches!(who, Name::Itself(_)) {
            self.named.push((agent, tool, action));
        }
        self.scopes.entry((who, what)).or_default().push(acts);
        let amount = rng.random_range(2_000..20_000);
        format!(
            "permit ({scope})\nwhen {{ context.amount < {amount} && resource.risk < principal.level + 60 }};"
        )
    }
}

// === impl Plain ===

impl Plain {
    /// Makes Cedar's request of a question.
    pub fn request(&self, question: &Question) -> Request {
        let uid = |kind: &str, id: &str| {
            CedarUid::from_str(&format!("{kind}::\"{id}\"")).expect("a name without quotes")
        };
        let context = Value::Object(question.context.clone());
        Request::new(
            uid(&question.subject.kind, &question.subject.id),
            uid("Bench::Action", &question.action.name),
            uid(&question.resource.kind, &question.resource.id),
            Context::from_json_value(context, None).expect("a context"),
            Some(&self.schema),
        )
        .expect("a request that fits")
    }
}

/// A bundle of the benchmark's schema and nothing else.
fn schema_alone() -> Bundle {
    Bundle {
        schema: vec![source("bench.cedarschema", SCHEMA.to_owned())],
        ..Bundle::default()
    }
}

fn source(file: &str, text: String) -> Source {
    Source {
        file: file.to_owned(),
        text,
    }
}

fn pick(rng: &mut StdRng) -> &'static str {
    let action = ACTIONS.get(rng.random_range(0..ACTIONS.len()));
    action.copied().unwrap_or_default()
}

/// Splits a number of entities into agents and tools; teams, divisions come with the agents.
fn parties(entities: usize) -> (usize, usize) {
    let agents = entities * 7 / 10;
    let tools = entities - agents - agents.div_ceil(GROUP);
    (agents, tools)
}

/// Makes about that many entities: agents in their teams and tools on their servers.
pub fn entities(number: usize) -> impl Iterator<Item = Entity> {
    let (agents, tools) = parties(number);
    entities_of(agents, tools)
}

fn entities_of(agents: usize, tools: usize) -> impl Iterator<Item = Entity> {
    let mut rng = StdRng::seed_from_u64(6);
    let teams = (0..agents.div_ceil(GROUP)).map(|team| {
        let above = ("Team", format!("division-{}", team / GROUP));
        entity("Team", format!("team-{team}"), json!({}), above)
    });
    let mut draws = StdRng::seed_from_u64(8);
    let agents = (0..agents).map(move |agent| {
        let attrs = json!({"level": draws.random_range(0..100), "tenant": "acme", "trusted": draws.random_bool(0.2)});
        let above = ("Team", format!("team-{}", agent / GROUP));
        entity("Agent", format!("agent-{agent}"), attrs, above)
    });
    let tools = (0..tools).map(move |tool| {
        let tenant = if rng.random_bool(0.95) {
            "acme"
        } else {
            "other"
        };
        let attrs = json!({"risk": rng.random_range(0..100), "tenant": tenant});
        let above = ("Server", format!("server-{}", tool / GROUP));
        entity("Tool", format!("tool-{tool}"), attrs, above)
    });
    teams.chain(agents).chain(tools)
}

fn entity(kind: &str, id: String, attrs: Value, above: (&str, String)) -> Entity {
    Entity {
        uid: EntityUid::new(format!("Bench::{kind}"), id),
        attrs: match attrs {
            Value::Object(members) => members,
            _ => Map::new(),
        },
        parents: vec![EntityUid::new(format!("Bench::{}", above.0), above.1)],
        tags: Map::new(),
    }
}
