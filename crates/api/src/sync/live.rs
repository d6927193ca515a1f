//! What is registered of a tenant, brought to its head: agents, tools, kills, exceptions, and who can answer for an agent.
//!
//! It is a part of the snapshot that is being made, and comes into force with it. Whatever way the snapshot came about,
//! its live facts are those of its revision, and what changed after that is read here.

use remit_core::Revision;
use remit_engine::{Live, LiveChange};
use remit_store::Head;

use super::revocations::{self, Changed};
use super::{Failure, blocking};
use crate::app::App;

/// The most agents or tools that are read at a time.
const PAGE: usize = 10_000;

/// Returns what is registered at the head, given what was at the revision `after`, and what is different by that.
pub(super) async fn bring(
    app: &App,
    head: Head,
    before: &Live,
    after: Revision,
) -> Result<(Live, Vec<Changed>), Failure> {
    let store = app.store.ahead();
    let now = store.live_now(head.tenant, head.revision).await?;
    let mut change = LiveChange {
        exceptions: Some(now.exceptions),
        kills: Some(now.kills),
        owners: Some(now.owners),
        ..Default::default()
    };
    if now.agents > after {
        agents_changed(app, head, after, &mut change).await?;
    }
    if now.tools > after {
        tools_changed(app, head, after, &mut change).await?;
    }
    tasks_changed(app, head, after, &mut change).await?;
    approvals_changed(app, head, after, &mut change).await?;
    // What came and went in between is in neither state.
    let leaps = head.revision.number() > after.number().saturating_add(1);
    let ended = if leaps {
        store.exceptions_ended(head.tenant, after).await?
    } else {
        Vec::new()
    };
    let before = before.clone();
    blocking(move || {
        let different = revocations::of(&before, &change, leaps.then_some(&ended));
        (before.with(change), different)
    })
    .await
}

/// Adds the agents that changed.
async fn agents_changed(
    app: &App,
    head: Head,
    after: Revision,
    change: &mut LiveChange,
) -> Result<(), Failure> {
    let (store, mut from) = (app.store.ahead(), None);
    loop {
        let page = store.agent_changes(head.tenant, after, head.revision, from.as_ref(), PAGE);
        let page = page.await?;
        change.agents.extend(page.agents);
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Adds the tools that changed.
async fn tools_changed(
    app: &App,
    head: Head,
    after: Revision,
    change: &mut LiveChange,
) -> Result<(), Failure> {
    let (store, mut from) = (app.store.ahead(), None);
    loop {
        let page = store.tool_changes(head.tenant, after, head.revision, from.as_ref(), PAGE);
        let page = page.await?;
        change.tools.extend(page.tools);
        let removed = page.removed.into_iter().map(Into::into);
        change.tools_removed.extend(removed);
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Adds the tasks that changed: as they are now, which may be later than the head, and then is read again with it.
async fn tasks_changed(
    app: &App,
    head: Head,
    after: Revision,
    change: &mut LiveChange,
) -> Result<(), Failure> {
    let (store, mut from) = (app.store.ahead(), None);
    loop {
        let page = store.tasks_changed(head.tenant, after, from, PAGE);
        let page = page.await?;
        change.tasks.extend(page.live);
        change.ended.extend(page.ended);
        change.forgotten.extend(page.forgotten);
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Adds the approvals that changed: as they are now, which may be later than the head, and then is read again with it.
async fn approvals_changed(
    app: &App,
    head: Head,
    after: Revision,
    change: &mut LiveChange,
) -> Result<(), Failure> {
    let (store, mut from) = (app.store.ahead(), None);
    loop {
        let page = store.approvals_changed(head.tenant, after, from, PAGE);
        let page = page.await?;
        change.approvals.extend(page.usable);
        change.approvals_removed.extend(page.removed);
        from = page.next;
        if from.is_none() {
            return Ok(());
        }
    }
}
