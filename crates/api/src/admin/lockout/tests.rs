//! Whom a change would lock out, with and without the demand for a second person.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use remit_core::{Clock, Role};
use remit_store::{Change, NewKey, Options, Pepper, Store};

use super::*;
use crate::admin::system::compiled;

/// One principal that has a key: its name, kind, roles and the scopes of the key.
type Given<'a> = (&'a str, PrincipalKind, &'a [Role], &'a [Scope]);

/// Says whether the check lets a tenant be that has these, and nobody else.
async fn stands(holders: &[Given<'_>], second_person: bool) -> bool {
    let options = Options::new("sqlite::memory:");
    let store = Store::open(&options, Clock::system()).await.unwrap();
    store.migrate().await.unwrap();
    let tenant = store.ensure_tenant("acme").await.unwrap();
    let pepper = Pepper::new(&[7; 32]).unwrap();
    for (name, kind, roles, scopes) in holders {
        let principal = Principal {
            kind: *kind,
            name: name.parse().unwrap(),
            roles: roles.iter().copied().collect(),
        };
        store
            .put_principal(tenant, None, &principal, Change::default())
            .await
            .unwrap();
        let new = NewKey {
            name: "key".to_owned(),
            environment: "dev".to_owned(),
            scopes: scopes.iter().copied().collect(),
            expires_at: None,
            principal: Some(principal.name),
        };
        store.create_key(tenant, &new, &pepper).await.unwrap();
    }
    let roster = Roster {
        tenant,
        keys: store
            .keys(tenant)
            .await
            .unwrap()
            .into_iter()
            .map(super::Holder::from)
            .collect(),
        now: Clock::system().now(),
        second_person,
    };
    roster.check(&compiled(&[]).unwrap()).is_ok()
}

const PERSON: PrincipalKind = PrincipalKind::Person;
const MACHINE: PrincipalKind = PrincipalKind::Machine;
const EVERY: &[Scope] = Scope::ALL;

#[tokio::test]
async fn one_who_publishes_or_one_who_manages_is_enough() {
    let publisher: Given<'_> = ("p", MACHINE, &[Role::Publisher], EVERY);
    let admin: Given<'_> = ("a", PERSON, &[Role::Admin], EVERY);
    assert!(stands(&[publisher], false).await);
    assert!(stands(&[admin], false).await);
    assert!(!stands(&[], false).await);
    let rest: &[Role] = &[Role::Reader, Role::Author, Role::Approver, Role::Auditor];
    assert!(!stands(&[("r", PERSON, rest, EVERY)], false).await);
    // A role without the scope is none.
    let narrow: &[Scope] = &[Scope::Read, Scope::Evaluate];
    assert!(!stands(&[("p", PERSON, Role::ALL, narrow)], false).await);
    assert!(stands(&[("p", PERSON, Role::ALL, &[Scope::Write])], false).await);
}

#[tokio::test]
async fn where_a_second_person_is_demanded_publishing_takes_two() {
    let both: Given<'_> = (
        "b",
        PERSON,
        &[Role::Author, Role::Publisher, Role::Approver],
        EVERY,
    );
    let other: Given<'_> = ("o", PERSON, &[Role::Approver], EVERY);
    let machine: Given<'_> = ("m", MACHINE, &[Role::Approver], EVERY);
    let robot: Given<'_> = ("r", MACHINE, &[Role::Author, Role::Publisher], EVERY);
    let publisher: Given<'_> = ("p", PERSON, &[Role::Publisher], EVERY);
    assert!(!stands(&[both], true).await, "alone");
    assert!(
        !stands(&[both, machine], true).await,
        "a machine is no second person"
    );
    assert!(stands(&[both, other], true).await);
    assert!(
        !stands(&[publisher, other], true).await,
        "nobody writes a draft"
    );
    assert!(
        stands(&[robot, other], true).await,
        "a machine may write and publish what a person reviewed"
    );
    assert!(stands(&[("a", PERSON, &[Role::Admin], EVERY)], true).await);
}
