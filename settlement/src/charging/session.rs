//! A charging session: what happened so far, and what has to be done now.
//!
//! `offered → authorising → authorised → charging ⇄ paused → parked → settling → closed`. [`Session::apply`] takes one
//! event at a time and answers with [`Effect`]s; it does no I/O and reads no clock. A session is its terms and
//! its events, so replaying them gives the same session.
//!
//! Rules, all of them in the driver's favour where something is unknown:
//! - Energy counts by the meter's register. Between two readings with a price change it counts at the lower price.
//! - While the grid, the offer's own plan or a power cut keeps the car from charging nothing runs: no time, no parking.
//! - A car that asks for no power is parked; parking is free for the grace time of the offer.
//! - No energy at all costs nothing, and ends the session after [`NO_ENERGY_S`]. A car that was forgotten ends it after [`FORGOTTEN_S`].
//! - A gateway that is silent for [`SILENT_S`] ends it at the last good reading; what comes later is the owners' loss.
//! - A reading that cannot be (backwards, or more than the station's power) is refused; [`NONSENSE_MAX`] in a row end the session.
//! - A driver may change energy and time while it runs. The ceiling rises only by what was held in addition, so by consent.
//! - At the ceiling the station stops, and nothing more is charged. The hold is the ceiling; what is not captured is
//!   released in the same step, and every state has an end in time, so that no money stays held.

mod pieces;
mod words;

use domain::energy::Energy;
use domain::money::Money;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use self::pieces::Meter;
pub use self::words::Doing;
use super::rate::{Bill, RateError, rate};
use super::record::Record;
use super::terms::Terms;

/// An accepted offer whose hold is not confirmed within so long is over.
pub const HOLD_WITHIN_S: i64 = 120;
/// A session that is paid for and does not start within so long is over.
pub const START_WITHIN_S: i64 = 60 * 60;
/// Without any energy within so long, pauses not counted, a session is over.
pub const NO_ENERGY_S: i64 = 30 * 60;
/// Without a word from the station for so long a session is over.
pub const SILENT_S: i64 = 45 * 60;
/// A power cut of so long ends a session.
pub const POWER_LOST_S: i64 = 2 * 3_600;
/// A car that is full and stays for so long ends its session.
pub const FORGOTTEN_S: i64 = 12 * 3_600;
/// No session is longer.
pub const SESSION_MAX_S: i64 = 48 * 3_600;
/// A payment that is not confirmed within so long is asked for again; it is the same payment however often it is asked for.
pub const CAPTURE_AGAIN_S: i64 = 60;
/// So many impossible readings in a row end a session.
pub const NONSENSE_MAX: u8 = 5;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The driver takes the offer.
    Accepted,
    /// The ceiling is held.
    HoldPlaced,
    /// It cannot be held.
    HoldRefused,
    /// The car is plugged in and the station's meter shows so much.
    Started {
        /// The register, in Wh.
        register_wh: i64,
    },
    /// The meter shows so much, and the car asks for power or not.
    Reading {
        /// The register, in Wh.
        register_wh: i64,
        /// Whether the car asks for no power.
        full: bool,
    },
    /// The grid has no room for the car.
    GridPause,
    /// It has again.
    GridResume,
    /// The plan of the offer waits for a better time.
    PlanPause,
    /// It is that time.
    PlanResume,
    /// The station has no power.
    PowerLost,
    /// It has again.
    PowerBack,
    /// The driver wants something else, and what it takes beyond the ceiling is held.
    Changed {
        /// Most energy, in Wh.
        energy_wh: i64,
        /// When it should be in the car, in unix milliseconds.
        ready_by_ms: i64,
        /// The ceiling, in nano-units: never below the one before.
        ceiling_nano: i64,
    },
    /// The driver, or whoever may, ends the session.
    Stop,
    /// The car was unplugged.
    Unplugged,
    /// The payment went through.
    Captured,
    /// It did not.
    CaptureRefused,
    /// Time has passed.
    Tick,
}

impl Event {
    /// Whether a pause by the grid is over with it: it has room again, or the session ends.
    #[must_use]
    pub const fn ends_grid_pause(self) -> bool {
        matches!(
            self,
            Event::GridResume | Event::Stop | Event::Unplugged | Event::Captured
        )
    }
}

/// What has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Hold so much of the driver's.
    PlaceHold(Money),
    /// Let the station charge.
    Allow,
    /// Stop the station.
    Forbid,
    /// In one step: take `capture` out of the hold, and give `release` back.
    Settle {
        /// What the driver pays.
        capture: Money,
        /// What is given back.
        release: Money,
    },
    /// The driver owes so much, and no hold is there.
    Debt(Money),
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Nobody took the offer.
    Expired,
    /// The payment was refused before it began.
    PaymentRefused,
    /// Nobody plugged in.
    NotPluggedIn,
    /// The driver stopped it.
    Stopped,
    /// The driver left without a word.
    DriverGone,
    /// No energy flowed.
    NoEnergy,
    /// The car was full and stayed.
    Forgotten,
    /// The ceiling was reached.
    CeilingReached,
    /// The station's gateway was silent.
    GatewayLost,
    /// The station had no power.
    PowerLost,
    /// The station reported what cannot be.
    Nonsense,
    /// It took too long.
    TooLong,
}

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The driver may take the offer.
    Offered,
    /// The hold is asked for.
    Authorising,
    /// The hold is there; the car may be plugged in.
    Authorised,
    /// Energy may flow.
    Active,
    /// The bill is made and being paid.
    Settling(Ending),
    /// Nothing more happens.
    Closed(Ending),
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    terms: Terms,
    state: State,
    /// When the state was entered.
    since: Timestamp,
    /// What is held of the driver's.
    held: Money,
    meter: Option<Meter>,
    bad: u8,
    bill: Option<Bill>,
    debt: Money,
}

impl Session {
    /// A session that was offered.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Session {
            state: State::Offered,
            since: terms.quote.offered_at,
            terms,
            held: Money::ZERO,
            meter: None,
            bad: 0,
            bill: None,
            debt: Money::ZERO,
        }
    }

    /// What was promised.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The final bill, once there is one.
    #[must_use]
    pub fn bill(&self) -> Option<&Bill> {
        self.bill.as_ref()
    }

    /// What the driver owes because a payment was refused.
    #[must_use]
    pub fn debt(&self) -> Money {
        self.debt
    }

    /// What is held of the driver's.
    #[must_use]
    pub fn held(&self) -> Money {
        self.held
    }

    /// Energy so far.
    #[must_use]
    pub fn energy(&self) -> Energy {
        self.meter.as_ref().map_or(Energy::ZERO, Meter::energy)
    }

    /// Whether the car has what was wished for, so that the station gives no more.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.meter.as_ref().is_some_and(Meter::has_enough)
    }

    /// Average power while it charged, in W; none before that is known.
    #[must_use]
    pub fn power_w(&self) -> Option<u32> {
        let power_w = self.meter.as_ref()?.power_w()?;
        u32::try_from(power_w).ok().filter(|w| *w > 0)
    }

    /// The first and the last good reading: when, and the register in Wh.
    #[must_use]
    pub fn readings(&self) -> Option<[(Timestamp, i64); 2]> {
        let meter = self.meter.as_ref()?;
        Some([meter.first(), meter.last()])
    }

    /// What happened so far, as a charging record.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        Some(self.meter.as_ref()?.record(&self.terms))
    }

    /// The bill so far. No energy costs nothing.
    ///
    /// # Errors
    /// An amount that does not fit.
    pub fn bill_so_far(&self) -> Result<Option<Bill>, RateError> {
        match self.record() {
            Some(record) if self.energy().is_positive() => {
                rate(&record, &self.terms.tariff, chrono_tz::UTC).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes an event of the time `now`, and says what has to be done.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match self.state {
            State::Authorised | State::Active if matches!(event, Event::Changed { .. }) => {
                self.changed(event, &mut effects);
            }
            State::Offered => self.offered(now, event, &mut effects),
            State::Authorising => self.authorising(now, event, &mut effects),
            State::Authorised => self.authorised(now, event, &mut effects),
            State::Active => self.active(now, event, &mut effects),
            State::Settling(ending) => self.settling(now, event, ending, &mut effects),
            // A hold that is confirmed after the end is given back at once.
            State::Closed(_) if event == Event::HoldPlaced => effects.push(Effect::Settle {
                capture: Money::ZERO,
                release: self.terms.quote.ceiling,
            }),
            State::Closed(_) => {}
        }
        effects
    }

    /// Takes other wishes in. What does not fit a promise, or lowers the ceiling, changes nothing.
    fn changed(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let Event::Changed {
            energy_wh,
            ready_by_ms,
            ceiling_nano,
        } = event
        else {
            return;
        };
        let ceiling = Money::from_nano(ceiling_nano);
        let mut quote = self.terms.quote.clone();
        if ceiling < quote.ceiling {
            return;
        }
        quote.energy = Energy::from_wh(energy_wh);
        quote.ready_by = Timestamp::from_unix_ms(ready_by_ms);
        quote.ceiling = ceiling;
        let Ok(terms) = Terms::new(quote) else {
            return;
        };
        self.terms = terms;
        self.held = ceiling;
        if let Some(meter) = self.meter.as_mut()
            && meter.energy().wh() < energy_wh
            && meter.wish_again()
        {
            effects.push(Effect::Allow);
        }
    }

    fn enter(&mut self, now: Timestamp, state: State) {
        (self.state, self.since) = (state, now);
    }

    fn waited_s(&self, now: Timestamp) -> i64 {
        now.ms_since(self.since) / 1_000
    }

    fn offered(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        let over = now >= self.terms.quote.valid_until;
        match event {
            _ if over => self.enter(now, State::Closed(Ending::Expired)),
            Event::Accepted => {
                self.enter(now, State::Authorising);
                effects.push(Effect::PlaceHold(self.terms.quote.ceiling));
            }
            Event::Stop => self.enter(now, State::Closed(Ending::Stopped)),
            _ => {}
        }
    }

    fn authorising(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::HoldPlaced => {
                self.held = self.terms.quote.ceiling;
                self.enter(now, State::Authorised);
                effects.push(Effect::Allow);
            }
            Event::HoldRefused => self.enter(now, State::Closed(Ending::PaymentRefused)),
            Event::Stop => self.enter(now, State::Closed(Ending::Stopped)),
            _ if self.waited_s(now) >= HOLD_WITHIN_S => {
                self.enter(now, State::Closed(Ending::PaymentRefused));
            }
            _ => {}
        }
    }

    fn authorised(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Started { register_wh } if self.waited_s(now) < START_WITHIN_S => {
                self.meter = Some(Meter::new(now, register_wh));
                self.enter(now, State::Active);
            }
            Event::Stop => self.finish(now, Ending::Stopped, effects),
            _ if self.waited_s(now) >= START_WITHIN_S => {
                self.finish(now, Ending::NotPluggedIn, effects);
            }
            _ => {}
        }
    }

    fn active(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        let Some(meter) = self.meter.as_mut() else {
            return;
        };
        match event {
            Event::Reading { register_wh, full } => {
                self.reading(now, register_wh, full, effects);
            }
            Event::GridPause => meter.pause_by_grid(now, true),
            Event::GridResume => meter.pause_by_grid(now, false),
            Event::PlanPause => meter.pause_by_plan(now, true),
            Event::PlanResume => meter.pause_by_plan(now, false),
            Event::PowerLost => meter.lose_power(now, true),
            Event::PowerBack => meter.lose_power(now, false),
            Event::Stop => self.finish(now, Ending::Stopped, effects),
            Event::Unplugged => self.finish(now, Ending::DriverGone, effects),
            _ => {}
        }
        self.overdue(now, effects);
    }

    fn reading(&mut self, now: Timestamp, register_wh: i64, full: bool, effects: &mut Vec<Effect>) {
        let Some(meter) = self.meter.as_mut() else {
            return;
        };
        if !meter.read(now, register_wh, full, &self.terms) {
            self.bad += 1;
            if self.bad >= NONSENSE_MAX {
                self.finish(now, Ending::Nonsense, effects);
            }
            return;
        }
        self.bad = 0;
        let enough = self.energy() >= self.terms.quote.energy;
        let ceiling = self.terms.quote.ceiling;
        // An amount that does not fit is beyond every ceiling.
        let reached = !matches!(self.bill_so_far(), Ok(bill) if bill.as_ref().is_none_or(|b| b.total < ceiling));
        if reached {
            self.finish(now, Ending::CeilingReached, effects);
        } else if enough && self.meter.as_mut().is_some_and(Meter::stop_at_wish) {
            effects.push(Effect::Forbid);
        }
    }

    /// Ends what has waited too long.
    fn overdue(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let (State::Active, Some(meter)) = (self.state, self.meter.as_ref()) else {
            return;
        };
        let ending = if meter.powerless_s(now) >= POWER_LOST_S {
            Ending::PowerLost
        } else if meter.powerless_s(now) == 0 && meter.silent_s(now) >= SILENT_S {
            Ending::GatewayLost
        } else if self.waited_s(now) >= SESSION_MAX_S {
            Ending::TooLong
        } else if !meter.energy().is_positive() && meter.charging_s(now) >= NO_ENERGY_S {
            Ending::NoEnergy
        } else if meter.parked_s(now) >= FORGOTTEN_S {
            Ending::Forgotten
        } else {
            return;
        };
        self.finish(now, ending, effects);
    }

    /// Makes the bill and asks for its payment; what is held beyond it is given back in the same step.
    fn finish(&mut self, now: Timestamp, ending: Ending, effects: &mut Vec<Effect>) {
        effects.push(Effect::Forbid);
        // A bill that cannot be made is not charged.
        self.bill = self.bill_so_far().ok().flatten();
        self.settle(effects);
        self.enter(now, State::Settling(ending));
    }

    fn settling(
        &mut self,
        now: Timestamp,
        event: Event,
        ending: Ending,
        effects: &mut Vec<Effect>,
    ) {
        match event {
            Event::Captured => {
                self.held = Money::ZERO;
                self.enter(now, State::Closed(ending));
            }
            Event::CaptureRefused => {
                // The hold is given back, and a debt stands in its place.
                self.debt = self.settlement().0;
                effects.push(Effect::Settle {
                    capture: Money::ZERO,
                    release: self.held,
                });
                if self.debt > Money::ZERO {
                    effects.push(Effect::Debt(self.debt));
                }
                self.held = Money::ZERO;
                self.enter(now, State::Closed(ending));
            }
            _ if self.waited_s(now) >= CAPTURE_AGAIN_S => {
                self.settle(effects);
                self.enter(now, State::Settling(ending));
            }
            _ => {}
        }
    }

    /// What is taken out of the hold, and what is given back.
    fn settlement(&self) -> (Money, Money) {
        let owed = self.bill.as_ref().map_or(Money::ZERO, |b| b.total);
        let capture = owed.clamp(Money::ZERO, self.held.max(Money::ZERO));
        let release = Money::from_nano(self.held.nano() - capture.nano());
        (capture, release)
    }

    fn settle(&self, effects: &mut Vec<Effect>) {
        let (capture, release) = self.settlement();
        effects.push(Effect::Settle { capture, release });
    }
}

/// Whether a car asks for no power: it has taken something since the session's first reading and takes nothing any more,
/// though nothing makes it wait. `before_wh` is the first and the last reading so far, all of them registers in Wh.
#[must_use]
pub const fn is_full(before_wh: [i64; 2], register_wh: i64, waits: bool) -> bool {
    let [first_wh, last_wh] = before_wh;
    register_wh == last_wh && last_wh > first_wh && !waits
}

#[cfg(test)]
mod tests;
