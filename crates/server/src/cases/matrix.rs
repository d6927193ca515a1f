//! A matrix of cases: every subject with every action on every resource, each combination a case of its own.

use remit_core::{Action, Case, EntityUid, Expectation, Question, Resource, Subject};
use serde_json::Map;

use super::written::{Matrix, Named, Row};

/// Returns how many cases a matrix makes.
///
/// # Errors
///
/// Names a list that is empty.
pub(super) fn size(matrix: &Matrix) -> Result<usize, String> {
    let sides = [
        ("subjects", matrix.subjects.len()),
        ("actions", matrix.actions.len()),
        ("resources", matrix.resources.len()),
    ];
    let mut size: usize = 1;
    for (side, length) in sides {
        if length == 0 {
            return Err(format!("`matrix.{side}` is empty"));
        }
        size = size.saturating_mul(length);
    }
    Ok(size)
}

/// Makes a case of each combination, with what the last row that fits it expects.
///
/// # Errors
///
/// What is wrong, naming the member: a name that is none, a row that fits nothing, or what `make` says.
pub(super) fn combinations(
    name: &str,
    matrix: &Matrix,
    mut make: impl FnMut(String, Question, Option<Expectation>) -> Result<Case, String>,
) -> Result<Vec<Case>, String> {
    let subjects = matrix.subjects.iter().map(subject);
    let subjects = subjects.collect::<Result<Vec<_>, _>>()?;
    let resources = matrix.resources.iter().map(resource);
    let resources = resources.collect::<Result<Vec<_>, _>>()?;
    let actions: Vec<Action> = matrix.actions.iter().map(action).collect();
    let mut used = vec![false; matrix.except.len()];
    let mut cases = Vec::new();
    for subject in &subjects {
        let who = EntityUid::new(&subject.kind, &subject.id).to_string();
        for action in &actions {
            for resource in &resources {
                let what = EntityUid::new(&resource.kind, &resource.id).to_string();
                let mut expect = None;
                for (row, used) in matrix.except.iter().zip(&mut used) {
                    if row.fits(&who, &action.name, &what) {
                        *used = true;
                        expect = Some(row.expect.clone());
                    }
                }
                let question = Question {
                    subject: subject.clone(),
                    action: action.clone(),
                    resource: resource.clone(),
                    context: Map::new(),
                };
                let name = format!("{name}: {who} {} {what}", action.name);
                cases.push(make(name, question, expect)?);
            }
        }
    }
    if let Some(row) = used.iter().position(|used| !used) {
        return Err(format!(
            "`matrix.except[{row}]` fits no combination of the matrix"
        ));
    }
    Ok(cases)
}

fn subject(named: &Named<Subject>) -> Result<Subject, String> {
    match named {
        Named::Value(subject) => Ok(subject.clone()),
        Named::Name(text) => uid("subjects", text).map(|uid| Subject {
            kind: uid.kind.to_string(),
            id: uid.id.to_string(),
            properties: Map::new(),
        }),
    }
}

fn resource(named: &Named<Resource>) -> Result<Resource, String> {
    match named {
        Named::Value(resource) => Ok(resource.clone()),
        Named::Name(text) => uid("resources", text).map(|uid| Resource {
            kind: uid.kind.to_string(),
            id: uid.id.to_string(),
            properties: Map::new(),
        }),
    }
}

fn action(named: &Named<Action>) -> Action {
    match named {
        Named::Value(action) => action.clone(),
        Named::Name(name) => Action {
            name: name.clone(),
            properties: Map::new(),
        },
    }
}

fn uid(side: &str, text: &str) -> Result<EntityUid, String> {
    text.parse()
        .map_err(|_| format!("`matrix.{side}`: `{text}` is not written `Type::\"id\"`"))
}

// === impl Row ===

impl Row {
    fn fits(&self, subject: &str, action: &str, resource: &str) -> bool {
        self.subject.has(subject) && self.action.has(action) && self.resource.has(resource)
    }
}
