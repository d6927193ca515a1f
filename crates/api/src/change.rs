//! Changing what decides: checked against one state, written over no other, answered when it is in force.

use std::sync::Arc;
use std::time::Instant;

use remit_core::{Revision, TenantId};
use remit_engine::Snapshot;
use remit_store::Error;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// How often a change is checked at least because something else of the tenant changed under it; more often while there is
/// time.
const ATTEMPTS: usize = 8;

/// What came of writing a change that was checked against one revision.
pub(crate) enum Attempt<T> {
    /// It is written.
    Written(T),
    /// It is not: the tenant has moved on to this revision, and the check must be made again there.
    Moved(Revision),
}

/// The attempts at one change: check it against a snapshot, write it if nothing has changed since that revision.
///
/// Without this, an entity that fits the schema of one bundle could be written just after another bundle, and no replica
/// could load the two together.
pub(crate) struct Attempts<'a> {
    app: &'a App,
    tenant: TenantId,
    made: usize,
    /// A third of the time for the request; the rest is for what is written to come into force.
    until: Instant,
}

// === impl Attempts ===

impl<'a> Attempts<'a> {
    pub(crate) fn new(app: &'a App, tenant: TenantId) -> Self {
        Self {
            app,
            tenant,
            made: 0,
            until: Instant::now() + app.options.deadline / 3,
        }
    }

    /// Returns the state to check the change against.
    pub(crate) fn base(&self) -> Option<Arc<Snapshot>> {
        self.app.engine.snapshot(self.tenant)
    }

    /// Waits until this replica is where the tenant has moved on to, for another attempt.
    ///
    /// # Errors
    ///
    /// `conflict` when there have been too many.
    pub(crate) async fn again(&mut self, head: Revision) -> Result<(), Problem> {
        self.made += 1;
        if self.made >= ATTEMPTS && Instant::now() >= self.until {
            let detail = "too many others are changing this tenant; nothing was changed, try again";
            return Err(Problem::new(Kind::CONFLICT, detail));
        }
        self.app.reached(self.tenant, head).await
    }
}

// === impl Attempt ===

impl<T> Attempt<T> {
    /// Reads what the store says of a write.
    pub(crate) fn of(written: Result<T, Error>) -> Result<Self, Problem> {
        match written {
            Ok(done) => Ok(Self::Written(done)),
            Err(Error::Moved { head }) => Ok(Self::Moved(head)),
            Err(error) => Err(error.into()),
        }
    }
}
