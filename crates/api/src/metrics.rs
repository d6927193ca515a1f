//! The metrics of the service: base units, closed label sets, no names of agents, tools, tenants or policies.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::HeaderValue;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use remit_core::{DecisionRecord, Effect, Reason, Verdict};

use crate::App;
use crate::impact::Outcome;

/// Buckets for an engine that answers in microseconds and a disk that answers in milliseconds, in seconds.
const BUCKETS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
    5.0,
];
/// A permit slower than this leaves an exemplar, as every deny does.
const SLOW: Duration = Duration::from_millis(10);

/// A text from a closed set, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Word(pub(crate) &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),* })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $kind),* }
    )*};
}

labels! {
    DecisionLabels { decision: Word, reason: Word, mode: Word }
    VerdictLabels { decision: Word }
    StageLabels { stage: Word }
    ResultLabels { result: Word }
    SearchLabels { search: Word }
    HttpLabels { method: Word, route: Word, status: u16 }
    OutcomeLabels { outcome: Word }
    KindLabels { kind: Word }
    PolicySetLabels { version: u64, hash: String }
    BuildLabels { version: Word, revision: String, cedar_version: String }
    WhyLabels { why: Word }
    ExemplarLabels { trace_id: String, decision_id: String }
}

/// A step of a decision that is timed on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Finding out who asks.
    Authenticate,
    /// Getting a snapshot that is fresh enough, waiting included.
    Load,
    /// Shaping the question and evaluating it.
    Evaluate,
    /// Recording: until the log has it on disk.
    Audit,
}

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// Subjects.
    Subject,
    /// Resources.
    Resource,
    /// Actions.
    Action,
}

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Prometheus,
}

type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;
type Exemplified<L> = Family<
    L,
    HistogramWithExemplars<ExemplarLabels>,
    fn() -> HistogramWithExemplars<ExemplarLabels>,
>;

/// Every metric of one process.
pub(crate) struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    decision_seconds: Exemplified<VerdictLabels>,
    stage_seconds: Seconds<StageLabels>,
    /// Those of `stage_seconds`, in the order of [`Stage`]: every decision is timed four times.
    stages: [Histogram; 4],
    evaluation_errors: Counter,
    search_seconds: Seconds<SearchLabels>,
    http_seconds: Seconds<HttpLabels>,
    policy_loads: Family<ResultLabels, Counter>,
    policy_set: Family<PolicySetLabels, Gauge>,
    policy_loaded: Gauge<f64, AtomicU64>,
    policy_stale: Gauge,
    policy_set_back: Gauge,
    break_glass_active: Gauge,
    streams: Gauge,
    kills: Family<KindLabels, Gauge>,
    agents: Gauge,
    tools: Gauge,
    shadow_decisions: Family<OutcomeLabels, Counter>,
    shadow_dropped: Counter,
    admin_suppressed: Counter,
    outcomes_refused: Family<WhyLabels, Counter>,
    audit_records: Family<ResultLabels, Counter>,
    audit_queue: Gauge,
    audit_unshipped: Gauge,
    audit_unshipped_bytes: Gauge,
    audit_unshipped_seconds: Gauge<f64, AtomicU64>,
    audit_failing: Gauge,
}

/// What shadows count with: clones count together.
#[derive(Debug, Clone)]
pub(crate) struct ShadowCounters {
    pub(crate) same: Counter,
    pub(crate) failed: Counter,
    pub(crate) dropped: Counter,
    /// In the order of [`Outcome`].
    outcomes: [Counter; 5],
}

fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

fn exemplified() -> HistogramWithExemplars<ExemplarLabels> {
    HistogramWithExemplars::new(BUCKETS.into_iter())
}

// === impl Metrics ===

impl Metrics {
    /// Makes the metrics; `commit` is what this was built from.
    pub(crate) fn new(commit: &str) -> Self {
        let stage_seconds: Seconds<StageLabels> = Family::new_with_constructor(seconds);
        let mut metrics = Self {
            registry: Registry::default(),
            decisions: Family::default(),
            decision_seconds: Family::new_with_constructor(exemplified),
            stages: Stage::ALL.map(|stage| {
                let stage = Word(stage.name());
                stage_seconds.get_or_create_owned(&StageLabels { stage })
            }),
            stage_seconds,
            evaluation_errors: Counter::default(),
            search_seconds: Family::new_with_constructor(seconds),
            http_seconds: Family::new_with_constructor(seconds),
            policy_loads: Family::default(),
            policy_set: Family::default(),
            policy_loaded: Gauge::default(),
            policy_stale: Gauge::default(),
            policy_set_back: Gauge::default(),
            break_glass_active: Gauge::default(),
            streams: Gauge::default(),
            kills: Family::default(),
            agents: Gauge::default(),
            tools: Gauge::default(),
            shadow_decisions: Family::default(),
            shadow_dropped: Counter::default(),
            admin_suppressed: Counter::default(),
            outcomes_refused: Family::default(),
            audit_records: Family::default(),
            audit_queue: Gauge::default(),
            audit_unshipped: Gauge::default(),
            audit_unshipped_bytes: Gauge::default(),
            audit_unshipped_seconds: Gauge::default(),
            audit_failing: Gauge::default(),
        };
        metrics.register(commit);
        metrics
    }

    fn register(&mut self, commit: &str) {
        let mut registry = Registry::default();
        let build = Family::<BuildLabels, Gauge>::default();
        build
            .get_or_create(&BuildLabels {
                version: Word(env!("CARGO_PKG_VERSION")),
                revision: commit.to_owned(),
                cedar_version: remit_engine::cedar_version(),
            })
            .set(1);
        macro_rules! register {
            ($($name:literal, $help:literal, $metric:expr;)*) => {
                $(registry.register($name, $help, $metric.clone());)*
            };
        }
        register! {
            "remit_decisions", "Decisions given, by reason; shadow ones were recorded and not enforced", self.decisions;
            "remit_decision_duration_seconds", "Time from question to recorded answer", self.decision_seconds;
            "remit_decision_stage_duration_seconds", "Time of one step of a decision", self.stage_seconds;
            "remit_policy_evaluation_errors", "Policies that could not be evaluated", self.evaluation_errors;
            "remit_search_duration_seconds", "Time of one search", self.search_seconds;
            "http_server_request_duration_seconds", "Time from the head of a request to the head of its answer", self.http_seconds;
            "remit_policy_set_loads", "Attempts to load a newer state of a tenant", self.policy_loads;
            "remit_policy_set_info", "The policies in force", self.policy_set;
            "remit_policy_set_last_success_timestamp_seconds", "When the policies were last confirmed to be the newest", self.policy_loaded;
            "remit_break_glass_active", "Break-glass grants that this process has seen and that are active", self.break_glass_active;
            "remit_streams", "Streams of events that are read now", self.streams;
            "remit_kills", "Kills in force, by what they stop; one of everything counts in every tenant", self.kills;
            "remit_agents", "Agents in the registries of all tenants, retired ones included", self.agents;
            "remit_tools", "Tools in the catalogues of all tenants", self.tools;
            "remit_policy_stale", "Tenants whose policies are older than allowed, which are refused", self.policy_stale;
            "remit_policy_set_back", "Tenants refused because the database was restored from an older copy", self.policy_set_back;
            "remit_shadow_decisions", "Decisions made again by a shadow, by how they differ", self.shadow_decisions;
            "remit_shadow_dropped", "Decisions that a shadow let go because too many were waiting", self.shadow_dropped;
            "remit_admin_denials_suppressed", "Denied changes that have no record of their own, because their key had too many", self.admin_suppressed;
            "remit_outcomes_refused", "Outcomes that were refused: of no decision, of a deny, or not what the decision takes", self.outcomes_refused;
            "remit_audit_records", "Records handed to the decision log", self.audit_records;
            "remit_audit_queue_depth", "Records waiting for the disk", self.audit_queue;
            "remit_audit_unshipped_records", "Records on disk and not yet in the database", self.audit_unshipped;
            "remit_audit_unshipped_bytes", "Bytes on disk and not yet in the database", self.audit_unshipped_bytes;
            "remit_audit_oldest_unshipped_seconds", "Age of the oldest record that is not yet in the database", self.audit_unshipped_seconds;
            "remit_audit_failing", "Whether the decision log refuses records", self.audit_failing;
            "remit_build_info", "What is running", build;
        }
        self.registry = registry;
    }

    /// Counts one recorded decision, and leaves an exemplar where somebody will want to look.
    pub(crate) fn decided(&self, record: &DecisionRecord, took: Duration) {
        let made = &record.decision;
        let decision = verdict(made.verdict, made.reason);
        self.count(decision, made.reason, "enforce");
        for shadow in &made.shadow {
            let (decision, reason) = match (&shadow.error, shadow.effect) {
                (Some(_), _) => ("error", Reason::PolicyError),
                (None, Effect::Permit) => ("allow", Reason::PolicyPermit),
                (None, Effect::Forbid) => ("deny", Reason::PolicyForbid),
            };
            self.count(Word(decision), reason, "shadow");
        }
        self.evaluation_errors
            .inc_by(u64::try_from(made.errors.len()).unwrap_or(0));
        let exemplar = (made.verdict == Verdict::Deny || took >= SLOW).then(|| ExemplarLabels {
            trace_id: record.caller.trace_id.clone().unwrap_or_default(),
            decision_id: record.id.to_string(),
        });
        self.decision_seconds
            .get_or_create(&VerdictLabels { decision })
            .observe(took.as_secs_f64(), exemplar, None);
    }

    fn count(&self, decision: Word, reason: Reason, mode: &'static str) {
        let labels = DecisionLabels {
            decision,
            reason: Word(reason.code()),
            mode: Word(mode),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// Times one step of a decision.
    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        let [authenticate, load, evaluate, audit] = &self.stages;
        let histogram = match stage {
            Stage::Authenticate => authenticate,
            Stage::Load => load,
            Stage::Evaluate => evaluate,
            Stage::Audit => audit,
        };
        histogram.observe(took.as_secs_f64());
    }

    /// Counts what became of records that were handed to the log.
    pub(crate) fn recorded(&self, records: usize, accepted: bool) {
        let result = Word(if accepted { "success" } else { "failure" });
        self.audit_records
            .get_or_create(&ResultLabels { result })
            .inc_by(u64::try_from(records).unwrap_or(0));
    }

    /// Times one search.
    pub(crate) fn searched(&self, search: Search, took: Duration) {
        self.search_seconds
            .get_or_create(&SearchLabels {
                search: Word(search.name()),
            })
            .observe(took.as_secs_f64());
    }

    /// Times one request; `route` is the template, never the path.
    pub(crate) fn answered(
        &self,
        method: &http::Method,
        route: &'static str,
        status: u16,
        took: Duration,
    ) {
        let labels = HttpLabels {
            method: method_word(method),
            route: Word(route),
            status,
        };
        self.http_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Returns what shadows count with.
    pub(crate) fn shadow(&self) -> ShadowCounters {
        let counter = |outcome: &'static str| {
            let outcome = Word(outcome);
            let labels = OutcomeLabels { outcome };
            self.shadow_decisions.get_or_create_owned(&labels)
        };
        ShadowCounters {
            same: counter("same"),
            failed: counter("failed"),
            dropped: self.shadow_dropped.clone(),
            outcomes: Outcome::ALL.map(|outcome| counter(outcome.name())),
        }
    }

    /// Counts a denied change that has no record of its own.
    pub(crate) fn suppressed(&self) {
        self.admin_suppressed.inc();
    }

    /// Counts an outcome that was refused.
    pub(crate) fn outcome_refused(&self, why: &'static str) {
        let why = Word(why);
        self.outcomes_refused
            .get_or_create(&WhyLabels { why })
            .inc();
    }

    /// Counts one attempt to load a newer state of a tenant.
    pub(crate) fn loaded(&self, success: bool) {
        let result = Word(if success { "success" } else { "failure" });
        self.policy_loads
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// Writes all metrics, with the gauges as they are now.
    pub(crate) fn encode(&self, app: &App, exposition: Exposition) -> String {
        self.observe(app);
        let mut text = String::with_capacity(16 << 10);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Prometheus => without_openmetrics(&text),
        }
    }

    fn observe(&self, app: &App) {
        let status = app.log.status();
        self.audit_queue.set(gauge(status.queued_records));
        self.audit_unshipped.set(gauge(status.unshipped_records));
        self.audit_unshipped_bytes
            .set(gauge(status.unshipped_bytes));
        self.audit_unshipped_seconds
            .set(status.oldest_unshipped.unwrap_or_default().as_secs_f64());
        self.audit_failing.set(i64::from(status.poisoned));
        self.policy_stale.set(gauge(app.stale_tenants()));
        self.policy_set_back.set(gauge(app.tenants_set_back()));
        self.streams.set(gauge(app.streams.count()));
        self.break_glass_active
            .set(gauge(app.glass.active(app.now())));
        if let Some(at) = app.progress.confirmed_at() {
            self.policy_loaded
                .set(Duration::from_micros(u64::try_from(at.micros()).unwrap_or(0)).as_secs_f64());
        }
        self.policy_set.clear();
        self.kills.clear();
        let (mut agents, mut tools) = (0, 0);
        for snapshot in app.snapshots() {
            let live = snapshot.live();
            agents += live.agent_count();
            tools += live.tool_count();
            for kill in live.kills() {
                let kind = Word(kill.target.kind());
                self.kills.get_or_create(&KindLabels { kind }).inc();
            }
            let labels = PolicySetLabels {
                version: snapshot.revision().number(),
                hash: snapshot.content_hash().to_string(),
            };
            self.policy_set.get_or_create(&labels).set(1);
        }
        self.agents.set(gauge(agents));
        self.tools.set(gauge(tools));
    }
}

fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn verdict(verdict: Verdict, reason: Reason) -> Word {
    Word(match (verdict, reason) {
        (Verdict::Permit, _) => "allow",
        (Verdict::Deny, Reason::ApprovalRequired) => "approval_required",
        (Verdict::Deny, Reason::PolicyError | Reason::EngineFault) => "error",
        (Verdict::Deny, _) => "deny",
    })
}

/// Keeps the label set closed: a client may invent methods.
fn method_word(method: &http::Method) -> Word {
    Word(match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    })
}

/// Rewrites OpenMetrics as the Prometheus text format: types by sample name, no units, no exemplars, no end mark.
fn without_openmetrics(text: &str) -> String {
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(keyword @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let suffix = if counters.contains(&name) {
                "_total"
            } else {
                ""
            };
            plain.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
        } else {
            plain.push_str(line.split_once(" # {").map_or(line, |(sample, _)| sample));
            plain.push('\n');
        }
    }
    plain
}

// === impl ShadowCounters ===

impl ShadowCounters {
    /// Returns what counts decisions that differ in this way.
    pub(crate) fn of(&self, outcome: Outcome) -> &Counter {
        let [permitted, denied, approval, errors, reason] = &self.outcomes;
        match outcome {
            Outcome::NewlyPermitted => permitted,
            Outcome::NewlyDenied => denied,
            Outcome::NewlyNeedingApproval => approval,
            Outcome::NewErrors => errors,
            Outcome::OtherReason => reason,
        }
    }
}

// === impl Stage ===

impl Stage {
    const ALL: [Self; 4] = [Self::Authenticate, Self::Load, Self::Evaluate, Self::Audit];

    const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authn",
            Self::Load => "load",
            Self::Evaluate => "evaluate",
            Self::Audit => "audit",
        }
    }
}

// === impl Search ===

impl Search {
    /// Returns its name, as it stands in the path and in labels.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Resource => "resource",
            Self::Action => "action",
        }
    }
}

// === impl Exposition ===

impl Exposition {
    /// Chooses by an `Accept` header: OpenMetrics where it is named, the older format for everybody else.
    pub(crate) fn preferred(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns the `Content-Type`.
    pub(crate) const fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}
