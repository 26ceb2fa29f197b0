//! One interval from files, without books around it: for checking a settlement by hand.
//!
//! The same [`deliver`] and [`settle`] as in production run; what is printed is what would be posted. A file is
//! read whole or refused whole: an error names the line and the column.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use domain::delivery::Delivery;
use domain::energy::Energy;
use domain::ids::{Digest32, OrderId, ParticipantId, PointId, TradeId, digest_parts};
use domain::money::Price;
use domain::posting::{Posting, Run};
use domain::quality::Quality;
use domain::terms::Terms;
use domain::time::Interval;
use domain::trade::Trade;

use crate::deliver::{
    ConnectionData, DeliverError, Feeder, LossBand, LossCheck, Metered, check_loss, deliver,
};
use crate::settle::{Inputs, Options, SettleError, Settlement, settle};
use crate::tariff::{Effective, Tariffs};

pub use read::{FileError, ROWS_MAX, readings, trades};

/// A trade as a file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TradeRow {
    /// Who bought.
    pub buyer: ParticipantId,
    /// Who sold.
    pub seller: ParticipantId,
    /// How much.
    pub energy: Energy,
    /// At which price.
    pub price: Price,
    /// The network's fee, where it is another than the tariff's.
    pub network_fee: Option<Price>,
}

/// A participant's meter as a file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadingRow {
    /// Whose it is.
    pub participant: ParticipantId,
    /// Import and export; none where the meter did not speak.
    pub flows: Option<(Energy, Energy)>,
    /// For a tiered tariff: what the utility had supplied in the month before.
    pub used: Energy,
}

/// All meters of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readings {
    /// The participants'.
    pub participants: Vec<ReadingRow>,
    /// The feeder's, if it is there.
    pub feeder: Option<(Energy, Energy)>,
}

/// What is settled.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// When.
    pub interval: Interval,
    /// In which run.
    pub run: Run,
    /// By which tariff.
    pub tariffs: &'a Tariffs,
    /// Under which terms.
    pub terms: Terms,
    /// The clearing price; where none is given, the one price of all trades if there is one.
    pub clearing_price: Option<Price>,
    /// The trades.
    pub trades: &'a [TradeRow],
    /// The meters.
    pub readings: &'a Readings,
}

/// What it comes to.
#[derive(Clone, Debug)]
pub struct Output {
    settlement: Settlement,
    run: Run,
    effective: Effective,
    clearing_price: Option<Price>,
    postings: Vec<Posting>,
    /// Number of each trade in its file, from one.
    numbers: BTreeMap<TradeId, usize>,
    loss: LossCheck,
}

/// Why a case could not be settled.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CaseError {
    /// A party has no reading, or two.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// The numbers do not fit.
    #[error(transparent)]
    Settle(#[from] SettleError),
}

impl Case<'_> {
    /// Delivers and settles.
    ///
    /// # Errors
    /// A trading party without a line in the readings, or with two; numbers that do not fit.
    pub fn settle(&self) -> Result<Output, CaseError> {
        let effective = self.tariffs.at(self.interval);
        let trades = self.trades();
        let deliveries = deliver(self.interval, &self.connections(), &trades)?;
        let feeder = self
            .readings
            .feeder
            .map(|(imported, exported)| Feeder { imported, exported });
        let clearing_price = self.clearing_price.or_else(|| one_price(&trades));
        let used = self.readings.participants.iter();
        let used = used
            .map(|row| (row.participant.clone(), row.used))
            .collect();
        let settlement = settle(&Inputs {
            interval: self.interval,
            tariff: &effective.tariff,
            clearing_price,
            trades: &trades,
            deliveries: &deliveries,
            feeder,
            options: Options {
                run: self.run,
                terms: self.terms,
                version: effective.version.as_deref(),
                steps: &effective.steps,
                used: Some(&used),
            },
        })?;
        let numbers = trades.iter().zip(1..).map(|(trade, n)| (trade.id, n));
        Ok(Output {
            postings: settlement.legs.postings(self.interval, self.run),
            run: self.run,
            clearing_price,
            numbers: numbers.collect(),
            loss: check_loss(&deliveries, feeder, LossBand::default()),
            settlement,
            effective,
        })
    }

    /// The trades, each between two orders that only this file has.
    fn trades(&self) -> Vec<Trade> {
        let book = Digest32::of(b"by hand");
        let order = |side: &str, number: usize| {
            let parts: [&[u8]; 2] = [side.as_bytes(), &(number as u64).to_be_bytes()];
            let mut id = [0; 16];
            id.copy_from_slice(&digest_parts("commonwatt/by-hand/v1", &parts)[..16]);
            OrderId(id)
        };
        let trade = |(number, row): (usize, &TradeRow)| {
            let (bid, offer) = (order("bid", number), order("offer", number));
            Trade {
                id: Trade::id_of(self.interval, &book, bid, offer),
                interval: self.interval,
                bid,
                offer,
                buyer: row.buyer.clone(),
                seller: row.seller.clone(),
                energy: row.energy,
                price: row.price,
                network_fee: row.network_fee,
            }
        };
        self.trades.iter().enumerate().map(trade).collect()
    }

    fn connections(&self) -> Vec<ConnectionData> {
        let rows = self.readings.participants.iter();
        let connection = |row: &ReadingRow| {
            let participant = row.participant.clone();
            let metered = |(imported, exported)| Metered {
                imported,
                exported,
                quality: Quality::MEASURED,
                reading: Digest32::of(participant.as_str().as_bytes()),
            };
            // A participant's name is also one of a point: both have the same letters.
            let point = PointId::new(participant.as_str()).ok()?;
            Some(ConnectionData {
                reading: row.flows.map(metered),
                substitute: None,
                participant,
                point,
            })
        };
        rows.filter_map(connection).collect()
    }
}

fn one_price(trades: &[Trade]) -> Option<Price> {
    let prices: BTreeSet<Price> = trades.iter().map(|trade| trade.price).collect();
    prices.first().copied().filter(|_| prices.len() == 1)
}

impl Output {
    /// What is posted, in the order of the ids.
    #[must_use]
    pub fn postings(&self) -> &[Posting] {
        &self.postings
    }

    /// Each participant's delivery.
    pub fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.settlement.shares.iter().map(|share| &share.delivery)
    }
}
