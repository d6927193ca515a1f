//! The only installer of snapshots (INV-6): what is committed in the database comes into force here, on every replica,
//! the writer included, by the same road.
//!
//! A poll asks for the head of every tenant. A tenant that is at its head is confirmed; one that is not is loaded in a
//! task of its own, so that a large or broken tenant does not hold up the others. A load that fails leaves the last good
//! snapshot in place, but unconfirmed, and [`App`] does not decide by what has been unconfirmed for too long: old policy
//! is also old permission.
//!
//! A head that is older than what is in force here means that the database was restored from an older copy. What was
//! revoked since then would be permitted again, so that tenant decides nothing more until somebody who knows what was
//! lost restarts the process.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use remit_core::controls::{Protection, holds};
use remit_core::{Revision, TenantId, Timestamp};
use remit_engine::{EntityError, Snapshot};
use remit_store::{Head, MAX_ENTITIES};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::app::App;

/// However often somebody asks for news, the database is not asked more often than this.
const SHORTEST: Duration = Duration::from_millis(20);

/// How far this replica has come with every tenant.
pub(crate) struct Progress {
    tenants: ArcSwap<HashMap<TenantId, Arc<Standing>>>,
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
    loading: AtomicBool,
    /// The head found in the database that was older than the revision in force, plus one; zero for none. It stays.
    set_back: AtomicU64,
    /// The revision of the bundle that the snapshot in force was compiled from; zero for none.
    bundle: AtomicU64,
    /// The bundle that was put here last, as it was compiled before it was written, until it comes into force.
    prepared: Mutex<Option<Snapshot>>,
    failure: Mutex<Option<String>>,
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

/// Which keys this replica has read.
#[derive(Default)]
struct KeysRead {
    /// The heads they were read at; `None` while some could not be read.
    as_of: Option<Vec<Head>>,
    /// The tenants with a key that cannot be read.
    unreadable: HashSet<TenantId>,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Keeps every tenant of this replica at its newest revision, until `shutdown` ends.
///
/// It survives everything: a database that is away, a bundle that does not compile, a panic in a load.
pub async fn run(app: Arc<App>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut read = KeysRead::default();
    loop {
        match poll(&app, &mut read).await {
            Ok(()) => app.progress.note(None),
            Err(error) => app.progress.note(Some(chain(&*error))),
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(app.options.poll) => {}
            () = app.progress.news.notified() => tokio::time::sleep(SHORTEST).await,
        }
    }
}

/// Reads the heads once, reloads the keys where anything changed, confirms what is current and loads what is not.
async fn poll(app: &Arc<App>, read: &mut KeysRead) -> Result<(), Failure> {
    // Before the question: an answer says how things stood when it was asked, at best.
    let began = app.clock.boot();
    let mut heads = app.store.ahead().heads().await?;
    heads.sort_by_key(|head| head.tenant);
    let time = app.store.ahead().time().await?;
    app.set_time(time, app.clock.boot());
    app.progress.keep(&heads);
    // Before the keys are read: a key that was revoked and is not in the older copy must not open anything again.
    for head in &heads {
        if let Some(standing) = app.progress.standing(head.tenant) {
            standing.compare(head);
        }
    }
    if read.as_of.as_ref() != Some(&heads) {
        read_keys(app, &heads, read).await?;
    }
    for head in heads {
        let Some(standing) = app.progress.standing(head.tenant) else {
            continue;
        };
        if standing.set_back().is_some() || read.unreadable.contains(&head.tenant) {
            continue;
        }
        if standing.applied() == Some(head.revision) {
            standing.confirm(head.revision, began);
        } else if !standing.loading.swap(true, Ordering::AcqRel) {
            tokio::spawn(bring(Arc::clone(app), standing, head, began));
        }
    }
    app.progress.polled(began, app.clock.now());
    // What was in use when it was replaced is taken apart here, where nobody waits for it.
    let waiting = Arc::clone(app);
    tokio::task::spawn_blocking(move || waiting.engine.reclaim());
    Ok(())
}

/// Replaces the keys of every tenant whose keys can be read; a row that cannot is the trouble of its tenant alone.
async fn read_keys(app: &App, heads: &[Head], read: &mut KeysRead) -> Result<(), Failure> {
    let mut unreadable = HashSet::new();
    let keys = match app.store.ahead().all_keys().await {
        Err(remit_store::Error::Corrupt { .. }) if holds(Protection::TenantsApart) => {
            let mut keys = Vec::new();
            for head in heads {
                match app.store.ahead().keys(head.tenant).await {
                    Ok(own) => keys.extend(own),
                    Err(error @ remit_store::Error::Corrupt { .. }) => {
                        // Its last good keys stay, unconfirmed like policies that could not be loaded.
                        app.progress.mark(head.tenant, Some(chain(&error)));
                        unreadable.insert(head.tenant);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            keys
        }
        keys => keys?,
    };
    app.keys.replace(keys, |tenant| {
        unreadable.contains(&tenant) || app.progress.is_set_back(tenant)
    });
    for tenant in read.unreadable.difference(&unreadable) {
        app.progress.mark(*tenant, None);
    }
    // Read again at every poll until all can be read.
    read.as_of = unreadable.is_empty().then(|| heads.to_vec());
    read.unreadable = unreadable;
    Ok(())
}

/// Brings one tenant to its head.
async fn bring(app: Arc<App>, standing: Arc<Standing>, head: Head, began: Duration) {
    let _loading = Loading(&standing);
    // A panic in the load is the load's failure, not the end of this task's promise to say how it went.
    let outcome = tokio::spawn(load(Arc::clone(&app), Arc::clone(&standing), head)).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(chain(&*error)),
        Err(panic) => Some(chain(&panic)),
    };
    app.metrics.loaded(failure.is_none());
    if let Some(cause) = &failure {
        tracing::error!(tenant = %head.tenant, revision = head.revision.number(), cause, "a tenant could not be loaded; the last good policies stay, and go stale");
    } else {
        standing.confirm(head.revision, began);
        tracing::info!(tenant = %head.tenant, revision = head.revision.number(), "a tenant is up to date");
    }
    if standing.set_back().is_none() {
        standing.note(failure);
    }
    app.progress.changed.send_replace(());
}

/// Loads what changed since the snapshot in force, and installs the result at the head's revision.
async fn load(app: Arc<App>, standing: Arc<Standing>, head: Head) -> Result<(), Failure> {
    let Head { tenant, revision } = head;
    let newest = app.store.ahead().bundle_hash(tenant, revision).await?;
    let Some((newest, hash)) = newest else {
        // Nothing decides here yet; what was stored waits in the database for the first bundle.
        return Ok(());
    };
    let current = app.engine.snapshot(tenant);
    let same_bundle = standing.bundle.load(Ordering::Acquire) == newest.number();
    let prepared = standing.prepared().take();
    let snapshot = match current {
        Some(current) if same_bundle => with_changes(&app, head, current).await?,
        current => match prepared.filter(|compiled| compiled.content_hash() == hash) {
            Some(compiled) => with_changes(&app, head, Arc::new(compiled)).await?,
            None => read_bundle(&app, head, current).await?,
        },
    };
    // Old snapshots are taken apart with it, which is nothing for a thread that answers questions.
    blocking(move || {
        app.engine.install(tenant, snapshot);
        app.engine.reclaim();
    })
    .await?;
    standing.bundle.store(newest.number(), Ordering::Release);
    Ok(())
}

/// Reads the bundle that is to come into force and compiles it.
async fn read_bundle(
    app: &App,
    head: Head,
    current: Option<Arc<Snapshot>>,
) -> Result<Snapshot, Failure> {
    let store = app.store.ahead();
    let stored = store.bundle_in_force(head.tenant, head.revision).await?;
    let bundle = Arc::new(stored.ok_or("the bundle in force is missing")?.bundle);
    if let Some(snapshot) = renew(app, head, current, Arc::clone(&bundle)).await {
        return Ok(snapshot);
    }
    // From nothing: also where what was in force cannot be led over to the new bundle.
    let compiled = blocking(move || Snapshot::compile(&bundle)).await??;
    with_changes(app, head, Arc::new(compiled.at(Revision::default()))).await
}

/// Compiles a new bundle on top of the snapshot in force, so that what did not change is not compiled again.
async fn renew(
    app: &App,
    head: Head,
    current: Option<Arc<Snapshot>>,
    bundle: Arc<remit_core::Bundle>,
) -> Option<Snapshot> {
    let current = current?;
    let revision = current.revision();
    let compiled = blocking(move || current.recompile(&bundle))
        .await
        .ok()?
        .ok()?;
    with_changes(app, head, Arc::new(compiled.at(revision)))
        .await
        .ok()
}

/// Applies every entity change after the snapshot's revision and up to the head's, one page while the next is read.
async fn with_changes(app: &App, head: Head, snapshot: Arc<Snapshot>) -> Result<Snapshot, Failure> {
    let after = snapshot.revision();
    let mut applying =
        tokio::task::spawn_blocking(move || -> Result<_, EntityError> { Ok(snapshot.change()) });
    let mut cursor = None;
    loop {
        let page = app
            .store
            .ahead()
            .entity_changes(
                head.tenant,
                after,
                head.revision,
                cursor.as_ref(),
                MAX_ENTITIES,
            )
            .await?;
        let mut changing = applying.await??;
        applying = tokio::task::spawn_blocking(move || {
            changing.apply(&page.upserts, &page.removals)?;
            Ok(changing)
        });
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let changing = applying.await??;
    let next = blocking(move || changing.finish()).await??;
    Ok(next.at(head.revision))
}

/// Runs work that takes long on a thread where nobody waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Ends the loading of a tenant, whichever way it ends.
struct Loading<'a>(&'a Standing);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.loading.store(false, Ordering::Release);
    }
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

    /// Notes a head that is older than what is in force: once, and for the life of the process.
    fn compare(&self, head: &Head) {
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
        self.note(Some(cause));
    }

    /// Returns the older revision that the database was found at, if it was ever set back under this process.
    pub(crate) fn set_back(&self) -> Option<Revision> {
        let mark = self.set_back.load(Ordering::Acquire).checked_sub(1)?;
        Some(Revision::new(mark))
    }

    fn confirm(&self, revision: Revision, began: Duration) {
        self.applied.store(revision.number(), Ordering::Release);
        // A load may end after a later poll has confirmed already; time does not go back.
        self.confirmed.fetch_max(mark(began), Ordering::AcqRel);
    }

    fn prepared(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Returns why the last load failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
    fn is_set_back(&self, tenant: TenantId) -> bool {
        self.standing(tenant)
            .is_some_and(|standing| standing.set_back().is_some())
    }

    /// Notes what is wrong with a tenant, and logs it when it is new.
    fn mark(&self, tenant: TenantId, failure: Option<String>) {
        let Some(standing) = self.standing(tenant) else {
            return;
        };
        if let Some(cause) = &failure
            && standing.failure().as_ref() != Some(cause)
        {
            tracing::error!(%tenant, cause, "the keys of a tenant cannot be read; its last good ones stay, and go stale");
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

    fn note(&self, failure: Option<String>) {
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

    fn polled(&self, began: Duration, at: Timestamp) {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.polled_boot.fetch_max(mark(began), Ordering::AcqRel);
    }

    /// Adds the tenants that are new.
    fn keep(&self, heads: &[Head]) {
        let known = self.tenants.load();
        if heads.iter().all(|head| known.contains_key(&head.tenant)) {
            return;
        }
        let mut tenants = HashMap::clone(&known);
        for head in heads {
            tenants.entry(head.tenant).or_default();
        }
        self.tenants.store(Arc::new(tenants));
    }
}
