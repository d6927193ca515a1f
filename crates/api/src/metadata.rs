//! `GET /.well-known/authzen-configuration`: where everything is (AuthZEN 1.0 §9).

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use crate::App;
use crate::wire::Json;

/// The metadata of this policy decision point.
#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
    search_subject_endpoint: String,
    search_resource_endpoint: String,
    search_action_endpoint: String,
}

/// Tells where the endpoints are, under the configured public URL and never under what a `Host` header says.
pub(crate) async fn configuration(State(app): State<Arc<App>>) -> Json<Metadata> {
    let base = app.options.public_url.trim_end_matches('/');
    Json(Metadata {
        policy_decision_point: base.to_owned(),
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        search_subject_endpoint: format!("{base}/access/v1/search/subject"),
        search_resource_endpoint: format!("{base}/access/v1/search/resource"),
        search_action_endpoint: format!("{base}/access/v1/search/action"),
    })
}
