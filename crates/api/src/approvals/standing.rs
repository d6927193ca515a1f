//! How somebody stands to an access request: for whom they may answer it, and what hand they have in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use remit_core::{
    AgentFacts, ApprovalId, ApprovalScope, EntityUid, Facts, PolicyId, PrincipalName, Question,
    TenantId, Timestamp,
};
use remit_engine::Snapshot;
use remit_store::{Mandates, StoredGroup};
use serde_json::{Map, Value, json};

use super::card::Asked;
use super::wants::{ANY, OWNER, Wants};
use crate::admin::{Act, Action, second_person};
use crate::app::{App, chain};
use crate::problem::{Kind, Problem};

/// What is known of a request, as far as it matters who answers it.
pub(crate) struct About {
    agent: EntityUid,
    owner: Option<PrincipalName>,
    effect: Option<&'static str>,
    amount: Option<u64>,
    environment: String,
    /// Everybody who has a hand in it.
    pub(super) involved: BTreeSet<PrincipalName>,
}

/// How somebody stands to a request.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// The groups that they stand for, of those that are wanted, each with the member whose place it is.
    pub(super) groups: BTreeMap<String, PrincipalName>,
    /// Whether they, or whoever hands their part to them, have a hand in it.
    pub(super) involved: bool,
    /// Whether they answer for the agent.
    owner: bool,
    /// For whom they answer.
    pub(super) mandates: Mandates,
}

// === impl About ===

impl About {
    /// Finds what is known of a question that `requesters` ask to have approved.
    pub(crate) fn of(
        snapshot: &Snapshot,
        question: &Question,
        facts: &Facts,
        requesters: BTreeSet<PrincipalName>,
    ) -> Self {
        let live = snapshot.live();
        let agent = EntityUid::new(&question.subject.kind, &question.subject.id);
        let entry = |facts: &Option<AgentFacts>| facts.as_ref()?.registered.clone();
        let own = entry(&facts.agent);
        let mut involved = requesters;
        // Every task of the chain, and whoever opened it.
        let tasks = chain(facts).into_iter();
        involved.extend(tasks.filter_map(|id| Some(live.task(id)?.opened_by.clone())));
        let behind = facts.hops.iter().map(|hop| (&hop.principal, &hop.agent));
        for (uid, known) in behind.chain([(&agent, &facts.agent)]) {
            match entry(known) {
                Some(entry) => involved.extend(entry.principal),
                // A person is known by their name; what cannot be the name of a principal is nobody who could answer.
                None => involved.extend(uid.id.parse::<PrincipalName>()),
            }
        }
        let tool = facts.tool.as_ref();
        Self {
            owner: own.map(|entry| entry.owner),
            effect: tool.map(|tool| tool.effect.as_str()),
            amount: tool.and_then(|tool| {
                tool.amount.as_ref()?;
                tool.amount_of(&question.action.properties).ok()
            }),
            environment: facts.environment.clone(),
            agent,
            involved,
        }
    }

    /// Whether it is known what the call pays.
    pub(super) const fn pays(&self) -> bool {
        self.amount.is_some()
    }

    /// Says what is done to a request, by somebody who stands so to it.
    pub(crate) fn act(
        &self,
        action: Action,
        id: ApprovalId,
        (wants, standing): (&Wants, Option<&Standing>),
    ) -> Act {
        let mut known = Map::new();
        let mut say = |name: &str, value: Value| known.insert(name.to_owned(), value);
        say("wanted", json!(wants.keys().collect::<Vec<_>>()));
        let groups = standing.map(|standing| standing.groups.keys().collect::<Vec<_>>());
        say("groups", json!(groups.unwrap_or_default()));
        say("involved", json!(standing.is_some_and(|one| one.involved)));
        say("owner", json!(standing.is_some_and(|one| one.owner)));
        say("agent", json!(self.agent.to_string()));
        say("environment", json!(self.environment));
        if let Some(effect) = self.effect {
            say("effect", json!(effect));
        }
        if let Some(amount) = self.amount {
            say("amount", json!(i64::try_from(amount).unwrap_or(i64::MAX)));
        }
        Act::on(action, &id).knowing(known)
    }
}

// === impl About, of what is approved ===

impl About {
    /// Makes sure that an approval for a task of a call that moves money says how much may be moved.
    ///
    /// # Errors
    ///
    /// `invalid-request` where it does not.
    pub(super) fn bounded(&self, scope: &ApprovalScope) -> Result<(), Problem> {
        let unlimited = matches!(scope, ApprovalScope::Task { amount: None, .. });
        if unlimited && self.amount.is_some() {
            let detail = "`scope.amount` is missing: the call moves money, so that an approval for the task says how much all \
                of its calls may move";
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
        Ok(())
    }
}

// === impl Standing ===

impl Standing {
    /// Finds how `name` stands to a request at a moment; `escalated` is whether those are asked as well to whom it goes on.
    pub(crate) async fn of(
        app: &App,
        tenant: TenantId,
        name: &PrincipalName,
        (about, wants, escalated): (&About, &Wants, bool),
        at: Timestamp,
    ) -> Result<Self, Problem> {
        let mandates = app.store.mandates(tenant, name, at).await?;
        let owner = about
            .owner
            .as_ref()
            .is_some_and(|owner| mandates.own.contains(owner));
        let mut groups = BTreeMap::new();
        for wanted in wants.keys() {
            let mut place = match wanted.as_str() {
                ANY => Some(name.clone()),
                OWNER if owner => Some(name.clone()),
                group => mandates.groups.get(group).cloned(),
            };
            if place.is_none() && escalated {
                let group = app.store.approver_group(tenant, wanted).await?;
                let next = group.and_then(|group| group.rules.escalates_to);
                place = next.and_then(|next| mandates.groups.get(&next).cloned());
            }
            if let Some(place) = place {
                groups.insert(wanted.clone(), place);
            }
        }
        Ok(Self {
            involved: !mandates.accounts.is_disjoint(&about.involved),
            owner,
            groups,
            mandates,
        })
    }

    /// Says why they may not approve, where they themselves are the reason.
    pub(super) fn obstacle(&self, wants: &Wants) -> Option<String> {
        if self.involved {
            let detail = "you have a hand in it: you, another account of yours, or whoever handed their part to you asked for \
                it, opened its task, is behind its agent, or is the person for whom it is done";
            return Some(detail.to_owned());
        }
        self.groups.is_empty().then(|| {
            let names: Vec<&str> = wants.keys().map(String::as_str).collect();
            format!(
                "it waits for {}, and you stand for none of them",
                names.join(", ")
            )
        })
    }
}

/// Returns the policies of the tenant that let Remit itself approve what is asked, where any do: nothing that is built in does.
///
/// # Errors
///
/// `not-ready` and `store-unavailable`.
pub(crate) async fn auto_approved(
    app: &App,
    snapshot: &Snapshot,
    tenant: TenantId,
    asked: &Asked<'_>,
    wants: &Wants,
) -> Result<Option<Vec<PolicyId>>, Problem> {
    let record = asked.record;
    let requesters = BTreeSet::from([asked.by.clone()]);
    let about = About::of(snapshot, &record.question, &record.facts, requesters);
    let act = about.act(Action::ApproveRequest, ApprovalId::NIL, (wants, None));
    second_person::itself_may(app, tenant, &about.environment, &act).await
}

/// Makes sure that the groups that are wanted can take another request, and says after which time it goes on to others.
///
/// # Errors
///
/// `too-many-requests` where as many wait for one of them as its members can answer.
pub(crate) async fn room(
    app: &App,
    tenant: TenantId,
    wants: &Wants,
) -> Result<Option<Duration>, Problem> {
    // Where several groups are wanted the last of their times counts: nobody answers in the place of one before it.
    let mut last: Option<u32> = None;
    let at = app.exact_time().await?;
    for name in wants.keys().filter(|name| *name != ANY) {
        // Of one that is not there yet nobody answers, until somebody makes it.
        let Some(group) = app.store.approver_group(tenant, name).await? else {
            continue;
        };
        let most = most_open(&group, at);
        if app.store.waiting_for(tenant, name, most.max(1)).await? >= most.max(1) {
            let detail = format!(
                "{} requests wait for the group `{name}`, which is as many as its members take; ask again later",
                most.max(1)
            );
            return Err(Problem::new(Kind::TOO_MANY_REQUESTS, detail).retry_after(60));
        }
        let after = group.rules.escalate_after;
        last = last.max(after);
    }
    Ok(last.map(|seconds| Duration::from_secs(seconds.into())))
}

/// Returns how many requests may wait for a group: so many for each of its members.
fn most_open(group: &StoredGroup, at: Timestamp) -> u64 {
    let members = group.members.iter();
    let members = members
        .filter(|one| one.until.is_none_or(|until| at < until))
        .count();
    let members = u64::try_from(members).unwrap_or(u64::MAX);
    members.saturating_mul(group.rules.most_open.into())
}
