//! Tasks in the engine: what their facts say, and the laws that hold for them whatever the policies.

mod attenuation;
mod baseline;
mod canonical;
mod chains;
pub mod closed;
pub mod draw;
mod facts;
mod gates;
pub mod monotone;
mod searches;
mod sinks;

use remit_core::{Bundle, Entity, EntityUid, Source};
use remit_engine::Snapshot;
use serde_json::Map;

/// A schema of agents with registered tools, and of the people they work for.
const SCHEMA: &str = r#"
@registered("agent")
entity Agent;
entity User;
entity Folder;
entity Document in [Folder];
entity Payee;

action read, egress, pay;
action risky;
action fetch in [Action::"read"] appliesTo {
  principal: [Agent, User], resource: [Document], context: { facts: Remit::Facts, action?: { url?: String } },
};
action send in [Action::"egress", Action::"risky"] appliesTo {
  principal: [Agent, User], resource: [Document], context: { facts: Remit::Facts, action?: { to?: String, body?: String } },
};
action transfer in [Action::"pay", Action::"risky"] appliesTo {
  principal: [Agent, User], resource: [Payee], context: { facts: Remit::Facts, action?: { to?: String, amount?: Long } },
};
entity Purpose;
action open_task appliesTo {
  principal: [Agent, User], resource: [Purpose], context: { facts: Remit::Facts },
};
"#;

/// Policies in the manner of a baseline: a floor of roles, and forbids that only what is known opens.
pub const POLICIES: &str = r#"
@id("workers") permit (principal is Agent, action, resource)
when { context.facts has agent && context.facts.agent.roles.contains("worker") };
@id("people") permit (principal is User, action in [Action::"read", Action::"egress", Action::"open_task"], resource);
@id("in-a-task") forbid (principal is Agent, action, resource) unless { context.facts has task };
@id("known-tools") forbid (principal is Agent, action in [Action::"read", Action::"risky"], resource)
unless { context.facts has tool && context.facts has call };
@id("trust") forbid (principal is Agent, action in Action::"risky", resource)
unless {
  context.facts has agent && context.facts has tool && context.facts.agent.trust >= context.facts.tool.min_trust
};
@id("two-of-three") forbid (principal is Agent, action in Action::"risky", resource)
unless {
  context.facts has task
  && !(context.facts.task.labels.contains("untrusted") && context.facts.task.labels.contains("private"))
  || context.facts.approved
};
@id("sinks") forbid (principal is Agent, action in Action::"risky", resource)
unless {
  context.facts has task && context.facts has call
  && context.facts.task.trusted_sinks.containsAll(context.facts.call.sinks)
  || context.facts.approved
};
@id("links") forbid (principal is Agent, action in Action::"risky", resource)
unless {
  context.facts has task && context.facts has call
  && (!context.facts.task.labels.contains("untrusted")
      || context.facts.task.trusted_sinks.containsAll(context.facts.call.links))
};
@id("clearance") forbid (principal is Agent, action in Action::"egress", resource)
unless {
  context.facts has task && context.facts has tool && context.facts.tool has clearance
  && context.facts.tool.clearance.containsAll(context.facts.task.classes)
};
@id("amount") forbid (principal is Agent, action in Action::"pay", resource)
unless { context.facts has call && context.facts.call.amount <= 1000 || context.facts.approved };
"#;

/// Compiles these policies under that schema.
pub fn compiled(policies: &str) -> Snapshot {
    let source = |file: &str, text: &str| Source {
        file: file.to_owned(),
        text: text.to_owned(),
    };
    let below = |kind: &str, id: &str, above: Option<(&str, &str)>| Entity {
        uid: EntityUid::new(kind, id),
        attrs: Map::new(),
        parents: above
            .map(|(kind, id)| EntityUid::new(kind, id))
            .into_iter()
            .collect(),
        tags: Map::new(),
    };
    let snapshot = Snapshot::compile(&Bundle {
        schema: vec![source("s.cedarschema", SCHEMA)],
        policies: vec![source("p.cedar", policies)],
        entities: vec![
            below("Folder", "f", None),
            below("Document", "in f", Some(("Folder", "f"))),
            below("Document", "out", None),
            below("Payee", "p", None),
        ],
        ..Bundle::default()
    });
    snapshot.unwrap_or_else(|error| panic!("{error}"))
}
