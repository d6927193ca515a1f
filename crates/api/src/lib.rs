//! HTTP in, HTTP out: the only crate that knows a wire format (INV-8).
//!
//! Three things to call: [`App::decide`] (the only road to a decision, INV-1), [`router`] (every public endpoint) and
//! [`sync::run`] (the only installer of snapshots, INV-6). [`serve`] accepts connections for a router; [`operations`]
//! is the router of health and metrics.
//!
//! Invariants: an [`Answer`] exists only with the receipt of its record (INV-3); who asks comes from the credential and
//! from nothing else; every body is read with a limit of size, depth and time; every error is a row of one table.
//! Deliberately absent: SQL, Cedar, configuration files, environment variables. Handlers translate; they do not decide.

mod admin;
mod app;
mod approvals;
mod auth;
mod background;
mod bundle;
mod change;
mod decisions;
mod docs;
mod entities;
mod evaluate;
mod evaluations;
mod explain;
mod facts;
mod finishing;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod impact;
mod json;
mod keys;
mod layers;
mod listener;
mod metadata;
mod metrics;
mod openapi;
mod operations;
mod paging;
mod policies;
mod preconditions;
mod problem;
mod publish;
mod query;
mod registry;
mod revisions;
mod router;
mod search;
mod stream;
pub mod sync;
mod tasks;
mod tenants;
mod token;
mod trace;
mod versions;
mod wire;

pub use app::{Answer, App, AppParts, Approvals, Drafts, Hooks, Options};
pub use {auth::*, problem::Kind, problem::Problem, problem::page as errors_page};
pub use {listener::*, openapi::document as openapi, operations::operations, router::*, trace::*};
