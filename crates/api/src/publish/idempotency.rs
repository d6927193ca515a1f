//! `Idempotency-Key`: a change that was sent twice, because nobody heard the answer, is made once.
//!
//! Only what was done is remembered. A request that was refused changed nothing, and is tried again when it comes again.

use axum::extract::FromRequestParts;
use http::HeaderName;
use http::request::Parts;
use remit_core::{ContentHash, Revision, TenantId, canonical_json};
use remit_store::Once;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::background::give_way;
use crate::problem::{Kind, Problem};

const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// What the client calls a request; `None` where it does not name it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

/// A request that names itself.
pub(crate) struct Named {
    key: String,
    /// The hash of everything that it asks for.
    hash: ContentHash,
}

/// The answer to a named request, as it is kept; empty for one that is not named.
pub(crate) struct Answer<'a> {
    named: Option<&'a Named>,
    text: String,
}

/// Makes a change, unless the request is named and was carried out before: then it is answered as it was then.
///
/// What `make` returns is the revision that it brought and the answer, as `answer` of [`Named`] has kept it.
pub(crate) async fn once<T: DeserializeOwned>(
    app: &App,
    tenant: TenantId,
    named: Option<&Named>,
    make: impl Future<Output = Result<(Revision, T), Problem>>,
) -> Result<(Revision, T), Problem> {
    let Some(named) = named else {
        return make.await;
    };
    if let Some(known) = named.answered(app, tenant).await? {
        return Ok(known);
    }
    match make.await {
        // The same request may have come twice at once; the other one is why this one came too late.
        Err(problem) => match named.answered(app, tenant).await {
            Ok(Some(known)) => Ok(known),
            // Another request under this name was faster.
            Err(reused) if reused.kind() == Kind::IDEMPOTENCY_KEY_REUSED => Err(reused),
            _ => Err(problem),
        },
        done => done,
    }
}

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

impl IdempotencyKey {
    /// Returns the name without the quotation marks that the draft of the header has around it; both spellings are one name.
    ///
    /// # Errors
    ///
    /// `invalid-request` for one that is empty, longer than 255 bytes, or not of printable ASCII.
    pub(crate) fn text(&self) -> Result<Option<String>, Problem> {
        let Some(sent) = &self.0 else {
            return Ok(None);
        };
        let bare = sent
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let name = bare.unwrap_or(sent);
        let once = Once {
            key: name,
            request: ContentHash::of(b""),
            answer: "",
        };
        once.check()?;
        Ok(Some(name.to_owned()))
    }
}

// === impl Named ===

impl Named {
    /// Takes together what a request asks for; `None` for one without a name.
    pub(crate) async fn of(
        key: &IdempotencyKey,
        asks: impl FnOnce() -> Value + Send + 'static,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = key.0.clone() else {
            return Ok(None);
        };
        let hash = give_way(move || canonical_json(&asks()).map(|bytes| ContentHash::of(&bytes)));
        let hash = hash
            .await?
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        let named = Self { key, hash };
        named.once("").check()?;
        Ok(Some(named))
    }

    fn once<'a>(&'a self, answer: &'a str) -> Once<'a> {
        Once {
            key: &self.key,
            request: self.hash,
            answer,
        }
    }

    /// Returns what the request was answered, and the revision that it brought.
    async fn answered<T: DeserializeOwned>(
        &self,
        app: &App,
        tenant: TenantId,
    ) -> Result<Option<(Revision, T)>, Problem> {
        let Some(found) = app.store.answered(tenant, &self.key).await? else {
            return Ok(None);
        };
        if found.request != self.hash {
            return Err(Kind::IDEMPOTENCY_KEY_REUSED.into());
        }
        let answer = serde_json::from_str(&found.answer)
            .map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
        Ok(Some((found.revision, answer)))
    }
}

// === impl Answer ===

impl<'a> Answer<'a> {
    /// Writes the answer, where the request is named and it is to be kept.
    pub(crate) fn of(named: Option<&'a Named>, answer: &impl Serialize) -> Result<Self, Problem> {
        let text = match named {
            Some(_) => serde_json::to_string(answer)
                .map_err(|error| Problem::caused(Kind::INTERNAL, error))?,
            None => String::new(),
        };
        Ok(Self { named, text })
    }

    /// Returns what the store keeps with the change.
    pub(crate) fn once(&self) -> Option<Once<'_>> {
        self.named.map(|named| named.once(&self.text))
    }
}
