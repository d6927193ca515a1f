//! `cargo fuzz run policy`; what it does is in `src/policy.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::policy(data));

#[cfg(not(fuzzing))]
fn main() {}
