//! What becomes of access requests, approvals and exceptions by time alone, by the database's clock.

use std::sync::Arc;
use std::time::Duration;

use remit_core::TenantId;
use remit_store::Error;

use crate::app::App;

/// How often it is looked for what is over.
const EVERY: Duration = Duration::from_secs(1);

/// Ends again and again the requests whose time is over, forgets approvals that cannot be used any more, and notes which
/// exceptions are over.
///
/// Every replica does this; each is ended once.
pub(crate) async fn keep_sweeping(app: Arc<App>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        match sweep(&app).await {
            Ok(()) => failing = false,
            // Once when it begins: what the database lacks is said elsewhere, too.
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "access requests whose time is over are not ended");
                }
            }
        }
    }
}

/// Ends what is over in every tenant that this replica decides for.
async fn sweep(app: &App) -> Result<(), Error> {
    let mut outcome = Ok(());
    for (tenant, _) in &app.progress.all() {
        match sweep_of(app, *tenant).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Ends what is over in one tenant, in small transactions until nothing is left: between them others have their turn.
async fn sweep_of(app: &App, tenant: TenantId) -> Result<(), Error> {
    app.store.ahead().note_exceptions_over(tenant).await?;
    loop {
        let swept = app.store.ahead().expire_requests(tenant).await?;
        if swept.revision.is_none() {
            return Ok(());
        }
        let expired = swept.expired.len();
        tracing::info!(%tenant, expired, forgotten = swept.forgotten, "access requests are over");
        app.progress.nudge();
    }
}
