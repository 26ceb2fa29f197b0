//! From an address to a connection that the broker has welcomed.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, ConnectReturnCode, LastWill, Login, Packet,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{IN_FLIGHT_MAX, MqttOptions, SHORTEST_KEEP_ALIVE_S};
use crate::broker::{body, take_frame};

/// How long name, TCP, TLS and MQTT may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// First size of the input buffer.
const INPUT_BYTES: usize = 4096;

/// A connection's bytes, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What the broker said first.
pub(super) struct Welcome {
    /// Bytes that came with it.
    pub(super) input: BytesMut,
    /// Messages that it takes without having acknowledged them.
    pub(super) window: u16,
    /// Largest packet that it takes.
    pub(super) packet_max_bytes: usize,
    /// The longest silence that it allows.
    pub(super) keep_alive_s: u16,
}

/// Connects and logs in; the error is a sentence.
pub(super) async fn connect(options: &MqttOptions) -> Result<(Box<dyn Stream>, Welcome), String> {
    let connecting = async {
        let mut stream = open(options).await?;
        let welcome = log_in(&mut stream, options).await?;
        Ok((stream, welcome))
    };
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(format!(
            "{}:{} gave no answer in {} s",
            options.host,
            options.port,
            CONNECT_LIMIT.as_secs()
        )),
    }
}

async fn open(options: &MqttOptions) -> Result<Box<dyn Stream>, String> {
    let (host, port) = (options.host.as_str(), options.port);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("{host}:{port} cannot be reached: {error}"))?;
    // Without this, small packets wait 40 ms for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay could not be set");
    }
    match &options.tls {
        Some(tls) => Ok(Box::new(tls.connect(stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

async fn log_in(stream: &mut Box<dyn Stream>, options: &MqttOptions) -> Result<Welcome, String> {
    let failed = |error: &std::io::Error| explain(options, error);
    let keep_alive_s = options.keep_alive_s.max(SHORTEST_KEEP_ALIVE_S);
    let mut out = BytesMut::new();
    greeting(options, keep_alive_s)
        .write(&mut out, None)
        .map_err(|error| format!("the CONNECT is malformed: {error}"))?;
    stream
        .write_all(&out)
        .await
        .map_err(|error| failed(&error))?;
    stream.flush().await.map_err(|error| failed(&error))?;
    let mut input = BytesMut::with_capacity(INPUT_BYTES);
    let max_bytes = usize::try_from(options.max_packet_bytes).unwrap_or(usize::MAX);
    let mut frame = loop {
        let frame = take_frame(&mut input, max_bytes).map_err(|error| error.to_string())?;
        if let Some(frame) = frame {
            break frame;
        }
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err("the broker closed the connection before it answered".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(failed(&error)),
        }
    };
    // A broker that only speaks 3.1.1 answers with the two bytes of that protocol.
    if let [_, 1..=5] = body(&frame) {
        return Err("the broker does not speak MQTT 5".to_owned());
    }
    let ack = match Packet::read(&mut frame, None) {
        Ok(Packet::ConnAck(ack)) => ack,
        Ok(_) => return Err("the broker's first packet is not CONNACK".to_owned()),
        Err(error) => return Err(format!("the broker's first packet is malformed: {error}")),
    };
    if ack.code != ConnectReturnCode::Success {
        return Err(refusal(ack.code));
    }
    let properties = ack.properties;
    let told = properties.as_ref();
    let packet_max = told.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX);
    Ok(Welcome {
        input,
        window: told
            .and_then(|p| p.receive_max)
            .unwrap_or(u16::MAX)
            .clamp(1, IN_FLIGHT_MAX),
        packet_max_bytes: usize::try_from(packet_max).unwrap_or(usize::MAX),
        keep_alive_s: told
            .and_then(|p| p.server_keep_alive)
            .unwrap_or(keep_alive_s)
            .max(1),
    })
}

fn greeting(options: &MqttOptions, keep_alive_s: u16) -> Packet {
    let properties = ConnectProperties {
        receive_maximum: Some(IN_FLIGHT_MAX),
        max_packet_size: Some(options.max_packet_bytes),
        ..ConnectProperties::new()
    };
    let will = options.last_will.as_ref().map(|will| {
        let (topic, payload) = (will.topic.clone(), will.payload.clone());
        LastWill::new(topic, payload, will.qos.into(), will.retain, None)
    });
    let login = (!options.user.is_empty()).then(|| Login::new(&options.user, &options.password));
    let connect = Connect {
        keep_alive: keep_alive_s,
        client_id: options.client_id.clone(),
        clean_start: true,
        properties: Some(properties),
    };
    Packet::Connect(connect, will, login)
}

fn refusal(code: ConnectReturnCode) -> String {
    let advice = match code {
        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
            "; check user and password, or the client certificate"
        }
        ConnectReturnCode::ConnectionRateExceeded => {
            "; too many logins failed, it opens again in a minute"
        }
        _ => "",
    };
    format!("the broker refused the connection: {code:?}{advice}")
}

/// What a failed read or write means.
pub(super) fn explain(options: &MqttOptions, error: &std::io::Error) -> String {
    match &options.tls {
        Some(tls) => tls.explain(error),
        None => error.to_string(),
    }
}
