//! What a street took from the grid, above the line, and gave to it, below, interval by interval.

use domain::energy::Energy;
use domain::time::Interval;
use maud::{Markup, html};

use super::energy::kwh_tick;
use super::scale::mirrored;
use super::{HEIGHT, Plot, Scale, WIDTH, labels};
use crate::web::words::Words;

/// Labels along the time.
const COLUMNS: usize = 6;

/// What is known of an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchanged {
    pub(crate) imported: Energy,
    pub(crate) exported: Energy,
    /// What was lost on the line; none where the feeder's meter said nothing.
    pub(crate) lost: Option<Energy>,
    /// How many homes' values were put in for missing ones.
    pub(crate) substituted: i64,
}

/// Draws intervals that follow each other, oldest first; what is not known of one is hatched.
pub(crate) fn exchange(words: &Words, title: &str, bars: &[(Interval, Option<Exchanged>)]) -> Plot {
    let known = || bars.iter().filter_map(|(_, known)| known.as_ref());
    let sum = |of: fn(&Exchanged) -> Energy| {
        let sum = known().fold(0_i64, |sum, one| sum.saturating_add(of(one).wh()));
        words.energy(Energy::from_wh(sum))
    };
    let highest = known().map(|one| one.imported.max(one.exported).wh()).max();
    let (step, half) = mirrored(highest.unwrap_or(0), 10);
    let say = |class, word: &'static str| (class, words.t(word).to_owned());
    Plot {
        title: title.to_owned(),
        summary: words.fill(
            "grid.exchange_summary",
            &[
                ("imported", &sum(|one| one.imported)),
                ("exported", &sum(|one| one.exported)),
            ],
        ),
        unit: words.t("grid.exchange_unit").to_owned(),
        y_ticks: (-half..=half)
            .rev()
            .map(|n| kwh_tick(words, n * step))
            .collect(),
        x_labels: labels(bars.len(), COLUMNS, |n| {
            let bar = bars.get(n);
            bar.map_or_else(String::new, |(at, _)| words.clock(at.start()))
        }),
        inside: inside(bars, Scale::up(-step * half, step * half)),
        legend: vec![
            say("utility", "grid.import"),
            say("sold", "grid.export"),
            say("hole", "chart.not_metered"),
        ],
        table: table(words, bars),
        csv: None,
    }
}

fn inside(bars: &[(Interval, Option<Exchanged>)], y: Scale) -> Markup {
    let x = Scale::across(0, i64::try_from(bars.len()).unwrap_or(1).max(1));
    let (mut above, mut below, mut holes) = (String::new(), String::new(), String::new());
    for (n, (_, known)) in (0..).zip(bars) {
        let left = x.at(n);
        let wide = ((x.at(n + 1) - left) * 9 / 10).max(1);
        let Some(known) = known else {
            holes.push_str(&format!("M{left} 0h{wide}v{HEIGHT}h-{wide}z"));
            continue;
        };
        let zero = y.at(0);
        let up = zero - y.at(known.imported.wh());
        let down = y.at(-known.exported.wh()) - zero;
        if up > 0 {
            above.push_str(&format!("M{left} {}h{wide}v{up}h-{wide}z", zero - up));
        }
        if down > 0 {
            below.push_str(&format!("M{left} {zero}h{wide}v{down}h-{wide}z"));
        }
    }
    html! {
        path.hole d=(holes) {}
        path.bar.utility fill="url(#p-utility)" d=(above) {}
        path.bar.sold fill="url(#p-sold)" d=(below) {}
        path.zero d=(format!("M0 {} H{WIDTH}", y.at(0))) {}
    }
}

fn table(words: &Words, bars: &[(Interval, Option<Exchanged>)]) -> Markup {
    html! { table {
        thead { tr {
            th { (words.t("chart.interval")) } th.n { (words.t("grid.import")) " kWh" } th.n { (words.t("grid.export")) " kWh" }
            th.n { (words.t("grid.lost")) " kWh" } th { (words.t("chart.quality")) }
        } }
        tbody { @for (interval, known) in bars.iter().rev() { tr {
            td { (words.moment(interval.start())) }
            @match known {
                Some(known) => {
                    td.n { (words.kwh(known.imported)) } td.n { (words.kwh(known.exported)) }
                    td.n { @match known.lost { Some(lost) => (words.kwh(lost)), None => "–" } }
                    td { @if known.substituted > 0 { (words.fill("grid.substituted", &[("n", &known.substituted.to_string())])) }
                        @else { (words.t("number.measured")) } }
                },
                None => { td.n { "–" } td.n { "–" } td.n { "–" } td { (words.t("number.missing")) } },
            }
        } } }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_hatched_and_draws_no_bar() {
        let at = |n: i64| Interval::new(n * 900, 900).unwrap();
        let known = |imported, exported| {
            Some(Exchanged {
                imported: Energy::from_wh(imported),
                exported: Energy::from_wh(exported),
                lost: None,
                substituted: 0,
            })
        };
        let bars = [(at(0), known(100, 0)), (at(1), None), (at(2), known(0, 50))];
        let drawn = inside(&bars, Scale::up(-100, 100)).into_string();
        for (class, count) in [("hole", 1), ("bar utility", 1), ("bar sold", 1)] {
            let path = drawn.split(class).nth(1).unwrap();
            let path = path.split("d=\"").nth(1).unwrap();
            let path = path.split('"').next().unwrap();
            assert_eq!(path.matches('M').count(), count, "{class}: {drawn}");
        }
        assert!(
            drawn.contains("M0 0h"),
            "the import is above the line: {drawn}"
        );
        assert!(
            drawn.contains("M6400 1200h"),
            "the export is below it: {drawn}"
        );
    }
}
