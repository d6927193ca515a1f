//! Approvals by script: whoever approves knows the calls of the user's task, and goes by what was recorded.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use remit_core::{Bundle, ContentHash, DecisionId, Question, call_digest};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::stand::{Stand, patiently};
use crate::client::Client;
use crate::embedded::Embedded;
use crate::error::Error;

/// How many persons there are to approve: as many as a policy may want of one group here.
const PERSONS: usize = 3;
/// The most that a group may be asked, and each of its members answer within an hour; Remit takes no more.
const MOST: u32 = 10_000;

/// How a request for an approval ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// It was approved.
    Approved,
    /// It was refused, or could not be made.
    Refused,
}

/// The persons who approve.
#[derive(Debug)]
pub(super) struct Approvers {
    persons: Vec<Client>,
    /// How many requests were answered: they take turns.
    turn: AtomicUsize,
    /// Held while one request is made and answered: what is answered at once is in each other's way.
    desk: Mutex<()>,
}

/// A request as they see it.
#[derive(Debug, Deserialize)]
struct Waiting {
    state: String,
    card_hash: String,
    decision: DecisionId,
}

/// The decision that it asks about.
#[derive(Debug, Deserialize)]
struct Denied {
    question: Question,
}

/// Returns every group that a policy of the bundle wants an approval of.
fn groups(bundle: &Bundle) -> BTreeSet<String> {
    const CURE: &str = "@cure(\"approval:";
    let texts = bundle.policies.iter().flat_map(|source| {
        let parts = source.text.split(CURE).skip(1);
        parts.filter_map(|part| part.split_once('"'))
    });
    texts.map(|(group, _)| group.to_owned()).collect()
}

// === impl Approvers ===

impl Approvers {
    /// Registers the persons and makes them members of every group that the policies name.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn set_up(
        remit: &Embedded,
        stand: &Stand,
        bundle: &Bundle,
    ) -> Result<Self, Error> {
        let mut members = Vec::new();
        let mut persons = Vec::new();
        for number in 1..=PERSONS {
            let name = format!("approver-{number}");
            let person = json!({ "kind": "person", "roles": ["approver"] });
            stand.put(&["v1", "principals", &name], &person).await?;
            let key = json!({
                "name": name, "environment": "dev", "scopes": ["approve", "read"], "principal": name,
            });
            let made = stand
                .send(|| {
                    Ok(stand
                        .client
                        .request(Method::POST, &["v1", "keys"])?
                        .json(&key))
                })
                .await?;
            let made: Value = made.json()?;
            let key = made.get("key").and_then(Value::as_str).unwrap_or_default();
            persons.push(remit.client_of(&name, key)?);
            members.push(json!({ "principal": name }));
        }
        for group in groups(bundle) {
            let body = json!({ "members": members, "most_open": MOST, "most_per_hour": MOST });
            stand.put(&["v1", "approver-groups", &group], &body).await?;
        }
        Ok(Self {
            persons,
            turn: AtomicUsize::new(0),
            desk: Mutex::new(()),
        })
    }

    /// Waits until nobody else is asking.
    pub(super) async fn desk(&self) -> MutexGuard<'_, ()> {
        self.desk.lock().await
    }

    /// Answers a request: approves it where what was denied is one of these calls, by its digest, and nothing else. A card
    /// with secrets has no digest, so that it is that of the recorded question.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn answer(
        &self,
        request: &str,
        truth: &BTreeSet<ContentHash>,
    ) -> Result<Answered, Error> {
        let path = ["v1", "approvals", request];
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % PERSONS;
        let (before, from) = self.persons.split_at(first.min(self.persons.len()));
        for person in from.iter().chain(before) {
            let shown: Waiting = person.get(&path, &[]).await?;
            if shown.state != "pending" {
                break;
            }
            let decision = shown.decision.to_string();
            let denied: Denied = person.get(&["v1", "decisions", &decision], &[]).await?;
            let legitimate = truth.contains(&call_digest(&denied.question));
            let (how, body) = if legitimate {
                ("approve", json!({ "seen": shown.card_hash }))
            } else {
                let reason = "this is no call of the task";
                ("deny", json!({ "seen": shown.card_hash, "reason": reason }))
            };
            let path = ["v1", "approvals", request, how];
            patiently(person, || {
                Ok(person.request(Method::POST, &path)?.json(&body))
            })
            .await?;
            if !legitimate {
                return Ok(Answered::Refused);
            }
        }
        let [first, ..] = self.persons.as_slice() else {
            return Ok(Answered::Refused);
        };
        let ended: Waiting = first.get(&path, &[]).await?;
        Ok(match &*ended.state {
            "approved" => Answered::Approved,
            _ => Answered::Refused,
        })
    }
}
