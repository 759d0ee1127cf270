//! The dependency arrow of `src/` points one way, as the layers are drawn in `src/lib.rs`: front ends, engine, then
//! backends, operations and processes, then sys; storage, time, errors and handles are leaves.
//!
//! It reads the sources as text: every `crate::…` and `super::…` path outside of comments, strings and tests. That
//! is less than a compiler knows (a macro could hide a path) and enough for what people write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each top module of the crate may name, itself aside.
const ARROWS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("atomic", &[]),
    ("ready", &[]),
    ("ring", &["error"]),
    ("request", &["error"]),
    ("aio", &["error", "storage"]),
    ("streams", &["error", "storage"]),
    ("handle", &["error", "time"]),
    ("error", &["time"]),
    ("storage", &["atomic", "ready", "request", "error", "time", "handle"]),
    ("sys", &["aio", "ready", "ring", "request", "error", "time"]),
    ("backend", &["aio", "streams", "ready", "ring", "request", "sys", "storage", "error", "time", "handle"]),
    ("ops", &["aio", "ready", "ring", "request", "sys", "storage", "error", "time", "handle"]),
    ("process", &["atomic", "ready", "sys", "storage", "error", "time", "handle"]),
    (
        "engine",
        &[
            "streams", "ready", "ring", "request", "backend", "ops", "process", "sys", "storage", "error", "time",
            "handle",
        ],
    ),
    (
        "front",
        &[
            "aio", "streams", "ready", "ring", "request", "engine", "backend", "ops", "process", "storage", "error",
            "time", "handle",
        ],
    ),
    ("task", &["ready", "front", "engine", "backend", "ops", "process", "storage", "error", "time", "handle"]),
    (
        "ffi",
        &[
            "aio", "streams", "ready", "ring", "request", "front", "engine", "backend", "ops", "process", "sys",
            "storage", "error", "time", "handle",
        ],
    ),
];

/// Single exceptions, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The numbers of the errno values differ between systems, so they come from libc, which only sys names.
    ("error.rs", "sys::errno"),
];

/// Folders and files that may contain unsafe code.
const UNSAFE: &[&str] = &[
    "sys/",
    "ffi/",
    "storage/",
    // The kernel reads the table during a wait, while another thread may change it: no reference can span that.
    "backend/poll.rs",
    // The one place where the caller's memory becomes the simulator.
    "backend/sim/memory.rs",
    // The one place where the engine's memory becomes the engine, and where its parts are kept apart.
    "engine/core.rs",
    // The Rust front end's borrow of it.
    "front/mod.rs",
    // The one place where the caller's memory becomes entries.
    "aio.rs",
    "streams.rs",
    // Memory that is lent to an operation, and the lease that says so.
    "front/memory.rs",
    "front/streams.rs",
    "request.rs",
    // The table of signals, which signal handlers read.
    "process/signals.rs",
];

fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&top, &mut found);
    // A file of tests (`#[cfg(test)] mod tests;`) may do what tests do.
    found.retain(|path| !path.ends_with("tests.rs"));
    let name = |path: &Path| path.strip_prefix(&top).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The source without comments, the contents of strings and character literals, and items for tests only.
fn code(source: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let start = rest.find('"').unwrap() + 1;
            rest = rest[start..].find(end).map_or("", |at| &rest[start + at + end.len()..]);
        } else if next == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |at| &rest[at + 2..]);
            text.push_str("\"\"");
        } else if rest.starts_with("'\"'") || rest.starts_with("'{'") || rest.starts_with("'}'") {
            rest = &rest[3..];
        } else {
            text.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    for attribute in ["#[cfg(test)]", "#[cfg(doctest)]"] {
        while let Some(start) = text.find(attribute) {
            let end = text[start..].find(['{', ';']).map_or(text.len(), |at| match text.as_bytes()[start + at] {
                b'{' => start + at + block(&text[start + at..]),
                _ => start + at + 1,
            });
            text.replace_range(start..end, "");
        }
    }
    text
}

/// The length of the block in braces with which the text starts.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// The paths that a path expression with groups stands for: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(text: &str, prefix: &str, paths: &mut Vec<String>) {
    let text = text.trim_start();
    if text.starts_with('{') {
        let inner = &text[1..block(text).saturating_sub(1).max(1)];
        let mut depth = 0;
        for part in inner.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        }) {
            if !part.trim().is_empty() {
                expand(part, prefix, paths);
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path = format!("{prefix}{}{}", if prefix.is_empty() { "" } else { "::" }, &text[..end]);
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.trim_start().starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '{') => {
            expand(rest, &path, paths);
        }
        _ => paths.push(path),
    }
}

/// Every path into the crate that the file names, from the crate's root on: `storage::slot::Slot`.
fn paths(file: &str, source: &str) -> Vec<String> {
    let code = code(source);
    // The module path of the file: `engine/mod.rs` is `engine`, `engine/turn.rs` is `engine::turn`.
    let mut module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(module.last(), Some(&"mod" | &"lib")) {
        module.pop();
    }
    let mut found = Vec::new();
    let starts_word = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    for (at, word) in code.match_indices("crate::") {
        // `$crate::` in a macro is the same crate.
        if starts_word(at) {
            expand(&code[at + word.len()..], "", &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        if !starts_word(at) {
            continue;
        }
        let mut rest = &code[at..];
        let mut base = module.clone();
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        expand(rest, &base.join("::"), &mut found);
    }
    found
}

/// The names that `lib.rs` re-exports, with the module that each comes from.
fn reexports(lib: &str) -> BTreeMap<String, String> {
    let code = code(lib);
    let mut names = BTreeMap::new();
    for (at, word) in code.match_indices("use ") {
        let statement = &code[at + word.len()..];
        let statement = &statement[..statement.find(';').unwrap_or(statement.len())];
        let mut paths = Vec::new();
        expand(statement, "", &mut paths);
        for path in paths {
            let (module, name) = (path.split("::").next().unwrap(), path.rsplit("::").next().unwrap());
            names.insert(name.to_owned(), module.to_owned());
        }
    }
    names
}

/// What is wrong with one file's arrows.
fn wrong_arrows(file: &str, source: &str, reexports: &BTreeMap<String, String>) -> Vec<String> {
    let own = file.split('/').next().unwrap().trim_end_matches(".rs");
    if own == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(module, _)| *module == own) else {
        return vec![format!("src/{file}: no layer is known for it: add it to ARROWS")];
    };
    let mut wrong = Vec::new();
    for path in paths(file, source) {
        let first = path.split("::").next().unwrap();
        let target = match ARROWS.iter().find(|(module, _)| *module == first) {
            Some(_) => first,
            None => match reexports.get(first) {
                Some(module) => module,
                // `super` inside of an inner module; or an item of lib.rs, which `lib_is_an_index` forbids.
                None => continue,
            },
        };
        let excepted = EXCEPTIONS.iter().any(|(name, to)| {
            *name == file && path.strip_prefix(to).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        if target != own && !allowed.contains(&target) && !excepted {
            wrong.push(format!("src/{file} names crate::{path}: {own} may not know {target}"));
        }
    }
    wrong
}

fn check(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn arrows_point_one_way() {
    let sources = sources();
    let reexports = reexports(&sources["lib.rs"]);
    let wrong: Vec<String> = sources.iter().flat_map(|(file, source)| wrong_arrows(file, source, &reexports)).collect();
    check(&wrong);
}

#[test]
fn only_sys_names_libc() {
    let mut wrong = Vec::new();
    for (file, source) in sources() {
        let code = code(&source);
        let words = |word: &str| {
            code.match_indices(word).any(|(at, _)| {
                !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    && !code[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        };
        if words("libc") && !file.starts_with("sys/") {
            wrong.push(format!("src/{file} names libc"));
        }
        if words("clock_gettime") && file != "sys/clock.rs" {
            wrong.push(format!("src/{file} reads a clock"));
        }
        if words("unsafe") && !UNSAFE.iter().any(|folder| file.starts_with(folder)) {
            wrong.push(format!("src/{file} contains unsafe code"));
        }
        if words("std") || words("alloc") {
            wrong.push(format!("src/{file} names std or alloc"));
        }
    }
    check(&wrong);
}

#[test]
fn lib_is_an_index() {
    let sources = sources();
    let code = code(&sources["lib.rs"]);
    assert!(code.contains("#![no_std]"), "lib.rs is no_std");
    assert!(code.contains("#![deny(unsafe_code)]"), "lib.rs denies unsafe code; the folders that need it allow it");
    // Statements end with a semicolon; attributes stand before them.
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        if rest.starts_with("#[") || rest.starts_with("#![") {
            let start = rest.find('[').unwrap();
            let mut depth = 0;
            let end = rest[start..].find(|c| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                depth == 0
            });
            rest = rest[start + end.expect("attributes end") + 1..].trim_start();
            continue;
        }
        let end = rest.find(';').map_or(rest.len(), |at| at + 1);
        let statement = rest[..end].trim();
        let body = statement.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        assert!(
            (body.starts_with("mod ") || body.starts_with("use ") || body.starts_with("compile_error!"))
                && (body.starts_with("use ") || !body.contains('{')),
            "lib.rs holds docs, modules and re-exports only, not\n{statement}"
        );
        rest = rest[end..].trim_start();
    }
}

#[test]
fn every_file_says_what_it_is() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(_, source)| !source.starts_with("//!"))
        .map(|(file, _)| format!("src/{file} does not open with //!"))
        .collect();
    check(&wrong);
}

/// The check itself: it sees what it should see, in every form in which a path can be written.
#[test]
fn a_wrong_arrow_is_seen() {
    let reexports = reexports("pub use engine::{Loop, turn::Turn};\npub use time::Instant;");
    let wrong = |file: &str, source: &str| wrong_arrows(file, source, &reexports).len();
    assert_eq!(wrong("backend/poll.rs", "use crate::engine::Loop;"), 1);
    assert_eq!(wrong("backend/poll.rs", "use crate::{error::Error, engine::{Loop, turn}};"), 2);
    assert_eq!(wrong("backend/poll.rs", "fn f() { super::super::engine::f(); }"), 1);
    assert_eq!(wrong("backend/mod.rs", "fn f() { super::engine::f(); }"), 1);
    assert_eq!(wrong("backend/poll.rs", "use crate::Turn;"), 1);
    assert_eq!(wrong("sys/fd.rs", "let s = \"//\"; use crate::storage::Slot;"), 1);
    assert_eq!(wrong("error.rs", "use crate::sys::fd::Fd;"), 1);
    assert_eq!(wrong("news/mod.rs", ""), 1);

    assert_eq!(wrong("error.rs", "use crate::sys::errno;"), 0);
    assert_eq!(
        wrong("backend/poll.rs", "use crate::{Instant, sys::poll};\nuse super::Backend; // crate::engine::Loop"),
        0
    );
    assert_eq!(wrong("backend/poll.rs", "#[cfg(test)]\nmod tests { use crate::engine::Loop; fn f() {} }"), 0);
    assert_eq!(wrong("engine/mod.rs", "use crate::backend::Backend;\nuse crate::engine::turn;"), 0);
}
