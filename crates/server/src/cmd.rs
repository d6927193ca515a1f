//! What each command does; one file a command, named as it is typed.

pub(crate) mod bundle;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod decide;
pub(crate) mod decisions;
pub(crate) mod decisions_replay;
pub(crate) mod demo;
pub(crate) mod direct;
pub(crate) mod doctor;
pub(crate) mod entities;
pub(crate) mod explain;
pub(crate) mod fleet;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod migrate;
pub(crate) mod policy;
pub(crate) mod policy_history;
pub(crate) mod policy_impact;
pub(crate) mod policy_test;
#[cfg(feature = "verify")]
pub(crate) mod policy_verify;
pub(crate) mod question;
pub(crate) mod serve;
pub(crate) mod version;
