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

#[test]
fn a_span_of_the_standard_library_is_one_of_ours() {
    let spans = [0, 1, u64::MAX - 1, u64::MAX].map(core::time::Duration::from_nanos);
    assert_eq!(spans.map(|span| Duration::from(span).as_nanos()), [0, 1, u64::MAX - 1, u64::MAX]);
    // What is longer than ours can be has no end.
    assert_eq!(Duration::from(core::time::Duration::MAX), Duration::FOREVER);
}
