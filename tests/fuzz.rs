//! The fuzz targets leave nothing out. (They run by `make fuzz`.)

mod util;

use std::collections::BTreeSet;

/// The target of the C ABI calls every function that the header declares.
#[test]
fn every_function_of_the_header_is_fuzzed() {
    let folder = util::root().join("fuzz/fuzz_targets/capi");
    let mut called = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).expect("the target's folder is there") {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // A call: the name, and what it is given.
            for (start, _) in line.match_indices("becket_") {
                let name: String =
                    line[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if line[start + name.len()..].starts_with('(') {
                    called.insert(name);
                }
            }
        }
    }
    let missing: Vec<_> = util::declared_functions().difference(&called).cloned().collect();
    assert_eq!(missing, [""; 0], "not called by fuzz/fuzz_targets/capi");
}

/// They are built with all that can be built in: the defaults, and each feature beside them.
#[test]
fn everything_that_is_optional_is_fuzzed() {
    let read =
        |path: &str| std::fs::read_to_string(util::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (ours, theirs) = (read("Cargo.toml"), read("fuzz/Cargo.toml"));
    let words = |text: &str| text.split('"').skip(1).step_by(2).map(String::from).collect::<BTreeSet<_>>();
    let section = ours.split("[features]\n").nth(1).and_then(|it| it.split("\n[").next()).expect("features");
    let lines = || section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let defaults = lines().find(|it| it.0 == "default").map(|it| words(it.1)).expect("default features");
    // What the tool needs that makes the header is no part of the library.
    let beside = |name: &&str| !["default", "header"].contains(name) && !defaults.contains(*name);
    let beside: BTreeSet<_> = lines().map(|it| it.0).filter(beside).map(String::from).collect();
    assert!(beside.contains("aio") && beside.contains("capi"), "{beside:?}");
    let becket = theirs.lines().find(|line| line.starts_with("becket = ")).expect("the library");
    let (_, features) = becket.split_once("features = ").expect("features");
    assert_eq!(words(features), beside, "features that fuzz/Cargo.toml asks for");
    assert!(!becket.contains("default-features"), "{becket}");
}

/// Each target begins with some inputs.
#[test]
fn every_target_has_a_corpus() {
    let manifest = std::fs::read_to_string(util::root().join("fuzz/Cargo.toml")).expect("fuzz/Cargo.toml is there");
    let targets: Vec<_> = manifest.split("[[bin]]").skip(1).map(|text| text.split('"').nth(1).unwrap()).collect();
    assert!(targets.contains(&"capi"), "{targets:?}");
    let mut bytes = 0;
    for target in targets {
        let folder = util::root().join("fuzz/corpus").join(target);
        let inputs = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let sizes: Vec<u64> = inputs.map(|input| input.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() >= 10, "{target}: {} inputs", sizes.len());
        bytes += sizes.iter().sum::<u64>();
    }
    assert!(bytes < 100_000, "{bytes} bytes of corpora");
}
