//! Agents, tools and kills in the store: exact at every revision, final where they are, and told across tenants only where
//! they stop all of them.

use std::collections::BTreeSet;

use remit_core::{
    Agent, AgentStatus, Confidentiality, Effects, EntityUid, Integrity, KillId, KillTarget,
    Principal, PrincipalKind, PrincipalName, Revision, Role, TenantId, Timestamp, Tool,
};
use remit_store::{
    AgentFilter, Change, Error, LiftAsked, MAX_AGENTS, MAX_KILLS, MAX_TOOLS, NewKill, StoredKill,
};

use super::Fixture;

for_each_database! {
    an_agent_is_exact_at_every_revision;
    an_agent_has_an_owner_who_is_there;
    a_retired_agent_is_never_used_again;
    agents_are_listed_by_status_and_owner;
    a_catalogue_is_exact_at_every_revision;
    a_kill_is_set_once_and_lifted_by_two;
    a_kill_of_everything_moves_every_tenant_on;
    there_are_only_so_many;
}

pub(super) fn name(name: &str) -> PrincipalName {
    name.parse().unwrap()
}

pub(super) fn none() -> Change<'static> {
    Change::default()
}

pub(super) async fn principal(fixture: &Fixture, tenant: TenantId, who: &str, kind: PrincipalKind) {
    let principal = Principal {
        kind,
        name: name(who),
        roles: BTreeSet::from([Role::Operator]),
    };
    let put = fixture
        .store
        .put_principal(tenant, None, &principal, none());
    put.await.unwrap();
}

/// An agent of this id, which Maya answers for.
pub(super) fn agent(id: &str) -> Agent {
    Agent {
        build: None,
        ends_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        environment: "production".into(),
        model: "m-1".into(),
        owner: name("maya"),
        principal: None,
        purpose: "pays".into(),
        review_at: "2026-12-01T00:00:00Z".parse().unwrap(),
        roles: BTreeSet::from(["payer".into()]),
        status: AgentStatus::Active,
        trust: 1,
        uid: EntityUid::new("Agent", id),
    }
}

pub(super) fn tool(name: &str, effect: Effects) -> Tool {
    Tool {
        amount: None,
        classes: BTreeSet::new(),
        clearance: None,
        confidentiality: Confidentiality::Private,
        cost: 0,
        descriptor: None,
        domain: None,
        effect,
        environment: None,
        integrity: Integrity::Untrusted,
        irreversible: true,
        min_trust: 0,
        name: name.into(),
        owner: None,
        roles: None,
        sinks: Vec::new(),
    }
}

pub(super) async fn kill(
    fixture: &Fixture,
    tenant: TenantId,
    target: &KillTarget,
) -> Result<StoredKill, Error> {
    let new = NewKill {
        id: KillId::from_uuid(fixture.clock.id()),
        target,
        reason: "an incident",
        by: &name("ana"),
        key: fixture.key_id(),
        at: fixture.clock.now(),
    };
    fixture.store.set_kill(tenant, new, none()).await
}

/// Puts something into each of the three tables; the tenant has the person `maya`.
pub(super) async fn fill(fixture: &Fixture, tenant: TenantId) {
    let store = &fixture.store;
    let one = agent("robot");
    store.put_agent(tenant, None, &one, none()).await.unwrap();
    let tools = [tool("mail.send", Effects::Egress)];
    store.put_tools(tenant, None, &tools, none()).await.unwrap();
    kill(fixture, tenant, &KillTarget::Tenant).await.unwrap();
}

/// What became of the agents between two revisions, read in pages of two.
async fn changes(
    fixture: &Fixture,
    tenant: TenantId,
    after: u64,
    upto: Revision,
) -> Vec<(String, u8, u64)> {
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = fixture
            .store
            .agent_changes(tenant, Revision::new(after), upto, from.as_ref(), 2)
            .await
            .unwrap();
        let told = page.agents.iter();
        found.extend(told.map(|(agent, at)| (agent.uid.id.to_string(), agent.trust, at.number())));
        from = page.next;
        if from.is_none() {
            return found;
        }
    }
}

async fn an_agent_is_exact_at_every_revision(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let other = fixture.tenant("b").await;
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    let put = async |agent: &Agent| store.put_agent(tenant, None, agent, none()).await.unwrap();
    let mut last = Revision::default();
    for id in ["a", "b", "c"] {
        last = put(&agent(id)).await;
    }
    let before = last;
    let changed = Agent {
        trust: 3,
        ..agent("b")
    };
    let last = put(&changed).await;
    assert_eq!(
        changes(&fixture, tenant, 0, before).await,
        [("a".into(), 1, 2), ("b".into(), 1, 3), ("c".into(), 1, 4)],
        "as it was then, whatever was written since"
    );
    assert_eq!(
        changes(&fixture, tenant, 0, last).await,
        [("a".into(), 1, 2), ("c".into(), 1, 4), ("b".into(), 3, 5)]
    );
    assert_eq!(
        changes(&fixture, tenant, before.number(), last).await,
        [("b".into(), 3, 5)]
    );
    let live = store.live_now(tenant, last).await.unwrap();
    assert_eq!((live.agents, live.tools), (last, Revision::default()));
    assert_eq!(live.owners, [name("maya")]);

    let uid = EntityUid::new("Agent", "b");
    let stored = store.agent(tenant, &uid).await.unwrap().unwrap();
    assert_eq!((stored.agent, stored.revision), (changed, last));
    assert!(stored.owner_is_live);
    assert_eq!(store.agent(other, &uid).await.unwrap(), None);
    let theirs = store.live_now(other, last).await.unwrap();
    assert_eq!(
        (theirs.agents, theirs.owners.len()),
        (Revision::default(), 0)
    );
    // Over another state than was looked at it is not written.
    let moved = store
        .put_agent(tenant, Some(before), &agent("b"), none())
        .await;
    assert!(matches!(moved, Err(Error::Moved { head }) if head == last));
}

async fn an_agent_has_an_owner_who_is_there(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    principal(&fixture, tenant, "robot", PrincipalKind::Machine).await;
    principal(&fixture, tenant, "gone", PrincipalKind::Person).await;
    store
        .disable_principal(tenant, None, &name("gone"), none())
        .await
        .unwrap();
    let put = async |agent: Agent| store.put_agent(tenant, None, &agent, none()).await;
    for owner in ["robot", "gone", "nobody"] {
        let owned = Agent {
            owner: name(owner),
            ..agent("a")
        };
        let refused = put(owned).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    member: "owner",
                    ..
                })
            ),
            "{owner}: {refused:?}"
        );
    }
    for calls_as in ["maya", "gone", "nobody"] {
        let bound = Agent {
            principal: Some(name(calls_as)),
            ..agent("a")
        };
        let refused = put(bound).await;
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    member: "principal",
                    ..
                })
            ),
            "{calls_as}: {refused:?}"
        );
    }
    assert_eq!(store.agent(tenant, &agent("a").uid).await.unwrap(), None);
    let bound = Agent {
        principal: Some(name("robot")),
        ..agent("a")
    };
    put(bound.clone()).await.unwrap();

    // What is stopped needs nobody who answers for it; what works again does.
    store
        .disable_principal(tenant, None, &name("maya"), none())
        .await
        .unwrap();
    let stored = store.agent(tenant, &bound.uid).await.unwrap().unwrap();
    assert!(!stored.owner_is_live);
    let suspended = Agent {
        status: AgentStatus::Suspended,
        ..bound.clone()
    };
    put(suspended).await.unwrap();
    assert!(matches!(
        put(bound.clone()).await,
        Err(Error::Invalid {
            member: "owner",
            ..
        })
    ));
    let head = store.heads().await.unwrap()[0].revision;
    assert_eq!(store.live_now(tenant, head).await.unwrap().owners, []);
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    put(bound).await.unwrap();
}

async fn a_retired_agent_is_never_used_again(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    let put = async |status| {
        let agent = Agent {
            status,
            ..agent("a")
        };
        store.put_agent(tenant, None, &agent, none()).await
    };
    put(AgentStatus::Active).await.unwrap();
    put(AgentStatus::Retired).await.unwrap();
    for status in [
        AgentStatus::Active,
        AgentStatus::Suspended,
        AgentStatus::Retired,
    ] {
        let refused = put(status).await.unwrap_err();
        assert!(refused.to_string().contains("was retired"), "{refused}");
    }
    let head = store.heads().await.unwrap()[0].revision;
    assert_eq!(head.number(), 3, "nothing was written");
}

async fn agents_are_listed_by_status_and_owner(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    for who in ["maya", "tom"] {
        principal(&fixture, tenant, who, PrincipalKind::Person).await;
    }
    for (id, owner, status) in [
        ("a", "maya", AgentStatus::Active),
        ("b", "tom", AgentStatus::Suspended),
        ("c", "maya", AgentStatus::Retired),
        ("d", "maya", AgentStatus::Suspended),
    ] {
        let agent = Agent {
            owner: name(owner),
            status,
            ..agent(id)
        };
        store.put_agent(tenant, None, &agent, none()).await.unwrap();
    }
    let list = async |status, owner: Option<&str>, after: Option<&str>, limit| {
        let filter = AgentFilter {
            status,
            owner: owner.map(name),
        };
        let after = after.map(|id| EntityUid::new("Agent", id));
        let found = store.agents(tenant, &filter, after.as_ref(), limit).await;
        let ids = found.unwrap().into_iter();
        ids.map(|one| one.agent.uid.id.to_string())
            .collect::<Vec<_>>()
    };
    let suspended = Some(AgentStatus::Suspended);
    assert_eq!(list(None, None, None, 10).await, ["a", "b", "c", "d"]);
    assert_eq!(list(None, None, Some("b"), 1).await, ["c"]);
    assert_eq!(list(suspended, None, None, 10).await, ["b", "d"]);
    assert_eq!(list(None, Some("maya"), None, 10).await, ["a", "c", "d"]);
    assert_eq!(list(suspended, Some("maya"), None, 10).await, ["d"]);
    assert_eq!(list(None, Some("nobody"), None, 10).await, [""; 0]);
}

async fn a_catalogue_is_exact_at_every_revision(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let put = async |tools: &[Tool]| store.put_tools(tenant, None, tools, none()).await.unwrap();
    let first = put(&[
        tool("a", Effects::Read),
        tool("b", Effects::Read),
        tool("b", Effects::Pay),
    ])
    .await;
    let second = put(&[tool("a", Effects::Read), tool("c", Effects::Exec)]).await;
    let of = async |name: &str| {
        let found = store.tool(tenant, name).await.unwrap();
        found.map(|found| (found.tool.effect, found.revision))
    };
    assert_eq!(
        of("a").await,
        Some((Effects::Read, first)),
        "it was the same"
    );
    assert_eq!(
        of("b").await,
        Some((Effects::Pay, first)),
        "the last counts"
    );
    assert_eq!(of("c").await, Some((Effects::Exec, second)));
    let third = store.delete_tool(tenant, None, "b", none()).await.unwrap();
    assert_eq!(of("b").await, None);
    let again = store.delete_tool(tenant, None, "b", none()).await;
    assert!(matches!(again, Err(Error::NotFound { what: "tool" })));

    let changes = async |after: Revision, upto| {
        let (mut there, mut gone, mut from) = (Vec::new(), Vec::new(), None);
        loop {
            let page = store
                .tool_changes(tenant, after, upto, from.as_ref(), 1)
                .await
                .unwrap();
            there.extend(page.tools.into_iter().map(|tool| tool.name.to_string()));
            gone.extend(page.removed);
            from = page.next;
            if from.is_none() {
                return (there.join(" "), gone.join(" "));
            }
        }
    };
    let zero = Revision::default();
    assert_eq!(changes(zero, first).await, ("a b".into(), String::new()));
    assert_eq!(changes(zero, second).await, ("a b c".into(), String::new()));
    assert_eq!(changes(first, third).await, ("c".into(), "b".into()));
    assert_eq!(changes(zero, third).await, ("a c".into(), "b".into()));
    let back = put(&[tool("b", Effects::Pay)]).await;
    assert_eq!(of("b").await, Some((Effects::Pay, back)));
    assert_eq!(changes(third, back).await, ("b".into(), String::new()));
    let live = store.live_now(tenant, back).await.unwrap();
    assert_eq!(live.tools, back);
    let listed = store.tools(tenant, Some("a"), 1).await.unwrap();
    assert_eq!(listed[0].tool.name, "b");
    let other = fixture.tenant("b").await;
    assert_eq!(store.tools(other, None, 10).await.unwrap(), []);
    assert_eq!(store.tool(other, "a").await.unwrap(), None);
}

pub(super) fn asked(fixture: &Fixture, by: &str, at: Timestamp) -> LiftAsked {
    LiftAsked {
        by: name(by),
        key: fixture.key_id(),
        at,
    }
}

async fn a_kill_is_set_once_and_lifted_by_two(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    let target = KillTarget::Model {
        model: "m-1".into(),
    };
    let set = kill(&fixture, tenant, &target).await.unwrap();
    let again = kill(&fixture, tenant, &target).await.unwrap();
    assert_eq!(again, set, "one of a target");
    assert_eq!(store.heads().await.unwrap()[0].revision, set.revision);
    let in_force = async |upto| store.live_now(tenant, upto).await.unwrap().kills;
    let standing = in_force(set.revision).await;
    assert_eq!(standing, std::slice::from_ref(&set.kill));
    let before = Revision::new(set.revision.number() - 1);
    assert_eq!(in_force(before).await, []);

    let at = fixture.clock.now();
    let by_ana = asked(&fixture, "ana", at);
    let agree = async |asked: &LiftAsked, by: &str| {
        let by = name(by);
        store
            .lift_kill(tenant, &set.kill, asked, (&by, at), none())
            .await
    };
    assert!(matches!(
        agree(&by_ana, "ben").await,
        Err(Error::Unfit { .. })
    ));
    store
        .ask_lift(tenant, set.kill.id, &by_ana, none())
        .await
        .unwrap();
    let by_ben = asked(&fixture, "ben", at);
    let own = agree(&by_ana, "ana").await;
    assert!(matches!(own, Err(Error::Unfit { .. })), "{own:?}");
    let others = agree(&by_ben, "ana").await;
    assert!(matches!(others, Err(Error::Unfit { .. })), "{others:?}");
    assert_eq!(in_force(set.revision).await.len(), 1);
    let lifted = agree(&by_ana, "ben").await.unwrap();
    assert_eq!(in_force(lifted).await, []);
    assert_eq!(in_force(set.revision).await.len(), 1, "as it was then");
    let stored = store.kill(tenant, set.kill.id).await.unwrap().unwrap();
    assert_eq!(stored.lifted.unwrap().by, name("ben"));
    assert!(matches!(
        agree(&by_ana, "ben").await,
        Err(Error::Unfit { .. })
    ));
    let late = store.ask_lift(tenant, set.kill.id, &by_ana, none()).await;
    assert!(matches!(late, Err(Error::NotFound { what: "kill" })));

    // What was lifted can be stopped again, and both are told.
    let anew = kill(&fixture, tenant, &target).await.unwrap();
    assert_ne!(anew.kill.id, set.kill.id);
    let list = async |lifted| {
        let found = store.kills(tenant, lifted, None, 10).await.unwrap();
        found.into_iter().map(|one| one.kill.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None).await, [anew.kill.id, set.kill.id]);
    assert_eq!(list(Some(false)).await, [anew.kill.id]);
    assert_eq!(list(Some(true)).await, [set.kill.id]);
    let other = fixture.tenant("b").await;
    assert_eq!(store.kill(other, set.kill.id).await.unwrap(), None);
    assert_eq!(store.kills(other, None, None, 10).await.unwrap(), []);
    let theirs = store.live_now(other, lifted).await.unwrap().kills;
    assert_eq!(theirs, []);
}

async fn a_kill_of_everything_moves_every_tenant_on(fixture: Fixture) {
    let (store, host) = (&fixture.store, fixture.tenant("host").await);
    let guest = fixture.tenant("guest").await;
    let head = async |tenant| {
        let heads = store.heads().await.unwrap();
        heads
            .iter()
            .find(|head| head.tenant == tenant)
            .unwrap()
            .revision
    };
    let set = kill(&fixture, host, &KillTarget::Everything).await.unwrap();
    assert_eq!(
        (head(host).await, head(guest).await.number()),
        (set.revision, 1)
    );
    let told = store.live_now(guest, head(guest).await).await.unwrap();
    assert_eq!(told.kills.len(), 1);
    assert_eq!(told.kills[0].target, KillTarget::Everything);
    assert_eq!(
        told.kills[0].by.as_str(),
        "remit",
        "who it was stays at home"
    );
    assert_eq!(told.kills[0].reason, "an incident");
    let listed = store.kills(guest, None, None, 10).await.unwrap();
    assert_eq!((listed.len(), &listed[0].kill), (1, &told.kills[0]));
    assert_eq!(store.kill(guest, set.kill.id).await.unwrap(), None);
    // One that comes later is stopped as well.
    let late = fixture.tenant("late").await;
    let told = store.live_now(late, Revision::default()).await.unwrap();
    assert_eq!(told.kills.len(), 1);

    let at = fixture.clock.now();
    let asked = asked(&fixture, "ana", at);
    store
        .ask_lift(host, set.kill.id, &asked, none())
        .await
        .unwrap();
    assert_eq!(head(guest).await.number(), 1, "it is still in force");
    let listed = store.kills(guest, None, None, 10).await.unwrap();
    assert_eq!(listed[0].asked, None);
    store
        .lift_kill(host, &set.kill, &asked, (&name("ben"), at), none())
        .await
        .unwrap();
    assert_eq!(head(guest).await.number(), 2);
    let told = store.live_now(guest, head(guest).await).await.unwrap();
    assert_eq!(told.kills, []);
    assert_eq!(store.kills(guest, None, None, 10).await.unwrap(), []);
}

/// Fills the tables past the store, up to one below each limit.
async fn there_are_only_so_many(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("a").await);
    principal(&fixture, tenant, "maya", PrincipalKind::Person).await;
    let many = |count: u64, insert: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) {insert} FROM n, tenants t"
        )
    };
    let agents = "INSERT INTO agents (tenant, kind, id, revision, status, owner, body) \
        SELECT t.id, 'Agent', CAST(i AS TEXT), 1, 'active', 'maya', '{}'";
    if !fixture.damage(&many(MAX_AGENTS - 1, agents)).await {
        return;
    }
    let tools =
        "INSERT INTO tools (tenant, name, revision, body) SELECT t.id, CAST(i AS TEXT), 1, '{}'";
    fixture.damage(&many(MAX_TOOLS - 1, tools)).await;
    let put = async |id: &str| store.put_agent(tenant, None, &agent(id), none()).await;
    put("last").await.unwrap();
    put("last").await.unwrap();
    let refused = put("over").await.unwrap_err();
    assert!(refused.to_string().contains("100000 agents"), "{refused}");
    let put = async |name: &str| {
        let tools = [tool(name, Effects::Read)];
        store.put_tools(tenant, None, &tools, none()).await
    };
    put("last").await.unwrap();
    put("last").await.unwrap();
    let refused = put("over").await.unwrap_err();
    assert!(refused.to_string().contains("10000 tools"), "{refused}");
    assert_eq!(store.tool(tenant, "over").await.unwrap(), None);

    let stop = async |number: u64| {
        let tool = number.to_string().into();
        kill(&fixture, tenant, &KillTarget::Tool { tool }).await
    };
    let mut number = 0;
    let refused = loop {
        match stop(number).await {
            Ok(_) => number += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(number, MAX_KILLS);
    assert!(refused.to_string().contains("1000 kills"), "{refused}");
    stop(7).await.unwrap();
    kill(&fixture, tenant, &KillTarget::Tenant).await.unwrap();
    kill(&fixture, tenant, &KillTarget::Everything)
        .await
        .unwrap();
}
