//! Settings, and what is asked of them.

use remit_core::{KeyId, PrincipalName, Revision, TenantId};
use remit_store::{Change, Error, PendingSettings, Settings, Store};

use super::Fixture;

for_each_database! {
    settings_are_changed_at_a_revision;
    what_is_asked_is_confirmed_once_and_by_another;
}

const ON: Settings = Settings {
    second_person: true,
};
const OFF: Settings = Settings {
    second_person: false,
};

async fn head(store: &Store, tenant: TenantId) -> Revision {
    let heads = store.heads().await.unwrap();
    heads
        .iter()
        .find(|head| head.tenant == tenant)
        .unwrap()
        .revision
}

fn name(name: &str) -> PrincipalName {
    name.parse().unwrap()
}

async fn settings_are_changed_at_a_revision(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    let first = store.settings(tenant).await.unwrap();
    assert_eq!((first.settings, first.revision), (OFF, Revision::default()));
    let at = head(store, tenant).await;
    let on = store
        .change_settings(tenant, at, ON, Change::default())
        .await
        .unwrap();
    let found = store.settings(tenant).await.unwrap();
    assert_eq!((found.settings, found.revision), (ON, on));
    assert!(on > at);
    let moved = store
        .change_settings(tenant, at, OFF, Change::default())
        .await;
    assert!(matches!(moved, Err(Error::Moved { .. })), "{moved:?}");
    assert_eq!(store.settings(other).await.unwrap(), first);
    let nobody = TenantId::from_uuid(fixture.clock.id());
    let missing = store.settings(nobody).await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
}

async fn what_is_asked_is_confirmed_once_and_by_another(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    for tenant in [tenant, other] {
        let at = head(store, tenant).await;
        store
            .change_settings(tenant, at, ON, Change::default())
            .await
            .unwrap();
    }
    let pending = PendingSettings {
        settings: OFF,
        asked_by: name("ana"),
        key: KeyId::NIL,
        at: fixture.clock.now(),
    };
    let at = head(store, tenant).await;
    let ask = async |pending| {
        store
            .ask_settings(tenant, pending, Change::default())
            .await
            .unwrap();
    };
    let confirm = async |tenant, pending: &PendingSettings, who: &str| {
        let at = head(store, tenant).await;
        let who = name(who);
        store
            .confirm_settings(tenant, at, pending, &who, Change::default())
            .await
    };
    ask(Some(&pending)).await;
    assert_eq!(
        head(store, tenant).await,
        at,
        "nothing is changed by asking"
    );
    assert_eq!(
        store.settings(tenant).await.unwrap().pending,
        Some(pending.clone())
    );
    // Not who asked, not another tenant, not what was not asked, not what was taken back.
    let differs = PendingSettings {
        asked_by: name("eve"),
        ..pending.clone()
    };
    for (tenant, pending, who) in [
        (tenant, &pending, "ana"),
        (other, &pending, "ben"),
        (tenant, &differs, "ben"),
    ] {
        let refused = confirm(tenant, pending, who).await;
        assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    }
    ask(None).await;
    let gone = confirm(tenant, &pending, "ben").await;
    assert!(matches!(gone, Err(Error::Unfit { .. })), "{gone:?}");
    assert_eq!(store.settings(tenant).await.unwrap().settings, ON);

    ask(Some(&pending)).await;
    let done = confirm(tenant, &pending, "ben").await.unwrap();
    let found = store.settings(tenant).await.unwrap();
    assert_eq!(
        (found.settings, found.revision, found.pending),
        (OFF, done, None)
    );
    let again = confirm(tenant, &pending, "ben").await;
    assert!(matches!(again, Err(Error::Unfit { .. })), "{again:?}");
    assert_eq!(store.settings(other).await.unwrap().settings, ON);
}
