//! The homes' autopilots: once for each interval they propose, sign, and place their orders together.

use std::time::{Duration, Instant};

use anyhow::bail;
use domain::order::Preference;
use domain::signed::{Signed, SigningKey};
use domain::time::{Interval, Timestamp};

use super::{AUTOPILOT_LEAD_S, BATCH_MAX, Core, gate_closes, next_to_close};
use crate::platform::orders::{self, OrderAnswer, OrderMessage};
use crate::platform::standing::STANDING_SEQUENCES;
use crate::platform::{preferences, snapshot, trading};
use crate::site::Participant;

/// How long a signed order waits for those of other homes at most: gates close in model time, which may run fast.
const TOGETHER_WALL_MAX: Duration = Duration::from_millis(20);

impl Core {
    /// Lets every autopilot propose once for the interval that closes next.
    pub(super) async fn place_orders(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let open = next_to_close(&self.shared, now)?;
        if now < gate_closes(&self.shared, open).plus_s(-AUTOPILOT_LEAD_S) {
            return Ok(());
        }
        if self.asked == Some(open) {
            return Ok(());
        }
        let ordered =
            market_engine::service::ordered(&self.shared.db, open, STANDING_SEQUENCES).await?;
        let (site, keys) = (&self.shared.site, self.shared.keys());
        let chosen = preferences::chosen(&self.shared.db).await?;
        let traders = trading::chosen(&self.shared.db).await?;
        let only_price = Preference::default();
        // Where shares are bounded, a home's proposal goes by what those before it have placed.
        let wait = match self.shared.market.rules.share_cap_permille {
            Some(_) => Duration::ZERO,
            None => TOGETHER_WALL_MAX,
        };
        let (mut batch, mut failed, mut since) = (Vec::new(), false, Instant::now());
        for wishes in &site.participants {
            let participant = &wishes.id;
            // Who has placed an order of its own needs none from the autopilot, and who took one back wants
            // none; a standing order is for other energy. An autopilot signs once for an interval: other bytes would be evidence against its home.
            if ordered.contains(participant) {
                continue;
            }
            let wishes = preferences::applied(wishes, &chosen);
            let trades = traders.get(participant).unwrap_or(&only_price);
            match self
                .proposed((&wishes, trades), keys.held(participant), open, now)
                .await
            {
                Ok(message) => batch.extend(message),
                Err(error) => {
                    tracing::error!(%participant, "its autopilot could not order: {error:#}");
                    failed = true;
                }
            }
            if batch.len() >= BATCH_MAX || since.elapsed() >= wait {
                failed |= !self.place_together(&std::mem::take(&mut batch)).await;
                since = Instant::now();
            }
        }
        failed |= !self.place_together(&batch).await;
        if failed {
            // What was committed in spite of the error is read again before anything is signed again.
            bail!("not every autopilot could place its order");
        }
        self.asked = Some(open);
        Ok(())
    }

    /// The signed order that an autopilot proposes and may place.
    async fn proposed(
        &self,
        (wishes, trades): (&Participant, &Preference),
        key: Option<&SigningKey>,
        open: Interval,
        now: Timestamp,
    ) -> anyhow::Result<Option<OrderMessage>> {
        let Some(mut proposal) = snapshot::proposal(&self.shared, wishes, open, now).await? else {
            return Ok(None);
        };
        // For whom the platform cannot sign it suggests only.
        let Some(key) = key.filter(|_| proposal.to_be_placed) else {
            self.shared.suggest(proposal);
            return Ok(None);
        };
        let rules = &self.shared.market.rules;
        proposal.order.preference = trading::said(trades, &proposal.order, rules);
        let signed = Signed::sign(key, &self.shared.site.community, &proposal.order);
        let message = orders::read_any(&self.shared, signed.as_bytes().to_vec());
        Ok(Some(message))
    }

    /// Places autopilots' orders. `false` where one could not be stored.
    async fn place_together(&self, messages: &[OrderMessage]) -> bool {
        let mut stored = true;
        for (message, answer) in messages.iter().zip(self.answers(messages).await) {
            let participant = message.participant().map_or("nobody", |who| who.as_str());
            match answer {
                OrderAnswer::Accepted(_) | OrderAnswer::Again { .. } => {}
                OrderAnswer::Unavailable => stored = false,
                refused => {
                    tracing::warn!(participant, ?refused, "the autopilot's order was refused");
                }
            }
        }
        stored
    }
}
