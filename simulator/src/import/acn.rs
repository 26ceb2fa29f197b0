//! ACN-Data: charging sessions in JSON, `{"_items": […]}` or the list alone, with times like `Wed, 25 Apr 2018 11:08:04 GMT`.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::Deserialize;

use super::decimal::times;
use super::{ImportError, Session, Source};

/// Most sessions of one import.
const SESSIONS_MAX: usize = 1_000_000;

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Page {
        #[serde(rename = "_items")]
        items: Vec<Item>,
    },
    List(Vec<Item>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(rename = "sessionID")]
    session: String,
    #[serde(rename = "stationID", default)]
    station: String,
    connection_time: String,
    disconnect_time: String,
    #[serde(default)]
    done_charging_time: Option<String>,
    #[serde(rename = "kWhDelivered")]
    kwh_delivered: serde_json::Number,
    #[serde(default)]
    user_inputs: Option<Vec<Input>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    #[serde(rename = "kWhRequested", default)]
    kwh_requested: Option<serde_json::Number>,
    #[serde(default)]
    requested_departure: Option<String>,
}

pub(super) fn read(files: &[Source<'_>]) -> Result<Vec<Session>, ImportError> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut seen = BTreeMap::new();
    for file in files {
        let document: Document = serde_json::from_slice(file.text).map_err(|e| {
            let what = format!("this is no page of ACN-Data sessions: {e}");
            ImportError::file(file.name, what)
        })?;
        let (Document::Page { items } | Document::List(items)) = document;
        for (place, item) in items.iter().enumerate() {
            let at = format!("session {} (the {}. of the file)", item.session, place + 1);
            let wrong = |what: String| ImportError::file(file.name, format!("{at}: {what}"));
            if let Some(before) = seen.insert(item.session.clone(), at.clone()) {
                return Err(wrong(format!("is there twice: it was {before} already")));
            }
            if sessions.len() >= SESSIONS_MAX {
                return Err(wrong(format!("more than {SESSIONS_MAX} sessions")));
            }
            sessions.push(session(item).map_err(wrong)?);
        }
    }
    sessions.sort_by(|a, b| (a.connected_s, &a.id).cmp(&(b.connected_s, &b.id)));
    Ok(sessions)
}

fn session(item: &Item) -> Result<Session, String> {
    let connected_s = instant("connectionTime", &item.connection_time)?;
    let disconnected_s = instant("disconnectTime", &item.disconnect_time)?;
    if disconnected_s <= connected_s {
        return Err("disconnectTime is not after connectionTime".to_owned());
    }
    // A driver can change the inputs: the last ones count.
    let input = item.user_inputs.as_ref().and_then(|inputs| inputs.last());
    let requested = input.and_then(|input| input.kwh_requested.as_ref());
    let leaving = input.and_then(|input| input.requested_departure.as_deref());
    let done = item.done_charging_time.as_deref();
    Ok(Session {
        id: item.session.clone(),
        station: item.station.clone(),
        connected_s,
        disconnected_s,
        done_s: done
            .map(|text| instant("doneChargingTime", text))
            .transpose()?,
        energy_wh: wh("kWhDelivered", &item.kwh_delivered)?,
        requested_wh: requested.map(|kwh| wh("kWhRequested", kwh)).transpose()?,
        requested_departure_s: leaving
            .map(|text| instant("requestedDeparture", text))
            .transpose()?,
    })
}

fn instant(key: &str, text: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc2822(text);
    time.map(|time| time.timestamp())
        .map_err(|_| format!("{key} {text:?} is no time like Wed, 25 Apr 2018 11:08:04 GMT"))
}

fn wh(key: &str, kwh: &serde_json::Number) -> Result<i64, String> {
    times(&kwh.to_string(), 1_000)
        .filter(|wh| *wh >= 0)
        .ok_or_else(|| format!("{key} is {kwh}"))
}
