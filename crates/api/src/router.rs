//! Every public endpoint, the scope it needs, and what answers it.

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router, middleware};
use remit_store::Scope;

use crate::app::App;
use crate::auth::Needs;
use crate::problem::{Kind, Problem};
use crate::{evaluate, evaluations, layers, metadata, search};

/// Returns the public routes: AuthZEN, the administration under `/v1`, and the description of both.
///
/// A path matches exactly or not at all; what does not match is a 404 in our shape, before anybody is asked for a key.
pub fn router(app: Arc<App>) -> Router {
    authzen()
        .merge(open())
        .fallback(async || Problem::from(Kind::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::from(Kind::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            layers::envelope,
        ))
        .with_state(app)
}

/// AuthZEN Authorization API 1.0.
fn authzen() -> Router<Arc<App>> {
    use Scope::{Evaluate, Search};
    Router::new()
        .route(
            "/access/v1/evaluation",
            needs(Evaluate, post(evaluate::evaluate)),
        )
        .route(
            "/access/v1/evaluations",
            needs(Evaluate, post(evaluations::evaluate_all)),
        )
        .route(
            "/access/v1/search/subject",
            needs(Search, post(search::subjects)),
        )
        .route(
            "/access/v1/search/resource",
            needs(Search, post(search::resources)),
        )
        .route(
            "/access/v1/search/action",
            needs(Search, post(search::actions)),
        )
}

/// What anybody may read: where things are and what they look like, and nothing about any tenant.
fn open() -> Router<Arc<App>> {
    Router::new().route(
        "/.well-known/authzen-configuration",
        get(metadata::configuration),
    )
}

/// Puts the scope on a route that its callers need; a route without one admits nobody.
pub(crate) fn needs(scope: Scope, route: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    route.layer(Extension(Needs(scope)))
}
