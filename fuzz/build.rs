//! Compiles the C parser for the target `http_request`, with AddressSanitizer, UndefinedBehaviorSanitizer and coverage
//! that libFuzzer can read, by whatever `cc` is.

fn main() {
    const FOLDER: &str = "fuzz_targets/http_request";
    for file in
        ["build.rs", FOLDER, "../c-examples/http_request.h", "../c-examples/http_file.h", "../c-examples/http_date.h"]
    {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut parser = cc::Build::new();
    parser.file(format!("{FOLDER}/parser.c")).include("../c-examples").std("c11").extra_warnings(true);
    // Only cargo-fuzz links what these need.
    if std::env::var_os("CARGO_CFG_FUZZING").is_some() {
        parser.opt_level(1).debug(true).flag("-fno-omit-frame-pointer");
        parser.flag("-fsanitize=address,undefined").flag("-fno-sanitize-recover=all");
        // gcc and clang both know these two.
        parser.flag("-fsanitize-coverage=trace-pc,trace-cmp");
        cc::Build::new().file(format!("{FOLDER}/coverage.c")).std("c11").opt_level(2).compile("coverage");
        println!("cargo::rustc-link-arg-bin=http_request=-Wl,--wrap=__sanitizer_cov_trace_pc");
    }
    parser.compile("parser");
}
