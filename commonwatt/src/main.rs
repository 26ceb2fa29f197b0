//! The one program: reads the command line, calls one function, turns its error into an exit code.

#![cfg_attr(
    not(feature = "platform"),
    allow(
        dead_code,
        reason = "shared by commands that the gateway alone does not have"
    )
)]

#[cfg(feature = "platform")]
mod api;
#[cfg(feature = "platform")]
mod auth;
#[cfg(feature = "platform")]
mod broker;
mod cli;
#[cfg(feature = "platform")]
mod demo;
#[cfg(feature = "platform")]
mod https;
#[cfg(feature = "platform")]
mod live;
#[cfg(feature = "platform")]
mod platform;
#[cfg(feature = "platform")]
mod site;
#[cfg(feature = "platform")]
mod view;
#[cfg(feature = "platform")]
mod web;
#[cfg(feature = "platform")]
mod witness;

#[cfg(not(feature = "gateway"))]
compile_error!("choose the feature `platform` (all of it) or `gateway` (the gateway alone)");

use std::process::ExitCode;

/// Small allocations take less time than with the system's own allocator; a gateway has too few of them to care.
#[cfg(feature = "platform")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
