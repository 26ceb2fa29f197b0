//! The rows around many messages about orders: what the market knows of them is read with few statements, and what became
//! of them is written with few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use domain::cancel::Cancel;
use domain::ids::{Digest32, OrderId, ParticipantId};
use domain::order::Order;
use domain::rejection::Rejection;
use domain::signed::{MESSAGE_MAX_BYTES, Message};
use domain::time::{Interval, Timestamp};
use runtime::args;
use runtime::db::{Args, Listed, Tx};

use super::{EVIDENCE_MAX, PlacedRow, REFUSED_KEPT, UNPROVEN_KEPT, count, placed, stored_sequence};
use crate::market::{Placed, Sender, Totals};
use crate::service::MarketError;

/// A participant's messages about an interval, by its start.
pub(crate) type InInterval<'a> = (&'a ParticipantId, Timestamp);
/// A participant's message of a sequence.
pub(crate) type Numbered<'a> = (&'a ParticipantId, u64);

// Cross joins, which SQLite takes in this order: the list first, then the table by its key.

static TOTALS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT t.interval_start_s, t.arrivals, t.bid_wh, t.offer_wh \
         FROM asked CROSS JOIN market_totals t WHERE t.interval_start_s = asked.start_s";
    Listed::over("asked", &["start_s"], select)
});

static SENDERS: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT s.participant, s.minute_s, s.messages \
         FROM asked CROSS JOIN market_sender s WHERE s.participant = asked.participant";
    Listed::over("asked", &["participant"], select)
});

/// The orders of [`PlacedRow`] under a condition.
macro_rules! placed_sql {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.content, o.signed, o.arrival, \
             CASE WHEN w.order_id IS NULL THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END \
             FROM asked CROSS JOIN market_order o LEFT JOIN market_withdrawn w ON w.order_id = o.id WHERE ",
            $condition
        )
    };
}

static IN_INTERVAL: LazyLock<Listed> = LazyLock::new(|| {
    let select =
        placed_sql!("o.participant = asked.participant AND o.interval_start_s = asked.start_s");
    Listed::over("asked", &["participant", "start_s"], select).row_by_row()
});

static NUMBERED: LazyLock<Listed> = LazyLock::new(|| {
    let select = placed_sql!("o.participant = asked.participant AND o.sequence = asked.sequence");
    Listed::over("asked", &["participant", "sequence"], select)
});

static NAMED: LazyLock<Listed> =
    LazyLock::new(|| Listed::over("asked", &["id"], placed_sql!("o.id = asked.id")));

static FORESTALLED: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT f.participant, f.interval_start_s, f.sequence \
         FROM asked CROSS JOIN market_forestalled f \
         WHERE f.participant = asked.participant AND f.interval_start_s = asked.start_s";
    Listed::over("asked", &["participant", "start_s"], select)
});

/// What these intervals' orders come to, where there are any, by the intervals' starts.
pub(crate) async fn totals(
    tx: &mut Tx,
    intervals: &BTreeSet<Interval>,
) -> Result<BTreeMap<i64, Totals>, MarketError> {
    let starts: BTreeSet<i64> = intervals.iter().map(|i| i.start_s()).collect();
    let asked = starts.into_iter().map(|start_s| args![start_s]).collect();
    let rows: Vec<(i64, i64, i64, i64)> = TOTALS.fetch(tx, asked).await?;
    let totals = |(start_s, arrivals, bid_wh, offer_wh)| {
        let arrivals = count(arrivals)?;
        let totals = Totals {
            arrivals,
            bid_wh,
            offer_wh,
        };
        Ok((start_s, totals))
    };
    rows.into_iter().map(totals).collect()
}

/// What these participants have sent, where that is anything.
pub(crate) async fn senders(
    tx: &mut Tx,
    participants: &BTreeSet<&ParticipantId>,
) -> Result<Vec<(ParticipantId, Sender)>, MarketError> {
    let asked = participants.iter().map(|p| args![p.as_str()]).collect();
    let rows: Vec<(String, i64, i64)> = SENDERS.fetch(tx, asked).await?;
    let sender = |(name, minute_s, messages)| {
        let messages = count(messages)?;
        Ok((participant(name)?, Sender { minute_s, messages }))
    };
    rows.into_iter().map(sender).collect()
}

/// The accepted orders of participants in intervals, those with these sequences, wherever they are, and those with these
/// ids, whoever's they are. One may be there more than once.
pub(crate) async fn around(
    tx: &mut Tx,
    in_intervals: &BTreeSet<InInterval<'_>>,
    numbered: &BTreeSet<Numbered<'_>>,
    named: &BTreeSet<OrderId>,
) -> Result<Vec<Placed>, MarketError> {
    let mut rows: Vec<PlacedRow> = IN_INTERVAL.fetch(tx, places(in_intervals)).await?;
    // No sequence that does not fit was ever accepted.
    let fits = |(who, sequence): &Numbered<'_>| {
        let sequence = i64::try_from(*sequence).ok()?;
        Some(args![who.as_str(), sequence])
    };
    let asked = numbered.iter().filter_map(fits).collect();
    rows.extend(NUMBERED.fetch::<PlacedRow>(tx, asked).await?);
    let asked = named.iter().map(|id| args![id.as_bytes()]).collect();
    rows.extend(NAMED.fetch::<PlacedRow>(tx, asked).await?);
    rows.into_iter().map(placed).collect()
}

fn places(in_intervals: &BTreeSet<InInterval<'_>>) -> Vec<Args> {
    let place = |(who, start): &InInterval<'_>| args![who.as_str(), start.unix_s()];
    in_intervals.iter().map(place).collect()
}

/// The sequences of participants' orders of intervals that were taken back before they came.
pub(crate) async fn forestalled(
    tx: &mut Tx,
    in_intervals: &BTreeSet<InInterval<'_>>,
) -> Result<Vec<(ParticipantId, Timestamp, u64)>, MarketError> {
    let rows: Vec<(String, i64, i64)> = FORESTALLED.fetch(tx, places(in_intervals)).await?;
    let one = |(name, start_s, sequence)| {
        let sequence = u64::try_from(sequence);
        let sequence = sequence.map_err(|_| MarketError::Corrupt("a sequence"))?;
        Ok((
            participant(name)?,
            Timestamp::from_unix_s(start_s),
            sequence,
        ))
    };
    rows.into_iter().map(one).collect()
}

/// Whether this very message has taken its order back, or kept it out.
pub(crate) async fn was_cancelled(
    tx: &mut Tx,
    cancel: &Cancel,
    signed: &[u8],
) -> Result<bool, MarketError> {
    // No sequence that does not fit was ever accepted.
    let Ok(sequence) = i64::try_from(cancel.sequence) else {
        return Ok(false);
    };
    let sql = "SELECT at_ms FROM market_withdrawn WHERE order_id = $1 AND signed = $2 \
         UNION ALL SELECT at_ms FROM market_forestalled \
         WHERE participant = $3 AND interval_start_s = $4 AND sequence = $5 AND signed = $2";
    let values = args![
        cancel.order().as_bytes(),
        signed,
        cancel.participant.as_str(),
        cancel.interval.start_s(),
        sequence
    ];
    let rows: Vec<(i64,)> = tx.fetch_all(sql, values).await?;
    Ok(!rows.is_empty())
}

fn participant(name: String) -> Result<ParticipantId, MarketError> {
    ParticipantId::new(name).map_err(|_| MarketError::Corrupt("a participant"))
}

static NEW_ORDERS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = [
        "id",
        "participant",
        "sequence",
        "interval_start_s",
        "arrival",
        "accepted_at_ms",
        "content",
        "signed",
    ];
    Listed::insert("market_order", &columns, "")
});

static NEW_WITHDRAWN: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["order_id", "by_order", "signed", "at_ms"];
    Listed::insert("market_withdrawn", &columns, "")
});

static NEW_FORESTALLED: LazyLock<Listed> = LazyLock::new(|| {
    let columns = [
        "participant",
        "interval_start_s",
        "sequence",
        "signed",
        "at_ms",
    ];
    Listed::insert("market_forestalled", &columns, "")
});

static NEW_TOTALS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["interval_start_s", "arrivals", "bid_wh", "offer_wh"];
    let behind = "ON CONFLICT (interval_start_s) DO UPDATE SET \
         arrivals = excluded.arrivals, bid_wh = excluded.bid_wh, offer_wh = excluded.offer_wh";
    Listed::insert("market_totals", &columns, behind)
});

static NEW_SENDERS: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["participant", "minute_s", "messages"];
    let behind = "ON CONFLICT (participant) DO UPDATE SET \
         minute_s = excluded.minute_s, messages = excluded.messages";
    Listed::insert("market_sender", &columns, behind)
});

/// What became of orders, to be written.
#[derive(Default)]
pub(crate) struct Written<'a> {
    orders: Vec<Args>,
    withdrawn: Vec<Args>,
    forestalled: Vec<Args>,
    evidence: Vec<Evidence<'a>>,
}

/// Two different messages that used one sequence.
struct Evidence<'a> {
    order: &'a Order,
    kept: Vec<u8>,
    other: &'a [u8],
}

impl<'a> Written<'a> {
    /// An order is accepted.
    pub(crate) fn order(
        &mut self,
        order: &Order,
        arrival: u32,
        signed: &[u8],
        now: Timestamp,
    ) -> Result<(), MarketError> {
        self.orders.push(args![
            order.id().as_bytes(),
            order.participant.as_str(),
            stored_sequence(order.sequence)?,
            order.interval.start_s(),
            arrival,
            now.unix_ms(),
            order.to_cbor(),
            signed,
        ]);
        Ok(())
    }

    /// An order leaves the book; `signed` is the message that took it out.
    pub(crate) fn withdrawn(
        &mut self,
        order: OrderId,
        by: Option<OrderId>,
        signed: &[u8],
        now: Timestamp,
    ) {
        let by = by.map(|by| by.as_bytes().to_vec());
        let row = args![order.as_bytes(), by, signed, now.unix_ms()];
        self.withdrawn.push(row);
    }

    /// An order is taken back before it came; `signed` is the cancel.
    pub(crate) fn forestalled(
        &mut self,
        cancel: &Cancel,
        signed: &[u8],
        now: Timestamp,
    ) -> Result<(), MarketError> {
        self.forestalled.push(args![
            cancel.participant.as_str(),
            cancel.interval.start_s(),
            stored_sequence(cancel.sequence)?,
            signed,
            now.unix_ms(),
        ]);
        Ok(())
    }

    /// An order's sequence is used by the one that was kept with these bytes.
    pub(crate) fn evidence(&mut self, order: &'a Order, kept: Vec<u8>, other: &'a [u8]) {
        self.evidence.push(Evidence { order, kept, other });
    }

    /// Writes all of it.
    pub(crate) async fn write(self, tx: &mut Tx, now: Timestamp) -> Result<(), MarketError> {
        NEW_ORDERS.all(tx, self.orders).await?;
        NEW_WITHDRAWN.all(tx, self.withdrawn).await?;
        NEW_FORESTALLED.all(tx, self.forestalled).await?;
        insert_evidence(tx, self.evidence, now).await
    }
}

pub(crate) async fn set_totals(
    tx: &mut Tx,
    totals: impl Iterator<Item = (Interval, Totals)>,
) -> Result<(), MarketError> {
    let row = |(interval, totals): (Interval, Totals)| {
        let Totals {
            arrivals,
            bid_wh,
            offer_wh,
        } = totals;
        args![interval.start_s(), arrivals, bid_wh, offer_wh]
    };
    NEW_TOTALS.all(tx, totals.map(row).collect()).await?;
    Ok(())
}

pub(crate) async fn set_senders(
    tx: &mut Tx,
    senders: impl Iterator<Item = (&ParticipantId, Sender)>,
) -> Result<(), MarketError> {
    let row = |(who, sender): (&ParticipantId, Sender)| {
        args![who.as_str(), sender.minute_s, sender.messages]
    };
    NEW_SENDERS.all(tx, senders.map(row).collect()).await?;
    Ok(())
}

static EVIDENCE: LazyLock<Listed> = LazyLock::new(|| {
    let select = "SELECT e.participant, e.sequence, e.digest FROM asked CROSS JOIN market_evidence e \
         WHERE e.participant = asked.participant AND e.sequence = asked.sequence";
    Listed::over("asked", &["participant", "sequence"], select)
});

static NEW_EVIDENCE: LazyLock<Listed> = LazyLock::new(|| {
    let columns = [
        "participant",
        "sequence",
        "digest",
        "kept",
        "other",
        "seen_at_ms",
    ];
    Listed::insert("market_evidence", &columns, "")
});

/// Keeps what is not kept yet, up to [`EVIDENCE_MAX`] against one sequence.
async fn insert_evidence(
    tx: &mut Tx,
    all: Vec<Evidence<'_>>,
    now: Timestamp,
) -> Result<(), MarketError> {
    let mut known: BTreeMap<(String, i64), BTreeSet<Vec<u8>>> = BTreeMap::new();
    for Evidence { order, .. } in &all {
        let sequence = stored_sequence(order.sequence)?;
        known.insert((order.participant.to_string(), sequence), BTreeSet::new());
    }
    let asked = known.keys().map(|(who, sequence)| args![who, *sequence]);
    let rows: Vec<(String, i64, Vec<u8>)> = EVIDENCE.fetch(tx, asked.collect()).await?;
    for (who, sequence, digest) in rows {
        known.entry((who, sequence)).or_default().insert(digest);
    }
    let mut rows = Vec::with_capacity(all.len());
    for Evidence { order, kept, other } in all {
        let (who, sequence) = (order.participant.as_str(), stored_sequence(order.sequence)?);
        let digest = Digest32::of(other);
        let digests = known.entry((who.to_owned(), sequence)).or_default();
        let is_room = i64::try_from(digests.len()).is_ok_and(|kept| kept < EVIDENCE_MAX);
        if is_room && digests.insert(digest.as_bytes().to_vec()) {
            let (digest, at_ms) = (digest.as_bytes(), now.unix_ms());
            rows.push(args![who, sequence, digest, kept, other, at_ms]);
        }
    }
    NEW_EVIDENCE.all(tx, rows).await?;
    Ok(())
}

/// A message that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Who is known to have signed it.
    pub participant: Option<&'a ParticipantId>,
    /// Why.
    pub reason: Rejection,
    /// The message.
    pub bytes: &'a [u8],
}

impl Refused<'_> {
    /// In whose ring it is kept, and how many that holds.
    fn ring(&self) -> (&str, i64) {
        match self.participant {
            Some(participant) => (participant.as_str(), REFUSED_KEPT),
            None => ("", UNPROVEN_KEPT),
        }
    }
}

static REFUSED_COUNT: LazyLock<Listed> = LazyLock::new(|| {
    let behind = "ON CONFLICT (participant) DO UPDATE SET \
         messages = market_refused_count.messages + excluded.messages RETURNING participant, messages";
    Listed::insert("market_refused_count", &["participant", "messages"], behind)
});

static REFUSED: LazyLock<Listed> = LazyLock::new(|| {
    let columns = ["participant", "slot", "at_ms", "reason", "bytes"];
    let behind = "ON CONFLICT (participant, slot) DO UPDATE SET \
         at_ms = excluded.at_ms, reason = excluded.reason, bytes = excluded.bytes";
    Listed::insert("market_refused", &columns, behind)
});

/// Keeps refused messages in the order in which they came; of those that meet in one place of a ring, the last.
pub(crate) async fn keep_refused(
    tx: &mut Tx,
    now: Timestamp,
    refused: &[Refused<'_>],
) -> Result<(), MarketError> {
    let mut more: BTreeMap<&str, i64> = BTreeMap::new();
    for one in refused {
        *more.entry(one.ring().0).or_default() += 1;
    }
    let rows = more.iter().map(|(name, more)| args![*name, *more]);
    let counted: Vec<(String, i64)> = REFUSED_COUNT.fetch(tx, rows.collect()).await?;
    let before = |(name, after): (String, i64)| {
        let more = more.get(name.as_str()).copied().unwrap_or_default();
        (name, after - more)
    };
    let mut numbers: BTreeMap<String, i64> = counted.into_iter().map(before).collect();
    let mut kept: BTreeMap<(&str, i64), Args> = BTreeMap::new();
    for one in refused {
        let (name, most) = one.ring();
        let number = numbers.entry(name.to_owned()).or_default();
        *number += 1;
        let slot = *number % most;
        let bytes = &one.bytes[..one.bytes.len().min(MESSAGE_MAX_BYTES)];
        let row = args![name, slot, now.unix_ms(), one.reason.name(), bytes];
        kept.insert((name, slot), row);
    }
    REFUSED.all(tx, kept.into_values().collect()).await?;
    Ok(())
}
