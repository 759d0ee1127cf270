//! Values that are told apart from nothing else: errors, spans of time.
#![forbid(unsafe_code)]

use becket::{Duration, Error};

#[test]
fn an_error_has_a_name_and_a_text() {
    assert_eq!((Error::STALE.name(), Error::STALE.to_string().as_str()), (Some("ESTALE"), "the source was removed"));
    assert_eq!(format!("{:?}", Error::STALE), "Error(ESTALE)");
    // One that becket never gives by itself: it is the system's, and says so.
    let unknown = Error::from_errno(4_000);
    assert_eq!((unknown.name(), unknown.errno(), unknown.to_string().as_str()), (None, 4_000, "system call failed"));
    assert_eq!(format!("{unknown:?}"), "Error(errno 4000)");
}

/// Each errno that the header speaks of has a text of its own, and not that of those which nobody expects.
#[cfg(all(feature = "operations", feature = "streams", feature = "simulator"))]
#[test]
fn what_the_header_names_has_a_text() {
    let header = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/include/becket.h")).expect("a header");
    let is_errno = |word: &&str| {
        let mut letters = word.chars();
        letters.next() == Some('E')
            && word.len() > 2
            && letters.all(|it| it.is_ascii_uppercase() || it.is_ascii_digit())
    };
    // Words that begin with E, and are something else.
    let others = ["EDGE", "EPOLLEXCLUSIVE", "ERROR"];
    let words = header.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').filter(is_errno);
    let named: std::collections::BTreeSet<&str> = words.filter(|word| !others.contains(word)).collect();
    assert!(named.len() > 30 && named.contains("EADDRINUSE") && named.contains("ESTALE"), "{named:?}");

    let unknown = Error::from_errno(4_000).description();
    let errors: Vec<Error> = (1..4_000).map(Error::from_errno).filter(|error| error.name().is_some()).collect();
    for name in named {
        let error =
            errors.iter().find(|error| error.name() == Some(name)).unwrap_or_else(|| panic!("{name} has no text"));
        assert_ne!(error.description(), unknown, "{name}");
    }
    // Those of one text are told apart by nobody: only the two kinds of limits on descriptors may share one.
    let mut texts: Vec<_> = errors.iter().map(|error| error.description()).collect();
    texts.sort();
    let twice: Vec<_> = texts.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
    assert_eq!(twice, [c"too many open files"]);
}

#[test]
fn a_span_of_the_standard_library_is_one_of_ours() {
    let spans = [0, 1, u64::MAX - 1, u64::MAX].map(core::time::Duration::from_nanos);
    assert_eq!(spans.map(|span| Duration::from(span).as_nanos()), [0, 1, u64::MAX - 1, u64::MAX]);
    // What is longer than ours can be has no end.
    assert_eq!(Duration::from(core::time::Duration::MAX), Duration::FOREVER);
}
