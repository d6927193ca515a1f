//! Which denial an access request is about, and whether a person's approval is what it lacks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use remit_core::{
    ApprovalId, Bound, DecisionId, DecisionRecord, EntityUid, PolicyId, Question, Reason, Verdict,
    canonical_json,
};
use remit_engine::Snapshot;
use remit_store::NewRequest;
use serde_json::{Map, Value, json};

use super::card::{self, Asked};
use super::submission::{Item, words};
use super::wants::{self, Wants};
use crate::app::App;
use crate::auth::Caller;
use crate::decisions::outcomes::{asked, find, is_on_its_way};
use crate::evaluate::telling::requestable_until;
use crate::facts;
use crate::problem::{Kind, Problem};

/// How much later than its time a denial is still taken: clocks differ.
const TOLERANCE: Duration = Duration::from_secs(30);
/// The most bytes of a question of which an approval is asked for, as JSON.
const QUESTION_BYTES: usize = 128 << 10;

/// A denial that an approval would turn into a permit, by what is in force now.
pub(crate) struct Requestable {
    /// The question without what it presented, and what is known and decided of it now.
    pub(crate) record: DecisionRecord,
    /// The decision that was denied.
    pub(crate) denied: DecisionId,
    /// The policies that forbid it; none where it is only permitted when it is approved.
    pub(crate) violations: BTreeSet<PolicyId>,
    /// Who has to approve.
    pub(crate) wants: Wants,
    /// What the approval is bound to.
    pub(crate) bound: Bound,
    /// What the caller says beside the question.
    said: Map<String, Value>,
    /// The same, as the card has it.
    words: Vec<(&'static str, String)>,
}

impl App {
    /// Finds the denial that an item is about and holds the item against it.
    ///
    /// # Errors
    ///
    /// `invalid-denial-binding`, `expired-denial`, `not-requestable`; `invalid-request` for what the item adds.
    pub(crate) async fn requestable(
        &self,
        caller: &Caller,
        snapshot: &Arc<Snapshot>,
        item: &Item,
        client: &Map<String, Value>,
    ) -> Result<Requestable, Problem> {
        let denied = self.denied(caller, item).await?;
        let said = snapshot.approval_digest(&item.question);
        if said != snapshot.approval_digest(&denied.question) {
            return Err(unbound(&differing(
                snapshot,
                &item.question,
                &denied.question,
            )));
        }
        let record = self.now_of(caller, snapshot, &denied);
        let violations = snapshot.violations(&record.question, &record.facts);
        check_now(&record)?;
        let added = item.added(&denied.question)?;
        let wants = wants::of(snapshot, &record.decision, &violations);
        Ok(Requestable {
            bound: bound(snapshot, &record, &violations),
            denied: denied.id,
            words: words(&added, &item.access, client),
            said: said_of(added, &item.access, client),
            record,
            violations,
            wants,
        })
    }

    /// Returns the record of the decision that an item names.
    async fn denied(&self, caller: &Caller, item: &Item) -> Result<DecisionRecord, Problem> {
        let id = item.denial.evaluation_id.as_deref();
        let id = id.ok_or_else(|| unbound("`denial.evaluation_id` is missing"))?;
        let unknown = || unbound("no decision of this `denial.evaluation_id` is known here");
        let id: DecisionId = id.parse().map_err(|_| unknown())?;
        let stored = find(self, caller.tenant, id).await?;
        let stored = stored.ok_or_else(|| {
            if is_on_its_way(self, id) {
                let detail =
                    "the decision of this `denial.evaluation_id` is not kept yet; ask again";
                return Problem::new(Kind::STORE_UNAVAILABLE, detail).retry_after(1);
            }
            unknown()
        })?;
        let record = stored.record;
        if !asked(self, caller, &record).await? {
            return Err(unknown());
        }
        if record.facts.environment != caller.environment {
            return Err(unbound("the decision was asked from another environment"));
        }
        if record.decision.reason != Reason::ApprovalRequired {
            let detail = format!("the decision was `{}`", record.decision.reason.code());
            return Err(Problem::new(Kind::NOT_REQUESTABLE, detail));
        }
        let until = requestable_until(record.facts.now, self.options.approvals.denial_ttl);
        if item.denial.expires_at != until {
            let detail = "`denial.expires_at` is not that of the decision";
            return Err(unbound(detail));
        }
        if self.now() > requestable_until(until, TOLERANCE) {
            return Err(Kind::EXPIRED_DENIAL.into());
        }
        Ok(record)
    }

    /// Asks what was denied once more, by what is in force now and without an approval; nobody is answered by it.
    fn now_of(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
        denied: &DecisionRecord,
    ) -> DecisionRecord {
        let mut question = denied.question.clone();
        question.context.remove(Question::APPROVAL);
        let by = &caller.principal.name;
        let facts = facts::gather(snapshot, self.facts(caller), by, &question);
        let mut record = DecisionRecord {
            question,
            facts,
            ..denied.clone()
        };
        record.decision = Self::again(snapshot, &record);
        record
    }

    /// Makes the row of a request, with the card that whoever answers is shown.
    pub(crate) async fn request_of<'r>(
        &self,
        caller: &Caller,
        snapshot: &Arc<Snapshot>,
        requestable: &'r Requestable,
        escalates_after: Option<Duration>,
    ) -> Result<NewRequest<'r>, Problem> {
        let asked = requestable.asked(caller);
        check_size(&requestable.record.question)?;
        let card = card::of(self, caller.tenant, snapshot, &asked).await?;
        Ok(NewRequest {
            id: ApprovalId::from_uuid(self.clock.id()),
            bound: requestable.bound.clone(),
            decision: requestable.denied,
            wants: requestable.wants.clone(),
            card: card.text,
            question: &requestable.record.question,
            said: requestable.said.clone(),
            lives: self.options.approvals.request_ttl,
            escalates_after,
        })
    }
}

// === impl Requestable ===

impl Requestable {
    /// Returns what the card is made of.
    pub(crate) fn asked<'a>(&'a self, caller: &'a Caller) -> Asked<'a> {
        Asked {
            record: &self.record,
            violations: &self.violations,
            by: &caller.principal.name,
            said: &self.words,
        }
    }
}

/// Checks that a question can be kept: most of one that cannot is what the schema does not declare.
fn check_size(question: &Question) -> Result<(), Problem> {
    let bytes = canonical_json(question).map_err(|why| Problem::caused(Kind::INTERNAL, why))?;
    if bytes.len() > QUESTION_BYTES {
        let detail = format!(
            "the question has {} bytes, and an approval is asked for of {QUESTION_BYTES} at most",
            bytes.len()
        );
        return Err(Problem::new(Kind::TOO_LARGE, detail));
    }
    Ok(())
}

/// Checks that an approval is what the question lacks by now.
fn check_now(record: &DecisionRecord) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(Kind::NOT_REQUESTABLE, detail));
    let decision = &record.decision;
    if decision.verdict == Verdict::Permit {
        return refuse("it is permitted by now; ask the question again".to_owned());
    }
    if decision.reason != Reason::ApprovalRequired {
        let code = decision.reason.code();
        return refuse(format!("by now it is `{code}`, which no approval helps"));
    }
    Ok(())
}

/// Returns what an approval of a question is bound to.
pub(crate) fn bound(
    snapshot: &Snapshot,
    record: &DecisionRecord,
    violations: &BTreeSet<PolicyId>,
) -> Bound {
    let (question, facts) = (&record.question, &record.facts);
    let (_, plainly) = facts::by_its_id(snapshot, question);
    let call = facts.call.as_ref();
    Bound {
        action: plainly.action.name.clone(),
        bundle: snapshot.content_hash(),
        currency: facts::currency(&question.action.properties, facts.tool.as_ref()),
        digest: snapshot.approval_digest(question),
        environment: facts.environment.clone(),
        resource: EntityUid::new(&question.resource.kind, &question.resource.id),
        sinks: call.map_or_else(BTreeSet::new, |call| {
            call.sinks.iter().map(ToString::to_string).collect()
        }),
        subject: EntityUid::new(&question.subject.kind, &question.subject.id),
        task: question.task(),
        violations: violations.clone(),
    }
}

fn said_of(
    added: Map<String, Value>,
    access: &Map<String, Value>,
    client: &Map<String, Value>,
) -> Map<String, Value> {
    let mut said = Map::new();
    for (member, value) in [
        ("client", client.clone()),
        ("context", added),
        ("requested_access", access.clone()),
    ] {
        if !value.is_empty() {
            said.insert(member.to_owned(), json!(value));
        }
    }
    said
}

/// Names the part in which a submission differs from what was denied.
fn differing(snapshot: &Snapshot, said: &Question, denied: &Question) -> String {
    let was = snapshot.approval_digest(denied);
    let with_its = |part: &str| {
        let mut trial = denied.clone();
        match part {
            "subject" => trial.subject = said.subject.clone(),
            "resource" => trial.resource = said.resource.clone(),
            "action" => trial.action = said.action.clone(),
            _ => trial.context.clone_from(&said.context),
        }
        trial
    };
    let parts = ["subject", "resource", "action", "context"].into_iter();
    let mut parts = parts.filter(|part| snapshot.approval_digest(&with_its(part)) != was);
    match parts.next() {
        Some(part) => format!("`{part}` is not that of the decision"),
        None => "it is not what was denied".to_owned(),
    }
}

fn unbound(detail: &str) -> Problem {
    Problem::new(Kind::INVALID_DENIAL_BINDING, detail)
}
