//! `Idempotency-Key`: a change that was sent twice, because nobody heard the answer, is made once.
//!
//! Only what was done is remembered. A request that was refused changed nothing, and is tried again when it comes again.

use axum::extract::FromRequestParts;
use http::HeaderName;
use http::request::Parts;

use crate::problem::{Kind, Problem};

const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// What the client calls a request; `None` where it does not name it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

// === impl IdempotencyKey ===

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(NAME).iter();
        let invalid = |detail: &str| Problem::new(Kind::INVALID_REQUEST, detail);
        match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => match value.to_str() {
                Ok(key) => Ok(Self(Some(key.to_owned()))),
                Err(_) => Err(invalid("`Idempotency-Key` must be printable ASCII")),
            },
            (Some(_), Some(_)) => Err(invalid("`Idempotency-Key` must be sent once")),
        }
    }
}
