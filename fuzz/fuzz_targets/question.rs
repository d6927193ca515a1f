//! `cargo fuzz run question`; what it does is in `src/question.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::question(data));

#[cfg(not(fuzzing))]
fn main() {}
