//! What a battery has to do for what its standing orders have traded: the power that brings the energy in the
//! interval.

use domain::energy::Energy;
use domain::ids::ParticipantId;
use domain::order::Side;
use domain::standing_order::Battery;
use domain::time::Interval;

const HOUR_S: i128 = 3_600;

/// What one of a participant's standing orders for a battery has traded in an interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traded {
    /// Whose battery.
    pub participant: ParticipantId,
    /// When.
    pub interval: Interval,
    /// Bought or sold.
    pub side: Side,
    /// How much.
    pub energy: Energy,
    /// What the standing order said.
    pub battery: Battery,
}

impl Traded {
    /// What it has sold; what it has bought counts below zero.
    #[must_use]
    pub fn sold_wh(&self) -> i64 {
        match self.side {
            Side::Offer => self.energy.wh(),
            Side::Bid => self.energy.wh().saturating_neg(),
        }
    }
}

/// How a home stands in an interval, its battery left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Home {
    /// What all its orders have sold less what they have bought.
    pub sold_wh: i64,
    /// What it needs now beside the battery: above zero more than its panels give, below zero less.
    pub needs_w: i64,
}

/// The power for an interval, in watts, floored towards zero: discharging positive, charging negative, never above what
/// the orders allow. Where it is known how the home stands, its meter comes to what all its orders have traded, as its
/// battery covers its need at other times too; otherwise the battery gives what was traded for it. `None` where
/// nothing was.
#[must_use]
pub fn power_w(traded: &[Traded], home: Option<Home>, length_s: u32) -> Option<i64> {
    let sold_wh: i128 = traded.iter().map(|one| i128::from(one.sold_wh())).sum();
    if sold_wh == 0 || length_s == 0 {
        return None;
    }
    let mean_w = |wh: i128| wh * HOUR_S / i128::from(length_s);
    let wanted_w = match home {
        Some(home) => mean_w(home.sold_wh.into()) + i128::from(home.needs_w),
        None => mean_w(sold_wh),
    };
    let most = |of: fn(&Battery) -> u32| -> i128 {
        let each = traded.iter().map(|one| i128::from(of(&one.battery)));
        each.sum()
    };
    let power_w = wanted_w.clamp(-most(|b| b.charge_max_w), most(|b| b.discharge_max_w));
    i64::try_from(power_w).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::money::Price;
    use domain::time::Timestamp;

    fn traded(side: Side, wh: i64) -> Traded {
        Traded {
            participant: ParticipantId::new("home-1").unwrap(),
            interval: Interval::new(1_782_043_200, 900).unwrap(),
            side,
            energy: Energy::from_wh(wh),
            battery: Battery {
                least: Energy::ZERO,
                most: Energy::from_wh(10_000),
                charge_max_w: 3_000,
                discharge_max_w: 4_000,
                loss_basis_points: 1_000,
                margin: Price::ZERO,
                until: Timestamp::from_unix_s(1_782_043_200),
            },
        }
    }

    #[test]
    fn a_battery_gives_what_was_traded_as_far_as_its_orders_allow() {
        let (sold, bought) = (traded(Side::Offer, 500), traded(Side::Bid, 500));
        let power = |traded: &[&Traded], home: Option<(i64, i64)>| {
            let traded: Vec<Traded> = traded.iter().copied().cloned().collect();
            let home = home.map(|(sold_wh, needs_w)| Home { sold_wh, needs_w });
            power_w(&traded, home, 900)
        };
        assert_eq!(power(&[&sold], None), Some(2_000));
        assert_eq!(power(&[&bought], None), Some(-2_000));
        assert_eq!(power(&[&sold, &sold], None), Some(4_000));
        // The home itself has sold 100 Wh of its panels, which give 400 W more than it needs.
        assert_eq!(power(&[&sold], Some((600, -400))), Some(2_000));
        // An oven goes on.
        assert_eq!(power(&[&sold], Some((600, 1_400))), Some(3_800));
        assert_eq!(power(&[&sold], Some((600, 9_000))), Some(4_000));
        assert_eq!(power(&[&bought], Some((-600, 400))), Some(-2_000));
        assert_eq!(power(&[&bought], Some((-600, -5_000))), Some(-3_000));
        for nothing in [&[][..], &[&sold, &bought]] {
            assert_eq!(power(nothing, Some((0, 500))), None);
        }
    }
}
