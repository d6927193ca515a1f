//! Lock-out: whether anybody could still bring a policy into force, or say who may, after a change.

use std::collections::BTreeMap;
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
        let publishers = self.who(
            system,
            Some(Scope::Write),
            &Act::of(Action::PutBundle).reviewed(true).loosens(true),
        );
        if !self.second_person {
            return !publishers.is_empty();
        }
        let reviewers = self.who(system, None, &Act::on(Action::ReviewDraft, ""));
        let mut persons = reviewers
            .iter()
            .filter(|(_, kind)| **kind == PrincipalKind::Person);
        persons.any(|(reviewer, _)| publishers.keys().any(|publisher| publisher != reviewer))
    }

    fn can_manage(&self, system: &Snapshot) -> bool {
        let act = Act::on(Action::PutPrincipal, "");
        !self.who(system, Some(Scope::Keys), &act).is_empty()
    }

    /// Finds the principals that may do `act` with a key that has `scope`.
    fn who(
        &self,
        system: &Snapshot,
        scope: Option<Scope>,
        act: &Act,
    ) -> BTreeMap<PrincipalName, PrincipalKind> {
        let mut found = BTreeMap::new();
        for key in &self.keys {
            let principal = &key.principal;
            if found.contains_key(&principal.name) || !scope.is_none_or(|scope| key.may(scope)) {
                continue;
            }
            let facts = Facts {
                now: self.now,
                caller: key.id,
                environment: key.environment.clone(),
                approved: false,
            };
            let question = act.question(self.tenant, principal, self.second_person);
            if App::judge(system, &question, &facts).verdict == Verdict::Permit {
                found.insert(principal.name.clone(), principal.kind);
            }
        }
        found
    }
}

/// Returns the newest revision of a tenant, upon which a check of the lock-out holds.
pub(crate) async fn head(app: &App, tenant: TenantId) -> Result<Revision, Problem> {
    let heads = app.store.heads().await?;
    let head = heads.iter().find(|head| head.tenant == tenant);
    Ok(head.ok_or(Kind::NOT_FOUND)?.revision)
}
