//! Where a home's energy came from, above the line, and where it went, below: the same total, in words.

use domain::energy::Energy;
use maud::{Markup, html};

use super::scale::mirrored;
use super::{HEIGHT, Plot, Scale, WIDTH, labels};
use crate::view::energy::Flows;
use crate::web::words::Words;

/// One bar: an interval, an hour or a day.
#[derive(Clone, Debug)]
pub(crate) struct EnergyBar {
    /// Its name in the table.
    pub(crate) name: String,
    /// Its name below the plot.
    pub(crate) label: String,
    /// Its flows; none where nothing was metered.
    pub(crate) flows: Option<Flows>,
    /// Some of it was estimated.
    pub(crate) estimated: bool,
    /// It lies in the future, so nothing is missing.
    pub(crate) to_come: bool,
}

/// The signs in the order in which they are stacked, from the line outwards, with their words.
const SOURCES: [(&str, &str); 4] = [
    ("sun", "energy.from_sun"),
    ("battery-out", "energy.from_battery"),
    ("neighbours", "energy.from_neighbours"),
    ("utility", "energy.from_utility"),
];
const USES: [(&str, &str); 3] = [
    ("house", "energy.to_home"),
    ("neighbours", "energy.to_neighbours"),
    ("sold", "energy.to_utility"),
];

fn sources(flows: &Flows) -> [i64; 4] {
    [
        flows.sun,
        flows.battery_out,
        flows.from_neighbours,
        flows.from_utility,
    ]
}

fn uses(flows: &Flows) -> [i64; 3] {
    [flows.home, flows.to_neighbours, flows.to_utility]
}

/// Draws the bars.
pub(crate) fn energy(
    words: &Words,
    title: String,
    bars: &[EnergyBar],
    columns: usize,
    csv: Option<String>,
) -> Plot {
    let totals = bars.iter().filter_map(|bar| Some(bar.flows?.total()));
    let (step, half) = mirrored(totals.clone().max().unwrap_or(0), 10);
    let top = step * half;
    let scale = Scale::up(-top, top);
    let total = totals.sum::<i64>();
    let of = |class, word: &'static str| (class, words.t(word).to_owned());
    let mut legend: Vec<_> = SOURCES
        .into_iter()
        .map(|(class, word)| of(class, word))
        .collect();
    legend.extend(USES.into_iter().map(|(class, word)| of(class, word)));
    Plot {
        title,
        summary: words.fill(
            "chart.energy_summary",
            &[("energy", &words.energy(Energy::from_wh(total)))],
        ),
        unit: "kWh".to_owned(),
        y_ticks: (-half..=half)
            .rev()
            .map(|n| kwh_tick(words, n * step))
            .collect(),
        x_labels: labels(bars.len(), columns, |n| {
            bars.get(n).map_or_else(String::new, |b| b.label.clone())
        }),
        inside: inside(bars, scale),
        legend,
        table: table(words, bars),
        csv,
    }
}

/// A number beside the plot, in kWh, without a sign and without noughts behind.
pub(super) fn kwh_tick(words: &Words, wh: i64) -> String {
    let kwh = words.kwh(Energy::from_wh(wh.abs()));
    let kwh = kwh.trim_end_matches('0');
    kwh.trim_end_matches(words.language.decimal_sign())
        .to_owned()
}

/// One path for each sign: a day has hundreds of blocks.
fn inside(bars: &[EnergyBar], y: Scale) -> Markup {
    let count = i64::try_from(bars.len()).unwrap_or(1).max(1);
    let x = Scale::across(0, count);
    let mut above = SOURCES.map(|_| String::new());
    let mut below = USES.map(|_| String::new());
    let mut holes = String::new();
    for (n, bar) in (0..).zip(bars) {
        let left = x.at(n);
        let wide = ((x.at(n + 1) - left) * 9 / 10).max(1);
        match &bar.flows {
            Some(flows) => {
                stack(&mut above, &sources(flows), 1, (left, wide), y);
                stack(&mut below, &uses(flows), -1, (left, wide), y);
            }
            None if bar.to_come => {}
            None => holes.push_str(&format!("M{left} 0h{wide}v{HEIGHT}h-{wide}z")),
        }
    }
    html! {
        path.hole d=(holes) {}
        @for ((class, _), d) in SOURCES.iter().zip(&above).chain(USES.iter().zip(&below)) {
            @if !d.is_empty() { path class=(format!("bar {class}")) fill=[pattern(class)] d=(d) {} }
        }
        path.zero d=(format!("M0 {} H{WIDTH}", y.at(0))) {}
    }
}

/// Adds a bar's blocks to the signs' paths, from the line outwards.
fn stack(paths: &mut [String], values: &[i64], direction: i64, (left, wide): (i64, i64), y: Scale) {
    let mut sum = 0;
    for (path, value) in paths
        .iter_mut()
        .zip(values)
        .filter(|(_, value)| **value > 0)
    {
        let (near, far) = (y.at(sum * direction), y.at((sum + value) * direction));
        sum += value;
        let high = (near - far).abs().max(1);
        let top = near.min(far);
        path.push_str(&format!("M{left} {top}h{wide}v{high}h-{wide}z"));
    }
}

fn pattern(class: &str) -> Option<&'static str> {
    match class {
        "neighbours" => Some("url(#p-neighbours)"),
        "utility" => Some("url(#p-utility)"),
        "sold" => Some("url(#p-sold)"),
        _ => None,
    }
}

fn table(words: &Words, bars: &[EnergyBar]) -> Markup {
    let kwh = |wh: i64| words.kwh(Energy::from_wh(wh));
    html! {
        table.numbers {
            thead { tr {
                th { (words.t("chart.interval")) }
                @for (_, word) in SOURCES.iter().chain(&USES) { th.n { (words.t(word)) " kWh" } }
                th { (words.t("chart.quality")) }
            } }
            tbody { @for bar in bars.iter().filter(|bar| !bar.to_come) { tr {
                td { (bar.name) }
                @match &bar.flows {
                    Some(flows) => {
                        @for wh in sources(flows) { td { (kwh(wh)) } }
                        @for wh in uses(flows) { td { (kwh(wh)) } }
                        td { @if bar.estimated { (words.t("number.estimated")) } @else { (words.t("number.measured")) } }
                    }
                    None => {
                        @for _ in 0..7 { td { "–" } }
                        td { (words.t("number.missing")) }
                    }
                }
            } } }
        }
    }
}
