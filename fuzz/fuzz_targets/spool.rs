//! `cargo fuzz run spool`; what it does is in `src/spool.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::spool(data));

#[cfg(not(fuzzing))]
fn main() {}
