//! What a home has chosen on its page: limits and how far its autopilot goes. The site file says with what a
//! home begins; what was chosen here counts from then on.

use std::collections::BTreeMap;

use anyhow::Context;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::time::Timestamp;
use market_engine::bid::Level;
use runtime::args;
use runtime::db::{Db, Migration};

use super::Shared;
use crate::site::Participant;

/// The table of this part.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 4_701,
    description: "what homes have chosen",
    sqlite: "CREATE TABLE home_preferences (
        participant TEXT PRIMARY KEY,
        max_buy_micro INTEGER NOT NULL,
        min_sell_micro INTEGER NOT NULL,
        autopilot TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT",
    postgres: "CREATE TABLE home_preferences (
        participant TEXT PRIMARY KEY,
        max_buy_micro BIGINT NOT NULL,
        min_sell_micro BIGINT NOT NULL,
        autopilot TEXT NOT NULL,
        at_ms BIGINT NOT NULL
    )",
}];

/// What a home wishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wishes {
    pub(crate) max_buy: Price,
    pub(crate) min_sell: Price,
    pub(crate) autopilot: Level,
}

type Row = (String, i64, i64, String);

fn wishes((participant, max_buy, min_sell, level): Row) -> anyhow::Result<(ParticipantId, Wishes)> {
    let autopilot = Level::from_word(&level).context("an unknown level of autopilot is stored")?;
    let wishes = Wishes {
        max_buy: Price::from_micro_per_kwh(max_buy),
        min_sell: Price::from_micro_per_kwh(min_sell),
        autopilot,
    };
    Ok((ParticipantId::new(participant)?, wishes))
}

/// What homes have chosen.
pub(crate) async fn chosen(db: &Db) -> anyhow::Result<BTreeMap<ParticipantId, Wishes>> {
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT participant, max_buy_micro, min_sell_micro, autopilot FROM home_preferences",
            args![],
        )
        .await?;
    rows.into_iter().map(wishes).collect()
}

/// What a home of the site wishes now; `None` for whoever is none.
pub(crate) async fn of(shared: &Shared, home: &ParticipantId) -> anyhow::Result<Option<Wishes>> {
    let Some(begins) = shared.site.participants.iter().find(|p| p.id == *home) else {
        return Ok(None);
    };
    let row: Option<Row> = shared
        .db
        .fetch_optional(
            "SELECT participant, max_buy_micro, min_sell_micro, autopilot FROM home_preferences
             WHERE participant = $1",
            args![home.as_str()],
        )
        .await?;
    let chosen = row.map(wishes).transpose()?;
    Ok(Some(
        chosen.map_or_else(|| of_site(begins), |(_, wishes)| wishes),
    ))
}

fn of_site(begins: &Participant) -> Wishes {
    Wishes {
        max_buy: begins.max_buy,
        min_sell: begins.min_sell,
        autopilot: begins.autopilot,
    }
}

/// A participant with what it has chosen.
pub(super) fn applied(
    participant: &Participant,
    chosen: &BTreeMap<ParticipantId, Wishes>,
) -> Participant {
    let wishes = chosen.get(&participant.id).copied();
    let wishes = wishes.unwrap_or_else(|| of_site(participant));
    Participant {
        max_buy: wishes.max_buy,
        min_sell: wishes.min_sell,
        autopilot: wishes.autopilot,
        ..participant.clone()
    }
}

/// Keeps what a home has chosen.
pub(crate) async fn choose(
    shared: &Shared,
    home: &ParticipantId,
    wishes: Wishes,
    now: Timestamp,
) -> anyhow::Result<()> {
    let mut tx = shared.db.begin().await?;
    tx.execute(
        "INSERT INTO home_preferences (participant, max_buy_micro, min_sell_micro, autopilot, at_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (participant) DO UPDATE SET
         max_buy_micro = excluded.max_buy_micro, min_sell_micro = excluded.min_sell_micro,
         autopilot = excluded.autopilot, at_ms = excluded.at_ms",
        args![
            home.as_str(),
            wishes.max_buy.micro_per_kwh(),
            wishes.min_sell.micro_per_kwh(),
            wishes.autopilot.word(),
            now.unix_ms()
        ],
    )
    .await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::money::Money;

    #[tokio::test]
    async fn what_was_chosen_counts_and_the_rest_stays_as_the_site_says() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path().join("a.db").to_str().unwrap())
            .await
            .unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        let price = Price::from_micro_per_kwh;
        let participant = |name: &str| Participant {
            id: ParticipantId::new(name).unwrap(),
            max_buy: price(1),
            min_sell: price(2),
            deposit: Money::ZERO,
            key: None,
            autopilot: Level::Full,
            compare: false,
            battery: None,
        };
        let mut tx = db.begin().await.unwrap();
        tx.execute(
            "INSERT INTO home_preferences VALUES ('a', 280000, 80000, 'suggest', 5)",
            args![],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let chosen = chosen(&db).await.unwrap();
        let a = applied(&participant("a"), &chosen);
        assert_eq!(
            (a.max_buy, a.min_sell, a.autopilot),
            (price(280_000), price(80_000), Level::Suggest)
        );
        let b = applied(&participant("b"), &chosen);
        assert_eq!((b.max_buy, b.autopilot), (price(1), Level::Full));
    }
}
