//! The value of `context.facts`: what Remit knows, in the members that the schema declares.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cedar_policy_core::ast::Value;
use remit_core::{
    AgentFacts, ApprovalFacts, CallFacts, ContentHash, Facts, Label, Standing, TaskFacts,
    TaskState, Tool,
};
use serde_json::{Map, Value as Json};
use smol_str::SmolStr;

use super::reads::Reads;
use super::scope::Scope;
use crate::decode::{datetime, expiry};
use crate::schema::{Fields, Kind};

/// What the facts of one question are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'k> {
    /// The facts.
    pub(crate) facts: &'k Facts,
    /// What the task's declaration says of the action and the resource.
    pub(crate) scope: Scope,
    /// The arguments of the call.
    pub(crate) arguments: &'k Map<String, Json>,
    /// The facts that policies can get at; the others are not made.
    pub(crate) reads: Reads,
}

/// A fact that is known and that the declared type cannot hold.
#[derive(Debug)]
pub(crate) struct Unfit;

/// What there is of one member: nothing where it is not known, or is no fact of this type.
pub(crate) type Made = Result<Option<Value>, Unfit>;

// === impl Known ===

impl Known<'_> {
    /// Makes the value of `context.facts` with the members that its type declares; nothing if one that it requires is not
    /// a fact.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if what is known of the agent, the task, the tool or the call is not what is declared for it: left out, it
    /// would look as if it were not known.
    pub(crate) fn value(&self, kind: &Kind) -> Made {
        match kind {
            Kind::Record(fields) => self.facts(fields),
            _ => Ok(None),
        }
    }

    fn facts(&self, fields: &Fields) -> Made {
        let facts = self.facts;
        record(self.reads, fields, |name, kind| {
            Ok(match (name, kind) {
                ("now", Kind::Extension(_)) => datetime(facts.now.millis()),
                ("minute_of_day", _) => long(kind, facts.now.minute_of_day()),
                ("weekday", _) => long(kind, facts.now.weekday()),
                ("caller", _) => text(kind, facts.caller.to_string()),
                ("environment", _) => text(kind, &facts.environment),
                ("approved", _) => flag(kind, facts.is_approved()),
                ("approval", _) => {
                    let approval = facts.approval.as_ref().filter(|_| facts.is_approved());
                    nested(kind, approval, |fields, approval| {
                        approval_value(self.reads, fields, approval)
                    })?
                }
                ("hop", _) => flag(kind, facts.hop),
                ("agent", _) => nested(kind, facts.agent.as_ref(), |fields, agent| {
                    agent_value(self.reads, fields, agent)
                })?,
                ("task", _) => {
                    let declared = |task: &&TaskFacts| task.declaration.is_some();
                    let task = facts.task.as_ref().filter(declared);
                    nested(kind, task, |fields, task| self.task(fields, task))?
                }
                ("tool", _) => nested(kind, facts.tool.as_ref(), |fields, tool| {
                    self.tool(fields, tool)
                })?,
                ("call", _) => nested(kind, facts.call.as_ref(), |fields, call| {
                    self.call(fields, call)
                })?,
                _ => None,
            })
        })
    }

    fn task(&self, fields: &Fields, task: &TaskFacts) -> Made {
        let Some(declared) = &task.declaration else {
            return Ok(None);
        };
        let Scope {
            action,
            resource,
            classes,
            ..
        } = self.scope;
        let state = if self.facts.now >= declared.expires_at && task.state == TaskState::Active {
            TaskState::Expired
        } else {
            task.state
        };
        let in_window = || {
            let (weekday, minute) = (self.facts.now.weekday(), self.facts.now.minute_of_day());
            declared
                .window
                .as_ref()
                .is_none_or(|window| window.contains(weekday, minute))
        };
        record(self.reads, fields, |name, kind| {
            Ok(match (name, kind) {
                ("id", _) => text(kind, task.id.to_string()),
                ("state", _) => word(kind, state.as_str()),
                ("purpose", _) => text(kind, &declared.purpose),
                ("on_behalf_of", _) => declared
                    .on_behalf_of
                    .as_ref()
                    .and_then(|person| text(kind, person.to_string())),
                ("digest", _) => text(
                    kind,
                    task.digest
                        .map(|digest| digest.to_string())
                        .unwrap_or_default(),
                ),
                ("depth", _) => long(kind, task.depth),
                ("may_delegate", _) => flag(kind, declared.may_delegate),
                ("expires_at", Kind::Extension(_)) => expiry(declared.expires_at.millis()),
                ("declares_actions", _) => flag(kind, declared.actions.is_some()),
                ("action_declared", _) => flag(kind, action),
                ("declares_resources", _) => flag(kind, declared.resources.is_some()),
                ("resource_declared", _) => flag(kind, resource),
                ("declares_classes", _) => flag(kind, declared.data_classes.is_some()),
                ("classes_declared", _) => flag(kind, classes),
                ("declares_sinks", _) => flag(kind, declared.sinks.is_some()),
                ("sinks", _) => texts(kind, declared.sinks.iter().flatten()),
                ("trusted_sinks", _) => texts(kind, &task.trusted_sinks),
                ("labels", _) => texts(kind, task.labels.iter().map(Label::as_str)),
                ("classes", _) => texts(kind, task.labels.iter().filter_map(Label::as_class)),
                ("exhausted", _) => flag(kind, task.exhausted.is_some()),
                ("in_window", _) => flag(kind, in_window()),
                _ => None,
            })
        })
    }

    fn tool(&self, fields: &Fields, tool: &Tool) -> Made {
        let presented = self
            .facts
            .call
            .as_ref()
            .and_then(|call| call.presented_tool.as_ref());
        let pinned = tool
            .descriptor
            .is_none_or(|hash| presented.is_some_and(|presented| is_hash(hash, presented)));
        record(self.reads, fields, |name, kind| {
            Ok(match name {
                "name" => text(kind, &tool.name),
                "effect" => word(kind, tool.effect.as_str()),
                "domain" => tool.domain.as_ref().and_then(|domain| text(kind, domain)),
                "owner" => tool.owner.as_ref().and_then(|owner| text(kind, owner)),
                "environment" => tool
                    .environment
                    .as_ref()
                    .and_then(|environment| text(kind, environment)),
                "integrity" => word(kind, tool.integrity.as_str()),
                "confidentiality" => word(kind, tool.confidentiality.as_str()),
                "irreversible" => flag(kind, tool.irreversible),
                "min_trust" => long(kind, tool.min_trust),
                "roles" => tool.roles.as_ref().and_then(|roles| texts(kind, roles)),
                "classes" => texts(kind, &tool.classes),
                "clearance" => tool
                    .clearance
                    .as_ref()
                    .and_then(|classes| texts(kind, classes)),
                "descriptor" => tool
                    .descriptor
                    .and_then(|hash| text(kind, hash.to_string())),
                "presented" => presented.and_then(|presented| text(kind, presented)),
                "pinned" => flag(kind, pinned),
                _ => None,
            })
        })
    }

    fn call(&self, fields: &Fields, call: &CallFacts) -> Made {
        let charged = call.charges.map(|charges| charges.amount);
        // Outside a task nothing is charged; the amount is in the arguments all the same.
        let paid = || {
            self.facts
                .tool
                .as_ref()
                .map_or(Some(0), |tool| tool.amount_of(self.arguments).ok())
        };
        record(self.reads, fields, |name, kind| {
            Ok(match name {
                "sinks" => texts(kind, &call.sinks),
                "links" => texts(kind, &call.links),
                "digest" => call
                    .digest
                    .and_then(|digest| text(kind, digest.to_string())),
                // One that cannot be read denies before any policy counts; till then it is the greatest.
                "amount" => long(
                    kind,
                    charged
                        .or_else(paid)
                        .and_then(|amount| i64::try_from(amount).ok())
                        .unwrap_or(i64::MAX),
                ),
                _ => None,
            })
        })
    }
}

fn approval_value(reads: Reads, fields: &Fields, approval: &ApprovalFacts) -> Made {
    record(reads, fields, |name, kind| {
        Ok(match (name, kind) {
            ("id", _) => text(kind, approval.id.to_string()),
            ("approvers", _) => {
                let approvers = approval.approvers.iter();
                texts(kind, approvers.map(remit_core::PrincipalName::as_str))
            }
            ("expires_at", Kind::Extension(_)) => {
                approval.until.and_then(|until| expiry(until.millis()))
            }
            _ => None,
        })
    })
}

fn agent_value(reads: Reads, fields: &Fields, facts: &AgentFacts) -> Made {
    // An agent that is not registered has nothing but its standing.
    let known = facts
        .registered
        .as_ref()
        .filter(|_| facts.standing != Standing::Unregistered);
    let presented = facts.presented_build.as_ref();
    let build = known.and_then(|agent| agent.build);
    let matches =
        build.is_some_and(|hash| presented.is_some_and(|presented| is_hash(hash, presented)));
    record(reads, fields, |name, kind| {
        Ok(match name {
            "standing" => word(kind, facts.standing.as_str()),
            "owner" => known.and_then(|agent| text(kind, agent.owner.as_str())),
            "purpose" => known.and_then(|agent| text(kind, &agent.purpose)),
            "environment" => known.and_then(|agent| text(kind, &agent.environment)),
            "model" => known.and_then(|agent| text(kind, &agent.model)),
            "trust" => long(kind, known.map_or(0, |agent| agent.trust)),
            "roles" => texts(kind, known.iter().flat_map(|agent| &agent.roles)),
            "build" => build.and_then(|hash| text(kind, hash.to_string())),
            "presented_build" => presented.and_then(|presented| text(kind, presented)),
            "build_matches" => flag(kind, matches),
            _ => None,
        })
    })
}

/// Whether a caller presents this hash: as `sha256:` and hexadecimal digits, or as these alone.
fn is_hash(hash: ContentHash, presented: &str) -> bool {
    let hash = hash.to_string();
    let digits = hash.strip_prefix("sha256:").unwrap_or(&hash);
    presented == hash || presented.eq_ignore_ascii_case(digits)
}

/// Makes the members that a record type declares and that are read; nothing if a required one is not there.
fn record(reads: Reads, fields: &Fields, member: impl Fn(&str, &Kind) -> Made) -> Made {
    let mut values = BTreeMap::new();
    for (name, field) in fields {
        if !reads.has(field.fact) {
            continue;
        }
        match member(name.as_str(), &field.kind)? {
            Some(value) => {
                values.insert(name.clone(), value);
            }
            None if field.required => return Ok(None),
            None => {}
        }
    }
    Ok(Some(Value::record_arc(Arc::new(values), None)))
}

/// Makes a record of what is known, if it is; it must be declared as one that it can fill.
fn nested<T>(kind: &Kind, facts: Option<&T>, make: impl FnOnce(&Fields, &T) -> Made) -> Made {
    let Some(facts) = facts else {
        return Ok(None);
    };
    let Kind::Record(fields) = kind else {
        return Err(Unfit);
    };
    make(fields, facts)?.ok_or(Unfit).map(Some)
}

fn flag(kind: &Kind, flag: bool) -> Option<Value> {
    matches!(kind, Kind::Bool).then(|| Value::new(flag, None))
}

fn long(kind: &Kind, number: impl Into<i64>) -> Option<Value> {
    matches!(kind, Kind::Long).then(|| Value::new(number.into(), None))
}

fn text(kind: &Kind, text: impl AsRef<str>) -> Option<Value> {
    matches!(kind, Kind::String).then(|| Value::new(SmolStr::new(text), None))
}

fn word(kind: &Kind, word: &'static str) -> Option<Value> {
    matches!(kind, Kind::String).then(|| Value::new(SmolStr::new_static(word), None))
}

fn texts<T: AsRef<str>>(kind: &Kind, texts: impl IntoIterator<Item = T>) -> Option<Value> {
    static NONE: LazyLock<Value> = LazyLock::new(|| Value::set(std::iter::empty::<Value>(), None));
    let Kind::Set(element) = kind else {
        return None;
    };
    if !matches!(**element, Kind::String) {
        return None;
    }
    let mut texts = texts.into_iter().peekable();
    if texts.peek().is_none() {
        return Some(NONE.clone());
    }
    Some(Value::set(
        texts.map(|text| Value::new(SmolStr::new(text), None)),
        None,
    ))
}
