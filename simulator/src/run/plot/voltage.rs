//! The voltages at the homes over time: a band from the lowest to the highest, with gaps where there are none.

use super::{Chart, Figure, shown, time_axis, with_span};
use crate::run::engine::Outcome;
use crate::run::grid::GridState;

/// Draws it; a run without wires has an empty chart.
pub(super) fn draw(outcome: &Outcome) -> String {
    let rows = shown(outcome);
    let grid = outcome.grid.iter().flat_map(|grid| &grid.rows);
    let states: Vec<Option<GridState>> = grid.map(|row| row.state).take(rows.len()).collect();
    let ends = |state: &GridState| (state.vm_min_pu, state.vm_max_pu);
    let found = states.iter().flatten().map(ends);
    let (low, high) = found.fold((1.0_f64, 1.0_f64), |(l, h), (min, max)| {
        (l.min(min), h.max(max))
    });
    let title = with_span(Figure::Voltage.title(), outcome);
    let mut chart = Chart::new(&title, "p.u.", rows.len(), low, high);
    let line = |of: fn(&GridState) -> f64| -> Vec<Option<f64>> {
        states.iter().map(|state| state.as_ref().map(of)).collect()
    };
    chart.steps("cold", 1.6, "none", &line(|s| s.vm_min_pu));
    chart.steps("sun", 1.6, "none", &line(|s| s.vm_max_pu));
    time_axis(&mut chart, outcome, rows);
    chart.legend(&[("cold", "lowest at a home"), ("sun", "highest at a home")]);
    chart.end()
}
