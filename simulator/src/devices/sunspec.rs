//! SunSpec devices: a marker, the common model, one model with values, an end mark. Offsets count from
//! a model's ID register; what a device does not know reads as SunSpec's "not implemented".

use std::ops::Range;

use super::electric::{self, FREQUENCY_CHZ};
use super::split_u32;
use crate::battery::BatteryState;
use crate::home::{MeterState, PvState};
use crate::number::saturate;
use crate::pv::INVERTER_PER_MILLE;
use crate::setpoint::{LimitSetting, StorageSetting};

/// Address of the marker.
pub(super) const BASE: u16 = 40_000;
/// Scale factor of a home meter's power: single watts.
pub(super) const HOME_W_SF: i16 = 0;
/// Scale factor of the feeder meter's power: tens of watts, since 16 bits of watts end at 32 kW.
pub(super) const FEEDER_W_SF: i16 = 1;

const MARKER: [u16; 2] = [0x5375, 0x6E53];
const END: [u16; 2] = [0xFFFF, 0];
const MANUFACTURER: &str = "Commonwatt Sim";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Not implemented: int16 and scale factors.
const NI_INT: u16 = 0x8000;
/// Not implemented: uint16, enums, bit fields.
const NI_UINT: u16 = 0xFFFF;

/// One model, filled with "not implemented" and then with what is known.
struct Model {
    words: Vec<u16>,
}

impl Model {
    fn new(id: u16, length: u16, unknown: u16) -> Model {
        let mut words = vec![unknown; usize::from(length) + 2];
        words[0] = id;
        words[1] = length;
        Model { words }
    }

    fn fill(mut self, offsets: Range<usize>, word: u16) -> Model {
        self.words[offsets].fill(word);
        self
    }

    fn uint(mut self, offset: usize, value: i64) -> Model {
        self.words[offset] = saturate(value);
        self
    }

    fn int(mut self, offset: usize, value: i64) -> Model {
        self.words[offset] = signed(saturate(value));
        self
    }

    fn scale(mut self, offset: usize, exponent: i16) -> Model {
        self.words[offset] = signed(exponent);
        self
    }

    /// A 32-bit counter, which wraps like a real one.
    fn counter(mut self, offset: usize, value: i64) -> Model {
        let wrapped = u32::try_from(value.rem_euclid(1 << 32)).unwrap_or(0);
        self.words[offset..offset + 2].copy_from_slice(&split_u32(wrapped));
        self
    }

    /// Text, cut to `bytes` and padded with zeros.
    fn text(mut self, offset: usize, bytes: usize, text: &str) -> Model {
        let mut padded = text.as_bytes().to_vec();
        padded.resize(bytes, 0);
        for (word, pair) in self.words[offset..].iter_mut().zip(padded.chunks_exact(2)) {
            *word = u16::from_be_bytes([pair[0], pair[1]]);
        }
        self
    }
}

fn signed(value: i16) -> u16 {
    u16::from_be_bytes(value.to_be_bytes())
}

/// 10 to the power of a scale factor that is not negative.
fn unit_of(scale: i16) -> i64 {
    (0..scale).fold(1, |unit, _| unit * 10)
}

/// Words of a model with its ID and length.
const fn whole(length: u16) -> u16 {
    length + 2
}

/// Where the model of an inverter's limit begins, which is the last one of its chain.
pub(super) const LIMIT_AT: u16 = BASE + 2 + whole(66) + whole(50) + whole(30);
/// Where the model of a battery's rates begins, which is the last one of its chain.
pub(super) const RATES_AT: u16 = BASE + 2 + whole(66) + whole(62);

/// Marker, common model, `models`, end.
fn chain(device: &str, owner: &str, models: &[Model]) -> Vec<u16> {
    let common = Model::new(1, 66, 0)
        .text(2, 32, MANUFACTURER)
        .text(18, 32, device)
        .text(42, 16, VERSION)
        .text(50, 32, &format!("{device}-{owner}"))
        .uint(66, 1)
        .fill(67..68, NI_INT);
    let models = models.iter().flat_map(|model| &model.words).copied();
    let chain = MARKER.into_iter().chain(common.words).chain(models);
    chain.chain(END).collect()
}

/// A three-phase inverter, model 103, with its rating (121) and its limit (123).
pub(super) fn inverter_words(
    owner: &str,
    pv: &PvState,
    (limit, now_s): (&LimitSetting, i64),
) -> Vec<u16> {
    // An inverter feeds in: its voltage is that of an export.
    let phases = electric::phases(-pv.power_w);
    let centi_amps = phases.map(|phase| phase.current_ma / 10);
    let status = match pv.power_w {
        0 => 2,
        full if full >= limit.limit_w(pv.rating_w, now_s) => 5,
        _ => 4,
    };
    let model = Model::new(103, 50, NI_UINT)
        .uint(2, centi_amps.iter().sum())
        .uint(3, centi_amps[0])
        .uint(4, centi_amps[1])
        .uint(5, centi_amps[2])
        .scale(6, -2)
        .uint(10, phases[0].voltage_dv)
        .uint(11, phases[1].voltage_dv)
        .uint(12, phases[2].voltage_dv)
        .scale(13, -1)
        .int(14, pv.power_w)
        .scale(15, 0)
        .uint(16, i64::from(FREQUENCY_CHZ))
        .scale(17, -2)
        .int(18, pv.power_w)
        .scale(19, 0)
        .fill(20..22, NI_INT)
        .int(22, 1000)
        .scale(23, -1)
        .counter(24, pv.energy_ws / 3600)
        .scale(26, 0)
        .fill(28..29, NI_INT)
        .fill(30..31, NI_INT)
        .int(31, pv.power_w * 1000 / INVERTER_PER_MILLE)
        .scale(32, 0)
        .fill(33..38, NI_INT)
        .uint(38, status)
        .fill(40..42, 0);
    let rating = Model::new(121, 30, NI_UINT)
        .uint(2, pv.rating_w)
        .fill(8..12, NI_INT)
        .scale(22, 0)
        .fill(23..32, NI_INT);
    let (share, revert_s) = limit.registers();
    let limits = Model::new(123, 24, NI_UINT)
        .uint(4, 1)
        .uint(5, i64::from(share))
        .uint(7, i64::from(revert_s))
        .uint(9, i64::from(limit.is_enabled(now_s)))
        .scale(23, -2)
        .fill(24..26, NI_INT);
    chain("inverter", owner, &[model, rating, limits])
}

/// A three-phase meter, model 203; import positive.
pub(super) fn meter_words(owner: &str, meter: &MeterState, w_sf: i16) -> Vec<u16> {
    let phases = electric::phases(meter.power_w);
    let centi_amps = phases.map(|phase| phase.current_ma / 10);
    let unit_w = unit_of(w_sf);
    // Large currents need another scale too: tenths of an ampere at the feeder.
    let amps = centi_amps.map(|centi| centi / unit_w);
    let model = Model::new(203, 105, NI_INT)
        .int(2, amps.iter().sum())
        .int(3, amps[0])
        .int(4, amps[1])
        .int(5, amps[2])
        .scale(6, w_sf - 2)
        .int(8, phases[0].voltage_dv)
        .int(9, phases[1].voltage_dv)
        .int(10, phases[2].voltage_dv)
        .scale(15, -1)
        .int(16, i64::from(FREQUENCY_CHZ))
        .scale(17, -2)
        .int(18, meter.power_w / unit_w)
        .int(19, phases[0].power_w / unit_w)
        .int(20, phases[1].power_w / unit_w)
        .int(21, phases[2].power_w / unit_w)
        .scale(22, w_sf)
        .int(33, 1000)
        .scale(37, -1)
        .fill(38..54, 0)
        .counter(38, meter.export_wh())
        .counter(46, meter.import_wh())
        .scale(54, 0)
        .fill(55..71, 0)
        .fill(72..104, 0)
        .fill(105..107, 0);
    chain("meter", owner, &[model])
}

/// A battery, model 802, discharging positive, with its rates (124).
pub(super) fn battery_words(
    owner: &str,
    battery: &BatteryState,
    (setting, now_s): (&StorageSetting, i64),
) -> Vec<u16> {
    const DECIVOLTS: i64 = 512;
    let soc_per_mille = battery.soc_per_mille();
    let charge_state = match (battery.power_w, soc_per_mille) {
        (1.., _) => 3,
        (..=-1, _) => 4,
        (0, 990..) => 5,
        (0, ..=10) => 2,
        (0, _) => 6,
    };
    let model = Model::new(802, 62, NI_UINT)
        .uint(3, battery.capacity_wh / 10)
        .uint(4, battery.power_max_w / 10)
        .uint(5, battery.power_max_w / 10)
        .uint(9, 1000)
        .uint(10, 0)
        .uint(11, soc_per_mille)
        .uint(13, 1000)
        .uint(16, charge_state)
        .uint(17, 1)
        .uint(22, 3)
        .fill(26..28, 0)
        .uint(34, DECIVOLTS)
        .int(44, battery.power_w * 100 / DECIVOLTS)
        .int(47, battery.power_w)
        .fill(49..50, NI_INT)
        .fill(52..64, NI_INT)
        .scale(53, 1)
        .scale(54, 1)
        .scale(56, -1)
        .scale(58, -1)
        .scale(59, -1)
        .scale(61, -1)
        .scale(63, 0);
    let (out_rate, in_rate, revert_s) = setting.registers();
    let rates = Model::new(124, 24, NI_UINT)
        .uint(2, battery.power_max_w)
        .uint(5, i64::from(setting.mode(now_s)))
        .int(12, i64::from(out_rate))
        .int(13, i64::from(in_rate))
        .uint(15, i64::from(revert_s))
        .uint(17, 1)
        .scale(18, 0)
        .fill(19..25, NI_INT)
        .scale(25, -2);
    chain("battery", owner, &[model, rates])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the chain like a client and gives the words of model `id`.
    fn model(words: &[u16], id: u16) -> Vec<u16> {
        assert_eq!(words[..2], MARKER);
        let mut at = 2;
        while words[at] != 0xFFFF {
            let next = at + 2 + usize::from(words[at + 1]);
            if words[at] == id {
                return words[at..next].to_vec();
            }
            at = next;
        }
        assert_eq!(words[at..], END, "the chain ends with its last word");
        panic!("model {id} is not in the chain");
    }

    fn text(words: &[u16]) -> String {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        String::from_utf8(bytes)
            .unwrap()
            .trim_end_matches('\0')
            .to_owned()
    }

    fn long(words: &[u16]) -> u32 {
        u32::from(words[0]) << 16 | u32::from(words[1])
    }

    #[test]
    fn every_device_says_who_it_is_and_ends() {
        let pv = PvState {
            rating_w: 5000,
            power_w: 0,
            energy_ws: 0,
        };
        let words = inverter_words("home-02", &pv, (&LimitSetting::default(), 0));
        let common = model(&words, 1);
        assert_eq!(text(&common[2..18]), "Commonwatt Sim");
        assert_eq!(text(&common[50..66]), "inverter-home-02");
        assert_eq!(words.len(), 2 + 68 + 52 + 32 + 26 + 2);
        let limit_at = usize::from(LIMIT_AT - BASE);
        assert_eq!(words[limit_at..limit_at + 2], [123, 24]);
        assert_eq!(words[words.len() - 2..], END);
    }

    #[test]
    fn an_inverter_shows_power_energy_and_status() {
        let check = |power_w, status| {
            let pv = PvState {
                rating_w: 5000,
                power_w,
                energy_ws: 7_654_321 * 3600 + 9,
            };
            let m = model(
                &inverter_words("x", &pv, (&LimitSetting::default(), 0)),
                103,
            );
            assert_eq!((i64::from(m[14]), m[15], m[38]), (power_w, 0, status));
            assert_eq!((long(&m[24..26]), m[26]), (7_654_321, 0));
            assert_eq!((m[16], m[17]), (5000, 0xFFFE));
            assert_eq!((m[33], m[7], m[39]), (NI_INT, NI_UINT, NI_UINT));
        };
        check(0, 2);
        check(3_210, 4);
        check(5_000, 5);
    }

    #[test]
    fn a_meter_is_import_positive_and_scaled() {
        let meter = MeterState {
            power_w: -43_219,
            import_ws: 12 * 3600,
            export_ws: 99 * 3600,
        };
        let m = model(&meter_words("feeder", &meter, FEEDER_W_SF), 203);
        assert_eq!((m[18], m[22]), (signed(-4321), 1));
        assert_eq!(
            (m[15], m[17], m[6]),
            (0xFFFF, 0xFFFE, 0xFFFF),
            "V −1, Hz −2, A −1"
        );
        assert_eq!((long(&m[38..40]), long(&m[46..48]), m[54]), (99, 12, 0));
        assert_eq!((m[23], m[27], long(&m[40..42])), (NI_INT, NI_INT, 0));
        let home = MeterState {
            power_w: 1501,
            import_ws: (1 << 32) * 3600,
            export_ws: 0,
        };
        let m = model(&meter_words("home-02", &home, HOME_W_SF), 203);
        assert_eq!(
            (m[18], m[19], m[20], m[21], m[22]),
            (1501, 501, 500, 500, 0)
        );
        assert_eq!(long(&m[46..48]), 0, "the counter wraps at 32 bits");
    }

    #[test]
    fn a_battery_discharges_positive() {
        let street = crate::scenario::Scenario::street_10().unwrap();
        let world = crate::world::World::new(&street, 1);
        let mut battery = world.home(0).battery.clone().unwrap();
        battery.power_w = -1280;
        let words = battery_words("home-01", &battery, (&StorageSetting::default(), 0));
        let rates_at = usize::from(RATES_AT - BASE);
        assert_eq!(words[rates_at..rates_at + 2], [124, 24]);
        let m = model(&words, 802);
        assert_eq!((m[3], m[53]), (1000, 1), "10,000 Wh as 1000 × 10");
        assert_eq!((m[47], m[44], m[16]), (signed(-1280), signed(-250), 4));
        assert_eq!((i64::from(m[11]), m[56]), (battery.soc_per_mille(), 0xFFFF));
        assert_eq!((m[2], m[52], m[57]), (NI_UINT, NI_INT, NI_INT));
    }
}
