//! Migrations only ever expand, so that an old program runs on the schema of a newer one.

use std::fs;

use remit_tests::root;

/// What an old program cannot live with, in one statement; `None` for one that only expands.
fn contracts(statement: &str, new: &[&str]) -> Option<&'static str> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let says = |wanted: &[&str]| words.windows(wanted.len()).any(|some| some == wanted);
    let about_new = new.iter().any(|table| words.contains(table));
    let of_a_table = words.first() == Some(&"ALTER") && words.get(1) == Some(&"TABLE");
    if words
        .iter()
        .any(|word| ["DROP", "RENAME", "TRUNCATE"].contains(word))
    {
        return Some("removes or renames");
    }
    if of_a_table
        && (says(&["TYPE"]) || says(&["SET", "NOT", "NULL"]) || says(&["ALTER", "COLUMN"]))
    {
        return Some("changes a column");
    }
    let without_default = says(&["NOT", "NULL"]) && !says(&["DEFAULT"]);
    if of_a_table && says(&["ADD", "COLUMN"]) && without_default {
        return Some("adds a column that an old program does not write");
    }
    if of_a_table
        && !about_new
        && (says(&["ADD", "CONSTRAINT"]) || says(&["UNIQUE"]) || says(&["CHECK"]))
    {
        return Some("binds an old table by a new rule");
    }
    let index = ["CREATE", "UNIQUE", "INDEX"];
    (says(&index) && !about_new).then_some("binds an old table by a new rule")
}

/// Returns the statements of a migration in capitals, without comments, and the tables that it makes.
fn statements(text: &str) -> (Vec<String>, Vec<String>) {
    let code = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let code = code.collect::<Vec<_>>().join(" ").to_uppercase();
    let code = code.replace(['(', ')', ','], " ");
    let statements: Vec<String> = code
        .split(';')
        .map(|one| one.trim().to_owned())
        .filter(|one| !one.is_empty())
        .collect();
    let tables = statements
        .iter()
        .filter_map(|one| one.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    (statements, tables)
}

fn first_contraction(text: &str) -> Option<String> {
    let (statements, tables) = statements(text);
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    statements.iter().find_map(|statement| {
        let why = contracts(statement, &tables)?;
        Some(format!("it {why}: {statement}"))
    })
}

/// F48: during a rolling upgrade an old program runs on the new schema, so that a migration may only ever expand it.
#[test]
fn migrations_only_expand() {
    let mut checked = 0;
    for database in ["postgres", "sqlite"] {
        for entry in fs::read_dir(root().join("migrations").join(database)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            // The first release has these together: there was no older program to run on them.
            if name.as_str() < "0007" {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(first_contraction(&text), None, "{database}/{name}");
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
    // The check sees what it is for.
    for bad in [
        "DROP TABLE bundles;",
        "ALTER TABLE bundles DROP COLUMN message;",
        "ALTER TABLE bundles\n RENAME COLUMN message TO note;",
        "alter table bundles add column note text not null;",
        "CREATE TABLE new (id BIGINT); ALTER TABLE bundles ALTER COLUMN at TYPE TEXT;",
        "ALTER TABLE bundles ALTER COLUMN message SET NOT NULL;",
        "ALTER TABLE bundles ADD CONSTRAINT one UNIQUE (hash);",
        "CREATE UNIQUE INDEX one ON bundles (hash);",
        "TRUNCATE idempotency;",
    ] {
        assert!(first_contraction(bad).is_some(), "{bad}");
    }
    for good in [
        "-- DROP TABLE bundles;\nALTER TABLE bundles ADD COLUMN note TEXT;",
        "ALTER TABLE bundles ADD COLUMN flag BOOLEAN NOT NULL DEFAULT false;",
        "CREATE TABLE new (id BIGINT NOT NULL, CHECK (id > 0)); CREATE UNIQUE INDEX one ON new (id);",
        "CREATE INDEX two ON bundles (hash);",
    ] {
        assert_eq!(first_contraction(good), None, "{good}");
    }
}
