//! Random programs against a small model: shared by the model test, which draws them from seeds, and by the fuzz
//! target, which makes them of bytes.
//!
//! - `program`: what a program is, as steps, as bytes and as text.
//! - `world`: the files that its I/O sources are for.
//! - `model`: what may and what must happen. It knows nothing of how the loop is built.
//! - `operations`: the same for operations, as far as it does not concern the queue.
//! - `streams`: the same for connections, and the streams over them.
//! - `machine`: carries out a program on a loop, tells the model of all that it does, and shows it every answer.
//! - `run`: the same, from a program and a backend.
//! - `shrink`: makes a program that fails as short as it can be.

pub mod machine;
pub mod model;
pub mod operations;
pub mod program;
pub mod run;
pub mod shrink;
pub mod streams;
pub mod world;
