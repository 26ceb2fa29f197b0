//! With whom a home wants to trade, as it has chosen on its page, and what of that its autopilot's orders say.

use std::collections::BTreeMap;

use anyhow::Context;
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::order::{Order, Preference, Side};
use domain::time::Timestamp;
use market_engine::preference::Heeded;
use market_engine::service::Rules;
use runtime::args;
use runtime::db::{Db, Migration};

/// The table of this part.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 4_702,
    description: "with whom homes want to trade",
    sqlite: "CREATE TABLE home_trading (
        participant TEXT PRIMARY KEY,
        partners TEXT NOT NULL,
        same_feeder INTEGER NOT NULL,
        green INTEGER NOT NULL,
        green_premium_micro INTEGER NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT",
    postgres: "CREATE TABLE home_trading (
        participant TEXT PRIMARY KEY,
        partners TEXT NOT NULL,
        same_feeder BIGINT NOT NULL,
        green BIGINT NOT NULL,
        green_premium_micro BIGINT NOT NULL,
        at_ms BIGINT NOT NULL
    )",
}];

/// The participant, its partners as JSON, whether its own feeder comes first, whether its energy is green, its premium.
type Row = (String, String, i64, i64, i64);

/// Wishes of both sides; [`said`] gives an order those of its own.
fn wishes(
    (participant, partners, same_feeder, green, premium): Row,
) -> anyhow::Result<(ParticipantId, Preference)> {
    let partners: Vec<String> = serde_json::from_str(&partners).context("partners are no list")?;
    let partners = partners.into_iter().map(ParticipantId::new);
    let wishes = Preference {
        partners: partners.collect::<Result<_, _>>()?,
        same_feeder: same_feeder != 0,
        green: green != 0,
        green_premium: Price::from_micro_per_kwh(premium),
    };
    Ok((ParticipantId::new(participant)?, wishes))
}

/// What homes have chosen; who has chosen nothing only wants the best price.
pub(crate) async fn chosen(db: &Db) -> anyhow::Result<BTreeMap<ParticipantId, Preference>> {
    let rows: Vec<Row> = db
        .fetch_all(
            "SELECT participant, partners, same_feeder, green, green_premium_micro FROM home_trading",
            args![],
        )
        .await?;
    rows.into_iter().map(wishes).collect()
}

/// What one home has chosen.
pub(crate) async fn of(db: &Db, home: &ParticipantId) -> anyhow::Result<Preference> {
    let row: Option<Row> = db
        .fetch_optional(
            "SELECT participant, partners, same_feeder, green, green_premium_micro FROM home_trading
             WHERE participant = $1",
            args![home.as_str()],
        )
        .await?;
    let chosen = row.map(wishes).transpose()?;
    Ok(chosen.map_or_else(Preference::default, |(_, wishes)| wishes))
}

/// Keeps what a home has chosen.
pub(crate) async fn choose(
    db: &Db,
    home: &ParticipantId,
    wishes: &Preference,
    now: Timestamp,
) -> anyhow::Result<()> {
    let partners: Vec<&str> = wishes.partners.iter().map(ParticipantId::as_str).collect();
    let mut tx = db.begin().await?;
    tx.execute(
        "INSERT INTO home_trading (participant, partners, same_feeder, green, green_premium_micro, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (participant) DO UPDATE SET
         partners = excluded.partners, same_feeder = excluded.same_feeder, green = excluded.green,
         green_premium_micro = excluded.green_premium_micro, at_ms = excluded.at_ms",
        args![
            home.as_str(),
            serde_json::to_string(&partners)?,
            i64::from(wishes.same_feeder),
            i64::from(wishes.green),
            wishes.green_premium.micro_per_kwh(),
            now.unix_ms()
        ],
    )
    .await?;
    Ok(tx.commit().await?)
}

/// What an order says of its home's wishes: those of its own side that the market heeds, and a premium within the
/// community's cap.
pub(super) fn said(wishes: &Preference, order: &Order, rules: &Rules) -> Preference {
    let partners = wishes.partners.clone();
    let own = match order.side {
        Side::Bid => {
            let room = rules.price_cap.checked_sub(order.limit);
            let room = room.unwrap_or(Price::ZERO);
            Preference {
                partners,
                same_feeder: wishes.same_feeder,
                green: false,
                green_premium: wishes.green_premium.min(room).max(Price::ZERO),
            }
        }
        Side::Offer => Preference {
            partners,
            same_feeder: false,
            green: wishes.green,
            green_premium: Price::ZERO,
        },
    };
    Heeded::by(rules.mechanism).of(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::energy::Energy;
    use domain::ids::PointId;
    use domain::signed::Message;
    use domain::time::Interval;
    use market_engine::accept::{Own, check};
    use market_engine::clear::{Mechanism, Ties};

    fn wishes() -> Preference {
        Preference {
            partners: vec![
                ParticipantId::new("b").unwrap(),
                ParticipantId::new("a").unwrap(),
            ],
            same_feeder: true,
            green: true,
            green_premium: Price::from_micro_per_kwh(20_000),
        }
    }

    #[tokio::test]
    async fn what_was_chosen_last_is_kept_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path().join("a.db").to_str().unwrap())
            .await
            .unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        let home = ParticipantId::new("home-1").unwrap();
        assert!(of(&db, &home).await.unwrap().is_none());
        let now = Timestamp::from_unix_s(1);
        choose(&db, &home, &Preference::default(), now)
            .await
            .unwrap();
        choose(&db, &home, &wishes(), now).await.unwrap();
        assert_eq!(of(&db, &home).await.unwrap(), wishes());
        assert_eq!(chosen(&db).await.unwrap()[&home], wishes());
    }

    fn order(side: Side) -> Order {
        Order {
            participant: ParticipantId::new("home-1").unwrap(),
            point: PointId::new("home-1.meter").unwrap(),
            side,
            interval: Interval::new(0, 900).unwrap(),
            energy: Energy::from_wh(1),
            limit: Price::from_micro_per_kwh(280_000),
            sequence: 1,
            replaces: None,
            preference: Preference::default(),
        }
    }

    #[test]
    fn an_order_says_what_its_side_may_and_no_premium_beyond_the_cap() {
        for (side, cap, premium) in [
            (Side::Bid, 1_000_000, 20_000),
            (Side::Bid, 290_000, 10_000),
            (Side::Bid, 280_000, 0),
            (Side::Offer, 1_000_000, 0),
        ] {
            let mut order = order(side);
            let rules = Rules {
                price_cap: Price::from_micro_per_kwh(cap),
                ..Rules::default()
            };
            order.preference = said(&wishes(), &order, &rules);
            assert_eq!(order.preference.green_premium.micro_per_kwh(), premium);
            assert_eq!(order.preference.partners, wishes().partners);
            let again = Order::from_cbor(&order.to_cbor());
            assert_eq!(again.unwrap(), order, "it can be signed as it is said");
        }
    }

    #[test]
    fn an_order_says_nothing_that_its_market_would_refuse() {
        for (mechanism, partners, premium) in [
            (Mechanism::default(), 2, 20_000),
            (Mechanism::Vcg { ties: Ties::Time }, 2, 0),
            (Mechanism::Continuous, 0, 0),
        ] {
            let rules = Rules {
                mechanism,
                ..Rules::default()
            };
            let bid = said(&wishes(), &order(Side::Bid), &rules);
            assert_eq!(bid.partners.len(), partners);
            assert_eq!(bid.green_premium.micro_per_kwh(), premium);
            let offer = said(&wishes(), &order(Side::Offer), &rules);
            for (side, preference) in [(Side::Bid, bid), (Side::Offer, offer)] {
                let order = Order {
                    preference,
                    ..order(side)
                };
                let now = order.interval.start().plus_s(-600);
                let taken = check(&order, &rules, now, 10_000, Own::default());
                assert_eq!(taken, Ok(()), "{mechanism:?} {side:?}");
            }
        }
    }
}
