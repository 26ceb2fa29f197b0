//! The program as a person runs it, and the rules the source itself keeps.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod api;
mod audit;
mod batteries;
mod browser;
mod browser_verify;
mod charge;
mod check;
mod clear;
mod commands;
mod control;
mod datasets;
mod demo;
mod keys;
mod kills;
mod mail;
mod measured;
mod mosquitto;
mod orders;
mod own_keys;
mod own_orders;
mod pages;
mod passkeys;
mod people;
mod powerflow;
mod probe;
mod rate;
mod schemathesis;
mod scopes;
mod settle;
mod simulate;
mod standing;
mod statement;
mod status;
mod thousand;
mod tidy;
mod tokens;
mod witnesses;
