//! Putting a receipt together from the books and the logs.

use domain::ids::{Digest32, KeyId, OrderId, ParticipantId, TradeId};
use domain::order::{Order, Side};
use domain::posting::Run;
use domain::reading::Reading;
use domain::receipt::{
    CLEARING_FORMAT, CheckpointEntry, ClearingEntry, ClearingRecord, FORMAT, KeyEntry, KeyHistory,
    Line, LineEntry, Place, RUN_FORMAT, Receipt, RunEntry, RunProof, SignedEntry, TradeEntry,
};
use domain::run_record::RunRecord;
use domain::signed::{PublicKey, Signed};
use domain::time::{Interval, Timestamp};
use domain::trade::{Clearing, Trade};
use runtime::args;
use runtime::db::Db;

use super::error::{corrupt, decoded, number, stored};
use super::key_history::{Received, key_history};
use super::logs::place;
use super::registry::{known_secret, signed_record};
use super::{Community, ServiceError};
use crate::log::checkpoint::Log;
use crate::log::entry::salt_of;

/// The checkpoints that a receipt stands on.
struct Heads {
    ledger: (u64, String),
    readings: (u64, String, i64),
    market: (u64, String, i64),
}

/// The clearing of an interval with the proof that the market log holds it; `None` where it is not cleared.
///
/// # Errors
/// The database failed, or what is stored is damaged.
pub async fn clearing_record(
    db: &Db,
    community: &Community,
    interval: Interval,
) -> Result<Option<ClearingRecord>, ServiceError> {
    let row: Option<(Vec<u8>, i64)> = db
        .fetch_optional(
            "SELECT content, log_index FROM settle_clearings WHERE start_s = $1",
            args![interval.start_s()],
        )
        .await?;
    let note: Option<(i64, String)> = db
        .fetch_optional(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![i64::from(Log::Market.code())],
        )
        .await?;
    let (Some((content, index)), Some((size, market_checkpoint))) = (row, note) else {
        return Ok(None);
    };
    let size = number(size, "a log's size")?;
    let content: Clearing = decoded(&content, "a clearing")?;
    let place = place(db, Log::Market, index, size).await?;
    Ok(place.map(|place| ClearingRecord {
        format: CLEARING_FORMAT.to_owned(),
        community: community.id.to_string(),
        operator_key: Digest32(PublicKey::of(&community.operator).to_bytes()),
        clearing: ClearingEntry { content, place },
        market_checkpoint,
    }))
}

/// The record of a run and its place in the ledger log; `None` where there was no such run, or none with a record.
pub(super) async fn run_record(
    db: &Db,
    interval: Interval,
    run: Run,
) -> Result<Option<(RunRecord, i64)>, ServiceError> {
    let row: Option<(Option<Vec<u8>>, Option<i64>)> = db
        .fetch_optional(
            "SELECT record, log_index FROM settle_runs WHERE start_s = $1 AND run = $2",
            args![interval.start_s(), i64::from(run.code())],
        )
        .await?;
    let Some((Some(record), Some(index))) = row else {
        return Ok(None);
    };
    Ok(Some((decoded(&record, "a run's record")?, index)))
}

/// What a run was made from, with the proof that the ledger log holds it; `None` where there is no such run under
/// a checkpoint, or none with a record.
///
/// # Errors
/// The database failed, or what is stored is damaged.
pub async fn run_proof(
    db: &Db,
    community: &Community,
    interval: Interval,
    run: Run,
) -> Result<Option<RunProof>, ServiceError> {
    let Some((content, index)) = run_record(db, interval, run).await? else {
        return Ok(None);
    };
    let Some((size, ledger_checkpoint)) = newest_ledger(db).await? else {
        return Ok(None);
    };
    let place = place(db, Log::Ledger, index, size).await?;
    Ok(place.map(|place| RunProof {
        format: RUN_FORMAT.to_owned(),
        community: community.id.to_string(),
        operator_key: Digest32(PublicKey::of(&community.operator).to_bytes()),
        run: RunEntry { content, place },
        ledger_checkpoint,
    }))
}

/// What the parts of a receipt are looked up with.
struct Desk<'a> {
    db: &'a Db,
    secret: [u8; 32],
    heads: Heads,
}

/// The receipt of one participant for one of their trades; `None` where there is no such trade, or not
/// all of it is settled and under a checkpoint yet.
///
/// # Errors
/// The database failed, what is stored is damaged, or the participant's secret was deleted.
pub async fn receipt(
    db: &Db,
    community: &Community,
    trade: TradeId,
    participant: &ParticipantId,
) -> Result<Option<Receipt>, ServiceError> {
    // Under a checkpoint that witnesses have signed, or where that one does not reach so far, the newest.
    let cosigned = super::witnesses::published_checkpoint(db, Log::Ledger).await?;
    if let Some(heads) = heads(db, cosigned).await?
        && let Some(receipt) = receipt_under(db, community, trade, participant, heads).await?
    {
        return Ok(Some(receipt));
    }
    match heads(db, newest_ledger(db).await?).await? {
        Some(heads) => receipt_under(db, community, trade, participant, heads).await,
        None => Ok(None),
    }
}

async fn receipt_under(
    db: &Db,
    community: &Community,
    trade: TradeId,
    participant: &ParticipantId,
    heads: Heads,
) -> Result<Option<Receipt>, ServiceError> {
    let row: Option<(Vec<u8>, i64, i64)> = db
        .fetch_optional(
            "SELECT content, buyer_index, seller_index FROM settle_trades WHERE trade_id = $1",
            args![trade.0],
        )
        .await?;
    let Some((content, buyer_index, seller_index)) = row else {
        return Ok(None);
    };
    let trade: Trade = decoded(&content, "a trade")?;
    let (side, index) = if trade.buyer == *participant {
        (Side::Bid, buyer_index)
    } else if trade.seller == *participant {
        (Side::Offer, seller_index)
    } else {
        return Ok(None);
    };
    let secret = known_secret(&mut &*db, participant).await?;
    let secret = secret.ok_or_else(|| ServiceError::Erased(participant.clone()))?;
    let desk = Desk { db, secret, heads };
    let Some(place) = desk.market(index).await? else {
        return Ok(None);
    };
    let salt = salt_of(&desk.secret, &content);
    let trade = TradeEntry {
        content: trade,
        salt,
        place,
    };
    desk.receipt(community, participant, side, trade).await
}

async fn newest_ledger(db: &Db) -> Result<Option<(u64, String)>, ServiceError> {
    let row: Option<(i64, String)> = db
        .fetch_optional(
            "SELECT size, note FROM settle_checkpoints WHERE log = $1 ORDER BY size DESC LIMIT 1",
            args![i64::from(Log::Ledger.code())],
        )
        .await?;
    row.map(|(size, note)| Ok((number(size, "a log's size")?, note)))
        .transpose()
}

/// The newest checkpoints of the other logs that a checkpoint of the ledger covers.
async fn heads(db: &Db, ledger: Option<(u64, String)>) -> Result<Option<Heads>, ServiceError> {
    let Some((ledger_size, ledger)) = ledger else {
        return Ok(None);
    };
    let mut others = Vec::new();
    for log in [Log::Readings, Log::Market] {
        let row: Option<(i64, String, i64)> = db
            .fetch_optional(
                "SELECT size, note, ledger_index FROM settle_checkpoints
                 WHERE log = $1 AND ledger_index < $2 ORDER BY size DESC LIMIT 1",
                args![i64::from(log.code()), stored(ledger_size)?],
            )
            .await?;
        let Some((size, note, index)) = row else {
            return Ok(None);
        };
        others.push((number(size, "a log's size")?, note, index));
    }
    let (Some(market), Some(readings)) = (others.pop(), others.pop()) else {
        return Ok(None);
    };
    Ok(Some(Heads {
        ledger: (ledger_size, ledger),
        readings,
        market,
    }))
}

/// A signed reading and its gateway's key; neither where the value is a substitute.
type Meter = (Option<SignedEntry>, Option<KeyEntry>);

impl Desk<'_> {
    async fn market(&self, index: i64) -> Result<Option<Place>, ServiceError> {
        place(self.db, Log::Market, index, self.heads.market.0).await
    }

    async fn ledger(&self, index: i64) -> Result<Option<Place>, ServiceError> {
        place(self.db, Log::Ledger, index, self.heads.ledger.0).await
    }

    async fn receipt(
        &self,
        community: &Community,
        participant: &ParticipantId,
        side: Side,
        trade: TradeEntry,
    ) -> Result<Option<Receipt>, ServiceError> {
        let own = match side {
            Side::Bid => trade.content.bid,
            Side::Offer => trade.content.offer,
        };
        let start_s = trade.content.interval.start_s();
        let Some(clearing) = self.clearing(start_s).await? else {
            return Ok(None);
        };
        let Some((order, kid)) = self.order(own).await? else {
            return Ok(None);
        };
        let Some(participant_key) = self.key(kid, Timestamp::from_unix_ms(i64::MAX)).await? else {
            return Ok(None);
        };
        let Some(lines) = self.lines(start_s, participant).await? else {
            return Ok(None);
        };
        let Some(runs) = self.runs(&lines).await? else {
            return Ok(None);
        };
        let Some((reading, gateway_key)) = self.meter(&lines).await? else {
            return Ok(None);
        };
        let (_, readings_note, readings_index) = &self.heads.readings;
        let (_, market_note, market_index) = &self.heads.market;
        let ledger_size = self.heads.ledger.0;
        let participant_key_history = key_history(self.db, ledger_size, kid, None).await?;
        let gateway_key_history = self.meter_key_history(reading.as_ref()).await?;
        Ok(Some(Receipt {
            format: FORMAT.to_owned(),
            community: community.id.to_string(),
            operator_key: Digest32(PublicKey::of(&community.operator).to_bytes()),
            participant: participant.clone(),
            side,
            trade,
            clearing,
            order,
            reading,
            participant_key,
            gateway_key,
            participant_key_history,
            gateway_key_history,
            lines,
            runs,
            readings_checkpoint: self.link(readings_note, *readings_index).await?,
            market_checkpoint: self.link(market_note, *market_index).await?,
            ledger_checkpoint: self.heads.ledger.1.clone(),
        }))
    }

    async fn link(&self, note: &str, index: i64) -> Result<CheckpointEntry, ServiceError> {
        let place = self.ledger(index).await?;
        let place = place.ok_or_else(|| corrupt("a checkpoint is not in the ledger log"))?;
        Ok(CheckpointEntry {
            note: note.to_owned(),
            place,
        })
    }

    async fn clearing(&self, start_s: i64) -> Result<Option<ClearingEntry>, ServiceError> {
        let (content, index): (Vec<u8>, i64) = self
            .db
            .fetch_one(
                "SELECT content, log_index FROM settle_clearings WHERE start_s = $1",
                args![start_s],
            )
            .await?;
        let content: Clearing = decoded(&content, "a clearing")?;
        Ok(self
            .market(index)
            .await?
            .map(|place| ClearingEntry { content, place }))
    }

    async fn order(&self, id: OrderId) -> Result<Option<(SignedEntry, KeyId)>, ServiceError> {
        let (signed, index): (Vec<u8>, i64) = self
            .db
            .fetch_one(
                "SELECT signed, log_index FROM settle_orders WHERE order_id = $1",
                args![id.0],
            )
            .await?;
        let kid = Signed::<Order>::from_bytes(signed.clone()).claimed_signer();
        let kid = kid.map_err(|_| corrupt("an order is no signed message"))?;
        let salt = salt_of(&self.secret, &signed);
        Ok(self.market(index).await?.map(|place| {
            (
                SignedEntry {
                    signed,
                    salt,
                    place,
                },
                kid,
            )
        }))
    }

    /// The record of a key that counts at `at`.
    async fn key(&self, kid: KeyId, at: Timestamp) -> Result<Option<KeyEntry>, ServiceError> {
        let Some((signed, index)) = signed_record(&mut &*self.db, kid, at).await? else {
            return Err(ServiceError::Corrupt(format!(
                "the record of key {kid} is missing"
            )));
        };
        let place = self.ledger(index).await?;
        Ok(place.map(|place| KeyEntry { signed, place }))
    }

    /// All lines of the participant in the interval; `None` before the first run, or where one is not
    /// under the checkpoint yet.
    async fn lines(
        &self,
        start_s: i64,
        participant: &ParticipantId,
    ) -> Result<Option<Vec<LineEntry>>, ServiceError> {
        let rows: Vec<(Vec<u8>, i64)> = self
            .db
            .fetch_all(
                "SELECT content, log_index FROM settle_lines WHERE start_s = $1 AND participant = $2
                 ORDER BY run",
                args![start_s, participant.as_str()],
            )
            .await?;
        let mut lines = Vec::with_capacity(rows.len());
        for (bytes, index) in rows {
            let Some(place) = self.ledger(index).await? else {
                return Ok(None);
            };
            let content: Line = decoded(&bytes, "a line")?;
            lines.push(LineEntry {
                content,
                salt: salt_of(&self.secret, &bytes),
                place,
            });
        }
        Ok(if lines.is_empty() { None } else { Some(lines) })
    }

    /// What each line's run was made from; `None` where one is not under the checkpoint yet. Lines of runs that
    /// were not logged have none.
    async fn runs(&self, lines: &[LineEntry]) -> Result<Option<Vec<RunEntry>>, ServiceError> {
        let mut runs = Vec::with_capacity(lines.len());
        for LineEntry { content: line, .. } in lines {
            let Some((content, index)) = run_record(self.db, line.interval, line.run).await? else {
                continue;
            };
            let Some(place) = self.ledger(index).await? else {
                return Ok(None);
            };
            runs.push(RunEntry { content, place });
        }
        Ok(Some(runs))
    }

    /// The reading that the last line names, with its gateway's key; `None` where they are not under
    /// the checkpoints yet.
    async fn meter(&self, lines: &[LineEntry]) -> Result<Option<Meter>, ServiceError> {
        let last = lines.last().map(|entry| &entry.content);
        let named = last.and_then(|line| line.delivery.reading);
        let (Some(line), Some(digest)) = (last, named) else {
            return Ok(Some((None, None)));
        };
        let found = self.reading(line, digest).await?;
        Ok(found.map(|(reading, key)| (Some(reading), Some(key))))
    }

    /// How the key changed that has signed a reading.
    async fn meter_key_history(
        &self,
        reading: Option<&SignedEntry>,
    ) -> Result<Option<KeyHistory>, ServiceError> {
        let Some(SignedEntry { signed, place, .. }) = reading else {
            return Ok(None);
        };
        let signed = Signed::<Reading>::from_bytes(signed.clone());
        let (Ok(kid), Ok(message)) = (signed.claimed_signer(), signed.claimed()) else {
            return Err(corrupt("a reading is no signed message"));
        };
        let received = Received {
            message: &message,
            index: place.index,
        };
        key_history(self.db, self.heads.ledger.0, kid, Some(received)).await
    }

    async fn reading(
        &self,
        line: &Line,
        digest: Digest32,
    ) -> Result<Option<(SignedEntry, KeyEntry)>, ServiceError> {
        let row: Option<(Vec<u8>, i64)> = self
            .db
            .fetch_optional(
                "SELECT bytes, log_index FROM settle_readings
                 WHERE point = $1 AND start_s = $2 AND digest = $3 AND reason IS NULL",
                args![
                    line.delivery.point.as_str(),
                    line.interval.start_s(),
                    digest.0
                ],
            )
            .await?;
        let (signed, index) = row.ok_or_else(|| corrupt("a delivery's reading is missing"))?;
        let kid = Signed::<Reading>::from_bytes(signed.clone()).claimed_signer();
        let kid = kid.map_err(|_| corrupt("a reading is no signed message"))?;
        let Some(key) = self.key(kid, line.interval.end()).await? else {
            return Ok(None);
        };
        let salt = salt_of(&self.secret, &signed);
        let place = place(self.db, Log::Readings, index, self.heads.readings.0).await?;
        Ok(place.map(|place| {
            (
                SignedEntry {
                    signed,
                    salt,
                    place,
                },
                key,
            )
        }))
    }
}
