//! The second person: whether somebody else, who had no hand in a change, has agreed to exactly that.
//!
//! Who counts is asked of the database and of the policies in force when the change is made, not when somebody agreed: a
//! person who was disabled since, or may not review any more, does not count. A machine never does, and two keys of one
//! principal are one person, and so are two accounts where it is known whose they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{
    Facts, KeyId, PolicyId, Principal, PrincipalKind, PrincipalName, TenantId, Verdict,
};
use remit_engine::Snapshot;

use super::{Act, system};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::Problem;

/// The rule that denies what loosens and nobody else has agreed to.
pub(super) const RULE: &str = "remit.second-person";

/// Somebody who has agreed to a change.
pub(crate) struct Agreed<'a> {
    /// The principal.
    pub(crate) principal: &'a str,
    /// The key that it came with.
    pub(crate) key: KeyId,
}

/// Those who count as a second person for one change.
#[derive(Debug, Default)]
pub(crate) struct SecondPersons {
    /// Those who have agreed to it.
    pub(crate) agreed: BTreeSet<String>,
    /// Whether whoever makes the change is one.
    maker: bool,
}

// === impl SecondPersons ===

impl SecondPersons {
    /// Finds those who count for a change that `authors` have written and `caller` makes: live persons who are none of
    /// the authors and may do `act`, such as review it.
    pub(crate) async fn of(
        app: &App,
        caller: &Caller,
        authors: &BTreeSet<String>,
        agreed: impl Iterator<Item = Agreed<'_>>,
        act: &Act,
    ) -> Result<Self, Problem> {
        let tenant = caller.tenant;
        let system = system::in_force(app, tenant).await?;
        let mut found = Self::default();
        for Agreed { principal, key } in agreed {
            if !authored(app, tenant, principal, authors).await?
                && counts(app, &system, tenant, principal, key, act).await?
            {
                found.agreed.insert(principal.to_owned());
            }
        }
        let maker = caller.principal.name.as_str();
        found.maker = !authored(app, tenant, maker, authors).await?
            && counts(app, &system, tenant, maker, caller.key, act).await?;
        Ok(found)
    }

    /// Whether there is anybody.
    pub(crate) fn any(&self) -> bool {
        self.maker || !self.agreed.is_empty()
    }
}

/// Returns every account of the person whose name this is, itself among them.
pub(crate) async fn accounts(
    app: &App,
    tenant: TenantId,
    name: &PrincipalName,
) -> Result<BTreeSet<PrincipalName>, Problem> {
    let mandates = app.store.mandates(tenant, name, app.now()).await?;
    Ok(mandates.own)
}

/// Whether somebody is one of the authors, by whichever account.
pub(crate) async fn authored(
    app: &App,
    tenant: TenantId,
    name: &str,
    authors: &BTreeSet<String>,
) -> Result<bool, Problem> {
    // What is no name of a principal has one account.
    let Ok(principal) = name.parse::<PrincipalName>() else {
        return Ok(authors.contains(name));
    };
    let accounts = accounts(app, tenant, &principal).await?;
    Ok(accounts.iter().any(|one| authors.contains(one.as_str())))
}

/// Whether somebody is a live person who may do `act`.
async fn counts(
    app: &App,
    system: &Snapshot,
    tenant: TenantId,
    name: &str,
    key: KeyId,
    act: &Act,
) -> Result<bool, Problem> {
    // What is no name of a principal is nobody.
    let Ok(name) = name.parse::<PrincipalName>() else {
        return Ok(false);
    };
    let found = app.store.principal(tenant, &name).await?;
    let Some(stored) = found.filter(|found| found.disabled_at.is_none()) else {
        return Ok(false);
    };
    // What came with a key that was revoked since was perhaps not theirs.
    let stored_key = app.store.key(tenant, key).await?;
    let Some(stored_key) = stored_key.filter(|key| key.revoked_at.is_none()) else {
        return Ok(false);
    };
    let environment = stored_key.environment;
    Ok(stored.principal.kind == PrincipalKind::Person
        && permitted(
            app,
            system,
            tenant,
            (&stored.principal, key, environment),
            act,
        ))
}

/// Whether whoever did something with a key, a person or not, is still there and may do `act` today.
pub(crate) async fn still_may(
    app: &App,
    tenant: TenantId,
    name: &PrincipalName,
    key: KeyId,
    act: &Act,
) -> Result<bool, Problem> {
    let system = system::deciding(app, tenant, act.action).await?;
    let Some(stored_key) = app.store.key(tenant, key).await? else {
        return Ok(false);
    };
    // A key that is bound to nobody acts for itself, and is gone when it is revoked.
    let principal = match app.store.principal(tenant, name).await? {
        _ if stored_key.revoked_at.is_some() => return Ok(false),
        Some(found) if found.disabled_at.is_none() => Arc::new(found.principal),
        None if stored_key.usable(app.now()).is_ok() => Arc::clone(&stored_key.principal),
        Some(_) | None => return Ok(false),
    };
    let who = (principal.as_ref(), key, stored_key.environment);
    Ok(principal.name == *name && permitted(app, &system, tenant, who, act))
}

/// Returns the policies that let Remit itself do `act`, which has no role and is a machine; `None` where none do.
///
/// Only where they say so of Remit: what any machine may is no word that nobody need look.
pub(crate) async fn itself_may(
    app: &App,
    tenant: TenantId,
    environment: &str,
    act: &Act,
) -> Result<Option<Vec<PolicyId>>, Problem> {
    let system = system::deciding(app, tenant, act.action).await?;
    let second_person = app.second_person(tenant).await?;
    let facts = Facts::plain(KeyId::NIL, environment, app.now());
    let permits = |name: PrincipalName| {
        let principal = Principal {
            kind: PrincipalKind::Machine,
            name,
            roles: BTreeSet::new(),
        };
        let question = act.question(tenant, &principal, second_person);
        let decision = App::judge(&system, &question, &facts);
        (decision.verdict == Verdict::Permit).then_some(decision.determining)
    };
    let any_machine = permits(PrincipalName::of_key(KeyId::NIL));
    Ok(permits(PrincipalName::itself()).filter(|_| any_machine.is_none()))
}

fn permitted(
    app: &App,
    system: &Snapshot,
    tenant: TenantId,
    (principal, key, environment): (&Principal, KeyId, String),
    act: &Act,
) -> bool {
    let facts = Facts::plain(key, environment, app.now());
    let question = act.question(tenant, principal, true);
    App::judge(system, &question, &facts).verdict == Verdict::Permit
}
