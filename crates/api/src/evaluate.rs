//! `POST /access/v1/evaluation`: one question, one recorded answer (AuthZEN 1.0 §6).

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{
    Action, KillId, KillTarget, Limit, Obligation, PolicyId, Question, Reason, Resource, Subject,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::{Answer, App, Options};
use crate::auth::Caller;
use crate::layers::Told;
use crate::problem::Problem;
use crate::publish::idempotency::IdempotencyKey;
use crate::wire::{Body, Json, Wire, absent_if_null, object};

pub(crate) mod telling;

use telling::ToldBody;

/// The body of an evaluation: a question; unknown members are ignored (AuthZEN 1.0 §5).
#[derive(Debug, Deserialize)]
pub(crate) struct EvaluationBody {
    #[serde(deserialize_with = "object")]
    pub(crate) subject: EntityBody,
    #[serde(deserialize_with = "object")]
    pub(crate) action: ActionBody,
    #[serde(deserialize_with = "object")]
    pub(crate) resource: EntityBody,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(crate) context: Map<String, Value>,
}

/// A subject or a resource in a body.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EntityBody {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) id: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(crate) properties: Map<String, Value>,
}

/// An action in a body.
#[derive(Debug, Deserialize)]
pub(crate) struct ActionBody {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(crate) properties: Map<String, Value>,
}

/// One answer on the wire (AuthZEN 1.0 §5.5).
#[derive(Debug, Serialize)]
pub(crate) struct DecisionBody {
    /// Whether it may.
    pub(crate) decision: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<DecisionContext>,
}

/// What explains one answer.
#[derive(Debug, Serialize)]
pub(crate) struct DecisionContext {
    /// The id of the decision; in a batch, whose bodies are the same for the same questions, only where an approval can be
    /// asked for by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) evaluation_id: Option<String>,
    /// Why, as a stable code.
    pub(crate) reason: Reason,
    /// Why, in one sentence for a person.
    pub(crate) message: &'static str,
    /// Which limit was met, where the reason is one of a task or a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<Limit>,
    /// What stopped it, where something did, whatever the policies say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kill: Option<KillBody>,
    /// The ids of the policies that settled it.
    pub(crate) policies: Vec<PolicyId>,
    /// What the determining policies say of themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) annotations: Vec<Obligation>,
    #[serde(flatten)]
    pub(crate) told: ToldBody,
    /// The revision that answered.
    pub(crate) revision: u64,
}

/// What somebody has stopped, and why.
#[derive(Debug, Serialize)]
pub(crate) struct KillBody {
    pub(crate) id: KillId,
    pub(crate) target: KillTarget,
    pub(crate) reason: String,
}

/// Answers one question.
pub(crate) async fn evaluate(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<EvaluationBody>,
) -> Result<Response, Problem> {
    let name = key.text()?;
    let question = app.options.drafts.heed(body.into());
    let answer = app.decide_named(&caller, question, name.as_deref()).await?;
    let body = DecisionBody::single(&app.options, &answer);
    Ok(respond(&answer, body))
}

/// Writes one answer with its headers.
pub(crate) fn respond(answer: &Answer, body: DecisionBody) -> Response {
    let mut response = Json(body).into_response();
    Told::one(answer).attach(&mut response);
    response
}

impl Wire for EvaluationBody {}

// === impl EvaluationBody ===

impl From<EvaluationBody> for Question {
    fn from(body: EvaluationBody) -> Self {
        Self {
            subject: body.subject.into(),
            action: body.action.into(),
            resource: body.resource.into(),
            context: body.context,
        }
    }
}

impl From<EntityBody> for Subject {
    fn from(
        EntityBody {
            kind,
            id,
            properties,
        }: EntityBody,
    ) -> Self {
        Self {
            kind,
            id,
            properties,
        }
    }
}

impl From<EntityBody> for Resource {
    fn from(
        EntityBody {
            kind,
            id,
            properties,
        }: EntityBody,
    ) -> Self {
        Self {
            kind,
            id,
            properties,
        }
    }
}

impl From<ActionBody> for Action {
    fn from(ActionBody { name, properties }: ActionBody) -> Self {
        Self { name, properties }
    }
}

// === impl DecisionBody ===

impl DecisionBody {
    /// Writes the answer to a single question: explained, and named.
    pub(crate) fn single(options: &Options, answer: &Answer) -> Self {
        let mut context = DecisionContext::of(options, answer);
        context.evaluation_id = Some(answer.id().to_string());
        Self {
            decision: answer.permits(),
            context: Some(context),
        }
    }

    /// Writes the answer to a batch without items: explained, and the same body every time, but for what can be approved.
    pub(crate) fn unnamed(options: &Options, answer: &Answer) -> Self {
        Self {
            decision: answer.permits(),
            context: Some(DecisionContext::of(options, answer)),
        }
    }

    /// Writes the answer to one item of a batch: explained only where the caller has something to do about it.
    pub(crate) fn item(options: &Options, answer: &Answer) -> Self {
        let decision = answer.decision();
        let matters = decision.reason == Reason::ApprovalRequired
            || !decision.duties.is_empty()
            || decision.modify.is_some()
            || decision.approval.is_some()
            || decision.lease.is_some()
            || decision.ttl.is_some()
            || !decision.exceptions.is_empty()
            || answer.telling().approval.is_some();
        Self {
            decision: answer.permits(),
            context: matters.then(|| DecisionContext::of(options, answer)),
        }
    }
}

impl DecisionContext {
    fn of(options: &Options, answer: &Answer) -> Self {
        let decision = answer.decision();
        let told = ToldBody::of(options, answer);
        Self {
            // A lease is renewed, and an approval asked for, by the id.
            evaluation_id: told.is_named().then(|| answer.id().to_string()),
            reason: decision.reason,
            message: decision.reason.sentence(),
            limit: decision.limit.clone(),
            kill: answer.telling().kill.as_ref().map(|kill| KillBody {
                id: kill.id,
                target: kill.target.clone(),
                reason: kill.reason.to_string(),
            }),
            policies: decision.determining.clone(),
            annotations: decision.obligations.clone(),
            told,
            revision: decision.revision.number(),
        }
    }
}
