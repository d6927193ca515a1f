//! Lock-out: whether anybody could still bring a policy into force, or say who may, after a change.

use std::collections::BTreeSet;
use std::sync::Arc;

use remit_core::{
    Facts, KeyId, Principal, PrincipalKind, PrincipalName, Revision, Role, TenantId, Timestamp,
    Verdict,
};
use remit_engine::Snapshot;
use remit_store::{Scope, StoredKey};
use serde_json::json;

use super::{Act, Action};
use crate::app::App;
use crate::problem::{Kind, Problem};

/// Everybody who can administer a tenant: the keys that live, with what a change would make of them.
#[derive(Clone)]
pub(crate) struct Roster {
    tenant: TenantId,
    keys: Vec<Holder>,
    now: Timestamp,
    second_person: bool,
}

/// A key that lives, and who acts with it.
#[derive(Clone)]
struct Holder {
    key: KeyId,
    principal: Arc<Principal>,
    environment: String,
    scopes: BTreeSet<Scope>,
}

// === impl Holder ===

impl From<StoredKey> for Holder {
    fn from(key: StoredKey) -> Self {
        Self {
            key: key.id,
            principal: key.principal,
            environment: key.environment,
            scopes: key.scopes,
        }
    }
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
            keys: keys.into_iter().map(Holder::from).collect(),
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
        self.keys.retain(|holder| holder.key != id);
        self
    }

    /// Takes a principal away.
    pub(crate) fn without_principal(mut self, name: &PrincipalName) -> Self {
        self.keys.retain(|holder| holder.principal.name != *name);
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

    /// Checks that somebody could still bring policies into force under `system`, or could make those who then could.
    ///
    /// # Errors
    ///
    /// `lock-out`, which names what nobody could do any more.
    pub(crate) fn check(&self, system: &Snapshot) -> Result<(), Problem> {
        if self.can_publish(system) {
            return Ok(());
        }
        // Whoever manages principals can give any role; but no role helps against a policy that forbids it to everybody.
        let newcomers = self.clone().with_newcomers();
        let curable = newcomers.can_publish(system);
        if curable && self.can_manage(system) {
            return Ok(());
        }
        let who = if self.second_person {
            "no two persons"
        } else {
            "nobody"
        };
        let detail = if curable {
            format!("after this {who} could publish a policy, and nobody could manage principals")
        } else {
            format!("after this {who} could publish a policy, whatever their roles")
        };
        Err(Problem::new(Kind::LOCK_OUT, detail)
            .with("nobody_may", json!(["put_bundle", "put_principal"])))
    }

    /// Adds two persons that somebody who manages principals could make, with every role and scope.
    fn with_newcomers(mut self) -> Self {
        for name in ["one newcomer", "another newcomer"] {
            let Ok(name) = name.parse() else {
                continue;
            };
            self.keys.push(Holder {
                key: KeyId::from_uuid(uuid::Uuid::nil()),
                principal: Arc::new(Principal {
                    kind: PrincipalKind::Person,
                    name,
                    roles: Role::ALL.iter().copied().collect(),
                }),
                environment: "live".to_owned(),
                scopes: Scope::ALL.iter().copied().collect(),
            });
        }
        self
    }

    fn can_publish(&self, system: &Snapshot) -> bool {
        if !self.second_person {
            let act = Act::of(Action::PutBundle).loosens(true);
            return self.who(system, Scope::Write, &act).next().is_some();
        }
        // What loosens then goes by a draft: somebody writes it, another person approves it, and it is published.
        let act = Act::on(Action::PublishDraft, "")
            .loosens(true)
            .reviewed(true);
        if self.who(system, Scope::Write, &act).next().is_none() {
            return false;
        }
        // Two of each tell whether there are two that are not the same.
        let act = Act::of(Action::CreateDraft);
        let authors = first_two(self.who(system, Scope::Write, &act));
        let act = Act::on(Action::ReviewDraft, "");
        let reviewers = self.who(system, Scope::Write, &act);
        let persons = first_two(reviewers.filter(|one| one.kind == PrincipalKind::Person));
        let mut pairs = authors
            .iter()
            .flat_map(|author| persons.iter().map(move |person| (author, person)));
        pairs.any(|(author, person)| author != person)
    }

    fn can_manage(&self, system: &Snapshot) -> bool {
        let act = Act::on(Action::PutPrincipal, "");
        self.who(system, Scope::Keys, &act).next().is_some()
    }

    /// Finds the principals that may do `act` with a key that has `scope`, each as often as it has such a key.
    fn who<'a>(
        &'a self,
        system: &'a Snapshot,
        scope: Scope,
        act: &'a Act,
    ) -> impl Iterator<Item = &'a Principal> {
        let keys = self.keys.iter();
        let able = keys.filter(move |key| key.scopes.contains(&scope));
        let may = move |key: &&Holder| {
            let facts = Facts::plain(key.key, key.environment.clone(), self.now);
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

/// Returns the newest revision of a tenant, upon which a check of the lock-out holds, once this replica decides by it.
pub(crate) async fn head(app: &App, tenant: TenantId) -> Result<Revision, Problem> {
    let heads = app.store.heads().await?;
    let head = heads.iter().find(|head| head.tenant == tenant);
    let head = head.ok_or(Kind::NOT_FOUND)?.revision;
    // Otherwise what is checked would be judged by older policies than it is written over.
    app.reached(tenant, head).await?;
    Ok(head)
}

#[cfg(test)]
mod tests;
