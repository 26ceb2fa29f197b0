//! An embedded MQTT broker for one machine or one site: MQTT 5 and 3.1.1 on one port, QoS 0 and 1.
//!
//! What it promises: a PUBACK without an error is sent only after the message was put into the
//! queue of every live subscriber. A subscriber that makes no room in its queue in time is
//! disconnected and counted; nothing is dropped silently (see [`Counters`]).
//!
//! What it does not do: no QoS 2 (MQTT 5 clients are told, 3.1.1 clients that publish with it are
//! disconnected, subscriptions are granted QoS 1), no persistent sessions (a session ends with its
//! connection, and what was queued for it is lost and counted), no resend (a connection that loses
//! bytes is closed by TCP), no topic aliases, no subscription identifiers. At-least-once across a
//! reconnect is the job of the sender's outbox. Retained messages are kept in memory only.
//!
//! Beside its plain listener it can have one for TLS; with client certificates there, the name in the
//! certificate is the user, and no password is asked for.
//!
//! Every message is compared with every subscription: good for hundreds of clients with a few
//! subscriptions each. Beyond that, use a broker made for it.

mod connection;
mod counters;
mod gate;
mod hub;
mod login;
mod place;
mod policy;
mod topic;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::tls::ServerTls;
pub use counters::Counters;
pub use policy::{Access, AccessError, AccessList, Identity, Policy};
pub(crate) use wire::{body, take_frame};

/// How long to wait when no connection can be accepted, e.g. because files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The written limits of a broker, and what happens at each.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; a further one is closed at once.
    pub max_connections: usize,
    /// Size of a packet from a client; a larger one ends the connection.
    pub max_packet_bytes: usize,
    /// Messages queued per client. When full, QoS 0 is dropped, QoS 1 makes the publisher wait.
    pub queue_messages: usize,
    /// How long a publisher waits for a full queue; then the subscriber is disconnected.
    pub stuck_after_ms: u64,
    /// Messages sent to a client and not acknowledged; further ones wait in its queue.
    pub max_in_flight: u16,
    /// Unacknowledged messages from a client. An MQTT 5 client that sends more is disconnected, a
    /// 3.1.1 client is not read from until there is room.
    pub receive_maximum: u16,
    /// Subscriptions per client; a further one is refused with "quota exceeded".
    pub max_subscriptions: usize,
    /// Retained messages; a further one is refused with "quota exceeded".
    pub max_retained: usize,
    /// Bytes of all retained payloads; likewise.
    pub max_retained_bytes: usize,
    /// Longest keep-alive. MQTT 5 clients that ask for more, or for none, are told to use this.
    pub max_keep_alive_s: u16,
    /// How long a new connection may take to log in; then it is closed.
    pub connect_within_ms: u64,
    /// How long a client may take to read what it is sent; then the connection is closed.
    pub write_within_ms: u64,
    /// Failed logins per address and user name in a minute; then all logins of that user from that
    /// address are refused for the rest of it.
    pub failed_logins_per_minute: u32,
    /// Failed logins per address in a minute, whatever the user names; then all logins from that
    /// address are refused for the rest of it. Services on one machine share an address: keep this
    /// much larger than the limit per user.
    pub failed_logins_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 512,
            max_packet_bytes: 256 * 1024,
            queue_messages: 1024,
            stuck_after_ms: 10_000,
            max_in_flight: 128,
            receive_maximum: 256,
            max_subscriptions: 64,
            max_retained: 1024,
            max_retained_bytes: 16 * 1024 * 1024,
            max_keep_alive_s: 1200,
            connect_within_ms: 5_000,
            write_within_ms: 10_000,
            failed_logins_per_minute: 20,
            failed_logins_per_address: 400,
        }
    }
}

/// What all connections share.
struct Shared {
    hub: hub::Hub,
    policy: Arc<dyn Policy>,
    limits: Limits,
    counters: Arc<Counters>,
    gate: gate::LoginGate,
    nameless: AtomicU64,
}

impl Shared {
    fn new(policy: Arc<dyn Policy>, limits: Limits) -> Self {
        let counters = Arc::new(Counters::default());
        Shared {
            hub: hub::Hub::new(&limits, Arc::clone(&counters)),
            policy,
            gate: gate::LoginGate::new(&limits),
            limits,
            counters,
            nameless: AtomicU64::new(0),
        }
    }

    /// An id for a client that brings none.
    fn next_client_id(&self) -> String {
        format!(
            "$nameless-{}",
            self.nameless.fetch_add(1, Ordering::Relaxed)
        )
    }
}

/// A broker that is bound to its address and not yet running.
pub struct Broker {
    listener: TcpListener,
    local_addr: SocketAddr,
    secure: Option<(TcpListener, ServerTls)>,
    shared: Arc<Shared>,
}

impl Broker {
    /// Binds to `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken or not of this machine.
    pub async fn bind(
        addr: SocketAddr,
        policy: Arc<dyn Policy>,
        limits: Limits,
    ) -> Result<Broker, BrokerError> {
        let (listener, local_addr) = listen(addr).await?;
        Ok(Broker {
            listener,
            local_addr,
            secure: None,
            shared: Arc::new(Shared::new(policy, limits)),
        })
    }

    /// Binds to a second address, where clients must speak TLS; returns where they reach it.
    ///
    /// # Errors
    /// The address is taken or not of this machine.
    pub async fn bind_tls(
        &mut self,
        addr: SocketAddr,
        tls: ServerTls,
    ) -> Result<SocketAddr, BrokerError> {
        let (listener, local_addr) = listen(addr).await?;
        self.secure = Some((listener, tls));
        Ok(local_addr)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its counters, which go on counting while it runs.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Serves clients until `shutdown`, then tells them so and returns when all have gone.
    pub async fn run(self, shutdown: CancellationToken) {
        tracing::info!(addr = %self.local_addr, "the broker accepts connections");
        let mut connections = JoinSet::new();
        loop {
            let (accepted, tls) = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection ended in a panic");
                    }
                    continue;
                }
                accepted = self.listener.accept() => (accepted, None),
                (accepted, tls) = accept(&self.secure) => (accepted, Some(tls)),
            };
            match accepted {
                Ok((stream, peer)) if connections.len() < self.shared.limits.max_connections => {
                    let shared = Arc::clone(&self.shared);
                    connections.spawn(serve(stream, peer, tls, shared, shutdown.child_token()));
                }
                Ok((_, peer)) => {
                    Counters::add(&self.shared.counters.refused_connections, 1);
                    tracing::warn!(%peer, "closed: the limit of connections is reached");
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((self.listener, self.secure));
        while connections.join_next().await.is_some() {}
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    let refuse = |source| BrokerError::Bind { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(refuse)?;
    let local_addr = listener.local_addr().map_err(refuse)?;
    Ok((listener, local_addr))
}

type Accepted = std::io::Result<(TcpStream, SocketAddr)>;

/// A connection to the TLS listener; never one where there is none.
async fn accept(secure: &Option<(TcpListener, ServerTls)>) -> (Accepted, ServerTls) {
    match secure {
        Some((listener, tls)) => (listener.accept().await, tls.clone()),
        None => std::future::pending().await,
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<ServerTls>,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    // Without this, small packets wait 40 ms for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "nodelay could not be set");
    }
    let Some(tls) = tls else {
        let client = Peer::plain(peer.ip());
        return connection::serve(stream, client, shared, shutdown).await;
    };
    let limit = Duration::from_millis(shared.limits.connect_within_ms);
    let shaken = tokio::select! {
        shaken = timeout(limit, tls.accept(stream)) => shaken,
        () = shutdown.cancelled() => return,
    };
    let refused = match shaken {
        Ok(Ok((stream, certified))) => {
            let client = Peer {
                address: peer.ip(),
                certified,
            };
            return connection::serve(stream, client, shared, shutdown).await;
        }
        Ok(Err(reason)) => reason,
        Err(_) => "no handshake in time".to_owned(),
    };
    Counters::add(&shared.counters.refused_tls, 1);
    tracing::info!(%peer, reason = refused, "no TLS connection");
}

/// Where a connection comes from.
struct Peer {
    address: IpAddr,
    /// The name in its certificate, where it has brought one.
    certified: Option<String>,
}

impl Peer {
    fn plain(address: IpAddr) -> Self {
        Peer {
            address,
            certified: None,
        }
    }
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be used.
    #[error(
        "the MQTT broker cannot listen on {addr}: {source}; choose another port, or stop the \
         program that uses it"
    )]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}
