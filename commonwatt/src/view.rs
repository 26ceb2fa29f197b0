//! What the page shows: plain values, gathered once, drawn many times.

use domain::energy::Energy;
use domain::ids::{ParticipantId, TradeId};
use domain::money::{Money, Price};
use domain::order::Side;
use domain::time::{Interval, Timestamp};

/// The street at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Street {
    pub(crate) community: String,
    pub(crate) now: Timestamp,
    pub(crate) speed: u32,
    /// The interval whose gate closes next.
    pub(crate) open: Interval,
    pub(crate) gate_closes: Timestamp,
    pub(crate) retail: Price,
    pub(crate) feed_in: Price,
    pub(crate) homes: Vec<Home>,
    /// Import above zero, export below, at the street's connection.
    pub(crate) feeder_w: Option<Fresh>,
    pub(crate) orders: Vec<OrderLine>,
    /// What autopilots that may only suggest would order.
    pub(crate) suggestions: Vec<OrderLine>,
    pub(crate) cleared: Option<Cleared>,
    /// Past clearings, oldest first.
    pub(crate) prices: Vec<PricePoint>,
    pub(crate) log: Log,
}

/// A live value and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) value: i64,
    pub(crate) read_at: Timestamp,
}

/// One home: what it does now, and its day in money.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) id: ParticipantId,
    /// Import above zero, export below.
    pub(crate) net_w: Option<Fresh>,
    pub(crate) sun_w: Option<Fresh>,
    pub(crate) battery_w: Option<Fresh>,
    pub(crate) soc_permille: Option<i64>,
    pub(crate) car_w: Option<Fresh>,
    pub(crate) has_sun: bool,
    pub(crate) has_battery: bool,
    pub(crate) has_car: bool,
    pub(crate) day: Day,
}

/// A home's settled money and energy of today (UTC), and what the utility alone would have charged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Day {
    /// Received less paid, everything included.
    pub(crate) net: Money,
    /// The same day with the utility alone.
    pub(crate) utility_alone: Money,
}

/// An order as the page lists it.
#[derive(Clone, Debug)]
pub(crate) struct OrderLine {
    pub(crate) participant: ParticipantId,
    pub(crate) side: Side,
    pub(crate) energy: Energy,
    pub(crate) limit: Price,
    /// Filled energy, once cleared.
    pub(crate) filled: Option<Energy>,
    /// Why it was placed, or, once cleared, why it was filled or not.
    pub(crate) reason: String,
}

/// The last clearing.
#[derive(Clone, Debug)]
pub(crate) struct Cleared {
    pub(crate) interval: Interval,
    pub(crate) price: Option<Price>,
    pub(crate) volume: Energy,
    pub(crate) orders: Vec<OrderLine>,
    pub(crate) trades: Vec<TradeLine>,
    /// Trades of the newest settled interval: their receipts can be had.
    pub(crate) delivered: Vec<TradeLine>,
}

/// A trade as the page lists it.
#[derive(Clone, Debug)]
pub(crate) struct TradeLine {
    pub(crate) id: TradeId,
    pub(crate) interval: Interval,
    pub(crate) buyer: ParticipantId,
    pub(crate) seller: ParticipantId,
    pub(crate) energy: Energy,
    pub(crate) price: Price,
}

/// One interval in the price chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PricePoint {
    pub(crate) interval: Interval,
    pub(crate) price: Option<Price>,
    pub(crate) volume: Energy,
}

/// How far the logs have grown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// When the ledger's newest checkpoint was signed.
    pub(crate) checkpoint_at: Option<Timestamp>,
    pub(crate) readings: u64,
    pub(crate) market: u64,
    pub(crate) ledger: u64,
    pub(crate) operator_key: String,
}

/// Power in the words of §1: W below one kilowatt, kW above.
pub(crate) fn power_text(w: i64) -> String {
    let w = w.unsigned_abs();
    if w < 1000 {
        format!("{w} W")
    } else {
        format!("{}.{:01} kW", w / 1000, w % 1000 / 100)
    }
}

/// Energy in kWh with two decimals, cut (never rounded up).
pub(crate) fn energy_text(energy: Energy) -> String {
    let wh = energy.wh().unsigned_abs();
    format!("{}.{:02} kWh", wh / 1000, wh % 1000 / 10)
}

/// A price in cents per kWh with one decimal, rounded half up.
pub(crate) fn price_text(price: Price) -> String {
    let tenths = (price.micro_per_kwh() + 500).div_euclid(1000);
    let sign = if tenths < 0 { "−" } else { "" };
    let tenths = tenths.unsigned_abs();
    format!("{sign}{}.{} ct", tenths / 10, tenths % 10)
}

/// Money in tokens with two decimals, rounded half away from zero.
pub(crate) fn money_text(money: Money) -> String {
    let nano = money.nano();
    let cents = (nano.unsigned_abs() + 5_000_000) / 10_000_000;
    let sign = if nano < 0 && cents > 0 { "−" } else { "" };
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

/// The hour and minute of an instant in UTC.
pub(crate) fn clock_text(t: Timestamp) -> String {
    t.to_chrono()
        .map_or_else(String::new, |t| t.format("%H:%M").to_string())
}

/// `10:15–10:30`
pub(crate) fn interval_text(interval: Interval) -> String {
    format!(
        "{}–{}",
        clock_text(interval.start()),
        clock_text(interval.end())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(power_text(-940), "940 W");
        assert_eq!(power_text(2349), "2.3 kW");
        assert_eq!(energy_text(Energy::from_wh(2319)), "2.31 kWh");
        assert_eq!(price_text(Price::from_micro_per_kwh(132_500)), "13.3 ct");
        assert_eq!(price_text(Price::from_micro_per_kwh(-132_400)), "−13.2 ct");
        assert_eq!(money_text(Money::from_nano(1_835_000_000)), "1.84");
        assert_eq!(money_text(Money::from_nano(-4_000_000)), "0.00");
        assert_eq!(money_text(Money::from_nano(-1_284_999_999)), "−1.28");
    }
}
