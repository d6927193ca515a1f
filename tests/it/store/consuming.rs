//! What consuming a budget costs on Postgres: one round trip, counted where the bytes pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use remit_core::{Budget, TaskId, TaskState, TenantId};
use remit_store::{Change, Consumed, Ending, Store};
use remit_tests::postgres::Postgres;
use remit_tests::sql::Held;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::budgets::{calls, consume, shared, task};
use super::{Fixture, patient};

/// Stands between a program and Postgres, and counts how often the program waits for an answer: each `Sync` and `Query`
/// message (PostgreSQL 17, 54.2).
async fn counted(url: &str, trips: Arc<AtomicUsize>) -> String {
    between(url, trips, Arc::default()).await
}

/// As [`counted`], and every session goes on in a task of `sessions`: ended there, the program finds its connections
/// broken, and the database goes on with what it was asked.
async fn between(
    url: &str,
    trips: Arc<AtomicUsize>,
    sessions: Arc<Mutex<Vec<AbortHandle>>>,
) -> String {
    let address = url
        .split('@')
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let there = address.clone();
    tokio::spawn(async move {
        while let Ok((program, _)) = listener.accept().await {
            let database = TcpStream::connect(&there).await.unwrap();
            let (from_program, mut to_program) = program.into_split();
            let (mut from_database, to_database) = database.into_split();
            let back = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut from_database, &mut to_program).await;
            });
            let forth = tokio::spawn(pass(from_program, to_database, Arc::clone(&trips)));
            let both = [back.abort_handle(), forth.abort_handle()];
            sessions.lock().unwrap().extend(both);
        }
    });
    format!("{}?sslmode=disable", url.replace(&address, &here))
}

/// Passes messages on whole; the first one, which begins a session, has no type.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trips: Arc<AtomicUsize>) {
    let mut begins = true;
    loop {
        let mut head = vec![0; if begins { 4 } else { 5 }];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes(*head.last_chunk::<4>().unwrap()) as usize;
        let mut rest = vec![0; length - 4];
        from.read_exact(&mut rest).await.unwrap();
        if !begins && (head[0] == b'S' || head[0] == b'Q') {
            trips.fetch_add(1, Ordering::SeqCst);
        }
        begins = false;
        head.extend(rest);
        if to.write_all(&head).await.is_err() {
            return;
        }
    }
}

/// On one thread: what happens after the answer, such as giving the connection back, is not counted with it.
#[tokio::test]
async fn a_budget_is_consumed_in_one_round_trip() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let trips = Arc::new(AtomicUsize::new(0));
    let url = counted(&fixture.url, Arc::clone(&trips)).await;
    // One connection, so that none is opened because the call before is still giving its own back.
    let options = remit_store::Options {
        max_connections: 1,
        ..patient(&url)
    };
    let store = Store::open(&options, fixture.clock.clone()).await.unwrap();
    let tenant = fixture.tenant("acme").await;
    let many = Budget {
        calls: Some(100),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, many).await;
    let child = task(&fixture, tenant, Some(root), many).await;
    let mut taken = Vec::new();
    for number in 0..8 {
        let record = shared(&fixture, tenant, number);
        // What the call before has left to do.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = trips.load(Ordering::SeqCst);
        let consumed = consume(&store, tenant, &[child, root], calls(1), &record).await;
        taken.push(trips.load(Ordering::SeqCst) - before);
        assert_eq!(consumed, Consumed::Done { revision: None });
    }
    // The first connects and prepares.
    assert_eq!(taken[1..], [1; 7], "{taken:?}");
    assert!(Postgres::database().await.is_some());
}

/// An approval, and a budget with it or none, is used in one round trip, too.
#[tokio::test]
async fn an_approval_is_used_in_one_round_trip() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let trips = Arc::new(AtomicUsize::new(0));
    let url = counted(&fixture.url, Arc::clone(&trips)).await;
    let options = remit_store::Options {
        max_connections: 1,
        ..patient(&url)
    };
    let store = Store::open(&options, fixture.clock.clone()).await.unwrap();
    let tenant = fixture.tenant("acme").await;
    let many = Budget {
        calls: Some(100),
        ..Budget::default()
    };
    let root = task(&fixture, tenant, None, many).await;
    let id = super::approvals::stored(&fixture, tenant, 100, None).await;
    let (mut taken, none) = (Vec::new(), std::collections::BTreeSet::new());
    for number in 0..8_u64 {
        let record = shared(&fixture, tenant, number);
        let name = format!("n{number}");
        let chain = [root];
        let within = number % 2 == 0;
        let consumption = remit_store::Consumption {
            approval: Some(remit_store::ApprovalUse {
                amount: Some(1),
                id,
                name: &name,
            }),
            chain: if within { &chain } else { &[] },
            charges: calls(u64::from(within)),
            hold: super::budgets::HOLD,
            labels: &none,
            record: &record,
        };
        // What the call before has left to do.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = trips.load(Ordering::SeqCst);
        let consumed = store.consume(tenant, &consumption).await.unwrap();
        taken.push(trips.load(Ordering::SeqCst) - before);
        assert_eq!(consumed, Consumed::Done { revision: None });
    }
    // The first connects and prepares.
    assert_eq!(taken[1..], [1; 7], "{taken:?}");
    println!("round trips of eight uses of an approval: {taken:?}");
}

const REVOKED: Ending<'_> = Ending {
    state: TaskState::Revoked,
    by: "ana",
    why: None,
};

/// The budgets of a task and of those above it, which of the three is ended, and one that has a budget.
fn chains() -> [([Budget; 3], usize, usize); 5] {
    let (many, none) = (calls_at_most(100_000), Budget::default());
    [
        ([none, many, none], 2, 1),
        ([none, none, many], 2, 2),
        ([none, none, many], 1, 2),
        ([none, many, many], 1, 2),
        ([many, none, many], 1, 0),
    ]
}

/// Makes a task and those above it, and returns them in this order.
async fn chain(fixture: &Fixture, tenant: TenantId, budgets: [Budget; 3]) -> Vec<TaskId> {
    let mut tasks: Vec<TaskId> = Vec::new();
    for budget in budgets.into_iter().rev() {
        let above = tasks.last().copied();
        tasks.push(task(fixture, tenant, above, budget).await);
    }
    tasks.reverse();
    tasks
}

/// What is being consumed has looked at its tasks, and has them as they are until it is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_waits_for_what_is_being_consumed() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    for (round, (budgets, ended, _)) in (0_u64..).zip(chains()) {
        let tasks = chain(&fixture, tenant, budgets).await;
        let (ended, record) = (tasks[ended], shared(&fixture, tenant, round));
        // It cannot write its record yet.
        let lock = "LOCK TABLE decisions IN SHARE MODE";
        let mut held = Held::begin(&fixture.url, lock).await;
        let store = fixture.store.clone();
        let consuming =
            tokio::spawn(async move { consume(&store, tenant, &tasks, calls(1), &record).await });
        held.is_waited_for_by(1).await;
        let store = fixture.store.clone();
        let ending = tokio::spawn(async move {
            store
                .end_task(tenant, ended, REVOKED, Change::default())
                .await
        });
        held.is_waited_for_by(2).await;
        assert!(!ending.is_finished() && !consuming.is_finished());
        held.commit().await;
        let done = Consumed::Done { revision: None };
        assert_eq!(consuming.await.unwrap(), done, "{round}");
        ending.await.unwrap().unwrap();
    }
}

/// Whatever is consumed is committed before the end of its task, or of one above it, or not at all: no record comes after
/// the end. And the end takes its turn, however many consume, wherever in the chain the budget is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_consumed_after_what_is_above_has_ended() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    for (round, (budgets, ended, budgeted)) in (0_u64..).zip(chains()) {
        let tasks = chain(&fixture, tenant, budgets).await;
        let (ended, budgeted) = (tasks[ended], tasks[budgeted]);
        let lanes = (0..6_u64).map(|lane| {
            let first = (round * 6 + lane) * 1_000;
            let numbers = first..first + 400;
            numbers
                .map(|number| shared(&fixture, tenant, number))
                .collect()
        });
        // All of them before the first one begins: that takes a while.
        let lanes: Vec<Vec<_>> = lanes.collect();
        let mut racing = JoinSet::new();
        for records in lanes {
            let (store, chain) = (fixture.store.clone(), tasks.clone());
            racing.spawn(async move {
                for record in records {
                    let consumed = consume(&store, tenant, &chain, calls(1), &record).await;
                    if consumed != (Consumed::Done { revision: None }) {
                        return consumed;
                    }
                }
                panic!("it never ended");
            });
        }
        let reserved = async || {
            let budget = fixture
                .store
                .budget(tenant, budgeted)
                .await
                .unwrap()
                .unwrap();
            budget.reserved.calls
        };
        let began = Instant::now();
        while reserved().await < 30 {
            assert!(
                began.elapsed() < Duration::from_mins(1),
                "too little is consumed"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture
            .store
            .end_task(tenant, ended, REVOKED, Change::default())
            .await
            .unwrap();
        let then = reserved().await;
        for ended in racing.join_all().await {
            assert!(
                matches!(
                    ended,
                    Consumed::Ended {
                        state: TaskState::Revoked,
                        ..
                    }
                ),
                "{ended:?}"
            );
        }
        assert_eq!(reserved().await, then, "something came after the end");
    }
}

/// Ending many at once takes time by their number, also where a session has ended some before.
#[tokio::test]
async fn ten_thousand_tasks_end_in_a_moment() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("acme").await;
    let root = task(&fixture, tenant, None, calls_at_most(1)).await;
    let (tenant, root) = (tenant.uuid(), root.uuid());
    let columns = "revision, digest, body, agent_type, agent_id, purpose, depth, opened_at, opened_by, last_active, \
        idle_timeout, expires_at";
    let ended = |count: usize| {
        format!(
            "INSERT INTO tasks (tenant, id, parent, state, {columns}) \
             SELECT tenant, gen_random_uuid(), '{root}', 'active', {columns} FROM tasks, generate_series(1, {count}) \
             WHERE tenant = '{tenant}' AND id = '{root}'; \
             began := clock_timestamp(); \
             UPDATE tasks SET state = 'revoked', ended_at = 1 WHERE tenant = '{tenant}' AND parent = '{root}' AND \
                state = 'active'; \
             UPDATE tasks SET forgotten_at = 2 WHERE tenant = '{tenant}' AND state = 'revoked' AND forgotten_at IS NULL; \
             took := took || (clock_timestamp() - began);"
        )
    };
    // Ten times as many take ten times as long; if each looked at each, they would take a hundred times as long.
    let text = format!(
        "SELECT set_config('remit.tenant', '{tenant}', false); \
         DO $$ DECLARE began timestamptz; took interval[]; BEGIN \
         UPDATE tasks SET last_active = last_active WHERE tenant = '{tenant}' AND id = '{root}'; {} {} \
         IF took[2] > greatest(took[1], '100 ms') * 40 THEN RAISE '%', took; END IF; \
         RAISE NOTICE '%', took; END $$;",
        ended(1_000),
        ended(10_000),
    );
    remit_tests::sql::execute(&fixture.url, &text).await;
    let ended =
        "SELECT CAST(count(*) AS TEXT) FROM tasks WHERE state = 'revoked' AND forgotten_at = 2";
    assert_eq!(
        remit_tests::sql::texts(&fixture.url, ended).await,
        [["11000"]]
    );
}

fn calls_at_most(calls: u64) -> Budget {
    Budget {
        calls: Some(calls),
        ..Budget::default()
    }
}

/// The last of a budget, and a connection that breaks while another session has its row: the second try waits behind the
/// first, finds that it was first, and takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_try_finds_the_first() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let sessions = Arc::default();
    let url = between(&fixture.url, Arc::default(), Arc::clone(&sessions)).await;
    let store = Store::open(&patient(&url), fixture.clock.clone())
        .await
        .unwrap();
    let tenant = fixture.tenant("acme").await;
    let task = task(&fixture, tenant, None, calls_at_most(1)).await;
    let hold = "SELECT FROM task_budgets FOR UPDATE";
    let mut holding = Held::begin(&fixture.url, hold).await;
    let record = shared(&fixture, tenant, 1);
    let cutting = async {
        holding.is_waited_for_by(1).await;
        for session in sessions.lock().unwrap().drain(..) {
            session.abort();
        }
        holding.is_waited_for_by(2).await;
        holding.commit().await;
    };
    let chain = [task];
    let (consumed, ()) = tokio::join!(consume(&store, tenant, &chain, calls(1), &record), cutting);
    assert_eq!(consumed, Consumed::Done { revision: None });
    let budget = fixture.store.budget(tenant, task).await.unwrap().unwrap();
    assert_eq!((budget.reserved.calls, budget.spent.calls), (1, 0));
}
