//! Prices of intervals to come as steps, with the band in which they probably lie, how much is probably local, and
//! the intervals that a plan has chosen.

use domain::money::Price;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};

use super::{HEIGHT, Plot, Scale, WIDTH, labels, nice};
use crate::web::words::Words;

/// Micro-tokens per kWh in a cent.
const CENT: i64 = 10_000;
/// Labels along the time.
const COLUMNS: usize = 6;

/// One interval to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AheadPoint {
    pub(crate) interval: Interval,
    pub(crate) price: Price,
    /// Probably not less, probably not more.
    pub(crate) band: Option<(Price, Price)>,
    /// How much is probably local, in thousandths.
    pub(crate) local_permille: Option<u32>,
    /// Whether a plan charges in it.
    pub(crate) planned: bool,
}

/// What the chart shows.
pub(crate) struct Ahead<'a> {
    pub(crate) title: String,
    /// Oldest first.
    pub(crate) points: &'a [AheadPoint],
    /// What the price is called.
    pub(crate) price_key: &'static str,
    pub(crate) now: Timestamp,
    pub(crate) csv: Option<String>,
}

/// Draws it.
pub(crate) fn ahead(words: &Words, shown: &Ahead<'_>) -> Plot {
    let tops = shown.points.iter().map(|p| p.band.map_or(p.price, |b| b.1));
    let most = tops.max().unwrap_or(Price::ZERO).micro_per_kwh();
    let (step, count) = nice(most.saturating_mul(21) / 20, CENT);
    let y = Scale::up(0, step.saturating_mul(count));
    let from = shown.points.first().map_or(0, |p| p.interval.start_s());
    let to = shown
        .points
        .last()
        .map_or(from + 1, |p| p.interval.end().unix_s());
    let whole = |micro: i64| (micro / CENT).to_string();
    Plot {
        title: shown.title.clone(),
        summary: summary(words, shown.points),
        unit: "ct/kWh".to_owned(),
        y_ticks: (0..=count).rev().map(|n| whole(n * step)).collect(),
        x_labels: labels(shown.points.len(), COLUMNS, |n| {
            let point = shown.points.get(n);
            point.map_or_else(String::new, |p| words.clock(p.interval.start()))
        }),
        inside: inside(shown, Scale::across(from, to), y),
        legend: legend(words, shown),
        table: table(words, shown.points),
        csv: shown.csv.clone(),
    }
}

fn legend(words: &Words, shown: &Ahead<'_>) -> Vec<(&'static str, String)> {
    let has = |of: fn(&AheadPoint) -> bool| shown.points.iter().any(of);
    let all = [
        (true, "price", shown.price_key),
        (has(|p| p.planned), "plan", "chart.planned"),
        (has(|p| p.band.is_some()), "band", "chart.probable"),
        (
            has(|p| p.local_permille.is_some()),
            "volume",
            "chart.local_share",
        ),
    ];
    let shown = all.into_iter().filter(|(is_shown, ..)| *is_shown);
    shown
        .map(|(_, class, key)| (class, words.t(key).to_owned()))
        .collect()
}

fn inside(shown: &Ahead<'_>, x: Scale, y: Scale) -> Markup {
    let now = x.at(shown.now.unix_s());
    let edges = |i: Interval| (x.at(i.start_s()), x.at(i.end().unix_s()));
    html! {
        @for point in shown.points {
            @let (left, right) = edges(point.interval);
            @let width = (right - left).max(1);
            @if point.planned { rect.plan x=(left) y="0" width=(width) height=(HEIGHT) {} }
            @if let Some((low, high)) = point.band {
                @let (top, bottom) = (y.at(high.micro_per_kwh()), y.at(low.micro_per_kwh()));
                rect.band x=(left) y=(top) width=(width) height=((bottom - top).max(1)) {}
            }
            @if let Some(permille) = point.local_permille.filter(|p| *p > 0) {
                // A quarter of the height stands for all of it.
                @let height = HEIGHT * i64::from(permille) / 4_000;
                rect.volume x=(left) y=(HEIGHT - height) width=(width) height=(height) {}
            }
        }
        @if now > 0 && now < WIDTH { path.moment d=(format!("M{now} 0 V{HEIGHT}")) {} }
        path.price d=(steps(shown.points, x, y)) {}
    }
}

fn steps(points: &[AheadPoint], x: Scale, y: Scale) -> String {
    let mut path = String::new();
    for (n, point) in points.iter().enumerate() {
        let (left, right) = (
            x.at(point.interval.start_s()),
            x.at(point.interval.end().unix_s()),
        );
        let level = y.at(point.price.micro_per_kwh());
        let join = if n == 0 {
            format!("M{left} {level}")
        } else {
            format!("V{level}")
        };
        path.push_str(&format!("{join} H{right} "));
    }
    path
}

fn summary(words: &Words, points: &[AheadPoint]) -> String {
    let least = points.iter().min_by_key(|p| p.price);
    let most = points.iter().max_by_key(|p| p.price);
    match least.zip(most) {
        Some((least, most)) => words.fill(
            "chart.ahead_summary",
            &[
                ("least", &words.price(least.price)),
                ("at", &words.clock(least.interval.start())),
                ("most", &words.price(most.price)),
            ],
        ),
        None => words.t("chart.no_price").to_owned(),
    }
}

fn table(words: &Words, points: &[AheadPoint]) -> Markup {
    let has_band = points.iter().any(|p| p.band.is_some());
    let has_local = points.iter().any(|p| p.local_permille.is_some());
    let has_plan = points.iter().any(|p| p.planned);
    html! {
        table {
            thead { tr {
                th { (words.t("chart.interval")) } th.n { "ct/kWh" }
                @if has_band { th.n { (words.t("chart.probable")) " ct/kWh" } }
                @if has_local { th.n { (words.t("chart.local_share")) } }
                @if has_plan { th { (words.t("chart.planned")) } }
            } }
            tbody { @for point in points { tr {
                td { (words.interval(point.interval)) }
                td.n { (words.cents(point.price)) }
                @if has_band { td.n { @match point.band {
                    Some((low, high)) => { (words.cents(low)) "–" (words.cents(high)) }, None => "–"
                } } }
                @if has_local { td.n { @match point.local_permille {
                    Some(permille) => (words.permille(i64::from(permille))), None => "–"
                } } }
                @if has_plan { td { @if point.planned { "✓" } } }
            } } }
        }
    }
}
