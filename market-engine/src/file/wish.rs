//! The columns that say what an order wishes beyond price; none of them has to be there.
//!
//! `partners`: participants, most wanted first, `;` between them · `feeder`: a name · `green`: true for an
//! offer of green energy · `green_premium`: what a bid pays on top at most. An empty cell wishes nothing.

use std::collections::HashMap;
use std::fmt::Write;

use domain::money::Price;
use domain::order::Side;
use serde::Serialize;

use super::money;
use super::read::Field;
use super::{FileError, TEXT_MAX_BYTES};
use crate::preference::{Because, PARTNERS_MAX, Preferred, Wish};

/// The optional columns, in the order of [`RawWish::read`].
pub(super) const COLUMNS: [&str; 4] = ["partners", "feeder", "green", "green_premium"];

pub(super) const PARTNERS: &str =
    "at most 8 participants of 1 to 128 bytes each, `;` between them (in JSON an array of texts)";
pub(super) const FEEDER: &str = "text of 1 to 128 bytes without control characters";
pub(super) const GREEN: &str = "true or false, and true only for an offer";
pub(super) const PREMIUM: &str =
    "a price of zero or more in token/kWh with at most 6 decimals, and above zero only for a bid";

/// An order's wish as it stands in a file.
#[derive(Default)]
pub(super) struct RawWish {
    partners: Vec<String>,
    feeder: Option<String>,
    green: bool,
    green_premium: Price,
}

impl RawWish {
    /// From the four values, in the order of [`COLUMNS`].
    pub(super) fn read(fields: &[Field<'_>; 4], side: Side) -> Result<Self, FileError> {
        let [partners, feeder, green, premium] = fields;
        let named = |text: &str| {
            let fits = (1..=TEXT_MAX_BYTES).contains(&text.len());
            fits && !text.chars().any(char::is_control)
        };
        let list: Vec<String> = match partners.text {
            "" => Vec::new(),
            text => text.split(';').map(|p| p.trim().to_owned()).collect(),
        };
        if list.len() > PARTNERS_MAX || !list.iter().all(|p| named(p)) {
            return Err(partners.wrong(PARTNERS));
        }
        let feeder = match feeder.text {
            "" => None,
            text if named(text) => Some(text.to_owned()),
            _ => return Err(feeder.wrong(FEEDER)),
        };
        let is_green = match green.text {
            "" | "false" => false,
            "true" if side == Side::Offer => true,
            _ => return Err(green.wrong(GREEN)),
        };
        let green_premium = match premium.text {
            "" => Price::ZERO,
            text => text.parse().map_err(|_| premium.wrong(PREMIUM))?,
        };
        let fits = match side {
            Side::Bid => green_premium >= Price::ZERO,
            Side::Offer => green_premium == Price::ZERO,
        };
        if !fits {
            return Err(premium.wrong(PREMIUM));
        }
        Ok(RawWish {
            partners: list,
            feeder,
            green: is_green,
            green_premium,
        })
    }

    /// With participants and feeders by number. Who has no order in the file cannot be a partner.
    pub(super) fn numbered(
        self,
        participants: &HashMap<String, u32>,
        feeders: &mut HashMap<String, u32>,
    ) -> Wish {
        let next = u32::try_from(feeders.len()).unwrap_or(u32::MAX);
        let known = self.partners.iter().filter_map(|p| participants.get(p));
        Wish {
            partners: known.copied().collect(),
            same_feeder: self.feeder.is_some(),
            feeder: self.feeder.map(|f| *feeders.entry(f).or_insert(next)),
            green: self.green,
            green_premium: self.green_premium,
        }
    }
}

/// What the wishes came to, in a result.
#[derive(Serialize)]
pub(super) struct WishLines<'a> {
    partner_wh: i64,
    green_wh: i64,
    feeder_wh: i64,
    more_green_wh: i64,
    green_premium: String,
    premiums_paid: String,
    welfare_cost: String,
    /// Who gains or loses by the wishes, and how much.
    changes: Vec<ChangeLine<'a>>,
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    participant: &'a str,
    change: String,
}

impl<'a> WishLines<'a> {
    pub(super) fn of(preferred: &Preferred, participants: &'a [String]) -> Self {
        let name = |index: u32| participants[crate::book::slot(index)].as_str();
        let cost = &preferred.cost;
        let change = |(participant, change): &(u32, i128)| ChangeLine {
            participant: name(*participant),
            change: money(*change),
        };
        WishLines {
            partner_wh: preferred.energy_wh(Because::Partner),
            green_wh: preferred.energy_wh(Because::Green),
            feeder_wh: preferred.energy_wh(Because::Feeder),
            more_green_wh: preferred.energy_wh(Because::MoreGreen),
            green_premium: preferred.green_premium.to_string(),
            premiums_paid: money(cost.premiums),
            welfare_cost: money(cost.welfare),
            changes: cost.changes.iter().map(change).collect(),
        }
    }

    /// Lines for a summary in plain text.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "wishes     {} Wh to named partners, {} Wh green, {} Wh on the same feeder\n\
             \x20          premium for green energy {} token/kWh, {} token paid in all\n\
             \x20          {} Wh more traded only for a premium; cost in welfare {} token\n",
            self.partner_wh,
            self.green_wh,
            self.feeder_wh,
            self.green_premium,
            self.premiums_paid,
            self.more_green_wh,
            self.welfare_cost
        );
        for line in &self.changes {
            let _ = writeln!(
                text,
                "           {} {} token",
                line.participant, line.change
            );
        }
        text
    }
}
