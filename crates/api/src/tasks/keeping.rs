//! What goes on with tasks by itself: those in use are told to the database, those whose time is over end.
//!
//! What decides is the time of the database and the declaration, whether or not anybody has noted the end here. That
//! nothing was asked in a task for too long is noted by one replica and then decides everywhere.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remit_core::{Facts, TaskFacts, TaskId, TaskState, TenantId};
use remit_store::Error;
use tokio::time::Instant;

use crate::app::App;
use crate::sync::progress::chain;

/// How often a task that is in use is told at most.
const LONGEST_BEAT: Duration = Duration::from_mins(1);
/// How often it is looked for tasks whose time is over.
const LONGEST_TICK: Duration = Duration::from_secs(10);
/// How long the last word may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// The tasks in which something was asked since it was last told.
#[derive(Debug, Default)]
pub(crate) struct Activity(Mutex<HashSet<(TenantId, TaskId)>>);

/// Keeps at it.
pub(crate) async fn keep(app: Arc<App>) {
    let beat = beat(&app);
    let mut told = Instant::now();
    let mut failing = false;
    loop {
        tokio::time::sleep(beat.min(LONGEST_TICK)).await;
        let mut outcome = end_due(&app, beat * 2).await;
        if told.elapsed() >= beat {
            told = Instant::now();
            outcome = outcome.and(tell(&app).await);
        }
        match outcome {
            Ok(()) => failing = false,
            Err(error) => {
                // Once when it begins, not at every attempt.
                if !std::mem::replace(&mut failing, true) {
                    let cause = chain(&error);
                    tracing::warn!(
                        cause,
                        "tasks in use, or whose time is over, cannot be noted"
                    );
                }
            }
        }
    }
}

/// Tells what was asked since the last time, before this process goes.
pub(crate) async fn leave(app: &App) {
    let _ = tokio::time::timeout(GOODBYE, tell(app)).await;
}

/// Often enough that a task in use never looks idle.
fn beat(app: &App) -> Duration {
    (app.options.task_idle_timeout / 4).min(LONGEST_BEAT)
}

/// Tells the database which tasks are in use.
async fn tell(app: &App) -> Result<(), Error> {
    let mut told = Ok(());
    for (tenant, tasks) in app.activity.take() {
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        for some in tasks.chunks(500) {
            let done = app.store.ahead().touch_tasks(tenant, some).await;
            if let Err(error) = done
                && !matches!(error, Error::NotFound { .. })
            {
                // Kept for the next time; one tenant does not keep the others from it.
                app.activity.put_back(tenant, some);
                told = Err(error);
            }
        }
    }
    told
}

/// Ends what is over in every tenant that this replica decides for.
async fn end_due(app: &App, slack: Duration) -> Result<(), Error> {
    let mut outcome = Ok(());
    for (tenant, _) in &app.progress.all() {
        let tenant = *tenant;
        match app.store.ahead().end_due(tenant, slack).await {
            Ok(due) if due.revision.is_some() => {
                tracing::info!(%tenant, ended = due.ended, forgotten = due.forgotten, "tasks are over");
                app.progress.nudge();
            }
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

// === impl Activity ===

impl Activity {
    /// Notes that something was asked in a task, which all above it are in use with.
    pub(crate) fn note(&self, tenant: TenantId, facts: &Facts) {
        let above = facts.hops.iter().filter_map(|hop| hop.task.as_ref());
        let tasks = facts.task.iter().chain(above);
        let active = |task: &&TaskFacts| task.state == TaskState::Active;
        let mut active = tasks.filter(active).peekable();
        if active.peek().is_some() {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            noted.extend(active.map(|task| (tenant, task.id)));
        }
    }

    fn take(&self) -> BTreeMap<TenantId, BTreeSet<TaskId>> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut of: BTreeMap<TenantId, BTreeSet<TaskId>> = BTreeMap::new();
        for (tenant, task) in noted {
            of.entry(tenant).or_default().insert(task);
        }
        of
    }

    fn put_back(&self, tenant: TenantId, tasks: &[TaskId]) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(tasks.iter().map(|task| (tenant, *task)));
    }
}
