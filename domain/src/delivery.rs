//! A delivery: what a participant had traded for an interval beside what really flowed.

use minicbor::{Decode, Encode};

use crate::energy::Energy;
use crate::ids::{Digest32, ParticipantId, PointId};
use crate::quality::Quality;
use crate::time::Interval;

/// Traded and metered energy of one participant and interval.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Delivery {
    /// When.
    #[n(1)]
    pub interval: Interval,
    /// Who.
    #[n(2)]
    pub participant: ParticipantId,
    /// Where it was metered.
    #[n(3)]
    pub point: PointId,
    /// Metered import.
    #[n(4)]
    pub imported: Energy,
    /// Metered export.
    #[n(5)]
    pub exported: Energy,
    /// Bought in the auction.
    #[n(6)]
    pub bought: Energy,
    /// Sold in the auction.
    #[n(7)]
    pub sold: Energy,
    /// How the metered values came to be.
    #[n(8)]
    pub quality: Quality,
    /// SHA-256 of the signed reading; absent where the value is a substitute.
    #[n(9)]
    pub reading: Option<Digest32>,
}

impl Delivery {
    /// Net export minus net sale: above zero, the participant has energy over; below, it lacks some.
    /// `None` where the numbers do not fit 64 bits.
    #[must_use]
    pub fn deviation(&self) -> Option<Energy> {
        let flowed = self.exported.checked_sub(self.imported)?;
        let traded = self.sold.checked_sub(self.bought)?;
        flowed.checked_sub(traded)
    }
}
