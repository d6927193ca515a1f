//! The settings of the API.

use std::time::Duration;

use remit_core::Question;
use remit_store::PendingLimits;
use serde_json::Value;

use crate::trace::Adopt;

/// The settings of the API.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base URL that clients use, without a trailing slash, such as `https://pdp.example.com`.
    pub public_url: String,
    /// How old the last confirmation that the policies are the newest may be; past it nothing is decided.
    pub max_staleness: Duration,
    /// How often the database is asked for news.
    pub poll: Duration,
    /// How long a request may wait for a revision that this replica has not reached.
    pub revision_wait: Duration,
    /// How long what a permit reserves of a budget waits for an outcome, before it counts as spent.
    pub reserved: Duration,
    /// From how many permits a second a task has a part of its budgets in escrow on a replica; 0 for never.
    pub escrow_from: u32,
    /// After which time a permit in a task without an outcome is listed as an orphan.
    pub orphan_after: Duration,
    /// How long an exception may be in force at most.
    pub longest_exception: Duration,
    /// How old a permit may be whose lease is renewed.
    pub longest_lease: Duration,
    /// How long one request may take, its body included.
    pub deadline: Duration,
    /// The largest body, in bytes; bundles and bulk imports have a limit of their own.
    pub body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_deadline: Duration,
    /// How many requests may be in flight; more are refused.
    pub concurrency: usize,
    /// For how long nothing may be asked in a task before it ends, where its template does not say.
    pub task_idle_timeout: Duration,
    /// How many tasks of a tenant may live: all of them are in the memory of every replica.
    pub most_tasks: usize,
    /// What people call this replica, such as its host and port; other replicas show it.
    pub replica: String,
    /// The commit this was built from, for `remit_build_info`.
    pub commit: String,
    /// What people are asked to approve.
    pub approvals: Approvals,
    /// Which drafts of standards are spoken.
    pub drafts: Drafts,
    /// To whom what happens is told.
    pub webhooks: Hooks,
    /// Joins the span of a request to its trace, where traces are exported.
    pub adopt: Option<Adopt>,
}

/// What people are asked to approve, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approvals {
    /// How long after a denial an approval of it can be asked for.
    pub denial_ttl: Duration,
    /// How long a request waits for an answer.
    pub request_ttl: Duration,
    /// How long an approval can be used, where whoever approves does not say.
    pub approval_ttl: Duration,
    /// How long a request that ended can be asked about.
    pub retention: Duration,
    /// How many requests may be pending.
    pub pending: PendingLimits,
    /// After how many refusals in one task, with all below it, it is suspended; 0 for never.
    pub refusals: u64,
}

/// Which drafts of standards are spoken: each can be turned off alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drafts {
    /// The `AuthZEN` Access Request and Approval Profile, Draft 1.
    pub access_requests: bool,
    /// The `AuthZEN` Obligations Profile, Draft 1.
    pub obligations: bool,
}

/// To whom what happens is told, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Hosts with their ports, such as `chat.internal:8443`, to which may be sent whatever their addresses are, also
    /// without TLS.
    pub allow: Vec<String>,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// After which time what was not delivered is sent again first; each further time is four times as long.
    pub retry: Duration,
    /// After which time what was not delivered is given up.
    pub patience: Duration,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            public_url: "http://127.0.0.1:7364".to_owned(),
            max_staleness: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            revision_wait: Duration::from_millis(500),
            reserved: Duration::from_mins(15),
            orphan_after: Duration::from_mins(5),
            escrow_from: 100,
            longest_exception: Duration::from_hours(90 * 24),
            longest_lease: Duration::from_hours(24),
            deadline: Duration::from_secs(15),
            body_bytes: 1 << 20,
            body_deadline: Duration::from_secs(10),
            concurrency: 1_024,
            task_idle_timeout: Duration::from_mins(15),
            most_tasks: 250_000,
            replica: "remit".to_owned(),
            commit: "unknown".to_owned(),
            approvals: Approvals::default(),
            drafts: Drafts::default(),
            webhooks: Hooks::default(),
            adopt: None,
        }
    }
}

// === impl Hooks ===

impl Default for Hooks {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            timeout: Duration::from_secs(10),
            retry: Duration::from_secs(5),
            patience: Duration::from_hours(24),
        }
    }
}

// === impl Approvals ===

impl Default for Approvals {
    fn default() -> Self {
        Self {
            denial_ttl: Duration::from_mins(10),
            request_ttl: Duration::from_hours(1),
            approval_ttl: Duration::from_mins(15),
            retention: Duration::from_hours(24),
            pending: PendingLimits {
                asked: 60,
                agent: 100,
                task: 20,
                tenant: 100_000,
            },
            refusals: 3,
        }
    }
}

// === impl Drafts ===

impl Drafts {
    /// Says in a question that the enforcement point can do no obligation, where it cannot be told of any: a permit that
    /// obliges to something is then a denial.
    pub(crate) fn heed(self, mut question: Question) -> Question {
        if !self.obligations {
            let none = Value::Array(Vec::new());
            question
                .context
                .insert(Question::OBLIGATIONS.to_owned(), none);
        }
        question
    }
}

impl Default for Drafts {
    fn default() -> Self {
        Self {
            access_requests: true,
            obligations: true,
        }
    }
}
