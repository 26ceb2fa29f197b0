//! `commonwatt control`: gives a device a set-point for a time, or takes it back.

use std::time::{Duration, Instant};

use domain::command::{Act, Command, LEASE_MAX_S, SetPoint};
use domain::ids::GatewayId;
use domain::signed::Signed;
use serde_json::Value;

use super::operator::Operator;
use super::{CliError, Format, print_data};

/// How long to wait for the device to show the value, beyond the platform's own patience.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Set a battery's power, a charger's current or an inverter's limit, for a time.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  commonwatt control --gateway gw-4 --device battery --battery-power-w 2000 --for 15m\n  \
    commonwatt control --gateway gw-3 --device charger --current-a 10 --for 1h\n  \
    commonwatt control --gateway gw-3 --device charger --release current\n\n\
    The gateway's [devices.limits] decide what is allowed. At the end of its time the device gets its own\n\
    value back. Exit code 0: the device shows the value. 1: refused or not confirmed. 2: bad input."
)]
pub(super) struct Args {
    #[command(flatten)]
    operator: Operator,
    /// The gateway behind which the device is.
    #[arg(long)]
    gateway: String,
    /// The device's name in that gateway's configuration.
    #[arg(long)]
    device: String,
    #[command(flatten)]
    what: What,
    /// How long: 30s, 15m, 2h; a day at most.
    #[arg(long = "for", default_value = "15m", value_name = "TIME")]
    length: String,
    /// How to print the answers.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Power of a battery in watts: discharging positive, charging negative, 0 holds it.
    #[arg(long, allow_negative_numbers = true)]
    battery_power_w: Option<i64>,
    /// Largest current of a charger in amperes per phase, like 10 or 7.5; 0 pauses.
    #[arg(long)]
    current_a: Option<String>,
    /// Largest generation of an inverter in watts.
    #[arg(long)]
    generation_limit_w: Option<i64>,
    /// Largest generation of an inverter in percent of its largest power, like 70 or 62.5.
    #[arg(long)]
    generation_limit_percent: Option<String>,
    /// Give the device its own value back now.
    #[arg(long, value_enum, value_name = "WHAT")]
    release: Option<Released>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Released {
    BatteryPower,
    Current,
    GenerationLimit,
}

/// A set-point and, unless it is released, its value.
type Wanted = (SetPoint, Option<i64>);

impl What {
    fn wanted(&self) -> Result<Wanted, CliError> {
        if let Some(w) = self.battery_power_w {
            return Ok((SetPoint::BatteryPowerW, Some(w)));
        }
        if let Some(text) = &self.current_a {
            let ma = shifted(text, 3).ok_or_else(|| bad("--current-a", text, "10 or 7.5"))?;
            return Ok((SetPoint::ChargerCurrentMa, Some(ma)));
        }
        if let Some(w) = self.generation_limit_w {
            return Ok((SetPoint::GenerationLimitW, Some(w)));
        }
        if let Some(text) = &self.generation_limit_percent {
            let permille = shifted(text, 1);
            let permille =
                permille.ok_or_else(|| bad("--generation-limit-percent", text, "70 or 62.5"))?;
            return Ok((SetPoint::GenerationLimitPermille, Some(permille)));
        }
        Ok(match self.release {
            Some(Released::BatteryPower) => (SetPoint::BatteryPowerW, None),
            Some(Released::GenerationLimit) => (SetPoint::GenerationLimitPermille, None),
            // clap lets nothing else through.
            Some(Released::Current) | None => (SetPoint::ChargerCurrentMa, None),
        })
    }
}

fn bad(option: &str, text: &str, like: &str) -> CliError {
    CliError::BadInput(format!("{option} {text}: a number like {like}"))
}

/// A decimal that is not negative × 10^`digits`, which must be whole.
fn shifted(text: &str, digits: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > digits || !is_plain(whole) || !is_plain(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<digits$}").parse().ok()
}

/// `90s`, `15m`, `2h` in seconds.
fn seconds(text: &str) -> Result<i64, CliError> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let found = units.into_iter().find_map(|(unit, factor)| {
        let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(factor)
    });
    match found {
        Some(length_s) if (1..=LEASE_MAX_S).contains(&length_s) => Ok(length_s),
        _ => Err(CliError::BadInput(format!(
            "--for {text}: a time like 30s, 15m or 2h, a day at most"
        ))),
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let (set_point, value) = args.what.wanted()?;
    let length_s = seconds(&args.length)?;
    let gateway = GatewayId::new(args.gateway.clone())
        .map_err(|error| CliError::BadInput(format!("--gateway: {error}")))?;
    let platform = args.operator.platform()?;
    let now = platform.now;
    let act = match value {
        Some(value) => Act::Set {
            set_point,
            value,
            expires_at: now.plus_s(length_s),
        },
        None => Act::Release { set_point },
    };
    let command = Command {
        gateway,
        device: args.device.clone(),
        // The platform's time in milliseconds: it rises from command to command.
        sequence: u64::try_from(now.unix_ms()).unwrap_or(0),
        issued_at: now,
        act,
    };
    let signed = Signed::sign(&platform.key, &platform.community, &command);
    let mut answer = args.operator.post("/api/v1/commands", signed.as_bytes())?;
    let path = format!("/api/v1/commands/{}", text(&answer, "command"));
    let started = Instant::now();
    while outcome(&answer).is_none() && started.elapsed() < PATIENCE {
        std::thread::sleep(LOOK_EVERY);
        answer = args.operator.get(&path)?;
    }
    print_data(&show(&answer, set_point, args.format))?;
    match outcome(&answer) {
        Some(true) => Ok(()),
        Some(false) => Err(CliError::CheckFailed("the device does not do that".into())),
        None => Err(CliError::CheckFailed(format!(
            "the gateway has not said yet what became of it; look at {path}"
        ))),
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn answers(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["answers"].as_array().into_iter().flatten()
}

/// Whether the device does what it was told; none as long as that is open.
fn outcome(answer: &Value) -> Option<bool> {
    let decided = answers(answer).filter_map(|one| match one["outcome"].as_str() {
        Some("confirmed") => Some(true),
        Some("ended") => Some(one["reason"] == "released" || one["reason"] == "expired"),
        Some("accepted") if one["value"].is_null() => Some(true),
        Some("refused" | "not_confirmed") => Some(false),
        _ => None,
    });
    decided.last()
}

fn show(answer: &Value, set_point: SetPoint, format: Format) -> String {
    match format {
        Format::Json => format!("{answer:#}\n"),
        Format::Csv => {
            let mut out = String::from("at,outcome,value,reason,revert\n");
            for one in answers(answer) {
                let value = one["value"].as_i64().map(|v| v.to_string());
                let cells = [
                    text(one, "at"),
                    text(one, "outcome"),
                    value.unwrap_or_default(),
                    text(one, "reason"),
                    text(one, "revert"),
                ];
                out += &(cells.join(",") + "\n");
            }
            out
        }
        Format::Table => answers(answer)
            .map(|one| format!("{}  {}\n", text(one, "at"), sentence(one, set_point)))
            .collect(),
    }
}

/// An answer as a person reads it.
fn sentence(one: &Value, set_point: SetPoint) -> String {
    let (reason, revert) = (text(one, "reason"), text(one, "revert"));
    let value = one["value"]
        .as_i64()
        .map(|value| quantity(value, set_point));
    match (one["outcome"].as_str(), value) {
        (Some("accepted"), Some(value)) if reason.is_empty() => format!("accepted: {value}"),
        (Some("accepted"), Some(value)) => {
            format!("accepted, but only {value}: the gateway's limit {reason}")
        }
        (Some("accepted"), None) => "accepted: the device gets its own value back".into(),
        (Some("confirmed"), Some(value)) if reason.is_empty() => {
            format!("the device shows {value}")
        }
        (Some("confirmed"), Some(value)) => {
            format!("the device shows {value}: it can do no more ({reason})")
        }
        (Some("not_confirmed"), Some(value)) => format!("not confirmed: the device shows {value}"),
        (Some("not_confirmed"), None) => "not confirmed: the device does not take it".into(),
        (Some("refused"), _) => format!("refused: {reason}"),
        (Some("ended"), _) => format!("ended ({reason}); its own value: {revert}"),
        (other, _) => other
            .unwrap_or("an answer that this program does not know")
            .into(),
    }
}

fn quantity(value: i64, set_point: SetPoint) -> String {
    match set_point {
        SetPoint::ChargerCurrentMa => format!("{}.{:03} A", value / 1000, value % 1000),
        SetPoint::BatteryPowerW if value < 0 => format!("charging with {} W", value.unsigned_abs()),
        SetPoint::BatteryPowerW if value > 0 => format!("discharging with {value} W"),
        SetPoint::BatteryPowerW => "holding".into(),
        SetPoint::GenerationLimitW => format!("at most {value} W"),
        SetPoint::GenerationLimitPermille => format!("at most {}.{} %", value / 10, value % 10),
        SetPoint::ChargerSession if value > 0 => "open to a driver".into(),
        SetPoint::ChargerSession => "closed to drivers".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_times_are_read_exactly_or_not_at_all() {
        assert_eq!(shifted("7.5", 3), Some(7_500));
        assert_eq!(shifted("10", 3), Some(10_000));
        assert_eq!(shifted("62.5", 1), Some(625));
        for wrong in ["", "-1", "1.2345", "1e3", ".5", "1,5"] {
            assert_eq!(shifted(wrong, 3), None, "{wrong}");
        }
        assert_eq!(
            (seconds("15m").unwrap(), seconds("24h").unwrap()),
            (900, 86_400)
        );
        for wrong in ["", "15", "0s", "25h", "m", "-1h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_word_decides() {
        let of = |answers: Value| outcome(&json!({ "answers": answers }));
        let accepted = json!({"outcome": "accepted", "value": 2000});
        assert_eq!(of(json!([])), None);
        assert_eq!(of(json!([accepted])), None);
        assert_eq!(
            of(json!([accepted, {"outcome": "confirmed", "value": 2000}])),
            Some(true)
        );
        assert_eq!(
            of(json!([accepted, {"outcome": "not_confirmed"}])),
            Some(false)
        );
        assert_eq!(
            of(json!([{"outcome": "refused", "reason": "expired"}])),
            Some(false)
        );
        assert_eq!(
            of(json!([{"outcome": "accepted", "value": null}])),
            Some(true)
        );
    }

    #[test]
    fn answers_are_plain_sentences() {
        let told = |one: Value, set_point| sentence(&one, set_point);
        let clamped = json!({"outcome": "accepted", "value": 10_000, "reason": "max_current_a"});
        assert_eq!(
            told(clamped, SetPoint::ChargerCurrentMa),
            "accepted, but only 10.000 A: the gateway's limit max_current_a"
        );
        let shown = json!({"outcome": "confirmed", "value": -1500});
        assert_eq!(
            told(shown, SetPoint::BatteryPowerW),
            "the device shows charging with 1500 W"
        );
        let full = json!({"outcome": "confirmed", "value": 5000, "reason": "device_range"});
        assert_eq!(
            told(full, SetPoint::BatteryPowerW),
            "the device shows discharging with 5000 W: it can do no more (device_range)"
        );
        let odd = json!({"outcome": "confirmed", "value": i64::MIN});
        assert_eq!(
            told(odd, SetPoint::BatteryPowerW),
            "the device shows charging with 9223372036854775808 W"
        );
    }
}
