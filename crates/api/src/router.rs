//! Every public endpoint, who may call it, and what answers it.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use axum::{Extension, Router, middleware};
use remit_store::Scope;

use crate::admin::{Action, admin_actions, break_glass, principals, settings};
use crate::app::App;
use crate::approvals::{page, requests};
use crate::auth::Needs;
use crate::problem::{Kind, Problem};
use crate::publish::drafts::{self, edit, findings, release, review};
use crate::{
    bundle, decisions, docs, entities, evaluate, evaluations, explain, impact, keys, layers,
    metadata, openapi, policies, revisions, search, tenants, versions,
};

mod approvers;
mod registered;
mod tasks;
mod webhooks;

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
    /// Whoever has a valid key with this scope, and may do this by the policies of the administration.
    May(Scope, Action),
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
    pages(routes().router)
        .fallback(async || Problem::from(Kind::NOT_FOUND))
        .method_not_allowed_fallback(async || Problem::from(Kind::METHOD_NOT_ALLOWED))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            layers::envelope,
        ))
        .with_state(app)
}

/// Lists the endpoints of [`router`], without the files of the pages.
pub fn endpoints() -> Vec<Endpoint> {
    routes().endpoints
}

fn routes() -> Routes {
    let routes = work_on_drafts(bundle_and_policies(ask(Routes::default())));
    let routes = break_the_glass(administer(entities_and_decisions(routes)));
    let routes = approvers::routes(tasks::routes(registered::routes(routes)));
    tenants_of_all(webhooks::routes(routes))
        .get("/v1/whoami", Access::AnyKey, keys::who_am_i)
        .get("/openapi.json", Access::Anybody, openapi::get)
}

/// What is asked.
fn ask(routes: Routes) -> Routes {
    use Access::{Anybody, Key};
    use Scope::{Evaluate, Search};
    routes
        // AuthZEN Authorization API 1.0
        .post("/access/v1/evaluation", Key(Evaluate), evaluate::evaluate)
        .post(
            "/access/v1/evaluations",
            Key(Evaluate),
            evaluations::evaluate_all,
        )
        .post("/access/v1/requests", Key(Evaluate), requests::submit)
        .get("/access/v1/requests/{id}", Key(Evaluate), requests::get)
        .post(
            "/access/v1/requests/{id}/cancel",
            Key(Evaluate),
            requests::cancel,
        )
        .delete(
            "/access/v1/requests/{id}/cancel",
            Key(Evaluate),
            requests::cancel,
        )
        .post("/access/v1/search/subject", Key(Search), search::subjects)
        .post("/access/v1/search/resource", Key(Search), search::resources)
        .post("/access/v1/search/action", Key(Search), search::actions)
        .get(
            "/.well-known/authzen-configuration",
            Anybody,
            metadata::configuration,
        )
}

/// What decides.
fn bundle_and_policies(routes: Routes) -> Routes {
    use Access::May;
    use Scope::{Read, Write};
    routes
        .get("/v1/bundle", May(Read, Action::GetBundle), bundle::get)
        .put("/v1/bundle", May(Write, Action::PutBundle), bundle::put)
        .post(
            "/v1/bundle/check",
            May(Read, Action::CheckBundle),
            bundle::check,
        )
        .post(
            "/v1/bundle/impact",
            May(Read, Action::AssessBundle),
            impact::assess,
        )
        .get(
            "/v1/shadow",
            May(Read, Action::GetShadow),
            impact::shadow::get,
        )
        .put(
            "/v1/shadow",
            May(Write, Action::PutShadow),
            impact::shadow::put,
        )
        .delete(
            "/v1/shadow",
            May(Write, Action::DeleteShadow),
            impact::shadow::delete,
        )
        .get(
            "/v1/bundle/versions",
            May(Read, Action::ListVersions),
            versions::list,
        )
        .get(
            "/v1/bundle/versions/{revision}",
            May(Read, Action::GetVersion),
            versions::get,
        )
        .post(
            "/v1/bundle/rollback",
            May(Write, Action::RollbackBundle),
            versions::roll_back,
        )
        .get(
            "/v1/policies",
            May(Read, Action::ListPolicies),
            policies::list,
        )
        .get(
            "/v1/policies/{id}",
            May(Read, Action::GetPolicy),
            policies::get,
        )
        .put(
            "/v1/policies/{id}",
            May(Write, Action::PutPolicy),
            policies::put,
        )
        .delete(
            "/v1/policies/{id}",
            May(Write, Action::DeletePolicy),
            policies::delete,
        )
}

/// What is to decide.
fn work_on_drafts(routes: Routes) -> Routes {
    use Access::May;
    use Scope::{Read, Write};
    routes
        .get("/v1/drafts", May(Read, Action::ListDrafts), drafts::list)
        .post(
            "/v1/drafts",
            May(Write, Action::CreateDraft),
            drafts::create,
        )
        .get("/v1/drafts/{id}", May(Read, Action::GetDraft), drafts::get)
        .delete(
            "/v1/drafts/{id}",
            May(Write, Action::DiscardDraft),
            drafts::discard,
        )
        .put(
            "/v1/drafts/{id}/bundle",
            May(Write, Action::PutDraftBundle),
            edit::put_bundle,
        )
        .put(
            "/v1/drafts/{id}/policies/{policy}",
            May(Write, Action::PutDraftPolicy),
            edit::put_policy,
        )
        .delete(
            "/v1/drafts/{id}/policies/{policy}",
            May(Write, Action::DeleteDraftPolicy),
            edit::delete_policy,
        )
        .post(
            "/v1/drafts/{id}/rebase",
            May(Write, Action::RebaseDraft),
            edit::rebase,
        )
        .post(
            "/v1/drafts/{id}/check",
            May(Write, Action::CheckDraft),
            findings::check,
        )
        .post(
            "/v1/drafts/{id}/impact",
            May(Write, Action::AssessDraft),
            findings::impact,
        )
        .post(
            "/v1/drafts/{id}/review",
            May(Write, Action::ReviewDraft),
            review::review,
        )
        .post(
            "/v1/drafts/{id}/publish",
            May(Write, Action::PublishDraft),
            release::publish,
        )
}

/// What decisions are about, and what was decided.
fn entities_and_decisions(routes: Routes) -> Routes {
    use Access::May;
    use Scope::{Read, Write};
    routes
        .get(
            "/v1/entities",
            May(Read, Action::ListEntities),
            entities::list,
        )
        .post(
            "/v1/entities/bulk",
            May(Write, Action::ChangeEntities),
            entities::bulk::change,
        )
        .get(
            "/v1/entities/{type}/{id}",
            May(Read, Action::GetEntity),
            entities::get,
        )
        .put(
            "/v1/entities/{type}/{id}",
            May(Write, Action::PutEntity),
            entities::put,
        )
        .delete(
            "/v1/entities/{type}/{id}",
            May(Write, Action::DeleteEntity),
            entities::delete,
        )
        .get(
            "/v1/revisions/{number}",
            May(Read, Action::GetRevision),
            revisions::get,
        )
        .get(
            "/v1/decisions",
            May(Read, Action::ListDecisions),
            decisions::list,
        )
        .get(
            "/v1/decisions/{id}",
            May(Read, Action::GetDecision),
            decisions::get,
        )
        .post(
            "/v1/decisions/{id}/case",
            May(Read, Action::MakeCase),
            decisions::case::make,
        )
        .post(
            "/v1/decisions/{id}/explain",
            May(Read, Action::ExplainDecision),
            explain::explain,
        )
        .post(
            "/v1/decisions/{id}/outcome",
            Access::Key(Scope::Evaluate),
            decisions::outcomes::report,
        )
        .post(
            "/v1/leases/{id}",
            Access::Key(Scope::Evaluate),
            decisions::leases::renew,
        )
        .get(
            "/v1/revocations",
            Access::Key(Scope::Evaluate),
            decisions::revocations::watch,
        )
        .get(
            "/v1/outcomes",
            May(Read, Action::ListOutcomes),
            decisions::outcomes::lists::list,
        )
        .get(
            "/v1/orphans",
            May(Read, Action::ListOrphans),
            decisions::outcomes::lists::orphans,
        )
}

/// Who may ask and administer, and what was done.
fn administer(routes: Routes) -> Routes {
    use Access::May;
    use Scope::{Keys, Read, Write};
    routes
        .get("/v1/keys", May(Keys, Action::ListKeys), keys::list)
        .post("/v1/keys", May(Keys, Action::CreateKey), keys::create)
        .get("/v1/keys/{id}", May(Keys, Action::GetKey), keys::get)
        .delete("/v1/keys/{id}", May(Keys, Action::RevokeKey), keys::revoke)
        .get(
            "/v1/principals",
            May(Keys, Action::ListPrincipals),
            principals::list,
        )
        .get(
            "/v1/principals/{name}",
            May(Keys, Action::GetPrincipal),
            principals::get,
        )
        .put(
            "/v1/principals/{name}",
            May(Keys, Action::PutPrincipal),
            principals::put,
        )
        .delete(
            "/v1/principals/{name}",
            May(Keys, Action::DisablePrincipal),
            principals::disable,
        )
        .get(
            "/v1/settings",
            May(Read, Action::GetSettings),
            settings::get,
        )
        .put(
            "/v1/settings",
            May(Keys, Action::PutSettings),
            settings::put,
        )
        .post(
            "/v1/settings/confirm",
            May(Write, Action::ConfirmSettings),
            settings::confirm,
        )
        .get(
            "/v1/admin/actions",
            May(Read, Action::ListAdminActions),
            admin_actions::list,
        )
}

/// Who has more roles for some minutes.
fn break_the_glass(routes: Routes) -> Routes {
    use Access::May;
    use Scope::{Keys, Read, Write};
    routes
        .get(
            "/v1/break-glass",
            May(Read, Action::ListBreakGlass),
            break_glass::list,
        )
        .post(
            "/v1/break-glass",
            May(Keys, Action::RequestBreakGlass),
            break_glass::request,
        )
        .get(
            "/v1/break-glass/{id}",
            May(Read, Action::GetBreakGlass),
            break_glass::get,
        )
        .delete(
            "/v1/break-glass/{id}",
            May(Write, Action::EndBreakGlass),
            break_glass::end,
        )
        .post(
            "/v1/break-glass/{id}/approve",
            May(Write, Action::ApproveBreakGlass),
            break_glass::approve,
        )
}

/// Whom this installation serves.
fn tenants_of_all(routes: Routes) -> Routes {
    use Access::May;
    use Scope::Tenants;
    routes
        .get(
            "/v1/tenants",
            May(Tenants, Action::ListTenants),
            tenants::list,
        )
        .post(
            "/v1/tenants",
            May(Tenants, Action::CreateTenant),
            tenants::create,
        )
        .get(
            "/v1/tenants/{id}",
            May(Tenants, Action::GetTenant),
            tenants::get,
        )
        .delete(
            "/v1/tenants/{id}",
            May(Tenants, Action::DeleteTenant),
            tenants::delete,
        )
        .post(
            "/v1/tenants/{id}/suspend",
            May(Tenants, Action::SuspendTenant),
            tenants::suspend,
        )
        .post(
            "/v1/tenants/{id}/resume",
            May(Tenants, Action::ResumeTenant),
            tenants::resume,
        )
        .get(
            "/v1/tenants/{id}/export",
            May(Tenants, Action::ExportTenant),
            tenants::export,
        )
}

/// The paths of the pages: the one that shows the endpoints, and the one that asks for an approval.
const PAGE: [&str; 8] = [
    "/",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/docs/icon.svg",
    "/approvals/{id}",
    "/approvals/page.css",
    "/approvals/page.js",
];

/// The pages.
fn pages(router: Router<Arc<App>>) -> Router<Arc<App>> {
    let handlers = [
        get(docs::root),
        get(docs::page),
        get(docs::style),
        get(docs::script),
        get(docs::icon),
        get(page::page),
        get(page::style),
        get(page::script),
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
            Access::AnyKey => route.layer(Extension(Needs {
                scope: None,
                action: None,
            })),
            Access::Key(scope) => route.layer(Extension(Needs {
                scope: Some(scope),
                action: None,
            })),
            Access::May(scope, action) => route.layer(Extension(Needs {
                scope: Some(scope),
                action: Some(action),
            })),
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
