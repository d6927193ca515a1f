//! The engine crate of Remit.
