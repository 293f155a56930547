//! The target `machine_words` of this crate, with libFuzzer around it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::run("machine_words", input));
