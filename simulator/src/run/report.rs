//! The report of a run: one HTML file that needs nothing else, with the figures that researchers expect.

use std::fmt::Write;

use super::engine::Outcome;
use super::folder::Manifest;
use super::kpis::Kpi;
use super::plot::Figure;
use super::summary::{checks, number, title};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#66707f;--line:#d9dee6;--paper:#fff;--back:#f4f6f9;--good:#2f9e6e}\
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf2;--soft:#9aa5b5;--line:#333c4a;--paper:#161b22;--back:#0e1217;--good:#4cc38f}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 4rem}h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 .6rem}\
p.s{color:var(--soft);margin:.2rem 0}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.7rem;margin:1.2rem 0}\
.tile{background:var(--paper);border:1px solid var(--line);border-radius:.6rem;padding:.7rem .9rem}.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}\
.tile span{color:var(--soft);font-size:.85rem}figure{margin:0 0 1rem;background:var(--paper);border:1px solid var(--line);border-radius:.6rem;padding:.8rem;overflow-x:auto}\
figure svg{width:100%;height:auto;display:block}table{border-collapse:collapse;width:100%;background:var(--paper);font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}th:first-child,td:first-child,td.d,th.d{text-align:left}\
td.d{color:var(--soft);font-size:.85rem}.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.6rem}ul{padding-left:1.2rem}li.ok::marker{content:'✓ ';color:var(--good)}\
code{font-size:.9em;overflow-wrap:anywhere}";

/// Figures that stand at the top, with what they are called there.
const TILES: [(&str, &str); 6] = [
    ("saving_per_home", "saved per home against being alone"),
    ("self_sufficiency", "self-sufficiency of the community"),
    ("self_consumption", "self-consumption of the community"),
    ("local_share", "of the homes' imports came from neighbours"),
    ("price_mean", "mean local price"),
    ("homes_better_off", "of homes pay less than alone"),
];

/// The report.
#[must_use]
pub fn html(manifest: &Manifest, kpis: &[Kpi], outcome: &Outcome) -> String {
    let heading = escaped(&title(manifest));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{heading}</title><style>{STYLE}</style></head><body><main>\n<h1>{}</h1>\n<p class=\"s\">{heading}</p>\n\
         <p class=\"s\">Run <code>{}</code> · {} intervals of {} s · evidence {} · version {}</p>\n",
        escaped(&manifest.name),
        manifest.run_id,
        manifest.intervals,
        manifest.interval_s,
        manifest.evidence,
        manifest.version
    );
    tiles(&mut page, kpis);
    for figure in Figure::ALL.into_iter().filter(|f| f.applies(outcome)) {
        let _ = writeln!(page, "<figure>{}</figure>", figure.svg(outcome));
    }
    table(&mut page, kpis);
    page.push_str("<h2>Checked</h2>\n<ul>\n");
    for line in checks(manifest) {
        let _ = writeln!(page, "<li class=\"ok\">{}</li>", escaped(&line));
    }
    let _ = write!(
        page,
        "</ul>\n<h2>How to cite and to repeat</h2>\n<p>Commonwatt {} simulation, run <code>{}</code>, seed {}, scenario {} \
         (SHA-256 <code>{}</code>). Repeat it with <code>commonwatt rerun RUN-FOLDER</code>: the same bytes.</p>\n</main></body></html>\n",
        manifest.version,
        manifest.run_id,
        manifest.seed,
        escaped(&manifest.name),
        manifest.scenario_sha256
    );
    page
}

fn tiles(page: &mut String, kpis: &[Kpi]) {
    page.push_str("<div class=\"tiles\">\n");
    for (name, words) in TILES {
        let Some(kpi) = kpis.iter().find(|kpi| kpi.name == name) else {
            continue;
        };
        let Some(value) = kpi.value else { continue };
        let text = if kpi.unit == "1" {
            format!("{:.1} %", value * 100.0)
        } else {
            format!("{} {}", number(Some(value)), kpi.unit)
        };
        let twin = match kpi.netting_only {
            Some(netting) if kpi.unit != "1" => {
                format!("; netting alone gives {}", number(Some(netting)))
            }
            _ => String::new(),
        };
        let _ = writeln!(
            page,
            "<div class=\"tile\"><b>{}</b><span>{words}{twin}</span></div>",
            escaped(&text)
        );
    }
    page.push_str("</div>\n");
}

fn table(page: &mut String, kpis: &[Kpi]) {
    page.push_str(
        "<h2>Figures beside the twins</h2>\n<p class=\"s\">Netting only: the same devices, what homes have over and lack cancels inside the \
         community, nothing is traded. No market: each home alone with the utility.</p>\n<div class=\"wide\"><table>\n\
         <tr><th>figure</th><th>this run</th><th>netting only</th><th>no market</th><th>unit</th><th class=\"d\">definition</th></tr>\n",
    );
    for kpi in kpis {
        let twin = |value: Option<f64>| value.map_or(String::new(), |v| number(Some(v)));
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"d\">{}</td></tr>",
            kpi.name,
            number(kpi.value),
            twin(kpi.netting_only),
            twin(kpi.no_market),
            if kpi.unit == "1" { "" } else { &kpi.unit },
            escaped(&kpi.definition)
        );
    }
    page.push_str("</table></div>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
