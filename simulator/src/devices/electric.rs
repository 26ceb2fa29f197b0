//! Voltages and currents that go with a power: three equal phases, unity power factor, and a voltage
//! that rises a little where power is fed in.

/// Grid frequency in hundredths of a hertz.
pub(super) const FREQUENCY_CHZ: u16 = 5000;
/// Voltage without load, in tenths of a volt.
const VOLTAGE_DV: i64 = 2300;
/// Watts that move the voltage by a tenth of a volt.
const W_PER_DV: i64 = 200;
/// Largest move of the voltage, in tenths of a volt.
const SWING_DV: i64 = 120;

/// One phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Phase {
    pub(super) power_w: i64,
    pub(super) voltage_dv: i64,
    /// Without sign, as most meters show it.
    pub(super) current_ma: i64,
}

/// Splits a whole number over three phases; the parts differ by at most one and add up to it.
pub(super) fn split(total: i64) -> [i64; 3] {
    [0, 1, 2].map(|phase| (total + 2 - phase).div_euclid(3))
}

/// The three phases of a connection that draws `power_w` (negative: feeds in).
pub(super) fn phases(power_w: i64) -> [Phase; 3] {
    let voltage_dv = VOLTAGE_DV - (power_w / W_PER_DV).clamp(-SWING_DV, SWING_DV);
    split(power_w).map(|power_w| {
        let current_ma = power_w.abs() * 10_000 / voltage_dv;
        Phase {
            power_w,
            voltage_dv,
            current_ma,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_add_up() {
        for total in [-8001, -2, -1, 0, 1, 2, 3, 11_000] {
            let parts = split(total);
            assert_eq!(parts.iter().sum::<i64>(), total);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn feeding_in_lifts_the_voltage() {
        let [phase, ..] = phases(-8_100);
        assert_eq!((phase.power_w, phase.voltage_dv), (-2_700, 2_340));
        assert_eq!(phase.current_ma, 11_538);
        assert_eq!(phases(6_900)[0].voltage_dv, 2_266);
    }
}
