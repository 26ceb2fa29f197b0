//! What physics allows: voltage, frequency, power within the rating. Swapped words rarely pass here.

use super::{
    FREQUENCY_MHZ, Finding, JUDGED_W_MIN, Observation, PHASE_MV, Subject, Topic, Verdict, mean,
};
use crate::profile::Kind;

/// Power may exceed the rating for a moment by this share.
const OVER_RATING_PERMILLE: i64 = 1250;
/// Phases may differ so much from the device's own total, in permille of what flows.
const PHASE_SUM_PERMILLE: i128 = 50;

pub(super) fn judge(
    subject: &Subject,
    own: &[Observation],
    swapped: &[Observation],
) -> Vec<Finding> {
    let mut findings = vec![range(subject, own, swapped)];
    findings.extend(phases(own));
    findings.extend(direction(subject, own));
    findings.extend(standing_still(own));
    findings
}

/// The first value that cannot be.
fn impossible(subject: &Subject, series: &[Observation]) -> Option<String> {
    let rating_w = i64::from(subject.rating_w);
    let most_w = rating_w.saturating_mul(OVER_RATING_PERMILLE) / 1000;
    let watts = |o: &Observation| o.power_w.into_iter().chain(o.phase_w.into_iter().flatten());
    let mut powers = series.iter().flat_map(|o| watts(o).collect::<Vec<_>>());
    if let Some(power) = powers.find(|w| w.unsigned_abs() > most_w.unsigned_abs()) {
        return Some(format!(
            "a power of {power} W is beyond the rating of {rating_w} W"
        ));
    }
    for (index, phase) in (1..=3).enumerate() {
        let mut volts = series.iter().filter_map(|o| o.phase_mv[index]);
        if let Some(mv) = volts.find(|mv| *mv != 0 && !PHASE_MV.contains(mv)) {
            return Some(format!("phase {phase} has {} V", mv / 1000));
        }
    }
    let mut frequencies = series.iter().filter_map(|o| o.frequency_mhz);
    let odd = frequencies.find(|mhz| *mhz != 0 && !FREQUENCY_MHZ.contains(mhz))?;
    Some(format!("the frequency is {} Hz", odd / 1000))
}

/// Whether not one number is other than zero: what swapped words often make of a float.
fn is_all_zero(series: &[Observation]) -> bool {
    let numbers = |o: &Observation| {
        let single = [o.import_wh, o.export_wh, o.power_w, o.frequency_mhz];
        let phases = o.phase_w.into_iter().chain(o.phase_mv);
        single.into_iter().chain(phases).flatten().all(|n| n == 0)
    };
    series.iter().all(numbers)
}

fn range(subject: &Subject, own: &[Observation], swapped: &[Observation]) -> Finding {
    let fits_swapped =
        !swapped.is_empty() && impossible(subject, swapped).is_none() && !is_all_zero(swapped);
    if is_all_zero(own) && fits_swapped {
        let sentence = "everything is 0, and with the words in the opposite order it is not: change \
                        `word_order` of the profile";
        return Finding::new(Topic::WordOrder, Verdict::Wrong, sentence);
    }
    let Some(odd) = impossible(subject, own) else {
        return if own.iter().all(|o| o.power_w.is_none()) {
            let sentence =
                "the device tells no power, so its counters have no witness of their own";
            Finding::new(Topic::Values, Verdict::Undecided, sentence)
        } else {
            let sentence = "power, voltage and frequency lie where they can";
            Finding::new(Topic::WordOrder, Verdict::Ok, sentence)
        };
    };
    if fits_swapped {
        let sentence = format!(
            "{odd}; with the words in the opposite order everything fits: change `word_order` of the profile"
        );
        return Finding::new(Topic::WordOrder, Verdict::Wrong, sentence);
    }
    let sentence = format!("{odd}: is this the right profile, the right unit, the right rating_w?");
    Finding::new(Topic::Scale, Verdict::Wrong, sentence)
}

/// Whether the phases add up, and whether one runs against the others.
fn phases(own: &[Observation]) -> Vec<Finding> {
    let mean_of = |index: usize| mean(own.iter().map(|o| o.phase_w[index]));
    let (Some(a), Some(b), Some(c)) = (mean_of(0), mean_of(1), mean_of(2)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let flow = a.abs() + b.abs() + c.abs();
    let slack = flow * PHASE_SUM_PERMILLE / 1000 + JUDGED_W_MIN;
    if let Some(total) = mean(own.iter().map(|o| o.power_w))
        && (a + b + c - total).abs() > slack
    {
        let sentence = format!(
            "the phases ({a} W, {b} W, {c} W) add up to {} W, the device says {total} W: a phase is missing \
             or mixed up",
            a + b + c
        );
        findings.push(Finding::new(Topic::CtDirection, Verdict::Wrong, sentence));
    }
    let against = |w: i128| w.abs() >= JUDGED_W_MIN && w.signum() != (a + b + c).signum();
    let turned = [(1, a), (2, b), (3, c)]
        .into_iter()
        .filter(|(_, w)| against(*w));
    let names: Vec<String> = turned
        .map(|(phase, w)| format!("phase {phase} ({w} W)"))
        .collect();
    if names.is_empty() {
        let sentence = "all phases run in one direction";
        findings.push(Finding::new(Topic::CtDirection, Verdict::Ok, sentence));
    } else {
        let sentence = format!(
            "{} runs against the others: if nothing feeds in there, its current transformer is turned round",
            names.join(" and ")
        );
        findings.push(Finding::new(Topic::CtDirection, Verdict::Doubt, sentence));
    }
    findings
}

/// Inverters give and chargers take.
fn direction(subject: &Subject, own: &[Observation]) -> Option<Finding> {
    let mean_w = mean(own.iter().map(|o| o.power_w))?;
    if mean_w > -JUDGED_W_MIN {
        return None;
    }
    let what = match subject.kind {
        Kind::Inverter => "an inverter that takes",
        Kind::Charger => "a charger that gives",
        Kind::Meter | Kind::Battery => return None,
    };
    let sentence = format!(
        "{what} {} W: turn `positive` of its power round, unless it really does",
        mean_w.abs()
    );
    Some(Finding::new(Topic::Sign, Verdict::Doubt, sentence))
}

/// A live device never says exactly the same for minutes.
fn standing_still(own: &[Observation]) -> Option<Finding> {
    let first = own.first()?;
    let same = |o: &Observation| {
        Observation {
            at_ms: first.at_ms,
            ..*o
        } == *first
    };
    let flows = first
        .power_w
        .is_some_and(|w| i128::from(w).abs() >= JUDGED_W_MIN);
    (flows && own.iter().all(same)).then(|| {
        let sentence = "every value stayed exactly the same: the device answers from a memory that is not fresh";
        Finding::new(Topic::Values, Verdict::Doubt, sentence)
    })
}
