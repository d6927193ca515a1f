//! What webhooks are on the wire: as they are asked for, as they are told, and what is told once.

use remit_core::{PrincipalName, Revision, Timestamp, WebhookId};
use remit_store::{DeliveryState, StoredDelivery, StoredWebhook, WebhookTarget};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::signing::Secret;
use crate::app::App;
use crate::problem::{Kind, Problem};
use crate::wire::{Wire, absent_if_null};

/// The most kinds of events of a webhook, and the longest of them in bytes.
const KINDS: (usize, usize) = (32, 64);
/// What the kinds of events begin with.
const FAMILIES: [&str; 3] = ["access_request.", "approval.", "exception."];

/// A webhook to be made or replaced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookBody {
    pub(super) url: String,
    #[serde(default)]
    pub(super) events: Vec<String>,
    #[serde(default)]
    pub(super) callbacks: bool,
    #[serde(default, deserialize_with = "absent_if_null")]
    pub(super) state: Option<Standing>,
}

/// Which deliveries are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    pub(super) state: Option<Phase>,
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
}

/// Whether a webhook is told what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    Enabled,
    Disabled,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Pending,
    Delivered,
    Dead,
}

/// A webhook as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: WebhookId,
    url: String,
    events: Vec<String>,
    callbacks: bool,
    state: Standing,
    created_by: PrincipalName,
    created_at: Timestamp,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<Timestamp>,
}

/// A webhook with its secret, which is told this once.
#[derive(Serialize)]
pub(super) struct Created {
    #[serde(flatten)]
    pub(super) shown: Shown,
    pub(super) secret: String,
}

/// A new secret, which is told this once.
#[derive(Serialize)]
pub(super) struct Rotated {
    pub(super) secret: String,
    pub(super) old_until: Timestamp,
}

/// What is kept of a request that gave out a secret: never the secret.
#[derive(Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) webhook: WebhookId,
    pub(super) until: Timestamp,
    /// For the request that made it.
    #[serde(skip)]
    pub(super) secret: Option<Secret>,
}

/// A delivery as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    id: Uuid,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    state: &'static str,
    attempts: u32,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_problem: Option<String>,
}

pub(super) fn standing(stored: &StoredWebhook) -> Standing {
    match stored.disabled {
        Some(_) => Standing::Disabled,
        None => Standing::Enabled,
    }
}

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}

// === impl WebhookBody ===

impl WebhookBody {
    /// Checks every member by its text.
    pub(super) fn read(&self, app: &App) -> Result<WebhookTarget, Problem> {
        let (most, longest) = KINDS;
        if self.events.len() > most {
            return Err(invalid(format!("`events`: at most {most} were expected")));
        }
        for (index, kind) in self.events.iter().enumerate() {
            let known = FAMILIES.iter().any(|family| kind.starts_with(family));
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.';
            if !known || kind.len() > longest || !kind.bytes().all(plain) {
                let families = FAMILIES.join("`, `");
                return Err(invalid(format!(
                    "`events[{index}]`: a kind of event, or the beginning of one up to a dot, was expected, under one of \
                     `{families}`"
                )));
            }
        }
        if self.events.is_empty() && !self.callbacks {
            return Err(invalid(
                "`events`: at least one was expected where `callbacks` is not true",
            ));
        }
        let target = app.webhooks.guard.read(&self.url);
        let target = target.map_err(|refused| invalid(format!("`url`: {refused}")))?;
        let mut kinds = self.events.clone();
        kinds.sort();
        kinds.dedup();
        Ok(WebhookTarget {
            url: target.url.to_string(),
            kinds,
            callbacks: self.callbacks,
        })
    }
}

impl Wire for WebhookBody {}

// === impl Given ===

impl Given {
    /// Returns the secret to whoever asked first.
    pub(super) fn once(self, what: &str) -> Result<String, Problem> {
        let Some(secret) = self.secret else {
            let detail = format!(
                "the webhook {} was {what} by this request before, and its secret is told once; where it was lost, give it \
                 a new one (`POST /v1/webhooks/{}/rotate`)",
                self.webhook, self.webhook
            );
            return Err(Problem::new(Kind::CONFLICT, detail).with("webhook", json!(self.webhook)));
        };
        Ok(secret.reveal())
    }
}

// === impl Shown ===

impl Shown {
    pub(super) fn of(stored: StoredWebhook, now: Timestamp) -> Self {
        let state = standing(&stored);
        let (disabled_at, disabled_why) = stored.disabled.unzip();
        let before = stored.secrets.before.map(|(_, until)| until);
        Self {
            id: stored.id,
            url: stored.target.url,
            events: stored.target.kinds,
            callbacks: stored.target.callbacks,
            state,
            created_by: stored.created_by,
            created_at: stored.created_at,
            revision: stored.revision,
            disabled_at,
            disabled_why,
            old_secret_until: before.filter(|until| *until > now),
        }
    }
}

// === impl Phase ===

impl Phase {
    pub(super) fn kept(self) -> DeliveryState {
        match self {
            Self::Pending => DeliveryState::Pending,
            Self::Delivered => DeliveryState::Delivered,
            Self::Dead => DeliveryState::Dead,
        }
    }
}

// === impl Sent ===

impl Sent {
    pub(super) fn of(stored: StoredDelivery) -> Self {
        Self {
            id: stored.id,
            kind: stored.kind,
            subject: stored.subject,
            state: stored.state.as_str(),
            attempts: stored.attempts,
            at: stored.at,
            next_at: (stored.state == DeliveryState::Pending).then_some(stored.next_at),
            last_at: stored.last_at,
            last_status: stored.last_status,
            last_problem: stored.last_problem,
        }
    }
}
