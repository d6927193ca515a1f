//! The `remit` binary: the decision service and every command around it.
//!
//! `cli.rs` holds the tree of commands, `cmd/<name>.rs` what each one does, `serve.rs` the wiring of the service.
//! Deliberately absent: logic of its own. What decides, records or speaks HTTP lives in the crates below.

mod bundle_dir;
mod cases;
mod cli;
mod client;
mod cmd;
mod config;
mod dev;
mod diagnostics;
mod embedded;
mod error;
mod exit;
mod output;
mod serve;
mod starter;
mod telemetry;

/// A decision makes and drops many small values, which is what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
