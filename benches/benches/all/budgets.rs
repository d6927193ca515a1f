//! What a task takes of a decision: one that has touched what it touches again, one with a budget, and one in escrow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use remit_core::{Budget, Clock, DecisionId, Declaration, EntityUid, Label, TaskId, Timestamp};
use remit_store::{Change, NewTask, Options, Store};
use serde_json::{Value, json};

use crate::http::evaluation;
use crate::load::{Ask, Load, Pace};
use crate::measure::{Effort, Figures, count, process_cpu};
use crate::report::Report;
use crate::rules::Rules;
use crate::servers::{Core, Installation, Server};
use crate::translate::bundle;

const CONNECTIONS: usize = 64;
/// How many different questions are asked.
const CALLS: usize = 2_000;
/// More calls than a run can make.
const ENDLESS: u64 = 1 << 50;

/// The tasks of each agent: one without a budget, and one with.
type Tasks = BTreeMap<usize, [TaskId; 2]>;

/// Measures, and notes the target.
///
/// # Errors
///
/// When the server does not start, or answers wrongly.
pub fn run(effort: Effort, folder: &Path, report: &mut Report) -> io::Result<()> {
    println!("\nDecisions in a task, and with a budget, beside decisions without one");
    let rules = Rules::new(1_000);
    let policies = bundle(&rules, "a");
    let installation =
        Installation::make(&folder.join("budgets"), Some(&policies), std::iter::empty())?;
    let tasks = open(&installation, rules.agents)?;
    let stretch = Duration::from_millis(effort.pick(3_000, 300));
    let mut ratio = Figures::default();
    let server = Server::remit(&installation, Core::Any, &[])?;
    let free = asks(&server, &installation.key, &rules, |_| None);
    let labelled = asks(&server, &installation.key, &rules, |agent| {
        tasks.get(&agent).map(|[labelled, _]| *labelled)
    });
    let each = |asks: &[Ask]| -> io::Result<f64> {
        let mut load = Load::connect(server.address, CONNECTIONS, asks)?;
        load.run(Pace::Closed, stretch / 4)?;
        let before = process_cpu(server.pid());
        let answers = count(load.run(Pace::Closed, stretch)?.answers());
        Ok((process_cpu(server.pid()) - before).as_secs_f64() * 1e6 / answers)
    };
    for _ in 0..effort.pick(5, 1) {
        let (before, with, after) = (each(&free)?, each(&labelled)?, each(&free)?);
        ratio.push(with * 2.0 / (before + after));
    }
    println!("  CPU per answer in a task with labels over without a task: {ratio}");
    report.at_most(
        "CPU in a task with labels over none",
        ratio.median(),
        1.3,
        "times",
    );
    drop(server);
    for (name, from) in [("one transaction each", "0"), ("in escrow", "100")] {
        let settings = [("REMIT__TASKS__ESCROW_FROM".to_owned(), from.to_owned())];
        let server = Server::remit(&installation, Core::Any, &settings)?;
        let limited = asks(&server, &installation.key, &rules, |agent| {
            tasks.get(&agent).map(|[_, limited]| *limited)
        });
        let mut load = Load::connect(server.address, CONNECTIONS, &limited)?;
        load.run(Pace::Closed, stretch / 2)?;
        let outcome = load.run(Pace::Closed, stretch)?;
        let (rate, half) = (outcome.per_second(), outcome.latency(0.5));
        println!("  with a budget, {name} (SQLite): {rate:.0} a second, p50 {half:.2} ms");
        report.note(
            format!("with a budget, {name}"),
            format!("{rate:.0} a second"),
        );
    }
    Ok(())
}

/// Opens two tasks for every agent, which have touched the worst already.
fn open(installation: &Installation, agents: usize) -> io::Result<Tasks> {
    let url = format!("sqlite:{}", installation.folder.join("remit.db").display());
    let opening = async {
        let clock = Clock::system();
        let store = Store::open(&Options::new(url), clock.clone()).await?;
        let tenant = store.ensure_tenant("default").await?;
        let mut tasks = Tasks::new();
        for agent in 0..agents {
            let mut pair = [TaskId::NIL; 2];
            for (id, calls) in pair.iter_mut().zip([None, Some(ENDLESS)]) {
                *id = TaskId::from_uuid(clock.id());
                let declaration = Declaration {
                    actions: None,
                    agent: EntityUid::new("Agent", format!("agent-{agent}")),
                    budget: Budget {
                        calls,
                        ..Budget::default()
                    },
                    data_classes: None,
                    expires_at: Timestamp::from_micros(clock.now().micros() + 86_400_000_000),
                    intent: String::new(),
                    may_delegate: false,
                    on_behalf_of: None,
                    parent: None,
                    purpose: "a benchmark".into(),
                    resources: None,
                    sinks: None,
                    template: None,
                    window: None,
                };
                let new = NewTask {
                    id: *id,
                    declaration: &declaration,
                    decision: None,
                    idle_timeout: Duration::from_hours(24),
                    opened_by: &"bench".parse().map_err(|_| invalid())?,
                    opening_agents: &[],
                    replaces: None,
                    checked: None,
                };
                store.insert_task(tenant, new, Change::default()).await?;
                let worst: BTreeSet<Label> = Label::worst();
                store
                    .label_tasks(tenant, &[*id], &worst, DecisionId::NIL)
                    .await?;
            }
            tasks.insert(agent, pair);
        }
        store.close().await;
        Ok(tasks)
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(opening)
        .map_err(|error: remit_store::Error| io::Error::other(format!("{error:?}")))
}

fn invalid() -> remit_store::Error {
    remit_store::Error::Invalid {
        member: "name",
        problem: "is no name of a principal".to_owned(),
    }
}

/// Writes the questions of the rules, each in the task of its agent.
fn asks(
    server: &Server,
    key: &str,
    rules: &Rules,
    task: impl Fn(usize) -> Option<TaskId>,
) -> Vec<Ask> {
    let calls = rules.calls(CALLS).into_iter();
    calls
        .map(|(call, allowed)| {
            let mut body: Value = call.question();
            if let Some(task) = task(call.grant.agent) {
                body["context"]["task"] = json!(task);
            }
            Ask {
                bytes: evaluation(server, key, &body.to_string()),
                expected: vec![if allowed {
                    "\"decision\":true"
                } else {
                    "\"decision\":false"
                }],
            }
        })
        .collect()
}
