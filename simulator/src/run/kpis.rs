//! The figures of a run, each with its unit and its formula, beside the same figure of the twins: netting
//! without trading, and each home alone. Sums are integers; a figure becomes a fraction only here.

use super::engine::{HomeSums, IntervalRow, Outcome};

/// Nano-tokens in a token.
const NANO: f64 = 1e9;
/// Hours of a window for the load factor.
const LOAD_FACTOR_H: usize = 730;

/// A figure.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Kpi {
    /// Its name.
    pub name: String,
    /// Of the run; none where it is not defined.
    pub value: Option<f64>,
    /// Of the twin that nets at the meter of the community and does not trade; batteries follow their own home.
    pub netting_only: Option<f64>,
    /// Of the twin in which each home is alone with the utility; batteries follow their own home.
    pub no_market: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// How it is computed.
    pub definition: String,
}

/// A sum as a fraction. Sums of a run are far below 2^53 in the units in which figures are given.
fn real(value: i128) -> f64 {
    value as f64
}

fn kwh(wh: i64) -> f64 {
    real(i128::from(wh)) / 1000.0
}

fn tokens(nano: i128) -> f64 {
    real(nano) / NANO
}

/// A ratio, where there is something to divide by.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then_some(part / whole)
}

/// A figure with twelve digits: no more can be told apart, and these are the same wherever they are read again.
fn rounded(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}

/// Collects figures.
pub(super) struct List(Vec<Kpi>);

impl List {
    fn add(&mut self, name: &str, unit: &str, values: [Option<f64>; 3], definition: &str) {
        let [value, netting_only, no_market] = values.map(|value| value.map(rounded));
        self.0.push(Kpi {
            name: name.to_owned(),
            value,
            netting_only,
            no_market,
            unit: unit.to_owned(),
            definition: definition.to_owned(),
        });
    }

    pub(super) fn one(
        &mut self,
        name: &str,
        unit: &str,
        value: impl Into<Option<f64>>,
        definition: &str,
    ) {
        self.add(name, unit, [value.into(), None, None], definition);
    }
}

/// All figures of a run.
#[must_use]
pub fn kpis(outcome: &Outcome) -> Vec<Kpi> {
    let mut list = List(Vec::new());
    let total = Totals::of(outcome);
    money(&mut list, &total, outcome);
    energy(&mut list, &total);
    market(&mut list, &total, &outcome.rows);
    savings(&mut list, &outcome.sums);
    peaks(&mut list, outcome);
    settlement(&mut list, &total, outcome);
    if let Some(grid) = &outcome.grid {
        grid.kpis(&mut list);
    }
    list.0
}

/// Sums over the run.
#[derive(Default)]
struct Totals {
    load: i64,
    ev: i64,
    heat: i64,
    pv: i64,
    curtailed: i64,
    charged: i64,
    discharged: i64,
    stored_more: i64,
    own_stored_more: i64,
    unserved: i64,
    import: i64,
    /// Imports and exports of the community as one.
    from_grid: i64,
    to_grid: i64,
    /// The same if each battery followed its own home: of the homes alone, and of the community as one.
    own_import: i64,
    own_export: i64,
    own_from_grid: i64,
    own_to_grid: i64,
    unmetered: i64,
    volume: i64,
    pooled: i64,
    supplied: i64,
    deviated: i64,
    loss: i64,
    cost: i128,
    netting: i128,
    alone: i128,
    network: i128,
    surplus: i128,
    missing: i64,
}

impl Totals {
    fn of(outcome: &Outcome) -> Self {
        let mut total = Totals::default();
        for row in &outcome.rows {
            total.load += row.load_wh;
            total.ev += row.ev_wh;
            total.heat += row.heat_wh;
            total.pv += row.pv_wh;
            total.curtailed += row.curtailed_wh;
            total.charged += row.charged_wh;
            total.discharged += row.discharged_wh;
            total.import += row.import_wh;
            total.from_grid += row.net_wh().max(0);
            total.to_grid -= row.net_wh().min(0);
            total.own_import += row.own_import_wh;
            total.own_export += row.own_export_wh;
            total.own_from_grid += row.own_net_wh().max(0);
            total.own_to_grid -= row.own_net_wh().min(0);
            total.unmetered += row.unmetered_wh;
            total.volume += row.volume_wh;
            total.pooled += row.pooled_wh;
            total.supplied += row.supplied_wh;
            total.deviated += row.deviated_wh;
            total.loss += row.loss_wh;
            total.cost += row.cost_nano;
            total.netting += row.netting_nano;
            total.alone += row.alone_nano;
            total.network += row.network_nano;
            total.surplus += row.surplus_nano;
            total.missing += i64::from(row.missing);
        }
        total.unserved = outcome.sums.iter().map(|sum| sum.unserved_wh).sum();
        total.stored_more = outcome.sums.iter().map(|sum| sum.stored_more_wh).sum();
        let own = outcome.sums.iter().map(|sum| sum.own_stored_more_wh);
        total.own_stored_more = own.sum();
        total
    }
}

fn money(list: &mut List, total: &Totals, outcome: &Outcome) {
    let homes = real(outcome.homes.len() as i128);
    let all = [total.cost, total.netting, total.alone];
    list.add(
        "community_cost",
        "token",
        all.map(|nano| Some(tokens(nano))),
        "what all homes pay: trades cancel, what is left goes to utility, network and, with some mechanisms, the community; the twins pay for the energy that was settled, with each battery following its own home",
    );
    list.add(
        "saving",
        "token",
        all.map(|nano| Some(tokens(total.alone - nano))),
        "cost of the homes each alone, less community_cost",
    );
    list.add(
        "saving_per_home",
        "token",
        all.map(|nano| Some(tokens(total.alone - nano) / homes)),
        "saving / homes",
    );
    list.add(
        "saving_share",
        "1",
        all.map(|nano| ratio(tokens(total.alone - nano), tokens(total.alone).abs())),
        "saving / |cost of the homes each alone|",
    );
    // It is of what flowed, so it bounds a cost only where that was settled; a bound that is none is not shown.
    let best = super::optimum::cost_nano(outcome).map(i128::from);
    let best = best.filter(|best| total.unmetered == 0 && *best <= total.netting.min(total.cost));
    list.one(
        "optimum_cost",
        "token",
        best.map(tokens),
        "what the community would pay with perfect foresight: all batteries as one and as good as the best, in levels of content; network fee aside, nothing left at the end counts; runs of up to 3000 intervals; none where the levels are too coarse to bound the cost, or unmetered is above zero",
    );
    list.add(
        "optimum_share",
        "1",
        all.map(|nano| best.and_then(|best| ratio(tokens(total.alone - nano), tokens(total.alone - best)))),
        "(cost of the homes each alone - community_cost) / (cost of the homes each alone - optimum_cost)",
    );
    list.one(
        "network_income",
        "token",
        tokens(total.network),
        "network fee on energy that stays in the community",
    );
    list.one(
        "mechanism_surplus",
        "token",
        tokens(total.surplus),
        "what buyers pay above what sellers receive; below zero where the mechanism needs money",
    );
}

fn energy(list: &mut List, total: &Totals) {
    let used = kwh(total.load + total.ev + total.heat);
    list.one(
        "consumption",
        "kWh",
        used,
        "household use, cars and heat pumps; battery losses are not in it",
    );
    list.one("generation", "kWh", kwh(total.pv), "panels, at the AC side");
    list.one(
        "curtailed",
        "kWh",
        kwh(total.curtailed),
        "what panels could have given beyond export_limit_w; not in generation",
    );
    let drawn = [total.from_grid, total.own_from_grid, total.own_import];
    let fed = [total.to_grid, total.own_to_grid, total.own_export];
    list.add(
        "import",
        "kWh",
        drawn.map(|wh| Some(kwh(wh))),
        "sum over intervals of max(N, 0), N the net energy of the community; no market: of each home; twins: batteries follow their own home",
    );
    list.add(
        "export",
        "kWh",
        fed.map(|wh| Some(kwh(wh))),
        "sum over intervals of max(-N, 0); no market: of each home",
    );
    list.add(
        "self_sufficiency",
        "1",
        drawn.map(|wh| ratio(used - kwh(wh), used)),
        "1 - import / consumption: of the community; no market: of the homes each alone",
    );
    list.add(
        "self_consumption",
        "1",
        fed.map(|wh| ratio(kwh(total.pv - wh), kwh(total.pv))),
        "1 - export / generation; from storage that was full at the start it can be below what panels gave",
    );
    list.one(
        "community_lift",
        "1",
        ratio(kwh(total.import - total.from_grid), used),
        "(sum of the homes' imports - import of the community) / consumption: what netting gives at the flows of this run",
    );
    storage(list, total);
}

fn storage(list: &mut List, total: &Totals) {
    list.one(
        "battery_charged",
        "kWh",
        kwh(total.charged),
        "into home batteries, at the AC side",
    );
    list.one(
        "battery_discharged",
        "kWh",
        kwh(total.discharged),
        "from home batteries, at the AC side",
    );
    list.one("ev_charged", "kWh", kwh(total.ev), "into cars");
    list.one(
        "ev_unserved",
        "kWh",
        kwh(total.unserved),
        "what cars still wanted when they left",
    );
    list.one("heat_pumps", "kWh", kwh(total.heat), "used by heat pumps");
    let own = total.own_stored_more;
    list.add(
        "stored_more",
        "kWh",
        [total.stored_more, own, own].map(|wh| Some(kwh(wh))),
        "in the batteries at the end, less at the start",
    );
}

fn market(list: &mut List, total: &Totals, rows: &[IntervalRow]) {
    list.one(
        "traded",
        "kWh",
        kwh(total.volume),
        "energy that neighbours traded in the auction",
    );
    list.one(
        "local_trade_share",
        "1",
        ratio(kwh(total.volume), kwh(total.import)),
        "traded / sum of the homes' imports",
    );
    list.one(
        "local_share",
        "1",
        ratio(kwh(total.volume + total.pooled), kwh(total.import)),
        "(traded + deviations that neighbours cancelled) / sum of the homes' imports",
    );
    prices(list, rows);
    let (made, most): (i128, i128) = rows.iter().fold((0, 0), |sum, row| {
        (sum.0 + row.welfare_nano, sum.1 + row.welfare_max_nano)
    });
    list.one(
        "welfare",
        "token",
        tokens(made),
        "sum over trades of energy x (bid limit - offer limit)",
    );
    list.one(
        "welfare_efficiency",
        "1",
        ratio(real(made), real(most)),
        "welfare / the most there could be for these orders",
    );
    let (bid, offer): (i64, i64) = rows.iter().fold((0, 0), |sum, row| {
        (sum.0 + row.bid_wh, sum.1 + row.offer_wh)
    });
    list.one(
        "fill_ratio",
        "1",
        ratio(2.0 * kwh(total.volume), kwh(bid + offer)),
        "2 x traded / (energy of bids + energy of offers)",
    );
}

/// The local price over the run.
fn prices(list: &mut List, rows: &[IntervalRow]) {
    let priced = || {
        rows.iter()
            .filter_map(|row| Some((row.price?, row.volume_wh)))
    };
    let micro = |price: domain::money::Price| real(i128::from(price.micro_per_kwh())) / 1e6;
    let weighted: f64 = priced().map(|(price, wh)| micro(price) * kwh(wh)).sum();
    let volume: f64 = priced().map(|(_, wh)| kwh(wh)).sum();
    list.one(
        "price_mean",
        "token per kWh",
        ratio(weighted, volume),
        "mean local price, by traded energy; only mechanisms with one price have it",
    );
    let prices = || priced().map(|(price, _)| price.micro_per_kwh());
    let plain = |micro: Option<i64>| micro.map(|micro| real(i128::from(micro)) / 1e6);
    list.one(
        "price_min",
        "token per kWh",
        plain(prices().min()),
        "lowest local price",
    );
    list.one(
        "price_max",
        "token per kWh",
        plain(prices().max()),
        "highest local price",
    );
}

fn savings(list: &mut List, sums: &[HomeSums]) {
    let mut saved: Vec<i64> = sums
        .iter()
        .map(|sum| sum.alone_nano - sum.cost_nano)
        .collect();
    saved.sort_unstable();
    let better = saved.iter().filter(|nano| **nano > 0).count();
    let worse = saved.iter().filter(|nano| **nano < 0).count();
    let homes = real(saved.len() as i128);
    let end = |nano: Option<&i64>| nano.map(|nano| tokens(i128::from(*nano)));
    list.one(
        "saving_min",
        "token",
        end(saved.first()),
        "least saving of a home: below zero, it is worse off",
    );
    list.one(
        "saving_max",
        "token",
        end(saved.last()),
        "greatest saving of a home",
    );
    list.one(
        "homes_better_off",
        "1",
        ratio(real(better as i128), homes),
        "share of homes that pay less than alone",
    );
    list.one(
        "homes_worse_off",
        "1",
        ratio(real(worse as i128), homes),
        "share of homes that pay more than alone",
    );
    list.one(
        "saving_gini",
        "1",
        gini(&saved),
        "sum over pairs |y_i - y_j| / (2 n^2 mean) of savings; not defined where one is below zero or all are zero",
    );
}

/// The Gini coefficient of sorted numbers; none where one is below zero, or all are zero.
fn gini(sorted: &[i64]) -> Option<f64> {
    if sorted.first().is_none_or(|least| *least < 0) {
        return None;
    }
    let count = sorted.len() as i128;
    let sum: i128 = sorted.iter().map(|y| i128::from(*y)).sum();
    let ranked: i128 = (1..)
        .zip(sorted)
        .map(|(rank, y)| (2 * rank - count - 1) * i128::from(*y))
        .sum();
    ratio(real(ranked), real(count) * real(sum))
}

fn peaks(list: &mut List, outcome: &Outcome) {
    let rows = &outcome.rows;
    let Some(first) = rows.first() else { return };
    let length_h = f64::from(first.moment.interval.length_s()) / 3600.0;
    let power = |wh: i64| kwh(wh) / length_h;
    let mut net: Vec<i64> = rows.iter().map(IntervalRow::net_wh).collect();
    let ramps: i64 = net.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum();
    let daily = outcome.calendar.days().iter().filter_map(|day| {
        let day = rows.get(day.clone())?;
        day.iter().map(IntervalRow::net_wh).max()
    });
    let daily: Vec<f64> = daily.map(|wh| power(wh.max(0))).collect();
    list.one(
        "load_factor_loss",
        "1",
        load_factor_loss(&net, length_h),
        "mean over stretches of 730 h of 1 - mean(N) / max(N); whole run where it is shorter",
    );
    net.sort_unstable();
    let (least, most) = (
        net.first().copied().unwrap_or(0),
        net.last().copied().unwrap_or(0),
    );
    list.one(
        "peak_import",
        "kW",
        power(most.max(0)),
        "greatest mean power of an interval from the grid",
    );
    list.one(
        "peak_export",
        "kW",
        power((-least).max(0)),
        "greatest mean power of an interval into the grid",
    );
    let place = (net.len() * 999).div_ceil(1000).saturating_sub(1);
    list.one(
        "import_p999",
        "kW",
        power(net[place].max(0)),
        "99.9 % of intervals import no more",
    );
    list.one(
        "daily_peak_mean",
        "kW",
        ratio(daily.iter().sum(), real(daily.len() as i128)),
        "mean over local days of the day's greatest import",
    );
    list.one("ramping", "kWh", kwh(ramps), "sum of |N(t) - N(t-1)|");
}

fn load_factor_loss(net: &[i64], length_h: f64) -> Option<f64> {
    let per_hour = if length_h > 0.0 { 1.0 / length_h } else { 1.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "intervals in an hour: 1 to 60"
    )]
    let stretch = (per_hour.round() as usize).max(1) * LOAD_FACTOR_H;
    let mut losses = Vec::new();
    for part in net.chunks(stretch) {
        let whole = part.len() == stretch || net.len() < stretch;
        let most = part.iter().copied().max().unwrap_or(0);
        if whole && most > 0 {
            let mean = kwh(part.iter().sum()) / real(part.len() as i128);
            losses.push(1.0 - mean / kwh(most));
        }
    }
    ratio(losses.iter().sum(), real(losses.len() as i128))
}

fn settlement(list: &mut List, total: &Totals, outcome: &Outcome) {
    let readings = real(outcome.home_intervals().into());
    let auction = !matches!(outcome.rule, super::market::Rule::Share(_));
    list.one(
        "unmetered",
        "kWh",
        kwh(total.unmetered),
        "sum over homes and intervals of |energy that flowed - energy that was settled|: readings that never counted, and wrong clocks; nobody's cost or saving has it",
    );
    list.one(
        "deviated",
        "kWh",
        auction.then(|| kwh(total.deviated)),
        "sum of |settled energy - traded energy| of all homes; not defined for sharing rules, which have no trades before the meter",
    );
    list.one(
        "pooled",
        "kWh",
        kwh(total.pooled),
        "deviations that neighbours cancelled",
    );
    list.one(
        "supplied",
        "kWh",
        kwh(total.supplied),
        "from the utility, as settled",
    );
    list.one(
        "losses",
        "kWh",
        kwh(total.loss),
        "between the homes and the transformer",
    );
    list.one(
        "data_completeness",
        "1",
        ratio(readings - real(total.missing.into()), readings),
        "share of readings that were there at the provisional settlement",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gini_by_hand() {
        assert_eq!(gini(&[5, 5, 5]), Some(0.0));
        assert_eq!(gini(&[0, 0, 9]), Some(2.0 / 3.0));
        assert_eq!(gini(&[1, 3]), Some(0.25));
        assert_eq!(gini(&[-1, 3]), None);
        assert_eq!(gini(&[0, 0]), None);
    }

    #[test]
    fn the_load_factor_is_that_of_each_stretch() {
        let near = |net: &[i64], expect: f64| {
            let loss = load_factor_loss(net, 0.25).unwrap();
            assert!((loss - expect).abs() < 1e-3, "{loss} is not {expect}");
        };
        let flat = vec![250; 730 * 4 * 2];
        near(&flat, 0.0);
        let mut peaky = flat.clone();
        peaky[0] = 500;
        near(&peaky, 0.25);
        near(&[100, 200], 0.25);
        assert_eq!(load_factor_loss(&[-100, -200], 0.25), None);
    }
}
