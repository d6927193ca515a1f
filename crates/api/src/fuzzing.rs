//! Doors to what reads bytes from outside, for fuzz targets alone; there is nothing here without the feature `fuzzing`.
//!
//! Each door is a function that the product calls too, with nothing around it: no request, no database, no log.

use axum::extract::FromRequestParts;
use axum::response::Response;
use futures_util::FutureExt;
use http::{Request, Uri, header};
use remit_core::{Entity, EntityUid, Question};
use remit_store::DecisionFilter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entities::bulk::Changes;
use crate::evaluate::EvaluationBody;
use crate::evaluations::{Asked, EvaluationsBody};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::token::Seal;
use crate::wire::{Wire, decode};
use crate::{decisions, entities, paging};

/// A list's position and length, as its query asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The most entries.
    pub limit: Option<usize>,
    /// Where it begins.
    pub cursor: Option<String>,
}

/// Any JSON object, within the limits of an evaluation.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Any(Value);

impl Wire for Any {}

/// Reads a JSON object strictly, as the body of an evaluation is read.
///
/// # Errors
///
/// The [`Problem`] that the client is told.
pub fn object(bytes: &[u8]) -> Result<Value, Problem> {
    decode(bytes).map(|Any(value)| value)
}

/// Reads the body of an evaluation.
///
/// # Errors
///
/// The [`Problem`] that the client is told.
pub fn question(bytes: &[u8]) -> Result<Question, Problem> {
    decode::<EvaluationBody>(bytes).map(Question::from)
}

/// Reads the body of a batch: its questions in order, or one where it has no items.
///
/// # Errors
///
/// The [`Problem`] that the client is told of the whole batch.
pub fn questions(bytes: &[u8]) -> Result<Vec<Result<Question, Problem>>, Problem> {
    Ok(match decode::<EvaluationsBody>(bytes)?.asked()? {
        Asked::One(question) => vec![Ok(*question)],
        Asked::Many(items, _) => items,
    })
}

/// Reads the body of a bulk import: one JSON object a line, or one array.
///
/// # Errors
///
/// The [`Problem`] that the client is told.
pub fn changes(bytes: &[u8], lines: bool) -> Result<(Vec<Entity>, Vec<EntityUid>), Problem> {
    let changes = if lines {
        Changes::of_lines(bytes)
    } else {
        Changes::of_array(bytes)
    };
    changes.map(|changes| (changes.upserts, changes.removals))
}

/// Reads the query of a list of decisions.
///
/// # Errors
///
/// The [`Problem`] that the client is told.
pub fn decisions_query(uri: &Uri) -> Result<(DecisionFilter, Page), Problem> {
    let wanted: decisions::Wanted = query(uri)?;
    let filter = wanted.filter()?;
    let (limit, cursor) = (wanted.limit, wanted.cursor);
    Ok((filter, Page { limit, cursor }))
}

/// Reads the query of a list of entities: the type, and the page.
///
/// # Errors
///
/// The [`Problem`] that the client is told.
pub fn entities_query(uri: &Uri) -> Result<(Option<String>, Page), Problem> {
    let wanted: entities::Wanted = query(uri)?;
    let (limit, cursor) = (wanted.limit, wanted.cursor);
    Ok((wanted.kind, Page { limit, cursor }))
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let (mut parts, ()) = Request::builder()
        .uri(uri.clone())
        .body(())
        .map_err(|error| Problem::caused(Kind::INTERNAL, error))?
        .into_parts();
    Query::from_request_parts(&mut parts, &())
        .now_or_never()
        .unwrap_or_else(|| Err(Kind::INTERNAL.into()))
        .map(|Query(wanted)| wanted)
}

/// Writes the `Link` header that leads from the page at `uri` to the next one.
pub fn next_link(uri: &Uri, cursor: &str) -> Option<String> {
    let mut response = Response::default();
    paging::link(&mut response, uri, Some(cursor));
    let link = response.headers().get(header::LINK)?;
    link.to_str().ok().map(str::to_owned)
}

/// Seals a page token.
pub fn seal(key: [u8; 32], query: &[u8], cursor: &impl Serialize) -> Option<String> {
    Seal::new(key).seal(query, cursor)
}

/// Opens a page token.
pub fn open<T: DeserializeOwned>(key: [u8; 32], query: &[u8], token: &str) -> Option<T> {
    Seal::new(key).open(query, token)
}
