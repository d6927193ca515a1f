//! `App`: what every handler shares, and the only road to a decision (INV-1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use remit_core::controls::{Protection, holds};
use remit_core::{
    Clock, Decision, DecisionId, DecisionRecord, Facts, Question, Revision, TenantId, Timestamp,
    Verdict,
};
use remit_engine::{Engine, Snapshot};
use remit_log::{DecisionLog, Receipt};
use remit_store::{Pepper, Store};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tracing::field::display;

mod consuming;
mod escrow;
mod options;
mod readiness;
mod renewing;
mod using;

pub(crate) use consuming::{chain, charges, keep_expiring};
pub(crate) use escrow::keep_returning;
pub use options::{Approvals, Drafts, Hooks, Options};

use consuming::Made;
use escrow::Escrows;
use using::Looked;

use crate::admin::denials::Denials;
use crate::admin::footing::Seen;
use crate::approvals::waiting::Waiting;
use crate::auth::{Caller, DevKey, Keys};
use crate::evaluate::telling::Telling;
use crate::facts;
use crate::finishing::Finishing;
use crate::impact::shadowing::Shadows;
use crate::metrics::{Metrics, Stage};
use crate::problem::{Kind, Problem};
use crate::registry::webhooks::Webhooks;
use crate::stream::Streams;
use crate::sync::progress::Progress;
use crate::sync::revocations::Revocations;
use crate::tasks::keeping::Activity;
use crate::token::Seal;

/// The most drafts that are assessed at once.
const ASSESSMENTS: usize = 2;
/// How long a change waits to come into force on the replica that made it.
const COMMIT_WAIT: Duration = Duration::from_secs(10);

/// The time is not known yet.
const UNKNOWN: i64 = i64::MIN;
/// How much of the time that was known is given up at a poll, in microseconds: far less than passes between two.
const SLEW: i64 = 1_000;

/// What an [`App`] is made of.
pub struct AppParts {
    /// The compiled policies of every tenant.
    pub engine: Engine,
    /// The database.
    pub store: Store,
    /// The decision log of this replica.
    pub log: DecisionLog,
    /// Time and ids.
    pub clock: Clock,
    /// What keys are hashed with.
    pub pepper: Pepper,
    /// A fixed text that stands for a stored key, in development only.
    pub dev_key: Option<DevKey>,
    /// The settings.
    pub options: Options,
}

/// The state behind every endpoint.
pub struct App {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) log: DecisionLog,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    pub(crate) keys: Keys,
    pub(crate) activity: Activity,
    /// How much of what is denied is still recorded.
    pub(crate) denials: Denials,
    pub(crate) progress: Progress,
    pub(crate) metrics: Metrics,
    pub(crate) shadows: Shadows,
    pub(crate) seal: Seal,
    pub(crate) webhooks: Webhooks,
    pub(crate) revocations: Revocations,
    escrows: Escrows,
    pub(crate) glass: Seen,
    /// The answers that wait for the end of an access request.
    pub(crate) waiting: Waiting,
    /// The requests that still fit in.
    pub(crate) room: Semaphore,
    /// How many drafts are assessed at once; publishing waits for none of them.
    pub(crate) assessments: Arc<Semaphore>,
    /// The streams that are read now.
    pub(crate) streams: Streams,
    /// Raised when the process is about to stop.
    retired: AtomicBool,
    /// The database's time less boot time, in microseconds; `UNKNOWN` before the first poll.
    time: AtomicI64,
}

/// A decision that has been recorded.
///
/// There is no other constructor than [`App::decide`]: what was answered but not recorded cannot be written (INV-3).
#[derive(Debug)]
pub struct Answer {
    decision: Decision,
    /// What else is told of it.
    telling: Telling,
    receipt: Receipt,
}

/// When a batch stops (AuthZEN 1.0 §7.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Semantic {
    /// Never: every item is decided.
    #[default]
    ExecuteAll,
    /// At the first item that is denied or invalid.
    DenyOnFirstDeny,
    /// At the first item that is permitted.
    PermitOnFirstPermit,
}

// === impl Answer ===

impl Answer {
    /// Returns what was decided.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Returns what is told of it beside what was decided.
    pub(crate) fn telling(&self) -> &Telling {
        &self.telling
    }

    /// Returns the id of the decision and its record.
    pub fn id(&self) -> DecisionId {
        self.receipt.id()
    }

    /// Whether it may.
    pub fn permits(&self) -> bool {
        self.decision.verdict == Verdict::Permit
    }
}

// === impl App ===

impl App {
    /// Puts the parts together; nothing decides until [`sync::run`](crate::sync::run) has installed a snapshot.
    pub fn new(parts: AppParts) -> Arc<Self> {
        let metrics = Metrics::new(&parts.options.commit);
        Arc::new(Self {
            shadows: Shadows::new(Self::again, metrics.shadow()),
            seal: Seal::new(parts.pepper.derive("page tokens")),
            webhooks: Webhooks::new(&parts.pepper, &parts.options.webhooks),
            revocations: Revocations::default(),
            keys: Keys::new(parts.pepper, parts.dev_key),
            activity: Activity::default(),
            denials: Denials::default(),
            escrows: Escrows::default(),
            progress: Progress::default(),
            glass: Seen::default(),
            waiting: Waiting::default(),
            room: Semaphore::new(parts.options.concurrency),
            assessments: Arc::new(Semaphore::new(ASSESSMENTS)),
            engine: parts.engine,
            store: parts.store,
            log: parts.log,
            clock: parts.clock,
            options: parts.options,
            streams: Streams::default(),
            retired: AtomicBool::new(false),
            time: AtomicI64::new(UNKNOWN),
            metrics,
        })
    }

    /// Turns readiness off for good, so that no new requests are sent here; those that come are still answered.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the process is about to stop.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Answers `question`, and records the answer before it is given.
    ///
    /// # Errors
    ///
    /// `invalid-request` for a question that cannot be asked; `not-ready`, `stale-policy` or `revision-not-reached` when
    /// this replica may not decide; `log-unavailable` when the record was refused. None of them is a decision.
    pub async fn decide(
        self: &Arc<Self>,
        caller: &Caller,
        question: Question,
    ) -> Result<Answer, Problem> {
        let mut answers = self
            .decide_items(caller, vec![Ok(question)], Semantic::ExecuteAll, None)
            .await?;
        answers.pop().unwrap_or_else(|| Err(Kind::INTERNAL.into()))
    }

    /// Answers as [`App::decide`] does what its caller calls `name`: where it used an approval before, with the same decision.
    ///
    /// # Errors
    ///
    /// As [`App::decide`]; `idempotency-key-reused` where another question had the name.
    pub(crate) async fn decide_named(
        self: &Arc<Self>,
        caller: &Caller,
        question: Question,
        name: Option<&str>,
    ) -> Result<Answer, Problem> {
        let name = name.map(|name| using::name_of(caller, name));
        let items = vec![Ok(question)];
        let mut answers = self
            .decide_items(caller, items, Semantic::ExecuteAll, name)
            .await?;
        answers.pop().unwrap_or_else(|| Err(Kind::INTERNAL.into()))
    }

    /// Answers a batch from one snapshot, and records all answers with one append.
    ///
    /// An item that is a problem already stays one and counts as a deny; the result stops at and includes the item that
    /// `semantic` stops at.
    pub(crate) async fn decide_all(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<Result<Question, Problem>>,
        semantic: Semantic,
    ) -> Result<Vec<Result<Answer, Problem>>, Problem> {
        self.decide_items(caller, items, semantic, None).await
    }

    async fn decide_items(
        self: &Arc<Self>,
        caller: &Caller,
        items: Vec<Result<Question, Problem>>,
        semantic: Semantic,
        name: Option<String>,
    ) -> Result<Vec<Result<Answer, Problem>>, Problem> {
        let snapshot = self.snapshot(caller).await?;
        let app = Arc::clone(self);
        let caller = caller.clone();
        // A client that goes away takes the handler with it, but not the count of what was recorded.
        let settled = async move {
            let name = name.as_deref();
            // Boxed: it is large.
            Box::pin(app.settle(snapshot, &caller, items, (semantic, name))).await
        };
        Finishing::new(settled).await
    }

    /// Decides every item up to where `semantic` stops. What takes something is recorded with it, item by item; the others
    /// are recorded all at once.
    async fn settle(
        &self,
        mut snapshot: Arc<Snapshot>,
        caller: &Caller,
        items: Vec<Result<Question, Problem>>,
        (semantic, name): (Semantic, Option<&str>),
    ) -> Result<Vec<Result<Answer, Problem>>, Problem> {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut moved = None;
        for item in items {
            let began = Instant::now();
            if moved.is_some() {
                // An item before this one has brought labels.
                snapshot = self.snapshot_at(caller, moved.take()).await?;
            }
            let checked = item.and_then(|question| {
                question.check()?;
                Ok(question)
            });
            let outcome = match checked {
                // What fails is this item: one before it may have taken something, and is to be answered.
                Ok(question) => {
                    let named = (began, name);
                    self.make(&mut snapshot, caller, question, named).await
                }
                Err(problem) => Err(problem),
            };
            let verdict = match &outcome {
                Ok(made) => made.record.decision.verdict,
                Err(_) => Verdict::Deny,
            };
            moved = outcome.as_ref().ok().and_then(|made| made.moved);
            outcomes.push(outcome);
            if semantic.stops_at(verdict) {
                break;
            }
        }
        self.finish(caller, outcomes).await
    }

    /// Makes one decision and takes what it consumes; one that used an approval under this name is given again.
    async fn make(
        &self,
        snapshot: &mut Arc<Snapshot>,
        caller: &Caller,
        question: Question,
        (began, name): (Instant, Option<&str>),
    ) -> Result<Made, Problem> {
        let mut record = self.evaluate(snapshot, caller, question);
        let mut pending = false;
        if using::wants_one(&record) {
            // Boxed: it is seldom, and large.
            match Box::pin(self.look_up(snapshot, caller, record, name)).await? {
                Looked::Before(made) => return Ok(made),
                Looked::Made(looked, waits) => (record, pending) = (looked, waits),
            }
        }
        let made = self.take(snapshot, caller, record, (began, name)).await?;
        Ok(Made { pending, ..made })
    }

    /// Records what is not recorded yet, and makes answers of what is.
    async fn finish(
        &self,
        caller: &Caller,
        outcomes: Vec<Result<Made, Problem>>,
    ) -> Result<Vec<Result<Answer, Problem>>, Problem> {
        let waiting = outcomes.iter().flatten();
        let (records, started): (Vec<_>, Vec<_>) = waiting
            .filter(|made| made.receipt.is_none())
            .map(|made| (made.record.clone(), made.began))
            .unzip();
        let mut receipts = self.record(&records, &started).await?.into_iter();
        let shadow = self.shadows.of(caller.tenant);
        let missing = || {
            let cause = "the log gave fewer receipts than it took records";
            Problem::caused(Kind::INTERNAL, cause)
        };
        let mut answer = |made: Made| {
            let still = self.holds_still(caller, &made);
            let receipt = made.receipt.or_else(|| receipts.next());
            let receipt = receipt.ok_or_else(missing)?;
            if let Err(problem) = still {
                return Ok(Err(problem));
            }
            let telling = Telling::of(&made.record, made.pending);
            let decision = match &shadow {
                Some(shadow) => shadow.follow(&made.snapshot, made.record),
                None => made.record.decision,
            };
            Ok(Ok(Answer {
                decision,
                telling,
                receipt,
            }))
        };
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Ok(made) => answer(made),
                Err(problem) => Ok(Err(problem)),
            })
            .collect()
    }

    /// Makes one decision and its record.
    fn evaluate(&self, snapshot: &Snapshot, caller: &Caller, question: Question) -> DecisionRecord {
        let span = tracing::info_span!(
            "decide",
            authz.decision_id = tracing::field::Empty,
            authz.decision = tracing::field::Empty,
            authz.reason = tracing::field::Empty,
            authz.revision = tracing::field::Empty,
        );
        let _entered = span.enter();
        let facts = facts::gather(
            snapshot,
            self.facts(caller),
            &caller.principal.name,
            &question,
        );
        self.activity.note(caller.tenant, &facts);
        let began = Instant::now();
        let decision = snapshot.decide(&question, &facts);
        let took = began.elapsed();
        self.metrics.stage(Stage::Evaluate, took);
        let id = DecisionId::from_uuid(self.clock.id());
        if !span.is_disabled() {
            span.record("authz.decision_id", display(id));
            let verdict = match decision.verdict {
                Verdict::Permit => "permit",
                Verdict::Deny => "deny",
            };
            span.record("authz.decision", verdict);
            span.record("authz.reason", decision.reason.code());
            span.record("authz.revision", decision.revision.number());
        }
        DecisionRecord {
            id,
            tenant: caller.tenant,
            at: self.clock.now(),
            caller: caller.recorded(),
            question,
            facts,
            decision,
            duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Hands records to the log and waits for their receipts.
    async fn record(
        &self,
        records: &[DecisionRecord],
        started: &[Instant],
    ) -> Result<Vec<Receipt>, Problem> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let outcome = self.log.append(records).await;
        self.metrics.stage(Stage::Audit, began.elapsed());
        self.metrics.recorded(records.len(), outcome.is_ok());
        let receipts = outcome.map_err(|error| match error {
            remit_log::Error::TooLarge { .. } | remit_log::Error::TooMany { .. } => Problem::new(
                Kind::TOO_LARGE,
                "the questions are larger than the decision log records at once",
            ),
            error => Problem::caused(Kind::LOG_UNAVAILABLE, error),
        })?;
        for (record, began) in records.iter().zip(started) {
            self.metrics.decided(record, began.elapsed());
        }
        Ok(receipts)
    }

    /// Returns the time by which things expire: the database's, carried on in boot time.
    ///
    /// Nobody brings back what has expired by setting this host's clock.
    pub(crate) fn now(&self) -> Timestamp {
        match self.time.load(Ordering::Relaxed) {
            UNKNOWN => self.clock.now(),
            _ if !holds(Protection::ExpiryTime) => self.clock.now(),
            offset => Timestamp::from_micros(micros(self.clock.boot()).saturating_add(offset)),
        }
    }

    /// Takes over the time that the database had before `boot`.
    pub(crate) fn set_time(&self, database: Timestamp, boot: Duration) {
        let new = database.micros().saturating_sub(micros(boot));
        // The nearest estimate is the latest one, since an answer only ever comes late. Giving up a little of the old
        // one each time follows a clock that is slower than ours, and yet never goes back.
        let _ = self
            .time
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                Some(old.saturating_sub(SLEW).max(new))
            });
    }

    /// Returns what Remit knows whatever is asked; what it knows of a question is added by [`facts::gather`].
    pub(crate) fn facts(&self, caller: &Caller) -> Facts {
        Facts::plain(caller.key, &*caller.environment, self.now())
    }

    /// Returns the snapshot that may decide for `caller` now.
    ///
    /// # Errors
    ///
    /// `not-ready`, `stale-policy`, `revision-not-reached`.
    pub(crate) async fn snapshot(&self, caller: &Caller) -> Result<Arc<Snapshot>, Problem> {
        self.snapshot_at(caller, None).await
    }

    /// Returns the snapshot that may decide for `caller` now, at `at_least` or later.
    pub(crate) async fn snapshot_at(
        &self,
        caller: &Caller,
        at_least: Option<Revision>,
    ) -> Result<Arc<Snapshot>, Problem> {
        let began = Instant::now();
        if let Some(wanted) = caller.at_least.max(at_least) {
            self.wait_for(caller.tenant, wanted, self.options.revision_wait)
                .await?;
        }
        let snapshot = self.engine.snapshot(caller.tenant).ok_or(Kind::NOT_READY)?;
        self.confirmed(caller.tenant)?;
        self.metrics.stage(Stage::Load, began.elapsed());
        Ok(snapshot)
    }

    /// Checks that this replica has heard lately enough that what it knows of a tenant is the newest.
    ///
    /// # Errors
    ///
    /// `not-ready`, `stale-policy`.
    pub(crate) fn confirmed(&self, tenant: TenantId) -> Result<(), Problem> {
        let standing = self.progress.standing(tenant).ok_or(Kind::NOT_READY)?;
        let age = standing.age(self.clock.boot()).ok_or(Kind::NOT_READY)?;
        if let Some(revision) = standing.set_back() {
            let detail = format!("the database was set back to revision {revision}");
            return Err(Problem::new(Kind::STALE_POLICY, detail));
        }
        if age > self.options.max_staleness && holds(Protection::Staleness) {
            let detail = format!("unconfirmed for {} ms", age.as_millis());
            return Err(Problem::new(Kind::STALE_POLICY, detail));
        }
        Ok(())
    }

    /// Makes a recorded decision again; what comes out is recorded nowhere and answers nobody.
    pub(crate) fn again(snapshot: &Snapshot, record: &DecisionRecord) -> Decision {
        snapshot.decide(&record.question, &record.facts)
    }

    /// Decides who may administer, by the policies of the administration; the record is that of the change.
    pub(crate) fn judge(snapshot: &Snapshot, question: &Question, facts: &Facts) -> Decision {
        snapshot.decide(question, facts)
    }

    /// Waits, after a commit, until the change is in force on this replica.
    ///
    /// # Errors
    ///
    /// `revision-not-reached` after ten seconds at most; the change is committed all the same.
    pub(crate) async fn reached(
        &self,
        tenant: TenantId,
        revision: Revision,
    ) -> Result<(), Problem> {
        self.wait_for(tenant, revision, self.commit_wait()).await
    }

    /// Returns how long a request may wait for what is committed to come into force, which leaves it time to answer.
    pub(crate) fn commit_wait(&self) -> Duration {
        COMMIT_WAIT.min(self.options.deadline * 2 / 3)
    }

    async fn wait_for(
        &self,
        tenant: TenantId,
        revision: Revision,
        wait: Duration,
    ) -> Result<(), Problem> {
        let standing = self.progress.standing(tenant);
        if let Some(revision) = standing.as_ref().and_then(|standing| standing.set_back()) {
            let detail = format!("the database was set back to revision {revision}");
            return Err(Problem::new(Kind::STALE_POLICY, detail));
        }
        if standing.and_then(|standing| standing.applied()) >= Some(revision) {
            return Ok(());
        }
        self.progress.nudge();
        if self.progress.wait(tenant, revision, wait).await {
            return Ok(());
        }
        let detail = format!(
            "revision {revision} was not reached within {} ms",
            wait.as_millis()
        );
        Err(Problem::new(Kind::REVISION_NOT_REACHED, detail))
    }

    /// Runs work that may take long on a thread where nobody waits for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

// === impl Semantic ===

impl Semantic {
    fn stops_at(self, verdict: Verdict) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => verdict == Verdict::Deny,
            Self::PermitOnFirstPermit => verdict == Verdict::Permit,
        }
    }
}
