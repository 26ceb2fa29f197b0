//! The data dictionary: every table of a run folder, its columns, their units and what they mean.

use std::fmt::Write;

use super::table::{Column, Kind, Table};

const fn column(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    description: &'static str,
) -> Column {
    Column {
        name,
        kind,
        unit,
        description,
    }
}

const fn wh(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Int, "Wh", description)
}

const fn price(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Int, "micro-token per kWh", description)
}

const fn pu(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Real, "p.u.", description)
}

const fn percent(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Real, "%", description)
}

const fn nano(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Int, "nano-token", description)
}

const fn text(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Text, "", description)
}

const fn word(name: &'static str, description: &'static str) -> Column {
    column(name, Kind::Word, "", description)
}

const START: Column = column("start", Kind::Time, "UTC", "first instant of the interval");
const CURTAILED: Column = wh(
    "curtailed_wh",
    "what panels could have given beyond the limit of what may be fed in",
);
const HOME: Column = word("home", "the participant");

/// Who takes part.
pub const PARTICIPANTS: Table = Table {
    name: "participants",
    about: "one home",
    columns: &[
        text("home", "the participant"),
        word("strategy", "how the home orders"),
        column(
            "yearly_load_kwh",
            Kind::Int,
            "kWh",
            "household use of a mean year, without car",
        ),
        column(
            "pv_peak_w",
            Kind::Int,
            "W",
            "panels; empty where there are none",
        ),
        column(
            "inverter_w",
            Kind::Int,
            "W",
            "largest AC power of the inverter",
        ),
        column("battery_wh", Kind::Int, "Wh", "usable capacity"),
        column("battery_w", Kind::Int, "W", "largest AC power, either way"),
        column("ev_w", Kind::Int, "W", "largest charging power of the car"),
        wh("load_wh", "household use of the run"),
        wh("ev_wh", "charged into the car"),
        wh("heat_wh", "used by the heat pump"),
        wh("pv_wh", "generated"),
        CURTAILED,
        wh("import_wh", "from the street"),
        wh("export_wh", "into the street"),
        wh("bought_wh", "bought from neighbours in the auction"),
        wh("sold_wh", "sold to neighbours in the auction"),
        nano(
            "cost_nano",
            "what the home pays in all; below zero it receives",
        ),
        nano(
            "no_market_cost_nano",
            "what it would pay alone, at the utility's prices",
        ),
        nano(
            "saving_nano",
            "the difference; above zero the community is worth it",
        ),
    ],
};

/// Interval by interval, the community as a whole.
pub const INTERVALS: Table = Table {
    name: "intervals",
    about: "one interval of the community",
    columns: &[
        START,
        column(
            "local_day_minute",
            Kind::Int,
            "min",
            "minute of the local day at the start",
        ),
        price(
            "retail_micro_per_kwh",
            "at which the utility sells, network fee included",
        ),
        price("feed_in_micro_per_kwh", "at which the utility buys"),
        price(
            "price_micro_per_kwh",
            "the one local price; empty where nothing traded at one price",
        ),
        column("bids", Kind::Int, "", "orders to buy"),
        column("offers", Kind::Int, "", "orders to sell"),
        wh("bid_wh", "energy of the bids"),
        wh("offer_wh", "energy of the offers"),
        wh("volume_wh", "traded"),
        nano(
            "welfare_nano",
            "sum over trades of energy x (bid limit - offer limit)",
        ),
        nano(
            "welfare_max_nano",
            "the most that sum could be for these orders",
        ),
        wh("load_wh", "household use"),
        wh("ev_wh", "charged into cars"),
        wh("heat_wh", "used by heat pumps"),
        wh("pv_wh", "generated"),
        CURTAILED,
        wh("charged_wh", "charged into home batteries, at the AC side"),
        wh(
            "discharged_wh",
            "discharged from home batteries, at the AC side",
        ),
        wh("stored_wh", "in all home batteries at the end"),
        wh("import_wh", "sum of the homes' imports"),
        wh("export_wh", "sum of the homes' exports"),
        wh(
            "pooled_wh",
            "deviations that neighbours cancelled at settlement",
        ),
        wh("supplied_wh", "from the utility, as settled"),
        wh("taken_wh", "by the utility, as settled"),
        wh("loss_wh", "lost between the homes and the transformer"),
        nano("cost_nano", "what all homes pay; below zero they receive"),
        nano("no_market_cost_nano", "what they would pay each alone"),
        nano("network_nano", "what the network receives"),
        column(
            "readings_missing",
            Kind::Int,
            "",
            "readings that were not there at the provisional run",
        ),
    ],
};

/// Orders.
pub const ORDERS: Table = Table {
    name: "orders",
    about: "one order",
    columns: &[
        START,
        text(
            "order_id",
            "the order's name; empty where the run signs nothing, and home and start name it",
        ),
        HOME,
        word("side", "bid or offer"),
        wh("energy_wh", "at most"),
        price(
            "limit_micro_per_kwh",
            "a bid pays at most this, an offer receives at least this",
        ),
        wh("filled_wh", "what was traded of it"),
    ],
};

/// Trades.
pub const TRADES: Table = Table {
    name: "trades",
    about: "energy that one home sold to another",
    columns: &[
        START,
        text(
            "trade_id",
            "the trade's name; empty where the run signs nothing",
        ),
        text(
            "bid_id",
            "the buyer's order; empty where the run signs nothing",
        ),
        text(
            "offer_id",
            "the seller's order; empty where the run signs nothing",
        ),
        word("buyer", "who bought"),
        word("seller", "who sold"),
        wh("energy_wh", "how much"),
        price(
            "buyer_price_micro_per_kwh",
            "what the buyer pays, fees aside",
        ),
        price("seller_price_micro_per_kwh", "what the seller receives"),
        price(
            "network_fee_micro_per_kwh",
            "what the buyer pays the network on top",
        ),
    ],
};

/// Readings, as they arrived.
pub const READINGS: Table = Table {
    name: "readings",
    about: "one interval of one meter",
    columns: &[
        START,
        HOME,
        wh(
            "import_start_wh",
            "import register at the start; empty where no reading came",
        ),
        wh("import_end_wh", "import register at the end"),
        wh("export_start_wh", "export register at the start"),
        wh("export_end_wh", "export register at the end"),
        word("state", "measured, late, lost, tampered or dead"),
    ],
};

/// Deliveries: what was traded beside what flowed, and what it came to.
pub const DELIVERIES: Table = Table {
    name: "deliveries",
    about: "one home in one interval",
    columns: &[
        START,
        HOME,
        wh("load_wh", "household use"),
        wh("ev_wh", "charged into the car"),
        wh("heat_wh", "used by the heat pump"),
        wh("pv_wh", "generated"),
        CURTAILED,
        wh("charged_wh", "charged into the battery, at the AC side"),
        wh(
            "discharged_wh",
            "discharged from the battery, at the AC side",
        ),
        wh("stored_wh", "in the battery at the end"),
        wh(
            "expected_net_wh",
            "what the home expected when it ordered; below zero: to have over",
        ),
        wh("import_wh", "from the street, as settled"),
        wh("export_wh", "into the street, as settled"),
        wh("bought_wh", "bought in the auction"),
        wh("sold_wh", "sold in the auction"),
        wh(
            "pooled_wh",
            "part of the deviation that neighbours cancelled: given above zero, taken below",
        ),
        wh(
            "utility_wh",
            "part of the deviation that the utility took (above zero) or supplied",
        ),
        word("quality", "how the metered values came to be"),
        nano("cost_nano", "what the home pays; below zero it receives"),
        nano(
            "no_market_cost_nano",
            "what it would pay alone, at the utility's prices",
        ),
    ],
};

/// Postings of the settlement.
pub const POSTINGS: Table = Table {
    name: "postings",
    about: "an amount moved from one account to another",
    columns: &[
        START,
        text(
            "posting_id",
            "the posting's name; empty where the run signs nothing",
        ),
        word(
            "run",
            "provisional, or initial for corrections after late readings",
        ),
        word("asset", "token or watt-hour"),
        word("purpose", "why"),
        word("debit", "from this account"),
        word("credit", "to this account"),
        column(
            "amount",
            Kind::Int,
            "nano-token or Wh, as asset says",
            "how much, above zero",
        ),
    ],
};

/// Figures with their definitions.
pub const KPIS: Table = Table {
    name: "kpis",
    about: "one figure of the run",
    columns: &[
        text("name", "the figure"),
        column(
            "value",
            Kind::Real,
            "as unit says",
            "of the run; empty where it is not defined",
        ),
        column(
            "netting_only",
            Kind::Real,
            "as unit says",
            "of the twin that nets without trading",
        ),
        column(
            "no_market",
            Kind::Real,
            "as unit says",
            "of the twin in which each home is alone",
        ),
        text("unit", "its unit"),
        text("definition", "how it is computed"),
    ],
};

/// The wires, interval by interval; only where the scenario has `[network]`.
pub const GRID: Table = Table {
    name: "grid",
    about: "the network in one interval; values are missing where it cannot carry the loads",
    columns: &[
        START,
        pu("vm_min_pu", "lowest voltage at a home"),
        pu("vm_max_pu", "highest voltage at a home"),
        percent("line_percent", "loading of the busiest line"),
        percent("trafo_percent", "loading of the busiest transformer"),
        wh("loss_wh", "what lines and transformers took"),
        column("homes_low", Kind::Int, "", "homes below the band"),
        column("homes_high", Kind::Int, "", "homes above the band"),
    ],
};

/// Nodes over the whole run.
pub const GRID_NODES: Table = Table {
    name: "grid_nodes",
    about: "one node of the network",
    columns: &[
        column("node", Kind::Int, "", "the node's id"),
        column("homes", Kind::Int, "", "homes at it"),
        pu("vm_min_pu", "its lowest voltage"),
        pu("vm_max_pu", "its highest voltage"),
        column("intervals_low", Kind::Int, "", "intervals below the band"),
        column("intervals_high", Kind::Int, "", "intervals above the band"),
    ],
};

/// Lines and transformers over the whole run.
pub const GRID_BRANCHES: Table = Table {
    name: "grid_branches",
    about: "one line or transformer",
    columns: &[
        column("branch", Kind::Int, "", "the branch's id"),
        text("name", "what people call it"),
        percent("max_percent", "its highest loading"),
        column(
            "intervals_over",
            Kind::Int,
            "",
            "intervals above its rating",
        ),
    ],
};

/// All tables, in the order of the flow.
pub const ALL: [&Table; 11] = [
    &PARTICIPANTS,
    &INTERVALS,
    &ORDERS,
    &TRADES,
    &READINGS,
    &DELIVERIES,
    &POSTINGS,
    &KPIS,
    &GRID,
    &GRID_NODES,
    &GRID_BRANCHES,
];

/// What stands before the dictionary.
const HEAD: &str = "\
# Tables of a run

`commonwatt simulate` writes one file for each table into the run folder: CSV, or Parquet where the program was built with
`--features tables`. Values are whole numbers in the unit that the column's name ends with: energy in Wh, prices in
micro-token per kWh, money in nano-token (energy times price is exact). Times are UTC; the street's zone is in the manifest, and in
the metadata of Parquet files, where each field also has its unit and meaning.

## In Python

```python
import glob, json, polars as pl          # pandas: pd.read_csv / pd.read_parquet
run = sorted(glob.glob('runs/*_street-10_*'))[-1]
flows = pl.read_csv(f'{run}/intervals.csv', try_parse_dates=True)      # or pl.read_parquet(f'{run}/intervals.parquet')
trades = pl.read_csv(f'{run}/trades.csv', try_parse_dates=True)
flows.select('start', 'price_micro_per_kwh', 'volume_wh')
trades.group_by('buyer').agg(pl.col('energy_wh').sum() / 1000)          # kWh bought by each home
json.load(open(f'{run}/manifest.json'))['run_id']
```
";

/// The data dictionary as Markdown: the text of `simulator/TABLES.md`.
#[must_use]
pub fn dictionary() -> String {
    let mut text = format!("{HEAD}\n## Columns\n\nEvery table begins with `run_id`.\n");
    for table in ALL {
        let _ = write!(
            text,
            "\n### {}\n\nA row is {}.\n\n",
            table.name, table.about
        );
        text.push_str("| column | unit | meaning |\n|---|---|---|\n");
        for column in table.columns {
            let (name, unit, about) = (column.name, column.unit, column.description);
            let _ = writeln!(text, "| {name} | {unit} | {about} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_people_read() {
        let file = include_str!("../../TABLES.md");
        assert!(
            file == dictionary(),
            "write it anew: commonwatt simulate --dictionary > simulator/TABLES.md"
        );
    }

    #[test]
    fn names_end_with_their_unit() {
        for column in ALL.iter().flat_map(|table| table.columns) {
            let ends = match column.unit {
                "Wh" => "_wh",
                "W" => "_w",
                "kWh" => "_kwh",
                "nano-token" => "_nano",
                "micro-token per kWh" => "_micro_per_kwh",
                _ => "",
            };
            assert!(column.name.ends_with(ends), "{}", column.name);
            assert!(!column.description.is_empty(), "{}", column.name);
        }
    }
}
