//! The store crate of Remit.
