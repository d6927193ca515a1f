//! Hints that something has changed: a shorter way than the next poll, and never instead of it.
//!
//! Postgres tells those who listen of a commit at once (`NOTIFY`, inside the transaction of every change). What it tells
//! while nobody is connected is lost, and a connection that has been cut off may look as if nothing were told. So a
//! hint only ever says "ask now", and each new connection begins with one.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};

use crate::dialect::CHANNEL;
use crate::error::{Error, Failure};
use crate::store::Store;

/// What is being attempted, in errors.
const DOING: &str = "listen for changes";
/// How long nothing may be told before the connection is asked whether it still stands.
const SILENCE: Duration = Duration::from_secs(5);
/// How long to wait after the first failure; twice as long after each further one.
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest wait: what is not told meanwhile is found by a poll.
const LONGEST: Duration = Duration::from_secs(8);

/// A connection on which changes are told, made again as often as it is lost; see [`Store::hints`].
pub struct Hints {
    /// Where to connect; `None` where nothing is ever told.
    connect: Option<PgConnectOptions>,
    deadline: Duration,
    listener: Option<PgListener>,
    /// How long to wait before the next attempt to connect.
    pause: Duration,
}

// === impl Store ===

impl Store {
    /// Returns the hints of this database; on SQLite, or where they are switched off, there is never one.
    ///
    /// They take a connection of their own beside those of the pool, from the first call of [`Hints::next`].
    pub fn hints(&self) -> Hints {
        Hints {
            connect: self.listens(),
            deadline: self.deadline(),
            listener: None,
            pause: Duration::ZERO,
        }
    }
}

// === impl Hints ===

impl Hints {
    /// Waits until something was changed, or may have been while nobody listened. Nothing is lost if it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Deadline`] each time that the connection is lost or cannot be made. The next
    /// call waits a little and tries again, so a caller may go on as if nothing had happened.
    pub async fn next(&mut self) -> Result<(), Error> {
        let Some(connect) = &self.connect else {
            return std::future::pending().await;
        };
        let Some(listener) = &mut self.listener else {
            sleep(self.pause).await;
            self.pause = self.pause.saturating_mul(2).clamp(SHORTEST, LONGEST);
            let listening = listen(connect.clone(), self.deadline);
            self.listener = Some(within(self.deadline, listening).await?);
            return Ok(());
        };
        let heard = hear(listener, self.deadline).await;
        match heard {
            // Not before: a connection that is cut off as soon as it is made is no better than none.
            Ok(()) => self.pause = Duration::ZERO,
            Err(_) => self.listener = None,
        }
        heard
    }
}

/// Waits until something is told, and asks after each silence whether the connection still stands.
async fn hear(listener: &mut PgListener, deadline: Duration) -> Result<(), Error> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => break,
            Ok(Ok(None)) => {
                let cut = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
                return Err(failed(deadline, sqlx::Error::Io(cut).into()));
            }
            Ok(Err(error)) => return Err(failed(deadline, error.into())),
            // A frozen server, or one behind a network that drops everything, is silent too.
            Err(_) => {
                let probe = sqlx::raw_sql("SELECT 1").execute(&mut *listener);
                within(deadline, async { Ok(probe.await.map(drop)?) }).await?;
            }
        }
    }
    // Whatever else was told meanwhile, one question answers it.
    while listener.next_buffered().is_some() {}
    Ok(())
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Error> {
    match timeout(deadline, call).await {
        Ok(done) => done.map_err(|failure| failed(deadline, failure)),
        Err(_) => Err(Error::Deadline {
            doing: DOING,
            deadline,
        }),
    }
}

fn failed(deadline: Duration, failure: Failure) -> Error {
    failure.while_doing(DOING, deadline)
}

/// Connects and listens.
async fn listen(connect: PgConnectOptions, deadline: Duration) -> Result<PgListener, Failure> {
    // A new pool of one each time: the connection of the listener before may hang in its goodbye.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(deadline)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
