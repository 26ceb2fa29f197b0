//! The plumbing from outside: both databases, and the broker with real clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod broker;
mod client;
mod db;
mod link;
mod mosquitto;
mod tls;
