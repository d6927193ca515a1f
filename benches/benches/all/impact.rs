//! Assessing a draft: recorded decisions made again under another bundle, as a share of what it took to make them.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::questions;
use crate::load::{Load, Pace, once, request};
use crate::measure::{Effort, Figures, count};
use crate::report::Report;
use crate::rules::Rules;
use crate::servers::{Core, Installation, Server};
use crate::translate::bundle;

const CONNECTIONS: usize = 64;
/// How long the records may take from the spool into the database.
const SHIPPED: Duration = Duration::from_secs(60);

/// Measures, and notes the target.
///
/// # Errors
///
/// When the server does not start, or answers wrongly.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    let number = effort.pick(100_000, 2_000);
    println!("\nThe impact of a draft over {number} recorded decisions, 1000 rules");
    let rules = Rules::new(1_000);
    let policies = bundle(&rules, "a");
    let installation =
        Installation::make(&folder.join("impact"), Some(&policies), std::iter::empty())?;
    let patient = ("REMIT__LIMITS__REQUEST_DEADLINE_MS", "600000");
    let settings = [(patient.0.to_owned(), patient.1.to_owned())];
    let server = Server::remit(&installation, Core::Any, &settings)?;
    let asks = questions(&server, &installation.key, &rules);
    let mut load = Load::connect(server.address, CONNECTIONS, &asks)?;
    let began = Instant::now();
    let mut made = 0;
    while made < number {
        made += load.run(Pace::Closed, Duration::from_secs(1))?.answers();
    }
    let making = began.elapsed().as_secs_f64() * count(number) / count(made);
    drop(load);

    let mut draft = policies;
    for source in &mut draft.policies {
        source.text = source
            .text
            .replace("context.data_class <= 3", "context.data_class <= 2");
    }
    let body = serde_json::to_string(&draft)?;
    let bearer = format!("Bearer {}", installation.key);
    let headers = [("Authorization", bearer.as_str())];
    let path = format!("/v1/bundle/impact?limit={number}");
    let assess = request("POST", &path, server.address, &headers, &body);
    let mut times = Figures::default();
    let waiting = Instant::now();
    let mut told = serde_json::Value::Null;
    while times.number() < effort.pick(3, 1) {
        let start = Instant::now();
        let (status, answer) = once(server.address, &assess)?;
        let took = start.elapsed().as_secs_f64();
        if status != 200 {
            return Err(io::Error::other(format!("no impact: {status} {answer}")));
        }
        told = serde_json::from_str(&answer)?;
        if told["replayed"] == number {
            times.push(took);
        } else if waiting.elapsed() > SHIPPED {
            return Err(io::Error::other(format!(
                "records are missing: {}",
                told["replayed"]
            )));
        }
    }
    println!(
        "  made in {making:.1} s over HTTP, made again in {times} s: {} the same, otherwise {}",
        told["unchanged"], told["totals"]
    );
    report.at_most(
        format!("impact of a draft over {number} recorded decisions"),
        times.median(),
        10.0,
        "s",
    );
    Ok(())
}
