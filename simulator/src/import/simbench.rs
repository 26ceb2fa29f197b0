//! `SimBench`: `Load.csv` with `LoadProfile.csv`, and `RES.csv` with `RESProfile.csv`; `;` between cells.
//!
//! A load's active power is `pLoad` (MW) times its profile's column `<profile>_pload`; a plant's is `pRES` times `<profile>`.
//! Stamps like `01.01.2016 00:15` are the start of the quarter hour in UTC+1 all year, unless a zone is named. The copy in the
//! format of pandapower (`load.csv` with `p_mw` and profiles in Parquet) is another format and is not read.

use std::collections::BTreeMap;

use super::builder::{Builder, Measure};
use super::decimal::rounded;
use super::rows::Rows;
use super::stamp::{LocalClock, naive};
use super::{ImportError, Options, Quantity, Source, Table, stem};

/// µW in a MW.
const MICRO_WATT_PER_MW: f64 = 1e12;

/// A load or plant.
struct Unit {
    name: String,
    mw: f64,
}

pub(super) fn read(files: &[Source<'_>], options: &Options) -> Result<Table, ImportError> {
    let mut builder = Builder::new(options);
    let find = |name: &str| {
        let is = |file: &&Source<'_>| stem(file.name).eq_ignore_ascii_case(name);
        files.iter().find(is).copied()
    };
    let mut pairs = 0;
    for (units, profiles, power, suffix, quantity) in [
        (
            "Load",
            "LoadProfile",
            "pLoad",
            "_pload",
            Quantity::Consumption,
        ),
        ("RES", "RESProfile", "pRES", "", Quantity::Generation),
    ] {
        match (find(units), find(profiles)) {
            (Some(units), Some(profiles)) => {
                pairs += 1;
                let units = read_units(units, power, options)?;
                builder.file(profiles.name);
                spread(profiles, &units, suffix, quantity, options, &mut builder)?;
            }
            (None, None) => {}
            _ => {
                let what = format!("{units}.csv and {profiles}.csv belong together: name both");
                return Err(ImportError::Options(what));
            }
        }
    }
    if pairs == 0 {
        let what = "SimBench needs Load.csv with LoadProfile.csv, or RES.csv with RESProfile.csv";
        return Err(ImportError::Options(what.to_owned()));
    }
    builder.finish(None)
}

/// The units of each profile.
fn read_units(
    file: Source<'_>,
    power: &str,
    options: &Options,
) -> Result<BTreeMap<String, Vec<Unit>>, ImportError> {
    let rows = Rows::open(file, b';', 0)?;
    let (id, profile) = (rows.column(&["id"])?, rows.column(&["profile"])?);
    let power = rows.column(&[power])?;
    let mut units: BTreeMap<String, Vec<Unit>> = BTreeMap::new();
    for row in rows {
        let row = row?;
        let name = row.cell(id).replace(' ', "_");
        if !options.wants(&name) && !options.wants(row.cell(id)) {
            continue;
        }
        let mw = row.float(power)?;
        let mw = mw.ok_or_else(|| row.wrong("has no power"))?;
        let list = units.entry(row.cell(profile).to_owned()).or_default();
        list.push(Unit { name, mw });
    }
    Ok(units)
}

fn spread(
    file: Source<'_>,
    units: &BTreeMap<String, Vec<Unit>>,
    suffix: &str,
    quantity: Quantity,
    options: &Options,
    builder: &mut Builder,
) -> Result<(), ImportError> {
    let rows = Rows::open(file, b';', 0)?;
    let time = rows.column(&["time"])?;
    let mut columns = Vec::with_capacity(units.len());
    for (profile, units) in units {
        let name = format!("{profile}{suffix}");
        columns.push((rows.column(&[name.as_str()])?, units));
    }
    let mut clock = LocalClock::new(options.zone_or(chrono_tz::Etc::GMTMinus1));
    for row in rows {
        let row = row?;
        let text = row.cell(time);
        let local = naive(text, &["%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M:%S"])
            .ok_or_else(|| row.wrong(format!("{text:?} is no stamp like 01.01.2016 00:15")))?;
        let start_s = clock.utc_s(local).map_err(|e| row.wrong(e))?;
        for (column, units) in &columns {
            let share = row.float(*column)?;
            for unit in *units {
                let power = match share {
                    None => None,
                    Some(share) => {
                        Some(rounded(share * unit.mw * MICRO_WATT_PER_MW).ok_or_else(|| {
                            row.wrong(format!("{} has more power than can be read", unit.name))
                        })?)
                    }
                };
                builder.push(
                    &unit.name,
                    quantity,
                    Measure::Power,
                    start_s,
                    power,
                    row.line,
                )?;
            }
        }
    }
    Ok(())
}
