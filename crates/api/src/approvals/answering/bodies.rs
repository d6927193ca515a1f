//! What somebody sends who answers an access request.

use std::time::Duration;

use remit_core::{ApprovalScope, Timestamp};
use remit_store::StoredRequest;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::problem::{Kind, Problem};
use crate::registry::line;
use crate::wire::Wire;

/// For how long at most.
const LONGEST: Duration = Duration::from_hours(24);
/// How often a task's approval can be used at most.
const MOST_USES: u32 = 100;

/// What somebody approves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveBody {
    /// The hash of the card that they were shown.
    pub(super) seen: String,
    #[serde(
        default,
        deserialize_with = "scope",
        skip_serializing_if = "Option::is_none"
    )]
    scope: Option<ScopeBody>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
}

/// For what an approval is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ScopeBody {
    /// For exactly the call that was shown, once.
    Once,
    /// For calls of the same kind in the same task.
    Task {
        uses: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<u64>,
        minutes: u32,
    },
}

/// What somebody refuses.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyBody {
    pub(super) seen: String,
    pub(super) reason: String,
}

/// Why.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Because {
    pub(super) reason: String,
}

/// Reads `"once"` as well as the object of that kind.
fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ScopeBody>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let object = match value {
        Value::Null => return Ok(None),
        Value::String(kind) => json!({ "kind": kind }),
        other => other,
    };
    let scope = serde_json::from_value(object).map_err(serde::de::Error::custom)?;
    Ok(Some(scope))
}

// === impl ApproveBody ===

impl ApproveBody {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let wrong = |detail: &str| Err(Problem::new(Kind::INVALID_REQUEST, detail));
        if let Some(comment) = &self.comment {
            line("comment", comment, 1_024)?;
        }
        let Some(ScopeBody::Task {
            uses,
            amount,
            minutes,
        }) = self.scope
        else {
            return Ok(());
        };
        if !(1..=MOST_USES).contains(&uses) {
            return wrong("`scope.uses` must be 1 to 100");
        }
        if !(1..=1_440).contains(&minutes) {
            return wrong("`scope.minutes` must be 1 to 1,440");
        }
        if amount.is_some_and(|amount| i64::try_from(amount).is_err()) {
            return wrong("`scope.amount` must be less than 2^63");
        }
        if self.until.is_some() {
            return wrong(
                "`until` goes with an approval for once; one for a task says `scope.minutes`",
            );
        }
        Ok(())
    }

    /// Returns for what the approval is, and until when it can be used; `pays` says whether the amount of the call is known.
    pub(super) fn scope(
        &self,
        (request, pays): (&StoredRequest, bool),
        at: Timestamp,
        usual: Duration,
    ) -> Result<(ApprovalScope, Timestamp), Problem> {
        let wrong = |detail: &str| Err(Problem::new(Kind::INVALID_REQUEST, detail));
        let after = |time: Duration| {
            let time = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(at.micros().saturating_add(time))
        };
        match self.scope {
            Some(ScopeBody::Task { .. }) if request.bound.task.is_none() => {
                wrong("`scope`: the call is in no task; it can be approved once")
            }
            Some(ScopeBody::Task {
                amount: Some(_), ..
            }) if !pays => wrong(
                "`scope.amount`: no tool of the catalogue says what the call pays, so that nothing could be counted",
            ),
            Some(ScopeBody::Task {
                uses,
                amount,
                minutes,
            }) => {
                let until = after(Duration::from_mins(minutes.into()));
                Ok((ApprovalScope::Task { amount, uses }, until))
            }
            Some(ScopeBody::Once) | None => match self.until {
                Some(until) if until <= at || after(LONGEST) < until => {
                    wrong("`until` must be in the future, and at most 24 hours ahead")
                }
                until => Ok((ApprovalScope::Once, until.unwrap_or_else(|| after(usual)))),
            },
        }
    }
}

// === impl ApproveBody, of its time ===

impl ApproveBody {
    /// Whether they name the moment until when it can be used, and not how long.
    pub(super) const fn names_until(&self) -> bool {
        self.until.is_some()
    }
}

impl Wire for ApproveBody {}
impl Wire for DenyBody {}
impl Wire for Because {}
