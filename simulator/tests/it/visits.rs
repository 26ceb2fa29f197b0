//! Generated charging sessions against real ones, by the Kolmogorov–Smirnov distance of arrival, stay and energy. The
//! real ones are read where they lie beside the project.

use std::path::PathBuf;

use simulator::model::ev::Session;
use simulator::model::ev::sessions::{self, Site, of_day};
use simulator::model::random::Stream;

/// The greatest distance between the distribution functions of two samples.
fn distance(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let share = |list: &[f64], x: f64| list.partition_point(|v| *v <= x) as f64 / list.len() as f64;
    let at = |x: &f64| (share(&a, *x) - share(&b, *x)).abs();
    a.iter().chain(&b).map(at).fold(0.0, f64::max)
}

#[test]
fn the_distance_is_that_of_the_distribution_functions() {
    let even: Vec<f64> = (0..100).map(f64::from).collect();
    assert!(distance(even.clone(), even.clone()) < 1e-12);
    let later: Vec<f64> = even.iter().map(|x| x + 25.0).collect();
    assert!((distance(even, later) - 0.25).abs() < 1e-12);
    assert!((distance(vec![1.0], vec![2.0]) - 1.0).abs() < 1e-12);
}

/// Hour of arrival, hours of stay, kWh. Sessions of weekends have another clock and are left out: `of_day` has both.
fn shape(list: &[Session], offset_s: i64, free: bool) -> [Vec<f64>; 3] {
    let local = |s: &Session| s.arrival_unix_s + offset_s;
    // 1 January 1970 was a Thursday.
    let is_free = |s: &Session| (local(s).div_euclid(86_400) + 3).rem_euclid(7) >= 5;
    let of = |value: &dyn Fn(&Session) -> f64| {
        let wanted = list.iter().filter(|s| is_free(s) == free);
        wanted.map(value).collect::<Vec<f64>>()
    };
    [
        of(&|s| local(s).rem_euclid(86_400) as f64 / 3600.0),
        of(&|s| (s.departure_unix_s - s.arrival_unix_s) as f64 / 3600.0),
        of(&|s| s.energy_wh as f64 / 1000.0),
    ]
}

fn made(site: Site) -> Vec<Session> {
    let stream = Stream::new(17, "visits");
    let day = |car: u32, day: i64| {
        let free = (day + 3).rem_euclid(7) >= 5;
        of_day(
            site,
            free,
            day * 86_400,
            11_000,
            100_000,
            &mut stream.at(car, day),
        )
    };
    (0..200)
        .flat_map(|car| (17_000..17_035).filter_map(move |d| day(car, d)))
        .collect()
}

/// Real sessions: file, what its times are ahead of UTC, and lines that are wanted.
fn real(file: &str, offset_s: i64, wanted: &str) -> Option<Vec<Session>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(file);
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {file} is not beside the project");
        return None;
    };
    let mut lines = text.lines();
    let head = lines.next()?;
    let kept = lines.filter(|line| line.contains(wanted));
    let text = std::iter::once(head)
        .chain(kept)
        .collect::<Vec<_>>()
        .join("\n");
    Some(sessions::read(&text, file, offset_s).unwrap().sessions)
}

#[test]
fn generated_visits_are_close_to_real_ones() {
    for (site, file, offset_s, wanted) in [
        (Site::Home, "ev_trondheim_sessions.csv", 0, ",Private,"),
        (
            Site::Work,
            "ev_acn_caltech_2019_summer.csv",
            -7 * 3600,
            "caltech",
        ),
    ] {
        let Some(real) = real(file, 0, wanted) else {
            continue;
        };
        for (free, limits) in [(false, LIMITS), (true, LIMITS_FREE)] {
            let (ours, theirs) = (shape(&made(site), 0, free), shape(&real, offset_s, free));
            for (((what, limit), ours), theirs) in limits.iter().zip(ours).zip(theirs) {
                let (counts, found) = ((ours.len(), theirs.len()), distance(ours, theirs));
                println!("{site:?}, free {free}, {what}: {found:.3} of {counts:?}");
                assert!(found <= *limit, "{site:?}, free {free}, {what}: {found}");
            }
        }
    }
}

/// The most that arrivals, stays and energies may be apart on working days, and on free days, which are fewer.
const LIMITS: [(&str, f64); 3] = [("arrival", 0.08), ("stay", 0.15), ("energy", 0.10)];
const LIMITS_FREE: [(&str, f64); 3] = [("arrival", 0.12), ("stay", 0.20), ("energy", 0.15)];
