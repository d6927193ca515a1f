//! The road to the database past any server, for the commands that prepare one.

use std::path::PathBuf;

use remit_core::Clock;
use remit_core::controls::{Protection, holds};
use remit_store::{Options, Store};

use crate::config::{Config, Layers};
use crate::error::Error;

/// Which database, by the same configuration as `remit serve`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Database")]
#[group(skip)]
pub(crate) struct Args {
    /// The configuration file of the server.
    #[arg(long, env = "REMIT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The database: sqlite:PATH or postgres://…; over the configuration. For a URL with a password use
    /// REMIT__DATABASE__URL_FILE instead: other users of this machine can read a command line.
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// The server's data folder, where the database is SQLite; over the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

// === impl Args ===

impl Args {
    /// Reads the configuration with these flags over it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Layers::new(self.config.as_deref(), &[])?
            .flag("--database", "database.url", self.database.as_ref())
            .flag(
                "--data",
                "data.dir",
                self.data.as_ref().map(|dir| dir.display()),
            )
            .read()
    }
}

/// Opens the configured database.
///
/// # Errors
///
/// [`Error::Store`] when the address is malformed or an SQLite file cannot be opened, [`Error::Io`] when its folder
/// cannot be made.
pub(crate) async fn open(config: &Config, clock: Clock) -> Result<Store, Error> {
    if config.database.url.is_none() && config.database.url_file.is_none() {
        // SQLite makes its file, and not the folder around it.
        crate::dev::make_folder(&config.data.dir)?;
    }
    open_at(config, clock, config.database_url()?).await
}

/// Opens the configured database as the role that owns its tables; `None` where that is not another one.
///
/// # Errors
///
/// As [`open`].
pub(crate) async fn open_as_owner(config: &Config, clock: Clock) -> Result<Option<Store>, Error> {
    let Some(url) = config.migrate_url()? else {
        return Ok(None);
    };
    if config.database_url()?.starts_with("sqlite:") {
        return Err(Error::Config(
            "  database.migrate_url: is set, and the database is SQLite, which has no roles"
                .to_owned(),
        ));
    }
    open_at(config, clock, url).await.map(Some)
}

/// Brings the database up to date, and returns the migrations that were pending.
///
/// Where `owner` is another role than that of `store`, the latter is granted what it needs. `what` is being attempted.
///
/// # Errors
///
/// [`Error::Store`] as [`Store::migrate`] and [`Store::admit_role`]; [`Error::Config`] when the two are not of one database.
pub(crate) async fn migrate(
    store: &Store,
    owner: Option<&Store>,
    what: &'static str,
) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Store { what, source };
    let Some(owner) = owner else {
        return store.migrate().await.map_err(failed);
    };
    let applied = owner.migrate().await.map_err(failed)?;
    if let Some(role) = store
        .role()
        .filter(|role| owner.role().as_ref() != Some(role))
    {
        owner.admit_role(&role).await.map_err(failed)?;
    }
    if !store.pending_migrations().await.map_err(failed)?.is_empty() {
        return Err(Error::Config(
            "  database.migrate_url: is not the database of database.url, which is still to be migrated"
                .to_owned(),
        ));
    }
    Ok(applied)
}

async fn open_at(config: &Config, clock: Clock, url: String) -> Result<Store, Error> {
    let options = Options {
        max_connections: config.database.max_connections,
        deadline: if holds(Protection::DatabaseDeadline) {
            config.database_deadline()
        } else {
            std::time::Duration::from_hours(24)
        },
        ..Options::new(url)
    };
    Store::open(&options, clock)
        .await
        .map_err(|source| Error::Store {
            what: "open the database",
            source,
        })
}
