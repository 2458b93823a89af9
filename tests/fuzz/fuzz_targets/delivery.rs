#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| forebay::delivery::fuzz::operations(data));
