//! What a broker counts, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start. Everything that is dropped or refused is counted here.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) refused_connections: AtomicU64,
    pub(super) refused_tls: AtomicU64,
    pub(super) takeovers: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) refused_publishes: AtomicU64,
    pub(super) refused_subscriptions: AtomicU64,
    pub(super) retained_refused: AtomicU64,
    pub(super) dropped_qos0: AtomicU64,
    pub(super) dropped_expired: AtomicU64,
    pub(super) dropped_too_large: AtomicU64,
    pub(super) stuck_subscribers: AtomicU64,
    pub(super) undelivered_at_disconnect: AtomicU64,
    pub(super) ended_by_broker: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Every counter with its name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 15] {
        [
            ("connections", &self.connections),
            ("refused_connections", &self.refused_connections),
            ("refused_tls", &self.refused_tls),
            ("takeovers", &self.takeovers),
            ("received", &self.received),
            ("sent", &self.sent),
            ("refused_publishes", &self.refused_publishes),
            ("refused_subscriptions", &self.refused_subscriptions),
            ("retained_refused", &self.retained_refused),
            ("dropped_qos0", &self.dropped_qos0),
            ("dropped_expired", &self.dropped_expired),
            ("dropped_too_large", &self.dropped_too_large),
            ("stuck_subscribers", &self.stuck_subscribers),
            ("undelivered_at_disconnect", &self.undelivered_at_disconnect),
            ("ended_by_broker", &self.ended_by_broker),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }

    /// One counter by its name; 0 for a name that is not counted.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.all()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, count)| count)
    }
}
