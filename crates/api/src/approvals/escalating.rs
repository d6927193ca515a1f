//! Escalation: what a group has not answered in its time goes on to another one as well, by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remit_core::{AdminAction, AdminActionId, ApprovalId, EntityUid, TenantId};
use remit_store::{Change, Error, StoredRequest};
use serde_json::json;

use crate::app::App;
use crate::problem::Problem;
use crate::sync::progress::chain;

/// How often it is looked for what goes on to others.
const EVERY: Duration = Duration::from_secs(2);
/// How much later it is looked again to whom a request goes on that goes on to nobody.
const LATER: Duration = Duration::from_mins(1);

/// Keeps at it. Every replica does this; each request goes on once.
pub(crate) async fn keep(app: Arc<App>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        match escalate_due(&app).await {
            Ok(()) => failing = false,
            Err(cause) => {
                // Once when it begins, not at every attempt.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(cause, "access requests do not go on to others");
                }
            }
        }
    }
}

async fn escalate_due(app: &App) -> Result<(), String> {
    let mut failed = None;
    let heads = app.store.ahead().heads().await;
    for head in heads.map_err(|error| chain(&error))? {
        if head.deleted {
            continue;
        }
        let due = app.store.ahead().due_to_escalate(head.tenant).await;
        for id in due.map_err(|error| chain(&error))? {
            // What is wrong with one keeps no other back.
            if let Err(cause) = one(app, head.tenant, id).await {
                failed.get_or_insert(cause);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Lets one request go on; that another replica was faster, or it was answered meanwhile, is no failure.
async fn one(app: &App, tenant: TenantId, id: ApprovalId) -> Result<(), String> {
    let found = app.store.request(tenant, id).await;
    let Some(request) = found.map_err(|error| chain(&error))? else {
        return Ok(());
    };
    let groups = next_groups(app, tenant, &request).await;
    let groups = groups.map_err(|problem| problem.chain())?;
    // The groups have changed since: it goes on to nobody, and somebody may be named yet.
    if groups.is_empty() {
        let store = app.store.ahead();
        let postponed = store.postpone_escalation(tenant, id, LATER).await;
        return postponed.map_err(|error| chain(&error));
    }
    let resource = EntityUid::new("AccessRequest", id.to_string());
    let record = AdminActionId::from_uuid(app.clock.id());
    let mut record = AdminAction::of_itself(record, app.now(), "escalate_request", resource);
    record
        .details
        .insert("escalated_to".to_owned(), json!(groups));
    let change = Change {
        record: Some(&record),
        once: None,
    };
    let written = app
        .store
        .ahead()
        .escalate_request(tenant, None, (id, &groups), change)
        .await;
    match written {
        Ok(revision) => {
            tracing::info!(
                target: "remit::admin", action = record.action, %tenant, request = %id, revision = revision.number(),
                "access request goes on to others"
            );
            Ok(())
        }
        Err(Error::Unfit { .. } | Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}

/// Returns the groups to which a request goes on.
///
/// # Errors
///
/// `store-unavailable`.
pub(super) async fn next_groups(
    app: &App,
    tenant: TenantId,
    request: &StoredRequest,
) -> Result<BTreeSet<String>, Problem> {
    let mut next = BTreeSet::new();
    for name in request.wants.keys() {
        let group = app.store.approver_group(tenant, name).await?;
        next.extend(group.and_then(|group| group.rules.escalates_to));
    }
    Ok(next)
}
