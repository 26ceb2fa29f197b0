//! A connector as a device: what it tells and which set-points it takes. OCPP says itself what its values are, so there
//! is no file with registers; the four here are the gateway's own, written by leases as those of any charger are.

use crate::device::decode::{Encoding, Exact, WordOrder, WordType};
use crate::profile::control::{
    Control, Match, Register, Scale, Source as Number, Spot, Target, Unit, Value, Write,
};
use crate::profile::{Kind, Link, Point, Profile, Quantity, Source};
use domain::ids::digest_parts;

/// What `gateway.toml` calls it.
pub const NAME: &str = "ocpp-1.6";
/// Largest current in mA, in two words.
pub const LIMIT: u16 = 0;
/// 1 while there is a limit; written to 0 there is none.
pub const FREE: u16 = 2;
/// 1 while a driver is let in.
pub const OPEN: u16 = 3;
/// How long a charger keeps a limit that nobody renews.
pub const VALIDITY_S: u32 = 600;
/// How long it may take until it shows what it was told.
const SETTLE_MS: u32 = 1_000;
/// Which version of these rules has made a number.
const VERSION: &[u8] = b"1";

/// Its profile.
#[must_use]
pub fn profile() -> Profile {
    let point = |(quantity, optional): (Quantity, bool)| Point {
        quantity,
        source: Source::Sampled,
        encoding: Encoding::default(),
        scale: Exact::whole(1),
        min: None,
        max: None,
        wraps_at: None,
        optional,
        seldom: false,
        states: Vec::new(),
    };
    let points = [
        (Quantity::Import, false),
        (Quantity::Power, true),
        (Quantity::State, true),
        (Quantity::Soc, true),
    ];
    let mut profile = Profile {
        name: NAME.to_owned(),
        also: Vec::new(),
        kind: Kind::Charger,
        link: Link::Ocpp,
        points: points.into_iter().map(point).collect(),
        digest: [0; 8],
        dumps: Vec::new(),
        controls: vec![limit(), session()],
    };
    let digest = digest_parts("profile", &[NAME.as_bytes(), VERSION]);
    profile.digest.copy_from_slice(&digest[..8]);
    profile
}

fn register(address: u16, word_type: WordType, unit: Unit) -> Register {
    Register {
        spot: Spot::Register {
            function: 3,
            address,
            unit_id: None,
        },
        word_type,
        word_order: WordOrder::HighFirst,
        scale: Scale {
            mantissa: 1,
            exp10: 0,
        },
        unit,
    }
}

fn write(to: Register, value: Value) -> Write {
    Write {
        function: 16,
        to,
        value,
        check: Some((to, Match::Exact)),
        finer: None,
    }
}

/// The current: a charging profile that ends by itself.
fn limit() -> Control {
    let value = register(LIMIT, WordType::U32, Unit::Power(0));
    let set = vec![write(value, Value::Of(Number::SetPoint))];
    let none = Value::Constant { raw: 0, mask: None };
    Control {
        target: Target::ChargerCurrent,
        min: 6_000,
        max: 80_000,
        validity_s: Some(VALIDITY_S),
        settle_ms: SETTLE_MS,
        write: set.clone(),
        pause: set,
        revert: vec![write(register(FREE, WordType::U16, Unit::Raw), none)],
        fail_safe: Vec::new(),
        heartbeat: None,
        full_scale: None,
        most_charge: None,
        most_discharge: None,
        examples: Vec::new(),
    }
}

/// Whether a driver is let in.
fn session() -> Control {
    let value = register(OPEN, WordType::U16, Unit::Power(0));
    let closed = Value::Constant { raw: 0, mask: None };
    Control {
        target: Target::ChargerSession,
        min: 0,
        max: 1,
        validity_s: None,
        write: vec![write(value, Value::Of(Number::SetPoint))],
        pause: Vec::new(),
        revert: vec![write(register(OPEN, WordType::U16, Unit::Raw), closed)],
        ..limit()
    }
}
