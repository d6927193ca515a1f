//! The `remit-controls` binary: `remit` with the protections switched off that `REMIT_CONTROLS` names.
//!
//! It exists for negative controls only (see `remit_core::controls`), is built with `--features controls`, and is never
//! shipped. Its modules are those of `main.rs`.

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

fn main() -> std::process::ExitCode {
    let names = std::env::var("REMIT_CONTROLS").unwrap_or_default();
    if remit_core::controls::switch_off(&names).is_none() {
        use std::io::Write as _;
        // Nobody is told when standard error is closed; the exit code says it all the same.
        let _ = writeln!(
            std::io::stderr(),
            "REMIT_CONTROLS names no protection: `{names}`"
        );
        return exit::Exit::Usage.into();
    }
    cli::main()
}
