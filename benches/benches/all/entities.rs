//! Stored entities: memory, rate of loading, and one change, in a process of their own so that nothing else is counted.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use remit_core::{Entity, TenantId};
use remit_engine::Engine;
use serde::{Deserialize, Serialize};

use crate::measure::{Effort, Figures, count, resident_mib};
use crate::report::Report;
use crate::world::{World, entities};

/// How many entities are put in at a time.
const CHUNK: usize = 10_000;

/// What the other process measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    stored: usize,
    bytes_each: f64,
    per_second: f64,
    upsert_p50_us: f64,
    upsert_p99_us: f64,
    upsert_most_us: f64,
}

/// Measures in another process and notes the targets.
///
/// # Errors
///
/// When that process fails.
pub fn run(effort: Effort, report: &mut Report) -> io::Result<()> {
    let number: usize = effort.pick(1_000_000, 20_000);
    let output = Command::new(std::env::current_exe()?)
        .args(["--entities", &number.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    let Measured {
        stored,
        bytes_each,
        per_second,
        upsert_p50_us,
        upsert_p99_us,
        upsert_most_us,
    } = measured;
    println!(
        "\nEntities: {stored} stored, {bytes_each:.0} B resident each, loaded at {per_second:.0}/s; one upsert and its \
         install: median {upsert_p50_us:.0} us, p99 {upsert_p99_us:.0} us, most {upsert_most_us:.0} us"
    );
    report.at_most(
        format!("resident for each of {stored} entities"),
        bytes_each,
        1_024.0,
        "B",
    );
    report.at_least(
        "loading entities into the engine",
        per_second,
        100_000.0,
        "/s",
    );
    report.at_most(
        "one upsert and its install, p99",
        upsert_p99_us / 1e3,
        1.0,
        "ms",
    );
    Ok(())
}

/// Measures in this process, and prints the result as JSON.
pub fn measure(number: usize) {
    let pid = std::process::id();
    let world = World::new(10, 1_000, "p");
    let before = resident_mib(pid);
    let stored_before = world.snapshot.entity_count();
    let (mut snapshot, mut all) = (world.snapshot.clone(), entities(number).peekable());
    let mut took = Duration::ZERO;
    while all.peek().is_some() {
        // Making the entities is the caller's work, and not counted.
        let chunk: Vec<Entity> = all.by_ref().take(CHUNK).collect();
        let start = Instant::now();
        snapshot = snapshot
            .with_entities(&chunk, &[])
            .expect("entities that fit");
        took += start.elapsed();
    }
    let stored = snapshot.entity_count();
    let bytes = (resident_mib(pid) - before) * 1024.0 * 1024.0;
    let tenant = TenantId::from_uuid(uuid::Uuid::nil());
    let engine = Engine::new();
    engine.install(tenant, snapshot);
    let mut rng = StdRng::seed_from_u64(9);
    let agents: Vec<Entity> = entities(number)
        .filter(|entity| entity.uid.kind.ends_with("Agent"))
        .step_by(97)
        .collect();
    let mut upserts = Figures::default();
    for _ in 0..2_000 {
        let mut entity = crate::engine::at(&agents, rng.random_range(0..agents.len())).clone();
        let level = rng.random_range(0..100);
        entity.attrs.insert("level".to_owned(), level.into());
        let start = Instant::now();
        let before = engine.snapshot(tenant).expect("a snapshot");
        let after = before
            .with_entities(&[entity], &[])
            .expect("an entity that fits");
        drop(before);
        engine.install(tenant, after);
        upserts.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let measured = Measured {
        stored,
        bytes_each: bytes / count(stored - stored_before),
        per_second: count(number) / took.as_secs_f64(),
        upsert_p50_us: upserts.median(),
        upsert_p99_us: upserts.at(0.99),
        upsert_most_us: upserts.most(),
    };
    println!("{}", serde_json::to_string(&measured).expect("JSON"));
}
