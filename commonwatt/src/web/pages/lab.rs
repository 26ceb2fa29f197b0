//! `/lab` for researchers: the runs there are, one of them with its figures, two side by side.

use std::path::PathBuf;

use axum::extract::{Path, Query};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use simulator::run::compare::Comparison;
use simulator::run::stats::Mean;
use simulator::run::summary;

use super::Ask;
use crate::auth::Role;
use crate::view::lab::{self, Block, NotDrawn, Run};
use crate::web::layout::Page;
use crate::web::words::{Language, Words};

/// Files are read beside the threads that answer everybody else.
async fn reading<T: Send + 'static>(
    ask: &Ask,
    read: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, Response> {
    let folder = ask.web.shared.runs.clone();
    let read = tokio::task::spawn_blocking(move || read(folder)).await;
    read.map_err(|error| ask.failed("runs could not be read", &error))
}

pub(super) async fn list(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Researcher)?;
    let runs = reading(&ask, |folder| lab::runs(&folder)).await?;
    let words = &ask.words;
    let count = u64::try_from(runs.len()).unwrap_or(0);
    let folder = ask.web.shared.runs.display().to_string();
    let page = Page {
        title: words.t("nav.lab").to_owned(),
        above: words.t("lab.above").to_owned(),
        answer: match count {
            0 => words.t("lab.none").to_owned(),
            n => words.plural("lab.runs_one", "lab.runs_many", n),
        },
        below: html! { (words.t("lab.same")) },
        body: html! {
            @if runs.is_empty() { section.card { (empty(words, &folder)) } }
            @else { section.card { (table(words, &runs)) } (families(words, &runs)) section.card { details { summary { (words.t("lab.how")) } (empty(words, &folder)) } } }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn empty(words: &Words, folder: &str) -> Markup {
    html! {
        p { (words.t("lab.empty")) }
        p { code.block { "commonwatt simulate street-10.toml --seed 7 --days 7 --out " (folder) } }
    }
}

fn table(words: &Words, runs: &[Run]) -> Markup {
    html! {
        form method="get" action="/lab/compare" {
            div.scroll tabindex="0" role="region" aria-label=(words.t("nav.lab")) { table {
                thead { tr {
                    th { (words.t("lab.run")) } th { (words.t("lab.mechanism")) } th.n { (words.t("lab.homes")) }
                    th.n { (words.t("lab.days")) } th.n { (words.t("lab.seed")) } th { "A" } th { "B" }
                } }
                tbody { @for (n, run) in runs.iter().enumerate() { tr {
                    td { a href=(format!("/lab/{}", run.folder)) { (run.folder) } }
                    td { (run.manifest.mechanism) }
                    td.n { (run.manifest.homes) } td.n { (run.manifest.days) } td.n { (run.manifest.seed) }
                    td.pick { input type="radio" name="a" value=(run.folder) checked[n == 0] aria-label=(format!("A: {}", run.folder)); }
                    td.pick { input type="radio" name="b" value=(run.folder) checked[n == 1] aria-label=(format!("B: {}", run.folder)); }
                } } }
            } }
            p { button { (words.t("lab.compare_button")) } }
        }
    }
}

/// Where runs of one scenario are compared over their seeds.
fn families(words: &Words, runs: &[Run]) -> Markup {
    let families = lab::families(runs);
    html! { @if !families.is_empty() { section.card {
        h2 { (words.t("lab.seeds")) }
        ul.links { @for family in &families { li {
            a href=(format!("/lab/compare?of={}", family.newest.folder)) {
                (words.fill("lab.seeds_link", &[
                    ("name", &family.newest.manifest.name), ("seeds", &family.seeds.to_string()),
                    ("days", &format!("{} {}", family.newest.manifest.days, words.t("number.day"))),
                    ("mechanisms", &family.mechanisms.join(", ")),
                ]))
            }
        } } }
    } } }
}

/// The figures of a family of runs: means over the seeds with how far they spread.
fn over_seeds(words: &Words, runs: &[Run], of: &str) -> (String, Markup) {
    let families = lab::families(runs);
    let family = families.iter().find(|family| family.newest.folder == of);
    let found = family.and_then(|family| Some((family, family.compared()?)));
    let Some((family, (compared, left_out))) = found else {
        let none = words.t("lab.seeds_none").to_owned();
        return (
            none,
            html! { p { a.button href="/lab" { (words.t("lab.choose")) } } },
        );
    };
    let answer = words.fill(
        "lab.seeds_answer",
        &[
            ("name", &family.newest.manifest.name),
            ("seeds", &family.seeds.to_string()),
            ("mechanisms", &family.mechanisms.join(", ")),
        ],
    );
    let body = html! { section.card {
        @if left_out > 0 { p.hint { (words.fill("lab.seeds_left", &[("n", &left_out.to_string())])) } }
        (spread(words, &compared))
    } };
    (answer, body)
}

fn spread(words: &Words, compared: &Comparison) -> Markup {
    let number = |value: f64| {
        let text = summary::number(Some(value)).replace('-', "−");
        text.replace('.', &words.language.decimal_sign().to_string())
    };
    let mean = |mean: Option<Mean>| match mean {
        None => "–".to_owned(),
        Some(Mean { mean, ci95, .. }) => match ci95 {
            Some(half) => format!("{}\u{a0}±\u{a0}{}", number(mean), number(half)),
            None => number(mean),
        },
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(words.t("lab.seeds")) { table {
            thead { tr {
                th { (words.t("lab.figure")) }
                @for (n, label) in compared.labels.iter().enumerate() {
                    th.n { (label) }
                    @if n > 0 { th.n { (words.t("lab.difference")) } }
                }
                th { (words.t("lab.unit")) }
            } }
            tbody { @for row in &compared.rows { tr {
                td { (row.name) }
                @for (n, cell) in row.groups.iter().enumerate() {
                    td.n { (mean(cell.value)) }
                    @if n > 0 { td.n {
                        (mean(cell.difference))
                        @if cell.difference.is_some_and(|d| d.differs_from_zero()) { " *" }
                    } }
                }
                td { @if row.unit != "1" { (row.unit) } }
            } } }
        } }
    }
}

pub(super) async fn show(ask: Ask, Path(name): Path<String>) -> Result<Response, Response> {
    ask.only(Role::Researcher)?;
    let read = reading(&ask, move |folder| {
        Some((lab::run(&folder, &name)?, lab::summary(&folder, &name)))
    });
    let (run, summary) = read.await?.ok_or_else(|| ask.missing())?;
    let (words, manifest) = (&ask.words, &run.manifest);
    let page = Page {
        title: run.folder.clone(),
        above: words.fill("lab.run_above", &[("version", &manifest.version)]),
        answer: words.fill(
            "lab.run_answer",
            &[
                ("name", &manifest.name),
                ("homes", &manifest.homes.to_string()),
                ("days", &manifest.days.to_string()),
                ("mechanism", &manifest.mechanism),
            ],
        ),
        below: html! { (words.fill("lab.run_below", &[
            ("seed", &manifest.seed.to_string()), ("start", &manifest.start), ("zone", &manifest.zone),
            ("intervals", &manifest.intervals.to_string()),
        ])) },
        body: html! {
            section.card { (facts(words, &run)) }
            @if !summary.is_empty() {
                section.card.prose {
                    @if words.language != Language::English { p.hint { (words.t("lab.in_english")) } }
                    div.prose lang="en" { (blocks(&summary)) }
                }
            }
            section.card { (pictures(words, &run)) }
            section.card { (cite(words, &run)) }
        },
        live: None,
    };
    Ok(ask.show(&page))
}

fn facts(words: &Words, run: &Run) -> Markup {
    let manifest = &run.manifest;
    html! {
        dl.facts {
            dt { (words.t("lab.id")) } dd { code.key { (manifest.run_id) } }
            dt { (words.t("lab.scenario")) } dd { code.key { (manifest.scenario_sha256) } }
            dt { (words.t("lab.outcome")) } dd { code.key { (manifest.outcome_sha256) } }
            @if let Some(measured) = &manifest.measured { dt { (words.t("lab.took")) } dd { (measured.wall_ms) " ms" } }
        }
        @if !manifest.files.is_empty() { details { summary { (words.t("lab.files")) } table {
            thead { tr { th { (words.t("lab.file")) } th.n { (words.t("lab.rows")) } th.n { "kB" } } }
            tbody { @for file in &manifest.files { tr {
                td { code { (file.file) } }
                td.n { @match file.rows { Some(rows) => (rows), None => "–" } }
                td.n { (file.bytes.div_ceil(1000)) }
            } } }
        } } }
    }
}

/// The figures; each is drawn when it is opened, which takes as long as the run did.
fn pictures(words: &Words, run: &Run) -> Markup {
    let figures: Vec<_> = lab::figures(run).collect();
    html! {
        h2 { (words.t("lab.figures")) }
        @if figures.is_empty() {
            p.empty { (words.t("lab.too_large")) }
            p { code.block { "commonwatt plot " (run.folder) " --figure flows --out flows.svg" } }
        }
        @for (name, title) in figures { @let title = figure_word(words, name).unwrap_or(title); details {
            summary { (title) }
            img.figure loading="lazy" width="720" height="360" alt=(title) src=(format!("/lab/{}/{name}.svg", run.folder));
            p.csv { a href=(format!("/lab/{}/{name}.svg", run.folder)) download { "SVG" } }
        } }
    }
}

/// What a figure shows, in the reader's words.
fn figure_word(words: &Words, name: &str) -> Option<&'static str> {
    Some(match name {
        "flows" => words.t("lab.f_flows"),
        "price" => words.t("lab.f_price"),
        "bills" => words.t("lab.f_bills"),
        "duration" => words.t("lab.f_duration"),
        "heat" => words.t("lab.f_heat"),
        _ => return None,
    })
}

/// How to name this run so that somebody else can make it again.
fn cite(words: &Words, run: &Run) -> Markup {
    let manifest = &run.manifest;
    html! {
        h2 { (words.t("lab.cite")) }
        p { code.block {
            "Commonwatt " (manifest.version) ", run " (manifest.run_id) " (" (manifest.name) ", seed " (manifest.seed)
            ", outcome SHA-256 " (manifest.outcome_sha256) ")"
        } }
        p { code.block { "commonwatt rerun " (run.folder) } }
        p { a href="/lab/dictionary" { (words.t("lab.dictionary")) } }
    }
}

/// `/lab/{run}/{figure}.svg`
pub(super) async fn figure(
    ask: Ask,
    Path((name, file)): Path<(String, String)>,
) -> Result<Response, Response> {
    ask.only(Role::Researcher)?;
    let figure = file.strip_suffix(".svg").map(str::to_owned);
    let figure = figure.ok_or_else(|| ask.missing())?;
    let _turn = ask.turn()?;
    let drawn = reading(&ask, move |folder| lab::draw(&folder, &name, &figure)).await?;
    match drawn {
        Ok(svg) => Ok(crate::web::svg(svg)),
        Err(NotDrawn::Nothing | NotDrawn::TooLarge) => Err(ask.missing()),
        Err(NotDrawn::Other(why)) => Err(ask.failed("a figure could not be drawn", &why)),
    }
}

/// `/lab/dictionary`: every column of every table, with unit and meaning.
pub(super) async fn dictionary(ask: Ask) -> Result<Response, Response> {
    ask.only(Role::Researcher)?;
    let words = &ask.words;
    let page = Page {
        title: words.t("lab.dictionary").to_owned(),
        above: words.t("lab.above").to_owned(),
        answer: words.t("lab.dictionary").to_owned(),
        below: html! { (words.t("lab.dictionary_below")) },
        body: html! { section.card.prose lang="en" { (blocks(&lab::dictionary())) } },
        live: None,
    };
    Ok(ask.show(&page))
}

/// A summary's pieces; its own first heading is the page's first line already.
fn blocks(blocks: &[Block]) -> Markup {
    html! { @for (n, block) in blocks.iter().enumerate() { @match block {
        Block::Heading(_) if n == 0 => {},
        Block::Heading(text) => { h2 { (text) } },
        Block::Text(text) => { p { (text) } },
        Block::List(items) => { ul { @for item in items { li { (item) } } } },
        Block::Table(head, rows) => { div.scroll tabindex="0" role="region" aria-label=(head.join(", ")) { table {
            thead { tr { @for (n, cell) in head.iter().enumerate() { th.n[n > 0] { (cell) } } } }
            tbody { @for row in rows { tr { @for (n, cell) in row.iter().enumerate() { td.n[n > 0] { (cell) } } } } }
        } } },
    } } }
}

#[derive(Deserialize)]
pub(super) struct Pair {
    #[serde(default)]
    a: String,
    #[serde(default)]
    b: String,
    /// The newest run of a family that is compared over its seeds.
    of: Option<String>,
}

/// The figures of a run: name, value, unit.
type Figures = Vec<(String, String, String)>;

fn figures(blocks: &[Block]) -> Figures {
    let tables = blocks.iter().filter_map(|block| match block {
        Block::Table(_, rows) => Some(rows),
        _ => None,
    });
    let rows = tables.flatten();
    rows.filter_map(|row| {
        Some((
            row.first()?.clone(),
            row.get(1)?.clone(),
            row.last()?.clone(),
        ))
    })
    .collect()
}

pub(super) async fn compare(ask: Ask, Query(pair): Query<Pair>) -> Result<Response, Response> {
    ask.only(Role::Researcher)?;
    if let Some(of) = pair.of {
        let runs = reading(&ask, |folder| lab::runs(&folder)).await?;
        let words = &ask.words;
        let (answer, body) = over_seeds(words, &runs, &of);
        return Ok(ask.show(&Page {
            title: words.t("lab.seeds").to_owned(),
            above: words.t("lab.seeds").to_owned(),
            answer,
            below: html! { (words.t("lab.seeds_below")) },
            body,
            live: None,
        }));
    }
    let read = reading(&ask, move |folder| {
        let of = |name: &str| {
            let run = lab::run(&folder, name)?;
            Some((run, figures(&lab::summary(&folder, name))))
        };
        (of(&pair.a), of(&pair.b))
    });
    let words = &ask.words;
    let found = read.await?;
    let (answer, body) = match &found {
        (Some((a, of_a)), Some((b, of_b))) => (
            words.fill("lab.compare_answer", &[("a", &a.folder), ("b", &b.folder)]),
            html! { section.card { (side_by_side(words, (a, of_a), (b, of_b))) } },
        ),
        _ => (
            words.t("lab.compare_none").to_owned(),
            html! { p { a.button href="/lab" { (words.t("lab.choose")) } } },
        ),
    };
    let page = Page {
        title: words.t("nav.compare").to_owned(),
        above: words.t("nav.compare").to_owned(),
        answer,
        below: html! { (words.t("lab.compare_below")) },
        body,
        live: None,
    };
    Ok(ask.show(&page))
}

/// How much more the second figure is, with the decimals of the first; none where one of them is no number.
fn difference(a: &str, b: &str) -> Option<String> {
    let scaled = |text: &str| -> Option<(i128, usize)> {
        let text = text.replace('−', "-");
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let digits = format!("{whole}{part}");
        Some((digits.parse().ok()?, part.len()))
    };
    let ((a, places_a), (b, places_b)) = (scaled(a)?, scaled(b)?);
    let places = places_a.max(places_b);
    let to = |value: i128, has: usize| -> Option<i128> {
        let more = u32::try_from(places - has).ok()?;
        value.checked_mul(10_i128.checked_pow(more)?)
    };
    let more = to(b, places_b)?.checked_sub(to(a, places_a)?)?;
    let sign = match more {
        0 => "",
        more if more < 0 => "−",
        _ => "+",
    };
    let digits = format!("{:0>width$}", more.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len() - places);
    Some(match places {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part}"),
    })
}

fn side_by_side(words: &Words, (a, of_a): (&Run, &Figures), (b, of_b): (&Run, &Figures)) -> Markup {
    let other = |name: &str| of_b.iter().find(|(known, ..)| known == name);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(words.t("nav.compare")) { table {
            thead { tr { th { (words.t("lab.figure")) } th.n { "A" } th.n { "B" } th.n { "B − A" } th { (words.t("lab.unit")) } } }
            tbody {
                tr { td { (words.t("lab.mechanism")) } td.n { (a.manifest.mechanism) } td.n { (b.manifest.mechanism) } td {} td {} }
                tr { td { (words.t("lab.seed")) } td.n { (a.manifest.seed) } td.n { (b.manifest.seed) } td {} td {} }
                tr { td { (words.t("lab.homes")) } td.n { (a.manifest.homes) } td.n { (b.manifest.homes) } td {} td {} }
                @for (name, value, unit) in of_a { tr {
                    td { (name) } td.n { (value) }
                    td.n { @match other(name) { Some((_, value, _)) => (value), None => "–" } }
                    td.n { @match other(name).and_then(|(_, other, _)| difference(value, other)) { Some(more) => (more), None => "–" } }
                    td { (unit) }
                } }
            }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_decimals_of_its_figures() {
        for (a, b, more) in [
            ("1.50", "1.75", Some("+0.25")),
            ("12", "9.5", Some("−2.5")),
            ("−1.0", "1.0", Some("+2.0")),
            ("3", "3", Some("0")),
            ("a", "1", None),
            ("1", "", None),
        ] {
            assert_eq!(difference(a, b).as_deref(), more, "{a} {b}");
        }
    }
}
