//! The integration tests: one binary, one module a noun.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::allow_attributes,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking, and tells why on the terminal"
)]

mod access_matrix;
mod admin_actions;
mod agent_baseline;
mod agentdojo;
mod agents;
mod approval_story;
mod approvals;
mod approvers;
mod authzen;
mod bad_input;
mod bench_agentdojo;
mod break_glass;
mod bundles;
mod case_files;
mod cedar_integration;
mod cli;
mod commands;
mod core;
mod decisions;
mod demo;
mod drafts;
mod edge;
mod engine;
mod entities;
mod evaluate;
mod evaluations;
mod events;
mod exceptions;
mod facts;
mod first_approval;
mod govern_story;
mod house;
mod idempotency;
mod impact;
mod keys;
mod kill;
mod kills;
mod leases;
mod listener;
mod log;
mod mutants;
mod obligations;
mod openapi;
mod operations;
mod outcomes;
mod phone_page;
mod policies;
mod policy_test;
#[cfg(feature = "verify")]
mod policy_verify;
mod principals;
mod replay;
mod replicas;
mod revisions;
mod revocations;
mod schema_from_mcp;
mod search;
mod second_person;
mod serve;
mod shadows;
mod single_policies;
mod store;
mod survive;
mod system;
mod task_story;
mod tasks;
mod telemetry;
mod tenants;
mod tools;
mod versions;
mod webhooks;
