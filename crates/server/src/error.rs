//! Everything a command can end in, with its exit code and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::client::ProblemBody;
use crate::diagnostics::Found;
use crate::exit::Exit;

/// Why a command did not do what was asked.
///
/// The message says what was being attempted; the cause is the `source`; [`Error::help`] says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// The input is wrong: a file, a value, an answer to a prompt.
    #[error("{0}")]
    Invalid(String),
    /// A configuration that cannot be used; one line a fault.
    #[error("the configuration cannot be used\n{0}")]
    Config(String),
    /// Policies, schema or entities that do not compile.
    #[error("{what} is not valid: {}", count(.found.errors()))]
    Diagnostics {
        /// The bundle, in words.
        what: String,
        /// What is wrong, with the text it is wrong in.
        found: Box<Found>,
    },
    /// A file, folder or stream that could not be used.
    #[error("cannot {what}")]
    Io {
        /// What was being attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody answers at the URL.
    #[error("cannot reach Remit at `{url}`")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// Somebody is there and does not answer in time. Whether a change was made is not known.
    #[error("no answer from `{url}` in time")]
    TimedOut {
        /// Who was asked.
        url: String,
        /// What was cut short.
        source: reqwest::Error,
    },
    /// Something answers that is not Remit, or not this version of it.
    #[error("the answer of `{url}` is not understood: {problem}")]
    NotUnderstood {
        /// Who answered.
        url: String,
        /// What was expected.
        problem: String,
    },
    /// Remit refused.
    #[error("{0}")]
    Refused(Box<ProblemBody>),
    /// No key was given for a command that needs one.
    #[error("no API key given")]
    NoKey,
    /// Another program listens there.
    #[error("cannot listen on `{address}`: another program already does")]
    PortBusy {
        /// The address.
        address: SocketAddr,
        /// The flag that chooses another.
        flag: &'static str,
    },
    /// Another process works in the folder.
    #[error("the data folder `{}` is in use by another process", .0.display())]
    FolderBusy(PathBuf),
    /// The database is behind this version.
    #[error("the database needs {} migration(s): {}", .0.len(), .0.join(", "))]
    Pending(Vec<String>),
    /// The database could not be used.
    #[error("cannot {what}")]
    Store {
        /// What was being attempted.
        what: &'static str,
        /// Why it failed.
        source: remit_store::Error,
    },
    /// The decision log could not be used.
    #[error("cannot {what}")]
    Log {
        /// What was being attempted.
        what: &'static str,
        /// Why it failed.
        source: remit_log::Error,
    },
    /// A value that cannot be written as JSON.
    #[error("cannot write the result as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// Telemetry could not be set up.
    #[error("cannot set up telemetry")]
    Telemetry(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The command itself failed.
    #[error("the command failed in a way it should not; please report it")]
    Crashed(#[source] tokio::task::JoinError),
}

// === impl Error ===

impl Error {
    /// Wraps an I/O error with what was being attempted.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    /// Wraps an I/O error on a path.
    pub(crate) fn path(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("{verb} `{}`", path.display()), source)
    }

    /// Returns the exit code a command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Invalid(_) | Self::Config(_) | Self::Diagnostics { .. } => Exit::Invalid,
            Self::Unreachable { .. }
            | Self::PortBusy { .. }
            | Self::FolderBusy(_)
            | Self::Pending(_)
            | Self::Store { .. }
            | Self::Log { .. } => Exit::Unavailable,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::NoKey => Exit::NotPermitted,
            Self::Refused(problem) => problem.exit(),
            Self::Io { .. }
            | Self::NotUnderstood { .. }
            | Self::Unwritable(_)
            | Self::Telemetry(_)
            | Self::Crashed(_) => Exit::Unexpected,
        }
    }

    /// Returns what the reader can do about it, where that is known.
    pub(crate) fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "is it running? `remit serve --dev` starts one; REMIT_URL or --url says where it is"
                    .to_owned()
            }
            Self::TimedOut { .. } => {
                "look whether it was done before you do it again; --timeout gives it longer"
                    .to_owned()
            }
            Self::NoKey => {
                "set REMIT_KEY, or name a file that holds the key with --key-file".to_owned()
            }
            Self::PortBusy { address, flag } => format!(
                "stop the other program (`ss -ltnp 'sport = :{}'` names it), or choose another port: {flag} {}:0 takes a free one",
                address.port(),
                bracketed(address)
            ),
            Self::FolderBusy(_) => {
                "stop the other `remit serve`, or give this one a folder of its own with --data"
                    .to_owned()
            }
            Self::Pending(_) => {
                "back the database up, then run `remit migrate`, or start with --migrate".to_owned()
            }
            Self::Refused(problem) => return problem.help(),
            _ => return None,
        })
    }

    /// Returns what is wrong with policies, where that is what failed.
    pub(crate) fn diagnostics(&self) -> Option<&Found> {
        match self {
            Self::Diagnostics { found, .. } => Some(found),
            _ => None,
        }
    }
}

fn bracketed(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

fn count(errors: usize) -> String {
    match errors {
        1 => "1 error".to_owned(),
        many => format!("{many} errors"),
    }
}
