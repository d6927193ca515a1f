//! The nouns of Remit: what is asked, what is known, what was decided, and when.
//!
//! Every other crate speaks in these types. Start at [`Question`], [`Decision`] and [`Bundle`]; time and ids come from
//! [`Clock`] and nowhere else (INV-9).
//! Invariants: every type is data that can be compared and, where it is recorded, written as canonical JSON
//! (RFC 8785); ids are byte-exact, taken in Unicode NFC only and never rewritten; a [`Reason`] is a closed set with a stable code each.
//! Deliberately absent: I/O, async, Cedar, SQL, HTTP. Nothing here can block, and only parsing can fail.

mod admin_action;
mod agent;
mod approval;
mod bundle;
mod canonical;
mod case;
mod clock;
pub mod controls;
mod decision;
mod entity;
mod exception;
mod facts;
mod id;
mod kill;
mod normal;
mod principal;
mod question;
mod reason;
mod record;
mod task;
mod timestamp;
mod tool;

pub use admin_action::AdminAction;
pub use agent::*;
pub use approval::*;
pub use bundle::{Bundle, ContentHash, Link, Source};
pub use canonical::canonical_json;
pub use case::{Case, CaseFacts, Expectation, Step};
pub use clock::Clock;
pub use decision::*;
pub use entity::{Entity, EntityUid};
pub use exception::{Exception, ExceptionFacts, ExceptionScope};
pub use facts::Facts;
pub use id::*;
pub use kill::*;
pub use normal::{is_nfc, nfc};
pub use principal::{Principal, PrincipalKind, PrincipalName, Role};
pub use question::{Action, Invalid, Question, Resource, Subject};
pub use reason::Reason;
pub use record::*;
pub use task::{
    Budget, CallFacts, Declaration, Dimension, Hop, Label, Limit, MOST_DEPTH, Outcome,
    OutcomeResult, Spending, Task, TaskFacts, TaskState, Window, World, call_digest, trusted_sinks,
};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use tool::{
    AmountArgument, AmountError, Confidentiality, Effects, Integrity, MOST_SINKS, Said, Tool,
    canonical_sink, is_address, links, sink_hash, sinks_of,
};
