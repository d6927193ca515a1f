//! `/v1/task-templates`: what is declared for a purpose once, so that a task made from it may only narrow it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{EntityUid, Revision, TenantId};
use remit_store::{Change, StoredTemplate};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::declaring::{Takes, TaskBody};
use crate::admin::{Act, Action, lockout::head, principals};
use crate::app::App;
use crate::auth::Caller;
use crate::change::{Attempt, Attempts};
use crate::layers::Told;
use crate::paging::{self, Page, Paging};
use crate::preconditions::{Preconditions, etag};
use crate::problem::{Kind, Problem};
use crate::publish::idempotency::{Answer, IdempotencyKey, Named, once};
use crate::query::{Query, Segments};
use crate::revisions::{Until, settle};
use crate::wire::{Body, Json};

/// A template as it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    name: String,
    #[serde(flatten)]
    template: TaskBody,
}

/// Lists the templates by name.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "task_templates", "tenant": caller.tenant });
    let paging = Paging::<String>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .task_templates(caller.tenant, paging.after.as_deref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.name.clone())?;
    let templates = found.into_iter().map(Shown::read);
    let templates = templates.collect::<Result<Vec<_>, _>>()?;
    Ok(paging::answer(
        &uri,
        "templates",
        &templates,
        next.as_deref(),
    ))
}

/// Answers with one template.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let stored = app.store.task_template(caller.tenant, &name).await?;
    let stored = stored.ok_or_else(|| absent(&name))?;
    let revision = stored.revision;
    let mut response = if preconditions.unchanged(revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(Shown::read(stored)?).into_response()
    };
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Makes or replaces a template.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<TaskBody>,
) -> Result<Response, Problem> {
    check_name(&name)?;
    body.check(Takes::Template)?;
    // As a declaration it must keep every limit that a task made from it must keep.
    let mut tried = body.clone();
    tried.purpose.get_or_insert("any".to_owned());
    tried.declare(EntityUid::new("Agent", "any"), app.now(), None, None)?;
    let text =
        serde_json::to_string(&body).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let asks = json!({ "caller": caller.key, "action": Action::PutTaskTemplate.name(), "name": name, "template": body });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = app.store.task_template(tenant, &name).await?;
            preconditions.check(before.as_ref().map(|stored| stored.revision))?;
            let act = Act::on(Action::PutTaskTemplate, &name).with("template", json!(body));
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written =
                app.store
                    .put_task_template(tenant, Some(checked), (&name, &text), change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let shown = Shown {
        name: name.clone(),
        template: body,
    };
    let mut response = Json(shown).into_response();
    response.headers_mut().insert(header::ETAG, etag(revision));
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Removes a template; the tasks that were made from it go on.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks =
        json!({ "caller": caller.key, "action": Action::DeleteTaskTemplate.name(), "name": name });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let tenant = caller.tenant;
        let mut attempts = Attempts::new(&app, tenant);
        loop {
            let checked = head(&app, tenant).await?;
            let before = app.store.task_template(tenant, &name).await?;
            let before = before.ok_or_else(|| absent(&name))?;
            preconditions.check(Some(before.revision))?;
            let act = Act::on(Action::DeleteTaskTemplate, &name);
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .delete_task_template(tenant, Some(checked), &name, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, ()));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, ()): (Revision, ()) =
        once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Returns the template that a task is to be made from.
///
/// # Errors
///
/// `invalid-request` where there is none of this name.
pub(super) async fn find(app: &App, tenant: TenantId, name: &str) -> Result<TaskBody, Problem> {
    match app.store.task_template(tenant, name).await? {
        Some(stored) => Ok(Shown::read(stored)?.template),
        None => {
            let name: String = name.chars().take(128).collect();
            let detail = format!("`template`: there is none of the name `{name}`");
            Err(Problem::new(Kind::INVALID_REQUEST, detail))
        }
    }
}

/// Checks the name of a new template, which is written into paths, files and policies.
fn check_name(name: &str) -> Result<(), Problem> {
    let mut bytes = name.bytes();
    let begins = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if begins && goes_on && name.len() <= 128 {
        return Ok(());
    }
    let detail = "the name of a template has 1 to 128 letters and digits of ASCII, `-`, `_` and `.`, and begins with one of the \
        first two";
    Err(Problem::new(Kind::INVALID_REQUEST, detail))
}

fn absent(name: &str) -> Problem {
    let name: String = name.chars().take(128).collect();
    Problem::new(Kind::NOT_FOUND, format!("there is no template `{name}`"))
}

// === impl Shown ===

impl Shown {
    fn read(stored: StoredTemplate) -> Result<Self, Problem> {
        let template = serde_json::from_str(&stored.body).map_err(|error| {
            let what = format!("`{}`: {error}", stored.name);
            let table = "task_templates";
            Problem::from(remit_store::Error::Corrupt { table, what })
        })?;
        Ok(Self {
            name: stored.name,
            template,
        })
    }
}
