//! `evidence = "full"`: orders and readings are signed with the key of their home, verified, and taken or
//! refused by the platform's own checks; what counts goes into the three logs, whose head is signed.
//! Keys come from the seed, so that a run can be repeated; they protect nothing.

use domain::energy::Energy;
use domain::ids::{
    CommunityId, DeviceId, Digest32, GatewayId, ParticipantId, PointId, digest_parts, to_hex,
};
use domain::key_record::PointRole;
use domain::log::checkpoint::{Checkpoint, Log};
use domain::log::tree::Frontier;
use domain::money::Price;
use domain::order::Order;
use domain::quality::Quality;
use domain::reading::{ClockStamp, ClockState, MeasurementClass, Obis, Reading, Register};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::{Interval, Timestamp};
use market_engine::accept::Own;
use market_engine::market::Rules;
use settlement::accept::{Accepted, PointState, RegisteredPoint, Verdict};
use settlement::log::entry::{Entry, Kind, PUBLIC, salt_of};

use super::RunError;
use super::meters::{Metered, State};
use super::scenario::RunHome;

/// What every connection carries at least: three phases of 63 A.
const RATING_LEAST_W: i64 = 43_500;
/// Orders are placed so long before their interval, in seconds.
const ORDERED_BEFORE_S: i64 = 600;

/// One home's key and what is known of its meter.
struct Signer {
    key: SigningKey,
    public: PublicKey,
    secret: [u8; 32],
    point: RegisteredPoint,
    device: DeviceId,
    sequence: u64,
    previous: Digest32,
    last: Option<Accepted>,
}

/// The keys and logs of a run.
pub(super) struct Evidence {
    community: CommunityId,
    operator: SigningKey,
    signers: Vec<Signer>,
    rules: Rules,
    readings: Frontier,
    market: Frontier,
    ledger: Frontier,
    /// What was signed and taken, and what was refused.
    pub(super) counts: Counts,
}

/// How many messages were signed and what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Orders that were signed, verified and taken.
    pub orders: u64,
    /// Readings that were signed, verified and taken.
    pub readings: u64,
    /// Readings whose signature did not fit.
    pub readings_refused: u64,
    /// Settlement lines in the ledger log.
    pub lines: u64,
}

fn key(seed: u64, owner: &str) -> SigningKey {
    SigningKey::from_bytes(&digest_parts(
        "simulator key",
        &[&seed.to_be_bytes(), owner.as_bytes()],
    ))
}

impl Evidence {
    pub(super) fn new(
        name: &str,
        homes: &[RunHome],
        seed: u64,
        interval_s: u32,
    ) -> Result<Self, RunError> {
        let community = CommunityId::new(name.to_ascii_lowercase())
            .map_err(|e| RunError::bad(format!("name: {e}, and a community is called by it")))?;
        let signers = homes.iter().map(|home| signer(&community, home, seed));
        Ok(Evidence {
            signers: signers.collect::<Result<_, _>>()?,
            operator: key(seed, "operator"),
            community,
            rules: Rules {
                interval_length_s: interval_s,
                price_cap: Price::from_micro_per_kwh(i64::MAX),
                ..Rules::default()
            },
            readings: Frontier::default(),
            market: Frontier::default(),
            ledger: Frontier::default(),
            counts: Counts::default(),
        })
    }

    /// Signs an order, and takes it as the platform would.
    pub(super) fn order(&mut self, home: usize, order: &Order) -> Result<(), RunError> {
        let signer = &self.signers[home];
        let signed = Signed::sign(&signer.key, &self.community, order);
        let verified = signed
            .verify(signer.public, &self.community)
            .map_err(|e| differ(order.interval, format!("an order's signature: {e}")))?;
        let now = order.interval.start().plus_s(-ORDERED_BEFORE_S);
        market_engine::accept::check(
            verified.message(),
            &self.rules,
            now,
            signer.point.rating_w,
            Own::default(),
        )
        .map_err(|refused| {
            let who = &order.participant;
            differ(
                order.interval,
                format!("an order of {who} was refused: {refused}"),
            )
        })?;
        let salt = salt_of(&signer.secret, signed.as_bytes());
        let entry = Entry::new(Kind::Order, order.interval.start(), salt, signed.as_bytes());
        self.market.append(entry.leaf_hash());
        self.counts.orders += 1;
        Ok(())
    }

    /// Logs what is public of the market.
    pub(super) fn market_entry(&mut self, kind: Kind, interval: Interval, content: &[u8]) {
        let entry = Entry::new(kind, interval.start(), PUBLIC, content);
        self.market.append(entry.leaf_hash());
    }

    /// Logs a settlement line of a home.
    pub(super) fn line(&mut self, home: usize, interval: Interval, content: &[u8]) {
        let salt = salt_of(&self.signers[home].secret, content);
        let entry = Entry::new(Kind::Line, interval.start(), salt, content);
        self.ledger.append(entry.leaf_hash());
        self.counts.lines += 1;
    }

    /// Signs a home's reading; it is taken, or, where it was changed on its way, refused. Gives the
    /// digest of one that counts.
    pub(super) fn reading(
        &mut self,
        home: usize,
        interval: Interval,
        metered: &Metered,
    ) -> Result<Option<Digest32>, RunError> {
        let community = &self.community;
        let signer = &mut self.signers[home];
        if matches!(metered.state, State::Lost | State::Dead) {
            // The gateway counts on: a sequence that is missing shows that something is.
            signer.sequence += 1;
            return Ok(None);
        }
        let reading = signer.measure(interval, metered);
        let signed = Signed::sign(&signer.key, community, &reading);
        if metered.state == State::Tampered {
            let mut bytes = signed.as_bytes().to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            let changed = Signed::<Reading>::from_bytes(bytes);
            return match changed.verify(signer.public, community) {
                Ok(_) => Err(differ(interval, "a changed reading verified".to_owned())),
                Err(_) => {
                    self.counts.readings_refused += 1;
                    Ok(None)
                }
            };
        }
        let verified = signed
            .verify(signer.public, community)
            .map_err(|e| differ(interval, format!("a reading's signature: {e}")))?;
        let state = PointState {
            before: signer.last.clone(),
            ..PointState::default()
        };
        let verdict = settlement::accept::check(
            &verified,
            &signer.point.gateway,
            &signer.point,
            &state,
            interval.length_s(),
            arrival(interval, metered.state),
        );
        if let Verdict::Reject(refused) = verdict {
            let point = &signer.point.point;
            return Err(differ(
                interval,
                format!("a reading of {point} was refused: {refused}"),
            ));
        }
        signer.last = Some(Accepted {
            sequence: reading.sequence,
            interval,
            registers: reading.registers.clone(),
            era: reading.era,
            digest: verified.digest(),
        });
        signer.previous = verified.digest();
        let salt = salt_of(&signer.secret, signed.as_bytes());
        let entry = Entry::new(Kind::Reading, interval.start(), salt, signed.as_bytes());
        self.readings.append(entry.leaf_hash());
        self.counts.readings += 1;
        Ok(Some(verified.digest()))
    }

    /// The three logs' checkpoints, the ledger's last: it has taken in the other two.
    pub(super) fn finish(&mut self, end: Timestamp) -> String {
        let mut notes = String::new();
        for log in [Log::Readings, Log::Market] {
            let tree = if log == Log::Readings {
                &self.readings
            } else {
                &self.market
            };
            let note = self.note(log, tree);
            let entry = Entry::new(Kind::Checkpoint, end, PUBLIC, note.as_bytes());
            self.ledger.append(entry.leaf_hash());
            notes.push_str(&note);
            notes.push('\n');
        }
        notes + &self.note(Log::Ledger, &self.ledger)
    }

    fn note(&self, log: Log, tree: &Frontier) -> String {
        let checkpoint = Checkpoint {
            size: tree.size(),
            root: tree.root(),
        };
        checkpoint.sign(&log.origin(&self.community), &self.operator)
    }

    /// The operator's public key, with which the checkpoints verify.
    pub(super) fn operator_key(&self) -> String {
        to_hex(&PublicKey::of(&self.operator).to_bytes())
    }
}

fn differ(interval: Interval, what: String) -> RunError {
    RunError::Differ { interval, what }
}

/// When the platform sees a reading.
fn arrival(interval: Interval, state: State) -> Timestamp {
    let late_s = if state == State::Late { 6 * 3600 } else { 5 };
    interval.end().plus_s(late_s)
}

fn signer(community: &CommunityId, home: &RunHome, seed: u64) -> Result<Signer, RunError> {
    let name = home.id.as_str();
    let named = |e: domain::ids::IdError| RunError::bad(format!("{name}: {e}"));
    let gateway = GatewayId::new(name).map_err(named)?;
    let devices = [
        home.pv.as_ref().map(|pv| pv.inverter_w),
        home.battery.as_ref().map(|b| b.power_w),
        home.ev.as_ref().map(|ev| ev.max_power_w),
    ];
    // A household draws up to sixteen times its mean, and never less than its connection was made for.
    let most_w = home.yearly_load_kwh * 2 + devices.into_iter().flatten().sum::<i64>();
    let key = key(seed, name);
    Ok(Signer {
        public: PublicKey::of(&key),
        secret: digest_parts("simulator secret", &[&seed.to_be_bytes(), name.as_bytes()]),
        key,
        device: DeviceId::derive(community, &gateway, "meter"),
        point: RegisteredPoint {
            point: PointId::new(name).map_err(named)?,
            gateway,
            role: PointRole::Connection,
            participant: Some(ParticipantId::new(name).map_err(named)?),
            rating_w: u32::try_from(most_w.max(RATING_LEAST_W)).unwrap_or(u32::MAX),
        },
        sequence: 0,
        previous: Digest32([0; 32]),
        last: None,
    })
}

impl Signer {
    fn measure(&mut self, interval: Interval, metered: &Metered) -> Reading {
        let register = |obis, start, end| Register {
            obis,
            start: Energy::from_wh(start),
            end: Energy::from_wh(end),
        };
        self.sequence += 1;
        Reading {
            device: self.device,
            point: self.point.point.clone(),
            sequence: self.sequence,
            interval,
            registers: vec![
                register(Obis::IMPORT, metered.from.import_wh, metered.to.import_wh),
                register(Obis::EXPORT, metered.from.export_wh, metered.to.export_wh),
            ],
            era: 0,
            quality: Quality::MEASURED,
            clock: ClockStamp {
                signed_at: interval.end(),
                state: ClockState::Synchronised,
                error_ms: 100,
            },
            meter_hash: [1; 8],
            class: MeasurementClass::MeterCounter,
            previous: self.previous,
            profile: [1; 8],
        }
    }
}
