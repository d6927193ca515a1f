//! Waiting until a revision is in force on every live replica, and saying where it is not.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::error::Error;
use crate::output::plain;

/// How long one request waits at most: less than the server allows, and than proxies tend to.
const ONE_WAIT: Duration = Duration::from_secs(5);
/// How much longer than it waits an answer may take.
const GRACE: Duration = Duration::from_secs(10);

/// Where a revision is in force, as the server says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Barrier {
    /// Whether every live replica has it.
    pub(crate) reached: bool,
    replicas: Vec<Replica>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Replica {
    name: String,
    state: String,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Asks until every live replica has `revision`, for at most `patience`.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn wait(
    client: &Client,
    revision: u64,
    patience: Duration,
) -> Result<Barrier, Error> {
    let until = Instant::now() + patience;
    let number = revision.to_string();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = left.min(ONE_WAIT);
        let request = client
            .request(Method::GET, &["v1", "revisions", &number])?
            .query(&[("wait", wait.as_millis().to_string())])
            .timeout(ONE_WAIT + GRACE);
        let barrier: Barrier = client.send(request).await?.json()?;
        if barrier.reached || wait == left {
            return Ok(barrier);
        }
    }
}

// === impl Barrier ===

impl Barrier {
    /// Says in a few lines where it is and where it is not.
    pub(crate) fn lines(&self) -> Vec<String> {
        let names = |state: &str| {
            let such = self.replicas.iter().filter(|one| one.state == state);
            let names: Vec<String> = such.map(|one| plain(&one.name)).collect();
            names.join(", ")
        };
        let mut lines = Vec::new();
        if self.reached {
            lines.push(format!("on every live replica: {}", names("reached")));
        }
        for replica in &self.replicas {
            let name = plain(&replica.name);
            match (replica.state.as_str(), &replica.failure) {
                ("reached" | "lost", _) => {}
                (_, Some(failure)) => lines.push(format!(
                    "not on {name}, which is at revision {}: {}",
                    replica.revision,
                    plain(failure)
                )),
                (_, None) => lines.push(format!(
                    "not on {name}, which is at revision {}",
                    replica.revision
                )),
            }
        }
        let lost = names("lost");
        if !lost.is_empty() {
            lines.push(format!("lost, and not waited for: {lost}"));
        }
        lines
    }
}
