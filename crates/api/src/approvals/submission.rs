//! What an enforcement point sends to ask for an approval, and its limits.

use remit_core::{Question, Timestamp};
use remit_store::StoredRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::evaluate::{ActionBody, EntityBody};
use crate::problem::{Kind, Problem};
use crate::wire::{Wire, absent_if_null, object, optional_object};

/// The most items of one submission.
const ITEMS: usize = 20;
/// The most bytes of what a submission adds to the context, as JSON.
const AUGMENTED_BYTES: usize = 16 << 10;
/// The most bytes of `requested_access`, as JSON.
const ACCESS_BYTES: usize = 4 << 10;
/// The most bytes of one text of `client`.
const TEXT_BYTES: usize = 1 << 10;
/// The most bytes of `client` altogether, as JSON.
const CLIENT_BYTES: usize = 16 << 10;

/// A submission; unknown members are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct SubmissionBody {
    #[serde(deserialize_with = "object")]
    pub(crate) subject: EntityBody,
    #[serde(default, deserialize_with = "optional_object")]
    resource: Option<EntityBody>,
    #[serde(default, deserialize_with = "optional_object")]
    action: Option<ActionBody>,
    #[serde(default)]
    items: Option<Vec<ItemBody>>,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(crate) context: Map<String, Value>,
    #[serde(default, deserialize_with = "optional_object")]
    denial: Option<DenialBody>,
    #[serde(default, deserialize_with = "absent_if_null")]
    requested_access: Map<String, Value>,
    #[serde(default, deserialize_with = "absent_if_null")]
    client: Map<String, Value>,
    #[serde(default)]
    pub(crate) callback: Option<Value>,
}

/// One of several things that are asked together.
#[derive(Debug, Deserialize)]
struct ItemBody {
    #[serde(deserialize_with = "object")]
    resource: EntityBody,
    #[serde(deserialize_with = "object")]
    action: ActionBody,
    #[serde(default, deserialize_with = "absent_if_null")]
    requested_access: Map<String, Value>,
    #[serde(default, deserialize_with = "optional_object")]
    denial: Option<DenialBody>,
}

/// Which decision was denied; what else the profile has of it is an echo.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct DenialBody {
    #[serde(default)]
    pub(crate) evaluation_id: Option<String>,
    pub(crate) expires_at: Timestamp,
}

/// One thing that is asked.
#[derive(Debug)]
pub(crate) struct Item {
    /// What was denied, by the words of the submission; its context has what was added, too.
    pub(crate) question: Question,
    /// By which decision.
    pub(crate) denial: DenialBody,
    /// What access is wanted, beside that.
    pub(crate) access: Map<String, Value>,
}

/// Everything that is asked, taken apart.
#[derive(Debug)]
pub(crate) struct Submission {
    /// What is asked, in order.
    pub(crate) items: Vec<Item>,
    /// Whether it is several things together.
    pub(crate) bulk: bool,
    /// Who says to ask.
    pub(crate) client: Map<String, Value>,
    /// Where the end is to be told.
    pub(crate) callback: Option<Value>,
}

impl Wire for SubmissionBody {}

// === impl SubmissionBody ===

impl SubmissionBody {
    /// Takes a submission apart and checks the form of every member.
    ///
    /// # Errors
    ///
    /// `invalid-request` names the member; `invalid-denial-binding` where no decision is named.
    pub(crate) fn read(self) -> Result<Submission, Problem> {
        check_client(&self.client)?;
        check_access("requested_access", &self.requested_access)?;
        let bulk = self.items.is_some();
        let (subject, context) = (self.subject, self.context);
        let items = match (self.items, self.resource, self.action) {
            (None, Some(resource), Some(action)) => vec![ItemBody {
                resource,
                action,
                requested_access: Map::new(),
                denial: None,
            }],
            (None, None, _) => return Err(invalid("`resource` is missing")),
            (None, _, None) => return Err(invalid("`action` is missing")),
            (Some(items), None, None) => items,
            (Some(_), ..) => {
                let detail = "`resource` and `action` stand in the `items` where those are sent";
                return Err(invalid(detail));
            }
        };
        if !(1..=ITEMS).contains(&items.len()) {
            return Err(invalid(format!("`items` must be 1 to {ITEMS}")));
        }
        let count = items.len();
        let all = self.denial;
        let access = self.requested_access;
        let items = items.into_iter().map(|item| {
            check_access("items[].requested_access", &item.requested_access)?;
            let own = item.denial;
            // One decision is about one thing, so that it covers no others.
            let denial = own.or_else(|| all.clone().filter(|_| count == 1));
            let denial = denial.ok_or_else(|| {
                let detail = "every item needs the `denial` of its own evaluation";
                Problem::new(Kind::INVALID_DENIAL_BINDING, detail)
            })?;
            let mut wanted = access.clone();
            wanted.extend(item.requested_access);
            requested_until(&wanted)?;
            let question = Question {
                subject: subject.clone().into(),
                action: item.action.into(),
                resource: item.resource.into(),
                context: context.clone(),
            };
            question.check()?;
            Ok(Item {
                question,
                denial,
                access: wanted,
            })
        });
        Ok(Submission {
            items: items.collect::<Result<_, Problem>>()?,
            bulk,
            client: self.client,
            callback: self.callback.filter(|callback| !callback.is_null()),
        })
    }
}

/// Returns until when access is wanted, where that is said.
///
/// # Errors
///
/// `invalid-request` for what is no time.
pub(crate) fn requested_until(access: &Map<String, Value>) -> Result<Option<Timestamp>, Problem> {
    let Some(until) = access.get("requested_until") else {
        return Ok(None);
    };
    let read = serde_json::from_value(until.clone());
    read.map(Some)
        .map_err(|_| invalid("`requested_access.requested_until` must be an RFC 3339 time"))
}

/// Returns until when the access of a request is wanted, where that was said.
pub(crate) fn wanted_until(request: &StoredRequest) -> Option<Timestamp> {
    let access = request.said.get("requested_access")?.as_object()?;
    requested_until(access).ok().flatten()
}

// === impl Item ===

impl Item {
    /// Returns what the submission adds to the context of the denied question.
    ///
    /// # Errors
    ///
    /// `invalid-request` where it is too much.
    pub(crate) fn added(&self, denied: &Question) -> Result<Map<String, Value>, Problem> {
        let mut added = self.question.context.clone();
        added.retain(|member, value| {
            !Question::is_machinery(member) && denied.context.get(member) != Some(value)
        });
        if json!(added).to_string().len() > AUGMENTED_BYTES {
            let detail = format!("what `context` adds is larger than {AUGMENTED_BYTES} bytes");
            return Err(invalid(detail));
        }
        Ok(added)
    }
}

/// Returns what a caller says in words of its own, for the card: each with what it is.
pub(crate) fn words(
    added: &Map<String, Value>,
    access: &Map<String, Value>,
    client: &Map<String, Value>,
) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    let mut rest = added.clone();
    for member in ["business_justification", "justification"] {
        match rest.remove(member) {
            Some(Value::String(text)) => said.push(("justification", text)),
            Some(other) => said.push(("justification", other.to_string())),
            None => {}
        }
    }
    for (what, members) in [
        ("context", &rest),
        ("requested_access", access),
        ("client", client),
    ] {
        if !members.is_empty() {
            said.push((what, json!(members).to_string()));
        }
    }
    said
}

fn check_access(member: &str, access: &Map<String, Value>) -> Result<(), Problem> {
    if json!(access).to_string().len() > ACCESS_BYTES {
        let detail = format!("`{member}` must have at most {ACCESS_BYTES} bytes");
        return Err(invalid(detail));
    }
    Ok(())
}

fn check_client(client: &Map<String, Value>) -> Result<(), Problem> {
    if json!(client).to_string().len() > CLIENT_BYTES {
        let detail = format!("`client` must have at most {CLIENT_BYTES} bytes");
        return Err(invalid(detail));
    }
    if client.values().any(is_long) {
        let detail = format!("a text of `client` must have at most {TEXT_BYTES} bytes");
        return Err(invalid(detail));
    }
    Ok(())
}

/// Whether a text anywhere in a value is too long.
fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > TEXT_BYTES,
        Value::Array(items) => items.iter().any(is_long),
        Value::Object(members) => members.values().any(is_long),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}
