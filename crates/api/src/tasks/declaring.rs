//! What is declared of a task: from the body of a request, the template that it is made from, and the task above it.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    Budget, Declaration, Dimension, EntityUid, MOST_DEPTH, Task, TaskId, Timestamp, Window, World,
};
use remit_engine::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::{Kind, Problem};
use crate::wire::{Wire, absent_if_null};

/// How long a task lasts where nobody says, in seconds.
const USUAL_SECONDS: u64 = 3_600;
/// The longest that a task lasts, in seconds: a year.
const LONGEST_SECONDS: u64 = 31_536_000;
/// How long nothing may be asked in a task at least, and at most, in seconds.
const IDLE_SECONDS: std::ops::RangeInclusive<u64> = 240..=86_400;

/// The members of a task, of a template or of a narrowing; each operation says which it takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskBody {
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) actions: Option<BTreeSet<String>>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) agent: Option<EntityUid>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) budget: Option<Budget>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) data_classes: Option<BTreeSet<String>>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) expires_in: Option<u64>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) idle_timeout: Option<u64>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) intent: Option<String>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) may_delegate: Option<bool>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) on_behalf_of: Option<EntityUid>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) parent: Option<TaskId>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) purpose: Option<String>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) required: Option<BTreeSet<Dimension>>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) resources: Option<BTreeSet<EntityUid>>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) sinks: Option<BTreeSet<String>>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) template: Option<String>,
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) window: Option<Window>,
}

/// Which members an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Those of a task that is to be opened.
    Task,
    /// Those of a template.
    Template,
    /// Those in which a task can be narrowed.
    Narrowing,
}

/// What a task may not be wider than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The task that it is a part of.
    Parent,
    /// The template that it is made from.
    Template,
    /// The task that it replaces.
    Task,
}

// === impl TaskBody ===

impl Wire for TaskBody {}

impl TaskBody {
    /// Refuses the members that an operation does not take, and what is beyond its limits.
    pub(crate) fn check(&self, takes: Takes) -> Result<(), Problem> {
        let own = |name: &str, there: bool, taken: bool| {
            if there && !taken {
                return Err(invalid(format!("`{name}` is not known here")));
            }
            Ok(())
        };
        let (task, template) = (takes == Takes::Task, takes == Takes::Template);
        own("agent", self.agent.is_some(), task)?;
        own("parent", self.parent.is_some(), task)?;
        own("template", self.template.is_some(), task)?;
        own("required", self.required.is_some(), template)?;
        own("idle_timeout", self.idle_timeout.is_some(), template)?;
        let free = task || template;
        own("intent", self.intent.is_some(), free)?;
        own("purpose", self.purpose.is_some(), free)?;
        own("on_behalf_of", self.on_behalf_of.is_some(), free)?;
        let uncounted = [Dimension::MayDelegate, Dimension::Depth, Dimension::FanOut];
        let required = self.required.iter().flatten();
        if let Some(dimension) = required.copied().find(|one| uncounted.contains(one)) {
            let name = name(dimension);
            let detail = format!("`required` must not name `{name}`: no task says that of itself");
            return Err(invalid(detail));
        }
        if let Some(seconds) = self.expires_in
            && !(1..=LONGEST_SECONDS).contains(&seconds)
        {
            let detail = format!("`expires_in` must be 1 to {LONGEST_SECONDS} seconds");
            return Err(invalid(detail));
        }
        if let Some(seconds) = self.idle_timeout
            && !IDLE_SECONDS.contains(&seconds)
        {
            let detail = format!(
                "`idle_timeout` must be {} to {} seconds",
                IDLE_SECONDS.start(),
                IDLE_SECONDS.end()
            );
            return Err(invalid(detail));
        }
        Ok(())
    }

    /// Returns the declaration of a task of `agent` that is opened at `now`: what the body says, else the template, else
    /// the parent.
    pub(crate) fn declare(
        self,
        agent: EntityUid,
        now: Timestamp,
        template: Option<&Self>,
        parent: Option<&Declaration>,
    ) -> Result<Declaration, Problem> {
        let none = Self::default();
        let given = template.unwrap_or(&none);
        let expires_at = self.expiry(now, given, parent);
        let above = |of: fn(&Declaration) -> Option<u64>| parent.and_then(of);
        let (mine, theirs) = (
            self.budget.unwrap_or_default(),
            given.budget.unwrap_or_default(),
        );
        let budget = Budget {
            amount: mine.amount.or(theirs.amount).or(above(|p| p.budget.amount)),
            bytes: mine.bytes.or(theirs.bytes).or(above(|p| p.budget.bytes)),
            calls: mine.calls.or(theirs.calls).or(above(|p| p.budget.calls)),
            cost: mine.cost.or(theirs.cost).or(above(|p| p.budget.cost)),
            irreversible: mine
                .irreversible
                .or(theirs.irreversible)
                .or(above(|p| p.budget.irreversible)),
        };
        macro_rules! member {
            ($name:ident) => {
                self.$name
                    .or_else(|| given.$name.clone())
                    .or_else(|| parent.and_then(|parent| parent.$name.clone()))
            };
        }
        macro_rules! names {
            ($name:ident) => {
                self.$name
                    .or_else(|| given.$name.clone())
                    .map(|names| names.into_iter().map(Into::into).collect())
                    .or_else(|| parent.and_then(|parent| parent.$name.clone()))
            };
        }
        let purpose = self
            .purpose
            .or_else(|| given.purpose.clone())
            .map(Into::into);
        let purpose = purpose.or_else(|| parent.map(|parent| parent.purpose.clone()));
        let declaration = Declaration {
            actions: names!(actions),
            agent,
            budget,
            data_classes: names!(data_classes),
            expires_at,
            intent: self
                .intent
                .or_else(|| given.intent.clone())
                .unwrap_or_default(),
            may_delegate: self.may_delegate.or(given.may_delegate).unwrap_or(false),
            on_behalf_of: member!(on_behalf_of),
            parent: self.parent,
            purpose: purpose.ok_or_else(|| invalid("`purpose` is missing"))?,
            resources: member!(resources),
            sinks: names!(sinks),
            template: self.template.map(Into::into),
            window: member!(window),
        };
        let declaration = declaration.in_one_spelling();
        declaration.check()?;
        Ok(declaration)
    }

    fn expiry(&self, now: Timestamp, given: &Self, parent: Option<&Declaration>) -> Timestamp {
        let after = |seconds: u64| now.plus(Duration::from_secs(seconds));
        match (self.expires_in, given.expires_in, parent) {
            (None, Some(seconds), Some(parent)) => after(seconds).min(parent.expires_at),
            (None, None, Some(parent)) => parent.expires_at,
            (Some(seconds), ..) | (None, Some(seconds), None) => after(seconds),
            (None, None, None) => after(USUAL_SECONDS),
        }
    }

    /// Checks that a task made from this template leaves to it what the template alone may say: the purpose, and the words
    /// in which it is given, where the template has any or says who may be affected, since whoever is named in them counts
    /// as declared.
    pub(crate) fn fixes(&self, task: &Self) -> Result<(), Problem> {
        let fixed = [
            ("purpose", task.purpose.is_some() && self.purpose.is_some()),
            (
                "intent",
                task.intent.is_some() && (self.intent.is_some() || self.sinks.is_some()),
            ),
        ];
        match fixed.iter().find(|(_, said)| *said) {
            None => Ok(()),
            Some((name, _)) => Err(invalid(format!(
                "`{name}` is the template's to say: leave it out"
            ))),
        }
    }

    /// Checks that a task made from this template says for itself what the template wants of it.
    pub(crate) fn wants(&self, task: &Self) -> Result<(), Problem> {
        let budget = task.budget.unwrap_or_default();
        let missing = |dimension: &&Dimension| match dimension {
            Dimension::Actions => task.actions.is_none(),
            Dimension::Resources => task.resources.is_none(),
            Dimension::Sinks => task.sinks.is_none(),
            Dimension::DataClasses => task.data_classes.is_none(),
            Dimension::Calls => budget.calls.is_none(),
            Dimension::Cost => budget.cost.is_none(),
            Dimension::Amount => budget.amount.is_none(),
            Dimension::Bytes => budget.bytes.is_none(),
            Dimension::Irreversible => budget.irreversible.is_none(),
            Dimension::Window => task.window.is_none(),
            Dimension::Expiry => task.expires_in.is_none(),
            Dimension::OnBehalfOf => task.on_behalf_of.is_none(),
            Dimension::MayDelegate | Dimension::Depth | Dimension::FanOut => false,
        };
        match self.required.iter().flatten().find(missing) {
            None => Ok(()),
            Some(dimension) => Err(invalid(format!(
                "`{}`: the template wants every task to say this for itself",
                name(*dimension)
            ))),
        }
    }

    /// Returns what no task made from this template may be wider than, put as a declaration beside one that was made from it.
    pub(crate) fn bound(&self, made: &Declaration, now: Timestamp) -> Declaration {
        let seconds = self.expires_in.unwrap_or(LONGEST_SECONDS);
        let names = |names: &Option<BTreeSet<String>>| {
            let names = names.as_ref()?.iter();
            Some(names.map(Into::into).collect())
        };
        let own = Declaration {
            actions: names(&self.actions),
            agent: made.agent.clone(),
            budget: self.budget.unwrap_or_default(),
            data_classes: names(&self.data_classes),
            expires_at: now.plus(Duration::from_secs(seconds)),
            intent: self.intent.clone().unwrap_or_default(),
            // A task that hands nothing on is within a template that does not allow it.
            may_delegate: self.may_delegate.unwrap_or(false) || !made.may_delegate,
            on_behalf_of: self
                .on_behalf_of
                .clone()
                .or_else(|| made.on_behalf_of.clone()),
            parent: None,
            purpose: made.purpose.clone(),
            resources: self.resources.clone(),
            sinks: names(&self.sinks),
            template: None,
            window: self.window.clone(),
        };
        own.in_one_spelling()
    }
}

/// Checks that a declaration is within another.
///
/// # Errors
///
/// `task-exceeds-parent`, with the dimension and both values.
pub(crate) fn within(
    snapshot: &Snapshot,
    made: &Declaration,
    depth: u16,
    (bound, limit): (Bound, &Declaration),
) -> Result<(), Problem> {
    let action_in = |action: &str, group: &str| snapshot.action_in(action, group);
    let below = |resource: &EntityUid, above: &EntityUid| snapshot.below(resource, above);
    let world = World {
        action_in: &action_in,
        below: &below,
    };
    match made.exceeds(limit, depth, &world) {
        None => Ok(()),
        Some(Dimension::Depth) => Err(exceeds(
            bound,
            Dimension::Depth,
            &json!(depth),
            &json!(MOST_DEPTH),
        )),
        Some(dimension) => {
            let (wanted, most) = (value(made, dimension), value(limit, dimension));
            Err(exceeds(bound, dimension, &wanted, &most))
        }
    }
}

/// Checks that a task may have a child at all, as far as its declaration says.
pub(crate) fn may_delegate(parent: &Task) -> Result<(), Problem> {
    if parent.declaration.may_delegate {
        return Ok(());
    }
    let (wanted, most) = (json!(true), json!(false));
    Err(exceeds(
        Bound::Parent,
        Dimension::MayDelegate,
        &wanted,
        &most,
    ))
}

/// Says in which dimension a task would be wider than it may be.
pub(crate) fn exceeds(bound: Bound, dimension: Dimension, wanted: &Value, most: &Value) -> Problem {
    let of = match bound {
        Bound::Parent => "parent",
        Bound::Template => "template",
        Bound::Task => "task",
    };
    let detail = format!(
        "`{}` is wider than that of the {of}: `limit` is what it may be, `declared` what was asked for",
        name(dimension)
    );
    Problem::new(Kind::TASK_EXCEEDS_PARENT, detail)
        .with("dimension", json!(dimension))
        .with("exceeds", json!(of))
        .with("declared", wanted.clone())
        .with("limit", most.clone())
}

fn value(declaration: &Declaration, dimension: Dimension) -> Value {
    let budget = &declaration.budget;
    match dimension {
        Dimension::Actions => json!(declaration.actions),
        Dimension::Resources => json!(declaration.resources),
        Dimension::Sinks => json!(declaration.sinks),
        Dimension::DataClasses => json!(declaration.data_classes),
        Dimension::Calls => json!(budget.calls),
        Dimension::Cost => json!(budget.cost),
        Dimension::Amount => json!(budget.amount),
        Dimension::Bytes => json!(budget.bytes),
        Dimension::Irreversible => json!(budget.irreversible),
        Dimension::Window => json!(declaration.window),
        Dimension::Expiry => json!(declaration.expires_at),
        Dimension::MayDelegate => json!(declaration.may_delegate),
        Dimension::OnBehalfOf => json!(declaration.on_behalf_of),
        Dimension::Depth | Dimension::FanOut => Value::Null,
    }
}

/// Returns the name of a dimension as it stands in requests and answers.
fn name(dimension: Dimension) -> String {
    match json!(dimension) {
        Value::String(name) => name,
        other => other.to_string(),
    }
}

pub(crate) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}
