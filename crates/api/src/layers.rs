//! What happens to every request around its handler: one envelope, in one order, written once.
//!
//! request id → trace → span → room → deadline → panic → handler → error body → headers → metrics → one log line.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use remit_core::{Clock, KeyId, Revision, TenantId};
use tracing::Instrument;

use crate::app::{Answer, App};
use crate::auth::REVISION;
use crate::openapi::takes_no_query;
use crate::problem::{Failed, Kind, Problem};
use crate::router::template;
use crate::trace::{TRACEPARENT, TraceContext};

/// The header that names a request, echoed as it came (AuthZEN 1.0 §10.1.2).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the decisions of a request.
const DECISION_ID: HeaderName = HeaderName::from_static("x-decision-id");
/// Where approvals are asked for.
const REQUESTS: &str = "/access/v1/requests";
/// The longest request id.
const REQUEST_ID_BYTES: usize = 128;
/// How much of a parameter's name is told.
const PARAMETER: usize = 80;
/// Of a longer batch no header could hold the ids.
const DECISION_IDS: usize = 50;

/// The id of a request, as a request extension.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

/// The position of a request in its trace, as a request extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace(pub(crate) TraceContext);

/// Who asks, for the log line: filled in by the extractor that finds out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(pub(crate) Arc<OnceLock<(TenantId, KeyId)>>);

/// What a handler tells the envelope about its answer, as a response extension.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    revision: Option<Revision>,
    /// The ids of the decisions, in the order of the items; `-` for an item that is not one.
    decisions: Option<String>,
    decision: Option<&'static str>,
    reason: Option<&'static str>,
    /// How many items were answered, or results found.
    count: Option<usize>,
}

// === impl Told ===

impl Told {
    /// Tells of one decision.
    pub(crate) fn one(answer: &Answer) -> Self {
        Self {
            revision: Some(answer.decision().revision),
            decisions: Some(answer.id().to_string()),
            decision: Some(if answer.permits() { "permit" } else { "deny" }),
            reason: Some(answer.decision().reason.code()),
            count: None,
        }
    }

    /// Tells of a batch.
    pub(crate) fn many(answers: &[Result<Answer, Problem>]) -> Self {
        let id = |answer: &Result<Answer, Problem>| {
            answer
                .as_ref()
                .map_or_else(|_| "-".to_owned(), |answer| answer.id().to_string())
        };
        let ids: Vec<String> = answers.iter().take(DECISION_IDS + 1).map(id).collect();
        let revision = answers
            .iter()
            .flatten()
            .map(|answer| answer.decision().revision)
            .next();
        Self {
            revision,
            decisions: (ids.len() <= DECISION_IDS).then(|| ids.join(", ")),
            count: Some(answers.len()),
            ..Self::default()
        }
    }

    /// Tells of a search.
    pub(crate) fn searched(revision: Revision, results: usize) -> Self {
        Self {
            revision: Some(revision),
            count: Some(results),
            ..Self::default()
        }
    }

    /// Tells which revision a change made, or a reading shows.
    pub(crate) fn revision(revision: Revision) -> Self {
        Self {
            revision: Some(revision),
            ..Self::default()
        }
    }

    /// Puts it on a response.
    pub(crate) fn attach(self, response: &mut Response) {
        response.extensions_mut().insert(self);
    }
}

/// Everything about a request that its answer and its log line need.
struct Seen {
    started: Instant,
    method: Method,
    /// The template of the route; `unmatched` for a path that is none.
    route: &'static str,
    request_id: HeaderValue,
    trace: Option<TraceContext>,
    /// How an error is written for this client.
    rendering: Rendering,
    known: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rendering {
    Authzen,
    ProblemJson,
}

/// Runs one request inside the envelope.
pub(crate) async fn envelope(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (seen, refusal) = Seen::of(&request, &app.clock);
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{} {}", seen.method, seen.route),
        otel.kind = "server",
        http.request.method = seen.method.as_str(),
        http.route = seen.route,
    );
    let trace = match app.options.adopt {
        Some(adopt) => adopt(&span, seen.trace),
        None => seen.trace,
    };
    let seen = Seen { trace, ..seen };
    request
        .extensions_mut()
        .insert(RequestId(seen.request_id.clone()));
    request.extensions_mut().insert(seen.known.clone());
    if let Some(trace) = trace {
        request.extensions_mut().insert(Trace(trace));
    }
    let response = match refusal {
        Some(problem) => problem.into_response(),
        None => handle(&app, request, next).instrument(span).await,
    };
    let response = seen.finish(response);
    seen.write(&app, &response);
    response
}

/// Runs the handler with room, a deadline and a net under it.
async fn handle(app: &App, request: Request, next: Next) -> Response {
    let Ok(_room) = app.room.try_acquire() else {
        return Problem::from(Kind::OVERLOADED).into_response();
    };
    let caught = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(app.options.deadline, caught).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Problem::caused(Kind::INTERNAL, panic_text(&*panic)).into_response(),
        Err(_) => Problem::from(Kind::DEADLINE).into_response(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    format!("the handler panicked: {text}")
}

/// Refuses a query where the administration takes none; where it takes one, the handler knows its parameters.
fn unknown_parameter(request: &Request, route: &'static str) -> Option<Problem> {
    let query = request.uri().query().filter(|query| !query.is_empty())?;
    let method = match request.method() {
        &Method::HEAD => "GET",
        method => method.as_str(),
    };
    if !route.starts_with("/v1/") || !takes_no_query(method, route) {
        return None;
    }
    let name = query.split(['=', '&']).next().unwrap_or_default();
    let name: String = name.chars().take(PARAMETER).collect();
    let detail = format!("query parameter: unknown parameter `{name}`, there are none here");
    Some(Problem::new(Kind::INVALID_REQUEST, detail))
}

// === impl Seen ===

impl Seen {
    /// Reads what matters; also returns why the request goes no further, where its id is unusable.
    fn of(request: &Request, clock: &Clock) -> (Self, Option<Problem>) {
        let (request_id, refusal) = match request_id(request.headers()) {
            Ok(Some(id)) => (id, None),
            Ok(None) => (fresh_id(clock), None),
            Err(problem) => (fresh_id(clock), Some(problem)),
        };
        let route = request
            .extensions()
            .get::<MatchedPath>()
            .and_then(|path| template(path.as_str()))
            .unwrap_or("unmatched");
        let path = request.uri().path();
        // The profile of access requests demands the full form.
        let authzen = path.starts_with("/access/") && !path.starts_with(REQUESTS);
        let seen = Self {
            started: Instant::now(),
            method: request.method().clone(),
            route,
            request_id,
            trace: TraceContext::of(request.headers()),
            rendering: if authzen && !accepts_problem_json(request.headers()) {
                Rendering::Authzen
            } else {
                Rendering::ProblemJson
            },
            known: Known::default(),
        };
        let refusal = refusal.or_else(|| unknown_parameter(request, route));
        (seen, refusal)
    }

    /// Writes the body of an error, and the headers of every answer.
    fn finish(&self, mut response: Response) -> Response {
        let failed = response.extensions().get::<Failed>().cloned();
        if let Some(Failed(problem)) = failed {
            let id = self.request_id.to_str().unwrap_or_default();
            let (media, body) = match self.rendering {
                Rendering::Authzen => ("application/json", problem.authzen_string(id)),
                Rendering::ProblemJson => ("application/problem+json", problem.problem_json(id)),
            };
            response.headers_mut().remove(header::CONTENT_LENGTH);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
            *response.body_mut() = Body::from(body.to_string());
        }
        let told = response
            .extensions()
            .get::<Told>()
            .cloned()
            .unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.request_id.clone());
        if let Some(decisions) = told
            .decisions
            .and_then(|ids| HeaderValue::try_from(ids).ok())
        {
            headers.insert(DECISION_ID, decisions);
        }
        if let Some(revision) = told.revision {
            headers.insert(REVISION, HeaderValue::from(revision.number()));
        }
        if let Some(trace) = self
            .trace
            .and_then(|trace| HeaderValue::try_from(trace.to_string()).ok())
        {
            headers.insert(TRACEPARENT, trace);
        }
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; frame-ancestors 'none'",
            ),
        ] {
            // A handler that serves a page has its own.
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        response
    }

    /// Counts the request, and writes its one log line (`docs/logging.md`).
    fn write(&self, app: &App, response: &Response) {
        let took = self.started.elapsed();
        let status = response.status().as_u16();
        app.metrics.answered(&self.method, self.route, status, took);
        let told = response.extensions().get::<Told>();
        let problem = response
            .extensions()
            .get::<Failed>()
            .map(|failed| &failed.0);
        let known = self.known.0.get();
        let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "remit::request",
                    // All that the span says is in the line.
                    parent: None,
                    method = %self.method,
                    route = self.route,
                    status,
                    duration_us,
                    request_id = self.request_id.to_str().unwrap_or_default(),
                    trace_id = self.trace.map(|trace| trace.trace_id()),
                    tenant = known.map(|(tenant, _)| tracing::field::display(tenant)),
                    key = known.map(|(_, key)| tracing::field::display(key)),
                    decision_id = told.and_then(|told| told.decisions.as_deref()),
                    decision = told.and_then(|told| told.decision),
                    reason = told.and_then(|told| told.reason),
                    revision = told.and_then(|told| told.revision).map(Revision::number),
                    count = told.and_then(|told| told.count),
                    problem = problem.map(|problem| problem.kind().code),
                    cause = problem.map(|problem| problem.chain()),
                    "request"
                )
            };
        }
        if status >= 500 {
            line!(error);
        } else {
            line!(info);
        }
    }
}

/// Returns the client's request id, where it sent one that can be echoed and logged as it is.
fn request_id(headers: &HeaderMap) -> Result<Option<HeaderValue>, Problem> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
    if values.next().is_some() || bytes.is_empty() || bytes.len() > REQUEST_ID_BYTES || !visible {
        let detail = "`X-Request-Id` must be sent once, as 1 to 128 visible ASCII characters";
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    Ok(Some(value.clone()))
}

fn fresh_id(clock: &Clock) -> HeaderValue {
    HeaderValue::try_from(clock.id().to_string()).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn accepts_problem_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|accept| accept.contains("application/problem+json"))
}
