//! Raw SQL on a database under test: to damage what the store keeps, as a person or a disk might, and to see what it is.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row, SqliteConnection};

const PATIENCE: Duration = Duration::from_secs(30);

/// Returns how to open a database; the usual two seconds a call are too short on a machine that does something else.
pub fn patient(url: impl Into<String>) -> remit_store::Options {
    remit_store::Options {
        deadline: PATIENCE,
        ..remit_store::Options::new(url)
    }
}

/// Runs `text` on the database at `url`, past the store.
pub async fn execute(url: &str, text: &str) {
    let text = sqlx::AssertSqlSafe(text.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A transaction on a Postgres database that a test keeps open.
#[derive(Debug)]
pub struct Held(PgConnection);

impl Held {
    /// Begins a transaction and runs `text` in it.
    pub async fn begin(url: &str, text: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let text = sqlx::AssertSqlSafe(format!("BEGIN; {text}"));
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Waits until at least so many other sessions of the database wait for locks.
    ///
    /// # Panics
    ///
    /// When they do not in half a minute.
    pub async fn is_waited_for_by(&mut self, sessions: i64) {
        let began = Instant::now();
        while self.waiting().await < sessions {
            assert!(began.elapsed() < PATIENCE, "it is not waited for");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns how many other sessions of the database wait for a lock at this moment.
    pub async fn waiting(&mut self) -> i64 {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock'";
        // What is known of other sessions is read once in a transaction, unless it is told to forget that.
        let forget = "SELECT pg_stat_clear_snapshot()";
        sqlx::query(forget).execute(&mut self.0).await.unwrap();
        sqlx::query_scalar(waits)
            .fetch_one(&mut self.0)
            .await
            .unwrap()
    }

    /// Commits it.
    pub async fn commit(mut self) {
        sqlx::query("COMMIT").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

/// Reads the rows of a query on the database at `url`, past the store; every column must be text.
pub async fn texts(url: &str, query: &str) -> Vec<Vec<String>> {
    let query = sqlx::AssertSqlSafe(query.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await.unwrap();
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        return rows
            .iter()
            .map(|row| (0..row.len()).map(|column| row.get(column)).collect())
            .collect();
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter()
        .map(|row| (0..row.len()).map(|column| row.get(column)).collect())
        .collect()
}

/// Runs `text` on the Postgres database at `url` and returns the code of the error (SQLSTATE) that it must end in.
///
/// # Panics
///
/// When it succeeds.
pub async fn refusal(url: &str, text: &str) -> String {
    let text = sqlx::AssertSqlSafe(text.to_owned());
    let mut connection = PgConnection::connect(url).await.unwrap();
    let refused = sqlx::raw_sql(text).execute(&mut connection).await;
    connection.close().await.unwrap();
    let error = refused.unwrap_err();
    error
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned()
}

/// Lists every table and column of the database at `url`, by its own catalogue.
pub async fn columns(url: &str) -> Vec<(String, String)> {
    let query = if url.starts_with("sqlite:") {
        "SELECT m.name, p.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table'"
    } else {
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns \
         WHERE table_schema = 'public'"
    };
    let rows = texts(url, query).await.into_iter();
    rows.map(|mut row| {
        let column = row.pop().unwrap();
        (row.pop().unwrap(), column)
    })
    .collect()
}
