//! A disk that has no room, or that fails: F7, F8.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use remit_chaos::{Call, Disk, Load, Outcome, Pdp, Pg, Plan, Proxy, Row, Strace, strace};

use crate::recorded;

/// How soon after there is room again it must be ready: the log tries its disk every second.
const HEALED: Duration = Duration::from_secs(20);

/// Checks that every answer is recorded as it was given, and everything else refused for the log's sake.
///
/// Returns how many were answered, and how many refused.
fn answered_or_refused(
    calls: &[Call],
    all: &BTreeMap<String, bool>,
) -> Result<(usize, usize), String> {
    let (mut answered, mut refused) = (0, 0);
    for call in calls {
        match &call.outcome {
            Outcome::Decided { id, permit, .. } if all.get(id) == Some(permit) => answered += 1,
            Outcome::Refused { status: 503, body } if body.contains("could not be recorded") => {
                refused += 1;
            }
            _ => return Err(format!("neither recorded nor refused: {call:?}")),
        }
    }
    Ok((answered, refused))
}

/// Leaves out the questions that a killed server took with it.
fn without_lost(mut calls: Vec<Call>) -> Vec<Call> {
    calls.retain(|call| !matches!(call.outcome, Outcome::Lost { .. }));
    calls
}

/// Runs `remit log fsck` on the spool, which fails the test where anything is wrong.
fn fsck(plan: &Plan) {
    plan.run(&["log", "fsck", plan.spool().to_str().unwrap()]);
}

/// Keeps the disk full under load for a while, then makes room; returns the calls, and how long it took to be ready.
async fn full_for_a_while(pdp: &Pdp, disk: &Disk, row: &mut Row) -> (Vec<Call>, Duration) {
    let load = Load::start(pdp, 4, Duration::from_millis(10));
    load.until_decided(100).await;
    tokio::time::sleep(Duration::from_millis(row.below(500))).await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        // What is shipped meanwhile gives room back, and the next segment may get it first.
        disk.fill();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    disk.empty();
    let ready = pdp.until_ready().await;
    load.until_decided(100).await;
    (load.stop().await, ready)
}

/// F7: with its disk full Remit answers nothing that it cannot record, and goes on by itself when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_spool_disk_full() {
    let mut row = Row::new("F7");
    let Some(postgres) = Pg::start() else { return };
    let plan = Plan::new(&postgres.fresh_database()).prepared().await;
    let Some(disk) = Disk::mount(&plan.spool(), 4_096) else {
        return;
    };
    let pdp = plan.start().await;
    let (calls, healed) = full_for_a_while(&pdp, &disk, &mut row).await;
    assert!(healed < HEALED, "{healed:?}");
    assert!(pdp.metric("remit_audit_failing").await < 0.5);
    let (answered, refused) = answered_or_refused(&calls, &recorded(&pdp).await).unwrap();
    assert!(refused > 0, "the disk was never full");

    // Killed while it is full, it leaves nothing behind that a later start takes for a record, or does not read.
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    load.until_decided(50).await;
    disk.fill();
    pdp.until_unready().await;
    pdp.kill();
    let calls = without_lost(load.stop().await);
    disk.fill();
    fsck(&plan);
    let mut homeless = plan.spawn();
    let began = Instant::now();
    let ended = loop {
        if let Some(status) = homeless.ended() {
            break Some(status);
        }
        // The end of a record that it cut off may have been all the room it needed.
        if homeless.ready().await.is_some() {
            break None;
        }
        assert!(began.elapsed() < HEALED * 4, "{}", homeless.output());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    if let Some(status) = ended {
        let said = homeless.output();
        assert!(
            !status.success() && said.contains("No space left"),
            "{status}: {said}"
        );
    }
    drop(homeless);
    disk.empty();
    let pdp = plan.start().await;
    answered_or_refused(&calls, &recorded(&pdp).await).unwrap();
    assert!(pdp.stop().await.success());
    fsck(&plan);

    // The same check on a server that answers also what its log refuses.
    let unprotected = plan.beside().without("RefuseUnrecorded");
    let disk = Disk::mount(&unprotected.spool(), 4_096).unwrap();
    let pdp = unprotected.start().await;
    let (calls, _) = full_for_a_while(&pdp, &disk, &mut row).await;
    let control = answered_or_refused(&calls, &recorded(&pdp).await).unwrap_err();
    assert!(control.contains("Decided"), "{control}");
    row.passed(
        &format!(
            "{answered} answered and recorded, {refused} refused, ready {} ms after there was room",
            healed.as_millis()
        ),
        "failed as it must: answered and not recorded",
    );
}

/// The thread that writes the decision log.
const WRITER: &str = "remit-log";

/// What fails while the server runs: in the writing thread, or in all of them.
const RUNNING: &[(Option<&str>, &str, &str)] = &[
    (Some(WRITER), "pwrite64", "1"),
    (Some(WRITER), "pwrite64", "2"),
    // The record, then the head of the segment after it, then that of the one after that.
    (Some(WRITER), "pwrite64", "1..3"),
    (Some(WRITER), "fdatasync", "1"),
    (Some(WRITER), "fdatasync", "2"),
    (Some(WRITER), "fdatasync", "1..3"),
    // The folder, once a new segment is named in it.
    (Some(WRITER), "fsync", "1"),
    (Some(WRITER), "fsync", "1..2"),
    // The segment, the folder.
    (Some(WRITER), "openat", "1"),
    (Some(WRITER), "openat", "2"),
    (Some(WRITER), "openat", "1..3"),
    // Also what is read to be shipped, and what is removed after.
    (None, "openat", "1..2"),
    (None, "unlink", "1..2"),
];

/// What fails while the server starts: where, and which of the calls there. `None` is every file.
const STARTING: &[(Option<Place>, &str, &str)] = &[
    (Some(Place::Lock), "openat", "1"),
    // To list it, and to sync it.
    (Some(Place::Folder), "openat", "1"),
    (Some(Place::Folder), "openat", "2"),
    (Some(Place::Folder), "fsync", "1"),
    // To read it, and to cut it.
    (Some(Place::Segment), "openat", "1"),
    (Some(Place::Segment), "openat", "2"),
    (Some(Place::Segment), "ftruncate", "1"),
    (Some(Place::Segment), "fsync", "1"),
    (None, "pwrite64", "1"),
    (None, "fdatasync", "1"),
];

/// A file of the spool as it is before a start.
#[derive(Debug, Clone, Copy)]
enum Place {
    Lock,
    Folder,
    Segment,
}

/// Returns the last segment of the spool that holds something.
fn last_segment(plan: &Plan) -> PathBuf {
    let mut segments: Vec<PathBuf> = fs::read_dir(plan.spool())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// Makes the calls of [`RUNNING`] fail in a server under load, one after the other; it is killed in the end.
async fn fail_while_running(plan: &Plan, proxy: &Proxy, trace: &Path) -> Vec<Call> {
    let pdp = plan.start().await;
    let mut calls = Vec::new();
    for (thread, call, which) in RUNNING {
        // What the writer does stays in the folder to be looked at, until the database is there again.
        proxy.blackhole(thread.is_some());
        let load = Load::start(&pdp, 3, Duration::from_millis(5));
        load.until_decided(10).await;
        let inject = format!("inject={call}:error=EIO:when={which}");
        let strace = Strace::attach(&pdp, *thread, &[&format!("trace={call}"), &inject], trace);
        let count = which.split_once("..").map_or("1", |(_, last)| last);
        strace.until_injected(count.parse().unwrap()).await;
        strace.detach();
        // It goes on by itself.
        load.until_decided(20).await;
        calls.extend(load.stop().await);
        if thread.is_some() {
            fsck(plan);
        }
    }
    proxy.blackhole(true);
    let load = Load::start(&pdp, 3, Duration::from_millis(5));
    load.until_decided(20).await;
    pdp.kill();
    calls.extend(without_lost(load.stop().await));
    fsck(plan);
    proxy.blackhole(false);
    calls
}

/// Makes the calls of [`STARTING`] fail in a server that starts on a spool with a torn end; each time it ends loudly.
async fn fail_while_starting(plan: &Plan, trace: &Path) {
    for (place, call, which) in STARTING {
        let segment = last_segment(plan);
        let mut file = fs::File::options().append(true).open(&segment).unwrap();
        file.write_all(b"a record that was cut short").unwrap();
        fsck(plan);
        let paths: Vec<PathBuf> = place
            .iter()
            .map(|place| match place {
                Place::Lock => plan.spool().join("lock"),
                Place::Folder => plan.spool(),
                Place::Segment => segment.clone(),
            })
            .collect();
        let tampering = format!("{call}:error=EIO:when={which}");
        let failing = plan
            .clone()
            .under(&strace::failing(&tampering, &paths, trace));
        let mut pdp = failing.spawn();
        pdp.until("it ends", || async {
            pdp.output().contains("Input/output error")
        })
        .await;
        let until = Instant::now() + Duration::from_mins(1);
        let status = loop {
            if let Some(status) = pdp.ended() {
                break status;
            }
            assert!(Instant::now() < until, "{tampering}: {}", pdp.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(!status.success(), "{tampering}: {}", pdp.output());
        assert!(strace::injected(trace) > 0, "{tampering}: it never failed");
        fsck(plan);
    }
}

/// F8: whichever call to the disk fails, what was answered is in the log, and what could not be recorded was refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_calls_to_the_disk_fail() {
    let row = Row::new("F8");
    let began = Instant::now();
    if !strace::available() {
        return;
    }
    let Some(postgres) = Pg::start() else { return };
    let proxy = Proxy::start(postgres.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let plan = Plan::new(&proxy.before(&postgres.fresh_database()))
        .prepared()
        .await
        .set("REMIT__LOG__SEGMENT_BYTES", "4096")
        // The database is away for much of this, which is not what is asked here.
        .set("REMIT__POLICY__MAX_STALENESS_MS", "600000");
    let calls = fail_while_running(&plan, &proxy, &trace).await;
    fail_while_starting(&plan, &trace).await;
    let pdp = plan.start().await;
    let (answered, refused) = answered_or_refused(&calls, &recorded(&pdp).await).unwrap();
    assert!(refused > 0, "nothing ever failed badly enough");
    assert!(pdp.stop().await.success());
    fsck(&plan);

    // The same check on a server that does not heed what its disk says.
    let unprotected = plan.beside().without("HeedDiskErrors");
    let pdp = unprotected.start().await;
    let inject = "inject=pwrite64:error=EIO:when=1+";
    let strace = Strace::attach(&pdp, Some(WRITER), &["trace=pwrite64", inject], &trace);
    let load = Load::start(&pdp, 1, Duration::from_millis(5));
    load.until_decided(20).await;
    pdp.kill();
    drop(strace);
    let calls = without_lost(load.stop().await);
    let pdp = unprotected.start().await;
    let control = answered_or_refused(&calls, &recorded(&pdp).await).unwrap_err();
    assert!(control.contains("Decided"), "{control}");
    row.passed(
        &format!(
            "{} kinds of failure under load and {} at the start: {answered} answered and recorded, {refused} refused; \
             {} s",
            RUNNING.len(),
            STARTING.len(),
            began.elapsed().as_secs()
        ),
        "failed as it must: answered and not recorded",
    );
}

/// Checks that after each write, and before the next, what was written is synced; returns how many writes there were.
fn every_write_is_synced(trace: &str) -> Result<usize, String> {
    let calls: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_once('(').map(|(call, _)| call))
        .map(|call| call.rsplit(' ').next().unwrap_or(call))
        .collect();
    for pair in calls.windows(2) {
        if pair[0] == "pwrite64" && pair[1] != "fdatasync" {
            return Err(format!("after a write came {}", pair[1]));
        }
    }
    Ok(calls.iter().filter(|call| **call == "pwrite64").count())
}

/// Watches the writing thread under load.
async fn watched(plan: &Plan, trace: &Path) -> String {
    let pdp = plan.start().await;
    let load = Load::start(&pdp, 3, Duration::from_millis(5));
    let strace = Strace::attach(&pdp, Some(WRITER), &["trace=pwrite64,fdatasync"], trace);
    load.until_decided(100).await;
    let calls = strace.detach();
    load.stop().await;
    calls
}

/// F8: nothing is answered that the disk may still lose: each write of the log is synced before anything else is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_every_write_is_synced() {
    let row = Row::new("F8-sync");
    if !strace::available() {
        return;
    }
    let Some(postgres) = Pg::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let plan = Plan::new(&postgres.fresh_database())
        .prepared()
        .await
        .set("REMIT__LOG__SEGMENT_BYTES", "8192");
    let writes = every_write_is_synced(&watched(&plan, &trace).await).unwrap();
    assert!(writes > 10, "{writes}");
    let unprotected = plan.beside().without("SyncSpool");
    every_write_is_synced(&watched(&unprotected, &trace).await).unwrap_err();
    row.passed(
        &format!("{writes} writes, each synced before the next"),
        "failed as it must: no sync followed a write",
    );
}
