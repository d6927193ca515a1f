//! The books of a run: what clients were answered, against what the log holds.
//!
//! The database is read past Remit, so that nothing can be hidden by what Remit makes of a row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use remit_tests::sql;
use serde_json::Value;

use crate::load::{Call, Outcome};
use crate::pdp::Plan;

/// What the database holds of every decision: who recorded it as which, and what the record itself says.
const ENTRIES: &str = "SELECT replica::text, sequence::text, body::json ->> 'id', \
    (body::json -> 'decision') ->> 'verdict' FROM decisions";

/// What was asked and answered, and what processes that are gone left in their spool.
#[derive(Debug, Default)]
pub struct Ledger {
    asked: usize,
    /// Whether each decision that was answered permits.
    answered: BTreeMap<String, bool>,
    /// Answers under the id of another answer.
    repeated: usize,
    /// The last record that each replica left in its spool.
    spooled: BTreeMap<String, u64>,
    torn: usize,
    damage: Vec<String>,
}

/// One record as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The replica that recorded it.
    pub replica: String,
    /// Its number among the records of that replica, which begin at 1.
    pub sequence: u64,
    /// The id of the decision.
    pub id: String,
    /// Whether it permits.
    pub permit: bool,
}

/// What the comparison comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Questions that were sent, answered or not.
    pub asked: usize,
    /// Questions whose decision was read by its client.
    pub answered: usize,
    /// Decisions in the database, each counted once.
    pub recorded: usize,
    /// Answers that are not in the database.
    pub missing: usize,
    /// Answers that the database has otherwise than they were given.
    pub differing: usize,
    /// Records of one decision, or of one place in the chain, beyond the first; and answers alike.
    pub duplicates: usize,
    /// Spools that ended in a write cut short; no fault, because nothing in it was answered.
    pub torn: usize,
    /// Places in the chain of a replica that no record has.
    pub gaps: usize,
    /// What `remit log fsck` found wrong.
    pub damage: Vec<String>,
}

// === impl Ledger ===

impl Ledger {
    /// Begins empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes down what clients asked and were answered.
    pub fn hear(&mut self, calls: &[Call]) {
        for call in calls {
            match &call.outcome {
                Outcome::Lost { unsent: true, .. } => {}
                Outcome::Lost { .. } | Outcome::Refused { .. } => self.asked += 1,
                Outcome::Decided { id, permit, .. } => {
                    self.asked += 1;
                    if self.answered.insert(id.clone(), *permit).is_some() {
                        self.repeated += 1;
                    }
                }
            }
        }
    }

    /// Writes down what is in the spool of a process that is gone: all of it must come into the database.
    pub fn inspect(&mut self, plan: &Plan) {
        let spool = plan.spool();
        let arguments = ["log", "fsck", "-o", "json", spool.to_str().unwrap()];
        // It ends with another code when it finds something wrong; the report says what.
        let output = plan.command(&arguments).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for problem in report["problems"].as_array().unwrap() {
            self.damage.push(problem.to_string());
        }
        if report["torn_tail_bytes"].as_u64().unwrap() > 0 {
            self.torn += 1;
        }
        for left in report["replicas"].as_array().unwrap() {
            let replica = left["replica"].as_str().unwrap();
            let last = left["last_sequence"].as_u64().unwrap();
            let known = self.spooled.entry(replica.to_owned()).or_default();
            *known = last.max(*known);
        }
    }

    /// Reads the log in the Postgres database at `url`, to which everything has been shipped, and compares.
    pub async fn totals(&self, url: &str) -> Totals {
        let rows = sql::texts(url, ENTRIES).await;
        let entries: Vec<Entry> = rows.iter().map(|row| Entry::of(row)).collect();
        self.against(&entries)
    }

    /// Compares with the records given.
    pub fn against(&self, entries: &[Entry]) -> Totals {
        let mut decisions = BTreeMap::<&str, bool>::new();
        let mut chains = BTreeMap::<&str, BTreeSet<u64>>::new();
        for replica in self.spooled.keys() {
            chains.entry(replica).or_default();
        }
        let mut duplicates = self.repeated;
        for entry in entries {
            let chain = chains.entry(&entry.replica).or_default();
            let place = chain.insert(entry.sequence);
            let decision = decisions.insert(&entry.id, entry.permit).is_none();
            if !place || !decision {
                duplicates += 1;
            }
        }
        let gaps = chains.iter().map(|(replica, chain)| {
            let spooled = self.spooled.get(*replica).copied().unwrap_or_default();
            let last = chain.last().copied().unwrap_or_default().max(spooled);
            usize::try_from(last).unwrap() - chain.len()
        });
        let found = |id: &String| decisions.get(id.as_str());
        let (mut missing, mut differing) = (0, 0);
        for (id, permit) in &self.answered {
            match found(id) {
                None => missing += 1,
                Some(recorded) if recorded != permit => differing += 1,
                Some(_) => {}
            }
        }
        Totals {
            asked: self.asked,
            answered: self.answered.len(),
            recorded: decisions.len(),
            missing,
            differing,
            duplicates,
            torn: self.torn,
            gaps: gaps.sum(),
            damage: self.damage.clone(),
        }
    }
}

// === impl Entry ===

impl Entry {
    fn of(row: &[String]) -> Self {
        let [replica, sequence, id, verdict] = row else {
            panic!("{row:?}")
        };
        Self {
            replica: replica.clone(),
            sequence: sequence.parse().unwrap(),
            id: id.clone(),
            permit: verdict == "permit",
        }
    }
}

// === impl Totals ===

impl Totals {
    /// Says what is wrong: whatever was answered is recorded as it was answered, once, in an unbroken chain.
    ///
    /// # Errors
    ///
    /// The totals, when something is.
    pub fn check(&self) -> Result<(), String> {
        let clean = self.missing + self.differing + self.duplicates + self.gaps == 0;
        // More may be recorded than was answered, never more than was asked.
        let bounded = self.answered <= self.recorded && self.recorded <= self.asked;
        if clean && bounded && self.damage.is_empty() {
            Ok(())
        } else {
            Err(format!("{self}: {:?}", self.damage))
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "asked {}, answered {}, recorded {}, missing {}, differing {}, duplicates {}, torn tails {}, gaps {}, \
             damaged {}",
            self.asked,
            self.answered,
            self.recorded,
            self.missing,
            self.differing,
            self.duplicates,
            self.torn,
            self.gaps,
            self.damage.len()
        )
    }
}
