//! Allowances: how much an address and an account may ask for in a time. Pure, but for the lock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

/// Most allowances that are remembered. Whoever comes when all are in use shares one with the others who do.
const BUCKETS_MAX: usize = 10_000;

/// An allowance: so much at once, and so much again in a minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rate {
    name: &'static str,
    burst: u32,
    per_minute: u32,
}

/// Looking at and using one-time links, from one address.
pub(crate) const SIGN_INS: Rate = Rate {
    name: "sign-in",
    burst: 20,
    per_minute: 10,
};
/// Introductions of keys from one address, each of which is checked in the writer's turn. Many homes may be behind one
/// address. The operator's words on keys do not come here, so that nobody can keep a key from being revoked.
pub(crate) const INTRODUCTIONS: Rate = Rate {
    name: "introductions of keys",
    burst: 60,
    per_minute: 60,
};
/// Writes of one account.
pub(crate) const ACCOUNT_WRITES: Rate = Rate {
    name: "writes of an account",
    burst: 60,
    per_minute: 120,
};
/// Most writes of one address in a minute, where the site's file says no other number.
pub(crate) const WRITES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30_000).unwrap();

/// Writes from one address, a tenth of a minute's at once. Signed messages come here too, many homes' from one
/// gateway's address.
pub(super) const fn address_writes(per_minute: NonZeroU32) -> Rate {
    Rate {
        name: "writes of an address",
        burst: per_minute.get().div_ceil(10),
        per_minute: per_minute.get(),
    }
}

/// Who has an allowance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Who {
    /// An address; of version 6, its first 64 bits.
    Address(IpAddr),
    /// An account.
    Account(String),
    /// All for whom there was no room.
    Others,
}

impl Who {
    /// Whoever comes from this address.
    pub(crate) fn at(address: IpAddr) -> Who {
        Who::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// What is left of one allowance.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests left, times [`UNIT`].
    left: i64,
    at_ms: i64,
}

/// Parts of one request: one a millisecond refills one request a minute.
const UNIT: i64 = 60_000;

impl Rate {
    const fn full(self) -> i64 {
        self.burst as i64 * UNIT
    }

    /// What is left at a time.
    fn left(self, bucket: Bucket, now_ms: i64) -> i64 {
        let passed_ms = now_ms.saturating_sub(bucket.at_ms).max(0);
        let gained = passed_ms.saturating_mul(i64::from(self.per_minute));
        bucket.left.saturating_add(gained).min(self.full())
    }
}

/// Everybody's allowances.
#[derive(Default)]
pub(crate) struct Limits {
    buckets: Mutex<BTreeMap<(Rate, Who), Bucket>>,
}

impl Limits {
    /// Takes one request out of an allowance, or says how many seconds to wait.
    pub(super) fn take(&self, rate: Rate, who: Who, now_ms: i64) -> Result<(), u32> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (rate, who);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
            buckets.retain(|(rate, _), bucket| rate.left(*bucket, now_ms) < rate.full());
            if buckets.len() >= BUCKETS_MAX {
                key.1 = Who::Others;
            }
        }
        let fresh = Bucket {
            left: rate.full(),
            at_ms: now_ms,
        };
        let bucket = buckets.entry(key).or_insert(fresh);
        let left = rate.left(*bucket, now_ms);
        let after = left - UNIT;
        bucket.at_ms = now_ms;
        bucket.left = if after >= 0 { after } else { left };
        if after >= 0 {
            return Ok(());
        }
        let wait_s = (-after).div_euclid(i64::from(rate.per_minute) * 1000) + 1;
        Err(u32::try_from(wait_s).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        name: "test",
        burst: 3,
        per_minute: 6,
    };

    fn at(text: &str) -> Who {
        Who::at(text.parse().unwrap())
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let limits = Limits::default();
        let take = |now_ms| limits.take(RATE, at("192.0.2.1"), now_ms);
        assert_eq!([take(0), take(0), take(0)], [Ok(()); 3]);
        assert_eq!(take(0), Err(11));
        assert_eq!(take(9_000), Err(2));
        assert_eq!(take(10_000), Ok(()));
        assert!(take(10_000).is_err());
        assert_eq!([take(3_600_000), take(3_600_000)], [Ok(()); 2]);
        assert_eq!(limits.take(RATE, at("192.0.2.2"), 0), Ok(()));
    }

    #[test]
    fn a_network_of_version_6_has_one_allowance() {
        let limits = Limits::default();
        for n in 1..=3 {
            let who = at(&format!("2001:db8::{n}"));
            assert_eq!(limits.take(RATE, who, 0), Ok(()));
        }
        assert!(limits.take(RATE, at("2001:db8::ffff"), 0).is_err());
        assert!(limits.take(RATE, at("2001:db8:0:1::1"), 0).is_ok());
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }

    #[test]
    fn memory_is_bounded_and_whoever_finds_no_room_shares() {
        let limits = Limits::default();
        let account = |n: usize| Who::Account(n.to_string());
        for n in 0..BUCKETS_MAX + 3 {
            assert_eq!(limits.take(RATE, account(n), 0), Ok(()));
        }
        assert!(limits.take(RATE, account(BUCKETS_MAX + 3), 0).is_err());
        assert!(limits.buckets.lock().unwrap().len() <= BUCKETS_MAX + 1);
        // Once allowances are whole again, they are forgotten.
        assert_eq!(limits.take(RATE, account(BUCKETS_MAX + 9), 60_000), Ok(()));
        assert_eq!(limits.buckets.lock().unwrap().len(), 1);
    }
}
