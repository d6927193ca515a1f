//! Running something again whenever a file of a bundle changes.

use std::path::Path;
use std::time::Duration;

use crate::bundle_dir;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long the folder stays as it is before it is read: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(50);

/// Runs `once`, and again after each change of the bundle in `dir`, until interrupted; ends as the last run did.
///
/// # Errors
///
/// [`Error::Io`] when the interrupt cannot be listened for. What goes wrong in a run is written, and waited out.
pub(super) async fn run(
    dir: &Path,
    once: impl Fn() -> Result<Exit, Error>,
    out: &Output,
) -> Result<Exit, Error> {
    let mut seen = bundle_dir::stamps(dir);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let exit = once().unwrap_or_else(|error| {
            out.error(&error);
            error.exit()
        });
        out.note("waiting for changes; Ctrl-C ends it");
        tokio::select! {
            biased;
            heard = &mut interrupted => {
                heard.map_err(|why| Error::io("listen for the interrupt", why))?;
                return Ok(exit);
            }
            changed = changed(dir, &seen) => seen = changed,
        }
    }
}

/// Waits until the files are others than those seen, and then until they stay as they are.
async fn changed(dir: &Path, seen: &bundle_dir::Stamps) -> bundle_dir::Stamps {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut now = bundle_dir::stamps(dir);
        if now == *seen {
            continue;
        }
        loop {
            tokio::time::sleep(QUIET).await;
            let later = bundle_dir::stamps(dir);
            if later == now {
                return now;
            }
            now = later;
        }
    }
}
