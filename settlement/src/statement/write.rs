//! A statement as a table of days for spreadsheets, and as text for a terminal.

use std::fmt::Write;

use super::{Alone, Statement, Sums};

const HEADER: &str = "date,intervals,measured,estimated,missing,not_settled,corrected,imported_wh,exported_wh,\
bought_wh,sold_wh,pool_given_wh,pool_taken_wh,utility_supplied_wh,utility_taken_wh,purchases,sales,\
network_fee,community_fee,pool,spread,utility,net,alone_net,better_by";

impl Statement {
    /// The days as CSV, and the month as the last line, `total`: energy in Wh, money in tokens.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for day in &self.days {
            text += &row(&day.date, &day.sums, &day.alone);
        }
        text + &row("total", &self.total, &self.alone)
    }

    /// The month as text for a terminal.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut text = format!(
            "{} in {}, {} ({}), made {}\n\n",
            self.participant, self.community, self.month, self.time_zone, self.made_at
        );
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<34}{value:>24}");
        };
        let (total, alone) = (&self.total, &self.alone);
        for (name, energy) in [
            ("imported", total.imported),
            ("exported", total.exported),
            ("bought from neighbours", total.bought),
            ("sold to neighbours", total.sold),
            ("supplied by the utility", total.utility_supplied),
            ("taken by the utility", total.utility_taken),
        ] {
            line(name, energy.to_string());
        }
        for (name, money) in [
            ("purchases", total.purchases),
            ("sales", total.sales),
            ("network fee", total.network_fee),
            ("community fee", total.community_fee),
            ("deviations, with neighbours", total.pool),
            ("deviations, spread", total.spread),
            ("utility", total.utility),
            ("net", total.net),
            ("with the utility alone", alone.net),
            ("better in the community by", alone.better_by),
        ] {
            line(name, money.to_string());
        }
        for run in &self.runs {
            line(
                &format!("of it in the {} run", run.run),
                run.net.to_string(),
            );
            line("  with the utility alone", run.alone.to_string());
        }
        for other in &self.other {
            line(other.purpose, other.net.to_string());
        }
        for (name, has) in [("opening", &self.opening), ("closing", &self.closing)] {
            line(&format!("{name}, available"), has.available.to_string());
            line(&format!("{name}, held"), has.held.to_string());
            line(&format!("{name}, held back"), has.holdback.to_string());
            line(&format!("{name}, statement"), has.statement.to_string());
        }
        let data = &total.data;
        for (name, count) in [
            ("intervals", total.intervals),
            ("measured", data.measured),
            ("estimated", data.estimated),
            ("missing, substituted", data.missing),
            ("not settled", data.not_settled),
            ("corrected by a later run", data.corrected),
        ] {
            line(name, count.to_string());
        }
        text
    }
}

fn row(date: &str, sums: &Sums, alone: &Alone) -> String {
    let data = &sums.data;
    let counts = [
        sums.intervals,
        data.measured,
        data.estimated,
        data.missing,
        data.not_settled,
        data.corrected,
    ];
    let energies = [
        sums.imported,
        sums.exported,
        sums.bought,
        sums.sold,
        sums.pool_given,
        sums.pool_taken,
        sums.utility_supplied,
        sums.utility_taken,
    ];
    let money = [
        sums.purchases,
        sums.sales,
        sums.network_fee,
        sums.community_fee,
        sums.pool,
        sums.spread,
        sums.utility,
        sums.net,
        alone.net,
        alone.better_by,
    ];
    let fields: Vec<String> = std::iter::once(date.to_owned())
        .chain(counts.iter().map(u32::to_string))
        .chain(energies.iter().map(|e| e.wh().to_string()))
        .chain(money.iter().map(ToString::to_string))
        .collect();
    fields.join(",") + "\n"
}
