//! Every figure of the README and every target, by one command: `cargo bench -p remit-benches`.
//!
//! `-- http engine peers swap impact shadow budgets approvals entities start` picks sections; `--quick` only proves that
//! everything runs. The method is in `benches/README.md`. Nothing here asserts a time: answers are checked, figures are printed.

mod approvals;
mod budgets;
mod engine;
mod entities;
mod http;
mod impact;
mod limits;
mod load;
mod measure;
mod peers;
mod postgres;
mod report;
mod rules;
mod servers;
mod shadow;
mod start;
mod swap;
mod tasks;
mod translate;
mod world;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use self::measure::Effort;
use self::report::Report;

/// The one of the `remit` binary, for the limits and the engine alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The parts, in the order in which they run: what needs a quiet machine most comes first.
const SECTIONS: [&str; 10] = [
    "http",
    "engine",
    "peers",
    "swap",
    "impact",
    "shadow",
    "budgets",
    "approvals",
    "entities",
    "start",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--serve", which, ready] => {
            limits::serve(which, Path::new(ready));
            ExitCode::SUCCESS
        }
        ["--entities", number] => {
            let number = number.parse().expect("a number of entities");
            deep(move || entities::measure(number));
            ExitCode::SUCCESS
        }
        _ => deep(move || bench(&arguments)),
    }
}

/// Runs on a thread with the stack that decisions want.
fn deep<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(16 << 20);
    let running = thread.spawn(work).expect("a thread");
    match running.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs the sections asked for, and prints what came of the targets.
fn bench(arguments: &[String]) -> ExitCode {
    let effort = Effort {
        quick: arguments.iter().any(|it| it == "--quick"),
    };
    // Cargo says `--bench` to every benchmark.
    let asked: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|it| !it.starts_with("--"))
        .collect();
    if let Some(unknown) = asked.iter().find(|it| !SECTIONS.contains(it)) {
        println!(
            "there is no section `{unknown}`; there are {}",
            SECTIONS.join(", ")
        );
        return ExitCode::FAILURE;
    }
    // Beside the build, so that the decision log is on a disk and not in a `/tmp` of memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let mut report = Report::default();
    let mut failed = false;
    let start = Instant::now();
    for section in SECTIONS {
        if !(asked.is_empty() || asked.contains(&section)) {
            continue;
        }
        let began = Instant::now();
        if let Err(why) = run(section, effort, folder.path(), &mut report) {
            println!("{section}: {why}");
            report.missing(format!("section {section}"), "it failed, see above");
            failed = true;
        }
        println!("[{section}: {:.0} s]", began.elapsed().as_secs_f64());
    }
    println!(
        "\n{}{}[{:.0} s]",
        report.table(),
        effort.pick("", "QUICK: these figures mean nothing. "),
        start.elapsed().as_secs_f64()
    );
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run(section: &str, effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    match section {
        "http" => http::run(effort, folder, report),
        "engine" => engine::run(effort, report),
        "peers" => engine::peers(effort, report),
        "swap" => swap::run(effort, folder, report),
        "impact" => impact::run(effort, folder, report),
        "shadow" => shadow::run(effort, folder, report),
        "budgets" => budgets::run(effort, folder, report),
        "approvals" => approvals::run(effort, folder, report),
        "entities" => entities::run(effort, report),
        _ => start::run(effort, folder, report),
    }
}
