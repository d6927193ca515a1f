//! The failures that Remit must survive, one test a row, named after it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::allow_attributes,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking, and tells why on the terminal"
)]

mod database;
