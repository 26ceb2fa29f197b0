//! What runs the chargers of a gateway: the door, a task for each charge point, and the way for questions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use domain::ids::to_hex;
use runtime::clock::Clock;
use runtime::tls::ServerTls;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::OcppConfig;
use super::counter::Counter;
use super::mail::{Mail, Scribe};
use super::point::Point;
use super::server::{Door, Listener, Question, Seat};
use super::store::Store;
use crate::bus::{Desk, JOBS_MAX, Report};
use crate::config::Config;
use crate::service::GatewayError;
use crate::spool::{Spool, SpoolError};

/// Connections of one charge point that may wait to be taken, and questions.
const WAITING_MAX: usize = 4;

/// The chargers of a gateway, before they are let in.
pub(crate) struct Chargers {
    listener: Listener,
    seats: Vec<(Seat, Vec<usize>, mpsc::Sender<crate::bus::Job>)>,
    questions: BTreeMap<String, mpsc::Sender<Question>>,
}

/// Where chargers come in, and where they are asked.
#[derive(Clone, Debug)]
pub struct Reception {
    address: Option<SocketAddr>,
    questions: BTreeMap<String, mpsc::Sender<Question>>,
}

impl Reception {
    /// Where chargers come in.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Asks a charger, and waits for its answer.
    ///
    /// # Errors
    /// There is none of this name, it is not there, or it refuses.
    pub async fn ask(
        &self,
        charge_point: &str,
        action: &'static str,
        payload: Value,
    ) -> Result<Value, String> {
        let asked = self.questions.get(charge_point);
        let asked = asked.ok_or_else(|| format!("there is no charge point {charge_point}"))?;
        let (answer, told) = oneshot::channel();
        let question = Question {
            action,
            payload,
            answer,
        };
        let sent = asked.try_send(question);
        sent.map_err(|_| "too much is asked already: try again".to_owned())?;
        told.await
            .unwrap_or_else(|_| Err("the gateway stops".to_owned()))
    }
}

impl Chargers {
    /// Listens, and takes up what is known of each charge point; none where the configuration has no `[ocpp]`.
    pub(crate) async fn open(
        config: &Config,
        spool: &Spool,
        clock: &Clock,
        reports: &mpsc::Sender<Report>,
    ) -> Result<Option<Self>, GatewayError> {
        let Some(ocpp) = &config.ocpp else {
            return Ok(None);
        };
        let store = Store::open(spool.db()).await.map_err(SpoolError::from)?;
        let mail = Mail::open(spool.db()).await.map_err(SpoolError::from)?;
        let tls = ocpp.files().map(|files| ServerTls::open(&files));
        let tls = tls.transpose().map_err(GatewayError::OcppTls)?;
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(GatewayError::Random)?;
        let boot = to_hex(&random);
        let (mut doors, mut seats) = (BTreeMap::new(), Vec::new());
        let mut questions = BTreeMap::new();
        for charge_point in &ocpp.charge_points {
            let id = charge_point.id.clone();
            let connectors = connectors(config, &id);
            let known = store.transactions(&id).await.map_err(SpoolError::from)?;
            let rules = charge_point.rules(ocpp);
            let point = |(_, device): &(i64, usize)| {
                Some((*device, config.devices.get(*device)?.point.clone()))
            };
            let scribe = Scribe {
                mail: mail.clone(),
                gateway: config.gateway.clone(),
                points: connectors.iter().filter_map(point).collect(),
                keys: rules.keys.clone(),
            };
            let (arrivals, come) = mpsc::channel(WAITING_MAX);
            let (sender, jobs) = mpsc::channel(JOBS_MAX);
            let (asked, asks) = mpsc::channel(WAITING_MAX);
            let hash = charge_point.hash();
            doors.insert(id.clone(), Door { hash, arrivals });
            questions.insert(id.clone(), asked);
            let seat = Seat {
                point: Point::new(rules, &connectors, known, boot.clone()),
                id,
                arrivals: come,
                jobs,
                questions: asks,
                reports: reports.clone(),
                clock: clock.clone(),
                store: store.clone(),
                scribe,
            };
            let devices = connectors.into_iter().map(|(_, device)| device).collect();
            seats.push((seat, devices, sender));
        }
        Ok(Some(Chargers {
            listener: listen(ocpp, tls, doors).await?,
            seats,
            questions,
        }))
    }

    /// Lets chargers in; the desk brings jobs to them.
    pub(crate) fn start(
        self,
        dir: &Path,
        desk: &mut Desk,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Reception {
        let reception = Reception {
            address: self.listener.local_addr().ok(),
            questions: self.questions,
        };
        if let Some(address) = reception.address {
            tracing::info!(%address, "chargers come in here, at /ocpp/NAME");
        }
        for (seat, devices, jobs) in self.seats {
            for device in devices {
                desk.add(device, jobs.clone());
            }
            tasks.spawn(seat.run(shutdown.clone()));
        }
        tasks.spawn(self.listener.run(shutdown.clone()));
        // Charging is worth more than questions: without a socket it runs all the same.
        match Counter::listen(dir) {
            Ok(counter) => _ = tasks.spawn(counter.serve(reception.clone(), shutdown.clone())),
            Err(error) => tracing::warn!(
                "`commonwatt chargers ask` will not find this gateway: no socket in {}: {error}",
                dir.display()
            ),
        }
        reception
    }
}

async fn listen(
    ocpp: &OcppConfig,
    tls: Option<ServerTls>,
    doors: BTreeMap<String, Door>,
) -> Result<Listener, GatewayError> {
    let bound = Listener::bind(ocpp.listen, tls, doors).await;
    bound.map_err(|source| GatewayError::OcppListen {
        address: ocpp.listen,
        source,
    })
}

/// The connectors of a charge point, each with its device's position.
fn connectors(config: &Config, id: &str) -> Vec<(i64, usize)> {
    let devices = config.devices.iter().enumerate();
    let own = devices.filter(|(_, d)| d.charge_point.as_deref() == Some(id));
    own.map(|(index, d)| (i64::from(d.connector.unwrap_or(1)), index))
        .collect()
}
