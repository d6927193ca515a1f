//! `/v1/settings`: what a tenant demands of its administration.
//!
//! A demand holds as soon as somebody makes it. It is dropped when two agree: one asks, and another person confirms.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use remit_core::{BreakGlassId, KeyId, PrincipalName, Revision, Timestamp};
use remit_store::{Change, PendingSettings, Settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::lockout::{Roster, head};
use super::principals::log;
use super::second_person::{accounts, still_may};
use super::{Act, Action, system};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::Query;
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json, Wire};

/// How long what was asked waits for another person.
const PATIENCE: Duration = Duration::from_hours(24);

/// What the settings are to be.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingsBody {
    second_person: bool,
}

/// The settings, and what they are to be.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    second_person: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

/// The settings, and which break-glass grants are active.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    break_glass: Vec<BreakGlassId>,
}

/// What somebody has asked for and another has to confirm.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    second_person: bool,
    asked_by: PrincipalName,
    key: KeyId,
    at: Timestamp,
    expires_at: Timestamp,
}

/// What a change of the settings is answered.
#[derive(Debug, Serialize, Deserialize)]
struct Answered {
    /// When the settings were last changed; nothing where this change did it.
    revision: Option<Revision>,
    shown: Shown,
}

/// Answers with the settings.
pub(crate) async fn get(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let stored = app.store.settings(caller.tenant).await?;
    let tag = etag(stored.revision);
    let shown = Shown::of(stored.settings, live(&app, stored.pending));
    let at = app.exact_time().await?;
    let break_glass = app.store.active_break_glass(caller.tenant, at).await?;
    let whole = Whole { shown, break_glass };
    Ok(([(header::ETAG, tag)], Json(whole)).into_response())
}

/// Changes the settings: at once where more is demanded, as a request where less is.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<SettingsBody>,
) -> Result<Response, Problem> {
    preconditions.required()?;
    let wanted = Settings::from(body);
    let named = named(&caller, &key, Action::PutSettings, wanted).await?;
    let make = Box::pin(put_once(
        &app,
        &caller,
        &preconditions,
        named.as_ref(),
        wanted,
    ));
    let (revision, answered) = once(&app, caller.tenant, named.as_ref(), make).await?;
    answered.answer(&app, &caller, revision, until).await
}

/// Agrees to what another person has asked of the settings.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<SettingsBody>,
) -> Result<Response, Problem> {
    let wanted = Settings::from(body);
    let named = named(&caller, &key, Action::ConfirmSettings, wanted).await?;
    let make = Box::pin(confirm_once(&app, &caller, named.as_ref(), wanted));
    let (revision, answered) = once(&app, caller.tenant, named.as_ref(), make).await?;
    answered.answer(&app, &caller, revision, until).await
}

async fn named(
    caller: &Caller,
    key: &IdempotencyKey,
    action: Action,
    wanted: Settings,
) -> Result<Option<Named>, Problem> {
    let asks = json!({ "caller": caller.key, "action": action.name(), "settings": wanted });
    Named::of(key, move || asks).await
}

async fn put_once(
    app: &App,
    caller: &Caller,
    preconditions: &Preconditions,
    named: Option<&Named>,
    wanted: Settings,
) -> Result<(Revision, Answered), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let stored = app.store.settings(tenant).await?;
        preconditions.check(Some(stored.revision))?;
        let act = Act::of(Action::PutSettings)
            .loosens(stored.settings.second_person && !wanted.second_person)
            .with("before", json!(stored.settings))
            .with("settings", json!(wanted));
        let record = app.permit(caller, act).await?;
        let record = Some(&record);
        if wanted == stored.settings || stored.settings.second_person {
            // One who asks for what is there takes back what was asked.
            let pending = (wanted != stored.settings).then(|| PendingSettings {
                settings: wanted,
                asked_by: caller.principal.name.clone(),
                key: caller.key,
                at: app.now(),
            });
            let answered = Answered {
                revision: Some(stored.revision),
                shown: Shown::of(stored.settings, pending.clone()),
            };
            let answer = Answer::of(named, &answered)?;
            let once = answer.once();
            app.store
                .ask_settings(tenant, pending.as_ref(), Change { record, once })
                .await?;
            record.inspect(|record| log(caller, record, stored.revision));
            return Ok((stored.revision, answered));
        }
        let roster = Roster::of(app, tenant).await?.demanding();
        let system = system::in_force(app, tenant).await?;
        roster.check(&system)?;
        let answered = Answered {
            revision: None,
            shown: Shown::of(wanted, None),
        };
        let answer = Answer::of(named, &answered)?;
        let once = answer.once();
        let change = Change { record, once };
        let written = app.store.change_settings(tenant, checked, wanted, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                record.inspect(|record| log(caller, record, revision));
                return Ok((revision, answered));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

async fn confirm_once(
    app: &App,
    caller: &Caller,
    named: Option<&Named>,
    wanted: Settings,
) -> Result<(Revision, Answered), Problem> {
    let tenant = caller.tenant;
    let mut attempts = Attempts::new(app, tenant);
    loop {
        let checked = head(app, tenant).await?;
        let stored = app.store.settings(tenant).await?;
        let pending = live(app, stored.pending).filter(|pending| pending.settings == wanted);
        let Some(pending) = pending else {
            let detail = "nobody has asked for these settings within the last 24 hours";
            return Err(Problem::new(Kind::CONFLICT, detail));
        };
        let asks = Act::of(Action::PutSettings).loosens(true);
        if !still_may(app, tenant, &pending.asked_by, pending.key, &asks).await? {
            let detail = format!(
                "`{}` asked for them, and may not any more",
                pending.asked_by
            );
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        let accounts = accounts(app, tenant, &caller.principal.name).await?;
        let act = Act::of(Action::ConfirmSettings)
            .own(accounts.contains(&pending.asked_by))
            .with("asked_by", json!(pending.asked_by))
            .with("settings", json!(wanted));
        let record = app.permit(caller, act).await?;
        let answered = Answered {
            revision: None,
            shown: Shown::of(wanted, None),
        };
        let answer = Answer::of(named, &answered)?;
        let change = Change {
            record: Some(&record),
            once: answer.once(),
        };
        let confirmer = &caller.principal.name;
        let written = app
            .store
            .confirm_settings(tenant, checked, &pending, confirmer, change);
        match Attempt::of(written.await)? {
            Attempt::Written(revision) => {
                log(caller, &record, revision);
                return Ok((revision, answered));
            }
            Attempt::Moved(head) => attempts.again(head).await?,
        }
    }
}

// === impl Answered ===

impl Answered {
    /// Answers once what was changed is in force here.
    async fn answer(
        self,
        app: &App,
        caller: &Caller,
        changed: Revision,
        until: Until,
    ) -> Result<Response, Problem> {
        let Self { revision, shown } = self;
        let status = match &shown.pending {
            Some(_) => StatusCode::ACCEPTED,
            None => StatusCode::OK,
        };
        let tag = etag(revision.unwrap_or(changed));
        let mut response = (status, [(header::ETAG, tag)], Json(shown)).into_response();
        if revision.is_none() {
            settle(app, caller.tenant, changed, until).await?;
            Told::revision(changed).attach(&mut response);
        }
        Ok(response)
    }
}

// === impl Shown ===

impl Shown {
    fn of(settings: Settings, pending: Option<PendingSettings>) -> Self {
        let pending = pending.map(|pending| Pending {
            second_person: pending.settings.second_person,
            asked_by: pending.asked_by,
            key: pending.key,
            at: pending.at,
            expires_at: end(pending.at),
        });
        Self {
            second_person: settings.second_person,
            pending,
        }
    }
}

/// Leaves out what was asked too long ago.
fn live(app: &App, pending: Option<PendingSettings>) -> Option<PendingSettings> {
    pending.filter(|pending| app.now() < end(pending.at))
}

fn end(at: Timestamp) -> Timestamp {
    let patience = i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(at.micros().saturating_add(patience))
}

impl From<SettingsBody> for Settings {
    fn from(body: SettingsBody) -> Self {
        Self {
            second_person: body.second_person,
        }
    }
}

impl Wire for SettingsBody {}
