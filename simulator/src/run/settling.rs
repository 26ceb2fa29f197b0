//! The settlement of one interval for many homes: deviations pool and cost what `settlement::amounts` says,
//! and sharing rules divide what `market_engine::share` says. Sums of everything are held against zero.

use domain::energy::Energy;
use domain::money::MoneyError;
use domain::receipt::Prices;
use domain::time::Interval;
use market_engine::share::{Member, SharingRule, share};
use settlement::amounts::{Pooling, deviation_amounts};

use super::RunError;
use super::market::{Trader, salt};

/// What an interval came to for the community, in nano-tokens and watt-hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Settled {
    /// What the homes pay in all, trades among them cancelling.
    pub(super) homes_nano: i128,
    /// What the network receives.
    pub(super) network_nano: i128,
    /// What the utility receives.
    pub(super) utility_nano: i128,
    /// What neighbours cancelled of each other's deviations.
    pub(super) pooled_wh: i64,
    /// What the utility supplied and took.
    pub(super) supplied_wh: i64,
    pub(super) taken_wh: i64,
    /// Energy that differs from what was traded.
    pub(super) deviated_wh: i64,
}

/// The settlement's memory, used again in each interval.
#[derive(Default)]
pub(super) struct Settling {
    pooling: Pooling,
    deviations: Vec<i64>,
    /// What each home pays in the interval, in nano-tokens; below zero it receives.
    pub(super) cost_nano: Vec<i64>,
    /// The part of each deviation that neighbours cancelled.
    pub(super) pooled_wh: Vec<i64>,
    /// The part of the utility.
    pub(super) utility_wh: Vec<i64>,
}

/// What flowed and what was traded, home by home.
#[derive(Clone, Copy)]
pub(super) struct Flows<'a> {
    pub(super) interval: Interval,
    /// Metered energy from the street less energy into it.
    pub(super) net_wh: &'a [i64],
    /// Sold above zero, bought below, and received or paid for it.
    pub(super) traded_wh: &'a [i64],
    pub(super) traded_nano: &'a [i64],
}

impl Settling {
    /// Settles trades and deviations.
    pub(super) fn settle(
        &mut self,
        flows: &Flows<'_>,
        prices: &Prices,
        traders: &[Trader],
    ) -> Result<Settled, RunError> {
        let interval = flows.interval;
        self.deviations.clear();
        let both = flows.net_wh.iter().zip(flows.traded_wh);
        self.deviations.extend(both.map(|(net, sold)| -net - sold));
        let key = |home: usize| traders[home].id.as_str().as_bytes();
        let too_large = |_: MoneyError| RunError::overflow(interval);
        let pooled = self.pooling.pool(&self.deviations, key, &salt(interval));
        let pooled = pooled.map_err(too_large)?;
        self.pooled_wh.clear();
        self.pooled_wh.extend_from_slice(pooled);
        self.utility_wh.clear();
        self.cost_nano.clear();
        let mut settled = Settled::default();
        let mut pool_nano = 0_i128;
        for (home, deviation) in self.deviations.iter().enumerate() {
            let pooled = self.pooled_wh[home];
            let utility = deviation - pooled;
            let wh = Energy::from_wh;
            let amounts =
                deviation_amounts(wh(pooled), wh(utility), prices, None).map_err(too_large)?;
            let bought = (-flows.traded_wh[home]).max(0);
            let fee = prices
                .network_fee
                .amount(wh(bought))
                .map_err(too_large)?
                .nano();
            let network = fee - amounts.fee_nano;
            let cost = network - amounts.pool_nano - amounts.utility_nano - flows.traded_nano[home];
            settled.network_nano += i128::from(network);
            settled.utility_nano -= i128::from(amounts.utility_nano);
            settled.homes_nano += i128::from(cost);
            settled.pooled_wh += pooled.max(0);
            settled.supplied_wh -= utility.min(0);
            settled.taken_wh += utility.max(0);
            settled.deviated_wh += deviation.abs();
            pool_nano += i128::from(amounts.pool_nano);
            self.utility_wh.push(utility);
            self.cost_nano.push(cost);
        }
        let pooled_sum: i64 = self.pooled_wh.iter().sum();
        if pooled_sum != 0 || pool_nano != 0 {
            return Err(RunError::Sum(interval));
        }
        Ok(settled)
    }

    /// Divides the community's bill by a sharing rule: inside the community energy costs what the rule says
    /// between feed-in and retail less network fee, and everybody pays the network for what was taken.
    pub(super) fn share(
        &mut self,
        flows: &Flows<'_>,
        rule: SharingRule,
        prices: &Prices,
        traders: &[Trader],
    ) -> Result<Settled, RunError> {
        let interval = flows.interval;
        let too_large = |_: MoneyError| RunError::overflow(interval);
        let member = |(net, trader): (&i64, &Trader)| Member {
            taken: Energy::from_wh((*net).max(0)),
            given: Energy::from_wh((-*net).max(0)),
            key: key_of(trader),
        };
        let members: Vec<Member> = flows.net_wh.iter().zip(traders).map(member).collect();
        let room = prices.retail.checked_sub(prices.network_fee);
        let room = room.ok_or_else(|| RunError::overflow(interval))?;
        // Where the utility gives more than it takes there is nothing to share: all pay as if alone.
        let inside = room.max(prices.feed_in);
        let shares = share(rule, &members, inside, prices.feed_in, &salt(interval))
            .map_err(|e| RunError::bad(format!("{interval}: {e}")))?;
        let mut settled = Settled::default();
        self.cost_nano.clear();
        self.pooled_wh.clear();
        self.utility_wh.clear();
        for (member, bill) in members.iter().zip(&shares.bills) {
            let own = prices
                .retail
                .checked_sub(inside)
                .unwrap_or(prices.network_fee);
            let fee = own.amount(member.taken).map_err(too_large)?.nano();
            let cost = bill
                .nano()
                .checked_add(fee)
                .ok_or_else(|| RunError::overflow(interval))?;
            settled.homes_nano += i128::from(cost);
            settled.network_nano += i128::from(fee);
            self.cost_nano.push(cost);
            self.pooled_wh.push(0);
            self.utility_wh.push(0);
        }
        let sum: i64 = flows.net_wh.iter().sum();
        (settled.supplied_wh, settled.taken_wh) = (sum.max(0), (-sum).max(0));
        settled.pooled_wh = shares.shared.wh();
        // The utility's own price has the network in it, as everywhere else.
        let own = prices
            .retail
            .checked_sub(inside)
            .unwrap_or(prices.network_fee);
        let through = own
            .amount(Energy::from_wh(settled.supplied_wh))
            .map_err(too_large)?;
        settled.network_nano -= i128::from(through.nano());
        settled.utility_nano = i128::from(shares.utility.nano()) + i128::from(through.nano());
        Ok(settled)
    }
}

fn key_of(trader: &Trader) -> [u8; 16] {
    let mut key = [0; 16];
    let digest = domain::ids::digest_parts("simulator member", &[trader.id.as_str().as_bytes()]);
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::market::MindStreams;
    use crate::run::scenario::Strategy;
    use domain::ids::ParticipantId;
    use domain::money::Price;

    fn prices() -> Prices {
        let price = |text: &str| text.parse().unwrap();
        settlement::tariff::Tariff::new(price("0.32"), price("0.08"), price("0.07"))
            .unwrap()
            .prices(None)
    }

    fn traders() -> Vec<Trader> {
        let streams = MindStreams::new(1);
        let trader = |name: &str| {
            let id = ParticipantId::new(name).unwrap();
            Trader::new(id, Strategy::Truthful, 1, &streams).unwrap()
        };
        ["a", "b", "c"].map(trader).into_iter().collect()
    }

    fn flows<'a>(net_wh: &'a [i64], traded_wh: &'a [i64], traded_nano: &'a [i64]) -> Flows<'a> {
        Flows {
            interval: Interval::new(900, 900).unwrap(),
            net_wh,
            traded_wh,
            traded_nano,
        }
    }

    #[test]
    fn trades_deviations_and_fees_by_hand() {
        // a draws 1000 of which 600 are bought at 0.15 from b, who gives 900; c gives 50.
        let mut settling = Settling::default();
        let settled = settling
            .settle(
                &flows(
                    &[1000, -900, -50],
                    &[-600, 600, 0],
                    &[-90_000_000, 90_000_000, 0],
                ),
                &prices(),
                &traders(),
            )
            .unwrap();
        // a lacks 400: 350 from neighbours at 0.165 and the fee, 50 from the utility; b and c have 300 and 50 over.
        let a = 90_000_000 + 600 * 70_000 + 350 * (165_000 + 70_000) + 50 * 320_000;
        let (b, c) = (-90_000_000 - 300 * 165_000, -50 * 165_000);
        assert_eq!(settling.cost_nano, [a, b, c]);
        assert_eq!(settled.network_nano, 950 * 70_000);
        assert_eq!(settled.utility_nano, 50 * 320_000);
        assert_eq!(
            settled.homes_nano,
            settled.network_nano + settled.utility_nano
        );
        assert_eq!(
            (settled.pooled_wh, settled.supplied_wh, settled.taken_wh),
            (350, 50, 0)
        );
    }

    #[test]
    fn a_sharing_rule_costs_the_community_what_netting_does() {
        let nets: [[i64; 3]; 3] = [[1000, -400, -100], [300, -900, -50], [500, 200, 0]];
        for net in nets {
            let none = [0; 3];
            let mut settling = Settling::default();
            let netting = settling
                .settle(&flows(&net, &none, &none), &prices(), &traders())
                .unwrap();
            for rule in SharingRule::ALL {
                let shared =
                    settling.share(&flows(&net, &none, &none), rule, &prices(), &traders());
                let shared = shared.unwrap();
                assert_eq!(shared.homes_nano, netting.homes_nano, "{rule:?} {net:?}");
                assert_eq!(shared.utility_nano, netting.utility_nano);
                assert_eq!(shared.network_nano, netting.network_nano);
            }
        }
        assert_eq!(prices().pool, Price::from_micro_per_kwh(165_000));
    }
}
