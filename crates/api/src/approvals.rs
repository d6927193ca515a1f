//! Approvals: where a person must answer, who may, what they see, and what comes of it.

pub(crate) mod answering;
pub(crate) mod card;
pub(crate) mod delegations;
pub(crate) mod denial;
pub(crate) mod escalating;
pub(crate) mod groups;
pub(crate) mod handle;
pub(crate) mod page;
pub(crate) mod queue;
mod quorum;
pub(crate) mod requests;
pub(crate) mod standing;
pub(crate) mod submission;
pub(crate) mod sweeping;
pub(crate) mod waiting;
pub(crate) mod wants;
pub(crate) mod watching;
