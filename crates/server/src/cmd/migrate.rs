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
    REMIT__DATABASE__URL_FILE=/run/secrets/database-url remit migrate

With database.migrate_url the schema is changed as that role, and the role of database.url is granted what it needs.";

/// The flags of `remit migrate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// List what would be applied, and apply nothing. Exit 6 when there is something.
    #[arg(long)]
    dry_run: bool,
    /// Bind the owner of the tables to row-level security too (Postgres). A version of Remit before 0015_row_security finds
    /// nothing from then on, so do it when none runs any more.
    #[arg(long, conflicts_with = "dry_run")]
    force_row_security: bool,
    /// Free the owner of the tables again, as before going back to such a version.
    #[arg(long, conflicts_with_all = ["dry_run", "force_row_security"])]
    no_force_row_security: bool,
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
    let owner = direct::open_as_owner(&config, Clock::system()).await?;
    let done = migrate(&store, owner.as_ref(), &args).await;
    store.close().await;
    if let Some(owner) = owner {
        owner.close().await;
    }
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

async fn migrate(store: &Store, owner: Option<&Store>, args: &Args) -> Result<Migrated, Error> {
    let failed = |source| Error::Store {
        what: "migrate the database",
        source,
    };
    let (mut pending, mut applied) = (Vec::new(), Vec::new());
    let able = owner.unwrap_or(store);
    if args.dry_run {
        pending = able.pending_migrations().await.map_err(failed)?;
    } else {
        applied = direct::migrate(store, owner, "migrate the database").await?;
        if args.force_row_security || args.no_force_row_security {
            let forcing = able.force_row_security(args.force_row_security).await;
            forcing.map_err(failed)?;
        }
    }
    Ok(Migrated {
        database: store.kind(),
        pending,
        applied,
    })
}
