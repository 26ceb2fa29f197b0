//! Devices that report JSON over MQTT. A retained message is not fresh: it was said at some other
//! time, and nobody knows when.

use super::{Values, decode::Exact};
use crate::profile::{Profile, Source};

/// Longest payload that is looked at, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024;

/// Why a message was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message is not a JSON object of at most {PAYLOAD_MAX_BYTES} bytes")]
pub struct NotJson;

/// The topics behind a device's prefix that carry its values.
#[must_use]
pub fn topics(profile: &Profile) -> Vec<&str> {
    let mut topics: Vec<&str> = Vec::new();
    for point in &profile.points {
        if let Source::Json { topic, .. } = &point.source
            && !topics.contains(&topic.as_str())
        {
            topics.push(topic);
        }
    }
    topics
}

/// Takes the values in one message into `values`.
///
/// # Errors
/// The payload is too long, or no JSON object.
pub fn decode(
    profile: &Profile,
    topic: &str,
    payload: &[u8],
    values: &mut Values,
) -> Result<(), NotJson> {
    if payload.len() > PAYLOAD_MAX_BYTES {
        return Err(NotJson);
    }
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(payload).map_err(|_| NotJson)?;
    for point in &profile.points {
        let Source::Json { topic: wanted, key } = &point.source else {
            continue;
        };
        if wanted != topic {
            continue;
        }
        // The shortest text of a parsed number is the decimal that was sent (up to 15 digits).
        if let Some(serde_json::Value::Number(number)) = object.get(key)
            && let Some(exact) = Exact::from_decimal(&number.to_string())
        {
            values.set(point, exact);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_and_missing_keys_are_missing() {
        let profile = Profile::built_in("shelly-pro-3em").unwrap();
        assert_eq!(topics(&profile), ["status/emdata:0", "status/em:0"]);
        let mut values = Values::default();
        for bad in [&b"{"[..], b"[]", b"17", &[b' '; PAYLOAD_MAX_BYTES + 1]] {
            assert_eq!(
                decode(&profile, "status/em:0", bad, &mut values),
                Err(NotJson)
            );
        }
        let text = br#"{"total_act": "12", "total_act_ret": 1e400}"#;
        let _ = decode(&profile, "status/emdata:0", text, &mut values);
        decode(
            &profile,
            "status/emdata:0",
            br#"{"total_act": "12"}"#,
            &mut values,
        )
        .unwrap();
        assert_eq!(values, Values::default());
    }
}
