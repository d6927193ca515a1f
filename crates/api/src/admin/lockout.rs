//! Lock-out: whether anybody could still bring a policy into force, or say who may, after a change.

use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{
    Facts, KeyId, Principal, PrincipalKind, PrincipalName, Revision, TenantId, Timestamp, Verdict,
};
use remit_engine::Snapshot;
use remit_store::{Scope, StoredKey};
use serde_json::json;

use super::{Act, Action};
use crate::app::App;
use crate::problem::{Kind, Problem};

/// Everybody who can administer a tenant: the keys that live, with what a change would make of them.
pub(crate) struct Roster {
    tenant: TenantId,
    keys: Vec<StoredKey>,
    now: Timestamp,
    second_person: bool,
}

// === impl Roster ===

impl Roster {
    /// Reads who there is.
    pub(crate) async fn of(app: &App, tenant: TenantId) -> Result<Self, Problem> {
        let now = app.now();
        let mut keys = app.store.keys(tenant).await?;
        keys.retain(|key| key.usable(now).is_ok());
        Ok(Self {
            tenant,
            keys,
            now,
            second_person: app.second_person(tenant).await?,
        })
    }

    /// Demands a second person for what loosens.
    pub(crate) fn demanding(self) -> Self {
        Self {
            second_person: true,
            ..self
        }
    }

    /// Takes a key away.
    pub(crate) fn without_key(mut self, id: KeyId) -> Self {
        self.keys.retain(|key| key.id != id);
        self
    }

    /// Takes a principal away.
    pub(crate) fn without_principal(mut self, name: &PrincipalName) -> Self {
        self.keys.retain(|key| key.principal.name != *name);
        self
    }

    /// Gives a principal other roles.
    pub(crate) fn with_principal(mut self, principal: &Principal) -> Self {
        let changed = Arc::new(principal.clone());
        for key in &mut self.keys {
            if key.principal.name == changed.name {
                key.principal = Arc::clone(&changed);
            }
        }
        self
    }

    /// Checks that somebody could still bring policies into force, or manage principals, under `system`.
    ///
    /// # Errors
    ///
    /// `lock-out`, which names what nobody could do any more.
    pub(crate) fn check(&self, system: &Snapshot) -> Result<(), Problem> {
        if self.can_publish(system) || self.can_manage(system) {
            return Ok(());
        }
        let detail = if self.second_person {
            "after this no two persons could publish a policy, and nobody could manage principals"
        } else {
            "after this nobody could publish a policy, and nobody could manage principals"
        };
        Err(Problem::new(Kind::LOCK_OUT, detail)
            .with("nobody_may", json!(["put_bundle", "put_principal"])))
    }

    fn can_publish(&self, system: &Snapshot) -> bool {
        let act = Act::of(Action::PutBundle).loosens(true).reviewed(true);
        let mut publishers = self.who(system, Some(Scope::Write), &act);
        if !self.second_person {
            return publishers.next().is_some();
        }
        // Two of each tell whether there are two that are not the same.
        let publishers = first_two(publishers);
        let act = Act::on(Action::ReviewDraft, "");
        let reviewers = self.who(system, None, &act);
        let persons = first_two(reviewers.filter(|one| one.kind == PrincipalKind::Person));
        let mut pairs = publishers
            .iter()
            .flat_map(|publisher| persons.iter().map(move |person| (publisher, person)));
        pairs.any(|(publisher, person)| publisher != person)
    }

    fn can_manage(&self, system: &Snapshot) -> bool {
        let act = Act::on(Action::PutPrincipal, "");
        self.who(system, Some(Scope::Keys), &act).next().is_some()
    }

    /// Finds the principals that may do `act` with a key that has `scope`, each as often as it has such a key.
    fn who<'a>(
        &'a self,
        system: &'a Snapshot,
        scope: Option<Scope>,
        act: &'a Act,
    ) -> impl Iterator<Item = &'a Principal> {
        let keys = self.keys.iter();
        let able = keys.filter(move |key| scope.is_none_or(|scope| key.may(scope)));
        let may = move |key: &&StoredKey| {
            let facts = Facts {
                now: self.now,
                caller: key.id,
                environment: key.environment.clone(),
                approved: false,
            };
            let question = act.question(self.tenant, &key.principal, self.second_person);
            App::judge(system, &question, &facts).verdict == Verdict::Permit
        };
        able.filter(may).map(|key| key.principal.as_ref())
    }
}

/// Returns the names of the first two that are not the same.
fn first_two<'a>(found: impl Iterator<Item = &'a Principal>) -> BTreeSet<&'a PrincipalName> {
    let mut names = BTreeSet::new();
    for one in found {
        names.insert(&one.name);
        if names.len() == 2 {
            break;
        }
    }
    names
}

/// Returns the newest revision of a tenant, upon which a check of the lock-out holds.
pub(crate) async fn head(app: &App, tenant: TenantId) -> Result<Revision, Problem> {
    let heads = app.store.heads().await?;
    let head = heads.iter().find(|head| head.tenant == tenant);
    Ok(head.ok_or(Kind::NOT_FOUND)?.revision)
}

#[cfg(test)]
mod tests;
