//! The socket that chargers come to, and one task for each charge point: it owns the connection, so nothing of one
//! charger waits for another.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::ids::Digest32;
use futures_util::{SinkExt, StreamExt};
use runtime::clock::Clock;
use runtime::db::DbError;
use runtime::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;

use super::frame::TEXT_MAX_BYTES;
use super::mail::Scribe;
use super::point::{ANSWER_MS, Moment, NotDone, Out, Point};
use super::store::{SignedText, Store};
use crate::bus::{Answer, Job, Report};
use crate::device::modbus::ModbusError;
use crate::poll::Sample;

/// Shaking hands may take so long.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at the same time; for a further one the oldest of who has most of them ends.
const HANDSHAKES_MAX: usize = 64;
/// Who has the wrong password waits so long for the answer.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_secs(1);
/// Sending one message may take so long.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How often a charge point's task looks at the time.
const TICK: Duration = Duration::from_secs(1);
/// A silent connection is asked for a sign of life every so many ticks, and ends after three without one.
const PING_TICKS: u32 = 30;
const PINGS_MAX: u32 = 3;
/// How long listening rests after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// What is spoken.
const PROTOCOL: &str = "ocpp1.6";

/// A connection's bytes, encrypted or not.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

type Socket = WebSocketStream<Box<dyn Wire>>;

/// What the door knows of a charge point.
#[derive(Debug)]
pub struct Door {
    /// What its password hashes to; none where its certificate is enough.
    pub hash: Option<[u8; 32]>,
    /// Where a connection goes that was let in.
    pub arrivals: mpsc::Sender<Arrival>,
}

/// A connection that was let in.
pub struct Arrival(Socket, SocketAddr);

/// Where chargers come in.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    tls: Option<ServerTls>,
    doors: Arc<BTreeMap<String, Door>>,
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// The address is taken, or none of this computer's.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<ServerTls>,
        doors: BTreeMap<String, Door>,
    ) -> io::Result<Self> {
        Ok(Listener {
            listener: TcpListener::bind(address).await?,
            tls,
            doors: Arc::new(doors),
        })
    }

    /// Where.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Lets chargers in until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut shaking = Shaking::default();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("a charger's connection was not taken: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, doors) = (self.tls.clone(), Arc::clone(&self.doors));
            shaking.make_room(peer);
            let welcoming = tokio::spawn(async move {
                let shaken = timeout(HANDSHAKE_LIMIT, welcome(stream, peer, tls, &doors));
                match shaken.await {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => tracing::info!(%peer, "a charger was not let in: {why}"),
                    Err(_) => tracing::info!(%peer, "a charger was not let in: too slow"),
                }
            });
            shaking.add(peer, welcoming.abort_handle());
        }
    }
}

/// The handshakes under way, oldest first, each with where it comes from. Whoever opens many connections and says
/// nothing keeps nobody out but itself.
#[derive(Default)]
struct Shaking(VecDeque<(IpAddr, AbortHandle)>);

impl Shaking {
    fn add(&mut self, peer: SocketAddr, handle: AbortHandle) {
        self.0.push_back((network_of(peer), handle));
    }

    /// Ends one where there are as many as there may be.
    fn make_room(&mut self, peer: SocketAddr) {
        self.0.retain(|(_, handle)| !handle.is_finished());
        if self.0.len() < HANDSHAKES_MAX {
            return;
        }
        let networks: Vec<IpAddr> = self.0.iter().map(|(network, _)| *network).collect();
        if let Some((network, handle)) = surplus(&networks).and_then(|at| self.0.remove(at)) {
            handle.abort();
            tracing::info!(%network, %peer, "a handshake was ended to make room for another");
        }
    }
}

/// The oldest one of the network that has most of them.
fn surplus(networks: &[IpAddr]) -> Option<usize> {
    let count = |network: &IpAddr| networks.iter().filter(|other| *other == network).count();
    // Of equals the first counts, so it is looked for from behind.
    let places = networks.iter().enumerate().rev();
    let most = places.max_by_key(|(_, network)| count(network));
    most.map(|(at, _)| at)
}

/// Whose address it is: in IPv6 a household has a whole network of them.
fn network_of(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(own) => Ipv6Addr::from_bits(own.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

/// Shakes hands and brings the connection to its charge point's task.
async fn welcome(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTls>,
    doors: &BTreeMap<String, Door>,
) -> Result<(), String> {
    // Small messages that are waited for.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let (wire, certified): (Box<dyn Wire>, _) = match tls {
        Some(tls) => {
            let (stream, name) = tls.accept(stream).await?;
            (Box::new(stream), name)
        }
        None => (Box::new(stream), None),
    };
    let mut named = None;
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    let decide = |request: &Request, mut response: Response| {
        match admitted(request, doors, certified.as_deref()) {
            Ok(id) => named = Some(id),
            Err(refused) => {
                let mut answer = ErrorResponse::new(Some(refused.1.to_owned()));
                *answer.status_mut() = refused.0;
                return Err(answer);
            }
        }
        let protocol = HeaderValue::from_static(PROTOCOL);
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(TEXT_MAX_BYTES))
        .max_frame_size(Some(TEXT_MAX_BYTES));
    let shaken = tokio_tungstenite::accept_hdr_async_with_config(wire, decide, Some(config)).await;
    let socket = match shaken {
        Ok(socket) => socket,
        Err(error) => {
            sleep(WRONG_PASSWORD_PAUSE).await;
            return Err(error.to_string());
        }
    };
    let door = named.and_then(|id| doors.get(&id));
    let door = door.ok_or_else(|| "it has no name".to_owned())?;
    let arrival = Arrival(socket, peer);
    let came = door.arrivals.try_send(arrival);
    came.map_err(|_| "its connections come too quickly".to_owned())
}

/// The charge point that a request is from; or what it is answered. A certificate is for one charge point only; a
/// password is asked for where there is one.
fn admitted(
    request: &Request,
    doors: &BTreeMap<String, Door>,
    certified: Option<&str>,
) -> Result<String, (StatusCode, &'static str)> {
    let headers = request.headers();
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut protocols = protocols
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let unauthorised = (StatusCode::UNAUTHORIZED, "wrong charge point or password");
    let id = request.uri().path().strip_prefix("/ocpp/");
    let id = id.ok_or((
        StatusCode::NOT_FOUND,
        "a charger's address ends with /ocpp/NAME",
    ))?;
    let password = headers.get(header::AUTHORIZATION);
    let password = password.and_then(|value| password_of(value, id));
    // Who is not known is answered as one whose password is wrong.
    let door = doors.get(id).ok_or(unauthorised)?;
    let is_right = |hash| password.is_some_and(|password| Digest32::of(&password).0 == hash);
    let is_known = match (certified, door.hash) {
        (Some(name), None) => name == id,
        (Some(name), Some(hash)) => name == id && is_right(hash),
        (None, Some(hash)) => is_right(hash),
        (None, None) => false,
    };
    if !is_known {
        return Err(unauthorised);
    }
    if !protocols.any(|name| name.trim() == PROTOCOL) {
        return Err((StatusCode::BAD_REQUEST, "the subprotocol is ocpp1.6"));
    }
    Ok(id.to_owned())
}

/// The password in a header of basic authentication for `user`.
fn password_of(value: &HeaderValue, user: &str) -> Option<Vec<u8>> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(text.trim()).ok()?;
    let rest = pair.strip_prefix(user.as_bytes())?.strip_prefix(b":")?;
    Some(rest.to_vec())
}

/// A question of an operator to a charger.
#[derive(Debug)]
pub struct Question {
    /// The standard's name of the call.
    pub action: &'static str,
    /// Its payload.
    pub payload: serde_json::Value,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<serde_json::Value, String>>,
}

/// What a charge point's task works with.
pub struct Seat {
    /// Its name.
    pub id: String,
    /// Its rules.
    pub point: Point,
    /// Its connections.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Jobs for its connectors.
    pub jobs: mpsc::Receiver<Job>,
    /// Questions of operators.
    pub questions: mpsc::Receiver<Question>,
    /// Where samples go.
    pub reports: mpsc::Sender<Report>,
    /// The time.
    pub clock: Clock,
    /// What is kept.
    pub store: Store,
    /// What its meters sign, on its way to the platform.
    pub scribe: Scribe,
}

/// What waits for the charger's answer.
#[derive(Default)]
struct Waiting {
    next: u64,
    jobs: BTreeMap<u64, oneshot::Sender<Answer>>,
    questions: BTreeMap<u64, oneshot::Sender<Result<serde_json::Value, String>>>,
}

/// What comes from the socket.
enum Heard {
    Text(String),
    Alive,
    Gone(String),
}

async fn next(socket: &mut Option<Socket>) -> Heard {
    let Some(open) = socket else {
        return std::future::pending().await;
    };
    match open.next().await {
        Some(Ok(Message::Text(text))) => Heard::Text(text.as_str().to_owned()),
        Some(Ok(Message::Close(_))) | None => Heard::Gone("it has hung up".to_owned()),
        Some(Ok(_)) => Heard::Alive,
        Some(Err(error)) => Heard::Gone(error.to_string()),
    }
}

impl Seat {
    /// Works until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut socket: Option<Socket> = None;
        let mut waiting = Waiting::default();
        let (mut quiet_ticks, mut pings) = (0, 0);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let out = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(Arrival(new, peer)) = self.arrivals.recv() => {
                    tracing::info!(charger = self.id, %peer, "a charger has come");
                    (quiet_ticks, pings) = (0, 0);
                    // One that comes again has lost the connection before.
                    socket = Some(new);
                    self.point.connected(self.moment())
                }
                heard = next(&mut socket) => {
                    (quiet_ticks, pings) = (0, 0);
                    match heard {
                        Heard::Text(text) => self.point.hear(self.moment(), &text),
                        Heard::Alive => continue,
                        Heard::Gone(why) => {
                            tracing::info!(charger = self.id, "a charger has gone: {why}");
                            socket = None;
                            self.point.lost()
                        }
                    }
                }
                Some(job) = self.jobs.recv() => self.work(job, &mut waiting),
                Some(question) = self.questions.recv() => self.ask(question, &mut waiting),
                _ = ticks.tick() => {
                    quiet_ticks += 1;
                    if socket.is_some() && quiet_ticks >= PING_TICKS {
                        (quiet_ticks, pings) = (0, pings + 1);
                        if pings > PINGS_MAX || !sent(&mut socket, Message::Ping(Bytes::new())).await {
                            tracing::info!(charger = self.id, "a charger is silent: hung up");
                            socket = None;
                            let out = self.point.lost();
                            self.carry_out(out, &mut socket, &mut waiting).await;
                            continue;
                        }
                    }
                    self.point.tick(self.moment())
                }
            };
            self.carry_out(out, &mut socket, &mut waiting).await;
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            steady: self.clock.steady(),
        }
    }

    fn work(&mut self, job: Job, waiting: &mut Waiting) -> Vec<Out> {
        waiting.next += 1;
        waiting.jobs.insert(waiting.next, job.answer);
        let moment = self.moment();
        self.point.work(moment, waiting.next, job.device, job.steps)
    }

    fn ask(&mut self, question: Question, waiting: &mut Waiting) -> Vec<Out> {
        waiting.next += 1;
        waiting.questions.insert(waiting.next, question.answer);
        let moment = self.moment();
        self.point
            .tell(moment, waiting.next, question.action, question.payload)
    }

    /// Does what the rules want, in order; what cannot be kept is not answered, so the charger says it again.
    async fn carry_out(
        &mut self,
        out: Vec<Out>,
        socket: &mut Option<Socket>,
        waiting: &mut Waiting,
    ) {
        let mut todo: VecDeque<Out> = out.into();
        while let Some(one) = todo.pop_front() {
            let failed = match one {
                Out::Send(text) => {
                    let is_lost = socket.is_some() && !sent(socket, Message::text(text)).await;
                    is_lost.then_some("it takes no messages")
                }
                Out::HangUp(why) => Some(why),
                Out::Keep(transaction) => match self.store.keep(&self.id, &transaction).await {
                    Ok(()) => {
                        self.point.kept(transaction.id);
                        None
                    }
                    Err(error) => {
                        tracing::error!(charger = self.id, "a transaction was not kept: {error}");
                        Some("its transaction could not be kept")
                    }
                },
                Out::KeepSigned(device, transaction, text, refused) => {
                    let signed = SignedText {
                        transaction,
                        text,
                        refused,
                    };
                    match self.keep_signed(device, &signed).await {
                        Ok(()) => None,
                        Err(error) => {
                            tracing::error!(
                                charger = self.id,
                                "a signed value was not kept: {error}"
                            );
                            Some("what its meter has signed could not be kept")
                        }
                    }
                }
                other => {
                    self.pass_on(other, waiting).await;
                    None
                }
            };
            if let Some(why) = failed {
                tracing::warn!(charger = self.id, "hung up on a charger: {why}");
                *socket = None;
                // What was to be sent goes nowhere; who waits is told.
                todo.retain(|one| !matches!(one, Out::Send(_) | Out::Keep(_) | Out::HangUp(_)));
                todo.extend(self.point.lost());
            }
        }
    }

    async fn pass_on(&self, one: Out, waiting: &mut Waiting) {
        match one {
            Out::Sample(device, values, identity) => {
                let sample = Sample {
                    read_at: self.clock.now(),
                    values: *values,
                    identity,
                };
                let report = Report::new(device, Ok(sample), &self.clock);
                // The recorder is gone only at the end.
                let _ = self.reports.send(report).await;
            }
            Out::Failed(device, kind) => {
                let report = Report::new(device, Err(kind), &self.clock);
                let _ = self.reports.send(report).await;
            }
            Out::Done(number, done) => {
                let answer = done.map_err(|why| match why {
                    NotDone::Silent => ModbusError::Timeout(ANSWER_MS.unsigned_abs()),
                    NotDone::Refused => ModbusError::Exception(4),
                    NotDone::NoPlace => ModbusError::NoLine,
                });
                if let Some(waits) = waiting.jobs.remove(&number) {
                    let _ = waits.send(answer);
                }
            }
            Out::Told(number, answer) => {
                if let Some(waits) = waiting.questions.remove(&number) {
                    let _ = waits.send(answer);
                }
            }
            Out::Send(_) | Out::HangUp(_) | Out::Keep(_) | Out::KeepSigned(..) => {}
        }
    }

    /// Keeps what a meter has signed, here and on its way to the platform.
    async fn keep_signed(
        &mut self,
        device: Option<usize>,
        signed: &SignedText,
    ) -> Result<(), DbError> {
        if let Some(why) = &signed.refused {
            tracing::warn!(charger = self.id, "a signed value is not believed: {why}");
        }
        let now = self.clock.now();
        if let Some(device) = device {
            let (number, text) = (signed.transaction, &signed.text);
            let lost = self.scribe.write(device, now, number, text).await?;
            for _ in 0..lost {
                let report = Report::new(device, Err("charger_record_lost"), &self.clock);
                let _ = self.reports.send(report).await;
            }
        }
        self.store
            .keep_signed(&self.id, now.unix_ms(), signed)
            .await
    }
}

/// Whether it was sent in time.
async fn sent(socket: &mut Option<Socket>, message: Message) -> bool {
    match socket {
        Some(open) => matches!(timeout(SEND_LIMIT, open.send(message)).await, Ok(Ok(()))),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_the_oldest_of_who_has_most() {
        let at = |text: &str| network_of(text.parse().unwrap());
        let [alone, many, also] = [at("192.0.2.1:1"), at("192.0.2.2:1"), at("[2001:db8::1]:1")];
        assert_eq!(surplus(&[]), None);
        assert_eq!(surplus(&[alone, many, also, many]), Some(1));
        assert_eq!(surplus(&[many, alone, many, alone]), Some(0));
        let neighbours = at("[2001:db8::ffff:1]:9");
        assert_eq!(surplus(&[alone, many, also, neighbours]), Some(2));
        assert_eq!(at("[::ffff:192.0.2.1]:5"), alone);
    }
}
