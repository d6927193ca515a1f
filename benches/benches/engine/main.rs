//! Engine CPU per decision against Cedar's own `Authorizer`, at 10, 1,000 and 100,000 policies.
//!
//! Both decide the same questions over the same policies and entities, in one process and in turn, A B A B …, so that
//! whatever else the machine does hits both; every pair of answers is compared. The figure is the CPU time of the
//! thread (`/proc/thread-self/schedstat`) divided by the decisions. For Cedar the request and its entities are built
//! beforehand and not counted; for the engine everything from the AuthZEN question on is.
//!
//! `cargo bench -p remit-benches --bench engine -- [POLICIES…]`

mod world;

use std::fs;
use std::io::{self, Write};

use cedar_policy::{Authorizer, Decision};
use remit_core::{Facts, KeyId, Question, Timestamp, Verdict};

use self::world::World;

/// How often both are measured, in turn.
const ROUNDS: usize = 9;

fn main() {
    let asked: Vec<usize> = std::env::args()
        .filter_map(|text| text.parse().ok())
        .collect();
    let sizes = if asked.is_empty() {
        vec![10, 1_000, 100_000]
    } else {
        asked
    };
    let bench = move || sizes.into_iter().try_for_each(measure);
    // Decisions want a stack of 16 MiB.
    let thread = std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(bench)
        .expect("a thread");
    thread
        .join()
        .expect("both give equal answers")
        .expect("the terminal");
}

/// Measures one size and prints its row.
fn measure(policies: usize) -> io::Result<()> {
    let mut out = io::stdout();
    let world = World::new(policies);
    // One round takes some milliseconds on either side, or one call where a call takes longer.
    let (ours, theirs) = (2_000, (400_000 / policies).clamp(2, 2_000));
    let mut engine = Vec::with_capacity(ROUNDS);
    let mut authorizer = Vec::with_capacity(ROUNDS);
    let (mut permits, mut matched) = (0_usize, 0_usize);
    for round in 0..=ROUNDS {
        let questions = world.questions(round, ours);
        let requests: Vec<_> = questions
            .iter()
            .take(theirs)
            .map(|question| world.request(question))
            .collect();

        let start = cpu();
        let decisions: Vec<_> = questions
            .iter()
            .map(|question| world.snapshot.decide(question, &facts()))
            .collect();
        let ours_took = cpu() - start;

        let start = cpu();
        let responses: Vec<_> = requests
            .iter()
            .map(|request| {
                Authorizer::new().is_authorized(request, &world.policies, &world.entities)
            })
            .collect();
        let theirs_took = cpu() - start;

        for ((question, decision), response) in questions.iter().zip(&decisions).zip(&responses) {
            compare(question, decision, response);
        }
        // The first round warms both up.
        if round > 0 {
            permits += decisions
                .iter()
                .filter(|one| one.verdict == Verdict::Permit)
                .count();
            matched += decisions
                .iter()
                .filter(|one| !one.determining.is_empty())
                .count();
            engine.push(ours_took / count(questions.len()) / 1_000.0);
            authorizer.push(theirs_took / count(requests.len()) / 1_000.0);
        }
    }
    let (engine, authorizer) = (Figures::of(engine), Figures::of(authorizer));
    let all = count(ROUNDS * ours);
    writeln!(
        out,
        "{policies:>7} policies: engine {engine} µs, Authorizer {authorizer} µs, ratio {:.1}; \
         {:.0} % permitted, {:.0} % determined by a policy",
        authorizer.median / engine.median,
        100.0 * count(permits) / all,
        100.0 * count(matched) / all,
    )
}

/// Checks that both gave the same answer for the same policies.
fn compare(
    question: &Question,
    decision: &remit_core::Decision,
    response: &cedar_policy::Response,
) {
    let permitted = response.decision() == Decision::Allow;
    assert_eq!(
        decision.verdict == Verdict::Permit,
        permitted,
        "{question:?}"
    );
    let mut reasons: Vec<String> = response
        .diagnostics()
        .reason()
        .map(ToString::to_string)
        .collect();
    reasons.sort();
    let determining: Vec<String> = decision
        .determining
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(determining, reasons, "{question:?}");
}

/// The facts of every question.
fn facts() -> Facts {
    Facts {
        now: Timestamp::from_micros(1_700_000_000_000_000),
        caller: KeyId::from_uuid(uuid::Uuid::nil()),
        environment: "live".to_owned(),
        approved: true,
    }
}

/// Returns the CPU time of this thread in nanoseconds.
fn cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = text
        .split_ascii_whitespace()
        .next()
        .and_then(|text| text.parse().ok());
    first.expect("nanoseconds on a processor")
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

/// The middle of some figures, and how far they spread.
struct Figures {
    median: f64,
    least: f64,
    most: f64,
}

// === impl Figures ===

impl Figures {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        Self {
            median: at(figures.len() / 2),
            least: at(0),
            most: at(figures.len().saturating_sub(1)),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} ({:.1} to {:.1})",
            self.median, self.least, self.most
        )
    }
}
