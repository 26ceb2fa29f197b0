//! The broker's answers, in the protocol of the client.

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::{QoS as QosV4, v4};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    self, ConnectReturnCode, DisconnectReasonCode, PubAckReason, SubscribeReasonCode,
    UnsubAckReason,
};
use tokio::time::Instant;

use super::{Message, Version};

/// What a CONNACK tells the client.
#[derive(Debug)]
pub(in crate::broker) struct Welcome {
    pub assigned_id: Option<String>,
    pub keep_alive_s: Option<u16>,
    pub receive_maximum: u16,
    pub max_packet_bytes: u32,
}

/// Accepts a connection. No session is ever resumed.
pub(in crate::broker) fn welcome(version: Version, welcome: Welcome, out: &mut BytesMut) {
    if version == Version::V4 {
        return put_v4(
            v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, false)),
            out,
        );
    }
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(0),
        receive_max: Some(welcome.receive_maximum),
        max_qos: Some(1),
        retain_available: Some(1),
        max_packet_size: Some(welcome.max_packet_bytes),
        assigned_client_identifier: welcome.assigned_id,
        topic_alias_max: Some(0),
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(1),
        server_keep_alive: welcome.keep_alive_s,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    let code = ConnectReturnCode::Success;
    let ack = v5::ConnAck {
        session_present: false,
        code,
        properties: Some(properties),
    };
    put_v5(v5::Packet::ConnAck(ack), out);
}

/// Refuses a connection. `code` is one that MQTT 5 knows.
pub(in crate::broker) fn refuse(version: Version, code: ConnectReturnCode, out: &mut BytesMut) {
    match version {
        Version::V5 => {
            put_v5(
                v5::Packet::ConnAck(v5::ConnAck {
                    session_present: false,
                    code,
                    properties: None,
                }),
                out,
            );
        }
        Version::V4 => {
            let code = match code {
                ConnectReturnCode::UnsupportedProtocolVersion => {
                    v4::ConnectReturnCode::RefusedProtocolVersion
                }
                ConnectReturnCode::ClientIdentifierNotValid => v4::ConnectReturnCode::BadClientId,
                ConnectReturnCode::BadUserNamePassword => {
                    v4::ConnectReturnCode::BadUserNamePassword
                }
                ConnectReturnCode::NotAuthorized => v4::ConnectReturnCode::NotAuthorized,
                _ => v4::ConnectReturnCode::ServiceUnavailable,
            };
            put_v4(v4::Packet::ConnAck(v4::ConnAck::new(code, false)), out);
        }
    }
}

pub(in crate::broker) fn puback(
    version: Version,
    id: u16,
    reason: PubAckReason,
    out: &mut BytesMut,
) {
    match version {
        Version::V4 => put_v4(v4::Packet::PubAck(v4::PubAck::new(id)), out),
        Version::V5 => put_v5(
            v5::Packet::PubAck(v5::PubAck {
                pkid: id,
                reason,
                properties: None,
            }),
            out,
        ),
    }
}

pub(in crate::broker) fn suback(
    version: Version,
    id: u16,
    reasons: Vec<SubscribeReasonCode>,
    out: &mut BytesMut,
) {
    match version {
        Version::V4 => {
            let codes = reasons.into_iter().map(|reason| match reason {
                SubscribeReasonCode::Success(QoS::AtMostOnce) => {
                    v4::SubscribeReasonCode::Success(QosV4::AtMostOnce)
                }
                SubscribeReasonCode::Success(_) => {
                    v4::SubscribeReasonCode::Success(QosV4::AtLeastOnce)
                }
                _ => v4::SubscribeReasonCode::Failure,
            });
            put_v4(
                v4::Packet::SubAck(v4::SubAck::new(id, codes.collect())),
                out,
            );
        }
        Version::V5 => {
            let ack = v5::SubAck {
                pkid: id,
                return_codes: reasons,
                properties: None,
            };
            put_v5(v5::Packet::SubAck(ack), out);
        }
    }
}

pub(in crate::broker) fn unsuback(
    version: Version,
    id: u16,
    reasons: Vec<UnsubAckReason>,
    out: &mut BytesMut,
) {
    match version {
        Version::V4 => put_v4(v4::Packet::UnsubAck(v4::UnsubAck::new(id)), out),
        Version::V5 => {
            put_v5(
                v5::Packet::UnsubAck(v5::UnsubAck {
                    pkid: id,
                    reasons,
                    properties: None,
                }),
                out,
            );
        }
    }
}

pub(in crate::broker) fn ping_response(out: &mut BytesMut) {
    out.put_slice(&[0xd0, 0]);
}

/// Tells an MQTT 5 client why the connection ends; 3.1.1 has no such packet from a broker.
///
/// Written by hand: the codec announces one byte and writes two.
pub(in crate::broker) fn disconnect(
    version: Version,
    reason: DisconnectReasonCode,
    out: &mut BytesMut,
) {
    if version == Version::V5 {
        out.put_slice(&[0xe0, 2, reason as u8, 0]);
    }
}

/// What became of a message to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Written {
    Yes,
    /// Its expiry interval is over.
    Expired,
    /// The client said that it takes no packets of this size.
    TooLarge,
}

/// Writes a message; `id` is 0 for QoS 0.
pub(in crate::broker) fn publish(
    version: Version,
    message: &Message,
    (id, retain): (u16, bool),
    (now, max_bytes): (Instant, usize),
    out: &mut BytesMut,
) -> Written {
    let mut properties = message.properties.clone();
    if let Some(expiry_s) = properties
        .as_mut()
        .and_then(|p| p.message_expiry_interval.as_mut())
    {
        let age_s = now.saturating_duration_since(message.received).as_secs();
        match u64::from(*expiry_s)
            .checked_sub(age_s)
            .filter(|left_s| *left_s > 0)
        {
            Some(left_s) => *expiry_s = u32::try_from(left_s).unwrap_or(*expiry_s),
            None => return Written::Expired,
        }
    }
    if version == Version::V4 {
        let qos = if id == 0 {
            QosV4::AtMostOnce
        } else {
            QosV4::AtLeastOnce
        };
        let mut packet = v4::Publish::from_bytes(&message.topic, qos, message.payload.clone());
        packet.pkid = id;
        packet.retain = retain;
        put_v4(v4::Packet::Publish(packet), out);
        return Written::Yes;
    }
    let qos = if id == 0 {
        QoS::AtMostOnce
    } else {
        QoS::AtLeastOnce
    };
    let payload = message.payload.clone();
    let mut packet = v5::Publish::new(&message.topic, qos, payload, properties);
    packet.pkid = id;
    packet.retain = retain;
    if packet.size() > max_bytes {
        return Written::TooLarge;
    }
    put_v5(v5::Packet::Publish(packet), out);
    Written::Yes
}

fn put_v4(packet: v4::Packet, out: &mut BytesMut) {
    if let Err(error) = packet.write(out, usize::MAX) {
        tracing::error!(%error, "a packet could not be written");
    }
}

fn put_v5(packet: v5::Packet, out: &mut BytesMut) {
    if let Err(error) = packet.write(out, None) {
        tracing::error!(%error, "a packet could not be written");
    }
}
