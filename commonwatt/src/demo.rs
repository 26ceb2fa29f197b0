//! The demo: a simulated street, a gateway in every home, and the platform, wired over real protocols.
//!
//! It only wires. The devices are servers on loopback, the gateways read them as they would read a
//! wall box, and the platform is the one that `serve` runs.

mod drivers;
mod people;
mod street;

pub(crate) use street::random_password;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use domain::time::{Interval, Timestamp};
use runtime::clock::{Clock, ClockFile};
use runtime::mqtt::MqttOptions;
use runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use simulator::journal::Journal;
use simulator::scenario::Scenario;
use simulator::street::{BrokerAccess, DeviceEndpoint, Endpoint, Street};
use simulator::world::World;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::broker::{self, Meeting};
use crate::cli::{say, stop_signal};
use crate::platform;
use crate::site::{DataDir, write_private};
use crate::web::{self, Web};

/// How long a part may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a person may choose.
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) mqtt_port: u16,
    pub(crate) speed: u32,
    pub(crate) seed: u64,
    pub(crate) data_dir: PathBuf,
    pub(crate) database: Option<String>,
    /// Whether the cars at the public charger open sessions.
    pub(crate) drivers: bool,
}

/// What was chosen when a data folder was first used, and stays.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Origin {
    seed: u64,
    start: String,
    real_time: bool,
}

/// Runs the demo until Ctrl-C. What can be refused is tried before anything is written.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let stop = stop_signal();
    let listener = listen(options.port).await?;
    let page = listener.local_addr()?;
    let at = (Ipv4Addr::LOCALHOST, options.mqtt_port).into();
    let (broker, users) = broker::bind_plainly(at).await?;
    let broker_at = broker.local_addr();
    let named = platform::named_database(options.database.as_deref()).await?;
    let (data, _lock) = DataDir::take(&options.data_dir)?;
    let mut scenario = Scenario::street_10()?;
    scenario.site.start = origin(&data, &options, scenario.site.start)?;
    let (clock, keeper) = open_clock(&data, &options, scenario.site.start)?;
    say("street", &street_words(&scenario, options.seed));
    say("clock", &clock_words(&clock));
    let members = street::members(&scenario, &data)?;
    let site = street::site(&scenario, &members, broker_at, page)?;
    std::fs::write(data.join("network.json"), street::NETWORK)
        .context("cannot write network.json")?;
    std::fs::write(data.join("site.toml"), site.to_toml()?).context("cannot write site.toml")?;
    street::admit_meters(&users, &members)?;

    let mut tasks = Tasks::new();
    if let Some(keeper) = keeper {
        tasks.start("clock", STOP_LIMIT, |stop| keeper.keep(stop));
    }
    say("broker", &format!("mqtt://{broker_at}"));
    let link = broker::start(&mut tasks, Meeting::Own(broker, users), &site)?;
    let mut world = World::new(&scenario, options.seed);
    let (journal, told) = Journal::open(&data.join("told.jsonl"))?;
    world.replay(told);
    let street = (world, journal);
    let devices = start_devices(&mut tasks, street, &clock, broker_at, &members).await?;
    let db = platform::database_or_file(named, &data).await?;
    let platform = platform::open(site.clone(), &data, db.clone(), clock.clone()).await?;
    let cars = drivers::cars(&scenario, &options);
    let shared = Arc::clone(&platform.shared);
    start_platform(&mut tasks, platform, listener, link);
    for gateway in &members.gateways {
        let own: Vec<_> = devices.iter().filter(|d| d.home == gateway.home).collect();
        let config = street::gateway_config(gateway, &own, &site, broker_at, &data)?;
        let clock = clock.clone();
        tasks.start("gateway", STOP_LIMIT, |stop| {
            meter_gateway::run(config, clock, stop)
        });
    }
    tasks.start("drivers", STOP_LIMIT, |stop| {
        drivers::drive(shared, cars, stop)
    });
    say(
        "gateways",
        &format!("{}, each with a key of its own", members.gateways.len()),
    );
    for (who, link) in people::links(&db, &site).await? {
        // Browsers take passkeys for a name only, and for this one without TLS.
        let port = page.port();
        say(
            "sign in",
            &format!("{who:<10} http://localhost:{port}/sign-in/{link}"),
        );
    }
    say("page", &format!("http://{page}/   (Ctrl-C stops)"));
    tasks.run_until(stop).await?;
    say(
        "stopped",
        "everything that was accepted is in the books; start again to go on",
    );
    Ok(())
}

/// The street's devices; they answer until the tasks that were started after them have stopped.
async fn start_devices(
    tasks: &mut Tasks,
    (world, journal): (World, Journal),
    clock: &Clock,
    broker: SocketAddr,
    members: &street::Members,
) -> anyhow::Result<Vec<DeviceEndpoint>> {
    let access = BrokerAccess {
        host: broker.ip().to_string(),
        port: broker.port(),
        user: street::METERS_USER.to_owned(),
        password: members.meters_password.clone(),
    };
    let stop_devices = CancellationToken::new();
    // Where the start fails half-way, what has started stops too.
    let guard = stop_devices.clone().drop_guard();
    let world = Arc::new(Mutex::new(world));
    let starting = Street::start(world, clock.clone(), access, Some(journal), stop_devices);
    let street = starting.await?;
    tasks.start("devices", STOP_LIMIT, |stop| async move {
        stop.cancelled().await;
        drop(guard);
        Ok::<_, Infallible>(())
    });
    say("devices", &device_words(&street.devices));
    Ok(street.devices)
}

/// The platform's own tasks: the core, its end of MQTT, and the web side.
pub(crate) fn start_platform(
    tasks: &mut Tasks,
    platform: platform::Platform,
    listener: TcpListener,
    link: MqttOptions,
) {
    say(
        "platform",
        &format!("books in {}", platform.shared.db.target()),
    );
    let platform::Platform {
        shared,
        commands,
        street,
        mut core,
        forwards,
    } = platform;
    let (tell, told) = platform::told_queue();
    core.tell(tell);
    tasks.start("core", STOP_LIMIT, |stop| core.run(stop));
    let (state, inbox) = (Arc::clone(&shared), commands.clone());
    tasks.start("ingest", STOP_LIMIT, |stop| {
        platform::ingest(state, link, inbox, (told, forwards), stop)
    });
    let asking = Arc::clone(&shared);
    tasks.start("witnesses", STOP_LIMIT, |stop| {
        platform::witnesses::run(asking, stop)
    });
    let looking = Arc::clone(&shared);
    tasks.start("evidence", STOP_LIMIT, |stop| {
        platform::found::run(looking, stop)
    });
    tasks.start("web", STOP_LIMIT, |stop| async move {
        web::serve(listener, Web::new(shared, commands, street, stop)?).await
    });
}

/// Opens the page's port before anything else, so that a second demo says so at once.
pub(crate) async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "port {port} on 127.0.0.1 is in use: stop what uses it, or choose another with --port"
            )
        }
        Err(e) => {
            bail!("port {port} on 127.0.0.1 cannot be opened: {e}; choose another with --port")
        }
    }
}

/// The start of the street's time: what the data folder was made with, or, at first, what is chosen now.
fn origin(data: &DataDir, options: &Options, model_start: Timestamp) -> anyhow::Result<Timestamp> {
    let file = data.street_file();
    let real_time = options.speed == 1;
    if !file.exists() {
        let now =
            Interval::containing(Clock::system().now(), domain::time::DEFAULT_INTERVAL_S)?.start();
        let start = if real_time { now } else { model_start };
        let origin = Origin {
            seed: options.seed,
            start: start.to_string(),
            real_time,
        };
        write_private(&file, &(serde_json::to_string_pretty(&origin)? + "\n"))?;
        return Ok(start);
    }
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let known: Origin =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
    if known.seed != options.seed || known.real_time != real_time {
        let pace = if known.real_time {
            "in real time"
        } else {
            "faster than real time"
        };
        bail!(
            "this data folder holds a street of seed {} that runs {pace}: go on with the same --seed and \
             a fitting --speed, or choose another folder with --data-dir",
            known.seed
        );
    }
    Ok(known.start.parse()?)
}

fn open_clock(
    data: &DataDir,
    options: &Options,
    start: Timestamp,
) -> anyhow::Result<(Clock, Option<ClockFile>)> {
    if options.speed == 1 {
        return Ok((Clock::system(), None));
    }
    let (clock, keeper) = ClockFile::open(data.join("clock"), start, options.speed)?;
    Ok((clock, Some(keeper)))
}

fn street_words(scenario: &Scenario, seed: u64) -> String {
    format!(
        "{}, {} homes, seed {seed}",
        scenario.name,
        scenario.homes.len()
    )
}

fn clock_words(clock: &Clock) -> String {
    let every_s = f64::from(domain::time::DEFAULT_INTERVAL_S) / f64::from(clock.speed());
    format!(
        "{}, {}× real time: an interval every {every_s} s",
        clock.now(),
        clock.speed()
    )
}

fn device_words(devices: &[DeviceEndpoint]) -> String {
    let modbus = devices
        .iter()
        .filter(|d| matches!(d.address, Endpoint::Modbus { .. }))
        .count();
    format!(
        "{modbus} Modbus TCP servers on loopback, {} meter over MQTT",
        devices.len() - modbus
    )
}
