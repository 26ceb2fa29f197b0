//! One honest sentence while a car charges, always with the expected end where there is one.

use chrono_tz::Tz;
use domain::money::Money;
use domain::time::Timestamp;

use super::{Ending, Session, State};

impl Session {
    /// When the energy will be in the car: by the power so far, otherwise by the offer. None where nothing flows
    /// any more.
    #[must_use]
    pub fn expected_end(&self, now: Timestamp) -> Option<Timestamp> {
        let promised = self.terms.quote.ready_by;
        match self.state {
            State::Offered | State::Authorising | State::Authorised => Some(promised),
            State::Settling(_) | State::Closed(_) => None,
            State::Active => {
                let meter = self.meter.as_ref().filter(|m| !m.full())?;
                let missing_wh = self.terms.quote.energy.wh() - meter.energy().wh();
                if meter.paused_by_grid() || meter.waits_by_plan() {
                    return Some(promised.max(now));
                }
                let power_w = meter.power_w().filter(|w| *w > 0);
                let by_power =
                    power_w.map(|w| now.plus_s(missing_wh.max(0).saturating_mul(3_600) / w));
                Some(by_power.unwrap_or(promised.max(now)))
            }
        }
    }

    /// What to tell the driver now, with times in `zone`.
    #[must_use]
    pub fn sentence(&self, now: Timestamp, zone: Tz) -> String {
        let quote = &self.terms.quote;
        let clock = |at: Timestamp| match at.to_chrono() {
            Some(utc) => utc.with_timezone(&zone).format("%H:%M").to_string(),
            None => at.to_string(),
        };
        let so_far = self
            .bill_so_far()
            .ok()
            .flatten()
            .map_or(Money::ZERO, |b| b.total);
        let spent = |amount: Money| {
            format!(
                "{} {}",
                kwh(self.energy().wh()),
                cents(amount, &quote.currency)
            )
        };
        match self.state {
            State::Offered => format!(
                "Offered until {}: at most {}.",
                clock(quote.valid_until),
                cents(quote.ceiling, &quote.currency)
            ),
            State::Authorising => "Asking for the payment's hold.".to_owned(),
            State::Authorised => format!(
                "Plug in: {} are held.",
                cents(quote.ceiling, &quote.currency)
            ),
            State::Active => self.running(now, &spent(so_far), clock),
            State::Settling(ending) | State::Closed(ending) => {
                let paid = self.bill.as_ref().map_or(Money::ZERO, |b| b.total);
                format!("{} {}.", ending.words(), spent(paid))
            }
        }
    }

    fn running(&self, now: Timestamp, spent: &str, clock: impl Fn(Timestamp) -> String) -> String {
        let ready = self.expected_end(now).map(clock);
        let ready = ready.map_or(String::new(), |at| format!(", ready about {at}"));
        match self.doing(now) {
            Doing::PausedByGrid => {
                format!("Paused by the grid, which costs nothing. {spent} so far{ready}.")
            }
            Doing::WaitsByPlan => {
                format!("Waiting for a better time, as planned. {spent} so far{ready}.")
            }
            Doing::NoPower => {
                format!("The station has no power; nothing is charged. {spent} so far{ready}.")
            }
            Doing::Full => format!("Full. {spent}. Please unplug."),
            Doing::Charging => format!("Charging. {spent} so far{ready}."),
        }
    }

    /// What goes on between the plug and the bill; charging where nothing keeps the car from it.
    #[must_use]
    pub fn doing(&self, now: Timestamp) -> Doing {
        match self.meter.as_ref() {
            Some(meter) if meter.paused_by_grid() => Doing::PausedByGrid,
            Some(meter) if meter.waits_by_plan() => Doing::WaitsByPlan,
            Some(meter) if meter.powerless_s(now) > 0 => Doing::NoPower,
            Some(meter) if meter.full() => Doing::Full,
            _ => Doing::Charging,
        }
    }
}

/// What a session that is active does at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Energy may flow.
    Charging,
    /// The car asks for no power.
    Full,
    /// The grid has no room for the car.
    PausedByGrid,
    /// The offer's plan waits for a better time.
    WaitsByPlan,
    /// The station has no power.
    NoPower,
}

impl Ending {
    /// What it was, in a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Ending::Expired => "The offer ran out; nothing was charged.",
            Ending::PaymentRefused => "The payment was refused; nothing was charged.",
            Ending::NotPluggedIn => "Nobody plugged in; the hold was given back.",
            Ending::Stopped => "Stopped.",
            Ending::DriverGone => "Unplugged.",
            Ending::NoEnergy => "No energy flowed; nothing was charged.",
            Ending::Forgotten => "The car stayed long after it was full.",
            Ending::CeilingReached => "The ceiling was reached, and the station stopped.",
            Ending::GatewayLost => "The station fell silent; its last good reading counts.",
            Ending::PowerLost => "The station had no power for long; its last good reading counts.",
            Ending::Nonsense => {
                "The station reported what cannot be; its last good reading counts."
            }
            Ending::TooLong => "The session was too long.",
        }
    }
}

/// Whole cents, rounded half up for display.
pub(in crate::charging) fn cents(amount: Money, currency: &str) -> String {
    let cents = Money::from_ratio(i128::from(amount.nano()), 10_000_000);
    let cents = cents.map_or(0, Money::nano);
    format!("{}.{:02} {currency}", cents / 100, (cents % 100).abs())
}

fn kwh(wh: i64) -> String {
    format!("{}.{} kWh,", wh / 1_000, wh % 1_000 / 100)
}
