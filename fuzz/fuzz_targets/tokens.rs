//! `cargo fuzz run tokens`; what it does is in `src/tokens.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::tokens(data));

#[cfg(not(fuzzing))]
fn main() {}
