//! `/grid/feeders/{id}`: how full the feeder is now, was today and will be.

use axum::extract::{Path, Query};
use axum::response::Response;
use domain::ids::PointId;
use domain::time::{Interval, Timestamp};
use market_engine::grid::network::Kind;
use maud::{Markup, html};
use serde::Deserialize;
use settlement::service::MeteredInterval;

use super::street::HOMES_MIN;
use super::{Ask, csv};
use crate::auth::Role;
use crate::view::powerflow::{self, Without};
use crate::view::{Street, calendar, grid};
use crate::web::chart::{self, Load, LoadPoint};
use crate::web::layout::Page;
use crate::web::number::{OLD_AFTER_INTERVALS, is_old};
use crate::web::words::Words;

/// Intervals of the past and to come in the picture.
const PAST: i64 = 96;
const AHEAD: i64 = 48;
/// Feeders on the overview.
const FEEDERS_MAX: usize = 4;
/// From this load on an interval is tight, in thousandths of the rating.
const TIGHT_PERMILLE: i64 = 800;
/// The band in which a voltage should be, in thousandths of the rated one (EN 50160).
const VOLTAGE_LOW: i64 = 900;
const VOLTAGE_HIGH: i64 = 1_100;

/// A feeder's picture.
pub(super) struct Chart {
    pub(super) point: PointId,
    pub(super) rating_w: i64,
    points: Vec<LoadPoint>,
    now: Timestamp,
    /// When metering began, where that is less than the picture's past ago.
    begun: Option<Timestamp>,
}

impl Chart {
    /// The picture, from the first metered interval on, with what is not there said.
    pub(super) fn picture(&self, words: &Words) -> Markup {
        let has_metered = self.points.iter().any(|p| p.actual_w.is_some());
        html! {
            @if has_metered { (chart::figure(words, &self.plot(words))) }
            @else { h2 { (words.fill("grid.feeder", &[("name", self.point.as_str())])) } p.empty { (words.t("grid.not_metered")) } }
            @if let Some(begun) = self.begun {
                p.hint { (words.fill("grid.metered_since", &[("time", &words.since(begun, self.now))])) }
            }
        }
    }

    fn plot(&self, words: &Words) -> chart::Plot {
        let shown = Load {
            title: words.fill("grid.feeder", &[("name", self.point.as_str())]),
            points: &self.points,
            limit_w: self.rating_w,
            csv: Some(format!("/grid/feeders/{}?format=csv", self.point)),
        };
        chart::load(words, &shown)
    }

    /// The next interval that is forecast to be tight, in a sentence.
    pub(super) fn tight(&self, words: &Words) -> Option<String> {
        let load = |w: i64| w.saturating_abs().saturating_mul(1000) / self.rating_w.max(1);
        let to_come = self
            .points
            .iter()
            .filter(|p| p.interval.start() >= self.now);
        let mut loads = to_come.filter_map(|p| Some((p.interval, load(p.forecast_w?.1))));
        let tight = loads.find(|(_, load)| *load >= TIGHT_PERMILLE);
        Some(match tight {
            Some((interval, load)) => words.fill(
                "grid.tight",
                &[
                    ("interval", &words.interval(interval)),
                    ("load", &words.permille(load)),
                ],
            ),
            None => words.t("grid.not_tight").to_owned(),
        })
    }

    /// The most of some intervals, with its sign.
    fn most(
        &self,
        of: impl Fn(&LoadPoint) -> Option<i64>,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<i64> {
        let within = |p: &&LoadPoint| p.interval.start() >= from && p.interval.start() < to;
        let values = self.points.iter().filter(within).filter_map(of);
        values.max_by_key(|w| w.abs())
    }
}

/// What the first feeder may carry.
pub(super) fn rating(ask: &Ask) -> i64 {
    let feeder = grid::feeders(&ask.web.shared.site).next();
    feeder.map_or(1, |feeder| i64::from(feeder.rating_w))
}

/// The pictures of the feeders there are.
pub(super) async fn charts(ask: &Ask) -> anyhow::Result<Vec<Chart>> {
    let mut charts = Vec::new();
    for feeder in grid::feeders(&ask.web.shared.site).take(FEEDERS_MAX) {
        charts.push(read(ask, &feeder.point, i64::from(feeder.rating_w)).await?);
    }
    Ok(charts)
}

async fn read(ask: &Ask, point: &PointId, rating_w: i64) -> anyhow::Result<Chart> {
    let (shared, now) = (&ask.web.shared, ask.street.now);
    let past = grid::metered(shared, point, grid::forecast_from(now), now).await?;
    let current = Interval::containing(now, ask.street.open.length_s())?;
    let ahead = grid::ahead(&past, current, AHEAD);
    let known = |interval: Interval| past.iter().rev().find(|m| m.interval == interval);
    let first = past.first().map_or(current, |m| m.interval);
    let first = first.max(current.offset(-PAST));
    let due = now.plus_s(-grid::LATE_S);
    let point_of = |n: i64| {
        let interval = current.offset(n);
        let metered: Option<&MeteredInterval> = known(interval);
        LoadPoint {
            interval,
            actual_w: metered.map(grid::net_watts),
            forecast_w: ahead.get(&interval).copied(),
            estimated: metered.is_some_and(|m| m.quality.word() != "measured"),
            missing: metered.is_none() && interval.end() <= due,
        }
    };
    let all = (-PAST..AHEAD).map(point_of);
    Ok(Chart {
        point: point.clone(),
        rating_w,
        points: all.filter(|p| p.interval >= first).collect(),
        begun: (first > current.offset(-PAST) && first < current).then(|| first.start()),
        now,
    })
}

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    format: String,
}

pub(super) async fn show(
    ask: Ask,
    Path(id): Path<String>,
    asked: Query<Asked>,
) -> Result<Response, Response> {
    ask.only(Role::Operator)?;
    let feeder = grid::feeders(&ask.web.shared.site).find(|f| f.point.as_str() == id);
    let Some(feeder) = feeder.cloned() else {
        return Err(ask.missing());
    };
    let chart = read(&ask, &feeder.point, i64::from(feeder.rating_w)).await;
    let chart = chart.map_err(|error| ask.failed("a feeder could not be read", &error))?;
    if asked.format == "csv" {
        return Ok(csv(&format!("feeder-{id}"), &lines(&chart)));
    }
    Ok(ask.show(&page(&ask, &chart)))
}

fn lines(chart: &Chart) -> Vec<String> {
    let text = |w: Option<i64>| w.map_or_else(String::new, |w| w.to_string());
    let line = |p: &LoadPoint| {
        let (low, mid, high) = p.forecast_w.map_or((None, None, None), |(low, mid, high)| {
            (Some(low), Some(mid), Some(high))
        });
        format!(
            "{},{},{},{},{},{}",
            p.interval.start(),
            p.interval.end(),
            text(p.actual_w),
            text(low),
            text(mid),
            text(high)
        )
    };
    let head = "interval_start,interval_end,net_import_w,forecast_low_w,forecast_w,forecast_high_w";
    std::iter::once(head.to_owned())
        .chain(chart.points.iter().map(line))
        .collect()
}

fn page(ask: &Ask, chart: &Chart) -> Page {
    let (words, street) = (&ask.words, &ask.street);
    let today = calendar::day(words.zone, calendar::date(words.zone, street.now));
    let peak = chart.most(|p| p.actual_w, today.from, today.to);
    let forecast = chart.most(
        |p| p.forecast_w.map(|f| f.1),
        street.now,
        street.now.plus_s(86_400),
    );
    let fresh = street
        .feeder_w
        .filter(|w| !is_old(street.now, street.open.length_s(), *w));
    let share =
        |w: Option<i64>| w.map_or_else(|| "–".to_owned(), |w| words.share(w.abs(), chart.rating_w));
    Page {
        title: words.fill("grid.feeder", &[("name", chart.point.as_str())]),
        above: words.fill("grid.feeder", &[("name", chart.point.as_str())]),
        answer: words.fill(
            "grid.feeder_answer",
            &[
                ("now", &share(fresh.map(|w| w.value))),
                ("peak", &share(peak)),
                ("forecast", &share(forecast)),
            ],
        ),
        below: html! {
            (words.fill("grid.rating", &[("rating", &words.kilowatts(chart.rating_w))])) " "
            (words.live(street.now, street.open.length_s(), street.feeder_w))
            @if let Some(w) = fresh { ", " (words.ago(street.now.ms_since(w.read_at))) }
        },
        body: html! {
            (chart::patterns())
            section.card { (chart.picture(words)) }
            section.card id="wires" aria-label=(words.t("wires.title")) { (wires(words, ask)) }
            section.card { (members(words, ask)) }
        },
        live: None,
    }
}

/// Voltages and loadings behind the transformer, where the site describes its wires.
fn wires(words: &Words, ask: &Ask) -> Markup {
    let (street, site) = (&ask.street, &ask.web.shared.site);
    let max_age_ms = i64::from(street.open.length_s()) * 1_000 * OLD_AFTER_INTERVALS;
    let state = powerflow::state(site, street, max_age_ms);
    html! {
        h2 { (words.t("wires.title")) }
        @match state {
            Err(Without::Wires) => { p.empty { (words.t("wires.none")) } p { code.block { "[grid]\nnetwork = \"network.json\"" } } },
            Err(Without::Values { missing, all }) => p.empty {
                (words.fill("wires.missing", &[("n", &missing.to_string()), ("all", &all.to_string())]))
            },
            Err(Without::Solution(error)) => p.wrong { (words.t("wires.no_solution")) " " code { (error) } },
            Ok(state) => (wires_state(words, street, &state)),
        }
    }
}

fn wires_state(words: &Words, street: &Street, state: &powerflow::State) -> Markup {
    let volt = |permille: i64| words.permille_pu(permille);
    let (low, high) = (state.nodes.first(), state.nodes.last());
    let is_off = |permille: i64| !(VOLTAGE_LOW..=VOLTAGE_HIGH).contains(&permille);
    let off = state.nodes.iter().filter(|(_, pu)| is_off(*pu)).count();
    html! {
        p.big { @if off == 0 { (words.t("wires.within")) } @else { (words.fill("wires.outside", &[("n", &off.to_string())])) } }
        dl.facts {
            @if let Some((node, pu)) = low { dt { (words.t("wires.lowest")) } dd { (volt(*pu)) " " small { (words.fill("wires.node", &[("id", &node.to_string())])) } } }
            @if let Some((node, pu)) = high { dt { (words.t("wires.highest")) } dd { (volt(*pu)) " " small { (words.fill("wires.node", &[("id", &node.to_string())])) } } }
            dt { (words.t("wires.losses")) } dd { (words.power(state.losses_w)) }
            dt { (words.t("wires.age")) } dd { (words.ago(street.now.ms_since(state.oldest))) }
        }
        div.scroll tabindex="0" role="region" aria-label=(words.t("wires.loadings")) { table {
            thead { tr { th { (words.t("wires.element")) } th { (words.t("wires.load_bar")) } th.n { (words.t("wires.load")) } } }
            tbody { @for (kind, name, permille) in &state.branches { tr.bad[*permille > 1_000] {
                td { span translate="no" { (name) } @if *kind == Kind::Trafo { " " small { (words.t("devices.feeder")) } } }
                td.wide { svg.gauge viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
                    rect.track width="1000" height="10" {}
                    rect.fill width=((*permille).clamp(0, 1_000)) height="10" {}
                } }
                td.n { (words.permille(*permille)) }
            } } }
        } }
        p.hint { (words.t("wires.how")) }
    }
}

fn members(words: &Words, ask: &Ask) -> Markup {
    let homes = ask.street.homes.len();
    html! {
        h2 { (words.t("grid.members")) }
        @if homes < HOMES_MIN { p.empty { (words.t("street.too_few")) } }
        @else { p { (words.fill("grid.members_count", &[("n", &homes.to_string())])) } }
        p { a href="/grid/limits" { (words.t("grid.to_limits")) } " · " a href="/grid/activations" { (words.t("limits.history")) } }
    }
}
