//! `remit decisions orphans`: permits in tasks of which nobody said what happened.

use remit_core::{DecisionId, EntityUid, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, plain};

/// Examples in `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
    remit decisions orphans
    remit decisions orphans --task 019aa8f2-6c1e-7d20-9a44-0c8b5e2f1b01 -o json";

/// The most on one page.
const PAGE: usize = 1_000;

/// A permit without an outcome.
#[derive(Debug, Serialize, Deserialize)]
struct Orphan {
    decision: DecisionId,
    at: Timestamp,
    task: Option<TaskId>,
    subject: EntityUid,
    action: String,
    resource: EntityUid,
}

/// One page of the list.
#[derive(Debug, Deserialize)]
struct Page {
    orphans: Vec<Orphan>,
    next: Option<String>,
}

/// Lists them, newest first.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(
    client: &Client,
    task: Option<TaskId>,
    limit: usize,
    out: &Output,
) -> Result<(), Error> {
    let mut found: Vec<Orphan> = Vec::new();
    let mut cursor = None;
    while found.len() < limit {
        let mut query = vec![("limit", (limit - found.len()).min(PAGE).to_string())];
        query.extend(task.map(|task| ("task", task.to_string())));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: Page = client.get(&["v1", "orphans"], &query).await?;
        found.extend(page.orphans);
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    found.truncate(limit);
    let columns = ["at", "subject", "action", "resource", "task", "decision"];
    out.rows(&found, &columns, |one| {
        vec![
            one.at.to_string(),
            plain(&one.subject.to_string()),
            plain(&one.action),
            plain(&one.resource.to_string()),
            one.task.map(|task| task.to_string()).unwrap_or_default(),
            one.decision.to_string(),
        ]
    })
}
