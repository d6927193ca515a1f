//! This replica makes itself known: that it is there, and which revision of every tenant is in force here.
//!
//! Whoever asks whether a change is in force everywhere (`revisions`) reads what is told here. It is told at once when a
//! load has ended, and every second all the same. That it cannot be told harms nobody who decides: loading goes on, and
//! the others take this replica for lost.

use std::collections::HashMap;
use std::time::Duration;

use remit_core::{Revision, TenantId};
use remit_store::{Applied, Replica};

use crate::app::App;
use crate::sync::SHORTEST;

/// How often it is told that this replica is there, where nothing else is new.
const BEAT: Duration = Duration::from_secs(1);
/// How often what is known of replicas of long ago is removed.
const SWEEP: Duration = Duration::from_hours(1);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What has been told of this replica.
pub(crate) struct Presence {
    replica: Replica,
    told: HashMap<TenantId, Applied>,
    /// When the last sweep was, in boot time.
    swept: Option<Duration>,
    failing: bool,
}

// === impl Presence ===

impl Presence {
    pub(crate) fn new(app: &App) -> Self {
        Self {
            replica: Replica {
                id: app.log.replica(),
                name: app.options.replica.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                // What was confirmed after the last beat may still permit when that is `max_staleness` ago.
                lease: app.options.max_staleness + 2 * beat(app),
            },
            told: HashMap::new(),
            swept: None,
            failing: false,
        }
    }

    /// Tells again and again, at once where a load has ended.
    pub(crate) async fn keep_telling(&mut self, app: &App) {
        let mut changes = app.progress.changes();
        let beat = beat(app);
        loop {
            changes.mark_unchanged();
            self.tell(app).await;
            tokio::time::sleep(SHORTEST).await;
            // A failure is not told more often than a beat: there may be many loads.
            if self.failing {
                tokio::time::sleep(beat).await;
            } else {
                let _ = tokio::time::timeout(beat, changes.changed()).await;
            }
        }
    }

    /// Tells that this replica is there, and what is new of the tenants.
    pub(crate) async fn tell(&mut self, app: &App) {
        let new: Vec<Applied> = applied(app)
            .filter(|applied| self.told.get(&applied.tenant) != Some(applied))
            .collect();
        match app.store.ahead().heartbeat(&self.replica, &new).await {
            Ok(unknown) => {
                if unknown {
                    // Told of nothing yet, or forgotten while it could not be seen.
                    self.told.clear();
                }
                self.told
                    .extend(new.into_iter().map(|applied| (applied.tenant, applied)));
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the other replicas can see this one again");
                }
                self.sweep(app).await;
            }
            Err(error) => {
                // Part of it may have been told, and whether this replica had been forgotten is not known.
                self.told.clear();
                // Once when it begins, not once a second.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        error = %error,
                        cause = std::error::Error::source(&error).map(ToString::to_string),
                        "the other replicas cannot see this one"
                    );
                }
            }
        }
    }

    /// Takes leave, so that nobody waits for this replica.
    pub(crate) async fn leave(&self, app: &App) {
        let store = app.store.ahead();
        let goodbye = store.forget_replica(self.replica.id);
        // Who hears nothing of it takes this replica for lost, soon.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }

    async fn sweep(&mut self, app: &App) {
        let now = app.clock.boot();
        if self
            .swept
            .is_some_and(|swept| now.saturating_sub(swept) < SWEEP)
        {
            return;
        }
        self.swept = Some(now);
        if let Err(error) = app.store.ahead().forget_unseen_replicas().await {
            tracing::debug!(error = %error, "replicas of long ago are still listed");
        }
    }
}

/// Often enough that one lost beat makes nobody believe that this replica is gone.
fn beat(app: &App) -> Duration {
    BEAT.min(app.options.max_staleness / 4)
}

/// Returns what is in force here of every tenant.
fn applied(app: &App) -> impl Iterator<Item = Applied> {
    let standings = app.progress.all();
    standings.into_iter().map(|(tenant, standing)| Applied {
        tenant,
        // Nothing is decided by what was in force before the database was set back.
        revision: match standing.set_back() {
            Some(_) => Revision::default(),
            None => standing.applied().unwrap_or_default(),
        },
        failure: standing.told_failure(),
    })
}
