//! Who lives there: the homes that a scenario lists and those that its groups draw, ordered by id.

use domain::ids::ParticipantId;

use super::RunError;
use super::counter::Counter;
use super::scenario::{Group, RunEv, RunHeatPump, RunHome, RunPv, RunScenario};
use crate::number::float;
use crate::scenario::BatteryScenario;

/// Batteries of groups charge within so many hours, in halves of an hour.
const BATTERY_HALF_HOURS: i64 = 5;

/// All homes of a scenario, ordered by id.
///
/// # Errors
/// Two homes of one id.
pub fn homes(scenario: &RunScenario) -> Result<Vec<RunHome>, RunError> {
    let mut homes = scenario.homes.clone();
    for group in &scenario.groups {
        let digits = group.homes.to_string().len().max(2);
        for number in 1..=group.homes {
            homes.push(draw(group, number, digits)?);
        }
    }
    homes.sort_by(|a, b| a.id.cmp(&b.id));
    match homes.windows(2).find(|pair| pair[0].id == pair[1].id) {
        Some(twice) => Err(RunError::bad(format!(
            "two homes are called {}: name the groups' prefixes apart from [[homes]]",
            twice[0].id
        ))),
        None => Ok(homes),
    }
}

fn draw(group: &Group, number: u32, digits: usize) -> Result<RunHome, RunError> {
    let id = ParticipantId::new(format!("{}-{number:0digits$}", group.prefix))
        .map_err(|e| RunError::bad(format!("groups: {e}")))?;
    let counter = Counter::new(group.draw, "group", id.as_str());
    let mut index = 0;
    let mut whole = |low, high| {
        index += 1;
        counter.whole(index, low, high)
    };
    let mut percent = |share: u32| whole(0, 99) < i64::from(share);
    let (sunny, stores, drives) = (
        percent(group.pv_percent),
        percent(group.battery_percent),
        percent(group.ev_percent),
    );
    let [low, high] = group.yearly_load_kwh;
    let mut home = RunHome::drawn(id, whole(low, high), group.strategy);
    let [low, high] = group.pv_peak_w;
    let peak_w = whole(low, high) / 100 * 100;
    let (tilt, azimuth) = (whole(15, 45), whole(90, 180) + whole(0, 90));
    if sunny {
        home.pv = Some(RunPv {
            peak_w: peak_w.max(low),
            inverter_w: (peak_w * 9 / 10).max(100),
            tilt_deg: float(tilt),
            azimuth_deg: float(azimuth),
            planes: Vec::new(),
        });
    }
    let [low, high] = group.battery_wh;
    let capacity_wh = whole(low, high) / 100 * 100;
    if sunny && stores {
        home.battery = Some(BatteryScenario {
            capacity_wh: capacity_wh.max(low),
            power_w: (capacity_wh * 2 / BATTERY_HALF_HOURS).clamp(100, 30_000),
            efficiency: 0.92,
            street_w: 0,
        });
    }
    let (arrival, departure, need_wh) = (whole(150, 200), whole(60, 80), whole(4000, 14_000));
    if drives {
        let drawn = group.ev_visits.is_none() && group.ev_sessions.is_none();
        home.ev = Some(RunEv {
            battery_wh: 58_000,
            max_power_w: 11_000,
            arrival_hour: drawn.then(|| float(arrival) / 10.0),
            departure_hour: drawn.then(|| float(departure) / 10.0),
            daily_need_wh: drawn.then_some(need_wh),
            visits: group.ev_visits,
            sessions: group.ev_sessions.clone(),
            policy: group.ev_policy,
            own_connection: false,
        });
    }
    let (loss_w_per_k, heated) = (whole(90, 240), whole(0, 99));
    if heated < i64::from(group.heat_pump_percent) {
        home.heat_pump = Some(RunHeatPump {
            // Enough for 15 K below freezing at a coefficient of 2.
            electric_w: float(loss_w_per_k * 35 / 2),
            loss_w_per_k: float(loss_w_per_k),
            capacity_wh_per_k: 9000.0,
            set_point_c: 20.5,
            supply_c: 38.0,
            hot_water_wh: 6000.0,
        });
    }
    take_files(&mut home, group, number);
    Ok(home)
}

/// What a home of a group has from files: the nth home the nth column or charging point.
fn take_files(home: &mut RunHome, group: &Group, number: u32) {
    home.load.clone_from(&group.load);
    home.generation.clone_from(&group.generation);
    let load = home.load.iter_mut().filter_map(|part| part.series.as_mut());
    for series in load.chain(&mut home.generation) {
        series.number = series.number.saturating_add(number - 1);
    }
    if let Some(sessions) = home.ev.as_mut().and_then(|ev| ev.sessions.as_mut()) {
        sessions.number = sessions.number.saturating_add(number - 1);
    }
    let peak_w = home.pv.as_ref().map(RunPv::peak_of_all_w);
    if let (Some(percent), Some(peak_w)) = (group.export_limit_percent, peak_w) {
        home.export_limit_w = Some(peak_w * i64::from(percent) / 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn village(homes: u32, draw: u64) -> Vec<RunHome> {
        let text = format!(
            "name = \"v\"\nsite = {{ latitude = 51.0, longitude = 10.0, start = \"2026-06-01\", cloudiness = 0.4 }}\n\
             [[groups]]\nprefix = \"home\"\nhomes = {homes}\ndraw = {draw}\nyearly_load_kwh = [2000, 5000]\n\
             pv_percent = 50\nbattery_percent = 40\nev_percent = 20\n"
        );
        super::homes(&RunScenario::parse("v.toml", &text).unwrap()).unwrap()
    }

    #[test]
    fn shares_and_ranges_are_kept_and_more_homes_change_none_of_the_others() {
        let many = village(900, 1);
        let count = |has: fn(&RunHome) -> bool| many.iter().filter(|h| has(h)).count();
        assert!((390..510).contains(&count(|h| h.pv.is_some())));
        assert!((130..230).contains(&count(|h| h.battery.is_some())));
        assert!((130..230).contains(&count(|h| h.ev.is_some())));
        assert!(
            many.iter()
                .all(|h| (2000..=5000).contains(&h.yearly_load_kwh))
        );
        assert_eq!(village(100, 1)[..], many[..100]);
        assert_ne!(village(900, 2), many);
    }
}
