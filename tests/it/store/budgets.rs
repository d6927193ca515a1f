//! Budgets in the store: consumed with the record of a decision, settled once, never exceeded.

use std::collections::BTreeSet;
use std::time::Duration;

use remit_core::{
    Budget, DecisionId, Declaration, Dimension, EntityUid, Label, Outcome, OutcomeResult, Revision,
    Spending, TaskId, TaskState, TenantId, Timestamp,
};
use remit_store::{
    Change, Consumed, Consumption, Ending, Error, NewTask, Report, Reported, SharedRecord, Store,
    StoredBudget,
};
use tokio::task::JoinSet;

use super::Fixture;
use super::decisions::record;

for_each_database! {
    a_budget_is_consumed_with_its_record;
    what_is_over_takes_nothing;
    a_chain_is_charged_whole_or_not_at_all;
    many_at_once_never_exceed_a_budget;
    labels_are_raised_with_the_record;
    bytes_are_known_afterwards;
    what_nobody_reports_is_spent_once;
    a_budget_that_no_column_holds_is_refused;
    what_replaces_a_task_has_what_it_used;
}

/// How long what is reserved waits, where a test does not say.
pub const HOLD: Duration = Duration::from_mins(15);

/// Opens a task with a budget and returns its id.
pub async fn task(
    fixture: &Fixture,
    tenant: TenantId,
    parent: Option<TaskId>,
    budget: Budget,
) -> TaskId {
    let id = TaskId::from_uuid(fixture.clock.id());
    open(fixture, tenant, (id, parent, None), budget)
        .await
        .unwrap();
    id
}

async fn open(
    fixture: &Fixture,
    tenant: TenantId,
    (id, parent, replaces): (TaskId, Option<TaskId>, Option<TaskId>),
    budget: Budget,
) -> Result<Revision, Error> {
    let declaration = Declaration {
        actions: None,
        agent: EntityUid::new("Agent", "billing"),
        budget,
        data_classes: None,
        expires_at: Timestamp::from_micros(fixture.clock.now().micros() + 3_600_000_000),
        intent: String::new(),
        may_delegate: true,
        on_behalf_of: None,
        parent,
        purpose: "invoicing".into(),
        resources: None,
        sinks: None,
        template: None,
        window: None,
    };
    let new = NewTask {
        id,
        declaration: &declaration,
        decision: None,
        idle_timeout: Duration::from_mins(15),
        opened_by: &"ana".parse().unwrap(),
        opening_agents: &[],
        replaces,
        checked: None,
    };
    fixture
        .store
        .insert_task(tenant, new, Change::default())
        .await
}

/// A record that consumes; its number decides what it says, and one that is no multiple of three permits.
pub fn shared(fixture: &Fixture, tenant: TenantId, number: u64) -> SharedRecord {
    let made = record(fixture, tenant, number * 3 + 1);
    SharedRecord {
        replica: made.replica,
        sequence: -i64::try_from(number).unwrap() - 1,
        head: made.head,
        body: made.body,
    }
}

pub fn calls(calls: u64) -> Spending {
    Spending {
        calls,
        ..Spending::default()
    }
}

pub async fn consume(
    store: &Store,
    tenant: TenantId,
    chain: &[TaskId],
    charges: Spending,
    record: &SharedRecord,
) -> Consumed {
    consume_for(store, tenant, chain, (charges, HOLD), record).await
}

async fn consume_for(
    store: &Store,
    tenant: TenantId,
    chain: &[TaskId],
    (charges, hold): (Spending, Duration),
    record: &SharedRecord,
) -> Consumed {
    let consumption = Consumption {
        approval: None,
        chain,
        charges,
        hold,
        labels: &BTreeSet::new(),
        record,
    };
    store.consume(tenant, &consumption).await.unwrap()
}

pub async fn budget(store: &Store, tenant: TenantId, task: TaskId) -> StoredBudget {
    store.budget(tenant, task).await.unwrap().unwrap()
}

/// Reports an outcome of a call that was charged with one call.
pub async fn report(
    store: &Store,
    tenant: TenantId,
    chain: &[TaskId],
    outcome: &Outcome,
) -> Reported {
    let report = Report {
        outcome,
        request: remit_core::ContentHash::of(format!("{outcome:?}").as_bytes()),
        chain,
        charges: Some(calls(1)),
        made: outcome.at,
        escrowed: false,
        hold: HOLD,
        trusted: &BTreeSet::new(),
    };
    store.report(tenant, &report).await.unwrap()
}

pub fn outcome(fixture: &Fixture, decision: DecisionId, result: OutcomeResult) -> Outcome {
    Outcome {
        at: Timestamp::from_micros(0),
        bytes: None,
        caller: fixture.key_id(),
        cost: None,
        decision,
        destination: None,
        error: None,
        labels: BTreeSet::new(),
        result,
        source: None,
        task: None,
    }
}

const DONE: Consumed = Consumed::Done { revision: None };

async fn a_budget_is_consumed_with_its_record(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let allowed = Budget {
        calls: Some(2),
        cost: Some(10),
        ..Budget::default()
    };
    let task = task(&fixture, tenant, None, allowed).await;
    let untouched = budget(store, tenant, task).await;
    assert_eq!((untouched.allowed, untouched.spent), (allowed, calls(0)));
    let one = shared(&fixture, tenant, 0);
    let charges = Spending {
        calls: 1,
        cost: 4,
        ..Spending::default()
    };
    // Asked again because the answer was lost, it is not taken again.
    for _ in 0..3 {
        assert_eq!(consume(store, tenant, &[task], charges, &one).await, DONE);
        assert_eq!(budget(store, tenant, task).await.reserved, charges);
    }
    let stored = store.decision(tenant, one.head.id).await.unwrap().unwrap();
    assert_eq!((stored.replica, stored.sequence), (one.replica, -1));
    assert_eq!(stored.record.id, one.head.id);
    // The next one would exceed its cost, and leaves nothing behind.
    let two = shared(&fixture, tenant, 1);
    let dear = Spending { cost: 7, ..charges };
    let exhausted = |dimension| Consumed::Exhausted { task, dimension };
    let refused = consume(store, tenant, &[task], dear, &two).await;
    assert_eq!(refused, exhausted(Dimension::Cost));
    assert_eq!(budget(store, tenant, task).await.reserved, charges);
    assert_eq!(store.decision(tenant, two.head.id).await.unwrap(), None);
    assert_eq!(consume(store, tenant, &[task], charges, &two).await, DONE);
    let three = shared(&fixture, tenant, 2);
    let refused = consume(store, tenant, &[task], calls(1), &three).await;
    assert_eq!(refused, exhausted(Dimension::Calls));
    // What no budget can be is more than any.
    let endless = Spending {
        amount: u64::MAX,
        ..Spending::default()
    };
    let refused = consume(store, tenant, &[task], endless, &three).await;
    assert_eq!(refused, exhausted(Dimension::Amount));
    // Nothing of it is another tenant's.
    let other = fixture.tenant("other").await;
    assert_eq!(store.budget(other, task).await.unwrap(), None);
    let foreign = shared(&fixture, other, 3);
    let unknown = Consumed::Ended {
        task,
        state: TaskState::Unknown,
    };
    let refused = consume(store, other, &[task], calls(0), &foreign).await;
    assert_eq!(refused, unknown);
}

async fn what_is_over_takes_nothing(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let unlimited = Budget::default();
    let parent = task(&fixture, tenant, None, unlimited).await;
    let child = task(&fixture, tenant, Some(parent), unlimited).await;
    let one = shared(&fixture, tenant, 0);
    let chain = [child, parent];
    assert_eq!(consume(store, tenant, &chain, calls(1), &one).await, DONE);
    assert_eq!(store.budget(tenant, child).await.unwrap(), None);
    store
        .suspend_task(tenant, parent, true, Change::default())
        .await
        .unwrap();
    let two = shared(&fixture, tenant, 1);
    let ended = |task, state| Consumed::Ended { task, state };
    assert_eq!(
        consume(store, tenant, &chain, calls(1), &two).await,
        ended(parent, TaskState::Suspended)
    );
    let ending = Ending {
        state: TaskState::Revoked,
        by: "ana",
        why: None,
    };
    store
        .end_task(tenant, parent, ending, Change::default())
        .await
        .unwrap();
    assert_eq!(
        consume(store, tenant, &chain, calls(1), &two).await,
        ended(child, TaskState::Revoked)
    );
    let nobody = TaskId::from_uuid(fixture.clock.id());
    assert_eq!(
        consume(store, tenant, &[nobody], calls(1), &two).await,
        ended(nobody, TaskState::Unknown)
    );
    assert_eq!(store.decision(tenant, two.head.id).await.unwrap(), None);
    // One of a deleted tenant is written nowhere.
    let task = task(&fixture, tenant, None, unlimited).await;
    store.suspend_tenant(tenant, None).await.unwrap();
    store.delete_tenant(tenant, "acme", None).await.unwrap();
    assert_eq!(
        consume(store, tenant, &[task], calls(1), &two).await,
        ended(task, TaskState::Unknown)
    );
}

async fn a_chain_is_charged_whole_or_not_at_all(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let of = |calls| Budget {
        calls: Some(calls),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, of(3)).await;
    let middle = task(&fixture, tenant, Some(root), Budget::default()).await;
    let one = task(&fixture, tenant, Some(middle), of(2)).await;
    let other = task(&fixture, tenant, Some(middle), of(2)).await;
    let mut number = 0;
    let mut take = async |task: TaskId| {
        number += 1;
        let record = shared(&fixture, tenant, number);
        consume(store, tenant, &[task, middle, root], calls(1), &record).await
    };
    assert_eq!(take(one).await, DONE);
    assert_eq!(take(one).await, DONE);
    let exhausted = |task| Consumed::Exhausted {
        task,
        dimension: Dimension::Calls,
    };
    assert_eq!(take(one).await, exhausted(one));
    assert_eq!(take(other).await, DONE);
    assert_eq!(take(other).await, exhausted(root), "nothing is left above");
    let reserved = async |task| budget(store, tenant, task).await.reserved.calls;
    assert_eq!(
        (
            reserved(root).await,
            reserved(one).await,
            reserved(other).await
        ),
        (3, 2, 1)
    );
}

/// 64 at once by two programs: as many are permitted as the budget has, and what they are is what is recorded.
async fn many_at_once_never_exceed_a_budget(fixture: Fixture) {
    let tenant = fixture.tenant("acme").await;
    let of = |calls| Budget {
        calls: Some(calls),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, of(23)).await;
    let child = task(&fixture, tenant, Some(root), of(20)).await;
    let second = if fixture.url.is_empty() {
        fixture.store.clone()
    } else {
        Store::open(&super::patient(&fixture.url), fixture.clock.clone())
            .await
            .unwrap()
    };
    let mut racing = JoinSet::new();
    for number in 0..64 {
        let record = shared(&fixture, tenant, number);
        let store = if number % 2 == 0 {
            fixture.store.clone()
        } else {
            second.clone()
        };
        let chain = if number % 4 == 3 {
            vec![root]
        } else {
            vec![child, root]
        };
        racing.spawn(async move {
            let consumed = consume(&store, tenant, &chain, calls(1), &record).await;
            // Some are made and some are not; one is told of twice, at once.
            if consumed == DONE && number % 3 == 0 {
                let mut told = remit_core::Outcome {
                    at: Timestamp::from_micros(0),
                    bytes: None,
                    caller: remit_core::KeyId::NIL,
                    cost: None,
                    decision: record.head.id,
                    destination: None,
                    error: None,
                    labels: BTreeSet::new(),
                    result: OutcomeResult::NotMade,
                    source: None,
                    task: None,
                };
                let (one, two) = tokio::join!(
                    report(&store, tenant, &chain, &told),
                    report(&store, tenant, &chain, &told)
                );
                assert!(matches!(
                    (&one, &two),
                    (Reported::New { .. }, Reported::Same { .. })
                        | (Reported::Same { .. }, Reported::New { .. })
                ));
                told.result = OutcomeResult::Succeeded;
                assert_eq!(report(&store, tenant, &chain, &told).await, Reported::Other);
                return (consumed, true, chain.len());
            }
            (consumed, false, chain.len())
        });
    }
    let done: Vec<_> = racing.join_all().await;
    let count = |wanted: &dyn Fn(&(Consumed, bool, usize)) -> bool| {
        done.iter().filter(|one| wanted(one)).count() as u64
    };
    let in_force = count(&|(consumed, returned, _)| *consumed == DONE && !returned);
    let in_child =
        count(&|(consumed, returned, chain)| *consumed == DONE && !returned && *chain == 2);
    let store = &fixture.store;
    let (root, child) = (
        budget(store, tenant, root).await,
        budget(store, tenant, child).await,
    );
    assert!(root.reserved.calls <= 23 && child.reserved.calls <= 20);
    assert_eq!((root.reserved, root.spent), (calls(in_force), calls(0)));
    assert_eq!((child.reserved, child.spent), (calls(in_child), calls(0)));
    let recorded = super::decisions::all(&fixture, tenant).await.len() as u64;
    assert_eq!(recorded, count(&|(consumed, ..)| *consumed == DONE));
    assert!(recorded >= 20, "{recorded}");
}

async fn labels_are_raised_with_the_record(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let root = task(&fixture, tenant, None, Budget::default()).await;
    let limited = Budget {
        calls: Some(1),
        ..Budget::default()
    };
    let child = task(&fixture, tenant, Some(root), limited).await;
    let before = store.tenant(tenant).await.unwrap().unwrap().revision;
    let labels = Label::worst();
    let take = async |record: &SharedRecord, labels: &BTreeSet<Label>| {
        let consumption = Consumption {
            approval: None,
            chain: &[child, root],
            charges: calls(1),
            hold: HOLD,
            labels,
            record,
        };
        store.consume(tenant, &consumption).await.unwrap()
    };
    let one = shared(&fixture, tenant, 0);
    let next = Revision::new(before.number() + 1);
    let grown = Consumed::Done {
        revision: Some(next),
    };
    assert_eq!(take(&one, &labels).await, grown);
    // Tried again, it still says that there is a revision to wait for.
    assert_eq!(take(&one, &labels).await, grown);
    for task in [child, root] {
        let raised = store.labels_of(tenant, task).await.unwrap();
        assert_eq!(raised.keys().cloned().collect::<BTreeSet<_>>(), labels);
        assert!(raised.values().all(|decision| *decision == one.head.id));
    }
    // What the budget refuses raises nothing and moves nothing.
    let class = BTreeSet::from([Label::class("pii")]);
    let two = shared(&fixture, tenant, 1);
    assert_eq!(
        take(&two, &class).await,
        Consumed::Exhausted {
            task: child,
            dimension: Dimension::Calls
        }
    );
    assert_eq!(store.labels_of(tenant, root).await.unwrap().len(), 2);
    let after = store.tenant(tenant).await.unwrap().unwrap().revision;
    assert_eq!(after, next);
    // A label that is there brings no revision.
    let other = task(&fixture, tenant, None, Budget::default()).await;
    store
        .label_tasks(tenant, &[other], &labels, one.head.id)
        .await
        .unwrap();
    let three = shared(&fixture, tenant, 2);
    let consumption = Consumption {
        approval: None,
        chain: &[other],
        charges: calls(1),
        hold: HOLD,
        labels: &labels,
        record: &three,
    };
    // Who raised it may be waiting for the fleet still: this waits for the same.
    let revision = Some(store.tenant(tenant).await.unwrap().unwrap().revision);
    let done = Consumed::Done { revision };
    assert_eq!(store.consume(tenant, &consumption).await.unwrap(), done);
}

async fn bytes_are_known_afterwards(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let allowed = Budget {
        bytes: Some(100),
        ..Budget::default()
    };
    let task = task(&fixture, tenant, None, allowed).await;
    for (number, bytes) in [(0, 60), (1, 40)] {
        let record = shared(&fixture, tenant, number);
        assert_eq!(
            consume(store, tenant, &[task], calls(1), &record).await,
            DONE
        );
        let told = Outcome {
            bytes: Some(bytes),
            ..outcome(&fixture, record.head.id, OutcomeResult::Succeeded)
        };
        report(store, tenant, &[task], &told).await;
    }
    let used = budget(store, tenant, task).await;
    assert_eq!((used.spent.bytes, used.spent.calls), (100, 2));
    assert_eq!(used.reserved, calls(0));
    let record = shared(&fixture, tenant, 2);
    assert_eq!(
        consume(store, tenant, &[task], calls(1), &record).await,
        Consumed::Exhausted {
            task,
            dimension: Dimension::Bytes
        }
    );
}

/// Reservations of which nobody told anything end once, by two programs at once, and a late outcome gives nothing back.
async fn what_nobody_reports_is_spent_once(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let allowed = Budget {
        calls: Some(5),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, allowed).await;
    let child = task(&fixture, tenant, Some(root), allowed).await;
    let chain = [child, root];
    let mut records = Vec::new();
    for number in 0..3 {
        let record = shared(&fixture, tenant, number);
        let hold = if number == 2 { HOLD } else { Duration::ZERO };
        let consumed = consume_for(store, tenant, &chain, (calls(1), hold), &record).await;
        assert_eq!(consumed, DONE);
        records.push(record);
    }
    assert_eq!(budget(store, tenant, root).await.reserved, calls(3));
    let (one, two) = tokio::join!(store.expire_reservations(), store.expire_reservations());
    assert_eq!(one.unwrap() + two.unwrap(), 4, "two calls in two budgets");
    for task in chain {
        let now = budget(store, tenant, task).await;
        assert_eq!((now.reserved, now.spent), (calls(1), calls(2)));
    }
    let late = Outcome {
        cost: Some(7),
        ..outcome(&fixture, records[0].head.id, OutcomeResult::Failed)
    };
    report(store, tenant, &chain, &late).await;
    let now = budget(store, tenant, root).await;
    assert_eq!(
        (now.spent.calls, now.spent.cost),
        (2, 7),
        "what is told of is added"
    );
    let in_time = outcome(&fixture, records[2].head.id, OutcomeResult::Failed);
    report(store, tenant, &chain, &in_time).await;
    let now = budget(store, tenant, child).await;
    assert_eq!((now.reserved, now.spent.calls), (calls(0), 2));
    assert_eq!(store.expire_reservations().await.unwrap(), 0);
    // What is settled is settled whatever the clock of this program says.
    assert!(whole_is_readable(store, tenant, &records).await);
}

async fn whole_is_readable(store: &Store, tenant: TenantId, records: &[SharedRecord]) -> bool {
    for record in records {
        let stored = store.decision(tenant, record.head.id).await.unwrap();
        let body: remit_core::DecisionRecord = serde_json::from_str(&record.body).unwrap();
        if stored.map(|stored| stored.record) != Some(body) {
            return false;
        }
    }
    true
}

async fn a_budget_that_no_column_holds_is_refused(fixture: Fixture) {
    let tenant = fixture.tenant("acme").await;
    let id = TaskId::from_uuid(fixture.clock.id());
    let budget = Budget {
        cost: Some(1 << 53),
        ..Budget::default()
    };
    let refused = open(&fixture, tenant, (id, None, None), budget).await;
    assert!(
        matches!(
            refused,
            Err(Error::Invalid {
                member: "budget.cost",
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(fixture.store.task(tenant, id).await.unwrap(), None);
    let most = Budget {
        cost: Some((1 << 53) - 1),
        ..Budget::default()
    };
    open(&fixture, tenant, (id, None, None), most)
        .await
        .unwrap();
}

async fn what_replaces_a_task_has_what_it_used(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("acme").await);
    let of = |calls| Budget {
        calls: Some(calls),
        ..Budget::default()
    };
    let old = task(&fixture, tenant, None, of(5)).await;
    let record = shared(&fixture, tenant, 0);
    let two = (calls(2), Duration::ZERO);
    assert_eq!(consume_for(store, tenant, &[old], two, &record).await, DONE);
    let new = TaskId::from_uuid(fixture.clock.id());
    let opened = open(&fixture, tenant, (new, None, Some(old)), of(3)).await;
    opened.unwrap();
    assert_eq!(budget(store, tenant, new).await.spent, calls(2));
    let record = shared(&fixture, tenant, 1);
    let refused = consume(store, tenant, &[new], calls(2), &record).await;
    assert!(matches!(refused, Consumed::Exhausted { .. }), "{refused:?}");
    assert_eq!(
        consume(store, tenant, &[new], calls(1), &record).await,
        DONE
    );
}
