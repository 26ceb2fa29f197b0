//! Slows down whoever tries passwords, without shutting out others who share the address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Limits;

const WINDOW: Duration = Duration::from_secs(60);
/// How many addresses, and how many pairs of address and user name, are remembered; beyond it the
/// oldest is forgotten.
const MAX_REMEMBERED: usize = 1024;

/// A user name as SHA-256, so that long names take no more memory than short ones.
type UserHash = [u8; 32];

/// Failed logins in the last minute, per user name at an address and per address.
///
/// A user that is shut out adds nothing to its address, so one client that keeps trying a wrong
/// password never shuts out the others.
#[derive(Debug)]
pub(super) struct LoginGate {
    max_per_user: u32,
    max_per_address: u32,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    users: Counts<(IpAddr, UserHash)>,
    addresses: Counts<IpAddr>,
}

impl LoginGate {
    pub(super) fn new(limits: &Limits) -> Self {
        LoginGate {
            max_per_user: limits.failed_logins_per_minute,
            max_per_address: limits.failed_logins_per_address,
            failures: Mutex::default(),
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this user at this address, or the whole address, failed too often.
    pub(super) fn is_shut(&self, address: IpAddr, user: Option<&str>, now: Instant) -> bool {
        let failures = self.failures();
        failures.addresses.recent(&address, now) >= self.max_per_address
            || failures.users.recent(&(address, hash(user)), now) >= self.max_per_user
    }

    pub(super) fn failed(&self, address: IpAddr, user: Option<&str>, now: Instant) {
        let mut failures = self.failures();
        failures.users.add((address, hash(user)), now);
        failures.addresses.add(address, now);
    }
}

/// A client without a name counts like one with an empty name, which no user has.
fn hash(user: Option<&str>) -> UserHash {
    Sha256::digest(user.unwrap_or_default()).into()
}

/// Since when, and how often.
#[derive(Debug)]
struct Counts<K>(HashMap<K, (Instant, u32)>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Counts(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Counts<K> {
    fn recent(&self, key: &K, now: Instant) -> u32 {
        let entry = self.0.get(key).filter(|(since, _)| now < *since + WINDOW);
        entry.map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, key: K, now: Instant) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&key) {
            self.0.retain(|_, (since, _)| now < *since + WINDOW);
            let oldest = self.0.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(key, _)| *key)
                && self.0.len() >= MAX_REMEMBERED
            {
                self.0.remove(&oldest);
            }
        }
        let entry = self.0.entry(key).or_insert((now, 0));
        if now >= entry.0 + WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn gate(per_user: u32, per_address: u32) -> LoginGate {
        LoginGate::new(&Limits {
            failed_logins_per_minute: per_user,
            failed_logins_per_address: per_address,
            ..Limits::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_shut_out_for_a_minute_and_its_neighbours_are_not() {
        let gate = gate(3, 100);
        let elsewhere = IpAddr::from([10, 0, 0, 2]);
        for _ in 0..3 {
            assert!(!gate.is_shut(HERE, Some("gw1"), Instant::now()));
            gate.failed(HERE, Some("gw1"), Instant::now());
        }
        assert!(gate.is_shut(HERE, Some("gw1"), Instant::now()));
        assert!(!gate.is_shut(HERE, Some("gw2"), Instant::now()));
        assert!(!gate.is_shut(HERE, None, Instant::now()));
        assert!(!gate.is_shut(elsewhere, Some("gw1"), Instant::now()));
        tokio::time::advance(WINDOW).await;
        assert!(!gate.is_shut(HERE, Some("gw1"), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_tries_many_names_is_shut_out_for_a_minute() {
        let gate = gate(3, 10);
        for n in 0..10 {
            assert!(!gate.is_shut(HERE, Some("gw1"), Instant::now()), "{n}");
            gate.failed(HERE, Some(&n.to_string()), Instant::now());
        }
        assert!(gate.is_shut(HERE, Some("gw1"), Instant::now()));
        assert!(!gate.is_shut([10, 0, 0, 2].into(), Some("gw1"), Instant::now()));
        tokio::time::advance(WINDOW).await;
        assert!(!gate.is_shut(HERE, Some("gw1"), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_newest_are_remembered() {
        let gate = gate(1, 1);
        let count = 2 * u32::try_from(MAX_REMEMBERED).unwrap();
        for n in 0..count {
            gate.failed(n.to_be_bytes().into(), Some("gw1"), Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let failures = gate.failures.lock().unwrap();
        assert_eq!(failures.users.0.len(), MAX_REMEMBERED);
        assert_eq!(failures.addresses.0.len(), MAX_REMEMBERED);
        drop(failures);
        let last = IpAddr::from((count - 1).to_be_bytes());
        assert!(gate.is_shut(last, Some("gw1"), Instant::now()));
        assert!(!gate.is_shut([0, 0, 0, 0].into(), Some("gw1"), Instant::now()));
    }
}
