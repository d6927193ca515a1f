//! `GET /.well-known/authzen-configuration`: where everything is (AuthZEN 1.0 §9).

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use crate::App;
use crate::evaluate::telling::endpoint;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    access_request_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    obligations_supported: Vec<&'static str>,
}

/// What says that approvals can be asked for (Access Request and Approval Profile, Draft 1).
const ACCESS_REQUEST: &str = "urn:openid:authzen:capability:access-request";
/// The types of obligations that an answer may have (Obligations Profile, Draft 1).
const OBLIGATIONS: [&str; 4] = ["step-up", "notification", "session_termination", "custom"];

/// Tells where the endpoints are, under the configured public URL and never under what a `Host` header says.
pub(crate) async fn configuration(State(app): State<Arc<App>>) -> Json<Metadata> {
    let base = app.options.public_url.trim_end_matches('/');
    let drafts = app.options.drafts;
    let requests = drafts.access_requests;
    Json(Metadata {
        access_request_endpoint: requests.then(|| endpoint(&app.options)),
        capabilities: requests.then_some(ACCESS_REQUEST).into_iter().collect(),
        obligations_supported: if drafts.obligations {
            OBLIGATIONS.to_vec()
        } else {
            Vec::new()
        },
        policy_decision_point: base.to_owned(),
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        search_subject_endpoint: format!("{base}/access/v1/search/subject"),
        search_resource_endpoint: format!("{base}/access/v1/search/resource"),
        search_action_endpoint: format!("{base}/access/v1/search/action"),
    })
}
