//! Printing power flows: JSON in the reference format's shape, CSV of nodes or branches, a table for people.

use std::fmt::Write;

use serde::Serialize;

use super::document::Solved;
use super::flow::Flow;
use super::network::Network;
use super::three_phase::{ThreePhase, ThreePhaseFlow};

/// What CSV is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A line for each node (and phase).
    Nodes,
    /// A line for each branch (and phase).
    Branches,
}

/// Most nodes and branches of which a table shows each one; of larger networks it shows the extremes.
const TABLE_MAX: usize = 60;

#[derive(Serialize)]
struct Cases<'a, F> {
    cases: Vec<Named<'a, F>>,
}

#[derive(Serialize)]
struct Named<'a, F> {
    case: &'a str,
    result: &'a F,
}

fn json<F: Serialize>(solved: &[(String, F)]) -> Result<String, serde_json::Error> {
    let named = |(case, result)| Named { case, result };
    let cases = solved
        .iter()
        .map(|(case, flow)| named((case.as_str(), flow)));
    let cases = Cases {
        cases: cases.collect(),
    };
    serde_json::to_string(&cases).map(|text| text + "\n")
}

impl Solved<'_> {
    /// One JSON object, ending in a line break: `{"cases":[{"case","result":{"vm_pu":[…],…}}]}`.
    ///
    /// # Errors
    /// Never in practice: text and finite numbers can always be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Solved::OnePhase(_, solved) => json(solved),
            Solved::ThreePhase(_, solved) => json(solved),
        }
    }

    /// Nodes or branches of all cases as CSV, with a header.
    #[must_use]
    pub fn to_csv(&self, part: Part) -> String {
        match (self, part) {
            (Solved::OnePhase(network, solved), Part::Nodes) => nodes_csv(solved, network),
            (Solved::OnePhase(_, solved), Part::Branches) => branches_csv(solved),
            (Solved::ThreePhase(_, solved), Part::Nodes) => buses_csv(solved),
            (Solved::ThreePhase(_, solved), Part::Branches) => lines_csv(solved),
        }
    }

    /// A table for each case.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        match self {
            Solved::OnePhase(network, solved) => {
                for (case, flow) in solved {
                    one_phase_table(&mut text, case, flow, network);
                }
            }
            Solved::ThreePhase(network, solved) => {
                for (case, flow) in solved {
                    three_phase_table(&mut text, case, flow, network);
                }
            }
        }
        text
    }
}

/// A cell of CSV: quoted where it must be.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn nodes_csv(solved: &[(String, Flow)], network: &Network) -> String {
    let mut text = "case,node,vm_pu,va_deg\n".to_owned();
    for (case, flow) in solved {
        let case = cell(case);
        for ((node, vm), va) in network.nodes.iter().zip(&flow.vm_pu).zip(&flow.va_deg) {
            let _ = writeln!(text, "{case},{},{vm},{va}", node.id);
        }
    }
    text
}

fn branches_csv(solved: &[(String, Flow)]) -> String {
    let mut text =
        "case,branch,p_from_kw,q_from_kvar,p_to_kw,q_to_kvar,i_from_a,i_to_a,loading_percent\n"
            .to_owned();
    for (case, flow) in solved {
        let case = cell(case);
        for b in &flow.branches {
            let loading = b.loading_percent.map_or(String::new(), |l| l.to_string());
            let _ = writeln!(
                text,
                "{case},{},{},{},{},{},{},{},{loading}",
                b.id, b.p_from_kw, b.q_from_kvar, b.p_to_kw, b.q_to_kvar, b.i_from_a, b.i_to_a
            );
        }
    }
    text
}

fn buses_csv(solved: &[(String, ThreePhaseFlow)]) -> String {
    let mut text = "case,bus,phase,vm_pu,va_deg\n".to_owned();
    for (case, flow) in solved {
        let case = cell(case);
        for ((bus, vm), va) in flow.buses.iter().zip(&flow.vm_pu).zip(&flow.va_deg) {
            for phase in 0..3 {
                let _ = writeln!(
                    text,
                    "{case},{bus},{},{},{}",
                    phase + 1,
                    vm[phase],
                    va[phase]
                );
            }
        }
    }
    text
}

fn lines_csv(solved: &[(String, ThreePhaseFlow)]) -> String {
    let mut text =
        "case,from_bus,to_bus,phase,p_from_kw,q_from_kvar,p_to_kw,q_to_kvar,i_a\n".to_owned();
    for (case, flow) in solved {
        let case = cell(case);
        for b in &flow.branches {
            for phase in 0..3 {
                let _ = writeln!(
                    text,
                    "{case},{},{},{},{},{},{},{},{}",
                    b.from_bus,
                    b.to_bus,
                    phase + 1,
                    b.p_from_kw[phase],
                    b.q_from_kvar[phase],
                    b.p_to_kw[phase],
                    b.q_to_kvar[phase],
                    b.i_a[phase]
                );
            }
        }
    }
    text
}

fn percent(loading: Option<f64>) -> String {
    loading.map_or_else(|| "-".to_owned(), |l| format!("{l:.1} %"))
}

fn one_phase_table(text: &mut String, case: &str, flow: &Flow, network: &Network) {
    let _ = writeln!(
        text,
        "case {case}: {:.2} kW from the slack, losses {:.3} kW, voltages {:.4} to {:.4} p.u., \
         busiest line {}, busiest transformer {}",
        flow.slack_p_kw,
        flow.losses_kw,
        flow.vm_min,
        flow.vm_max,
        percent(flow.max_line_loading_percent),
        percent(flow.max_trafo_loading_percent),
    );
    if flow.vm_pu.len() > TABLE_MAX {
        let _ = writeln!(
            text,
            "{} nodes are too many for a table: --format csv or json has them all\n",
            flow.vm_pu.len()
        );
        return;
    }
    let _ = writeln!(text, "  {:>8} {:>9} {:>10}", "node", "vm_pu", "va_deg");
    for ((node, vm), va) in network.nodes.iter().zip(&flow.vm_pu).zip(&flow.va_deg) {
        let _ = writeln!(text, "  {:>8} {vm:>9.5} {va:>10.4}", node.id);
    }
    let _ = writeln!(
        text,
        "  {:>8} {:>11} {:>11} {:>10} {:>9}  name",
        "branch", "p_from_kw", "p_to_kw", "i_from_a", "loading"
    );
    for (branch, b) in network.branches.iter().zip(&flow.branches) {
        let name = if branch.in_service {
            branch.name.as_str()
        } else {
            "(open)"
        };
        let _ = writeln!(
            text,
            "  {:>8} {:>11.3} {:>11.3} {:>10.2} {:>9}  {name}",
            b.id,
            b.p_from_kw,
            b.p_to_kw,
            b.i_from_a,
            percent(b.loading_percent),
        );
    }
    text.push('\n');
}

fn three_phase_table(text: &mut String, case: &str, flow: &ThreePhaseFlow, network: &ThreePhase) {
    let _ = writeln!(
        text,
        "case {case}: {:.2} kW from the slack, losses {:.3} kW, voltages {:.4} to {:.4} p.u., \
         unbalance up to {:.2} %, busiest line {}",
        flow.slack_p_kw,
        flow.losses_kw,
        flow.vm_min,
        flow.vm_max,
        flow.max_unbalance_percent,
        percent(flow.max_line_loading_percent),
    );
    let _ = writeln!(
        text,
        "  {:>8} {:>5} {:>9} {:>10}  load",
        "bus", "phase", "vm_pu", "va_deg"
    );
    for (name, bus, phase) in network.loads.iter().take(TABLE_MAX) {
        let Ok(place) = flow.buses.binary_search(bus) else {
            continue;
        };
        let at = usize::from(*phase) - 1;
        let _ = writeln!(
            text,
            "  {bus:>8} {phase:>5} {:>9.5} {:>10.4}  {name}",
            flow.vm_pu[place][at], flow.va_deg[place][at]
        );
    }
    if network.loads.len() > TABLE_MAX {
        let _ = writeln!(text, "  and {} more loads", network.loads.len() - TABLE_MAX);
    }
    text.push('\n');
}
