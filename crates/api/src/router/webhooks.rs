//! To whom what happens is told.

use remit_store::Scope::{Keys, Read};

use super::Access::May;
use super::Routes;
use crate::admin::Action;
use crate::registry::webhooks::endpoints;

/// Adds them.
pub(super) fn routes(routes: Routes) -> Routes {
    const ALL: &str = "/v1/webhooks";
    const ONE: &str = "/v1/webhooks/{id}";
    routes
        .get(ALL, May(Read, Action::ListWebhooks), endpoints::list)
        .post(ALL, May(Keys, Action::CreateWebhook), endpoints::create)
        .get(ONE, May(Read, Action::GetWebhook), endpoints::get)
        .put(ONE, May(Keys, Action::PutWebhook), endpoints::put)
        .delete(ONE, May(Keys, Action::DeleteWebhook), endpoints::delete)
        .get(
            "/v1/webhooks/{id}/deliveries",
            May(Read, Action::ListDeliveries),
            endpoints::deliveries,
        )
        .post(
            "/v1/webhooks/{id}/ping",
            May(Keys, Action::PingWebhook),
            endpoints::ping,
        )
        .post(
            "/v1/webhooks/{id}/rotate",
            May(Keys, Action::RotateWebhook),
            endpoints::rotate,
        )
}
