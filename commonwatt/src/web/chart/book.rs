//! One auction as a picture: offers from the cheapest, bids from the highest, where they meet, and one's own
//! order among them. The others have no names here.

use domain::energy::Energy;
use domain::money::Price;
use domain::order::Side;
use maud::{Markup, html};

use super::{HEIGHT, Plot, Scale, nice};
use crate::web::words::Words;

const CENT: i64 = 10_000;

/// An order as the picture needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) side: Side,
    pub(crate) energy: Energy,
    pub(crate) limit: Price,
    /// Whether it is the viewer's own.
    pub(crate) own: bool,
}

/// What the chart shows.
pub(crate) struct Depth {
    pub(crate) title: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) price: Option<Price>,
    pub(crate) volume: Energy,
}

impl Depth {
    /// The steps of one side, best first.
    fn of(&self, side: Side) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .steps
            .iter()
            .copied()
            .filter(|s| s.side == side)
            .collect();
        steps.sort_by_key(|step| match side {
            Side::Bid => -step.limit.micro_per_kwh(),
            Side::Offer => step.limit.micro_per_kwh(),
        });
        steps
    }
}

/// Draws it.
pub(crate) fn depth(words: &Words, shown: &Depth) -> Plot {
    let (bids, offers) = (shown.of(Side::Bid), shown.of(Side::Offer));
    let sum = |steps: &[Step]| steps.iter().map(|s| s.energy.wh()).sum::<i64>();
    let widest = sum(&bids).max(sum(&offers)).max(1);
    let most = shown.steps.iter().map(|s| s.limit.micro_per_kwh()).max();
    let (step, count) = nice(most.unwrap_or(CENT).saturating_mul(21) / 20, CENT);
    let (x, y) = (
        Scale::across(0, widest),
        Scale::up(0, step.saturating_mul(count)),
    );
    let ticks = (0..=count).rev();
    let quarter = |n: i64| Energy::from_wh(widest / 4 * n);
    Plot {
        title: shown.title.clone(),
        summary: summary(words, shown),
        unit: "ct/kWh · kWh".to_owned(),
        y_ticks: ticks.map(|n| (n * step / CENT).to_string()).collect(),
        x_labels: (0..4).map(|n| words.kwh(quarter(n))).collect(),
        inside: inside(shown, [&bids, &offers], x, y),
        legend: vec![
            ("demand", words.t("chart.wanted").to_owned()),
            ("supply", words.t("chart.offered").to_owned()),
            ("own-order", words.t("chart.my_order").to_owned()),
            ("price", words.t("chart.local_price").to_owned()),
        ],
        table: table(words, [&bids, &offers]),
        csv: None,
    }
}

fn inside(shown: &Depth, [bids, offers]: [&[Step]; 2], x: Scale, y: Scale) -> Markup {
    html! {
        (own(bids, x, y)) (own(offers, x, y))
        path.demand d=(line(bids, x, y)) {}
        path.supply d=(line(offers, x, y)) {}
        @if let Some(price) = shown.price {
            @let (across, up) = (x.at(shown.volume.wh()), y.at(price.micro_per_kwh()));
            path.price d=(format!("M0 {up} H{across}")) {}
            path.drop d=(format!("M{across} {up} V{HEIGHT}")) {}
            path.meet d=(format!("M{across} {up} h0.1")) {}
        }
    }
}

fn line(steps: &[Step], x: Scale, y: Scale) -> String {
    let mut path = String::new();
    let mut sum_wh = 0;
    for step in steps {
        let level = y.at(step.limit.micro_per_kwh());
        let join = if path.is_empty() {
            format!("M0 {level}")
        } else {
            format!("V{level}")
        };
        sum_wh += step.energy.wh();
        path.push_str(&format!("{join} H{} ", x.at(sum_wh)));
    }
    path
}

/// The viewer's own steps as blocks from the ground.
fn own(steps: &[Step], x: Scale, y: Scale) -> Markup {
    let mut sum_wh = 0;
    let mut blocks = Vec::new();
    for step in steps {
        let (left, right) = (x.at(sum_wh), x.at(sum_wh + step.energy.wh()));
        sum_wh += step.energy.wh();
        if step.own {
            blocks.push((left, right - left, y.at(step.limit.micro_per_kwh())));
        }
    }
    html! {
        @for (left, wide, top) in blocks {
            rect.own-order x=(left) y=(top) width=(wide.max(40)) height=(HEIGHT - top) {}
        }
    }
}

fn summary(words: &Words, shown: &Depth) -> String {
    match shown.price {
        Some(price) => words.fill(
            "chart.depth_summary",
            &[
                ("energy", &words.energy(shown.volume)),
                ("price", &words.price(price)),
            ],
        ),
        None => words.t("chart.no_price").to_owned(),
    }
}

fn table(words: &Words, sides: [&[Step]; 2]) -> Markup {
    html! {
        table {
            thead { tr {
                th { (words.t("chart.order")) } th.n { "kWh" } th.n { (words.t("chart.limit")) " ct/kWh" }
            } }
            tbody { @for step in sides.into_iter().flatten() { tr.own[step.own] {
                td {
                    @match step.side {
                        Side::Bid => (words.t("chart.buys")),
                        Side::Offer => (words.t("chart.sells")),
                    }
                    @if step.own { " · " b { (words.t("chart.my_order")) } }
                }
                td.n { (words.kwh(step.energy)) }
                td.n { (words.cents(step.limit)) }
            } } }
        }
    }
}
