//! Figures of a run as SVG that stands alone: light or dark as the reader's system is, no script, no font.

mod voltage;

use std::fmt::Write;

use chrono::Datelike;
use domain::money::Price;

use super::engine::{IntervalRow, Outcome};
use super::summary::number;

/// What can be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    /// The local price between the utility's, and what was traded.
    Price,
    /// Where power comes from and where it goes.
    Flows,
    /// What each home saves.
    Bills,
    /// How long the community draws or feeds in how much.
    Duration,
    /// The community's net power by day and hour.
    Heat,
    /// The voltages at the homes, where the scenario has wires.
    Voltage,
}

impl Figure {
    /// All of them.
    pub const ALL: [Figure; 6] = [
        Figure::Flows,
        Figure::Price,
        Figure::Bills,
        Figure::Duration,
        Figure::Heat,
        Figure::Voltage,
    ];

    /// Whether a run has what it shows.
    #[must_use]
    pub const fn applies(self, outcome: &Outcome) -> bool {
        !matches!(self, Figure::Voltage) || outcome.grid.is_some()
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Figure::Price => "price",
            Figure::Flows => "flows",
            Figure::Bills => "bills",
            Figure::Duration => "duration",
            Figure::Heat => "heat",
            Figure::Voltage => "voltage",
        }
    }

    /// What it shows.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Figure::Price => "Local price between the utility's prices",
            Figure::Flows => "Where power comes from, and where it goes",
            Figure::Bills => "What each home saves against being alone",
            Figure::Duration => "How long how much power flows",
            Figure::Heat => "Net power of the community by day and hour",
            Figure::Voltage => "Lowest and highest voltage at the homes",
        }
    }

    /// Draws it.
    #[must_use]
    pub fn svg(self, outcome: &Outcome) -> String {
        match self {
            Figure::Price => price(outcome),
            Figure::Flows => flows(outcome),
            Figure::Bills => bills(outcome),
            Figure::Duration => duration(outcome),
            Figure::Heat => heat(outcome),
            Figure::Voltage => voltage::draw(outcome),
        }
    }
}

/// Days that a figure over time shows at most: of a longer run, the first ones.
const DAYS_SHOWN: usize = 7;
/// Points of a curve at most.
const POINTS_MAX: usize = 600;
/// Bars that are still told apart.
const BARS_MAX: usize = 400;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 34.0;

const STYLE: &str = "<style>\
.cw{--ink:#1c2430;--soft:#66707f;--line:#d9dee6;--paper:#ffffff;--sun:#f2b134;--store:#3aa57a;--grid:#7b8aa3;\
--load:#3f78c9;--car:#9a6bd0;--warm:#d9773f;--out:#b9c3d3;--good:#2f9e6e;--bad:#d1495b;--hot:#d1495b;--cold:#3f78c9;background:var(--paper)}\
@media (prefers-color-scheme:dark){.cw{--ink:#e8ecf2;--soft:#9aa5b5;--line:#333c4a;--paper:#161b22;--sun:#f4bf55;\
--store:#4cc38f;--grid:#8d9bb3;--load:#6aa0ec;--car:#b48ae6;--warm:#ee9360;--out:#56627a;--good:#4cc38f;--bad:#ee6f7f}}\
.cw text{font:12px system-ui,sans-serif;fill:var(--soft)}.cw .h{font-size:14px;font-weight:600;fill:var(--ink)}\
.cw .g{stroke:var(--line);stroke-width:1}.cw .z{stroke:var(--soft);stroke-width:1}.cw path{fill:none}\
</style>";

/// A drawing with a scale on each side.
struct Chart {
    body: String,
    low: f64,
    high: f64,
    count: f64,
}

impl Chart {
    fn new(title: &str, unit: &str, count: usize, low: f64, high: f64) -> Self {
        let span = if high - low > 1e-12 { high - low } else { 1.0 };
        Chart::stepped(title, unit, count, (low, high), nice(span / 5.0))
    }

    /// With lines so far apart.
    fn stepped(title: &str, unit: &str, count: usize, (low, high): (f64, f64), step: f64) -> Self {
        let (low, high) = if high - low > 1e-12 {
            (low, high)
        } else {
            (low - 0.5, high + 0.5)
        };
        let mut chart = Chart {
            body: String::new(),
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            count: count.max(1) as f64,
        };
        let label = escaped(title);
        let _ = write!(
            chart.body,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"cw\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\
             {STYLE}<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"var(--paper)\"/>\
             <text class=\"h\" x=\"{LEFT}\" y=\"18\">{label}</text>\
             <text x=\"8\" y=\"34\">{}</text>",
            escaped(unit)
        );
        let mut value = chart.low;
        while value <= chart.high + step / 2.0 {
            let y = chart.y(value);
            let class = if value.abs() < step / 1e3 { "z" } else { "g" };
            let _ = write!(
                chart.body,
                "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                tick(value, step)
            );
            value += step;
        }
        chart
    }

    fn x(&self, place: f64) -> f64 {
        LEFT + place / self.count * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// A word under the horizontal axis.
    fn below(&mut self, place: f64, anchor: &str, text: &str) {
        let _ = write!(
            self.body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            self.x(place),
            HEIGHT - BOTTOM + 18.0,
            escaped(text)
        );
    }

    fn upright(&mut self, place: f64) {
        let x = self.x(place);
        let _ = write!(
            self.body,
            "<line class=\"g\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
            HEIGHT - BOTTOM
        );
    }

    /// A filled band between two curves, in steps.
    fn band(&mut self, colour: &str, from: &[f64], to: &[f64]) {
        let mut path = String::new();
        let edge = |path: &mut String, place: f64, value: f64, first: bool| {
            let command = if first { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(place), self.y(value));
        };
        for (place, value) in to.iter().enumerate() {
            edge(&mut path, place as f64, *value, place == 0);
            edge(&mut path, place as f64 + 1.0, *value, false);
        }
        for (place, value) in from.iter().enumerate().rev() {
            edge(&mut path, place as f64 + 1.0, *value, false);
            edge(&mut path, place as f64, *value, false);
        }
        let _ = write!(
            self.body,
            "<path style=\"fill:var(--{colour})\" d=\"{path}Z\"/>"
        );
    }

    /// A curve in steps, broken where there is no value.
    fn steps(&mut self, colour: &str, width: f64, dash: &str, values: &[Option<f64>]) {
        let mut path = String::new();
        let mut before = None;
        for (place, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let (from, to) = (self.x(place as f64), self.x(place as f64 + 1.0));
                let y = self.y(*value);
                let command = if before.is_some() { 'L' } else { 'M' };
                let _ = write!(path, "{command}{from:.1} {y:.1}L{to:.1} {y:.1}");
            }
            before = *value;
        }
        let _ = write!(
            self.body,
            "<path style=\"stroke:var(--{colour})\" stroke-width=\"{width}\" stroke-dasharray=\"{dash}\" d=\"{path}\"/>"
        );
    }

    fn bar(&mut self, colour: &str, place: f64, width: f64, value: f64) {
        let (zero, y) = (self.y(0.0_f64.clamp(self.low, self.high)), self.y(value));
        let (from, to) = (self.x(place), self.x(place + width));
        let _ = write!(
            self.body,
            "<rect fill=\"var(--{colour})\" x=\"{from:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\"/>",
            zero.min(y),
            (to - from).max(0.2),
            (zero - y).abs()
        );
    }

    /// Names of colours, right of the title.
    fn legend(&mut self, names: &[(&str, &str)]) {
        let mut right = WIDTH - RIGHT;
        for (colour, name) in names.iter().rev() {
            right -= 7.0 * name.chars().count() as f64;
            let _ = write!(
                self.body,
                "<text x=\"{right:.1}\" y=\"34\">{}</text>",
                escaped(name)
            );
            right -= 15.0;
            let _ = write!(
                self.body,
                "<rect fill=\"var(--{colour})\" x=\"{right:.1}\" y=\"25\" width=\"10\" height=\"10\" rx=\"2\"/>"
            );
            right -= 12.0;
        }
    }

    fn end(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }
}

/// 1, 2 or 5 times a power of ten, not below a value.
fn nice(value: f64) -> f64 {
    let size = libm::pow(10.0, libm::log10(value).floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let fits = steps
        .into_iter()
        .find(|step| step * size >= value * 0.999_999);
    fits.unwrap_or(10.0) * size
}

fn tick(value: f64, step: f64) -> String {
    let decimals = (-libm::log10(step).floor()).clamp(0.0, 6.0);
    let plain = match decimals {
        d if d < 0.5 => format!("{value:.0}"),
        d if d < 1.5 => format!("{value:.1}"),
        d if d < 2.5 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    let plain = if plain.trim_start_matches(['-', '0', '.']).is_empty() {
        plain.trim_start_matches('-').to_owned()
    } else {
        plain
    };
    plain.replace('-', "\u{2212}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn real(value: i64) -> f64 {
    value as f64
}

fn micro(price: Price) -> f64 {
    real(price.micro_per_kwh()) / 1e6
}

/// Mean power of an interval in kW.
fn kw(row: &IntervalRow, wh: i64) -> f64 {
    real(wh) * 3.6 / f64::from(row.moment.interval.length_s())
}

/// The days that a figure over time shows.
fn shown(outcome: &Outcome) -> &[IntervalRow] {
    let days = outcome.calendar.days();
    let last = days.get(DAYS_SHOWN.min(days.len()).saturating_sub(1));
    let end = last.map_or(0, |day| day.end);
    outcome.rows.get(..end).unwrap_or(&outcome.rows)
}

/// Lines and names of days under a figure over time, of hours where there is one day.
fn time_axis(chart: &mut Chart, outcome: &Outcome, rows: &[IntervalRow]) {
    let days = outcome
        .calendar
        .days()
        .iter()
        .take_while(|day| day.end <= rows.len());
    let days: Vec<_> = days.cloned().collect();
    if days.len() > 1 {
        for (number, day) in (0_u32..).zip(&days) {
            let date = outcome.calendar.date(number);
            chart.upright(real_place(day.start));
            let middle = f64::midpoint(real_place(day.start), real_place(day.end));
            let name = format!("{} {}", date.weekday(), date.format("%-d %b"));
            chart.below(middle, "middle", &name);
        }
        return;
    }
    for (place, row) in rows.iter().enumerate() {
        if row.moment.day_minute.is_multiple_of(180) {
            chart.upright(real_place(place));
            chart.below(
                real_place(place),
                "middle",
                &format!("{}:00", row.moment.day_minute / 60),
            );
        }
    }
}

fn real_place(place: usize) -> f64 {
    place as f64
}

fn with_span(title: &str, outcome: &Outcome) -> String {
    if outcome.calendar.days().len() > DAYS_SHOWN {
        format!("{title} (first {DAYS_SHOWN} days)")
    } else {
        title.to_owned()
    }
}

/// A colour, and the energy that it stands for.
type Part = (&'static str, fn(&IntervalRow) -> i64);

/// Where power comes from above zero, where it goes below; the two are as large.
fn flows(outcome: &Outcome) -> String {
    let rows = shown(outcome);
    let up: [Part; 3] = [
        ("sun", |r| r.pv_wh),
        ("store", |r| r.discharged_wh),
        ("grid", |r| r.net_wh().max(0)),
    ];
    let down: [Part; 5] = [
        ("load", |r| r.load_wh),
        ("warm", |r| r.heat_wh),
        ("car", |r| r.ev_wh),
        ("store", |r| r.charged_wh),
        ("out", |r| (-r.net_wh()).max(0)),
    ];
    let most = rows
        .iter()
        .map(|r| kw(r, up.iter().map(|(_, of)| of(r)).sum()))
        .fold(0.0, f64::max);
    let mut chart = Chart::new(
        &with_span(Figure::Flows.title(), outcome),
        "kW",
        rows.len(),
        -most,
        most,
    );
    stack(&mut chart, rows, &up, 1.0);
    stack(&mut chart, rows, &down, -1.0);
    time_axis(&mut chart, outcome, rows);
    chart.legend(&[
        ("sun", "panels"),
        ("store", "batteries"),
        ("grid", "from grid"),
        ("load", "homes"),
        ("warm", "heat"),
        ("car", "cars"),
        ("out", "into grid"),
    ]);
    chart.end()
}

fn stack(chart: &mut Chart, rows: &[IntervalRow], parts: &[Part], sign: f64) {
    let mut below = vec![0.0; rows.len()];
    for (colour, of) in parts {
        let above: Vec<f64> = below
            .iter()
            .zip(rows)
            .map(|(b, r)| b + sign * kw(r, of(r)))
            .collect();
        if above != below {
            chart.band(colour, &below, &above);
        }
        below = above;
    }
}

fn price(outcome: &Outcome) -> String {
    let rows = shown(outcome);
    let all = rows
        .iter()
        .flat_map(|r| [Some(r.retail), Some(r.feed_in), r.price])
        .flatten();
    let (low, high) = all
        .map(micro)
        .fold((0.0_f64, 0.0_f64), |(l, h), p| (l.min(p), h.max(p)));
    let mut chart = Chart::new(
        &with_span(Figure::Price.title(), outcome),
        "token/kWh",
        rows.len(),
        low,
        high,
    );
    let most = rows.iter().map(|r| r.volume_wh).max().unwrap_or(0).max(1);
    // What is traded stands at the foot, as a share of the most that was.
    let (foot, room) = (chart.low, (chart.high - chart.low) * 0.22);
    let traded: Vec<f64> = rows
        .iter()
        .map(|r| foot + room * real(r.volume_wh) / real(most))
        .collect();
    chart.band("out", &vec![foot; rows.len()], &traded);
    let line = |of: fn(&IntervalRow) -> Option<Price>| -> Vec<Option<f64>> {
        rows.iter().map(|r| of(r).map(micro)).collect()
    };
    chart.steps("bad", 1.5, "5 3", &line(|r| Some(r.retail)));
    chart.steps("grid", 1.5, "5 3", &line(|r| Some(r.feed_in)));
    chart.steps("load", 1.8, "none", &line(|r| r.price));
    time_axis(&mut chart, outcome, rows);
    chart.legend(&[
        ("load", "local price"),
        ("bad", "retail"),
        ("grid", "feed-in"),
        ("out", "traded"),
    ]);
    chart.end()
}

fn bills(outcome: &Outcome) -> String {
    let mut saved: Vec<f64> = outcome
        .sums
        .iter()
        .map(|sum| real(sum.alone_nano - sum.cost_nano) / 1e9)
        .collect();
    saved.sort_by(|a, b| b.total_cmp(a));
    let each = saved.len().div_ceil(BARS_MAX);
    let bars: Vec<f64> = saved
        .chunks(each)
        .map(|part| part.iter().sum::<f64>() / real_place(part.len()))
        .collect();
    let (low, high) = bars
        .iter()
        .fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
    let mut chart = Chart::new(Figure::Bills.title(), "token", bars.len(), low, high);
    for (place, value) in bars.iter().enumerate() {
        let colour = if *value < 0.0 { "bad" } else { "good" };
        chart.bar(colour, real_place(place) + 0.1, 0.8, *value);
    }
    let mean = saved.iter().sum::<f64>() / real_place(saved.len().max(1));
    let mean_line = vec![Some(mean); bars.len()];
    chart.steps("ink", 1.2, "2 4", &mean_line);
    let homes = if each > 1 {
        format!(
            "{} homes, {each} a bar, by saving; dotted: mean {}",
            saved.len(),
            number(Some(mean))
        )
    } else {
        format!(
            "{} homes, by saving; dotted: mean {}",
            saved.len(),
            number(Some(mean))
        )
    };
    chart.below(chart.count / 2.0, "middle", &homes);
    chart.end()
}

/// Sorted values, thinned to what can be seen.
fn curve(mut values: Vec<f64>) -> Vec<Option<f64>> {
    values.sort_by(|a, b| b.total_cmp(a));
    let each = values.len().div_ceil(POINTS_MAX).max(1);
    let mut thin: Vec<Option<f64>> = values.iter().copied().step_by(each).map(Some).collect();
    if let (Some(end), Some(last)) = (thin.last_mut(), values.last()) {
        *end = Some(*last);
    }
    thin
}

fn duration(outcome: &Outcome) -> String {
    let sorted = |of: fn(&IntervalRow) -> i64| {
        curve(outcome.rows.iter().map(|row| kw(row, of(row))).collect())
    };
    let net = sorted(IntervalRow::net_wh);
    let import = sorted(|row| row.import_wh);
    let export = sorted(|row| -row.export_wh);
    let all = [&net, &import, &export].into_iter().flatten().flatten();
    let (low, high) = all.fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
    let mut chart = Chart::new(Figure::Duration.title(), "kW", net.len(), low, high);
    chart.steps("grid", 1.5, "5 3", &import);
    chart.steps("out", 1.5, "5 3", &export);
    chart.steps("load", 2.0, "none", &net);
    for percent in [0_u8, 25, 50, 75, 100] {
        let anchor = match percent {
            0 => "start",
            100 => "end",
            _ => "middle",
        };
        chart.below(
            chart.count * f64::from(percent) / 100.0,
            anchor,
            &format!("{percent} % of the time"),
        );
    }
    chart.legend(&[
        ("load", "community"),
        ("grid", "homes' imports"),
        ("out", "homes' exports"),
    ]);
    chart.end()
}

/// Days from left to right, hours from top to bottom; red draws, blue feeds in.
fn heat(outcome: &Outcome) -> String {
    let days = outcome.calendar.days();
    let mut chart = Chart::stepped(Figure::Heat.title(), "hour", days.len(), (0.0, 24.0), 6.0);
    let net = || outcome.rows.iter().map(|row| kw(row, row.net_wh()));
    let drawn = net().fold(0.0, f64::max);
    let fed = net().map(|kw| -kw).fold(0.0, f64::max);
    let most = drawn.max(fed).max(1e-9);
    for (place, day) in days.iter().enumerate() {
        for hour in 0..24_u16 {
            let rows = outcome.rows.get(day.clone()).unwrap_or_default();
            let rows = rows.iter().filter(|row| row.moment.day_minute / 60 == hour);
            let values: Vec<f64> = rows.map(|row| kw(row, row.net_wh())).collect();
            if values.is_empty() {
                continue;
            }
            let mean = values.iter().sum::<f64>() / real_place(values.len());
            let (from, to) = (chart.x(real_place(place)), chart.x(real_place(place) + 1.0));
            let (top, bottom) = (chart.y(f64::from(hour) + 1.0), chart.y(f64::from(hour)));
            let colour = if mean > 0.0 { "hot" } else { "cold" };
            let _ = write!(
                chart.body,
                "<rect fill=\"var(--{colour})\" fill-opacity=\"{:.2}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                (mean.abs() / most).sqrt(),
                to - from + 0.05,
                bottom - top + 0.05
            );
        }
    }
    let name = |day: usize| {
        let date = outcome.calendar.date(u32::try_from(day).unwrap_or(0));
        date.format("%-d %b").to_string()
    };
    chart.below(0.0, "start", &name(0));
    if days.len() > 1 {
        chart.below(chart.count, "end", &name(days.len() - 1));
    }
    let way = |way: &str, most: f64| format!("{way} the grid, up to {} kW", number(Some(most)));
    chart.legend(&[("hot", &way("from", drawn)), ("cold", &way("into", fed))]);
    chart.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        for (value, step) in [
            (0.9, 1.0),
            (1.1, 2.0),
            (2.1, 5.0),
            (0.021, 0.05),
            (730.0, 1000.0),
        ] {
            assert!(
                (nice(value) - step).abs() < step * 1e-9,
                "{value}: {}",
                nice(value)
            );
        }
        assert_eq!(tick(-0.0, 0.1), "0.0");
        assert_eq!(tick(-1.5, 0.5), "\u{2212}1.5");
        assert_eq!(tick(20.0, 10.0), "20");
    }

    #[test]
    fn a_curve_is_thinned_and_keeps_its_ends() {
        let thin = curve((0..5000).map(real).collect());
        assert!(thin.len() <= POINTS_MAX);
        assert_eq!((thin[0], *thin.last().unwrap()), (Some(4999.0), Some(0.0)));
    }
}
