//! Principals and records of administration, as they are kept.

use remit_core::{
    AdminAction, AdminActionId, EntityUid, KeyId, Principal, PrincipalKind, Revision, Role, Verdict,
};
use remit_store::{AdminActionFilter, Change, Error, Expected, NewKey, Unusable};

use super::{Fixture, bundle, new_key};
use crate::store::pepper;

for_each_database! {
    a_principal_goes_with_its_keys;
    a_record_is_written_with_its_change_or_neither_is;
    who_was_withdrawn_changes_nothing;
    who_lost_a_role_changes_nothing;
    /// What names a principal that is not there is the trouble of its tenant, and opens nothing.
    a_key_whose_principal_is_gone_cannot_be_read;
}

fn maya(roles: &[Role]) -> Principal {
    Principal {
        kind: PrincipalKind::Person,
        name: "maya".parse().unwrap(),
        roles: roles.iter().copied().collect(),
    }
}

fn of_maya() -> NewKey {
    NewKey {
        principal: Some("maya".parse().unwrap()),
        ..new_key()
    }
}

fn record(fixture: &Fixture, key: Option<KeyId>, action: &str) -> AdminAction {
    let id = AdminActionId::from_uuid(fixture.clock.id());
    let resource = EntityUid::new("Policy", "p");
    AdminAction {
        key,
        ..AdminAction::of_itself(id, fixture.clock.now(), action, resource)
    }
}

fn with(record: &AdminAction) -> Change<'_> {
    Change {
        record: Some(record),
        once: None,
    }
}

async fn a_principal_goes_with_its_keys(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let other = fixture.tenant("other").await;
    let none = Change::default();
    let early = store.create_key(tenant, &of_maya(), &pepper()).await;
    assert!(
        matches!(
            early,
            Err(Error::Invalid {
                member: "principal",
                ..
            })
        ),
        "{early:?}"
    );
    let roles = [Role::Author, Role::Reader];
    let first = store
        .put_principal(tenant, None, &maya(&roles), none)
        .await
        .unwrap();
    assert_eq!(first, Revision::new(1), "replicas must learn of it");
    let theirs = store.create_key(other, &of_maya(), &pepper()).await;
    assert!(
        matches!(theirs, Err(Error::Invalid { .. })),
        "a principal is one of its tenant"
    );

    let (made, _) = store
        .create_key(tenant, &of_maya(), &pepper())
        .await
        .unwrap();
    let (plain, _) = store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    assert_eq!((*made.principal).clone(), maya(&roles));
    assert!(made.bound && !plain.bound);
    assert_eq!(
        plain.principal.name.to_string(),
        format!("key:{}", plain.id)
    );
    assert_eq!(plain.principal.kind, PrincipalKind::Machine);

    store
        .put_principal(tenant, None, &maya(&[Role::Admin]), none)
        .await
        .unwrap();
    for key in [
        store.key(tenant, made.id).await.unwrap().unwrap(),
        store.keys(tenant).await.unwrap().remove(0),
        store.all_keys().await.unwrap().remove(0),
    ] {
        assert_eq!((*key.principal).clone(), maya(&[Role::Admin]));
        assert_eq!(key.usable(fixture.clock.now()), Ok(()));
    }
    let moved = store
        .put_principal(tenant, Some(first), &maya(&[]), none)
        .await;
    assert!(matches!(moved, Err(Error::Moved { .. })), "{moved:?}");
    let name = &maya(&[]).name;
    for _ in 0..2 {
        store
            .disable_principal(tenant, None, name, none)
            .await
            .unwrap();
    }
    let key = store.key(tenant, made.id).await.unwrap().unwrap();
    assert_eq!(key.usable(fixture.clock.now()), Err(Unusable::Disabled));
    let late = store.create_key(tenant, &of_maya(), &pepper()).await;
    assert!(
        matches!(
            late,
            Err(Error::Invalid {
                member: "principal",
                ..
            })
        ),
        "{late:?}"
    );
    let nobody = store.disable_principal(other, None, name, none).await;
    assert!(matches!(nobody, Err(Error::NotFound { .. })), "{nobody:?}");
    let stored = store.principal(tenant, name).await.unwrap().unwrap();
    assert!(stored.disabled_at.is_some());
    assert_eq!(store.principals(other, None, 10).await.unwrap(), []);
    assert_eq!(store.principals(tenant, None, 10).await.unwrap(), [stored]);
    for name in ["remit", "key:1"] {
        let given = Principal {
            name: name.parse().unwrap(),
            ..maya(&[])
        };
        let refused = store.put_principal(tenant, None, &given, none).await;
        assert!(
            matches!(refused, Err(Error::Invalid { member: "name", .. })),
            "{refused:?}"
        );
    }
}

async fn a_record_is_written_with_its_change_or_neither_is(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let put = async |record: &AdminAction| {
        let authorship = remit_store::Authorship::default();
        store
            .put_version(
                tenant,
                Expected::Any,
                &bundle("1"),
                authorship,
                with(record),
            )
            .await
    };
    let first = record(&fixture, None, "put_bundle");
    let revision = put(&first).await.unwrap();
    let kept = AdminAction {
        revision: Some(revision),
        ..first.clone()
    };
    let list = async || {
        store
            .admin_actions(tenant, &AdminActionFilter::default(), None, 10)
            .await
            .unwrap()
    };
    assert_eq!(list().await, std::slice::from_ref(&kept));
    // Its id is taken: the record cannot be written, and so nothing is.
    assert!(put(&first).await.is_err());
    let none = Change::default();
    let taken = store
        .put_principal(tenant, None, &maya(&[]), with(&first))
        .await;
    assert!(taken.is_err());
    assert_eq!(store.principals(tenant, None, 10).await.unwrap(), []);
    assert_eq!(
        store.bundle_versions(tenant, None, 10).await.unwrap().len(),
        1
    );
    assert_eq!(store.heads().await.unwrap()[0].revision, revision);
    // And the other way round: a change that is refused leaves no record.
    let second = record(&fixture, None, "put_bundle");
    let authorship = remit_store::Authorship::default();
    let late = store
        .put_version(
            tenant,
            Expected::Absent,
            &bundle("2"),
            authorship,
            with(&second),
        )
        .await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
    let unknown = store
        .revoke_key(tenant, fixture.key_id(), None, with(&second))
        .await;
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
    assert_eq!(list().await, std::slice::from_ref(&kept));

    let denied = AdminAction {
        verdict: Verdict::Deny,
        ..record(&fixture, None, "put_policy")
    };
    store.record_alone(tenant, &denied).await.unwrap();
    assert_eq!(list().await, [denied.clone(), kept]);
    assert_eq!(store.heads().await.unwrap()[0].revision, revision);
    let filter = AdminActionFilter {
        verdict: Some(Verdict::Deny),
        action: Some("put_policy".to_owned()),
        principal: Some("remit".parse().unwrap()),
    };
    let found = store
        .admin_actions(tenant, &filter, None, 10)
        .await
        .unwrap();
    assert_eq!(found, [denied]);
    let other = fixture.tenant("other").await;
    assert_eq!(
        store.admin_actions(other, &filter, None, 10).await.unwrap(),
        []
    );
    store
        .put_principal(tenant, None, &maya(&[]), none)
        .await
        .unwrap();
}

async fn who_was_withdrawn_changes_nothing(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let none = Change::default();
    store
        .put_principal(tenant, None, &maya(&[]), none)
        .await
        .unwrap();
    let (bound, _) = store
        .create_key(tenant, &of_maya(), &pepper())
        .await
        .unwrap();
    let (plain, _) = store
        .create_key(tenant, &new_key(), &pepper())
        .await
        .unwrap();
    let put = async |key: KeyId| {
        let record = record(&fixture, Some(key), "put_bundle");
        let authorship = remit_store::Authorship::default();
        store
            .put_version(
                tenant,
                Expected::Any,
                &bundle("1"),
                authorship,
                with(&record),
            )
            .await
    };
    put(bound.id).await.unwrap();
    put(plain.id).await.unwrap();
    let head = put(bound.id).await.unwrap();
    let disabled = store
        .disable_principal(tenant, None, &maya(&[]).name, none)
        .await
        .unwrap();
    // A key may take itself back; the record of that is its last one.
    let last = record(&fixture, Some(plain.id), "revoke_key");
    let revoked = store
        .revoke_key(tenant, plain.id, None, with(&last))
        .await
        .unwrap();
    assert!(head < disabled && disabled < revoked);
    for key in [bound.id, plain.id, fixture.key_id()] {
        let late = put(key).await;
        assert!(matches!(late, Err(Error::Withdrawn)), "{late:?}");
    }
    assert_eq!(store.heads().await.unwrap()[0].revision, revoked);
    let filter = AdminActionFilter::default();
    let found = store
        .admin_actions(tenant, &filter, None, 10)
        .await
        .unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
}

/// What was decided by roles that somebody has no more, or for a tenant that is suspended since, is not written.
async fn who_lost_a_role_changes_nothing(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let put_maya = async |roles: &[Role]| {
        let maya = maya(roles);
        let put = store.put_principal(tenant, None, &maya, Change::default());
        put.await.unwrap();
    };
    put_maya(&[Role::Publisher]).await;
    let key = store.create_key(tenant, &of_maya(), &pepper()).await;
    let key = key.unwrap().0.id;
    let put = async |roles: &[Role], grant: Option<&str>| {
        let record = AdminAction {
            roles: roles.iter().copied().collect(),
            break_glass: grant.map(str::to_owned),
            ..record(&fixture, Some(key), "put_bundle")
        };
        let authorship = remit_store::Authorship::default();
        let bundle = bundle("1");
        let put = store.put_version(tenant, Expected::Any, &bundle, authorship, with(&record));
        put.await
    };
    put(&[Role::Publisher], None).await.unwrap();
    let withdrawn = |put: Result<_, Error>| assert!(matches!(put, Err(Error::Withdrawn)));
    withdrawn(put(&[Role::Publisher, Role::Admin], None).await);
    // A grant of break-glass adds to the roles, and takes the place of none.
    put(&[Role::Publisher, Role::Admin], Some("grant"))
        .await
        .unwrap();
    put_maya(&[Role::Reader]).await;
    withdrawn(put(&[Role::Publisher], None).await);
    withdrawn(put(&[Role::Publisher, Role::Admin], Some("grant")).await);
    put(&[Role::Reader], None).await.unwrap();
    store.suspend_tenant(tenant, None).await.unwrap();
    withdrawn(put(&[Role::Reader], None).await);
}

async fn a_key_whose_principal_is_gone_cannot_be_read(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let none = Change::default();
    store
        .put_principal(tenant, None, &maya(&[]), none)
        .await
        .unwrap();
    store
        .create_key(tenant, &of_maya(), &pepper())
        .await
        .unwrap();
    for damage in [
        "UPDATE principals SET roles = 'king'",
        "UPDATE principals SET roles = '', kind = 'robot'",
        "DELETE FROM principals",
    ] {
        if !fixture.damage(damage).await {
            return;
        }
        let read = store.keys(tenant).await;
        assert!(
            matches!(read, Err(Error::Corrupt { .. })),
            "{damage}: {read:?}"
        );
    }
}
