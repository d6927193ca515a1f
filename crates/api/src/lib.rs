//! The api crate of Remit.
