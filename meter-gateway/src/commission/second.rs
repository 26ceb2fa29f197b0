//! A device against a second meter that measures the same current.

use super::{
    AGREE_PERMILLE, Factor, Finding, JUDGED_W_MIN, Observation, Subject, Topic, Verdict, agree,
};

/// Observations of two devices may be so far apart and still be of one time.
const TOGETHER_MS: i64 = 15_000;

/// Means over the times at which both devices were observed, in W.
struct Both {
    own: i128,
    phases: Option<[i128; 3]>,
    second: i128,
    spread: i128,
}

impl Both {
    fn of(own: &[Observation], second: &[Observation]) -> Option<Self> {
        let nearest = |at_ms: i64| {
            let there = second.iter().filter(|o| o.power_w.is_some());
            let found = there.min_by_key(|o| o.at_ms.abs_diff(at_ms))?;
            (found.at_ms.abs_diff(at_ms) <= TOGETHER_MS.unsigned_abs()).then_some(found.power_w?)
        };
        let pairs: Vec<(&Observation, i64, i64)> = own
            .iter()
            .filter_map(|o| Some((o, o.power_w?, nearest(o.at_ms)?)))
            .collect();
        let count = i128::try_from(pairs.len()).ok().filter(|n| *n > 0)?;
        let mean = |value: &dyn Fn(&(&Observation, i64, i64)) -> i128| {
            pairs.iter().map(value).sum::<i128>() / count
        };
        let mut phases = [0; 3];
        let mut has_phases = true;
        for (index, phase) in phases.iter_mut().enumerate() {
            has_phases &= pairs.iter().all(|(o, ..)| o.phase_w[index].is_some());
            *phase = mean(&|(o, ..)| i128::from(o.phase_w[index].unwrap_or(0)));
        }
        let second_mean = mean(&|(_, _, second)| i128::from(*second));
        let spread = mean(&|(_, _, second)| (i128::from(*second) - second_mean).abs());
        Some(Both {
            own: mean(&|(_, own, _)| i128::from(*own)),
            phases: has_phases.then_some(phases),
            second: second_mean,
            spread,
        })
    }

    /// The one phase whose turning makes both agree.
    fn turned_phase(&self, slack: i128) -> Option<usize> {
        let phases = self.phases?;
        let fits =
            |(_, w): &(usize, i128)| w.abs() > slack && agree(self.own - 2 * w, self.second, slack);
        let mut found = (1..).zip(phases).filter(fits);
        let (phase, _) = found.next()?;
        found.next().is_none().then_some(phase)
    }
}

pub(super) fn judge(_: &Subject, own: &[Observation], second: &[Observation]) -> Vec<Finding> {
    if second.is_empty() {
        return Vec::new();
    }
    let Some(both) = Both::of(own, second) else {
        let sentence = "the second meter told no power at the times the device did";
        return vec![Finding::new(
            Topic::SecondMeter,
            Verdict::Undecided,
            sentence,
        )];
    };
    if both.own.abs().max(both.second.abs()) < JUDGED_W_MIN {
        let sentence = format!(
            "hardly any power flows ({} W and {} W): switch something large on",
            both.own, both.second
        );
        return vec![Finding::new(
            Topic::SecondMeter,
            Verdict::Undecided,
            sentence,
        )];
    }
    vec![compare(&both)]
}

fn compare(both: &Both) -> Finding {
    let slack = JUDGED_W_MIN / 2 + both.spread / 2;
    let what = format!("{} W here, {} W at the second meter", both.own, both.second);
    let wrong = |topic, why: String| Finding::new(topic, Verdict::Wrong, format!("{what}: {why}"));
    if agree(both.own, both.second, slack) {
        return Finding::new(Topic::SecondMeter, Verdict::Ok, what);
    }
    if agree(both.own, -both.second, slack) {
        let why = "the sign, or the direction of all current transformers, is turned round";
        return wrong(Topic::Sign, why.to_owned());
    }
    if let Some(phase) = both.turned_phase(slack) {
        let why = format!(
            "they agree when phase {phase} is turned: its current transformer is the wrong way round"
        );
        return wrong(Topic::CtDirection, why);
    }
    if let Some(factor) = Factor::between(both.own, both.second, slack) {
        let why = format!(
            "this device shows {} the second; {}",
            factor.text(),
            factor.meaning
        );
        return wrong(factor.topic, why);
    }
    let ratio_permille = (both.own * 1000).checked_div(both.second).unwrap_or(0);
    let sentence = format!(
        "{what}: they differ by more than {} % (this one shows {}.{:03} of the second); do both measure the \
         same current, and is the ratio of the current transformers set?",
        AGREE_PERMILLE / 10,
        ratio_permille / 1000,
        ratio_permille.abs() % 1000
    );
    Finding::new(Topic::SecondMeter, Verdict::Doubt, sentence)
}
