//! `/v1/kills`: what must stop now, whatever the policies say. One sets a kill; lifting it takes two persons.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, Uri, header};
use remit_core::{AdminAction, KillId, KillTarget, PrincipalName, Revision, TenantId, Timestamp};
use remit_store::{Change, LiftAsked, NewKill, Scope, StoredKill};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::line;
use crate::admin::second_person::{accounts, still_may};
use crate::admin::{Act, Action};
use crate::app::App;
use crate::auth::{Caller, lacking};
use crate::layers::Told;
use crate::paging::{self, Paging};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire};

/// How long what was asked waits for another person.
const PATIENCE: Duration = Duration::from_hours(1);
/// How often a kill is set again because somebody set or lifted one of its target meanwhile.
const ATTEMPTS: usize = 8;

/// A kill to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillBody {
    #[serde(deserialize_with = "strict")]
    target: KillTarget,
    reason: String,
}

/// Which kills are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    state: Option<Phase>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Whether a kill is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// It stops its target.
    InForce,
    /// It does not any more.
    Lifted,
}

/// A kill as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    id: KillId,
    state: Phase,
    target: KillTarget,
    reason: String,
    by: PrincipalName,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lift: Option<Lift>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifted_by: Option<PrincipalName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifted_at: Option<Timestamp>,
}

/// That somebody asks for a kill to be lifted.
#[derive(Debug, Serialize, Deserialize)]
struct Lift {
    asked_by: PrincipalName,
    asked_at: Timestamp,
    /// Until when another person can agree.
    expires_at: Timestamp,
}

/// What came of setting a kill.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    /// Whether there was none of its target before.
    made: bool,
    shown: Shown,
}

/// Lists kills, newest first, with those of everything that another tenant has set.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "kills", "tenant": caller.tenant, "state": wanted.state });
    let paging = Paging::<KillId>::of(&app, &filter, wanted.limit, wanted.cursor.as_deref())?;
    let lifted = wanted.state.map(|state| state == Phase::Lifted);
    let found = app
        .store
        .kills(caller.tenant, lifted, paging.after, paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.kill.id)?;
    let now = app.now();
    let kills: Vec<_> = found.into_iter().map(|one| Shown::of(one, now)).collect();
    Ok(paging::answer(&uri, "kills", &kills, next.as_deref()))
}

/// Sets a kill; one of the same target that is in force is answered as it is, and nobody's wish to lift it is left.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<KillBody>,
) -> Result<Response, Problem> {
    check(&body.target)?;
    line("reason", &body.reason, 1_024)?;
    let asks = json!({
        "caller": caller.key, "action": Action::CreateKill.name(), "target": body.target, "reason": body.reason,
    });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        spans(&app, &caller, &body.target).await?;
        for _ in 0..ATTEMPTS {
            let there = app.store.kill_of(caller.tenant, &body.target).await?;
            let done = match there {
                Some(there) => keep(&app, &caller, &body, there, named.as_ref()).await?,
                None => set(&app, &caller, &body, named.as_ref()).await?,
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        let detail = "others set and lift it all the time; nothing was changed, try again";
        Err(Problem::new(Kind::CONFLICT, detail))
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    let Done { made, mut shown } = done;
    // One that was there already came with a revision of its own.
    let revision = shown.revision.unwrap_or(revision);
    everywhere(&app, caller.tenant, &body.target, (revision, until)).await?;
    shown.revision = Some(revision);
    let status = if made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = format!("/v1/kills/{}", shown.id);
    let mut response = (status, Json(shown)).into_response();
    if let Some(location) = HeaderValue::try_from(location).ok().filter(|_| made) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Sets a kill; `None` where somebody was faster.
async fn set(
    app: &App,
    caller: &Caller,
    KillBody { target, reason }: &KillBody,
    named: Option<&Named>,
) -> Result<Option<(Revision, Done)>, Problem> {
    let id = KillId::from_uuid(app.clock.id());
    let record = app.permit(caller, setting(id, target, reason)).await?;
    let new = NewKill {
        id,
        target,
        reason,
        by: &caller.principal.name,
        key: caller.key,
        at: app.exact_time().await?,
    };
    let shown = Shown::new(&new);
    let done = Done { made: true, shown };
    let answer = Answer::of(named, &done)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let stored = app.store.set_kill(caller.tenant, new, change).await?;
    if stored.kill.id != id {
        return Ok(None);
    }
    tell(caller, &record, &done.shown, "kill set");
    Ok(Some((stored.revision, done)))
}

/// Records that somebody sets a kill that is in force, and takes back whatever was asked about lifting it; `None` where it
/// was lifted meanwhile.
async fn keep(
    app: &App,
    caller: &Caller,
    KillBody { target, reason }: &KillBody,
    there: StoredKill,
    named: Option<&Named>,
) -> Result<Option<(Revision, Done)>, Problem> {
    let (id, revision) = (there.kill.id, there.revision);
    let asked = there.asked.as_ref().map(|asked| &asked.by);
    let act = setting(id, target, reason)
        .with("in_force", json!(true))
        .with("asked_by", json!(asked));
    let record = app.permit(caller, act).await?;
    let stored = StoredKill {
        asked: None,
        ..there
    };
    let shown = Shown::of(stored, app.exact_time().await?);
    let done = Done { made: false, shown };
    let answer = Answer::of(named, &done)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    match app.store.keep_kill(caller.tenant, id, change).await {
        Ok(()) => {}
        Err(remit_store::Error::NotFound { what: "kill" }) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    tell(caller, &record, &done.shown, "kill set again");
    Ok(Some((revision, done)))
}

fn setting(id: KillId, target: &KillTarget, reason: &str) -> Act {
    Act::of(Action::CreateKill)
        .with("kill", json!(id))
        .with("target", json!(target))
        .with("reason", json!(reason))
}

/// Answers with one kill of the tenant.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<KillId>,
) -> Result<Response, Problem> {
    let found = find(&app, caller.tenant, id).await?;
    Ok(Json(Shown::of(found, app.now())).into_response())
}

/// Asks that a kill is lifted, to which another person has to agree.
pub(crate) async fn lift(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<KillId>,
    key: IdempotencyKey,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let asks = json!({ "caller": caller.key, "action": Action::LiftKill.name(), "kill": id });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let found = in_force(&app, tenant, id).await?;
        spans(&app, &caller, &found.kill.target).await?;
        let record = app
            .permit(
                &caller,
                about(&app, Action::LiftKill, &caller, &found).await?,
            )
            .await?;
        let at = app.exact_time().await?;
        let asked = LiftAsked {
            by: caller.principal.name.clone(),
            key: caller.key,
            at,
        };
        let stored = StoredKill {
            asked: Some(asked.clone()),
            ..found
        };
        let shown = Shown::of(stored, at);
        let answer = Answer::of(named.as_ref(), &shown)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        app.store.ask_lift(tenant, id, &asked, change).await?;
        tell(&caller, &record, &shown, "lifting a kill requested");
        Ok((Revision::default(), shown))
    };
    let (_, shown) = once(&app, tenant, named.as_ref(), Box::pin(make)).await?;
    Ok((StatusCode::ACCEPTED, Json(shown)).into_response())
}

/// Agrees that a kill is lifted; it stops nothing from now on.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<KillId>,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant;
    let asks =
        json!({ "caller": caller.key, "action": Action::ConfirmKillLift.name(), "kill": id });
    let named = Named::of(&key, move || asks).await?;
    let make = Box::pin(confirm_once(&app, &caller, id, named.as_ref()));
    let (revision, shown) = once(&app, tenant, named.as_ref(), make).await?;
    everywhere(&app, tenant, &shown.target, (revision, until)).await?;
    let mut response = Json(shown).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

async fn confirm_once(
    app: &App,
    caller: &Caller,
    id: KillId,
    named: Option<&Named>,
) -> Result<(Revision, Shown), Problem> {
    let tenant = caller.tenant;
    let found = in_force(app, tenant, id).await?;
    spans(app, caller, &found.kill.target).await?;
    let record = app
        .permit(
            caller,
            about(app, Action::ConfirmKillLift, caller, &found).await?,
        )
        .await?;
    let at = app.exact_time().await?;
    let asked = found.asked.clone().filter(|asked| at < end(asked.at));
    let Some(asked) = asked else {
        let detail = "nobody has asked within the last hour that it is lifted";
        return Err(Problem::new(Kind::CONFLICT, detail));
    };
    let everything = found.kill.target == KillTarget::Everything;
    let hosts = everything.then(|| Act::of(Action::KillEverything));
    for act in [Act::on(Action::LiftKill, &id)].iter().chain(&hosts) {
        if !still_may(app, tenant, &asked.by, asked.key, act).await? {
            let detail = format!("`{}` asked for it, and may not any more", asked.by);
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
    }
    let by = &caller.principal.name;
    let kill = found.kill.clone();
    let shown = Shown {
        state: Phase::Lifted,
        lift: None,
        lifted_by: Some(by.clone()),
        lifted_at: Some(at),
        ..Shown::of(found, at)
    };
    let answer = Answer::of(named, &shown)?;
    let change = Change {
        record: Some(&record),
        once: answer.once(),
    };
    let written = app
        .store
        .lift_kill(tenant, &kill, &asked, (by, at), change)
        .await?;
    tell(caller, &record, &shown, "kill lifted");
    Ok((written, shown))
}

/// Makes sure that whoever stops every tenant, or lets them go on, is one who runs this installation.
async fn spans(app: &App, caller: &Caller, target: &KillTarget) -> Result<(), Problem> {
    if *target != KillTarget::Everything {
        return Ok(());
    }
    let act = Act::of(Action::KillEverything);
    let key = app.keys.get(caller.key).ok_or(Kind::UNAUTHENTICATED)?;
    if !key.may(Scope::Tenants) {
        app.deny_scope(caller, &act).await?;
        return Err(lacking(Scope::Tenants));
    }
    app.permit(caller, act).await.map(drop)
}

/// Waits until a change is in force here, and where it is asked for on every live replica; one of everything in every
/// tenant that this replica can load.
async fn everywhere(
    app: &App,
    tenant: TenantId,
    target: &KillTarget,
    (revision, until): (Revision, Until),
) -> Result<(), Problem> {
    let mut all = vec![(tenant, revision)];
    if *target == KillTarget::Everything {
        let heads = app.store.heads().await.map_err(Problem::from);
        let heads = heads.map_err(|problem| problem.at(revision))?;
        let others = heads.into_iter().filter(|head| {
            let standing = app.progress.standing(head.tenant);
            // One that cannot be loaded permits nothing more once its last state is too old.
            let loads = standing.is_some_and(|standing| standing.failure().is_none());
            head.tenant != tenant && !head.deleted && loads
        });
        all.extend(others.map(|head| (head.tenant, head.revision)));
    }
    // All at once: each waits as long as one may, and so do all of them together.
    let waits = all.into_iter();
    let waits = waits.map(|(tenant, revision)| settle(app, tenant, revision, until));
    // Not only until the first fails: what is answered is how all of them stand.
    let settled: Result<Vec<_>, _> = join_all(waits).await.into_iter().collect();
    settled.map(drop)
}

/// Reads a target, which has no members but its own; serde would pass over others where a kind has none.
fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KillTarget, D::Error> {
    let target = Map::<String, Value>::deserialize(deserializer)?;
    let bare = matches!(
        target.get("kind").and_then(Value::as_str),
        Some("everything" | "tenant")
    );
    if bare && target.len() > 1 {
        return Err(D::Error::custom("no member but `kind` was expected"));
    }
    KillTarget::deserialize(Value::Object(target)).map_err(D::Error::custom)
}

/// Checks the names in a target as those of questions are.
fn check(target: &KillTarget) -> Result<(), Problem> {
    match target {
        KillTarget::Everything | KillTarget::Tenant | KillTarget::Task { .. } => Ok(()),
        KillTarget::Agent { agent } => {
            line("target.agent.type", &agent.kind, 256)?;
            line("target.agent.id", &agent.id, 1_024)
        }
        KillTarget::Tool { tool } => line("target.tool", tool, 256),
        KillTarget::Model { model } => line("target.model", model, 128),
    }
}

/// Says what is done to a kill, and whether by whoever asked for it.
async fn about(
    app: &App,
    action: Action,
    caller: &Caller,
    stored: &StoredKill,
) -> Result<Act, Problem> {
    let asked = stored.asked.as_ref();
    let accounts = accounts(app, caller.tenant, &caller.principal.name).await?;
    let own = asked.is_some_and(|asked| accounts.contains(&asked.by));
    Ok(Act::on(action, &stored.kill.id)
        .own(own)
        .with("target", json!(stored.kill.target))
        .with("asked_by", json!(asked.map(|asked| &asked.by))))
}

async fn find(app: &App, tenant: TenantId, id: KillId) -> Result<StoredKill, Problem> {
    let found = app.store.kill(tenant, id).await?;
    found.ok_or_else(|| Problem::new(Kind::NOT_FOUND, "there is no such kill"))
}

async fn in_force(app: &App, tenant: TenantId, id: KillId) -> Result<StoredKill, Problem> {
    let found = find(app, tenant, id).await?;
    if found.lifted.is_some() {
        let detail = "it was lifted already";
        return Err(Problem::new(Kind::CONFLICT, detail));
    }
    Ok(found)
}

/// Writes the line of a change, which is a warning.
fn tell(caller: &Caller, record: &AdminAction, kill: &Shown, what: &str) {
    tracing::warn!(
        target: "remit::admin", action = record.action, tenant = %caller.tenant, key = %caller.key,
        principal = %record.principal, request_id = caller.request_id, kill = %kill.id,
        what_stops = %json!(kill.target), "{what}"
    );
}

fn end(at: Timestamp) -> Timestamp {
    let patience = i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_add(patience))
}

// === impl Shown ===

impl Shown {
    fn new(new: &NewKill<'_>) -> Self {
        Self {
            id: new.id,
            state: Phase::InForce,
            target: new.target.clone(),
            reason: new.reason.to_owned(),
            by: new.by.clone(),
            at: new.at,
            revision: None,
            lift: None,
            lifted_by: None,
            lifted_at: None,
        }
    }

    fn of(stored: StoredKill, now: Timestamp) -> Self {
        let StoredKill {
            kill,
            revision,
            asked,
            lifted,
        } = stored;
        let state = match &lifted {
            Some(_) => Phase::Lifted,
            None => Phase::InForce,
        };
        let asked = asked.filter(|asked| lifted.is_none() && now < end(asked.at));
        Self {
            id: kill.id,
            state,
            target: kill.target,
            reason: kill.reason.to_string(),
            by: kill.by,
            at: kill.at,
            // What another tenant has set has no revision here.
            revision: Some(revision).filter(|revision| *revision != Revision::default()),
            lift: asked.map(|asked| Lift {
                expires_at: end(asked.at),
                asked_by: asked.by,
                asked_at: asked.at,
            }),
            lifted_at: lifted.as_ref().map(|lifted| lifted.at),
            lifted_by: lifted.map(|lifted| lifted.by),
        }
    }
}

impl Wire for KillBody {}
