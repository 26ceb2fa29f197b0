//! OCPP-J's envelope: `[2, id, action, payload]`, `[3, id, payload]`, `[4, id, code, description, details]`.

use serde_json::{Value, json};

/// Longest message that is read, in bytes.
pub const TEXT_MAX_BYTES: usize = 256 * 1024;
/// Longest message id, as the standard has it.
pub const ID_MAX_CHARS: usize = 36;

/// A message.
#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    /// Something is asked.
    Call {
        /// By which the answer is known.
        id: String,
        /// What for.
        action: String,
        /// With what.
        payload: Value,
    },
    /// The answer.
    Answer {
        /// To which call.
        id: String,
        /// What it says.
        payload: Value,
    },
    /// The call was not understood or not done.
    Error {
        /// Which call.
        id: String,
        /// One of OCPP-J's codes.
        code: String,
        /// More, for people.
        description: String,
    },
}

/// What OCPP-J calls the ways in which a call can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// No such action.
    NotImplemented,
    /// The payload is not complete.
    FormationViolation,
    /// A member is of another type, or unknown.
    TypeConstraintViolation,
    /// The message is against the protocol.
    ProtocolError,
    /// We failed.
    InternalError,
}

impl Code {
    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Code::NotImplemented => "NotImplemented",
            Code::FormationViolation => "FormationViolation",
            Code::TypeConstraintViolation => "TypeConstraintViolation",
            Code::ProtocolError => "ProtocolError",
            Code::InternalError => "InternalError",
        }
    }
}

/// A text that is no message, with its id where it has one: then it can be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoFrame {
    /// The id of what looks like a call.
    pub id: Option<String>,
}

/// Reads a message.
///
/// # Errors
/// It is none.
pub fn read(text: &str) -> Result<Frame, NoFrame> {
    let none = NoFrame { id: None };
    let Ok(Value::Array(parts)) = serde_json::from_str(text) else {
        return Err(none);
    };
    let id = parts.get(1).and_then(Value::as_str);
    let Some(id) = id.filter(|id| !id.is_empty() && id.chars().count() <= ID_MAX_CHARS) else {
        return Err(none);
    };
    let id = id.to_owned();
    let text_at = |place: usize| parts.get(place).and_then(Value::as_str).map(str::to_owned);
    let object_at = |place: usize| parts.get(place).filter(|v| v.is_object()).cloned();
    let kind = parts.first().and_then(Value::as_u64);
    match (kind, parts.len()) {
        (Some(2), 4) => match (text_at(2), object_at(3)) {
            (Some(action), Some(payload)) => Ok(Frame::Call {
                id,
                action,
                payload,
            }),
            _ => Err(NoFrame { id: Some(id) }),
        },
        (Some(3), 3) => {
            let payload = object_at(2).ok_or(none)?;
            Ok(Frame::Answer { id, payload })
        }
        (Some(4), 3..=5) => Ok(Frame::Error {
            id,
            code: text_at(2).unwrap_or_default(),
            description: text_at(3).unwrap_or_default(),
        }),
        (Some(2), _) => Err(NoFrame { id: Some(id) }),
        _ => Err(none),
    }
}

/// The text of a call.
#[must_use]
pub fn call(id: &str, action: &str, payload: &Value) -> String {
    json!([2, id, action, payload]).to_string()
}

/// The text of an answer.
#[must_use]
pub fn answer(id: &str, payload: &Value) -> String {
    json!([3, id, payload]).to_string()
}

/// The text of a refusal.
#[must_use]
pub fn error(id: &str, code: Code, description: &str) -> String {
    json!([4, id, code.word(), description, {}]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_none_and_a_call_keeps_its_id() {
        let call = read(r#"[2,"a","Heartbeat",{}]"#).unwrap();
        assert!(matches!(call, Frame::Call { ref action, .. } if action == "Heartbeat"));
        let id = |id: &str| {
            Err(NoFrame {
                id: Some(id.to_owned()),
            })
        };
        assert_eq!(read(r#"[2,"a","Heartbeat"]"#), id("a"));
        assert_eq!(read(r#"[2,"a","Heartbeat",[]]"#), id("a"));
        assert_eq!(read(r#"[2,"a",7,{}]"#), id("a"));
        let long = format!(r#"[2,"{}","Heartbeat",{{}}]"#, "x".repeat(37));
        for text in [
            "",
            "{}",
            "[]",
            "[2]",
            r#"[2,7,"Heartbeat",{}]"#,
            r#"[5,"a",{}]"#,
            &long,
        ] {
            assert_eq!(read(text), Err(NoFrame { id: None }), "{text}");
        }
        assert!(matches!(
            read(r#"[4,"a","GenericError","",{}]"#),
            Ok(Frame::Error { .. })
        ));
    }
}
