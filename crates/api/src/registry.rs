//! What a tenant registers: its agents, its tools, what must stop, and what does not count for a while.
//!
//! What is written here is a part of the snapshot of its revision, on every replica, like a policy: `sync` brings it into
//! force, and `facts` reads it from there.

use std::collections::BTreeSet;

use remit_core::is_nfc;

use crate::problem::{Kind, Problem};

pub(crate) mod agents;
pub(crate) mod exceptions;
pub(crate) mod kills;
pub(crate) mod tools;
pub(crate) mod webhooks;

/// Checks a text that somebody wrote: one line, at most this many bytes.
pub(super) fn line(member: &str, text: &str, most: usize) -> Result<(), Problem> {
    let problem = if text.trim().is_empty() {
        "one line of text was expected".to_owned()
    } else if text.len() > most {
        format!("at most {most} bytes were expected, not {}", text.len())
    } else if text.chars().any(char::is_control) {
        "one line without control characters was expected".to_owned()
    } else if !is_nfc(text) {
        "Unicode normal form C (NFC) was expected".to_owned()
    } else {
        return Ok(());
    };
    let detail = format!("`{member}`: {problem}");
    Err(Problem::new(Kind::INVALID_REQUEST, detail))
}

/// Checks names of one kind: at most this many, each a line of at most this many bytes.
pub(super) fn names<'a>(
    member: &str,
    names: impl ExactSizeIterator<Item = &'a String>,
    (count, most): (usize, usize),
) -> Result<(), Problem> {
    if names.len() > count {
        let detail = format!(
            "`{member}`: at most {count} were expected, not {}",
            names.len()
        );
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    for (index, name) in names.enumerate() {
        line(&format!("{member}[{index}]"), name, most)?;
    }
    Ok(())
}

/// Checks that a number is at most this.
pub(super) fn at_most(member: &str, number: u64, most: u64) -> Result<(), Problem> {
    if number <= most {
        return Ok(());
    }
    let detail = format!("`{member}`: 0 to {most} was expected, not {number}");
    Err(Problem::new(Kind::INVALID_REQUEST, detail))
}

/// Takes names over into the form that core has.
pub(super) fn taken<T: From<String> + Ord>(names: BTreeSet<String>) -> BTreeSet<T> {
    names.into_iter().map(T::from).collect()
}
