//! One question: may this subject do this to that, now.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::normal::{NOT_NFC, is_nfc};
use crate::{ApprovalId, TaskId};

/// One access evaluation (AuthZEN Authorization API 1.0 §5): what an enforcement point asks before an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What it wants to do.
    pub action: Action,
    /// Everything else the caller says about this call.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// To what.
    pub resource: Resource,
    /// Who wants to act.
    pub subject: Subject,
}

/// The principal of a question (AuthZEN 1.0 §5.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The id within the type.
    pub id: String,
    /// What the caller says of it; only attributes that the schema marks `@assertable` are taken.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The entity type, such as `Agent`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What is acted on (AuthZEN 1.0 §5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The id within the type.
    pub id: String,
    /// What the caller says of it; only attributes that the schema marks `@assertable` are taken.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// The entity type, such as `Tool`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What is done (AuthZEN 1.0 §5.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The name: the id of a Cedar action, such as `call`.
    pub name: String,
    /// The arguments of the call; a policy reads them as `context.action` where its action declares that.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
}

/// A question that cannot be asked, and the member that is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` {problem}")]
pub struct Invalid {
    /// The JSON member, such as `subject.id`.
    pub member: &'static str,
    /// What is wrong with it and what was expected.
    pub problem: &'static str,
}

/// The longest type or action name, in bytes.
const NAME_BYTES: usize = 256;
/// The longest id, in bytes.
const ID_BYTES: usize = 1_024;
/// The longest proof of a build and the longest hash of a tool, in bytes.
const PROOF_BYTES: usize = 128;
/// The most types of obligations that an enforcement point may say it can do.
const MOST_TYPES: usize = 64;

// === impl Question ===

impl Question {
    /// The context member that names the task in which the question is asked.
    pub const TASK: &'static str = "task";
    /// The context member that says what the agent proves to be built of.
    pub const BUILD: &'static str = "build";
    /// The context member that has the hash of the tool's descriptor which the enforcement point sees.
    pub const TOOL_HASH: &'static str = "tool_hash";
    /// The context member that presents an approval: an object with its `id`.
    pub const APPROVAL: &'static str = "approval";
    /// The context member that lists the types of obligations which the enforcement point can do.
    pub const OBLIGATIONS: &'static str = "obligations_supported";
    /// The action that opens a task; what a task is limited to does not bear on it, its own gates do.
    pub const OPEN_TASK: &'static str = "open_task";
    /// The type of the resource of the question whether a task may be opened.
    pub const PURPOSE: &'static str = "Purpose";

    /// Whether an action of this id, on a resource of this type, is the opening of a task; what a tool of the same name does
    /// to something else is not.
    pub fn opens_task(action: &str, resource: &impl ToString) -> bool {
        action == Self::OPEN_TASK && resource.to_string() == Self::PURPOSE
    }

    /// Whether a context member is Remit's own: read by Remit, and by policies only where the schema declares it.
    pub fn is_own(member: &str) -> bool {
        [Self::TASK, Self::BUILD, Self::TOOL_HASH].contains(&member) || Self::is_machinery(member)
    }

    /// Whether a context member belongs to the protocol and not to what is asked: an approval is not bound to it.
    pub fn is_machinery(member: &str) -> bool {
        [Self::APPROVAL, Self::OBLIGATIONS].contains(&member)
    }

    /// Returns the id of the approval that it presents; `None` also for what is not an id of one.
    pub fn approval(&self) -> Option<ApprovalId> {
        let approval = self.context.get(Self::APPROVAL)?;
        approval.get("id")?.as_str()?.parse().ok()
    }

    /// Returns the types of obligations that the enforcement point says it can do; `None` where it says nothing.
    pub fn obligations_supported(&self) -> Option<impl Iterator<Item = &str>> {
        let types = self.context.get(Self::OBLIGATIONS)?.as_array()?;
        Some(types.iter().filter_map(Value::as_str))
    }

    /// Returns the task in which it is asked; `None` also for what is not an id of one.
    pub fn task(&self) -> Option<TaskId> {
        self.own(Self::TASK)?.parse().ok()
    }

    /// Returns what the agent proves to be built of.
    pub fn build(&self) -> Option<&str> {
        self.own(Self::BUILD)
    }

    /// Returns the hash of the tool's descriptor that the enforcement point sees.
    pub fn tool_hash(&self) -> Option<&str> {
        self.own(Self::TOOL_HASH)
    }

    fn own(&self, member: &str) -> Option<&str> {
        self.context.get(member)?.as_str()
    }

    /// Checks what holds for every question, whatever the policies.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for an empty or over-long name or id, for a NUL character (no database column can hold one), for a
    /// name or id that is not in Unicode NFC, for a caller that supplies `context.facts`, which is Remit's alone, and for
    /// a `context.task` or `context.approval` that names none, a `context.build` or `context.tool_hash` that is no short
    /// text, and a `context.obligations_supported` that is no list of types.
    pub fn check(&self) -> Result<(), Invalid> {
        check_text("subject.type", &self.subject.kind, NAME_BYTES)?;
        check_text("subject.id", &self.subject.id, ID_BYTES)?;
        check_text("action.name", &self.action.name, NAME_BYTES)?;
        check_text("resource.type", &self.resource.kind, NAME_BYTES)?;
        check_text("resource.id", &self.resource.id, ID_BYTES)?;
        if self.context.contains_key("facts") {
            return Err(Invalid {
                member: "context.facts",
                problem: "is supplied by Remit and must not be sent",
            });
        }
        if self.context.contains_key(Self::TASK) && self.task().is_none() {
            return Err(Invalid {
                member: "context.task",
                problem: "must be the id of a task, a UUID",
            });
        }
        if self.context.contains_key(Self::APPROVAL) && self.approval().is_none() {
            return Err(Invalid {
                member: "context.approval",
                problem: "must be an object whose `id` is the id of an approval, a UUID",
            });
        }
        let types = self.context.get(Self::OBLIGATIONS);
        if types.is_some_and(|types| !is_list_of_types(types)) {
            return Err(Invalid {
                member: "context.obligations_supported",
                problem: "must be a list of at most 64 texts of at most 256 bytes",
            });
        }
        for (member, name) in [
            ("context.build", Self::BUILD),
            ("context.tool_hash", Self::TOOL_HASH),
        ] {
            let sent = self.context.get(name);
            if sent.is_some_and(|sent| sent.as_str().is_none_or(|text| !is_proof(text))) {
                let problem = "must be a text of 1 to 128 bytes, in Unicode NFC and without NUL";
                return Err(Invalid { member, problem });
            }
        }
        Ok(())
    }
}

fn is_list_of_types(types: &Value) -> bool {
    let is_type = |one: &Value| one.as_str().is_some_and(|text| text.len() <= NAME_BYTES);
    types
        .as_array()
        .is_some_and(|types| types.len() <= MOST_TYPES && types.iter().all(is_type))
}

fn is_proof(text: &str) -> bool {
    (1..=PROOF_BYTES).contains(&text.len()) && !text.contains('\0') && is_nfc(text)
}

fn check_text(member: &'static str, text: &str, most: usize) -> Result<(), Invalid> {
    let problem = if text.is_empty() {
        "must not be empty"
    } else if text.len() > most {
        if most == NAME_BYTES {
            "is longer than 256 bytes"
        } else {
            "is longer than 1024 bytes"
        }
    } else if text.contains('\0') {
        "must not contain a NUL character"
    } else if !is_nfc(text) {
        NOT_NFC
    } else {
        return Ok(());
    };
    Err(Invalid { member, problem })
}
