//! `[market]` of `site.toml`: what the community has agreed on for orders. What is absent has a default.

use anyhow::{Context, bail};
use domain::energy::Energy;
use domain::money::{Money, Price};
use market_engine::service::Rules;
use serde::{Deserialize, Serialize};

/// Most orders of one participant in one interval, ever: each message of it may read them all.
const CHANGES_MAX: u32 = 4_096;

/// The section as it is written.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarketFile {
    /// Lowest and highest limit of an order, in token per kWh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_floor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_cap: Option<String>,
    /// Standing orders of a participant in an interval, and all that it ever takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    orders_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes_max: Option<u32>,
    /// Messages of a participant in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages_per_minute_max: Option<u32>,
    /// What a participant may bid for, or offer, and what its bids may cost, in an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    energy_max_wh: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    money_max: Option<String>,
    /// What everybody may order of a side; above it the shares of the side count, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share_free_wh: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share_alarm_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share_cap_percent: Option<u32>,
}

impl MarketFile {
    /// Whether nothing is said, and the section is not written.
    pub(crate) fn is_empty(&self) -> bool {
        *self == MarketFile::default()
    }

    /// The rules, those of `base` where nothing is said.
    pub(crate) fn rules(&self, base: Rules) -> anyhow::Result<Rules> {
        let price = |key: &str, text: &Option<String>, base: Price| match text {
            Some(text) => text.parse().with_context(|| format!("market.{key}")),
            None => Ok(base),
        };
        let above_zero = |key: &str, wh: Option<i64>| match wh {
            Some(wh) if wh <= 0 => bail!("market.{key} = {wh}: more than 0 Wh"),
            wh => Ok(wh.map(Energy::from_wh)),
        };
        let percent = |key: &str, share: Option<u32>| match share {
            Some(share) if share > 100 => bail!("market.{key} = {share}: at most 100"),
            share => Ok(share.map(|share| share * 10)),
        };
        let count = |key: &str, count: Option<u32>, base: u32| match count {
            Some(0) => bail!("market.{key} = 0: nobody could order anything, so at least 1"),
            count => Ok(count.unwrap_or(base)),
        };
        let rules = Rules {
            price_floor: price("price_floor", &self.price_floor, base.price_floor)?,
            price_cap: price("price_cap", &self.price_cap, base.price_cap)?,
            orders_per_participant_max: count(
                "orders_max",
                self.orders_max,
                base.orders_per_participant_max,
            )?,
            changes_per_participant_max: count(
                "changes_max",
                self.changes_max,
                base.changes_per_participant_max,
            )?,
            messages_per_minute_max: count(
                "messages_per_minute_max",
                self.messages_per_minute_max,
                base.messages_per_minute_max,
            )?,
            energy_per_participant_max: above_zero("energy_max_wh", self.energy_max_wh)?,
            money_per_participant_max: self.money()?,
            share_free: above_zero("share_free_wh", self.share_free_wh)?.unwrap_or(base.share_free),
            share_alarm_permille: percent("share_alarm_percent", self.share_alarm_percent)?
                .or(base.share_alarm_permille),
            share_cap_permille: percent("share_cap_percent", self.share_cap_percent)?,
            ..base
        };
        if rules.price_floor < Price::ZERO || rules.price_cap < rules.price_floor {
            bail!(
                "market.price_floor = {} and market.price_cap = {}: from 0, and the cap not below the floor",
                rules.price_floor,
                rules.price_cap
            );
        }
        if rules.changes_per_participant_max > CHANGES_MAX {
            bail!(
                "market.changes_max = {}: at most {CHANGES_MAX}, as a message of a participant may read them \
                 all",
                rules.changes_per_participant_max
            );
        }
        Ok(rules)
    }

    fn money(&self) -> anyhow::Result<Option<Money>> {
        let Some(text) = &self.money_max else {
            return Ok(None);
        };
        let most: Money = text.parse().context("market.money_max")?;
        if most <= Money::ZERO {
            bail!("market.money_max = {most}: nobody could bid, so more than 0");
        }
        Ok(Some(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_and_what_cannot_be_is_refused_by_name() {
        let check = |text: &str, expect: &str| {
            let file: MarketFile = toml::from_str(text).unwrap();
            let told = match file.rules(Rules::default()) {
                Ok(rules) => format!(
                    "{} {} {:?}",
                    rules.price_cap, rules.orders_per_participant_max, rules.share_cap_permille
                ),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expect), "{told}");
        };
        check("", "1.000000 16 None");
        check(
            "price_cap = \"0.5\"\norders_max = 4\nshare_cap_percent = 80",
            "0.500000 4 Some(800)",
        );
        check("share_cap_percent = 101", "market.share_cap_percent = 101");
        check("price_floor = \"2\"", "market.price_floor = 2.000000");
        check("price_cap = \"dear\"", "market.price_cap");
        check("energy_max_wh = 0", "market.energy_max_wh = 0");
        check("orders_max = 0", "market.orders_max = 0");
        check("changes_max = 0", "market.changes_max = 0");
        check("changes_max = 4096", "1.000000 16");
        check(
            "changes_max = 4097",
            "market.changes_max = 4097: at most 4096",
        );
        check(
            "messages_per_minute_max = 0",
            "market.messages_per_minute_max = 0",
        );
        check("money_max = \"0\"", "market.money_max = 0");
        check("money_max = \"-1\"", "market.money_max = -1");
    }
}
