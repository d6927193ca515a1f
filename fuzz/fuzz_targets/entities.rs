//! `cargo fuzz run entities`; what it does is in `src/entities.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::entities(data));

#[cfg(not(fuzzing))]
fn main() {}
