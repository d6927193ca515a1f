//! What one transaction may touch: the rows of one tenant, or of all of them for a reason that is named here.
//!
//! Every statement says whose rows it means in its `WHERE`. This says it a second time, to Postgres, which then shows no
//! others (row-level security): a statement that forgot its tenant finds nothing instead of everything.

use remit_core::TenantId;

/// Whose rows a transaction may read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of one tenant.
    Tenant(TenantId),
    /// Those of every tenant.
    Across(Across),
    /// Nobody's: the statements name no table that belongs to tenants.
    Nobody,
}

/// Why statements span tenants by nature; a test lists where each stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// A replica asks how far every tenant has come.
    Heads,
    /// A replica loads the keys it authenticates with, and an id of a key belongs to one tenant only.
    Keys,
    /// A spool holds the decisions of every tenant.
    Shipping,
    /// A replica tells how far it has come with every tenant.
    Heartbeat,
    /// A replica asks which tenants have a shadow.
    Shadows,
    /// What is reserved of budgets, and has been for too long.
    Reservations,
    /// Events of long ago are forgotten.
    Events,
    /// A replica looks what is to be told to webhooks.
    Webhooks,
    /// A replica loads what is registered of a tenant, and with it what stops every tenant.
    Live,
    /// What stops every tenant moves all of them on.
    Kills,
    /// Tenants are made and listed.
    Tenants,
    /// The schema changes under all of them.
    Migration,
}

// === impl Reach ===

impl Reach {
    /// Returns what the setting `remit.tenant` is for this transaction; it has no character that SQL must escape.
    pub(crate) fn setting(self) -> Option<String> {
        match self {
            Self::Tenant(tenant) => Some(tenant.uuid().hyphenated().to_string()),
            Self::Across(_) => Some("*".to_owned()),
            Self::Nobody => None,
        }
    }
}

impl From<TenantId> for Reach {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

impl From<Across> for Reach {
    fn from(across: Across) -> Self {
        Self::Across(across)
    }
}
