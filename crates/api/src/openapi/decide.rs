//! The operations that ask: AuthZEN evaluation, search and metadata.

use crate::problem::Kind;

use super::{Operation, examples};

/// What stands between a question and an answer that may be given.
const UNDECIDED: &[&Kind] = &[
    Kind::NOT_READY,
    Kind::STALE_POLICY,
    Kind::REVISION_NOT_REACHED,
    Kind::LOG_UNAVAILABLE,
    Kind::LABELS_NOT_REACHED,
    Kind::STORE_UNAVAILABLE,
];
const UNSEARCHED: &[&Kind] = &[
    Kind::NOT_READY,
    Kind::STALE_POLICY,
    Kind::REVISION_NOT_REACHED,
];

/// Returns the operations in the order of the page.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        evaluate(),
        evaluate_batch(),
        search_subjects(),
        search_resources(),
        search_actions(),
        metadata(),
        openapi(),
    ]
}

fn asks(operation: Operation) -> Operation {
    operation
        .header(
            "X-Request-Id",
            "Your id for this request; it comes back on the answer and stands in the record.",
            "0d6c2f6e7a1b4f0f",
        )
        .header(
            "Remit-Revision",
            "Answer at this revision or a later one, or not at all.",
            "42",
        )
}

fn evaluate() -> Operation {
    asks(Operation::new("POST", "/access/v1/evaluation", "evaluate", "Decisions"))
        .says(
            "Ask one question",
            "May this subject do this to that? The answer is recorded before it is given (AuthZEN 1.0 §6). A deny is a \
             200 with `\"decision\": false`; unknown subjects, types and actions are denied, they are not errors.",
        )
        .header(
            "Idempotency-Key",
            "What you call the question. Where its permit uses an approval, the same name gets the same decision again, on \
             any replica, for as long as it holds.",
            "7b8d0f0d-65a1-4af1-9fd3-a684f08a5d13",
        )
        .scope("evaluate")
        .takes("Question", "The question. Unknown members are ignored.", &examples::question())
        .gives(200, "The decision.", "Answer", &examples::answer(), &["X-Decision-Id", "Remit-Revision"])
        .fails(UNDECIDED)
        .fails(&[Kind::IDEMPOTENCY_KEY_REUSED])
}

fn evaluate_batch() -> Operation {
    asks(Operation::new("POST", "/access/v1/evaluations", "evaluate_batch", "Decisions"))
        .says(
            "Ask many questions",
            "All are decided at one revision and recorded together (AuthZEN 1.0 §7). An item that is not a valid \
             question is denied, with the error in its context.",
        )
        .scope("evaluate")
        .takes("Questions", "The questions, with defaults at the top.", &examples::questions())
        .gives(200, "The decisions.", "Answers", &examples::answers(), &["X-Decision-Id", "Remit-Revision"])
        .fails(UNDECIDED)
}

const SEARCH: &str = "Everything that is found would be permitted at the revision of the answer: the search is exact, over \
    stored entities, and nothing is recorded. Unknown types and ids find nothing. A page token belongs to its query.";

fn search_subjects() -> Operation {
    asks(Operation::new(
        "POST",
        "/access/v1/search/subject",
        "search_subjects",
        "Decisions",
    ))
    .says("Search subjects", SEARCH)
    .scope("search")
    .takes(
        "SubjectQuery",
        "The type to search, the action and the resource.",
        &examples::subject_query(),
    )
    .gives(
        200,
        "What was found.",
        "FoundEntities",
        &examples::found("Agent", "invoice-bot"),
        &["Remit-Revision"],
    )
    .fails(UNSEARCHED)
}

fn search_resources() -> Operation {
    asks(Operation::new(
        "POST",
        "/access/v1/search/resource",
        "search_resources",
        "Decisions",
    ))
    .says("Search resources", SEARCH)
    .scope("search")
    .takes(
        "ResourceQuery",
        "The subject, the action and the type to search.",
        &examples::resource_query(),
    )
    .gives(
        200,
        "What was found.",
        "FoundEntities",
        &examples::found("Tool", "mail.list"),
        &["Remit-Revision"],
    )
    .fails(UNSEARCHED)
}

fn search_actions() -> Operation {
    asks(Operation::new(
        "POST",
        "/access/v1/search/action",
        "search_actions",
        "Decisions",
    ))
    .says("Search actions", SEARCH)
    .scope("search")
    .takes(
        "ActionQuery",
        "The subject and the resource.",
        &examples::action_query(),
    )
    .gives(
        200,
        "What was found.",
        "FoundActions",
        &examples::found_actions(),
        &["Remit-Revision"],
    )
    .fails(UNSEARCHED)
}

fn metadata() -> Operation {
    Operation::new(
        "GET",
        "/.well-known/authzen-configuration",
        "get_configuration",
        "Service",
    )
    .says(
        "Read the AuthZEN metadata",
        "Where the endpoints are and what this server can do (AuthZEN 1.0 §9).",
    )
    .gives(200, "The metadata.", "Metadata", &examples::metadata(), &[])
}

fn openapi() -> Operation {
    Operation::new("GET", "/openapi.json", "get_openapi", "Service")
        .says(
            "Read this document",
            "The OpenAPI 3.1 description of every operation.",
        )
        .gives(
            200,
            "The document.",
            "OpenApi",
            &serde_json::json!({ "openapi": "3.1.0", "info": {}, "paths": {} }),
            &[],
        )
}
