//! What cases notice of policies that were changed in one place, as tables by policy and by control.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use remit_core::{Bundle, Case};
use remit_engine::{PolicyMutation, Snapshot};
use serde::Serialize;

use crate::diagnostics::Found;
use crate::error::Error;
use crate::output::{Output, Tone, plain};

/// The longest text of a change that is shown, in characters.
const SHOWN: usize = 100;

/// Whether mutants are tried, and how.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Wanted {
    /// Change every enforced policy in one place after another, and tell which changes no case notices.
    #[arg(long)]
    mutants: bool,
    /// Fail when no case notices a mutant, or when one was not tried; implies --mutants.
    #[arg(long)]
    deny_survivors: bool,
    /// How long mutants are tried; those left over are told.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    mutant_time: u64,
}

/// What became of every mutant.
#[derive(Debug, Serialize)]
pub(super) struct Mutated {
    #[serde(flatten)]
    all: Tally,
    /// By control: the mutants of every policy that is annotated with it.
    controls: BTreeMap<String, Tally>,
    policies: Vec<PolicyMutation>,
}

/// How many mutants came to what.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Tally {
    /// How many were tried.
    mutants: usize,
    /// How many failed a case.
    killed: usize,
    /// How many no case noticed.
    survived: usize,
    /// How many the schema refuses.
    invalid: usize,
    /// How many say the same as their policy.
    equivalent: usize,
    /// How many were not tried.
    untried: usize,
}

// === impl Wanted ===

impl Wanted {
    /// Whether mutants are to be tried.
    pub(super) fn wanted(self) -> bool {
        self.mutants || self.deny_survivors
    }

    /// Says what must not be, where that was asked for: mutants that survived or were not tried.
    pub(super) fn refuses(self, mutated: Option<&Mutated>) -> Option<String> {
        mutated.filter(|_| self.deny_survivors)?.unnoticed()
    }
}

// === impl Mutated ===

impl Mutated {
    /// Tries mutants of every policy for as long as is wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Diagnostics`] when no thread can be started for it.
    pub(super) fn try_all(
        snapshot: &Snapshot,
        bundle: &Bundle,
        cases: &[&Case],
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        let time = Duration::from_secs(wanted.mutant_time);
        let tried = snapshot.mutate(&bundle.links, cases, &|| begun.elapsed() < time);
        let policies = tried.map_err(|error| Error::Diagnostics {
            what: "the mutants of the bundle".to_owned(),
            found: Box::new(Found::new(error.diagnostics, bundle)),
        })?;
        let mut all = Tally::default();
        let mut controls: BTreeMap<String, Tally> = BTreeMap::new();
        for policy in &policies {
            all.add(policy);
            for control in &policy.controls {
                controls.entry(control.clone()).or_default().add(policy);
            }
        }
        Ok(Self {
            all,
            controls,
            policies,
        })
    }

    /// Says how many no case has noticed, and how many were not tried, where there are any.
    fn unnoticed(&self) -> Option<String> {
        let Tally {
            survived, untried, ..
        } = self.all;
        (survived + untried > 0)
            .then(|| format!("{survived} mutants survived, {untried} were not tried"))
    }

    /// Lays out the figures by policy and by control, then every change that no case noticed.
    pub(super) fn tables(&self, out: &Output) -> String {
        let columns = |first| {
            [
                first,
                "mutants",
                "killed",
                "survived",
                "invalid",
                "equivalent",
                "untried",
            ]
        };
        let policies = self.policies.iter().map(|policy| {
            let mut tally = Tally::default();
            tally.add(policy);
            tally.row(policy.policy.as_str(), out)
        });
        let mut text = out.table(&columns("policy"), &policies.collect::<Vec<_>>());
        if !self.controls.is_empty() {
            let controls = self.controls.iter();
            let rows: Vec<_> = controls.map(|(name, tally)| tally.row(name, out)).collect();
            text = format!("{text}\n\n{}", out.table(&columns("control"), &rows));
        }
        for policy in &self.policies {
            for survivor in &policy.survivors {
                let place = format!("{}:{}:{}", policy.file, survivor.line, survivor.column);
                text = format!(
                    "{text}\n{} {} ({})  {}\n       {}\n       → {}",
                    out.paint(Tone::Bad, "SURVIVES"),
                    plain(policy.policy.as_str()),
                    survivor.kind.words(),
                    out.paint(Tone::Dim, &place),
                    shown(&survivor.before),
                    shown(&survivor.after),
                );
            }
        }
        text
    }
}

impl fmt::Display for Mutated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            mutants,
            killed,
            survived,
            invalid,
            equivalent,
            untried,
        } = self.all;
        write!(
            f,
            "mutants: {killed} of {mutants} killed, {survived} survived ({invalid} invalid, {equivalent} equivalent, {untried} not tried)"
        )
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, policy: &PolicyMutation) {
        self.mutants += policy.tried();
        self.killed += policy.killed;
        self.survived += policy.survivors.len();
        self.invalid += policy.invalid;
        self.equivalent += policy.equivalent;
        self.untried += policy.untried;
    }

    fn row(&self, name: &str, out: &Output) -> Vec<String> {
        let survived = self.survived.to_string();
        let survived = match self.survived {
            0 => survived,
            _ => out.paint(Tone::Bad, &survived),
        };
        let count = |count: usize| count.to_string();
        vec![
            plain(name),
            count(self.mutants),
            count(self.killed),
            survived,
            count(self.invalid),
            count(self.equivalent),
            count(self.untried),
        ]
    }
}

/// Cuts a text that is too long for a line; what is left out altogether is told.
fn shown(text: &str) -> String {
    if text.is_empty() {
        return "(nothing)".to_owned();
    }
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => plain(&format!("{}…", text.get(..end).unwrap_or_default())),
        None => plain(text),
    }
}
