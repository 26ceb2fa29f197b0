//! How much goes out: history at a limited rate, and next to nothing while the broker has nobody who
//! takes it. Times are milliseconds of the running process.

use std::collections::{BTreeMap, BTreeSet};

use runtime::mqtt::Answer;

use crate::spool::Outgoing;

/// First pause after a refusal; it doubles with each up to [`PAUSE_MAX_MS`].
const PAUSE_MIN_MS: i64 = 5_000;
/// Longest pause after a refusal.
const PAUSE_MAX_MS: i64 = 60_000;

/// A reading that was handed to the link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) point: String,
    pub(super) sequence: i64,
}

/// What the publisher remembers to hold back.
#[derive(Debug)]
pub struct Flow {
    history_per_s: u32,
    /// Thousandths of a reading of history that may go now.
    history_milli: i64,
    filled_ms: i64,
    refusals: u32,
    shut_until_ms: i64,
    last_ticket: u64,
    under_way: BTreeMap<u64, Sent>,
    /// What was already said to people.
    said: BTreeSet<&'static str>,
}

impl Flow {
    /// Lets `history_per_s` readings of history out per second.
    #[must_use]
    pub fn new(history_per_s: u32) -> Self {
        Flow {
            history_per_s,
            history_milli: 0,
            filled_ms: 0,
            refusals: 0,
            shut_until_ms: 0,
            last_ticket: 0,
            under_way: BTreeMap::new(),
            said: BTreeSet::new(),
        }
    }

    /// Most readings that may go out at `now_ms`: none in a pause, one to see whether it is over.
    pub(super) fn most(&self, now_ms: i64) -> usize {
        match self.refusals {
            0 => usize::MAX,
            _ if now_ms < self.shut_until_ms || !self.under_way.is_empty() => 0,
            _ => 1,
        }
    }

    /// Most readings of history that may go out at `now_ms`; never more than a second's worth at once.
    pub(super) fn history(&mut self, now_ms: i64) -> usize {
        let per_s = i64::from(self.history_per_s);
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = now_ms;
        let filled = self
            .history_milli
            .saturating_add(passed_ms.saturating_mul(per_s));
        self.history_milli = filled.min(per_s.saturating_mul(1000));
        usize::try_from(self.history_milli / 1000).unwrap_or(0)
    }

    /// A ticket for a reading that goes out.
    pub(super) fn ticket(&mut self, one: &Outgoing) -> u64 {
        self.last_ticket += 1;
        let sent = Sent {
            point: one.point.clone(),
            sequence: one.sequence,
        };
        self.under_way.insert(self.last_ticket, sent);
        self.last_ticket
    }

    /// It went out.
    pub(super) fn went(&mut self, one: &Outgoing) {
        if one.is_history {
            self.history_milli -= 1000;
        }
    }

    /// It did not go out after all.
    pub(super) fn withdraw(&mut self, ticket: u64) {
        self.under_way.remove(&ticket);
    }

    /// Which reading an answer is about.
    pub(super) fn answered(&mut self, ticket: u64) -> Option<Sent> {
        self.under_way.remove(&ticket)
    }

    /// Somebody takes readings. A late word of it does not end a pause that has begun since.
    pub(super) fn opened(&mut self, now_ms: i64) {
        if now_ms < self.shut_until_ms {
            return;
        }
        self.refusals = 0;
        self.said.clear();
    }

    /// Nobody takes readings, or we may not: a pause begins, once for all that were under way.
    pub(super) fn refused(&mut self, now_ms: i64) {
        if now_ms < self.shut_until_ms {
            return;
        }
        let pause_ms = (PAUSE_MIN_MS << self.refusals.min(16)).min(PAUSE_MAX_MS);
        self.shut_until_ms = now_ms.saturating_add(pause_ms);
        self.refusals = self.refusals.saturating_add(1);
    }

    /// A new connection knows nothing of the last one.
    pub(super) fn reconnected(&mut self) {
        self.under_way.clear();
        self.shut_until_ms = 0;
    }

    /// Whether this is the first answer of its kind since readings were last taken.
    pub(super) fn is_news(&mut self, answer: Answer) -> bool {
        self.said.insert(answer.name())
    }
}

/// What people should know about an answer.
pub(super) fn advice(answer: Answer) -> &'static str {
    match answer {
        Answer::Taken => "readings are taken",
        Answer::Nobody => {
            "the broker has nobody who takes readings: is the platform running and connected to this \
             broker? They are kept, and tried again more and more seldom"
        }
        Answer::NotAuthorized => {
            "the broker does not let this user write its readings: is the gateway in the platform's \
             site.toml, and may this user write cw/v1/<community>/<gateway>/reading?"
        }
        Answer::QuotaExceeded => {
            "the broker is over a limit; readings are kept and tried again later"
        }
        Answer::TooLarge => {
            "a reading is larger than the packets that the broker takes; raise its limit"
        }
        Answer::Refused(_) => "the broker refused a reading; its log says why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(is_history: bool) -> Outgoing {
        Outgoing {
            point: "p".into(),
            sequence: 1,
            message: Vec::new(),
            attempts: 0,
            is_history,
        }
    }

    #[test]
    fn history_goes_at_its_rate_whatever_the_steps() {
        for step_ms in [1, 7, 500, 4000] {
            let mut flow = Flow::new(3);
            let (mut now_ms, mut sent) = (0, 0);
            while now_ms < 100_000 {
                now_ms += step_ms;
                for _ in 0..flow.history(now_ms).min(64) {
                    flow.went(&outgoing(true));
                    sent += 1;
                }
            }
            // Long steps lose what is beyond a second's worth; none goes faster.
            let least = if step_ms <= 1000 { 298 } else { 70 };
            assert!(
                (least..=300).contains(&sent),
                "{sent} in steps of {step_ms} ms"
            );
        }
    }

    #[test]
    fn refusals_pause_longer_and_longer_and_one_reading_tries_again() {
        let mut flow = Flow::new(1);
        assert_eq!(flow.most(0), usize::MAX);
        let first = flow.ticket(&outgoing(false));
        let second = flow.ticket(&outgoing(false));
        for ticket in [first, second] {
            assert!(flow.answered(ticket).is_some());
            flow.refused(100);
        }
        assert_eq!(
            (flow.most(100), flow.most(5_099), flow.most(5_100)),
            (0, 0, 1)
        );
        let probe = flow.ticket(&outgoing(false));
        assert_eq!(flow.most(5_100), 0, "one at a time");
        flow.answered(probe);
        flow.refused(6_000);
        assert_eq!((flow.most(15_999), flow.most(16_000)), (0, 1));
        flow.reconnected();
        assert_eq!(flow.most(6_001), 1, "a new connection is worth a try");
        flow.opened(6_001);
        assert_eq!(flow.most(6_001), usize::MAX);
        flow.refused(7_000);
        flow.opened(7_001);
        assert_eq!(flow.most(7_002), 0, "a late word ends no pause");
        assert!(flow.is_news(Answer::Nobody) && !flow.is_news(Answer::Nobody));
    }
}
