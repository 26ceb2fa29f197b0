//! Writing a cleared file as JSON, CSV or a table for terminals.

use std::fmt::Write;

use domain::money::Price;
use serde::Serialize;

use super::Output;
use super::wish::WishLines;
use crate::book::slot;
use crate::clear::Match;
use crate::explain::needed_words;

#[derive(Serialize)]
struct Document<'a> {
    mechanism: &'static str,
    price_policy: &'static str,
    price: Option<String>,
    price_interval: Option<[String; 2]>,
    volume_wh: i64,
    welfare: String,
    gains: GainLine,
    /// Only where the mechanism kept money for the community.
    #[serde(skip_serializing_if = "Option::is_none")]
    surplus: Option<String>,
    /// Only where orders wish more than a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    preferences: Option<WishLines<'a>>,
    trades: Vec<TradeLine<'a>>,
    orders: Vec<OrderLine<'a>>,
}

/// Whose the welfare is, by the orders' limits.
#[derive(Serialize)]
struct GainLine {
    buyers: String,
    sellers: String,
    community: String,
}

#[derive(Serialize)]
struct TradeLine<'a> {
    bid: &'a str,
    offer: &'a str,
    energy_wh: i64,
    price: String,
    /// Only where the seller receives another price than the buyer pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    seller_price: Option<String>,
    /// Only where orders wish more than a price: why these two were paired.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched_by: Option<&'static str>,
}

#[derive(Serialize)]
struct OrderLine<'a> {
    id: &'a str,
    filled_wh: i64,
    reason: String,
    /// Only of an order that got nothing: the limit that would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    needed_price: Option<String>,
}

/// Money of 128 bits in tokens with nine decimals.
pub(crate) fn money(nano: i128) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let (whole, part) = (
        nano.unsigned_abs() / 1_000_000_000,
        nano.unsigned_abs() % 1_000_000_000,
    );
    format!("{sign}{whole}.{part:09}")
}

impl Output {
    fn id(&self, index: u32) -> &str {
        &self.ids[slot(index)]
    }

    /// The result as one JSON object, its members in a fixed order, ending in a line break.
    ///
    /// # Errors
    /// Never in practice: text and integers can always be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let outcome = &self.outcome;
        let trade = |(place, t): (usize, &Match)| TradeLine {
            bid: self.id(t.bid),
            offer: self.id(t.offer),
            energy_wh: t.energy_wh,
            price: t.buyer_price.to_string(),
            seller_price: (t.seller_price != t.buyer_price).then(|| t.seller_price.to_string()),
            matched_by: self.matched_by(place),
        };
        let orders = (0_u32..)
            .zip(&self.ids)
            .zip(&outcome.orders)
            .map(|((index, id), fill)| OrderLine {
                id,
                filled_wh: fill.filled_wh,
                reason: self.reason(index),
                needed_price: self.needed[slot(index)].map(|p| p.to_string()),
            });
        let gains = outcome.gains(&self.book);
        let interval = outcome.price_interval;
        let document = Document {
            mechanism: self.mechanism.name(),
            price_policy: self.mechanism.price_policy_name(),
            price: outcome.price.map(|p| p.to_string()),
            price_interval: interval.map(|(low, high)| [low.to_string(), high.to_string()]),
            volume_wh: outcome.volume_wh,
            welfare: money(outcome.welfare),
            gains: GainLine {
                buyers: money(gains.buyers),
                sellers: money(gains.sellers),
                community: money(gains.community),
            },
            surplus: (outcome.surplus != 0).then(|| money(outcome.surplus)),
            preferences: self.wish_lines(),
            trades: outcome.trades.iter().enumerate().map(trade).collect(),
            orders: orders.collect(),
        };
        let mut text = serde_json::to_string_pretty(&document)?;
        text.push('\n');
        Ok(text)
    }

    /// Why an order was filled as it was, with the limit that would have done.
    fn reason(&self, index: u32) -> String {
        let reason = &self.outcome.orders[slot(index)].reason;
        let mut text = reason.to_string();
        if let (None, Some(limit)) = (reason.needed(), self.needed[slot(index)]) {
            text.push_str(&needed_words(self.book.get(index).side, limit));
        }
        text
    }

    /// What each order gains by its trades, by its limit, in nano-tokens.
    fn gains(&self) -> Vec<i128> {
        let mut gains = vec![0_i128; self.ids.len()];
        for trade in &self.outcome.trades {
            let wide = |price: Price| i128::from(price.micro_per_kwh());
            let limit = |index: u32| wide(self.book.get(index).limit);
            let energy = i128::from(trade.energy_wh);
            gains[slot(trade.bid)] += energy * (limit(trade.bid) - wide(trade.buyer_price));
            gains[slot(trade.offer)] += energy * (wide(trade.seller_price) - limit(trade.offer));
        }
        gains
    }

    /// The orders as CSV, with what was filled and why, which limit would have done, and what each gains: the bids'
    /// gains are the buyers', the offers' the sellers'. The community's is what the welfare is more than both.
    ///
    /// # Errors
    /// Never in practice: memory can always be written to.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "id",
            "side",
            "energy_wh",
            "limit_price",
            "filled_wh",
            "reason",
            "needed_price",
            "gain",
        ])?;
        let rows = self.ids.iter().zip(self.book.entries());
        let rows = rows.zip(&self.outcome.orders).zip(self.gains());
        for (index, (((id, entry), fill), gain)) in (0_u32..).zip(rows) {
            let needed = self.needed[slot(index)].map(|p| p.to_string());
            writer.write_record([
                id,
                entry.side.word(),
                &entry.energy_wh.to_string(),
                &entry.limit.to_string(),
                &fill.filled_wh.to_string(),
                &self.reason(index),
                &needed.unwrap_or_default(),
                &money(gain),
            ])?;
        }
        let bytes = writer.into_inner().map_err(|error| error.into_error())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The result as plain text: a summary, the trades, the orders.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut text = self.summary();
        let trades = self.outcome.trades.iter().enumerate().map(|(place, t)| {
            let mut cells = vec![
                self.id(t.bid).to_owned(),
                self.id(t.offer).to_owned(),
                t.energy_wh.to_string(),
                t.buyer_price.to_string(),
                t.seller_price.to_string(),
            ];
            cells.extend(self.matched_by(place).map(str::to_owned));
            cells
        });
        let head = ["bid", "offer", "Wh", "buyer pays", "seller receives", "by"];
        let head = &head[..if self.wished.is_some() { 6 } else { 5 }];
        table(&mut text, head, trades.collect());
        let entries = (0_u32..).zip(&self.ids).zip(self.book.entries());
        let orders = entries
            .zip(&self.outcome.orders)
            .map(|(((index, id), entry), fill)| {
                vec![
                    id.clone(),
                    entry.side.word().to_owned(),
                    entry.energy_wh.to_string(),
                    entry.limit.to_string(),
                    fill.filled_wh.to_string(),
                    self.reason(index),
                ]
            });
        let head = ["order", "side", "Wh", "limit", "filled Wh", "why"];
        table(&mut text, &head, orders.collect());
        text
    }

    fn summary(&self) -> String {
        let outcome = &self.outcome;
        let mut text = format!(
            "mechanism  {} ({})\n",
            self.mechanism.name(),
            self.mechanism.details()
        );
        let price = outcome
            .price
            .map_or("none".to_owned(), |p| format!("{p} token/kWh"));
        let _ = writeln!(text, "price      {price}");
        if let Some((low, high)) = outcome.price_interval {
            let _ = writeln!(text, "           possible from {low} to {high}");
        }
        let _ = writeln!(text, "volume     {} Wh", outcome.volume_wh);
        let most = money(outcome.welfare_max);
        let _ = writeln!(
            text,
            "welfare    {} of {most} token",
            money(outcome.welfare)
        );
        let gains = outcome.gains(&self.book);
        let _ = writeln!(
            text,
            "gains      buyers {}, sellers {}, community {} token",
            money(gains.buyers),
            money(gains.sellers),
            money(gains.community)
        );
        if outcome.surplus != 0 {
            let _ = writeln!(
                text,
                "surplus    {} token to the community",
                money(outcome.surplus)
            );
        }
        if let Some(lines) = self.wish_lines() {
            text.push_str(&lines.text());
        }
        text
    }

    fn wish_lines(&self) -> Option<WishLines<'_>> {
        let wished = self.wished.as_ref()?;
        Some(WishLines::of(&wished.preferred, &wished.participants))
    }

    /// Why the orders of a trade were paired, where orders wish more than a price.
    fn matched_by(&self, place: usize) -> Option<&'static str> {
        let because = &self.wished.as_ref()?.preferred.because;
        because.get(place).map(|because| because.word())
    }
}

/// Appends a table whose columns are as wide as their widest cell.
fn table(text: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut widths = vec![0; head.len()];
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    for (column, cell) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        widths[column] = widths[column].max(cell.chars().count());
    }
    text.push('\n');
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
