//! Access requests as they are kept, and the exact use of approvals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remit_core::{
    ApprovalId, ApprovalScope, ApprovalState, Bound, Budget, Clock, ContentHash, DecisionId,
    EntityUid, KeyId, Label, Question, Revision, TaskId, TaskState, TenantId,
};
use remit_store::{
    ApprovalUse, Approving, Asked, Change, Consumed, Consumption, NewBulk, NewRequest,
    PendingLimits, RequestFilter, RequestName, Requester, Store, StoredRequest, Wants,
};
use serde_json::{Map, json};
use tokio::task::JoinSet;

use super::{Fixture, budgets};

mod once;

for_each_database! {
    an_approval_is_used_with_the_rest_or_not_at_all;
    one_use_is_won_by_one;
    what_became_of_approvals_is_read;
    what_waits_for_each_group_is_counted;
}

const LIMITS: PendingLimits = PendingLimits {
    asked: 1_000_000,
    agent: 1_000,
    task: 1_000,
    tenant: 1_000_000,
};

fn question() -> Question {
    serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "pay" },
        "resource": { "type": "Payee", "id": "acme" },
    }))
    .unwrap()
}

/// Asks for an approval past the API, bound to something of its own.
pub async fn pending(
    (store, clock): (&Store, &Clock),
    tenant: TenantId,
    callbacks: usize,
) -> ApprovalId {
    let question = question();
    let id = ApprovalId::from_uuid(clock.id());
    let request = NewRequest {
        id,
        bound: Bound {
            action: "pay".to_owned(),
            bundle: ContentHash::of(b"bundle"),
            currency: Some("{\"currency\":\"EUR\\u0000\"}".to_owned()),
            digest: ContentHash::of(id.to_string().as_bytes()),
            environment: "live".to_owned(),
            resource: EntityUid::new("Payee", "acme"),
            sinks: BTreeSet::from(["acme".to_owned()]),
            subject: EntityUid::new("Agent", "a"),
            task: None,
            violations: BTreeSet::from([remit_core::PolicyId::new("needs")]),
        },
        decision: DecisionId::from_uuid(clock.id()),
        wants: Wants::from([("finance".to_owned(), 1)]),
        card: "{}".to_owned(),
        question: &question,
        said: Map::from_iter([("context".to_owned(), json!({ "why": "it is due" }))]),
        lives: Duration::from_hours(1),
        escalates_after: Some(Duration::from_mins(10)),
    };
    let by = "pep".parse().unwrap();
    let requester = Requester {
        by: &by,
        key: KeyId::from_uuid(clock.id()),
        callback: (callbacks > 0).then_some("{}"),
    };
    let bulk = NewBulk {
        id: ApprovalId::from_uuid(clock.id()),
    };
    let name = id.to_string();
    let named = RequestName {
        name: &name,
        request: ContentHash::of(b"it"),
    };
    // Twice: the second joins the first.
    for named in [Some(named), None] {
        let asked = store.insert_requests(
            tenant,
            (
                std::slice::from_ref(&request),
                Some(bulk).filter(|_| named.is_some()),
            ),
            (requester, named),
            LIMITS,
            Change::default(),
        );
        let Asked::Pending {
            requests, joined, ..
        } = asked.await.unwrap()
        else {
            panic!("it is pending");
        };
        assert_eq!(requests[0].id, id);
        assert_eq!(joined, usize::from(named.is_none()));
    }
    let again = store.asked_before(tenant, &by, named).await.unwrap();
    assert_eq!(again, Some(Asked::Before(bulk.id)));
    let stored = store.bulk_request(tenant, bulk.id).await.unwrap().unwrap();
    assert_eq!(stored.items, [id]);
    id
}

/// As many as there are ask at once for one use: one has it, whoever lost knows why.
async fn one_use_is_won_by_one(fixture: Fixture) {
    let tenant = fixture.tenant("one").await;
    let id = stored(&fixture, tenant, 1, None).await;
    let fixture = Arc::new(fixture);
    let mut racing = JoinSet::new();
    for number in 0..12_u64 {
        let fixture = Arc::clone(&fixture);
        racing.spawn(async move {
            let (name, none) = (format!("n{number}"), BTreeSet::new());
            let wanted = ApprovalUse {
                amount: None,
                id,
                name: &name,
            };
            consume(&fixture, (tenant, &[]), wanted, &none, 50 + number)
                .await
                .0
        });
    }
    let came = racing.join_all().await;
    let won = |one: &&Consumed| matches!(one, Consumed::Done { .. });
    assert_eq!(came.iter().filter(won).count(), 1, "{came:?}");
    let lost = |one: &&Consumed| **one == Consumed::Approval(ApprovalState::Used);
    assert_eq!(came.iter().filter(lost).count(), 11, "{came:?}");
}

/// What a replica reads of approvals: those that can be used, and after that those that cannot any more.
async fn what_became_of_approvals_is_read(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(stored(&fixture, tenant, 1, None).await);
    }
    let waiting = pending((store, &fixture.clock), tenant, 0).await;
    let page = store
        .approvals_changed(tenant, Revision::new(0), None, 2)
        .await
        .unwrap();
    let rest = store
        .approvals_changed(tenant, Revision::new(0), page.next, 2)
        .await
        .unwrap();
    let read: Vec<ApprovalId> = page
        .usable
        .iter()
        .chain(&rest.usable)
        .map(|one| one.id)
        .collect();
    assert_eq!(read, ids);
    assert!(page.removed.is_empty() && rest.next.is_none());
    let head = store.tenant(tenant).await.unwrap().unwrap().revision;
    let none = store
        .approvals_changed(tenant, head, None, 10)
        .await
        .unwrap();
    assert!(none.usable.is_empty() && none.removed.is_empty());
    store
        .withdraw_approval(tenant, ids[0], ("maya", "no"), Change::default())
        .await
        .unwrap();
    let wanted = ApprovalUse {
        amount: None,
        id: ids[1],
        name: "x",
    };
    consume(&fixture, (tenant, &[]), wanted, &BTreeSet::new(), 90).await;
    assert_eq!(store.expire_requests(tenant).await.unwrap().forgotten, 1);
    let changes = store
        .approvals_changed(tenant, head, None, 10)
        .await
        .unwrap();
    assert_eq!(changes.removed, [ids[0], ids[1]]);
    let fresh = store
        .approvals_changed(tenant, Revision::new(0), None, 10)
        .await
        .unwrap();
    assert_eq!(fresh.usable.len(), 1);
    assert!(fresh.removed.is_empty());
    // What is over is cancelled no more, what waits is.
    for (id, may) in [(ids[0], false), (waiting, true)] {
        let (ids, by) = ([id], ("pep", "x"));
        let cancelled = store.cancel_requests(tenant, &ids, by, Change::default());
        assert_eq!(cancelled.await.is_ok(), may, "{id}");
    }
    assert!(
        store
            .withdraw_approval(tenant, waiting, ("maya", "no"), Change::default())
            .await
            .is_err()
    );
    assert!(store.use_of(tenant, ids[1], "x").await.unwrap().is_some());
}

/// However many wait for one group, what waits for another is counted.
async fn what_waits_for_each_group_is_counted(fixture: Fixture) {
    let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
    let waiting = pending((store, &fixture.clock), tenant, 0).await;
    // Lists read nothing that is wide, whether by a group or not.
    let whole = store.request(tenant, waiting).await.unwrap().unwrap();
    for groups in [None, Some(["finance".to_owned()].into())] {
        let filter = RequestFilter {
            groups,
            ..RequestFilter::default()
        };
        let listed = store.requests(tenant, &filter, None, 10).await.unwrap();
        let narrow = StoredRequest {
            callback: None,
            card: String::new(),
            question: listed[0].question.clone(),
            said: Map::new(),
            ..whole.clone()
        };
        assert_eq!(listed, [narrow]);
        assert_ne!(listed[0].question, whole.question);
        assert_ne!(listed[0].card, whole.card);
    }
    let id = if fixture.url.starts_with("postgres") {
        "gen_random_uuid()"
    } else {
        "randomblob(16)"
    };
    let crowd = format!(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
        INSERT INTO access_request_groups (tenant, name, state, request) \
        SELECT of.tenant, 'crowd', 'pending', {id} FROM access_request_groups AS of, n"
    );
    if !fixture.damage(&crowd).await {
        return;
    }
    let counts = store.count_requests(tenant).await.unwrap();
    let groups = [("crowd", 10_000), ("finance", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(counts.groups, groups.into());
    assert_eq!(counts.states["pending"], 1);
    assert_eq!(counts.actions, [("pay".to_owned(), 1)].into());
    assert_eq!(counts.agents, [(EntityUid::new("Agent", "a"), 1)].into());
    let (ids, by) = ([waiting], ("pep", "x"));
    let cancelled = store.cancel_requests(tenant, &ids, by, Change::default());
    cancelled.await.unwrap();
    let counts = store.count_requests(tenant).await.unwrap();
    assert_eq!(counts.groups, [("crowd".to_owned(), 10_000)].into());
    assert_eq!(counts.states["cancelled"], 1);
    assert!(counts.actions.is_empty() && counts.agents.is_empty());
}

/// A request that is approved for so many uses and so much money, for a minute, past the API.
pub async fn stored(
    fixture: &Fixture,
    tenant: TenantId,
    uses: u32,
    amount: Option<u64>,
) -> ApprovalId {
    let minute = Duration::from_mins(1);
    stored_for(fixture, tenant, (uses, amount), minute).await
}

/// A request that is approved for so long.
async fn stored_for(
    fixture: &Fixture,
    tenant: TenantId,
    (uses, amount): (u32, Option<u64>),
    lasts: Duration,
) -> ApprovalId {
    let id = pending((&fixture.store, &fixture.clock), tenant, 1).await;
    let approvers = BTreeSet::from(["maya".parse().unwrap()]);
    let approving = Approving {
        scope: ApprovalScope::Task { amount, uses },
        approvers: &approvers,
        until: fixture.clock.now().plus(lasts),
        by: "maya",
        why: None,
    };
    fixture
        .store
        .approve(tenant, id, approving, Change::default())
        .await
        .unwrap();
    id
}

/// Consumes with an approval.
async fn consume(
    fixture: &Fixture,
    (tenant, chain): (TenantId, &[TaskId]),
    used: ApprovalUse<'_>,
    labels: &BTreeSet<Label>,
    number: u64,
) -> (Consumed, DecisionId) {
    let record = budgets::shared(fixture, tenant, number);
    let consumption = Consumption {
        approval: Some(used),
        chain,
        charges: budgets::calls(u64::from(!chain.is_empty())),
        hold: budgets::HOLD,
        labels,
        record: &record,
    };
    let consumed = fixture.store.consume(tenant, &consumption).await.unwrap();
    (consumed, record.head.id)
}

/// An approval, a budget and a label in one: all of them or nothing.
async fn an_approval_is_used_with_the_rest_or_not_at_all(fixture: Fixture) {
    {
        let (store, tenant) = (&fixture.store, fixture.tenant("one").await);
        let budget = Budget {
            calls: Some(2),
            ..Budget::default()
        };
        let task = budgets::task(&fixture, tenant, None, budget).await;
        let none = BTreeSet::new();
        let id = stored(&fixture, tenant, 2, Some(100)).await;
        let left = async |store: &Store| {
            let grant = store
                .request(tenant, id)
                .await
                .unwrap()
                .unwrap()
                .grant
                .unwrap();
            let spent = store.budget(tenant, task).await.unwrap().unwrap().reserved;
            (grant.uses_left, grant.amount_left, spent.calls)
        };
        let used = |name, amount| ApprovalUse { amount, id, name };
        let chain = [task];
        let at = (tenant, chain.as_slice());
        // Too much money: nothing of it.
        for amount in [Some(101), None] {
            let (refused, _) = consume(&fixture, at, used("a", amount), &none, 1).await;
            assert_eq!(refused, Consumed::Approval(ApprovalState::Used));
        }
        assert_eq!(left(store).await, (2, Some(100), 0));
        let labels = Label::worst();
        let (done, first) = consume(&fixture, at, used("a", Some(60)), &labels, 2).await;
        assert!(
            matches!(done, Consumed::Done { revision: Some(_) }),
            "{done:?}"
        );
        assert_eq!(left(store).await, (1, Some(40), 1));
        // The same name again: the same decision, and nothing more.
        let (again, _) = consume(&fixture, at, used("a", Some(60)), &none, 3).await;
        assert_eq!(again, Consumed::Named(first));
        assert_eq!(left(store).await, (1, Some(40), 1));
        // The budget is not enough: the approval stays.
        budgets::consume(
            store,
            tenant,
            &[task],
            budgets::calls(1),
            &budgets::shared(&fixture, tenant, 4),
        )
        .await;
        let (refused, _) = consume(&fixture, at, used("b", Some(1)), &none, 5).await;
        assert!(matches!(refused, Consumed::Exhausted { .. }), "{refused:?}");
        assert_eq!(left(store).await, (1, Some(40), 2));
        // A task that is over: so too.
        let unknown = TaskId::from_uuid(fixture.clock.id());
        let (refused, _) =
            consume(&fixture, (tenant, &[unknown]), used("b", Some(1)), &none, 6).await;
        assert!(
            matches!(
                refused,
                Consumed::Ended {
                    state: TaskState::Unknown,
                    ..
                }
            ),
            "{refused:?}"
        );
        // Outside a task.
        let (done, _) = consume(&fixture, (tenant, &[]), used("c", Some(40)), &none, 7).await;
        assert!(matches!(done, Consumed::Done { .. }), "{done:?}");
        assert_eq!(left(store).await, (0, Some(0), 2));
        let (refused, _) = consume(&fixture, (tenant, &[]), used("d", Some(0)), &none, 8).await;
        assert_eq!(refused, Consumed::Approval(ApprovalState::Used));
        let missing = ApprovalId::from_uuid(fixture.clock.id());
        let wanted = ApprovalUse {
            amount: None,
            id: missing,
            name: "x",
        };
        let (refused, _) = consume(&fixture, (tenant, &[]), wanted, &none, 9).await;
        assert_eq!(refused, Consumed::Approval(ApprovalState::Unknown));
    }
}

/// One sweep ends few requests, so that the tenant's row is not held for long.
#[tokio::test]
async fn a_sweep_is_short() {
    let clock = Clock::manual("2026-01-05T10:00:00Z".parse().unwrap());
    let store = Store::open(&super::patient("sqlite::memory:"), clock.clone())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let tenant = store.ensure_tenant("one").await.unwrap();
    for _ in 0..60 {
        pending((&store, &clock), tenant, 0).await;
    }
    clock.advance(Duration::from_hours(2));
    for expected in [50, 10, 0] {
        let swept = store.expire_requests(tenant).await.unwrap();
        assert_eq!(swept.expired.len(), expected);
        assert_eq!(swept.revision.is_some(), expected > 0);
    }
}

/// Makes a request that was approved and used.
pub async fn used(fixture: &Fixture, tenant: TenantId) {
    let id = stored(fixture, tenant, 1, None).await;
    let wanted = ApprovalUse {
        amount: None,
        id,
        name: "one",
    };
    let none = BTreeSet::new();
    let (done, _) = consume(fixture, (tenant, &[]), wanted, &none, 700).await;
    assert_eq!(done, Consumed::Done { revision: None });
}
