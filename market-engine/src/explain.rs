//! Why each order was or was not filled, and at which limit it would have been: a closed list of
//! reasons, each with a sentence.

use std::fmt;

use domain::money::Price;
use domain::order::Side;

use crate::book::{Book, Entry, slot};

/// Why an order was filled as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// All of it.
    Filled,
    /// At the margin: orders of this limit shared what was left.
    FilledInPart {
        /// Energy filled.
        filled_wh: i64,
        /// Energy ordered.
        energy_wh: i64,
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
        /// Best limit left on the other side, of somebody else.
        best: Option<Price>,
    },
    /// Nobody was on the other side.
    NobodyOpposite,
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
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Filled => f.write_str("filled"),
            Reason::FilledInPart {
                filled_wh,
                energy_wh,
            } => {
                part(f, *filled_wh, *energy_wh)?;
                f.write_str(": orders at its limit shared what was left")
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
                best,
            } => write_reach(f, *side, *filled_wh, *best),
            Reason::NobodyOpposite => f.write_str("not filled: nobody on the other side"),
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
            Reason::CutByReduction {
                filled_wh,
                energy_wh,
            } => {
                part(f, *filled_wh, *energy_wh)?;
                f.write_str(": the other side was shortened by the pair that dropped out")
            }
        }
    }
}

fn write_reach(
    f: &mut fmt::Formatter<'_>,
    side: Side,
    filled_wh: i64,
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
    let Some(limit) = needed else { return Ok(()) };
    let way = if side == Side::Bid { "more" } else { "less" };
    write!(
        f,
        "; at {limit} or {way} it would have been, at least in part"
    )
}

/// What an explanation has to know about the mechanism.
pub(crate) struct Setting {
    price: Option<Price>,
    /// All orders meet at one moment, so that better limits come first.
    one_moment: bool,
    /// A limit from which on an order is filled can be told.
    tells_needed: bool,
    reduction: Option<Reduction>,
}

/// What `trade-reduction` did to a book.
pub(crate) struct Reduction {
    /// The pair that dropped out.
    pub(crate) dropped: [u32; 2],
    /// The orders before it, which would all have traded.
    pub(crate) kept: std::collections::BTreeSet<u32>,
}

impl Setting {
    pub(crate) const fn one_moment(price: Option<Price>) -> Self {
        Setting {
            price,
            one_moment: true,
            tells_needed: true,
            reduction: None,
        }
    }

    pub(crate) fn reduced(price: Option<Price>, reduction: Option<Reduction>) -> Self {
        Setting {
            price,
            one_moment: true,
            tells_needed: false,
            reduction,
        }
    }

    pub(crate) const fn over_time() -> Self {
        Setting {
            price: None,
            one_moment: false,
            tells_needed: false,
            reduction: None,
        }
    }
}

/// What is known of one side after the clearing.
#[derive(Clone, Copy, Default)]
struct SideView {
    /// Two different participants on this side, if there are.
    present: [Option<u32>; 2],
    /// Worst limit that was served.
    last_accepted: Option<Price>,
    /// Best limits that were not fully served, of two different participants.
    unserved: [Option<(Price, u32)>; 2],
}

impl SideView {
    fn of(book: &Book, side: Side, filled: &[i64], in_book: &[i64]) -> Self {
        let mut view = SideView::default();
        let better = |a: Price, b: Price| if side == Side::Bid { a > b } else { a < b };
        for ((entry, filled), in_book) in book.entries().iter().zip(filled).zip(in_book) {
            if entry.side != side {
                continue;
            }
            match view.present {
                [None, _] => view.present[0] = Some(entry.participant),
                [Some(p), None] if p != entry.participant => {
                    view.present[1] = Some(entry.participant);
                }
                _ => {}
            }
            if *filled > 0
                && view
                    .last_accepted
                    .is_none_or(|last| better(last, entry.limit))
            {
                view.last_accepted = Some(entry.limit);
            }
            if filled < in_book {
                view.note_unserved(entry, better);
            }
        }
        view
    }

    fn note_unserved(&mut self, entry: &Entry, better: impl Fn(Price, Price) -> bool) {
        let new = (entry.limit, entry.participant);
        match self.unserved {
            [Some((best, p)), _] if p == new.1 => {
                if better(new.0, best) {
                    self.unserved[0] = Some(new);
                }
            }
            [Some((best, _)), second] => {
                if better(new.0, best) {
                    self.unserved = [Some(new), self.unserved[0]];
                } else if second.is_none_or(|(limit, _)| better(new.0, limit)) {
                    self.unserved[1] = Some(new);
                }
            }
            [None, _] => self.unserved[0] = Some(new),
        }
    }

    fn has_other_than(&self, participant: u32) -> bool {
        self.present.iter().flatten().any(|p| *p != participant)
    }

    fn best_unserved_but(&self, participant: u32) -> Option<Price> {
        self.unserved
            .iter()
            .flatten()
            .find(|(_, p)| *p != participant)
            .map(|(limit, _)| *limit)
    }
}

/// A reason for each order, in the book's order. `in_book` is its energy without what was left out.
pub(crate) fn explain(
    book: &Book,
    filled: &[i64],
    in_book: &[i64],
    setting: Setting,
) -> Vec<Reason> {
    let view = |side| SideView::of(book, side, filled, in_book);
    let (bids, offers) = (view(Side::Bid), view(Side::Offer));
    let cleared = Cleared {
        bids,
        offers,
        setting,
    };
    let one = |(index, entry): (u32, &Entry)| {
        cleared.reason(index, entry, filled[slot(index)], in_book[slot(index)])
    };
    (0_u32..).zip(book.entries()).map(one).collect()
}

struct Cleared {
    bids: SideView,
    offers: SideView,
    setting: Setting,
}

impl Cleared {
    fn reason(&self, index: u32, entry: &Entry, filled_wh: i64, in_book_wh: i64) -> Reason {
        let (side, energy_wh, participant) = (entry.side, entry.energy_wh, entry.participant);
        let (own, other) = match side {
            Side::Bid => (&self.bids, &self.offers),
            Side::Offer => (&self.offers, &self.bids),
        };
        if filled_wh == energy_wh {
            return Reason::Filled;
        }
        if in_book_wh < energy_wh {
            return Reason::OwnCounterpart {
                filled_wh,
                own_wh: energy_wh - in_book_wh,
            };
        }
        if let Some(reason) = self.reduced(index, entry, filled_wh) {
            return reason;
        }
        if !other.has_other_than(participant) {
            return match other.present[0] {
                Some(_) => Reason::OwnCounterpart {
                    filled_wh,
                    own_wh: energy_wh,
                },
                None => Reason::NobodyOpposite,
            };
        }
        let nothing_traded = own.last_accepted.is_none() && self.setting.reduction.is_none();
        if !self.setting.one_moment || nothing_traded {
            let best = other.best_unserved_but(participant);
            return Reason::NoneInReach {
                side,
                filled_wh,
                best,
            };
        }
        if filled_wh > 0 {
            return Reason::FilledInPart {
                filled_wh,
                energy_wh,
            };
        }
        if own.last_accepted == Some(entry.limit) {
            return Reason::MarginUsedUp;
        }
        let needed = self.needed(side, participant);
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

    /// The limit from which on an order would have been filled in part at least: one tick better than
    /// the worst accepted order, or what somebody on the other side was still waiting for.
    fn needed(&self, side: Side, participant: u32) -> Option<Price> {
        if !self.setting.tells_needed {
            return None;
        }
        let tick = Price::from_micro_per_kwh(1);
        let (bids, offers) = (&self.bids, &self.offers);
        match side {
            Side::Bid => {
                let above = bids.last_accepted?.checked_add(tick);
                let waiting = offers.best_unserved_but(participant);
                above.into_iter().chain(waiting).min()
            }
            Side::Offer => {
                let below = offers.last_accepted?.checked_sub(tick);
                let waiting = bids.best_unserved_but(participant);
                below.into_iter().chain(waiting).max()
            }
        }
    }
}

fn is_beyond(side: Side, limit: Price, price: Price) -> bool {
    match side {
        Side::Bid => limit < price,
        Side::Offer => limit > price,
    }
}
