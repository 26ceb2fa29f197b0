//! The one program: reads the command line, calls one function, turns its error into an exit code.

mod api;
mod cli;
mod demo;
mod live;
mod platform;
mod site;
mod view;
mod web;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
