//! The card: what a person is shown who answers an access request, made of what Remit verified.
//!
//! Everything on it comes from the question that was recorded, the catalogue, the registry, the task and the policies. What
//! an agent or a caller says in words of its own stands under `said_by_agent` and nowhere else. Every text of others is
//! [made plain](plain::plain). What an approval is bound to is there whole, or there is no card. Its hash is what an answer must name, and card and hash are in the record of each answer.

use std::collections::BTreeSet;

use remit_core::{
    ContentHash, DecisionRecord, EntityUid, Facts, PolicyId, PrincipalName, Question, TaskFacts,
    TenantId, call_digest, canonical_json,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value, json};

use super::wants;
use crate::app::App;
use crate::problem::{Kind, Problem};

mod alike;
mod arguments;
pub(crate) mod plain;

use alike::looks_like;
use plain::{cut, plain};

/// The largest card, in bytes.
const LARGEST: usize = 65_536;
/// The most members of the context that are shown of those to which an approval is not bound.
const MOST_SAID: usize = 50;

/// The property of a subject that names whoever is behind it, which the chain shows.
const ACT: &str = "act";

/// What somebody is asked to approve.
pub(crate) struct Asked<'a> {
    /// The question, and what is known and decided of it now.
    pub(crate) record: &'a DecisionRecord,
    /// The policies that forbid it, of the subject and of everybody behind it.
    pub(crate) violations: &'a BTreeSet<PolicyId>,
    /// Who asks for the approval.
    pub(crate) by: &'a PrincipalName,
    /// What the caller says in words of its own, each with what it is, such as `justification`.
    pub(crate) said: &'a [(&'static str, String)],
}

/// A card as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its canonical JSON.
    pub(crate) text: String,
    /// The SHA-256 of that.
    pub(crate) hash: ContentHash,
}

/// Makes the card of what is asked.
///
/// # Errors
///
/// `too-large` for a call that cannot be shown whole; `store-unavailable`.
pub(crate) async fn of(
    app: &App,
    tenant: TenantId,
    snapshot: &Snapshot,
    asked: &Asked<'_>,
) -> Result<Card, Problem> {
    let question = &asked.record.question;
    let facts = &asked.record.facts;
    let agent = EntityUid::new(&question.subject.kind, &question.subject.id);
    let action = &question.action.name;
    let past = app.store.past_of(tenant, &agent, action, app.now()).await?;
    let task = match &facts.task {
        Some(task) => Some(task_of(app, tenant, snapshot, task).await?),
        None => None,
    };
    let sinks = facts.call.iter().flat_map(|call| &call.sinks);
    let new: Vec<String> = sinks
        .filter(|sink| !past.sinks.contains(sink.as_str()))
        .map(|sink| plain(sink))
        .collect();
    let mut card = json!({
        "version": 1,
        "requested_by": plain(asked.by.as_str()),
        "decision": asked.record.id,
        "environment": facts.environment,
        "call": call_of(question, facts),
        "sinks": sinks_of(facts),
        "amount": amount_of(question, facts),
        "agent": agent_of(&agent, facts),
        "chain": chain_of(facts),
        "reasons": reasons_of(snapshot, asked),
        "hints": {
            "reversible": facts.tool.as_ref().is_some_and(|tool| !tool.irreversible),
            "first_tool": !past.action,
            "first_sinks": new,
            "recent_refusals": past.refusals,
        },
        "said_by_agent": said_of(snapshot, asked),
    });
    if let (Some(members), Some(task)) = (card.as_object_mut(), task) {
        members.insert("task".to_owned(), task);
    }
    Card::of(&card)
}

/// What will run: every argument of it.
fn call_of(question: &Question, facts: &Facts) -> Value {
    let resource = &question.resource;
    let mut call = json!({
        "action": plain(&question.action.name),
        "resource": { "type": plain(&resource.kind), "id": plain(&resource.id) },
        "arguments": arguments::shown(&question.action.properties),
        "properties": arguments::shown(&resource.properties),
    });
    // Whoever knows all but what was taken out could try what that is.
    if let Some(call) = call.as_object_mut()
        && !arguments::hide(&question.action.properties)
    {
        call.insert("digest".to_owned(), json!(call_digest(question)));
    }
    if let (Some(call), Some(tool)) = (call.as_object_mut(), &facts.tool) {
        call.insert("effect".to_owned(), json!(tool.effect));
        call.insert("tool".to_owned(), json!(plain(&tool.name)));
    }
    call
}

/// Whom and what it affects, and what is known of them.
fn sinks_of(facts: &Facts) -> Value {
    let Some(call) = &facts.call else {
        return json!([]);
    };
    let task = facts.task.as_ref();
    let declared = task.and_then(|task| task.declaration.as_ref()?.sinks.as_ref());
    let known = declared
        .into_iter()
        .flatten()
        .chain(task.into_iter().flat_map(|task| &task.trusted_sinks))
        .map(AsRef::<str>::as_ref);
    let all = call.sinks.iter().map(|sink| {
        let mut shown = json!({
            "value": plain(sink),
            "declared": declared.is_some_and(|declared| declared.contains(sink)),
            "trusted": task.is_some_and(|task| task.trusted_sinks.contains(sink)),
        });
        let like = looks_like(sink, known.clone());
        if let (Some(shown), Some(like)) = (shown.as_object_mut(), like) {
            shown.insert("looks_like".to_owned(), json!(plain(like)));
        }
        shown
    });
    Value::Array(all.collect())
}

/// The money that it moves; nothing where the catalogue names no argument for it, or what stands there is no amount.
fn amount_of(question: &Question, facts: &Facts) -> Value {
    let tool = facts.tool.as_ref();
    let amount = tool.and_then(|tool| {
        let argument = tool.amount.as_ref()?;
        let minor = tool.amount_of(&question.action.properties).ok()?;
        Some(json!({ "minor": minor, "scale": argument.scale }))
    });
    amount.unwrap_or(Value::Null)
}

fn agent_of(uid: &EntityUid, facts: &Facts) -> Value {
    let mut agent = json!({ "type": plain(&uid.kind), "id": plain(&uid.id) });
    let known = facts.agent.as_ref();
    if let (Some(members), Some(known)) = (agent.as_object_mut(), known) {
        members.insert("standing".to_owned(), json!(known.standing));
        if let Some(entry) = &known.registered {
            members.insert("owner".to_owned(), json!(plain(entry.owner.as_str())));
            members.insert("purpose".to_owned(), json!(plain(&entry.purpose)));
            members.insert("trust".to_owned(), json!(entry.trust));
            members.insert("model".to_owned(), json!(plain(&entry.model)));
            members.insert("environment".to_owned(), json!(plain(&entry.environment)));
        }
    }
    agent
}

/// The task in which it is asked: what for, by whom and for whom, what it has touched and what it has used.
async fn task_of(
    app: &App,
    tenant: TenantId,
    snapshot: &Snapshot,
    facts: &TaskFacts,
) -> Result<Value, Problem> {
    let live = snapshot.live().task(facts.id);
    let labels = live.map(|task| {
        let labels = task.labels.iter();
        let labels = labels.map(|(label, by)| json!({ "label": label, "decision": by }));
        labels.collect::<Vec<_>>()
    });
    let mut task = json!({
        "id": facts.id,
        "opened_by": live.map(|task| plain(task.opened_by.as_str())),
        "labels": labels.unwrap_or_default(),
    });
    if let (Some(members), Some(declared)) = (task.as_object_mut(), &facts.declaration) {
        if !opened_by_agent(snapshot, facts) {
            members.insert("purpose".to_owned(), json!(plain(&declared.purpose)));
        }
        let person = declared.on_behalf_of.as_ref();
        members.extend(person.map(|person| ("on_behalf_of".to_owned(), named(person))));
        if let Some(budget) = app.store.budget(tenant, facts.id).await? {
            members.insert("budget".to_owned(), json!(budget.allowed));
            members.insert("reserved".to_owned(), json!(budget.reserved));
            members.insert("used".to_owned(), json!(budget.spent));
        }
    }
    Ok(task)
}

/// Whether an agent opened a task, or nobody knows who did: what is declared of it is then in the words of an agent.
fn opened_by_agent(snapshot: &Snapshot, task: &TaskFacts) -> bool {
    let live = snapshot.live();
    let by = live.task(task.id).map(|task| &task.opened_by);
    by.is_none_or(|by| live.agents_of(by).next().is_some())
}

/// Everybody behind the agent, nearest first.
fn chain_of(facts: &Facts) -> Value {
    let hops = facts.hops.iter().map(|hop| {
        let mut shown = named(&hop.principal);
        let task = hop.task.as_ref();
        if let (Some(shown), Some(task)) = (shown.as_object_mut(), task) {
            shown.insert("task".to_owned(), json!(task.id));
        }
        shown
    });
    Value::Array(hops.collect())
}

/// The policies that forbid it, with what they say of themselves.
fn reasons_of(snapshot: &Snapshot, asked: &Asked<'_>) -> Value {
    let reasons = asked.violations.iter().map(|policy| {
        let said = wants::annotations(snapshot, &asked.record.decision, policy);
        let mut reason = Map::new();
        reason.insert("policy".to_owned(), json!(policy));
        for name in [
            "advice", "severity", "controls", "control", "cure", "quorum",
        ] {
            reason.extend(
                said.get(name)
                    .map(|text| (name.to_owned(), json!(plain(text)))),
            );
        }
        Value::Object(reason)
    });
    Value::Array(reasons.collect())
}

/// What the agent and the caller say in words of their own: first and whole what an approval is bound to.
fn said_of(snapshot: &Snapshot, asked: &Asked<'_>) -> Value {
    let question = &asked.record.question;
    let say = |what: String, text: String| json!({ "what": what, "text": text });
    let context = question.context.iter();
    let context = context.filter(|(member, _)| !Question::is_own(member));
    let (bound, others): (Vec<_>, Vec<_>) =
        context.partition(|(member, _)| snapshot.binds(question, member));
    let subject = question.subject.properties.iter();
    let subject = subject.filter(|(member, _)| *member != ACT);
    let whole = bound.into_iter().map(|one| ("context", one));
    let whole = whole.chain(subject.map(|one| ("subject", one)));
    let mut said: Vec<Value> = whole
        .map(|(of, (member, value))| {
            let text = arguments::in_one_text(member, value);
            say(format!("{of}.{}", plain(member)), text)
        })
        .collect();
    if let Some(task) = &asked.record.facts.task
        && let Some(declared) = &task.declaration
    {
        if opened_by_agent(snapshot, task) {
            said.push(say("purpose".to_owned(), cut(&declared.purpose)));
        }
        let intent = declared.intent.as_str();
        if !intent.is_empty() {
            said.push(say("intent".to_owned(), cut(intent)));
        }
    }
    let texts = asked.said.iter();
    said.extend(texts.map(|(what, text)| say((*what).to_owned(), cut(text))));
    let more = others.len().saturating_sub(MOST_SAID);
    said.extend(others.into_iter().take(MOST_SAID).map(|(member, value)| {
        let text = cut(&arguments::in_one_text(member, value));
        say(format!("context.{}", cut(member)), text)
    }));
    if more > 0 {
        said.push(say("context".to_owned(), format!("… ({more} more)")));
    }
    Value::Array(said)
}

fn named(uid: &EntityUid) -> Value {
    json!({ "type": plain(&uid.kind), "id": plain(&uid.id) })
}

// === impl Card ===

impl Card {
    fn of(card: &Value) -> Result<Self, Problem> {
        let bytes = canonical_json(card).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        if bytes.len() > LARGEST {
            let detail = format!(
                "the call takes {} bytes to be shown, and nobody approves what they cannot be shown whole: {LARGEST} at most",
                bytes.len()
            );
            return Err(Problem::new(Kind::TOO_LARGE, detail));
        }
        let hash = ContentHash::of(&bytes);
        let text =
            String::from_utf8(bytes).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        Ok(Self { text, hash })
    }
}
