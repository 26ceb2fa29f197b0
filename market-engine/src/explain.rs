//! Why each order was or was not filled, and at which limit it would have been: a closed list of
//! reasons, each with a sentence.

use std::fmt;

use domain::money::Price;
use domain::order::Side;

mod view;

use crate::book::{Book, Entry, slot};
use crate::clear::Ties;
use view::{OwnSpare, SideView};

/// Why an order was filled as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// All of it.
    Filled,
    /// At the margin: what was left did not suffice.
    FilledInPart {
        /// Energy filled.
        filled_wh: i64,
        /// Energy ordered.
        energy_wh: i64,
        /// Several orders of this limit shared what was left, in proportion.
        shared: bool,
    },
    /// At the margin, and nothing was left for it.
    MarginUsedUp,
    /// Its limit was on the wrong side of the price.
    BeyondPrice {
        /// Which side the order is on.
        side: Side,
        /// The price.
        price: Price,
        /// From this limit on it would have been filled, at least in part; absent where not certain.
        needed: Option<Price>,
    },
    /// Its limit allowed the price, or there is no one price, but better orders took all there was.
    Outbid {
        /// Which side the order is on.
        side: Side,
        /// As in `BeyondPrice`.
        needed: Option<Price>,
    },
    /// Others were there, but none (or none any more) whose limit met its own.
    NoneInReach {
        /// Which side the order is on.
        side: Side,
        /// Energy filled before.
        filled_wh: i64,
        /// There was one in reach, but it was served to others or kept by its participant.
        gone: bool,
        /// Best limit left on the other side, of somebody else.
        best: Option<Price>,
        /// As in `BeyondPrice`, where orders met as they came.
        needed: Option<Price>,
    },
    /// Nobody was on the other side.
    NobodyOpposite {
        /// But the participant itself.
        own: bool,
    },
    /// The lots of the other half of the market give no price (`muda`).
    NoPostedPrice,
    /// It takes the posted price, but lots put others first (`muda`).
    NotDrawn {
        /// The posted price.
        price: Price,
    },
    /// It takes the posted price, but nobody on the other side of its half does (`muda`).
    NobodyTakesPrice {
        /// Which side the order is on.
        side: Side,
        /// The posted price.
        price: Price,
    },
    /// Nothing traded, as all dropped out with the price-setting pair (`trade-reduction`).
    AllDropped,
    /// Some of it could only have been traded with the participant's own orders.
    OwnCounterpart {
        /// Energy filled.
        filled_wh: i64,
        /// Energy that was left out, or that found only own orders.
        own_wh: i64,
    },
    /// It set the price and dropped out for it (`trade-reduction`).
    DroppedForPrice,
    /// The other side was shortened when the price-setting pair dropped out (`trade-reduction`).
    CutByReduction {
        /// Energy filled.
        filled_wh: i64,
        /// Energy ordered.
        energy_wh: i64,
    },
    /// Some or all of it found a counterpart only by the premium that a bid pays for green energy.
    ServedForGreen {
        /// Energy filled.
        filled_wh: i64,
        /// Energy ordered.
        energy_wh: i64,
        /// The part of it that the premium brought.
        green_wh: i64,
        /// At which price.
        price: Price,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Filled => f.write_str("filled"),
            Reason::FilledInPart {
                filled_wh,
                energy_wh,
                shared,
            } => {
                part(f, *filled_wh, *energy_wh)?;
                if *shared {
                    return f.write_str(": orders at its limit shared what was left");
                }
                write!(f, ": the last order served; only {filled_wh} Wh were left")
            }
            Reason::MarginUsedUp => {
                f.write_str("not filled: other orders at the same limit used up what was left")
            }
            Reason::BeyondPrice {
                side,
                price,
                needed,
            } => {
                write!(f, "not filled: limit {} the price {price}", beyond(*side))?;
                write_needed(f, *side, *needed)
            }
            Reason::Outbid { side, needed } => {
                write!(f, "not filled: better {}s took all there was", side.word())?;
                write_needed(f, *side, *needed)
            }
            Reason::NoneInReach {
                side,
                filled_wh,
                gone,
                best,
                needed,
            } => {
                write_reach(f, *side, *filled_wh, *gone, *best)?;
                write_needed(f, *side, *needed)
            }
            Reason::NobodyOpposite { own } => {
                let other = if *own { " else" } else { "" };
                write!(f, "not filled: nobody{other} on the other side")
            }
            Reason::NoPostedPrice | Reason::NotDrawn { .. } | Reason::NobodyTakesPrice { .. } => {
                self.write_of_halves(f)
            }
            Reason::AllDropped => f.write_str(
                "not filled: nothing traded, all dropped out with the price-setting pair",
            ),
            Reason::OwnCounterpart { filled_wh, own_wh } => {
                f.write_str(if *filled_wh > 0 {
                    "filled in part"
                } else {
                    "not filled"
                })?;
                write!(
                    f,
                    ": {own_wh} Wh stood only against the participant's own orders"
                )
            }
            Reason::DroppedForPrice => {
                f.write_str("not filled: it set the price and so dropped out of the trade")
            }
            Reason::CutByReduction { .. } | Reason::ServedForGreen { .. } => {
                self.write_cut_or_green(f)
            }
        }
    }
}

impl Reason {
    /// The limit from which on an order would have been filled, at least in part, where the reason tells it.
    #[must_use]
    pub const fn needed(&self) -> Option<Price> {
        match self {
            Reason::BeyondPrice { needed, .. }
            | Reason::Outbid { needed, .. }
            | Reason::NoneInReach { needed, .. } => *needed,
            _ => None,
        }
    }

    /// The reasons of `trade-reduction` and of a green premium that come with a part.
    fn write_cut_or_green(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::ServedForGreen {
                filled_wh,
                energy_wh,
                green_wh,
                price,
            } => {
                if filled_wh == energy_wh {
                    f.write_str("filled")?;
                } else {
                    part(f, filled_wh, energy_wh)?;
                }
                write!(
                    f,
                    ": {green_wh} Wh at {price}, for a premium on green energy"
                )
            }
            Reason::CutByReduction {
                filled_wh,
                energy_wh,
            } => {
                part(f, filled_wh, energy_wh)?;
                f.write_str(": the other side was shortened by the pair that dropped out")
            }
            _ => Ok(()),
        }
    }

    /// The reasons of a market in two halves (`muda`).
    fn write_of_halves(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not filled: ")?;
        match self {
            Reason::NotDrawn { price } => {
                write!(
                    f,
                    "it takes the posted price {price}, but by lot others came first"
                )
            }
            Reason::NobodyTakesPrice { side, price } => write!(
                f,
                "no {} in its half of the market takes the posted price {price}",
                side.opposite().word()
            ),
            _ => f.write_str("the other half of the market gives no price"),
        }
    }
}

fn write_reach(
    f: &mut fmt::Formatter<'_>,
    side: Side,
    filled_wh: i64,
    gone: bool,
    best: Option<Price>,
) -> fmt::Result {
    let (other, reach) = match side {
        Side::Bid => ("offer", "at or below"),
        Side::Offer => ("bid", "at or above"),
    };
    let more = if filled_wh > 0 {
        "filled in part: no more"
    } else {
        "not filled: no"
    };
    write!(f, "{more} {other} of somebody else {reach} its limit")?;
    if gone {
        f.write_str(" was left")?;
    }
    best.map_or(Ok(()), |price| write!(f, "; the best left was {price}"))
}

/// `filled in part, 612 of 1000 Wh (61.2 %)` or `not filled`.
fn part(f: &mut fmt::Formatter<'_>, filled_wh: i64, energy_wh: i64) -> fmt::Result {
    if filled_wh == 0 {
        return f.write_str("not filled");
    }
    let per_mille = i128::from(filled_wh) * 1000 / i128::from(energy_wh.max(1));
    let (percent, tenth) = (per_mille / 10, per_mille % 10);
    write!(
        f,
        "filled in part, {filled_wh} of {energy_wh} Wh ({percent}.{tenth} %)"
    )
}

const fn beyond(side: Side) -> &'static str {
    match side {
        Side::Bid => "below",
        Side::Offer => "above",
    }
}

fn write_needed(f: &mut fmt::Formatter<'_>, side: Side, needed: Option<Price>) -> fmt::Result {
    match needed {
        Some(limit) => f.write_str(&needed_words(side, limit)),
        None => Ok(()),
    }
}

/// The end of a reason that says from which limit on the order would have been filled.
pub(crate) fn needed_words(side: Side, limit: Price) -> String {
    let way = if side == Side::Bid { "more" } else { "less" };
    format!("; at {limit} or {way} it would have been, at least in part")
}

/// What an explanation has to know about the mechanism.
pub(crate) struct Setting {
    price: Option<Price>,
    /// All orders meet at one moment, so that better limits come first.
    one_moment: bool,
    /// A limit from which on an order is filled can be told.
    tells_needed: bool,
    /// Orders at the margin share in proportion.
    pro_rata: bool,
    reduction: Option<Reduction>,
    /// Of each order, the limit from which on it is filled, where the mechanism found it out.
    needed: Vec<Option<Price>>,
}

/// What `trade-reduction` did to a book.
pub(crate) struct Reduction {
    /// The pair that dropped out.
    pub(crate) dropped: [u32; 2],
    /// The orders before it, which would all have traded.
    pub(crate) kept: std::collections::BTreeSet<u32>,
}

impl Setting {
    pub(crate) fn one_moment(price: Option<Price>, ties: Ties) -> Self {
        Setting {
            price,
            one_moment: true,
            tells_needed: true,
            pro_rata: ties == Ties::ProRata,
            reduction: None,
            needed: Vec::new(),
        }
    }

    pub(crate) fn reduced(price: Option<Price>, ties: Ties, reduction: Option<Reduction>) -> Self {
        Setting {
            tells_needed: false,
            reduction,
            ..Setting::one_moment(price, ties)
        }
    }

    pub(crate) const fn over_time(needed: Vec<Option<Price>>) -> Self {
        Setting {
            price: None,
            one_moment: false,
            tells_needed: false,
            pro_rata: false,
            reduction: None,
            needed,
        }
    }
}

struct Cleared<'b> {
    bids: SideView,
    offers: SideView,
    /// Of each participant, whether it has bids and whether it has offers.
    sides: &'b [[bool; 2]],
    own: OwnSpare,
    setting: Setting,
}

/// A reason for each order, in the book's order.
pub(crate) fn explain(
    book: &Book,
    filled: &[i64],
    left_out: &[i64],
    setting: Setting,
) -> Vec<Reason> {
    let [bids, offers] = SideView::both(book, filled, left_out);
    let sides = book.sides();
    let cleared = Cleared {
        own: OwnSpare::of(book, filled, sides),
        bids,
        offers,
        sides,
        setting,
    };
    (0_u32..)
        .zip(book.entries())
        .map(|(index, entry)| {
            cleared.reason(index, entry, filled[slot(index)], left_out[slot(index)])
        })
        .collect()
}

impl Cleared<'_> {
    fn reason(&self, index: u32, entry: &Entry, filled_wh: i64, left_out_wh: i64) -> Reason {
        let (side, energy_wh, participant) = (entry.side, entry.energy_wh, entry.participant);
        let (own, other) = match side {
            Side::Bid => (&self.bids, &self.offers),
            Side::Offer => (&self.offers, &self.bids),
        };
        if filled_wh == energy_wh {
            return Reason::Filled;
        }
        let alone = !other.has_other_than(participant);
        let was_left_out = left_out_wh > 0;
        if was_left_out || alone {
            let kept_wh = if was_left_out {
                energy_wh - left_out_wh
            } else {
                filled_wh
            };
            let own_wh = self.own.in_reach_wh(entry).min(energy_wh - kept_wh);
            if own_wh > 0 {
                return Reason::OwnCounterpart { filled_wh, own_wh };
            }
        }
        if alone {
            let own = other.best.both()[0].is_some();
            return Reason::NobodyOpposite { own };
        }
        if let Some(reason) = self.reduced(index, entry, filled_wh) {
            return reason;
        }
        let nothing_traded = own.last_accepted.is_none();
        if nothing_traded && self.setting.reduction.is_some() {
            return Reason::AllDropped;
        }
        if was_left_out || !self.setting.one_moment || nothing_traded {
            let gone = other
                .best
                .but(participant)
                .is_some_and(|limit| !is_beyond(side, entry.limit, limit));
            let best = other.unserved.but(participant);
            return Reason::NoneInReach {
                side,
                filled_wh,
                gone,
                best,
                needed: self.setting.needed.get(slot(index)).copied().flatten(),
            };
        }
        if filled_wh > 0 {
            return Reason::FilledInPart {
                filled_wh,
                energy_wh,
                shared: self.setting.pro_rata && own.margin.orders > 1,
            };
        }
        if own.last_accepted == Some(entry.limit) {
            return Reason::MarginUsedUp;
        }
        let needed = self.needed(entry);
        match self.setting.price {
            Some(price) if is_beyond(side, entry.limit, price) => Reason::BeyondPrice {
                side,
                price,
                needed,
            },
            _ => Reason::Outbid { side, needed },
        }
    }

    fn reduced(&self, index: u32, entry: &Entry, filled_wh: i64) -> Option<Reason> {
        let reduction = self.setting.reduction.as_ref()?;
        if reduction.dropped.contains(&index) {
            return Some(Reason::DroppedForPrice);
        }
        let cut = Reason::CutByReduction {
            filled_wh,
            energy_wh: entry.energy_wh,
        };
        reduction.kept.contains(&index).then_some(cut)
    }

    /// The limit from which on an order would have been filled in part at least: that of the worst
    /// accepted order if it is sure of a share there, else one tick better, or what somebody on the
    /// other side was still waiting for. Not certain for a participant with orders on both sides.
    fn needed(&self, entry: &Entry) -> Option<Price> {
        if !self.setting.tells_needed || self.sides[slot(entry.participant)] == [true; 2] {
            return None;
        }
        let (own, other, tick) = match entry.side {
            Side::Bid => (&self.bids, &self.offers, 1),
            Side::Offer => (&self.offers, &self.bids, -1),
        };
        let last = own.last_accepted?;
        let at_margin = if self.setting.pro_rata && own.margin.has_share_for(entry.energy_wh) {
            Some(last)
        } else {
            last.checked_add(Price::from_micro_per_kwh(tick))
        };
        let waiting = other.unserved.but(entry.participant);
        let all = at_margin.into_iter().chain(waiting);
        match entry.side {
            Side::Bid => all.min(),
            Side::Offer => all.max(),
        }
    }
}

/// Whether a limit does not reach a price, or the limit of an order on the other side.
fn is_beyond(side: Side, limit: Price, price: Price) -> bool {
    match side {
        Side::Bid => limit < price,
        Side::Offer => limit > price,
    }
}
