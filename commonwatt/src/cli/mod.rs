//! The command line: one file per subcommand, data on stdout, logs on stderr.
//!
//! Exit codes: 0 ok, 1 the check failed, 2 usage or bad input, 3 the environment is in the way.

#[cfg(feature = "platform")]
mod accounts;
#[cfg(feature = "platform")]
mod audit;
mod chargers;
mod check;
#[cfg(feature = "platform")]
mod check_books;
#[cfg(feature = "platform")]
mod clear;
mod completions;
#[cfg(feature = "platform")]
mod control;
#[cfg(feature = "platform")]
mod datasets;
#[cfg(feature = "platform")]
mod demo;
#[cfg(feature = "platform")]
mod evidence;
#[cfg(feature = "platform")]
mod export;
mod gateway;
#[cfg(feature = "platform")]
mod http;
#[cfg(feature = "platform")]
mod judge;
#[cfg(feature = "platform")]
mod keys;
#[cfg(feature = "platform")]
mod live_replay;
#[cfg(feature = "platform")]
mod operator;
#[cfg(feature = "platform")]
mod order;
#[cfg(feature = "platform")]
mod participant;
#[cfg(feature = "platform")]
mod powerflow;
mod probe;
#[cfg(feature = "platform")]
mod rate;
#[cfg(feature = "platform")]
mod runs;
#[cfg(feature = "platform")]
mod serve;
#[cfg(feature = "platform")]
mod settle;
#[cfg(feature = "platform")]
mod simulate;
#[cfg(feature = "platform")]
mod statement;
#[cfg(feature = "platform")]
mod stations;
#[cfg(feature = "platform")]
mod sweep;
#[cfg(feature = "platform")]
mod tokens;
#[cfg(feature = "platform")]
pub(crate) mod verify;
#[cfg(feature = "platform")]
mod witness;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// A peer-to-peer energy market for a street: meters, auction, money, receipts.
#[derive(Parser)]
#[command(name = "commonwatt", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a ten-home street with simulated devices, real protocols and a live page.
    #[cfg(feature = "platform")]
    Demo(demo::Args),
    /// Run the platform of a community: broker, market, settlement, log and page.
    #[cfg(feature = "platform")]
    Serve(serve::Args),
    /// Run a gateway: read devices, sign what they counted, deliver it to the platform.
    Gateway(gateway::Args),
    /// Let chargers in that speak OCPP, see what they have signed, and ask them.
    Chargers(chargers::Args),
    /// Check a gateway's configuration, and say what it means.
    Check(check::Args),
    /// Check a platform's books whole: sums, requests, and every row against the logs.
    #[cfg(feature = "platform")]
    CheckBooks(check_books::Args),
    /// See and change who may sign in, and make links and API tokens.
    #[cfg(feature = "platform")]
    Accounts(accounts::Args),
    /// See and change which keys a community's gateways and participants may sign with.
    #[cfg(feature = "platform")]
    Keys(keys::Args),
    /// Change the key with which a participant signs orders.
    #[cfg(feature = "platform")]
    Participant(participant::Args),
    /// Give tokens for what was paid in, and pay tokens out; another operator confirms.
    #[cfg(feature = "platform")]
    Tokens(tokens::Args),
    /// Give a battery, charger or inverter a set-point for a time, or take it back.
    #[cfg(feature = "platform")]
    Control(control::Args),
    /// Find out which devices are behind an address, and print what they say.
    Probe(probe::Args),
    /// Clear a file of orders and print price, trades and every order's fill; or check a public clearing.
    #[cfg(feature = "platform")]
    Clear(clear::Args),
    /// Settle one interval from files of trades and meter readings, and print its postings.
    #[cfg(feature = "platform")]
    Settle(settle::Args),
    /// Write a home's monthly statement: for a printer, a spreadsheet or a program.
    #[cfg(feature = "platform")]
    Statement(statement::Args),
    /// Write what charging stations brought in a month, each share, and whether they are worth their costs.
    #[cfg(feature = "platform")]
    Stations(stations::Args),
    /// Place, take back and list a participant's own orders.
    #[cfg(feature = "platform")]
    Order(order::Args),
    /// Price an OCPI charging record by an OCPI tariff, line by line.
    #[cfg(feature = "platform")]
    Rate(rate::Args),
    /// Solve the power flow of a radial network: voltages, flows, loadings, losses.
    #[cfg(feature = "platform")]
    Powerflow(powerflow::Args),
    /// See, check and import data sets.
    #[cfg(feature = "platform")]
    Datasets(datasets::Args),
    /// Run a neighbourhood in virtual time, cleared and settled by the platform's own rules.
    #[cfg(feature = "platform")]
    Simulate(simulate::Args),
    /// Run an experiment: parameters times seeds, resumable.
    #[cfg(feature = "platform")]
    Sweep(sweep::Args),
    /// Put run folders beside each other.
    #[cfg(feature = "platform")]
    Compare(runs::CompareArgs),
    /// Run a run folder again and compare every file: the same bytes, or which table differs.
    #[cfg(feature = "platform")]
    Rerun(runs::RerunArgs),
    /// Run the homes of a run folder, or clear the orders of a live street, under another market.
    #[cfg(feature = "platform")]
    Replay(runs::ReplayArgs),
    /// Draw a figure of a run folder as SVG.
    #[cfg(feature = "platform")]
    Plot(runs::PlotArgs),
    /// Write a table of a run folder to stdout or a file.
    #[cfg(feature = "platform")]
    Export(export::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
    /// Check a receipt or a log's entry offline: signatures, trade, postings, log proofs, witnesses.
    #[cfg(feature = "platform")]
    Verify(verify::Args),
    /// Check a community's logs and clearings from what it publishes, or from a copy.
    #[cfg(feature = "platform")]
    Audit(audit::Args),
    /// Watch over the logs of communities: sign a log's checkpoint only if it grew from the last one.
    #[cfg(feature = "platform")]
    Witness(witness::Args),
    /// Write the evidence in the books as files that `judge` reads.
    #[cfg(feature = "platform")]
    Evidence(evidence::Args),
    /// Judge a piece of evidence offline.
    #[cfg(feature = "platform")]
    Judge(judge::Args),
}

/// Threads of a service that one core could carry; the second one goes on while the first computes.
const SMALL_SERVICE_THREADS: usize = 2;

/// Largest input file that is read: a book of orders has as many bytes at most.
const INPUT_MAX_BYTES: usize = 512 * 1024 * 1024;

/// How a command prints its data.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, at a terminal.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// What went wrong, by who can mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The check that was asked for failed: exit code 1.
    #[error("{0}")]
    CheckFailed(String),
    /// The command line or an input file is wrong: exit code 2.
    #[error("{0}")]
    BadInput(String),
    /// Ports, folders, databases: exit code 3.
    #[error("{}", chain(.0))]
    Environment(anyhow::Error),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            CliError::CheckFailed(_) => 1,
            CliError::BadInput(_) => 2,
            CliError::Environment(_) => 3,
        })
    }
}

/// An error and its causes in one line; a cause that its effect has already told is left out.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match told.as_str() {
            "" => cause,
            told if told.contains(&cause) => told.to_owned(),
            told => format!("{told}: {cause}"),
        }
    })
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        CliError::Environment(error)
    }
}

/// Parses the command line, runs the command and says how it ended.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        #[cfg(feature = "platform")]
        Command::Demo(args) => demo::run(args),
        #[cfg(feature = "platform")]
        Command::Serve(args) => serve::run(args),
        Command::Gateway(args) => gateway::run(args),
        Command::Chargers(args) => chargers::run(&args),
        Command::Check(args) => check::run(&args),
        #[cfg(feature = "platform")]
        Command::CheckBooks(args) => check_books::run(&args),
        #[cfg(feature = "platform")]
        Command::Accounts(args) => accounts::run(args),
        #[cfg(feature = "platform")]
        Command::Keys(args) => keys::run(&args),
        #[cfg(feature = "platform")]
        Command::Participant(args) => participant::run(&args),
        #[cfg(feature = "platform")]
        Command::Tokens(args) => tokens::run(&args),
        #[cfg(feature = "platform")]
        Command::Control(args) => control::run(&args),
        Command::Probe(args) => probe::run(&args),
        #[cfg(feature = "platform")]
        Command::Clear(args) => clear::run(&args),
        #[cfg(feature = "platform")]
        Command::Settle(args) => settle::run(&args),
        #[cfg(feature = "platform")]
        Command::Statement(args) => statement::run(&args),
        #[cfg(feature = "platform")]
        Command::Stations(args) => stations::run(&args),
        #[cfg(feature = "platform")]
        Command::Order(args) => order::run(&args),
        #[cfg(feature = "platform")]
        Command::Rate(args) => rate::run(&args),
        #[cfg(feature = "platform")]
        Command::Powerflow(args) => powerflow::run(&args),
        #[cfg(feature = "platform")]
        Command::Datasets(args) => datasets::run(&args),
        #[cfg(feature = "platform")]
        Command::Simulate(args) => simulate::run(&args),
        #[cfg(feature = "platform")]
        Command::Sweep(args) => sweep::run(&args),
        #[cfg(feature = "platform")]
        Command::Compare(args) => runs::compare(&args),
        #[cfg(feature = "platform")]
        Command::Rerun(args) => runs::rerun(&args),
        #[cfg(feature = "platform")]
        Command::Replay(args) => runs::replay(&args),
        #[cfg(feature = "platform")]
        Command::Plot(args) => runs::plot(&args),
        #[cfg(feature = "platform")]
        Command::Export(args) => export::run(&args),
        #[cfg(feature = "platform")]
        Command::Verify(args) => verify::run(&args),
        #[cfg(feature = "platform")]
        Command::Audit(args) => audit::run(&args),
        #[cfg(feature = "platform")]
        Command::Witness(args) => witness::run(args),
        #[cfg(feature = "platform")]
        Command::Evidence(args) => evidence::run(&args),
        #[cfg(feature = "platform")]
        Command::Judge(args) => judge::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    ended(result)
}

/// How a command ended, for whoever started it.
fn ended(result: Result<(), CliError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("commonwatt: {error}");
            error.exit_code()
        }
    }
}

/// Logs of our own parts from `info` on, of everybody else's from `warn` on, to stderr.
fn start_logging(quiet: bool) {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let ours = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    let targets = [
        "commonwatt",
        "runtime",
        "meter_gateway",
        "market_engine",
        "settlement",
        "simulator",
    ];
    let filter = targets.into_iter().fold(
        Targets::new().with_default(LevelFilter::WARN),
        |f, target| f.with_target(target, ours),
    );
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
}

/// Runs a service's future on all cores until it ends.
#[cfg(feature = "platform")]
fn block_on<F: Future<Output = anyhow::Result<()>>>(service: F) -> Result<(), CliError> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    run_on(&mut threads, service)
}

/// Runs a small service's future on two threads, however many cores there are: every thread takes
/// memory, and on a small machine that is what is short.
fn block_on_two<T, F: Future<Output = anyhow::Result<T>>>(service: F) -> Result<T, CliError> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    run_on(threads.worker_threads(SMALL_SERVICE_THREADS), service)
}

fn run_on<T, F: Future<Output = anyhow::Result<T>>>(
    threads: &mut tokio::runtime::Builder,
    service: F,
) -> Result<T, CliError> {
    let runtime = threads
        .enable_all()
        .build()
        .map_err(|e| anyhow::anyhow!("the async runtime did not start: {e}"))?;
    Ok(runtime.block_on(service)?)
}

/// Listens for Ctrl-C from now on, so that a stop during the start is a stop in order too.
pub(crate) fn stop_signal() -> impl Future<Output = ()> {
    let asked = tokio::spawn(runtime::shutdown::ctrl_c_or_term());
    async move {
        // The task only waits; it cannot fail.
        let _ = asked.await;
    }
}

/// Reads an input file that a person named on the command line.
fn read_input(path: &std::path::Path) -> Result<String, CliError> {
    let bytes = read_bytes(path, INPUT_MAX_BYTES)?;
    String::from_utf8(bytes)
        .map_err(|_| CliError::BadInput(format!("cannot read {}: not UTF-8", path.display())))
}

/// Reads a file of at most so many bytes; one that is longer is not read to its end.
fn read_bytes(path: &std::path::Path, max: usize) -> Result<Vec<u8>, CliError> {
    use std::io::Read;
    let shown = path.display();
    let cannot = |e| CliError::BadInput(format!("cannot read {shown}: {e}"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() > max {
        return Err(CliError::BadInput(format!(
            "{shown}: at most {max} bytes are read"
        )));
    }
    Ok(bytes)
}

/// One line per part, on stdout; a reader that went away (`| head`) is no reason to stop.
pub(crate) fn say(part: &str, words: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{part:<10} {words}");
}

/// Prints data to stdout; a reader that went away (`| head`) is no error.
fn print_data(text: &str) -> Result<(), CliError> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("cannot write to stdout: {e}").into())
        }
        _ => Ok(()),
    }
}
