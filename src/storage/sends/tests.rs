//! Seeded model test of the queue of send requests: random calls, compared with a list of requests and the bytes that each has
//! left.

#![allow(unsafe_code)]

use super::{Content, FileRange, Part, Queue, Sending};
use crate::error::Error;
use crate::request::Lease;
use crate::storage::tests::{Random, with_seeds};
use core::ptr::{self, NonNull};
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

/// A request as it should be.
struct Model {
    at: *mut Sending,
    /// What is in memory, in parts.
    parts: Vec<&'static [u8]>,
    file: Option<(i32, i64)>,
    has_address: bool,
    length: u64,
    /// Something was sent of it, if only nothing.
    was_sent: bool,
    sent: u64,
    is_cut: bool,
    done: Option<i64>,
    lease: Option<&'static Lease>,
}

impl Model {
    fn left(&self) -> u64 {
        if self.is_cut { 0 } else { self.length - self.sent }
    }

    /// What is left of each part of which something is.
    fn left_parts(&self) -> Vec<&'static [u8]> {
        let mut skip = self.sent as usize;
        let mut left = Vec::new();
        for part in self.parts.iter().filter(|_| !self.is_cut) {
            let skipped = skip.min(part.len());
            skip -= skipped;
            left.extend((skipped < part.len()).then_some(&part[skipped..]));
        }
        left
    }

    fn complete(&mut self, result: i64) -> u64 {
        self.done = Some(result);
        self.left()
    }
}

#[derive(Default)]
struct Models(VecDeque<Model>);

impl Models {
    fn unsent(&mut self) -> Option<&mut Model> {
        self.0.iter_mut().find(|it| it.done.is_none())
    }

    fn advance(&mut self, mut count: u64) {
        while let Some(first) = self.unsent() {
            let now = count.min(first.left());
            count -= now;
            first.sent += now;
            first.was_sent = true;
            if first.left() > 0 {
                return;
            }
            first.done = Some(if first.is_cut { first.sent } else { first.length }.cast_signed());
            if count == 0 && self.unsent().is_none_or(|next| next.left() > 0) {
                return;
            }
        }
    }

    /// The parts that one system call is given.
    fn gathered(&self, max: usize) -> Vec<&'static [u8]> {
        let mut parts = Vec::new();
        for model in self.0.iter().filter(|it| it.done.is_none()) {
            if model.file.is_some() || model.has_address {
                break;
            }
            parts.extend(model.left_parts());
        }
        parts.truncate(max);
        parts
    }
}

fn leak(length: u64, random: &mut Random) -> &'static [u8] {
    let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    Box::leak(bytes.into_boxed_slice())
}

fn part(bytes: &[u8]) -> Part {
    Part { at: bytes.as_ptr().cast(), length: bytes.len() }
}

/// Makes a request at this place and queues it.
fn push(queue: &mut Queue, at: *mut Sending, user: *mut (), random: &mut Random) -> Model {
    let mut file = None;
    let parts: Vec<&'static [u8]>;
    let content = match random.below(4) {
        0 => {
            let range = (random.below(9) as i32, random.below(1000).cast_signed());
            file = Some(range);
            parts = Vec::new();
            Content::File(range.0, range.1, random.below(20))
        }
        1 => {
            parts = vec![leak(random.below(20), random)];
            Content::Bytes(part(parts[0]))
        }
        _ => {
            parts = (0..random.below(6)).map(|_| leak(random.below(7), random)).collect();
            let vectors: Vec<Part> = parts.iter().map(|it| part(it)).collect();
            Content::Vectors(Box::leak(vectors.into_boxed_slice()).as_ptr(), parts.len() as u32)
        }
    };
    let length = match content {
        Content::File(_, _, length) => length,
        _ => parts.iter().map(|it| it.len() as u64).sum(),
    };
    let address = (random.below(5) == 0).then_some((ptr::from_ref(random).cast(), 16));
    let lease: Option<&'static Lease> =
        (random.below(2) == 0).then(|| &*Box::leak(Box::new(Lease::new()))).map(|it| it.lend(None).unwrap());
    // SAFETY: a request that is nobody's, and memory that is leaked.
    let made = unsafe { Sending::make(at, content, address, lease) }.expect("it is free");
    // SAFETY: likewise.
    let sending = unsafe { made.as_ref() };
    assert_eq!((made.as_ptr(), sending.user, sending.left(), sending.is_cut()), (at, user, length, false));
    assert_eq!(sending.address_length, if address.is_some() { 16 } else { 0 });
    queue.push(made);
    // SAFETY: likewise.
    assert_eq!(unsafe { Sending::make(at, content, address, lease) }.err(), Some(Error::BUSY));
    Model {
        at,
        parts,
        file,
        has_address: address.is_some(),
        length,
        was_sent: false,
        sent: 0,
        is_cut: false,
        done: None,
        lease,
    }
}

/// What can be seen of the queue is what the model says.
fn compare(queue: &Queue, models: &mut Models, random: &mut Random) {
    let max = random.below(8) as usize;
    let (expected, mut parts) = (models.gathered(max), [Part::NONE; 8]);
    let (count, bytes) = queue.gather(&mut parts[..max]);
    let seen = |it: &Part| (it.at.addr(), it.length);
    assert!(parts[..count].iter().map(seen).eq(expected.iter().map(|it| (it.as_ptr().addr(), it.len()))));
    assert_eq!(bytes, expected.iter().map(|it| it.len() as u64).sum::<u64>());

    assert_eq!(queue.has_done(), models.0.front().is_some_and(|it| it.done.is_some()));
    for model in &models.0 {
        let at = NonNull::new(model.at).unwrap();
        let is_first = ptr::eq(model.at, models.0[0].at);
        assert_eq!(queue.is_sent_first(at), is_first && model.done.is_some_and(|it| it >= 0));
        if model.done.is_none() {
            assert_eq!(queue.left_of(at), model.left());
        }
    }
    let first = models.unsent();
    assert_eq!(queue.has_unsent(), first.is_some());
    let (Some(first), Some(unsent)) = (first, queue.unsent()) else {
        assert!(queue.unsent().is_none());
        return;
    };
    assert!(ptr::eq(first.at, unsent));
    assert_eq!((unsent.left(), unsent.is_cut()), (first.left(), first.is_cut));
    let range = unsent.file_range().map(|FileRange { file, offset, left }| (file, offset, left));
    assert_eq!(range, first.file.map(|(file, offset)| (file, offset + first.sent.cast_signed(), first.left())));
    if first.file.is_none() && !first.was_sent && !first.is_cut {
        let (vectors, count) = unsent.vectors();
        assert_eq!(count as usize, first.parts.len());
        for (index, expected) in first.parts.iter().enumerate() {
            // SAFETY: so many were given.
            assert_eq!(seen(unsafe { &*vectors.add(index) }), (expected.as_ptr().addr(), expected.len()));
        }
    }
}

#[test]
fn requests_are_sent_in_order_to_the_last_byte() {
    with_seeds(300, |random| {
        let mut queue = Queue::EMPTY;
        let mut models = Models::default();
        let places: Vec<*mut Sending> = (0..6).map(|_| ptr::from_mut(Box::leak(Box::new(Sending::UNUSED)))).collect();
        let users: Vec<*mut ()> = (0..6).map(|number| ptr::without_provenance_mut(number + 1)).collect();
        for (at, user) in places.iter().zip(&users) {
            // SAFETY: leaked.
            unsafe { (**at).user = *user };
        }
        for _ in 0..200 {
            let place = random.below(6) as usize;
            let (at, user) = (places[place], users[place]);
            match random.below(10) {
                0..=3 if !models.0.iter().any(|it| ptr::eq(it.at, at)) => {
                    let model = push(&mut queue, at, user, random);
                    models.0.push_back(model);
                }
                4 => {
                    // No more than one system call can have sent.
                    let gathered: u64 = models.gathered(4).iter().map(|it| it.len() as u64).sum();
                    let most = models.unsent().map_or(0, |it| if it.file.is_some() { it.left() } else { gathered });
                    let count = if random.below(2) == 0 { most } else { random.below(most + 1) };
                    queue.advance(count);
                    models.advance(count);
                }
                5 => {
                    let result = -(random.below(100).cast_signed());
                    let left = models.unsent().map_or(0, |it| it.complete(result));
                    assert_eq!(queue.complete(result), left);
                }
                6 => {
                    let left = models.unsent().map_or(0, |it| it.complete(it.sent.cast_signed()));
                    assert_eq!(queue.complete_short(), left);
                }
                7 => {
                    let is_first = models.unsent().is_some_and(|it| ptr::eq(it.at, at));
                    let found = models.0.iter_mut().find(|it| ptr::eq(it.at, at) && it.done.is_none());
                    let left = found.map_or(0, |it| {
                        let left = it.left();
                        it.is_cut = true;
                        it.done = is_first.then_some(it.sent.cast_signed());
                        left
                    });
                    assert_eq!(queue.cut_short(at, false), left);
                }
                8 => {
                    let done = models.0.front().is_some_and(|it| it.done.is_some());
                    let first = done.then(|| models.0.pop_front()).flatten();
                    let popped = queue.pop_done().map(|(at, result)| (at.as_ptr(), result));
                    assert_eq!(popped, first.as_ref().map(|it| (it.at, it.done.unwrap())));
                    assert!(first.and_then(|it| it.lease).is_none_or(|it| !it.is_lent()));
                }
                9 if random.below(8) == 0 => {
                    while queue.pop().is_some() {}
                    assert!(models.0.drain(..).filter_map(|it| it.lease).all(|it| !it.is_lent()));
                }
                _ => {}
            }
            assert!(models.0.iter().filter_map(|it| it.lease).all(Lease::is_lent));
            compare(&queue, &mut models, random);
        }
    });
}

#[test]
fn a_request_that_cannot_be_is_not_made() {
    let byte = ptr::from_ref(&0_u8).cast();
    let make = |content, to| {
        let mut place = Sending::UNUSED;
        // SAFETY: a request that is nobody's.
        let made = unsafe { Sending::make(&raw mut place, content, to, None) };
        // What was refused has changed nothing.
        // SAFETY: likewise.
        let again = unsafe { Sending::make(&raw mut place, Content::Bytes(Part::NONE), None, None) };
        assert_eq!(again.is_ok(), made.is_err());
        made.err()
    };
    let of = |at, length| Part { at, length };
    let many: &[Part] = &[Part::NONE; 1025];
    let huge = [of(byte, usize::MAX); 3];
    let (invalid, max) = (Some(Error::INVALID), i64::MAX.cast_unsigned());
    for (content, expected) in [
        (Content::Bytes(of(ptr::null(), 0)), None),
        (Content::Bytes(of(ptr::null(), 1)), invalid),
        (Content::Bytes(of(byte, usize::MAX)), if size_of::<usize>() == 8 { invalid } else { None }),
        (Content::Vectors(ptr::null(), 0), None),
        (Content::Vectors(ptr::null(), 1), invalid),
        (Content::Vectors(many.as_ptr(), 1024), None),
        (Content::Vectors(many.as_ptr(), 1025), invalid),
        (Content::Vectors(huge.as_ptr(), 3), if size_of::<usize>() == 8 { invalid } else { None }),
        (Content::File(0, 0, max), None),
        (Content::File(0, 1, max - 1), None),
        (Content::File(0, 1, max), invalid),
        (Content::File(0, i64::MAX, 0), None),
        (Content::File(0, 0, max + 1), invalid),
        (Content::File(0, 1, u64::MAX), invalid),
        (Content::File(0, -1, 1), invalid),
        (Content::File(-1, 0, 1), Some(Error::BAD_FD)),
        (Content::File(-1, -1, 1), Some(Error::BAD_FD)),
    ] {
        assert_eq!(make(content, None), expected);
    }
    let plain = Content::Bytes(of(byte, 1));
    assert_eq!(make(plain, Some((byte, 16))), None);
    assert_eq!(make(plain, Some((byte, 0))), invalid);
    assert_eq!(make(plain, Some((ptr::null(), 16))), invalid);
    for at in [0, align_of::<Sending>() / 2].map(ptr::without_provenance_mut) {
        // SAFETY: it is looked at only where it can be one.
        assert_eq!(unsafe { Sending::make(at, plain, None, None) }.err(), invalid);
    }
}

/// What goes to the socket without a way through the queue: one piece of memory for the peer, and some of it.
#[test]
fn a_plain_request_is_one_piece() {
    let bytes = part(&[1, 2, 3]);
    let two = [bytes, part(&[4])];
    let one = Some((bytes.at, 3));
    for (content, to, expected) in [
        (Content::Bytes(bytes), None, one),
        (Content::Bytes(bytes), Some((bytes.at, 16)), None),
        (Content::Bytes(Part { length: 0, ..bytes }), None, None),
        (Content::Vectors(two.as_ptr(), 1), None, one),
        (Content::Vectors(two.as_ptr(), 0), None, None),
        (Content::Vectors(two.as_ptr(), 2), None, None),
        (Content::File(0, 0, 3), None, None),
        (Content::File(7, 0, 3), None, None),
    ] {
        let mut place = Sending::UNUSED;
        // SAFETY: a request that is nobody's.
        let made = unsafe { Sending::make(&raw mut place, content, to, None) }.expect("it can be");
        assert_eq!(Sending::piece_of(made), expected);
    }
}

#[test]
fn the_only_request_is_found_that_is_not_done() {
    let mut places = [Sending::UNUSED; 2];
    let mut queue = Queue::EMPTY;
    assert_eq!(queue.only(), None);
    let [first, second] = places.each_mut().map(|place| {
        // SAFETY: a request that is nobody's.
        unsafe { Sending::make(place, Content::Bytes(part(&[1])), None, None) }.expect("it can be")
    });
    queue.push(first);
    queue.push(second);
    assert_eq!(queue.only(), None, "there are two");
    queue.complete(1);
    assert_eq!(queue.only(), None, "there are still, one of them done");
    assert_eq!(queue.pop_done(), Some((first, 1)));
    assert_eq!(queue.only(), Some(second));
    queue.complete(1);
    assert_eq!(queue.only(), None, "it is done");
}

#[test]
fn what_is_left_of_a_piece_and_cut_behind_what_is_under_way() {
    let mut places = [Sending::UNUSED; 2];
    let mut queue = Queue::EMPTY;
    let bytes = [1, 2, 3];
    let [first, second] = places.each_mut().map(|place| {
        // SAFETY: a request that is nobody's.
        unsafe { Sending::make(place, Content::Bytes(part(&bytes)), None, None) }.expect("it can be")
    });
    queue.push(first);
    queue.push(second);
    queue.advance(1);
    let at = part(&bytes).at;
    assert_eq!(queue.unsent().and_then(Sending::piece), Some((at.wrapping_byte_add(1), 2)));
    assert_eq!(queue.cut_short(second.as_ptr(), true), 3, "it is not under way");
    assert_eq!(queue.cut_short(first.as_ptr(), true), 0, "this is");
    assert!(queue.unsent().is_some_and(|first| first.is_cut() && first.left() == 2));
    assert_eq!(queue.cut_short(first.as_ptr(), false), 2);
    assert_eq!(queue.pop_done(), Some((first, 1)));
}
