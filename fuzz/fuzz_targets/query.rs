//! `cargo fuzz run query`; what it does is in `src/query.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::query(data));

#[cfg(not(fuzzing))]
fn main() {}
