//! How far a value can be trusted; it travels with the value to the page.

use std::fmt;

/// What is known about how a reading's energy came to be. A set of marks; none set is not allowed on
/// a reading: it says at least how it was obtained.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Quality(u16);

impl Quality {
    /// Both register ends come from the meter's own counter.
    pub const MEASURED: Quality = Quality(1);
    /// An edge was interpolated between two time-stamped samples.
    pub const INTERPOLATED_EDGE: Quality = Quality(1 << 1);
    /// The value was estimated from other values.
    pub const ESTIMATED: Quality = Quality(1 << 2);
    /// The value was put in for a missing one.
    pub const SUBSTITUTED: Quality = Quality(1 << 3);
    /// Samples were missing inside the interval for longer than the polling plan allows.
    pub const GAP: Quality = Quality(1 << 4);
    /// The source had not been fresh at an edge.
    pub const STALE: Quality = Quality(1 << 5);
    /// The counter was reset in the interval.
    pub const RESET: Quality = Quality(1 << 6);
    /// The counter rolled over in the interval.
    pub const ROLL_OVER: Quality = Quality(1 << 7);
    /// A value outside the device's range was seen and left out.
    pub const OUT_OF_RANGE: Quality = Quality(1 << 8);
    /// A person entered the value.
    pub const MANUAL: Quality = Quality(1 << 9);
    /// The gateway's clock was set, forwards or backwards, in the interval.
    pub const CLOCK_STEP: Quality = Quality(1 << 10);

    const NAMES: [(Quality, &'static str); 11] = [
        (Quality::MEASURED, "measured"),
        (Quality::INTERPOLATED_EDGE, "interpolated_edge"),
        (Quality::ESTIMATED, "estimated"),
        (Quality::SUBSTITUTED, "substituted"),
        (Quality::GAP, "gap"),
        (Quality::STALE, "stale"),
        (Quality::RESET, "reset"),
        (Quality::ROLL_OVER, "roll_over"),
        (Quality::OUT_OF_RANGE, "out_of_range"),
        (Quality::MANUAL, "manual"),
        (Quality::CLOCK_STEP, "clock_step"),
    ];

    /// Marks from their bits; `None` where an unknown bit is set.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits < 1 << 11 {
            Some(Quality(bits))
        } else {
            None
        }
    }

    /// The bits, as they are signed.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// These marks and those of `other`.
    #[must_use]
    pub const fn with(self, other: Quality) -> Self {
        Quality(self.0 | other.0)
    }

    /// Whether every mark of `other` is set here.
    #[must_use]
    pub const fn has(self, other: Quality) -> bool {
        self.0 & other.0 == other.0
    }

    /// The one word a page shows.
    #[must_use]
    pub const fn word(self) -> &'static str {
        let doubtful = Quality::ESTIMATED.0 | Quality::SUBSTITUTED.0 | Quality::GAP.0;
        if self.0 == 0 {
            "missing"
        } else if self.0 & doubtful != 0 {
            "estimated"
        } else {
            "measured"
        }
    }
}

impl fmt::Display for Quality {
    /// The marks by name, joined by `+`; `missing` where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("missing");
        }
        let set = Quality::NAMES.iter().filter(|(mark, _)| self.has(*mark));
        for (index, (_, name)) in set.enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

impl<C> minicbor::Encode<C> for Quality {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Quality {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Quality::from_bits(d.u16()?)
            .ok_or_else(|| minicbor::decode::Error::message("unknown quality bit"))
    }
}

impl fmt::Debug for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quality({self})")
    }
}
