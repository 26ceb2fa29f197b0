//! The chart room: inline SVG, each chart with its table twin and, where there is one, its CSV.
//!
//! A plot is stretched to the room it has, phone or wall; its labels are HTML beside it, so that they keep
//! their size. Coordinates are integers: a chart is for the eye, and its table has the numbers.

mod ahead;
mod book;
mod energy;
mod exchange;
mod load;
mod price;
mod scale;

pub(crate) use ahead::{Ahead, AheadPoint, ahead};
pub(crate) use book::{Depth, Step, depth};
pub(crate) use energy::{EnergyBar, energy};
pub(crate) use exchange::{Exchanged, exchange};
pub(crate) use load::{Load, LoadPoint, load};
pub(crate) use price::{Prices, prices};
pub(crate) use scale::{HEIGHT, Scale, WIDTH, nice};

use maud::{Markup, html};

use super::words::Words;

/// A chart, drawn but for its frame.
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What it shows, in one sentence, for who cannot see it.
    pub(crate) summary: String,
    pub(crate) unit: String,
    /// From the top down, evenly spaced.
    pub(crate) y_ticks: Vec<String>,
    /// Evenly spaced, each where its column begins.
    pub(crate) x_labels: Vec<String>,
    pub(crate) inside: Markup,
    /// The class of each sign, and its word.
    pub(crate) legend: Vec<(&'static str, String)>,
    pub(crate) table: Markup,
    pub(crate) csv: Option<String>,
}

/// The chart with its frame, legend, table and CSV.
pub(crate) fn figure(words: &Words, plot: &Plot) -> Markup {
    html! {
        figure.chart {
            figcaption {
                h2 { (plot.title) " " small { (plot.unit) } }
                @if !plot.legend.is_empty() {
                    ul.legend { @for (class, word) in &plot.legend {
                        li { span class=(format!("sign {class}")) {} (word) }
                    } }
                }
            }
            div.plot {
                div.y aria-hidden="true" { @for tick in &plot.y_ticks { span { (tick) } } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img"
                    aria-label=(plot.summary) {
                    (gridlines(plot.y_ticks.len()))
                    (plot.inside)
                }
                div.x.dense[plot.x_labels.len() > 6] aria-hidden="true" { @for label in &plot.x_labels { span { (label) } } }
            }
            details.twin {
                summary { (words.t("chart.table")) }
                div.scroll tabindex="0" role="region" aria-label=(plot.title) { (plot.table) }
            }
            @if let Some(csv) = &plot.csv { p.csv { a href=(csv) download { (words.t("chart.csv")) } } }
        }
    }
}

fn gridlines(ticks: usize) -> Markup {
    let steps = i64::try_from(ticks.saturating_sub(1)).unwrap_or(1).max(1);
    html! {
        @for step in 0..=steps { path.gridline d=(format!("M0 {} H{WIDTH}", HEIGHT * step / steps)) {} }
    }
}

/// The patterns of the signs, once for each page with a chart that fills with them.
pub(crate) fn patterns() -> Markup {
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" {
            defs {
                pattern id="p-neighbours" width="96" height="80" patternUnits="userSpaceOnUse" {
                    rect.neighbours width="96" height="80" {}
                    ellipse.over cx="48" cy="40" rx="15" ry="12" {}
                }
                pattern id="p-utility" width="112" height="90" patternUnits="userSpaceOnUse" {
                    rect.utility width="112" height="90" {}
                    path.over-line d="M-28 22 L28 -22 M0 90 L112 0 M84 112 L140 68" {}
                }
                pattern id="p-hole" width="112" height="90" patternUnits="userSpaceOnUse" {
                    path.hole-line d="M-28 22 L28 -22 M0 90 L112 0 M84 112 L140 68" {}
                }
                pattern id="p-sold" width="112" height="90" patternUnits="userSpaceOnUse" {
                    rect.sold width="112" height="90" {}
                    path.over-line d="M-28 68 L28 112 M0 0 L112 90 M84 -22 L140 22" {}
                }
            }
        }
    }
}

/// Labels for `count` intervals in `columns` columns.
pub(crate) fn labels(count: usize, columns: usize, label: impl Fn(usize) -> String) -> Vec<String> {
    let columns = columns.min(count).max(1);
    (0..columns).map(|n| label(n * count / columns)).collect()
}
