//! A Postgres server of our own: made in a temporary folder, on a free port, gone with the process that started it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::ports::free_port;

/// Runs the server, and stops it when its standard input ends: so when the tests end, also when they are killed.
///
/// The order on standard input says how: `keep` waits for transactions to be rolled back and leaves the folder, `drop`
/// stops at once and leaves it, `kill` kills every process of it as a crash does and leaves it; anything else stops at
/// once and removes it. A server that is frozen is thawed first.
///
/// Nothing is synced, because no test switches the machine off; but a commit is on its way before it is answered, because
/// some stop the server without a goodbye.
const WATCHDOG: &str = r#"
"$1/postgres" -D "$2/data" -p "$3" -k "$2" -c listen_addresses=127.0.0.1 -c fsync=off \
    -c full_page_writes=off -c max_connections=200 </dev/null >>"$2/log" 2>&1 &
pid=$!
read -r order
parts=$(pgrep -P "$pid")
kill -CONT "$pid" $parts 2>/dev/null
case "$order" in
    keep) kill -INT "$pid" ;;
    kill) kill -KILL "$pid" $parts ;;
    *) kill -QUIT "$pid" ;;
esac 2>/dev/null
wait "$pid"
case "$order" in keep | drop | kill) ;; *) rm -rf "$2" ;; esac
"#;

const START_DEADLINE: Duration = Duration::from_secs(60);

/// The server that all tests of one binary share.
static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The addresses of one database, for the roles that Remit and who runs it have.
#[derive(Debug, Clone)]
pub struct Roles {
    /// A superuser.
    pub admin: String,
    /// The owner of the database, and no superuser.
    pub owner: String,
    /// A role that owns nothing.
    pub app: String,
}

/// One running Postgres server.
pub struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    watchdog: Option<Child>,
}

// === impl Postgres ===

impl Postgres {
    /// Starts a server for one test alone: one that will be frozen or stopped.
    ///
    /// Returns `None`, and says what to install, where there is no Postgres.
    ///
    /// # Panics
    ///
    /// Under `CI=true` where there is no Postgres, and everywhere when there is one and it does not start.
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(
                !crate::ci(),
                "there is no Postgres; `apt-get install postgresql`"
            );
            eprintln!(
                "SKIPPED: there is no Postgres; `apt-get install postgresql` to run this test"
            );
            return None;
        };
        let user = unprivileged();
        let folder = tempfile::Builder::new()
            .prefix("remit-postgres-")
            .tempdir()
            .unwrap()
            .keep();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let mut server = Self {
            binaries,
            folder,
            user,
            port: 0,
            watchdog: None,
        };
        server.initialise();
        // A free port may be taken by somebody else before the server binds it.
        for _ in 0..5 {
            server.port = free_port();
            if server.launch() {
                return Some(server);
            }
        }
        panic!("Postgres does not start:\n{}", server.log());
    }

    /// Makes a fresh, empty database on the shared server and returns its address; `None` as [`Postgres::start`].
    pub async fn database() -> Option<String> {
        // The first caller waits for `initdb`; it is one thread of many, and the tests need it anyway.
        SHARED
            .get_or_init(Self::start)
            .as_ref()
            .map(Self::fresh_database)
    }

    /// Makes a fresh, empty database for the roles `remit_owner` and `remit_app`; `None` as [`Postgres::start`].
    pub async fn database_of_roles() -> Option<Roles> {
        let admin = Self::database().await?;
        let server = SHARED.get().and_then(Option::as_ref)?;
        let (_, name) = admin.rsplit_once('/')?;
        // Roles belong to the server, and only the first test finds none.
        let roles = "SET client_min_messages = error; \
                     SELECT pg_advisory_lock(1); \
                     DO $$ BEGIN \
                     IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'remit_owner') THEN \
                     CREATE ROLE remit_owner LOGIN; CREATE ROLE remit_app LOGIN; END IF; END $$;";
        server.run("postgres", roles);
        server.run(
            "postgres",
            &format!("ALTER DATABASE {name} OWNER TO remit_owner"),
        );
        let url = |role: &str| admin.replace("//remit@", &format!("//{role}@"));
        Some(Roles {
            owner: url("remit_owner"),
            app: url("remit_app"),
            admin,
        })
    }

    /// Makes a fresh, empty database and returns its address.
    pub fn fresh_database(&self) -> String {
        let name = format!("remit_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs a command as the superuser.
    fn run(&self, database: &str, text: &str) {
        let done = self
            .command("psql")
            .args([
                "-X",
                "-q",
                "-h",
                "127.0.0.1",
                "-U",
                "remit",
                "-d",
                database,
                "-p",
            ])
            .arg(self.port.to_string())
            .args(["-c", text])
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address of a database on this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://remit@127.0.0.1:{}/{database}", self.port)
    }

    /// Freezes the server, which then keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Thaws a frozen server.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Stops the server, keeping its data; [`Postgres::restart`] brings it back on the same port.
    pub fn stop(&mut self) {
        self.end(b"keep\n");
    }

    /// Stops the server as `pg_ctl stop -m immediate` does: no goodbye, and recovery at the next start.
    pub fn stop_at_once(&mut self) {
        self.end(b"drop\n");
    }

    /// Kills the server and every process it started, as a crash of its machine would.
    pub fn kill(&mut self) {
        self.end(b"kill\n");
    }

    /// Copies the data of the stopped server into a backup.
    ///
    /// # Panics
    ///
    /// While the server runs, and when the copy fails.
    pub fn back_up(&self) {
        self.copy("data", "backup");
    }

    /// Puts the backup in the place of the data of the stopped server.
    ///
    /// # Panics
    ///
    /// While the server runs, and when there is no backup.
    pub fn restore(&self) {
        self.copy("backup", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        assert!(self.watchdog.is_none(), "the server runs");
        let (from, to) = (self.folder.join(from), self.folder.join(to));
        let _ = fs::remove_dir_all(&to);
        // As root, `cp -a` keeps the owner, whom the server insists on.
        let copied = Command::new("cp").arg("-a").args([&from, &to]).status();
        assert!(
            copied.unwrap().success(),
            "{} is not copied",
            from.display()
        );
    }

    /// Starts a stopped server on the port it had.
    pub fn restart(&mut self) {
        assert!(
            self.launch(),
            "Postgres does not start again:\n{}",
            self.log()
        );
    }

    fn initialise(&self) {
        // A locale whose order is not that of bytes, so that a column that forgets its collation is found out.
        let language = ["--locale-provider=icu", "--icu-locale=en", "--locale=C"];
        for extra in [&language[..], &["--locale=C"]] {
            let done = self
                .command("initdb")
                .args(["-N", "-A", "trust", "-U", "remit", "-E", "UTF8", "-D"])
                .arg(self.folder.join("data"))
                .args(extra)
                .output()
                .unwrap();
            if done.status.success() {
                return;
            }
            let _ = fs::remove_dir_all(self.folder.join("data"));
            let _ = fs::write(self.folder.join("initdb.log"), &done.stderr);
        }
        let why = fs::read_to_string(self.folder.join("initdb.log")).unwrap_or_default();
        panic!("initdb failed: {why}");
    }

    /// Starts the server and waits until it answers; false when it ended instead.
    fn launch(&mut self) -> bool {
        let mut watchdog = Command::new("sh");
        watchdog
            .args(["-c", WATCHDOG, "remit-postgres"])
            .arg(&self.binaries)
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(&self.folder)
            .process_group(0);
        if let Some((uid, gid)) = self.user {
            watchdog.uid(uid).gid(gid);
        }
        self.watchdog = Some(watchdog.spawn().unwrap());
        let until = Instant::now() + START_DEADLINE;
        while Instant::now() < until {
            let ready = self
                .command("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .unwrap();
            // Another server may answer on this port; ours writes its pid file.
            if ready.success() && self.pid().is_some() {
                return true;
            }
            if self.log().contains("could not bind") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_file(self.folder.join("log"));
        self.end(b"keep\n");
        false
    }

    fn end(&mut self, order: &[u8]) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let mut stdin = watchdog.stdin.take().unwrap();
            let _ = stdin.write_all(order);
            drop(stdin);
            watchdog.wait().unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The process id of the server, once it runs.
    fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Signals the server and every process it started, each by its own id.
    fn signal(&self, signal: &str) {
        let pid = self.pid().expect("the server runs");
        let mut command = Command::new("kill");
        command.arg(signal).arg(pid.to_string());
        command.args(children(pid).iter().map(u32::to_string));
        // A child may end between being listed and being signalled.
        let _ = command.stderr(Stdio::null()).status().unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(b"");
    }
}

/// Where the server's programs are: in the path, or where Debian keeps them, the newest version first.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    folders.extend(debian.into_iter().rev());
    let programs = ["postgres", "initdb", "psql", "pg_isready"];
    let whole = |folder: &PathBuf| programs.iter().all(|one| folder.join(one).is_file());
    folders.into_iter().find(whole)
}

/// The user to run as when we are root, which Postgres refuses to run as.
fn unprivileged() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |wanted: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("a user to run Postgres as"),
    )
}

/// The processes that `pid` started, from `/proc`.
fn children(pid: u32) -> Vec<u32> {
    let parent = |stat: &str| -> Option<u32> {
        // The name, in parentheses, may hold anything; the state and then the parent's id follow it.
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    let own = |folder: &Path| -> Option<u32> {
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        (parent(&stat)? == pid).then_some(id)
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| own(&entry.ok()?.path()))
        .collect()
}
