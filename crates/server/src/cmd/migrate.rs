//! `remit migrate`: the database's schema brought up to date.

use remit_core::Clock;
use remit_store::Store;
use serde::Serialize;

use super::direct;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// Examples in `--help`.
const EXAMPLES: &str = "\
Examples:
    remit migrate --dry-run
    remit migrate --config /etc/remit.toml
    REMIT__DATABASE__URL_FILE=/run/secrets/database-url remit migrate";

/// The flags of `remit migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// List what would be applied, and apply nothing. Exit 6 when there is something.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    database: direct::Args,
}

/// What was, or would be, applied.
#[derive(Debug, Serialize)]
struct Migrated {
    database: &'static str,
    pending: Vec<String>,
    applied: Vec<String>,
}

/// Applies what is pending.
///
/// # Errors
///
/// [`Error::Store`] when the database cannot be reached or refuses.
pub(crate) async fn run(args: Args, out: &Output) -> Result<Exit, Error> {
    let config = args.database.config()?;
    let store = direct::open(&config, Clock::system()).await?;
    let done = migrate(&store, args.dry_run).await;
    store.close().await;
    let done = done?;
    out.value(&done, |done| {
        match (done.pending.as_slice(), done.applied.as_slice()) {
            ([], []) => "the database is up to date".to_owned(),
            (pending, []) => format!("pending: {}", pending.join(", ")),
            (_, applied) => format!("applied: {}", applied.join(", ")),
        }
    })?;
    Ok(if done.pending.is_empty() {
        Exit::Ok
    } else {
        Exit::GateFailed
    })
}

async fn migrate(store: &Store, dry_run: bool) -> Result<Migrated, Error> {
    let failed = |source| Error::Store {
        what: "migrate the database",
        source,
    };
    let (mut pending, mut applied) = (Vec::new(), Vec::new());
    if dry_run {
        pending = store.pending_migrations().await.map_err(failed)?;
    } else {
        applied = store.migrate().await.map_err(failed)?;
    }
    Ok(Migrated {
        database: store.kind(),
        pending,
        applied,
    })
}
