//! Wishes beyond price: who is paired with whom, what it costs, and that nobody else pays for it.

use std::collections::BTreeSet;

use domain::money::Price;
use domain::order::Side;
use market_engine::book::{Book, Entry};
use market_engine::clear::{Mechanism, PairPrice, PricePolicy, Ties, clear, clear_with_wishes};
use market_engine::file::{Format, clear_file};
use market_engine::preference::{Because, PARTNERS_MAX, Wish};
use proptest::prelude::*;

/// Clears CSV and compares `bid offer Wh price why` of each trade, then the summary's lines on wishes.
fn check(csv: &str, trades: &[&str], preferences: &str) {
    check_by(Mechanism::default(), csv, trades, preferences);
}

fn check_by(mechanism: Mechanism, csv: &str, trades: &[&str], preferences: &str) {
    let output = clear_file(csv.as_bytes(), Format::Csv, mechanism).unwrap();
    let json: serde_json::Value = serde_json::from_str(&output.to_json().unwrap()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let got: Vec<String> = json["trades"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let (bid, offer, why) = (text(&t["bid"]), text(&t["offer"]), text(&t["matched_by"]));
            format!(
                "{bid} {offer} {} {} {why}",
                t["energy_wh"],
                text(&t["price"])
            )
        })
        .collect();
    assert_eq!(got, trades);
    let p = &json["preferences"];
    let changes: Vec<String> = p["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", text(&c["participant"]), text(&c["change"])))
        .collect();
    let got = format!(
        "premium {} cost {} changes [{}]",
        text(&p["green_premium"]),
        text(&p["welfare_cost"]),
        changes.join(", ")
    );
    assert_eq!(got, preferences);
}

const HEAD: &str =
    "id,participant,side,energy_wh,limit_price,partners,feeder,green,green_premium\n";

#[test]
fn named_partners_come_first_and_change_neither_price_nor_volume() {
    let csv = format!(
        "{HEAD}b1,ann,bid,500,0.30,dora;carl,,,\n\
         b2,ben,bid,500,0.28,,,,\n\
         o1,carl,offer,300,0.10,,,,\n\
         o2,dora,offer,400,0.12,ben,,,\n\
         o3,eve,offer,300,0.14,,,,\n"
    );
    // Ann's wish and Dora's are both of the first rank: the buyer's comes first, and takes all of Dora's energy.
    check(
        &csv,
        &[
            "b1 o1 100 0.210000 partner",
            "b1 o2 400 0.210000 partner",
            "b2 o1 200 0.210000 merit",
            "b2 o3 300 0.210000 merit",
        ],
        "premium 0.000000 cost 0.000000000 changes []",
    );
}

#[test]
fn the_same_feeder_comes_before_merit() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,,north,,\n\
         b2,ben,bid,300,0.28,,south,,\n\
         o1,carl,offer,300,0.10,,south,,\n\
         o2,dora,offer,300,0.12,,north,,\n"
    );
    check(
        &csv,
        &["b1 o2 300 0.200000 feeder", "b2 o1 300 0.200000 feeder"],
        "premium 0.000000 cost 0.000000000 changes []",
    );
}

#[test]
fn green_energy_costs_nothing_more_while_there_is_enough() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,,,,\n\
         b2,ben,bid,300,0.28,,,,0.05\n\
         o1,carl,offer,300,0.10,,,true,\n\
         o2,dora,offer,300,0.12,,,,\n"
    );
    check(
        &csv,
        &["b1 o2 300 0.200000 merit", "b2 o1 300 0.200000 green"],
        "premium 0.000000 cost 0.000000000 changes []",
    );
}

#[test]
fn scarce_green_energy_goes_to_the_highest_premium_at_the_price_of_the_next() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,,,,0.02\n\
         b2,ben,bid,300,0.28,,,,0.05\n\
         o1,carl,offer,400,0.10,,,true,\n\
         o2,dora,offer,200,0.12,,,,\n"
    );
    // Ann gets the last 100 Wh and sets the premium with her own; 400 Wh × 0.02 = 0.008 token.
    check(
        &csv,
        &[
            "b1 o1 100 0.220000 green",
            "b1 o2 200 0.200000 merit",
            "b2 o1 300 0.220000 green",
        ],
        "premium 0.020000 cost 0.000000000 changes [ann -0.002000000, ben -0.006000000, \
         carl 0.008000000]",
    );
}

#[test]
fn a_premium_reaches_green_offers_above_the_price_and_the_cost_is_told() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,,,,\n\
         b2,ben,bid,200,0.10,,,,0.05\n\
         b3,fay,bid,200,0.11,,,,\n\
         o1,carl,offer,300,0.10,,,,\n\
         o2,dora,offer,500,0.12,,,true,\n"
    );
    // At their limits for any energy, Ben gives up 200 Wh × (0.10 − 0.12), Dora sells at her limit.
    check(
        &csv,
        &["b1 o1 300 0.115000 merit", "b2 o2 200 0.120000 more-green"],
        "premium 0.000000 cost 0.004000000 changes [ben -0.004000000]",
    );
    let output = clear_file(csv.as_bytes(), Format::Csv, Mechanism::default()).unwrap();
    let table = output.to_table();
    assert!(
        table.contains("cost in welfare 0.004000000 token\n           ben -0.004000000 token\n"),
        "{table}"
    );
    assert!(
        table.contains("filled: 200 Wh at 0.120000, for a premium on green energy"),
        "{table}"
    );
    assert_eq!(output.outcome().welfare, 60_000_000 - 4_000_000);
}

#[test]
fn under_pay_as_bid_a_wished_partner_moves_money_among_the_served_and_it_is_told() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,dora,,,\n\
         b2,ben,bid,300,0.28,,,,\n\
         o1,carl,offer,300,0.10,,,,\n\
         o2,dora,offer,300,0.12,,,,\n"
    );
    // Without the wish both pairs meet at 0.20; each cent is 0.003 token for 300 Wh.
    check_by(
        Mechanism::PayAsBid {
            price: PairPrice::Mid,
            ties: Ties::ProRata,
        },
        &csv,
        &["b1 o2 300 0.210000 partner", "b2 o1 300 0.190000 merit"],
        "premium 0.000000 cost 0.000000000 changes [ann -0.003000000, ben 0.003000000, \
         carl -0.003000000, dora 0.003000000]",
    );
}

#[test]
fn json_says_the_same_as_csv_and_no_wish_changes_nothing() {
    let csv = format!(
        "{HEAD}b1,ann,bid,300,0.30,dora;carl,north,,0.02\no1,dora,offer,300,0.10,,,true,\n"
    );
    let json = r#"[
      {"id":"b1","participant":"ann","side":"bid","energy_wh":300,"limit_price":"0.30",
       "partners":["dora","carl"],"feeder":"north","green_premium":0.02,"green":null},
      {"id":"o1","participant":"dora","side":"offer","energy_wh":300,"limit_price":0.1,"green":true}
    ]"#;
    let of = |text: &str, format| {
        let output = clear_file(text.as_bytes(), format, Mechanism::default());
        output.unwrap().to_json().unwrap()
    };
    assert_eq!(of(&csv, Format::Csv), of(json, Format::Json));
    let plain = "id,participant,side,energy_wh,limit_price\nb1,ann,bid,300,0.30\n";
    assert!(!of(plain, Format::Csv).contains("preferences"));
}

#[test]
fn a_wrong_wish_is_refused_with_its_place() {
    let refused = |line: &str, expect: &str| {
        let csv = format!("{HEAD}{line}\n");
        let error = clear_file(csv.as_bytes(), Format::Csv, Mechanism::default()).unwrap_err();
        assert!(error.to_string().starts_with(expect), "{error}");
    };
    refused(
        "b,a,bid,1,0.1,x;;y,,,",
        "line 2, column `partners`: found `x;;y`",
    );
    refused(
        "b,a,bid,1,0.1,1;2;3;4;5;6;7;8;9,,,",
        "line 2, column `partners`",
    );
    refused(
        "b,a,bid,1,0.1,,,true,",
        "line 2, column `green`: found `true`",
    );
    refused(
        "o,a,offer,1,0.1,,,yes,",
        "line 2, column `green`: found `yes`",
    );
    refused("b,a,bid,1,0.1,,,,-0.1", "line 2, column `green_premium`");
    refused("o,a,offer,1,0.1,,,,0.1", "line 2, column `green_premium`");
    let twice = "id,participant,side,energy_wh,limit_price,feeder,feeder\nb,a,bid,1,0.1,n,n\n";
    let error = clear_file(twice.as_bytes(), Format::Csv, Mechanism::default()).unwrap_err();
    assert!(
        error.to_string().contains("the column `feeder` twice"),
        "{error}"
    );
}

#[test]
fn a_wish_that_the_mechanism_cannot_heed_is_refused_and_it_is_said_why() {
    let ties = Ties::ProRata;
    let partner = format!("{HEAD}b,a,bid,1,0.1,x,,,\nc,x,offer,1,0.05,,,,\n");
    let premium = format!("{HEAD}b,a,bid,1,0.1,,,,0.01\n");
    let cleared = |csv: &str, mechanism| clear_file(csv.as_bytes(), Format::Csv, mechanism);
    for (csv, mechanism, why) in [
        (&partner, Mechanism::Continuous, "as they arrive"),
        (&partner, Mechanism::Muda { seed: 1 }, "by lot"),
        (&premium, Mechanism::TradeReduction { ties }, "own words"),
        (&premium, Mechanism::Huang { ties }, "own words"),
        (&premium, Mechanism::Vcg { ties }, "own words"),
    ] {
        let error = cleared(csv, mechanism).unwrap_err().to_string();
        let expect = format!("which {} cannot heed: ", mechanism.name());
        assert!(error.contains(&expect) && error.contains(why), "{error}");
    }
    assert!(cleared(&partner, Mechanism::TradeReduction { ties }).is_ok());
    let blank = format!("{HEAD}b,a,bid,1,0.1,,,,\n");
    assert!(
        cleared(&blank, Mechanism::Continuous).is_ok(),
        "nothing is wished"
    );
}

type Line = ((bool, i64, i64, u32), Vec<u32>, Option<u32>, bool, i64);

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let order = (any::<bool>(), 1_i64..40, 0_i64..12, 0_u32..5);
    let partners = proptest::collection::vec(0_u32..5, 0..3);
    let feeder = proptest::option::of(0_u32..2);
    let line = (order, partners, feeder, any::<bool>(), 0_i64..4);
    proptest::collection::vec(line, 0..24)
}

fn book_and_wishes(lines: &[Line]) -> (Book, Vec<Wish>) {
    let (mut book, mut wishes) = (Book::new(b"noon"), Vec::new());
    for (place, ((bids, energy_wh, limit, participant), partners, feeder, green, premium)) in
        (0_u32..).zip(lines)
    {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&place.to_be_bytes());
        let entry = Entry {
            side: if *bids { Side::Bid } else { Side::Offer },
            energy_wh: *energy_wh,
            limit: Price::from_micro_per_kwh(*limit),
            participant: *participant,
            arrival: place,
            key,
        };
        assert!(book.push(entry).is_ok());
        assert!(partners.len() <= PARTNERS_MAX);
        wishes.push(Wish {
            partners: partners.clone(),
            feeder: *feeder,
            same_feeder: false,
            green: *green && !bids,
            green_premium: Price::from_micro_per_kwh(if *bids { *premium } else { 0 }),
        });
    }
    (book, wishes)
}

const POLICIES: [PricePolicy; 3] = [
    PricePolicy::WalrasMid,
    PricePolicy::Marginal,
    PricePolicy::PairK {
        k_millionths: 300_000,
    },
];

/// Each mechanism that heeds wishes.
fn heeding() -> [Mechanism; 7] {
    let ties = Ties::ProRata;
    let pay_as_bid = |price| Mechanism::PayAsBid { price, ties };
    [
        Mechanism::default(),
        pay_as_bid(PairPrice::Bid),
        pay_as_bid(PairPrice::Offer),
        pay_as_bid(PairPrice::Mid),
        Mechanism::TradeReduction { ties },
        Mechanism::Huang { ties },
        Mechanism::Vcg { ties },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Beside what `clear_with_wishes` asserts itself.
    #[test]
    fn wishes_hurt_nobody_else(lines in lines()) {
        let (book, wishes) = book_and_wishes(&lines);
        let slot = |index: u32| usize::try_from(index).unwrap();
        for (policy, ties) in POLICIES.into_iter().zip([Ties::ProRata, Ties::Time, Ties::Lottery { seed: 7 }]) {
            let plain = clear(&book, Mechanism::UniformPrice { policy, ties });
            let wished = clear_with_wishes(&book, Mechanism::UniformPrice { policy, ties }, &wishes);
            prop_assert_eq!(wished.outcome.price, plain.price);
            let price = plain.price.unwrap_or_default().micro_per_kwh();
            let mut served = [BTreeSet::new(), BTreeSet::new()];
            let mut counts = [0, 0];
            for (trade, because) in wished.outcome.trades.iter().zip(&wished.because) {
                let (bid, offer) = (&wishes[slot(trade.bid)], &wishes[slot(trade.offer)]);
                let premium = trade.buyer_price.micro_per_kwh() - price;
                let extra = usize::from(*because == Because::MoreGreen);
                counts[extra] += 1;
                served[extra].extend([trade.bid, trade.offer]);
                if *because != Because::MoreGreen {
                    // Who wished for no green energy pays the price, and no more.
                    prop_assert!(premium >= 0 && premium <= bid.green_premium.micro_per_kwh());
                    prop_assert!(premium == 0 || offer.green);
                } else {
                    prop_assert!(offer.green && bid.green_premium > Price::ZERO);
                }
            }
            for part in 0..2 {
                prop_assert!(counts[part] <= served[part].len().saturating_sub(1));
            }
            let entries = book.entries();
            let change = |who: u32| {
                wished.cost.changes.iter().find(|(p, _)| *p == who).map_or(0, |(_, c)| *c)
            };
            for who in 0..5 {
                let asks = (0..entries.len()).any(|i| {
                    entries[i].participant == who && wishes[i].green_premium > Price::ZERO
                });
                prop_assert!(asks || change(who) >= 0, "{} pays for others' wishes", who);
            }
            prop_assert_eq!(
                wished.outcome.welfare,
                plain.welfare - wished.cost.welfare
            );
        }
    }

    #[test]
    fn without_wishes_it_is_the_same_clearing(lines in lines()) {
        let (book, wishes) = book_and_wishes(&lines);
        let none = vec![Wish::default(); wishes.len()];
        let mechanism = Mechanism::default();
        let wished = clear_with_wishes(&book, mechanism, &none);
        prop_assert_eq!(wished.outcome, clear(&book, mechanism));
        prop_assert!(wished.because.iter().all(|b| *b == Because::Merit));
    }

    /// Beside what `clear_with_wishes` asserts itself: that fills stay and no limit is passed.
    #[test]
    fn whom_one_meets_costs_nothing_where_no_price_hangs_on_it(lines in lines()) {
        let (book, wishes) = book_and_wishes(&lines);
        let entries = book.entries();
        for mechanism in heeding() {
            let plain = clear(&book, mechanism);
            let wished = clear_with_wishes(&book, mechanism, &wishes);
            prop_assert_eq!(wished.outcome.surplus, plain.surplus);
            prop_assert_eq!(wished.outcome.welfare, plain.welfare - wished.cost.welfare);
            let asks_or_sells_green = |who: u32| (0..entries.len()).any(|i| {
                let wish = &wishes[i];
                entries[i].participant == who && (wish.green || wish.green_premium > Price::ZERO)
            });
            let is_on = |who: u32, side: Side| entries.iter().any(|e| e.participant == who && e.side == side);
            for (who, change) in &wished.cost.changes {
                let at_own_limit = match mechanism {
                    Mechanism::PayAsBid { price: PairPrice::Bid, .. } => !is_on(*who, Side::Offer),
                    Mechanism::PayAsBid { price: PairPrice::Offer, .. } => !is_on(*who, Side::Bid),
                    Mechanism::PayAsBid { price: PairPrice::Mid, .. } => false,
                    _ => true,
                };
                prop_assert!(!at_own_limit || asks_or_sells_green(*who), "{} has {} more", who, change);
            }
            if !matches!(mechanism, Mechanism::UniformPrice { .. } | Mechanism::PayAsBid { .. }) {
                prop_assert!(wished.cost.changes.is_empty() && wished.cost.premiums == 0);
                let paid = |because: &Because| matches!(because, Because::Green | Because::MoreGreen);
                prop_assert!(!wished.because.iter().any(paid));
            }
        }
    }

    /// Nobody who is served trades by merit while a partner that it named still trades by merit, too,
    /// unless one of both would otherwise be left with its own orders.
    #[test]
    fn partners_meet_where_nobody_is_on_both_sides(lines in lines()) {
        let one_sided: Vec<Line> = lines
            .into_iter()
            .map(|mut line| {
                line.0.0 = line.0.3 % 2 == 0;
                line
            })
            .collect();
        let (book, wishes) = book_and_wishes(&one_sided);
        let (entries, slot) = (book.entries(), |i: u32| usize::try_from(i).unwrap());
        for mechanism in heeding() {
            let wished = clear_with_wishes(&book, mechanism, &wishes);
            let all = wished.outcome.trades.iter().zip(&wished.because);
            let merit: Vec<_> = all.filter(|(_, b)| **b == Because::Merit).map(|(t, _)| t).collect();
            for bid in merit.iter().map(|t| slot(t.bid)) {
                for offer in merit.iter().map(|t| slot(t.offer)) {
                    let named = wishes[bid].partners.contains(&entries[offer].participant)
                        || wishes[offer].partners.contains(&entries[bid].participant);
                    prop_assert!(!named, "order {} and {} would rather have met", bid, offer);
                    let feeders = (wishes[bid].feeder, wishes[offer].feeder);
                    let neighbours = feeders.0.is_some() && feeders.0 == feeders.1;
                    prop_assert!(!neighbours, "order {} and {} are on one feeder", bid, offer);
                }
            }
        }
    }
}
