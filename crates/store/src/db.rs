//! One connection of either database, and the macros every statement goes through.

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool};
use tokio::sync::OwnedSemaphorePermit;

use crate::dialect;
use crate::error::Failure;

/// A thing of Postgres or the same thing of SQLite.
pub(crate) enum Either<P, S> {
    Postgres(P),
    Sqlite(S),
}

/// The pool of connections to the one database.
pub(crate) type Db = Either<PgPool, SqlitePool>;

/// One connection, taken out of the pool for one call.
///
/// It goes back only through [`Conn::release`], [`Conn::commit`] or [`Conn::rollback`]. Dropped in any other way, by an
/// error, a deadline or a caller that went away, it is closed: what state it is in is not known, and a connection to a
/// frozen or demoted server must not be handed to the next call. An open transaction then ends unwritten.
pub(crate) struct Conn {
    pub(crate) raw: Either<PoolConnection<Postgres>, PoolConnection<Sqlite>>,
    /// Writers of an SQLite file take turns here, in order, rather than by its busy timeout.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    /// The place at the pool of a request, free for the next one when this is dropped.
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// Whether the commit of this transaction is told to whoever listens.
    pub(crate) told: bool,
    /// Whether a transaction that only reads has been begun.
    pub(crate) reading: bool,
    whole: bool,
}

/// Runs one expression with the connection of either database; both arms are the same text.
macro_rules! on {
    ($conn:expr, |$raw:ident| $body:expr) => {
        match &mut $conn.raw {
            $crate::db::Either::Postgres(connection) => {
                let $raw = &mut **connection;
                $body
            }
            $crate::db::Either::Sqlite(connection) => {
                let $raw = &mut **connection;
                $body
            }
        }
    };
}

/// Runs one reading statement within the deadline of a call, and within the reach of a tenant or of a named reason.
macro_rules! read {
    ($store:expr, $reach:expr, $doing:literal, |$raw:ident| $query:expr) => {
        $store
            .within($doing, async {
                let mut conn = $store.connect_to_read($reach).await?;
                let read = on!(conn, |$raw| $query.await)?;
                conn.end().await?;
                Ok(read)
            })
            .await
    };
}

/// Declares statements as constants, and lists them for the test that prepares each on both databases.
macro_rules! statements {
    ($($(#[doc = $doc:literal])+ $name:ident = $sql:expr;)*) => {
        $($(#[doc = $doc])+ pub(super) const $name: &str = $sql;)*
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

// === impl Conn ===

impl Conn {
    pub(crate) fn new(raw: Either<PoolConnection<Postgres>, PoolConnection<Sqlite>>) -> Self {
        Self {
            raw,
            turn: None,
            place: None,
            told: false,
            reading: false,
            whole: false,
        }
    }

    /// Gives the connection back to the pool.
    pub(crate) fn release(mut self) {
        self.whole = true;
    }

    /// Ends a transaction that only read, where one was begun, and gives the connection back.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        if self.reading {
            return self.commit().await;
        }
        self.release();
        Ok(())
    }

    /// Commits the transaction and gives the connection back.
    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        let text = if self.told {
            dialect::COMMIT_AND_TELL
        } else {
            "COMMIT"
        };
        on!(self, |raw| sqlx::raw_sql(text).execute(raw).await.map(drop))?;
        self.release();
        Ok(())
    }

    /// Undoes the transaction and gives the connection back: for an answer that is expected, such as a conflict.
    pub(crate) async fn rollback(mut self) -> Result<(), Failure> {
        on!(self, |raw| sqlx::raw_sql("ROLLBACK")
            .execute(raw)
            .await
            .map(drop))?;
        self.release();
        Ok(())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if !self.whole {
            match &mut self.raw {
                Either::Postgres(raw) => raw.close_on_drop(),
                Either::Sqlite(raw) => raw.close_on_drop(),
            }
        }
    }
}
