//! A shadow in trouble: it waits for nobody, counts what it does not do, and goes on.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Condvar;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use remit_core::{Caller, Facts, KeyId};
use serde_json::json;

use super::*;
use crate::App;
use crate::metrics::Metrics;

const SOON: Duration = Duration::from_secs(30);

fn snapshot(text: &str) -> Arc<Snapshot> {
    let bundle = serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": "entity Agent; entity Tool; action call appliesTo { principal: [Agent], resource: [Tool] };",
        }],
        "policies": [{ "file": "all.cedar", "text": text }],
    }));
    let compiled = Snapshot::compile(&bundle.unwrap()).unwrap();
    Arc::new(compiled.at(Revision::new(7)))
}

fn all() -> Arc<Snapshot> {
    snapshot("@id(\"all\") permit (principal, action, resource);")
}

/// A decision that permits, with so many bytes in its question.
fn record(live: &Snapshot, number: u128, bytes: usize) -> DecisionRecord {
    let question: Question = serde_json::from_value(json!({
        "subject": { "type": "Agent", "id": "a" }, "action": { "name": "call" }, "resource": { "type": "Tool", "id": "t" },
        "context": { "ballast": "x".repeat(bytes) },
    }))
    .unwrap();
    let facts = Facts::plain(KeyId::NIL, "dev", Timestamp::from_micros(0));
    DecisionRecord {
        at: facts.now,
        caller: Caller {
            key: KeyId::NIL,
            request_id: None,
            trace_id: None,
        },
        decision: live.decide(&question, &facts),
        duration_us: 1,
        facts,
        id: DecisionId::from_uuid(uuid::Uuid::from_u128(number)),
        question,
        tenant: tenant(),
    }
}

fn tenant() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::from_u128(1))
}

fn begun(again: Again, draft: Result<Snapshot, String>) -> (Shadows, Arc<Shadow>, ShadowCounters) {
    let counters = Metrics::new("test").shadow();
    let shadows = Shadows::new(again, counters.clone());
    shadows.begin(tenant(), Revision::new(7), draft);
    let shadow = shadows.of(tenant()).unwrap();
    (shadows, shadow, counters)
}

fn tally(shadow: &Shadow) -> remit_store::ShadowTally {
    shadow.tally(&lock(&shadow.work))
}

fn count(counter: &Counter) -> u64 {
    counter.get()
}

fn decides(snapshot: &Snapshot, record: &DecisionRecord) -> Decision {
    App::again(snapshot, record)
}

fn panics_at_first(snapshot: &Snapshot, record: &DecisionRecord) -> Decision {
    if record.id.uuid().as_u128() == 0 {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
    decides(snapshot, record)
}

#[tokio::test]
async fn a_panic_is_counted_and_the_next_decision_is_made() {
    let live = all();
    let none = snapshot("@id(\"none\") forbid (principal, action, resource);");
    let (_shadows, shadow, counters) = begun(panics_at_first, Ok(Snapshot::clone(&none)));
    for number in 0..3 {
        let record = record(&live, number, 1);
        let decided = record.decision.clone();
        assert_eq!(shadow.follow(&live, record), decided);
    }
    shadow.caught_up(SOON).await;
    let found = tally(&shadow);
    assert_eq!((found.failed, found.decided, found.differing), (1, 2, 2));
    assert_eq!(found.totals, [("newly_denied".to_owned(), 2)].into());
    assert_eq!(found.failure, None, "it decides again");
    assert_eq!(count(&counters.failed), 1);
    assert_eq!(count(counters.of(super::super::Outcome::NewlyDenied)), 2);
}

/// Held while nothing is to be decided.
static HELD: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

fn waits(snapshot: &Snapshot, record: &DecisionRecord) -> Decision {
    let mut held = lock(&HELD.0);
    while *held {
        held = HELD.1.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
    drop(held);
    decides(snapshot, record)
}

#[tokio::test]
async fn who_hands_over_too_much_waits_for_nothing() {
    let live = all();
    let (_shadows, shadow, counters) = begun(waits, Ok(Snapshot::clone(&live)));
    let more = 1_000;
    let records: Vec<DecisionRecord> = (0..QUEUED as u128 + more)
        .map(|number| record(&live, number, 1))
        .collect();
    let began = Instant::now();
    for record in records {
        shadow.follow(&live, record);
    }
    // Nothing has been decided in all that time.
    let took = began.elapsed();
    assert_eq!(tally(&shadow).decided, 0);
    assert_eq!(u128::from(tally(&shadow).dropped), more);
    assert_eq!(u128::from(count(&counters.dropped)), more);
    assert!(took < Duration::from_secs(5), "{took:?}");

    *lock(&HELD.0) = false;
    HELD.1.notify_all();
    shadow.caught_up(SOON).await;
    let found = tally(&shadow);
    assert_eq!((found.decided, found.same), (QUEUED as u64, QUEUED as u64));
    assert_eq!(shadow.queued.load(Ordering::Relaxed), 0);
    assert_eq!(shadow.queued_bytes.load(Ordering::Relaxed), 0);

    // Few decisions with long questions are too much as well.
    *lock(&HELD.0) = true;
    let (large, most) = (1 << 20, QUEUED_BYTES >> 20);
    for number in 0..most as u128 + 8 {
        shadow.follow(&live, record(&live, 10_000 + number, large));
    }
    let kept = shadow.queued.load(Ordering::Relaxed);
    assert!(kept < most && kept >= most - 2, "{kept} of {most} MiB");
    *lock(&HELD.0) = false;
    HELD.1.notify_all();
    shadow.caught_up(SOON).await;
}

#[tokio::test]
async fn a_shadow_without_a_bundle_says_so_and_may_get_one() {
    let live = all();
    let (shadows, shadow, _) = begun(decides, Err("the row is damaged".to_owned()));
    let one = record(&live, 1, 1);
    let decided = one.decision.clone();
    assert_eq!(shadow.follow(&live, one), decided);
    let found = tally(&shadow);
    assert_eq!((found.decided, found.failed, found.dropped), (0, 1, 0));
    assert_eq!(found.failure.as_deref(), Some("the row is damaged"));

    shadows.begin(tenant(), Revision::new(7), Ok(Snapshot::clone(&live)));
    assert!(Arc::ptr_eq(&shadow, &shadows.of(tenant()).unwrap()));
    shadow.follow(&live, record(&live, 2, 1));
    shadow.caught_up(SOON).await;
    let found = tally(&shadow);
    assert_eq!((found.decided, found.same, found.failed), (1, 1, 1));
    assert_eq!(found.failure, None);

    shadows.end(tenant());
    assert!(shadows.of(tenant()).is_none());
    // Who still has it holds nothing large, and what still comes is forgotten.
    assert!(lock(&shadow.work).draft.is_none());
    assert!(lock(&shadow.work).states.is_empty());
    shadow.follow(&live, record(&live, 3, 1));
    shadow.caught_up(SOON).await;
    assert_eq!(tally(&shadow), found);
}

/// Agents that may while they are ready, by a schema that says more of them than the other one, or less.
fn apart(more: &str) -> Arc<Snapshot> {
    let bundle = serde_json::from_value(json!({
        "schema": [{
            "file": "schema.cedarschema",
            "text": format!("entity Agent = {{ ready: Bool, level?: {more} }}; entity Tool; action call appliesTo {{ principal: [Agent], resource: [Tool] }};"),
        }],
        "policies": [{ "file": "all.cedar", "text": "@id(\"ready\") permit (principal is Agent, action, resource) when { principal.ready };" }],
    }));
    Arc::new(Snapshot::compile(&bundle.unwrap()).unwrap())
}

fn ready(id: &str, attrs: &Value) -> remit_core::Entity {
    let uid = json!({ "type": "Agent", "id": id });
    serde_json::from_value(json!({ "uid": uid, "attrs": attrs })).unwrap()
}

/// One that cannot share the live entities follows their changes, and reads all of them only where it missed one.
#[tokio::test]
async fn live_entities_of_another_schema_are_carried_on() {
    let (live, other) = (apart("Long"), apart("String"));
    let (shadows, shadow, _) = begun(decides, Ok(Snapshot::clone(&other)));
    let follow = async |live: &Arc<Snapshot>, number: u128| {
        shadow.follow(live, record(live, number, 1));
        shadow.caught_up(SOON).await;
    };
    let anew = || lock(&shadow.work).read_anew;
    let step = |live: &Snapshot, attrs: &Value, to: u64, told: bool| {
        let agent = [ready("a", attrs)];
        let gathering = shadows.gather(tenant(), live);
        let mut gathering = gathering.unwrap();
        let next = live.with_entities(&agent, &[]).unwrap();
        gathering.add(&agent, &[]);
        if told {
            gathering.hand_over(live.revision(), Revision::new(to));
        }
        Arc::new(next.at(Revision::new(to)))
    };
    let mut now = Arc::new(Snapshot::clone(&live).at(Revision::new(10)));
    follow(&now, 0).await;
    assert_eq!(anew(), 1, "the first time there is nothing to go on from");
    for number in 11..20 {
        now = step(&now, &json!({ "ready": number % 2 == 0 }), number, true);
        // Not every state is asked about.
        if number % 3 == 0 {
            follow(&now, u128::from(number)).await;
        }
    }
    assert_eq!(anew(), 1);
    now = step(&now, &json!({ "ready": true }), 20, false);
    follow(&now, 20).await;
    assert_eq!(anew(), 2, "after a gap");
    // A change that does not fit it, and one that mends that.
    now = step(&now, &json!({ "ready": true, "level": 3 }), 21, true);
    follow(&now, 21).await;
    assert_eq!(tally(&shadow).failed, 1, "{:?}", tally(&shadow).failure);
    now = step(&now, &json!({ "ready": false }), 22, true);
    follow(&now, 22).await;
    let found = tally(&shadow);
    assert_eq!((found.decided, found.same, found.failed), (6, 6, 1));

    // One with the same schema shares them.
    shadows.begin(tenant(), Revision::new(8), Ok(Snapshot::clone(&live)));
    assert!(shadows.gather(tenant(), &now).is_none());
}

/// Without anybody who could send to it, the thread ends; it holds nothing that would keep it.
#[tokio::test]
async fn the_thread_ends_with_the_last_shadow() {
    let live = all();
    let (shadows, shadow, _) = begun(decides, Ok(Snapshot::clone(&live)));
    shadow.follow(&live, record(&live, 1, 1));
    let jobs = shadow.jobs.downgrade();
    drop((shadows, shadow));
    let until = Instant::now() + SOON;
    while jobs.upgrade().is_some() {
        assert!(Instant::now() < until, "something keeps it");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_is_taken_back_is_what_was_prepared_and_nothing_else() {
    let shadows = Shadows::new(decides, Metrics::new("test").shadow());
    let (all, other) = (all(), apart("Long"));
    shadows.prepare(tenant(), &all);
    shadows.forgo(tenant(), other.content_hash());
    let kept = shadows.prepared(tenant()).unwrap();
    assert_eq!(kept.content_hash(), all.content_hash());
    shadows.prepare(tenant(), &all);
    shadows.forgo(tenant(), all.content_hash());
    assert!(shadows.prepared(tenant()).is_none());
}
