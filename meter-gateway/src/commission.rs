//! The commissioning check: does what a newly connected device says hang together? Pure: a few minutes
//! of observations in, findings in plain sentences out.
//!
//! Three witnesses are held against each other: the power a device claims, the slope of its own
//! counters, and a second meter where there is one. A wrong sign, a turned current transformer,
//! swapped words, a scale off by ten and a wrong unit each leave a mark of their own.

mod counters;
mod plausible;
mod second;
#[cfg(test)]
mod tests;

use std::fmt;

use domain::time::Timestamp;

use crate::profile::Kind;

/// Voltages of a phase that a low-voltage network can have, in mV; 0 is a phase that is not connected.
pub const PHASE_MV: std::ops::RangeInclusive<i64> = 80_000..=300_000;
/// Frequencies that a network can have, in mHz.
pub const FREQUENCY_MHZ: std::ops::RangeInclusive<i64> = 45_000..=65_000;
/// Observations that are needed before anything is concluded.
pub const OBSERVATIONS_MIN: usize = 5;
/// Energy that must have passed before a slope is judged, in Wh; coarse counters need more.
const JUDGED_WH_MIN: i128 = 20;
/// So many steps of a counter must have passed before its slope is judged.
const JUDGED_STEPS_MIN: i128 = 5;
/// Powers below this prove nothing about a sign or a second meter.
const JUDGED_W_MIN: i128 = 50;
/// How far two witnesses may differ and still agree, in permille.
const AGREE_PERMILLE: i128 = 100;
const MS_PER_HOUR: i128 = 3_600_000;

/// What a device said at one time, in the gateway's signs: import positive for meters and chargers,
/// generation and discharge positive for inverters and batteries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Observation {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// Import counter in Wh.
    pub import_wh: Option<i64>,
    /// Export counter in Wh.
    pub export_wh: Option<i64>,
    /// Power in W.
    pub power_w: Option<i64>,
    /// Power of each phase in W.
    pub phase_w: [Option<i64>; 3],
    /// Voltage of each phase in mV.
    pub phase_mv: [Option<i64>; 3],
    /// Frequency in mHz.
    pub frequency_mhz: Option<i64>,
}

impl Observation {
    /// An observation without values.
    #[must_use]
    pub const fn at(time: Timestamp) -> Self {
        Observation {
            at_ms: time.unix_ms(),
            import_wh: None,
            export_wh: None,
            power_w: None,
            phase_w: [None; 3],
            phase_mv: [None; 3],
            frequency_mhz: None,
        }
    }

    /// Power towards the import counter in W.
    fn import_w(&self, kind: Kind) -> Option<i64> {
        match kind {
            Kind::Meter | Kind::Charger => self.power_w,
            Kind::Inverter | Kind::Battery => self.power_w.map(i64::saturating_neg),
        }
    }
}

/// What is known about the device beforehand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Largest power through it.
    pub rating_w: u32,
    /// Coarsest step of its counters.
    pub resolution_wh: i64,
}

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Topic {
    /// Whether there are enough values.
    Values,
    /// Whether values lie where physics allows.
    WordOrder,
    /// Whether the direction is right.
    Sign,
    /// Whether each current transformer points the right way.
    CtDirection,
    /// Whether the size is right by powers of ten.
    Scale,
    /// Whether the unit is right.
    Unit,
    /// Whether counters rise as power says.
    CounterSlope,
    /// Whether the second meter agrees.
    SecondMeter,
}

impl Topic {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Topic::Values => "values",
            Topic::WordOrder => "word order",
            Topic::Sign => "sign",
            Topic::CtDirection => "CT direction",
            Topic::Scale => "scale",
            Topic::Unit => "unit",
            Topic::CounterSlope => "counter slope",
            Topic::SecondMeter => "second meter",
        }
    }
}

/// How a topic came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// The witnesses agree.
    Ok,
    /// There was too little to see.
    Undecided,
    /// A person has to look.
    Doubt,
    /// It is wrong.
    Wrong,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Undecided => "undecided",
            Verdict::Doubt => "doubt",
            Verdict::Wrong => "wrong",
        }
    }
}

/// One conclusion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// About what.
    pub topic: Topic,
    /// How it came out.
    pub verdict: Verdict,
    /// Why, and what to do.
    pub sentence: String,
}

impl Finding {
    fn new(topic: Topic, verdict: Verdict, sentence: impl Into<String>) -> Self {
        Finding {
            topic,
            verdict,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, topic) = (self.verdict.word(), self.topic.word());
        write!(f, "{verdict:<9}  {topic:<13}  {}", self.sentence)
    }
}

/// Everything that was observed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The device, oldest first.
    pub own: &'a [Observation],
    /// The same registers, read with their words in the opposite order; empty where that cannot be.
    pub swapped: &'a [Observation],
    /// A second meter that measures the same current; empty where there is none.
    pub second: &'a [Observation],
}

/// Judges a device by what was observed.
#[must_use]
pub fn judge(subject: &Subject, evidence: Evidence<'_>) -> Vec<Finding> {
    let own = evidence.own;
    if own.len() < OBSERVATIONS_MIN {
        let sentence = format!(
            "{} observations are too few to judge by; at least {OBSERVATIONS_MIN} are needed",
            own.len()
        );
        return vec![Finding::new(Topic::Values, Verdict::Undecided, sentence)];
    }
    let mut findings = plausible::judge(subject, own, evidence.swapped);
    let is_nonsense = findings.iter().any(|f| f.verdict == Verdict::Wrong);
    // Values that no physics allows are no witnesses against anything else.
    if !is_nonsense {
        findings.extend(counters::judge(subject, own));
        findings.extend(second::judge(subject, own, evidence.second));
    }
    findings
}

/// Energy in W·ms between neighbouring observations: in import direction, and in export direction.
/// Trapezoids, each counted by the sign of its middle.
fn energy_w_ms(kind: Kind, own: &[Observation]) -> (i128, i128) {
    let (mut import, mut export) = (0, 0);
    for pair in own.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let Some((a, b)) = from.import_w(kind).zip(to.import_w(kind)) else {
            continue;
        };
        let time_ms = i128::from(to.at_ms.saturating_sub(from.at_ms).max(0));
        let area = (i128::from(a) + i128::from(b)) * time_ms / 2;
        if area >= 0 {
            import += area;
        } else {
            export -= area;
        }
    }
    (import, export)
}

/// Mean of what is there; `None` where nothing is.
fn mean(values: impl Iterator<Item = Option<i64>>) -> Option<i128> {
    let there: Vec<i128> = values.flatten().map(i128::from).collect();
    let count = i128::try_from(there.len()).ok().filter(|n| *n > 0)?;
    Some(there.iter().sum::<i128>() / count)
}

/// Whether `a` and `b` agree within the larger one's share and `slack`.
fn agree(a: i128, b: i128, slack: i128) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * AGREE_PERMILLE / 1000 + slack
}

/// A factor by which two witnesses may differ, and what it usually means.
struct Factor {
    numerator: i128,
    denominator: i128,
    topic: Topic,
    meaning: &'static str,
}

/// Factors that have a usual cause; of counters over power, or of this meter over a second one.
const FACTORS: [Factor; 9] = [
    factor(10, 1, Topic::Scale, "a scale is off by ten"),
    factor(1, 10, Topic::Scale, "a scale is off by ten"),
    factor(100, 1, Topic::Scale, "a scale is off by a hundred"),
    factor(1, 100, Topic::Scale, "a scale is off by a hundred"),
    factor(1000, 1, Topic::Unit, "Wh are taken for kWh, or W for kW"),
    factor(1, 1000, Topic::Unit, "kWh are taken for Wh, or kW for W"),
    factor(60, 1, Topic::Unit, "the counter counts watt-minutes"),
    factor(3600, 1, Topic::Unit, "the counter counts watt-seconds"),
    factor(
        3,
        1,
        Topic::Scale,
        "one of them shows one phase, the other all three",
    ),
];

const fn factor(numerator: i128, denominator: i128, topic: Topic, meaning: &'static str) -> Factor {
    Factor {
        numerator,
        denominator,
        topic,
        meaning,
    }
}

impl Factor {
    /// The factor that explains `this` against `other`, if one does.
    fn between(this: i128, other: i128, slack: i128) -> Option<&'static Factor> {
        FACTORS.iter().find(|f| {
            let expected = other * f.numerator / f.denominator;
            // The slack of the smaller witness grows with the factor.
            expected != 0
                && agree(this, expected, slack * f.numerator.max(1) / f.denominator)
                && expected.abs() > slack
        })
    }

    fn text(&self) -> String {
        if self.denominator == 1 {
            format!("{} times", self.numerator)
        } else {
            format!("1/{} of", self.denominator)
        }
    }
}
