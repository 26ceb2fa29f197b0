//! Impedances of lines, and Kron's reduction of the neutral.

use super::{LineCode, same_length};
use crate::grid::complex::Complex;
use crate::grid::error::{GridError, finite};

/// Series impedances between three phases.
pub type Impedance = [[Complex; 3]; 3];

/// Takes the neutral (the last of four) out, which is at earth's voltage at both ends.
#[must_use]
pub fn kron_reduce(full: &[[Complex; 4]; 4]) -> Impedance {
    let mut reduced = [[Complex::ZERO; 3]; 3];
    for (row, line) in reduced.iter_mut().enumerate() {
        for (column, entry) in line.iter_mut().enumerate() {
            *entry = full[row][column] - full[row][3] * full[3][column] / full[3][3];
        }
    }
    reduced
}

impl LineCode {
    /// Impedances for each metre, without the neutral.
    ///
    /// # Errors
    /// The matrices are not 3×3 or 4×4, a number is none, or a phase or the neutral has no impedance.
    pub fn impedance(&self, name: &str) -> Result<Impedance, GridError> {
        let at = format!("line code {name}");
        let size = if self.r_ohm_per_m.len() == 4 { 4 } else { 3 };
        let mut full = [[Complex::ZERO; 4]; 4];
        let keys: [(&'static str, &Vec<Vec<f64>>); 2] = [
            ("r_ohm_per_m", &self.r_ohm_per_m),
            ("x_ohm_per_m", &self.x_ohm_per_m),
        ];
        for (part, (key, rows)) in keys.into_iter().enumerate() {
            same_length(&at, key, rows.len(), size)?;
            for (row, values) in rows.iter().enumerate() {
                same_length(&at, key, values.len(), size)?;
                for (column, value) in values.iter().enumerate() {
                    let value = finite(&at, key, *value)?;
                    match part {
                        0 => full[row][column].re = value,
                        _ => full[row][column].im = value,
                    }
                }
            }
        }
        if (0..size).any(|phase| full[phase][phase] == Complex::ZERO) {
            return Err(GridError::NoImpedance { branch: at });
        }
        if size == 4 {
            return Ok(kron_reduce(&full));
        }
        Ok([0, 1, 2].map(|row| [full[row][0], full[row][1], full[row][2]]))
    }
}
