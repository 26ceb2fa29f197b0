//! The utility's and the network's prices: what energy costs that was not traded locally.
//!
//! [`Tariff`] is what holds in one interval; [`Tariffs`] finds it for an interval, and [`Effective`] is what it
//! found.

mod file;
mod schedule;

use domain::money::Price;
use domain::receipt::Prices;
use domain::terms::{DeviationPolicy, Position, Terms};
use serde::Deserialize;
use toml::Spanned;

pub use schedule::{Effective, PERIODS_MAX, PRICES_MAX, Tariffs, VERSIONS_MAX};

/// The prices around the local market.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tariff {
    /// At which the utility sells, network fee included.
    pub retail: Price,
    /// At which the utility buys.
    pub feed_in: Price,
    /// What the network earns on energy that stays in the community.
    pub network_fee: Price,
}

/// Why a tariff was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TariffError {
    /// The text is no such table.
    #[error("tariff, line {line}: {message}")]
    Text {
        /// Counted from one.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value is no price.
    #[error("tariff, line {line}, key `{key}`: {message}")]
    Value {
        /// Counted from one.
        line: usize,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        message: String,
    },
    /// A price below zero.
    #[error("tariff: `{key}` is {price}, which is below zero")]
    Negative {
        /// The key.
        key: &'static str,
        /// Its value.
        price: Price,
    },
    /// Neighbours could not trade at a price that is good for both.
    #[error(
        "tariff: `feed_in` {feed_in} is above `retail` minus `network_fee` ({room}), so no local price is good for both sides"
    )]
    NoRoom {
        /// The feed-in price.
        feed_in: Price,
        /// Retail less network fee.
        room: Price,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    retail: Spanned<String>,
    feed_in: Spanned<String>,
    network_fee: Spanned<String>,
}

impl Tariff {
    /// A tariff whose prices fit together.
    ///
    /// # Errors
    /// A price below zero, or a feed-in price above retail less network fee.
    pub fn new(retail: Price, feed_in: Price, network_fee: Price) -> Result<Self, TariffError> {
        let named = [
            ("retail", retail),
            ("feed_in", feed_in),
            ("network_fee", network_fee),
        ];
        if let Some((key, price)) = named.into_iter().find(|(_, price)| *price < Price::ZERO) {
            return Err(TariffError::Negative { key, price });
        }
        let tariff = Tariff {
            retail,
            feed_in,
            network_fee,
        };
        let room = tariff.room();
        if feed_in > room {
            return Err(TariffError::NoRoom { feed_in, room });
        }
        Ok(tariff)
    }

    /// Reads `retail`, `feed_in` and `network_fee`, decimal strings in tokens per kWh.
    ///
    /// # Errors
    /// Says the line, and the key where one is at fault.
    pub fn from_toml(text: &str) -> Result<Self, TariffError> {
        let parsed: Text = toml::from_str(text).map_err(|error| TariffError::Text {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let price = |key, value: &Spanned<String>| {
            value
                .get_ref()
                .parse::<Price>()
                .map_err(|error| TariffError::Value {
                    line: line_of(text, value.span().start),
                    key,
                    message: error.to_string(),
                })
        };
        Tariff::new(
            price("retail", &parsed.retail)?,
            price("feed_in", &parsed.feed_in)?,
            price("network_fee", &parsed.network_fee)?,
        )
    }

    /// The highest price at which buying from a neighbour is not worse than from the utility. With a dynamic tariff
    /// it may be below zero, and below a fixed feed-in price.
    #[must_use]
    pub fn room(&self) -> Price {
        // A difference that does not fit is no price of any market.
        self.retail
            .checked_sub(self.network_fee)
            .unwrap_or(Price::ZERO)
    }

    /// The prices of an interval: deviations net at the clearing price, or, where nothing traded, at
    /// the floored middle of what the utility pays and what it takes less the network fee.
    #[must_use]
    pub fn prices(&self, clearing: Option<Price>) -> Prices {
        self.prices_under(clearing, Terms::default())
    }

    /// The same under other terms: with `single-price` a community that lacks energy nets at what the
    /// utility takes less the network fee, one that has energy over at what the utility pays.
    ///
    /// Where a low price of the market brings what the utility takes less the fee below a fixed feed-in price, no
    /// price is good for both sides; the pool's stays between the two, also where the clearing price does not.
    #[must_use]
    pub fn prices_under(&self, clearing: Option<Price>, terms: Terms) -> Prices {
        let room = self.room();
        let mut local = clearing.unwrap_or_else(|| self.feed_in.midpoint_floor(room));
        if room < self.feed_in {
            local = local.clamp(room, self.feed_in);
        }
        let pool = match (terms.policy, terms.position) {
            (DeviationPolicy::SinglePrice, Position::Short) => room,
            (DeviationPolicy::SinglePrice, Position::Long) => self.feed_in,
            _ => local,
        };
        Prices {
            pool,
            retail: self.retail,
            feed_in: self.feed_in,
            network_fee: self.network_fee,
            terms: terms.written(),
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_fixed_feed_in_price_the_pool_stays_between_it_and_the_room() {
        let price = |text: &str| text.parse::<Price>().unwrap();
        let low = Tariff {
            retail: price("0.05"),
            feed_in: price("0.08"),
            network_fee: price("0.07"),
        };
        for (clearing, pool) in [
            (None, "0.030000"),
            (Some("0.2"), "0.080000"),
            (Some("-0.5"), "-0.020000"),
            (Some("0.01"), "0.010000"),
        ] {
            let prices = low.prices(clearing.map(price));
            assert_eq!(prices.pool.to_string(), pool, "{clearing:?}");
        }
    }

    #[test]
    fn a_tariff_is_read_and_checked() {
        let good = "retail = \"0.32\"\nfeed_in = \"0.08\"\nnetwork_fee = \"0.07\"\n";
        let tariff = Tariff::from_toml(good).unwrap();
        assert_eq!(tariff.prices(None).pool.to_string(), "0.165000");
        assert_eq!(tariff.prices(Some(Price::ZERO)).pool, Price::ZERO);
        for (text, expect) in [
            (
                "retail = \"0.32\"\nfeed_in = \"x\"\nnetwork_fee = \"0.07\"\n",
                "line 2, key `feed_in`",
            ),
            (
                "retail = \"0.32\"\nfeed_in = 0.08\nnetwork_fee = \"0.07\"\n",
                "line 2",
            ),
            (
                "retail = \"0.32\"\nfee = \"1\"\nfeed_in = \"0.08\"\n",
                "line 2",
            ),
            (
                "retail = \"0.32\"\nfeed_in = \"0.3\"\nnetwork_fee = \"0.07\"\n",
                "no local price",
            ),
            (
                "retail = \"0.32\"\nfeed_in = \"-0.3\"\nnetwork_fee = \"0.07\"\n",
                "below zero",
            ),
        ] {
            let error = Tariff::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
