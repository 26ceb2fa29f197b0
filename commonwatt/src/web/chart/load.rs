//! Power over time against a limit: what was, and the band in which it is forecast.

use maud::{Markup, html};

use super::scale::mirrored;
use super::{HEIGHT, Plot, Scale, WIDTH, labels};
use crate::web::words::Words;
use domain::time::Interval;

/// Labels along the time.
const COLUMNS: usize = 6;

/// One interval: import above zero, export below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadPoint {
    pub(crate) interval: Interval,
    pub(crate) actual_w: Option<i64>,
    /// Least, middle and most that is forecast.
    pub(crate) forecast_w: Option<(i64, i64, i64)>,
    pub(crate) estimated: bool,
    /// It is over, and its reading should have come.
    pub(crate) missing: bool,
}

/// What the chart shows.
pub(crate) struct Load<'a> {
    pub(crate) title: String,
    pub(crate) points: &'a [LoadPoint],
    pub(crate) limit_w: i64,
    pub(crate) csv: Option<String>,
}

/// Draws it.
pub(crate) fn load(words: &Words, shown: &Load<'_>) -> Plot {
    let of = |p: &LoadPoint| {
        let forecast = p
            .forecast_w
            .map_or(0, |(low, _, high)| low.abs().max(high.abs()));
        p.actual_w.map_or(0, i64::abs).max(forecast)
    };
    let most = shown.points.iter().map(of).max().unwrap_or(0).max(1_000);
    let (step, half) = mirrored(most, 1_000);
    let top = step * half;
    let ticks = (-half..=half)
        .rev()
        .map(|n| (n * step / 1000).abs().to_string());
    let limit = words.kilowatts(shown.limit_w);
    let limit_word = if shown.limit_w <= top {
        "chart.limit_is"
    } else {
        "chart.limit_above"
    };
    Plot {
        title: shown.title.clone(),
        summary: words.fill(
            "chart.load_summary",
            &[("most", &words.kilowatts(most)), ("limit", &limit)],
        ),
        unit: words.t("chart.load_unit").to_owned(),
        y_ticks: ticks.collect(),
        x_labels: labels(shown.points.len(), COLUMNS, |n| {
            shown
                .points
                .get(n)
                .map_or_else(String::new, |p| words.clock(p.interval.start()))
        }),
        inside: inside(shown, Scale::up(-top, top), shown.limit_w <= top),
        legend: vec![
            ("actual", words.t("chart.actual").to_owned()),
            ("expected", words.t("chart.expected").to_owned()),
            ("band", words.t("chart.probable").to_owned()),
            ("limit", words.fill(limit_word, &[("limit", &limit)])),
        ],
        table: table(words, shown.points),
        csv: shown.csv.clone(),
    }
}

fn inside(shown: &Load<'_>, y: Scale, with_limit: bool) -> Markup {
    let count = i64::try_from(shown.points.len()).unwrap_or(1).max(1);
    let x = Scale::across(0, count);
    html! {
        @for (n, point) in (0..).zip(shown.points) {
            @if let Some((low, _, high)) = point.forecast_w {
                @let (top, bottom) = (y.at(high), y.at(low));
                rect.band x=(x.at(n)) y=(top) width=(x.at(n + 1) - x.at(n)) height=((bottom - top).max(1)) {}
            }
        }
        path.hole d=(holes(shown.points, x)) {}
        path.zero d=(format!("M0 {} H{WIDTH}", y.at(0))) {}
        path.expected d=(steps(shown.points, x, y, |p| p.forecast_w.map(|f| f.1))) {}
        path.actual d=(steps(shown.points, x, y, |p| p.actual_w)) {}
        @if with_limit {
            path.limit d=(format!("M0 {} H{WIDTH}", y.at(shown.limit_w))) {}
            path.limit d=(format!("M0 {} H{WIDTH}", y.at(-shown.limit_w))) {}
        }
    }
}

/// What should have been metered and was not.
fn holes(points: &[LoadPoint], x: Scale) -> String {
    let mut path = String::new();
    for (n, _) in (0..).zip(points).filter(|(_, point)| point.missing) {
        let (left, wide) = (x.at(n), x.at(n + 1) - x.at(n));
        path.push_str(&format!("M{left} 0h{wide}v{HEIGHT}h-{wide}z"));
    }
    path
}

fn steps(
    points: &[LoadPoint],
    x: Scale,
    y: Scale,
    value: impl Fn(&LoadPoint) -> Option<i64>,
) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for (n, point) in (0..).zip(points) {
        let Some(value) = value(point) else {
            pen_down = false;
            continue;
        };
        let level = y.at(value);
        let join = if pen_down {
            format!("V{level}")
        } else {
            format!("M{} {level}", x.at(n))
        };
        path.push_str(&format!("{join} H{} ", x.at(n + 1)));
        pen_down = true;
    }
    path
}

fn table(words: &Words, points: &[LoadPoint]) -> Markup {
    let way = |w: i64| {
        let way = if w < 0 { "grid.export" } else { "grid.import" };
        format!("{} {}", words.t(way), words.kilowatts(w))
    };
    html! {
        table {
            thead { tr {
                th { (words.t("chart.interval")) } th.n { (words.t("chart.actual")) }
                th.n { (words.t("chart.forecast")) } th { (words.t("chart.quality")) }
            } }
            tbody { @for point in points { tr {
                td { (words.interval(point.interval)) }
                td.n { @match point.actual_w { Some(w) => (way(w)), None => "–" } }
                td.n { @match point.forecast_w { Some((_, w, _)) => (way(w)), None => "–" } }
                td {
                    @if point.missing { (words.t("number.missing")) }
                    @else if point.actual_w.is_none() { (words.t("chart.forecast")) }
                    @else if point.estimated { (words.t("number.estimated")) }
                    @else { (words.t("number.measured")) }
                }
            } } }
        }
    }
}
