//! The snapshots in force, by tenant.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use remit_core::TenantId;
use rustc_hash::FxBuildHasher;

use crate::Snapshot;

type Tenants = HashMap<TenantId, Arc<Snapshot>, FxBuildHasher>;

/// Which snapshot decides for each tenant.
///
/// Reading takes no lock and never waits for a writer; a snapshot is replaced whole (INV-5), so that one decision sees
/// exactly one revision.
#[derive(Debug, Default)]
pub struct Engine {
    tenants: ArcSwap<Tenants>,
}

// === impl Engine ===

impl Engine {
    /// Makes an engine without tenants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the snapshot in force for `tenant`.
    pub fn snapshot(&self, tenant: TenantId) -> Option<Arc<Snapshot>> {
        self.tenants.load().get(&tenant).cloned()
    }

    /// Puts `snapshot` in force for `tenant`; what was in force before decides until then.
    pub fn install(&self, tenant: TenantId, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.tenants.rcu(|tenants| {
            let mut tenants = Tenants::clone(tenants);
            tenants.insert(tenant, Arc::clone(&snapshot));
            tenants
        });
    }
}
