//! The operations port: is it alive, is it ready, how is it doing.
//!
//! It is not for the public: it answers without a key, and says what is wrong.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::app::App;
use crate::metrics::Exposition;
use crate::wire::Json;

/// Returns the routes of the operations port: `/livez`, `/readyz`, `/healthz` and `/metrics`.
pub fn operations(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/healthz", get(ready))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Answers as long as the process can answer at all.
async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

/// Answers 200 when this replica can decide, 503 with every cause when it cannot.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let causes = app.unready();
    let revisions = app.progress.revisions();
    let log = app.log.status();
    // What would be lost with this host: decisions that are nowhere else yet, and the age of the oldest.
    let log = json!({
        "unshipped": log.unshipped_records,
        "oldest_unshipped_ms": log.oldest_unshipped.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        "ship_error": log.ship_error,
    });
    if causes.is_empty() {
        let body = json!({ "status": "ready", "tenants": revisions, "log": log });
        return Json(body).into_response();
    }
    let body = json!({ "status": "not ready", "causes": causes, "tenants": revisions, "log": log });
    let body = Json(body);
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// Writes the metrics, in the format that `Accept` prefers.
async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let exposition = Exposition::preferred(accept);
    let body = app.metrics.encode(&app, exposition);
    ([(header::CONTENT_TYPE, exposition.media_type())], body).into_response()
}
