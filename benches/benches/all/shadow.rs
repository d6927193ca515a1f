//! A shadow beside the bundle in force: what it takes of the threads that answer, and what its own thread takes.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::http::questions;
use crate::load::{Load, Pace, once, request};
use crate::measure::{Effort, Figures, count, threads_cpu};
use crate::report::Report;
use crate::rules::Rules;
use crate::servers::{Core, Installation, Server};
use crate::translate::bundle;

const CONNECTIONS: usize = 64;
/// The thread that works for shadows.
const SHADOW: &str = "remit-shadow";

/// Measures, and notes the target.
///
/// # Errors
///
/// When the server does not start, or answers wrongly.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    println!("\nA shadow beside 1000 rules, a third of which it changes");
    let rules = Rules::new(1_000);
    let policies = bundle(&rules, "a");
    let installation =
        Installation::make(&folder.join("shadow"), Some(&policies), std::iter::empty())?;
    let server = Server::remit(&installation, Core::Any, &[])?;
    let asks = questions(&server, &installation.key, &rules);
    let mut load = Load::connect(server.address, CONNECTIONS, &asks)?;
    let mut draft = policies;
    for source in draft.policies.iter_mut().step_by(3) {
        source.text = source
            .text
            .replace("context.data_class <= 3", "context.data_class <= 2");
    }
    let body = serde_json::to_string(&draft)?;
    let bearer = format!("Bearer {}", installation.key);
    let ask = |method: &str, condition: &str, body: &str| -> io::Result<serde_json::Value> {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("If-None-Match", condition),
        ];
        let asked = request(method, "/v1/shadow", server.address, &headers, body);
        let (status, answer) = once(server.address, &asked)?;
        if status != 200 {
            return Err(io::Error::other(format!("{method}: {status} {answer}")));
        }
        Ok(serde_json::from_str(&answer)?)
    };
    let (mut ratio, mut own) = (Figures::default(), Figures::default());
    let mut told = serde_json::Value::Null;
    let stretch = Duration::from_millis(effort.pick(3_000, 300));
    let measured = |load: &mut Load<'_>| -> io::Result<(f64, f64)> {
        let of = |shadow: bool| threads_cpu(server.pid(), |name| (name == SHADOW) == shadow);
        let (answering, shadow) = (of(false), of(true));
        let answers = count(load.run(Pace::Closed, stretch)?.answers());
        let each = |now: Duration, then: Duration| (now - then).as_secs_f64() * 1e6 / answers;
        Ok((each(of(false), answering), each(of(true), shadow)))
    };
    measured(&mut load)?;
    for _ in 0..effort.pick(7, 1) {
        let (without, _) = measured(&mut load)?;
        ask("PUT", "*", &body)?;
        let (with, shadow) = measured(&mut load)?;
        told = ask("GET", "", "")?;
        ask("DELETE", "", "")?;
        let (after, _) = measured(&mut load)?;
        ratio.push(with * 2.0 / (without + after));
        own.push(shadow);
    }
    println!(
        "  CPU of the threads that answer, with a shadow over without: {ratio}; its own thread {own} µs an answer; of the \
         last stretch {} made again, {} otherwise, {} let go",
        told["decided"], told["differing"], told["dropped"]
    );
    report.at_most(
        "CPU of the answering threads with a shadow over without",
        ratio.median(),
        1.1,
        "times",
    );
    Ok(())
}
