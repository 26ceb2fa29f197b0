//! What a charger calls for, and what it is answered.

use domain::ids::Digest32;
use domain::time::Timestamp;
use ocpp_types::OcppTimestamp;
use ocpp_types::v16::common::{
    BootNotificationResponseStatus, DataTransferResponseStatus, IdTagInfo, IdTagInfoStatus,
};
use ocpp_types::v16::{
    AuthorizeRequest, AuthorizeResponse, BootNotificationResponse, DataTransferResponse,
    HeartbeatResponse, StartTransactionRequest, StartTransactionResponse, StopTransactionRequest,
    StopTransactionResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    ANSWERED_MAX, FRESH_MS, Moment, Opening, Out, Point, SESSION_TAG, Stop, TRANSACTIONS_MAX,
    Transaction,
};
use crate::device::{Identity, Values};
use crate::ocpp::frame::{self, Code};
use crate::ocpp::meter::{self, Measured};

/// Signed texts of one message that are kept, of the first and of the last; a transaction has a few. Those between are
/// counted as `signed_value_left_out`.
const SIGNED_AT_EACH_END_MAX: usize = 16;
/// How often a charger that nothing is set up for asks again.
const PENDING_S: i64 = 60;
/// Longest text of a charger about itself that is kept, in characters.
const NAME_MAX_CHARS: usize = 64;

type Answered = Result<Value, (Code, String)>;

fn read<T: DeserializeOwned>(payload: Value) -> Result<T, (Code, String)> {
    serde_json::from_value(payload).map_err(|e| (Code::TypeConstraintViolation, e.to_string()))
}

fn written<T: Serialize>(answer: &T) -> Answered {
    serde_json::to_value(answer).map_err(|e| (Code::InternalError, e.to_string()))
}

/// A time as the standard writes it.
pub(super) fn stamp(at: Timestamp) -> Result<OcppTimestamp, (Code, String)> {
    let no_time = |_| (Code::InternalError, "no time can be told".to_owned());
    OcppTimestamp::from_unix(at.unix_s(), 0).map_err(no_time)
}

fn info(is_welcome: bool) -> IdTagInfo {
    IdTagInfo {
        expiry_date: None,
        parent_id_tag: None,
        status: match is_welcome {
            true => IdTagInfoStatus::Accepted,
            false => IdTagInfoStatus::Invalid,
        },
    }
}

impl Point {
    /// A call; the same one again is answered as before and does nothing.
    pub(super) fn take_call(
        &mut self,
        at: Moment,
        (id, digest): (String, Digest32),
        action: &str,
        payload: Value,
        out: &mut Vec<Out>,
    ) {
        if let Some((_, known, answer)) = self.answered.iter().find(|(known, ..)| *known == id) {
            let again = match *known == digest {
                true => answer.clone(),
                false => frame::error(&id, Code::ProtocolError, "this id was used before"),
            };
            out.push(Out::Send(again));
            return;
        }
        let answered = self.answer(at, action, payload, out);
        let text = match answered {
            Ok(answer) => frame::answer(&id, &answer),
            Err((code, why)) => {
                self.count("payload", out);
                let why: String = why.chars().take(255).collect();
                frame::error(&id, code, &why)
            }
        };
        if self.answered.len() == ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back((id, digest, text.clone()));
        out.push(Out::Send(text));
        if action != "BootNotification" && !self.greeted {
            self.greet();
        }
    }

    fn answer(&mut self, at: Moment, action: &str, payload: Value, out: &mut Vec<Out>) -> Answered {
        match action {
            "BootNotification" => self.boot(at, &payload),
            "Heartbeat" => {
                let current_time = stamp(at.now)?;
                written(&HeartbeatResponse { current_time })
            }
            "Authorize" => {
                let asked: AuthorizeRequest = read(payload)?;
                let id_tag_info = info(self.is_welcome(asked.id_tag.as_str(), None));
                written(&AuthorizeResponse { id_tag_info })
            }
            "StatusNotification" => self.status(at, &payload, out),
            "MeterValues" => self.meter_values(at, &payload, out),
            "StartTransaction" => self.start(read(payload)?, out),
            "StopTransaction" => self.stop(payload, out),
            "DataTransfer" => written(&DataTransferResponse {
                data: None,
                status: DataTransferResponseStatus::UnknownVendorId,
            }),
            "FirmwareStatusNotification" | "DiagnosticsStatusNotification" => Ok(json!({})),
            _ => {
                let why = format!("{action:.40} is nothing that is done here");
                Err((Code::NotImplemented, why))
            }
        }
    }

    fn boot(&mut self, at: Moment, payload: &Value) -> Answered {
        let text = |key: &str| {
            let text = payload[key].as_str().unwrap_or_default();
            text.chars().take(NAME_MAX_CHARS).collect::<String>()
        };
        let identity = Identity {
            maker: text("chargePointVendor"),
            model: text("chargePointModel"),
            serial: match text("meterSerialNumber") {
                own if own.is_empty() => text("chargePointSerialNumber"),
                own => own,
            },
            firmware: text("firmwareVersion"),
        };
        if identity.maker.is_empty() || identity.model.is_empty() {
            let why = "chargePointVendor and chargePointModel are needed".to_owned();
            return Err((Code::FormationViolation, why));
        }
        self.identity = Some(identity);
        let is_set_up = !self.connectors.is_empty();
        if is_set_up {
            self.greet();
        }
        let (status, interval) = match is_set_up {
            true => (
                BootNotificationResponseStatus::Accepted,
                i64::from(self.rules.heartbeat_s),
            ),
            false => (BootNotificationResponseStatus::Pending, PENDING_S),
        };
        written(&BootNotificationResponse {
            current_time: stamp(at.now)?,
            interval,
            status,
        })
    }

    /// Whether a card may charge, at this connector or at any.
    fn is_welcome(&self, tag: &str, connector: Option<i64>) -> bool {
        let mut here = self
            .connectors
            .iter()
            .filter(|(number, _)| connector.is_none_or(|c| c == **number));
        let is_known = self.rules.id_tags.iter().any(|known| known == tag);
        match connector {
            Some(number) if !self.connectors.contains_key(&number) => false,
            _ if self.rules.open_to_everybody || is_known => true,
            _ => here.any(|(_, c)| c.opening == Opening::Open),
        }
    }

    fn status(&mut self, at: Moment, payload: &Value, out: &mut Vec<Out>) -> Answered {
        let (number, status) = (payload["connectorId"].as_i64(), payload["status"].as_str());
        let (Some(number), Some(status)) = (number, status) else {
            let why = "connectorId and status are needed".to_owned();
            return Err((Code::FormationViolation, why));
        };
        let known = match status {
            "Available" => "available",
            "Preparing" => "preparing",
            "Charging" => "charging",
            "SuspendedEV" => "suspended by the car",
            "SuspendedEVSE" => "suspended",
            "Finishing" => "finishing",
            "Reserved" => "reserved",
            "Unavailable" => "unavailable",
            "Faulted" => "error",
            _ => "unknown",
        };
        let is_plugged = status == "Preparing";
        let Some(connector) = self.connectors.get_mut(&number) else {
            return Ok(json!({}));
        };
        if known == "error" || known == "unknown" {
            out.push(Out::Failed(connector.device, "faulted"));
        }
        let is_new = connector.state.as_deref() != Some(known);
        connector.state = Some(known.to_owned());
        // No transaction runs at a connector that is free; its end may still come.
        if is_new && known == "available" && connector.transaction.take().is_some() {
            connector.limit_ma = None;
            if connector.opening == Opening::InUse {
                connector.opening = Opening::Used;
            }
        }
        let waits = connector.opening == Opening::Open && connector.transaction.is_none();
        if is_new {
            // The new state goes out with fresh values.
            connector.sampled_at = None;
        }
        if is_new && is_plugged && waits {
            self.ask_to_start(at, number);
        }
        if self.greeted {
            self.poll(at);
        }
        Ok(json!({}))
    }

    fn meter_values(&mut self, at: Moment, payload: &Value, out: &mut Vec<Out>) -> Answered {
        let Some(number) = payload["connectorId"].as_i64() else {
            let why = "connectorId is needed".to_owned();
            return Err((Code::FormationViolation, why));
        };
        let transaction = payload["transactionId"].as_i64();
        let found = meter::read(&payload["meterValue"]);
        self.keep_signed((Some(number), transaction), &found, out);
        let identity = self.identity.clone();
        let Some(connector) = self.connectors.get_mut(&number) else {
            return Ok(json!({}));
        };
        let device = connector.device;
        let is_fresh = |m: &Measured| m.at.is_some_and(|t| t.ms_since(at.now).abs() <= FRESH_MS);
        let mut values = Values::default();
        for measured in found {
            if measured.strange > 0 {
                out.push(Out::Failed(device, "strange_value"));
            }
            match is_fresh(&measured) {
                true => merge(&mut values, measured.values),
                false => out.push(Out::Failed(device, "late")),
            }
        }
        if values.import_counter.is_some() {
            connector.sampled_at = Some(at.steady);
            values.state.clone_from(&connector.state);
            out.push(Out::Sample(device, Box::new(values), identity));
        }
        Ok(json!({}))
    }

    /// Signed texts are evidence: they are kept whether they are believed or not.
    fn keep_signed(
        &self,
        (number, transaction): (Option<i64>, Option<i64>),
        found: &[Measured],
        out: &mut Vec<Out>,
    ) {
        let known = number.and_then(|number| self.connectors.get(&number));
        // Where there is one connector, nothing is of another.
        let only = self.connectors.values().next();
        let only = only.filter(|_| self.connectors.len() == 1);
        let device = known.or(only).map(|connector| connector.device);
        let signed: Vec<_> = found.iter().flat_map(|m| &m.signed).collect();
        // The first and the last have begin and end.
        let is_kept = |place: &usize| {
            let left = signed.len() - place;
            *place < SIGNED_AT_EACH_END_MAX || left <= SIGNED_AT_EACH_END_MAX
        };
        for (place, text) in signed.iter().enumerate() {
            if !is_kept(&place) {
                self.count("signed_value_left_out", out);
                continue;
            }
            let refused = meter::check_signed(text, &self.rules.keys).err();
            if refused.is_some() {
                self.count("bad_signed_value", out);
            }
            out.push(Out::KeepSigned(
                device,
                transaction,
                (*text).clone(),
                refused,
            ));
        }
    }

    fn start(&mut self, said: StartTransactionRequest, out: &mut Vec<Out>) -> Answered {
        let (tag, started) = (said.id_tag.as_str().to_owned(), written(&said.timestamp)?);
        let started = started.as_str().unwrap_or_default().to_owned();
        let (connector, meter_start_wh) = (said.connector_id, said.meter_start);
        let same = |t: &&Transaction| {
            let (one, other) = ((t.connector, &t.tag), (connector, &tag));
            one == other && t.started == started && t.meter_start_wh == meter_start_wh
        };
        if let Some(known) = self.transactions.iter().rev().find(same).cloned() {
            self.keep_again(&known, out);
            return written(&StartTransactionResponse {
                id_tag_info: info(known.accepted),
                transaction_id: known.id,
            });
        }
        let accepted = self.is_welcome(&tag, Some(connector));
        let mut transaction = Transaction {
            id: self.next_id,
            connector,
            tag,
            started,
            meter_start_wh,
            accepted,
            by_session: false,
            stop: None,
        };
        self.next_id += 1;
        if let Some(place) = self.connectors.get_mut(&connector) {
            // One that is refused takes no place from one that runs.
            if accepted || place.transaction.is_none() {
                place.transaction = Some(transaction.id);
            }
            place.sampled_at = None;
            if accepted && place.opening == Opening::Open {
                place.opening = Opening::InUse;
                transaction.by_session = true;
            }
        }
        if self.transactions.len() == TRANSACTIONS_MAX
            && let Some(oldest) = self.transactions.pop_front()
        {
            self.unkept.remove(&oldest.id);
        }
        let answer = StartTransactionResponse {
            id_tag_info: info(accepted),
            transaction_id: transaction.id,
        };
        self.transactions.push_back(transaction.clone());
        self.keep(transaction, out);
        written(&answer)
    }

    fn stop(&mut self, mut payload: Value, out: &mut Vec<Out>) -> Answered {
        // A reason or a value that nobody knows must not keep a transaction open.
        let mut take = |key: &str| {
            payload
                .as_object_mut()
                .and_then(|members| members.remove(key))
        };
        let (data, reason) = (take("transactionData"), take("reason"));
        let reason = reason
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or("Local")
            .to_owned();
        let said: StopTransactionRequest = read(payload)?;
        let found = meter::read(&data.unwrap_or_default());
        let known = self.transaction(said.transaction_id);
        let number = known.map(|known| known.connector);
        self.keep_signed((number, Some(said.transaction_id)), &found, out);
        let at = written(&said.timestamp)?;
        let stop = Stop {
            at: at.as_str().unwrap_or_default().to_owned(),
            meter_wh: said.meter_stop,
            reason,
        };
        let answer = StopTransactionResponse { id_tag_info: None };
        let Some(known) = self.transaction(said.transaction_id) else {
            self.count("unknown_transaction", out);
            return written(&answer);
        };
        if known.stop.is_some() {
            let known = known.clone();
            self.keep_again(&known, out);
            return written(&answer);
        }
        let is_nonsense = stop.meter_wh < known.meter_start_wh;
        known.stop = Some(stop);
        let ended = known.clone();
        if let Some(place) = self.connectors.get_mut(&ended.connector) {
            if is_nonsense {
                out.push(Out::Failed(place.device, "counter_fell"));
            }
            if place.transaction == Some(ended.id) {
                place.transaction = None;
                place.sampled_at = None;
                // The limit of a transaction ends with it.
                place.limit_ma = None;
                if place.opening == Opening::InUse {
                    place.opening = Opening::Used;
                }
            }
        }
        self.keep(ended, out);
        written(&answer)
    }
}

/// What is said later in a message counts.
fn merge(into: &mut Values, from: Values) {
    fn take<T>(into: &mut Option<T>, from: Option<T>) {
        if from.is_some() {
            *into = from;
        }
    }
    take(&mut into.import, from.import);
    take(&mut into.import_counter, from.import_counter);
    take(&mut into.export, from.export);
    take(&mut into.export_counter, from.export_counter);
    take(&mut into.power, from.power);
    take(&mut into.soc_permille, from.soc_permille);
    into.details.extend(from.details);
}

/// Whether a transaction was begun by ourselves.
pub(super) fn is_ours(transaction: &Transaction) -> bool {
    transaction.by_session || transaction.tag == SESSION_TAG
}
