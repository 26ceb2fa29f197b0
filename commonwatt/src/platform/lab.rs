//! Runs of the simulator that researchers ask the platform for: built-in scenarios, one at a time, on one thread of
//! their own beside the market.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use simulator::run::engine::Job;
use simulator::run::folder::{Planned, Request, planned, simulate};
use simulator::run::table::FileKind;
use simulator::run::{RunError, builtin};

use crate::view::lab::RUNS_MAX;

/// Largest run that the platform makes, in intervals of all homes; larger ones are for `commonwatt simulate`.
pub(crate) const HOME_INTERVALS_MAX: u64 = 2_000_000;
/// Room that has to be left for the books.
const FREE_MIN_MIB: i64 = 4_096;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// A built-in scenario.
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    /// Days, where others than the scenario's.
    pub(crate) days: Option<u32>,
    /// Mechanism and price policy, where others than the scenario's.
    pub(crate) mechanism: Option<String>,
    pub(crate) price_policy: Option<String>,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBegun {
    #[error("{0}")]
    MakesNoSense(String),
    #[error(
        "This run has {0} home-intervals, and the platform makes runs of {HOME_INTERVALS_MAX} at most: take fewer \
         days, or run it with `commonwatt simulate`."
    )]
    TooLarge(u64),
    #[error("Another run is under way: ask again when it has ended.")]
    Busy,
    #[error("There is no room for another run: {0}.")]
    NoRoom(&'static str),
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What became of asking.
pub(crate) enum Begun {
    /// It runs, and will be in this folder.
    Runs(String),
    /// The same run is there already, in this folder.
    There(String),
}

/// A run that is under way, or that has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Running { done_permille: u64 },
    Failed(String),
}

/// Where the one run that is under way is noted.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Option<(String, State)>>>);

impl Desk {
    fn open(&self) -> MutexGuard<'_, Option<(String, State)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a run stands that is not in its folder yet.
    pub(crate) fn state(&self, folder: &str) -> Option<State> {
        let newest = self.open();
        let (known, state) = newest.as_ref()?;
        (known == folder).then(|| state.clone())
    }

    /// Takes the only place.
    fn enter(&self, folder: &str) -> bool {
        let mut newest = self.open();
        if let Some((_, State::Running { .. })) = *newest {
            return false;
        }
        *newest = Some((folder.to_owned(), State::Running { done_permille: 0 }));
        true
    }

    fn progress(&self, done: u64, all: u64) {
        if let Some((_, State::Running { done_permille })) = &mut *self.open() {
            *done_permille = done.saturating_mul(1000) / all.max(1);
        }
    }

    fn leave(&self, failed: Option<String>) {
        let mut newest = self.open();
        *newest = match (newest.take(), failed) {
            (Some((folder, _)), Some(why)) => Some((folder, State::Failed(why))),
            _ => None,
        };
    }
}

/// Leaves the place however the run ends.
struct Place(Desk, Option<String>);

impl Place {
    fn ended(mut self, failed: Option<String>) {
        self.1 = failed;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave(self.1.take());
    }
}

fn request(wanted: &Wanted, runs: &Path) -> Result<Request, NotBegun> {
    let no_sense = |error: RunError| NotBegun::MakesNoSense(error.to_string());
    let names = || {
        let names: Vec<&str> = builtin::ALL.iter().map(|(name, _, _)| *name).collect();
        NotBegun::MakesNoSense(format!("scenario: one of {}", names.join(", ")))
    };
    let scenario = builtin::scenario(&wanted.scenario).ok_or_else(names)?;
    let mut scenario = scenario.map_err(no_sense)?;
    if let Some(days) = wanted.days {
        scenario.site.days = days;
    }
    if wanted.mechanism.is_none() && wanted.price_policy.is_some() {
        let why = "price_policy: name its mechanism, too";
        return Err(NotBegun::MakesNoSense(why.to_owned()));
    }
    if let Some(mechanism) = &wanted.mechanism {
        let changed = scenario.trade_by(mechanism, wanted.price_policy.as_deref());
        changed.map_err(|error| NotBegun::MakesNoSense(format!("mechanism: {error}")))?;
    }
    Ok(Request {
        job: Job {
            scenario,
            seed: wanted.seed,
            prices: None,
        },
        tables: None,
        kind: FileKind::best(),
        threads: 1,
        out: Some(runs.to_owned()),
    })
}

/// Begins a run, which goes on by itself; it blocks while it looks at the request.
pub(crate) fn begin(
    desk: &Desk,
    wanted: &Wanted,
    (runs, free_mib): (&Path, Option<i64>),
) -> Result<Begun, NotBegun> {
    let request = request(wanted, runs)?;
    let planned = planned(&request).map_err(|error| NotBegun::MakesNoSense(error.to_string()))?;
    let Planned {
        folder,
        home_intervals,
    } = planned;
    if runs.join(&folder).join("manifest.json").exists() {
        return Ok(Begun::There(folder));
    }
    if home_intervals > HOME_INTERVALS_MAX {
        return Err(NotBegun::TooLarge(home_intervals));
    }
    if free_mib.is_some_and(|free| free < FREE_MIN_MIB) {
        return Err(NotBegun::NoRoom("the disk has to keep 4 GiB for the books"));
    }
    if crate::view::lab::runs(runs).len() >= RUNS_MAX {
        return Err(NotBegun::NoRoom("remove some of the runs that are there"));
    }
    if !desk.enter(&folder) {
        return Err(NotBegun::Busy);
    }
    let place = Place(desk.clone(), Some("it broke off".to_owned()));
    // A thread of its own: one of the runtime's would hold up the end of the program until the run is done.
    let work = std::thread::Builder::new().name("run".to_owned());
    let spawned = work.spawn(move || {
        let desk = place.0.clone();
        let done = simulate(&request, &mut |done, all| desk.progress(done, all));
        place.ended(done.err().map(|error| error.to_string()));
    });
    spawned.map_err(anyhow::Error::from)?;
    Ok(Begun::Runs(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(scenario: &str, days: u32) -> Wanted {
        Wanted {
            scenario: scenario.to_owned(),
            seed: 7,
            days: Some(days),
            mechanism: None,
            price_policy: None,
        }
    }

    #[test]
    fn one_run_at_a_time_within_bounds_and_the_same_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path();
        let desk = Desk::default();
        let begin = |wanted: &Wanted, free| begin(&desk, wanted, (runs, free));
        let free = Some(50_000);
        assert!(matches!(
            begin(&wanted("x", 1), free),
            Err(NotBegun::MakesNoSense(_))
        ));
        let large = begin(&wanted("village-100", 300), free);
        assert!(matches!(large, Err(NotBegun::TooLarge(_))));
        let full = begin(&wanted("street-10", 1), Some(100));
        assert!(matches!(full, Err(NotBegun::NoRoom(_))));
        let mut other = wanted("street-10", 1);
        other.mechanism = Some("dice".to_owned());
        assert!(matches!(
            begin(&other, free),
            Err(NotBegun::MakesNoSense(_))
        ));

        assert!(desk.enter("a"));
        assert!(matches!(
            begin(&wanted("street-10", 1), free),
            Err(NotBegun::Busy)
        ));
        desk.leave(Some("x".to_owned()));
        assert_eq!(desk.state("a"), Some(State::Failed("x".to_owned())));
        let Ok(Begun::Runs(name)) = begin(&wanted("street-10", 1), free) else {
            panic!("it did not begin");
        };
        let start = std::time::Instant::now();
        while desk.state(&name).is_some() {
            assert!(start.elapsed().as_secs() < 60, "{:?}", desk.state(&name));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(crate::view::lab::run(runs, &name).is_some());
        let again = begin(&wanted("street-10", 1), free);
        assert!(matches!(again, Ok(Begun::There(same)) if same == name));
    }
}
