//! How many orders, chargers' records, or keys a gateway may bring in a minute before anybody looks at their signatures, which take the time; and what
//! the log says of those that the site does not have.

use std::collections::BTreeMap;

use domain::ids::GatewayId;
use domain::time::Timestamp;

const MINUTE_S: i64 = 60;

/// What becomes of a message at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Knock {
    /// It is looked at.
    In,
    /// It is the first that is too many in this minute: its gateway is told so.
    TooMany,
    /// It is dropped unread.
    Dropped,
}

/// Counts of the minute that runs.
#[derive(Default)]
pub(super) struct Door {
    minute_s: i64,
    counts: BTreeMap<GatewayId, u32>,
    strangers: Strangers,
}

/// Messages in the names of gateways that the site does not have. Names are made up as quickly as messages, so none is
/// remembered: all have one line in the log in a minute together.
#[derive(Default)]
struct Strangers {
    said_minute_s: Option<i64>,
    unsaid: u64,
}

impl Door {
    /// A gateway brings a message; `most` it may bring in a minute.
    pub(super) fn knock(&mut self, now: Timestamp, gateway: &GatewayId, most: u32) -> Knock {
        let minute_s = now.unix_s().div_euclid(MINUTE_S);
        if minute_s != self.minute_s {
            self.minute_s = minute_s;
            self.counts.clear();
        }
        let count = self.counts.entry(gateway.clone()).or_default();
        *count = count.saturating_add(1);
        match *count {
            n if n <= most => Knock::In,
            n if n - most == 1 => Knock::TooMany,
            _ => Knock::Dropped,
        }
    }

    /// A gateway that the site does not have brings a message. Where that is to be said in the log, how many such
    /// messages came since it was said last, this one not among them; none where this minute has its line.
    pub(super) fn stranger(&mut self, now: Timestamp) -> Option<u64> {
        let minute_s = now.unix_s().div_euclid(MINUTE_S);
        let strangers = &mut self.strangers;
        if strangers.said_minute_s == Some(minute_s) {
            strangers.unsaid = strangers.unsaid.saturating_add(1);
            return None;
        }
        strangers.said_minute_s = Some(minute_s);
        Some(std::mem::take(&mut strangers.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_told_once_a_minute_and_keeps_no_other_out() {
        let mut door = Door::default();
        let gateway = |n: u32| GatewayId::new(format!("gw-{n}")).unwrap();
        let mut knock = |s: i64, n: u32| door.knock(Timestamp::from_unix_s(s), &gateway(n), 2);
        let first: Vec<Knock> = (0..5).map(|s| knock(s, 1)).collect();
        let dropped = Knock::Dropped;
        assert_eq!(
            first,
            [Knock::In, Knock::In, Knock::TooMany, dropped, dropped]
        );
        assert_eq!(knock(5, 2), Knock::In);
        assert_eq!(knock(59, 1), Knock::Dropped);
        assert_eq!(knock(60, 1), Knock::In);
    }

    #[test]
    fn strangers_have_one_line_in_a_minute_and_are_counted() {
        let mut door = Door::default();
        let mut knock = |s: i64| door.stranger(Timestamp::from_unix_s(s));
        assert_eq!(knock(0), Some(0));
        assert!((0..1000).all(|n| knock(n % 60).is_none()));
        assert_eq!([knock(60), knock(61)], [Some(1000), None]);
        assert_eq!([knock(600), knock(660)], [Some(1), Some(0)]);
    }
}
