//! Kills in the store: nothing gets out of one but by two persons.

use remit_core::{Effects, KillTarget, PrincipalKind, TenantId};
use remit_store::Error;

use super::Fixture;
use super::registry::{agent, asked, kill, name, none, principal, tool};

for_each_database! {
    a_killed_model_is_not_exchanged;
    a_killed_tool_is_not_removed;
    who_kills_again_takes_back_what_was_asked;
    who_stops_everything_is_not_deleted;
    everything_is_stopped_from_two_places_at_once;
}

/// Lifts the kill of a target, as Ana asks and Ben agrees.
async fn lift(fixture: &Fixture, tenant: TenantId, target: &KillTarget) {
    let store = &fixture.store;
    let found = store.kill_of(tenant, target).await.unwrap().unwrap();
    let at = fixture.clock.now();
    let by_ana = asked(fixture, "ana", at);
    let id = found.kill.id;
    store.ask_lift(tenant, id, &by_ana, none()).await.unwrap();
    let ben = name("ben");
    store
        .lift_kill(tenant, &found.kill, &by_ana, (&ben, at), none())
        .await
        .unwrap();
}

async fn a_killed_model_is_not_exchanged(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    let robot = agent("robot");
    store.put_agent(tenant, None, &robot, none()).await.unwrap();
    let target = KillTarget::Model {
        model: "m-1".into(),
    };
    kill(&fixture, tenant, &target).await.unwrap();
    let head = store.heads().await.unwrap()[0].revision;
    let mut other = agent("robot");
    other.model = "m-2".into();
    let refused = store.put_agent(tenant, None, &other, none()).await;
    assert!(
        matches!(&refused, Err(Error::Killed { what }) if what == "the model `m-1`"),
        "{refused:?}"
    );
    assert_eq!(store.heads().await.unwrap()[0].revision, head);
    // Whatever does not lead out of it is nobody's trouble: the same model, and into it.
    store.put_agent(tenant, None, &robot, none()).await.unwrap();
    let mut second = agent("second");
    second.model = "m-2".into();
    store
        .put_agent(tenant, None, &second, none())
        .await
        .unwrap();
    let into = agent("second");
    store.put_agent(tenant, None, &into, none()).await.unwrap();
    lift(&fixture, tenant, &target).await;
    store.put_agent(tenant, None, &other, none()).await.unwrap();
}

async fn a_killed_tool_is_not_removed(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let tools = [tool("mail", Effects::Egress), tool("read", Effects::Read)];
    store.put_tools(tenant, None, &tools, none()).await.unwrap();
    let target = KillTarget::Tool {
        tool: "mail".into(),
    };
    kill(&fixture, tenant, &target).await.unwrap();
    let refused = store.delete_tool(tenant, None, "mail", none()).await;
    assert!(
        matches!(&refused, Err(Error::Killed { what }) if what == "the tool `mail`"),
        "{refused:?}"
    );
    assert!(store.tool(tenant, "mail").await.unwrap().is_some());
    store
        .delete_tool(tenant, None, "read", none())
        .await
        .unwrap();
    lift(&fixture, tenant, &target).await;
    store
        .delete_tool(tenant, None, "mail", none())
        .await
        .unwrap();
}

async fn who_kills_again_takes_back_what_was_asked(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    assert_eq!(
        store.kill_of(tenant, &KillTarget::Tenant).await.unwrap(),
        None
    );
    let set = kill(&fixture, tenant, &KillTarget::Tenant).await.unwrap();
    let at = fixture.clock.now();
    let by_ana = asked(&fixture, "ana", at);
    let id = set.kill.id;
    store.ask_lift(tenant, id, &by_ana, none()).await.unwrap();
    let there = store.kill_of(tenant, &KillTarget::Tenant).await.unwrap();
    assert_eq!(there.unwrap().asked.as_ref(), Some(&by_ana));
    store.keep_kill(tenant, id, none()).await.unwrap();
    let there = store.kill(tenant, id).await.unwrap().unwrap();
    assert_eq!((there.asked, there.lifted), (None, None));
    let ben = name("ben");
    let late = store
        .lift_kill(tenant, &set.kill, &by_ana, (&ben, at), none())
        .await;
    assert!(matches!(late, Err(Error::Unfit { .. })), "{late:?}");
    lift(&fixture, tenant, &KillTarget::Tenant).await;
    let late = store.keep_kill(tenant, id, none()).await;
    assert!(
        matches!(late, Err(Error::NotFound { what: "kill" })),
        "{late:?}"
    );
}

async fn who_stops_everything_is_not_deleted(fixture: Fixture) {
    let (store, host) = (&fixture.store, fixture.tenant("host").await);
    let guest = fixture.tenant("guest").await;
    kill(&fixture, host, &KillTarget::Everything).await.unwrap();
    kill(&fixture, guest, &KillTarget::Tenant).await.unwrap();
    for tenant in [host, guest] {
        store.suspend_tenant(tenant, None).await.unwrap();
    }
    let refused = store.delete_tenant(host, "host", None).await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    let late = fixture.tenant("late").await;
    assert_eq!(store.kills(late, None, None, 10).await.unwrap().len(), 1);
    // One of its own goes with it.
    store.delete_tenant(guest, "guest", None).await.unwrap();
    lift(&fixture, host, &KillTarget::Everything).await;
    store.delete_tenant(host, "host", None).await.unwrap();
}

/// Each moves every tenant on, and none waits for the other for ever.
async fn everything_is_stopped_from_two_places_at_once(fixture: Fixture) {
    let mut hosts = Vec::new();
    for host in ["a", "b", "c", "d"] {
        hosts.push(fixture.tenant(host).await);
    }
    for _ in 0..10 {
        let set = |host| kill(&fixture, host, &KillTarget::Everything);
        let (one, two) = tokio::join!(set(hosts[0]), set(hosts[3]));
        one.unwrap();
        two.unwrap();
        tokio::join!(
            lift(&fixture, hosts[0], &KillTarget::Everything),
            lift(&fixture, hosts[3], &KillTarget::Everything)
        );
    }
    let heads = fixture.store.heads().await.unwrap();
    let moved: Vec<u64> = heads.iter().map(|head| head.revision.number()).collect();
    assert_eq!(moved, [40; 4]);
}
