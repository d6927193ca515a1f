//! Shadows at work: each live decision made again by the bundle beside the one in force, where nobody waits for it.
//!
//! What was decided is handed over when its record is durable, and never waits: a shadow for which too much is waiting
//! already lets a decision go, and counts that. One thread of low priority works for all shadows, each decision over the
//! very entities that the live one was made over. Whatever goes wrong there is counted and said, and changes no answer.

use std::any::Any;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use remit_core::{
    ContentHash, Decision, DecisionId, DecisionRecord, Question, Revision, TenantId, Timestamp,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::groups::{Difference, Tally};
use crate::background::spawn_lowered;
use crate::metrics::ShadowCounters;

mod deltas;
mod findings;

use deltas::Deltas;

/// The most decisions that wait for one shadow.
const QUEUED: usize = 4_096;
/// The most bytes that their questions may have, as far as their texts go.
const QUEUED_BYTES: usize = 32 << 20;
/// What one waiting decision takes beside the texts of its question.
const FIXED_BYTES: usize = 512;
/// How long decisions gather before they are made again.
const LINGER: Duration = Duration::from_millis(2);
/// The states of live entities that a shadow keeps: decisions of several revisions may be under way at once.
const STATES: usize = 4;
/// How many disagreements of one shadow this process hands on one by one.
const SINGLE: usize = 10_000;

/// Makes a recorded decision again, by a snapshot.
pub(crate) type Again = fn(&Snapshot, &DecisionRecord) -> Decision;

/// The shadows of every tenant that has one.
pub(crate) struct Shadows {
    running: ArcSwap<HashMap<TenantId, Arc<Shadow>>>,
    /// What was compiled by whoever put a shadow, until it is at work.
    prepared: Mutex<HashMap<TenantId, Snapshot>>,
    worker: Mutex<Option<UnboundedSender<Job>>>,
    again: Again,
    counters: ShadowCounters,
    changed: watch::Sender<()>,
}

/// One bundle that decides beside the one in force.
pub(crate) struct Shadow {
    pub(crate) revision: Revision,
    jobs: UnboundedSender<Job>,
    counters: ShadowCounters,
    /// Whether there is something to decide by.
    able: AtomicBool,
    /// Whether it has ended: what still waits for it is forgotten.
    retired: AtomicBool,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// Decisions handed over, and those of them that are done.
    accepted: AtomicU64,
    done: AtomicU64,
    dropped: AtomicU64,
    /// Decisions that came while there was nothing to decide by.
    unable: AtomicU64,
    progress: Notify,
    work: Mutex<Work>,
    /// How live entities have changed, for a bundle that cannot share them.
    deltas: Deltas,
    /// One note at a time, so that an older one does not replace a newer.
    noting: tokio::sync::Mutex<()>,
}

/// What only those who work on a shadow touch; the road to an answer never does.
#[derive(Default)]
struct Work {
    /// The bundle without live entities, or why there is none.
    draft: Option<Result<Snapshot, String>>,
    /// The bundle over the live entities of the revisions last asked about, or why it does not go over them.
    states: VecDeque<(Revision, Result<Snapshot, String>)>,
    /// Whether they share those entities with what is in force.
    shared: bool,
    /// How often they were read anew, all of them.
    read_anew: usize,
    tally: Tally,
    failure: Option<String>,
    /// Disagreements that have not been noted, and how many there have been.
    single: Vec<(DecisionId, Timestamp, Difference)>,
    singles: usize,
    /// Groups that have grown since they were noted.
    grown: BTreeSet<Difference>,
    /// What was noted last.
    noted: Option<remit_store::ShadowTally>,
}

/// One decision to be made again.
struct Job {
    shadow: Arc<Shadow>,
    live: Arc<Snapshot>,
    record: DecisionRecord,
    bytes: usize,
}

// === impl Shadows ===

impl Shadows {
    pub(crate) fn new(again: Again, counters: ShadowCounters) -> Self {
        Self {
            running: ArcSwap::default(),
            prepared: Mutex::default(),
            worker: Mutex::default(),
            again,
            counters,
            changed: watch::Sender::new(()),
        }
    }

    /// Returns the shadow of a tenant.
    pub(crate) fn of(&self, tenant: TenantId) -> Option<Arc<Shadow>> {
        self.running.load().get(&tenant).cloned()
    }

    /// Returns every shadow.
    pub(crate) fn all(&self) -> Arc<HashMap<TenantId, Arc<Shadow>>> {
        self.running.load_full()
    }

    /// Keeps what a shadow was compiled to before it was written, so that it is not compiled again.
    pub(crate) fn prepare(&self, tenant: TenantId, compiled: &Snapshot) {
        lock(&self.prepared).insert(tenant, compiled.clone());
    }

    /// Takes back what was prepared for a shadow that was not written, where it is still that.
    pub(crate) fn forgo(&self, tenant: TenantId, hash: ContentHash) {
        let mut prepared = lock(&self.prepared);
        if prepared
            .get(&tenant)
            .is_some_and(|compiled| compiled.content_hash() == hash)
        {
            let held = prepared.remove(&tenant);
            // Taken apart without the lock.
            drop(prepared);
            drop(held);
        }
    }

    /// Takes what was prepared for a tenant.
    pub(crate) fn prepared(&self, tenant: TenantId) -> Option<Snapshot> {
        lock(&self.prepared).remove(&tenant)
    }

    /// Has a tenant's decisions made again by a bundle from now on, or says why they cannot be.
    ///
    /// Called again for the same revision it goes on counting where it was.
    pub(crate) fn begin(
        &self,
        tenant: TenantId,
        revision: Revision,
        compiled: Result<Snapshot, String>,
    ) {
        // Over no live entities: to keep those of today would keep them in memory for as long as the shadow stands.
        let draft = compiled
            .and_then(|compiled| compiled.without_live().map_err(|error| error.to_string()));
        let known = self
            .of(tenant)
            .filter(|known| known.revision == revision && !known.jobs.is_closed());
        let (shadow, draft) = match (known, self.jobs()) {
            (Some(known), _) => (known, draft),
            (None, Ok(jobs)) => (
                Arc::new(Shadow::new(revision, jobs, self.counters.clone())),
                draft,
            ),
            // Nobody receives from this one, and nothing is sent to what cannot decide.
            (None, Err(because)) => (
                Arc::new(Shadow::new(
                    revision,
                    unbounded_channel().0,
                    self.counters.clone(),
                )),
                Err(because),
            ),
        };
        shadow.decide_by(draft);
        let before = self.running.rcu(|running| {
            let mut running = HashMap::clone(running);
            running.insert(tenant, Arc::clone(&shadow));
            running
        });
        self.changed.send_replace(());
        if let Some(before) = before.get(&tenant)
            && !Arc::ptr_eq(before, &shadow)
        {
            before.retire();
        }
    }

    /// Ends the shadow of a tenant; what still waits for it is forgotten.
    pub(crate) fn end(&self, tenant: TenantId) {
        let before = self.running.rcu(|running| {
            let mut running = HashMap::clone(running);
            running.remove(&tenant);
            running
        });
        self.changed.send_replace(());
        if let Some(before) = before.get(&tenant) {
            before.retire();
        }
    }

    /// Waits until the revision of the shadow at work for a tenant is as wanted; false when `wait` is over first.
    pub(crate) async fn wait(
        &self,
        tenant: TenantId,
        wanted: impl Fn(Option<Revision>) -> bool,
        wait: Duration,
    ) -> bool {
        let mut changed = self.changed.subscribe();
        let there = || wanted(self.of(tenant).map(|shadow| shadow.revision));
        let waiting = async {
            while !there() {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(wait, waiting).await.unwrap_or_else(|_| there())
    }

    /// Returns where jobs are sent to; the first one starts the thread.
    fn jobs(&self) -> Result<UnboundedSender<Job>, String> {
        let mut worker = lock(&self.worker);
        if let Some(jobs) = worker.as_ref().filter(|jobs| !jobs.is_closed()) {
            return Ok(jobs.clone());
        }
        let (jobs, received) = unbounded_channel();
        let again = self.again;
        spawn_lowered("remit-shadow", move || work(received, again))
            .map_err(|error| format!("there is no thread for it: {error}"))?;
        *worker = Some(jobs.clone());
        Ok(jobs)
    }
}

/// Makes decisions again until nobody can send one any more.
fn work(mut jobs: UnboundedReceiver<Job>, again: Again) {
    while let Some(first) = jobs.blocking_recv() {
        let mut next = Some(first);
        while let Some(Job {
            shadow,
            live,
            record,
            bytes,
        }) = next
        {
            shadow.decide(&live, &record, again);
            shadow.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shadow.queued.fetch_sub(1, Ordering::Relaxed);
            shadow.done.fetch_add(1, Ordering::AcqRel);
            shadow.progress.notify_waiters();
            next = jobs.try_recv().ok();
        }
        // Whoever sends to a thread that waits has to wake it, which takes longer than to send to one that does not.
        thread::sleep(LINGER);
    }
}

/// Returns how long the texts of a question are.
fn weight(question: &Question) -> usize {
    let names = [
        &question.subject.kind,
        &question.subject.id,
        &question.action.name,
        &question.resource.kind,
        &question.resource.id,
    ];
    let maps = [
        &question.context,
        &question.subject.properties,
        &question.action.properties,
        &question.resource.properties,
    ];
    let names: usize = names.into_iter().map(String::len).sum();
    let maps: usize = maps.into_iter().map(members).sum();
    FIXED_BYTES + names + maps
}

fn members(map: &Map<String, Value>) -> usize {
    let sizes = map.iter().map(|(name, value)| name.len() + size(value));
    sizes.sum()
}

fn size(value: &Value) -> usize {
    /// What any value takes.
    const LEAST: usize = 32;
    LEAST
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(size).sum(),
            Value::Object(map) => members(map),
        }
}

/// Says what a panic says.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shadow ===

impl Shadow {
    fn new(revision: Revision, jobs: UnboundedSender<Job>, counters: ShadowCounters) -> Self {
        Self {
            revision,
            jobs,
            counters,
            able: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            done: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unable: AtomicU64::new(0),
            progress: Notify::new(),
            work: Mutex::default(),
            deltas: Deltas::default(),
            noting: tokio::sync::Mutex::new(()),
        }
    }

    /// Hands a decision over that is recorded, and returns it for its answer. It waits for nothing and takes no lock.
    pub(crate) fn follow(
        self: &Arc<Self>,
        live: &Arc<Snapshot>,
        record: DecisionRecord,
    ) -> Decision {
        if self.retired.load(Ordering::Acquire) {
            return record.decision;
        }
        if !self.able.load(Ordering::Acquire) {
            self.unable.fetch_add(1, Ordering::Relaxed);
            self.counters.failed.inc();
            return record.decision;
        }
        let bytes = weight(&record.question);
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let waiting = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued >= QUEUED || waiting.saturating_add(bytes) > QUEUED_BYTES {
            self.let_go(bytes);
            return record.decision;
        }
        let decision = record.decision.clone();
        let job = Job {
            shadow: Arc::clone(self),
            live: Arc::clone(live),
            record,
            bytes,
        };
        self.accepted.fetch_add(1, Ordering::AcqRel);
        if self.jobs.send(job).is_err() {
            self.done.fetch_add(1, Ordering::AcqRel);
            self.let_go(bytes);
        }
        decision
    }

    fn let_go(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.counters.dropped.inc();
    }

    /// Whether it has something to decide by.
    pub(crate) fn is_able(&self) -> bool {
        self.able.load(Ordering::Acquire)
    }

    /// Decides by this from now on.
    fn decide_by(&self, draft: Result<Snapshot, String>) {
        let able = draft.is_ok();
        let mut work = lock(&self.work);
        work.failure = draft.as_ref().err().cloned();
        work.draft = Some(draft);
        work.states.clear();
        drop(work);
        self.able.store(able, Ordering::Release);
    }

    /// Gives back what it decides by, here: whoever lets go of it last may be answering a question.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        let mut work = lock(&self.work);
        let held = (work.draft.take(), std::mem::take(&mut work.states));
        // Taken apart without the lock.
        drop(work);
        drop(held);
        self.deltas.clear();
    }

    /// Waits until everything that was handed over before is done, at most for `wait`.
    pub(crate) async fn caught_up(&self, wait: Duration) {
        let target = self.accepted.load(Ordering::Acquire);
        let waiting = async {
            loop {
                // Registered before looking, so that no progress falls between the two.
                let progress = self.progress.notified();
                if self.done.load(Ordering::Acquire) >= target {
                    return;
                }
                progress.await;
            }
        };
        // Whoever asks is told what is known by then.
        let _ = timeout(wait, waiting).await;
    }

    /// Makes one decision again and counts how it differs.
    fn decide(&self, live: &Snapshot, record: &DecisionRecord, again: Again) {
        if self.retired.load(Ordering::Acquire) {
            return;
        }
        let deciding = AssertUnwindSafe(|| {
            let state = self.state(live)?;
            Ok(Difference::between(record, &again(&state, record)))
        });
        let decided = catch_unwind(deciding).unwrap_or_else(|panic| Err(panicked(&*panic)));
        match &decided {
            Ok(None) => self.counters.same.inc(),
            Ok(Some(difference)) => self.counters.of(difference.outcome).inc(),
            Err(_) => self.counters.failed.inc(),
        };
        let mut work = lock(&self.work);
        work.failure = decided.as_ref().err().cloned();
        if let Ok(Some(difference)) = &decided {
            if work.singles < SINGLE {
                work.singles += 1;
                work.single.push((record.id, record.at, difference.clone()));
            }
            work.grown.insert(difference.clone());
        }
        work.tally.add(record.id, decided);
    }

    /// Returns the bundle over the live entities of a snapshot.
    fn state(&self, live: &Snapshot) -> Result<Snapshot, String> {
        let revision = live.revision();
        let (draft, states) = {
            let work = lock(&self.work);
            if let Some((_, state)) = work.states.iter().find(|(at, _)| *at == revision) {
                return state.clone();
            }
            (work.draft.clone(), work.states.clone())
        };
        let draft = draft.unwrap_or_else(|| Err("it is not loaded".to_owned()));
        let shared = draft.as_ref().is_ok_and(|draft| draft.shares_schema(live));
        // Without the lock: live entities that have to be read by another schema take long.
        let carried = match &draft {
            Ok(_) if !shared => self.deltas.carry(&states, revision),
            _ => None,
        };
        let anew = carried.is_none();
        let state = match (draft, carried) {
            (_, Some(carried)) => Ok(carried),
            (Ok(draft), None) => draft
                .over(live)
                .map_err(|error| format!("the live entities do not fit it: {error}")),
            (Err(because), None) => Err(because),
        };
        let mut work = lock(&self.work);
        work.shared = shared;
        work.read_anew += usize::from(anew && !shared);
        if self.retired.load(Ordering::Acquire) {
            return state;
        }
        if work.states.len() >= STATES {
            work.states.pop_front();
        }
        work.states.push_back((revision, state.clone()));
        state
    }
}

#[cfg(test)]
mod tests;
