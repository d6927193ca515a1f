//! The Remit that is asked: the policies with the tools of one suite, their catalogue, and one agent.

use std::path::Path;
use std::time::Duration;

use remit_core::{Bundle, Clock, Timestamp};
use reqwest::header::{ETAG, IF_MATCH};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::suite::{Call, Suite};
use crate::bundle_dir;
use crate::client::{Client, Reply};
use crate::cmd::schema;
use crate::error::Error;
use crate::starter;

/// The agent, and the person who answers for it.
const NAME: &str = "bench";
/// Every role of the baseline: what holds the agent is its task.
const ROLES: &[&str] = &[
    "reader",
    "editor",
    "courier",
    "payer",
    "operator",
    "keeper",
    "coordinator",
];
/// How often a request is sent again that the service had no room for.
const ATTEMPTS: u32 = 100;

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Permitted, and nobody was asked.
    Permitted,
    /// Denied until a person approves it.
    WouldAsk,
    /// Denied.
    Denied,
}

/// A Remit that is ready for a suite.
#[derive(Debug)]
pub(super) struct Stand {
    pub(super) client: Client,
}

/// Reads the policies: those of a folder, or the baseline that this binary carries.
///
/// # Errors
///
/// [`Error::Invalid`] and [`Error::Io`].
pub(super) fn pack(dir: Option<&Path>) -> Result<Bundle, Error> {
    match dir {
        Some(dir) => Ok(bundle_dir::read(dir)?.bundle),
        None => starter::baseline(),
    }
}

/// Puts the tools of a suite in the place of those that the policies come with.
///
/// # Errors
///
/// [`Error::Invalid`] for tools that the schema cannot take.
pub(super) fn bundle(pack: &Bundle, suite: &Suite) -> Result<Bundle, Error> {
    let tools: Vec<_> = suite.tools.values().cloned().collect();
    starter::with_tools(pack.clone(), &suite.descriptors, &tools)
}

/// Returns the time so many days from now.
fn days_ahead(days: u64) -> Timestamp {
    Clock::system().now().plus(Duration::from_hours(24 * days))
}

// === impl Stand ===

impl Stand {
    /// Brings the tools of a suite into the catalogue, and the agent into the registry; puts the bundle in force where
    /// another one is.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn set_up(
        client: Client,
        suite: &Suite,
        bundle: &Bundle,
        replace: bool,
    ) -> Result<Self, Error> {
        let stand = Self { client };
        if replace {
            let path = ["v1", "bundle"];
            let now = stand
                .send(|| stand.client.request(Method::GET, &path))
                .await?;
            let tag = now.header(ETAG.as_str()).unwrap_or_default().to_owned();
            stand
                .send(|| {
                    let request = stand.client.request(Method::PUT, &path)?;
                    Ok(request.header(IF_MATCH, &tag).json(bundle))
                })
                .await?;
        }
        let owner = json!({ "kind": "person", "roles": ["author"] });
        stand.put(&["v1", "principals", NAME], &owner).await?;
        let agent = json!({
            "owner": NAME,
            "purpose": "bench",
            "environment": "bench",
            "model": "none",
            "trust": 2,
            "roles": ROLES,
            "review_at": days_ahead(90),
            "ends_at": days_ahead(180),
        });
        stand
            .put(&["v1", "agents", starter::AGENT, NAME], &agent)
            .await?;
        let tools: Vec<_> = suite.tools.values().cloned().collect();
        let tools = json!({ "tools": schema::catalogue(&tools)? });
        stand.put(&["v1", "tools"], &tools).await?;
        Ok(stand)
    }

    /// Returns the agent's name in questions.
    pub(super) fn agent() -> Value {
        json!({ "type": starter::AGENT, "id": NAME })
    }

    /// Writes the question of a call in a task.
    pub(super) fn question(suite: &Suite, call: &Call, task: &str) -> Value {
        let tool = suite.tools.get(&call.tool);
        let domain = tool.and_then(|tool| tool.domain.as_deref());
        json!({
            "subject": Self::agent(),
            "action": { "name": call.tool, "properties": call.args },
            "resource": { "type": starter::SERVICE, "id": domain.unwrap_or(&suite.name) },
            "context": { "task": task, "tool_hash": tool.and_then(|tool| tool.descriptor) },
        })
    }

    /// Puts something.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn put(&self, path: &[&str], body: &Value) -> Result<Reply, Error> {
        self.send(|| Ok(self.client.request(Method::PUT, path)?.json(body)))
            .await
    }

    /// Sends a request as [`patiently`].
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn send(
        &self,
        request: impl Fn() -> Result<RequestBuilder, Error>,
    ) -> Result<Reply, Error> {
        patiently(&self.client, request).await
    }
}

/// Sends a request; once more, and again, while the service has no room, does not know enough yet, or too many others are
/// changing the tenant.
///
/// # Errors
///
/// Those of the client.
pub(super) async fn patiently(
    client: &Client,
    request: impl Fn() -> Result<RequestBuilder, Error>,
) -> Result<Reply, Error> {
    let mut attempt = 1;
    loop {
        match client.send(request()?).await {
            Err(Error::Refused(problem))
                if matches!(problem.status, 409 | 503) && attempt < ATTEMPTS =>
            {
                tokio::time::sleep(Duration::from_millis(25) * attempt.min(10)).await;
                attempt += 1;
            }
            other => return other,
        }
    }
}
