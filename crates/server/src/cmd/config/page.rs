//! `docs/config.md`, made from the commented default file, so that the page cannot say something else.

use std::fmt::Write as _;

use crate::config::DEFAULT;

/// Writes the page.
pub(super) fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Generated from `crates/server/src/config.default.toml`; a test says when it is out of date. -->\n",
    );
    let mut comment: Vec<&str> = Vec::new();
    for line in DEFAULT.lines() {
        let setting = assignment(line);
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            // Writing to a `String` cannot fail, here and below.
            let _ = write!(
                page,
                "\n## {section}\n\n| setting | default | what it is |\n|---|---|---|\n"
            );
            comment.clear();
        } else if let Some((key, value)) = setting {
            let value = if line.starts_with('#') {
                "not set".to_owned()
            } else {
                format!("`{value}`")
            };
            let _ = writeln!(
                page,
                "| `{key}` | {value} | {} |",
                std::mem::take(&mut comment).join(" ").replace('|', "\\|")
            );
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if !comment.is_empty() {
            let _ = writeln!(page, "\n{}", std::mem::take(&mut comment).join("\n").trim());
        }
    }
    page
}

/// Reads `key = value`, also where it is commented out.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("# ").unwrap_or(line);
    let (key, value) = line.split_once(" = ")?;
    let is_key = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_key.then_some((key, value))
}
