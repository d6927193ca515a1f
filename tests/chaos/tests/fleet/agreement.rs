//! Whether records of several replicas agree: one bundle a revision, and one answer a question at a revision.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A version of the bundle, as it is listed.
#[derive(Debug, Clone)]
pub struct Version {
    pub revision: u64,
    pub hash: String,
}

impl Version {
    pub fn of(listed: &Value) -> Self {
        Self {
            revision: listed["revision"].as_u64().unwrap(),
            hash: listed["hash"].as_str().unwrap().to_owned(),
        }
    }
}

/// What one record says: revision, bundle, what was asked, and whether it was permitted.
fn said(record: &Value) -> (u64, &str, (String, String), bool) {
    let (decision, question) = (&record["decision"], &record["question"]);
    let id = |party: &str| question[party]["id"].as_str().unwrap().to_owned();
    (
        decision["revision"].as_u64().unwrap(),
        decision["bundle"].as_str().unwrap(),
        (id("subject"), id("resource")),
        decision["verdict"] == "permit",
    )
}

/// Compares every record with every other of its revision, and with the version in force at it.
///
/// Returns how many revisions there were.
///
/// # Errors
///
/// What two of them do not agree about.
pub fn agree(
    records: &[Value],
    versions: &[Version],
    made: &BTreeMap<u64, BTreeSet<String>>,
) -> Result<usize, String> {
    let mut answers = BTreeMap::new();
    let mut revisions = BTreeSet::new();
    for record in records {
        let (revision, bundle, asked, permit) = said(record);
        revisions.insert(revision);
        let mut before = versions.iter().filter(|one| one.revision <= revision);
        let in_force = before.clone().max_by_key(|one| one.revision);
        let Some(in_force) = in_force.filter(|one| one.hash == bundle) else {
            let known = before.any(|one| one.hash == bundle);
            return Err(format!(
                "{bundle} was not in force at {revision}; known: {known}"
            ));
        };
        let forbidden = made.get(&in_force.revision);
        if permit && forbidden.is_some_and(|tools| tools.contains(&asked.1)) {
            return Err(format!(
                "{asked:?} is forbidden at {revision} and was permitted"
            ));
        }
        let known = answers.entry((revision, asked.clone())).or_insert(permit);
        if *known != permit {
            return Err(format!("two answers to {asked:?} at revision {revision}"));
        }
    }
    Ok(revisions.len())
}

/// Returns the records with one answer turned round, of a question that was asked twice at one revision or was forbidden.
pub fn flipped(records: &[Value], made: &BTreeMap<u64, BTreeSet<String>>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let twice = records.iter().position(|record| {
        let (revision, _, asked, _) = said(record);
        made.contains_key(&revision) && !seen.insert((revision, asked))
    });
    let mut seen = BTreeSet::new();
    let place = twice.or_else(|| {
        records.iter().position(|record| {
            let (revision, _, asked, _) = said(record);
            !seen.insert((revision, asked))
        })
    });
    let mut records = records.to_vec();
    let place = place.expect("some question was asked twice at one revision");
    let verdict = &mut records[place]["decision"]["verdict"];
    *verdict = if *verdict == "permit" {
        "deny"
    } else {
        "permit"
    }
    .into();
    records
}
