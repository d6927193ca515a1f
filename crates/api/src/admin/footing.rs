//! What somebody stands on when they do something: their own roles, and while a break-glass grant is active, those too.
//!
//! It is asked of the database at every act, with the setting of the tenant, in one question: an end is exact to the
//! microsecond and the same on every replica, and nothing has to happen for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use remit_core::{BreakGlassId, Decision, Facts, Principal, Question, Role, Timestamp, Verdict};
use remit_engine::Snapshot;
use remit_store::StandingGrant;

use super::{Act, Action, system};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};

/// What somebody stands on.
pub(super) struct Footing {
    /// The policies that decide.
    pub(super) system: Arc<Snapshot>,
    /// Who, with the roles of the grant beside their own.
    pub(super) principal: Principal,
    pub(super) second_person: bool,
    /// The grant that is active.
    pub(super) grant: Option<BreakGlassId>,
}

/// The grants that this process has seen active, for the metric alone: nothing is decided by it.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeMap<BreakGlassId, Timestamp>>);

// === impl Action ===

impl Action {
    /// Whether the built-in policies alone decide it: no tenant may shut the door that leads out of a lock-out.
    pub(super) const fn is_a_way_out(self) -> bool {
        matches!(
            self,
            Self::RequestBreakGlass | Self::ApproveBreakGlass | Self::EndBreakGlass
        )
    }

    /// Whether a grant counts for it; it makes nobody a second person, and begets no other.
    const fn rests(self) -> bool {
        !self.is_a_way_out()
            && !matches!(
                self,
                Self::ReviewDraft | Self::ConfirmSettings | Self::ConfirmKillLift
            )
    }

    /// Whether it cures a lock-out: under a grant the built-in policies alone decide it.
    const fn cures(self) -> bool {
        matches!(
            self,
            Self::PutBundle | Self::RollbackBundle | Self::PutPrincipal
        )
    }
}

// === impl Footing ===

impl Footing {
    /// Puts an act to the policies.
    pub(super) fn decide(&self, caller: &Caller, act: &Act, facts: &Facts) -> Decision {
        App::judge(&self.system, &self.question(caller, act), facts)
    }

    pub(super) fn question(&self, caller: &Caller, act: &Act) -> Question {
        let (second_person, broken) = (self.second_person, self.grant.is_some());
        act.question_under(caller.tenant, &self.principal, second_person, broken)
    }

    /// Takes the tenant's own policies where the built-in ones alone have denied under a grant, so that nobody may less with
    /// one than without; says whether there were others to take.
    pub(super) async fn turn_to_the_tenant(&mut self, app: &App, caller: &Caller) -> bool {
        if self.grant.is_none() {
            return false;
        }
        match system::in_force(app, caller.tenant).await {
            Ok(system) if !Arc::ptr_eq(&system, &self.system) => {
                self.system = system;
                true
            }
            _ => false,
        }
    }

    /// Returns the grant that an act rests on which is permitted: where it would not be without.
    pub(super) async fn rests_on(
        &self,
        app: &App,
        caller: &Caller,
        act: &Act,
        facts: &Facts,
    ) -> Option<BreakGlassId> {
        let grant = self.grant?;
        let question = act.question(caller.tenant, &caller.principal, self.second_person);
        let alone = match system::deciding(app, caller.tenant, act.action).await {
            Ok(system) => App::judge(&system, &question, facts).verdict,
            Err(_) => Verdict::Deny,
        };
        (alone == Verdict::Deny).then_some(grant)
    }

    /// Finds the roles each of which would have been enough, beside those that there are.
    pub(super) fn roles_that_may(&self, caller: &Caller, act: &Act, facts: &Facts) -> Vec<Role> {
        let would = |role: &Role| {
            let mut principal = self.principal.clone();
            principal.roles.insert(*role);
            let (second_person, broken) = (self.second_person, self.grant.is_some());
            let question = act.question_under(caller.tenant, &principal, second_person, broken);
            App::judge(&self.system, &question, facts).verdict == Verdict::Permit
        };
        Role::ALL.iter().copied().filter(would).collect()
    }
}

// === impl Seen ===

impl Seen {
    /// Keeps that a grant is active until `ends_at`.
    pub(super) fn keep(&self, id: BreakGlassId, ends_at: Timestamp) {
        self.with(|seen| seen.insert(id, ends_at));
    }

    /// Forgets a grant that was ended.
    pub(super) fn forget(&self, id: BreakGlassId) {
        self.with(|seen| seen.remove(&id));
    }

    /// Counts those that are active at `at`, and forgets the others.
    pub(crate) fn active(&self, at: Timestamp) -> usize {
        self.with(|seen| {
            seen.retain(|_, ends_at| at < *ends_at);
            seen.len()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<BreakGlassId, Timestamp>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl App ===

impl App {
    /// Finds what `caller` stands on to do something.
    pub(super) async fn footing(
        &self,
        caller: &Caller,
        action: Action,
    ) -> Result<Footing, Problem> {
        let (second_person, grant) = self.standing(caller).await?;
        let grant = grant.filter(|_| action.rests());
        let system = if grant.is_some() && action.cures() {
            system::alone()?
        } else {
            system::deciding(self, caller.tenant, action).await?
        };
        let mut principal = Principal::clone(&caller.principal);
        if let Some(grant) = &grant {
            principal.roles.extend(&grant.roles);
        }
        Ok(Footing {
            system,
            principal,
            second_person,
            grant: grant.map(|grant| grant.id),
        })
    }

    /// Returns whether the tenant demands a second person, and the grant of `caller` that is active now.
    ///
    /// The time is the database's, and never before what this process knew of it: a clock that is set back revives nothing.
    /// The first to see that a grant is over notes it and tells, on whichever replica.
    pub(crate) async fn standing(
        &self,
        caller: &Caller,
    ) -> Result<(bool, Option<StandingGrant>), Problem> {
        let (tenant, name) = (caller.tenant, &caller.principal.name);
        let found = self.store.standing(tenant, name, self.now()).await?;
        let at = found.at.max(self.now());
        let Some(grant) = found.grant else {
            return Ok((found.second_person, None));
        };
        if at < grant.ends_at {
            self.glass.keep(grant.id, grant.ends_at);
            return Ok((found.second_person, Some(grant)));
        }
        self.glass.forget(grant.id);
        match self.store.note_break_glass_end(tenant, grant.id, at).await {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                target: "remit::admin", %tenant, principal = %name, break_glass = %grant.id,
                ends_at = %grant.ends_at, "break-glass over"
            ),
            // It is over by its time, noted or not.
            Err(error) => tracing::warn!(
                target: "remit::admin", %tenant, principal = %name, break_glass = %grant.id,
                ends_at = %grant.ends_at, error = %error, "break-glass over, and that could not be noted"
            ),
        }
        Ok((found.second_person, None))
    }

    /// Returns the database's time, and never less than this process knew of it.
    pub(crate) async fn exact_time(&self) -> Result<Timestamp, Problem> {
        Ok(self.store.time().await?.max(self.now()))
    }
}

/// Writes the line of an act that rests on a grant.
pub(super) fn tell_use(caller: &Caller, action: Action, grant: BreakGlassId) {
    tracing::warn!(
        target: "remit::admin", action = action.name(), tenant = %caller.tenant, key = %caller.key,
        principal = %caller.principal.name, request_id = caller.request_id, break_glass = %grant, "break-glass used"
    );
}

/// Reads which roles a grant is to give; `approver` is none of them.
///
/// # Errors
///
/// `invalid-request`.
pub(super) fn grantable(roles: Option<BTreeSet<Role>>) -> Result<BTreeSet<Role>, Problem> {
    let roles = roles.unwrap_or_else(|| BTreeSet::from([Role::Admin, Role::Publisher]));
    if roles.is_empty() {
        let detail = "`roles`: at least one role was expected";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    if roles.contains(&Role::Approver) {
        let detail =
            "`roles`: `approver` cannot be had by break-glass, which makes nobody a second person";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(roles)
}
