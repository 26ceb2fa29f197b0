//! The step from a measured interval to a signed reading: sequence, chain, clock, meter and profile are
//! filled in here.

use domain::ids::{CommunityId, DeviceId, Digest32, PointId};
use domain::reading::{ClockStamp, Reading};
use domain::signed::{Signed, SigningKey};

use crate::measure::Measured;

/// Where a point's sequence and chain stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Sequence of the next reading; the first is 1.
    pub next_sequence: u64,
    /// Digest of the reading before; zero for the first.
    pub previous: Digest32,
}

impl Default for Chain {
    fn default() -> Self {
        Chain {
            next_sequence: 1,
            previous: Digest32([0; 32]),
        }
    }
}

/// What is the same in all readings of a device.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The gateway's key.
    pub key: SigningKey,
    /// The community signed for.
    pub community: CommunityId,
    /// The device.
    pub device: DeviceId,
    /// The metering point.
    pub point: PointId,
    /// Digest of the decoding rules.
    pub profile: [u8; 8],
}

impl Signer {
    /// Signs one interval and moves the chain on.
    #[must_use]
    pub fn sign(
        &self,
        chain: &mut Chain,
        measured: Measured,
        clock: ClockStamp,
    ) -> (u64, Signed<Reading>) {
        let sequence = chain.next_sequence;
        let reading = Reading {
            device: self.device,
            point: self.point.clone(),
            sequence,
            interval: measured.interval,
            registers: measured.registers,
            era: measured.era,
            quality: measured.quality,
            clock,
            meter_hash: measured.meter_hash,
            class: measured.class,
            previous: chain.previous,
            profile: self.profile,
        };
        let signed = Signed::sign(&self.key, &self.community, &reading);
        chain.previous = Digest32::of(signed.as_bytes());
        chain.next_sequence = sequence.saturating_add(1);
        (sequence, signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::quality::Quality;
    use domain::reading::{ClockState, MeasurementClass, Obis, Register};
    use domain::signed::PublicKey;
    use domain::time::{Interval, Timestamp};

    #[test]
    fn readings_verify_and_hang_together() {
        let community = CommunityId::new("c").unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let signer = Signer {
            key: key.clone(),
            community: community.clone(),
            device: DeviceId([1; 16]),
            point: PointId::new("p").unwrap(),
            profile: [2; 8],
        };
        let energy = Energy::from_wh;
        let measured = Measured {
            interval: Interval::new(0, 900).unwrap(),
            registers: vec![Register {
                obis: Obis::IMPORT,
                start: energy(1),
                end: energy(5),
            }],
            era: 0,
            quality: Quality::MEASURED,
            meter_hash: [3; 8],
            class: MeasurementClass::MeterCounter,
        };
        let signed_at = Timestamp::from_unix_s(901);
        let clock = ClockStamp {
            signed_at,
            state: ClockState::Informative,
            error_ms: 1000,
        };
        let mut chain = Chain::default();
        let (first, a) = signer.sign(&mut chain, measured.clone(), clock);
        let (second, b) = signer.sign(&mut chain, measured, clock);
        assert_eq!((first, second), (1, 2));
        let verify =
            |signed: &Signed<Reading>| signed.verify(PublicKey::of(&key), &community).unwrap();
        let (a, b) = (verify(&a), verify(&b));
        assert_eq!(a.message().previous, Digest32([0; 32]));
        assert_eq!(b.message().previous, a.digest());
        assert_eq!(a.message().energy(Obis::IMPORT), Some(energy(4)));
    }
}
