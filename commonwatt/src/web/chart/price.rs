//! The local price over time as steps, between the utility's two prices, with a home's own limits.

use domain::energy::Energy;
use domain::money::Price;
use domain::time::{Interval, Timestamp};
use maud::{Markup, html};

use super::{HEIGHT, Plot, Scale, WIDTH, labels, nice};
use crate::view::PricePoint;
use crate::web::words::Words;

/// Micro-tokens per kWh in a cent.
const CENT: i64 = 10_000;
/// Labels along the time.
const COLUMNS: usize = 6;

/// What the chart shows.
pub(crate) struct Prices<'a> {
    pub(crate) title: String,
    /// Oldest first.
    pub(crate) points: &'a [PricePoint],
    pub(crate) retail: Price,
    pub(crate) feed_in: Price,
    /// Most a home pays and least it wants.
    pub(crate) limits: Option<(Price, Price)>,
    pub(crate) now: Timestamp,
    pub(crate) csv: Option<String>,
}

/// Draws it.
pub(crate) fn prices(words: &Words, shown: &Prices<'_>) -> Plot {
    let most = shown.points.iter().filter_map(|p| p.price).max();
    let most = most.unwrap_or(shown.retail).max(shown.retail);
    // A little air above the highest line.
    let (step, count) = nice(most.micro_per_kwh().saturating_mul(21) / 20, CENT);
    let y = Scale::up(0, step.saturating_mul(count));
    let x = time_scale(shown.points);
    let ticks = (0..=count).rev().map(|n| {
        let tick = words.cents(Price::from_micro_per_kwh(n * step));
        tick.trim_end_matches(['0'])
            .trim_end_matches(words.language.decimal_sign())
            .to_owned()
    });
    let mut legend = vec![
        ("price", words.t("chart.local_price").to_owned()),
        ("utility-line", words.t("chart.utility_prices").to_owned()),
        (
            "volume",
            words.fill(
                "chart.traded_most",
                &[("energy", &words.energy(most_traded(shown)))],
            ),
        ),
    ];
    if shown.limits.is_some() {
        legend.push(("own-limit", words.t("chart.my_limits").to_owned()));
    }
    Plot {
        title: shown.title.clone(),
        summary: summary(words, shown),
        unit: "ct/kWh".to_owned(),
        y_ticks: ticks
            .map(|t| if t.is_empty() { "0".to_owned() } else { t })
            .collect(),
        x_labels: labels(shown.points.len(), COLUMNS, |n| {
            shown
                .points
                .get(n)
                .map_or_else(String::new, |p| words.clock(p.interval.start()))
        }),
        inside: inside(shown, x, y),
        legend,
        table: table(words, shown.points),
        csv: shown.csv.clone(),
    }
}

fn time_scale(points: &[PricePoint]) -> Scale {
    let from = points.first().map_or(0, |p| p.interval.start_s());
    let to = points
        .last()
        .map_or(from + 1, |p| p.interval.end().unix_s());
    Scale::across(from, to)
}

fn inside(shown: &Prices<'_>, x: Scale, y: Scale) -> Markup {
    let level = |price: Price| format!("M0 {} H{WIDTH}", y.at(price.micro_per_kwh()));
    let bar = Scale::up(0, most_traded(shown).wh().max(1).saturating_mul(4));
    let now = x.at(shown.now.unix_s());
    html! {
        @for point in shown.points.iter().filter(|p| p.volume.wh() > 0) {
            @let (left, right) = edges(point.interval, x);
            @let top = bar.at(point.volume.wh());
            rect.volume x=(left) y=(top) width=((right - left).max(1)) height=(HEIGHT - top) {}
        }
        path.utility-line d=(level(shown.retail)) {}
        path.utility-line d=(level(shown.feed_in)) {}
        @if let Some((most, least)) = shown.limits {
            path.own-limit d=(level(most)) {}
            path.own-limit d=(level(least)) {}
        }
        @if now > 0 && now < WIDTH { path.moment d=(format!("M{now} 0 V{HEIGHT}")) {} }
        path.price d=(steps(shown.points, x, y)) {}
    }
}

/// The most that was traded in one interval: the height of the highest bar.
fn most_traded(shown: &Prices<'_>) -> Energy {
    let volumes = shown.points.iter().map(|p| p.volume);
    volumes.max().unwrap_or(Energy::ZERO)
}

fn edges(interval: Interval, x: Scale) -> (i64, i64) {
    (x.at(interval.start_s()), x.at(interval.end().unix_s()))
}

/// The price as steps; an interval in which nothing traded, or none that is known, leaves a gap.
fn steps(points: &[PricePoint], x: Scale, y: Scale) -> String {
    let mut path = String::new();
    let mut drawn_to = None;
    for point in points {
        let Some(price) = point.price else {
            drawn_to = None;
            continue;
        };
        let (left, right) = edges(point.interval, x);
        let level = y.at(price.micro_per_kwh());
        let join = match drawn_to {
            Some(end) if end == point.interval.start() => format!("V{level}"),
            _ => format!("M{left} {level}"),
        };
        path.push_str(&format!("{join} H{right} "));
        drawn_to = Some(point.interval.end());
    }
    path
}

fn summary(words: &Words, shown: &Prices<'_>) -> String {
    let known = shown.points.iter().filter_map(|p| p.price);
    match (known.clone().min(), known.max()) {
        (Some(least), Some(most)) => words.fill(
            "chart.price_summary",
            &[
                ("least", &words.price(least)),
                ("most", &words.price(most)),
                ("feed_in", &words.price(shown.feed_in)),
                ("retail", &words.price(shown.retail)),
            ],
        ),
        _ => words.t("chart.no_price").to_owned(),
    }
}

fn table(words: &Words, points: &[PricePoint]) -> Markup {
    html! {
        table {
            thead { tr {
                th { (words.t("chart.interval")) } th.n { "ct/kWh" }
                th.n { (words.t("chart.traded")) " kWh" }
            } }
            tbody { @for point in points.iter().rev() { tr {
                td { (words.interval(point.interval)) }
                td.n { @match point.price { Some(price) => (words.cents(price)), None => "–" } }
                td.n { (words.kwh(point.volume)) }
            } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_traded_and_nothing_known_leave_gaps() {
        let point = |n: i64, price: Option<i64>| PricePoint {
            interval: Interval::new(n * 900, 900).unwrap(),
            price: price.map(Price::from_micro_per_kwh),
            volume: Energy::ZERO,
        };
        let points = [
            point(0, Some(10)),
            point(1, None),
            point(2, Some(5)),
            point(4, Some(5)),
        ];
        let (x, y) = (time_scale(&points), Scale::up(0, 10));
        let path = steps(&points, x, y);
        assert_eq!(path.matches('M').count(), 3, "{path}");
        assert!(path.starts_with("M0 0 H1920 "), "{path}");
    }
}
