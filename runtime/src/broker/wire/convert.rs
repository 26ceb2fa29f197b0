//! From the codec's packets of either protocol to the broker's own model.

use bytes::Bytes;
use rumqttc::mqttbytes::{QoS as QosV4, v4};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{self, PublishProperties, RetainForwardRule};
use tokio::time::Instant;

use super::super::topic::is_topic;
use super::{Connect, Filter, Incoming, Message, Version, WireError};

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn connect_v4(connect: v4::Connect, now: Instant) -> Result<Connect, WireError> {
    let will = connect.last_will.map(|will| {
        let at_least_once = will.qos != QosV4::AtMostOnce;
        checked(
            will.topic,
            will.message,
            at_least_once,
            will.retain,
            None,
            now,
        )
    });
    let (user, password) = connect.login.map_or((None, None), |login| {
        (non_empty(login.username), non_empty(login.password))
    });
    Ok(Connect {
        version: Version::V4,
        client_id: connect.client_id,
        clean: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        will: will.transpose()?,
        user,
        password,
        receive_maximum: u16::MAX,
        max_packet_bytes: usize::MAX,
        auth_method: false,
    })
}

pub(super) fn connect_v5(
    connect: v5::Connect,
    will: Option<v5::LastWill>,
    login: Option<v5::Login>,
    now: Instant,
) -> Result<Connect, WireError> {
    let will = will.map(|will| {
        let properties = will.properties.map(|p| PublishProperties {
            payload_format_indicator: p.payload_format_indicator,
            message_expiry_interval: p.message_expiry_interval,
            response_topic: p.response_topic,
            correlation_data: p.correlation_data,
            user_properties: p.user_properties,
            content_type: p.content_type,
            ..PublishProperties::default()
        });
        let at_least_once = at_least_once(will.qos)?;
        checked(
            text(&will.topic)?,
            will.message,
            at_least_once,
            will.retain,
            properties,
            now,
        )
    });
    let (user, password) = login.map_or((None, None), |login| {
        (non_empty(login.username), non_empty(login.password))
    });
    let properties = connect.properties.unwrap_or_default();
    if properties.receive_maximum == Some(0) || properties.max_packet_size == Some(0) {
        return Err(WireError::Protocol("a maximum of zero"));
    }
    let max_packet = properties.max_packet_size.map(usize::try_from);
    Ok(Connect {
        version: Version::V5,
        client_id: connect.client_id,
        clean: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        will: will.transpose()?,
        user,
        password,
        receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
        max_packet_bytes: max_packet.and_then(Result::ok).unwrap_or(usize::MAX),
        auth_method: properties.authentication_method.is_some(),
    })
}

fn at_least_once(qos: QoS) -> Result<bool, WireError> {
    match qos {
        QoS::AtMostOnce => Ok(false),
        QoS::AtLeastOnce => Ok(true),
        QoS::ExactlyOnce => Err(WireError::Qos2),
    }
}

fn text(bytes: &Bytes) -> Result<String, WireError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::TopicName)
}

fn checked(
    topic: String,
    payload: Bytes,
    at_least_once: bool,
    retain: bool,
    properties: Option<PublishProperties>,
    received: Instant,
) -> Result<Message, WireError> {
    if properties.as_ref().is_some_and(|p| p.topic_alias.is_some()) {
        return Err(WireError::TopicAlias);
    }
    if properties
        .as_ref()
        .is_some_and(|p| !p.subscription_identifiers.is_empty())
    {
        return Err(WireError::Protocol(
            "a subscription identifier in a client's message",
        ));
    }
    if !is_topic(&topic) {
        return Err(WireError::TopicName);
    }
    Ok(Message {
        topic,
        payload,
        at_least_once,
        retain,
        properties,
        received,
    })
}

pub(super) fn read_v4(packet: v4::Packet, now: Instant) -> Result<Incoming, WireError> {
    match packet {
        v4::Packet::Publish(p) => {
            let at_least_once = match p.qos {
                QosV4::AtMostOnce => false,
                QosV4::AtLeastOnce => true,
                QosV4::ExactlyOnce => return Err(WireError::Qos2),
            };
            let message = checked(p.topic, p.payload, at_least_once, p.retain, None, now)?;
            Ok(Incoming::Publish {
                id: p.pkid,
                message,
            })
        }
        v4::Packet::PubAck(ack) => Ok(Incoming::PubAck(ack.pkid)),
        v4::Packet::Subscribe(s) => {
            let filters = s.filters.into_iter().map(|f| Filter {
                path: f.path,
                at_least_once: f.qos != QosV4::AtMostOnce,
                no_local: false,
                keep_retain_flag: false,
                retained: RetainForwardRule::OnEverySubscribe,
            });
            Ok(Incoming::Subscribe {
                id: s.pkid,
                filters: filters.collect(),
                numbered: false,
            })
        }
        v4::Packet::Unsubscribe(u) => Ok(Incoming::Unsubscribe {
            id: u.pkid,
            filters: u.topics,
        }),
        v4::Packet::PingReq => Ok(Incoming::Ping),
        _ => Err(WireError::Protocol(
            "not for a broker, or of QoS 2, or a second CONNECT",
        )),
    }
}

pub(super) fn read_v5(packet: v5::Packet, now: Instant) -> Result<Incoming, WireError> {
    match packet {
        v5::Packet::Publish(p) => {
            let at_least_once = at_least_once(p.qos)?;
            let topic = text(&p.topic)?;
            let message = checked(topic, p.payload, at_least_once, p.retain, p.properties, now)?;
            Ok(Incoming::Publish {
                id: p.pkid,
                message,
            })
        }
        v5::Packet::PubAck(ack) => Ok(Incoming::PubAck(ack.pkid)),
        v5::Packet::Subscribe(s) => {
            let numbered = s.properties.is_some_and(|p| p.id.is_some());
            let filters = s.filters.into_iter().map(|f| Filter {
                path: f.path,
                at_least_once: f.qos != QoS::AtMostOnce,
                no_local: f.nolocal,
                keep_retain_flag: f.preserve_retain,
                retained: f.retain_forward_rule,
            });
            Ok(Incoming::Subscribe {
                id: s.pkid,
                filters: filters.collect(),
                numbered,
            })
        }
        v5::Packet::Unsubscribe(u) => Ok(Incoming::Unsubscribe {
            id: u.pkid,
            filters: u.filters,
        }),
        v5::Packet::PingReq(_) => Ok(Incoming::Ping),
        _ => Err(WireError::Protocol(
            "not for a broker, or of QoS 2, or a second CONNECT",
        )),
    }
}
