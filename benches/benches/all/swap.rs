//! Replacing 10,000 policies under load: what the slowest decision takes, and whether any is of two revisions.
//!
//! The server has one core for deciding and compiling alike, so this is the hardest case; quiet stretches before each
//! swap tell what of the slowest decision is the swap's.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use remit_core::{Revision, TenantId};
use remit_engine::{Engine, Snapshot};

use crate::engine::{at, facts};
use crate::http::questions;
use crate::load::{Ask, Load, Pace, once, request};
use crate::measure::{Effort, Figures, count};
use crate::report::Report;
use crate::rules::Rules;
use crate::servers::{Core, Installation, Server, pin_this};
use crate::translate::bundle;

/// Questions a second while policies are replaced.
const RATE: f64 = 500.0;
const CONNECTIONS: usize = 16;

/// Measures, and notes the targets.
///
/// # Errors
///
/// When the server does not start, answers wrongly, or mixes revisions.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    let size = effort.pick(10_000, 500);
    println!("\nReplacing a bundle of {size} policies");
    one_change(effort, size, report);
    in_process(effort, size, report);
    over_http(effort, size, folder, report)
}

/// Compiles the bundle with one policy changed.
fn one_change(effort: Effort, size: usize, report: &mut Report) {
    let mut bundle = bundle(&Rules::new(size), "a");
    let start = Instant::now();
    let mut snapshot = Snapshot::compile(&bundle).expect("a bundle that compiles");
    let whole = start.elapsed().as_secs_f64() * 1e3;
    let mut times = Figures::default();
    for round in 0..effort.pick(9, 3) {
        let place = round * 7 % bundle.policies.len();
        let source = bundle.policies.get_mut(place).expect("a file");
        let before = format!(
            "context.data_class <= {}",
            if round.is_multiple_of(2) { 2 } else { 3 }
        );
        source.text = source.text.replacen(&before, "context.data_class <= 1", 1);
        let start = Instant::now();
        snapshot = snapshot.recompile(&bundle).expect("a bundle that compiles");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("  compiled whole in {whole:.0} ms, with one policy changed in {times} ms");
    report.at_most(
        format!("one policy of {size} changed: compiling, median"),
        times.median(),
        50.0,
        "ms",
    );
}

/// Decides without pause on one thread while another replaces all policies; looks for a decision of two revisions.
fn in_process(effort: Effort, size: usize, report: &mut Report) {
    let rules = Rules::new(size);
    let bundles = ["a", "b"].map(|prefix| bundle(&rules, prefix));
    let [first, _] = &bundles;
    let engine = Engine::new();
    let tenant = TenantId::from_uuid(uuid::Uuid::nil());
    let snapshot = Snapshot::compile(first).expect("a bundle that compiles");
    engine.install(tenant, snapshot.at(Revision::new(0)));
    let calls = rules.calls(1_000).into_iter();
    let calls: Vec<_> = calls
        .map(|(call, allowed)| (call.parsed(), allowed))
        .collect();
    let done = AtomicBool::new(false);
    let decide = || {
        let (mut decided, mut mixed, mut seen) = (0_usize, 0_usize, HashMap::new());
        while !done.load(Ordering::Relaxed) {
            let (question, allowed) = at(&calls, decided);
            let snapshot = engine.snapshot(tenant).expect("a snapshot");
            let decision = snapshot.decide(question, &facts());
            let permitted = decision.verdict == remit_core::Verdict::Permit;
            assert_eq!(permitted, *allowed, "{question:?}");
            let expected = if decision.revision.number().is_multiple_of(2) {
                "a"
            } else {
                "b"
            };
            let mut ids = decision.determining.iter().map(ToString::to_string);
            let whole = ids.all(|id| id.starts_with(expected));
            mixed += usize::from(!whole);
            *seen.entry(decision.revision).or_insert(0_usize) += 1;
            decided += 1;
        }
        (decided, mixed, seen.len())
    };
    let (decided, mixed, revisions) = thread::scope(|scope| {
        let deciding = thread::Builder::new().stack_size(16 << 20);
        let deciding = deciding.spawn_scoped(scope, decide).expect("a thread");
        for revision in 1..=effort.pick(4, 2) {
            let next = at(&bundles, revision);
            let snapshot = engine.snapshot(tenant).expect("a snapshot");
            let next = snapshot.recompile(next).expect("a bundle that compiles");
            engine.install(tenant, next.at(Revision::new(revision as u64)));
            thread::sleep(Duration::from_millis(100));
        }
        done.store(true, Ordering::Relaxed);
        deciding.join().expect("decisions that are right")
    });
    println!("  in process: {decided} decisions over {revisions} revisions, {mixed} of two");
    report.at_most(
        "in process: decisions of two revisions",
        count(mixed),
        0.0,
        "",
    );
}

/// Replaces all policies over HTTP while the server answers at a steady rate.
fn over_http(effort: Effort, size: usize, folder: &Path, report: &mut Report) -> io::Result<()> {
    let rules = Rules::new(size);
    let bundles =
        ["b", "a"].map(|prefix| serde_json::to_string(&bundle(&rules, prefix)).expect("JSON"));
    let installation = Installation::make(
        &folder.join("swap"),
        Some(&bundle(&rules, "a")),
        std::iter::empty(),
    )?;
    let server = Server::remit(&installation, Core::Server, &[])?;
    let asks = questions(&server, &installation.key, &rules);
    pin_this(Core::Load);
    let stretches = stretches(effort, &server, &installation.key, &bundles, &asks);
    pin_this(Core::Any);
    let Stretches { quiet, swap, took } = stretches?;
    let median = quiet.median();
    let slow = |of: &Figures| of.count_above(10.0 * median);
    println!(
        "  over HTTP at {RATE} a second, server on one core: replaced in {took} ms\n    quiet: median {median:.2} ms, p99 \
         {:.2}, slowest {:.2}, {} slower than 10 medians\n    while replacing: median {:.2} ms, p99 {:.2}, slowest {:.2}, {} \
         of {} slower than 10 medians",
        quiet.at(0.99),
        quiet.most(),
        slow(&quiet),
        swap.median(),
        swap.at(0.99),
        swap.most(),
        slow(&swap),
        swap.number(),
    );
    report.note(
        "slowest decision without a swap, in medians",
        format!("{:.1} x", quiet.most() / median),
    );
    report.at_most(
        format!("slowest decision while {size} policies are replaced, in medians"),
        swap.most() / median,
        10.0,
        "x",
    );
    Ok(())
}

struct Stretches {
    quiet: Figures,
    swap: Figures,
    took: Figures,
}

fn stretches(
    effort: Effort,
    server: &Server,
    key: &str,
    bundles: &[String],
    asks: &[Ask],
) -> io::Result<Stretches> {
    let (mut quiet, mut swap, mut took) = (Vec::new(), Vec::new(), Figures::default());
    let mut load = Load::connect(server.address, CONNECTIONS, asks)?;
    let mut seen = HashMap::new();
    load.inspect = Some(Box::new(move |body| one_revision(body, &mut seen)));
    let second = Duration::from_secs(1);
    load.run(Pace::Open(RATE), second)?;
    for round in 0..effort.pick(4, 2) {
        quiet.extend(
            load.run(Pace::Open(RATE), second * effort.pick(3, 1))?
                .latencies,
        );
        let bearer = format!("Bearer {key}");
        let headers = [("Authorization", bearer.as_str()), ("If-Match", "*")];
        let put = request(
            "PUT",
            "/v1/bundle",
            server.address,
            &headers,
            at::<String>(bundles, round),
        );
        let address = server.address;
        let replacing = thread::spawn(move || {
            let start = Instant::now();
            once(address, &put).map(|(status, body)| (status, body, start.elapsed()))
        });
        while !replacing.is_finished() {
            swap.extend(load.run(Pace::Open(RATE), second / 4)?.latencies);
        }
        let replaced = replacing.join().map_err(|_| io::Error::other("a panic"))?;
        let (status, body, elapsed) = replaced?;
        if status != 200 {
            return Err(io::Error::other(format!(
                "the bundle was refused: {status} {body}"
            )));
        }
        took.push(elapsed.as_secs_f64() * 1e3);
        load.run(Pace::Open(RATE), second / 2)?;
    }
    Ok(Stretches {
        quiet: Figures::of(quiet),
        swap: Figures::of(swap),
        took,
    })
}

/// Checks that the policies of an answer are of the one bundle that its revision has.
fn one_revision(body: &str, seen: &mut HashMap<u64, char>) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_str(body).map_err(|it| it.to_string())?;
    let context = &body["context"];
    let revision = context["revision"]
        .as_u64()
        .ok_or("an answer without a revision")?;
    for policy in context["policies"].as_array().into_iter().flatten() {
        let bundle = policy
            .as_str()
            .and_then(|id| id.chars().next())
            .unwrap_or('?');
        let first = *seen.entry(revision).or_insert(bundle);
        if first != bundle {
            return Err(format!("revision {revision} of two bundles: {context}"));
        }
    }
    Ok(())
}
