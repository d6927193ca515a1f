//! Exit codes: what a script learns from a command without reading its output.

use std::process::ExitCode;

/// How a command ended; printed in `remit --help`, tested in `tests/it/cli.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or permitted.
    Ok = 0,
    /// Something failed that should not.
    Unexpected = 1,
    /// Denied.
    Deny = 2,
    /// The input is invalid: a policy, an entity, a configuration, a request.
    Invalid = 3,
    /// Cases of a bundle failed.
    CasesFailed = 4,
    /// Denied until a person approves this call.
    ApprovalRequired = 5,
    /// A gate or a verification failed.
    GateFailed = 6,
    /// The command line is wrong.
    Usage = 64,
    /// Remit, its database or its port is not available.
    Unavailable = 69,
    /// The key is missing, unknown or lacks the scope.
    NotPermitted = 77,
    /// A wait timed out.
    TimedOut = 124,
}

/// The list of exit codes as `--help` prints it.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done, or permitted          5  approval required
    1  unexpected failure          6  a gate or a verification failed
    2  denied                     64  wrong usage
    3  invalid input              69  Remit is unavailable
    4  cases failed               77  not permitted
                                 124  timed out";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
