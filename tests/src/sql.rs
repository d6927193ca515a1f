//! Raw SQL on a database under test: to damage what the store keeps, as a person or a disk might, and to see what it is.

use sqlx::{Connection, PgConnection, Row, SqliteConnection};

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

/// Reads the rows of a query on the Postgres database at `url`, past the store; every column must be text.
pub async fn texts(url: &str, query: &str) -> Vec<Vec<String>> {
    let query = sqlx::AssertSqlSafe(query.to_owned());
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter()
        .map(|row| (0..row.len()).map(|column| row.get(column)).collect())
        .collect()
}
