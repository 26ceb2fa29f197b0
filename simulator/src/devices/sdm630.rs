//! Eastron SDM630: a three-phase meter with float32 input registers. Its kWh counters are floats too,
//! with whole watt-hours below 8,192 kWh and coarser steps above.

use tokio_modbus::ExceptionCode;

use super::electric::{self, FREQUENCY_CHZ};
use super::{slice, split_u32};
use crate::home::MeterState;
use crate::number::{float, single};

/// Registers from 0 to the end of the last value.
const WORDS: usize = 0x0166;
/// Most registers in one read; the meter refuses more.
const READ_WORDS_MAX: u16 = 80;

/// Answers a read of input registers.
pub(super) fn read(
    meter: &MeterState,
    address: u16,
    count: u16,
) -> Result<Vec<u16>, ExceptionCode> {
    if count > READ_WORDS_MAX {
        return Err(ExceptionCode::IllegalDataValue);
    }
    slice(0, &words(meter), address, count)
}

/// The input registers; what the simulation does not model reads 0.0.
fn words(meter: &MeterState) -> Vec<u16> {
    let mut words = vec![0; WORDS];
    let mut put = |address: usize, value: f64| {
        words[address..address + 2].copy_from_slice(&split_u32(single(value).to_bits()));
    };
    let kwh = |wh: i64| float(wh) / 1000.0;
    let import = electric::split(meter.import_wh());
    let export = electric::split(meter.export_wh());
    for (phase, values) in electric::phases(meter.power_w).iter().enumerate() {
        let at = 2 * phase;
        put(at, float(values.voltage_dv) / 10.0);
        put(0x0006 + at, float(values.current_ma) / 1000.0);
        put(0x000C + at, float(values.power_w));
        put(0x0012 + at, float(values.power_w.abs()));
        put(0x001E + at, 1.0);
        put(0x015A + at, kwh(import[phase]));
        put(0x0160 + at, kwh(export[phase]));
    }
    put(0x0034, float(meter.power_w));
    put(0x0038, float(meter.power_w.abs()));
    put(0x003E, 1.0);
    put(0x0046, f64::from(FREQUENCY_CHZ) / 100.0);
    put(0x0048, kwh(meter.import_wh()));
    put(0x004A, kwh(meter.export_wh()));
    put(0x0156, kwh(meter.import_wh() + meter.export_wh()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const METER: MeterState = MeterState {
        power_w: -1234,
        import_ws: 3_412_345 * 3600 + 3599,
        export_ws: 900 * 3600,
    };

    fn value(address: u16) -> f32 {
        let words = read(&METER, address, 2).unwrap();
        f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]))
    }

    #[test]
    fn values_are_floats_high_word_first() {
        let check = |address, expect: f32| {
            assert!(
                (value(address) - expect).abs() < 1e-4,
                "{address:#06x}: {}",
                value(address)
            );
        };
        check(0x0034, -1234.0);
        check(0x0048, 3412.345);
        check(0x004A, 0.9);
        check(0x0046, 50.0);
        check(0x0000, 230.6);
        check(0x0156, 3413.245);
        assert_eq!(
            read(&METER, 0x0046, 1).unwrap(),
            [0x4248],
            "50.0 is 0x42480000"
        );
    }

    #[test]
    fn the_ends_of_the_map_and_of_one_read_are_kept() {
        assert_eq!(read(&METER, 0, 80).unwrap().len(), 80);
        assert_eq!(read(&METER, 0, 81), Err(ExceptionCode::IllegalDataValue));
        assert_eq!(read(&METER, 0x0164, 2).unwrap().len(), 2);
        assert_eq!(
            read(&METER, 0x0165, 2),
            Err(ExceptionCode::IllegalDataAddress)
        );
    }
}
