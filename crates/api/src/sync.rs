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
//!
//! Beside the poll, a hint of the database that something has changed brings the next poll forward (`Hints`), and what is
//! in force here is told to the database (`replicas`). Neither is waited for: the poll alone is what freshness rests on.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use remit_core::controls::{Protection, holds};
use remit_core::{Revision, TenantId};
use remit_engine::{EntityError, Snapshot};
use remit_store::{Head, MAX_ENTITIES};

use crate::app::{App, keep_expiring, keep_returning};
use crate::approvals::escalating;
use crate::approvals::sweeping::keep_sweeping;
use crate::approvals::watching::keep_forgetting;
use crate::background::survive;
use crate::registry::webhooks::delivering;
use crate::tasks::keeping;

mod live;
pub(crate) mod progress;
mod replicas;
pub(crate) mod revocations;
mod shadows;

use progress::{Cause, Standing, chain};
use replicas::Presence;
use revocations::Changed;

/// However often somebody asks for news, the database is not asked more often than this.
pub(crate) const SHORTEST: Duration = Duration::from_millis(20);

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
    let mut presence = Presence::new(&app);
    let working = async {
        // Before anything is read: who looks for replicas that may decide by something older must find this one.
        presence.tell(&app).await;
        tokio::join!(
            keep_current(&app),
            presence.keep_telling(&app),
            listen(&app),
            // Not in the task that polls: what goes wrong with a shadow, or takes long, makes nobody stale.
            survive("the tasks", || keeping::keep(Arc::clone(&app))),
            survive("what is reserved", || keep_expiring(Arc::clone(&app))),
            survive("access requests", || keep_sweeping(Arc::clone(&app))),
            survive("the webhooks", || delivering::keep(Arc::clone(&app))),
            survive("events of long ago", || keep_forgetting(Arc::clone(&app))),
            survive("what is in escrow", || keep_returning(Arc::clone(&app))),
            survive("what goes on to others", || escalating::keep(Arc::clone(
                &app
            ))),
            survive("the shadows", || shadows::keep(Arc::clone(&app))),
            survive("what shadows found", || shadows::keep_telling(Arc::clone(
                &app
            )))
        )
    };
    tokio::select! {
        () = shutdown => {}
        _ = working => {}
    }
    app.leave_escrows().await;
    shadows::leave(&app).await;
    keeping::leave(&app).await;
    presence.leave(&app).await;
}

/// Polls again and again, sooner where there is news.
async fn keep_current(app: &Arc<App>) {
    let mut read = KeysRead::default();
    loop {
        match poll(app, &mut read).await {
            Ok(()) => app.progress.note(None),
            Err(error) => app.progress.note(Some(chain(&*error))),
        }
        tokio::select! {
            () = tokio::time::sleep(app.options.poll) => {}
            () = app.progress.news() => tokio::time::sleep(SHORTEST).await,
        }
    }
}

/// Takes every hint of the database for news.
async fn listen(app: &App) {
    let mut hints = app.store.hints();
    let mut deaf = false;
    loop {
        match hints.next().await {
            Ok(()) => {
                if std::mem::take(&mut deaf) {
                    tracing::info!("the database tells of changes again");
                }
                app.progress.nudge();
            }
            Err(error) => {
                // Once when it begins, not at every attempt.
                if !std::mem::replace(&mut deaf, true) {
                    let cause = chain(&error);
                    tracing::warn!(
                        cause,
                        "the database cannot tell of changes; each is found by the next poll"
                    );
                }
            }
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
            // Before anything is confirmed: what may still permit was read after the tenant was suspended, or not at all.
            standing.suspend(head.suspended);
        } else if app.engine.snapshot(head.tenant).is_some() {
            // It was deleted.
            app.engine.remove(head.tenant);
            app.revocations.remove(head.tenant);
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
        } else if standing.starts_loading(head.revision) {
            tokio::spawn(bring(Arc::clone(app), standing, head, began));
        } else if standing.missed() {
            // The load ended between the two questions, and did not see that there is more.
            app.progress.nudge();
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
                        app.progress.mark(head.tenant, Some(Cause::of(&error)));
                        unreadable.insert(head.tenant);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            keys
        }
        keys => keys?,
    };
    let gone = app.keys.replace(keys, app.now(), |tenant| {
        unreadable.contains(&tenant) || app.progress.is_set_back(tenant)
    });
    app.revocations.keys(gone);
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
    let loading = Loading(&standing);
    // A panic in the load is the load's failure, not the end of this task's promise to say how it went.
    let outcome = tokio::spawn(load(Arc::clone(&app), Arc::clone(&standing), head)).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Cause::of(&*error)),
        Err(panic) => Some(Cause::of(&panic)),
    };
    app.metrics.loaded(failure.is_none());
    if let Some(Cause { chain, .. }) = &failure {
        tracing::error!(tenant = %head.tenant, revision = head.revision.number(), cause = chain, "a tenant could not be loaded; the last good policies stay, and go stale");
    } else {
        standing.confirm(head.revision, began);
        tracing::info!(tenant = %head.tenant, revision = head.revision.number(), "a tenant is up to date");
    }
    if standing.set_back().is_none() {
        standing.note(failure);
    }
    app.progress.loaded();
    drop(loading);
    if standing.missed() {
        app.progress.nudge();
    }
}

/// Loads what changed since the snapshot in force, and installs the result at the head's revision.
async fn load(app: Arc<App>, standing: Arc<Standing>, head: Head) -> Result<(), Failure> {
    let Head {
        tenant, revision, ..
    } = head;
    let newest = app.store.ahead().bundle_hash(tenant, revision).await?;
    let Some((newest, hash)) = newest else {
        // Nothing decides here yet; what was stored waits in the database for the first bundle.
        return Ok(());
    };
    let current = app.engine.snapshot(tenant);
    let same_bundle = standing.bundle() == newest;
    let prepared = standing.prepared().take();
    let before = current.clone();
    let snapshot = match current {
        Some(current) if same_bundle => with_changes(&app, head, current).await?,
        current => match prepared.filter(|compiled| compiled.content_hash() == hash) {
            Some(compiled) => with_changes(&app, head, Arc::new(compiled)).await?,
            None => read_bundle(&app, head, current).await?,
        },
    };
    // Old snapshots are taken apart with it, which is nothing for a thread that answers questions.
    blocking(move || {
        let now = snapshot.clone();
        app.engine.install(tenant, snapshot);
        // Only now: whoever is told of it asks again, and is answered by it.
        let both = (before.as_deref(), &now);
        app.revocations.installed(tenant, both, !same_bundle);
        drop((before, now));
        app.engine.reclaim();
    })
    .await?;
    standing.installed(newest);
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

/// Applies every change of entities and of what is registered after the snapshot's revision and up to the head's, one page
/// of entities while the next is read.
async fn with_changes(app: &App, head: Head, snapshot: Arc<Snapshot>) -> Result<Snapshot, Failure> {
    let after = snapshot.revision();
    let mut gathering = app.shadows.gather(head.tenant, &snapshot);
    let mut applying =
        tokio::task::spawn_blocking(move || -> Result<_, EntityError> { Ok(snapshot.change()) });
    let (mut cursor, mut entities) = (None, false);
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
        if let Some(gathering) = &mut gathering {
            gathering.add(&page.upserts, &page.removals);
        }
        entities |= !(page.upserts.is_empty() && page.removals.is_empty());
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
    if let Some(gathering) = gathering {
        gathering.hand_over(after, head.revision);
    }
    let (live, mut different) = live::bring(app, head, next.live(), after).await?;
    different.extend(entities.then_some(Changed::Entities));
    app.revocations.found(head.tenant, after, different);
    Ok(next.with_live(live).at(head.revision))
}

/// Runs work that takes long on a thread where nobody waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// Ends the loading of a tenant, whichever way it ends.
struct Loading<'a>(&'a Standing);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.ends_loading();
    }
}
