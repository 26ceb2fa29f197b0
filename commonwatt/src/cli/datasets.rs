//! `commonwatt datasets`: what data there is, whether it is whole, data of others, and data of our own making.

mod generate;
mod import;

use std::path::{Path, PathBuf};

use serde::Serialize;
use simulator::dataset::{DataFile, DatasetError, MANIFEST, Manifest, check, folders, sha256_hex};

use super::{CliError, Format, print_data};

/// See, check, import and make data sets.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt datasets list\n  commonwatt datasets check week-10\n  \
    commonwatt datasets import --from smard Gro_handelspreise.csv > prices.csv"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the data sets of a folder: name, title, licence, size.
    List(Folder),
    /// Hold the files of data sets against what `dataset.toml` says: hashes, columns, intervals.
    Check(CheckArgs),
    /// Read files of another format to CSV of interval energies (ACN-Data: of charging sessions).
    Import(import::Args),
    /// Make homes of our own: household load and panels, from a seed.
    Generate(generate::Args),
}

#[derive(clap::Args)]
struct Folder {
    /// The folder with the data sets, each in a folder of its own.
    #[arg(long, default_value = "datasets", value_name = "FOLDER")]
    dir: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
struct CheckArgs {
    /// Names of data sets; all where none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    folder: Folder,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::List(folder) => list(folder),
        Command::Check(args) => check_all(args),
        Command::Import(args) => import::run(args),
        Command::Generate(args) => generate::run(args),
    }
}

fn bad(error: &DatasetError) -> CliError {
    CliError::BadInput(error.to_string())
}

#[derive(Serialize)]
struct Line {
    name: String,
    title: String,
    licence: String,
    bytes: u64,
    columns: usize,
    interval_s: Option<u32>,
}

fn list(args: &Folder) -> Result<(), CliError> {
    let mut lines = Vec::new();
    for folder in folders(&args.dir).map_err(|e| bad(&e))? {
        let manifest = Manifest::read(&folder).map_err(|e| bad(&e))?;
        lines.push(Line {
            bytes: manifest.bytes(),
            columns: manifest.columns.len(),
            interval_s: manifest.interval_s,
            name: manifest.name,
            title: manifest.title,
            licence: manifest.licence,
        });
    }
    let text = match args.format {
        Format::Json => serde_json::to_string(&lines).map_err(anyhow::Error::from)? + "\n",
        Format::Csv => csv_lines(&lines),
        Format::Table => table(&lines),
    };
    print_data(&text)
}

fn csv_lines(lines: &[Line]) -> String {
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = "name,title,licence,bytes,columns,interval_s\n".to_owned();
    for line in lines {
        let interval = line.interval_s.map_or_else(String::new, |s| s.to_string());
        text += &format!(
            "{},{},{},{},{},{interval}\n",
            cell(&line.name),
            cell(&line.title),
            cell(&line.licence),
            line.bytes,
            line.columns
        );
    }
    text
}

fn table(lines: &[Line]) -> String {
    let mut text = format!("{:<16} {:>9} {:<14} title\n", "name", "bytes", "licence");
    for line in lines {
        text += &format!(
            "{:<16} {:>9} {:<14} {}\n",
            line.name, line.bytes, line.licence, line.title
        );
    }
    text
}

#[derive(Serialize)]
struct Checked {
    name: String,
    problems: Vec<String>,
}

fn check_all(args: &CheckArgs) -> Result<(), CliError> {
    let all = folders(&args.folder.dir).map_err(|e| bad(&e))?;
    let named = |folder: &PathBuf| folder.file_name().map(|n| n.to_string_lossy().into_owned());
    let dir = args.folder.dir.display();
    if let Some(name) = args
        .names
        .iter()
        .find(|name| !all.iter().any(|f| named(f).as_ref() == Some(name)))
    {
        return Err(CliError::BadInput(format!(
            "there is no data set {name} in {dir}"
        )));
    }
    let mut checked = Vec::new();
    for folder in &all {
        let name = named(folder).unwrap_or_default();
        if args.names.is_empty() || args.names.contains(&name) {
            let problems = check(folder).map_err(|e| bad(&e))?;
            checked.push(Checked { name, problems });
        }
    }
    print_data(&told(&checked, args.folder.format)?)?;
    let wrong = checked.iter().filter(|c| !c.problems.is_empty()).count();
    if wrong > 0 {
        let what = format!("{wrong} of {} data sets are not as they say", checked.len());
        return Err(CliError::CheckFailed(what));
    }
    Ok(())
}

fn told(checked: &[Checked], format: Format) -> Result<String, CliError> {
    let mut text = String::new();
    match format {
        Format::Json => text = serde_json::to_string(checked).map_err(anyhow::Error::from)? + "\n",
        Format::Csv => {
            text += "name,problem\n";
            for one in checked {
                for problem in &one.problems {
                    text += &format!("{},\"{}\"\n", one.name, problem.replace('"', "\"\""));
                }
            }
        }
        Format::Table => {
            for one in checked {
                match one.problems.as_slice() {
                    [] => text += &format!("{:<16} whole\n", one.name),
                    problems => {
                        for problem in problems {
                            text += &format!("{:<16} {problem}\n", one.name);
                        }
                    }
                }
            }
        }
    }
    Ok(text)
}

/// Writes a new data set: its files, then the manifest that says what they are.
fn write_set(
    folder: &Path,
    mut manifest: Manifest,
    files: &[(&str, Vec<u8>)],
) -> Result<(), CliError> {
    let cannot = |path: &Path, e: std::io::Error| {
        CliError::Environment(anyhow::anyhow!("cannot write {}: {e}", path.display()))
    };
    let shown = folder.display();
    if folder.join(MANIFEST).exists() {
        let what = format!("{shown} is a data set already: name another --out");
        return Err(CliError::BadInput(what));
    }
    let name = folder.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or_else(|| CliError::BadInput(format!("{shown}: this is no name of a folder")))?;
    name.clone_into(&mut manifest.name);
    std::fs::create_dir_all(folder).map_err(|e| cannot(folder, e))?;
    for (path, bytes) in files {
        manifest.files.push(DataFile {
            path: (*path).to_owned(),
            sha256: sha256_hex(bytes),
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        });
        let path = folder.join(path);
        std::fs::write(&path, bytes).map_err(|e| cannot(&path, e))?;
    }
    let path = folder.join(MANIFEST);
    std::fs::write(&path, manifest.to_toml()).map_err(|e| cannot(&path, e))?;
    print_data(&format!("{shown}\n"))
}
