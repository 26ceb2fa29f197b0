//! The demo's drivers: who comes to the street's public charger takes an offer on the way there, as with a phone, and ends
//! the session when the car has what it needs. They are drivers like any other: what they do, a visitor can do as well.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use domain::energy::Energy;
use domain::time::{Interval, Timestamp};
use settlement::charging::promise::Payer;
use settlement::charging::session::{Doing, State};
use simulator::ev::{Stay, Stays};
use simulator::scenario::Scenario;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Options;
use crate::platform::Shared;
use crate::platform::charging::{self, AHEAD_S, Choice};

/// How often they look at the clock: three minutes of the street's time at the demo's highest speed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An offer is taken so long before the interval in which the car comes, at least: the session begins with that interval.
const BOOK_BEFORE_S: i64 = 60;
/// A car that comes later than this before an interval's end counts as one of the next.
const LATE_S: i64 = 120;
/// What is asked for is rounded up to so much.
const STEP_WH: i64 = 100;

/// A car that charges away from its home.
pub(super) struct Car {
    station: String,
    stays: Stays,
    utc_offset_minutes: i64,
    /// The arrival for which an offer was taken last.
    taken_for: Option<Timestamp>,
    session: Option<String>,
}

/// The cars of the street's public chargers; none where visitors are to have these alone.
pub(super) fn cars(scenario: &Scenario, options: &Options) -> Vec<Car> {
    let homes = scenario.homes.iter().filter(|_| options.drivers);
    let public = homes.filter_map(|home| {
        let ev = home.ev.as_ref().filter(|ev| ev.own_connection)?;
        Some(Car {
            station: format!("station-{}.charger", home.id),
            stays: Stays::new(options.seed, home.id.as_str(), ev),
            utc_offset_minutes: scenario.site.utc_offset_minutes,
            taken_for: None,
            session: None,
        })
    });
    public.collect()
}

/// Drives them until `stop`.
pub(super) async fn drive(
    shared: Arc<Shared>,
    mut cars: Vec<Car>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    for car in &mut cars {
        // One that was charging when the demo was stopped.
        car.session = charging::session_at(&shared, &car.station).await;
    }
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = look.tick() => {}
        }
        for car in &mut cars {
            let now = shared.clock.now();
            if let Err(error) = car.look(&shared, now).await {
                tracing::warn!(
                    station = car.station,
                    "a driver of the demo got nowhere: {error:#}"
                );
            }
        }
    }
}

impl Car {
    async fn look(&mut self, shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
        let stay = self.stays.around(now, self.utc_offset_minutes);
        match &self.session {
            Some(session) => {
                let session = session.clone();
                if self.is_done(shared, &session, stay, now).await? {
                    self.session = None;
                }
                Ok(())
            }
            None => match stay.filter(|stay| books_now(stay, now)) {
                Some(stay) if self.taken_for != Some(stay.arrival) => {
                    self.taken_for = Some(stay.arrival);
                    self.session = self.take(shared, stay, now).await?;
                    Ok(())
                }
                _ => Ok(()),
            },
        }
    }

    /// Takes an offer for a stay: at once on one day, where it is cheapest on the other.
    async fn take(
        &self,
        shared: &Shared,
        stay: Stay,
        now: Timestamp,
    ) -> anyhow::Result<Option<String>> {
        let place = charging::place(shared, &self.station).await;
        let Some(place) = place.filter(|place| place.is_free) else {
            return Ok(None);
        };
        let wh = stay.need_wh.div_euclid(STEP_WH) * STEP_WH + STEP_WH;
        let by = stay.departure.min(now.plus_s(AHEAD_S));
        let wished = Energy::from_wh(wh);
        let (_, made) = charging::offers(shared, &place, wished, by, now).await?;
        let choice = match stay.arrival.unix_s().div_euclid(86_400) % 2 {
            0 => Choice::Cheapest,
            _ => Choice::Now,
        };
        let offer = made.into_iter().find(|offer| offer.choice == choice);
        let offer = offer.context("nothing is offered")?;
        let promise = charging::take(shared, &offer.id, Payer::Card, now)?;
        let promise = promise.context("the offer is gone")?;
        let session = promise.quote.session.clone();
        let begun = charging::open(shared, promise, now).await?;
        Ok(begun.map(|_| session))
    }

    /// Whether the session is over; where the car has what it needs, or goes, it is ended.
    async fn is_done(
        &self,
        shared: &Shared,
        session: &str,
        stay: Option<Stay>,
        now: Timestamp,
    ) -> anyhow::Result<bool> {
        let Some(one) = charging::find(shared, session).await? else {
            return Ok(true);
        };
        let goes = stay.is_none_or(|stay| now >= stay.departure);
        let is_full = one.session.doing(now) == Doing::Full;
        match one.session.state() {
            State::Settling(_) | State::Closed(_) => return Ok(true),
            State::Active if is_full || goes => {}
            _ => return Ok(false),
        }
        charging::stop(shared, session, now).await?;
        Ok(true)
    }
}

/// Whether it is the time to take an offer for a stay: the session begins with the interval in which the car comes, so that all
/// its energy is the session's.
fn books_now(stay: &Stay, now: Timestamp) -> bool {
    let length_s = domain::time::DEFAULT_INTERVAL_S;
    let comes = Interval::containing(stay.arrival.plus_s(LATE_S), length_s);
    comes.is_ok_and(|comes| {
        let first = comes.start().plus_s(-i64::from(length_s));
        (first..comes.start().plus_s(-BOOK_BEFORE_S)).contains(&now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_taken_in_the_interval_before_the_car_comes() {
        let quarter = Interval::new(1_782_000_000, 900).unwrap();
        let stay = |s: i64| Stay {
            arrival: quarter.start().plus_s(s),
            departure: quarter.start().plus_s(36_000),
            need_wh: 9_000,
        };
        let at = |s: i64| quarter.start().plus_s(s);
        assert!(books_now(&stay(5), at(-900)) && books_now(&stay(700), at(-61)));
        assert!(!books_now(&stay(5), at(-901)) && !books_now(&stay(5), at(-60)));
        // Who comes at the end of an interval is one of the next.
        assert!(!books_now(&stay(800), at(-100)) && books_now(&stay(800), at(100)));
    }
}
