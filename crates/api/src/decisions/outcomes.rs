//! `POST /v1/decisions/{id}/outcome`: what happened after a permit, told once by the enforcement point.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use remit_core::{
    ContentHash, DecisionId, DecisionRecord, Integrity, Label, MOST_SINKS, Outcome, OutcomeResult,
    Revision, Said, TenantId, Timestamp, Verdict, canonical_json, sink_hash,
};
use remit_store::{MOST_CHARGED, Report, Reported, StoredDecision};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::{App, chain, charges};
use crate::auth::Caller;
use crate::decisions::CATCH_UP;
use crate::layers::Told;
use crate::problem::{Kind, Problem};
use crate::query::Segments;
use crate::wire::{Body, Json, Wire, absent_if_null};

pub(crate) mod lists;

/// The longest `source` and `destination`, and the longest of `sinks`, in bytes.
const TEXT_BYTES: usize = 1_024;
/// The longest `error`, in bytes.
const ERROR_BYTES: usize = 4_096;
/// The most labels of one outcome.
const MOST_LABELS: usize = 64;
/// How soon the database is asked again for a decision that is on its way.
const PAUSE: Duration = Duration::from_millis(100);
/// How long ago a decision was made that may still be on its way from another replica.
const ON_ITS_WAY: Duration = Duration::from_mins(1);

/// What happened.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomeBody {
    result: OutcomeResult,
    #[serde(default, deserialize_with = "absent_if_null")]
    bytes: Option<u64>,
    #[serde(default, deserialize_with = "absent_if_null")]
    cost: Option<u64>,
    #[serde(default, deserialize_with = "absent_if_null")]
    source: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    destination: Option<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    labels: BTreeSet<Label>,
    #[serde(default, deserialize_with = "absent_if_null")]
    sinks: Vec<String>,
    #[serde(default, deserialize_with = "absent_if_null")]
    error: Option<String>,
}

/// Why an outcome is refused.
#[derive(Debug, Clone, Copy)]
enum Refused {
    /// There is no such decision.
    Unknown,
    /// Another principal asked for it.
    NotYours,
    /// The agent itself tells more than that its call succeeded.
    OwnAgent,
    /// It was denied.
    Denied,
    /// It renews another decision.
    Renewal,
    /// Another outcome was told before.
    Another,
    /// Sinks were told of a tool whose results outsiders write into.
    UntrustedSinks,
}

impl Wire for OutcomeBody {}

/// Keeps an outcome and does what follows from it: what was reserved is spent or given back, labels grow.
///
/// Who asked for the decision tells of it. What eases is no agent's to tell of itself.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segments(id): Segments<DecisionId>,
    Body(body): Body<OutcomeBody>,
) -> Result<Response, Problem> {
    body.check()?;
    let stored = find(&app, caller.tenant, id).await?;
    let Some(stored) = stored else {
        return Err(Refused::Unknown.problem(&app));
    };
    let record = &stored.record;
    if !asked(&app, &caller, record).await? {
        return Err(Refused::NotYours.problem(&app));
    }
    if body.eases() && is_agents_own(&app, &caller) {
        return Err(Refused::OwnAgent.problem(&app));
    }
    if record.decision.verdict != Verdict::Permit {
        return Err(Refused::Denied.problem(&app));
    }
    // It took nothing, so that nothing could be given back; what was done is told once, of what it renews.
    if record.facts.lease.is_some() {
        return Err(Refused::Renewal.problem(&app));
    }
    let tool = record.facts.tool.as_ref();
    let trusts = tool.is_some_and(|tool| tool.integrity == Integrity::Trusted);
    if !body.sinks.is_empty() && !trusts {
        return Err(Refused::UntrustedSinks.problem(&app));
    }
    let (outcome, revision) = keep(&app, &caller, &stored, body).await?;
    // Whoever is told of an outcome finds what it changed in force here.
    app.reached(caller.tenant, revision).await?;
    let mut response = Json(outcome).into_response();
    Told::revision(revision).attach(&mut response);
    Ok(response)
}

/// Whether a caller is the one who asked for a decision: by the same key, or by another of the same principal.
pub(crate) async fn asked(
    app: &App,
    caller: &Caller,
    record: &DecisionRecord,
) -> Result<bool, Problem> {
    let asker = record.caller.key;
    if asker == caller.key {
        return Ok(true);
    }
    let key = match app.keys.get(asker) {
        Some(key) => Some(key),
        None => app.store.key(caller.tenant, asker).await?.map(Arc::new),
    };
    Ok(key.is_some_and(|key| key.principal.name == caller.principal.name))
}

/// Whether a caller is what a registered agent calls Remit as.
fn is_agents_own(app: &App, caller: &Caller) -> bool {
    let snapshot = app.engine.snapshot(caller.tenant);
    snapshot.is_some_and(|snapshot| {
        let mut agents = snapshot.live().agents_of(&caller.principal.name);
        agents.next().is_some()
    })
}

/// Returns the hashes of what a tool returned and its call did not say: one that repeats its arguments vouches for nothing.
async fn returned(
    app: &App,
    record: &DecisionRecord,
    sinks: Vec<String>,
) -> Result<BTreeSet<[u8; 16]>, Problem> {
    if sinks.is_empty() {
        return Ok(BTreeSet::new());
    }
    let arguments = record.question.action.properties.clone();
    let hashes = move || {
        let said = Said::of(&arguments);
        let news = sinks.iter().filter(|sink| !said.has(sink));
        news.map(|sink| sink_hash(sink)).collect()
    };
    app.blocking(hashes).await
}

/// Writes the outcome of a decision; returns it as it is kept, and the revision of the tenant with it.
async fn keep(
    app: &App,
    caller: &Caller,
    stored: &StoredDecision,
    body: OutcomeBody,
) -> Result<(Outcome, Revision), Problem> {
    let record = &stored.record;
    let request = canonical_json(&body).map_err(|error| Problem::caused(Kind::INTERNAL, error))?;
    let request = ContentHash::of(&request);
    let chain = chain(&record.facts);
    // Outside a task there is nothing that could trust them.
    let trusted: BTreeSet<[u8; 16]> = match chain.first() {
        Some(_) => returned(app, record, body.sinks).await?,
        None => BTreeSet::new(),
    };
    let outcome = Outcome {
        // The database's time is filled in.
        at: Timestamp::from_micros(0),
        bytes: body.bytes,
        caller: caller.key,
        cost: body.cost,
        decision: record.id,
        destination: body.destination.map(Into::into),
        error: body.error,
        labels: body.labels,
        result: body.result,
        source: body.source.map(Into::into),
        task: chain.first().copied(),
    };
    let report = Report {
        outcome: &outcome,
        request,
        chain: &chain,
        charges: charges(&record.facts),
        made: record.at,
        // What the database was asked for is in no spool.
        escrowed: stored.sequence > 0,
        hold: app.options.reserved,
        trusted: &trusted,
    };
    match app.store.report(caller.tenant, &report).await? {
        Reported::New {
            outcome, revision, ..
        }
        | Reported::Same { outcome, revision } => Ok((outcome, revision)),
        Reported::Other => Err(Refused::Another.problem(app)),
    }
}

/// Whether a decision that is not kept may be all the same: an id tells when it was made, and nothing of long ago is on its way.
pub(crate) fn is_on_its_way(app: &App, id: DecisionId) -> bool {
    let made = i64::try_from(id.uuid().as_u128() >> 80).unwrap_or(i64::MAX);
    let age = app.clock.now().millis().saturating_sub(made).unsigned_abs();
    u128::from(age) <= ON_ITS_WAY.as_millis()
}

/// Finds a decision, and waits a little for one that is on its way from the replica that made it.
pub(crate) async fn find(
    app: &App,
    tenant: TenantId,
    id: DecisionId,
) -> Result<Option<StoredDecision>, Problem> {
    if let Some(stored) = app.store.decision(tenant, id).await? {
        return Ok(Some(stored));
    }
    if !is_on_its_way(app, id) {
        return Ok(None);
    }
    let until = Instant::now() + CATCH_UP;
    app.log.caught_up(CATCH_UP).await;
    loop {
        let stored = app.store.decision(tenant, id).await?;
        if stored.is_some() || Instant::now() >= until {
            return Ok(stored);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

// === impl OutcomeBody ===

impl OutcomeBody {
    /// Whether it gives back what was reserved, or names whom the task may trust.
    fn eases(&self) -> bool {
        self.result != OutcomeResult::Succeeded || !self.sinks.is_empty()
    }

    fn check(&self) -> Result<(), Problem> {
        for (member, value) in [("bytes", self.bytes), ("cost", self.cost)] {
            if value.is_some_and(|value| value > MOST_CHARGED) {
                return Err(invalid(format!(
                    "`{member}` must be at most {MOST_CHARGED}"
                )));
            }
        }
        for (member, text) in [("source", &self.source), ("destination", &self.destination)] {
            if let Some(text) = text
                && !(1..=TEXT_BYTES).contains(&text.len())
            {
                return Err(invalid(format!(
                    "`{member}` must have 1 to {TEXT_BYTES} bytes"
                )));
            }
        }
        if self
            .error
            .as_ref()
            .is_some_and(|error| error.len() > ERROR_BYTES)
        {
            return Err(invalid(format!(
                "`error` must have at most {ERROR_BYTES} bytes"
            )));
        }
        if self.labels.len() > MOST_LABELS {
            return Err(invalid(format!("`labels` must be at most {MOST_LABELS}")));
        }
        if self.sinks.len() > MOST_SINKS {
            return Err(invalid(format!("`sinks` must be at most {MOST_SINKS}")));
        }
        if self.result != OutcomeResult::Succeeded && !self.sinks.is_empty() {
            let detail = "`sinks` are told of a call that succeeded; no other returns anything";
            return Err(invalid(detail.to_owned()));
        }
        let fits = |sink: &String| (1..=TEXT_BYTES).contains(&sink.trim().len());
        if let Some(place) = self.sinks.iter().position(|sink| !fits(sink)) {
            let detail = format!("`sinks[{place}]` must have 1 to {TEXT_BYTES} bytes");
            return Err(invalid(detail));
        }
        Ok(())
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Kind::INVALID_REQUEST, detail)
}

// === impl Refused ===

impl Refused {
    /// Returns the reason as it is counted and told.
    const fn why(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotYours => "not_yours",
            Self::OwnAgent => "own_agent",
            Self::Denied => "denied",
            Self::Renewal => "renewal",
            Self::Another => "another",
            Self::UntrustedSinks => "untrusted_sinks",
        }
    }

    /// Counts it, and says so.
    fn problem(self, app: &App) -> Problem {
        app.metrics.outcome_refused(self.why());
        let detail = match self {
            Self::Unknown => return Problem::new(Kind::NOT_FOUND, "there is no such decision"),
            Self::NotYours => {
                let detail =
                    "there is no such decision, or it is another principal that asked for it";
                return Problem::new(Kind::NOT_FOUND, detail);
            }
            Self::OwnAgent => {
                "an agent tells of its own calls that they `succeeded`, without `sinks`; what eases is the enforcement \
                 point's to tell"
            }
            Self::Denied => "the decision is a deny, after which nothing happens",
            Self::Renewal => {
                "the decision renews another one; the outcome is told of that, which is the id of its lease"
            }
            Self::Another => "another outcome of this decision was reported before",
            Self::UntrustedSinks => {
                "`sinks` are taken of tools whose integrity is `trusted`, which this decision's is not"
            }
        };
        Problem::new(Kind::OUTCOME_REFUSED, detail).with("why", json!(self.why()))
    }
}
