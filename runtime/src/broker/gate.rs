//! Slows down whoever tries passwords.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses are remembered; beyond it the oldest is forgotten.
const MAX_ADDRESSES: usize = 1024;

/// Failed logins per address and minute.
#[derive(Debug)]
pub(super) struct LoginGate {
    max_failures: u32,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl LoginGate {
    pub(super) fn new(max_failures: u32) -> Self {
        LoginGate {
            max_failures,
            failures: Mutex::default(),
        }
    }

    /// Whether this address failed too often within the last minute.
    pub(super) fn is_shut(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&address)
            .is_some_and(|(since, count)| now < *since + WINDOW && *count >= self.max_failures)
    }

    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            failures.retain(|_, (since, _)| now < *since + WINDOW);
            let oldest = failures.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(address, _)| *address)
                && failures.len() >= MAX_ADDRESSES
            {
                failures.remove(&oldest);
            }
        }
        let entry = failures.entry(address).or_insert((now, 0));
        if now >= entry.0 + WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_shut_out_for_a_minute_and_memory_is_bounded() {
        let gate = LoginGate::new(3);
        let guesser = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            assert!(!gate.is_shut(guesser, Instant::now()));
            gate.failed(guesser, Instant::now());
        }
        assert!(gate.is_shut(guesser, Instant::now()));
        assert!(!gate.is_shut(IpAddr::from([10, 0, 0, 2]), Instant::now()));
        tokio::time::advance(WINDOW).await;
        assert!(!gate.is_shut(guesser, Instant::now()));
        for n in 0..2 * u32::try_from(MAX_ADDRESSES).unwrap() {
            gate.failed(IpAddr::from(n.to_be_bytes()), Instant::now());
        }
        assert_eq!(gate.failures.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
