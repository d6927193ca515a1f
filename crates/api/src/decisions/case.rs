//! `POST /v1/decisions/{id}/case`: a recorded decision as a case of the bundle that made it.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use remit_core::{
    Case, CaseFacts, DecisionId, DecisionRecord, EntityUid, Expectation, KeyId, Step,
};
use remit_engine::Snapshot;
use remit_store::StoredBundle;
use serde::{Deserialize, Serialize};

use super::find;
use crate::app::App;
use crate::auth::Caller;
use crate::background::give_way;
use crate::problem::{Kind, Problem};
use crate::query::{Query, Segments};
use crate::wire::Json;

/// The media type of YAML (RFC 9512).
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// The parameters: there are none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// A case drawn from a record, and what is to be known of it.
#[derive(Debug, Serialize)]
struct Drawn {
    case: Case,
    /// Whether it passes over the bundle of the record alone; `None` where that bundle is not kept.
    passes: Option<bool>,
    /// What the case does not hold, in sentences.
    notes: Vec<String>,
}

/// Answers with the case, and whether it passes over the bundle's own entities.
pub(crate) async fn make(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DecisionId>,
    Query(Nothing {}): Query<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let record = find(&app, &caller, id).await?;
    let revision = record.decision.revision;
    let stored = app.store.bundle_in_force(caller.tenant, revision).await?;
    let stored = stored.filter(|stored| stored.hash == record.decision.bundle);
    let drawn = give_way(move || Drawn::of(record, stored.as_ref())).await??;
    if !wants_yaml(&headers) {
        return Ok(Json(drawn).into_response());
    }
    Ok(([(header::CONTENT_TYPE, YAML)], drawn.yaml()?).into_response())
}

fn wants_yaml(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .filter_map(|media| media.split(';').next())
        .any(|media| media.trim().eq_ignore_ascii_case("application/yaml"))
}

// === impl Drawn ===

impl Drawn {
    /// Makes a case of a record and tries it over the bundle that decided, without live entities.
    fn of(record: DecisionRecord, stored: Option<&StoredBundle>) -> Result<Self, Problem> {
        let parties = [
            EntityUid::new(&record.question.subject.kind, &record.question.subject.id),
            EntityUid::new(&record.question.resource.kind, &record.question.resource.id),
        ];
        let mut drawn = Self {
            case: case_of(record.clone()),
            passes: None,
            notes: Vec::new(),
        };
        let Some(stored) = stored else {
            drawn.notes.push(
                "the bundle of the record is not kept, so that the case could not be tried"
                    .to_owned(),
            );
            return Ok(drawn);
        };
        // It was in force once, so this is a fault, here or in the database.
        let snapshot = Snapshot::compile(&stored.bundle)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        for (index, uid) in parties.iter().enumerate() {
            if !snapshot.is_bundled(uid) && !parties.iter().take(index).any(|other| other == uid) {
                drawn.notes.push(format!(
                    "`{uid}` is no entity of the bundle; what was stored of it is not in the case"
                ));
            }
        }
        let outcome = snapshot.run_case(&drawn.case);
        drawn.passes = Some(outcome.passed());
        let advice = if goes_by_caller(&snapshot, record) {
            "it goes by `context.facts.caller`, the key that asked, which a case cannot have"
        } else {
            "put what was stored under `entities`"
        };
        drawn
            .notes
            .extend(outcome.mismatches.iter().map(|mismatch| {
                format!(
                    "over the entities of the bundle alone, `{}` comes out as {}; {advice}",
                    mismatch.member, mismatch.actual
                )
            }));
        Ok(drawn)
    }

    /// Writes it as a file of cases, with the notes as comments.
    fn yaml(&self) -> Result<String, Problem> {
        let mut text = String::new();
        for note in &self.notes {
            let line: String = note.chars().flat_map(shown).collect();
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "# {line}");
        }
        let cases = std::slice::from_ref(&self.case);
        let written = serde_norway::to_string(cases);
        text.push_str(&written.map_err(|error| Problem::caused(Kind::INTERNAL, error))?);
        // A case that reads otherwise than it was recorded would prove something else.
        match serde_norway::from_str::<Vec<Case>>(&text) {
            Ok(read) if read == cases => Ok(text),
            _ => Err(Problem::caused(
                Kind::INTERNAL,
                "the case does not read from YAML as it was written",
            )),
        }
    }
}

/// Whether a decision is another where no key is known to have asked, as in a case.
fn goes_by_caller(snapshot: &Snapshot, mut record: DecisionRecord) -> bool {
    let with = App::again(snapshot, &record);
    record.facts.caller = KeyId::NIL;
    with != App::again(snapshot, &record)
}

fn case_of(record: DecisionRecord) -> Case {
    let DecisionRecord {
        id,
        question,
        facts,
        decision,
        ..
    } = record;
    let errors = decision.errors.into_iter().map(|error| error.policy);
    let used = facts.approval.as_ref().map(|_| decision.approval.is_some());
    let made = facts.exceptions.iter();
    let relaxed: Vec<_> = made
        .filter(|one| decision.exceptions.contains(&one.id))
        .map(|one| one.policy.clone())
        .collect();
    Case::new(
        format!("decision {id}"),
        Step {
            question,
            at: Some(facts.now),
            environment: Some(facts.environment.clone()),
            approved: facts.approved,
            entities: Vec::new(),
            facts: CaseFacts::from(facts),
            expect: Expectation {
                reason: Some(decision.reason),
                limit: decision.limit.and_then(|limit| limit.dimension),
                because: Some(decision.determining),
                errors: Some(errors.collect()),
                approval: used,
                exceptions: (!relaxed.is_empty()).then_some(relaxed),
                ..Expectation::of(decision.verdict)
            },
        },
    )
}

/// Escapes what would end a comment, or may not stand in a YAML file.
fn shown(character: char) -> impl Iterator<Item = char> {
    let plain = !character.is_control()
        && !matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        );
    let escaped = (!plain).then(|| character.escape_unicode());
    escaped
        .into_iter()
        .flatten()
        .chain(plain.then_some(character))
}
