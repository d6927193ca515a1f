//! How far this replica has come: with the database, and with every tenant.
//!
//! `sync` writes it and everything that decides reads it, so what is read on every question is atomic.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use remit_core::controls::{Protection, holds};
use remit_core::{Revision, TenantId, Timestamp};
use remit_engine::Snapshot;
use remit_store::Head;
use serde::Serialize;
use tokio::sync::{Notify, watch};

/// How far this replica has come with every tenant.
pub(crate) struct Progress {
    tenants: ArcSwap<HashMap<TenantId, Arc<Standing>>>,
    /// The tenants that were deleted, each at which revision: in a database restored from an older copy they are back.
    gone: Mutex<HashMap<TenantId, Revision>>,
    /// When the heads were last read, in the wall clock's time, for the metrics.
    polled: Mutex<Option<Timestamp>>,
    /// When the poll began that last succeeded, in microseconds of boot time, plus one; zero before the first.
    polled_boot: AtomicU64,
    failure: Mutex<Option<String>>,
    news: Notify,
    changed: watch::Sender<()>,
}

/// How far this replica has come with one tenant.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The revision in force here.
    applied: AtomicU64,
    /// When the poll began that last found it to be the newest, in microseconds of boot time, plus one; zero for never.
    confirmed: AtomicU64,
    /// The newest revision that every live replica is known to have reached.
    everywhere: AtomicU64,
    loading: AtomicBool,
    /// The revision that is being loaded, and the newest that was seen meanwhile.
    loaded: AtomicU64,
    seen: AtomicU64,
    /// The head found in the database that was older than the revision in force, plus one; zero for none. It stays.
    set_back: AtomicU64,
    /// The revision of the bundle that the snapshot in force was compiled from; zero for none.
    bundle: AtomicU64,
    /// Whether its keys are refused until it is resumed.
    suspended: AtomicBool,
    /// The bundle that was put here last, as it was compiled before it was written, until it comes into force.
    prepared: Mutex<Option<Snapshot>>,
    failure: Mutex<Option<Cause>>,
}

/// Why a tenant could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// What the tenant may be told: its first link.
    told: String,
    /// All of it, for who runs Remit.
    pub(crate) chain: String,
}

/// How far this replica has come with one tenant, for the readiness page.
#[derive(Debug, Serialize)]
pub(crate) struct Reached {
    tenant: TenantId,
    revision: Revision,
    /// Whether a bundle is in force.
    bundle: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Writes an error with every cause of it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

// === impl Standing ===

impl Standing {
    /// Returns the revision in force, or `None` before the first load.
    pub(crate) fn applied(&self) -> Option<Revision> {
        (self.confirmed.load(Ordering::Acquire) != 0)
            .then(|| Revision::new(self.applied.load(Ordering::Acquire)))
    }

    /// Returns how long ago it was last certain that the snapshot in force is the newest.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        let since = self.confirmed.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_micros(since)))
    }

    /// Returns the newest revision that every live replica is known to have reached. It stays so: one that starts, or comes
    /// back, reads what is newer before it decides.
    pub(crate) fn everywhere(&self) -> Revision {
        Revision::new(self.everywhere.load(Ordering::Acquire))
    }

    /// Notes that every live replica has reached a revision.
    pub(crate) fn reach(&self, revision: Revision) {
        self.everywhere
            .fetch_max(revision.number(), Ordering::AcqRel);
    }

    /// Begins to load a revision; false while a load is going on, which then has this one to look for when it ends.
    pub(crate) fn starts_loading(&self, revision: Revision) -> bool {
        self.seen.store(revision.number(), Ordering::SeqCst);
        let free = !self.loading.swap(true, Ordering::SeqCst);
        if free {
            self.loaded.store(revision.number(), Ordering::SeqCst);
        }
        free
    }

    /// Whether no load is going on and a newer revision was seen during the last.
    pub(crate) fn missed(&self) -> bool {
        !self.loading.load(Ordering::SeqCst)
            && self.seen.load(Ordering::SeqCst) > self.loaded.load(Ordering::SeqCst)
    }

    /// Ends the load.
    pub(crate) fn ends_loading(&self) {
        self.loading.store(false, Ordering::SeqCst);
    }

    /// Whether the keys of this tenant are refused.
    pub(crate) fn suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// Notes whether the keys of this tenant are refused.
    pub(crate) fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Release);
    }

    /// Returns the revision of the bundle that the snapshot in force was compiled from; zero for none.
    pub(crate) fn bundle(&self) -> Revision {
        Revision::new(self.bundle.load(Ordering::Acquire))
    }

    /// Notes which bundle the snapshot in force was compiled from.
    pub(crate) fn installed(&self, bundle: Revision) {
        self.bundle.store(bundle.number(), Ordering::Release);
    }

    /// Notes a head that is older than what is in force: once, and for the life of the process.
    pub(crate) fn compare(&self, head: &Head) {
        let Some(applied) = self.applied().filter(|applied| head.revision < *applied) else {
            return;
        };
        if !holds(Protection::SetBack) || self.set_back().is_some() {
            return;
        }
        let mark = head.revision.number().saturating_add(1);
        self.set_back.store(mark, Ordering::Release);
        let cause = format!(
            "the database is at revision {} and this replica was at {applied}: it was restored from an older copy; \
             restart this process to accept what it holds",
            head.revision
        );
        tracing::error!(tenant = %head.tenant, cause, "the database was set back; this tenant is decided no more");
        self.note(Some(Cause {
            told: cause.clone(),
            chain: cause,
        }));
    }

    /// Returns the older revision that the database was found at, if it was ever set back under this process.
    pub(crate) fn set_back(&self) -> Option<Revision> {
        let mark = self.set_back.load(Ordering::Acquire).checked_sub(1)?;
        Some(Revision::new(mark))
    }

    /// Notes that this revision is in force, and was the newest when the poll began.
    pub(crate) fn confirm(&self, revision: Revision, began: Duration) {
        self.applied.store(revision.number(), Ordering::Release);
        // A load may end after a later poll has confirmed already; time does not go back.
        self.confirmed.fetch_max(mark(began), Ordering::AcqRel);
    }

    /// Returns the bundle that waits to come into force.
    pub(crate) fn prepared(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why the last load failed, or that it did not.
    pub(crate) fn note(&self, failure: Option<Cause>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn cause(&self) -> Option<Cause> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns why the last load failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.cause().map(|cause| cause.chain)
    }

    /// Returns as much of the failure as the tenant may be told.
    pub(crate) fn told_failure(&self) -> Option<String> {
        self.cause().map(|cause| cause.told)
    }
}

// === impl Cause ===

impl Cause {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        Self {
            told: error.to_string(),
            chain: chain(error),
        }
    }
}

/// Writes a boot time so that zero is free to mean "never".
fn mark(boot: Duration) -> u64 {
    u64::try_from(boot.as_micros())
        .unwrap_or(u64::MAX - 1)
        .saturating_add(1)
}

// === impl Progress ===

impl Default for Progress {
    fn default() -> Self {
        Self {
            tenants: ArcSwap::default(),
            gone: Mutex::default(),
            polled: Mutex::default(),
            polled_boot: AtomicU64::default(),
            failure: Mutex::default(),
            news: Notify::new(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Progress {
    /// Returns how far this replica is with a tenant; `None` for one that no poll has seen.
    pub(crate) fn standing(&self, tenant: TenantId) -> Option<Arc<Standing>> {
        self.tenants.load().get(&tenant).cloned()
    }

    /// Whether the database was set back to an older state of a tenant.
    pub(crate) fn is_set_back(&self, tenant: TenantId) -> bool {
        self.standing(tenant)
            .is_some_and(|standing| standing.set_back().is_some())
    }

    /// Notes what is wrong with a tenant, and logs it when it is new.
    pub(crate) fn mark(&self, tenant: TenantId, failure: Option<Cause>) {
        let Some(standing) = self.standing(tenant) else {
            return;
        };
        if let Some(cause) = &failure
            && standing.cause().as_ref() != Some(cause)
        {
            tracing::error!(%tenant, cause = cause.chain, "the keys of a tenant cannot be read; its last good ones stay, and go stale");
        }
        standing.note(failure);
    }

    /// Keeps what a bundle was compiled to before it was written, so that it is not compiled again.
    ///
    /// It comes into force by the same road as one that another replica has put: when the database says that the newest
    /// bundle is the one with its hash.
    pub(crate) fn prepare(&self, tenant: TenantId, compiled: &Snapshot) {
        if let Some(standing) = self.standing(tenant) {
            *standing.prepared() = Some(compiled.clone());
        }
    }

    /// Returns what changes whenever a load has ended.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until there is news.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Tells those who wait that a load has ended.
    pub(crate) fn loaded(&self) {
        self.changed.send_replace(());
    }

    /// Says that something was committed, so that it need not wait for the next poll.
    pub(crate) fn nudge(&self) {
        self.news.notify_one();
    }

    /// Waits until this replica is at `revision` of `tenant` or later; false when `wait` is over first.
    pub(crate) async fn wait(&self, tenant: TenantId, revision: Revision, wait: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let reached = || {
            self.standing(tenant)
                .and_then(|standing| standing.applied())
                .is_some_and(|applied| applied >= revision)
        };
        tokio::time::timeout(wait, async {
            while !reached() {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        })
        .await
        .unwrap_or_else(|_| reached())
    }

    /// Returns every tenant and how far this replica is with it, in the order of their ids.
    pub(crate) fn revisions(&self) -> Vec<Reached> {
        let mut revisions: Vec<Reached> = self
            .tenants
            .load()
            .iter()
            .map(|(tenant, standing)| Reached {
                tenant: *tenant,
                revision: standing.applied().unwrap_or_default(),
                bundle: standing.bundle.load(Ordering::Acquire) != 0,
                failure: standing.failure(),
            })
            .collect();
        revisions.sort_by_key(|reached| reached.tenant);
        revisions
    }

    /// Returns every tenant with its standing.
    pub(crate) fn all(&self) -> Vec<(TenantId, Arc<Standing>)> {
        self.tenants
            .load()
            .iter()
            .map(|(tenant, standing)| (*tenant, Arc::clone(standing)))
            .collect()
    }

    /// Returns how long ago the database last answered; `None` before the first time.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        let since = self.polled_boot.load(Ordering::Acquire).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_micros(since)))
    }

    /// Returns when the database last answered.
    pub(crate) fn confirmed_at(&self) -> Option<Timestamp> {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why the last poll failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes why the last poll failed, or that it did not; logs it when it is new.
    pub(crate) fn note(&self, failure: Option<String>) {
        let mut noted = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (&failure, &*noted) {
            // Once when it begins and once when it ends, not once a second.
            (Some(cause), None) => tracing::error!(
                cause,
                "the database cannot be asked for news; policies go stale"
            ),
            (None, Some(_)) => tracing::info!("the database answers again"),
            _ => {}
        }
        *noted = failure;
    }

    /// Notes that the heads were read, by a poll that began then.
    pub(crate) fn polled(&self, began: Duration, at: Timestamp) {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.polled_boot.fetch_max(mark(began), Ordering::AcqRel);
    }

    /// Adds the tenants that are new, and forgets those that were deleted.
    pub(crate) fn keep(&self, heads: &[Head]) {
        let known = self.tenants.load();
        if heads
            .iter()
            .all(|head| known.contains_key(&head.tenant) != head.deleted)
        {
            // Nothing is new, nor was anything deleted: a tombstone is noted when its tenant goes.
            return;
        }
        let mut tenants = HashMap::clone(&known);
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        for head in heads {
            if head.deleted {
                tenants.remove(&head.tenant);
                gone.insert(head.tenant, head.revision);
            } else {
                let standing = tenants.entry(head.tenant).or_default();
                // What is back has a head before this, and `compare` sees that.
                if let Some(revision) = gone.get(&head.tenant) {
                    standing.confirm(*revision, Duration::ZERO);
                }
            }
        }
        drop(gone);
        self.tenants.store(Arc::new(tenants));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A tenant that was deleted and is there again is one of a database restored from an older copy.
    #[test]
    fn a_deleted_tenant_that_comes_back_is_not_served() {
        let progress = Progress::default();
        let tenant = TenantId::from_uuid(Uuid::from_u128(7));
        let head = |revision, deleted| Head {
            tenant,
            revision: Revision::new(revision),
            suspended: false,
            deleted,
        };
        for (head, known, set_back) in [
            (head(4, false), true, false),
            (head(6, true), false, false),
            (head(6, true), false, false),
            (head(5, false), true, true),
        ] {
            progress.keep(&[head]);
            if let Some(standing) = progress.standing(tenant) {
                standing.compare(&head);
            }
            assert_eq!(progress.standing(tenant).is_some(), known, "{head:?}");
            assert_eq!(progress.is_set_back(tenant), set_back, "{head:?}");
        }
    }

    /// Whoever comes while a load is going on must not wait for the next poll, and nobody loads the same again at once.
    #[test]
    fn what_is_seen_during_a_load_is_not_missed() {
        let standing = Standing::default();
        assert!(standing.starts_loading(Revision::new(1)));
        assert!(
            !standing.starts_loading(Revision::new(1)),
            "one load at a time"
        );
        assert!(!standing.missed(), "it is not known before the load ends");
        standing.ends_loading();
        assert!(!standing.missed(), "there is nothing newer");

        assert!(standing.starts_loading(Revision::new(2)));
        assert!(!standing.starts_loading(Revision::new(3)));
        standing.ends_loading();
        assert!(standing.missed());
        assert!(standing.starts_loading(Revision::new(3)));
        standing.ends_loading();
        assert!(!standing.missed());
    }
}
