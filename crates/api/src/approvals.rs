//! Approvals: what a person is asked, and what they say.

pub(crate) mod page;
