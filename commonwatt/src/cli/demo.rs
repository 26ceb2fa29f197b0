//! `commonwatt demo`: the ten-home street.

use std::path::PathBuf;

use super::{CliError, block_on, start_logging};

/// Run a ten-home street.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt demo\n  commonwatt demo --speed 1 --port 9000 --data-dir my-street\n\n\
    Ctrl-C stops it in order; started again with the same --data-dir it goes on where it stopped."
)]
pub(super) struct Args {
    /// Port of the page on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the embedded MQTT broker on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    mqtt_port: u16,
    /// How much faster than the wall clock the street lives; 1 is real time.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    speed: u32,
    /// Seed of weather, households and cars.
    #[arg(long, default_value_t = 10)]
    seed: u64,
    /// Folder for books, keys and clock; made where it is missing.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Keep the books in PostgreSQL (postgres://user:password@host/database) instead of in the folder.
    #[arg(long)]
    database: Option<String>,
    /// Let nobody begin a session at the public charger but you.
    #[arg(long)]
    no_drivers: bool,
    /// Log only warnings.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    start_logging(args.quiet);
    block_on(crate::demo::run(crate::demo::Options {
        port: args.port,
        mqtt_port: args.mqtt_port,
        speed: args.speed,
        seed: args.seed,
        data_dir: args.data_dir,
        database: args.database,
        drivers: !args.no_drivers,
    }))
}
