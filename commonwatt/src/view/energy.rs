//! Where a home's energy came from and where it went, interval by interval: from its meters and from what was
//! settled.

use std::collections::BTreeMap;

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::key_record::PointRole;
use domain::quality::Quality;
use domain::receipt::Line;
use domain::time::{Interval, Timestamp};
use settlement::service::{MeteredInterval, Whose};

use super::calendar::Span;
use crate::platform::Shared;

/// Energy in watt-hours, none below zero. What came from somewhere equals what went somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flows {
    /// What the roof gave.
    pub(crate) sun: i64,
    /// What the home gave beyond sun and grid: its battery.
    pub(crate) battery_out: i64,
    pub(crate) from_neighbours: i64,
    pub(crate) from_utility: i64,
    /// What stayed in the home, its battery and its car.
    pub(crate) home: i64,
    pub(crate) to_neighbours: i64,
    pub(crate) to_utility: i64,
}

impl Flows {
    /// The flows of an interval. `settled` is what neighbours and utility took over, where it is settled:
    /// above zero the home got it, below it gave it. Before, all is with the street.
    fn of(imported: i64, exported: i64, sun: i64, settled: Option<(i64, i64)>) -> Flows {
        let net = imported.saturating_sub(exported);
        let (neighbours, utility) = settled.unwrap_or((0, net));
        let stays = sun.saturating_add(net);
        Flows {
            sun,
            battery_out: (-stays).max(0),
            from_neighbours: neighbours.max(0),
            from_utility: utility.max(0),
            home: stays.max(0),
            to_neighbours: (-neighbours).max(0),
            to_utility: (-utility).max(0),
        }
    }

    fn add(&mut self, other: &Flows) {
        let sums = [
            (&mut self.sun, other.sun),
            (&mut self.battery_out, other.battery_out),
            (&mut self.from_neighbours, other.from_neighbours),
            (&mut self.from_utility, other.from_utility),
            (&mut self.home, other.home),
            (&mut self.to_neighbours, other.to_neighbours),
            (&mut self.to_utility, other.to_utility),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
    }

    /// The mean of several homes, each value rounded down.
    pub(crate) fn mean(homes: &[Flows]) -> Flows {
        let mut sum = Flows::default();
        homes.iter().for_each(|flows| sum.add(flows));
        let count = i64::try_from(homes.len()).unwrap_or(1).max(1);
        Flows {
            sun: sum.sun / count,
            battery_out: sum.battery_out / count,
            from_neighbours: sum.from_neighbours / count,
            from_utility: sum.from_utility / count,
            home: sum.home / count,
            to_neighbours: sum.to_neighbours / count,
            to_utility: sum.to_utility / count,
        }
    }

    /// All that came in: as much as went somewhere.
    pub(crate) fn total(&self) -> i64 {
        self.sun + self.battery_out + self.from_neighbours + self.from_utility
    }

    /// What was used here and did not come from the utility: own sun, own battery, neighbours.
    pub(crate) fn local_use(&self) -> i64 {
        self.home.saturating_sub(self.from_utility).max(0)
    }

    /// Of the roof's energy, what did not go to the utility.
    pub(crate) fn sun_used_locally(&self) -> i64 {
        self.sun.saturating_sub(self.to_utility).max(0)
    }
}

/// A home's metered time.
#[derive(Clone, Debug, Default)]
pub(crate) struct HomeEnergy {
    /// Each interval with a reading.
    pub(crate) intervals: BTreeMap<Interval, Metered>,
}

/// An interval of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Metered {
    pub(crate) flows: Flows,
    pub(crate) quality: Quality,
    /// Whether it is settled: before, nobody knows what was neighbours' and what the utility's.
    pub(crate) settled: bool,
}

impl HomeEnergy {
    /// All intervals of a span together, and whether any of them was estimated. None where none is known.
    pub(crate) fn sum(&self, span: Span) -> Option<(Flows, bool)> {
        let mut known = None;
        for (interval, metered) in &self.intervals {
            if interval.start() < span.from || interval.start() >= span.to {
                continue;
            }
            let (sum, estimated) = known.get_or_insert((Flows::default(), false));
            sum.add(&metered.flows);
            *estimated |= metered.quality.word() != "measured";
        }
        known
    }

    /// How many intervals of a span have a reading.
    pub(crate) fn count(&self, span: Span) -> usize {
        let within = |i: &&Interval| i.start() >= span.from && i.start() < span.to;
        self.intervals.keys().filter(within).count()
    }
}

/// Reads a home's energy in a span.
pub(crate) async fn read(
    shared: &Shared,
    home: &ParticipantId,
    span: Span,
) -> anyhow::Result<HomeEnergy> {
    let metered =
        settlement::service::history(&shared.db, Whose::Participant(home), span.from, span.to)
            .await?;
    let sun = roof(shared, home, span.from, span.to).await?;
    let lines = settlement::service::lines_of(&shared.db, home, span.from, span.to).await?;
    Ok(put_together(&metered, &sun, &lines))
}

fn put_together(
    metered: &[MeteredInterval],
    sun: &BTreeMap<Interval, i64>,
    lines: &[Line],
) -> HomeEnergy {
    let settled: BTreeMap<Interval, (i64, i64)> = lines
        .iter()
        .map(|line| (line.interval, settled(line)))
        .collect();
    let flows = metered.iter().map(|m| {
        let sun = sun.get(&m.interval).copied().unwrap_or(0);
        let settled = settled.get(&m.interval).copied();
        let metered = Metered {
            flows: Flows::of(m.imported.wh(), m.exported.wh(), sun, settled),
            quality: m.quality,
            settled: settled.is_some(),
        };
        (m.interval, metered)
    });
    HomeEnergy {
        intervals: flows.collect(),
    }
}

/// What a line says came from neighbours and from the utility; below zero, went there.
fn settled(line: &Line) -> (i64, i64) {
    let traded = line.delivery.bought.wh() - line.delivery.sold.wh();
    (traded - line.pooled_wh.wh(), -line.utility_wh.wh())
}

/// What a home's roof gave: its submeters that give more than they take.
async fn roof(
    shared: &Shared,
    home: &ParticipantId,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<BTreeMap<Interval, i64>> {
    let mut sun: BTreeMap<Interval, i64> = BTreeMap::new();
    let behind = shared
        .site
        .points()
        .filter(|p| p.role == PointRole::Submeter && p.participant.as_ref() == Some(home));
    for point in behind {
        let whose = Whose::Point(&point.point);
        let metered = settlement::service::history(&shared.db, whose, from, to).await?;
        let sum = |of: fn(&MeteredInterval) -> Energy| -> i128 {
            metered.iter().map(|m| i128::from(of(m).wh())).sum()
        };
        if sum(|m| m.exported) > sum(|m| m.imported) {
            for m in &metered {
                let wh = sun.entry(m.interval).or_default();
                *wh = wh.saturating_add(m.exported.wh());
            }
        }
    }
    Ok(sun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_balanced(f: &Flows) -> bool {
        f.total() == f.home + f.to_neighbours + f.to_utility
    }

    #[test]
    fn what_came_from_somewhere_went_somewhere() {
        // Sold 500 to neighbours, 200 more went to the utility, the roof gave 1000.
        let f = Flows::of(0, 700, 1000, Some((-500, -200)));
        assert_eq!((f.home, f.to_neighbours, f.to_utility), (300, 500, 200));
        assert!(is_balanced(&f));
        assert_eq!((f.local_use(), f.sun_used_locally()), (300, 800));
        // Bought 400 from neighbours but used 300: the rest went on to the utility.
        let f = Flows::of(300, 0, 0, Some((400, -100)));
        assert_eq!((f.home, f.from_neighbours, f.to_utility), (300, 400, 100));
        assert!(is_balanced(&f));
        // At night a battery gives.
        let f = Flows::of(0, 250, 0, Some((-250, 0)));
        assert_eq!((f.battery_out, f.home), (250, 0));
        assert!(is_balanced(&f));
        // Not settled yet: all with the utility.
        let f = Flows::of(800, 0, 0, None);
        assert_eq!((f.from_utility, f.local_use()), (800, 0));
        assert!(is_balanced(&f));
    }

    #[test]
    fn a_span_without_readings_is_unknown_and_not_nothing() {
        let at = |n: i64| Interval::new(n * 900, 900).unwrap();
        let flows = Flows::of(10, 0, 0, None);
        let metered = |quality| Metered {
            flows,
            quality,
            settled: true,
        };
        let energy = HomeEnergy {
            intervals: BTreeMap::from([
                (at(0), metered(Quality::MEASURED)),
                (at(1), metered(Quality::ESTIMATED)),
            ]),
        };
        let span = |from: i64, to: i64| Span {
            from: at(from).start(),
            to: at(to).start(),
        };
        assert_eq!(energy.sum(span(0, 1)), Some((flows, false)));
        assert_eq!(
            energy.sum(span(0, 2)).map(|(sum, est)| (sum.home, est)),
            Some((20, true))
        );
        assert_eq!(
            (energy.sum(span(2, 3)), energy.count(span(0, 9))),
            (None, 2)
        );
    }
}
