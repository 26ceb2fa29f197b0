//! Inline SVG charts: supply and demand of an auction, and the local price over time.
//!
//! Pixels are integers: a chart is for the eye, and its table twin has the numbers.

use maud::{Markup, html};

use crate::view::{Cleared, OrderLine, PricePoint, Street, clock_text, price_text};
use domain::money::Price;
use domain::order::Side;

const WIDTH: i64 = 640;
/// The price chart spans the page.
const WIDE: i64 = 1120;
const HEIGHT: i64 = 220;
/// Room for labels on the left and below.
const LEFT: i64 = 44;
const BELOW: i64 = 22;

/// Maps a value range onto pixels.
#[derive(Clone, Copy)]
struct Scale {
    from: i64,
    to: i64,
    start_px: i64,
    end_px: i64,
}

impl Scale {
    fn px(self, value: i64) -> i64 {
        let span = i128::from((self.to - self.from).max(1));
        let share = i128::from(value - self.from) * i128::from(self.end_px - self.start_px) / span;
        self.start_px + i64::try_from(share).unwrap_or(0)
    }
}

fn price_scale(top: Price) -> Scale {
    Scale {
        from: 0,
        to: top.micro_per_kwh().max(1),
        start_px: HEIGHT - BELOW,
        end_px: 8,
    }
}

/// Supply and demand as steps, with the price where they meet.
pub(crate) fn curves(cleared: &Cleared) -> Markup {
    let top = cleared
        .orders
        .iter()
        .map(|o| o.limit)
        .max()
        .unwrap_or(Price::ZERO);
    let total = |side| -> i64 {
        cleared
            .orders
            .iter()
            .filter(|o| o.side == side)
            .map(|o| o.energy.wh())
            .sum()
    };
    let widest = total(Side::Bid).max(total(Side::Offer)).max(1);
    let x = Scale {
        from: 0,
        to: widest,
        start_px: LEFT,
        end_px: WIDTH - 8,
    };
    let y = price_scale(Price::from_micro_per_kwh(top.micro_per_kwh() * 11 / 10));
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
            aria-label="Offers from the cheapest, bids from the highest; they meet at the local price" {
            (axis(y, WIDTH))
            path.demand d=(steps(&sorted(&cleared.orders, Side::Bid), x, y)) {}
            path.supply d=(steps(&sorted(&cleared.orders, Side::Offer), x, y)) {}
            @if let Some(price) = cleared.price {
                path.price d=(format!("M{LEFT} {} H{}", y.px(price.micro_per_kwh()), x.px(cleared.volume.wh()))) {}
                circle.meet cx=(x.px(cleared.volume.wh())) cy=(y.px(price.micro_per_kwh())) r="5" {}
            }
            text.label x=(WIDTH - 8) y=(HEIGHT - 6) text-anchor="end" {
                "up to " (widest / 1000) "." (format!("{:02}", widest % 1000 / 10)) " kWh"
            }
            text.label.demand-name x=(LEFT + 6) y="18" { "wanted" }
            text.label.supply-name x=(LEFT + 6) y=(HEIGHT - BELOW - 8) { "offered" }
        }
    }
}

fn sorted(orders: &[OrderLine], side: Side) -> Vec<&OrderLine> {
    let mut of_side: Vec<&OrderLine> = orders.iter().filter(|o| o.side == side).collect();
    of_side.sort_by_key(|o| match side {
        Side::Bid => -o.limit.micro_per_kwh(),
        Side::Offer => o.limit.micro_per_kwh(),
    });
    of_side
}

fn steps(orders: &[&OrderLine], x: Scale, y: Scale) -> String {
    let mut path = String::new();
    let mut sum_wh = 0;
    for order in orders {
        let level = y.px(order.limit.micro_per_kwh());
        let command = if path.is_empty() {
            format!("M{} {level}", x.px(0))
        } else {
            format!("V{level}")
        };
        sum_wh += order.energy.wh();
        path.push_str(&format!("{command} H{} ", x.px(sum_wh)));
    }
    path
}

fn axis(y: Scale, width: i64) -> Markup {
    let step = [10_000, 20_000, 50_000, 100_000, 200_000, 500_000]
        .into_iter()
        .find(|step| y.to / step <= 6)
        .unwrap_or(1_000_000);
    let levels = (0..).map(|n| n * step).take_while(|level| *level <= y.to);
    html! {
        @for level in levels {
            path.gridline d=(format!("M{LEFT} {} H{width}", y.px(level))) {}
            text.label x=(LEFT - 6) y=(y.px(level) + 4) text-anchor="end" {
                (price_text(Price::from_micro_per_kwh(level)).trim_end_matches(".0 ct").trim_end_matches(" ct"))
            }
        }
    }
}

/// The local price of the last intervals between what the utility pays and asks.
pub(crate) fn prices(street: &Street) -> Markup {
    let y = price_scale(Price::from_micro_per_kwh(
        street.retail.micro_per_kwh() * 11 / 10,
    ));
    let level = |price: Price| format!("M{LEFT} {} H{WIDE}", y.px(price.micro_per_kwh()));
    html! {
        h2 { "Local price " small { "ct per kWh" } }
        @if street.prices.is_empty() {
            p.empty { "The first price comes when the gate closes." }
        } @else {
            svg.chart.wide viewBox=(format!("0 0 {WIDE} {HEIGHT}")) role="img"
                aria-label="Local price by interval, between the utility’s two prices" {
                (axis(y, WIDE))
                path.utility d=(level(street.retail)) {}
                text.label x=(WIDE - 4) y=(y.px(street.retail.micro_per_kwh()) - 5) text-anchor="end" { "utility asks" }
                path.utility d=(level(street.feed_in)) {}
                text.label x=(WIDE - 4) y=(y.px(street.feed_in.micro_per_kwh()) + 14) text-anchor="end" { "utility pays" }
                (price_steps(&street.prices, y))
            }
            details { summary { "As a table" } (price_table(&street.prices)) }
        }
    }
}

fn price_steps(points: &[PricePoint], y: Scale) -> Markup {
    let count = i64::try_from(points.len()).unwrap_or(1);
    let x = Scale {
        from: 0,
        to: count.max(8),
        start_px: LEFT,
        end_px: WIDE - 8,
    };
    let most = points
        .iter()
        .map(|p| p.volume.wh())
        .max()
        .unwrap_or(1)
        .max(1);
    let bar = Scale {
        from: 0,
        to: most,
        start_px: 0,
        end_px: 60,
    };
    let mut path = String::new();
    let mut pen_down = false;
    for (index, point) in (0_i64..).zip(points) {
        let Some(price) = point.price else {
            pen_down = false;
            continue;
        };
        let level = y.px(price.micro_per_kwh());
        let start = if pen_down {
            format!("V{level}")
        } else {
            format!("M{} {level}", x.px(index))
        };
        path.push_str(&format!("{start} H{} ", x.px(index + 1)));
        pen_down = true;
    }
    let every = (count / 8).max(1);
    html! {
        @for (index, point) in (0_i64..).zip(points) {
            @let high = bar.px(point.volume.wh());
            rect.volume x=(x.px(index) + 1) y=(HEIGHT - BELOW - high)
                width=((x.px(index + 1) - x.px(index) - 2).max(1)) height=(high) {}
            @if index % every == 0 {
                text.label x=(x.px(index)) y=(HEIGHT - 6) { (clock_text(point.interval.start())) }
            }
        }
        path.price d=(path) {}
    }
}

fn price_table(points: &[PricePoint]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "interval" } th.n { "ct/kWh" } th.n { "traded Wh" } } }
            tbody { @for point in points.iter().rev() { tr {
                td { (crate::view::interval_text(point.interval)) }
                td.n { @match point.price { Some(price) => (price_text(price).trim_end_matches(" ct")), None => "none" } }
                td.n { (point.volume.wh()) }
            } } }
        } }
    }
}
