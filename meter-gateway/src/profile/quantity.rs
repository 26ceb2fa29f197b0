//! What a point can tell, in which unit it is kept, and in which units a profile may write it.

use crate::device::decode::Exact;

/// What kind of number a quantity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dimension {
    /// A counter in whole watt-hours.
    Counter,
    /// Power in whole watts.
    WholePower,
    /// A share in thousandths.
    Permille,
    /// Energy in mWh.
    Energy,
    /// Power in mW.
    Power,
    /// Apparent power in mVA.
    Apparent,
    /// Reactive power in mvar.
    Reactive,
    /// Voltage in mV.
    Voltage,
    /// Current in mA.
    Current,
    /// Frequency in mHz.
    Frequency,
    /// A ratio in thousandths.
    Ratio,
    /// A temperature in thousandths of a degree Celsius.
    Temperature,
    /// A time in ms.
    Time,
    /// A number that the device's handbook explains; kept as it is.
    Code,
    /// Text.
    Text,
}

impl Dimension {
    /// A number as people read it, with its unit: `1234.567 kWh`, `230.1 V`.
    #[must_use]
    pub fn show(self, number: i64) -> String {
        let (decimals, unit) = match self {
            Dimension::Counter => (3, " kWh"),
            Dimension::WholePower => (0, " W"),
            Dimension::Permille => (1, " %"),
            Dimension::Energy => (6, " kWh"),
            Dimension::Power => (3, " W"),
            Dimension::Apparent => (3, " VA"),
            Dimension::Reactive => (3, " var"),
            Dimension::Voltage => (3, " V"),
            Dimension::Current => (3, " A"),
            Dimension::Frequency => (3, " Hz"),
            Dimension::Ratio => (3, ""),
            Dimension::Temperature => (3, " °C"),
            Dimension::Time => (3, " s"),
            Dimension::Code | Dimension::Text => (0, ""),
        };
        let exact = Exact::whole(number).shifted(-decimals).decimal();
        format!("{}{unit}", exact.unwrap_or_else(|| number.to_string()))
    }

    /// What one `unit` is in the unit that the dimension is kept in.
    pub(super) fn factor(self, unit: &str) -> Option<Exact> {
        // A watt-second is 1/3.6 mWh; this is exact to a billionth of the largest 32-bit counter.
        const MWH_PER_WS: &str = "0.277777777777777778";
        let ten_to = |exponent| Some(Exact::whole(1).shifted(exponent));
        match (self, unit) {
            (Dimension::Counter, "Wh") | (Dimension::WholePower, "W") => ten_to(0),
            (Dimension::Counter, "kWh") | (Dimension::WholePower, "kW") => ten_to(3),
            (Dimension::Counter, "MWh") => ten_to(6),
            (Dimension::Energy, "Wh") | (Dimension::Power, "W") | (Dimension::Apparent, "VA") => {
                ten_to(3)
            }
            (Dimension::Energy, "kWh")
            | (Dimension::Power, "kW")
            | (Dimension::Apparent, "kVA")
            | (Dimension::Reactive, "kvar") => ten_to(6),
            (Dimension::Energy, "Ws") => Exact::from_decimal(MWH_PER_WS),
            (Dimension::Reactive, "var")
            | (Dimension::Voltage, "V")
            | (Dimension::Current, "A")
            | (Dimension::Frequency, "Hz")
            | (Dimension::Temperature, "C")
            | (Dimension::Time, "s")
            | (Dimension::Ratio, "") => ten_to(3),
            (Dimension::Voltage, "mV")
            | (Dimension::Current, "mA")
            | (Dimension::Time, "ms")
            | (Dimension::Code | Dimension::Text, "") => ten_to(0),
            (Dimension::Permille | Dimension::Ratio, "%") => ten_to(1),
            _ => None,
        }
    }
}

macro_rules! quantities {
    ($($(#[$doc:meta])* $name:ident $word:literal $dimension:ident,)*) => {
        /// What a point tells.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Deserialize)]
        pub enum Quantity {
            $($(#[$doc])* #[serde(rename = $word)] $name,)*
        }

        impl Quantity {
            /// All of them.
            pub const ALL: &'static [Quantity] = &[$(Quantity::$name,)*];

            /// Its name in profiles.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Quantity::$name => $word,)*
                }
            }

            /// What kind of number it is; see there for the unit it is kept in.
            #[must_use]
            pub const fn dimension(self) -> Dimension {
                match self {
                    $(Quantity::$name => Dimension::$dimension,)*
                }
            }
        }
    };
}

quantities! {
    /// Counter of imported energy, seen from the metering point.
    Import "import" Counter,
    /// Counter of exported energy, seen from the metering point.
    Export "export" Counter,
    /// Active power.
    Power "power" WholePower,
    /// State of charge.
    Soc "soc" Permille,
    /// State of operation.
    State "state" Text,
    /// Maker of the device.
    Maker "maker" Text,
    /// Model of the device.
    Model "model" Text,
    /// Serial number.
    Serial "serial" Text,
    /// Firmware version.
    Firmware "firmware" Text,
    /// Voltage of the one phase there is.
    Voltage "voltage" Voltage,
    /// Voltage of phase 1 to neutral.
    VoltageL1 "voltage-l1" Voltage,
    /// Voltage of phase 2 to neutral.
    VoltageL2 "voltage-l2" Voltage,
    /// Voltage of phase 3 to neutral.
    VoltageL3 "voltage-l3" Voltage,
    /// Current of the one phase there is, or of all together.
    Current "current" Current,
    /// Current of phase 1.
    CurrentL1 "current-l1" Current,
    /// Current of phase 2.
    CurrentL2 "current-l2" Current,
    /// Current of phase 3.
    CurrentL3 "current-l3" Current,
    /// Active power of phase 1, signed as the whole.
    PowerL1 "power-l1" Power,
    /// Active power of phase 2, signed as the whole.
    PowerL2 "power-l2" Power,
    /// Active power of phase 3, signed as the whole.
    PowerL3 "power-l3" Power,
    /// Apparent power.
    Apparent "apparent" Apparent,
    /// Apparent power of phase 1.
    ApparentL1 "apparent-l1" Apparent,
    /// Apparent power of phase 2.
    ApparentL2 "apparent-l2" Apparent,
    /// Apparent power of phase 3.
    ApparentL3 "apparent-l3" Apparent,
    /// Reactive power.
    Reactive "reactive" Reactive,
    /// Reactive power of phase 1.
    ReactiveL1 "reactive-l1" Reactive,
    /// Reactive power of phase 2.
    ReactiveL2 "reactive-l2" Reactive,
    /// Reactive power of phase 3.
    ReactiveL3 "reactive-l3" Reactive,
    /// Power factor.
    PowerFactor "power-factor" Ratio,
    /// Power factor of phase 1.
    PowerFactorL1 "power-factor-l1" Ratio,
    /// Power factor of phase 2.
    PowerFactorL2 "power-factor-l2" Ratio,
    /// Power factor of phase 3.
    PowerFactorL3 "power-factor-l3" Ratio,
    /// Frequency.
    Frequency "frequency" Frequency,
    /// Temperature of the device.
    Temperature "temperature" Temperature,
    /// Counter of imported energy of phase 1.
    ImportL1 "import-l1" Energy,
    /// Counter of imported energy of phase 2.
    ImportL2 "import-l2" Energy,
    /// Counter of imported energy of phase 3.
    ImportL3 "import-l3" Energy,
    /// Counter of exported energy of phase 1.
    ExportL1 "export-l1" Energy,
    /// Counter of exported energy of phase 2.
    ExportL2 "export-l2" Energy,
    /// Counter of exported energy of phase 3.
    ExportL3 "export-l3" Energy,
    /// Import and export counters added up.
    EnergyTotal "energy-total" Energy,
    /// Energy of the charging session; it begins anew with each, or when the device likes.
    SessionEnergy "session-energy" Energy,
    /// Length of the charging session.
    SessionTime "session-time" Time,
    /// Time spent charging in the session.
    ChargeTime "charge-time" Time,
    /// Time since the vehicle was connected.
    ConnectTime "connect-time" Time,
    /// Largest current that the device is built or set for.
    MaxCurrent "max-current" Current,
    /// Largest current that it allows now.
    CurrentLimit "current-limit" Current,
    /// Largest current of the cable.
    CableCurrent "cable-current" Current,
    /// Current that it falls back to when nobody talks to it.
    FailsafeCurrent "failsafe-current" Current,
    /// How long nobody must talk to it until it falls back.
    FailsafeTime "failsafe-time" Time,
    /// Power on the direct current side.
    DcPower "dc-power" Power,
    /// Voltage on the direct current side.
    DcVoltage "dc-voltage" Voltage,
    /// Current on the direct current side.
    DcCurrent "dc-current" Current,
    /// Counter of energy on the direct current side.
    DcEnergy "dc-energy" Energy,
    /// State of health of a battery.
    Health "health" Ratio,
    /// Energy that a full battery holds.
    Capacity "capacity" Energy,
    /// Largest power that it charges with.
    MaxChargePower "max-charge-power" Power,
    /// Largest power that it discharges with.
    MaxDischargePower "max-discharge-power" Power,
    /// How far the device's own clock is ahead of ours. It is never believed, only shown.
    ClockOffset "clock-offset" Time,
    /// The maker's number of what is wrong.
    Error "error" Code,
    /// The maker's number for where the cable is plugged in.
    Cable "cable" Code,
    /// The maker's number for a locked cable, or a waiting authorisation.
    Lock "lock" Code,
    /// The maker's number for how many phases charge.
    Phases "phases" Code,
    /// The maker's number for who decides on the phases.
    PhaseSource "phase-source" Code,
    /// The maker's number for the mode of operation.
    Mode "mode" Code,
    /// The maker's number for the kind of meter inside.
    MeterType "meter-type" Code,
    /// How many charging points the station has.
    Connectors "connectors" Code,
    /// Whether it may charge, as it was told.
    Enabled "enabled" Code,
    /// The card that the session was begun with. Personal: for the session's bill, never for show.
    Tag "tag" Text,
    /// What the vehicle calls itself. Personal: for the session's bill, never for show.
    Vehicle "vehicle" Text,
}

impl Quantity {
    /// Whether the point identifies the device instead of measuring something.
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(
            self,
            Quantity::Maker | Quantity::Model | Quantity::Serial | Quantity::Firmware
        )
    }

    /// Whether it has no place of its own among a device's values.
    pub(crate) const fn is_detail(self) -> bool {
        let has_place = matches!(
            self,
            Quantity::Import | Quantity::Export | Quantity::Power | Quantity::Soc | Quantity::State
        );
        !has_place && !self.is_identity()
    }

    /// Whether it counts the point's energy, so that readings can be made of it.
    #[must_use]
    pub const fn is_counter(self) -> bool {
        matches!(self, Quantity::Import | Quantity::Export)
    }

    /// Whether it only means something together with what positive means.
    pub(super) const fn needs_direction(self) -> bool {
        matches!(
            self,
            Quantity::Power | Quantity::PowerL1 | Quantity::PowerL2 | Quantity::PowerL3
        )
    }

    /// Whether a profile may say what positive means.
    pub(super) const fn may_have_direction(self) -> bool {
        let is_flow = matches!(
            self.dimension(),
            Dimension::Current | Dimension::Reactive | Dimension::Power
        );
        self.needs_direction() || is_flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_units_are_checked() {
        let mut words: Vec<_> = Quantity::ALL.iter().map(|q| q.word()).collect();
        words.sort_unstable();
        let before = words.len();
        words.dedup();
        assert_eq!(words.len(), before);
        let kept = |quantity: Quantity, unit: &str, raw| {
            let factor = quantity.dimension().factor(unit)?;
            Exact::whole(raw).times(factor)?.rounded()
        };
        assert_eq!(Quantity::Import.dimension().show(1_234_567), "1234.567 kWh");
        assert_eq!(Quantity::VoltageL1.dimension().show(230_100), "230.1 V");
        assert_eq!(Quantity::PowerL1.dimension().show(-500), "-0.5 W");
        assert_eq!(kept(Quantity::Import, "kWh", 3), Some(3000));
        assert_eq!(kept(Quantity::Soc, "%", 50), Some(500));
        assert_eq!(kept(Quantity::VoltageL1, "V", 230), Some(230_000));
        assert_eq!(kept(Quantity::Import, "V", 1), None);
        let session = |ws| kept(Quantity::SessionEnergy, "Ws", ws);
        assert_eq!(session(3600), Some(1000));
        assert_eq!(session(36_000_000_000), Some(10_000_000_000));
    }
}
