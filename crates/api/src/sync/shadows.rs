//! Shadows are put to work and ended here, by what is in the database, after what is in force has been brought up to date
//! and never instead of it. What they find is told to the database every second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use remit_core::{Revision, TenantId};
use remit_engine::Snapshot;
use remit_store::Error;
use tokio::time::{Instant, timeout};

use super::{Failure, SHORTEST};
use crate::app::App;
use crate::background::{give_way, lowered};
use crate::problem::Problem;
use crate::sync::progress::chain;

/// How soon it is tried again where something went wrong.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a shadow that cannot decide is left alone: to read and compile it takes long.
const ALONE: Duration = Duration::from_secs(5);
/// How often what was found is told.
const BEAT: Duration = Duration::from_secs(1);
/// How long the last word may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Keeps the shadows that the database has at work, and no others.
pub(super) async fn keep(app: Arc<App>) {
    let mut changes = app.progress.changes();
    let mut failing = false;
    let mut failed = HashMap::new();
    loop {
        changes.mark_unchanged();
        let well = match bring(&app, &mut failed).await {
            Ok(well) => {
                failing = false;
                well
            }
            Err(error) => {
                // Once when it begins, not at every attempt.
                if !std::mem::replace(&mut failing, true) {
                    let cause = chain(&*error);
                    tracing::warn!(cause, "the shadows cannot be read; those at work stay");
                }
                false
            }
        };
        tokio::time::sleep(SHORTEST).await;
        let change = changes.changed();
        if well {
            if change.await.is_err() {
                return;
            }
        } else {
            let _ = timeout(AGAIN, change).await;
        }
    }
}

/// Tells the database again and again what was found.
pub(super) async fn keep_telling(app: Arc<App>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(BEAT).await;
        match tell(&app).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let cause = chain(&error);
                    tracing::warn!(cause, "what shadows found cannot be noted; it is kept");
                }
            }
        }
    }
}

/// Tells what was found since the last time, before this process goes.
pub(super) async fn leave(app: &App) {
    let _ = timeout(GOODBYE, tell(app)).await;
}

async fn tell(app: &App) -> Result<(), Error> {
    let replica = app.log.replica();
    let mut told = Ok(());
    for (tenant, shadow) in app.shadows.all().iter() {
        // One that cannot be noted does not keep the others from it.
        if let Err(error) = shadow.note(&app.store, *tenant, replica).await {
            told = Err(error);
        }
    }
    told
}

/// Brings the shadows to where the database is; tells whether all of them can decide.
///
/// `failed` holds when a shadow that cannot was last tried.
async fn bring(app: &Arc<App>, failed: &mut HashMap<TenantId, Instant>) -> Result<bool, Failure> {
    let heads = app.store.ahead().shadows().await?;
    let there: HashSet<TenantId> = heads.iter().map(|head| head.tenant).collect();
    let at_work: Vec<TenantId> = app.shadows.all().keys().copied().collect();
    let mut well = true;
    for tenant in at_work {
        if !there.contains(&tenant) {
            well &= aside(app, tenant, move |app| app.shadows.end(tenant)).await;
        }
    }
    for head in heads {
        let known = app.shadows.of(head.tenant);
        let known = known.filter(|known| known.revision == head.revision);
        if known.as_ref().is_some_and(|known| known.is_able()) {
            continue;
        }
        let tried = failed.get(&head.tenant);
        if known.is_some() && tried.is_some_and(|tried| tried.elapsed() < ALONE) {
            well = false;
            continue;
        }
        let compiled = match load(app, head.tenant, head.revision).await {
            Ok(Some(compiled)) => Ok(compiled),
            // It was replaced meanwhile; the change that did it is heard of too.
            Ok(None) => continue,
            Err(Trouble::Away(error)) => return Err(error.into()),
            Err(Trouble::Shadow(because)) => Err(because),
        };
        if let Err(because) = &compiled {
            well = false;
            failed.insert(head.tenant, Instant::now());
            if known.is_none() {
                tracing::error!(tenant = %head.tenant, revision = head.revision.number(), cause = because, "a shadow cannot decide; nothing else is touched by it");
            }
        }
        let (tenant, revision) = (head.tenant, head.revision);
        let begin = move |app: &App| app.shadows.begin(tenant, revision, compiled);
        if !aside(app, tenant, begin).await {
            well = false;
            failed.insert(tenant, Instant::now());
        }
    }
    Ok(well)
}

/// Changes a shadow on a thread of its own: the bundle is laid over no entities there, and what it replaces is taken apart.
///
/// False where that failed, which is in the log.
async fn aside(
    app: &Arc<App>,
    tenant: TenantId,
    change: impl FnOnce(&App) + Send + 'static,
) -> bool {
    let own = Arc::clone(app);
    let changed = lowered(move || change(&own)).await;
    if let Err(problem) = &changed {
        tracing::error!(%tenant, cause = problem.chain(), "a shadow could not be begun or ended");
    }
    changed.is_ok()
}

/// Why a shadow is not there.
enum Trouble {
    /// The database is.
    Away(Error),
    /// It lies with the shadow.
    Shadow(String),
}

/// Reads and compiles a shadow, unless whoever put it has compiled it here.
async fn load(
    app: &App,
    tenant: TenantId,
    revision: Revision,
) -> Result<Option<Snapshot>, Trouble> {
    let prepared = app.shadows.prepared(tenant);
    let stored = app.store.ahead().shadow(tenant, revision).await?;
    let wanted = stored.as_ref().map(|stored| stored.hash);
    match prepared {
        Some(compiled) if wanted == Some(compiled.content_hash()) => return Ok(Some(compiled)),
        // It is taken apart where nobody waits for it.
        Some(other) => lowered(move || drop(other)).await?,
        None => {}
    }
    let Some(stored) = stored else {
        return Ok(None);
    };
    let live = app.engine.snapshot(tenant);
    let compiling = give_way(move || {
        // What it has in common with what is in force is not compiled again. Live entities that it does not allow are
        // no reason yet: they may be gone by the next decision.
        live.and_then(|live| live.recompile(&stored.bundle).ok())
            .map_or_else(|| Snapshot::compile(&stored.bundle), Ok)
    });
    let compiled = compiling.await?;
    compiled
        .map(Some)
        .map_err(|error| Trouble::Shadow(error.to_string()))
}

// === impl Trouble ===

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        if error.is_outage() {
            Self::Away(error)
        } else {
            Self::Shadow(chain(&error))
        }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Shadow(problem.chain())
    }
}
