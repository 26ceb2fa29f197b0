//! The interval engine against a generated truth: random load and poll times, outages, resets, exchanged
//! meters, roll-overs and glitches of every kind, with the state written down and read again at every
//! step. Where the meter has been well for a while, a register is the truth to the watt-hour.

use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const START_MS: i64 = 1_782_000_000_000;
/// A counter of tenths of a watt-hour that is full after 300 kWh and six tenths.
const SPAN_MWH: i64 = 300_000_600;
const LENGTH_MS: i64 = 300_000;
const LIMITS: Limits = Limits {
    interval_length_s: 300,
    max_gap_ms: 30_000,
    rating_w: 20_000,
    resolution_wh: 1,
    class: MeasurementClass::MeterCounter,
};

#[derive(Clone, Debug)]
enum Shows {
    Truth,
    Nothing,
    Zero,
    NearZero(i64),
    StepBack(i64),
    Spike(i64),
    SmallSpike(i64),
    /// The counter stands still for so many polls, at this load.
    Frozen(usize, i64),
    /// The counter begins at a low value.
    Reset(i64),
    /// Another meter, which may show anything.
    Swap(i64),
}

#[derive(Clone, Debug)]
struct Poll {
    wait_ms: i64,
    at_edge: bool,
    load_w: i64,
    shows: Shows,
}

fn polls() -> impl Strategy<Value = Vec<Poll>> {
    let glitch = prop_oneof![
        Just(Shows::Nothing),
        Just(Shows::Zero),
        (1i64..50_000).prop_map(Shows::NearZero),
        (1_000_000i64..40_000_000).prop_map(Shows::StepBack),
        (5_000i64..60_000).prop_map(Shows::StepBack),
        (70_000_000i64..2_000_000_000_000).prop_map(Shows::Spike),
        (5_000i64..60_000).prop_map(Shows::SmallSpike),
        (1usize..30, prop_oneof![0i64..150, 1000i64..20_000])
            .prop_map(|(polls, w)| Shows::Frozen(polls, w)),
    ];
    let change = prop_oneof![
        (0i64..1_000_000).prop_map(Shows::Reset),
        (0i64..SPAN_MWH).prop_map(Shows::Swap),
    ];
    let shows = prop_oneof![90 => Just(Shows::Truth), 8 => glitch, 1 => change];
    let wait_ms = prop_oneof![60 => 1_000i64..20_000, 1 => 30_000i64..8_000_000];
    let poll = (wait_ms, any::<bool>(), 0i64..20_000, shows);
    let poll = poll.prop_map(|(wait_ms, at_edge, load_w, shows)| Poll {
        wait_ms,
        at_edge,
        load_w,
        shows,
    });
    prop::collection::vec(poll, 400)
}

/// What the counter shows first: not far from its end, or in the middle.
fn bases() -> impl Strategy<Value = i64> {
    prop_oneof![SPAN_MWH - 30_000_000..SPAN_MWH, 100_000_000..200_000_000i64]
}

/// A truthful sample: when, the sum of all energy since the meter is there, and how many truthful ones
/// without a gap came just before it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at_ms: i64,
    sum_mwh: i64,
    well: usize,
    meter: u32,
}

/// A counter that stands still.
#[derive(Clone, Copy)]
struct Frozen {
    polls_left: usize,
    load_w: i64,
    mwh: i64,
    /// What it has not counted so far, and how much of that the polls' powers claim.
    missing_mwms: i128,
    claimed_mwms: i128,
}

/// Most that is missing on a standing counter before so much power is claimed that it must be frozen. A counter that
/// stands through an outage, with little power before or behind it, looks like that of a home that uses nothing, and
/// its intervals are handed out as such. When it then moves by more than can be at once, nobody can tell what that
/// was: an era begins, and it should.
const MISSING_MWH_MAX: i128 = 150_000;

/// The meter and all that is known of it.
struct World {
    now_ms: i64,
    /// Energy in milliwatt-milliseconds, so that nothing is ever rounded.
    sum_mwms: i128,
    /// What the counter showed when this meter was put in, or reset.
    base_mwh: i64,
    serial: u8,
    meter: u32,
    /// The power at the poll before.
    load_w: i64,
    frozen: Option<Frozen>,
    glitches: usize,
    well: usize,
    seen: Vec<Seen>,
}

impl Frozen {
    /// Whether so little is missing, or so much is claimed, that it is clear what it was once it moves.
    fn may_stand(&self) -> bool {
        let mwh = |mwms: i128| mwms / 3_600_000;
        // Twice what is enough: what the first samples of all claim is counted anew once they are good.
        let is_known = mwh(self.claimed_mwms) > 2 * i128::from(FROZEN_MWH);
        is_known || mwh(self.missing_mwms) <= MISSING_MWH_MAX
    }
}

impl World {
    fn sum_mwh(&self) -> i64 {
        i64::try_from(self.sum_mwms / 3_600_000).unwrap()
    }

    fn shown_mwh(&self) -> i64 {
        // It counts in steps of 0.1 Wh.
        (self.base_mwh + self.sum_mwh()).rem_euclid(SPAN_MWH) / 100 * 100
    }

    fn change(&mut self, base_mwh: i64, is_swap: bool) {
        self.serial += u8::from(is_swap);
        self.meter += 1;
        (self.sum_mwms, self.base_mwh, self.well) = (0, base_mwh, 0);
        self.frozen = None;
    }

    fn pass(&mut self, poll: &Poll) -> CounterSample {
        let mut wait_ms = poll.wait_ms;
        let to_edge_ms = LENGTH_MS - self.now_ms.rem_euclid(LENGTH_MS);
        if poll.at_edge && to_edge_ms < wait_ms {
            wait_ms = to_edge_ms;
        }
        let load_w = self.frozen.map_or(poll.load_w, |frozen| frozen.load_w);
        let mwms = i128::from(load_w) * 1000 * i128::from(wait_ms);
        self.now_ms += wait_ms;
        self.sum_mwms += mwms;
        if let Some(frozen) = &mut self.frozen {
            frozen.missing_mwms += mwms;
            // As the engine sees it: the lesser of two neighbours, from a hundredth of the rating on.
            let surely_w = load_w.min(self.load_w);
            if surely_w >= i64::from(LIMITS.rating_w) / 100 {
                frozen.claimed_mwms += i128::from(surely_w) * 1000 * i128::from(wait_ms);
            }
        }
        self.load_w = load_w;
        if wait_ms > LIMITS.max_gap_ms {
            self.well = 0;
        }
        let value = self.value(&poll.shows);
        CounterSample {
            read_at: Timestamp::from_unix_ms(self.now_ms),
            import: value.map(|mwh| Counter {
                mwh,
                end: CounterEnd::Wraps {
                    span_mwh: SPAN_MWH,
                    is_signed: false,
                },
            }),
            export: None,
            import_w: Some(load_w),
            meter: Some(MeterMark {
                body: [self.serial; 8],
                hash: [self.serial; 8],
            }),
            waited_ms: Some(wait_ms),
            clock_stepped: false,
        }
    }

    /// What the counter shows; a glitch only while the last good sample has been confirmed, and at most
    /// four in a row, because five are a meter that is like that now.
    fn value(&mut self, shows: &Shows) -> Option<i64> {
        let truth = self.shown_mwh();
        if let Some(frozen) = self.frozen.take() {
            self.well = 0;
            if frozen.may_stand() {
                let polls_left = frozen.polls_left - 1;
                self.frozen = (polls_left > 0).then_some(Frozen {
                    polls_left,
                    ..frozen
                });
                return Some(frozen.mwh);
            }
        }
        let is_small = matches!(shows, Shows::SmallSpike(_));
        let is_run = self.glitches > 0 && self.glitches < 4 && !is_small;
        let may = match shows {
            Shows::Truth => true,
            // So deep a fall that no load makes up for it before it is noticed, and no roll-over.
            Shows::Reset(_) => {
                self.well > 2 && (100_000_000..SPAN_MWH - 60_000_000).contains(&truth)
            }
            Shows::Swap(_) => self.well > 2,
            Shows::Zero | Shows::NearZero(_) => self.glitches < 4 && truth > 5_000_000,
            Shows::Nothing | Shows::Spike(_) => self.glitches < 4,
            _ => self.well > 2 || is_run,
        };
        let shown = match shows {
            _ if !may => truth,
            Shows::Truth => truth,
            Shows::Frozen(polls, load_w) => {
                self.frozen = Some(Frozen {
                    polls_left: *polls,
                    load_w: *load_w,
                    mwh: truth,
                    missing_mwms: 0,
                    claimed_mwms: 0,
                });
                truth
            }
            Shows::Reset(to_mwh) => {
                self.change((*to_mwh).min(truth / 2), false);
                self.shown_mwh()
            }
            Shows::Swap(to_mwh) => {
                self.change(*to_mwh, true);
                self.shown_mwh()
            }
            glitch => {
                self.well = 0;
                // A small spike counts as the last of its run.
                self.glitches = if is_small { 4 } else { self.glitches + 1 };
                return match glitch {
                    Shows::Nothing => None,
                    Shows::Zero => Some(0),
                    Shows::NearZero(mwh) => Some(*mwh),
                    Shows::StepBack(mwh) => Some((truth - mwh).max(0)),
                    Shows::Spike(mwh) | Shows::SmallSpike(mwh) => Some(truth + mwh),
                    _ => unreachable!("the others are no glitches"),
                };
            }
        };
        (self.well, self.glitches) = (self.well + 1, 0);
        self.seen.push(Seen {
            at_ms: self.now_ms,
            sum_mwh: self.base_mwh + self.sum_mwh(),
            well: self.well,
            meter: self.meter,
        });
        Some(shown)
    }

    /// The meter's sum at `at_ms` in tenths of a watt-hour, rounded as a reading is, where it was well
    /// for long enough before, and for `confirmations` samples after, that there can be no doubt.
    fn certain_wh(&self, at_ms: i64, confirmations: usize) -> Option<(u32, i64)> {
        let after = self.seen.partition_point(|seen| seen.at_ms < at_ms);
        let confirmed = self.seen.get(after + confirmations)?;
        let to = self.seen.get(after)?;
        let from = if to.at_ms == at_ms {
            to
        } else {
            self.seen.get(after.checked_sub(1)?)?
        };
        if from.well < 7 || confirmed.well < from.well + confirmations {
            return None;
        }
        let mwh = |seen: &Seen| i128::from(seen.sum_mwh / 100 * 100);
        let part = i128::from(at_ms - from.at_ms);
        let whole = i128::from(to.at_ms - from.at_ms).max(1);
        let at = mwh(from) + (mwh(to) - mwh(from)) * part / whole;
        Some((
            from.meter,
            i64::try_from((at + 500).div_euclid(1000)).unwrap(),
        ))
    }
}

fn live(base_mwh: i64, polls: &[Poll]) -> (World, Vec<Measured>) {
    let mut world = World {
        now_ms: START_MS,
        sum_mwms: 0,
        base_mwh,
        serial: 0,
        meter: 0,
        load_w: 0,
        frozen: None,
        glitches: 0,
        well: 0,
        seen: Vec::new(),
    };
    let (mut state, mut done) = (State::default(), Vec::new());
    for poll in polls {
        let sample = world.pass(poll);
        let text = serde_json::to_string(&state).unwrap();
        let mut restarted: State = serde_json::from_str(&text).unwrap();
        assert_eq!(restarted, state);
        done.extend(state.push(&sample, &LIMITS));
        restarted.push(&sample, &LIMITS);
        assert_eq!(restarted, state, "a restart changes nothing");
    }
    (world, done)
}

fn check(world: &World, done: &[Measured]) -> Result<(), TestCaseError> {
    for pair in done.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        prop_assert!(a.interval.end() <= b.interval.start() && a.era <= b.era);
        let (end, start) = (a.registers[0].end, b.registers[0].start);
        if a.era == b.era {
            prop_assert_eq!(a.interval.next(), b.interval, "no interval is left out");
            prop_assert_eq!(end, start);
        }
    }
    // What a register is above the meter's own sum is the same in all of an era: whole ranges.
    let mut above: std::collections::BTreeMap<u32, (u32, i64)> = Default::default();
    for m in done {
        let (start, end) = (m.registers[0].start.wh(), m.registers[0].end.wh());
        let most = LIMITS.plausible_mwh(LENGTH_MS) / 1000;
        prop_assert!(start <= end && i128::from(end - start) <= most, "{m:?}");
        let is_last_of_era = m.quality.has(Quality::RESET);
        let ends = [(m.interval.start(), start), (m.interval.end(), end)];
        for (at, wh) in ends.into_iter().take(if is_last_of_era { 1 } else { 2 }) {
            // What begins anew is believed after five samples that fit; where one of them does not,
            // the edges before it are interpolated from those that follow, and marked.
            let is_anew = m.quality.has(Quality::ROLL_OVER) || m.quality.has(Quality::GAP);
            let confirmations = if is_anew { CONFIRM_SAMPLES } else { 1 };
            let Some((meter, truth)) = world.certain_wh(at.unix_ms(), confirmations) else {
                continue;
            };
            let off = wh - truth;
            let (known_meter, known_off) = *above.entry(m.era).or_insert((meter, off));
            prop_assert_eq!(known_meter, meter, "an era is one meter's: {:?}", m);
            prop_assert!(
                (off - known_off).abs() <= 1,
                "{off} instead of {known_off}: {m:?}"
            );
            let ranges = (off * 1000).rem_euclid(SPAN_MWH);
            let rest = ranges.min(SPAN_MWH - ranges);
            prop_assert!(rest <= 2000, "{off} Wh are not whole ranges");
        }
    }
    let eras = done.last().map_or(0, |m| m.era);
    prop_assert!(
        eras <= world.meter,
        "{eras} eras for {} changes",
        world.meter
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn registers_are_the_truth_through_everything(base_mwh in bases(), polls in polls()) {
        let (world, done) = live(base_mwh, &polls);
        check(&world, &done)?;
    }
}

#[test]
fn the_truth_test_sees_roll_overs_and_certain_edges() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut rolled, mut certain, mut eras, mut odd) = (0, 0, 0, 0);
    for _ in 0..20 {
        let base_mwh = bases().new_tree(&mut runner).unwrap().current();
        let polls = polls().new_tree(&mut runner).unwrap().current();
        let (world, done) = live(base_mwh, &polls);
        let has = |mark| done.iter().filter(|m| m.quality.has(mark)).count();
        rolled += has(Quality::ROLL_OVER);
        odd += has(Quality::OUT_OF_RANGE);
        eras += done.last().map_or(0, |m| m.era);
        let is_certain = |m: &&Measured| world.certain_wh(m.interval.end().unix_ms(), 1).is_some();
        certain += done.iter().filter(is_certain).count();
    }
    assert!(
        rolled >= 20 && eras >= 10 && odd >= 50 && certain >= 50,
        "{rolled} {eras} {odd} {certain}"
    );
}
