//! KEBA P30 charger: every value is 32 bits in two holding registers, and one read gets exactly one
//! value. Written are single registers: current, enable, and the fail-safe for when nobody writes.

use tokio_modbus::ExceptionCode;

use super::electric;
use super::split_u32;
use crate::ev::{ChargeState, ChargerState, THREE_PHASE_V};
use crate::number::saturate;
use crate::setpoint::ChargerSetting;

/// The unit id a KEBA listens to.
pub(super) const UNIT: u8 = 255;
/// Decimal digits that say: P30, with a meter, without a card reader.
const PRODUCT: i64 = 304_110;
/// Firmware 3.10.57.
const FIRMWARE: i64 = 31_057;
const SERIAL: i64 = 21_062_026;

/// Answers a read of holding registers.
pub(super) fn read(
    (charger, setting, now_s): (&ChargerState, &ChargerSetting, i64),
    address: u16,
    count: u16,
) -> Result<Vec<u16>, ExceptionCode> {
    if count != 2 {
        return Err(ExceptionCode::IllegalDataAddress);
    }
    let allowed_ma = setting.limit_ma(now_s);
    let value = value(charger, allowed_ma, setting.fail_safe(), address)
        .ok_or(ExceptionCode::IllegalDataAddress)?;
    Ok(split_u32(saturate(value)).to_vec())
}

/// The value at an address; `None` where the charger has none.
fn value(
    charger: &ChargerState,
    allowed_ma: i64,
    (fail_safe_ma, fail_safe_s): (i64, i64),
    address: u16,
) -> Option<i64> {
    let hardware_ma = charger.power_max_w * 1000 / THREE_PHASE_V;
    let phases = electric::phases(charger.power_w);
    Some(match address {
        1000 => match charger.state {
            ChargeState::Unplugged => 1,
            ChargeState::Ready => 2,
            ChargeState::Charging => 3,
        },
        1004 => match charger.state {
            ChargeState::Unplugged => 1,
            ChargeState::Ready | ChargeState::Charging => 7,
        },
        1008 => phases[0].current_ma,
        1010 => phases[1].current_ma,
        1012 => phases[2].current_ma,
        1014 => SERIAL,
        1016 => PRODUCT,
        1018 => FIRMWARE,
        1020 => charger.power_w * 1000,
        1036 => charger.energy_ws / 360,
        1040 => phases[0].voltage_dv / 10,
        1042 => phases[1].voltage_dv / 10,
        1044 => phases[2].voltage_dv / 10,
        1046 => 1000,
        1100 => hardware_ma.min(allowed_ma),
        1110 => hardware_ma,
        1502 => charger.session_ws / 360,
        1552 => 1,
        1600 => fail_safe_ma,
        1602 => fail_safe_s,
        // No error, no card, no source of phase switching.
        1006 | 1500 | 1550 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_a_read_and_nothing_else() {
        let charger = ChargerState {
            state: ChargeState::Charging,
            power_max_w: 11_000,
            power_w: 10_500,
            energy_ws: 1_234_567 * 3600 + 400,
            session_ws: 2500 * 3600,
        };
        let setting = ChargerSetting::default();
        let check = |address, expect: u32| {
            let words = read((&charger, &setting, 0), address, 2).unwrap();
            assert_eq!(
                u32::from(words[0]) << 16 | u32::from(words[1]),
                expect,
                "{address}"
            );
        };
        check(1000, 3);
        check(1004, 7);
        check(1016, 304_110);
        check(1020, 10_500_000);
        check(1036, 12_345_671);
        check(1502, 25_000);
        check(1110, 15_942);
        check(1100, 15_942);
        for (address, count) in [
            (1000, 1),
            (1000, 4),
            (1001, 2),
            (1037, 2),
            (5004, 2),
            (0, 2),
        ] {
            let answer = read((&charger, &setting, 0), address, count);
            assert_eq!(
                answer,
                Err(ExceptionCode::IllegalDataAddress),
                "{address} × {count}"
            );
        }
    }
}
