//! The story that the demo tells: a recorded run, and the one line of policy that changes afterwards.

use remit_core::{Bundle, Question};
use serde::Deserialize;

use crate::error::Error;

/// The recorded run; `tests/it/policies.rs` holds its expected answers.
const RUN: &str = include_str!("../../../../../policies/starter/runs/invoices.json");

/// The file that the demo edits.
const EDITED: &str = "data.cedar";
/// The line after which it puts one.
const AFTER: &str = "    \"fernhill.example\",";
/// The line it puts.
const ADDED: &str = "    \"birch-audit.example\",";
/// How many lines a diff shows before and after the change.
const AROUND: usize = 2;

/// A recorded run of an agent.
#[derive(Debug, Deserialize)]
pub(super) struct Run {
    /// What the run is, in words.
    pub(super) about: String,
    /// The calls, in order.
    pub(super) calls: Vec<Call>,
}

/// One call of the run.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    /// The time of day it was made at: `09:14:02`.
    pub(super) at: String,
    /// What happens from here on, in words.
    pub(super) note: Option<String>,
    /// What the enforcement point asked before the call.
    pub(super) question: Question,
}

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the new file, from 1.
    pub(super) number: usize,
    /// Whether it is new.
    pub(super) added: bool,
    /// Its text.
    pub(super) text: String,
}

/// One line put into one file.
#[derive(Debug)]
pub(super) struct Edit {
    /// The file.
    pub(super) file: &'static str,
    /// The new line and those around it.
    pub(super) lines: Vec<Line>,
}

// === impl Run ===

impl Run {
    /// Reads the run that the binary carries.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when it is malformed, which its tests rule out.
    pub(super) fn read() -> Result<Self, Error> {
        serde_json::from_str(RUN)
            .map_err(|why| Error::Invalid(format!("the recorded run cannot be read: {why}")))
    }
}

/// Adds the auditors' domain to the list of known recipients.
///
/// # Errors
///
/// [`Error::Invalid`] when the bundle has no such list, which its tests rule out.
pub(super) fn edit(bundle: &mut Bundle) -> Result<Edit, Error> {
    let missing = || Error::Invalid(format!("`{EDITED}` has no line `{}`", AFTER.trim()));
    let source = bundle
        .policies
        .iter_mut()
        .find(|source| source.file == EDITED)
        .ok_or_else(missing)?;
    let mut lines: Vec<&str> = source.text.lines().collect();
    let at = lines
        .iter()
        .position(|line| *line == AFTER)
        .ok_or_else(missing)?
        + 1;
    lines.insert(at, ADDED);
    let shown = lines
        .iter()
        .enumerate()
        .skip(at.saturating_sub(AROUND))
        .take(2 * AROUND + 1);
    let shown = shown
        .map(|(index, text)| Line {
            number: index + 1,
            added: index == at,
            text: (*text).to_owned(),
        })
        .collect();
    source.text = lines.join("\n") + "\n";
    Ok(Edit {
        file: EDITED,
        lines: shown,
    })
}
