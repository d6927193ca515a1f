//! Servers under load: started, pinned to one core, and ended by their own process id.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use remit_core::{Bundle, Clock, Entity};
use remit_store::{Expected, NewKey, Options, Pepper, Scope, Store};

use crate::measure::{process_cpu, resident_mib};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(120);
/// What keys are hashed with.
const PEPPER: &str = "the pepper of a benchmark: 32 bytes or more";
/// How many entities are written at a time.
const CHUNK: usize = 10_000;

/// One server that runs; dropping it ends it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// How long it took to say that it is ready.
    pub started: Duration,
}

/// A data folder of Remit with everything in it, and the key that opens it.
pub struct Installation {
    pub folder: PathBuf,
    pub key: String,
}

/// Which core runs what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Core {
    /// The servers' core.
    Server,
    /// The core of the load.
    Load,
    /// Any.
    Any,
}

// === impl Server ===

impl Server {
    /// Starts Remit as in production, with everything at its default but what `settings` say.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn remit(
        installation: &Installation,
        core: Core,
        settings: &[(String, String)],
    ) -> io::Result<Self> {
        let folder = &installation.folder;
        let ready = folder.join("ready.json");
        // A server that was ended leaves its file behind.
        let _ = fs::remove_file(&ready);
        let start = Instant::now();
        let child = command(core, &remit_binary()?)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--operations",
                "127.0.0.1:0",
            ])
            .arg("--data")
            .arg(folder)
            .arg("--ready-file")
            .arg(&ready)
            .env("REMIT__AUTH__PEPPER_FILE", folder.join("pepper"))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr"))?)
            .spawn()?;
        Ok(Self::of(child).once_ready(&ready, start)?.0)
    }

    /// Starts Remit as somebody who tries it does, with the starter bundle; returns the key it made too.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn dev(folder: &Path) -> io::Result<(Self, String)> {
        fs::create_dir_all(folder)?;
        let ready = folder.join("ready.json");
        // A server that was ended leaves its file behind.
        let _ = fs::remove_file(&ready);
        let start = Instant::now();
        let child = command(Core::Any, &remit_binary()?)
            .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder)
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr"))?)
            .spawn()?;
        let (server, ready) = Self::of(child).once_ready(&ready, start)?;
        Ok((server, ready["key"].as_str().unwrap_or_default().to_owned()))
    }

    /// Waits until Remit says in its file that it is ready; returns what else it says there.
    fn once_ready(mut self, file: &Path, start: Instant) -> io::Result<(Self, serde_json::Value)> {
        let text = self.wait_for_file(file)?;
        self.started = start.elapsed();
        let ready: serde_json::Value = serde_json::from_str(&text)?;
        let url = ready["url"].as_str().unwrap_or_default();
        self.address = parse(url.trim_start_matches("http://"))?;
        Ok((self, ready))
    }

    /// Starts this program itself as one of the limits: `hyper` or `axum`.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn limit(which: &str, folder: &Path) -> io::Result<Self> {
        let ready = folder.join(format!("{which}.address"));
        let child = command(Core::Server, &std::env::current_exe()?)
            .args(["--serve", which])
            .arg(&ready)
            .stdin(Stdio::null())
            .spawn()?;
        let mut server = Self::of(child);
        let text = server.wait_for_file(&ready)?;
        server.address = parse(&text)?;
        Ok(server)
    }

    /// Starts another program that listens on `address` once it is ready.
    ///
    /// # Errors
    ///
    /// When it does not; what it wrote is in the error.
    pub fn peer(command: &mut Command, address: SocketAddr, output: &Path) -> io::Result<Self> {
        let file = File::create(output)?;
        let start = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        let mut server = Self::of(child);
        server.address = address;
        while TcpStream::connect(address).is_err() {
            if server.child.try_wait()?.is_some() || start.elapsed() > START {
                let said = fs::read_to_string(output).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                return Err(io::Error::other(format!("it did not start: {last:?}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server.started = start.elapsed();
        Ok(server)
    }

    fn of(child: Child) -> Self {
        Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            started: Duration::ZERO,
        }
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the CPU time it has taken so far.
    pub fn cpu(&self) -> Duration {
        process_cpu(self.pid())
    }

    /// Returns what it has in memory, in MiB.
    pub fn mib(&self) -> f64 {
        resident_mib(self.pid())
    }

    fn wait_for_file(&mut self, file: &Path) -> io::Result<String> {
        let until = Instant::now() + START;
        loop {
            match fs::read_to_string(file) {
                Ok(text) if !text.is_empty() => return Ok(text),
                _ if self.child.try_wait()?.is_some() || Instant::now() > until => {
                    let said = file.with_file_name("stderr");
                    let said = fs::read_to_string(said).unwrap_or_default();
                    return Err(io::Error::other(format!("it did not start:\n{said}")));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Installation ===

impl Installation {
    /// Makes a data folder: a SQLite database with the bundle, the entities and one key in it.
    ///
    /// # Errors
    ///
    /// Whatever the store says.
    pub fn make(
        folder: &Path,
        bundle: Option<&Bundle>,
        entities: impl Iterator<Item = Entity>,
    ) -> io::Result<Self> {
        let url = format!("sqlite:{}", folder.join("remit.db").display());
        Self::make_at(folder, url, bundle, entities)
    }

    /// Makes a data folder beside a database elsewhere, which is given the bundle, the entities and one key.
    ///
    /// # Errors
    ///
    /// Whatever the store says.
    pub fn make_at(
        folder: &Path,
        url: String,
        bundle: Option<&Bundle>,
        entities: impl Iterator<Item = Entity>,
    ) -> io::Result<Self> {
        let pepper = PEPPER;
        let this = Self::beside(folder, "")?;
        let filling = async {
            let store = Store::open(&Options::new(url), Clock::system()).await?;
            store.migrate().await?;
            let tenant = store.ensure_tenant("default").await?;
            if let Some(bundle) = bundle {
                let put = store.put_bundle(tenant, Expected::Any, bundle, None);
                put.await?;
            }
            let mut entities = entities.peekable();
            while entities.peek().is_some() {
                let chunk: Vec<Entity> = entities.by_ref().take(CHUNK).collect();
                store.upsert_entities(tenant, &chunk).await?;
            }
            let new = NewKey {
                name: "bench".to_owned(),
                environment: "bench".to_owned(),
                scopes: Scope::ALL.iter().copied().collect(),
                expires_at: None,
                principal: None,
            };
            let pepper = Pepper::new(pepper.as_bytes())?;
            let (_, key) = store.create_key(tenant, &new, &pepper).await?;
            store.close().await;
            Ok(key.reveal())
        };
        let key = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(filling)
            .map_err(|error: remit_store::Error| io::Error::other(format!("{error:?}")))?;
        Ok(Self { key, ..this })
    }

    /// Makes a data folder for one more replica, over the database that has the key already.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn beside(folder: &Path, key: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("pepper"), PEPPER)?;
        // Remit takes no secret that others can read.
        fs::set_permissions(folder.join("pepper"), fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            folder: folder.to_owned(),
            key: key.to_owned(),
        })
    }
}

/// Returns the settings that make Remit record into the database with the answer, where this build has them.
///
/// Found, not known: the setting of the log that says `local` is the one that can say `shared`.
pub fn shared_setting() -> Option<(String, String)> {
    let shown = Command::new(remit_binary().ok()?)
        .args(["config", "show", "-o", "json"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
    let rows = shown.as_array()?.iter();
    let mut keys = rows
        .filter(|row| row["value"] == "local")
        .filter_map(|row| {
            let key = row["key"].as_str()?;
            key.contains("log").then(|| key.replace('.', "__"))
        });
    let name = format!("REMIT__{}", keys.next_back()?.to_uppercase());
    Some((name, "shared".to_owned()))
}

/// Builds the release binary once and returns where it is; REMIT_BENCH_REMIT names another one.
///
/// # Errors
///
/// When it does not build.
pub fn remit_binary() -> io::Result<PathBuf> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        if let Some(named) = std::env::var_os("REMIT_BENCH_REMIT") {
            return Some(PathBuf::from(named));
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--release", "--locked", "--bin", "remit"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // What `cargo bench` says of this package; dependencies that look at it would be built anew.
        for (name, _) in std::env::vars_os() {
            let told = name.to_string_lossy();
            if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        let built = build.status();
        let this = std::env::current_exe().ok()?;
        let folder = this.parent().and_then(Path::parent)?;
        built.ok()?.success().then(|| folder.join("remit"))
    };
    let binary = BINARY.get_or_init(build).clone();
    binary.ok_or_else(|| io::Error::other("the remit binary does not build"))
}

/// Returns a port that is free.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Prepares a program on a core.
pub fn command(core: Core, program: &Path) -> Command {
    match number(core) {
        Some(number) => {
            let mut command = Command::new("taskset");
            command.arg("-c").arg(number.to_string()).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Puts every thread of this program on a core; tells whether it could.
pub fn pin_this(core: Core) -> bool {
    let cores = allowed();
    let list = match number(core) {
        Some(number) => number.to_string(),
        None => cores
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(","),
    };
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &list, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    pinned.is_ok_and(|status| status.success()) && cores.len() > 1
}

/// Returns the number of a core; nothing where there is only one, or no `taskset`.
fn number(core: Core) -> Option<usize> {
    let cores = allowed();
    match (core, cores.as_slice()) {
        (Core::Server, [first, _, ..]) => Some(*first),
        (Core::Load, [_, second, ..]) => Some(*second),
        _ => None,
    }
}

/// Returns the cores that this program had when it started.
fn allowed() -> Vec<usize> {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    let read = || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let ranges = line.unwrap_or_default().trim().split(',');
        let bounds = ranges.filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
        });
        let taskset = Command::new("taskset")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        if taskset.is_ok() {
            bounds.flatten().collect()
        } else {
            Vec::new()
        }
    };
    CORES.get_or_init(read).clone()
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    let parsed = address.trim().trim_end_matches('/').parse();
    parsed.map_err(|_| io::Error::other(format!("`{address}` is no address")))
}
