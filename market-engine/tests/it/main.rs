//! The market from outside: clearings against a brute force and against promises, files, the store.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a value that is not there is a failed test"
)]

mod books;
mod brute_force;
mod clearing;
mod continuous;
mod fast;
mod files;
mod fuzz;
mod grid;
mod grid_bad;
mod grid_reference;
mod life;
mod opened;
mod preferences;
mod promises;
mod service;
mod standing;
mod theory;
mod truthful;
