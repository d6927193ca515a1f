//! How the approval that a question presents stands to that question.

use std::collections::BTreeSet;

use remit_core::{
    Approval, ApprovalFacts, ApprovalScope, ApprovalState, Bound, CallFacts, EntityUid, Question,
    Timestamp, Tool, canonical_json,
};
use remit_engine::Snapshot;
use serde_json::{Map, Value};

/// What an approval is held against.
pub(super) struct Presented<'a> {
    /// The question, with its action in its one spelling.
    pub(super) question: &'a Question,
    /// What is known of the call.
    pub(super) call: Option<&'a CallFacts>,
    /// The entry of its tool in the catalogue.
    pub(super) tool: Option<&'a Tool>,
    /// The environment of the key that asks.
    pub(super) environment: &'a str,
    /// When it is asked.
    pub(super) now: Timestamp,
}

// === impl Presented ===

impl Presented<'_> {
    /// Returns what is known of the approval that the question presents; `None` where it presents none.
    pub(super) fn facts(&self, snapshot: &Snapshot) -> Option<ApprovalFacts> {
        let id = self.question.approval()?;
        let approval = snapshot.live().approval(id);
        let state = approval.map_or(ApprovalState::Unknown, |approval| {
            self.state(snapshot, approval)
        });
        let approval = approval.filter(|_| state == ApprovalState::Valid);
        Some(ApprovalFacts {
            approvers: approval.map_or_else(BTreeSet::new, |approval| approval.approvers.clone()),
            id,
            state,
            until: approval.map(|approval| approval.approved_until),
            violations: approval
                .map_or_else(BTreeSet::new, |approval| approval.bound.violations.clone()),
        })
    }

    fn state(&self, snapshot: &Snapshot, approval: &Approval) -> ApprovalState {
        if !self.is_within(snapshot, approval) {
            ApprovalState::OutOfScope
        } else if approval.bound.bundle != snapshot.content_hash() {
            ApprovalState::OtherPolicy
        } else if self.now >= approval.approved_until {
            ApprovalState::Expired
        } else {
            ApprovalState::Valid
        }
    }

    /// Whether the question is what was approved.
    fn is_within(&self, snapshot: &Snapshot, approval: &Approval) -> bool {
        let (bound, question) = (&approval.bound, self.question);
        let same = bound.environment == self.environment
            && bound.subject == EntityUid::new(&question.subject.kind, &question.subject.id)
            && bound.resource == EntityUid::new(&question.resource.kind, &question.resource.id)
            && bound.action == question.action.name
            && bound.task == question.task();
        same && match approval.scope {
            ApprovalScope::Once => bound.digest == snapshot.approval_digest(question),
            ApprovalScope::Task { amount, .. } => {
                let exactly = || bound.digest == snapshot.approval_digest(question);
                // The catalogue may have come to know since that its calls pay something.
                let pays = self.tool.is_some_and(|tool| tool.amount.is_some());
                let limited = amount.is_some() || !pays;
                bound.task.is_some()
                    && (limited && self.goes_where(bound) && self.pays_in(bound) || exactly())
            }
        }
    }

    /// Whether the call counts its money in the unit that was shown.
    fn pays_in(&self, bound: &Bound) -> bool {
        currency(&self.question.action.properties, self.tool) == bound.currency
    }

    /// Whether the call goes nowhere else than what was approved. That is known only of a tool of the catalogue that names
    /// the sinks of its calls; a link in any other argument leads elsewhere.
    fn goes_where(&self, bound: &Bound) -> bool {
        let call = self.call.filter(|_| self.tool.is_some());
        call.is_some_and(|call| {
            let mut leads = call.sinks.iter().chain(&call.links);
            !call.sinks.is_empty() && leads.all(|one| bound.sinks.contains(one.as_str()))
        })
    }
}

/// Returns what the arguments of a call say as `currency`, wherever one of them does, as canonical JSON; nothing where the
/// catalogue does not say that it moves money.
pub(crate) fn currency(arguments: &Map<String, Value>, tool: Option<&Tool>) -> Option<String> {
    tool?.amount.as_ref()?;
    let said = currencies(arguments)?;
    // It is JSON by construction.
    String::from_utf8(canonical_json(&said).unwrap_or_default()).ok()
}

/// Returns the members named `currency` where they stand, and nothing else.
fn currencies(members: &Map<String, Value>) -> Option<Value> {
    fn within(value: &Value) -> Option<Value> {
        match value {
            Value::Object(members) => currencies(members),
            Value::Array(items) => {
                let said: Vec<_> = items.iter().map(within).collect();
                let any = said.iter().any(Option::is_some);
                any.then(|| said.into_iter().map(Option::unwrap_or_default).collect())
            }
            _ => None,
        }
    }
    let said = members.iter().filter_map(|(name, value)| {
        let said = if name.eq_ignore_ascii_case("currency") {
            Some(value.clone())
        } else {
            within(value)
        };
        Some((name.clone(), said?))
    });
    let said: Map<String, Value> = said.collect();
    (!said.is_empty()).then_some(Value::Object(said))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_currency_is_found_wherever_it_stands() {
        let said = |arguments: Value| currencies(arguments.as_object().unwrap_or(&Map::new()));
        assert_eq!(said(json!({ "amount": 1, "to": "acme" })), None);
        let top = json!({ "amount": 1, "currency": "EUR" });
        assert_eq!(said(top), Some(json!({ "currency": "EUR" })));
        let nested =
            json!({ "order": { "amount": 1, "Currency": "KWD" }, "order.currency": "EUR" });
        assert_eq!(
            said(nested),
            Some(json!({ "order": { "Currency": "KWD" } }))
        );
        let items = json!({ "items": [{ "sku": 1 }, { "price": { "currency": null } }] });
        let found = json!({ "items": [null, { "price": { "currency": null } }] });
        assert_eq!(said(items), Some(found));
    }
}
