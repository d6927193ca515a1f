//! The policies, entities and questions of the engine's benchmark: agents that call tools on servers.

use std::collections::HashSet;
use std::str::FromStr;

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

/// Everything both sides decide over.
pub struct World {
    pub snapshot: Snapshot,
    pub policies: PolicySet,
    pub entities: Entities,
    schema: Schema,
    agents: usize,
    tools: usize,
    /// Who and what the policies name, so that most questions meet one.
    named: Vec<(usize, usize, &'static str)>,
}

// === impl World ===

impl World {
    /// Makes a world of that many policies, always the same one.
    pub fn new(policies: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(20_261_122);
        let (agents, tools) = (
            policies.clamp(100, 20_000) / 2,
            policies.clamp(100, 4_000) / 2,
        );
        let mut named = Vec::new();
        let mut texts = Vec::with_capacity(policies);
        for number in 0..policies {
            let guards = GUARDS.len().min(policies / 5);
            let body = match GUARDS.get(number).filter(|_| number < guards) {
                Some(guard) => (*guard).to_owned(),
                None => permit(&mut rng, agents, tools, &mut named),
            };
            texts.push(format!("@id(\"p{number:06}\")\n{body}"));
        }
        let stored = entities(&mut rng, agents, tools);
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a schema");
        let mut set = PolicySet::new();
        for (number, text) in texts.iter().enumerate() {
            let id = PolicyId::new(format!("p{number:06}"));
            set.add(Policy::parse(Some(id), text).expect("a policy"))
                .expect("a new id");
        }
        let json = serde_json::to_value(&stored).expect("JSON");
        let source = |file: &str, text: String| Source {
            file: file.to_owned(),
            text,
        };
        let bundle = Bundle {
            schema: vec![source("bench.cedarschema", SCHEMA.to_owned())],
            policies: texts
                .chunks(100)
                .enumerate()
                .map(|(number, texts)| source(&format!("{number:05}.cedar"), texts.join("\n")))
                .collect(),
            ..Bundle::default()
        };
        let snapshot = Snapshot::compile(&bundle).expect("a bundle that compiles");
        Self {
            snapshot: snapshot
                .with_entities(&stored, &[])
                .expect("entities that fit"),
            policies: set,
            entities: Entities::from_json_value(json, Some(&schema)).expect("entities that fit"),
            schema,
            agents,
            tools,
            named,
        }
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
            let action = ACTIONS.get(rng.random_range(0..ACTIONS.len())).copied();
            let (agent, tool) = (
                rng.random_range(0..self.agents),
                rng.random_range(0..self.tools),
            );
            (agent, tool, action.unwrap_or_default())
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

/// Makes a permit: mostly one agent and one tool, else a team and a server.
fn permit(
    rng: &mut StdRng,
    agents: usize,
    tools: usize,
    named: &mut Vec<(usize, usize, &'static str)>,
) -> String {
    let (agent, tool) = (rng.random_range(0..agents), rng.random_range(0..tools));
    let action = ACTIONS
        .get(rng.random_range(0..ACTIONS.len()))
        .copied()
        .unwrap_or_default();
    let scope = match rng.random_range(0..10) {
        0..7 => {
            named.push((agent, tool, action));
            format!(
                "principal == Bench::Agent::\"agent-{agent}\", action == Bench::Action::\"{action}\", \
                 resource == Bench::Tool::\"tool-{tool}\""
            )
        }
        7 => {
            named.push((agent, tool, action));
            format!(
                "principal == Bench::Agent::\"agent-{agent}\", action, resource in Bench::Server::\"server-{}\"",
                tool / 20
            )
        }
        8 => format!(
            "principal in Bench::Team::\"team-{}\", action == Bench::Action::\"{action}\", \
             resource == Bench::Tool::\"tool-{tool}\"",
            agent / 20
        ),
        _ => format!(
            "principal in Bench::Team::\"team-{}\", action in Bench::Action::\"views\", \
             resource in Bench::Server::\"server-{}\"",
            agent / 20,
            tool / 20
        ),
    };
    let amount = rng.random_range(2_000..20_000);
    format!(
        "permit ({scope})\nwhen {{ context.amount < {amount} && resource.risk < principal.level + 60 }};"
    )
}

/// Makes the agents in their teams and the tools on their servers.
fn entities(rng: &mut StdRng, agents: usize, tools: usize) -> Vec<Entity> {
    let entity = |kind: &str, id: String, attrs: Value, above: Option<(&str, String)>| Entity {
        uid: EntityUid::new(format!("Bench::{kind}"), id),
        attrs: match attrs {
            Value::Object(members) => members,
            _ => Map::new(),
        },
        parents: above
            .into_iter()
            .map(|(kind, id)| EntityUid::new(format!("Bench::{kind}"), id))
            .collect(),
        tags: Map::new(),
    };
    let mut entities = Vec::new();
    let mut groups = HashSet::new();
    for agent in 0..agents {
        let attrs = json!({"level": rng.random_range(0..100), "tenant": "acme", "trusted": rng.random_bool(0.2)});
        entities.push(entity(
            "Agent",
            format!("agent-{agent}"),
            attrs,
            Some(("Team", format!("team-{}", agent / 20))),
        ));
        if groups.insert(agent / 20) {
            let above = Some(("Team", format!("division-{}", agent / 400)));
            entities.push(entity(
                "Team",
                format!("team-{}", agent / 20),
                json!({}),
                above,
            ));
        }
    }
    for tool in 0..tools {
        let tenant = if rng.random_bool(0.95) {
            "acme"
        } else {
            "other"
        };
        let attrs = json!({"risk": rng.random_range(0..100), "tenant": tenant});
        entities.push(entity(
            "Tool",
            format!("tool-{tool}"),
            attrs,
            Some(("Server", format!("server-{}", tool / 20))),
        ));
    }
    entities
}
