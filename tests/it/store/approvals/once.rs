//! How often and until when an approval can be used: by the database's count and the database's time, on every database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use remit_core::{ApprovalId, ApprovalState, Clock, TenantId};
use remit_store::{ApprovalUse, Change, Consumed, Store};
use remit_tests::sql::{Held, patient};

use super::{Fixture, consume, stored, stored_for};

for_each_database! {
    what_is_over_by_the_databases_time_is_not_used;
    what_was_forgotten_is_not_used;
}

/// Uses an approval under a name, outside a task.
async fn used(fixture: &Fixture, tenant: TenantId, id: ApprovalId, name: &str) -> Consumed {
    let wanted = ApprovalUse {
        amount: None,
        id,
        name,
    };
    let number = 800 + u64::try_from(name.len()).unwrap();
    let none = BTreeSet::new();
    consume(fixture, (tenant, &[]), wanted, &none, number)
        .await
        .0
}

async fn uses_left(fixture: &Fixture, tenant: TenantId, id: ApprovalId) -> u64 {
    let stored = fixture.store.request(tenant, id).await.unwrap().unwrap();
    stored.grant.unwrap().uses_left
}

/// Nothing else has to happen for it: nobody has swept.
async fn what_is_over_by_the_databases_time_is_not_used(fixture: Fixture) {
    let tenant = fixture.tenant("one").await;
    // So long that it is not over before it is approved, on a machine that does something else.
    let lasts = Duration::from_secs(3);
    let id = stored_for(&fixture, tenant, (2, None), lasts).await;
    tokio::time::sleep(lasts).await;
    let came = used(&fixture, tenant, id, "late").await;
    assert_eq!(came, Consumed::Approval(ApprovalState::Expired));
    assert_eq!(uses_left(&fixture, tenant, id).await, 2);
    let of_name = fixture.store.use_of(tenant, id, "late").await.unwrap();
    assert_eq!(of_name, None);
    let lasting = stored(&fixture, tenant, 1, None).await;
    let came = used(&fixture, tenant, lasting, "soon").await;
    assert_eq!(came, Consumed::Done { revision: None });
}

/// What was found to be over stays so, whatever the clock of the database says afterwards.
async fn what_was_forgotten_is_not_used(fixture: Fixture) {
    let tenant = fixture.tenant("one").await;
    let id = stored(&fixture, tenant, 2, None).await;
    let forgotten = "UPDATE access_requests SET forgotten_at = approved_until";
    if !fixture.damage(forgotten).await {
        return;
    }
    let came = used(&fixture, tenant, id, "late").await;
    assert_eq!(came, Consumed::Approval(ApprovalState::Expired));
    assert_eq!(uses_left(&fixture, tenant, id).await, 2);
}

/// A use that had to wait for the row is held against the time at which it has it, not the one at which it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_use_that_waits_beyond_the_end_comes_too_late() {
    let Some(fixture) = Fixture::postgres().await else {
        return;
    };
    let tenant = fixture.tenant("one").await;
    let lasts = Duration::from_secs(3);
    // A machine that stands still meanwhile may see it come too late anyway: then it is done once more.
    for _ in 0..5 {
        let before = Instant::now();
        let id = stored_for(&fixture, tenant, (1, None), lasts).await;
        // Its end is between the two.
        let (earliest, until) = (before + lasts, Instant::now() + lasts);
        let row = format!("SELECT FROM access_requests WHERE id = '{id}' FOR UPDATE");
        let mut holding = Held::begin(&fixture.url, &row).await;
        let release = async {
            let mut waited = false;
            while !waited && Instant::now() < earliest {
                waited = holding.waiting().await > 0 && Instant::now() < earliest;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep_until(until.into()).await;
            holding.commit().await;
            waited
        };
        let (came, waited) = tokio::join!(used(&fixture, tenant, id, "early"), release);
        assert_eq!(came, Consumed::Approval(ApprovalState::Expired));
        assert_eq!(uses_left(&fixture, tenant, id).await, 1);
        if waited {
            return;
        }
    }
    panic!("it never came in time");
}

/// One step of the model.
#[derive(Debug, Clone)]
enum Step {
    Use { name: u8, amount: u64 },
    Later(u64),
    Withdraw,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, 0..50_u64).prop_map(|(name, amount)| Step::Use { name, amount }),
        2 => (1..40_u64).prop_map(Step::Later),
        1 => Just(Step::Withdraw),
    ];
    proptest::collection::vec(step, 1..24)
}

/// What happened, over all cases.
#[derive(Debug, Default)]
struct Counts {
    cases: u64,
    uses: u64,
    used_up: u64,
    over: u64,
    repeats: u64,
    asked: u64,
}

/// A model of one approval: what is left of it, in three numbers, and the names of its uses.
struct Model {
    left: u32,
    money: Option<u64>,
    /// How much of its minute is over, in seconds.
    elapsed: u64,
    withdrawn: bool,
    names: BTreeMap<u8, remit_core::DecisionId>,
}

// === impl Model ===

impl Model {
    /// Returns what must come of a use, and takes it.
    fn expects(
        &mut self,
        name: u8,
        (amount, decision): (u64, remit_core::DecisionId),
        counts: &mut Counts,
    ) -> Consumed {
        if let Some(first) = self.names.get(&name) {
            counts.repeats += 1;
            Consumed::Named(*first)
        } else if self.withdrawn {
            Consumed::Approval(ApprovalState::Unknown)
        } else if self.elapsed >= 60 {
            counts.over += 1;
            Consumed::Approval(ApprovalState::Expired)
        } else if self.left == 0 || self.money.is_some_and(|money| amount > money) {
            counts.used_up += 1;
            Consumed::Approval(ApprovalState::Used)
        } else {
            counts.uses += 1;
            self.left -= 1;
            self.money = self.money.map(|money| money - amount);
            self.names.insert(name, decision);
            Consumed::Done { revision: None }
        }
    }
}

/// Lets seconds pass for an approval; returns how many. A manual clock is moved on. A database with a clock of its own is
/// told another end, a third of the minute nearer, so that the time that a case takes is none that the model must know.
async fn later(fixture: &Fixture, id: ApprovalId, seconds: u64) -> u64 {
    if fixture.url.is_empty() {
        fixture.clock.advance(Duration::from_secs(seconds));
        return seconds;
    }
    let nearer = format!(
        "UPDATE access_requests SET approved_until = approved_until - 20000000 WHERE id = '{id}'"
    );
    fixture.damage(&nearer).await;
    20
}

/// Holds one approval against the model, step by step.
async fn check(
    (fixture, tenant): (&Fixture, TenantId),
    (steps, most, amount): (Vec<Step>, u32, Option<u64>),
    counts: &mut Counts,
) -> Result<(), TestCaseError> {
    counts.cases += 1;
    let id = stored(fixture, tenant, most, amount).await;
    let mut model = Model {
        left: most,
        money: amount,
        elapsed: 0,
        withdrawn: false,
        names: BTreeMap::new(),
    };
    for step in steps {
        match step {
            Step::Later(seconds) => model.elapsed += later(fixture, id, seconds).await,
            Step::Withdraw => {
                let by = ("m", "x");
                let gone = fixture
                    .store
                    .withdraw_approval(tenant, id, by, Change::default());
                prop_assert_eq!(gone.await.is_ok(), !model.withdrawn);
                model.withdrawn = true;
            }
            Step::Use { name, amount } => {
                counts.asked += 1;
                let text = format!("n{name}");
                let wanted = ApprovalUse {
                    amount: Some(amount),
                    id,
                    name: &text,
                };
                let none = BTreeSet::new();
                let number = 1_000 + counts.asked;
                let used = consume(fixture, (tenant, &[]), wanted, &none, number);
                let (came, decision) = used.await;
                prop_assert_eq!(came, model.expects(name, (amount, decision), counts));
            }
        }
    }
    let stored = fixture.store.request(tenant, id).await.unwrap().unwrap();
    let grant = stored.grant.unwrap();
    let left = (grant.uses_left, grant.amount_left);
    prop_assert_eq!(left, (u64::from(model.left), model.money));
    Ok(())
}

/// `approval_once`: whatever is asked in whatever order, an approval is used as often, for as much and as long as a model of
/// three numbers says, and each name has one decision.
fn holds(fixture: impl Future<Output = Option<Fixture>>, cases: u32) -> Option<Counts> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fixture = runtime.block_on(fixture)?;
    let tenant = runtime.block_on(fixture.tenant("one"));
    let counts = std::cell::RefCell::new(Counts::default());
    // The same cases each time: what is counted below is no matter of luck.
    let config = ProptestConfig {
        rng_seed: RngSeed::Fixed(6),
        ..ProptestConfig::with_cases(cases)
    };
    TestRunner::new(config)
        .run(
            &(steps(), 1..4_u32, proptest::option::of(0..120_u64)),
            |drawn| {
                let mut counts = counts.borrow_mut();
                runtime.block_on(check((&fixture, tenant), drawn, &mut counts))
            },
        )
        .unwrap();
    let counts = counts.into_inner();
    println!("approval_once: {counts:?}");
    // What it is connected by ends where it runs.
    runtime.block_on(async move { drop(fixture) });
    Some(counts)
}

#[test]
fn approval_once() {
    let by_a_manual_clock = async {
        let clock = Clock::manual("2026-01-05T10:00:00Z".parse().unwrap());
        let options = patient("sqlite::memory:");
        let store = Store::open(&options, clock.clone()).await.unwrap();
        store.migrate().await.unwrap();
        let (url, admin) = (String::new(), String::new());
        Some(Fixture {
            store,
            clock,
            url,
            admin,
            _folder: None,
        })
    };
    let counts = holds(by_a_manual_clock, 200).unwrap();
    assert!(counts.cases >= 200 && counts.uses > 100 && counts.used_up > 50);
    assert!(counts.repeats > 50 && counts.over > 20);
}

/// The same where a function of the database counts.
#[test]
fn approval_once_on_postgres() {
    let Some(counts) = holds(Fixture::postgres(), 40) else {
        return;
    };
    assert!(counts.cases >= 40 && counts.uses > 20 && counts.used_up > 10);
    assert!(counts.repeats > 10 && counts.over > 5);
}
