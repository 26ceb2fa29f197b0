//! What every mechanism is to the rest: a name, a price policy, a rule for ties, what it does with the
//! money, and a way to clear a book. A new mechanism is a new file that says these things of itself.

use super::{Budget, Outcome, Ties};
use crate::book::Book;

/// A way to clear a book.
pub trait Auction {
    /// Its name, as commands and the market log write it.
    fn name(&self) -> &'static str;

    /// The name of the rule that sets its prices.
    fn price_policy(&self) -> &'static str;

    /// The price policy with what it needs to be repeated.
    fn price_details(&self) -> String {
        self.price_policy().to_owned()
    }

    /// Who is served first among equals.
    fn ties(&self) -> Ties;

    /// What it does with the money between buyers and sellers.
    fn budget(&self) -> Budget {
        Budget::Balanced
    }

    /// Whether no order is served while a better one of its side is not.
    fn keeps_merit_order(&self) -> bool {
        true
    }

    /// Most orders that a book may have for it.
    fn orders_max(&self) -> usize {
        crate::book::ORDERS_MAX
    }

    /// Clears a book.
    fn clear(&self, book: &Book) -> Outcome;
}
