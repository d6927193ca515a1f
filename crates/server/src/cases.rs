//! Case files: the tests of a bundle as people write them, in YAML beside the policies.
//!
//! A file is a list of cases, or `fixtures` that its `cases` share. What people may leave out is filled in here, and a
//! matrix is written out; a bundle holds cases in full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use remit_core::Case;

use crate::error::Error;

mod expand;
mod matrix;
mod written;

use expand::Budget;
use written::Written;

/// One case, and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    /// The case, in full.
    pub(crate) case: Case,
    /// The file's path below the bundle's folder: `cases/payments.yaml`.
    pub(crate) file: String,
    /// The line it starts on, from 1; `None` where the file is not written one case after another.
    pub(crate) line: Option<usize>,
}

/// Reads the cases of a bundle's folder with their places: every `cases/*.yaml`, in the order of their names.
///
/// A folder without `cases` has none. The limits on files are those of [`bundle_dir`](crate::bundle_dir), which reads
/// the folder first.
///
/// # Errors
///
/// [`Error::Io`] for a file that cannot be read; [`Error::Invalid`] naming file, line and case for one that is wrong.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<Located>, Error> {
    let cases = folder.join("cases");
    if !cases.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&cases).map_err(|why| Error::path("list", &cases, why))? {
        let path = entry
            .map_err(|why| Error::path("list", &cases, why))?
            .path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(&path).map_err(|why| Error::path("read", &path, why))?;
        found.extend(located(&format!("cases/{name}"), &text)?);
    }
    Ok(found)
}

/// Reads the cases of one file.
///
/// # Errors
///
/// As [`located`].
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Case>, Error> {
    Ok(located(file, text)?
        .into_iter()
        .map(|located| located.case)
        .collect())
}

/// Reads the cases of one file with their places.
///
/// # Errors
///
/// [`Error::Invalid`] naming file, line and case: for text that is not a file of cases, a question that cannot be
/// asked, and a second case of one name.
pub(crate) fn located(file: &str, text: &str) -> Result<Vec<Located>, Error> {
    let lines = item_lines(text);
    let Written { fixtures, cases } = match serde_norway::from_str::<Option<Written>>(text) {
        Ok(written) => written.unwrap_or_default(),
        Err(why) => return Err(Error::Invalid(explain(file, text, &lines, &why))),
    };
    let numbered = lines.len() == cases.len();
    let mut budget = Budget::of_one_file();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::with_capacity(cases.len());
    for (index, written) in cases.into_iter().enumerate() {
        let line = lines.get(index).copied().filter(|_| numbered);
        let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        let written_name = written.name.clone();
        let wrong = |name: &str, why: &dyn std::fmt::Display| {
            Error::Invalid(format!("{place}: case `{name}`: {why}"))
        };
        let cases = expand::expand(written, &fixtures, &mut budget)
            .map_err(|why| wrong(&written_name, &why))?;
        for case in cases {
            let name = &case.name;
            for step in &case.steps {
                step.question.check().map_err(|why| wrong(name, &why))?;
            }
            if let Some(first) = places.insert(name.clone(), place.clone()) {
                return Err(Error::Invalid(format!(
                    "{place}: there is a case `{name}` already, at {first}"
                )));
            }
            found.push(Located {
                case,
                file: file.to_owned(),
                line,
            });
        }
    }
    Ok(found)
}

/// Writes cases as [`parse`] reads them. A name that comes again, from another file, is numbered.
///
/// # Errors
///
/// [`Error::Invalid`] when a case cannot be written as YAML.
pub(crate) fn write(cases: &[Case]) -> Result<String, Error> {
    let mut taken: BTreeSet<String> = cases.iter().map(|case| case.name.clone()).collect();
    let mut seen = BTreeSet::new();
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut written = Vec::with_capacity(cases.len());
    for case in cases {
        let mut next = case.clone();
        if !seen.insert(case.name.as_str()) {
            let number = numbers.entry(&case.name).or_insert(1);
            loop {
                *number += 1;
                next.name = format!("{} ({number})", case.name);
                if taken.insert(next.name.clone()) {
                    break;
                }
            }
        }
        written.push(next);
    }
    serde_norway::to_string(&written)
        .map_err(|why| Error::Invalid(format!("the cases cannot be written as YAML: {why}")))
}

/// Finds the lines on which the cases start: the items of the outermost list, or of the one under `cases`.
fn item_lines(text: &str) -> Vec<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with("- ") || line.trim() == "-";
    let opens = |line: &str| line.split('#').next().map(str::trim_end) == Some("cases:");
    let named = text.lines().any(opens);
    let numbered = text.lines().enumerate();
    let listed: Vec<(usize, &str)> = numbered
        .skip_while(|(_, line)| named && !opens(line))
        .skip(usize::from(named))
        .take_while(|(_, line)| {
            let ends = line.starts_with(|first: char| !first.is_whitespace());
            !named || !ends || line.starts_with(['-', '#'])
        })
        .collect();
    let mut items = listed.iter().filter(|(_, line)| is_item(line));
    let Some(outermost) = items.next().map(|(_, line)| indent(line)) else {
        return Vec::new();
    };
    listed
        .iter()
        .filter(|(_, line)| is_item(line) && indent(line) == outermost)
        .map(|(index, _)| index + 1)
        .collect()
}

/// Says what is wrong with a case file, where, and in which case.
fn explain(file: &str, text: &str, lines: &[usize], error: &serde_norway::Error) -> String {
    let problem = error.to_string();
    let line = error.location().map(|location| location.line());
    let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
    // The parser tells the place at the end of its message; ours is in front.
    let problem = problem.split(" at line ").next().unwrap_or(&problem);
    let name = line.and_then(|line| name_at(text, lines, line));
    match name {
        Some(name) => format!("{place}: case `{name}`: {problem}"),
        None => format!("{place}: {problem}"),
    }
}

/// Finds the name of the case that a line belongs to.
fn name_at(text: &str, lines: &[usize], line: usize) -> Option<String> {
    let start = lines.iter().copied().rfind(|start| *start <= line)?;
    let end = lines
        .iter()
        .copied()
        .find(|next| *next > line)
        .unwrap_or(usize::MAX);
    text.lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text))
        .filter(|(number, _)| (start..end).contains(number))
        .find_map(|(_, text)| text.trim_start_matches([' ', '-']).strip_prefix("name:"))
        .map(|name| name.trim().trim_matches(['"', '\'']).to_owned())
}
