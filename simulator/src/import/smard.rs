//! SMARD downloads: generation, consumption and prices, `;` between cells, in German or English.
//!
//! `Datum von;Datum bis;Photovoltaik [MWh] Originalauflösungen;…` with `1.234,5`, or `Start date;End date;…` with `1,234.5` and
//! `Jan 1, 2024 12:00 AM`; older files have `Datum;Anfang;Ende`. Stamps are local (Europe/Berlin), so the
//! hour that is there twice in autumn is told by its order. A dash is no value.

use super::builder::{Builder, Measure};
use super::decimal;
use super::rows::{Row, Rows, is_missing};
use super::stamp::{LocalClock, naive};
use super::{ImportError, Options, Quantity, Source, Table};

/// A column that is read: its place, name and meaning.
struct Series {
    column: usize,
    name: String,
    quantity: Quantity,
}

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let zone = options.zone_or(chrono_tz::Europe::Berlin);
    let mut builder = Builder::new(options);
    for file in files {
        builder.file(file.name);
        let rows = Rows::open(*file, b';', 0)?;
        let german = rows.find(&["Start date", "Date"]).is_none();
        let time = rows.column(&["Datum von", "Datum", "Start date", "Date"])?;
        let clock_column = rows.find(&["Anfang", "Uhrzeit", "Start", "Time of day"]);
        let series = series(&rows, file.name, options, &mut builder);
        let mut clock = LocalClock::new(zone);
        for row in rows {
            let row = row?;
            let mut text = row.cell(time).to_owned();
            if let Some(column) = clock_column {
                text = format!("{text} {}", row.cell(column));
            }
            let local = naive(&text, &["%d.%m.%Y %H:%M", "%b %d, %Y %I:%M %p"]);
            let local = local.ok_or_else(|| {
                row.wrong(format!(
                    "{text:?} is no stamp like 01.01.2024 00:15 or Jan 1, 2024 12:15 AM"
                ))
            })?;
            let start_s = clock.utc_s(local).map_err(|e| row.wrong(e))?;
            for Series {
                column,
                name,
                quantity,
            } in &series
            {
                let (measure, factor) = match quantity {
                    Quantity::Price => (Measure::Price, 1_000),
                    _ => (Measure::Energy, 1_000_000_000_000),
                };
                let value = number(&row, *column, german, factor)?;
                builder.push(name, *quantity, measure, start_s, value, row.line)?;
            }
        }
    }
    builder.finish(None)
}

/// What the columns are: energies and prices are read, anything else is noted.
fn series(rows: &Rows<'_>, file: &str, options: &Options, builder: &mut Builder) -> Vec<Series> {
    let mut found = Vec::new();
    for (column, title) in rows.header().iter().enumerate() {
        let Some((name, rest)) = title.split_once('[') else {
            continue;
        };
        let unit = rest.split(']').next().unwrap_or(rest);
        let name = slug(name);
        let quantity = match unit {
            "MWh" if is_demand(file, &name) => Quantity::Consumption,
            "MWh" => Quantity::Generation,
            "€/MWh" | "Euro/MWh" | "EUR/MWh" => Quantity::Price,
            other => {
                builder.note(format!(
                    "{title}: {other} is neither MWh nor €/MWh, left out"
                ));
                continue;
            }
        };
        if options.wants(&name) {
            found.push(Series {
                column,
                name,
                quantity,
            });
        }
    }
    found
}

fn is_demand(file: &str, name: &str) -> bool {
    let file = file.to_lowercase();
    ["verbrauch", "consumption"]
        .iter()
        .any(|word| file.contains(word))
        || ["netzlast", "residuallast", "grid_load", "residual_load"]
            .iter()
            .any(|word| name.contains(word))
}

/// A name in lower case with underscores.
fn slug(name: &str) -> String {
    let plain = name
        .trim()
        .to_lowercase()
        .replace('ä', "ae")
        .replace('ö', "oe");
    let plain = plain.replace('ü', "ue").replace('ß', "ss");
    let parts = plain.split(|c: char| !c.is_ascii_alphanumeric());
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("_")
}

fn number(
    row: &Row<'_>,
    column: usize,
    german: bool,
    factor: i64,
) -> Result<Option<i64>, ImportError> {
    let text = row.cell(column);
    if is_missing(text) {
        return Ok(None);
    }
    let plain = if german {
        text.replace('.', "").replace(',', ".")
    } else {
        text.replace(',', "")
    };
    let value = decimal::times(&plain, factor);
    value
        .map(Some)
        .ok_or_else(|| row.wrong(format!("{text:?} is no number that can be read")))
}
