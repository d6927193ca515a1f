//! What the decision log promises: F9 its process killed, F10 replies of its database lost, F12 a second process.

use std::time::{Duration, Instant};

use remit_chaos::{Fate, Ledger, Load, Outcome, Pg, Plan, Proxy, Row, Totals};
use remit_tests::sql;

use crate::all_shipped;

/// How often the process is killed.
const KILLS: usize = 50;
/// Enough to ask while the process writes, ships and answers.
const CLIENTS: usize = 8;
/// The longest load before a kill, in microseconds.
const LONGEST_LOAD: u64 = 300_000;
/// How long a killed process may take until it is ready again.
const RESTART: Duration = Duration::from_secs(5);
/// And where the machine has something else to do.
const BUSY_RESTART: Duration = Duration::from_secs(30);

/// How the shipper ends a transaction.
const COMMIT: &[u8] = b"COMMIT";
/// How many replies to a commit are lost, and how many with the protection off.
const UNANSWERED: usize = 100;
const CONTROL_UNANSWERED: usize = 25;
/// How often the process is killed while it ships.
const SHIPPING_KILLS: usize = 15;
/// How long either may take.
const CUTTING: Duration = Duration::from_secs(90);
/// What the second process says of the folder.
const IN_USE: &str = "is in use by another process";
/// What it says to do about that.
const HELP: &str = "stop the other `remit serve`, or give this one a folder of its own";
/// The exit code for what is not available.
const UNAVAILABLE: i32 = 69;

/// Kills a server under load again and again, and compares what it answered with what came into the database at `url`.
///
/// Returns how long the starts took, too, the shortest first.
async fn killed(row: &mut Row, plan: &Plan, url: &str, kills: usize) -> (Totals, Vec<Duration>) {
    let mut ledger = Ledger::new();
    let mut starts = Vec::new();
    for _ in 0..kills {
        let began = Instant::now();
        let pdp = plan.start().await;
        starts.push(began.elapsed());
        let load = Load::start(&pdp, CLIENTS, Duration::ZERO);
        load.until_decided(CLIENTS).await;
        tokio::time::sleep(Duration::from_micros(row.below(LONGEST_LOAD))).await;
        pdp.kill();
        ledger.hear(&load.stop().await);
        ledger.inspect(plan);
    }
    starts.sort_unstable();
    (shipped_totals(ledger, plan, url).await, starts)
}

/// Starts once more, and adds up when everything is in the database.
async fn shipped_totals(ledger: Ledger, plan: &Plan, url: &str) -> Totals {
    let pdp = plan.start().await;
    all_shipped(&pdp).await;
    assert!(pdp.stop().await.success());
    ledger.totals(url).await
}

/// F9: killed at fifty moments under load, it is ready again soon, and everything it answered is recorded, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_kill_nine_under_load() {
    let mut row = Row::new("F9");
    let Some(postgres) = Pg::start() else { return };
    let began = Instant::now();
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let (totals, starts) = killed(&mut row, &plan, &url, KILLS).await;
    println!("{KILLS} kills: {totals}");
    totals.check().unwrap();
    let (usual, slowest) = (starts[KILLS / 2], starts[KILLS - 1]);
    assert!(usual <= RESTART && slowest <= BUSY_RESTART, "{starts:?}");

    // Answered first and recorded a little later: a few kills must lose something.
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let unprotected = plan.without("RecordBeforeAnswer");
    let (control, _) = killed(&mut row, &unprotected, &url, 5).await;
    println!("control, 5 kills: {control}");
    control.check().unwrap_err();
    assert!(control.missing > 0, "{control}");
    row.passed(
        &format!(
            "{KILLS} kills: {totals}; slowest start {} ms, {} s in all",
            slowest.as_millis(),
            began.elapsed().as_secs()
        ),
        &format!("failed as it must: {} answers missing", control.missing),
    );
}

/// Chooses what becomes of commits, so that as many replies as are wanted are lost, and some commits too.
///
/// Never more than two in a row: after each failure the shipper waits twice as long.
fn fates(row: &mut Row, unanswered: usize) -> Vec<Fate> {
    let mut fates = Vec::new();
    let mut lost = 0;
    while lost < unanswered {
        let fate = match (row.below(8), fates.as_slice()) {
            (_, [.., a, b]) if *a != Fate::Through && *b != Fate::Through => Fate::Through,
            (0 | 1, _) => Fate::Through,
            (2, _) => Fate::Lost,
            _ => Fate::Unanswered,
        };
        lost += usize::from(fate == Fate::Unanswered);
        fates.push(fate);
    }
    fates
}

/// Lets commits meet their fates while a server ships to the database at `url`, and compares.
async fn shipped_through(proxy: &Proxy, plan: &Plan, url: &str, fates: &[Fate]) -> Totals {
    let pdp = plan.start().await;
    let load = Load::start(&pdp, 4, Duration::from_millis(10));
    proxy.script(COMMIT, fates.iter().copied());
    let until = Instant::now() + CUTTING;
    while proxy.fates_left() > 0 {
        let left = proxy.fates_left();
        assert!(Instant::now() < until, "{left} commits to go");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ledger = Ledger::new();
    ledger.hear(&load.stop().await);
    all_shipped(&pdp).await;
    assert!(pdp.stop().await.success());
    ledger.inspect(plan);
    ledger.totals(url).await
}

/// Kills a server each time that the reply to a commit has been lost, or the commit itself, and compares.
///
/// Whoever starts next knows nothing of it but what the spool and the database say.
async fn killed_while_shipping(row: &mut Row, proxy: &Proxy, plan: &Plan, url: &str) -> Totals {
    let mut ledger = Ledger::new();
    for kill in 0..SHIPPING_KILLS {
        let pdp = plan.start().await;
        let load = Load::start(&pdp, 4, Duration::from_millis(2));
        load.until_decided(10).await;
        let fate = if kill % 3 == 2 {
            Fate::Lost
        } else {
            Fate::Unanswered
        };
        proxy.script(COMMIT, [fate]);
        let until = Instant::now() + CUTTING;
        while proxy.fates_left() > 0 {
            assert!(Instant::now() < until, "nothing is shipped");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Before the shipper finds out what became of it, and after.
        tokio::time::sleep(Duration::from_micros(row.below(100_000))).await;
        pdp.kill();
        ledger.hear(&load.stop().await);
        ledger.inspect(plan);
    }
    shipped_totals(ledger, plan, url).await
}

/// F10: a hundred times the database commits and the reply is lost, and killed while it ships; everything is recorded
/// once, without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_reply_to_the_commit_lost() {
    let mut row = Row::new("F10");
    let Some(postgres) = Pg::start() else { return };
    let proxy = Proxy::start(postgres.port()).await;
    let began = Instant::now();
    let url = postgres.fresh_database();
    let plan = Plan::new(&proxy.before(&url)).prepared().await;
    let chosen = fates(&mut row, UNANSWERED);
    let lost = chosen.iter().filter(|fate| **fate == Fate::Lost).count();
    let totals = shipped_through(&proxy, &plan, &url, &chosen).await;
    println!("{UNANSWERED} replies and {lost} commits lost: {totals}");
    totals.check().unwrap();
    // Nobody was killed: nothing is recorded that its client did not hear.
    assert_eq!(totals.recorded, totals.answered, "{totals}");

    let url = postgres.fresh_database();
    let plan = Plan::new(&proxy.before(&url)).prepared().await;
    let killed = killed_while_shipping(&mut row, &proxy, &plan, &url).await;
    println!("{SHIPPING_KILLS} kills while shipping: {killed}");
    killed.check().unwrap();

    let url = postgres.fresh_database();
    let plan = Plan::new(&proxy.before(&url)).prepared().await;
    // The database's own constraints would catch what the control does, and shipping would stand still. They stay in
    // force above, because the shipper is made for them: its insert leaves alone what `decisions_pkey` has already.
    sql::execute(
        &url,
        "ALTER TABLE decisions DROP CONSTRAINT decisions_pkey, DROP CONSTRAINT decisions_sequence_key",
    )
    .await;
    let unprotected = plan.without("ExactlyOnceShipping");
    let chosen = fates(&mut row, CONTROL_UNANSWERED);
    let control = shipped_through(&proxy, &unprotected, &url, &chosen).await;
    println!("control, {CONTROL_UNANSWERED} replies lost: {control}");
    control.check().unwrap_err();
    assert!(control.duplicates > 0, "{control}");
    row.passed(
        &format!(
            "{UNANSWERED} replies and {lost} commits lost: {totals}; {SHIPPING_KILLS} kills while shipping: {killed}; \
             {} s in all",
            began.elapsed().as_secs()
        ),
        &format!("failed as it must: {} duplicates", control.duplicates),
    );
}

/// Starts a server on the folder of a running one, which must end at once and say why.
///
/// # Errors
///
/// What it did instead.
async fn turned_away(plan: &Plan) -> Result<Duration, String> {
    let began = Instant::now();
    let mut second = plan.spawn();
    let ended = loop {
        if let Some(ended) = second.ended() {
            break ended;
        }
        if second.ready().await.is_some_and(|page| page.status == 200) {
            return Err(format!("it was ready after {:?}", began.elapsed()));
        }
        if began.elapsed() > Duration::from_secs(10) {
            return Err("it stayed".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // The terminal's lines break anywhere.
    let said = second
        .output()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let folder = plan.spool().display().to_string();
    let told = [IN_USE, HELP, &folder]
        .iter()
        .all(|part| said.contains(part));
    if ended.code() == Some(UNAVAILABLE) && told {
        Ok(began.elapsed())
    } else {
        Err(format!("{ended:?}: {said}"))
    }
}

/// F12: a second process on the folder of the first is turned away and told why; the first goes on, and loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_two_processes_on_one_folder() {
    let row = Row::new("F12");
    let Some(postgres) = Pg::start() else { return };
    let url = postgres.fresh_database();
    let plan = Plan::new(&url).prepared().await;
    let pdp = plan.start().await;
    let load = Load::start(&pdp, 4, Duration::from_millis(5));
    load.until_decided(20).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        slowest = slowest.max(turned_away(&plan).await.unwrap());
        load.until_decided(20).await;
    }
    let calls = load.stop().await;
    for call in &calls {
        assert!(matches!(call.outcome, Outcome::Decided { .. }), "{call:?}");
    }
    let mut ledger = Ledger::new();
    ledger.hear(&calls);
    all_shipped(&pdp).await;
    assert!(pdp.stop().await.success());
    ledger.inspect(&plan);
    let totals = ledger.totals(&url).await;
    totals.check().unwrap();
    assert_eq!(totals.recorded, totals.answered, "{totals}");

    let unprotected = plan.without("SpoolLock");
    let _first = unprotected.start().await;
    let stayed = turned_away(&unprotected).await.unwrap_err();
    row.passed(
        &format!(
            "turned away three times, in {} ms at most; the first: {totals}",
            slowest.as_millis()
        ),
        &format!("failed as it must: {stayed}"),
    );
}
