//! A Remit inside this process, wired as `remit serve --dev` wires it, for commands that show or measure one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use remit_core::Bundle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::client::{Client, Server};
use crate::config::Layers;
use crate::dev::write_private;
use crate::error::Error;
use crate::output::Output;
use crate::serve::{self, DevPlan, Plan, Ready};

/// What differs from the default configuration; the environment is not asked, so that no database of somebody's is
/// touched.
const SETTINGS: &[(&str, &str)] = &[
    ("listen.http", "127.0.0.1:0"),
    ("listen.operations", "127.0.0.1:0"),
    // A machine that is busy with something else is no reason to give up.
    ("database.deadline_ms", "10000"),
    ("limits.request_deadline_ms", "30000"),
    ("policy.max_staleness_ms", "30000"),
    // What is measured asks far more often than an agent does.
    ("approvals.asked_per_minute", "1000000"),
    ("telemetry.format", "text"),
    ("telemetry.level", "error"),
];

/// How long one request may take, in seconds.
const TIMEOUT: u64 = 30;

/// A running service.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Where it answers.
    pub(crate) url: String,
    /// A key with every scope.
    pub(crate) key: String,
    data: PathBuf,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), Error>>,
}

// === impl Embedded ===

impl Embedded {
    /// Starts the service with a bundle and its data in `folder`, and waits until it is ready.
    ///
    /// It stops when `stop` is raised; `None` when that was before it was ready.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from starting.
    pub(crate) async fn start(
        folder: &Path,
        bundle: Bundle,
        stop: watch::Sender<bool>,
        out: &Output,
    ) -> Result<Option<Self>, Error> {
        let data = folder.join("data");
        let config = Layers::apart("demo", SETTINGS)
            .flag("demo", "data.dir", Some(data.display()))
            .read()?;
        let dev = DevPlan {
            bundle,
            replace: false,
            key: None,
        };
        let plan = Plan {
            config,
            dev: Some(dev),
            migrate: false,
            ready_file: None,
        };
        let (tell, told) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let announce = move |ready: &Ready| {
            let key = ready.key.as_ref().map(|key| key.text.clone());
            if let Some(tell) = tell.lock().unwrap_or_else(PoisonError::into_inner).take() {
                // Nobody listens any more when the demo was interrupted.
                let _ = tell.send((ready.url.clone(), key.unwrap_or_default()));
            }
        };
        let (stopping, out) = (stop.subscribe(), out.clone());
        let serving = tokio::spawn(async move {
            Box::pin(serve::run_until(plan, stopping, &out, announce)).await
        });
        match told.await {
            Ok((url, key)) => Ok(Some(Self {
                url,
                key,
                data,
                stop,
                serving,
            })),
            // It ended before it was ready: for a reason of its own, or because it was told to.
            Err(_) => serving.await.map_err(Error::Crashed)?.map(|()| None),
        }
    }

    /// Makes a client that presents the key.
    ///
    /// # Errors
    ///
    /// As [`Server::client`].
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let key_file = Some(self.data.join("dev.key"));
        Server {
            url: self.url.clone(),
            key_file,
            timeout: TIMEOUT,
        }
        .client()
    }

    /// Makes a client that presents another key, which is kept beside the first under a name.
    ///
    /// # Errors
    ///
    /// As [`Server::client`], and [`Error::Io`].
    pub(crate) fn client_of(&self, name: &str, key: &str) -> Result<Client, Error> {
        let key_file = self.key_file(name);
        write_private(&key_file, key)?;
        Server {
            url: self.url.clone(),
            key_file: Some(key_file),
            timeout: TIMEOUT,
        }
        .client()
    }

    /// Returns where the key of [`Embedded::client_of`] is kept.
    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        self.data.join(format!("{name}.key"))
    }

    /// Returns the folder of its decision log.
    pub(crate) fn log_folder(&self) -> PathBuf {
        self.data.join("spool")
    }

    /// Waits until somebody raises `stop`.
    pub(crate) async fn interrupted(&self) {
        serve::raised(self.stop.subscribe()).await;
    }

    /// Says whether somebody has raised `stop`.
    pub(crate) fn is_interrupted(&self) -> bool {
        *self.stop.borrow()
    }

    /// Stops the service: what is in flight is answered, what was recorded is shipped.
    ///
    /// # Errors
    ///
    /// What went wrong while it ran.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.serving.await.map_err(Error::Crashed)?
    }
}
