//! A Postgres of the benchmark's own: its defaults, on a disk, so a commit waits until it is durable.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// A running server; dropping it ends it.
pub struct Postgres {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    /// Whom it runs as: it refuses to run as root.
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

// === impl Postgres ===

impl Postgres {
    /// Starts one; nothing where it is not installed.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(binaries) = binaries() else {
            return Ok(None);
        };
        let user = unprivileged()?;
        let folder = TempDir::with_prefix("remit-benches-postgres-")?;
        if let Some((user, group)) = user {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut this = Self {
            binaries,
            folder,
            port,
            user,
            server: None,
        };
        let data = this.folder.path().join("data");
        let made = this
            .command("initdb")
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--pgdata",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err(io::Error::other("initdb failed"));
        }
        let log = fs::File::create(this.log())?;
        let mut server = this.command("postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "max_connections=200", "-k"])
            .arg(this.folder.path())
            .stdout(log.try_clone()?)
            .stderr(log);
        this.server = Some(server.spawn()?);
        let until = Instant::now() + START;
        while this.run("postgres", "SELECT 1").is_err() {
            if Instant::now() > until {
                return Err(io::Error::other("Postgres does not start"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        this.run("postgres", "CREATE ROLE remit LOGIN")?;
        this.run("postgres", "CREATE DATABASE remit OWNER remit")?;
        Ok(Some(this))
    }

    /// Returns the address of the database, as the role that owns it.
    pub fn url(&self) -> String {
        format!("postgres://remit@127.0.0.1:{}/remit", self.port)
    }

    /// Runs SQL as the superuser; returns what it printed, a row a line.
    ///
    /// # Errors
    ///
    /// When it is refused; what Postgres said is in the error.
    pub fn run(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut psql = Command::new(self.binaries.join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
            ])
            .args([
                "-U",
                "postgres",
                "-p",
                &self.port.to_string(),
                "-d",
                database,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = psql.stdin.take() {
            input.write_all(sql.as_bytes())?;
        }
        let ran = psql.wait_with_output()?;
        if ran.status.success() {
            Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
        } else {
            Err(io::Error::other(
                String::from_utf8_lossy(&ran.stderr).into_owned(),
            ))
        }
    }

    /// Returns where it writes what it is asked, when it is told to.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // SIGINT ends its sessions and writes what is left.
            let _ = Command::new("kill")
                .args(["-INT", &server.id().to_string()])
                .status();
            let _ = server.wait();
        }
    }
}

fn binaries() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let mut found: Vec<PathBuf> = found.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    found
        .into_iter()
        .rfind(|folder| folder.join("initdb").exists())
}

/// Returns the user `postgres` where this is root, and nobody otherwise.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    let number = |flag: &str, of: &[&str]| -> io::Result<u32> {
        let told = Command::new("id").arg(flag).args(of).output()?;
        let told = String::from_utf8_lossy(&told.stdout).trim().parse();
        told.map_err(|_| io::Error::other("`id` does not tell"))
    };
    if number("-u", &[])? != 0 {
        return Ok(None);
    }
    let of = ["postgres"];
    Ok(Some((number("-u", &of)?, number("-g", &of)?)))
}
