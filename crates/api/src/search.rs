//! `POST /access/v1/search/{subject,resource,action}`: which ones may (AuthZEN 1.0 §8).
//!
//! A search is answered from one snapshot and is not written to the decision log: it grants nothing, and an enforcement
//! point asks again before it acts. Who searched what is in the log line of the request and in the metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{Action, Facts, Question, Resource, Revision, Subject, canonical_json};
use remit_engine::{Found, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::auth::Caller;
use crate::evaluate::{ActionBody, EntityBody};
use crate::facts;
use crate::layers::Told;
use crate::metrics::Search;
use crate::problem::{Kind, Problem};
use crate::wire::{Body, Json, Wire, absent_if_null, object, optional_object};

/// The most results of one page.
const LARGEST_PAGE: usize = 1_000;
/// The results of one page where the caller asks for pages but not how long.
const USUAL_PAGE: usize = 100;
/// The most results of a search that is not paged; a longer answer must be, because it may not be partial.
const LARGEST_WHOLE: usize = 10_000;

/// A search for subjects (AuthZEN 1.0 §8.4); a subject's `id` is ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct SubjectSearch {
    #[serde(deserialize_with = "object")]
    subject: KindBody,
    #[serde(deserialize_with = "object")]
    action: ActionBody,
    #[serde(deserialize_with = "object")]
    resource: EntityBody,
    #[serde(default, deserialize_with = "absent_if_null")]
    context: Map<String, Value>,
    #[serde(default, deserialize_with = "optional_object")]
    page: Option<PageBody>,
}

/// A search for resources (AuthZEN 1.0 §8.5); a resource's `id` is ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct ResourceSearch {
    #[serde(deserialize_with = "object")]
    subject: EntityBody,
    #[serde(deserialize_with = "object")]
    action: ActionBody,
    #[serde(deserialize_with = "object")]
    resource: KindBody,
    #[serde(default, deserialize_with = "absent_if_null")]
    context: Map<String, Value>,
    #[serde(default, deserialize_with = "optional_object")]
    page: Option<PageBody>,
}

/// A search for actions (AuthZEN 1.0 §8.6); an `action` is ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct ActionSearch {
    #[serde(deserialize_with = "object")]
    subject: EntityBody,
    #[serde(deserialize_with = "object")]
    resource: EntityBody,
    #[serde(default, deserialize_with = "absent_if_null")]
    context: Map<String, Value>,
    #[serde(default, deserialize_with = "optional_object")]
    page: Option<PageBody>,
}

/// The entity that is searched for: only its type counts.
#[derive(Debug, Deserialize)]
pub(crate) struct KindBody {
    #[serde(rename = "type")]
    kind: String,
}

/// Which page (AuthZEN 1.0 §8.2).
#[derive(Debug, Deserialize)]
pub(crate) struct PageBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    token: String,
    #[serde(default)]
    limit: Option<u64>,
}

/// What a page token says, sealed together with the query it belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    /// The last result of the page before.
    after: String,
    /// The length of every page of this walk.
    limit: usize,
    /// The revision of the page before: a later page is never older.
    revision: Revision,
}

/// One page to be made: where it starts and how long it is.
struct Page {
    after: Option<String>,
    limit: usize,
    /// The query, as a hash that its tokens are bound to.
    query: [u8; 32],
    paged: bool,
}

/// Finds the subjects of a type that may do this to that.
pub(crate) async fn subjects(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<SubjectSearch>,
) -> Result<Response, Problem> {
    let SubjectSearch {
        subject,
        action,
        resource,
        context,
        page,
    } = body;
    let (action, resource): (Action, Resource) = (action.into(), resource.into());
    let stand_in = Subject {
        kind: subject.kind.clone(),
        id: "any".to_owned(),
        properties: Map::new(),
    };
    let question = Question {
        subject: stand_in,
        action,
        resource,
        context,
    };
    let kind = subject.kind;
    let named = kind.clone();
    search(
        app,
        caller,
        Search::Subject,
        question,
        page,
        move |snapshot, question, facts, after, limit| {
            let Question {
                action,
                resource,
                context,
                ..
            } = question;
            snapshot.search_subjects(&kind, action, resource, context, facts, after, limit)
        },
        move |id| Hit::Entity {
            kind: named.clone(),
            id,
        },
    )
    .await
}

/// Finds the resources of a type that this subject may do this to.
pub(crate) async fn resources(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ResourceSearch>,
) -> Result<Response, Problem> {
    let ResourceSearch {
        subject,
        action,
        resource,
        context,
        page,
    } = body;
    let stand_in = Resource {
        kind: resource.kind.clone(),
        id: "any".to_owned(),
        properties: Map::new(),
    };
    let question = Question {
        subject: subject.into(),
        action: action.into(),
        resource: stand_in,
        context,
    };
    let kind = resource.kind;
    let named = kind.clone();
    search(
        app,
        caller,
        Search::Resource,
        question,
        page,
        move |snapshot, question, facts, after, limit| {
            let Question {
                subject,
                action,
                context,
                ..
            } = question;
            snapshot.search_resources(subject, action, &kind, context, facts, after, limit)
        },
        move |id| Hit::Entity {
            kind: named.clone(),
            id,
        },
    )
    .await
}

/// Finds the actions that this subject may do to that.
pub(crate) async fn actions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ActionSearch>,
) -> Result<Response, Problem> {
    let ActionSearch {
        subject,
        resource,
        context,
        page,
    } = body;
    let stand_in = Action {
        name: "any".to_owned(),
        properties: Map::new(),
    };
    let question = Question {
        subject: subject.into(),
        action: stand_in,
        resource: resource.into(),
        context,
    };
    search(
        app,
        caller,
        Search::Action,
        question,
        page,
        |snapshot, question, facts, after, limit| {
            let Question {
                subject,
                resource,
                context,
                ..
            } = question;
            snapshot.search_actions(subject, resource, context, facts, after, limit)
        },
        |name| Hit::Action { name },
    )
    .await
}

/// Makes one page: `find` asks the snapshot, `show` writes one result.
///
/// `question` is the query with a stand-in for what is searched; it is what tokens are bound to.
async fn search(
    app: Arc<App>,
    caller: Caller,
    kind: Search,
    question: Question,
    page: Option<PageBody>,
    find: impl FnOnce(&Snapshot, &Question, &dyn Fn(&Question) -> Facts, Option<&str>, usize) -> Found
    + Send
    + 'static,
    show: impl Fn(String) -> Hit,
) -> Result<Response, Problem> {
    question.check()?;
    let query = query_hash(&caller, kind, &question)?;
    let (page, at_least) = Page::of(&app, query, page)?;
    let snapshot = app.snapshot_at(&caller, at_least).await?;
    let plain = app.facts(&caller);
    let revision = snapshot.revision();
    let started = std::time::Instant::now();
    let (after, limit) = (page.after.clone(), page.limit);
    // A search may look at every entity of a type: not on a thread that others are waiting for.
    let found = app
        .blocking(move || {
            // What is known of each candidate is its own: an agent that is suspended is none of them.
            let facts = |question: &Question| {
                facts::gather(&snapshot, plain.clone(), &caller.principal.name, question)
            };
            find(&snapshot, &question, &facts, after.as_deref(), limit)
        })
        .await?;
    app.metrics.searched(kind, started.elapsed());
    let results: Vec<Hit> = found.ids.iter().cloned().map(show).collect();
    let body = page.body(&app, &found, revision, results)?;
    let mut response = Json(body).into_response();
    Told::searched(revision, found.ids.len()).attach(&mut response);
    Ok(response)
}

/// Hashes everything that must not change between the pages of one walk.
fn query_hash(caller: &Caller, kind: Search, question: &Question) -> Result<[u8; 32], Problem> {
    let query = json!({ "tenant": caller.tenant, "search": kind.name(), "question": question });
    let bytes = canonical_json(&query).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    Ok(Sha256::digest(bytes).into())
}

// === impl Page ===

impl Page {
    /// Reads which page is asked for, and the revision that it must not be older than.
    fn of(
        app: &App,
        query: [u8; 32],
        page: Option<PageBody>,
    ) -> Result<(Self, Option<Revision>), Problem> {
        let invalid = |detail: &str| Problem::new(Kind::INVALID_REQUEST, detail);
        let Some(PageBody { token, limit }) = page else {
            return Ok((
                Self {
                    after: None,
                    limit: LARGEST_WHOLE,
                    query,
                    paged: false,
                },
                None,
            ));
        };
        let limit = match limit {
            Some(0) => return Err(invalid("`page.limit` must be at least 1")),
            // More than the largest page is a wish, not a mistake: the page is as long as it may be.
            Some(limit) => Some(
                usize::try_from(limit)
                    .unwrap_or(LARGEST_PAGE)
                    .min(LARGEST_PAGE),
            ),
            None => None,
        };
        if token.is_empty() {
            let limit = limit.unwrap_or(USUAL_PAGE);
            return Ok((
                Self {
                    after: None,
                    limit,
                    query,
                    paged: true,
                },
                None,
            ));
        }
        let cursor: Cursor = app.seal.open(&query, &token).ok_or_else(|| {
            invalid("`page.token` is not a token for this query; start again without one")
        })?;
        if limit.is_some_and(|limit| limit != cursor.limit) {
            return Err(invalid(
                "`page.limit` must stay the same from page to page, or be left out",
            ));
        }
        let page = Self {
            after: Some(cursor.after),
            limit: cursor.limit,
            query,
            paged: true,
        };
        Ok((page, Some(cursor.revision)))
    }

    /// Writes the body: `page` first (AuthZEN 1.0 §8.3), and only where pages were asked for.
    fn body(
        &self,
        app: &App,
        found: &Found,
        revision: Revision,
        results: Vec<Hit>,
    ) -> Result<SearchResults, Problem> {
        if !self.paged {
            if found.more {
                let detail = format!(
                    "there are more than {LARGEST_WHOLE} results; ask for them in pages with `page`"
                );
                return Err(Problem::new(Kind::INVALID_REQUEST, detail));
            }
            return Ok(SearchResults {
                page: None,
                results,
            });
        }
        let next_token = match found.ids.last().filter(|_| found.more) {
            None => String::new(),
            Some(last) => {
                let cursor = Cursor {
                    after: last.clone(),
                    limit: self.limit,
                    revision,
                };
                app.seal.seal(&self.query, &cursor).ok_or(Kind::INTERNAL)?
            }
        };
        Ok(SearchResults {
            page: Some(NextPage {
                next_token,
                count: results.len(),
            }),
            results,
        })
    }
}

/// The body of a search's answer (AuthZEN 1.0 §8.3).
#[derive(Debug, Serialize)]
pub(crate) struct SearchResults {
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<NextPage>,
    results: Vec<Hit>,
}

/// One result, with exactly these members in this order.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Hit {
    /// A subject or a resource.
    Entity {
        #[serde(rename = "type")]
        kind: String,
        id: String,
    },
    /// An action.
    Action { name: String },
}

/// How to go on; an empty token is the end.
#[derive(Debug, Serialize)]
pub(crate) struct NextPage {
    next_token: String,
    count: usize,
}

impl Wire for SubjectSearch {}
impl Wire for ResourceSearch {}
impl Wire for ActionSearch {}
