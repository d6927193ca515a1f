//! What a tenant has registered: its agents, its tools, what must stop, and what does not count for a while.

use remit_store::Scope::{Keys, Read, Tasks, Write};

use super::Access::May;
use super::Routes;
use crate::admin::Action;
use crate::registry::{agents, exceptions, kills, tools};

/// Adds them.
pub(super) fn routes(routes: Routes) -> Routes {
    relax(stop(catalogue(agents_known(routes))))
}

/// Who acts.
fn agents_known(routes: Routes) -> Routes {
    const ONE: &str = "/v1/agents/{type}/{id}";
    routes
        .get("/v1/agents", May(Read, Action::ListAgents), agents::list)
        .get(
            "/v1/agents/unknown",
            May(Read, Action::ListUnknownAgents),
            agents::unknown,
        )
        .get(ONE, May(Read, Action::GetAgent), agents::get)
        .put(ONE, May(Keys, Action::PutAgent), agents::put)
        .delete(ONE, May(Keys, Action::RetireAgent), agents::retire)
        .post(
            "/v1/agents/{type}/{id}/suspend",
            May(Tasks, Action::SuspendAgent),
            agents::suspend,
        )
        .post(
            "/v1/agents/{type}/{id}/resume",
            May(Keys, Action::ResumeAgent),
            agents::resume,
        )
}

/// With what.
fn catalogue(routes: Routes) -> Routes {
    const ONE: &str = "/v1/tools/{name}";
    routes
        .get("/v1/tools", May(Read, Action::ListTools), tools::list)
        .put("/v1/tools", May(Write, Action::PutTools), tools::put_all)
        .post(
            "/v1/tools/drift",
            May(Read, Action::CheckTools),
            tools::drift::check,
        )
        .get(ONE, May(Read, Action::GetTool), tools::get)
        .put(ONE, May(Write, Action::PutTool), tools::put)
        .delete(ONE, May(Write, Action::DeleteTool), tools::delete)
}

/// And what must stop.
fn stop(routes: Routes) -> Routes {
    routes
        .get("/v1/kills", May(Read, Action::ListKills), kills::list)
        .post("/v1/kills", May(Tasks, Action::CreateKill), kills::create)
        .get("/v1/kills/{id}", May(Read, Action::GetKill), kills::get)
        .post(
            "/v1/kills/{id}/lift",
            May(Tasks, Action::LiftKill),
            kills::lift,
        )
        .post(
            "/v1/kills/{id}/lift/confirm",
            May(Tasks, Action::ConfirmKillLift),
            kills::confirm,
        )
}

/// What does not count for a while.
fn relax(routes: Routes) -> Routes {
    const ALL: &str = "/v1/exceptions";
    routes
        .get(ALL, May(Read, Action::ListExceptions), exceptions::list)
        .post(
            ALL,
            May(Write, Action::ProposeException),
            exceptions::propose,
        )
        .get(
            "/v1/exceptions/{id}",
            May(Read, Action::GetException),
            exceptions::get,
        )
        .post(
            "/v1/exceptions/{id}/confirm",
            May(Write, Action::ConfirmException),
            exceptions::confirm,
        )
        .post(
            "/v1/exceptions/{id}/end",
            May(Write, Action::EndException),
            exceptions::end,
        )
}
