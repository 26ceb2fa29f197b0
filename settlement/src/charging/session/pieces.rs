//! What the station's meter counted, piece by piece: charging, parked, or held back.

use domain::energy::Energy;
use domain::time::Timestamp;

use crate::charging::NANO;
use crate::charging::record::{Period, Record};
use crate::charging::tariff::{Dimension, Moment};
use crate::charging::terms::Terms;

/// Times in a record are whole steps of this, so that they are exact in OCPI's four decimals of an hour.
const TIME_STEP_MS: i64 = 9_000;
/// More than the station's power by this much, in Wh, is still believed: registers are read late and in whole Wh.
const PLAUSIBLE_EXTRA_WH: i64 = 100;

/// What a stretch of time was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Charging,
    /// The car asks for no power, and the grace time is over.
    Parked,
    /// Nothing runs: the grid, a power cut, or the grace time.
    Free,
}

/// A stretch of one kind at one price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    start: Timestamp,
    end: Timestamp,
    wh: i64,
    kind: Kind,
    /// Which element of the tariff prices its energy, and at how much.
    price: (usize, i64),
}

/// The meter's side of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meter {
    first: (Timestamp, i64),
    last: (Timestamp, i64),
    /// Times since the last reading at which the kind changed, and what it was before.
    marks: Vec<(Timestamp, Kind)>,
    pieces: Vec<Piece>,
    by_grid: bool,
    by_plan: bool,
    powerless_since: Option<Timestamp>,
    full_since: Option<Timestamp>,
    /// The station was stopped because the wish is fulfilled.
    wish_done: bool,
}

/// Most changes between two readings; later ones join the last.
const MARKS_MAX: usize = 64;

impl Meter {
    pub(super) fn new(at: Timestamp, register_wh: i64) -> Self {
        Meter {
            first: (at, register_wh),
            last: (at, register_wh),
            marks: Vec::new(),
            pieces: Vec::new(),
            by_grid: false,
            by_plan: false,
            powerless_since: None,
            full_since: None,
            wish_done: false,
        }
    }

    pub(super) fn first(&self) -> (Timestamp, i64) {
        self.first
    }

    pub(super) fn last(&self) -> (Timestamp, i64) {
        self.last
    }

    pub(super) fn energy(&self) -> Energy {
        Energy::from_wh(self.last.1.saturating_sub(self.first.1))
    }

    pub(super) fn paused_by_grid(&self) -> bool {
        self.by_grid
    }

    pub(super) fn waits_by_plan(&self) -> bool {
        self.by_plan
    }

    /// Whether something other than the car keeps it from charging.
    fn held_back(&self) -> bool {
        self.by_grid || self.by_plan || self.powerless_since.is_some()
    }

    pub(super) fn full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Average power between the start and the last reading while charging, in W.
    pub(super) fn power_w(&self) -> Option<i64> {
        let charging = self.pieces.iter().filter(|p| p.kind == Kind::Charging);
        let (ms, wh) = charging.fold((0_i64, 0_i64), |(ms, wh), p| {
            (ms + p.end.ms_since(p.start), wh + p.wh)
        });
        wh.checked_mul(3_600_000)?.checked_div(ms)
    }

    fn kind(&self) -> Kind {
        match (self.held_back(), self.full_since) {
            (true, _) => Kind::Free,
            (false, Some(_)) => Kind::Parked,
            (false, None) => Kind::Charging,
        }
    }

    fn mark(&mut self, now: Timestamp, before: Kind) {
        let earliest = self.marks.last().map_or(self.last.0, |(at, _)| *at);
        if self.marks.len() < MARKS_MAX {
            self.marks.push((now.max(earliest), before));
        }
    }

    pub(super) fn pause_by_grid(&mut self, now: Timestamp, paused: bool) {
        if self.by_grid != paused {
            let before = self.kind();
            self.by_grid = paused;
            self.mark(now, before);
        }
    }

    pub(super) fn pause_by_plan(&mut self, now: Timestamp, paused: bool) {
        if self.by_plan != paused {
            let before = self.kind();
            self.by_plan = paused;
            self.mark(now, before);
        }
    }

    pub(super) fn lose_power(&mut self, now: Timestamp, lost: bool) {
        if self.powerless_since.is_some() != lost {
            let before = self.kind();
            self.powerless_since = lost.then_some(now);
            self.mark(now, before);
        }
    }

    /// The wish is fulfilled: whether that is new. From here on the car counts as full.
    pub(super) fn stop_at_wish(&mut self) -> bool {
        let new = !self.wish_done;
        self.wish_done = true;
        self.full_since = self.full_since.or(Some(self.last.0));
        new
    }

    pub(super) fn has_enough(&self) -> bool {
        self.wish_done
    }

    /// More is wished for: whether the station was stopped because the wish was fulfilled. The car is not full then.
    pub(super) fn wish_again(&mut self) -> bool {
        let stopped = self.wish_done;
        self.wish_done = false;
        if stopped {
            self.full_since = None;
        }
        stopped
    }

    pub(super) fn powerless_s(&self, now: Timestamp) -> i64 {
        let since = self.powerless_since;
        since.map_or(0, |since| (now.ms_since(since) / 1_000).max(1))
    }

    pub(super) fn silent_s(&self, now: Timestamp) -> i64 {
        now.ms_since(self.last.0) / 1_000
    }

    pub(super) fn parked_s(&self, now: Timestamp) -> i64 {
        self.full_since
            .map_or(0, |since| now.ms_since(since) / 1_000)
    }

    /// Time in which the car could have charged.
    pub(super) fn charging_s(&self, now: Timestamp) -> i64 {
        let counted = self.pieces.iter().filter(|p| p.kind == Kind::Charging);
        let counted: i64 = counted.map(|p| p.end.ms_since(p.start)).sum();
        let open = match (self.marks.is_empty(), self.kind()) {
            (true, Kind::Charging) => now.ms_since(self.last.0),
            _ => 0,
        };
        (counted + open) / 1_000
    }

    /// Takes a reading, or refuses one that cannot be.
    pub(super) fn read(
        &mut self,
        now: Timestamp,
        register_wh: i64,
        full: bool,
        terms: &Terms,
    ) -> bool {
        let (from, before_wh) = self.last;
        let Some(wh) = register_wh.checked_sub(before_wh) else {
            return false;
        };
        let ms = now.ms_since(from);
        let most = i64::from(terms.quote.power_max_w).saturating_mul(ms) / 3_600_000;
        if ms <= 0 || wh < 0 || wh > most.saturating_add(PLAUSIBLE_EXTRA_WH) {
            return false;
        }
        self.cut(now, wh, terms);
        self.last = (now, register_wh);
        self.marks.clear();
        let held_back = self.held_back();
        self.full_since = match (full || self.wish_done, self.full_since) {
            // A car that gets no power asks for none: that says nothing.
            (true, since) if held_back => since,
            (true, since) => since.or(Some(now)),
            (false, _) => None,
        };
        true
    }

    /// Cuts the time since the last reading where its kind or price changed, and puts the energy where it was
    /// cheapest among the pieces in which the car charged.
    fn cut(&mut self, now: Timestamp, wh: i64, terms: &Terms) {
        let mut new: Vec<Piece> = Vec::new();
        let mut from = self.last.0;
        let mut marks = std::mem::take(&mut self.marks);
        marks.push((now, self.kind()));
        for (at, kind) in marks {
            for (start, end) in self.stretches(from, at.min(now), terms) {
                let graced = self
                    .full_since
                    .map(|s| s.plus_s(i64::from(terms.quote.parking_grace_s)));
                let kind = match (kind, graced) {
                    (Kind::Parked, Some(graced)) if start < graced => Kind::Free,
                    (kind, _) => kind,
                };
                let price = price_at(start, terms);
                new.push(Piece {
                    start,
                    end,
                    wh: 0,
                    kind,
                    price,
                });
            }
            from = at.min(now).max(from);
        }
        let charging = new.iter().any(|p| p.kind == Kind::Charging);
        let fits = |p: &&mut Piece| !charging || p.kind == Kind::Charging;
        if let Some(cheapest) = new.iter_mut().filter(fits).min_by_key(|p| p.price.1) {
            cheapest.wh = wh;
        }
        for piece in new {
            self.push(piece);
        }
    }

    /// `from` to `to`, cut where prices change and where the grace time ends.
    fn stretches(
        &self,
        from: Timestamp,
        to: Timestamp,
        terms: &Terms,
    ) -> Vec<(Timestamp, Timestamp)> {
        let prices = terms
            .quote
            .prices
            .iter()
            .map(|(interval, _)| interval.start());
        let grace = self
            .full_since
            .map(|s| s.plus_s(i64::from(terms.quote.parking_grace_s)));
        let inside = |at: &Timestamp| from < *at && *at < to;
        let mut cuts: Vec<Timestamp> = prices.chain(grace).filter(inside).collect();
        cuts.extend([from, to]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    fn push(&mut self, piece: Piece) {
        match self.pieces.last_mut() {
            Some(last)
                if last.kind == piece.kind
                    && last.price == piece.price
                    && last.end == piece.start =>
            {
                last.end = piece.end;
                last.wh += piece.wh;
            }
            _ => self.pieces.push(piece),
        }
    }

    pub(super) fn record(&self, terms: &Terms) -> Record {
        let mut periods: Vec<Period> = self.pieces.iter().map(period).collect();
        if periods.is_empty() {
            periods.push(Period::empty(self.first.0));
        }
        Record {
            end: self.last.0,
            periods,
            currency: Some(terms.quote.currency.clone()),
            claimed: None,
            tariffs: Vec::new(),
        }
    }
}

fn period(piece: &Piece) -> Period {
    let whole_ms = piece.end.ms_since(piece.start) / TIME_STEP_MS * TIME_STEP_MS;
    let ns = i128::from(whole_ms) * (NANO / 1_000);
    Period {
        energy: i128::from(piece.wh) * (NANO / 1_000),
        time_ns: if piece.kind == Kind::Charging { ns } else { 0 },
        parking_ns: if piece.kind == Kind::Parked { ns } else { 0 },
        ..Period::empty(piece.start)
    }
}

/// Which element prices energy at `at`, and its price.
fn price_at(at: Timestamp, terms: &Terms) -> (usize, i64) {
    let moment = Moment {
        local: at.to_chrono().unwrap_or_default().naive_utc(),
        energy: 0,
        duration_ns: 0,
        current: None,
        power: None,
        reservation: None,
    };
    let active = terms.tariff.active(Dimension::Energy, &moment);
    active.map_or((usize::MAX, 0), |a| (a.element, a.component.price.nano()))
}
