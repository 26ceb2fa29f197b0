//! The first packet of a connection: who it is, and whether it may stay.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::counters::Counters;
use super::hub::{Joined, SessionKey};
use super::policy::Identity;
use super::wire::write::{Welcome, refuse, welcome};
use super::wire::{Connect, Version, WireError, read_connect, take_frame};
use super::{Peer, Shared};

/// How long the old connection of a taken-over client id has to end.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);

/// A client that was let in.
pub(super) struct Client {
    pub id: String,
    pub key: SessionKey,
    pub connect: Connect,
    pub identity: Identity,
    pub joined: Joined,
    /// `None`: the client may be silent for as long as it likes.
    pub silence_limit: Option<Duration>,
    /// The CONNACK, not yet sent.
    pub out: BytesMut,
}

/// Lets a client in, or answers why not and returns `None`.
pub(super) async fn login<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    peer: &Peer,
    shared: &Arc<Shared>,
) -> Option<Client> {
    let limit = Duration::from_millis(shared.limits.connect_within_ms);
    let (version, code) = match timeout(limit, first_packet(stream, input, shared)).await {
        Ok(Ok(connect)) => match admit(connect, peer, shared).await {
            Ok(client) => return Some(client),
            Err(refusal) => refusal,
        },
        Ok(Err(WireError::Version(level))) => {
            let version = if level > 5 { Version::V5 } else { Version::V4 };
            (version, ConnectReturnCode::UnsupportedProtocolVersion)
        }
        Ok(Err(WireError::Qos2)) => (Version::V5, ConnectReturnCode::QoSNotSupported),
        Ok(Err(error)) => {
            // Not MQTT, or not enough of it to answer.
            tracing::debug!(peer = %peer.address, %error, "no login");
            Counters::add(&shared.counters.refused_connections, 1);
            return None;
        }
        Err(_) => return None,
    };
    Counters::add(&shared.counters.refused_connections, 1);
    tracing::info!(peer = %peer.address, ?code, "connection refused");
    let mut out = BytesMut::new();
    refuse(version, code, &mut out);
    let _ = timeout(limit, async {
        let _ = stream.write_all_buf(&mut out).await;
        let _ = stream.shutdown().await;
    })
    .await;
    None
}

async fn first_packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    shared: &Shared,
) -> Result<Connect, WireError> {
    loop {
        if let Some(frame) = take_frame(input, shared.limits.max_packet_bytes)? {
            return read_connect(frame, Instant::now());
        }
        match stream.read_buf(input).await {
            Ok(0) | Err(_) => return Err(WireError::Protocol("closed before CONNECT")),
            Ok(_) => {}
        }
    }
}

async fn admit(
    connect: Connect,
    peer: &Peer,
    shared: &Arc<Shared>,
) -> Result<Client, (Version, ConnectReturnCode)> {
    let version = connect.version;
    let no = |code| (version, code);
    let user = connect.user.as_deref().or(peer.certified.as_deref());
    if shared.gate.is_shut(peer.address, user, Instant::now()) {
        return Err(no(ConnectReturnCode::ConnectionRateExceeded));
    }
    if connect.auth_method {
        return Err(no(ConnectReturnCode::BadAuthenticationMethod));
    }
    let nameless = connect.client_id.is_empty();
    if connect.client_id.contains('\0') || (nameless && version == Version::V4 && !connect.clean) {
        return Err(no(ConnectReturnCode::ClientIdentifierNotValid));
    }
    let Some(identity) = identify(&connect, peer, shared) else {
        shared.gate.failed(peer.address, user, Instant::now());
        return Err(no(ConnectReturnCode::BadUserNamePassword));
    };
    let will_topic = connect.will.as_ref().map(|will| will.topic.as_str());
    if will_topic.is_some_and(|topic| !shared.policy.may_publish(&identity, topic)) {
        return Err(no(ConnectReturnCode::NotAuthorized));
    }
    let id = if nameless {
        shared.next_client_id()
    } else {
        connect.client_id.clone()
    };
    let key = SessionKey::new(&identity, &id);
    let joined = join(&key, shared).await.map_err(no)?;
    let (silence_limit, changed_s) = keep_alive(&connect, shared.limits.max_keep_alive_s);
    let mut out = BytesMut::new();
    let max_packet_bytes = u32::try_from(shared.limits.max_packet_bytes).unwrap_or(u32::MAX);
    let greeting = Welcome {
        assigned_id: nameless.then(|| id.clone()),
        keep_alive_s: changed_s,
        receive_maximum: shared.limits.receive_maximum.max(1),
        max_packet_bytes,
    };
    welcome(version, greeting, &mut out);
    Ok(Client {
        id,
        key,
        connect,
        identity,
        joined,
        silence_limit,
        out,
    })
}

/// Who it is: by its certificate where it has one, else by its password.
fn identify(connect: &Connect, peer: &Peer, shared: &Shared) -> Option<Identity> {
    let user = connect.user.as_deref();
    match &peer.certified {
        // Another name than that of the certificate is a mistake, not a second identity.
        Some(name) if user.is_some_and(|user| user != name) => None,
        Some(name) => shared.policy.certified(name),
        None => {
            let password = connect.password.as_deref().map(str::as_bytes);
            shared
                .policy
                .authenticate(&connect.client_id, user, password)
        }
    }
}

/// How long the client may be silent (1.5 times its keep-alive), and the keep-alive that an MQTT 5
/// client is told to use instead of its own. A 3.1.1 client cannot be told.
fn keep_alive(connect: &Connect, max_s: u16) -> (Option<Duration>, Option<u16>) {
    let wanted_s = connect.keep_alive_s;
    let too_long = wanted_s == 0 || wanted_s > max_s;
    let changed_s = (connect.version == Version::V5 && too_long).then_some(max_s);
    let used_s = changed_s.unwrap_or(wanted_s);
    let limit = Duration::from_millis(u64::from(used_s) * 1500);
    ((used_s > 0).then_some(limit), changed_s)
}

async fn join(key: &SessionKey, shared: &Shared) -> Result<Joined, ConnectReturnCode> {
    let deadline = Instant::now() + TAKEOVER_LIMIT;
    loop {
        match shared.hub.join(key, shared.limits.queue_messages) {
            Ok(joined) => return Ok(joined),
            Err(gone) => {
                Counters::add(&shared.counters.takeovers, 1);
                if tokio::time::timeout_at(deadline, gone.cancelled())
                    .await
                    .is_err()
                {
                    return Err(ConnectReturnCode::ServerBusy);
                }
            }
        }
    }
}
