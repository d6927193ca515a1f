//! `POST /v1/leases/{id}`: a permit that holds for a while is decided again, on what is known now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use remit_core::{DecisionId, DecisionRecord, Timestamp, Verdict};

use super::outcomes::{asked, find};
use crate::app::App;
use crate::auth::Caller;
use crate::evaluate::{DecisionBody, respond};
use crate::problem::{Kind, Problem};
use crate::query::Segments;

/// Renews the lease of a permit, by the principal that asked for it and in the same environment; its id stays that of the permit.
pub(crate) async fn renew(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DecisionId>,
) -> Result<Response, Problem> {
    let missing = || Problem::new(Kind::NOT_FOUND, "there is no such decision of yours");
    let stored = find(&app, caller.tenant, id).await?.ok_or_else(missing)?;
    let record = stored.record;
    // It is decided for the environment in which it was permitted.
    let here = record.facts.environment == caller.environment;
    if !here || !asked(&app, &caller, &record).await? {
        return Err(missing());
    }
    renewable(&app, &record)?;
    if app.store.lease_ended(caller.tenant, id).await? {
        return Err(over("it was denied when it was renewed, which ended it"));
    }
    let answer = app.renew(&caller, record).await?;
    // It was perhaps denied to another one who renews it, while this was decided on what was known before.
    if answer.permits() && app.store.lease_ended(caller.tenant, id).await? {
        return Err(over("it was denied when it was renewed, which ended it"));
    }
    Ok(respond(
        &answer,
        DecisionBody::single(&app.options, &answer),
    ))
}

/// Makes sure that a decision is a permit that has a lease still.
fn renewable(app: &App, record: &DecisionRecord) -> Result<(), Problem> {
    if let Some(root) = record.facts.lease {
        return Err(over(&format!(
            "the decision renews `{root}`, which is the id of the lease"
        )));
    }
    if record.decision.verdict != Verdict::Permit || record.decision.lease.is_none() {
        return Err(over("the decision has none"));
    }
    let longest = i64::try_from(app.options.longest_lease.as_micros()).unwrap_or(i64::MAX);
    let end = Timestamp::from_micros(record.facts.now.micros().saturating_add(longest));
    if app.now() >= end {
        return Err(over(&format!("it could be renewed until {end}")));
    }
    Ok(())
}

fn over(why: &str) -> Problem {
    let detail = format!("there is no lease to renew: {why}; ask the question again");
    Problem::new(Kind::LEASE_OVER, detail)
}
