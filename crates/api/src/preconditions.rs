//! Preconditions: which state a change replaces, and which state a reader has (RFC 9110 §13.1).

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use remit_core::Revision;
use serde_json::json;

use crate::problem::{Kind, Problem};

/// `If-Match` and `If-None-Match` of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Preconditions {
    matches: Option<Tags>,
    none_match: Option<Tags>,
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: any state at all.
    Any,
    /// These entity tags, without their quotes; a weak one keeps its `W/`.
    These(Vec<String>),
}

/// Writes the entity tag of a thing that was last written at `revision`.
pub(crate) fn etag(revision: Revision) -> HeaderValue {
    // Digits and quotes are always a header value.
    HeaderValue::try_from(format!("\"{revision}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

// === impl Preconditions ===

impl<S: Send + Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            matches: Tags::read(&parts.headers, &header::IF_MATCH)?,
            none_match: Tags::read(&parts.headers, &header::IF_NONE_MATCH)?,
        })
    }
}

impl Preconditions {
    /// Demands that there is one at all (RFC 6585 §3), for what is too precious to be overwritten unseen.
    pub(crate) fn required(&self) -> Result<(), Problem> {
        if self.matches.is_some() || self.none_match.is_some() {
            return Ok(());
        }
        let detail = "send `If-Match` with the `ETag` that you read, or `If-None-Match: *` where there is none yet";
        Err(Problem::new(Kind::PRECONDITION_REQUIRED, detail))
    }

    /// Demands the tag of the one state that was read, for what somebody answers for by having read it.
    pub(crate) fn exact(&self) -> Result<(), Problem> {
        match &self.matches {
            Some(Tags::These(tags)) if tags.len() == 1 => Ok(()),
            _ => {
                let detail = "send `If-Match` with the one `ETag` that you read; `*` would answer for what nobody has seen";
                Err(Problem::new(Kind::PRECONDITION_REQUIRED, detail))
            }
        }
    }

    /// Checks a change of what was last written at `current`, or is not there.
    pub(crate) fn check(&self, current: Option<Revision>) -> Result<(), Problem> {
        let matches = self
            .matches
            .as_ref()
            .is_none_or(|tags| tags.strong(current));
        let none_match = self
            .none_match
            .as_ref()
            .is_none_or(|tags| !tags.weak(current));
        if matches && none_match {
            return Ok(());
        }
        let stale = |detail: String| Problem::new(Kind::STALE_REVISION, detail);
        Err(match current {
            None => stale(
                "there is none, so there is nothing to replace; send `If-None-Match: *`".to_owned(),
            ),
            Some(current) => stale(format!(
                "the newest `ETag` is \"{current}\"; read it again before you change it"
            ))
            .with("current", json!(format!("\"{current}\""))),
        })
    }

    /// Whether a reader has the state of `current` already.
    pub(crate) fn unchanged(&self, current: Revision) -> bool {
        self.none_match
            .as_ref()
            .is_some_and(|tags| tags.weak(Some(current)))
    }
}

// === impl Tags ===

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let mut tags = Vec::new();
        let mut any = false;
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| malformed(name))?;
            for part in text.split(',').map(str::trim) {
                if part == "*" {
                    any = true;
                } else {
                    tags.push(tag(part).ok_or_else(|| malformed(name))?);
                }
            }
        }
        match (any, tags.is_empty()) {
            (true, true) => Ok(Some(Self::Any)),
            (true, false) => Err(malformed(name)),
            (false, true) => Ok(None),
            (false, false) => Ok(Some(Self::These(tags))),
        }
    }

    /// Compares strongly (RFC 9110 §8.8.3.2): a weak tag is never the same.
    fn strong(&self, current: Option<Revision>) -> bool {
        let Some(current) = current else { return false };
        match self {
            Self::Any => true,
            Self::These(tags) => tags.contains(&current.to_string()),
        }
    }

    /// Compares weakly: only what stands in the quotes counts.
    fn weak(&self, current: Option<Revision>) -> bool {
        let Some(current) = current else { return false };
        match self {
            Self::Any => true,
            Self::These(tags) => tags
                .iter()
                .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == current.to_string()),
        }
    }
}

/// Reads one entity tag: quotes are part of its form.
fn tag(text: &str) -> Option<String> {
    let (prefix, quoted) = match text.strip_prefix("W/") {
        Some(rest) => ("W/", rest),
        None => ("", text),
    };
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then(|| format!("{prefix}{inner}"))
}

fn malformed(name: &HeaderName) -> Problem {
    let detail = format!("`{name}` must be `*` or entity tags in quotes, such as \"42\"");
    Problem::new(Kind::INVALID_REQUEST, detail)
}
