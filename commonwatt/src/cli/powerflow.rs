//! `commonwatt powerflow`: voltages, flows, loadings and losses of a network in a file.

use std::path::PathBuf;

use clap::ValueEnum;
use market_engine::grid::GridError;
use market_engine::grid::document::Document;
use market_engine::grid::write;

use super::{CliError, Format, print_data};

/// What `--format csv` prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A line for each node.
    Nodes,
    /// A line for each branch.
    Branches,
}

/// Solve the power flow of a radial network.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt powerflow network.json --case evening --format json\n\n\
    NETWORK is JSON: nodes, branches (pi models in p.u. with ratio and shift), slack and cases with loads in kW and kvar;\n\
    or for three phases base_v_ln, line_codes (3x3, or 4x4 with the neutral last), lines, loads on single phases, and cases.\n\
    Keys that are not known are refused, and a case without loads says \"loads_node_p_kw_q_kvar\": [].\n\
    A branch with \"in_service\": false is an open switch. Loads are constant power, positive = consumption.\n\
    Exit code 1: a case has no solution, because its loads are more than the network can carry. Nothing is printed then.\n\
    Exit code 2: the network is not radial, or something in the file is wrong."
)]
pub(super) struct Args {
    /// The network's file.
    #[arg(value_name = "NETWORK.json")]
    network: PathBuf,
    /// Only the load case of this name; of a three-phase case without a name, its minute.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// What a CSV holds.
    #[arg(long, value_enum, default_value = "nodes")]
    part: Part,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let path = args.network.display();
    let text = super::read_bytes(&args.network, market_engine::grid::FILE_MAX_BYTES)?;
    let failed = |error: GridError| match error {
        GridError::Diverged { .. } => CliError::CheckFailed(format!("{path}: {error}")),
        _ => CliError::BadInput(format!("{path}: {error}")),
    };
    let document = Document::from_json(&text).map_err(failed)?;
    let solved = document.solve(args.case.as_deref()).map_err(failed)?;
    let text = match args.format {
        Format::Json => solved.to_json().map_err(anyhow::Error::from)?,
        Format::Csv => solved.to_csv(match args.part {
            Part::Nodes => write::Part::Nodes,
            Part::Branches => write::Part::Branches,
        }),
        Format::Table => solved.to_table(),
    };
    print_data(&text)
}
