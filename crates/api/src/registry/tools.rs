//! `/v1/tools`: the catalogue of tools, written one at a time or as a whole file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use remit_core::{
    AmountArgument, Confidentiality, ContentHash, Effects, Integrity, Revision, Tool,
    canonical_json,
};
use remit_store::Change;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{at_most, line, names, taken};
use crate::admin::lockout::head;
use crate::admin::{Act, Action, principals};
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
use crate::wire::{Body, Json, Wire, absent_if_null, from_value, optional_object};

pub(crate) mod drift;

/// The most tools that are written at a time.
const AT_A_TIME: usize = 1_000;
/// The longest name of a tool, in bytes.
const NAME_BYTES: usize = 256;
/// The most sinks of a tool, and the longest path of one in bytes.
const SINKS: (usize, usize) = (64, 256);
/// The most data classes or roles of a tool, and the longest name of one in bytes.
const LABELS: (usize, usize) = (64, 64);
/// The highest trust that a tool may ask for.
const MOST_TRUST: u64 = 3;
/// The most decimal places of an amount.
const MOST_PLACES: u64 = 9;
/// What a tool is to be; where nothing is said, the worst is taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolBody {
    #[serde(default, deserialize_with = "optional_object")]
    amount: Option<Amount>,
    #[serde(default)]
    classes: BTreeSet<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    clearance: Option<BTreeSet<String>>,
    #[serde(default, deserialize_with = "absent_if_null")]
    confidentiality: Option<Confidentiality>,
    #[serde(default)]
    cost: u64,
    #[serde(default, deserialize_with = "absent_if_null")]
    descriptor: Option<ContentHash>,
    #[serde(default, deserialize_with = "absent_if_null")]
    domain: Option<String>,
    effect: Effects,
    #[serde(default, deserialize_with = "absent_if_null")]
    environment: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    integrity: Option<Integrity>,
    #[serde(default, deserialize_with = "absent_if_null")]
    irreversible: Option<bool>,
    #[serde(default)]
    min_trust: u64,
    #[serde(default, deserialize_with = "absent_if_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    owner: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    roles: Option<BTreeSet<String>>,
    #[serde(default)]
    sinks: Vec<String>,
}

/// Where a tool finds the amount of a payment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    argument: String,
    scale: u64,
}

/// A catalogue to be written: tools by name, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    tools: Value,
}

/// What was done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Written {
    revision: Revision,
    written: usize,
}

/// What was done to one tool, as it is kept with the name of the request.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    tool: Tool,
}

/// Lists the tools by name.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    uri: Uri,
    Query(page): Query<Page>,
) -> Result<Response, Problem> {
    let filter = json!({ "list": "tools", "tenant": caller.tenant });
    let paging = Paging::<String>::of(&app, &filter, page.limit, page.cursor.as_deref())?;
    let found = app
        .store
        .tools(caller.tenant, paging.after.as_deref(), paging.limit + 1)
        .await?;
    let (found, next) = paging.cut(&app, found, |last| last.tool.name.to_string())?;
    let tools: Vec<_> = found.into_iter().map(|stored| stored.tool).collect();
    Ok(paging::answer(&uri, "tools", &tools, next.as_deref()))
}

/// Answers with one tool.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let found = app.store.tool(caller.tenant, &name).await?;
    let stored = found.ok_or_else(|| absent(&name))?;
    let mut response = if preconditions.unchanged(stored.revision) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(stored.tool).into_response()
    };
    response
        .headers_mut()
        .insert(header::ETAG, etag(stored.revision));
    Told::revision(stored.revision).attach(&mut response);
    Ok(response)
}

/// Makes or replaces one tool.
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(body): Body<ToolBody>,
) -> Result<Response, Problem> {
    let tool = body.named(&name)?;
    let asks = json!({ "caller": caller.key, "action": Action::PutTool.name(), "tool": tool });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let checked = head(&app, caller.tenant).await?;
            let before = app.store.tool(caller.tenant, &name).await?;
            preconditions.check(before.as_ref().map(|stored| stored.revision))?;
            let act = Act::on(Action::PutTool, &name).with("tool", json!(tool));
            let record = app.permit(&caller, act).await?;
            let done = Done { tool: tool.clone() };
            let answer = Answer::of(named.as_ref(), &done)?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let tools = std::slice::from_ref(&tool);
            let written = app
                .store
                .put_tools(caller.tenant, Some(checked), tools, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, done));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, done) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    // One that is written exactly as it was keeps its revision.
    let stored = app.store.tool(caller.tenant, &name).await?;
    let tag = stored.map_or(revision, |stored| stored.revision);
    let mut response = ([(header::ETAG, etag(tag))], Json(done.tool)).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Removes one tool.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(name): Segments<String>,
    preconditions: Preconditions,
    key: IdempotencyKey,
    Query(until): Query<Until>,
) -> Result<Response, Problem> {
    let asks = json!({ "caller": caller.key, "action": Action::DeleteTool.name(), "name": name });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let checked = head(&app, caller.tenant).await?;
            let found = app.store.tool(caller.tenant, &name).await?;
            let before = found.ok_or_else(|| absent(&name))?;
            preconditions.check(Some(before.revision))?;
            let act = Act::on(Action::DeleteTool, &name);
            let record = app.permit(&caller, act).await?;
            let answer = Answer::of(named.as_ref(), &())?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .delete_tool(caller.tenant, Some(checked), &name, change);
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
    let mut response = StatusCode::NO_CONTENT.into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Writes every tool of a catalogue in one step; tools that are not in it stay.
pub(crate) async fn put_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Query(until): Query<Until>,
    Body(catalogue): Body<Catalogue>,
) -> Result<Response, Problem> {
    let tools = catalogue.read()?;
    // Which they were, and exactly what: the record has no room for all of it.
    let written: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let canonical =
        canonical_json(&tools).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let hash = ContentHash::of(&canonical);
    let asks = json!({ "caller": caller.key, "action": Action::PutTools.name(), "tools": tools });
    let named = Named::of(&key, move || asks).await?;
    let make = async {
        let mut attempts = Attempts::new(&app, caller.tenant);
        loop {
            let checked = head(&app, caller.tenant).await?;
            let acts = tools
                .iter()
                .map(|tool| Act::on(Action::PutTool, &tool.name));
            app.spare(&caller, acts.collect()).await?;
            let act = Act::of(Action::PutTools)
                .with("written", json!(tools.len()))
                .with("tools", json!(written))
                .with("sha256", json!(hash));
            let record = app.permit(&caller, act).await?;
            let done = tools.len();
            let answer = Answer::of(named.as_ref(), &done)?;
            let change = Change {
                record: Some(&record),
                once: answer.once(),
            };
            let written = app
                .store
                .put_tools(caller.tenant, Some(checked), &tools, change);
            match Attempt::of(written.await)? {
                Attempt::Written(revision) => {
                    principals::log(&caller, &record, revision);
                    break Ok((revision, done));
                }
                Attempt::Moved(head) => attempts.again(head).await?,
            }
        }
    };
    let (revision, written) = once(&app, caller.tenant, named.as_ref(), Box::pin(make)).await?;
    settle(&app, caller.tenant, revision, until).await?;
    let mut response = Json(Written { revision, written }).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

fn absent(name: &str) -> Problem {
    Problem::new(Kind::NOT_FOUND, format!("there is no tool `{name}`"))
}

// === impl ToolBody ===

impl ToolBody {
    /// Checks what was sent, and takes the worst where nothing was said.
    fn named(self, name: &str) -> Result<Tool, Problem> {
        line("name", name, NAME_BYTES)?;
        if self.name.as_deref().is_some_and(|given| given != name) {
            let detail = "`name` is not the tool that is addressed; leave it out or send the same";
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
        names("sinks", self.sinks.iter(), SINKS)?;
        names("classes", self.classes.iter(), LABELS)?;
        for (member, labels) in [("clearance", &self.clearance), ("roles", &self.roles)] {
            if let Some(labels) = labels {
                names(member, labels.iter(), LABELS)?;
            }
        }
        for (member, text) in [
            ("domain", &self.domain),
            ("environment", &self.environment),
            ("owner", &self.owner),
        ] {
            if let Some(text) = text {
                line(member, text, 128)?;
            }
        }
        at_most("min_trust", self.min_trust, MOST_TRUST)?;
        if let Some(amount) = &self.amount {
            line("amount.argument", &amount.argument, SINKS.1)?;
            at_most("amount.scale", amount.scale, MOST_PLACES)?;
        }
        let undoable = matches!(self.effect, Effects::Read | Effects::Write);
        Ok(Tool {
            amount: self.amount.map(|amount| AmountArgument {
                argument: amount.argument.into(),
                scale: u8::try_from(amount.scale).unwrap_or_default(),
            }),
            classes: taken(self.classes),
            clearance: self.clearance.map(taken),
            confidentiality: self.confidentiality.unwrap_or(Confidentiality::Private),
            cost: self.cost,
            descriptor: self.descriptor,
            domain: self.domain.map(Into::into),
            effect: self.effect,
            environment: self.environment.map(Into::into),
            integrity: self.integrity.unwrap_or(Integrity::Untrusted),
            irreversible: self.irreversible.unwrap_or(!undoable),
            min_trust: u8::try_from(self.min_trust).unwrap_or_default(),
            name: name.into(),
            owner: self.owner.map(Into::into),
            roles: self.roles.map(taken),
            sinks: self.sinks.into_iter().map(Into::into).collect(),
        })
    }
}

// === impl Catalogue ===

impl Catalogue {
    /// Reads the tools, each checked as by itself.
    fn read(self) -> Result<Vec<Tool>, Problem> {
        let items: Vec<(String, Option<String>, Value)> = match self.tools {
            Value::Object(members) => members
                .into_iter()
                .map(|(name, tool)| (format!("tools.{name}"), Some(name), tool))
                .collect(),
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, tool)| (format!("tools[{index}]"), None, tool))
                .collect(),
            _ => {
                let detail = "`tools` must be an object of tools by name, or an array of tools";
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            }
        };
        if items.is_empty() || items.len() > AT_A_TIME {
            let detail = format!(
                "`tools`: 1 to {AT_A_TIME} tools were expected, not {}; send more in several requests",
                items.len()
            );
            return Err(Problem::new(Kind::INVALID_REQUEST, detail));
        }
        let mut tools = BTreeMap::new();
        for (place, name, item) in items {
            let blame = |problem: &Problem| {
                Problem::new(problem.kind(), format!("`{place}`: {}", problem.message()))
            };
            if !item.is_object() {
                let detail = format!("`{place}` must be an object");
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            }
            let body: ToolBody = from_value(item).map_err(|problem| blame(&problem))?;
            let Some(name) = name.or_else(|| body.name.clone()) else {
                let detail = format!("`{place}.name` is missing");
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            };
            let tool = body.named(&name).map_err(|problem| blame(&problem))?;
            if tools.insert(name, tool).is_some() {
                let detail = format!("`{place}` names a tool that stands before it already");
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            }
        }
        Ok(tools.into_values().collect())
    }
}

impl Wire for ToolBody {}

impl Wire for Catalogue {
    const BYTES: usize = 8 << 20;
    const NODES: usize = 400_000;
}
