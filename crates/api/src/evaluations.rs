//! `POST /access/v1/evaluations`: many questions, answered by one snapshot (AuthZEN 1.0 §7).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::Question;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::{App, Semantic};
use crate::auth::Caller;
use crate::evaluate::{DecisionBody, EvaluationBody, respond};
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::wire::{Body, Json, Wire, absent_if_null, from_value, optional_object};

/// The most items of a batch.
const ITEMS: usize = 1_000;
/// The most bytes of a batch once its defaults are written out in every item: each item is recorded in full.
const EXPANDED_BYTES: usize = 16 << 20;
/// The members of a question, which a batch may default.
const MEMBERS: [&str; 4] = ["subject", "action", "resource", "context"];

/// The body of a batch; its defaults may be incomplete, so they are decoded only where an item takes them.
#[derive(Debug, Deserialize)]
pub(crate) struct EvaluationsBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    evaluations: Vec<Value>,
    #[serde(default, deserialize_with = "optional_object")]
    options: Option<OptionsBody>,
    /// `subject`, `action`, `resource`, `context`, and what is to be ignored.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
struct OptionsBody {
    #[serde(default, deserialize_with = "absent_if_null")]
    evaluations_semantic: Semantic,
}

/// What a batch asks.
pub(crate) enum Asked {
    /// It has no items, so that its defaults are one question.
    One(Box<Question>),
    /// Each item completed with the defaults, and when to stop.
    Many(Vec<Result<Question, Problem>>, Semantic),
}

/// Answers a batch; without items it is a single evaluation.
pub(crate) async fn evaluate_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<EvaluationsBody>,
) -> Result<Response, Problem> {
    let drafts = app.options.drafts;
    let (items, semantic) = match body.asked()? {
        Asked::One(question) => {
            let answer = app.decide(&caller, drafts.heed(*question)).await?;
            return Ok(respond(
                &answer,
                DecisionBody::unnamed(&app.options, &answer),
            ));
        }
        Asked::Many(items, semantic) => (items, semantic),
    };
    let heed = |item: Result<Question, Problem>| item.map(|question| drafts.heed(question));
    let items = items.into_iter().map(heed).collect();
    let answers = app.decide_all(&caller, items, semantic).await?;
    let bodies: Vec<Value> = answers
        .iter()
        .map(|answer| match answer {
            Ok(answer) => json!(DecisionBody::item(&app.options, answer)),
            Err(problem) => problem.authzen_item(),
        })
        .collect();
    let mut response = Json(json!({ "evaluations": bodies })).into_response();
    Told::many(&answers).attach(&mut response);
    Ok(response)
}

// === impl EvaluationsBody ===

impl EvaluationsBody {
    /// Reads the questions in it.
    ///
    /// # Errors
    ///
    /// A [`Problem`] with the batch as a whole: its defaults where they are the question, or its size.
    pub(crate) fn asked(self) -> Result<Asked, Problem> {
        let Self {
            evaluations,
            options,
            mut rest,
        } = self;
        rest.retain(|member, _| MEMBERS.contains(&member.as_str()));
        if evaluations.is_empty() {
            let body: EvaluationBody = from_value(Value::Object(rest))?;
            return Ok(Asked::One(Box::new(body.into())));
        }
        check_size(&evaluations, &rest)?;
        let items = evaluations
            .into_iter()
            .map(|item| question(item, &rest))
            .collect();
        let semantic = options.unwrap_or_default().evaluations_semantic;
        Ok(Asked::Many(items, semantic))
    }
}

/// Completes one item with the defaults, member by whole member (AuthZEN 1.0 §7.1.1), and decodes it.
fn question(item: Value, defaults: &Map<String, Value>) -> Result<Question, Problem> {
    let Value::Object(mut item) = item else {
        return Err(Problem::new(
            Kind::INVALID_REQUEST,
            "an item of `evaluations` must be an object",
        ));
    };
    for (member, value) in defaults {
        item.entry(member.as_str()).or_insert_with(|| value.clone());
    }
    let body: EvaluationBody = from_value(Value::Object(item))?;
    Ok(body.into())
}

fn check_size(items: &[Value], defaults: &Map<String, Value>) -> Result<(), Problem> {
    if items.len() > ITEMS {
        let detail = format!(
            "`evaluations` has {} items; at most {ITEMS} are taken",
            items.len()
        );
        return Err(Problem::new(Kind::INVALID_REQUEST, detail));
    }
    let mut expanded = 0;
    for (member, value) in defaults {
        let takers = items
            .iter()
            .filter(|item| item.get(member).is_none())
            .count();
        expanded += takers * value.to_string().len();
    }
    if expanded > EXPANDED_BYTES {
        let detail = format!(
            "with its defaults written out in every item the batch is larger than {EXPANDED_BYTES} bytes"
        );
        return Err(Problem::new(Kind::TOO_LARGE, detail));
    }
    Ok(())
}

impl Wire for EvaluationsBody {
    const NODES: usize = 100_000;
}
