//! Tasks in the store: kept as declared, told to replicas as they change, ended with everything below.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    Budget, Declaration, EntityUid, Label, Revision, Task, TaskId, TaskState, TenantId,
};
use remit_store::{Change, Ending, Error, NewTask, Store, TaskFilter};

use super::Fixture;

for_each_database! {
    a_task_is_kept_as_declared;
    changes_are_told_as_they_are_now_and_forgotten_in_the_end;
    what_ends_takes_what_is_below_with_it;
    what_stands_below_a_suspended_task_is_not_idle;
    what_changed_since_it_was_checked_is_not_replaced;
    a_task_begins_with_what_it_takes_over;
    templates_are_kept_by_name;
}

/// Makes a template; what else there is of tasks comes with the budgets.
pub async fn fill(fixture: &Fixture, tenant: TenantId) {
    let template = ("one", "{}");
    let put = fixture
        .store
        .put_task_template(tenant, None, template, Change::default());
    put.await.unwrap();
}

/// Opens a task for ten minutes that may hand on.
async fn open(fixture: &Fixture, tenant: TenantId, parent: Option<TaskId>, agent: &str) -> TaskId {
    let id = TaskId::from_uuid(fixture.clock.id());
    open_as(
        fixture,
        tenant,
        &declared(fixture, parent, agent),
        id,
        &[],
        None,
    )
    .await
    .unwrap();
    id
}

fn declared(fixture: &Fixture, parent: Option<TaskId>, agent: &str) -> Declaration {
    Declaration {
        actions: Some(["read".into()].into()),
        agent: EntityUid::new("Agent", agent),
        budget: Budget::default(),
        data_classes: None,
        expires_at: fixture.clock.now().plus(Duration::from_mins(10)),
        intent: "read \u{fc}ber all".to_owned(),
        may_delegate: true,
        on_behalf_of: None,
        parent,
        purpose: "tests".into(),
        resources: None,
        sinks: None,
        template: None,
        window: None,
    }
}

async fn open_as(
    fixture: &Fixture,
    tenant: TenantId,
    declaration: &Declaration,
    id: TaskId,
    opening_agents: &[EntityUid],
    replaces: Option<TaskId>,
) -> Result<Revision, Error> {
    let new = NewTask {
        id,
        declaration,
        decision: None,
        idle_timeout: Duration::from_mins(15),
        opened_by: &"ana".parse().unwrap(),
        opening_agents,
        replaces,
        checked: None,
    };
    fixture
        .store
        .insert_task(tenant, new, Change::default())
        .await
}

/// Everything that changed after a revision, in pages of `limit`.
async fn changed(
    store: &Store,
    tenant: TenantId,
    after: Revision,
    limit: usize,
) -> (Vec<Task>, Vec<(TaskId, TaskState)>, Vec<TaskId>) {
    let (mut live, mut ended, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
    let mut from = None;
    loop {
        let page = store
            .tasks_changed(tenant, after, from, limit)
            .await
            .unwrap();
        live.extend(page.live);
        ended.extend(page.ended);
        forgotten.extend(page.forgotten);
        from = page.next;
        if from.is_none() {
            return (live, ended, forgotten);
        }
    }
}

fn labels(names: &[&str]) -> BTreeSet<Label> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn a_task_is_kept_as_declared(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let other = fixture.tenant("other").await;
    let id = open(&fixture, tenant, None, "bot").await;
    let stored = store.task(tenant, id).await.unwrap().unwrap();
    let declaration = declared(&fixture, None, "bot");
    assert_eq!(stored.task.declaration.actions, declaration.actions);
    assert_eq!(stored.task.declaration.intent, declaration.intent);
    assert_eq!(stored.task.digest, stored.task.declaration.digest());
    assert_eq!(
        (stored.task.depth, stored.task.state),
        (0, TaskState::Active)
    );
    assert!(store.task(other, id).await.unwrap().is_none());
    let child = open(&fixture, tenant, Some(id), "bot").await;
    let all = async |filter: TaskFilter, before| {
        let found = store.tasks(tenant, &filter, before, 10).await.unwrap();
        found.iter().map(|one| one.task.id).collect::<Vec<_>>()
    };
    assert_eq!(all(TaskFilter::default(), None).await, [child, id]);
    assert_eq!(all(TaskFilter::default(), Some(child)).await, [id]);
    let parent = TaskFilter {
        parent: Some(id),
        ..TaskFilter::default()
    };
    assert_eq!(all(parent, None).await, [child]);
    let agent = TaskFilter {
        agent: Some(EntityUid::new("Agent", "else")),
        ..TaskFilter::default()
    };
    assert_eq!(all(agent, None).await, []);
    assert_eq!(store.children_of(tenant, id).await.unwrap(), (1, 1));
    // A declaration that somebody has changed is not the declared one, and nobody decides by it.
    if fixture
        .damage("UPDATE tasks SET body = replace(body, 'tests', 'other')")
        .await
    {
        let read = store
            .tasks_changed(tenant, Revision::default(), None, 10)
            .await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
        let read = store.task(tenant, id).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
}

async fn changes_are_told_as_they_are_now_and_forgotten_in_the_end(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(open(&fixture, tenant, None, "bot").await);
    }
    let by = fixture.decision_id();
    let labelled = store
        .label_tasks(tenant, &ids[..2], &labels(&["private", "class:x"]), by)
        .await
        .unwrap();
    for limit in [1, 2, 3, 100] {
        let (live, ended, _) = changed(store, tenant, Revision::default(), limit).await;
        let mut seen: Vec<TaskId> = live.iter().map(|task| task.id).collect();
        seen.sort();
        assert_eq!((seen, ended), (ids.clone(), Vec::new()), "pages of {limit}");
        for task in live {
            let expected = if ids[..2].contains(&task.id) { 2 } else { 0 };
            assert_eq!(task.labels.len(), expected);
            assert!(task.labels.values().all(|decision| *decision == by));
        }
    }
    let before = Revision::new(labelled.number() - 1);
    let (live, ..) = changed(store, tenant, before, 10).await;
    assert_eq!(live.len(), 2, "those that were labelled, and no others");
    let (live, ..) = changed(store, tenant, labelled, 10).await;
    assert!(live.is_empty());
    // The same labels again are no change of theirs.
    let again = store
        .label_tasks(
            tenant,
            &ids[..2],
            &labels(&["private"]),
            fixture.decision_id(),
        )
        .await
        .unwrap();
    assert!(changed(store, tenant, labelled, 10).await.0.is_empty());
    assert_eq!(
        store.labels_of(tenant, ids[0]).await.unwrap()[&"private".parse().unwrap()],
        by
    );
    let ending = Ending {
        state: TaskState::Revoked,
        by: "ana",
        why: Some("enough"),
    };
    store
        .end_task(tenant, ids[0], ending, Change::default())
        .await
        .unwrap();
    let (live, ended, _) = changed(store, tenant, again, 10).await;
    assert_eq!((live.len(), ended), (0, vec![(ids[0], TaskState::Revoked)]));
    let stored = store.task(tenant, ids[0]).await.unwrap().unwrap();
    assert_eq!(
        (stored.ended_by.as_deref(), stored.ended_why.as_deref()),
        (Some("ana"), Some("enough"))
    );
}

async fn what_ends_takes_what_is_below_with_it(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let top = open(&fixture, tenant, None, "bot").await;
    let middle = open(&fixture, tenant, Some(top), "bot").await;
    let below = open(&fixture, tenant, Some(middle), "bot").await;
    let beside = open(&fixture, tenant, None, "bot").await;
    store
        .suspend_task(tenant, below, true, Change::default())
        .await
        .unwrap();
    let twice = store
        .suspend_task(tenant, below, true, Change::default())
        .await;
    assert!(matches!(twice, Err(Error::Unfit { .. })), "{twice:?}");
    // A child of what is suspended is none.
    let refused = open_as(
        &fixture,
        tenant,
        &declared(&fixture, Some(below), "bot"),
        TaskId::NIL,
        &[],
        None,
    )
    .await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    let ending = Ending {
        state: TaskState::Completed,
        by: "ana",
        why: None,
    };
    let revision = store
        .end_task(tenant, top, ending, Change::default())
        .await
        .unwrap();
    for id in [top, middle, below] {
        let stored = store.task(tenant, id).await.unwrap().unwrap();
        assert_eq!(
            (stored.task.state, stored.revision),
            (TaskState::Completed, revision),
            "one revision"
        );
        let again = store.end_task(tenant, id, ending, Change::default()).await;
        assert!(matches!(again, Err(Error::Unfit { .. })), "{again:?}");
        let resumed = store
            .suspend_task(tenant, id, false, Change::default())
            .await;
        assert!(matches!(resumed, Err(Error::Unfit { .. })), "{resumed:?}");
    }
    let stored = store.task(tenant, beside).await.unwrap().unwrap();
    assert_eq!(stored.task.state, TaskState::Active);
    let nothing = store
        .end_task(tenant, TaskId::NIL, ending, Change::default())
        .await;
    assert!(
        matches!(nothing, Err(Error::NotFound { .. })),
        "{nothing:?}"
    );
    let long = Ending {
        why: Some("one\ntwo"),
        ..ending
    };
    let refused = store
        .end_task(tenant, beside, long, Change::default())
        .await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");

    // What a revocation did not reach row by row is ended by whoever looks next.
    let child = open(&fixture, tenant, Some(beside), "bot").await;
    if fixture.damage("UPDATE tasks SET state = 'revoked', ended_at = 1 WHERE parent IS NULL AND ended_at IS NULL").await {
        let due = store.end_due(tenant, Duration::ZERO).await.unwrap();
        assert_eq!(due.ended, 1);
        let stored = store.task(tenant, child).await.unwrap().unwrap();
        assert_eq!(stored.task.state, TaskState::Revoked);
        assert_eq!(store.end_due(tenant, Duration::ZERO).await.unwrap().ended, 0);
    }
}

async fn what_stands_below_a_suspended_task_is_not_idle(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let top = open(&fixture, tenant, None, "bot").await;
    let below = open(&fixture, tenant, Some(top), "bot").await;
    let suspend = async |on| {
        let turned = store.suspend_task(tenant, top, on, Change::default()).await;
        turned.unwrap();
    };
    suspend(true).await;
    // For longer than the time-out.
    let text = "UPDATE tasks SET last_active = last_active - 3600000000";
    if fixture.damage(text).await {
        assert_eq!(
            store.end_due(tenant, Duration::ZERO).await.unwrap().ended,
            0
        );
        suspend(false).await;
        assert_eq!(
            store.end_due(tenant, Duration::ZERO).await.unwrap().ended,
            0
        );
        fixture.damage(text).await;
        assert_eq!(
            store.end_due(tenant, Duration::ZERO).await.unwrap().ended,
            2
        );
        let stored = store.task(tenant, below).await.unwrap().unwrap();
        assert_eq!(stored.task.state, TaskState::Expired);
        // What was ended by nobody is not forgotten by a task that the agent opens by itself.
        store
            .label_tasks(
                tenant,
                &[below],
                &labels(&["private"]),
                fixture.decision_id(),
            )
            .await
            .unwrap();
        let id = TaskId::from_uuid(fixture.clock.id());
        let agents = [EntityUid::new("Agent", "bot")];
        let declaration = declared(&fixture, None, "bot");
        open_as(&fixture, tenant, &declaration, id, &agents, None)
            .await
            .unwrap();
        assert_eq!(store.labels_of(tenant, id).await.unwrap().len(), 1);
    }
}

async fn what_changed_since_it_was_checked_is_not_replaced(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let old = open(&fixture, tenant, None, "bot").await;
    let checked = store.task(tenant, old).await.unwrap().unwrap().revision;
    let declaration = declared(&fixture, None, "bot");
    let by = "ana".parse().unwrap();
    let replace = async |checked| {
        let new = NewTask {
            id: TaskId::from_uuid(fixture.clock.id()),
            declaration: &declaration,
            decision: None,
            idle_timeout: Duration::from_mins(15),
            opened_by: &by,
            opening_agents: &[],
            replaces: Some(old),
            checked,
        };
        store.insert_task(tenant, new, Change::default()).await
    };
    let turn = async |on| {
        let turned = store.suspend_task(tenant, old, on, Change::default()).await;
        turned.unwrap()
    };
    turn(true).await;
    let moved = replace(Some(checked)).await;
    assert!(matches!(moved, Err(Error::Moved { .. })), "{moved:?}");
    let suspended = replace(None).await;
    assert!(
        matches!(suspended, Err(Error::Unfit { .. })),
        "{suspended:?}"
    );
    let newest = turn(false).await;
    replace(Some(newest)).await.unwrap();
}

async fn a_task_begins_with_what_it_takes_over(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let top = open(&fixture, tenant, None, "bot").await;
    let by = fixture.decision_id();
    store
        .label_tasks(tenant, &[top], &labels(&["untrusted"]), by)
        .await
        .unwrap();
    let below = open(&fixture, tenant, Some(top), "other").await;
    let lineage = |id: TaskId| async move { store.labels_of(tenant, id).await.unwrap() };
    assert_eq!(lineage(below).await[&Label::untrusted()], by);
    // Opened by the agent itself: with everything of its own, and nothing of another's.
    let fresh = |agent: &str| {
        (
            TaskId::from_uuid(fixture.clock.id()),
            declared(&fixture, None, agent),
        )
    };
    let (id, declaration) = fresh("bot");
    let agents = [EntityUid::new("Agent", "bot")];
    open_as(&fixture, tenant, &declaration, id, &agents, None)
        .await
        .unwrap();
    assert_eq!(lineage(id).await.len(), 1);
    let (id, declaration) = fresh("third");
    let agents = [EntityUid::new("Agent", "third")];
    open_as(&fixture, tenant, &declaration, id, &agents, None)
        .await
        .unwrap();
    assert!(lineage(id).await.is_empty());
    // In the place of another: that one is over, and its labels are here.
    let (id, declaration) = fresh("bot");
    open_as(&fixture, tenant, &declaration, id, &[], Some(top))
        .await
        .unwrap();
    assert_eq!(lineage(id).await[&Label::untrusted()], by);
    for over in [top, below] {
        let stored = store.task(tenant, over).await.unwrap().unwrap();
        assert_eq!(stored.task.state, TaskState::Completed);
    }
    let (next, declaration) = fresh("bot");
    let refused = open_as(&fixture, tenant, &declaration, next, &[], Some(top)).await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    assert!(store.task(tenant, next).await.unwrap().is_none());
    // An endorsement takes off what it names, of one task, which is suspended and as it was read.
    let named = labels(&["untrusted", "private"]);
    let read = async || store.task(tenant, id).await.unwrap().unwrap().revision;
    let active = (id, read().await);
    let refused = store
        .endorse_task(tenant, active, &named, Change::default())
        .await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    let suspend = store.suspend_task(tenant, id, true, Change::default());
    suspend.await.unwrap();
    let stale = read().await;
    store
        .label_tasks(tenant, &[id], &labels(&["private"]), by)
        .await
        .unwrap();
    let refused = store
        .endorse_task(tenant, (id, stale), &named, Change::default())
        .await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    assert_eq!(lineage(id).await.len(), 2);
    let seen = (id, read().await);
    store
        .endorse_task(tenant, seen, &named, Change::default())
        .await
        .unwrap();
    assert!(lineage(id).await.is_empty());
    let over = store.task(tenant, top).await.unwrap().unwrap().revision;
    let refused = store
        .endorse_task(tenant, (top, over), &named, Change::default())
        .await;
    assert!(matches!(refused, Err(Error::Unfit { .. })), "{refused:?}");
    assert_eq!(lineage(top).await.len(), 1);
}

async fn templates_are_kept_by_name(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    for name in ["b", "a", "c"] {
        store
            .put_task_template(tenant, None, (name, "{}"), Change::default())
            .await
            .unwrap();
    }
    store
        .put_task_template(
            tenant,
            None,
            ("b", "{\"purpose\":\"x\"}"),
            Change::default(),
        )
        .await
        .unwrap();
    let found = store.task_templates(tenant, None, 10).await.unwrap();
    assert_eq!(
        found
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    let found = store.task_templates(tenant, Some("a"), 1).await.unwrap();
    assert_eq!(found[0].body, "{\"purpose\":\"x\"}");
    store
        .delete_task_template(tenant, None, "b", Change::default())
        .await
        .unwrap();
    assert!(store.task_template(tenant, "b").await.unwrap().is_none());
    let gone = store
        .delete_task_template(tenant, None, "b", Change::default())
        .await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    let long = "n".repeat(129);
    let refused = store
        .put_task_template(tenant, None, (&long, "{}"), Change::default())
        .await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}
