//! Network fees by distance: what the network earns on a kWh, by the zones it comes from and goes to.
//!
//! A zone is a part of the network that its operator names, a feeder say. Whoever needs a fee looks it up
//! here: the market for each trade, the ledger for what a bid may cost at most.

use std::collections::BTreeSet;

use crate::money::Price;

/// Most zones of a community.
pub const ZONES_MAX: usize = 64;

/// Longest name of a zone in bytes.
pub const ZONE_NAME_MAX_BYTES: usize = 64;

/// A fee for each pair of zones; from one to another it may differ from the way back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeeMatrix {
    zones: Vec<String>,
    /// Row by row: from the first zone to each, from the second to each, …
    fees: Vec<Price>,
}

/// Why a matrix was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FeeError {
    /// No zone, or too many.
    #[error("there are {0} zones: a matrix has 1 to {ZONES_MAX}")]
    Zones(usize),
    /// A name that is empty, too long, or there twice.
    #[error("zone `{0}`: a name has 1 to {ZONE_NAME_MAX_BYTES} bytes and is there once")]
    Name(String),
    /// Not a row for each zone.
    #[error(
        "there are {rows} rows of fees for {zones} zones: write one row for each, in their order"
    )]
    Rows {
        /// Rows found.
        rows: usize,
        /// Zones named.
        zones: usize,
    },
    /// A row without a fee for each zone.
    #[error(
        "the row of zone `{zone}` has {fees} fees for {zones} zones: write one for each, in their order"
    )]
    Row {
        /// Whose row.
        zone: String,
        /// Fees found.
        fees: usize,
        /// Zones named.
        zones: usize,
    },
    /// A fee below zero.
    #[error("the fee from `{from}` to `{to}` is {fee}, which is below zero")]
    Negative {
        /// Zone of the seller.
        from: String,
        /// Zone of the buyer.
        to: String,
        /// The fee.
        fee: Price,
    },
}

impl FeeMatrix {
    /// A matrix from its zones and, for each zone that energy comes from, the fees to every zone.
    ///
    /// # Errors
    /// Says which zone or fee is at fault.
    pub fn new(zones: Vec<String>, rows: &[Vec<Price>]) -> Result<Self, FeeError> {
        let count = zones.len();
        if !(1..=ZONES_MAX).contains(&count) {
            return Err(FeeError::Zones(count));
        }
        let mut seen = BTreeSet::new();
        for name in &zones {
            let fits = (1..=ZONE_NAME_MAX_BYTES).contains(&name.len());
            if !fits || !seen.insert(name) {
                return Err(FeeError::Name(name.clone()));
            }
        }
        if rows.len() != count {
            return Err(FeeError::Rows {
                rows: rows.len(),
                zones: count,
            });
        }
        for (zone, row) in zones.iter().zip(rows) {
            if row.len() != count {
                return Err(FeeError::Row {
                    zone: zone.clone(),
                    fees: row.len(),
                    zones: count,
                });
            }
            if let Some((to, fee)) = zones.iter().zip(row).find(|(_, f)| **f < Price::ZERO) {
                return Err(FeeError::Negative {
                    from: zone.clone(),
                    to: to.clone(),
                    fee: *fee,
                });
            }
        }
        Ok(FeeMatrix {
            zones,
            fees: rows.concat(),
        })
    }

    /// The zones, in the order of the matrix.
    #[must_use]
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// The number of a zone.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<usize> {
        self.zones.iter().position(|zone| zone == name)
    }

    /// The fee on a kWh from one zone to another; `None` for a number that is no zone.
    #[must_use]
    pub fn fee(&self, from: usize, to: usize) -> Option<Price> {
        let count = self.zones.len();
        let inside = from < count && to < count;
        inside.then(|| self.fees.get(from * count + to).copied())?
    }

    /// The largest fee of all.
    #[must_use]
    pub fn largest(&self) -> Price {
        self.fees.iter().copied().max().unwrap_or_default()
    }

    /// The fees, a row for each zone that energy comes from.
    pub fn rows(&self) -> impl Iterator<Item = &[Price]> {
        self.fees.chunks(self.zones.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(zones: &[&str], rows: &[&[i64]]) -> Result<FeeMatrix, FeeError> {
        let price = |micro: &i64| Price::from_micro_per_kwh(*micro);
        let rows: Vec<Vec<Price>> = rows.iter().map(|r| r.iter().map(price).collect()).collect();
        FeeMatrix::new(zones.iter().map(|z| (*z).to_owned()).collect(), &rows)
    }

    #[test]
    fn a_fee_goes_from_the_row_to_the_column() {
        let fees = matrix(&["north", "south"], &[&[1, 2], &[3, 4]]).unwrap();
        let (north, south) = (fees.zone("north").unwrap(), fees.zone("south").unwrap());
        let micro = |from, to| fees.fee(from, to).map(Price::micro_per_kwh);
        assert_eq!(micro(north, south), Some(2));
        assert_eq!(micro(south, north), Some(3));
        assert_eq!((micro(0, 2), micro(2, 0)), (None, None));
        assert_eq!(fees.largest().micro_per_kwh(), 4);
        assert_eq!(fees.zone("west"), None);
    }

    #[test]
    fn a_matrix_that_does_not_fit_is_refused_with_its_place() {
        for (zones, rows, expect) in [
            (&[][..], &[][..], "0 zones"),
            (&["a", "a"], &[&[1, 1][..], &[1, 1]], "zone `a`"),
            (&[""], &[&[1][..]], "zone ``"),
            (&["a", "b"], &[&[1, 1][..]], "1 rows of fees for 2 zones"),
            (
                &["a", "b"],
                &[&[1, 1][..], &[1]],
                "row of zone `b` has 1 fees",
            ),
            (&["a"], &[&[-1][..]], "from `a` to `a` is -0.000001"),
        ] {
            let error = matrix(zones, rows).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
