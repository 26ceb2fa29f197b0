//! Why a standing order has placed an order, in a sentence.

use domain::standing_order::Standing;

use super::{Placement, Progress, Why};

impl Why {
    /// Its word in the store and in the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Why::Cheap => "cheap",
            Why::LastChance => "last-chance",
            Why::BuyLow => "buy-low",
            Why::SellHigh => "sell-high",
        }
    }

    /// The reason of a word; `None` for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Why::Cheap, Why::LastChance, Why::BuyLow, Why::SellHigh];
        all.into_iter().find(|why| why.word() == word)
    }
}

/// One sentence for the people whose order it is.
#[must_use]
pub fn sentence(wish: &Standing, progress: Progress, placed: &Placement) -> String {
    let (wh, limit, there) = (placed.energy.wh(), placed.limit, progress.energy.wh());
    match (wish, placed.why) {
        (Standing::Deadline(deadline), why) => {
            let (wanted, by) = (deadline.energy.wh(), deadline.by);
            let because = match why {
                Why::LastChance if deadline.must => {
                    "no later interval could bring it in time, so it may cost what the utility asks"
                }
                Why::LastChance => "no later interval could bring it in time",
                _ => "it is among the cheapest intervals in which the energy still fits",
            };
            format!(
                "Buys {wh} Wh at {limit} at most: {because}. {there} of {wanted} Wh are there or bought, the rest is due \
                 by {by}."
            )
        }
        (Standing::Battery(_), Why::SellHigh) => {
            let cost = progress.cost;
            format!(
                "Sells {wh} Wh at {limit} at least: later it is expected to bring no more. {there} Wh are in the \
                 battery, the dearest of them at {cost} with losses."
            )
        }
        (Standing::Battery(_), _) => format!(
            "Buys {wh} Wh at {limit} at most: it is expected to bring more later. {there} Wh are in the battery."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::money::Price;
    use domain::order::Side;
    use domain::standing_order::Deadline;
    use domain::time::{Interval, Timestamp};

    #[test]
    fn a_sentence_says_how_much_at_what_price_and_why() {
        let wish = Standing::Deadline(Deadline {
            energy: Energy::from_wh(20_000),
            by: Timestamp::from_unix_s(1_782_111_600),
            power_max_w: 11_000,
            limit: Price::from_micro_per_kwh(180_000),
            must: true,
        });
        let progress = Progress {
            energy: Energy::from_wh(5_000),
            cost: Price::ZERO,
        };
        let placed = Placement {
            interval: Interval::new(1_782_043_200, 900).unwrap(),
            side: Side::Bid,
            energy: Energy::from_wh(2_750),
            limit: Price::from_micro_per_kwh(180_000),
            why: Why::Cheap,
        };
        assert_eq!(
            sentence(&wish, progress, &placed),
            "Buys 2750 Wh at 0.180000 at most: it is among the cheapest intervals in which the energy still fits. \
             5000 of 20000 Wh are there or bought, the rest is due by 2026-06-22T07:00:00Z."
        );
    }
}
