//! What can go wrong with the decision log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remit_core::DecisionId;

/// Why a decision could not be recorded, or the log not be opened.
///
/// No answer may be given for a record that met one of these (INV-3). [`Error::Busy`], [`Error::Full`],
/// [`Error::Poisoned`], [`Error::Closed`] and [`Error::Deadline`] pass by themselves: the caller answers 503.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The queue to the writer is full: decisions arrive faster than the disk takes them.
    #[error("the decision log is busy: {queued} records are waiting to be written")]
    Busy {
        /// How many records wait.
        queued: usize,
    },
    /// As much is waiting to be shipped to the store as the spool may hold.
    #[error("the decision log is full: {bytes} bytes are waiting to be shipped to the store")]
    Full {
        /// How many bytes wait, those of this append included.
        bytes: u64,
    },
    /// The disk refused a write, and a new segment could not be opened either.
    ///
    /// The log goes on trying to open one, and takes records again as soon as that succeeds.
    #[error("the decision log cannot write: {problem}")]
    Poisoned {
        /// What the disk said.
        problem: Arc<str>,
    },
    /// The log has been closed.
    #[error("the decision log is closed")]
    Closed,
    /// The disk did not confirm the records in time; they may be written still.
    #[error("the decision log did not confirm the records within {0:?}")]
    Deadline(Duration),
    /// A record, or a batch of them, is larger than the log takes.
    #[error("a decision record of {bytes} bytes is larger than {limit} bytes")]
    TooLarge {
        /// The size of the record, or of the whole batch.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// A batch has more records than the queue can ever hold.
    #[error("a batch of {records} decision records is larger than {limit} records")]
    TooMany {
        /// How many records the batch has.
        records: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// A record could not be written as canonical JSON.
    #[error("cannot write decision `{id}` as JSON")]
    Encode {
        /// Which decision.
        id: DecisionId,
        /// Why.
        source: serde_json::Error,
    },
    /// The database did not take a record with what it consumes; it may have taken it still.
    #[error("cannot record a decision with what it consumes")]
    Store(#[from] remit_store::Error),
    /// Another process has this folder open.
    #[error(
        "the decision log in `{}` is in use by another process; stop that process, or give this one a folder of its own",
        dir.display()
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A segment holds something that the log never wrote there: nothing is started over it.
    #[error(
        "the decision log is damaged at byte {offset} of `{}`: {what}; run `remit log fsck`, keep a copy of the file, \
         and move it out of the folder to start without it",
        file.display()
    )]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file system refused something.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was attempted, such as `open`.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

// === impl Error ===

impl Error {
    /// Returns what makes an [`io::Error`] met while `doing` something to `path` an error of the log.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
