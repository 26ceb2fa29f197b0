//! A battery with thresholds: it buys to charge where energy is cheap and sells from the battery where it is dear, beside the
//! days it has seen. What is cheap and dear follows the published local prices.

use domain::money::Price;

use super::{BatteryPlan, Decision, Fate, Own, Public, Wish, honest_limit, side};

/// How quickly the mean price follows: one day of quarter hours.
const FOLLOW: f64 = 1.0 / 96.0;
/// Cheap is this share of the way from the mean to what the utility pays, dear the same towards what it takes.
const APART: f64 = 0.3;

/// What it remembers: the mean local price, in micro-token per kWh.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Threshold {
    mean: Option<f64>,
    last: Option<f64>,
}

impl Threshold {
    /// What it does in an interval. It takes the last published price for the coming one, because local prices of
    /// neighbouring intervals are close.
    #[must_use]
    pub fn decide(&self, public: &Public<'_>, own: &Own<'_>) -> Decision {
        let battery = own.battery.unwrap_or_default();
        let (low, high) = (micro(public.utility_pays), micro(public.utility_takes));
        let (cheap, dear) = match (self.mean, self.last) {
            (Some(mean), Some(last)) => {
                let cheap = mean - APART * (mean - low).max(0.0);
                let dear = mean + APART * (high - mean).max(0.0);
                (last < cheap, last > dear)
            }
            _ => (false, false),
        };
        let planned_wh = if cheap {
            battery.room_wh
        } else if dear {
            -battery.ready_wh
        } else {
            let net_wh = own.following_wh();
            return Decision {
                wish: Wish::of(net_wh, honest_limit(side(net_wh), public)),
                battery: BatteryPlan::Follow,
            };
        };
        let net_wh = own.expected_wh + planned_wh;
        Decision {
            wish: Wish::of(net_wh, honest_limit(side(net_wh), public)),
            battery: BatteryPlan::Fixed(planned_wh),
        }
    }

    /// Follows the published prices.
    pub fn learn(&mut self, fate: &Fate) {
        let Some(price) = fate.price.map(micro) else {
            return;
        };
        self.last = Some(price);
        self.mean = Some(match self.mean {
            Some(mean) => mean + FOLLOW * (price - mean),
            None => price,
        });
    }
}

fn micro(price: Price) -> f64 {
    price.micro_per_kwh() as f64
}
