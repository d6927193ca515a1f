//! Task handles: how an access request is told, as the profile has it.

use remit_core::{ApprovalId, Timestamp};
use remit_store::{RequestState, StoredRequest};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::Options;
use crate::evaluate::telling::{endpoint, requestable_until};

/// An access request as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Handle {
    pub(crate) task: TaskBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<ResultBody>,
}

/// The task of the profile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TaskBody {
    pub(crate) id: ApprovalId,
    pub(crate) status: &'static str,
    pub(crate) status_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Value>,
    expires_at: Timestamp,
    display: Value,
    links: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<ItemBody>>,
}

/// One of several things that are asked together.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ItemBody {
    resource: Value,
    action: Value,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultBody>,
}

/// What was approved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ResultBody {
    mode: &'static str,
    approval: ApprovedBody,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ApprovedBody {
    id: ApprovalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_at: Option<Timestamp>,
    approved_until: Timestamp,
}

/// What says that nobody has answered yet.
const PENDING: &str = "pending";

// === impl Handle ===

impl Handle {
    /// Tells of one request.
    pub(crate) fn one(options: &Options, request: &StoredRequest, now: Timestamp) -> Self {
        let status = status(request, now);
        Self {
            task: TaskBody {
                id: request.id,
                status,
                status_endpoint: status_endpoint(options, request.id),
                progress: progress(request, status),
                expires_at: if status == PENDING {
                    request.expires_at
                } else {
                    told_until(options, request)
                },
                display: display(status),
                links: links(options, request.id, Some(request.id), status),
                items: None,
            },
            result: result(request),
        }
    }

    /// Tells of several requests that were made as one.
    pub(crate) fn many(
        options: &Options,
        id: ApprovalId,
        (requests, waits_until): (&[StoredRequest], Timestamp),
        now: Timestamp,
    ) -> Self {
        let items = requests.iter().map(|request| ItemBody {
            resource: json!(request.question.resource),
            action: json!(request.question.action),
            status: status(request, now),
            result: result(request),
        });
        let items: Vec<ItemBody> = items.collect();
        let status = together(items.iter().map(|item| item.status));
        let ends = requests.iter().map(|request| told_until(options, request));
        Self {
            task: TaskBody {
                id,
                status,
                status_endpoint: status_endpoint(options, id),
                progress: None,
                expires_at: ends
                    .max()
                    .filter(|_| status != PENDING)
                    .unwrap_or(waits_until),
                display: display(status),
                links: links(options, id, None, status),
                items: Some(items),
            },
            result: None,
        }
    }

    /// Whether nobody has answered yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.task.status == PENDING
    }
}

/// Returns the status of a request; one whose time is over has expired, before anybody has noted it.
///
/// An approval that was withdrawn stays approved: a task ends once, and whether an approval can be used is told where it is
/// presented.
pub(crate) fn status(request: &StoredRequest, now: Timestamp) -> &'static str {
    match request.state {
        RequestState::Pending if request.expires_at <= now => RequestState::Expired.as_str(),
        _ if request.grant.is_some() => RequestState::Approved.as_str(),
        state => state.as_str(),
    }
}

/// Returns until when it is told how a request that ended stands.
pub(crate) fn told_until(options: &Options, request: &StoredRequest) -> Timestamp {
    let approved = request.grant.as_ref().map(|grant| grant.until);
    let last = approved.map_or(request.expires_at, |until| until.max(request.expires_at));
    requestable_until(last, options.approvals.retention)
}

/// Returns the status of several together.
pub(crate) fn together(statuses: impl Iterator<Item = &'static str>) -> &'static str {
    let mut all = None;
    let mut mixed = false;
    for status in statuses {
        if status == PENDING {
            return PENDING;
        }
        mixed |= all.is_some_and(|all| all != status);
        all = Some(status);
    }
    if mixed {
        "partial"
    } else {
        all.unwrap_or(PENDING)
    }
}

fn result(request: &StoredRequest) -> Option<ResultBody> {
    request.grant.as_ref().map(|grant| ResultBody {
        mode: "reevaluate",
        approval: ApprovedBody {
            id: request.id,
            approved_at: request.ended_at,
            approved_until: grant.until,
        },
    })
}

/// Tells which groups are waited for, never which persons.
fn progress(request: &StoredRequest, status: &str) -> Option<Value> {
    let groups: Vec<&String> = request.wants.keys().collect();
    (status == PENDING).then(|| json!({ "awaiting": groups }))
}

fn display(status: &str) -> Value {
    let (title, description) = match status {
        PENDING => (
            "Waiting for an approval",
            "Somebody has been asked to approve this.",
        ),
        "approved" => (
            "Approved",
            "Ask the question again, with this approval in its context.",
        ),
        "denied" => ("Refused", "Somebody has refused this."),
        "expired" => ("Expired", "Nobody has answered in time."),
        "cancelled" => ("Cancelled", "This was taken back."),
        _ => ("Answered in part", "Each item tells what became of it."),
    };
    json!({ "title": title, "description": description })
}

fn links(options: &Options, id: ApprovalId, review: Option<ApprovalId>, status: &str) -> Value {
    let base = options.public_url.trim_end_matches('/');
    let mut links = serde_json::Map::new();
    if let Some(review) = review {
        let review = format!("{base}/approvals/{review}");
        links.insert("review".to_owned(), json!(review));
    }
    if status == PENDING {
        let cancel = format!("{}/cancel", status_endpoint(options, id));
        links.insert("cancel".to_owned(), json!(cancel));
    }
    Value::Object(links)
}

/// Returns where a request is asked about.
pub(crate) fn status_endpoint(options: &Options, id: ApprovalId) -> String {
    format!("{}/{id}", endpoint(options))
}
