//! One page on a run: what it was, what it came to beside its twins, and what was checked.

use std::fmt::Write;

use super::engine::Outcome;
use super::folder::Manifest;
use super::kpis::Kpi;

/// A figure with as many decimals as it needs to be read.
#[must_use]
pub fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "–".to_owned();
    };
    let decimals = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.decimals$}");
    // A zero has no sign.
    let zero = plain
        .trim_start_matches('-')
        .bytes()
        .all(|b| b == b'0' || b == b'.');
    let plain = if zero {
        plain.trim_start_matches('-').to_owned()
    } else {
        plain
    };
    grouped(&plain)
}

/// A count with thousands apart.
#[must_use]
pub fn whole(count: u64) -> String {
    grouped(&count.to_string())
}

/// Thousands apart.
fn grouped(plain: &str) -> String {
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |d| ("−", d));
    let (whole, part) = digits
        .split_once('.')
        .map_or((digits, None), |(w, p)| (w, Some(p)));
    let mut text = String::from(sign);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(part) = part {
        text.push('.');
        text.push_str(part);
    }
    text
}

/// What a run was, in a line.
#[must_use]
pub fn title(manifest: &Manifest) -> String {
    let days = if manifest.days == 1 { "day" } else { "days" };
    format!(
        "{} · {} {days} from {} ({}) · {} homes · seed {} · {}",
        manifest.name,
        manifest.days,
        manifest.start,
        manifest.zone,
        grouped(&manifest.homes.to_string()),
        manifest.seed,
        manifest.mechanism
    )
}

/// What was checked, in sentences.
#[must_use]
pub fn checks(manifest: &Manifest) -> Vec<String> {
    let (checks, all) = (&manifest.checks, manifest.intervals);
    let mut lines = vec![format!(
        "energy and tokens sum to zero in {} of {all} intervals",
        checks.sums_are_zero
    )];
    if checks.limits_kept > 0 {
        lines.push(format!(
            "no limit price violated in {} of {all} intervals",
            checks.limits_kept
        ));
    }
    if checks.settlement_is_the_platforms > 0 {
        let made = checks.settlement_is_the_platforms;
        lines.push(if made == all {
            format!("the platform's own settlement came to the same to the nano-token in {made} of {all} intervals")
        } else {
            format!(
                "the platform's own settlement was made in {made} intervals, and came to the same to the nano-token in each of them"
            )
        });
    } else {
        lines.push(
            "settled by the platform's rules for sums; its postings were not written in this run"
                .to_owned(),
        );
    }
    lines.push(match &manifest.signed {
        Some(signed) => format!(
            "signed and verified: {} orders, {} readings; {} changed readings refused; {} settlement lines under a signed checkpoint",
            signed.orders, signed.readings, signed.readings_refused, signed.lines
        ),
        None => "evidence = none: nothing of this run is signed".to_owned(),
    });
    lines
}

/// The summary as Markdown. What is measured of this computer is not in it, so it is the same in every run.
#[must_use]
pub fn markdown(manifest: &Manifest, kpis: &[Kpi], outcome: &Outcome) -> String {
    let mut text = format!("# {}\n\n", title(manifest));
    let _ = writeln!(
        text,
        "Run `{}`, {} intervals of {} s, {} home-intervals. Version {}.\n",
        manifest.run_id,
        manifest.intervals,
        manifest.interval_s,
        grouped(&outcome.home_intervals().to_string()),
        manifest.version
    );
    text.push_str(
        "| figure | this run | netting only | no market | unit |\n|---|--:|--:|--:|---|\n",
    );
    for kpi in kpis {
        let twin = |value: Option<f64>| value.map_or(String::new(), |v| number(Some(v)));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            kpi.name,
            number(kpi.value),
            twin(kpi.netting_only),
            twin(kpi.no_market),
            kpi.unit
        );
    }
    text.push_str(
        "\n*Netting only*: the same devices; what homes have over and lack cancels inside the community, nothing is traded.\n\
         *No market*: each home alone with the utility. A market is worth what it saves beyond netting.\n\n## Checked\n\n",
    );
    for line in checks(manifest) {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\n## How figures are computed\n\n");
    for kpi in kpis {
        let _ = writeln!(text, "- **{}**: {}.", kpi.name, kpi.definition);
    }
    let _ = writeln!(
        text,
        "\n## How to cite\n\nCommonwatt {} simulation, run {}, seed {}, scenario {} (SHA-256 {}).",
        manifest.version, manifest.run_id, manifest.seed, manifest.name, manifest.scenario_sha256
    );
    text
}

/// What a person at a terminal sees.
#[must_use]
pub fn terminal(manifest: &Manifest, kpis: &[Kpi]) -> String {
    let mut text = format!("{}\n\n", title(manifest));
    let width = kpis.iter().map(|kpi| kpi.name.len()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{:<width$}  {:>12}  {:>12}  {:>12}  unit",
        "", "this run", "netting only", "no market"
    );
    for kpi in kpis {
        let twin = |value: Option<f64>| value.map_or(String::new(), |v| number(Some(v)));
        let _ = writeln!(
            text,
            "{:<width$}  {:>12}  {:>12}  {:>12}  {}",
            kpi.name,
            number(kpi.value),
            twin(kpi.netting_only),
            twin(kpi.no_market),
            if kpi.unit == "1" { "" } else { &kpi.unit }
        );
    }
    text.push('\n');
    for line in checks(manifest) {
        let _ = writeln!(text, "✓ {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_thousands_apart() {
        for (value, text) in [
            (0.12345, "0.123"),
            (-0.00001, "0.000"),
            (1_234_567.8, "1,234,568"),
            (-4321.0, "−4,321"),
            (99.999, "100.00"),
            (123.45, "123.5"),
        ] {
            assert_eq!(number(Some(value)), text);
        }
        assert_eq!(number(None), "–");
    }
}
