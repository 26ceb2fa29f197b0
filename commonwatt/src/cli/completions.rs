//! `commonwatt completions`: what a shell needs to complete commands and options.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, CliError, print_data};

/// Print completions for a shell.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt completions bash > ~/.local/share/bash-completion/completions/commonwatt\n  \
    commonwatt completions zsh > ~/.zfunc/_commonwatt\n  \
    commonwatt completions fish > ~/.config/fish/completions/commonwatt.fish"
)]
pub(super) struct Args {
    /// The shell: bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "commonwatt", &mut script);
    print_data(&String::from_utf8_lossy(&script))
}
