//! Configuration: what can be set, and what of it can work; `layers` says where each value comes from.

mod layers;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remit_store::PendingLimits;
use serde::Deserialize;

use crate::error::Error;

pub(crate) use layers::Layers;

/// Every setting with its default and what it means; the truth that `docs/config.md` is made from.
pub(crate) const DEFAULT: &str = include_str!("config.default.toml");

/// The largest configuration file or secret file that is read, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;

/// Everything that can be set, as it is in force.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) data: Data,
    pub(crate) database: Database,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
    pub(crate) auth: Auth,
    pub(crate) policy: Policy,
    pub(crate) tasks: Tasks,
    pub(crate) approvals: Approvals,
    pub(crate) drafts: Drafts,
    pub(crate) webhooks: Hooks,
    pub(crate) exceptions: Exceptions,
    pub(crate) leases: Leases,
    pub(crate) replica: Replica,
    pub(crate) telemetry: Telemetry,
}

/// Where the process listens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) http: SocketAddr,
    pub(crate) operations: SocketAddr,
    pub(crate) public_url: Option<String>,
}

/// Where it keeps things.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    pub(crate) dir: PathBuf,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    pub(crate) url: Option<Secret>,
    pub(crate) url_file: Option<PathBuf>,
    pub(crate) migrate_url: Option<Secret>,
    pub(crate) migrate_url_file: Option<PathBuf>,
    pub(crate) max_connections: u32,
    pub(crate) deadline_ms: u64,
}

/// The decision log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) segment_bytes: u64,
    pub(crate) queue: usize,
    pub(crate) max_unshipped_bytes: u64,
}

/// What one client may take of the process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) body_bytes: usize,
    pub(crate) header_deadline_ms: u64,
    pub(crate) body_deadline_ms: u64,
    pub(crate) idle_deadline_ms: u64,
    pub(crate) write_deadline_ms: u64,
    pub(crate) request_deadline_ms: u64,
    pub(crate) drain_ms: u64,
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) pepper_file: Option<PathBuf>,
    pub(crate) pepper: Option<Secret>,
    pub(crate) tenant: String,
}

/// Which policy may still decide.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) max_staleness_ms: u64,
    pub(crate) poll_ms: u64,
}

/// What tasks are held to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tasks {
    pub(crate) idle_timeout_ms: u64,
    pub(crate) reserved_ms: u64,
    pub(crate) orphan_after_ms: u64,
    pub(crate) escrow_from: u32,
}

/// What people are asked to approve.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Approvals {
    pub(crate) denial_ttl_ms: u64,
    pub(crate) request_ttl_ms: u64,
    pub(crate) approval_ttl_ms: u64,
    pub(crate) retention_ms: u64,
    pub(crate) asked_per_minute: u64,
    pub(crate) pending_per_agent: u64,
    pub(crate) pending_per_task: u64,
    pub(crate) pending_per_tenant: u64,
    pub(crate) refusals: u64,
}

/// To whom what happens is told.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hooks {
    pub(crate) allow: Vec<String>,
}

/// Which drafts of standards are spoken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drafts {
    pub(crate) access_requests: String,
    pub(crate) obligations: String,
}

/// What exceptions are held to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exceptions {
    pub(crate) longest_days: u64,
}

/// What leases are held to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leases {
    pub(crate) longest_hours: u64,
}

/// This process among the others that decide by the same database.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replica {
    pub(crate) name: Option<String>,
}

/// What the process says of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

// === impl Config ===

impl Config {
    /// Returns the folder of the spool.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.log
            .dir
            .clone()
            .unwrap_or_else(|| self.data.dir.join("spool"))
    }

    /// Returns the database's URL.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when its file cannot be read.
    pub(crate) fn database_url(&self) -> Result<String, Error> {
        let database = &self.database;
        let said = secret(
            "database.url",
            database.url.as_ref(),
            database.url_file.as_deref(),
        )?;
        Ok(said.unwrap_or_else(|| format!("sqlite:{}", self.data.dir.join("remit.db").display())))
    }

    /// Returns the URL of the role that owns the tables, where that is another one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when its file cannot be read.
    pub(crate) fn migrate_url(&self) -> Result<Option<String>, Error> {
        let database = &self.database;
        secret(
            "database.migrate_url",
            database.migrate_url.as_ref(),
            database.migrate_url_file.as_deref(),
        )
    }

    /// Returns the pepper, where one is configured.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when its file cannot be read, can be read by others, or holds fewer than 32 bytes.
    pub(crate) fn pepper(&self) -> Result<Option<String>, Error> {
        let auth = &self.auth;
        if let Some(path) = &auth.pepper_file {
            check_private("auth.pepper_file", path)?;
        }
        let pepper = secret(
            "auth.pepper",
            auth.pepper.as_ref(),
            auth.pepper_file.as_deref(),
        )?;
        match pepper {
            Some(text) if text.len() < 32 => Err(Error::Config(format!(
                "  auth.pepper: has {} bytes and needs 32 or more; `openssl rand -hex 32` makes a good one",
                text.len()
            ))),
            pepper => Ok(pepper),
        }
    }

    /// Returns how long one call to the database may take.
    pub(crate) fn database_deadline(&self) -> Duration {
        Duration::from_millis(self.database.deadline_ms)
    }

    /// Lists settings that are well-formed and cannot work.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut positive = |key, value: u64| {
            if value == 0 {
                faults.push((key, "must be more than 0".to_owned()));
            }
        };
        positive(
            "database.max_connections",
            self.database.max_connections.into(),
        );
        positive("database.deadline_ms", self.database.deadline_ms);
        positive("log.segment_bytes", self.log.segment_bytes);
        positive("log.queue", self.log.queue as u64);
        positive("log.max_unshipped_bytes", self.log.max_unshipped_bytes);
        positive("limits.connections", self.limits.connections as u64);
        positive("limits.requests", self.limits.requests as u64);
        positive("limits.header_deadline_ms", self.limits.header_deadline_ms);
        positive("limits.idle_deadline_ms", self.limits.idle_deadline_ms);
        positive("limits.write_deadline_ms", self.limits.write_deadline_ms);
        positive(
            "limits.request_deadline_ms",
            self.limits.request_deadline_ms,
        );
        positive("policy.max_staleness_ms", self.policy.max_staleness_ms);
        positive("policy.poll_ms", self.policy.poll_ms);
        positive("tasks.idle_timeout_ms", self.tasks.idle_timeout_ms);
        positive("tasks.reserved_ms", self.tasks.reserved_ms);
        positive("tasks.orphan_after_ms", self.tasks.orphan_after_ms);
        positive("approvals.denial_ttl_ms", self.approvals.denial_ttl_ms);
        positive("approvals.request_ttl_ms", self.approvals.request_ttl_ms);
        positive("approvals.approval_ttl_ms", self.approvals.approval_ttl_ms);
        if !(1..=366).contains(&self.exceptions.longest_days) {
            let fault = "must be 1 to 366".to_owned();
            faults.push(("exceptions.longest_days", fault));
        }
        if !(1..=168).contains(&self.leases.longest_hours) {
            let fault = "must be 1 to 168".to_owned();
            faults.push(("leases.longest_hours", fault));
        }
        faults.extend(self.database.faults());
        faults.extend(self.drafts.faults());
        faults.extend(self.webhooks.faults());
        if self.auth.pepper.is_some() && self.auth.pepper_file.is_some() {
            faults.push((
                "auth.pepper_file",
                "is set as well as auth.pepper; one of them must go".to_owned(),
            ));
        }
        if self.auth.tenant.is_empty() || self.auth.tenant.len() > 64 {
            faults.push(("auth.tenant", "must have 1 to 64 bytes".to_owned()));
        }
        if let Some(name) = &self.replica.name
            && (name.is_empty() || name.len() > 200 || name.chars().any(char::is_control))
        {
            let fault = "must have 1 to 200 bytes, and no control character";
            faults.push(("replica.name", fault.to_owned()));
        }
        if let Some(url) = &self.listen.public_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            faults.push((
                "listen.public_url",
                format!("`{url}` must begin with https:// or http://"),
            ));
        }
        if let Err(why) = crate::telemetry::filter(&self.telemetry.level) {
            faults.push((
                "telemetry.level",
                format!("`{}` is no filter: {why}", self.telemetry.level),
            ));
        }
        faults
    }
}

// === impl Approvals ===

impl Approvals {
    /// Returns what the API is told of it.
    pub(crate) fn options(&self) -> remit_api::Approvals {
        remit_api::Approvals {
            denial_ttl: Duration::from_millis(self.denial_ttl_ms),
            request_ttl: Duration::from_millis(self.request_ttl_ms),
            approval_ttl: Duration::from_millis(self.approval_ttl_ms),
            retention: Duration::from_millis(self.retention_ms),
            pending: PendingLimits {
                asked: self.asked_per_minute,
                agent: self.pending_per_agent,
                task: self.pending_per_task,
                tenant: self.pending_per_tenant,
            },
            refusals: self.refusals,
        }
    }
}

// === impl Hooks ===

impl Hooks {
    /// Returns the setting as the API takes it.
    pub(crate) fn options(&self) -> remit_api::Hooks {
        remit_api::Hooks {
            allow: self.allow.clone(),
            ..remit_api::Hooks::default()
        }
    }

    fn faults(&self) -> Vec<(&'static str, String)> {
        let plain = |byte: u8| {
            byte.is_ascii_graphic() && !b"/@?#".contains(&byte) && !byte.is_ascii_uppercase()
        };
        let is_one = |text: &&String| {
            let (host, port) = text.rsplit_once(':').unwrap_or_default();
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            !host.is_empty() && host.bytes().all(plain) && port
        };
        let wrong = self.allow.iter().filter(|text| !is_one(text));
        let fault = |text: &String| {
            let fault = format!("`{text}` is no host with its port, such as `chat.internal:8443`");
            ("webhooks.allow", fault)
        };
        wrong.map(fault).collect()
    }
}

// === impl Drafts ===

impl Drafts {
    /// The one draft of either that there is.
    const SPOKEN: &str = "draft-1";

    /// Returns what the API is told of it.
    pub(crate) fn options(&self) -> remit_api::Drafts {
        remit_api::Drafts {
            access_requests: self.access_requests == Self::SPOKEN,
            obligations: self.obligations == Self::SPOKEN,
        }
    }

    /// Lists settings that are well-formed and cannot work.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let said = [
            ("drafts.access_requests", &self.access_requests),
            ("drafts.obligations", &self.obligations),
        ];
        let odd = |draft: &str| !draft.is_empty() && draft != Self::SPOKEN;
        let odd = said.into_iter().filter(|(_, draft)| odd(draft));
        odd.map(|(key, draft)| {
            let fault = format!("`{draft}` must be `{}` or empty", Self::SPOKEN);
            (key, fault)
        })
        .collect()
    }
}

// === impl Database ===

impl Database {
    /// Lists settings that are well-formed and cannot work.
    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.url.is_some() && self.url_file.is_some() {
            faults.push((
                "database.url_file",
                "is set as well as database.url; one of them must go".to_owned(),
            ));
        }
        if self.migrate_url.is_some() && self.migrate_url_file.is_some() {
            faults.push((
                "database.migrate_url_file",
                "is set as well as database.migrate_url; one of them must go".to_owned(),
            ));
        }
        if let Some(url) = &self.migrate_url
            && !["postgres://", "postgresql://"]
                .iter()
                .any(|start| url.0.starts_with(start))
        {
            faults.push((
                "database.migrate_url",
                "must begin with postgres://; SQLite has no roles".to_owned(),
            ));
        }
        if let Some(url) = &self.url
            && !["sqlite:", "postgres://", "postgresql://"]
                .iter()
                .any(|start| url.0.starts_with(start))
        {
            faults.push((
                "database.url",
                "must begin with sqlite: or postgres://".to_owned(),
            ));
        }
        faults
    }
}

// === impl Secret ===

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads a secret from its value or its `_file` twin, without the line end an editor leaves.
fn secret(key: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, Error> {
    let Some(path) = file else {
        return Ok(value.map(|secret| secret.0.clone()));
    };
    let text = read_small(path).map_err(|why| {
        Error::Config(format!(
            "  {key}_file: cannot read `{}`: {why}",
            path.display()
        ))
    })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Checks that not every user of this machine can read or change a file that holds a secret.
///
/// Not below `/run/secrets`: there container runtimes put files with a mode of their own, and nobody else lives in the
/// container. A file that is not there is for the reader to report.
///
/// # Errors
///
/// [`Error::Config`], which says what to type.
pub(crate) fn check_private(key: &str, path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let mounted = ["/run/secrets", "/var/run/secrets"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let mode = path
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mounted || mode & 0o006 == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(Error::Config(format!(
        "  {key}: `{shown}` is open to every user of this machine (mode {:03o}); close it with `chmod 600 {shown}`",
        mode & 0o777
    )))
}

/// Reads a text file that has no business being large.
pub(crate) fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let taken = std::fs::File::open(path)?
        .take(FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if taken as u64 > FILE_BYTES {
        return Err(std::io::Error::other(format!(
            "the file is larger than {FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

/// Writes a database URL with `***` where its password is.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user
                .split_once(':')
                .map_or(user.to_owned(), |(name, _)| format!("{name}:***"));
            format!("{scheme}://{user}@{host}")
        }
        None => url.to_owned(),
    }
}
