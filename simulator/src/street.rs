//! Brings a world's devices onto their wires: a Modbus server each on the loopback interface, and the
//! Shelly meters on MQTT.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use domain::ids::ParticipantId;
use runtime::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::devices::ModbusDevice;
use crate::devices::server::{self, LiveWorld};
use crate::devices::shelly::Shelly;
use crate::journal::Journal;
use crate::scenario::MeterKind;
use crate::world::World;

pub use crate::devices::server::CONNECTIONS_MAX;

/// First level of the topics of all MQTT meters: the user in [`BrokerAccess`] must be allowed to
/// publish to `shelly/#`.
pub const MQTT_ROOT: &str = "shelly";

/// The broker that the MQTT meters publish to, and as whom.
#[derive(Clone)]
pub struct BrokerAccess {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name, the same for all meters.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// The street's devices, ready to be read. They stop with the token given to [`Street::start`].
#[derive(Debug)]
pub struct Street {
    /// All devices: those of the homes in the scenario's order, then the feeder's meter.
    pub devices: Vec<DeviceEndpoint>,
}

/// One device and where to reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceEndpoint {
    /// The home it belongs to; `None` for the feeder's meter.
    pub home: Option<ParticipantId>,
    /// What it is called there: `meter`, `inverter`, `battery` or `charger`.
    pub name: &'static str,
    /// Which map and protocol it speaks.
    pub kind: DeviceKind,
    /// Where it is.
    pub address: Endpoint,
}

/// The kinds of devices the street has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    /// SunSpec models 1 and 103.
    SunSpecInverter,
    /// SunSpec models 1 and 203.
    SunSpecMeter,
    /// Eastron SDM630 input registers.
    Sdm630,
    /// SunSpec models 1 and 802.
    SunSpecBattery,
    /// KEBA P30.
    Keba,
    /// Shelly Pro 3EM over MQTT.
    ShellyPro3em,
}

/// Where a device is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Modbus TCP.
    Modbus {
        /// Address and port.
        addr: SocketAddr,
        /// Unit id.
        unit: u8,
    },
    /// Topics under a prefix of the broker.
    Mqtt {
        /// `<prefix>/status/em:0`, `<prefix>/status/emdata:0`, `<prefix>/online`.
        prefix: String,
    },
}

/// Why the street's devices could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StreetError {
    /// No port could be opened.
    #[error("no port on 127.0.0.1 for the {name} of {owner}: {source}")]
    Listen {
        /// The device.
        name: &'static str,
        /// The home's id, or `feeder`.
        owner: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The world could not be brought to the present.
    #[error("the simulated street stopped while it caught up with the clock: {0}")]
    CatchUp(#[from] tokio::task::JoinError),
    /// The world has panicked before.
    #[error("the simulated street broke one of its rules earlier and stands still; start it anew")]
    Broken,
}

impl Street {
    /// Brings the world to the clock's present, opens a port for every Modbus device, and starts to
    /// publish the Shelly meters at the broker. Chargers, batteries and inverters can be told limits where
    /// there is a record of it. All stops with `shutdown`.
    ///
    /// # Errors
    /// A port could not be opened. A broker that is away is no error: the meters keep trying.
    pub async fn start(
        world: Arc<Mutex<World>>,
        clock: Clock,
        broker: BrokerAccess,
        journal: Option<Journal>,
        shutdown: CancellationToken,
    ) -> Result<Street, StreetError> {
        let live = LiveWorld {
            world,
            clock,
            journal: journal.map(|journal| Arc::new(Mutex::new(journal))),
        };
        let first = live.clone();
        // After a restart this can be days of street life: not on a thread that serves others.
        let plan = tokio::task::spawn_blocking(move || first.look(devices_of)).await?;
        let plan = plan.ok_or(StreetError::Broken)?;
        let mut devices = Vec::with_capacity(plan.len());
        for planned in plan {
            let address = match planned.wire {
                Wire::Modbus(device) => {
                    let unit = device.unit();
                    let addr = server::start(device, live.clone(), shutdown.clone())
                        .await
                        .map_err(|source| StreetError::Listen {
                            name: planned.name,
                            owner: planned.owner(),
                            source,
                        })?;
                    Endpoint::Modbus { addr, unit }
                }
                Wire::Mqtt(home) => {
                    let prefix = format!("{MQTT_ROOT}/{}", planned.owner());
                    let shelly = Shelly {
                        home,
                        prefix: prefix.clone(),
                        live: live.clone(),
                    };
                    shelly.start(&broker, shutdown.clone());
                    Endpoint::Mqtt { prefix }
                }
            };
            let Planned {
                home, name, kind, ..
            } = planned;
            devices.push(DeviceEndpoint {
                home,
                name,
                kind,
                address,
            });
        }
        Ok(Street { devices })
    }
}

/// A device before it is on its wire.
struct Planned {
    home: Option<ParticipantId>,
    name: &'static str,
    kind: DeviceKind,
    wire: Wire,
}

/// How a device speaks, and of which home.
enum Wire {
    Modbus(ModbusDevice),
    Mqtt(usize),
}

impl Planned {
    fn owner(&self) -> String {
        self.home
            .as_ref()
            .map_or_else(|| "feeder".to_owned(), ToString::to_string)
    }
}

/// All devices of a world, the feeder's meter last.
fn devices_of(world: &World) -> Vec<Planned> {
    let mut devices = Vec::new();
    for (index, home) in world.homes().enumerate() {
        let mut add = |name, kind, wire| {
            devices.push(Planned {
                home: Some(home.id.clone()),
                name,
                kind,
                wire,
            });
        };
        let (kind, wire) = match home.meter_kind {
            MeterKind::Sdm630 => (
                DeviceKind::Sdm630,
                Wire::Modbus(ModbusDevice::Sdm630(index)),
            ),
            MeterKind::SunSpec203 => (
                DeviceKind::SunSpecMeter,
                Wire::Modbus(ModbusDevice::HomeMeter(index)),
            ),
            MeterKind::ShellyPro3em => (DeviceKind::ShellyPro3em, Wire::Mqtt(index)),
        };
        add("meter", kind, wire);
        if home.pv.is_some() {
            let wire = Wire::Modbus(ModbusDevice::Inverter(index));
            add("inverter", DeviceKind::SunSpecInverter, wire);
        }
        if home.battery.is_some() {
            let wire = Wire::Modbus(ModbusDevice::Battery(index));
            add("battery", DeviceKind::SunSpecBattery, wire);
        }
        if home.charger.is_some() {
            add(
                "charger",
                DeviceKind::Keba,
                Wire::Modbus(ModbusDevice::Keba(index)),
            );
        }
    }
    let wire = Wire::Modbus(ModbusDevice::FeederMeter);
    devices.push(Planned {
        home: None,
        name: "meter",
        kind: DeviceKind::SunSpecMeter,
        wire,
    });
    devices
}
