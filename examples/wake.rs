//! Work in a second thread, results in the loop: a bounded queue of the program's own, and a waker.
//!
//! The queue is heapless's single-producer, single-consumer one, in a static; a wake coalesces, so the handler takes out
//! all there is.

use becket::{Config, Event, Loop, Storage, Waker};
use heapless::spsc::{Consumer, Producer, Queue};
use std::thread;

const RESULTS: u64 = 100_000;

struct App {
    results: Consumer<'static, u64>,
    received: u64,
    sum: u64,
}

fn work(mut results: Producer<'static, u64>, waker: Waker) {
    for number in 1..=RESULTS {
        let mut result = number;
        // Full: back-pressure, the value comes back.
        while let Err(back) = results.enqueue(result) {
            result = back;
            thread::yield_now();
        }
        // Lock-free, and no system call while the loop is awake. Stale: the loop has all that it wanted.
        if waker.wake().is_err() {
            return;
        }
    }
}

fn on_results(app: &mut App, event_loop: &Loop<'static, App>, event: Event) {
    while let Some(result) = app.results.dequeue() {
        app.received += 1;
        app.sum += result;
    }
    if app.received == RESULTS {
        event_loop.remove(event.source).expect("this source is alive");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Leaked: what other threads touch has to stay for ever. A program without an allocator uses statics.
    let storage = Box::leak(Box::new(Storage::<4, 0>::new()));
    let queue = Box::leak(Box::new(Queue::<u64, 64>::new()));
    let (producer, consumer) = queue.split();

    let event_loop = Loop::new(storage, &Config::default())?;
    let waker = event_loop.waker(event_loop.add_wake(on_results, 0)?);
    let worker = thread::spawn(move || work(producer, waker));
    let mut app = App { results: consumer, received: 0, sum: 0 };
    event_loop.run(&mut app)?; // returns when the source, the only one, is gone
    worker.join().expect("the worker ends");
    println!("{} results, sum {}", app.received, app.sum);
    assert_eq!(app.sum, RESULTS * (RESULTS + 1) / 2);
    Ok(())
}
