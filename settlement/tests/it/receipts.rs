//! Receipts: what they prove, and that nothing in one can be changed.

use domain::key_record::{Holder, KeyRecord};
use domain::order::Side;
use domain::posting::Run;
use domain::receipt::Receipt;
use domain::signed::{PublicKey, Signed, SigningKey};
use settlement::prove::{to_text, verify};
use settlement::service::{ServiceError, enrol, forget, receipt};

use crate::world::{Outcome, World, interval, who};

/// 900 Wh from home-b to home-a, before anything is metered.
pub(crate) async fn contracted() -> (World, Outcome) {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    world.hold(&bid).await;
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, 900)], "0.15");
    world.contract(&outcome).await;
    (world, outcome)
}

pub(crate) async fn settled(metered: bool) -> (World, Receipt) {
    let (mut world, outcome) = contracted().await;
    if metered {
        world.meter("home-a", 0, 950, 0).await;
        world.meter("home-b", 0, 0, 930).await;
    }
    world.run(&outcome, Run::Provisional).await;
    let (db, community, trade) = (&world.db, &world.community, outcome.trades[0].id);
    let early = receipt(db, community, trade, &who("home-a")).await.unwrap();
    assert!(early.is_none(), "no receipt before a checkpoint");
    world.checkpoint(interval(1).start()).await;
    let stranger = receipt(&world.db, &world.community, trade, &who("home-c"))
        .await
        .unwrap();
    assert!(stranger.is_none());
    let done = receipt(&world.db, &world.community, trade, &who("home-a"))
        .await
        .unwrap();
    (world, done.unwrap())
}

#[tokio::test]
async fn a_receipt_holds_and_says_how_far_it_can_be_trusted() {
    let (world, receipt) = settled(true).await;
    let text = to_text(&receipt).unwrap();
    let report = verify(&text, Some(PublicKey::of(&world.community.operator)));
    assert!(report.holds(), "{report:?}");
    let names: Vec<&str> = report.steps.iter().map(|(name, _)| *name).collect();
    let expect = [
        "format",
        "operator key",
        "checkpoints",
        "keys",
        "trade",
        "clearing",
        "order signature",
        "settlement lines",
        "runs' inputs",
        "meter signature",
        "key changes",
        "postings",
    ];
    assert_eq!(names, expect);
    let unpinned = verify(&text, None);
    let said = unpinned.steps[1].1.as_ref().unwrap();
    let key = PublicKey::of(&world.community.operator).to_bytes();
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    assert!(
        said.contains(&key) && said.contains("not compared"),
        "{said}"
    );
    assert_eq!((unpinned.pinned, report.pinned), (false, true));
    let other = PublicKey::of(&SigningKey::from_bytes(&[77; 32]));
    assert_eq!(
        verify(&text, Some(other)).first_failure().unwrap().0,
        "operator key"
    );
    // White space between the parts is the one thing that may differ.
    let compact = serde_json::to_string(&receipt).unwrap();
    assert!(verify(&compact, None).holds());
}

#[tokio::test]
async fn a_substituted_interval_has_a_receipt_that_says_so() {
    let (_world, receipt) = settled(false).await;
    assert!(receipt.reading.is_none() && receipt.gateway_key.is_none());
    let report = verify(&to_text(&receipt).unwrap(), None);
    assert!(report.holds(), "{report:?}");
    let meter = report
        .steps
        .iter()
        .find(|(name, _)| *name == "meter signature")
        .unwrap();
    assert!(meter.1.as_ref().unwrap().contains("substitute"));
}

#[tokio::test]
async fn a_false_value_fails_at_the_step_that_is_about_it() {
    let (_world, good) = settled(true).await;
    let failing = |change: fn(&mut Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        let report = verify(&to_text(&receipt).unwrap(), None);
        report.first_failure().map(|(step, _)| step.to_owned())
    };
    for (change, step) in [
        ((|r| r.format.push('0')) as fn(&mut Receipt), "format"),
        (|r| r.operator_key.0 = [0; 32], "operator key"),
        (|r| r.operator_key.0[0] ^= 1, "checkpoints"),
        (|r| r.community.push('x'), "checkpoints"),
        (|r| r.participant = who("home-b"), "keys"),
        (|r| r.gateway_key = None, "keys"),
        (|r| r.side = Side::Offer, "trade"),
        (
            |r| r.trade.content.energy = domain::energy::Energy::from_wh(901),
            "trade",
        ),
        (|r| r.trade.salt.0[3] ^= 1, "trade"),
        (|r| r.clearing.content.orders += 1, "clearing"),
        (|r| r.clearing.place.index += 1, "clearing"),
        (|r| r.order.place.path.clear(), "order signature"),
        (
            |r| r.lines[0].content.pooled_wh = domain::energy::Energy::ZERO,
            "settlement lines",
        ),
        (|r| r.lines.clear(), "settlement lines"),
        (
            |r| r.lines[0].content.postings[0].amount += 1,
            "settlement lines",
        ),
        (|r| r.runs[0].content.readings_size = 0, "runs' inputs"),
        (|r| r.runs[0].content.program.push('x'), "runs' inputs"),
        (|r| r.runs[0].content.inputs.0[0] ^= 1, "runs' inputs"),
        (|r| r.runs.push(r.runs[0].clone()), "runs' inputs"),
        (
            |r| r.reading.as_mut().unwrap().salt.0[0] ^= 1,
            "meter signature",
        ),
    ] {
        assert_eq!(failing(change).as_deref(), Some(step));
    }
}

/// Where the verifier stops at the receipt of a trade whose bid was changed like this.
async fn fails_with(change: impl Fn(&mut domain::order::Order), key: Option<SigningKey>) -> String {
    let mut world = World::on_sqlite(&["home-a", "home-b"]).await;
    world.deposit("home-a", "10").await;
    let mut bid = world.order("home-a", Side::Bid, 0, 1000, "0.2");
    change(&mut bid);
    let offer = world.order("home-b", Side::Offer, 0, 1000, "0.1");
    world.hold(&bid).await;
    let mut outcome = world.outcome(0, &[bid.clone(), offer], &[(0, 1, 900)], "0.15");
    if let Some(key) = key {
        let record = KeyRecord {
            key: PublicKey::of(&key),
            holder: Holder::Participant(who("home-a")),
            valid_from: interval(1).start(),
        };
        let mut tx = world.db.begin().await.unwrap();
        enrol(&mut tx, &world.community, interval(1).start(), record)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let signed = Signed::sign(&key, &world.community.id, &bid);
        outcome.orders[0].2 = signed.as_bytes().to_vec();
    }
    world.contract(&outcome).await;
    world.meter("home-a", 0, 950, 0).await;
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(1).start()).await;
    let trade = outcome.trades[0].id;
    let receipt = receipt(&world.db, &world.community, trade, &who("home-a"))
        .await
        .unwrap()
        .unwrap();
    let report = verify(&to_text(&receipt).unwrap(), None);
    let failure = report.first_failure();
    failure.map_or(String::new(), |(step, why)| format!("{step}: {why}"))
}

#[tokio::test]
async fn an_order_is_for_the_metered_point_and_by_a_key_of_its_time() {
    assert_eq!(fails_with(|_| {}, None).await, "");
    let elsewhere = |bid: &mut domain::order::Order| {
        bid.point = domain::ids::PointId::new("home-b").unwrap();
    };
    let why = fails_with(elsewhere, None).await;
    assert!(
        why.starts_with("settlement lines: the order's point"),
        "{why}"
    );
    let later = SigningKey::from_bytes(&[88; 32]);
    let why = fails_with(|_| {}, Some(later)).await;
    assert!(
        why.starts_with("keys: the participant's key is valid only"),
        "{why}"
    );
}

#[tokio::test]
async fn who_is_forgotten_cannot_be_opened_and_the_street_goes_on() {
    let (mut world, receipt_before) = settled(true).await;
    let mut tx = world.db.begin().await.unwrap();
    forget(&mut tx, &who("home-a")).await.unwrap();
    tx.commit().await.unwrap();
    world.meter("home-a", 1, 10, 0).await;
    let outcome = world.outcome(1, &[], &[], "0.1");
    world.contract(&outcome).await;
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(2).start()).await;
    let trade = receipt_before.trade.content.id;
    let gone = receipt(&world.db, &world.community, trade, &who("home-a")).await;
    assert!(matches!(gone, Err(ServiceError::Erased(_))), "{gone:?}");
    let other = receipt(&world.db, &world.community, trade, &who("home-b"))
        .await
        .unwrap();
    assert!(verify(&to_text(&other.unwrap()).unwrap(), None).holds());
    world.check().await;
}

#[test]
fn no_single_bit_of_a_receipt_can_be_flipped() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_world, receipt) = runtime.block_on(settled(true));
    // Without the white space between its parts, which is the one thing that may differ.
    let text = serde_json::to_string(&receipt).unwrap();
    assert!(verify(&text, None).holds());
    let check = |range: std::ops::Range<usize>| {
        let mut bytes = text.clone().into_bytes();
        for index in range {
            for bit in 0..8 {
                bytes[index] ^= 1 << bit;
                if let Ok(changed) = std::str::from_utf8(&bytes) {
                    let holds = verify(changed, None).holds();
                    assert!(
                        !holds,
                        "bit {bit} of byte {index} in {:?}",
                        text.as_bytes()[index]
                    );
                }
                bytes[index] ^= 1 << bit;
            }
        }
    };
    let half = text.len() / 2;
    std::thread::scope(|scope| {
        scope.spawn(|| check(0..half));
        check(half..text.len());
    });
}
