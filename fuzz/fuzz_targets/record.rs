//! `cargo fuzz run record`; what it does is in `src/record.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::record(data));

#[cfg(not(fuzzing))]
fn main() {}
