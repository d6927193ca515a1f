//! The contract: what the OpenAPI document says of an answer, held against the answer.

use std::sync::LazyLock;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::schema::misfits;

/// The OpenAPI document of this build.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(remit_api::openapi);

/// Checks that an answer is one that the document describes: its status, its media type, its headers and its body.
///
/// Paths that the document does not have are not checked.
///
/// # Panics
///
/// When it is not.
pub fn check(method: &str, path: &str, status: StatusCode, headers: &HeaderMap, body: &str) {
    let Some((template, item)) = find(path) else {
        return;
    };
    let Some(operation) = item.get(method.to_lowercase()) else {
        assert_eq!(
            status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {template}"
        );
        return;
    };
    let asked = format!("{method} {path} → {status}");
    let answer = &operation["responses"][status.as_str()];
    assert!(answer.is_object(), "{asked} is not documented: {body}");
    for (name, _) in answer["headers"].as_object().unwrap() {
        // What the document lists is not all required: a last page has no link, a batch may have too many ids.
        let optional = matches!(name.as_str(), "Link" | "X-Decision-Id" | "Remit-Revision");
        assert!(
            optional || headers.contains_key(name.to_lowercase()),
            "{asked} has no {name}"
        );
    }
    let Some(content) = answer.get("content") else {
        assert_eq!(body, "", "{asked} has a body that is not documented");
        return;
    };
    let media = headers
        .get("content-type")
        .map_or("", |value| value.to_str().unwrap());
    let schema = &content[media]["schema"];
    assert!(
        schema.is_object(),
        "{asked}: the media type {media:?} is not documented"
    );
    if !media.ends_with("json") || media == "application/x-ndjson" {
        // The description says what the events or the text are.
        return;
    }
    let value: Value =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{asked}: {error}: {body}"));
    let misfits = misfits(&DOCUMENT, schema, &value);
    assert!(
        misfits.is_empty(),
        "{asked} does not fit its schema: {misfits:#?}\n{body}"
    );
}

/// Finds the path of the document that a request matches: literal parts before variable ones.
fn find(path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next()?;
    let mut matching: Vec<_> = DOCUMENT["paths"]
        .as_object()?
        .iter()
        .filter(|(template, _)| matches(template, path))
        .collect();
    matching.sort_by_key(|(template, _)| template.matches('{').count());
    matching
        .first()
        .map(|(template, item)| (template.as_str(), *item))
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(expected, part)| {
            (expected.starts_with('{') && !part.is_empty()) || *expected == part
        })
}
