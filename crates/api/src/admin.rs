//! The governed admin plane: who may change what, decided by our own engine and recorded with the change.
//!
//! A route names its [`Action`] in the router. It is decided before a handler runs, and a handler that changes something
//! asks again with all that it knows by then ([`App::permit`]). What it is given is the record of the change, which the
//! store writes in the transaction of the change. A change that is denied is recorded before it is answered.

use std::time::Instant;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use remit_core::{
    Action as Asked, AdminAction, AdminActionId, BreakGlassId, Decision, EntityUid, Principal,
    Question, Reason, Resource, Role, Subject, TenantId, Verdict,
};
use remit_store::Scope;
use serde_json::{Map, Value, json};

pub(crate) use action::Action;
use footing::tell_use;

use crate::app::App;
use crate::auth::{Caller, lacking};
use crate::problem::{Kind, Problem};

mod action;
pub(crate) mod admin_actions;
pub(crate) mod break_glass;
pub(crate) mod denials;
pub(crate) mod footing;
pub(crate) mod lockout;
pub(crate) mod principals;
pub(crate) mod second_person;
pub(crate) mod settings;
pub(crate) mod system;

/// What is told where nobody else has agreed.
const AGREE: &str = "this may permit what is denied now, and the tenant demands a second person for that: put it into a \
    draft (`POST /v1/drafts`), let another person approve it (`POST /v1/drafts/{id}/review`), and publish the draft";

/// One act of administration: what is done, to what, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    action: Action,
    /// What it is done to; `None` for the tenant.
    id: Option<String>,
    /// The type of a live entity or an agent.
    kind: Option<String>,
    own: bool,
    reviewed: bool,
    loosens: Option<bool>,
    /// What else is known of it, for the policies.
    known: Map<String, Value>,
    details: Map<String, Value>,
}

// === impl Act ===

impl Act {
    /// Does something to the tenant.
    pub(crate) fn of(action: Action) -> Self {
        Self {
            action,
            id: None,
            kind: None,
            own: false,
            reviewed: false,
            loosens: None,
            known: Map::new(),
            details: Map::new(),
        }
    }

    /// Does something to one thing.
    pub(crate) fn on(action: Action, id: &(impl ToString + ?Sized)) -> Self {
        Self {
            id: Some(id.to_string()),
            ..Self::of(action)
        }
    }

    /// Does something to a live entity, or to an agent.
    pub(crate) fn on_entity(action: Action, uid: &EntityUid) -> Self {
        Self {
            kind: Some(uid.kind.to_string()),
            ..Self::on(action, uid)
        }
    }

    /// Says whether it is done to whoever does it.
    pub(crate) fn own(self, own: bool) -> Self {
        Self { own, ..self }
    }

    /// Says whether another person has approved exactly this.
    pub(crate) fn reviewed(self, reviewed: bool) -> Self {
        Self { reviewed, ..self }
    }

    /// Says whether something that was denied may be permitted by it.
    pub(crate) fn loosens(self, loosens: bool) -> Self {
        Self {
            loosens: Some(loosens),
            ..self
        }
    }

    /// Adds what else is known of it, which the policies see and the record holds.
    pub(crate) fn knowing(mut self, known: Map<String, Value>) -> Self {
        self.known.extend(known.clone());
        self.details.extend(known);
        self
    }

    /// Adds what else the record is to hold.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }

    /// Reads from the address what an operation is done to, as far as the address says.
    ///
    /// # Errors
    ///
    /// `invalid-request` for a NUL character, which nothing has in its name and no database keeps.
    async fn of_parts(action: Action, caller: &Caller, parts: &mut Parts) -> Result<Self, Problem> {
        // What is not UTF-8 is refused by the handler; nothing has such a name.
        let params = RawPathParams::from_request_parts(parts, &()).await;
        let params: Vec<(String, String)> = params
            .map(|params| {
                let pairs = params.iter();
                pairs
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            })
            .unwrap_or_default();
        if let Some((name, _)) = params.iter().find(|(_, value)| value.contains('\0')) {
            let detail = format!("`{name}` in the path must not contain a NUL character");
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
        let named = |wanted: &str| {
            let found = params.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        Ok(match action.on() {
            // Whose task it is a part of the handler knows, which asks again; so with the one below.
            "Tenant" => Self::of(action).own(matches!(action, Action::CreateTask)),
            "Task" if matches!(action, Action::CompleteTask) => {
                Self::on(action, &canonical("Task", named("id"))).own(true)
            }
            "LiveEntity" | "Agent" => {
                Self::on_entity(action, &EntityUid::new(named("type"), named("id")))
            }
            // Whose it is the handler knows, which asks again.
            "BreakGlass" if matches!(action, Action::EndBreakGlass) => {
                Self::on(action, &canonical("BreakGlass", named("id"))).own(true)
            }
            "Principal" => {
                Self::on(action, named("name")).own(named("name") == caller.principal.name.as_str())
            }
            kind => {
                let value = params.first().map(|(_, value)| value.as_str());
                Self::on(action, &canonical(kind, value.unwrap_or_default()))
            }
        })
    }

    /// Puts it as a question to the policies of the administration.
    fn question(&self, tenant: TenantId, principal: &Principal, second_person: bool) -> Question {
        self.question_under(tenant, principal, second_person, false)
    }

    /// Puts it as a question, by somebody who has a break-glass grant or not.
    fn question_under(
        &self,
        tenant: TenantId,
        principal: &Principal,
        second_person: bool,
        break_glass: bool,
    ) -> Question {
        let mut properties = Map::new();
        properties.extend(
            self.kind
                .as_ref()
                .map(|kind| ("kind".to_owned(), json!(kind))),
        );
        let mut context = Map::new();
        context.insert("second_person".to_owned(), json!(second_person));
        context.insert("own".to_owned(), json!(self.own));
        context.insert("reviewed".to_owned(), json!(self.reviewed));
        context.insert("break_glass".to_owned(), json!(break_glass));
        context.extend(self.known.clone());
        context.extend(
            self.loosens
                .map(|loosens| ("loosens".to_owned(), json!(loosens))),
        );
        Question {
            action: Asked {
                name: self.action.name().to_owned(),
                properties: Map::new(),
            },
            context,
            resource: Resource {
                id: self.id.clone().unwrap_or_else(|| tenant.to_string()),
                properties,
                kind: self.action.on().to_owned(),
            },
            subject: subject(principal),
        }
    }
}

/// Writes what a path names as it is written everywhere else, so that no other spelling gets round a policy about it.
fn canonical(kind: &str, value: &str) -> String {
    let same = || value.to_owned();
    match kind {
        "Policy" | "Tool" | "TaskTemplate" | "ApproverGroup" => same(),
        "Version" | "Revision" => value
            .parse::<u64>()
            .map_or_else(|_| same(), |number| number.to_string()),
        _ => value
            .parse::<uuid::Uuid>()
            .map_or_else(|_| same(), |id| id.to_string()),
    }
}

/// Names a principal as the policies know it, with its roles.
fn subject(principal: &Principal) -> Subject {
    let roles = principal.roles.iter();
    let roles: Vec<Value> = roles
        .map(|role| json!({ "type": "Role", "id": role }))
        .collect();
    let mut properties = Map::new();
    properties.insert("roles".to_owned(), Value::Array(roles));
    Subject {
        id: principal.name.to_string(),
        properties,
        kind: match principal.kind {
            remit_core::PrincipalKind::Person => "Person".to_owned(),
            remit_core::PrincipalKind::Machine => "Machine".to_owned(),
        },
    }
}

// === impl App ===

impl App {
    /// Decides whether `caller` may do `act`, and returns the record that the change is to be written with.
    ///
    /// # Errors
    ///
    /// `not-permitted`, recorded where it would have been a change; `store-unavailable` when that cannot be recorded;
    /// `not-ready` while this replica does not know the tenant's policies; `stale-policy` for a change when it has not
    /// heard for too long whether those are the newest.
    pub(crate) async fn permit(&self, caller: &Caller, act: Act) -> Result<AdminAction, Problem> {
        let action = act.action;
        let (record, grant) = self.allow(caller, act).await?;
        grant.inspect(|grant| tell_use(caller, action, *grant));
        Ok(record)
    }

    /// Decides as [`App::permit`], and returns beside the record the break-glass grant that it rests on.
    async fn allow(
        &self,
        caller: &Caller,
        act: Act,
    ) -> Result<(AdminAction, Option<BreakGlassId>), Problem> {
        if act.action.changes() {
            self.confirmed(caller.tenant)?;
        }
        let mut footing = self.footing(caller, act.action).await?;
        let facts = self.facts(caller);
        let mut decision = footing.decide(caller, &act, &facts);
        if decision.verdict == Verdict::Deny && footing.turn_to_the_tenant(self, caller).await {
            decision = footing.decide(caller, &act, &facts);
        }
        let question = footing.question(caller, &act);
        let resource = EntityUid::new(&question.resource.kind, &question.resource.id);
        let mut record = self.record_of(caller, &act, resource, &decision);
        if decision.verdict == Verdict::Permit {
            let grant = footing.rests_on(self, caller, &act, &facts).await;
            if let Some(grant) = grant {
                record.break_glass = Some(grant.to_string());
                record.roles = footing.principal.roles;
            }
            return Ok((record, grant));
        }
        self.deny(caller, act.action, &record).await?;
        let roles = footing.roles_that_may(caller, &act, &facts);
        Err(refusal(&record, &decision, &roles))
    }

    /// Says why `caller` may not do `act`; `None` where they may. Nothing is recorded.
    ///
    /// # Errors
    ///
    /// As [`App::permit`], but for `not-permitted`.
    pub(crate) async fn would(&self, caller: &Caller, act: Act) -> Result<Option<String>, Problem> {
        let footing = self.footing(caller, act.action).await?;
        let facts = self.facts(caller);
        let decision = footing.decide(caller, &act, &facts);
        if decision.verdict == Verdict::Permit {
            return Ok(None);
        }
        let policies = decision.determining.iter();
        let policies: Vec<String> = policies.map(ToString::to_string).collect();
        Ok(Some(match policies.as_slice() {
            [] => "no policy permits it to you".to_owned(),
            _ => format!("policies forbid it to you: {}", policies.join(", ")),
        }))
    }

    /// Makes sure that no policy of the tenant forbids one of `acts`, for what does many things at once and is permitted.
    ///
    /// # Errors
    ///
    /// As [`App::permit`], for the first that is forbidden.
    pub(crate) async fn spare(&self, caller: &Caller, acts: Vec<Act>) -> Result<(), Problem> {
        let Some(first) = acts.first() else {
            return Ok(());
        };
        let footing = self.footing(caller, first.action).await?;
        if system::is_built_in(&footing.system) {
            return Ok(());
        }
        let facts = self.facts(caller);
        let asker = caller.clone();
        let forbidden = move || {
            acts.into_iter().find(|act| {
                let decision = footing.decide(&asker, act, &facts);
                // Where nothing permits it by itself, or would once approved, the permit for all of it is enough. What
                // could not be evaluated at all is no such case.
                let unspoken =
                    matches!(decision.reason, Reason::NoPermit | Reason::ApprovalRequired)
                        && decision.determining.is_empty();
                decision.verdict == Verdict::Deny && !unspoken
            })
        };
        match self.blocking(forbidden).await? {
            Some(act) => self.permit(caller, act).await.map(drop),
            None => Ok(()),
        }
    }

    /// Decides what a route says of itself, before its handler runs.
    ///
    /// # Errors
    ///
    /// `missing-scope` for a key without the scope; otherwise as [`App::permit`].
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        lacks: Option<Scope>,
        action: Action,
        parts: &mut Parts,
    ) -> Result<(), Problem> {
        let act = Act::of_parts(action, caller, parts).await?;
        let Some(scope) = lacks else {
            if action.is_of_a_request() {
                // What policies know of it only its handler finds, which asks them.
                return Ok(());
            }
            // What changes something is permitted again, and told then.
            let (_, grant) = self.allow(caller, act).await?;
            let grant = grant.filter(|_| !action.changes());
            grant.inspect(|grant| tell_use(caller, action, *grant));
            return Ok(());
        };
        self.deny_scope(caller, &act).await?;
        Err(lacking(scope))
    }

    /// Records what was denied because the key has not the scope for it.
    ///
    /// # Errors
    ///
    /// `store-unavailable` when it cannot be recorded.
    pub(crate) async fn deny_scope(&self, caller: &Caller, act: &Act) -> Result<(), Problem> {
        let id = act.id.clone().unwrap_or_else(|| caller.tenant.to_string());
        let record = AdminAction {
            reason: "missing_scope".to_owned(),
            verdict: Verdict::Deny,
            ..self.blank(caller, act, EntityUid::new(act.action.on(), id))
        };
        self.deny(caller, act.action, &record).await
    }

    /// Whether the tenant demands a second person for what loosens, asked of the database: no replica is behind in that.
    ///
    /// # Errors
    ///
    /// `store-unavailable`.
    pub(crate) async fn second_person(&self, tenant: TenantId) -> Result<bool, Problem> {
        Ok(self.store.settings(tenant).await?.settings.second_person)
    }

    /// Records what was denied; nothing is answered before that.
    ///
    /// Of a key that has been denied too much lately it is counted, and told in its next record.
    async fn deny(
        &self,
        caller: &Caller,
        action: Action,
        record: &AdminAction,
    ) -> Result<(), Problem> {
        let tenant = caller.tenant;
        if !action.changes() {
            return Ok(());
        }
        tracing::warn!(
            target: "remit::admin", action = action.name(), %tenant, principal = %record.principal,
            reason = record.reason, request_id = record.request_id, "denied"
        );
        let Some(leave) = self.denials.take(caller.key, Instant::now()) else {
            self.metrics.suppressed();
            return Ok(());
        };
        let written = self.store.record_alone(tenant, &leave.of(record)).await;
        written.map_err(|error| Problem::caused(Kind::STORE_UNAVAILABLE, error))?;
        leave.written();
        Ok(())
    }

    fn record_of(
        &self,
        caller: &Caller,
        act: &Act,
        resource: EntityUid,
        decision: &Decision,
    ) -> AdminAction {
        AdminAction {
            determining: decision.determining.clone(),
            reason: decision.reason.code().to_owned(),
            verdict: decision.verdict,
            ..self.blank(caller, act, resource)
        }
    }

    /// Makes a record of an act that nothing has decided.
    fn blank(&self, caller: &Caller, act: &Act, resource: EntityUid) -> AdminAction {
        let id = AdminActionId::from_uuid(self.clock.id());
        AdminAction {
            details: act.details.clone(),
            key: Some(caller.key),
            loosens: act.loosens,
            principal: caller.principal.name.clone(),
            request_id: Some(caller.request_id.clone()).filter(|id| !id.is_empty()),
            roles: caller.principal.roles.clone(),
            ..AdminAction::of_itself(id, self.now(), act.action.name(), resource)
        }
    }
}

/// Says what was not permitted, which roles would have been enough, and which policies settled it.
fn refusal(record: &AdminAction, decision: &Decision, roles: &[Role]) -> Problem {
    let settled = &decision.determining;
    if settled
        .iter()
        .any(|one| one.as_str() == second_person::RULE)
    {
        return Problem::new(Kind::REVIEW_REQUIRED, AGREE)
            .with("action", json!(record.action))
            .with("resource", json!(record.resource))
            .with("policies", json!(settled));
    }
    let names: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    let way = if names.is_empty() {
        "no role would be enough".to_owned()
    } else {
        format!("it takes the role {}", names.join(" or "))
    };
    let policies = decision.determining.iter();
    let policies: Vec<String> = policies.map(|policy| format!("`{policy}`")).collect();
    let because = if policies.is_empty() {
        String::new()
    } else {
        format!(", because of {}", policies.join(", "))
    };
    let detail = format!(
        "`{}` may not `{}`{because}; {way}",
        record.principal, record.action
    );
    Problem::new(Kind::NOT_PERMITTED, detail)
        .with("action", json!(record.action))
        .with("resource", json!(record.resource))
        .with("roles", json!(roles))
        .with("policies", json!(decision.determining))
}
