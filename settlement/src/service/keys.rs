//! What becomes of gateways' keys after they were enrolled.

use domain::ids::{GatewayId, KeyId};
use domain::time::Timestamp;
use runtime::args;
use runtime::db::Db;

use super::ServiceError;
use super::error::bytes;

/// A key of a gateway and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayKey {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Its short name.
    pub kid: KeyId,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// When a newer one took its place.
    pub replaced: Option<Timestamp>,
}

/// The keys of all gateways, each gateway's in the order in which they were enrolled.
///
/// # Errors
/// The database failed.
pub async fn gateway_keys(db: &Db) -> Result<Vec<GatewayKey>, ServiceError> {
    type Row = (String, Vec<u8>, i64, Option<i64>);
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT gateway, kid, enrolled_ms, replaced_ms FROM settle_keys
             WHERE gateway IS NOT NULL ORDER BY gateway, enrolled_ms, kid",
            args![],
        )
        .await?;
    let key = |(gateway, kid, enrolled_ms, replaced_ms): Row| {
        Ok(GatewayKey {
            gateway: GatewayId::new(gateway)?,
            kid: KeyId(bytes(&kid, "a key's name")?),
            enrolled: Timestamp::from_unix_ms(enrolled_ms),
            replaced: replaced_ms.map(Timestamp::from_unix_ms),
        })
    };
    rows.into_iter().map(key).collect()
}
