//! Who answers access requests, and the answers.

use remit_store::Scope::{Approve, Keys, Read};

use super::Access::May;
use super::Routes;
use crate::admin::Action;
use crate::approvals::{answering, delegations, groups, queue, watching};

/// Adds them.
pub(super) fn routes(routes: Routes) -> Routes {
    answered(waiting(watched(handed_on(grouped(routes)))))
}

fn watched(routes: Routes) -> Routes {
    routes.get(
        "/v1/approvals/events",
        May(Approve, Action::WatchApprovals),
        watching::watch,
    )
}

fn grouped(routes: Routes) -> Routes {
    const ONE: &str = "/v1/approver-groups/{name}";
    routes
        .get(
            "/v1/approver-groups",
            May(Read, Action::ListApproverGroups),
            groups::list,
        )
        .get(ONE, May(Read, Action::GetApproverGroup), groups::get)
        .put(ONE, May(Keys, Action::PutApproverGroup), groups::put)
        .delete(ONE, May(Keys, Action::DeleteApproverGroup), groups::delete)
}

fn handed_on(routes: Routes) -> Routes {
    const ONE: &str = "/v1/approver-delegations/{name}";
    routes
        .get(
            "/v1/approver-delegations",
            May(Read, Action::ListApproverDelegations),
            delegations::list,
        )
        .get(
            ONE,
            May(Read, Action::GetApproverDelegation),
            delegations::get,
        )
        .put(
            ONE,
            May(Approve, Action::PutApproverDelegation),
            delegations::put,
        )
        .delete(
            ONE,
            May(Approve, Action::DeleteApproverDelegation),
            delegations::delete,
        )
}

fn waiting(routes: Routes) -> Routes {
    routes
        .get(
            "/v1/approvals",
            May(Approve, Action::ListApprovals),
            queue::list,
        )
        .get(
            "/v1/approvals/facets",
            May(Approve, Action::CountApprovals),
            queue::facets,
        )
        .get(
            "/v1/approvals/{id}",
            May(Approve, Action::GetApproval),
            queue::get,
        )
}

fn answered(routes: Routes) -> Routes {
    routes
        .post(
            "/v1/approvals/{id}/approve",
            May(Approve, Action::ApproveRequest),
            answering::approve,
        )
        .post(
            "/v1/approvals/{id}/deny",
            May(Approve, Action::DenyRequest),
            answering::deny,
        )
        .post(
            "/v1/approvals/{id}/escalate",
            May(Approve, Action::EscalateRequest),
            answering::escalate,
        )
        .post(
            "/v1/approvals/{id}/withdraw",
            May(Approve, Action::WithdrawApproval),
            answering::withdraw,
        )
}
