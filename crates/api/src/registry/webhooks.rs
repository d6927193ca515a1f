//! Webhooks: what happens is told to others, signed, at addresses that are not this server's own.

use std::sync::Arc;

use remit_store::Pepper;

use crate::app::Hooks;

pub(crate) mod callbacks;
pub(crate) mod delivering;
pub(crate) mod endpoints;
mod guard;
mod sending;
mod shown;
mod signing;

use guard::Guard;
use sending::Sending;
use signing::Vault;

/// What every webhook needs.
pub(crate) struct Webhooks {
    guard: Arc<Guard>,
    sending: Sending,
    vault: Vault,
}

// === impl Webhooks ===

impl Webhooks {
    pub(crate) fn new(pepper: &Pepper, options: &Hooks) -> Self {
        let guard = Arc::new(Guard::new(options.allow.clone(), guard::system()));
        Self {
            sending: Sending::new(Arc::clone(&guard), options.timeout),
            guard,
            vault: Vault::new(pepper.derive("secrets of webhooks")),
        }
    }
}
