//! Every public endpoint, who may call it, and what answers it.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use axum::{Extension, Router, middleware};
use remit_store::Scope;

use crate::app::App;
use crate::auth::Needs;
use crate::problem::{Kind, Problem};
use crate::publish::drafts::{self, edit, findings, release, review};
use crate::{
    bulk, bundle, decisions, docs, entities, evaluate, evaluations, explain, impact, keys, layers,
    metadata, openapi, policies, revisions, search, versions,
};

/// One endpoint, as it is routed; the tests hold the OpenAPI document against the list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its variable parts in braces.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
}

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Anybody,
    /// Whoever has a valid key.
    AnyKey,
    /// Whoever has a valid key with this scope.
    Key(Scope),
}

/// The routes, and the list of them.
#[derive(Default)]
struct Routes {
    router: Router<Arc<App>>,
    endpoints: Vec<Endpoint>,
}

/// Returns the public routes: AuthZEN, the administration under `/v1`, and the description of both.
///
/// A path matches exactly or not at all; what does not match is a 404 in our shape, before anybody is asked for a key.
pub fn router(app: Arc<App>) -> Router {
    page(routes().router)
        .fallback(async || Problem::from(Kind::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::from(Kind::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            layers::envelope,
        ))
        .with_state(app)
}

/// Lists the endpoints of [`router`], without the files of the page that shows them.
pub fn endpoints() -> Vec<Endpoint> {
    routes().endpoints
}

fn routes() -> Routes {
    use Access::{AnyKey, Anybody, Key};
    use Scope::{Evaluate, Keys, Read, Search, Write};
    Routes::default()
        // AuthZEN Authorization API 1.0
        .post("/access/v1/evaluation", Key(Evaluate), evaluate::evaluate)
        .post(
            "/access/v1/evaluations",
            Key(Evaluate),
            evaluations::evaluate_all,
        )
        .post("/access/v1/search/subject", Key(Search), search::subjects)
        .post("/access/v1/search/resource", Key(Search), search::resources)
        .post("/access/v1/search/action", Key(Search), search::actions)
        .get(
            "/.well-known/authzen-configuration",
            Anybody,
            metadata::configuration,
        )
        // What decides
        .get("/v1/bundle", Key(Read), bundle::get)
        .put("/v1/bundle", Key(Write), bundle::put)
        .post("/v1/bundle/check", Key(Read), bundle::check)
        .post("/v1/bundle/impact", Key(Read), impact::assess)
        .get("/v1/bundle/versions", Key(Read), versions::list)
        .get("/v1/bundle/versions/{revision}", Key(Read), versions::get)
        .post("/v1/bundle/rollback", Key(Write), versions::roll_back)
        .get("/v1/drafts", Key(Read), drafts::list)
        .post("/v1/drafts", Key(Write), drafts::create)
        .get("/v1/drafts/{id}", Key(Read), drafts::get)
        .delete("/v1/drafts/{id}", Key(Write), drafts::discard)
        .put("/v1/drafts/{id}/bundle", Key(Write), edit::put_bundle)
        .put(
            "/v1/drafts/{id}/policies/{policy}",
            Key(Write),
            edit::put_policy,
        )
        .delete(
            "/v1/drafts/{id}/policies/{policy}",
            Key(Write),
            edit::delete_policy,
        )
        .post("/v1/drafts/{id}/rebase", Key(Write), edit::rebase)
        .post("/v1/drafts/{id}/check", Key(Write), findings::check)
        .post("/v1/drafts/{id}/impact", Key(Write), findings::impact)
        .post("/v1/drafts/{id}/review", Key(Write), review::review)
        .post("/v1/drafts/{id}/publish", Key(Write), release::publish)
        .get("/v1/policies", Key(Read), policies::list)
        .get("/v1/policies/{id}", Key(Read), policies::get)
        .put("/v1/policies/{id}", Key(Write), policies::put)
        .delete("/v1/policies/{id}", Key(Write), policies::delete)
        .get("/v1/entities", Key(Read), entities::list)
        .post("/v1/entities/bulk", Key(Write), bulk::change)
        .get("/v1/entities/{type}/{id}", Key(Read), entities::get)
        .put("/v1/entities/{type}/{id}", Key(Write), entities::put)
        .delete("/v1/entities/{type}/{id}", Key(Write), entities::delete)
        .get("/v1/revisions/{number}", Key(Read), revisions::get)
        // What was decided
        .get("/v1/decisions", Key(Read), decisions::list)
        .get("/v1/decisions/{id}", Key(Read), decisions::get)
        .post("/v1/decisions/{id}/explain", Key(Read), explain::explain)
        // Who may ask
        .get("/v1/keys", Key(Keys), keys::list)
        .post("/v1/keys", Key(Keys), keys::create)
        .get("/v1/keys/{id}", Key(Keys), keys::get)
        .delete("/v1/keys/{id}", Key(Keys), keys::revoke)
        .get("/v1/whoami", AnyKey, keys::who_am_i)
        .get("/openapi.json", Anybody, openapi::get)
}

/// The paths of the page that shows the endpoints.
const PAGE: [&str; 5] = [
    "/",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/docs/icon.svg",
];

/// The page that shows the endpoints.
fn page(router: Router<Arc<App>>) -> Router<Arc<App>> {
    let handlers = [
        get(docs::root),
        get(docs::page),
        get(docs::style),
        get(docs::script),
        get(docs::icon),
    ];
    PAGE.into_iter()
        .zip(handlers)
        .fold(router, |router, (path, handler)| {
            router.route(path, handler)
        })
}

/// Returns a route's template as a text that lives as long as the process: labels and log lines copy no text.
pub(crate) fn template(matched: &str) -> Option<&'static str> {
    static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let endpoints = endpoints().into_iter().map(|endpoint| endpoint.path);
        endpoints.chain(PAGE).collect()
    });
    KNOWN.get(matched).copied()
}

// === impl Routes ===

impl Routes {
    fn get<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add("GET", path, access, on(MethodFilter::GET, handler))
    }

    fn put<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add("PUT", path, access, on(MethodFilter::PUT, handler))
    }

    fn post<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add("POST", path, access, on(MethodFilter::POST, handler))
    }

    fn delete<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        self.add("DELETE", path, access, on(MethodFilter::DELETE, handler))
    }

    fn add(
        mut self,
        method: &'static str,
        path: &'static str,
        access: Access,
        route: MethodRouter<Arc<App>>,
    ) -> Self {
        // A route without `Needs` admits nobody whose handler asks who is calling.
        let route = match access {
            Access::Anybody => route,
            Access::AnyKey => route.layer(Extension(Needs(None))),
            Access::Key(scope) => route.layer(Extension(Needs(Some(scope)))),
        };
        self.endpoints.push(Endpoint {
            method,
            path,
            access,
        });
        Self {
            router: self.router.route(path, route),
            endpoints: self.endpoints,
        }
    }
}
