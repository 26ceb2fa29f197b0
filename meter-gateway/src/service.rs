//! A running gateway: its tasks, their start and their end.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use domain::claim::ClaimCode;
use domain::ids::{DeviceId, KeyId, to_hex};
use domain::reading::MeasurementClass;
use domain::signed::{PublicKey, SigningKey};
use runtime::clock::Clock;
use runtime::metrics;
use runtime::mqtt::MqttLink;
use runtime::tls::{ClientTls, TlsError};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bus::stream::{Port, run_port};
use crate::bus::{Desk, JOBS_MAX, Poller, Report, Schedule, run_line};
use crate::config::{
    ClockConfig, Config, DeviceConfig, HomeMqttConfig, MetricsConfig, Profiles, Role, TlsConfig,
};
use crate::control::service::{Answers, COMMANDS_MAX, Controlled, Controller, Parties};
use crate::control::store::Store;
use crate::device::address::Address;
use crate::enrol::{EnrolError, Enrolment, Keys};
use crate::home::{Home, HomeLink};
use crate::home_assistant::{self, HomeAssistant};
use crate::listen::{Listener, MqttDevice};
use crate::measure::Limits;
use crate::ocpp::mail::{Mail, Postman};
use crate::ocpp::reception::{Chargers, Reception};
use crate::poll::LastSeen;
use crate::profile::{EnergySource, Link, Profile, ProfileError};
use crate::publish::{Flow, Publisher, Topics, Trust, Warned, link_options};
use crate::record::{Device, Recorder, Watched};
use crate::seen::Seen;
use crate::sign::Signer;
use crate::spool::{OUTBOX_MAX_ROWS, Spool, SpoolError};
use crate::status::page::page;
use crate::status::socket::Socket;
use crate::status::{DeviceStatus, Observer, Shared, Status, Who};
use crate::time_source::{self, TimeSource};
use crate::toml_file::TomlError;

/// Reports that may wait; a line that has more to say waits until there is room.
const REPORTS_MAX: usize = 256;
/// Samples may be so many polls apart before there is a gap, and values so many polls old.
const GAP_POLLS: i64 = 3;
/// Modbus unit where the configuration names none.
const DEFAULT_UNIT: u8 = 1;

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] TomlError),
    /// A profile is wrong.
    #[error("{0}")]
    Profile(#[from] ProfileError),
    /// There is no key.
    #[error("{0}")]
    Key(#[from] EnrolError),
    /// There is no outbox.
    #[error("{0}")]
    Spool(#[from] SpoolError),
    /// A file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Two programs would sign with one chain.
    #[error("another gateway runs with the data directory {}; stop it first", .0.display())]
    Running(PathBuf),
    /// The metrics have no place.
    #[error(
        "the metrics cannot listen on {address} ([metrics] listen in the configuration): {source}"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("[mqtt.tls]: {0}")]
    Tls(#[from] TlsError),
    /// Certificate or key for chargers cannot be used.
    #[error("[ocpp.tls]: {0}")]
    OcppTls(TlsError),
    /// Chargers have no place to come to.
    #[error("chargers cannot come in on {address} ([ocpp] listen in the configuration): {source}")]
    OcppListen {
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used at home.
    #[error("[home_mqtt.tls]: {0}")]
    HomeTls(TlsError),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A bug.
    #[error("a task of the gateway ended by itself; see the log for what came before")]
    Ended,
    /// A bug.
    #[error("a task of the gateway broke off: {0}")]
    Task(#[from] JoinError),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    tasks: JoinSet<()>,
    desk: Desk,
    chargers: Option<Reception>,
    status: Shared,
    spool: Spool,
    shutdown: CancellationToken,
    lock: File,
}

/// Opens the key that the gateway in this data folder signs with; makes it on first use.
///
/// # Errors
/// A file cannot be read or written, others can read it, or it holds no key.
pub fn open_key(dir: &Path) -> Result<SigningKey, EnrolError> {
    Keys::in_dir(dir).current()
}

/// Makes the next key of a gateway that is not running, and the word of the current one for it. The next
/// start signs with the next key and sends that word.
///
/// # Errors
/// The gateway runs, there is no key yet, or one waits for the platform's answer already.
pub async fn rotate_key(config: &Config, clock: &Clock) -> Result<PublicKey, GatewayError> {
    let _lock = lock(config)?;
    let spool = Spool::open(&config.data_dir, OUTBOX_MAX_ROWS).await?;
    let keys = Keys::in_dir(&config.data_dir);
    let next = keys.rotate(config, &spool, clock.now()).await;
    spool.close().await;
    Ok(next?)
}

/// Id of the key in the data folder, if there is one that can be read; none is made.
#[must_use]
pub fn known_key_id(dir: &Path) -> Option<KeyId> {
    let keys = Keys::in_dir(dir);
    let key = keys.exist().then(|| keys.current());
    Some(PublicKey::of(&key?.ok()?).id())
}

/// Runs a gateway until `shutdown`.
///
/// # Errors
/// It cannot start, or a task broke off.
pub async fn run(
    config: Config,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    Gateway::start(config, clock, shutdown).await?.wait().await
}

impl Gateway {
    /// Starts all tasks.
    ///
    /// # Errors
    /// Configuration, key, outbox or password cannot be used, or another gateway uses them.
    pub async fn start(
        config: Config,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Result<Self, GatewayError> {
        Gateway::start_claiming(config, None, clock, shutdown).await
    }

    /// Starts all tasks, and enrols the gateway with a claim code if one is given and needed.
    ///
    /// # Errors
    /// Configuration, key, outbox or password cannot be used, or another gateway uses them.
    pub async fn start_claiming(
        config: Config,
        code: Option<ClaimCode>,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> Result<Self, GatewayError> {
        config.validate()?;
        let lock = lock(&config)?;
        let spool = Spool::open(&config.data_dir, OUTBOX_MAX_ROWS).await?;
        let key = signing_key(&config, &spool, code.as_ref(), &clock).await?;
        let schedule = Schedule::new(
            config.poll_interval_s,
            config.interval_length_s,
            clock.speed(),
        );
        let devices = devices(&config, Some(&key), schedule)?;
        let status = status_of(&devices);
        let (reports, heard) = mpsc::channel(REPORTS_MAX);
        let mut tasks = JoinSet::new();
        let mut desk = start_lines(&devices, schedule, &clock, &reports, &mut tasks, &shutdown);
        let chargers = Chargers::open(&config, &spool, &clock, &reports).await?;
        let chargers = chargers
            .map(|chargers| chargers.start(&config.data_dir, &mut desk, &mut tasks, &shutdown));
        let observer = observer(&config, &key, &status, &spool, &clock);
        show(observer, &config, &mut tasks, &shutdown).await?;
        let listener = listener(&devices, &clock, reports.clone());
        let nobody = Listener::new(Vec::new(), clock.clone(), reports);
        let (at_home, at_platform) = match config.home_mqtt {
            Some(_) => (listener, nobody),
            None => (nobody, listener),
        };
        let home_link = home(&config, at_home, &status)?.map(|(home, link)| {
            tasks.spawn(home.run(shutdown.clone()));
            link
        });
        let enrolment = Enrolment::open(&config.data_dir, PublicKey::of(&key))?;
        let mut publisher = publisher(&config, &clock, enrolment, at_platform, &spool, &status)?;
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        if config.cosign_ledger {
            publisher.seen = publisher.seen.cosigning(&config.community, key.clone());
        }
        publisher.commands = Some(commands);
        publisher.postman = postman(&config, &key, &spool).await?;
        let controller = controller(&config, &clock, &devices, key, &desk, &publisher).await?;
        tasks.spawn(controller.run(inbox, shutdown.clone()));
        let time_source = time_source(&config, &clock, &status, &mut tasks, &shutdown);
        let recorder = Recorder {
            clock,
            clock_error_ms: config.clock_error_ms,
            time_source,
            spool: spool.clone(),
            live: publisher.live(),
            wake: publisher.wake.clone(),
            status: status.clone(),
            home_assistant: home_link.and_then(|link| home_assistant(&config, link, &devices)),
            devices,
            schedule,
        };
        tasks.spawn(recorder.run(heard, shutdown.clone()));
        tasks.spawn(publisher.run(shutdown.clone()));
        Ok(Gateway {
            tasks,
            desk,
            chargers,
            status,
            spool,
            shutdown,
            lock,
        })
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.get()
    }

    /// Where reads and writes for its Modbus devices are handed in.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Where its chargers come in over OCPP, and where they are asked; none without `[ocpp]`.
    #[must_use]
    pub fn chargers(&self) -> Option<&Reception> {
        self.chargers.as_ref()
    }

    /// A handle on the status that can be read while somebody waits.
    #[must_use]
    pub fn status_handle(&self) -> Shared {
        self.status.clone()
    }

    /// Waits for the end and puts everything away.
    ///
    /// # Errors
    /// A task broke off or ended by itself; the others are stopped then.
    pub async fn wait(mut self) -> Result<(), GatewayError> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            // No task ends by itself while the gateway is meant to run.
            match ended {
                Err(error) => outcome = Err(error.into()),
                Ok(()) if !self.shutdown.is_cancelled() => outcome = Err(GatewayError::Ended),
                Ok(()) => {}
            }
            self.shutdown.cancel();
        }
        self.spool.close().await;
        drop(self.lock);
        outcome
    }
}

fn status_of(devices: &[Device]) -> Shared {
    let of = |device: &Device| DeviceStatus {
        name: device.config.name.clone(),
        profile: device.config.profile.clone(),
        kind: device.profile.kind.word(),
        ..DeviceStatus::default()
    };
    let status = Shared::default();
    status.update(|s| s.devices = devices.iter().map(of).collect());
    status
}

fn observer(
    config: &Config,
    key: &SigningKey,
    status: &Shared,
    spool: &Spool,
    clock: &Clock,
) -> Observer {
    let who = Who {
        community: config.community.to_string(),
        gateway: config.gateway.to_string(),
        key: PublicKey::of(key).id(),
        broker: format!("{}:{}", config.mqtt.host, config.mqtt.port()),
        interval_length_s: config.interval_length_s,
        started_at: clock.now(),
    };
    Observer {
        who: Arc::new(who),
        status: status.clone(),
        spool: spool.clone(),
        clock: clock.clone(),
    }
}

/// Starts what shows the gateway to its owner: the status socket, and the metrics where they are wanted.
async fn show(
    observer: Observer,
    config: &Config,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(), GatewayError> {
    if let Some(MetricsConfig { listen }) = config.metrics {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|source| GatewayError::Listen {
            address: listen,
            source,
        })?;
        let observer = observer.clone();
        let page = move || {
            let observer = observer.clone();
            async move { page(&observer.report().await) }
        };
        tasks.spawn(metrics::serve(listener, page, shutdown.clone()));
    }
    // Readings are worth more than a status: without a socket it runs all the same.
    match Socket::listen(&config.data_dir) {
        Ok(socket) => _ = tasks.spawn(socket.serve(observer, shutdown.clone())),
        Err(error) => tracing::warn!(
            "`commonwatt gateway status` will not find this gateway: no socket in {}: {error}",
            config.data_dir.display()
        ),
    }
    Ok(())
}

/// The key to sign with; with a claim code, the one that it is to let in.
async fn signing_key(
    config: &Config,
    spool: &Spool,
    code: Option<&ClaimCode>,
    clock: &Clock,
) -> Result<SigningKey, EnrolError> {
    let keys = Keys::in_dir(&config.data_dir);
    if let Some(code) = code
        && !keys.claim(config, spool, code, clock.now()).await?
    {
        tracing::info!("this gateway's key is enrolled already: the claim code was not used");
    }
    keys.current()
}

/// The configured devices, each with its profile and what it signs with.
///
/// Without a key no device signs: it is only looked at.
pub(crate) fn devices(
    config: &Config,
    key: Option<&SigningKey>,
    schedule: Schedule,
) -> Result<Vec<Device>, GatewayError> {
    let mut profiles = Profiles::default();
    let device = |device: &DeviceConfig| {
        let profile = profiles.of(config, device)?;
        let key = key.filter(|_| device.role != Role::LiveOnly);
        let signer = key.map(|key| Signer {
            key: key.clone(),
            community: config.community.clone(),
            device: DeviceId::derive(&config.community, &config.gateway, &device.name),
            point: device.point.clone(),
            profile: profile.digest,
        });
        Ok(Device {
            config: device.clone(),
            limits: limits(config, device, &profile, schedule),
            profile,
            signer,
            state: None,
            is_lacking: false,
            last: LastSeen::default(),
            watched: Watched::default(),
        })
    };
    config.devices.iter().map(device).collect()
}

/// The task that keeps leases, with those that were open when the gateway stopped.
async fn controller(
    config: &Config,
    clock: &Clock,
    devices: &[Device],
    key: SigningKey,
    desk: &Desk,
    publisher: &Publisher,
) -> Result<Controller, GatewayError> {
    let parties = Parties {
        community: config.community.clone(),
        gateway: config.gateway.clone(),
        operator_key: config.operator_key,
        key,
    };
    let answers = Answers {
        handle: publisher.handle.clone(),
        topic: publisher.topics.ack.clone(),
    };
    let store = Store::open(publisher.spool.db()).await;
    let store = store.map_err(SpoolError::from)?;
    let ends = (desk.clone(), answers, publisher.status.clone());
    let opening = Controller::open(clock.clone(), parties, controlled(devices), store, ends);
    Ok(opening.await.map_err(SpoolError::from)?)
}

/// Who brings the platform what chargers' meters have signed.
async fn postman(
    config: &Config,
    key: &SigningKey,
    spool: &Spool,
) -> Result<Option<Postman>, GatewayError> {
    if config.ocpp.is_none() {
        return Ok(None);
    }
    let mail = Mail::open(spool.db()).await.map_err(SpoolError::from)?;
    let names = (config.community.clone(), config.gateway.clone());
    Ok(Some(Postman::new(
        mail,
        key.clone(),
        names,
        config.operator_key,
    )))
}

/// The devices that could be controlled, by their position, and what is allowed of it.
fn controlled(devices: &[Device]) -> BTreeMap<usize, Controlled> {
    let one = |(index, device): (usize, &Device)| {
        let controls = device.profile.controls.clone();
        let limits = device.config.limits.as_ref();
        let rules = limits.map(|limits| limits.rules(device.config.rating_w));
        let controlled = Controlled::new(device.config.name.clone(), rules, controls);
        (!controlled.controls.is_empty()).then_some((index, controlled))
    };
    devices.iter().enumerate().filter_map(one).collect()
}

/// Makes sure that no other program signs with this key and chain.
pub(crate) fn lock(config: &Config) -> Result<File, GatewayError> {
    let path = config.data_dir.join("gateway.lock");
    let folder = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir);
    folder.map_err(|source| GatewayError::File {
        path: config.data_dir.clone(),
        source,
    })?;
    let file = File::create(&path).map_err(|source| GatewayError::File {
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(GatewayError::Running(config.data_dir.clone()))
        }
        Err(std::fs::TryLockError::Error(source)) => Err(GatewayError::File { path, source }),
    }
}

/// Checks the clock where the configuration names a server. A clock that runs faster than the wall has
/// nothing to be checked against.
fn time_source(
    config: &Config,
    clock: &Clock,
    status: &Shared,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> TimeSource {
    let source = TimeSource::default();
    if let Some(ClockConfig { ntp_server }) = config.clock.clone().filter(|_| clock.speed() == 1) {
        tasks.spawn(time_source::run(
            ntp_server,
            source.clone(),
            clock.clone(),
            config.clock_error_ms,
            status.clone(),
            shutdown.clone(),
        ));
    }
    source
}

fn limits(config: &Config, device: &DeviceConfig, profile: &Profile, schedule: Schedule) -> Limits {
    let report_ms = match &profile.link {
        Link::Mqtt(rules) => i64::from(rules.report_interval_s) * 1000,
        Link::Ocpp => {
            let every_s = config.ocpp.as_ref().map_or(0, |ocpp| ocpp.meter_interval_s);
            i64::from(every_s) * 1000
        }
        Link::Modbus(_) | Link::Sunspec(_) | Link::Telegram(..) => {
            schedule.poll_ms.min(schedule.interval_ms)
        }
    };
    Limits {
        interval_length_s: config.interval_length_s,
        max_gap_ms: report_ms.max(schedule.poll_ms) * GAP_POLLS,
        rating_w: device.rating_w,
        resolution_wh: profile.resolution_wh(),
        class: match profile.energy_source() {
            Some(EnergySource::Power) => MeasurementClass::IntegratedPower,
            _ => MeasurementClass::MeterCounter,
        },
    }
}

/// Starts a task for every line and every meter's port; the desk brings jobs to the lines.
pub(crate) fn start_lines(
    devices: &[Device],
    schedule: Schedule,
    clock: &Clock,
    reports: &mpsc::Sender<Report>,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Desk {
    let mut desk = Desk::default();
    for (address, pollers) in lines(devices) {
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        for poller in &pollers {
            desk.add(poller.device(), sender.clone());
        }
        tasks.spawn(run_line(
            address,
            pollers,
            schedule,
            clock.clone(),
            reports.clone(),
            jobs,
            shutdown.clone(),
        ));
    }
    for port in ports(devices) {
        let (clock, reports) = (clock.clone(), reports.clone());
        tasks.spawn(run_port(port, schedule, clock, reports, shutdown.clone()));
    }
    desk
}

/// The Modbus devices by the line they hang on: one connection for all that are at one address.
fn lines(devices: &[Device]) -> BTreeMap<Address, Vec<Poller>> {
    let mut lines: BTreeMap<Address, Vec<Poller>> = BTreeMap::new();
    for (index, device) in devices.iter().enumerate() {
        if let (Some(rules), Some(address)) = (device.profile.modbus(), address(device)) {
            let unit = device.config.unit.or(rules.unit_id);
            let unit = unit.unwrap_or(DEFAULT_UNIT);
            let poller = Poller::new(index, device.profile.clone(), unit);
            lines.entry(address).or_default().push(poller);
        }
    }
    lines
}

/// Where a device is; the configuration was checked, so an address that is none belongs to nobody.
fn address(device: &Device) -> Option<Address> {
    device.config.address.as_deref()?.parse().ok()
}

/// The ports of meters that speak by themselves.
fn ports(devices: &[Device]) -> Vec<Port> {
    let mut ports: BTreeMap<Address, Port> = BTreeMap::new();
    for (index, device) in devices.iter().enumerate() {
        if let (Link::Telegram(language, rules), Some(address)) =
            (&device.profile.link, address(device))
        {
            let port = ports.entry(address.clone()).or_insert_with(|| Port {
                address,
                language: *language,
                rules: *rules,
                devices: Vec::new(),
            });
            port.devices.push((index, device.profile.clone()));
        }
    }
    ports.into_values().collect()
}

fn password(written: Option<&String>, file: Option<&PathBuf>) -> Result<String, GatewayError> {
    match (written, file) {
        (Some(password), _) => Ok(password.clone()),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|source| GatewayError::File {
                path: path.clone(),
                source,
            }),
        (None, None) => Ok(String::new()),
    }
}

/// Where devices that speak over MQTT are heard, and as whom.
pub(crate) struct DeviceBroker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The home's own broker where there is one, else the platform's.
pub(crate) fn device_broker(config: &Config) -> Result<DeviceBroker, GatewayError> {
    if let Some(home) = &config.home_mqtt {
        return Ok(DeviceBroker {
            host: home.host.clone(),
            port: home.port(),
            tls: home_tls(home)?,
            user: home.user.clone().unwrap_or_default(),
            password: password(home.password.as_ref(), home.password_file.as_ref())?,
        });
    }
    let mqtt = &config.mqtt;
    Ok(DeviceBroker {
        host: mqtt.host.clone(),
        port: mqtt.port(),
        tls: client_tls(mqtt.tls.as_ref(), &mqtt.host)?,
        user: mqtt.user.clone(),
        password: password(mqtt.password.as_ref(), mqtt.password_file.as_ref())?,
    })
}

/// How a connection to a broker is encrypted, if it is.
fn client_tls(tls: Option<&TlsConfig>, host: &str) -> Result<Option<ClientTls>, TlsError> {
    tls.map(|tls| ClientTls::open(&tls.files(), host))
        .transpose()
}

/// The same of the home's own broker.
fn home_tls(home: &HomeMqttConfig) -> Result<Option<ClientTls>, GatewayError> {
    client_tls(home.tls.as_ref(), &home.host).map_err(GatewayError::HomeTls)
}

/// The devices that speak over MQTT by themselves.
pub(crate) fn listener(
    devices: &[Device],
    clock: &Clock,
    reports: mpsc::Sender<Report>,
) -> Listener {
    let heard = devices.iter().enumerate().filter_map(|(device, d)| {
        let prefix = d.config.prefix.as_deref()?;
        MqttDevice::new(device, &d.profile, prefix, d.config.connector)
    });
    Listener::new(heard.collect(), clock.clone(), reports)
}

/// The link to the home's own broker, where there is one.
fn home(
    config: &Config,
    devices: Listener,
    status: &Shared,
) -> Result<Option<(Home, HomeLink)>, GatewayError> {
    let Some(broker) = &config.home_mqtt else {
        return Ok(None);
    };
    let password = password(broker.password.as_ref(), broker.password_file.as_ref())?;
    let names = (&config.community, &config.gateway);
    let tls = home_tls(broker)?;
    let home = Home::start(broker, (password, tls), names, devices, status);
    Ok(Some(home))
}

/// Shows the devices to Home Assistant, or takes back what was shown when it was wanted.
fn home_assistant(config: &Config, link: HomeLink, devices: &[Device]) -> Option<HomeAssistant> {
    let wanted = config.home_assistant.as_ref();
    if wanted.is_none() && !home_assistant::was_used(&config.data_dir) {
        return None;
    }
    let prefix = wanted.map(|wanted| wanted.discovery_prefix.as_str());
    let (gateway, dir) = (&config.gateway, &config.data_dir);
    Some(HomeAssistant::new(link, prefix, gateway, devices, dir))
}

fn publisher(
    config: &Config,
    clock: &Clock,
    enrolment: Enrolment,
    heard: Listener,
    spool: &Spool,
    status: &Shared,
) -> Result<Publisher, GatewayError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(GatewayError::Random)?;
    let boot_id = to_hex(&random);
    let topics = Topics::new(&config.community, &config.gateway);
    let mqtt = &config.mqtt;
    let host = (
        mqtt.host.clone(),
        mqtt.port(),
        client_tls(mqtt.tls.as_ref(), &mqtt.host)?,
    );
    let client_id = format!("cw-{}-{}", config.community, config.gateway);
    let options = link_options(
        &topics,
        host,
        (
            mqtt.user.clone(),
            password(mqtt.password.as_ref(), mqtt.password_file.as_ref())?,
        ),
        client_id,
        &boot_id,
        &heard,
    );
    let link = CancellationToken::new();
    let (handle, events) = MqttLink::start(options, link.clone());
    Ok(Publisher {
        spool: spool.clone(),
        handle,
        events,
        link: link.drop_guard(),
        topics,
        trust: Trust::of(config),
        seen: Seen::open(&config.data_dir, &config.community, config.operator_key),
        said_seen: None,
        enrolment,
        postman: None,
        devices: heard,
        commands: None,
        wake: Arc::new(Notify::new()),
        status: status.clone(),
        clock: clock.clone(),
        boot_id,
        connected: Arc::new(AtomicBool::new(false)),
        started: Instant::now(),
        warned: Warned::default(),
        flow: Flow::new(mqtt.history_per_s),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn gateway(dir: &Path, shutdown: &CancellationToken) -> Gateway {
        Gateway {
            tasks: JoinSet::new(),
            desk: Desk::default(),
            chargers: None,
            status: Shared::default(),
            spool: Spool::open(dir, 10).await.unwrap(),
            shutdown: shutdown.clone(),
            lock: File::create(dir.join("lock")).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_an_error_and_stops_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let mut ended = gateway(dir.path(), &shutdown).await;
        ended.tasks.spawn(async {});
        ended.tasks.spawn(shutdown.clone().cancelled_owned());
        assert!(matches!(ended.wait().await, Err(GatewayError::Ended)));
        let mut stopped = gateway(dir.path(), &shutdown).await;
        stopped.tasks.spawn(async {});
        stopped.wait().await.unwrap();
    }
}
