//! Approvals: what persons are asked to approve, who answers, and what came of it.

pub(crate) mod groups;

pub use groups::*;
