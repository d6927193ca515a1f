//! What stands in the address: query parameters and parts of the path, decoded strictly.

use axum::extract::{self, FromRequestParts};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::problem::{Kind, Problem};

/// The parameters of the query; one that is unknown, sent twice or malformed is a 400 that names it.
///
/// The type says `deny_unknown_fields`: a misspelt filter must not silently match everything.
pub(crate) struct Query<T>(pub(crate) T);

/// The variable parts of the path, percent-decoded and byte-exact.
pub(crate) struct Segments<T>(pub(crate) T);

// === impl Query ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(Kind::INVALID_REQUEST, detail);
        // No column can hold it, so nothing could match.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(invalid(
                "a query parameter must not contain a NUL character".to_owned(),
            ));
        }
        // The reader would put U+FFFD for such bytes, and look for a text that nobody sent.
        if percent_decode_str(parts.uri.query().unwrap_or(""))
            .decode_utf8()
            .is_err()
        {
            return Err(invalid("the query is not percent-encoded UTF-8".to_owned()));
        }
        match extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text
                    .strip_prefix("Failed to deserialize query string: ")
                    .unwrap_or(&text);
                Err(invalid(format!(
                    "query parameter: {}",
                    text.replace("field", "parameter")
                )))
            }
        }
    }
}

// === impl Segments ===

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(Problem::new(
                Kind::INVALID_REQUEST,
                "the path is not percent-encoded UTF-8 of the form expected here",
            )),
        }
    }
}
