//! `commonwatt gateway status`: asks the running gateway how it is; where none runs, its outbox.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use meter_gateway::config::Config;
use meter_gateway::spool::Spool;
use meter_gateway::status::report::{Broker, DeviceReport, Outbox, Report, Running};
use meter_gateway::status::socket::{AskError, ask};
use runtime::clock::Clock;

use super::configuration;
use crate::cli::{CliError, chain, print_data};

/// Show how a gateway is.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  commonwatt gateway status --config gateway.toml\n\n\
    It asks the gateway that runs on this machine with this configuration. Exit code 0: it runs.\n\
    3: none runs, or it cannot be asked; then only its outbox is shown."
)]
pub(super) struct Args {
    /// The gateway's configuration.
    #[arg(long)]
    config: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// How the status is printed; it is no table of rows, so there is no CSV.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people, at a terminal.
    Table,
    /// For programs.
    Json,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let config = configuration(&args.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime did not start")?;
    let (report, why_not) = match runtime.block_on(ask(&config.data_dir)) {
        Ok(report) => (report, None),
        Err(error) => (runtime.block_on(at_rest(&config))?, Some(error)),
    };
    print_data(&match args.format {
        Format::Json => {
            let text = serde_json::to_string_pretty(&report).context("the status has no JSON")?;
            format!("{text}\n")
        }
        Format::Table => table(&report),
    })?;
    match why_not {
        None => Ok(()),
        Some(error @ AskError::NotRunning(_)) => {
            let path = args.config.display();
            Err(
                anyhow::anyhow!("{error}; start it with `commonwatt gateway --config {path}`")
                    .into(),
            )
        }
        Some(error) => Err(anyhow::anyhow!(error).into()),
    }
}

/// What can be known of a gateway that does not run.
async fn at_rest(config: &Config) -> Result<Report, CliError> {
    let backlog = match Spool::look(&config.data_dir).await {
        Ok(backlog) => backlog,
        Err(error) => {
            let error = chain(&anyhow::anyhow!(error));
            eprintln!("commonwatt: {error}");
            None
        }
    };
    let now = Clock::system().now();
    Ok(Report {
        community: config.community.to_string(),
        gateway: config.gateway.to_string(),
        key_id: meter_gateway::known_key_id(&config.data_dir).map(|id| id.to_string()),
        outbox: backlog.map(|backlog| Outbox::at(backlog, config.interval_length_s, now)),
        running: None,
    })
}

fn table(report: &Report) -> String {
    let mut lines = vec![
        (
            "gateway",
            format!("{} in {}", report.gateway, report.community),
        ),
        (
            "key",
            report.key_id.clone().unwrap_or_else(|| "none yet".into()),
        ),
    ];
    match &report.running {
        Some(running) => lines.extend(facts(running)),
        None => lines.push(("running", "no".into())),
    }
    lines.push(("outbox", waiting(report.outbox.as_ref())));
    if let Some(running) = &report.running {
        let (signed, sent) = (running.readings_signed, running.readings_sent);
        let accepted = running.acceptances;
        let words = format!("{signed} signed, {sent} sent, {accepted} answers of the platform");
        lines.push(("readings", words));
        lines.push(("errors", kinds(&running.errors)));
    }
    let mut text = String::new();
    for (name, words) in lines {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<9} {words}");
    }
    if let Some(running) = &report.running {
        text.push('\n');
        text.push_str(&devices(&running.devices));
    }
    text
}

fn facts(running: &Running) -> [(&'static str, String); 3] {
    let clock = running.clock.as_ref().map_or_else(
        || "not asked yet".to_owned(),
        |clock| format!("{}, at most {} ms wrong", clock.state, clock.error_ms),
    );
    let up = format!(
        "version {}, for {}",
        running.version,
        duration(running.uptime_ms)
    );
    [
        ("running", up),
        ("clock", clock),
        ("broker", link(&running.broker)),
    ]
}

fn link(broker: &Broker) -> String {
    let address = &broker.address;
    let Some(since_ms) = broker.since_ms else {
        return format!("{address}, not tried yet");
    };
    let since = duration(since_ms);
    match (&broker.error, broker.connected) {
        (_, true) => format!("{address}, connected for {since}"),
        (Some(error), false) => format!("{address}, NOT connected for {since}: {error}"),
        (None, false) => format!("{address}, NOT connected for {since}"),
    }
}

fn waiting(outbox: Option<&Outbox>) -> String {
    let Some(outbox) = outbox else {
        return "not there, or not readable".to_owned();
    };
    let waiting = match (outbox.waiting, outbox.oldest_age_ms) {
        (0, _) => "nothing waits".to_owned(),
        (1, Some(age_ms)) => format!("1 reading waits, for {}", duration(age_ms)),
        (n, Some(age_ms)) => format!("{n} readings wait, the oldest for {}", duration(age_ms)),
        (n, None) => format!("{n} readings wait"),
    };
    match outbox.refused {
        0 => format!("{waiting}; none refused"),
        n => format!("{waiting}; {n} REFUSED by the platform"),
    }
}

fn devices(devices: &[DeviceReport]) -> String {
    let header = [
        "device",
        "kind",
        "profile",
        "last value",
        "samples",
        "errors",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(devices.iter().map(|d| {
        let age = d.value_age_ms.map_or_else(
            || "never".to_owned(),
            |age_ms| format!("{} ago", duration(age_ms)),
        );
        let (name, kind, profile) = (d.name.clone(), d.kind.clone(), d.profile.clone());
        [
            name,
            kind,
            profile,
            age,
            d.samples.to_string(),
            kinds(&d.errors),
        ]
    }));
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `timeout 3, busy 1`, the most frequent first.
fn kinds(errors: &BTreeMap<String, u64>) -> String {
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words = errors.iter().map(|(kind, count)| format!("{kind} {count}"));
    match errors.is_empty() {
        true => "none".to_owned(),
        false => words.collect::<Vec<_>>().join(", "),
    }
}

/// A length of time as people say it, to one or two units.
fn duration(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let two = |big: i64, big_name: &str, small: i64, small_name: &str| match small {
        0 => format!("{big} {big_name}"),
        _ => format!("{big} {big_name} {small} {small_name}"),
    };
    match s {
        0..60 => format!("{s} s"),
        60..600 => two(s / 60, "min", s % 60, "s"),
        600..3600 => format!("{} min", s / 60),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        86_400..172_800 => two(1, "day", s % 86_400 / 3600, "h"),
        _ => two(s / 86_400, "days", s % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meter_gateway::status::report::ClockReport;

    fn device(name: &str, value_age_ms: Option<i64>, errors: &[(&str, u64)]) -> DeviceReport {
        DeviceReport {
            name: name.into(),
            kind: "meter".into(),
            profile: "eastron-sdm630".into(),
            value_age_ms,
            samples: 12,
            errors: errors.iter().map(|(k, n)| ((*k).into(), *n)).collect(),
        }
    }

    fn report() -> Report {
        Report {
            community: "elm".into(),
            gateway: "gw-1".into(),
            key_id: Some("00aa".into()),
            outbox: Some(Outbox {
                waiting: 3,
                oldest_age_ms: Some(7_500_000),
                refused: 0,
            }),
            running: Some(Running {
                version: "1".into(),
                at_ms: 0,
                uptime_ms: 90_061_000,
                clock: Some(ClockReport {
                    state: "synchronised".into(),
                    error_ms: 50,
                }),
                broker: Broker {
                    address: "b:1883".into(),
                    connected: false,
                    since_ms: Some(61_000),
                    error: Some("refused".into()),
                },
                readings_signed: 9,
                readings_sent: 10,
                acceptances: 2,
                devices: vec![
                    device("meter", Some(4000), &[("busy", 1), ("timeout", 3)]),
                    device("b", None, &[]),
                ],
                errors: BTreeMap::new(),
            }),
        }
    }

    #[test]
    fn people_can_read_it() {
        let expected = "\
gateway   gw-1 in elm
key       00aa
running   version 1, for 1 day 1 h
clock     synchronised, at most 50 ms wrong
broker    b:1883, NOT connected for 1 min 1 s: refused
outbox    3 readings wait, the oldest for 2 h 5 min; none refused
readings  9 signed, 10 sent, 2 answers of the platform
errors    none

device  kind   profile         last value  samples  errors
meter   meter  eastron-sdm630  4 s ago     12       timeout 3, busy 1
b       meter  eastron-sdm630  never       12       none
";
        assert_eq!(table(&report()), expected);
    }

    #[test]
    fn a_gateway_that_does_not_run_still_has_an_outbox() {
        let resting = Report {
            running: None,
            key_id: None,
            ..report()
        };
        let text = table(&resting);
        assert!(
            text.contains("running   no\noutbox    3 readings wait"),
            "{text}"
        );
        assert!(text.contains("key       none yet"), "{text}");
    }
}
