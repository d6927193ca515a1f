//! What agents are asked to do.

use remit_store::Scope::{Read, Tasks, Write};

use super::Access::May;
use super::Routes;
use crate::admin::Action;
use crate::tasks::{self, opening, templates, turning};

/// Adds them.
pub(super) fn routes(routes: Routes) -> Routes {
    made_from(turned(opened(routes)))
}

fn opened(routes: Routes) -> Routes {
    routes
        .get("/v1/tasks", May(Read, Action::ListTasks), tasks::list)
        .post("/v1/tasks", May(Tasks, Action::CreateTask), opening::open)
        .get("/v1/tasks/{id}", May(Read, Action::GetTask), tasks::get)
        .post(
            "/v1/tasks/{id}/narrow",
            May(Tasks, Action::NarrowTask),
            opening::narrow,
        )
}

fn turned(routes: Routes) -> Routes {
    routes
        .post(
            "/v1/tasks/{id}/complete",
            May(Tasks, Action::CompleteTask),
            turning::complete,
        )
        .post(
            "/v1/tasks/{id}/revoke",
            May(Tasks, Action::RevokeTask),
            turning::revoke,
        )
        .post(
            "/v1/tasks/{id}/suspend",
            May(Tasks, Action::SuspendTask),
            turning::suspend,
        )
        .post(
            "/v1/tasks/{id}/resume",
            May(Tasks, Action::ResumeTask),
            turning::resume,
        )
        .post(
            "/v1/tasks/{id}/endorse",
            May(Tasks, Action::EndorseTask),
            turning::endorse,
        )
}

fn made_from(routes: Routes) -> Routes {
    const ONE: &str = "/v1/task-templates/{name}";
    routes
        .get(
            "/v1/task-templates",
            May(Read, Action::ListTaskTemplates),
            templates::list,
        )
        .get(ONE, May(Read, Action::GetTaskTemplate), templates::get)
        .put(ONE, May(Write, Action::PutTaskTemplate), templates::put)
        .delete(
            ONE,
            May(Write, Action::DeleteTaskTemplate),
            templates::delete,
        )
}
