//! Who is asking: an API key, looked up in memory.
//!
//! Identity and tenant come from the credential and from nothing else; no header can add to them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use remit_core::{KeyId, Principal, Revision, TenantId, Timestamp};
use remit_store::{ApiKey, Pepper, Scope, StoredKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::App;
use crate::admin::Action;
use crate::layers::{Known, RequestId, Trace};
use crate::metrics::Stage;
use crate::problem::{Kind, Problem};

/// The header with which a client asks to be answered at a revision or later, and is told which one answered.
pub(crate) const REVISION: http::HeaderName = http::HeaderName::from_static("remit-revision");

/// One message for every credential that does not work: which part was wrong is not said.
const REFUSED: &str = "the API key is not valid here: it may be mistyped, expired or revoked";
const CHALLENGE_MISSING: &str = r#"Bearer realm="remit""#;
const CHALLENGE_MALFORMED: &str = r#"Bearer realm="remit", error="invalid_request""#;
pub(crate) const CHALLENGE_REFUSED: &str = r#"Bearer realm="remit", error="invalid_token""#;
const CHALLENGE_SCOPE: &str = r#"Bearer realm="remit", error="insufficient_scope""#;

/// Who asks one request: what its API key says, and how the request is to be found again.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// Who acts through it.
    pub principal: Arc<Principal>,
    /// The environment of the key, such as `live`.
    pub environment: String,
    /// The request id, the client's own or the one it was given.
    pub request_id: String,
    /// The W3C trace id, 32 hexadecimal digits, where the request is traced.
    pub trace_id: Option<String>,
    /// The revision that the answer must not be older than, from `Remit-Revision`.
    pub at_least: Option<Revision>,
}

/// A text that is accepted in place of a stored key; for development, where a key is typed by hand.
#[derive(Clone)]
pub struct DevKey {
    /// The text, at least eight characters.
    pub text: String,
    /// The key that it stands for, with its tenant and scopes.
    pub stands_for: KeyId,
}

/// What a route needs, put on it by the router. A route without this admits nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// The scope of the key; `None` where any valid key will do.
    pub(crate) scope: Option<Scope>,
    /// What it does in the administration; `None` for what is no part of that.
    pub(crate) action: Option<Action>,
}

/// Every key of every tenant, replaced whole by `sync`.
pub(crate) struct Keys {
    table: ArcSwap<HashMap<KeyId, Arc<StoredKey>>>,
    pepper: Pepper,
    dev: Option<([u8; 32], KeyId)>,
}

// === impl Keys ===

impl Keys {
    pub(crate) fn new(pepper: Pepper, dev: Option<DevKey>) -> Self {
        Self {
            table: ArcSwap::default(),
            dev: dev.map(|dev| (Sha256::digest(dev.text.as_bytes()).into(), dev.stands_for)),
            pepper,
        }
    }

    /// Returns what keys are hashed with, for making new ones.
    pub(crate) fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// Returns a key by its id.
    pub(crate) fn get(&self, id: KeyId) -> Option<Arc<StoredKey>> {
        self.table.load().get(&id).cloned()
    }

    /// Replaces the table, but for the tenants that are to keep the keys they have; returns the keys that ceased to work.
    pub(crate) fn replace(
        &self,
        keys: Vec<StoredKey>,
        now: Timestamp,
        keeps: impl Fn(TenantId) -> bool,
    ) -> Vec<(TenantId, KeyId)> {
        let before = self.table.load();
        let kept = before.iter().filter(|(_, key)| keeps(key.tenant));
        let table: HashMap<KeyId, Arc<StoredKey>> = keys
            .into_iter()
            .filter(|key| !keeps(key.tenant))
            .map(|key| (key.id, Arc::new(key)))
            .chain(kept.map(|(id, key)| (*id, Arc::clone(key))))
            .collect();
        let works = |key: &StoredKey| key.usable(now).is_ok();
        let worked = before.values().filter(|key| works(key));
        let gone = worked.filter(|key| table.get(&key.id).is_none_or(|key| !works(key)));
        let gone = gone.map(|key| (key.tenant, key.id)).collect();
        self.table.store(Arc::new(table));
        gone
    }

    /// Returns the key that `text` presents, where it is known, right, unexpired and not revoked.
    fn verify(&self, text: &str, now: Timestamp) -> Option<Arc<StoredKey>> {
        let table = self.table.load();
        if let Some((digest, stands_for)) = &self.dev {
            let presented: [u8; 32] = Sha256::digest(text.as_bytes()).into();
            if bool::from(presented.ct_eq(digest)) {
                return table
                    .get(stands_for)
                    .filter(|key| key.usable(now).is_ok())
                    .cloned();
            }
        }
        let presented = ApiKey::parse(text).ok()?;
        let Some(known) = table.get(&presented.id()) else {
            // As much work as for a known one, so that the time does not tell which ids exist.
            StoredKey::reject(&presented, &self.pepper);
            return None;
        };
        let right = known.matches(&presented, &self.pepper);
        (right && known.usable(now).is_ok()).then(|| Arc::clone(known))
    }
}

// === impl Caller ===

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let began = Instant::now();
        let text = bearer(&parts.headers)?;
        let refused = || Problem::new(Kind::UNAUTHENTICATED, REFUSED).challenge(CHALLENGE_REFUSED);
        let key = app.keys.verify(text, app.now()).ok_or_else(refused)?;
        app.metrics.stage(Stage::Authenticate, began.elapsed());
        if let Some(known) = parts.extensions.get::<Known>() {
            let _ = known.0.set((key.tenant, key.id));
        }
        // A tenant that was deleted is forgotten before its keys are.
        let tenant = app.progress.standing(key.tenant).ok_or_else(refused)?;
        if tenant.suspended() {
            return Err(Kind::TENANT_SUSPENDED.into());
        }
        let Some(Needs { scope, action }) = parts.extensions.get::<Needs>().copied() else {
            return Err(Problem::caused(Kind::INTERNAL, "the route names no scope"));
        };
        let lacks = scope.filter(|scope| !key.may(*scope));
        let caller = Self {
            tenant: key.tenant,
            key: key.id,
            principal: Arc::clone(&key.principal),
            environment: key.environment.clone(),
            request_id: parts
                .extensions
                .get::<RequestId>()
                .and_then(|id| id.0.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            trace_id: parts
                .extensions
                .get::<Trace>()
                .map(|trace| trace.0.trace_id()),
            at_least: revision(&parts.headers)?,
        };
        match (action, lacks) {
            (Some(action), lacks) => app.admit(&caller, lacks, action, parts).await?,
            (None, Some(scope)) => return Err(lacking(scope)),
            (None, None) => {}
        }
        Ok(caller)
    }
}

/// Says which scope the key does not have.
pub(crate) fn lacking(scope: Scope) -> Problem {
    let detail = format!("this needs an API key with the scope `{scope}`");
    Problem::new(Kind::MISSING_SCOPE, detail).challenge(CHALLENGE_SCOPE)
}

impl Caller {
    /// Returns what a record says of the caller.
    pub(crate) fn recorded(&self) -> remit_core::Caller {
        remit_core::Caller {
            key: self.key,
            request_id: Some(self.request_id.clone()).filter(|id| !id.is_empty()),
            trace_id: self.trace_id.clone(),
        }
    }
}

/// Reads the token of `Authorization: Bearer <token>` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let malformed =
        |detail: &str| Problem::new(Kind::UNAUTHENTICATED, detail).challenge(CHALLENGE_MALFORMED);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        let detail = "no API key was sent; send `Authorization: Bearer <key>`";
        return Err(Problem::new(Kind::UNAUTHENTICATED, detail).challenge(CHALLENGE_MISSING));
    };
    if values.next().is_some() {
        return Err(malformed("`Authorization` must be sent once"));
    }
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token.trim())
        .ok_or_else(|| malformed("`Authorization` must be `Bearer <key>`"))
}

fn revision(headers: &HeaderMap) -> Result<Option<Revision>, Problem> {
    let mut values = headers.get_all(REVISION).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    value
        .to_str()
        .ok()
        .filter(|_| second.is_none())
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::new(
                Kind::INVALID_REQUEST,
                "`Remit-Revision` must be one whole number",
            )
        })
}

// === impl DevKey ===

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevKey")
            .field("text", &"***")
            .field("stands_for", &self.stands_for)
            .finish()
    }
}
