//! `remit decisions replay`: recorded decisions made again, each under its own revision, to see that they come out the same.

use remit_core::{DecisionId, DecisionRecord};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::policy_impact::decisions;
use crate::client::Client;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, plain};

/// Examples in `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
    remit decisions replay
    remit decisions replay --agent invoice-bot --from 2026-11-22T00:00:00Z
    remit decisions replay --verdict permit -n 10000 -o json

Each is decided again by the policies and over the entities of its own revision, from the question and the facts in its
record. Exit 6 when one comes out otherwise, or cannot be made again.";

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    replayed: u64,
    reproduced: u64,
    differing: Vec<DecisionId>,
    not_replayable: Vec<Left>,
}

/// A decision that cannot be made again.
#[derive(Debug, Serialize)]
struct Left {
    id: DecisionId,
    because: String,
}

/// What matters of an explanation.
#[derive(Debug, Deserialize)]
struct Explained {
    entities: String,
    reproduced: bool,
}

/// Makes them again.
///
/// # Errors
///
/// Those of the client.
pub(crate) async fn run(
    client: &Client,
    records: &[DecisionRecord],
    out: &Output,
) -> Result<Exit, Error> {
    let all = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let bar = out.progress(all, "decisions made again");
    let mut outcome = Outcome {
        replayed: 0,
        reproduced: 0,
        differing: Vec::new(),
        not_replayable: Vec::new(),
    };
    for record in records {
        outcome.add(record.id, again(client, record.id).await)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let whole = outcome.reproduced == all;
    out.value(&outcome, text)?;
    Ok(if whole { Exit::Ok } else { Exit::GateFailed })
}

async fn again(client: &Client, id: DecisionId) -> Result<Explained, Error> {
    let path = ["v1", "decisions", &id.to_string(), "explain"];
    let request = client.request(Method::POST, &path)?;
    let recorded = request.query(&[("against", "recorded")]);
    client.send(recorded).await?.json()
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    for id in &outcome.differing {
        lines.push(format!("differs          {id}"));
    }
    for left in &outcome.not_replayable {
        let because = plain(&left.because);
        lines.push(format!("not replayable   {}  {because}", left.id));
    }
    lines.push(format!(
        "{} made again under their own revisions: {} came out the same, {} otherwise; {} could not be made again",
        decisions(outcome.replayed),
        outcome.reproduced,
        outcome.differing.len(),
        outcome.not_replayable.len()
    ));
    lines.join("\n")
}

// === impl Outcome ===

impl Outcome {
    fn add(&mut self, id: DecisionId, again: Result<Explained, Error>) -> Result<(), Error> {
        let because = match again {
            Ok(explained) if explained.reproduced => {
                self.replayed += 1;
                self.reproduced += 1;
                return Ok(());
            }
            // Over other entities than its own, another outcome says nothing.
            Ok(explained) if explained.entities != "recorded" => {
                "its entities are too many to be read back".to_owned()
            }
            Ok(_) => {
                self.replayed += 1;
                self.differing.push(id);
                return Ok(());
            }
            Err(Error::Refused(problem)) if matches!(problem.status, 404 | 409) => {
                problem.detail.clone()
            }
            Err(error) => return Err(error),
        };
        self.not_replayable.push(Left { id, because });
        Ok(())
    }
}
