//! A station's month for programs, spreadsheets and terminals, with a sentence on whether it is worth its costs.

use std::fmt::Write;

use domain::money::Money;
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::{BreakEven, Figures, Month, Profit};
use crate::charging::decimal;
use crate::charging::split::Owner;

const HEADER: &str = "station,month,group,item,amount,currency";

/// A station's month with all that is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The station.
    pub station: String,
    /// On whose ground it stands.
    pub host: String,
    /// Whether it buys its energy in the auction itself.
    pub buys: bool,
    /// ISO 4217.
    pub currency: String,
    /// The month, like `2026-06`.
    pub month: String,
    /// The first instant of the month, and the first one after it.
    pub span: (Timestamp, Timestamp),
    /// Whether it is over.
    pub is_over: bool,
    /// Whose the station is, or was when the month ended.
    pub owners: Vec<Owner>,
    /// What was booked.
    pub sums: Month,
    /// What the owners reckon with.
    pub figures: Figures,
    /// What comes of it.
    pub profit: Profit,
}

/// One amount of a month, in the order in which they are reckoned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// `income`, `paid`, `passed_through`, `share`, `profit` or `unpaid`.
    pub group: &'static str,
    /// What it is; of a share, whose.
    pub item: String,
    /// What is taken off has a minus.
    pub amount: Money,
}

impl Report {
    /// All amounts. Of each group but `profit`, where the last one is the sum, they are parts: income, tax and what was given
    /// back are what was paid; what is passed through and the shares are the same.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let (sums, profit) = (&self.sums, &self.profit);
        let less = |amount: Money| Money::from_nano(amount.nano().saturating_neg());
        let mut rows = Vec::new();
        let mut add = |group, item: &str, amount| {
            let item = item.to_owned();
            rows.push(Row {
                group,
                item,
                amount,
            });
        };
        add("income", "energy", sums.income.energy);
        add("income", "time", sums.income.time);
        add("income", "parking", sums.income.parking);
        add("income", "flat", sums.income.flat);
        add("income", "limits", sums.income.limits);
        add("paid", "tax", sums.tax);
        add("paid", "given_back", less(sums.refunded));
        let tax = sums.tax.nano().saturating_sub(sums.refunded_tax.nano());
        add("passed_through", "tax", Money::from_nano(tax));
        add("passed_through", "energy", sums.cost.energy);
        add("passed_through", "network_fee", sums.cost.network_fee);
        add("passed_through", "energy_outside", sums.outside.energy);
        let outside_fee = sums.outside.network_fee;
        add("passed_through", "network_fee_outside", outside_fee);
        for (name, share) in &sums.shares {
            add("share", name, *share);
        }
        add("profit", "income", profit.income);
        add("profit", "energy", less(profit.energy));
        add("profit", "network_fee", less(profit.network_fee));
        add("profit", "maintenance", less(profit.maintenance));
        add("profit", "capital", less(profit.capital));
        add("profit", "result", profit.result);
        add("unpaid", "owed", sums.owed);
        rows
    }

    /// Whether the station is worth its costs, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (profit, month) = (&self.profit, &self.month);
        let size = Money::from_nano(profit.result.nano().saturating_abs());
        let amount = format!("{} {}", money(size), self.currency);
        let verdict = match (self.is_over, profit.result < Money::ZERO) {
            (true, true) => format!("A loss of {amount} in {month}."),
            (true, false) => format!("{month} has brought {amount} beyond all costs."),
            (false, true) => format!("So far {month} lacks {amount} to its costs."),
            (false, false) => format!("So far {month} has brought {amount} beyond all costs."),
        };
        let enough = match (profit.break_even, profit.break_even_price) {
            (BreakEven::At(energy), _) if energy.wh() > 0 => format!(
                " Its costs are covered from {} kWh a month on; {} kWh were charged.",
                kwh(energy.wh()),
                kwh(self.sums.energy.wh())
            ),
            (BreakEven::Never, Some(price)) => format!(
                " A kWh brings no more than it costs, so no amount is enough at this price: it would take {price} {} a \
                 kWh before tax.",
                self.currency
            ),
            (BreakEven::Unknown, _) => " Nothing was charged.".to_owned(),
            _ => String::new(),
        };
        verdict + &enough
    }

    /// What was not paid, in a sentence; none where everything was.
    #[must_use]
    pub fn unpaid_sentence(&self) -> Option<String> {
        let (owed, currency) = (money(self.sums.owed), &self.currency);
        match self.sums.unpaid {
            0 => None,
            1 => Some(format!(
                "1 session was not paid: {owed} {currency} are owed."
            )),
            n => Some(format!(
                "{n} sessions were not paid: {owed} {currency} are owed."
            )),
        }
    }

    /// The month for programs; money as decimal texts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (sums, profit) = (&self.sums, &self.profit);
        let owners = self.owners.iter().map(|owner| {
            let share = sums.shares.get(&owner.name).copied().unwrap_or_default();
            json!({ "name": owner.name, "basis_points": owner.basis_points, "amount": money(share) })
        });
        // Whoever had a share when a session began, and has none any more.
        let is_owner = |name: &str| self.owners.iter().any(|o| o.name == name);
        let past = sums.shares.iter().filter(|(name, _)| !is_owner(name));
        let past = past.map(
            |(name, share)| json!({ "name": name, "basis_points": 0, "amount": money(*share) }),
        );
        let break_even_wh = match profit.break_even {
            BreakEven::At(energy) => Some(energy.wh()),
            BreakEven::Never | BreakEven::Unknown => None,
        };
        let total = |sum: Result<Money, _>| sum.map_or(Value::Null, |sum| json!(money(sum)));
        json!({
            "station": self.station, "host": self.host, "buys_itself": self.buys, "currency": self.currency,
            "month": self.month, "from": self.span.0.to_string(), "to": self.span.1.to_string(), "is_over": self.is_over,
            "sessions": sums.sessions, "energy_wh": sums.energy.wh(),
            "income_before_tax": {
                "energy": money(sums.income.energy), "time": money(sums.income.time),
                "parking": money(sums.income.parking), "flat": money(sums.income.flat),
                "limits": money(sums.income.limits), "total": total(sums.income.total()),
            },
            "tax": money(sums.tax),
            "unpaid": { "sessions": sums.unpaid, "owed": money(sums.owed) },
            "corrections": { "count": sums.credits, "given_back": money(sums.refunded), "tax": money(sums.refunded_tax) },
            "revenue": total(sums.revenue()),
            "passed_through": {
                "tax": money(Money::from_nano(sums.tax.nano().saturating_sub(sums.refunded_tax.nano()))),
                "energy": money(sums.cost.energy), "network_fee": money(sums.cost.network_fee),
            },
            "outside_of_sessions": { "energy": money(sums.outside.energy), "network_fee": money(sums.outside.network_fee) },
            "shares": owners.chain(past).collect::<Vec<_>>(),
            "figures": {
                "maintenance_per_year": money(self.figures.maintenance_per_year),
                "capital_per_year": money(self.figures.capital_per_year),
            },
            "profit": {
                "income": money(profit.income), "energy": money(profit.energy),
                "network_fee": money(profit.network_fee), "maintenance": money(profit.maintenance),
                "capital": money(profit.capital), "result": money(profit.result),
                "price_per_kwh": profit.price.map(|p| p.to_string()),
                "break_even_wh": break_even_wh,
                "break_even_price_per_kwh": profit.break_even_price.map(|p| p.to_string()),
                "loss_warning": profit.warns(self.is_over),
                "sentence": self.sentence(),
            },
        })
    }

    /// A line for each amount.
    #[must_use]
    pub fn to_csv(&self) -> String {
        format!("{HEADER}\n{}", self.csv_rows())
    }

    /// Several months under one head.
    #[must_use]
    pub fn csv_of(reports: &[Report]) -> String {
        let rows: String = reports.iter().map(Report::csv_rows).collect();
        format!("{HEADER}\n{rows}")
    }

    fn csv_rows(&self) -> String {
        let row = |row: Row| {
            let (group, item, amount) = (row.group, row.item, money(row.amount));
            let (station, month, currency) = (&self.station, &self.month, &self.currency);
            format!("{station},{month},{group},{item},{amount},{currency}\n")
        };
        self.rows().into_iter().map(row).collect()
    }

    /// The month as text for a terminal.
    #[must_use]
    pub fn to_table(&self) -> String {
        let sums = &self.sums;
        let mut text = format!(
            "{} of {}, {}: {} sessions, {} kWh\n{}\n",
            self.station,
            self.host,
            self.month,
            sums.sessions,
            kwh(sums.energy.wh()),
            self.sentence()
        );
        if let Some(unpaid) = self.unpaid_sentence() {
            let _ = writeln!(text, "{unpaid}");
        }
        let mut group = "";
        for row in self.rows() {
            // Writing to a String cannot fail.
            if row.group != group {
                group = row.group;
                let _ = writeln!(text, "\n{}", group.replace('_', " "));
            }
            let item = row.item.replace('_', " ");
            let _ = writeln!(text, "  {item:<32}{:>20}", money(row.amount));
        }
        text
    }
}

fn money(amount: Money) -> String {
    decimal(i128::from(amount.nano()), 2)
}

fn kwh(wh: i64) -> String {
    format!("{}.{:03}", wh / 1_000, wh % 1_000)
}
