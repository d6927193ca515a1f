//! Bundles of the tree, read the way a person keeps them: a folder of files.

use std::fs;
use std::path::{Path, PathBuf};

use remit_core::{Bundle, Case, Source};

/// Reads `policies/<pack>`.
///
/// # Panics
///
/// When a file of it cannot be read.
pub fn pack(name: &str) -> Bundle {
    folder(&crate::root().join("policies").join(name))
}

/// Reads a bundle from a folder: `*.cedarschema`, `*.cedar`, `entities.json`, `links.json` and `cases/*.yaml`.
///
/// # Panics
///
/// When a file of it cannot be read.
pub fn folder(folder: &Path) -> Bundle {
    Bundle {
        cases: cases(folder)
            .into_iter()
            .flat_map(|(_, cases)| cases)
            .collect(),
        ..without_cases(folder)
    }
}

/// Reads a bundle from a folder without its cases, which may share fixtures that only the command writes out.
///
/// # Panics
///
/// When a file of it cannot be read.
pub fn without_cases(folder: &Path) -> Bundle {
    let json = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    Bundle {
        admin: admin(folder),
        schema: sources(folder, "cedarschema"),
        policies: sources(folder, "cedar"),
        links: json("links.json")
            .map_or_else(Vec::new, |links| serde_json::from_value(links).unwrap()),
        entities: json("entities.json")
            .map_or_else(Vec::new, |list| serde_json::from_value(list).unwrap()),
        cases: Vec::new(),
    }
}

/// Reads the cases of a folder, by file.
///
/// # Panics
///
/// When a file of it cannot be read.
pub fn cases(folder: &Path) -> Vec<(String, Vec<Case>)> {
    files(&folder.join("cases"), "yaml")
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let cases =
                serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, cases)
        })
        .collect()
}

fn admin(folder: &Path) -> Vec<Source> {
    let mut found = sources(&folder.join("admin"), "cedar");
    for source in &mut found {
        source.file.insert_str(0, "admin/");
    }
    found
}

fn sources(folder: &Path, ending: &str) -> Vec<Source> {
    files(folder, ending)
        .into_iter()
        .map(|path| Source {
            file: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect()
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    found.sort();
    found
}
