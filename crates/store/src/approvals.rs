//! Approvals: what persons are asked to approve, who answers, and what came of it.

pub(crate) mod groups;
pub(crate) mod past;

pub use groups::*;
pub use past::Past;
