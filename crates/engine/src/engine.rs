//! The snapshots in force, by tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What was in force before. Without these, whoever decides last by an old snapshot would take it apart, which may
    /// take longer than a thousand decisions.
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

/// Returns the version of Cedar that decides.
pub fn cedar_version() -> String {
    cedar_policy::get_sdk_version().to_string()
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
    ///
    /// What was in force is kept until [`Engine::reclaim`] or the next call finds that nobody decides by it any more.
    pub fn install(&self, tenant: TenantId, snapshot: Snapshot) {
        self.reclaim();
        let snapshot = Arc::new(snapshot);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(self.snapshot(tenant));
        self.tenants.rcu(|tenants| {
            let mut tenants = Tenants::clone(tenants);
            tenants.insert(tenant, Arc::clone(&snapshot));
            tenants
        });
    }

    /// Takes what is in force for `tenant` away; from then on nothing decides for it. [`Engine::reclaim`] takes it apart.
    pub fn remove(&self, tenant: TenantId) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.extend(self.snapshot(tenant));
        self.tenants.rcu(|tenants| {
            let mut tenants = Tenants::clone(tenants);
            tenants.remove(&tenant);
            tenants
        });
    }

    /// Takes apart the snapshots that nobody decides by any more, which takes long: call it where nobody waits.
    ///
    /// Returns how many are kept because a decision by them is under way.
    pub fn reclaim(&self) -> usize {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has it, and nobody gets it from here: the one count is ours.
        let free: Vec<Arc<Snapshot>> = retired
            .extract_if(.., |snapshot| Arc::strong_count(snapshot) == 1)
            .collect();
        let kept = retired.len();
        drop(retired);
        drop(free);
        kept
    }
}
