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
