//! `commonwatt check --live`: watches the devices for a while and says whether what they tell hangs
//! together.

use std::time::Duration;

use meter_gateway::commission::{Evidence, Finding, Topic, Verdict, judge};
use meter_gateway::config::Config;
use meter_gateway::watch::{Watched, watch};
use runtime::clock::Clock;
use serde_json::{Value, json};

use super::{Args, CliError, Format};
use crate::cli::block_on_two;

/// The findings about one device.
struct Checked {
    device: Watched,
    second: Option<String>,
    findings: Vec<Finding>,
}

/// Watches and judges; gives what is to be printed and what is wrong.
pub(super) fn run(
    args: &Args,
    config: &Config,
) -> Result<(String, Result<(), CliError>), CliError> {
    let pairs = pairs(args, config)?;
    let lasting = Duration::from_secs(u64::from(args.seconds));
    eprintln!(
        "watching {} devices for {} s",
        config.devices.len(),
        args.seconds
    );
    let watched = block_on_two(async move {
        let stop = crate::cli::stop_signal();
        let clock = Clock::system();
        tokio::select! {
            watched = watch(config, lasting, &clock) => Ok(watched?),
            () = stop => anyhow::bail!("stopped before the end of the watch"),
        }
    })?;
    let checked: Vec<Checked> = watched
        .iter()
        .map(|one| check(one, &watched, &pairs))
        .collect();
    let wrong = checked
        .iter()
        .flat_map(|c| &c.findings)
        .filter(|f| f.verdict == Verdict::Wrong)
        .count();
    let outcome = match wrong {
        0 => Ok(()),
        1 => Err(CliError::CheckFailed(
            "one finding is wrong: mend it before its readings are settled".into(),
        )),
        n => Err(CliError::CheckFailed(format!(
            "{n} findings are wrong: mend them before their readings are settled"
        ))),
    };
    let text = match args.format {
        Format::Json => {
            let all: Vec<Value> = checked.iter().map(Checked::to_json).collect();
            serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)? + "\n"
        }
        _ => checked
            .iter()
            .map(Checked::to_text)
            .collect::<Vec<_>>()
            .join("\n"),
    };
    Ok((text, outcome))
}

/// `--second meter=check-meter` as names of devices of this configuration.
fn pairs(args: &Args, config: &Config) -> Result<Vec<(String, String)>, CliError> {
    let known = |name: &str| config.devices.iter().any(|d| d.name == name);
    let pair = |text: &String| match text.split_once('=') {
        Some((one, other)) if known(one) && known(other) && one != other => {
            Ok((one.to_owned(), other.to_owned()))
        }
        _ => Err(CliError::BadInput(format!(
            "--second `{text}`: expected DEVICE=OTHER, two devices of {}",
            args.config.display()
        ))),
    };
    args.second.iter().map(pair).collect()
}

fn check(device: &Watched, all: &[Watched], pairs: &[(String, String)]) -> Checked {
    let second = pairs
        .iter()
        .find(|(one, _)| *one == device.name)
        .map(|(_, other)| other.clone());
    let other = all.iter().find(|w| second.as_ref() == Some(&w.name));
    let evidence = Evidence {
        own: &device.own,
        swapped: &device.swapped,
        second: other.map(|w| w.own.as_slice()).unwrap_or_default(),
    };
    let findings = if device.own.is_empty() {
        vec![silent(device)]
    } else {
        judge(&device.subject, evidence)
    };
    Checked {
        device: device.clone(),
        second,
        findings,
    }
}

fn silent(device: &Watched) -> Finding {
    let errors: Vec<String> = device
        .errors
        .iter()
        .map(|(kind, n)| format!("{n} × {kind}"))
        .collect();
    let errors = if errors.is_empty() {
        "nothing was heard".to_owned()
    } else {
        errors.join(", ")
    };
    Finding {
        topic: Topic::Values,
        verdict: Verdict::Wrong,
        sentence: format!(
            "it told nothing ({errors}): is it on, and are address, unit and profile right?"
        ),
    }
}

impl Checked {
    fn to_text(&self) -> String {
        let device = &self.device;
        let identity = device
            .identity
            .as_ref()
            .map_or(String::new(), |id| format!(", serial number {}", id.serial));
        let second = self
            .second
            .as_ref()
            .map_or(String::new(), |name| format!(", held against {name}"));
        let errors: u64 = device.errors.values().sum();
        let errors = if errors == 0 {
            String::new()
        } else {
            format!(", {errors} failures")
        };
        let mut text = format!(
            "{} ({}{identity}): {} observations{errors}{second}\n",
            device.name,
            device.profile,
            device.own.len()
        );
        for finding in &self.findings {
            text.push_str(&format!("  {finding}\n"));
        }
        text
    }

    fn to_json(&self) -> Value {
        let finding = |f: &Finding| json!({ "topic": f.topic.word(), "verdict": f.verdict.word(), "sentence": f.sentence });
        json!({
            "device": self.device.name,
            "profile": self.device.profile,
            "serial": self.device.identity.as_ref().map(|id| &id.serial),
            "observations": self.device.own.len(),
            "errors": self.device.errors,
            "second": self.second,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}
