//! What devices were told from outside: limits that change the physics, and the devices' own timers that
//! give them up again. All of it is a function of the writes and the time, so a recorded street runs the
//! same again.

use crate::journal::{Asset, Told};

/// Least current at which charging is defined, in milliamperes.
const CURRENT_MIN_MA: u16 = 6_000;
/// Largest current that a KEBA can be told.
const CURRENT_MAX_MA: u16 = 63_000;
/// 100 % in hundredths of a percent, in which SunSpec shares are counted here.
const FULL: i64 = 10_000;

/// Why a device does not take a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// It has no such register, or only reads it.
    Address,
    /// The register does not take this value.
    Value,
}

/// A charger's current limit and its fail-safe, as a KEBA has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChargerSetting {
    told_ma: u16,
    enabled: bool,
    fail_safe_ma: u16,
    fail_safe_s: u16,
    told_s: i64,
}

impl Default for ChargerSetting {
    fn default() -> Self {
        ChargerSetting {
            told_ma: CURRENT_MAX_MA,
            enabled: true,
            fail_safe_ma: 0,
            fail_safe_s: 0,
            told_s: 0,
        }
    }
}

impl ChargerSetting {
    /// Takes a write at a second of unix time. Every write counts as a sign of life; reading does not.
    pub(crate) fn tell(&mut self, address: u16, word: u16, now_s: i64) -> Result<(), NotTaken> {
        let is_current = word == 0 || (CURRENT_MIN_MA..=CURRENT_MAX_MA).contains(&word);
        let is_fine = match address {
            5004 | 5016 => is_current,
            5014 => word <= 1,
            5018 => true,
            _ => return Err(NotTaken::Address),
        };
        if !is_fine {
            return Err(NotTaken::Value);
        }
        if self.has_fallen_back(now_s) && address != 5004 {
            // Its own current stays until it is told another one.
            self.told_ma = self.fail_safe_ma;
        }
        match address {
            5004 => self.told_ma = word,
            5014 => self.enabled = word == 1,
            5016 => self.fail_safe_ma = word,
            _ => self.fail_safe_s = word,
        }
        self.told_s = now_s;
        Ok(())
    }

    fn has_fallen_back(&self, now_s: i64) -> bool {
        self.fail_safe_s > 0 && now_s - self.told_s >= i64::from(self.fail_safe_s)
    }

    /// The largest current that it allows a car now; 0 where it may not charge.
    #[must_use]
    pub fn limit_ma(&self, now_s: i64) -> i64 {
        match (self.enabled, self.has_fallen_back(now_s)) {
            (false, _) => 0,
            (true, true) => i64::from(self.fail_safe_ma),
            (true, false) => i64::from(self.told_ma),
        }
    }

    /// Current and time-out of its fail-safe, in mA and s.
    #[must_use]
    pub fn fail_safe(&self) -> (i64, i64) {
        (i64::from(self.fail_safe_ma), i64::from(self.fail_safe_s))
    }
}

/// A battery's charging and discharging rates (SunSpec model 124).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StorageSetting {
    mode: u16,
    out_rate: i16,
    in_rate: i16,
    revert_s: u16,
    told_s: i64,
}

impl Default for StorageSetting {
    fn default() -> Self {
        StorageSetting {
            mode: 0,
            out_rate: 10_000,
            in_rate: 10_000,
            revert_s: 0,
            told_s: 0,
        }
    }
}

/// Whether a time-out has passed.
fn is_over(revert_s: u16, told_s: i64, now_s: i64) -> bool {
    revert_s > 0 && now_s - told_s >= i64::from(revert_s)
}

impl StorageSetting {
    /// Takes a write at an offset of the model.
    pub(crate) fn tell(&mut self, offset: u16, word: u16, now_s: i64) -> Result<(), NotTaken> {
        let rate = word.cast_signed();
        let is_rate = (-10_000..=10_000).contains(&rate);
        self.mode = self.mode(now_s);
        match offset {
            5 if word <= 3 => self.mode = word,
            12 if is_rate => self.out_rate = rate,
            13 if is_rate => self.in_rate = rate,
            15 => self.revert_s = word,
            5 | 12 | 13 => return Err(NotTaken::Value),
            _ => return Err(NotTaken::Address),
        }
        self.told_s = now_s;
        Ok(())
    }

    /// Which rates are in force: bit 0 charging, bit 1 discharging.
    #[must_use]
    pub fn mode(&self, now_s: i64) -> u16 {
        if is_over(self.revert_s, self.told_s, now_s) {
            0
        } else {
            self.mode
        }
    }

    /// Rate of discharging, rate of charging, time-out in s.
    #[must_use]
    pub fn registers(&self) -> (i16, i16, u16) {
        (self.out_rate, self.in_rate, self.revert_s)
    }

    /// Least and largest power that it may have, discharging positive.
    #[must_use]
    pub fn window_w(&self, power_max_w: i64, now_s: i64) -> (i64, i64) {
        let mode = self.mode(now_s);
        let share = |rate: i16| power_max_w * i64::from(rate) / FULL;
        let least = if mode & 1 == 1 {
            -share(self.in_rate)
        } else {
            -power_max_w
        };
        let most = if mode & 2 == 2 {
            share(self.out_rate)
        } else {
            power_max_w
        };
        // Two rates that exclude each other: it stands still.
        if least > most { (0, 0) } else { (least, most) }
    }
}

/// An inverter's largest share of its power (SunSpec model 123).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitSetting {
    enabled: bool,
    share: u16,
    revert_s: u16,
    told_s: i64,
}

impl Default for LimitSetting {
    fn default() -> Self {
        LimitSetting {
            enabled: false,
            share: 10_000,
            revert_s: 0,
            told_s: 0,
        }
    }
}

impl LimitSetting {
    /// Takes a write at an offset of the model.
    pub(crate) fn tell(&mut self, offset: u16, word: u16, now_s: i64) -> Result<(), NotTaken> {
        self.enabled = self.is_enabled(now_s);
        match offset {
            5 if word <= 10_000 => self.share = word,
            7 => self.revert_s = word,
            9 if word <= 1 => self.enabled = word == 1,
            5 | 9 => return Err(NotTaken::Value),
            _ => return Err(NotTaken::Address),
        }
        self.told_s = now_s;
        Ok(())
    }

    /// Whether the limit is in force.
    #[must_use]
    pub fn is_enabled(&self, now_s: i64) -> bool {
        self.enabled && !is_over(self.revert_s, self.told_s, now_s)
    }

    /// Share in hundredths of a percent, time-out in s.
    #[must_use]
    pub fn registers(&self) -> (u16, u16) {
        (self.share, self.revert_s)
    }

    /// The largest power that it may generate now.
    #[must_use]
    pub fn limit_w(&self, rating_w: i64, now_s: i64) -> i64 {
        if self.is_enabled(now_s) {
            rating_w * i64::from(self.share) / FULL
        } else {
            rating_w
        }
    }
}

/// All that the devices of a home were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Its charger.
    pub charger: ChargerSetting,
    /// Its battery.
    pub battery: StorageSetting,
    /// Its inverter.
    pub inverter: LimitSetting,
}

impl Settings {
    /// Takes a write.
    pub(crate) fn tell(&mut self, told: &Told) -> Result<(), NotTaken> {
        let (register, word, at_s) = (told.register, told.word, told.at_s);
        match told.asset {
            Asset::Charger => self.charger.tell(register, word, at_s),
            Asset::Battery => self.battery.tell(register, word, at_s),
            Asset::Inverter => self.inverter.tell(register, word, at_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charger_falls_back_when_nobody_talks_to_it_and_stays_there_until_it_is_told() {
        let mut charger = ChargerSetting::default();
        assert_eq!(charger.limit_ma(0), 63_000);
        assert_eq!(charger.tell(5004, 5_999, 0), Err(NotTaken::Value));
        assert_eq!(charger.tell(1100, 0, 0), Err(NotTaken::Address));
        for (address, word) in [(5016, 6_000), (5018, 60), (5004, 16_000)] {
            charger.tell(address, word, 100).unwrap();
        }
        assert_eq!(
            (charger.limit_ma(159), charger.limit_ma(160)),
            (16_000, 6_000)
        );
        charger.tell(5018, 60, 200).unwrap();
        assert_eq!(
            charger.limit_ma(201),
            6_000,
            "a sign of life brings nothing back"
        );
        charger.tell(5004, 10_000, 210).unwrap();
        assert_eq!(charger.limit_ma(269), 10_000);
        charger.tell(5014, 0, 211).unwrap();
        assert_eq!(charger.limit_ma(212), 0);
    }

    #[test]
    fn a_battery_stays_in_its_window_until_its_time_is_over() {
        let mut battery = StorageSetting::default();
        assert_eq!(battery.window_w(5_000, 0), (-5_000, 5_000));
        let minus = (-4_000_i16).cast_unsigned();
        for (offset, word) in [(12, 4_000), (13, minus), (15, 120), (5, 3)] {
            battery.tell(offset, word, 50).unwrap();
        }
        assert_eq!(battery.window_w(5_000, 169), (2_000, 2_000));
        assert_eq!(
            (battery.window_w(5_000, 170), battery.mode(170)),
            ((-5_000, 5_000), 0)
        );
        battery.tell(12, 2_000, 180).unwrap();
        assert_eq!(
            battery.mode(181),
            0,
            "a rate alone does not bring the window back"
        );
        assert_eq!(battery.tell(5, 4, 181), Err(NotTaken::Value));
        assert_eq!(battery.tell(2, 4, 181), Err(NotTaken::Address));
    }

    #[test]
    fn an_inverter_gives_its_limit_up_by_itself() {
        let mut inverter = LimitSetting::default();
        for (offset, word) in [(5, 3_000), (7, 60), (9, 1)] {
            inverter.tell(offset, word, 10).unwrap();
        }
        assert_eq!(
            (inverter.limit_w(8_000, 69), inverter.limit_w(8_000, 70)),
            (2_400, 8_000)
        );
        assert_eq!(inverter.tell(5, 10_001, 70), Err(NotTaken::Value));
    }
}
