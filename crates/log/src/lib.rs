//! The log crate of Remit.
