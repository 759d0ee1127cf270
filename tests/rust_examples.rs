//! The Rust examples do what they say.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// cargo has built the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path = PathBuf::from(std::env::current_exe().unwrap().parent().unwrap().parent().unwrap());
    path.push("examples");
    path.push(name);
    Command::new(path)
}

#[test]
fn wake_hands_over_every_result() {
    let output = example("wake").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100000 results, sum 5000050000\n");
}

#[test]
fn pull_counts_the_lines_of_its_input() {
    let mut child = example("pull").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for _ in 0..1000 {
        input.write_all(b"a line\n").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 lines\n");
}

#[test]
fn pull_says_what_is_wrong_with_a_regular_file() {
    let file = std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let output = example("pull").stdin(file).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard input"), "{output:?}");
}
