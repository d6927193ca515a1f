//! Starting: memory of an empty server, and how long until the first decision.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::evaluation;
use crate::load::once;
use crate::measure::{Effort, Figures, count};
use crate::report::Report;
use crate::servers::{Core, Installation, Server};
use crate::world::{World, entities};

/// Measures, and notes the targets.
///
/// # Errors
///
/// When a server does not start or answer.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    println!("\nStarting");
    let (mut times, mut memory) = (Figures::default(), Figures::default());
    for round in 0..effort.pick(5, 1) {
        let start = Instant::now();
        let (server, key) = Server::dev(&folder.join(format!("starter-{round}")))?;
        decide(&server, &key, STARTER)?;
        times.push(start.elapsed().as_secs_f64());
        memory.push(server.mib());
    }
    println!("  starter bundle, new data folder: first decision after {times} s; {memory} MiB");
    report.at_most(
        "start to first decision, starter bundle",
        times.median(),
        1.0,
        "s",
    );
    report.at_most(
        "resident with the starter bundle, idle",
        memory.median(),
        40.0,
        "MiB",
    );

    let (policies, number) = effort.pick((10_000, 1_000_000), (100, 20_000));
    let world = World::new(policies, 10_000.min(number), "p");
    let bundle = world.bundle();
    let question = world
        .questions(0, 1)
        .into_iter()
        .next()
        .expect("a question");
    let question = serde_json::to_string(&question)?;
    drop(world);
    let mut memory = Vec::new();
    for (name, number) in [("none", 0), ("all", number)] {
        let start = Instant::now();
        let all = entities(number.max(20)).take(number);
        let installation =
            Installation::make(&folder.join(format!("start-{name}")), Some(&bundle), all)?;
        let filled = start.elapsed().as_secs_f64();
        let mut times = Figures::default();
        let mut resident = Figures::default();
        for _ in 0..effort.pick(2, 1) {
            let start = Instant::now();
            let server = Server::remit(&installation, Core::Any, &[])?;
            decide(&server, &installation.key, &question)?;
            times.push(start.elapsed().as_secs_f64());
            // What starting left over is given back within a moment, or never.
            std::thread::sleep(Duration::from_millis(300));
            resident.push(server.mib());
        }
        println!(
            "  {policies} policies, {number} entities (written in {filled:.0} s): first decision after {times} s; {resident} MiB"
        );
        if number > 0 {
            let what = format!("start to first decision, {policies} policies, {number} entities");
            report.at_most(what, times.median(), 10.0, "s");
        }
        memory.push(resident.median());
    }
    if let [without, with] = memory.as_slice() {
        let each = (with - without) * 1024.0 * 1024.0 / count(number);
        report.at_most(
            "resident of the server for each of them",
            each,
            1_024.0,
            "B",
        );
    }
    Ok(())
}

/// A question about the starter bundle; any answer is a decision.
const STARTER: &str = r#"{"subject":{"type":"Agent","id":"invoice-bot"},"action":{"name":"read"},"resource":{"type":"Tool","id":"erp"}}"#;

/// Asks once; any decision will do.
fn decide(server: &Server, key: &str, body: &str) -> io::Result<()> {
    let (status, body) = once(server.address, &evaluation(server, key, body))?;
    if status == 200 && body.contains("\"decision\":") {
        return Ok(());
    }
    Err(io::Error::other(format!("no decision: {status} {body}")))
}
