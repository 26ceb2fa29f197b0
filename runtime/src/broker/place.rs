//! What a client holds in the broker, and how it gives it back.

use std::sync::Arc;

use super::Shared;
use super::hub::SessionKey;
use super::wire::Message;

/// A client's place in the broker. However its connection ends, dropping this takes its
/// subscriptions away, publishes its last will, and only then frees its key.
pub(super) struct Place {
    pub shared: Arc<Shared>,
    pub key: SessionKey,
    pub number: u64,
    pub will: Option<Message>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.hub.leave(&self.key, self.number);
        if let Some(will) = self.will.take()
            && let Ok(routed) = self.shared.hub.route(will, self.number)
            && !routed.is_complete()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move { shared.hub.wait(routed).await });
        }
        self.shared.hub.release(&self.key);
    }
}
