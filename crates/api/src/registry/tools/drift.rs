//! `POST /v1/tools/drift`: whether tools are still what they were when somebody approved them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{ContentHash, TenantId, canonical_json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AT_A_TIME, NAME_BYTES};
use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Kind, Problem};
use crate::registry::line;
use crate::wire::{Body, Json, Wire};

/// How many tools of the catalogue are read at a time.
const PAGE: usize = 1_000;

/// Descriptors as a server lists them now.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Presented {
    descriptors: Vec<Map<String, Value>>,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether anything is not as it was.
    drifted: bool,
    tools: Vec<Found>,
}

/// How one tool stands.
#[derive(Debug, Serialize)]
struct Found {
    name: String,
    state: Drift,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered: Option<ContentHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presented: Option<ContentHash>,
}

/// How a descriptor compares with the one that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Drift {
    /// It is the same.
    Same,
    /// It is another.
    Changed,
    /// The catalogue has the tool, and no descriptor of it.
    Unpinned,
    /// The catalogue does not have the tool.
    Unknown,
    /// The catalogue has its descriptor, and it was not presented.
    Missing,
}

/// Compares descriptors with those that were registered; changes nothing.
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(presented): Body<Presented>,
) -> Result<Response, Problem> {
    let mut presented = presented.hashes()?;
    let mut tools = Vec::new();
    for (name, registered) in registered(&app, caller.tenant).await? {
        let presented = presented.remove(&name);
        let state = match (registered, presented) {
            (Some(one), Some(other)) if one == other => Drift::Same,
            (Some(_), Some(_)) => Drift::Changed,
            (None, Some(_)) => Drift::Unpinned,
            (Some(_), None) => Drift::Missing,
            (None, None) => continue,
        };
        tools.push(Found {
            name,
            state,
            registered,
            presented,
        });
    }
    tools.extend(presented.into_iter().map(|(name, hash)| Found {
        name,
        state: Drift::Unknown,
        registered: None,
        presented: Some(hash),
    }));
    tools.sort_by(|one, other| one.name.cmp(&other.name));
    let drifted = tools.iter().any(|found| found.state != Drift::Same);
    Ok(Json(Report { drifted, tools }).into_response())
}

/// Reads the catalogue: each name with the hash of its descriptor.
async fn registered(
    app: &App,
    tenant: TenantId,
) -> Result<BTreeMap<String, Option<ContentHash>>, Problem> {
    let mut all = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = app.store.tools(tenant, after.as_deref(), PAGE).await?;
        let full = page.len() == PAGE;
        for stored in page {
            after = Some(stored.tool.name.to_string());
            all.insert(stored.tool.name.to_string(), stored.tool.descriptor);
        }
        if !full {
            return Ok(all);
        }
    }
}

// === impl Presented ===

impl Presented {
    /// Hashes each descriptor, by the name that it gives its tool.
    fn hashes(self) -> Result<BTreeMap<String, ContentHash>, Problem> {
        let invalid = |detail: String| Problem::new(Kind::INVALID_REQUEST, detail);
        if self.descriptors.is_empty() || self.descriptors.len() > AT_A_TIME {
            return Err(invalid(format!(
                "`descriptors`: 1 to {AT_A_TIME} were expected, not {}",
                self.descriptors.len()
            )));
        }
        let mut hashes = BTreeMap::new();
        for (index, descriptor) in self.descriptors.into_iter().enumerate() {
            let member = format!("descriptors[{index}].name");
            let Some(name) = descriptor.get("name").and_then(Value::as_str) else {
                return Err(invalid(format!("`{member}` must be a string")));
            };
            line(&member, name, NAME_BYTES)?;
            let name = name.to_owned();
            let text = canonical_json(&descriptor)
                .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
            if hashes.insert(name, ContentHash::of(&text)).is_some() {
                return Err(invalid(format!("`{member}` stands before it already")));
            }
        }
        Ok(hashes)
    }
}

impl Wire for Presented {
    const BYTES: usize = 8 << 20;
    const NODES: usize = 1_000_000;
}
