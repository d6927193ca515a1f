//! `remit version`: which Remit this is.

use serde::Serialize;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// What this binary is.
#[derive(Debug, Serialize)]
struct About {
    version: &'static str,
    commit: &'static str,
    target: String,
}

/// The commit this was built from; a build sets REMIT_COMMIT where it knows.
pub(crate) const COMMIT: &str = match option_env!("REMIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Prints the version.
///
/// # Errors
///
/// [`Error::Io`] when stdout cannot be written.
pub(crate) fn run(out: &Output) -> Result<Exit, Error> {
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    };
    out.value(&about, |this| {
        format!(
            "remit {} (commit {}, {})",
            this.version, this.commit, this.target
        )
    })?;
    Ok(Exit::Ok)
}
