//! The platform of one community: takes in signed readings and orders, clears, settles, proves, shows.
//!
//! One task writes the books (`core`); everything else asks it over a bounded queue. Beside it, `control`
//! keeps commands to devices and their answers in two tables of its own. The platform decides
//! nothing that a rule of the market or of settlement decides.

pub(crate) mod alarms;
mod alone;
mod batteries;
pub(crate) mod charging;
pub(crate) mod control;
mod core;
mod door;
pub(crate) mod found;
mod ingest;
mod key_ring;
mod keys;
pub(crate) mod lab;
mod orders;
pub(crate) mod preferences;
mod snapshot;
pub(crate) mod standing;
pub(crate) mod tokens;
pub(crate) mod trading;
pub(crate) mod witnesses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, bail};
use domain::fees::FeeMatrix;
use domain::ids::{ParticipantId, digest_parts};
use domain::key_record::{Holder, KeyRecord};
use domain::signed::{PublicKey, SigningKey};
use domain::time::{Interval, Timestamp};
use market_engine::bid::Proposal;
use market_engine::service::{Rules, Secret, Setup};
use runtime::clock::Clock;
use runtime::db::Db;
use runtime::key_file;
use settlement::log::checkpoint::Log;
use settlement::service::Community;
use tokio::sync::{mpsc, watch};

pub(crate) use core::{
    ACCOUNT_SEQUENCES, AUTOPILOT_SEQUENCES, Command, KeyAnswer, KeyWord, Told, account_sequence,
    next_to_close,
};
pub(crate) use ingest::{
    BROKER_USER, accepted, admit, options as broker_options, run as ingest, told_queue,
};
pub(crate) use key_ring::{beside, next_of};
pub(crate) use orders::{
    AnswerTo, OrderAnswer, OrderMessage, answer_body, read as read_order, read_query,
};
pub(crate) use snapshot::trade_line;

use crate::live::Live;
use crate::site::{DataDir, Site};
use crate::view;

/// Most commands waiting for the core; senders wait when it is full.
const COMMANDS_MAX: usize = 1024;
/// The clock may be this far behind the newest clearing: its gate had closed then.
const CLOCK_BEHIND_MAX_S: i64 = 60;

/// What every part of the platform shares.
pub(crate) struct Shared {
    pub(crate) site: Site,
    pub(crate) community: Community,
    pub(crate) market: Setup,
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) live: Live,
    /// What the logs' witnesses say.
    pub(crate) watch: witnesses::Watch,
    /// The folder in which `commonwatt simulate` leaves its runs.
    pub(crate) runs: PathBuf,
    /// Commands to devices on their way to the broker.
    pub(crate) control: control::Desk,
    /// Offers and sessions of charging.
    pub(crate) charging: charging::Desk,
    /// The folder of the key files with which the platform orders for homes and stations.
    key_files: PathBuf,
    /// Who may order, as the registry says.
    ring: RwLock<Arc<key_ring::KeyRing>>,
    /// Whether the registry may say something else by now.
    keys_are_old: AtomicBool,
    /// What was answered to the operator's newest words about keys.
    said: keys::Said,
    /// The newest number of an order that was signed because an account asked for it.
    account_sequence: AtomicU64,
    /// What autopilots that may only suggest would order for an interval: one for each participant at most.
    suggestions: Mutex<Option<(Interval, BTreeMap<ParticipantId, view::OrderLine>)>>,
}

impl Shared {
    /// Room that is left where the data folder is, where the system tells it.
    pub(crate) fn free_mib(&self) -> Option<i64> {
        let room = rustix::fs::statvfs(self.runs.parent()?).ok()?;
        let free = room.f_bavail.saturating_mul(room.f_frsize) / (1024 * 1024);
        Some(i64::try_from(free).unwrap_or(i64::MAX))
    }

    /// Keeps a suggestion for the page; those for another interval are forgotten.
    fn suggest(&self, proposal: Proposal) {
        let order = proposal.order;
        let line = view::OrderLine {
            participant: order.participant,
            side: order.side,
            energy: order.energy,
            limit: order.limit,
            filled: None,
        };
        let mut kept = self
            .suggestions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (_, lines) = match kept.take() {
            Some(same) if same.0 == order.interval => kept.insert(same),
            _ => kept.insert((order.interval, BTreeMap::new())),
        };
        lines.insert(line.participant.clone(), line);
    }

    /// The suggestions for an interval.
    fn suggestions(&self, interval: Interval) -> Vec<view::OrderLine> {
        let kept = self
            .suggestions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let same = kept.as_ref().filter(|(of, _)| *of == interval);
        same.map_or_else(Vec::new, |(_, lines)| lines.values().cloned().collect())
    }
}

/// A platform that is ready to run: its shared state and the ends of its queues.
pub(crate) struct Platform {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) street: watch::Receiver<Arc<view::Street>>,
    pub(crate) core: core::Core,
    pub(crate) forwards: mpsc::Receiver<control::Forward>,
}

/// Connects to the database that is named, if one is: before anything is written, as it may be refused.
pub(crate) async fn named_database(url: Option<&str>) -> anyhow::Result<Option<Db>> {
    Ok(match url {
        Some(url) => Some(Db::open(url).await?),
        None => None,
    })
}

/// The named database, or the file in the data folder where none is named.
pub(crate) async fn database_or_file(named: Option<Db>, data: &DataDir) -> anyhow::Result<Db> {
    Ok(match named {
        Some(db) => db,
        None => Db::open(&data.database()).await?,
    })
}

/// Brings all tables up to date.
async fn migrate(db: &Db) -> anyhow::Result<()> {
    db.migrate(market_engine::store::MIGRATIONS).await?;
    db.migrate(settlement::store::MIGRATIONS).await?;
    db.migrate(control::MIGRATIONS).await?;
    db.migrate(crate::auth::MIGRATIONS).await?;
    db.migrate(crate::api::MIGRATIONS).await?;
    db.migrate(preferences::MIGRATIONS).await?;
    db.migrate(trading::MIGRATIONS).await?;
    db.migrate(charging::drivers::MIGRATIONS).await?;
    Ok(())
}

/// The community as settlement knows it.
fn community(site: &Site, operator: SigningKey) -> Community {
    Community {
        id: site.community.clone(),
        operator,
        interval_length_s: site.interval_length_s,
        tariff: site.settlement.tariffs.clone(),
        terms: site.settlement.terms,
        loss_band: site.settlement.loss_band,
        zone_fee_max: site.fees.as_ref().map(FeeMatrix::largest),
    }
}

/// Opens books and keys, checks the books, enrols who is new.
pub(crate) async fn open(
    site: Site,
    data: &DataDir,
    db: Db,
    clock: Clock,
) -> anyhow::Result<Platform> {
    migrate(&db).await?;
    refuse_other_books(&db, &site, clock.now()).await?;
    let operator = key_file::open(&data.join("operator.key"))?;
    write_public_key(&data.join("operator.pub"), &operator)?;
    let community = community(&site, operator);
    settlement::service::check_books_at_start(&db, &community.operator)
        .await
        .context(
            "the books do not add up, so nothing was started; restore a backup of the database",
        )?;
    let rules = site.market.rules(Rules {
        interval_length_s: site.interval_length_s,
        gate_closure_s: site.gate_closure_s,
        ..Rules::default()
    })?;
    // The public books' names need a secret that outlives the platform; the operator's key is one.
    let secret = digest_parts(
        "commonwatt/book-names/v1",
        &[&community.operator.to_bytes()],
    );
    let market = Setup {
        rules,
        secret: Secret(secret),
    };
    let live = Live::default();
    let (control, forwards) = control::desk();
    let charging = charging::Desk::open(&data.join("charging-p256.key"))?;
    let shared = Arc::new(Shared {
        site,
        community,
        market,
        db,
        clock,
        live,
        watch: witnesses::Watch::default(),
        runs: data.join("runs"),
        control,
        charging,
        key_files: data.join("participants"),
        ring: RwLock::default(),
        keys_are_old: AtomicBool::new(true),
        said: keys::Said::default(),
        account_sequence: AtomicU64::new(0),
        suggestions: Mutex::default(),
    });
    // The market begins at the instant from which keys are valid: no interval falls between.
    let now = shared.clock.now();
    witnesses::remember(&shared).await?;
    enrol_all(&shared, now).await?;
    shared.renew_keys().await?;
    core::clear(&shared, now).await?;
    charging::load(&shared).await?;
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let mut known = snapshot::Known::default();
    let first = snapshot::gather(&shared, &mut known).await?;
    let (show, street) = watch::channel(Arc::new(first));
    let core = core::Core::new(Arc::clone(&shared), inbox, show, known);
    Ok(Platform {
        shared,
        commands,
        street,
        core,
        forwards,
    })
}

/// Refuses the books of another community, of intervals of another length, or of a time to come.
async fn refuse_other_books(db: &Db, site: &Site, now: Timestamp) -> anyhow::Result<()> {
    if let Some(note) = settlement::service::latest_checkpoint(db, Log::Ledger).await? {
        let (found, expected) = (note.lines().next(), Log::Ledger.origin(&site.community));
        if found != Some(&expected) {
            bail!(
                "these books are those of {}, not {expected}: use another data folder or database",
                found.unwrap_or("nobody")
            );
        }
    }
    let newest = market_engine::service::recent_clearings(db, 1).await?;
    let ahead = newest.first().map(|c| c.interval).filter(|i| {
        i.start().plus_s(-i64::from(site.gate_closure_s)) > now.plus_s(CLOCK_BEHIND_MAX_S)
    });
    if let Some(interval) = ahead {
        bail!(
            "these books have cleared {interval} already, and the clock says {now}: set the clock right, \
             or choose the books that belong to it"
        );
    }
    let length_s = newest.first().map(|c| c.interval.length_s());
    if let Some(length_s) = length_s.filter(|length_s| *length_s != site.interval_length_s) {
        bail!(
            "these books have intervals of {length_s} s, the site says {} s: interval_length_s cannot \
             be changed once a market has begun",
            site.interval_length_s
        );
    }
    Ok(())
}

/// Enters every gateway and participant of the site that is not in the registry yet.
async fn enrol_all(shared: &Shared, now: Timestamp) -> anyhow::Result<()> {
    let mut tx = shared.db.begin().await?;
    for gateway in &shared.site.gateways {
        let holder = Holder::Gateway {
            gateway: gateway.id.clone(),
            points: gateway.points.clone(),
        };
        // The site names the key a gateway begins with; the one that came after it is in the registry.
        let newest = settlement::service::gateway_key(&mut tx, &gateway.id).await?;
        let begins = match gateway.key {
            Some(key) if !settlement::service::is_known(&mut tx, key).await? => Some(key),
            Some(_) | None => newest,
        };
        let Some(key) = begins else {
            tracing::info!(gateway = %gateway.id, "waits for a claim code: `commonwatt keys claim` makes one");
            continue;
        };
        let record = KeyRecord {
            key,
            holder,
            valid_from: now,
        };
        settlement::service::enrol(&mut tx, &shared.community, now, record).await?;
    }
    key_ring::enrol_new(shared, &mut tx, now).await?;
    for participant in &shared.site.participants {
        let amount = participant.deposit;
        settlement::service::opening_deposit(&mut tx, now, &participant.id, amount).await?;
    }
    settlement::service::checkpoint(&mut tx, &shared.community, now).await?;
    tx.commit().await?;
    Ok(())
}

fn write_public_key(file: &Path, key: &SigningKey) -> anyhow::Result<()> {
    let text = crate::site::public_key_text(PublicKey::of(key)) + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
