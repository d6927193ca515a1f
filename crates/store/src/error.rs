//! What can go wrong with a database.

use std::time::Duration;

use remit_core::Revision;

/// The error underneath, whatever library it came from.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// A call to the store that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the database cannot be used; it is not repeated, because it may hold a password.
    #[error("the database address is not usable: {problem}")]
    Address {
        /// What is wrong with it.
        problem: String,
    },
    /// The database did not answer in time. Whether a change was made is not known.
    #[error("could not {doing}: no answer from the database within {} ms", deadline.as_millis())]
    Deadline {
        /// What was attempted.
        doing: &'static str,
        /// How long it was given.
        deadline: Duration,
    },
    /// The database cannot be reached, or cannot serve just now. Whether a change was made is not known.
    #[error("could not {doing}: the database is not available")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// The cause.
        source: Source,
    },
    /// The bundle is not the one that was to be replaced: somebody else changed it first.
    #[error("the bundle in force is not the expected one")]
    Conflict {
        /// The revision of the bundle in force; `None` when there is no bundle.
        current: Option<Revision>,
    },
    /// Somebody else changed it first; nothing is written.
    #[error("the {what} was changed meanwhile: its newest version is {current}")]
    Stale {
        /// The noun.
        what: &'static str,
        /// Its version now.
        current: u64,
    },
    /// What is asked does not go together with what is there; nothing is written.
    #[error("{problem}")]
    Unfit {
        /// Why not.
        problem: String,
    },
    /// What is to be changed is named by a kill that is in force, and would get out of it.
    #[error("{what} is killed; lift the kill first")]
    Killed {
        /// What is killed, such as ``the model `m-1` ``.
        what: String,
    },
    /// Something of the tenant has changed since the revision that the change was checked against.
    #[error("the tenant has moved on to revision {head}")]
    Moved {
        /// The newest revision.
        head: Revision,
    },
    /// There is no such thing in this tenant.
    #[error("there is no such {what}")]
    NotFound {
        /// The noun.
        what: &'static str,
    },
    /// A value that no column can take.
    #[error("`{member}` {problem}")]
    Invalid {
        /// The member at fault, such as `entity.uid.id`.
        member: &'static str,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// Whoever makes the change may not any more: the API key was revoked, or its principal disabled.
    #[error("the API key was withdrawn before the change was made")]
    Withdrawn,
    /// The id of this API key belongs to another tenant.
    #[error("an API key of this id exists already in another tenant")]
    KeyTaken,
    /// There is a tenant of this name.
    #[error("there is a tenant of this name already")]
    TenantTaken,
    /// A tenant is deleted only after it was suspended.
    #[error("the tenant is not suspended; suspend it first")]
    NotSuspended,
    /// A stored row is not what this program writes: it was changed by hand, damaged, or written by a newer version.
    #[error("a row of `{table}` cannot be read: {what}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Which row, and what is wrong with it.
        what: String,
    },
    /// What is stored already is not what is being shipped: a spool was copied, or an id or sequence number used twice.
    #[error("the shipped records are not the stored ones: {what}")]
    Diverged {
        /// Where they differ.
        what: String,
    },
    /// A migration that was applied has been edited since.
    #[error("migration `{name}` was changed after it was applied")]
    MigrationChanged {
        /// Its name.
        name: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random {
        /// The cause.
        source: Source,
    },
    /// Anything else the database reports.
    #[error("could not {doing}: the database reports an error")]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// The cause.
        source: Source,
    },
}

/// An error inside a call, before it is said what was being attempted.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Ours(Error),
}

// === impl Error ===

impl Error {
    /// Returns true when the same call may succeed later, without any change: the database was away or slow.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Unavailable { .. })
    }

    pub(crate) fn invalid(member: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            member,
            problem: problem.into(),
        }
    }

    pub(crate) fn corrupt(table: &'static str, what: impl Into<String>) -> Self {
        Self::Corrupt {
            table,
            what: what.into(),
        }
    }
}

// === impl Failure ===

impl Failure {
    /// Says what was attempted.
    pub(crate) fn while_doing(self, doing: &'static str, deadline: Duration) -> Error {
        match self {
            Self::Ours(error) => error,
            Self::Sql(sqlx::Error::PoolTimedOut) => Error::Deadline { doing, deadline },
            Self::Sql(error) if crate::dialect::is_outage(&error) => Error::Unavailable {
                doing,
                source: error.into(),
            },
            Self::Sql(error) => Error::Database {
                doing,
                source: error.into(),
            },
        }
    }

    /// Whether the same call may succeed later.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Sql(error) => crate::dialect::is_outage(error),
            Self::Ours(error) => error.is_outage(),
        }
    }

    pub(crate) fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}
