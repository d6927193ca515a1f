//! `cargo fuzz run schema`; what it does is in `src/schema.rs`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| remit_fuzz::schema(data));

#[cfg(not(fuzzing))]
fn main() {}
