//! Trades beside meter data: one delivery for each connection point, whether its meter spoke or not.

use std::collections::{BTreeMap, BTreeSet};

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, ParticipantId, PointId};
use domain::quality::Quality;
use domain::time::Interval;
use domain::trade::Trade;

/// What a meter counted in the interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metered {
    /// Energy from the street.
    pub imported: Energy,
    /// Energy into the street.
    pub exported: Energy,
    /// How the values came to be.
    pub quality: Quality,
    /// SHA-256 of the signed reading.
    pub reading: Digest32,
}

/// Import and export of an earlier interval that stands in for a missing one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Substitute {
    /// Energy from the street.
    pub imported: Energy,
    /// Energy into the street.
    pub exported: Energy,
}

/// A connection point and what is known of its interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionData {
    /// Whose it is.
    pub participant: ParticipantId,
    /// The point.
    pub point: PointId,
    /// Its reading, if it has arrived.
    pub reading: Option<Metered>,
    /// The same interval a week before, else a day before, if known.
    pub substitute: Option<Substitute>,
}

/// What the feeder's meter counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feeder {
    /// From the grid into the street.
    pub imported: Energy,
    /// From the street into the grid.
    pub exported: Energy,
}

/// What may be lost between the meters before somebody should look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LossBand {
    /// Loss as a share of the energy that entered the street, in thousandths.
    pub max_permille: u32,
    /// What each meter's rounding and clock may add, either way.
    pub tolerance_per_meter: Energy,
}

impl Default for LossBand {
    /// 6 % and 5 Wh a meter.
    fn default() -> Self {
        LossBand {
            max_permille: 60,
            tolerance_per_meter: Energy::from_wh(5),
        }
    }
}

/// What the feeder's meter says about the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LossCheck {
    /// There is no feeder meter, or it did not speak.
    NotMetered,
    /// The meters agree within the band.
    Within,
    /// More energy arrived than was sent: a meter counts too little import or too much export.
    Gain,
    /// More energy is lost than wires can lose: a meter is missing, wrong, or passed by.
    TooMuch,
}

impl LossCheck {
    /// Its word in logs and on pages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LossCheck::NotMetered => "not_metered",
            LossCheck::Within => "within",
            LossCheck::Gain => "gain",
            LossCheck::TooMuch => "too_much",
        }
    }

    /// The outcome of a word; `None` for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            LossCheck::NotMetered,
            LossCheck::Within,
            LossCheck::Gain,
            LossCheck::TooMuch,
        ]
        .into_iter()
        .find(|check| check.word() == word)
    }
}

/// Holds the homes' meters against the feeder's. Nobody is charged for what it finds; it is told.
#[must_use]
pub fn check_loss(deliveries: &[Delivery], feeder: Option<Feeder>, band: LossBand) -> LossCheck {
    let Some(feeder) = feeder else {
        return LossCheck::NotMetered;
    };
    let sum = |of: fn(&Delivery) -> Energy| -> i128 {
        deliveries.iter().map(|d| i128::from(of(d).wh())).sum()
    };
    let sent = sum(|d| d.exported) + i128::from(feeder.imported.wh());
    let arrived = sum(|d| d.imported) + i128::from(feeder.exported.wh());
    let meters = i128::try_from(deliveries.len()).unwrap_or(i128::MAX / 2) + 1;
    let tolerance = meters.saturating_mul(i128::from(band.tolerance_per_meter.wh()));
    let most = tolerance.saturating_add(sent.saturating_mul(i128::from(band.max_permille)) / 1000);
    match sent - arrived {
        lost if lost < -tolerance => LossCheck::Gain,
        lost if lost > most => LossCheck::TooMuch,
        _ => LossCheck::Within,
    }
}

/// Why deliveries could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeliverError {
    /// A trade of somebody who has no connection point.
    #[error("{0} has a trade but no connection point: enrol the point before taking orders")]
    NoPoint(ParticipantId),
    /// Two connection points of one participant.
    #[error("{0} has two connection points; one participant is settled at one point")]
    TwoPoints(ParticipantId),
    /// A trade of another interval.
    #[error("a trade of another interval is among those of {0}")]
    OtherInterval(Interval),
    /// More energy than can be counted.
    #[error("the traded energy of {0} does not fit 64 bits")]
    Overflow(ParticipantId),
}

/// What a participant bought and sold.
#[derive(Clone, Copy, Default)]
struct Traded {
    bought: Energy,
    sold: Energy,
}

/// One delivery for each connection, ordered by participant.
///
/// Where the reading is missing, the substitute stands in, else what was traded (so that nobody pays
/// for a deviation that nobody saw); the quality says so, and a later run corrects it.
///
/// # Errors
/// A trading participant without a connection point, or with two; numbers that do not fit.
pub fn deliver(
    interval: Interval,
    connections: &[ConnectionData],
    trades: &[Trade],
) -> Result<Vec<Delivery>, DeliverError> {
    let mut traded = traded_by_participant(interval, trades)?;
    let mut seen = BTreeSet::new();
    let mut deliveries = Vec::with_capacity(connections.len());
    for connection in connections {
        if !seen.insert(&connection.participant) {
            return Err(DeliverError::TwoPoints(connection.participant.clone()));
        }
        let own = traded.remove(&connection.participant).unwrap_or_default();
        deliveries.push(delivery(interval, connection, own));
    }
    if let Some(participant) = traded.into_keys().next() {
        return Err(DeliverError::NoPoint(participant));
    }
    deliveries.sort_by(|a, b| a.participant.cmp(&b.participant));
    Ok(deliveries)
}

fn traded_by_participant(
    interval: Interval,
    trades: &[Trade],
) -> Result<BTreeMap<ParticipantId, Traded>, DeliverError> {
    let mut traded: BTreeMap<ParticipantId, Traded> = BTreeMap::new();
    for trade in trades {
        if trade.interval != interval {
            return Err(DeliverError::OtherInterval(interval));
        }
        let add = |sum: Energy, who: &ParticipantId| {
            sum.checked_add(trade.energy)
                .ok_or_else(|| DeliverError::Overflow(who.clone()))
        };
        let buyer = traded.entry(trade.buyer.clone()).or_default();
        buyer.bought = add(buyer.bought, &trade.buyer)?;
        let seller = traded.entry(trade.seller.clone()).or_default();
        seller.sold = add(seller.sold, &trade.seller)?;
    }
    Ok(traded)
}

/// The same delivery with what is known of its meter now; what was traded stays.
#[must_use]
pub(crate) fn metered_again(before: &Delivery, connection: &ConnectionData) -> Delivery {
    let (bought, sold) = (before.bought, before.sold);
    delivery(before.interval, connection, Traded { bought, sold })
}

fn delivery(interval: Interval, connection: &ConnectionData, traded: Traded) -> Delivery {
    let (imported, exported, quality, reading) = match (connection.reading, connection.substitute) {
        (Some(m), _) => (m.imported, m.exported, m.quality, Some(m.reading)),
        (None, Some(s)) => (s.imported, s.exported, Quality::SUBSTITUTED, None),
        (None, None) => (traded.bought, traded.sold, Quality::SUBSTITUTED, None),
    };
    Delivery {
        interval,
        participant: connection.participant.clone(),
        point: connection.point.clone(),
        imported,
        exported,
        bought: traded.bought,
        sold: traded.sold,
        quality,
        reading,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::{OrderId, TradeId};
    use domain::money::Price;

    fn connection(name: &str, reading: bool, substitute: bool) -> ConnectionData {
        let wh = Energy::from_wh;
        let metered = Metered {
            imported: wh(900),
            exported: wh(0),
            quality: Quality::MEASURED,
            reading: Digest32([1; 32]),
        };
        ConnectionData {
            participant: ParticipantId::new(name).unwrap(),
            point: PointId::new(name).unwrap(),
            reading: reading.then_some(metered),
            substitute: substitute.then_some(Substitute {
                imported: wh(700),
                exported: wh(0),
            }),
        }
    }

    fn trade() -> Trade {
        Trade {
            id: TradeId([1; 16]),
            interval: Interval::new(0, 900).unwrap(),
            bid: OrderId([1; 16]),
            offer: OrderId([2; 16]),
            buyer: ParticipantId::new("buyer").unwrap(),
            seller: ParticipantId::new("seller").unwrap(),
            energy: Energy::from_wh(500),
            price: Price::ZERO,
            network_fee: None,
        }
    }

    #[test]
    fn a_missing_meter_is_substituted_and_holds_up_nobody() {
        let interval = trade().interval;
        for (reading, substitute, imported, quality) in [
            (true, true, 900, Quality::MEASURED),
            (false, true, 700, Quality::SUBSTITUTED),
            (false, false, 500, Quality::SUBSTITUTED),
        ] {
            let all = [
                connection("seller", true, false),
                connection("buyer", reading, substitute),
            ];
            let deliveries = deliver(interval, &all, &[trade()]).unwrap();
            let buyer = &deliveries[0];
            assert_eq!((buyer.imported.wh(), buyer.quality), (imported, quality));
            assert_eq!(buyer.reading.is_some(), reading);
            assert_eq!((buyer.bought.wh(), deliveries[1].sold.wh()), (500, 500));
        }
    }

    #[test]
    fn the_feeder_shows_what_no_meter_can_explain() {
        let all = [connection("a", true, false), connection("b", true, false)];
        let deliveries = deliver(trade().interval, &all, &[]).unwrap();
        // Both import 900 Wh; three meters may differ by 15 Wh, and 6 % may be lost.
        let check = |imported| {
            let wh = Energy::from_wh;
            let feeder = Feeder {
                imported: wh(imported),
                exported: wh(0),
            };
            check_loss(&deliveries, Some(feeder), LossBand::default())
        };
        for (imported, outcome) in [
            (1784, LossCheck::Gain),
            (1785, LossCheck::Within),
            (1800, LossCheck::Within),
            (1930, LossCheck::Within),
            (1932, LossCheck::TooMuch),
        ] {
            assert_eq!(check(imported), outcome, "{imported}");
        }
        let none = check_loss(&deliveries, None, LossBand::default());
        assert_eq!(none, LossCheck::NotMetered);
    }

    #[test]
    fn a_party_without_a_point_is_named() {
        let all = [connection("seller", true, false)];
        let error = deliver(trade().interval, &all, &[trade()]).unwrap_err();
        assert_eq!(error, DeliverError::NoPoint(trade().buyer));
    }
}
