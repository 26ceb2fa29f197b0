//! Packets of MQTT 5 and 3.1.1 as one internal model. The frame is cut here, so that a length that
//! lies can never make the codec wait or read past its packet.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    self, DisconnectReasonCode, PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use tokio::time::Instant;

mod convert;
pub(super) mod write;

use convert::{connect_v4, connect_v5, read_v4, read_v5};

/// The protocol a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    V4,
    V5,
}

/// A message on its way through the broker.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub at_least_once: bool,
    pub retain: bool,
    pub properties: Option<PublishProperties>,
    pub received: Instant,
}

pub(super) struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub will: Option<Message>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub receive_maximum: u16,
    pub max_packet_bytes: usize,
    pub auth_method: bool,
}

/// One asked-for subscription.
#[derive(Debug)]
pub(super) struct Filter {
    pub path: String,
    pub at_least_once: bool,
    pub no_local: bool,
    pub keep_retain_flag: bool,
    pub retained: RetainForwardRule,
}

#[derive(Debug)]
pub(super) enum Incoming {
    /// `id` is 0 for QoS 0.
    Publish {
        id: u16,
        message: Message,
    },
    PubAck(u16),
    /// `numbered`: the client asked for subscription identifiers, which are not supported.
    Subscribe {
        id: u16,
        filters: Vec<Filter>,
        numbered: bool,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        with_will: bool,
    },
}

/// Why a connection must end: the client broke the protocol or went over a limit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("malformed packet: {0}")]
    Malformed(String),
    #[error("a packet that is not allowed here: {0}")]
    Protocol(&'static str),
    #[error("a packet of {0} bytes is over the limit")]
    TooLarge(usize),
    #[error("QoS 2 is not supported")]
    Qos2,
    #[error("topic aliases are not supported")]
    TopicAlias,
    #[error("an invalid topic name")]
    TopicName,
    #[error("protocol level {0} is not supported")]
    Version(u8),
}

impl WireError {
    pub(super) fn reason(&self) -> DisconnectReasonCode {
        match self {
            WireError::Malformed(_) => DisconnectReasonCode::MalformedPacket,
            WireError::Protocol(_) | WireError::Version(_) => DisconnectReasonCode::ProtocolError,
            WireError::TooLarge(_) => DisconnectReasonCode::PacketTooLarge,
            WireError::Qos2 => DisconnectReasonCode::QoSNotSupported,
            WireError::TopicAlias => DisconnectReasonCode::TopicAliasInvalid,
            WireError::TopicName => DisconnectReasonCode::TopicNameInvalid,
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> WireError {
    WireError::Malformed(error.to_string())
}

/// Cuts the next whole packet off the front of `buffer`; `None` until it has all arrived.
pub(crate) fn take_frame(
    buffer: &mut BytesMut,
    max_bytes: usize,
) -> Result<Option<BytesMut>, WireError> {
    let mut body_bytes = 0;
    for (index, shift) in [0, 7, 14, 21].into_iter().enumerate() {
        let Some(&byte) = buffer.get(1 + index) else {
            return Ok(None);
        };
        body_bytes |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let frame_bytes = 2 + index + body_bytes;
            if frame_bytes > max_bytes {
                return Err(WireError::TooLarge(frame_bytes));
            }
            return Ok((buffer.len() >= frame_bytes).then(|| buffer.split_to(frame_bytes)));
        }
    }
    Err(WireError::Malformed(
        "a length of more than four bytes".to_owned(),
    ))
}

/// What follows the fixed header of a whole frame.
pub(crate) fn body(frame: &[u8]) -> &[u8] {
    let length_bytes = frame
        .iter()
        .skip(1)
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
        + 1;
    frame.get(1 + length_bytes..).unwrap_or_default()
}

/// Reads the first packet of a connection, which must be a CONNECT.
pub(super) fn read_connect(mut frame: BytesMut, now: Instant) -> Result<Connect, WireError> {
    if frame.first().is_none_or(|byte| *byte != 0x10) {
        return Err(WireError::Protocol("the first packet is not CONNECT"));
    }
    let name = body(&frame);
    let level = match name {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => *level,
        // MQTT 3.1 called itself by another name.
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => {
            return Err(WireError::Version(*level));
        }
        _ => return Err(WireError::Malformed("not MQTT".to_owned())),
    };
    match level {
        4 => match v4::Packet::read(&mut frame, usize::MAX).map_err(malformed)? {
            v4::Packet::Connect(connect) => connect_v4(connect, now),
            _ => Err(WireError::Protocol("the first packet is not CONNECT")),
        },
        5 => match v5::Packet::read(&mut frame, None).map_err(malformed)? {
            v5::Packet::Connect(connect, will, login) => connect_v5(connect, will, login, now),
            _ => Err(WireError::Protocol("the first packet is not CONNECT")),
        },
        other => Err(WireError::Version(other)),
    }
}

/// Reads any later packet.
pub(super) fn read(
    version: Version,
    mut frame: BytesMut,
    now: Instant,
) -> Result<Incoming, WireError> {
    // The codec refuses the short forms of this packet, which every client sends.
    if frame.first().is_some_and(|byte| *byte == 0xe0) {
        let reason = body(&frame).first().copied().unwrap_or(0);
        return Ok(Incoming::Disconnect {
            with_will: version == Version::V5 && reason != 0,
        });
    }
    let incoming = match version {
        Version::V4 => read_v4(
            v4::Packet::read(&mut frame, usize::MAX).map_err(malformed)?,
            now,
        ),
        Version::V5 => read_v5(v5::Packet::read(&mut frame, None).map_err(malformed)?, now),
    }?;
    match &incoming {
        Incoming::Subscribe { id: 0, .. } | Incoming::Unsubscribe { id: 0, .. } => {
            Err(WireError::Protocol("a packet identifier of zero"))
        }
        Incoming::Unsubscribe { filters, .. } if filters.is_empty() => {
            Err(WireError::Protocol("UNSUBSCRIBE without a filter"))
        }
        _ => Ok(incoming),
    }
}

/// The answer to an accepted subscription.
pub(super) fn granted(at_least_once: bool) -> SubscribeReasonCode {
    SubscribeReasonCode::Success(if at_least_once {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_where_they_end() {
        let mut buffer = BytesMut::from(&[0xc0, 0, 0xc0][..]);
        assert_eq!(
            take_frame(&mut buffer, 100).unwrap().unwrap()[..],
            [0xc0, 0]
        );
        assert_eq!(take_frame(&mut buffer, 100), Ok(None));
        let mut long = BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 0x80, 1][..]);
        assert!(matches!(
            take_frame(&mut long, 100),
            Err(WireError::Malformed(_))
        ));
        let mut large = BytesMut::from(&[0x30, 0xff, 0x7f][..]);
        assert_eq!(take_frame(&mut large, 100), Err(WireError::TooLarge(16386)));
    }

    #[test]
    fn every_form_of_disconnect_is_understood() {
        for (bytes, version, expected) in [
            (&[0xe0, 0][..], Version::V4, false),
            (&[0xe0, 0], Version::V5, false),
            (&[0xe0, 1, 0], Version::V5, false),
            (&[0xe0, 1, 4], Version::V5, true),
            (&[0xe0, 2, 0x80, 0], Version::V5, true),
        ] {
            let read = read(version, BytesMut::from(bytes), Instant::now()).unwrap();
            let Incoming::Disconnect { with_will } = read else {
                panic!("{read:?}")
            };
            assert_eq!(with_will, expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            kind in 0_u8..=255, rest in proptest::collection::vec(any::<u8>(), 0..120), v5: bool
        ) {
            let mut buffer = BytesMut::from(&[kind, u8::try_from(rest.len()).unwrap()][..]);
            buffer.extend_from_slice(&rest);
            let version = if v5 { Version::V5 } else { Version::V4 };
            let frame = take_frame(&mut buffer, 1000).unwrap().unwrap();
            let _ = read(version, frame.clone(), Instant::now());
            let _ = read_connect(frame, Instant::now());
            // A CONNECT header in front, so that the body is reached.
            let level = if v5 { 5 } else { 4 };
            let mut connect = BytesMut::from(&[0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', level][..]);
            connect.extend_from_slice(&rest);
            connect[1] = u8::try_from(connect.len() - 2).unwrap() & 0x7f;
            if let Ok(Some(frame)) = take_frame(&mut connect, 1000) {
                let _ = read_connect(frame, Instant::now());
            }
        }
    }
}
