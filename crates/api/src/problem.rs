//! Everything that can go wrong on the wire: one table, three renderings.
//!
//! A handler returns a [`Problem`]; [`layers`](crate::layers) renders it, because only there the route, the `Accept`
//! header and the request id are known together. On `/access/v1/…` the body is a JSON string (AuthZEN 1.0 §10.1.3),
//! inside a batch it is one item, everywhere else, access requests included, it is `application/problem+json` (RFC 9457).

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use remit_core::Revision;
use serde_json::{Map, Value, json};

use crate::auth::CHALLENGE_REFUSED;
use crate::layers::Told;

type Source = Box<dyn Error + Send + Sync>;

/// One row of the table: a kind of problem, the same in every rendering.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The stable code, such as `not-ready`.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// One sentence for a person; the whole body of a 5xx, apart from the request id.
    pub title: &'static str,
    /// When it happens and what to do, for the generated page.
    pub help: &'static str,
}

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident $status:literal $code:literal $title:literal;)*) => {
        impl Kind {
            $($(#[doc = $doc])+
            pub const $name: &'static Kind = &Kind {
                code: $code, status: $status, title: $title, help: concat!($($doc),+),
            };)*

            /// Every row, in the order of the page.
            pub const ALL: &'static [&'static Kind] = &[$(Kind::$name),*];
        }
    };
}

problems! {
    /// The body is not well-formed JSON, or breaks a limit of its form: nesting over 32, over 10,000 values, a member name twice in one object, a lone surrogate, anything after the value.
    MALFORMED_BODY 400 "malformed-body" "the body is not well-formed JSON";
    /// The body is JSON but not what this operation takes; `detail` names the member and what was expected.
    INVALID_REQUEST 400 "invalid-request" "the request is not valid";
    /// The decision that `denial` names is not one that a person's approval would turn into a permit: it is a permit, it was denied for another reason, or by now it would be permitted or denied whoever approves. `detail` says which.
    NOT_REQUESTABLE 400 "not-requestable" "this denial is not one to ask an approval for";
    /// What is asked is not what was denied: the decision is not known here, was asked by another principal or from another environment, or the subject, resource, action or a relevant member of the context differs. `detail` says which. Whole numbers beyond 2^53 cannot be bound; send them as text.
    INVALID_DENIAL_BINDING 400 "invalid-denial-binding" "this is not what was denied";
    /// The request has no usable API key. Send `Authorization: Bearer <key>`; `remit key create` makes one.
    UNAUTHENTICATED 401 "unauthenticated" "a valid API key is required";
    /// The API key is valid, but none of its scopes allows this operation; `detail` names the one that would.
    MISSING_SCOPE 403 "missing-scope" "the API key does not have the scope for this";
    /// Neither a role of the caller nor a policy of the administration allows this, or one forbids it: `action`, the `roles` each of which would be enough, and the `policies` that settled it. A change that was denied is recorded.
    NOT_PERMITTED 403 "not-permitted" "you may not do this";
    /// The tenant that the API key belongs to is suspended: none of its keys is answered until who runs Remit resumes it. Nothing is lost meanwhile.
    TENANT_SUSPENDED 403 "tenant-suspended" "the tenant of this API key is suspended";
    /// The change may permit what is denied now, and the tenant demands that another person has agreed to exactly this. Put it into a draft, let somebody with the role `approver` who has no hand in it approve it (`POST /v1/drafts/{id}/review`), and publish the draft. An edit after the approval takes the approval away.
    REVIEW_REQUIRED 403 "review-required" "another person must approve this first";
    /// The tenant's own policies do not permit that the task is opened: `decision` is the id of the decision, `reason` why, `policies` those that settled it. Whoever writes the policies can permit `open_task`.
    TASK_DENIED 403 "task-denied" "the policies do not permit this task";
    /// There is nothing of that name here, or it is not yours. Paths are matched exactly: no dot segments, no doubled or trailing slashes.
    NOT_FOUND 404 "not-found" "there is nothing here";
    /// There is no access request of this id, or it is not yours.
    UNKNOWN_TASK 404 "unknown-task" "there is no such access request";
    /// The path exists, but not with this method; `Allow` lists those it takes.
    METHOD_NOT_ALLOWED 405 "method-not-allowed" "this path does not take that method";
    /// The body did not arrive in time.
    BODY_TOO_SLOW 408 "body-too-slow" "the body did not arrive in time";
    /// The change does not go together with what is there: an entity of the bundle is written by itself, a policy is put into another file than the one it stands in, a recorded bundle does not fit today's entities, a tenant has that name or is not in the state for this, or too many others change the tenant at once; `detail` says which.
    CONFLICT 409 "conflict" "this does not go together with what is there";
    /// A kill that is in force names what this would change, and the change would get it out of the kill; `detail` says what is killed. Lift the kill first, which takes two persons.
    KILLED 409 "killed" "this is killed";
    /// There is no lease to renew: the decision has none, renews another, was denied when it was renewed, or is older than leases last; `detail` says which. Ask the question again.
    LEASE_OVER 409 "lease-over" "there is no lease to renew";
    /// The decision takes no such outcome: it is a deny, another outcome of it was reported before, `sinks` are reported of a tool that outsiders can write into, or an agent's own key tells more than that its call succeeded; `why` says which. Nothing was changed.
    OUTCOME_REFUSED 409 "outcome-refused" "this decision takes no such outcome";
    /// The `Idempotency-Key` was sent with another access request before; take a new one for each.
    DUPLICATE_REQUEST 409 "duplicate-request" "this Idempotency-Key belongs to another access request";
    /// The access request has ended, so that it cannot be cancelled.
    INVALID_TASK_STATE 409 "invalid-task-state" "the access request has ended";
    /// The denial is too old to ask an approval for; ask the question again, and use the new denial.
    EXPIRED_DENIAL 410 "expired-denial" "the denial is too old";
    /// The access request ended so long ago that nothing is told of it any more.
    TASK_EXPIRED 410 "task-expired" "the access request is over";
    /// `If-Match` names a revision that is no longer the newest: read it again, apply the change to what you read, send it again.
    STALE_REVISION 412 "stale-revision" "somebody changed this first";
    /// `seen` is not the hash of the card of the access request: read it again (`GET /v1/approvals/{id}`), and answer what it shows now. Nothing was answered.
    CARD_DIFFERS 412 "card-differs" "what is asked is not what you were shown";
    /// The body is larger than this operation takes.
    TOO_LARGE 413 "too-large" "the body is too large";
    /// The bundle does not compile; `diagnostics` says where and why, and nothing was changed.
    POLICY_INVALID 422 "policy-invalid" "the bundle does not compile";
    /// Cases of the bundle do not come out as their authors expect; `cases` says which and how, and nothing was changed.
    CASES_FAILED 422 "cases-failed" "cases of the bundle fail";
    /// An entity does not fit the schema; nothing was changed.
    ENTITY_INVALID 422 "entity-invalid" "an entity does not fit the schema";
    /// The `Idempotency-Key` was sent with another request within the last 24 hours; take a new one for each change.
    IDEMPOTENCY_KEY_REUSED 422 "idempotency-key-reused" "this Idempotency-Key belongs to another request";
    /// The task would be wider than the one that it is a part of, the template that it is made from, or the task that it narrows (`exceeds`): `dimension` says in what, `declared` what was asked for, and `limit` what it may be.
    TASK_EXCEEDS_PARENT 422 "task-exceeds-parent" "the task would be wider than it may be";
    /// After the change nobody could publish policies any more and nobody could manage principals; `nobody_may` names both. Make sure first that somebody can.
    LOCK_OUT 422 "lock-out" "this would lock everybody out";
    /// This change needs `If-Match` with the `ETag` that was read, or `If-None-Match: *` for the first one.
    PRECONDITION_REQUIRED 428 "precondition-required" "say which revision this replaces";
    /// So much of this waits or was done lately that no more is taken for a while: access requests of an agent, in a task or for a group of approvers, or the answers of one approver within an hour; `detail` says which. Try again after `Retry-After`.
    TOO_MANY_REQUESTS 429 "too-many-requests" "there is too much of this for now";
    /// A fault in Remit. The request id finds it in the log.
    INTERNAL 500 "internal" "something went wrong in Remit";
    /// No bundle is loaded for this tenant: push one with `remit bundle push`, or wait for the replica to load it.
    NOT_READY 503 "not-ready" "no policies are loaded yet";
    /// This replica has not been able to confirm for too long that its policies are the newest, so it does not decide; or a permit took so long to answer that it would be denied by now.
    STALE_POLICY 503 "stale-policy" "the policies here may be out of date, so nothing is decided";
    /// The request asks for a revision that this replica has not reached; try again after `Retry-After`.
    REVISION_NOT_REACHED 503 "revision-not-reached" "this replica has not reached that revision yet";
    /// The permit brings labels onto a task, and not every live replica decides by them yet: the answer is not given. What was recorded stays, and so do the labels; ask again.
    LABELS_NOT_REACHED 503 "labels-not-reached" "not every replica knows yet what the task has touched";
    /// The decision log refused the record (full, busy or failing), and an answer without a record is not given.
    LOG_UNAVAILABLE 503 "log-unavailable" "the decision could not be recorded, so it is not given";
    /// The database does not answer.
    STORE_UNAVAILABLE 503 "store-unavailable" "the database is not available";
    /// More requests are in flight than this replica takes; try again after `Retry-After`.
    OVERLOADED 503 "overloaded" "too many requests at once";
    /// The request took longer than its deadline. What was decided meanwhile is in the decision log.
    DEADLINE 503 "deadline" "the request took too long";
    /// `?wait=fleet` was over before every live replica decided with the change. It is committed, as `revision`, and in force on the replica that answers; `missing` names those without it. Ask `GET /v1/revisions/{n}` again instead of sending the change again.
    FLEET_NOT_REACHED 504 "fleet-not-reached" "committed, but not in force on every replica yet";
}

/// The kinds that the Access Request and Approval Profile (Draft 1) names, by its names.
const OF_THE_PROFILE: [&str; 7] = [
    "not-requestable",
    "expired-denial",
    "invalid-denial-binding",
    "duplicate-request",
    "unknown-task",
    "task-expired",
    "invalid-task-state",
];

// === impl Kind ===

impl Kind {
    /// Returns the `type` of the problem: a name of the profile's, or one of our own.
    pub fn urn(&self) -> String {
        if OF_THE_PROFILE.contains(&self.code) {
            let name = self.code.replace('-', "_");
            return format!("urn:openid:authzen:access-request:error:{name}");
        }
        format!("urn:remit:problem:{}", self.code)
    }
}

/// One thing that went wrong, with what the client may know and what only the log may.
pub struct Problem(Box<Inner>);

struct Inner {
    kind: &'static Kind,
    detail: Option<String>,
    members: Map<String, Value>,
    retry_after: Option<u32>,
    /// The revision that the answer tells of in its header.
    revision: Option<Revision>,
    challenge: Option<&'static str>,
    source: Option<Source>,
}

/// A problem on its way out, as a response extension.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub(crate) Arc<Problem>);

// === impl Problem ===

impl From<&'static Kind> for Problem {
    fn from(kind: &'static Kind) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: None,
            members: Map::new(),
            // A client that is told nothing retries at once; every 503 here clears within seconds or not at all.
            retry_after: match kind.status {
                503 => Some(1),
                429 => Some(60),
                _ => None,
            },
            revision: None,
            challenge: None,
            source: None,
        }))
    }
}

impl Problem {
    /// Makes a problem with a detail for the client; on a 5xx the detail goes to the log only.
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        let mut problem = Self::from(kind);
        problem.0.detail = Some(detail.into());
        problem
    }

    /// Makes a problem out of a failure; the failure itself goes to the log, never to the client.
    pub fn caused(kind: &'static Kind, source: impl Into<Source>) -> Self {
        let mut problem = Self::from(kind);
        problem.0.source = Some(source.into());
        problem
    }

    /// Adds a member to the `application/problem+json` body, such as `diagnostics`.
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.0.members.insert(member.to_owned(), value);
        self
    }

    /// Says after how many seconds it can be tried again.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Tells of a revision in the header of the answer.
    pub(crate) fn at(mut self, revision: Revision) -> Self {
        self.0.revision = Some(revision);
        self
    }

    /// Sets the `WWW-Authenticate` challenge (RFC 6750 §3).
    pub(crate) fn challenge(mut self, challenge: &'static str) -> Self {
        self.0.challenge = Some(challenge);
        self
    }

    /// Returns the row of the table.
    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns what the client may read: the detail, or the title alone where there is none or the fault is ours.
    pub fn message(&self) -> &str {
        match &self.0.detail {
            Some(detail) if self.0.kind.status < 500 => detail,
            _ => self.0.kind.title,
        }
    }

    /// Writes the detail and the whole chain of causes, for the log line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.0.kind.code.to_owned();
        if let Some(detail) = &self.0.detail {
            text.push_str(": ");
            text.push_str(detail);
        }
        let mut cause: Option<&dyn Error> = self.0.source.as_ref().map(|source| &**source as _);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Renders it for our own routes (RFC 9457 §3).
    pub(crate) fn problem_json(&self, request_id: &str) -> Value {
        let kind = self.0.kind;
        let mut body = self.0.members.clone();
        body.insert("type".to_owned(), json!(kind.urn()));
        body.insert("code".to_owned(), json!(kind.code));
        body.insert("title".to_owned(), json!(kind.title));
        body.insert("status".to_owned(), json!(kind.status));
        if let Some(detail) = self.0.detail.as_ref().filter(|_| kind.status < 500) {
            body.insert("detail".to_owned(), json!(detail));
        }
        body.insert("request_id".to_owned(), json!(request_id));
        Value::Object(body)
    }

    /// Renders it for AuthZEN routes: one string (AuthZEN 1.0 §10.1.3).
    pub(crate) fn authzen_string(&self, request_id: &str) -> Value {
        if self.0.kind.status < 500 {
            json!(self.message())
        } else {
            json!(format!("{} (request {request_id})", self.0.kind.title))
        }
    }

    /// Renders it as one item of a batch (AuthZEN 1.0 §7.2.1): denied, with the error in its context.
    pub(crate) fn authzen_item(&self) -> Value {
        json!({
            "decision": false,
            "context": { "error": { "status": self.0.kind.status, "message": self.message() } },
        })
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({})", self.chain())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl From<remit_core::Invalid> for Problem {
    fn from(invalid: remit_core::Invalid) -> Self {
        Self::new(Kind::INVALID_REQUEST, invalid.to_string())
    }
}

impl From<remit_store::Error> for Problem {
    /// What the client sent wrongly is told; what the database did is logged.
    fn from(error: remit_store::Error) -> Self {
        use remit_store::Error as E;
        match &error {
            E::Invalid { .. } => Self::new(Kind::INVALID_REQUEST, error.to_string()),
            E::NotFound { .. } => Self::new(Kind::NOT_FOUND, error.to_string()),
            E::Conflict { .. } => Self::new(Kind::STALE_REVISION, error.to_string()),
            E::Stale { current, .. } => Self::new(Kind::STALE_REVISION, error.to_string())
                .with("current", json!(format!("\"{current}\""))),
            E::Moved { .. } | E::Unfit { .. } | E::TenantTaken | E::NotSuspended => {
                Self::new(Kind::CONFLICT, error.to_string())
            }
            E::Killed { .. } => Self::new(Kind::KILLED, error.to_string()),
            E::Withdrawn => {
                Self::new(Kind::UNAUTHENTICATED, error.to_string()).challenge(CHALLENGE_REFUSED)
            }
            E::Deadline { .. } | E::Unavailable { .. } => {
                Self::caused(Kind::STORE_UNAVAILABLE, error)
            }
            _ => Self::caused(Kind::INTERNAL, error),
        }
    }
}

impl IntoResponse for Problem {
    /// Makes a response without a body; the layers write it when they know who reads it.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = self.0.challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(revision) = self.0.revision {
            Told::revision(revision).attach(&mut response);
        }
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}

/// Writes the page of all problems, `docs/errors.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         <!-- Generated from `crates/api/src/problem.rs`; a test says when it is out of date. -->\n\n\
         On `/access/v1/…` an error is a JSON string, as AuthZEN 1.0 has it; send `Accept: application/problem+json` for\n\
         the full form. Everywhere else, and on `/access/v1/requests…`, it is `application/problem+json` (RFC 9457): `type`, `code`, `title`, `status`,\n\
         `request_id`, `detail` on a 4xx, and further members where the table says so. A 5xx never says more than its title\n\
         and the request id; the cause is in the log line of that id.\n\n\
         | status | code | title | when, and what to do |\n|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let Kind {
            code,
            status,
            title,
            help,
        } = kind;
        let help = help.trim_ascii();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {status} | `{code}` | {title} | {help} |");
    }
    page
}
