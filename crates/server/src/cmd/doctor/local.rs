//! What `remit doctor` sees on this machine: files, ports, the database, policies.

use std::net::SocketAddr;
use std::path::Path;

use remit_core::Clock;
use remit_engine::Snapshot;
use remit_store::{RowSecurity, Store, Unbound};
use tokio::net::{TcpListener, TcpStream};

use super::{Check, reason};
use crate::bundle_dir;
use crate::cmd::direct;
use crate::config::{Config, without_password};
use crate::diagnostics::Found;

/// Looks at the pepper.
pub(super) fn pepper(config: &Config, dev: bool) -> Check {
    const NAME: &str = "pepper";
    let file = config.auth.pepper_file.as_deref();
    match config.pepper() {
        Err(error) => Check::failed(
            NAME,
            reason(&error),
            "openssl rand -hex 32 > pepper && chmod 600 pepper",
        ),
        Ok(None) if dev || config.data.dir.join("pepper").exists() => {
            Check::ok(NAME, "`serve --dev` keeps one in the data folder")
        }
        Ok(None) => Check::warning(
            NAME,
            "auth.pepper_file is not set: `remit serve` refuses to start without it",
            "openssl rand -hex 32 > pepper && chmod 600 pepper; then set auth.pepper_file (`serve --dev` needs none)",
        ),
        Ok(Some(_)) => match file.filter(|path| readable_by_others(path)) {
            Some(path) => Check::warning(
                NAME,
                format!("`{}` can be read by others on this machine", path.display()),
                format!("chmod 600 {}", path.display()),
            ),
            None => Check::ok(NAME, "set, and long enough"),
        },
    }
}

/// Looks at who listens on a port: nobody is well, and so is a Remit.
pub(super) async fn port(name: &'static str, address: SocketAddr, key: &str) -> Check {
    match TcpListener::bind(address).await {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(why) if why.kind() == std::io::ErrorKind::AddrInUse => {
            // Whether it is Remit shows in the checks of the server.
            match TcpStream::connect(address).await {
                Ok(_) => Check::ok(
                    name,
                    format!("{address} is in use; well where that is Remit, see `server`"),
                ),
                Err(_) => Check::failed(
                    name,
                    format!("{address} is taken, and nobody answers there"),
                    format!(
                        "`ss -ltnp 'sport = :{}'` names who has it; or set {key}",
                        address.port()
                    ),
                ),
            }
        }
        Err(why) => Check::failed(
            name,
            format!("cannot listen on {address}: {why}"),
            format!("set {key} to an address of this machine"),
        ),
    }
}

/// Looks at the data folder.
pub(super) fn folder(config: &Config) -> Check {
    const NAME: &str = "data folder";
    let dir = &config.data.dir;
    let shown = dir.display();
    if !dir.exists() {
        let parent = dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        return if parent.is_dir() {
            Check::ok(NAME, format!("`{shown}` is made at the first start"))
        } else {
            Check::warning(
                NAME,
                format!("`{shown}` and the folder above it do not exist"),
                "they are made at the first start; is data.dir what you mean?",
            )
        };
    }
    match tempfile::tempfile_in(dir) {
        Err(why) => Check::failed(
            NAME,
            format!("cannot write in `{shown}`: {why}"),
            "set data.dir to a folder that the user of Remit can write in",
        ),
        Ok(_) if readable_by_others(dir) => Check::warning(
            NAME,
            format!("`{shown}` can be read by others on this machine"),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => Check::ok(NAME, format!("`{shown}` can be written")),
    }
}

/// Checks the records that wait on this machine.
pub(super) fn spool(config: &Config) -> Check {
    const NAME: &str = "decision log";
    let dir = config.log_dir();
    if !dir.exists() {
        return Check::ok(
            NAME,
            format!("`{}` is made at the first start", dir.display()),
        );
    }
    match remit_log::fsck(&dir) {
        Ok(report) if report.problems.is_empty() => Check::ok(
            NAME,
            format!(
                "sound: {} records in {} segments",
                report.records, report.segments
            ),
        ),
        Ok(report) => Check::failed(
            NAME,
            format!("{} problems in `{}`", report.problems.len(), dir.display()),
            format!("remit log fsck {}", dir.display()),
        ),
        Err(why) => Check::failed(
            NAME,
            format!("cannot be read: {why}"),
            format!("who owns `{}`?", dir.display()),
        ),
    }
}

/// Asks the database: is it there, is it up to date.
pub(super) async fn database(config: &Config, clock: &Clock) -> Vec<Check> {
    const NAME: &str = "database";
    let url = match config.database_url() {
        Ok(url) => url,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                reason(&error),
                "set database.url or database.url_file",
            )];
        }
    };
    // Opening an SQLite file makes it, and a look must not.
    if let Some(path) = url
        .strip_prefix("sqlite:")
        .filter(|path| !path.starts_with(':') && !Path::new(path).exists())
    {
        return vec![Check::ok(
            NAME,
            format!("`{path}` is made at the first start"),
        )];
    }
    let shown = without_password(&url);
    let store = match direct::open(config, clock.clone()).await {
        Ok(store) => store,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                format!("{shown}: {}", reason(&error)),
                "set database.url",
            )];
        }
    };
    let checks = ask(&store, &shown).await;
    store.close().await;
    checks
}

async fn ask(store: &Store, shown: &str) -> Vec<Check> {
    if let Err(error) = store.ping().await {
        let mut why = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            why = format!("{why}: {cause}");
        }
        let fix = "is it running, and does this machine reach it? `remit serve` starts without it and waits";
        return vec![Check::failed("database", format!("{shown}: {why}"), fix)];
    }
    let mut checks = vec![Check::ok("database", format!("{shown} answers"))];
    checks.push(match store.pending_migrations().await {
        Ok(pending) if pending.is_empty() => Check::ok("migrations", "up to date"),
        Ok(pending) => Check::failed(
            "migrations",
            format!("{} pending: {}", pending.len(), pending.join(", ")),
            "remit migrate",
        ),
        Err(error) => Check::failed("migrations", error.to_string(), "remit migrate"),
    });
    checks.extend(row_security(store).await);
    checks
}

/// Asks whether Postgres itself keeps tenants apart for the role that Remit runs as.
async fn row_security(store: &Store) -> Option<Check> {
    const NAME: &str = "row security";
    let (role, unbound) = match store.row_security().await {
        Ok(Some(RowSecurity {
            role,
            unbound: Some(unbound),
        })) => (role, unbound),
        Ok(Some(RowSecurity { role, .. })) => {
            return Some(Check::ok(NAME, format!("binds `{role}`")));
        }
        Ok(None) => return None,
        Err(error) => return Some(Check::failed(NAME, error.to_string(), "remit migrate")),
    };
    let fix = "run as a role that owns nothing: set database.migrate_url to the owner and database.url to the other, then \
               `remit migrate`";
    let (why, fix) = match unbound {
        Unbound::Superuser => ("is a superuser", fix),
        Unbound::Bypasses => ("has BYPASSRLS", fix),
        Unbound::Owner => ("owns the tables", fix),
        Unbound::Unprotected => ("finds no protected tables", "remit migrate"),
    };
    let found = format!("`{role}` {why}: Postgres does not keep tenants apart, Remit alone does");
    Some(Check::warning(NAME, found, fix))
}

/// Compiles a folder of policies.
pub(super) fn bundle(dir: &Path) -> Check {
    const NAME: &str = "bundle";
    let fix = format!("remit policy validate {}", dir.display());
    let folder = match bundle_dir::read(dir) {
        Ok(folder) => folder,
        Err(error) => return Check::failed(NAME, reason(&error), fix),
    };
    match Snapshot::compile(&folder.bundle) {
        Err(error) => {
            let errors = Found::new(error.diagnostics, &folder.bundle).errors();
            Check::failed(
                NAME,
                format!("`{}` does not compile: {errors} errors", dir.display()),
                fix,
            )
        }
        Ok(snapshot) if snapshot.warnings().is_empty() => Check::ok(
            NAME,
            format!(
                "`{}` compiles: {} policies",
                dir.display(),
                snapshot.policy_count()
            ),
        ),
        Ok(snapshot) => {
            let warnings = snapshot.warnings().len();
            Check::warning(
                NAME,
                format!("`{}` compiles with {warnings} warnings", dir.display()),
                fix,
            )
        }
    }
}

/// Says whether somebody else than the owner may read a file or folder.
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
