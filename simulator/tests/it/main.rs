//! Reads the street's devices over their real wires and compares with the world behind them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy sees helpers of a test binary as ordinary code"
)]

mod dataset;
mod grid;
mod import;
mod modbus;
mod models;
mod mqtt;
mod realism;
mod run;
mod sources;
mod support;
mod visits;
mod weather_run;
mod year;
