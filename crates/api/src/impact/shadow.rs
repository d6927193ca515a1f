//! `/v1/shadow`: a bundle that decides beside the one in force, and how far the two disagree.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use remit_core::{Bundle, ContentHash, KeyId, ReplicaId, Revision, TenantId, Timestamp};
use remit_engine::{CaseOutcome, Comparison, Diagnostic, Snapshot};
use remit_store::{Change, Error, Expected, Fleet, SeenReplica, ShadowFindings, ShadowGroup};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Outcome;
use super::groups::{Difference, Group, Said, sort};
use crate::admin::principals::log;
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::Caller;
use crate::bundle::BundleBody;
use crate::decisions::CATCH_UP;
use crate::layers::Told;
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::publish::{absent, compile, refused};
use crate::query::Query;
use crate::revisions::{Barrier, Until, settle};
use crate::wire::{Body, Json};

/// How often a shadow is put again because another was put under it.
const ATTEMPTS: usize = 8;

/// The answer to a shadow that decides now.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    revision: Revision,
    hash: ContentHash,
    policies: usize,
    warnings: Vec<Diagnostic>,
    /// What came of its cases; they need not pass.
    cases: Vec<CaseOutcome>,
    /// What it changes against the bundle in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
    /// Whether it is this request that put it, and not the same one before.
    #[serde(skip)]
    made: bool,
}

/// The answer to a shadow that decides no more.
#[derive(Debug, Serialize)]
struct Ended {
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<Barrier>,
}

/// What a shadow has found on all replicas.
#[derive(Debug, Serialize)]
struct Found {
    revision: Revision,
    hash: ContentHash,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<KeyId>,
    decided: u64,
    same: u64,
    differing: u64,
    dropped: u64,
    failed: u64,
    totals: BTreeMap<String, u64>,
    groups: Vec<Group>,
    failures: Vec<Failure>,
}

/// A replica that cannot decide by the shadow.
#[derive(Debug, Serialize)]
struct Failure {
    replica: ReplicaId,
    because: String,
}

/// What was compiled for a shadow that is to be written; taken back where it is not, however that ends.
struct Prepared<'a> {
    app: &'a App,
    tenant: TenantId,
    hash: ContentHash,
    written: bool,
}

/// Has every decision made again by a bundle from now on, in the place of the shadow there is.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<BundleBody>,
) -> Result<Response, Problem> {
    preconditions.required()?;
    let bundle = Arc::new(body.into_bundle());
    let asks = {
        let (bundle, of) = (Arc::clone(&bundle), caller.key);
        move || json!({ "caller": of, "action": Action::PutShadow.name(), "bundle": bundle.content_hash() })
    };
    let named = Named::of(&key, asks).await?;
    let make = Box::pin(begin(
        &app,
        &caller,
        &preconditions,
        &bundle,
        named.as_ref(),
    ));
    let (revision, begun) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let fleet = settle(&app, caller.tenant, revision, until).await?;
    if begun.made {
        at_work(&app, &caller, revision, |now| now >= Some(revision)).await?;
    }
    let begun = Begun {
        revision,
        fleet,
        ..begun
    };
    let mut response = ([(header::ETAG, etag(revision))], Json(begun)).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn begin(
    app: &App,
    caller: &Caller,
    preconditions: &Preconditions,
    bundle: &Arc<Bundle>,
    named: Option<&Named>,
) -> Result<(Revision, Begun), Problem> {
    let mut current = app.store.shadow_head(caller.tenant).await?.map(at);
    preconditions.check(current)?;
    let base = base(app, caller).await?;
    let tried = compile(Some(base), bundle)
        .await?
        .map_err(|error| refused(&error))?;
    let prepared = Prepared::of(app, caller.tenant, &tried.snapshot);
    let snapshot = &tried.snapshot;
    let begun = Begun {
        // Not known before it is written, and kept beside the answer.
        revision: Revision::default(),
        hash: snapshot.content_hash(),
        policies: snapshot.policy_count(),
        warnings: tried.warnings,
        cases: tried.cases,
        comparison: tried.comparison,
        fleet: None,
        made: true,
    };
    let answer = Answer::of(named, &begun)?;
    let mut left = ATTEMPTS;
    loop {
        let to = Some((bundle, begun.hash));
        match write(app, caller, current, to, &answer).await? {
            Ok(revision) => {
                prepared.written();
                return Ok((revision, begun));
            }
            Err(other) => {
                preconditions.check(other)?;
                current = other;
            }
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return Err(busy());
        }
    }
}

/// Says how far the shadow and what is in force disagree.
pub(crate) async fn get(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    if let Some(shadow) = app.shadows.of(caller.tenant) {
        shadow.caught_up(CATCH_UP).await;
        let replica = app.log.replica();
        shadow.note(&app.store, caller.tenant, replica).await?;
    }
    let head = app.store.shadow_head(caller.tenant).await?;
    let (revision, hash, since, by) = head.ok_or_else(none)?;
    let findings = app.store.shadow_findings(caller.tenant, revision).await?;
    let fleet = app.store.fleet(caller.tenant).await?;
    let found = Found::of((revision, hash, since, by), findings, &fleet)?;
    let mut response = ([(header::ETAG, etag(revision))], Json(found)).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Ends the shadow, and forgets what it has found.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::DeleteShadow.name() });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(end(&app, &caller, &preconditions, named.as_ref()));
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), make).await?;
    let fleet = settle(&app, caller.tenant, revision, until).await?;
    // Somebody may have put another one since.
    let gone = |now: Option<Revision>| now.is_none_or(|now| now > revision);
    at_work(&app, &caller, revision, gone).await?;
    let mut response = Json(Ended { revision, fleet }).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn end(
    app: &App,
    caller: &Caller,
    preconditions: &Preconditions,
    named: Option<&Named>,
) -> Result<(Revision, ()), Problem> {
    let mut current = app.store.shadow_head(caller.tenant).await?.map(at);
    let answer = Answer::of(named, &())?;
    let mut left = ATTEMPTS;
    loop {
        if current.is_none() {
            return Err(none());
        }
        preconditions.check(current)?;
        match write(app, caller, current, None, &answer).await? {
            Ok(revision) => return Ok((revision, ())),
            Err(other) => current = other,
        }
        left = left.saturating_sub(1);
        if left == 0 {
            return Err(busy());
        }
    }
}

/// Writes one change of the shadow over `current`; what is there instead, where that has changed.
async fn write(
    app: &App,
    caller: &Caller,
    current: Option<Revision>,
    to: Option<(&Arc<Bundle>, ContentHash)>,
    answer: &Answer<'_>,
) -> Result<Result<Revision, Option<Revision>>, Problem> {
    let expected = current.map_or(Expected::Absent, Expected::At);
    let act = match to {
        Some((_, hash)) => Act::of(Action::PutShadow).with("hash", json!(hash)),
        None => Act::of(Action::DeleteShadow),
    };
    let record = app.permit(caller, act).await?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let written = match to {
        Some((bundle, _)) => {
            let by = Some(caller.key);
            app.store
                .put_shadow(caller.tenant, expected, bundle, by, change)
                .await
        }
        None => {
            app.store
                .remove_shadow(caller.tenant, expected, change)
                .await
        }
    };
    match written {
        Ok(revision) => {
            log(caller, &record, revision);
            Ok(Ok(revision))
        }
        Err(Error::Conflict { current }) => Ok(Err(current)),
        Err(error) => Err(error.into()),
    }
}

/// Returns what is in force, beside which a shadow decides.
async fn base(app: &App, caller: &Caller) -> Result<Arc<Snapshot>, Problem> {
    if let Some(base) = app.engine.snapshot(caller.tenant) {
        return Ok(base);
    }
    let stored = app.store.bundle_revision(caller.tenant).await?;
    Err(stored.map_or_else(absent, |_| Kind::NOT_READY.into()))
}

/// Waits until the shadow at work on this replica is the one that was put, or is none.
async fn at_work(
    app: &App,
    caller: &Caller,
    revision: Revision,
    there: impl Fn(Option<Revision>) -> bool,
) -> Result<(), Problem> {
    let wait = app.commit_wait();
    if app.shadows.wait(caller.tenant, there, wait).await {
        return Ok(());
    }
    let detail = format!(
        "the change of the shadow at revision {revision} is written, and was not reached here within {} ms",
        wait.as_millis()
    );
    Err(Problem::new(Kind::REVISION_NOT_REACHED, detail).at(revision))
}

fn at<T>((revision, ..): (Revision, ContentHash, Timestamp, T)) -> Revision {
    revision
}

fn none() -> Problem {
    Problem::new(Kind::NOT_FOUND, "there is no shadow")
}

fn busy() -> Problem {
    let detail = "too many others are changing the shadow; nothing was changed, try again";
    Problem::new(Kind::CONFLICT, detail)
}

// === impl Prepared ===

impl<'a> Prepared<'a> {
    fn of(app: &'a App, tenant: TenantId, compiled: &Snapshot) -> Self {
        app.shadows.prepare(tenant, compiled);
        Self {
            app,
            tenant,
            hash: compiled.content_hash(),
            written: false,
        }
    }

    /// Leaves it to whoever puts the shadow to work.
    fn written(mut self) {
        self.written = true;
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        if !self.written {
            self.app.shadows.forgo(self.tenant, self.hash);
        }
    }
}

// === impl Found ===

impl Found {
    /// Adds up what the replicas have found.
    fn of(
        (revision, hash, since, by): (Revision, ContentHash, Timestamp, Option<KeyId>),
        findings: ShadowFindings,
        fleet: &Fleet,
    ) -> Result<Self, Problem> {
        let groups = findings.groups.into_iter();
        let mut found = Self {
            revision,
            hash,
            since,
            by,
            decided: 0,
            same: 0,
            differing: 0,
            dropped: 0,
            failed: 0,
            totals: BTreeMap::new(),
            groups: groups
                .map(|(group, count, samples)| {
                    Ok(Group {
                        difference: Difference::read(group)?,
                        count,
                        samples,
                    })
                })
                .collect::<Result<_, Problem>>()?,
            failures: Vec::new(),
        };
        sort(&mut found.groups);
        for (replica, tally) in findings.tallies {
            found.decided += tally.decided;
            found.same += tally.same;
            found.differing += tally.differing;
            found.dropped += tally.dropped;
            found.failed += tally.failed;
            for (outcome, count) in tally.totals {
                *found.totals.entry(outcome).or_default() += count;
            }
            // What one that is gone could not do, nobody can mend; what it counted stays.
            let is_live =
                |seen: &&SeenReplica| seen.replica.id == replica && !seen.is_lost(fleet.now);
            if fleet.replicas.iter().any(|seen| is_live(&seen)) {
                let failure = tally.failure.map(|because| Failure { replica, because });
                found.failures.extend(failure);
            }
        }
        Ok(found)
    }
}

// === impl Difference ===

impl Difference {
    fn read(group: ShadowGroup) -> Result<Self, Problem> {
        let unreadable = |error: serde_json::Error| Problem::caused(Kind::INTERNAL, error);
        let said = |text: &str| serde_json::from_str::<Said>(text).map_err(unreadable);
        let outcome = Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.name() == group.outcome);
        let outcome = outcome.ok_or_else(|| {
            let cause = format!("a group of a shadow has the outcome `{}`", group.outcome);
            Problem::caused(Kind::INTERNAL, cause)
        })?;
        Ok(Self {
            outcome,
            before: said(&group.before)?,
            after: said(&group.after)?,
            action: group.action,
        })
    }
}
