//! Everything Remit keeps in a database, on Postgres or SQLite.
//!
//! Open a [`Store`], [`Store::migrate`] it, then call the methods of the noun you need: tenants, bundles, entities, API
//! keys, principals, records of administration, decisions, tasks, replicas. The text and the check of an API key are [`ApiKey`], [`Pepper`] and [`StoredKey`].
//!
//! Invariants: each SQL statement is written once and runs on both databases (INV-7); what differs between them is in
//! `dialect`. Every method takes the tenant first and reads nothing of another. Every change of a bundle, an entity or
//! a key raises the tenant's [`Revision`](remit_core::Revision) in its own transaction, so revisions increase in commit
//! order. Every call ends within its deadline, whatever the database does; the connection of a call that did not end
//! well is not used again. Ids are byte-exact.
//!
//! Deliberately absent: what a policy means, HTTP, a trait over the two databases (SQLite in memory is the double in tests).

#[macro_use]
mod db;

mod admin_actions;
mod api_key;
mod approvals;
mod budgets;
mod bundles;
mod decisions;
mod dialect;
mod drafts;
mod entities;
mod error;
mod events;
mod idempotency;
mod keys;
mod migrations;
mod outcomes;
mod principals;
mod reach;
mod registry;
mod replicas;
mod scope;
mod shadows;
mod shipping;
mod store;
mod tasks;
mod tenants;
mod versions;

pub use admin_actions::{AdminActionFilter, Change, Operation};
pub use budgets::{Consumed, Consumption, Escrow, MOST_CHARGED, StoredBudget};
pub use bundles::{Expected, StoredBundle};
pub use decisions::{DecisionFilter, EntityPattern, StoredDecision};
pub use entities::{EntitiesChanged, EntityChanges, EntityCursor, MAX_ENTITIES, StoredEntity};
pub use idempotency::{Once, StoredAnswer};
pub use keys::{FirstKey, NewKey, StoredKey, Unusable};
pub use shadows::{Disagreement, ShadowFindings, ShadowGroup, ShadowHead, ShadowNote, ShadowTally};
pub use shipping::{SharedRecord, ShippedRecord, SpoolPosition};
pub use store::{Options, Store};
pub use tasks::*;
pub use tenants::*;
pub use versions::{Authorship, StoredVersion};
pub use {api_key::ApiKey, api_key::ParseKeyError, api_key::Pepper, registry::*, replicas::*};
pub use {
    approvals::*, drafts::*, error::Error, events::*, outcomes::*, principals::*, scope::Scope,
};
