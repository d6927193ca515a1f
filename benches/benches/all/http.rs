//! HTTP: server CPU per answer, throughput and latency, for the limits, Remit at each setting of its log, and peers.
//!
//! All servers run side by side on one core and are measured in turn, A B C … C B A, by the load on the other core.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::load::{Ask, Load, Outcome, Pace, request};
use crate::measure::{Effort, Figures, count};
use crate::peers::Peer;
use crate::report::Report;
use crate::rules::Rules;
use crate::servers::{Core, Installation, Server, pin_this, shared_setting};
use crate::translate::bundle;

/// Connections of the closed loop.
pub const CONNECTIONS: usize = 64;
/// Rule sets of these sizes.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// Different calls that are asked in turn.
const CALLS: usize = 1_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hyper,
    Axum,
    Local(usize),
    Shared(usize),
    Peer(Peer, usize),
}

struct Row {
    kind: Kind,
    server: Server,
    asks: Vec<Ask>,
    cpu: Figures,
    per_second: Figures,
    full: Latency,
    half: Latency,
}

#[derive(Default)]
struct Latency {
    p50: Figures,
    p99: Figures,
}

/// Measures, prints the table, and notes the targets.
///
/// # Errors
///
/// When a server of our own does not start, or one answers wrongly.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    let mut rows = start(effort, folder, report)?;
    if !pin_this(Core::Load) {
        println!("NOT PINNED: there is one core, or no taskset; figures of servers and load mix");
    }
    let measured = measure(effort, &mut rows);
    pin_this(Core::Any);
    measured?;
    print(&rows)?;
    targets(&rows, report);
    Ok(())
}

/// Starts every server there is.
fn start(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<Vec<Row>> {
    let all_right = |server: &Server, rules: &Rules| -> Vec<Ask> {
        let asks = rules.calls(CALLS).into_iter();
        asks.map(|(call, _)| Ask {
            bytes: evaluation(server, "", &call.question().to_string()),
            expected: vec!["\"decision\":true"],
        })
        .collect()
    };
    let sizes = effort.pick(&SIZES[..], &SIZES[..2]);
    let smallest = Rules::new(10);
    let mut rows = Vec::new();
    for (kind, name) in [(Kind::Hyper, "hyper"), (Kind::Axum, "axum")] {
        let server = Server::limit(name, folder)?;
        let asks = all_right(&server, &smallest);
        rows.push(Row::new(kind, server, asks));
    }
    let shared = shared_setting();
    if shared.is_none() {
        report.missing(
            "HTTP with the log `shared`",
            "this build has no such setting",
        );
    }
    let settings: Vec<Vec<(String, String)>> = [Some(Vec::new()), shared.map(|it| vec![it])]
        .into_iter()
        .flatten()
        .collect();
    for (place, settings) in settings.iter().enumerate() {
        for size in sizes {
            let rules = Rules::new(*size);
            let folder = folder.join(format!("remit-{place}-{size}"));
            let installation =
                Installation::make(&folder, Some(&bundle(&rules, "r")), std::iter::empty())?;
            let server = Server::remit(&installation, Core::Server, settings)?;
            let asks = questions(&server, &installation.key, &rules);
            let kind = if place == 0 {
                Kind::Local
            } else {
                Kind::Shared
            };
            rows.push(Row::new(kind(*size), server, asks));
        }
    }
    for peer in Peer::ALL {
        for size in sizes {
            // cedar-agent clones every policy for each request.
            if peer == Peer::CedarAgent && *size > 1_000 {
                continue;
            }
            let rules = Rules::new(*size);
            match peer.start(&rules, &folder.join(format!("{peer:?}-{size}"))) {
                Ok(server) => {
                    let calls = rules.calls(CALLS).into_iter();
                    let asks = calls
                        .map(|(call, allowed)| peer.ask(&server, &call, allowed))
                        .collect();
                    rows.push(Row::new(Kind::Peer(peer, *size), server, asks));
                }
                Err(why) => {
                    report.missing(format!("against {peer:?}, {size} rules"), why.to_string());
                    break;
                }
            }
        }
    }
    Ok(rows)
}

/// Measures all in turn: saturated, then at half of what each could do.
fn measure(effort: Effort, rows: &mut [Row]) -> io::Result<()> {
    let (warm, time) = effort.pick((500, 1_500), (100, 200));
    let time = Duration::from_millis(time);
    for row in rows.iter() {
        row.load(Pace::Closed, Duration::from_millis(warm))?;
    }
    for round in 0..effort.pick(5, 2) {
        in_turn(rows, round, |row| {
            let before = row.server.cpu();
            let outcome = row.load(Pace::Closed, time)?;
            let cpu = row.server.cpu() - before;
            row.cpu
                .push(cpu.as_secs_f64() * 1e6 / count(outcome.answers().max(1)));
            row.per_second.push(outcome.per_second());
            row.full.push(&outcome);
            Ok(())
        })?;
    }
    for round in 0..effort.pick(3, 1) {
        in_turn(rows, round, |row| {
            let outcome = row.load(Pace::Open(row.per_second.median() / 2.0), time)?;
            row.half.push(&outcome);
            Ok(())
        })?;
    }
    Ok(())
}

/// Does something with every row, every second time backwards.
fn in_turn(
    rows: &mut [Row],
    round: usize,
    mut work: impl FnMut(&mut Row) -> io::Result<()>,
) -> io::Result<()> {
    if round.is_multiple_of(2) {
        rows.iter_mut().try_for_each(&mut work)
    } else {
        rows.iter_mut().rev().try_for_each(&mut work)
    }
}

fn print(rows: &[Row]) -> io::Result<()> {
    let limit = find(rows, Kind::Axum);
    let mut out = io::stdout();
    writeln!(
        out,
        "\n{:<56} {:>22} {:>7} {:>8} {:>6} {:>15} {:>15} {:>7}",
        "HTTP, medians",
        "CPU us (least-most)",
        "x limit",
        "per s",
        "share",
        "p50/p99 ms full",
        "half load",
        "MiB"
    )?;
    for row in rows {
        let of_limit = |of: fn(&Row) -> f64| limit.map_or(f64::NAN, |limit| of(row) / of(limit));
        writeln!(
            out,
            "{:<56} {:>22} {:>7.2} {:>8.0} {:>4.0} % {:>15} {:>15} {:>7.1}",
            row.kind.name(),
            row.cpu.to_string(),
            of_limit(Row::cpu),
            row.per_second.median(),
            100.0 * of_limit(Row::throughput),
            row.full.text(),
            row.half.text(),
            row.server.mib(),
        )?;
    }
    Ok(())
}

/// Notes what the targets are about.
fn targets(rows: &[Row], report: &mut Report) {
    let cpu = |kind| find(rows, kind).map(Row::cpu);
    let ratio = |one, other| Some(cpu(one)? / cpu(other)?);
    for size in SIZES {
        if let Some(ratio) = ratio(Kind::Local(size), Kind::Axum) {
            let what = format!("HTTP, log local, {size} rules: CPU over axum parse-only");
            report.at_most(what, ratio, 2.0, "x");
        }
    }
    let throughput = |kind| find(rows, kind).map(Row::throughput);
    if let (Some(ours), Some(limit)) = (throughput(Kind::Local(10)), throughput(Kind::Axum)) {
        let what = "HTTP, log local, 10 rules: throughput of axum parse-only";
        report.at_least(what, 100.0 * ours / limit, 50.0, "%");
    }
    if let Some(ratio) = ratio(Kind::Local(10_000), Kind::Local(10)) {
        report.at_most("HTTP, CPU at 10,000 rules over at 10", ratio, 1.2, "x");
    }
    for (peer, size, wanted) in [
        (Peer::Cerbos, 10, 15.0),
        (Peer::Cerbos, 10_000, 80.0),
        (Peer::CerbosKinds, 10, 15.0),
        (Peer::CerbosKinds, 10_000, 80.0),
        (Peer::Opa, 10, 7.0),
        (Peer::Opa, 10_000, 8.0),
    ] {
        if let Some(ratio) = ratio(Kind::Peer(peer, size), Kind::Local(size)) {
            let what = format!("{peer:?} with its log on, {size} rules: CPU over ours");
            report.at_least(what, ratio, wanted, "x");
        }
    }
    if let Some(row) = find(rows, Kind::Local(10_000)) {
        let what = "resident at 10,000 rules, after load";
        report.at_most(what, row.server.mib(), 150.0, "MiB");
    }
}

fn find(rows: &[Row], kind: Kind) -> Option<&Row> {
    rows.iter().find(|row| row.kind == kind)
}

/// Writes the questions of a rule set, with what is right.
pub fn questions(server: &Server, key: &str, rules: &Rules) -> Vec<Ask> {
    let calls = rules.calls(CALLS).into_iter();
    calls
        .map(|(call, allowed)| Ask {
            bytes: evaluation(server, key, &call.question().to_string()),
            expected: vec![if allowed {
                "\"decision\":true"
            } else {
                "\"decision\":false"
            }],
        })
        .collect()
}

/// Writes one AuthZEN evaluation.
pub fn evaluation(server: &Server, key: &str, body: &str) -> Vec<u8> {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str())];
    request(
        "POST",
        "/access/v1/evaluation",
        server.address,
        &headers,
        body,
    )
}

// === impl Kind ===

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Hyper => "raw hyper, constant answer".to_owned(),
            Self::Axum => "axum, body into a typed struct, constant (the limit)".to_owned(),
            Self::Local(size) => format!("Remit, log local (durable), {size} rules"),
            Self::Shared(size) => format!("Remit, log shared (durable), {size} rules"),
            Self::Peer(peer, size) => format!("{}, {size}", peer.name()),
        }
    }
}

// === impl Row ===

impl Row {
    fn new(kind: Kind, server: Server, asks: Vec<Ask>) -> Self {
        Self {
            kind,
            server,
            asks,
            cpu: Figures::default(),
            per_second: Figures::default(),
            full: Latency::default(),
            half: Latency::default(),
        }
    }

    fn load(&self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        Load::connect(self.server.address, CONNECTIONS, &self.asks)
            .and_then(|mut load| load.run(pace, time))
            .map_err(|why| io::Error::other(format!("{}: {why}", self.kind.name())))
    }

    fn cpu(&self) -> f64 {
        self.cpu.median()
    }

    fn throughput(&self) -> f64 {
        self.per_second.median()
    }
}

// === impl Latency ===

impl Latency {
    fn push(&mut self, outcome: &Outcome) {
        self.p50.push(outcome.latency(0.5));
        self.p99.push(outcome.latency(0.99));
    }

    fn text(&self) -> String {
        format!("{:.2}/{:.2}", self.p50.median(), self.p99.median())
    }
}
