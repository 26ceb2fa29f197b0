//! Who listens to events, and for how long: so many streams in all, so many from one address, and each of
//! them for a few minutes only. Whoever goes on listening asks again, and is looked at again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};

use crate::auth::Who;

/// Most streams that are open at the same time.
const LISTENERS_MAX: usize = 1000;
/// Most of them from one address; of version 6, from its first 64 bits.
const LISTENERS_OF_ADDRESS_MAX: usize = 32;
/// Longest time of one stream. Browsers come back by themselves.
const LISTEN_FOR: Duration = Duration::from_secs(300);

/// The streams that are open, by where they lead to.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<BTreeMap<Who, usize>>);

/// One stream's place, for as long as it is open.
pub(crate) struct Place {
    listeners: Arc<Listeners>,
    who: Who,
}

impl Listeners {
    /// A place for a stream to this address, or why there is none.
    pub(crate) fn enter(self: &Arc<Self>, address: &str) -> Result<Place, &'static str> {
        let who = address.parse().map_or(Who::Others, Who::at);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= LISTENERS_MAX {
            return Err("Too many pages and programs listen at the moment. Try again later.");
        }
        let own = open.entry(who.clone()).or_default();
        if *own >= LISTENERS_OF_ADDRESS_MAX {
            return Err("Too many pages and programs of your address listen. Close some of them.");
        }
        *own += 1;
        drop(open);
        let listeners = Arc::clone(self);
        Ok(Place { listeners, who })
    }

    /// How many streams are open.
    pub(crate) fn count(&self) -> usize {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.listeners.0.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.who) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.who);
            }
        }
    }
}

/// The stream until its time is over: nobody who has signed out, or who is not let in any more, hears more.
pub(crate) fn for_a_while<S: Stream>(stream: S) -> impl Stream<Item = S::Item> {
    until(stream, LISTEN_FOR)
}

fn until<S: Stream>(stream: S, longest: Duration) -> impl Stream<Item = S::Item> {
    stream.take_until(tokio::time::sleep(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_of_the_places_and_gives_them_back() {
        let listeners = Arc::new(Listeners::default());
        let enter = |address: &str| listeners.enter(address);
        let mut held: Vec<Place> = (0..LISTENERS_OF_ADDRESS_MAX)
            .map(|n| enter(&format!("2001:db8::{n:x}")).unwrap())
            .collect();
        assert!(
            enter("2001:db8::ffff").is_err(),
            "one network is one address"
        );
        assert!(enter("2001:db8:0:1::1").is_ok());
        held.pop();
        held.push(enter("2001:db8::ffff").unwrap());
        let mut n = 0;
        while let Ok(place) = enter(&format!("192.0.2.{}", n / LISTENERS_OF_ADDRESS_MAX)) {
            held.push(place);
            n += 1;
        }
        assert_eq!(listeners.count(), LISTENERS_MAX);
        assert!(enter("198.51.100.1").is_err(), "no more than in all");
        held.clear();
        assert_eq!(listeners.count(), 0);
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_time_is_over_and_not_before() {
        let silent = futures_util::stream::pending::<u8>();
        let ended = until(silent, Duration::from_millis(30)).collect::<Vec<_>>();
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert_eq!(ended, Ok(vec![]));
        let silent = futures_util::stream::pending::<u8>();
        let open = for_a_while(silent).collect::<Vec<_>>();
        let open = tokio::time::timeout(Duration::from_millis(30), open).await;
        assert!(open.is_err(), "it is still open");
    }
}
