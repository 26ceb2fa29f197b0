//! What a charger is asked for: one call at a time, each with what its answer means.

use domain::time::Timestamp;
use ocpp_types::v16::common::{
    ChargingProfileKind, ChargingProfilePurpose, ChargingRateUnit, ChargingSchedule,
    ChargingSchedulePeriodItem, CsChargingProfiles,
};
use ocpp_types::v16::{
    ClearChargingProfileRequest, IdTag, RemoteStartTransactionRequest, SetChargingProfileRequest,
};
use serde_json::{Value, json};

use super::calls::{is_ours, stamp};
use super::{
    ANSWER_MS, ASKS_MAX, Asked, Moment, NotDone, Opening, Out, Point, SESSION_TAG, START_AGAIN_MS,
    STOP_AGAIN_MS,
};
use crate::ocpp::frame;
use crate::ocpp::profile::VALIDITY_S;

/// What is measured while a car charges.
const MEASURANDS: &str =
    "Energy.Active.Import.Register,Power.Active.Import,Current.Import,Voltage,SoC";

/// A call of ours.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ask {
    action: &'static str,
    payload: Value,
    pub(super) then: Then,
}

/// What the answer means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// It starts a transaction at this connector, when there is a car.
    Started(i64),
    /// It was asked for a message.
    Triggered,
    /// The connector keeps this limit.
    Limited(i64, i64),
    /// One of the connector's limits is gone.
    Cleared,
    /// The connector keeps no limit any more.
    Freed(i64),
    /// An operator wants to know.
    Tell(u64),
}

impl Point {
    /// What a charger is told that has just come: what to measure, and to say how it is.
    pub(super) fn greet(&mut self) {
        self.greeted = true;
        self.triggers = true;
        let interval = self.rules.meter_interval_s.to_string();
        let keys = [
            ("MeterValueSampleInterval", interval.as_str()),
            ("MeterValuesSampledData", MEASURANDS),
            ("AuthorizeRemoteTxRequests", "false"),
            ("StopTransactionOnInvalidId", "true"),
            ("AllowOfflineTxForUnknownId", "false"),
        ];
        for (key, value) in keys {
            let payload = json!({"key": key, "value": value});
            self.ask("ChangeConfiguration", payload, Then::Nothing);
        }
        let numbers: Vec<i64> = self.connectors.keys().copied().collect();
        for number in numbers {
            let payload = json!({"requestedMessage": "StatusNotification", "connectorId": number});
            self.ask("TriggerMessage", payload, Then::Triggered);
        }
        for connector in self.connectors.values_mut() {
            connector.sampled_at = None;
        }
    }

    /// Asks for values of the connectors that have not said any for an interval.
    pub(super) fn poll(&mut self, at: Moment) {
        let every_ms = i64::from(self.rules.meter_interval_s) * 1_000;
        let waits = self.asks.iter().any(|ask| ask.then == Then::Triggered);
        if !self.triggers || waits {
            return;
        }
        let mut due = Vec::new();
        for (number, connector) in &mut self.connectors {
            let is_old = |seen: Timestamp| at.steady.ms_since(seen) >= every_ms;
            if connector.sampled_at.is_none_or(is_old) {
                connector.sampled_at = Some(at.steady);
                due.push(*number);
            }
        }
        for number in due {
            let payload = json!({"requestedMessage": "MeterValues", "connectorId": number});
            self.ask("TriggerMessage", payload, Then::Triggered);
        }
    }

    /// Ends a transaction whose session is over and that goes on all the same.
    pub(super) fn stop_again(&mut self, at: Moment) {
        let mut due = Vec::new();
        for connector in self.connectors.values_mut() {
            let running = connector
                .transaction
                .filter(|_| connector.opening == Opening::Closed);
            let is_due = |asked: Timestamp| at.steady.ms_since(asked) >= STOP_AGAIN_MS;
            let ends = |id: &i64| {
                let mut known = self.transactions.iter().rev();
                known.any(|t| t.id == *id && (is_ours(t) || !t.accepted))
            };
            let running = running.filter(ends);
            if let Some(id) = running.filter(|_| connector.stop_asked_at.is_none_or(is_due)) {
                connector.stop_asked_at = Some(at.steady);
                due.push(id);
            }
        }
        for id in due {
            let payload = json!({"transactionId": id});
            self.ask("RemoteStopTransaction", payload, Then::Nothing);
        }
    }

    /// Starts a transaction for whom the platform has let in.
    pub(super) fn ask_to_start(&mut self, at: Moment, number: i64) {
        let Some(connector) = self.connectors.get_mut(&number) else {
            return;
        };
        let is_recent = |asked: Timestamp| at.steady.ms_since(asked) < START_AGAIN_MS;
        if connector.start_asked_at.is_some_and(is_recent) {
            return;
        }
        connector.start_asked_at = Some(at.steady);
        let Ok(id_tag) = IdTag::try_from(SESSION_TAG) else {
            return;
        };
        let request = RemoteStartTransactionRequest {
            charging_profile: None,
            connector_id: Some(number),
            id_tag,
        };
        let payload = serde_json::to_value(&request).unwrap_or_default();
        self.ask("RemoteStartTransaction", payload, Then::Started(number));
    }

    /// Limits a connector's current for [`VALIDITY_S`]: in its transaction, or in the next one. False where no such
    /// message can be made.
    pub(super) fn ask_to_limit(&mut self, at: Moment, number: i64, limit_ma: i64) -> bool {
        let transaction = self.connectors.get(&number).and_then(|c| c.transaction);
        let (Ok(start), Ok(end)) = (stamp(at.now), stamp(at.now.plus_s(i64::from(VALIDITY_S))))
        else {
            return false;
        };
        // The standard counts amperes with one decimal.
        let Ok(tenths) = i32::try_from(limit_ma / 100) else {
            return false;
        };
        let purpose = match transaction {
            Some(_) => ChargingProfilePurpose::TxProfile,
            None => ChargingProfilePurpose::TxDefaultProfile,
        };
        let [id_in_any, id_in_this] = profile_ids(number);
        let request = SetChargingProfileRequest {
            connector_id: number,
            cs_charging_profiles: CsChargingProfiles {
                charging_profile_id: if transaction.is_some() {
                    id_in_this
                } else {
                    id_in_any
                },
                charging_profile_kind: ChargingProfileKind::Absolute,
                charging_profile_purpose: purpose,
                charging_schedule: ChargingSchedule {
                    charging_rate_unit: ChargingRateUnit::A,
                    charging_schedule_period: vec![ChargingSchedulePeriodItem {
                        limit: f64::from(tenths) / 10.0,
                        number_phases: None,
                        start_period: 0,
                    }],
                    duration: Some(i64::from(VALIDITY_S)),
                    min_charging_rate: None,
                    start_schedule: Some(start),
                },
                recurrency_kind: None,
                stack_level: 0,
                transaction_id: transaction,
                valid_from: None,
                valid_to: Some(end),
            },
        };
        let payload = serde_json::to_value(&request).unwrap_or_default();
        self.ask(
            "SetChargingProfile",
            payload,
            Then::Limited(number, limit_ma),
        )
    }

    /// Takes our limits back; false where too much waits.
    pub(super) fn ask_to_free(&mut self, number: i64) -> bool {
        let [first, second] = profile_ids(number);
        let clear = |id| {
            let request = ClearChargingProfileRequest {
                charging_profile_purpose: None,
                connector_id: None,
                id: Some(id),
                stack_level: None,
            };
            serde_json::to_value(&request).unwrap_or_default()
        };
        self.ask("ClearChargingProfile", clear(first), Then::Cleared)
            && self.ask("ClearChargingProfile", clear(second), Then::Freed(number))
    }

    /// Asks what an operator wants to be asked.
    pub fn tell(
        &mut self,
        at: Moment,
        number: u64,
        action: &'static str,
        payload: Value,
    ) -> Vec<Out> {
        let mut out = Vec::new();
        if self.is_connected() && self.ask(action, payload, Then::Tell(number)) {
            self.ask_next(at, &mut out);
        } else {
            let why = "the charger is not connected, or too much waits for it".to_owned();
            out.push(Out::Told(number, Err(why)));
        }
        out
    }

    fn ask(&mut self, action: &'static str, payload: Value, then: Then) -> bool {
        let fits = self.asks.len() < ASKS_MAX;
        if fits {
            self.asks.push_back(Ask {
                action,
                payload,
                then,
            });
        }
        fits
    }

    /// Sends the next call, where none is under way.
    pub(super) fn ask_next(&mut self, at: Moment, out: &mut Vec<Out>) {
        if self.asked.is_some() || !self.is_connected() {
            return;
        }
        let Some(ask) = self.asks.pop_front() else {
            return;
        };
        let id = format!("{}-{}", self.boot, self.next_call);
        self.next_call += 1;
        out.push(Out::Send(frame::call(&id, ask.action, &ask.payload)));
        let due = at.steady.plus_ms(ANSWER_MS);
        self.asked = Some(Asked { id, ask, due });
    }

    /// An answer; one to a call that is not under way is nothing.
    pub(super) fn take_answer(
        &mut self,
        at: Moment,
        id: &str,
        answer: Result<Value, String>,
        out: &mut Vec<Out>,
    ) {
        if let Some(asked) = self.asked.take_if(|asked| asked.id == id) {
            self.silent = 0;
            self.settle(at, asked.ask, answer, out);
        }
    }

    /// What follows from an answer, or from none.
    pub(super) fn settle(
        &mut self,
        at: Moment,
        ask: Ask,
        answer: Result<Value, String>,
        out: &mut Vec<Out>,
    ) {
        let status = answer.as_ref().ok().and_then(|a| a["status"].as_str());
        let is_accepted = status == Some("Accepted");
        match ask.then {
            Then::Nothing if status == Some("Rejected") => self.count("call_rejected", out),
            Then::Nothing | Then::Cleared => {}
            Then::Started(number) => {
                if let Some(place) = self.connectors.get_mut(&number).filter(|_| !is_accepted) {
                    place.start_asked_at = None;
                }
            }
            Then::Triggered => {
                let unknown = status == Some("NotImplemented");
                let refused = matches!(&answer, Err(why) if why.starts_with("Not"));
                if unknown || refused {
                    self.triggers = false;
                }
            }
            Then::Limited(number, limit_ma) => {
                if let Some(place) = self.connectors.get_mut(&number).filter(|_| is_accepted) {
                    place.limit_ma = Some(limit_ma);
                }
                let outcome = is_accepted.then_some(()).ok_or(match answer {
                    Ok(_) => NotDone::Refused,
                    Err(_) => NotDone::Silent,
                });
                self.go_on(at, outcome, out);
            }
            Then::Freed(number) => {
                // What it does not know is gone as well.
                let outcome = answer.map(drop).map_err(|_| NotDone::Silent);
                if let Some(place) = self.connectors.get_mut(&number).filter(|_| outcome.is_ok()) {
                    place.limit_ma = None;
                }
                self.go_on(at, outcome, out);
            }
            Then::Tell(number) => out.push(Out::Told(number, answer)),
        }
    }
}

/// The numbers of our two limits of a connector: for any transaction, and for the one that runs.
fn profile_ids(number: i64) -> [i64; 2] {
    let base = number.saturating_mul(10).saturating_add(16_000);
    [base + 1, base + 2]
}
