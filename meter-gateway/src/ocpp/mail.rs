//! What chargers' meters have signed, on its way to the platform: kept until the platform has signed that it has it, and
//! sent again until then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::charger_record::{ChargerReceipt, ChargerRecord};
use domain::ids::{CommunityId, Digest32, GatewayId, PointId};
use domain::ocmf::PublicKey as MeterKey;
use domain::signed::{Message as _, PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::{Db, DbError, Migration};
use tokio::time::Instant;

/// Most records that wait for the platform; the oldest go first, and are counted as `charger_record_lost`.
pub const WAITING_MAX: i64 = 10_000;
/// Records that are under way at the same time.
const SENT_MAX: usize = 16;
/// Pause before one that was not answered is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(20);

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1070,
        description: "chargers' signed records on their way to the platform",
        sqlite: "
CREATE TABLE gateway_charger_record (
    id BLOB PRIMARY KEY,
    heard_ms INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX gateway_charger_record_heard ON gateway_charger_record (heard_ms);",
        postgres: "
CREATE TABLE gateway_charger_record (
    id BYTEA PRIMARY KEY,
    heard_ms BIGINT NOT NULL,
    payload BYTEA NOT NULL
);
CREATE INDEX gateway_charger_record_heard ON gateway_charger_record (heard_ms);",
    },
    Migration {
        version: 1071,
        description: "the order in which records go, without a look at what they say",
        sqlite: PLACES,
        postgres: PLACES,
    },
];
const PLACES: &str = "
DROP INDEX gateway_charger_record_heard;
CREATE INDEX gateway_charger_record_place ON gateway_charger_record (heard_ms, id);";

const PUT: &str = "INSERT INTO gateway_charger_record (id, heard_ms, payload) VALUES ($1, $2, $3)
    ON CONFLICT (id) DO NOTHING";
const TRIM: &str = "DELETE FROM gateway_charger_record WHERE (heard_ms, id) <
    (SELECT heard_ms, id FROM gateway_charger_record ORDER BY heard_ms DESC, id DESC LIMIT 1 OFFSET $1)";
const OLDEST: &str = "SELECT heard_ms, id, payload FROM gateway_charger_record
    WHERE heard_ms > $1 OR (heard_ms = $1 AND id > $2) ORDER BY heard_ms, id LIMIT $3";
const DONE: &str = "DELETE FROM gateway_charger_record WHERE id = $1";

/// Where a record stands: when it was heard, and the name that it is stored under.
pub type Place = (i64, Digest32);
/// Before all others.
pub const START: Place = (i64::MIN, Digest32([0; 32]));

/// The table, in the gateway's database.
#[derive(Clone, Debug)]
pub struct Mail {
    db: Db,
}

impl Mail {
    /// The table in a database that is open already.
    ///
    /// # Errors
    /// The database fails.
    pub async fn open(db: Db) -> Result<Self, DbError> {
        db.migrate(MIGRATIONS).await?;
        Ok(Mail { db })
    }

    /// Keeps a record until the platform has it; how many older ones have gone for it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn put(&self, record: &ChargerRecord) -> Result<u64, DbError> {
        let (id, payload) = (record.id().0, record.to_cbor());
        let mut tx = self.db.begin().await?;
        let heard_ms = record.heard_at.unix_ms();
        tx.execute(PUT, args![id, heard_ms, payload]).await?;
        let gone = tx.execute(TRIM, args![WAITING_MAX - 1]).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// The oldest that wait and come behind this one, by the names that they are stored under.
    ///
    /// # Errors
    /// The database fails.
    pub async fn oldest(&self, after: &Place) -> Result<Vec<(Place, ChargerRecord)>, DbError> {
        let most = i64::try_from(SENT_MAX).unwrap_or(i64::MAX);
        let (heard_ms, id) = after;
        let behind = args![*heard_ms, id.0, most];
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = self.db.fetch_all(OLDEST, behind).await?;
        let mut found = Vec::with_capacity(rows.len());
        for (heard_ms, stored, payload) in rows {
            let id = <[u8; 32]>::try_from(stored.as_slice()).map(Digest32);
            match (id, ChargerRecord::from_cbor(&payload)) {
                (Ok(id), Ok(record)) => found.push(((heard_ms, id), record)),
                _ => {
                    tracing::error!("a stored charger's record is damaged and left out");
                    let mut tx = self.db.begin().await?;
                    tx.execute(DONE, args![stored]).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(found)
    }

    async fn done(&self, id: Digest32) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        tx.execute(DONE, args![id.0]).await?;
        tx.commit().await
    }
}

/// What makes records of a charge point's texts.
#[derive(Clone, Debug)]
pub struct Scribe {
    /// Where they wait.
    pub mail: Mail,
    /// The gateway.
    pub gateway: GatewayId,
    /// The points of its devices, by their positions.
    pub points: BTreeMap<usize, PointId>,
    /// The keys of its meters.
    pub keys: Vec<MeterKey>,
}

impl Scribe {
    /// Puts a text of a device's meter on its way; how many older ones are lost for it. What is too long for a message
    /// stays here.
    ///
    /// # Errors
    /// The database fails: the text is not kept, and its charger must say it again.
    pub async fn write(
        &self,
        device: usize,
        heard_at: Timestamp,
        transaction: Option<i64>,
        text: &str,
    ) -> Result<u64, DbError> {
        let Some(point) = self.points.get(&device) else {
            return Ok(0);
        };
        if !ChargerRecord::fits(text, &self.keys) {
            tracing::warn!(%point, "a signed value is too long to be sent to the platform");
            return Ok(0);
        }
        let record = ChargerRecord {
            gateway: self.gateway.clone(),
            point: point.clone(),
            heard_at,
            transaction,
            text: text.to_owned(),
            keys: self.keys.clone(),
        };
        let gone = self.mail.put(&record).await?;
        if gone > 0 {
            tracing::error!(
                gone,
                "signed values wait too long for the platform: the oldest are lost"
            );
        }
        Ok(gone)
    }
}

/// Brings records to the platform and hears what became of them.
#[derive(Debug)]
pub struct Postman {
    mail: Mail,
    key: SigningKey,
    community: CommunityId,
    operator: PublicKey,
    gateway: GatewayId,
    /// What is under way, by the digest of the signed record: which one it is, and when it went.
    sent: BTreeMap<Digest32, (Digest32, Instant)>,
    /// The last that was sent: those behind it are next, so that what finds no room at the platform today keeps no
    /// other waiting.
    last: Place,
}

impl Postman {
    /// One that signs with this gateway's key.
    #[must_use]
    pub fn new(
        mail: Mail,
        key: SigningKey,
        (community, gateway): (CommunityId, GatewayId),
        operator: PublicKey,
    ) -> Self {
        Postman {
            mail,
            key,
            community,
            operator,
            gateway,
            sent: BTreeMap::new(),
            last: START,
        }
    }

    /// A new connection: what was under way may be lost.
    pub fn reconnected(&mut self) {
        self.sent.clear();
        self.last = START;
    }

    /// The signed records to be sent now.
    ///
    /// # Errors
    /// The database fails.
    pub async fn due(&mut self, now: Instant) -> Result<Vec<Vec<u8>>, DbError> {
        self.sent
            .retain(|_, (_, at)| now.duration_since(*at) < AGAIN_AFTER);
        if self.sent.len() >= SENT_MAX {
            return Ok(Vec::new());
        }
        let mut seen: BTreeSet<Digest32> = self.sent.values().map(|(id, _)| *id).collect();
        let mut due = Vec::new();
        let mut next = self.mail.oldest(&self.last).await?;
        if next.len() < SENT_MAX {
            next.extend(self.mail.oldest(&START).await?);
        }
        for (place, record) in next {
            let id = place.1;
            if self.sent.len() >= SENT_MAX {
                break;
            }
            if !seen.insert(id) {
                continue;
            }
            self.last = place;
            let signed = Signed::sign(&self.key, &self.community, &record);
            let bytes = signed.as_bytes().to_vec();
            self.sent.insert(Digest32::of(&bytes), (id, now));
            due.push(bytes);
        }
        Ok(due)
    }

    /// The platform's word on a record: whether it is believed. Then the record is not sent any more.
    ///
    /// # Errors
    /// The database fails.
    pub async fn hear(&mut self, payload: Vec<u8>) -> Result<bool, DbError> {
        let signed = Signed::<ChargerReceipt>::from_bytes(payload);
        let Ok(verified) = signed.verify(self.operator, &self.community) else {
            return Ok(false);
        };
        let word = verified.message();
        if word.gateway != self.gateway {
            return Ok(false);
        }
        if let Some((id, _)) = self.sent.get(&word.record) {
            self.mail.done(*id).await?;
            self.sent.remove(&word.record);
            if let Some(why) = &word.refused {
                tracing::error!(
                    "the platform does not keep what a charger's meter has signed: {why}"
                );
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::signed::SigningKey;

    fn record(n: i64) -> ChargerRecord {
        ChargerRecord {
            gateway: GatewayId::new("gw").unwrap(),
            point: PointId::new("gw.charger").unwrap(),
            heard_at: Timestamp::from_unix_s(n),
            transaction: Some(n),
            text: format!("OCMF|{n}|"),
            keys: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_record_is_sent_until_the_operator_has_signed_that_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gw.db").display().to_string();
        let mail = Mail::open(Db::open(&file).await.unwrap()).await.unwrap();
        let key = |n: u8| SigningKey::from_bytes(&[n; 32]);
        let names = (
            CommunityId::new("c").unwrap(),
            GatewayId::new("gw").unwrap(),
        );
        let postman = || Postman::new(mail.clone(), key(1), names.clone(), PublicKey::of(&key(2)));
        mail.put(&record(1)).await.unwrap();
        let mut again = record(1);
        again.heard_at = Timestamp::from_unix_s(5);
        mail.put(&again).await.unwrap();
        let now = Instant::now();
        let mut first = postman();
        let sent = first.due(now).await.unwrap();
        assert_eq!(sent.len(), 1, "the same text twice is one");
        assert!(first.due(now).await.unwrap().is_empty(), "it is under way");
        let receipt = |by: u8, gateway: &str, of: &[u8]| {
            let word = ChargerReceipt {
                gateway: GatewayId::new(gateway).unwrap(),
                record: Digest32::of(of),
                at: Timestamp::from_unix_s(2),
                refused: None,
            };
            Signed::sign(&key(by), &names.0, &word).as_bytes().to_vec()
        };
        for wrong in [receipt(3, "gw", &sent[0]), receipt(2, "other", &sent[0])] {
            assert!(!first.hear(wrong).await.unwrap());
        }
        assert!(first.hear(receipt(2, "gw", b"another")).await.unwrap());
        // The gateway starts again: nothing is forgotten, and the same bytes go out.
        let mut second = postman();
        assert_eq!(second.due(now).await.unwrap(), sent);
        assert!(second.hear(receipt(2, "gw", &sent[0])).await.unwrap());
        assert!(postman().due(now).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn beyond_the_limit_the_oldest_go_and_are_counted_also_of_those_heard_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gw.db").display().to_string();
        let mail = Mail::open(Db::open(&file).await.unwrap()).await.unwrap();
        // All but one were heard in the same millisecond.
        let mut tx = mail.db.begin().await.unwrap();
        for n in 1..WAITING_MAX {
            let id = record(n).id().0;
            tx.execute(PUT, args![id, 7_000_i64, record(n).to_cbor()])
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(mail.put(&record(0)).await.unwrap(), 0, "the last one fits");
        let oldest = mail.oldest(&START).await.unwrap();
        assert_eq!(oldest[0].1, record(0));
        for (n, second) in [(WAITING_MAX, 7), (WAITING_MAX + 1, 8)] {
            let mut next = record(n);
            next.heard_at = Timestamp::from_unix_s(second);
            assert_eq!(mail.put(&next).await.unwrap(), 1, "{n}");
        }
        let (waiting,): (i64,) = mail
            .db
            .fetch_one("SELECT COUNT(*) FROM gateway_charger_record", args![])
            .await
            .unwrap();
        assert_eq!(waiting, WAITING_MAX);
        let oldest = mail.oldest(&START).await.unwrap();
        assert_eq!(oldest[0].0.0, 7_000, "the oldest has gone");
    }

    #[tokio::test]
    async fn what_is_not_answered_goes_out_again_and_no_more_than_so_many_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gw.db").display().to_string();
        let mail = Mail::open(Db::open(&file).await.unwrap()).await.unwrap();
        for n in 0..20 {
            mail.put(&record(n)).await.unwrap();
        }
        let key = SigningKey::from_bytes(&[1; 32]);
        let names = (
            CommunityId::new("c").unwrap(),
            GatewayId::new("gw").unwrap(),
        );
        let mut postman = Postman::new(mail, key.clone(), names, PublicKey::of(&key));
        let now = Instant::now();
        let first = postman.due(now).await.unwrap();
        assert_eq!(first.len(), SENT_MAX);
        let soon = now + AGAIN_AFTER - Duration::from_secs(1);
        assert!(postman.due(soon).await.unwrap().is_empty());
        let later = now + AGAIN_AFTER;
        let again = postman.due(later).await.unwrap();
        assert_eq!(again.len(), SENT_MAX);
        assert!(
            !first.contains(&again[0]),
            "those that did not go before are next"
        );
        postman.reconnected();
        assert_eq!(postman.due(later).await.unwrap().len(), SENT_MAX);
    }
}
