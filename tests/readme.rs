//! Every program in the README is compiled, and does what the README says of it. (The Rust one is a doc test.)

mod util;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The contents of the code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```").is_some_and(|info| info.split(',').next() == Some(language)) {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n") + "\n");
        }
    }
    blocks
}

#[test]
fn the_c_program_compiles_by_its_build_line_and_echoes() {
    let c = blocks("c");
    assert_eq!(c.len(), 1, "one C program");
    let folder = util::scratch("readme");
    std::fs::write(folder.join("echo.c"), &c[0]).unwrap();
    util::program("examples/echo"); // what `make` makes is there
    let lines = blocks("sh");
    let line = lines.iter().find_map(|block| block.trim().strip_prefix("make && ")).expect("the build line");
    let line = line
        .replace("echo.c", folder.join("echo.c").to_str().unwrap())
        .replace("-o echo", &format!("-o {} -Wall -Wextra -Wpedantic -Werror", folder.join("echo").display()));
    let status =
        Command::new("sh").args(["-c", &line]).current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("sh runs");
    assert!(status.success(), "{line}");

    // The README's port may be taken by somebody else on this machine: then only the compilation was tested.
    if std::net::TcpListener::bind("127.0.0.1:7007").is_err() {
        return println!("skipped: running the README's echo server; port 7007 is taken");
    }
    let mut server = Command::new(folder.join("echo")).stdout(Stdio::null()).spawn().unwrap();
    let echoed = std::panic::catch_unwind(|| {
        let began = Instant::now();
        let mut client = loop {
            match TcpStream::connect("127.0.0.1:7007") {
                Ok(client) => break client,
                Err(_) if began.elapsed() < Duration::from_secs(30) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => panic!("no server after half a minute: {error}"),
            }
        };
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(b"hello, becket").unwrap();
        let mut answer = [0; 13];
        client.read_exact(&mut answer).unwrap();
        answer
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(&echoed.unwrap(), b"hello, becket");
}

#[test]
fn the_arithmetic_is_right() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains("53,632 bytes"));
    assert_eq!(size_of::<becket::Storage<600, 64>>(), 53_120);
    assert!(readme.contains("256 sources: 24,064 bytes"));
    assert_eq!(size_of::<becket::Storage<256, 0>>(), 24_064);
}

#[test]
fn there_is_a_rust_program() {
    // src/lib.rs includes the README as documentation, so `cargo test` compiles it.
    assert_eq!(blocks("rust").len(), 1);
}
