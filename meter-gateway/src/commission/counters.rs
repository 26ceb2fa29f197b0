//! A device's power against the slope of its own counters.

use super::{
    Factor, Finding, JUDGED_STEPS_MIN, JUDGED_WH_MIN, MS_PER_HOUR, Observation, Subject, Topic,
    Verdict, agree, energy_w_ms,
};

/// What the counters did, and what power says they should have done, in Wh.
struct Slopes {
    import: i128,
    export: i128,
    import_by_power: i128,
    export_by_power: i128,
    /// What rounding to the counter's steps can hide.
    slack: i128,
    time_ms: i128,
}

impl Slopes {
    fn of(subject: &Subject, own: &[Observation]) -> Option<Self> {
        let has_power = own.iter().any(|o| o.power_w.is_some());
        let rise = |value: fn(&Observation) -> Option<i64>| {
            let mut there = own.iter().filter_map(value);
            let first = i128::from(there.next()?);
            Some(i128::from(there.next_back()?) - first)
        };
        let (import, export) = (rise(|o| o.import_wh), rise(|o| o.export_wh));
        if !has_power || (import.is_none() && export.is_none()) {
            return None;
        }
        let (import_w_ms, export_w_ms) = energy_w_ms(subject.kind, own);
        let time_ms = i128::from(own.last()?.at_ms - own.first()?.at_ms);
        Some(Slopes {
            import: import.unwrap_or(0),
            export: export.unwrap_or(0),
            import_by_power: import_w_ms / MS_PER_HOUR,
            export_by_power: export_w_ms / MS_PER_HOUR,
            slack: 2 * i128::from(subject.resolution_wh.max(1)),
            time_ms,
        })
    }

    fn counted(&self) -> i128 {
        self.import + self.export
    }

    fn by_power(&self) -> i128 {
        self.import_by_power + self.export_by_power
    }

    fn agree(&self) -> bool {
        agree(self.import, self.import_by_power, self.slack)
            && agree(self.export, self.export_by_power, self.slack)
    }

    fn agree_turned(&self) -> bool {
        agree(self.import, self.export_by_power, self.slack)
            && agree(self.export, self.import_by_power, self.slack)
    }
}

pub(super) fn judge(subject: &Subject, own: &[Observation]) -> Vec<Finding> {
    let Some(slopes) = Slopes::of(subject, own) else {
        return Vec::new();
    };
    if slopes.import < 0 || slopes.export < 0 {
        let sentence = format!(
            "a counter ran backwards (import {:+} Wh, export {:+} Wh): it is no counter, or its scale moves",
            slopes.import, slopes.export
        );
        return vec![Finding::new(Topic::CounterSlope, Verdict::Wrong, sentence)];
    }
    let needed = (i128::from(subject.resolution_wh) * JUDGED_STEPS_MIN).max(JUDGED_WH_MIN);
    if slopes.counted().max(slopes.by_power()) < needed {
        return vec![too_little(&slopes, needed)];
    }
    vec![compare(&slopes)]
}

/// Says how much is missing, and how long it takes at the present power.
fn too_little(slopes: &Slopes, needed: i128) -> Finding {
    let by_power = slopes.by_power();
    let minutes = (needed * slopes.time_ms)
        .checked_div(by_power * 60_000)
        .map(|minutes| minutes + 1);
    let wait = match minutes {
        Some(minutes) => format!("watch for {minutes} min, or switch something large on"),
        None => "switch something large on".to_owned(),
    };
    let sentence = format!(
        "only {} Wh passed, {needed} Wh are needed to see the counters' slope: {wait}",
        slopes.counted().max(by_power)
    );
    Finding::new(Topic::CounterSlope, Verdict::Undecided, sentence)
}

fn compare(slopes: &Slopes) -> Finding {
    let Slopes {
        import,
        export,
        import_by_power,
        export_by_power,
        slack,
        ..
    } = slopes;
    let what = format!(
        "counters rose by {import} Wh import and {export} Wh export, power makes {import_by_power} Wh and \
         {export_by_power} Wh"
    );
    if slopes.agree() {
        return Finding::new(Topic::CounterSlope, Verdict::Ok, what);
    }
    if slopes.agree_turned() {
        let sentence = format!(
            "{what}: the power's sign is turned round (or import and export counters are exchanged)"
        );
        return Finding::new(Topic::Sign, Verdict::Wrong, sentence);
    }
    if let Some(factor) = Factor::between(slopes.counted(), slopes.by_power(), *slack) {
        let sentence = format!(
            "{what}: counters are {} power; {}",
            factor.text(),
            factor.meaning
        );
        return Finding::new(factor.topic, Verdict::Wrong, sentence);
    }
    let sentence = format!("{what}: they do not belong to the same current, or a factor is wrong");
    Finding::new(Topic::CounterSlope, Verdict::Doubt, sentence)
}
