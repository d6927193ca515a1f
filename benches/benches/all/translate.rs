//! The rule set in each engine's language, and a call in each engine's words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use remit_core::{Bundle, Entity, EntityUid, Question, Source};
use serde_json::{Map, Value, json};

use crate::rules::{Call, Rule, Rules};

/// How many policies stand in one file.
const FILE: usize = 100;

/// Writes the rules as a bundle of Cedar policies; `prefix` begins every policy's id.
pub fn bundle(rules: &Rules, prefix: &str) -> Bundle {
    let actions: Vec<String> = (0..rules.tools)
        .map(|tool| format!("\"tool-{tool}\""))
        .collect();
    let schema = format!(
        "entity Agent;\nentity Resource;\naction {} appliesTo {{ principal: Agent, resource: Resource, context: {{\n  \
         environment: String, data_class: Long, minute: Long, approved: Bool\n}} }};\n",
        actions.join(", ")
    );
    let texts: Vec<String> = rules
        .rules
        .iter()
        .enumerate()
        .map(|(number, rule)| format!("@id(\"{prefix}{number:06}\")\n{}\n", cedar(rule)))
        .collect();
    let stored = |kind: &str, id: String| Entity {
        uid: EntityUid::new(kind, id),
        attrs: Map::new(),
        parents: Vec::new(),
        tags: Map::new(),
    };
    Bundle {
        schema: vec![Source {
            file: "bench.cedarschema".to_owned(),
            text: schema,
        }],
        policies: texts
            .chunks(FILE)
            .enumerate()
            .map(|(number, texts)| Source {
                file: format!("{number:05}.cedar"),
                text: texts.join("\n"),
            })
            .collect(),
        entities: (0..rules.agents)
            .map(|agent| stored("Agent", format!("agent-{agent}")))
            .chain((0..rules.resources).map(|it| stored("Resource", format!("resource-{it}"))))
            .collect(),
        ..Bundle::default()
    }
}

fn cedar(rule: &Rule) -> String {
    let grant = rule.grant();
    let scope = format!(
        "(principal == Agent::\"agent-{}\", action == Action::\"tool-{}\", resource == Resource::\"resource-{}\")",
        grant.agent, grant.tool, grant.resource
    );
    match rule {
        Rule::Permit {
            environment,
            data_class,
            from,
            until,
            approval,
            ..
        } => format!(
            "permit {scope}\nwhen {{ context.environment == \"{environment}\" && context.data_class <= {data_class} && \
             context.minute >= {from} && context.minute < {until}{} }};",
            if *approval {
                " && context.approved"
            } else {
                ""
            }
        ),
        Rule::Forbid { data_class, .. } => format!(
            "forbid {scope}\nwhen {{ context.data_class > {data_class} && !context.approved }};"
        ),
    }
}

/// Writes the rules as one Rego module with a rule for each.
pub fn rego(rules: &Rules) -> String {
    let mut text =
        "package bench\nimport rego.v1\ndefault allow := false\nallow if {\n  permitted\n  not forbidden\n}\n".to_owned();
    for rule in &rules.rules {
        let grant = rule.grant();
        let head = match rule {
            Rule::Permit { .. } => "permitted",
            Rule::Forbid { .. } => "forbidden",
        };
        let _ = write!(
            text,
            "{head} if {{\n  input.subject.id == \"agent-{}\"\n  input.action.name == \"tool-{}\"\n  \
             input.resource.id == \"resource-{}\"\n",
            grant.agent, grant.tool, grant.resource
        );
        text.push_str(&match rule {
            Rule::Permit {
                environment,
                data_class,
                from,
                until,
                approval,
                ..
            } => format!(
                "  input.context.environment == \"{environment}\"\n  input.context.data_class <= {data_class}\n  \
                 input.context.minute >= {from}\n  input.context.minute < {until}\n{}}}\n",
                if *approval { "  input.context.approved\n" } else { "" }
            ),
            Rule::Forbid { data_class, .. } => format!(
                "  input.context.data_class > {data_class}\n  not input.context.approved\n}}\n"
            ),
        });
    }
    text
}

/// The Rego module that reads the rules from data, which [`rego_data`] writes.
pub const REGO_OVER_DATA: &str = "package bench
import rego.v1
default allow := false
allow if {
  permitted
  not forbidden
}
rules := data.grants[input.subject.id][input.action.name][input.resource.id]
permitted if {
  some rule in rules.permits
  input.context.environment == rule.environment
  input.context.data_class <= rule.data_class
  input.context.minute >= rule.from
  input.context.minute < rule.until
  approved(rule)
}
forbidden if {
  some rule in rules.forbids
  input.context.data_class > rule.data_class
  not input.context.approved
}
approved(rule) if not rule.approval
approved(rule) if input.context.approved
";

/// Writes the rules as data, by agent, tool and resource.
pub fn rego_data(rules: &Rules) -> Value {
    let mut grants = Map::new();
    for rule in &rules.rules {
        let grant = rule.grant();
        let mut place = &mut grants;
        for key in [
            format!("agent-{}", grant.agent),
            format!("tool-{}", grant.tool),
            format!("resource-{}", grant.resource),
        ] {
            place = place
                .entry(key)
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .expect("an object, as put");
        }
        let (list, data) = match rule {
            Rule::Permit {
                environment,
                data_class,
                from,
                until,
                approval,
                ..
            } => (
                "permits",
                json!({"environment": environment, "data_class": data_class, "from": from, "until": until, "approval": approval}),
            ),
            Rule::Forbid { data_class, .. } => ("forbids", json!({"data_class": data_class})),
        };
        for name in ["permits", "forbids"] {
            place.entry(name).or_insert_with(|| json!([]));
        }
        if let Some(items) = place.get_mut(list).and_then(Value::as_array_mut) {
            items.push(data);
        }
    }
    json!({ "grants": grants })
}

/// Writes the rules as Cerbos' policies, by file name: rules by role and action, an agent being a role of its own.
///
/// Cerbos knows kinds of resources. Either all resources are of one kind and conditions name them, as its manual has
/// it; or `kinds`, each is a kind of its own, which is the form that suits its index best.
pub fn cerbos(rules: &Rules, kinds: bool) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (number, rule) in rules.rules.iter().enumerate() {
        let grant = rule.grant();
        let (effect, expr) = match rule {
            Rule::Permit {
                environment,
                data_class,
                from,
                until,
                approval,
                ..
            } => (
                "EFFECT_ALLOW",
                format!(
                    "R.attr.environment == \"{environment}\" && R.attr.data_class <= {data_class} && \
                     R.attr.minute >= {from} && R.attr.minute < {until}{}",
                    if *approval { " && R.attr.approved" } else { "" }
                ),
            ),
            Rule::Forbid { data_class, .. } => (
                "EFFECT_DENY",
                format!("R.attr.data_class > {data_class} && !R.attr.approved"),
            ),
        };
        let resource = format!("resource-{}", grant.resource);
        let (kind, expr) = if kinds {
            (resource, expr)
        } else {
            (
                "resource".to_owned(),
                format!("R.id == \"{resource}\" && {expr}"),
            )
        };
        files.entry(kind).or_default().push(json!({
            "name": format!("r{number:06}"), "effect": effect,
            "actions": [format!("tool-{}", grant.tool)], "roles": [format!("agent-{}", grant.agent)],
            "condition": {"match": {"expr": expr}},
        }));
    }
    let file = |(kind, rules): (String, Vec<Value>)| {
        let policy = json!({
            "apiVersion": "api.cerbos.dev/v1",
            "resourcePolicy": {"version": "default", "resource": kind, "rules": rules},
        });
        (format!("{kind}.json"), policy.to_string())
    };
    files.into_iter().map(file).collect()
}

/// Writes the rules as cedar-agent's list of policies.
pub fn cedar_agent(rules: &Rules) -> Value {
    let policies = rules.rules.iter().enumerate();
    policies
        .map(|(number, rule)| json!({"id": format!("r{number:06}"), "content": cedar(rule)}))
        .collect()
}

// === impl Call ===

impl Call {
    /// Asks Remit: an AuthZEN evaluation.
    pub fn question(&self) -> Value {
        let grant = self.grant;
        json!({
            "subject": {"type": "Agent", "id": format!("agent-{}", grant.agent)},
            "action": {"name": format!("tool-{}", grant.tool)},
            "resource": {"type": "Resource", "id": format!("resource-{}", grant.resource)},
            "context": self.context(),
        })
    }

    /// Asks Remit's engine.
    pub fn parsed(&self) -> Question {
        serde_json::from_value(self.question()).expect("a question")
    }

    /// Asks Cerbos; `kinds` as in the policies.
    pub fn cerbos(&self, kinds: bool) -> Value {
        let grant = self.grant;
        let resource = format!("resource-{}", grant.resource);
        let kind = if kinds { resource.as_str() } else { "resource" };
        let agent = format!("agent-{}", grant.agent);
        json!({
            "requestId": "bench",
            "principal": {"id": agent, "roles": [agent]},
            "resources": [{
                "actions": [format!("tool-{}", grant.tool)],
                "resource": {"kind": kind, "id": resource, "attr": self.context()},
            }],
        })
    }

    /// Asks cedar-agent.
    pub fn cedar_agent(&self) -> Value {
        let grant = self.grant;
        json!({
            "principal": format!("Agent::\"agent-{}\"", grant.agent),
            "action": format!("Action::\"tool-{}\"", grant.tool),
            "resource": format!("Resource::\"resource-{}\"", grant.resource),
            "context": self.context(),
        })
    }

    fn context(&self) -> Value {
        json!({
            "environment": self.environment, "data_class": self.data_class, "minute": self.minute,
            "approved": self.approved,
        })
    }
}
