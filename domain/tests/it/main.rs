//! The vocabulary from outside: signatures, their one encoding, and committed vectors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod messages;
mod vectors;
