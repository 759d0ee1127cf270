//! The C side: every program of `tests/c` ends with 0, as it is, under the sanitizers and under valgrind; and the header is good
//! C11 and C++17 for gcc and clang, from two translation units. What the examples do is in `examples.rs`.

mod util;

use std::path::PathBuf;
use std::process::Command;
use util::{Child, Watched};

/// The programs of `tests/c`: every file with a `main`. The two halves of `header` are one.
fn programs() -> Vec<String> {
    let folder = util::root().join("tests/c");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("tests/c") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        if std::fs::read_to_string(&path).unwrap().contains("int main(") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            names.push(format!("tests/{}", if name == "header_a" { "header" } else { name }));
        }
    }
    names.sort();
    for expected in ["tests/api", "tests/header", "tests/misuse"] {
        assert!(names.iter().any(|name| name == expected), "{expected} is missing in {names:?}");
    }
    names
}

fn run_all(watched: Watched) {
    if !Watched::all().contains(&watched) {
        return; // said by all()
    }
    for name in programs() {
        Child::spawn(&mut watched.command(&name)).expect_exit(0);
    }
}

#[test]
fn each_ends_with_0() {
    run_all(Watched::No);
}

#[test]
fn each_is_clean_under_the_sanitizers() {
    run_all(Watched::Sanitizers);
}

#[test]
fn each_is_clean_under_valgrind() {
    run_all(Watched::Valgrind);
}

/// Those that have to do with POSIX AIO, with a library that has it.
#[test]
fn those_with_aio_end_with_0() {
    for name in ["aio/tests/aio", "aio/tests/fallback", "aio/tests/faults_operations", "aio/tests/operations"] {
        if util::is_made(name) {
            Child::spawn(&mut Command::new(util::program(name))).expect_exit(0);
        } else {
            util::skip(name, "glibc");
        }
    }
}

/// The tools would notice: a program that reads beyond its memory is found by both.
#[test]
fn the_tools_find_a_mistake() {
    let folder = util::scratch("mistake");
    let source = folder.join("mistake.c");
    std::fs::write(
        &source,
        "#include <stdlib.h>\nint main(void) { volatile char *p = malloc(8); int n = p ? p[8] : 0; free((void *)p); return n & 0; }\n",
    )
    .unwrap();
    for watched in Watched::all() {
        let program = folder.join(format!("mistake-{watched:?}"));
        let mut cc = util::cc();
        cc.args(["-g", "-O0"]).arg(&source).arg("-o").arg(&program);
        let mut command = match watched {
            Watched::No => continue,
            Watched::Sanitizers => {
                cc.arg("-fsanitize=address,undefined");
                let mut command = Command::new(&program);
                command.env("ASAN_OPTIONS", format!("exitcode={}", util::FOUND_SOMETHING));
                command
            }
            Watched::Valgrind => {
                let mut command = Command::new("valgrind");
                command.args(["-q", &format!("--error-exitcode={}", util::FOUND_SOMETHING)]).arg(&program);
                command
            }
        };
        assert!(cc.status().unwrap().success());
        Child::spawn(&mut command).expect_exit(util::FOUND_SOMETHING);
    }
}

/// Compiles both units with one compiler and links them with the archive; the program must end with 0.
fn header_is_clean(compiler: &str, arguments: &[&str], link: &str) {
    if !util::have(compiler) || !util::have(link) {
        return util::skip(
            &format!("the header with {compiler} {}", arguments.join(" ")),
            compiler.trim_end_matches("++"),
        );
    }
    let archive = util::archive();
    let name = format!("{}{}", compiler.replace("++", "pp"), arguments.concat().replace(['-', '=', '+'], "_"));
    let folder = util::scratch("header");
    let mut objects: Vec<PathBuf> = Vec::new();
    for unit in ["header_a", "header_b"] {
        let object = folder.join(format!("{name}_{unit}.o"));
        let output = Command::new(compiler)
            .current_dir(util::root())
            .args(arguments)
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-Iinclude", "-c"])
            .arg(format!("tests/c/{unit}.c"))
            .arg("-o")
            .arg(&object)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{compiler} {arguments:?} {unit}:\n{said}");
        objects.push(object);
    }
    let program = folder.join(&name);
    let output = Command::new(link).args(&objects).arg(archive).arg("-o").arg(&program).output().unwrap();
    assert!(output.status.success(), "{link}:\n{}", String::from_utf8_lossy(&output.stderr));
    Child::spawn(&mut Command::new(program)).expect_exit(0);
}

#[test]
fn the_header_is_c11() {
    for compiler in ["gcc", "clang"] {
        header_is_clean(compiler, &["-std=c11"], compiler);
        header_is_clean(compiler, &["-std=c11", "-O2"], compiler);
        header_is_clean(compiler, &["-std=gnu17"], compiler);
    }
}

#[test]
fn the_header_is_cpp17() {
    for compiler in ["g++", "clang++"] {
        header_is_clean(compiler, &["-xc++", "-std=c++17"], compiler);
    }
}

/// In C++ the structs are usable too when their fields are named one by one, whatever the standard: C++20 as well.
#[test]
fn the_header_is_cpp20() {
    for compiler in ["g++", "clang++"] {
        header_is_clean(compiler, &["-xc++", "-std=c++20"], compiler);
    }
}
