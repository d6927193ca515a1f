//! Approvals by script: whoever approves has the ground truth before them, and goes by what the card says.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use remit_core::{Bundle, canonical_json};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stand::Stand;
use super::suite::Call;
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
}

/// A request as they see it.
#[derive(Debug, Deserialize)]
struct Waiting {
    state: String,
    card_hash: String,
    card: Card,
}

#[derive(Debug, Deserialize)]
struct Card {
    call: CardCall,
}

#[derive(Debug, Deserialize)]
struct CardCall {
    action: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, Deserialize)]
struct Argument {
    name: String,
    #[serde(default)]
    value: Value,
    /// What is told in the place of a value that is kept back.
    redacted: Option<Value>,
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
        })
    }

    /// Answers a request: approves it where the card shows one of these calls, and nothing but that.
    ///
    /// # Errors
    ///
    /// Those of the client.
    pub(super) async fn answer(&self, request: &str, truth: &[Call]) -> Result<Answered, Error> {
        let path = ["v1", "approvals", request];
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % PERSONS;
        let (before, from) = self.persons.split_at(first.min(self.persons.len()));
        for person in from.iter().chain(before) {
            let shown: Waiting = person.get(&path, &[]).await?;
            if shown.state != "pending" {
                break;
            }
            let legitimate = truth.iter().any(|call| shown.card.call.is(call));
            let (how, body) = if legitimate {
                ("approve", json!({ "seen": shown.card_hash }))
            } else {
                let reason = "this is no call of the task";
                ("deny", json!({ "seen": shown.card_hash, "reason": reason }))
            };
            let path = ["v1", "approvals", request, how];
            let sent = person.request(Method::POST, &path)?.json(&body);
            person.send(sent).await?;
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

// === impl CardCall ===

impl CardCall {
    /// Whether it is this very call.
    fn is(&self, call: &Call) -> bool {
        let named = |name: &str| self.arguments.iter().find(|argument| argument.name == name);
        self.action == call.tool
            && self.arguments.len() == call.args.len()
            && call
                .args
                .iter()
                .all(|(name, value)| named(name).is_some_and(|argument| argument.is(value)))
    }
}

// === impl Argument ===

impl Argument {
    /// Whether it has this value, as far as it shows; equal numbers are equal however they are written.
    fn is(&self, value: &Value) -> bool {
        let spelled = |value: &Value| canonical_json(value).unwrap_or_default();
        self.redacted.is_some() || spelled(&self.value) == spelled(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_call_is_approved() -> Result<(), serde_json::Error> {
        let shown = json!({ "action": "send", "arguments": [
            { "name": "to", "type": "text", "value": "ann@a.example" },
            { "name": "count", "type": "number", "value": 2 },
        ] });
        let shown = CardCall::deserialize(shown)?;
        let is = |tool: &str, args: Value| {
            let call = Call::deserialize(json!({ "tool": tool, "args": args }));
            call.is_ok_and(|call| shown.is(&call))
        };

        assert!(is("send", json!({ "to": "ann@a.example", "count": 2.0 })));
        for (tool, args) in [
            ("drop", json!({ "to": "ann@a.example", "count": 2 })),
            ("send", json!({ "to": "ann@a.example" })),
            ("send", json!({ "to": "ann@a.example", "count": 3 })),
            ("send", json!({ "to": "eve@a.example", "count": 2 })),
            (
                "send",
                json!({ "to": "ann@a.example", "count": 2, "bcc": "eve@a.example" }),
            ),
            ("send", json!({ "to": "ann@a.example", "number": 2 })),
        ] {
            assert!(!is(tool, args.clone()), "{tool} {args}");
        }
        Ok(())
    }

    #[test]
    fn what_is_kept_back_is_not_compared() -> Result<(), serde_json::Error> {
        let kept = json!({ "name": "token", "redacted": { "type": "text", "length": 3 } });
        let shown = json!({ "action": "send", "arguments": [kept] });
        let call = Call::deserialize(json!({ "tool": "send", "args": { "token": "abc" } }))?;
        assert!(CardCall::deserialize(shown)?.is(&call));
        Ok(())
    }
}
