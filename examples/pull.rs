//! The pull form: the program keeps control, and takes out events when it likes.
//!
//! Lines from standard input are counted until it ends or until nothing came for ten seconds. There is no handler: each
//! event is matched here, by the token of its source.

use becket::{Config, Duration, Kinds, Loop, Ready, Storage};
use std::io::Read;

const INPUT: usize = 0;
const PROGRESS: usize = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut storage = Storage::<2, 0>::new();
    let event_loop = Loop::<()>::new(&mut storage, &Config::default())?;
    // A regular file cannot be waited for: EPERM, with words.
    let input = event_loop
        .add_io_with(0, Ready::READABLE, Default::default(), None, INPUT)
        .map_err(|error| format!("standard input: {error}"))?;
    event_loop.set_idle_timeout(input, Duration::from_secs(10))?;
    event_loop.add_timer_pulled(Duration::from_secs(1), Duration::from_secs(1), PROGRESS)?;

    let mut lines = 0;
    loop {
        event_loop.poll(Duration::FOREVER)?;
        while let Some(event) = event_loop.next(Kinds::all())? {
            match event.token {
                PROGRESS => eprintln!("{lines} lines so far"),
                _ if event.ready.contains(Ready::TIMEOUT) => {
                    println!("{lines} lines; nothing for ten seconds");
                    return Ok(());
                }
                _ => {
                    let mut bytes = [0; 4096];
                    let count = std::io::stdin().read(&mut bytes)?;
                    if count == 0 {
                        println!("{lines} lines");
                        return Ok(());
                    }
                    lines += bytes[..count].iter().filter(|byte| **byte == b'\n').count();
                }
            }
        }
    }
}
