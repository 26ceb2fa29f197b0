//! A station that buys its cars' energy: out of the driver's hold, settled like any meter's, and carried to its owners
//! to the last unit, on both databases.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::energy::Energy;
use domain::ids::PointId;
use domain::money::{Money, Price};
use domain::order::Side;
use domain::posting::{Asset, Chart, Run};
use domain::signed::{PublicKey, SigningKey};
use domain::time::Timestamp;
use ed25519_dalek::Signer as _;
use settlement::charging::profit::Month;
use settlement::charging::promise::{Payer, Promise};
use settlement::charging::receipt::{Parts, Proof, verify, write};
use settlement::charging::session::{Event, Session};
use settlement::charging::split::{Credit, Owner, PassThrough, split};
use settlement::charging::terms::{Quote, Terms};
use settlement::service::{self as books, Carrier};

use crate::world::{Outcome, START_S, World, interval, who};

const TOKEN: i64 = 1_000_000_000;
/// Nobody who has a meter, so that only what is carried is on their account.
const OWNER: &str = "owner-1";

fn promise() -> Promise {
    let at = interval(0).start();
    let owner = |name: &str, basis_points| Owner {
        name: name.to_owned(),
        basis_points,
    };
    Promise {
        quote: Quote {
            session: "s-1".to_owned(),
            station: "station".to_owned(),
            currency: "EUR".to_owned(),
            prices: vec![(interval(0), Price::from_micro_per_kwh(300_000))],
            start_fee: Money::ZERO,
            time_per_hour: Money::ZERO,
            parking_per_hour: Money::ZERO,
            parking_grace_s: 1_800,
            tax_ppm: 190_000,
            energy: Energy::from_wh(2_000),
            power_max_w: 11_000,
            ceiling: Money::from_nano(5 * TOKEN),
            offered_at: at,
            valid_until: at.plus_s(300),
            ready_by: at.plus_s(3_600),
        },
        plan: vec![(interval(0), Energy::from_wh(2_000))],
        payer: Payer::Home("home-b".to_owned()),
        host: who("station"),
        buys: true,
        owners: vec![owner(OWNER, 9_500), owner(books::COMMUNITY_OWNER, 500)],
    }
}

async fn token(world: &World, chart: Chart, owner: &str) -> i64 {
    world.balance(Asset::Token, chart, owner).await
}

/// What of a run is the station's goes to the session's owners.
async fn carry(world: &World, run: Run) {
    let promise = promise();
    let mut tx = world.db.begin().await.unwrap();
    let station = who("station");
    let line = books::station_line(&mut tx, &station, interval(0), run);
    if let Some(line) = line.await.unwrap() {
        let carrier = Carrier::Session("s-1", &promise.owners);
        let now = interval(1).end();
        books::station_carry(&mut tx, now, &line, carrier)
            .await
            .unwrap();
        let again = books::station_carry(&mut tx, now, &line, carrier).await;
        assert!(again.is_err(), "a line is carried once");
        // What failed has spoilt the transaction on PostgreSQL: once more, alone.
        drop(tx);
        tx = world.db.begin().await.unwrap();
        books::station_carry(&mut tx, now, &line, carrier)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
}

/// What was booked for the station at all.
async fn month(world: &World) -> Month {
    let (station, owner) = (who("station"), who(OWNER));
    let ever = (Timestamp::EPOCH, interval(1_000).end());
    let month = books::station_month(&world.db, "station", Some((Some(&station), &owner)), ever);
    month.await.unwrap()
}

/// What the session's energy has come to by now.
async fn cost(world: &World) -> Money {
    month(world).await.cost.total().unwrap()
}

/// The session begins: held, advanced, ordered, and cleared with less than was ordered.
async fn ordered(world: &mut World) -> Outcome {
    let (promise, now) = (promise(), Timestamp::from_unix_s(START_S - 1_000));
    let nano = Money::from_nano;
    let mut tx = world.db.begin().await.unwrap();
    books::charging_open(&mut tx, &promise).await.unwrap();
    assert!(
        books::charging_hold(&mut tx, now, &promise, nano(5 * TOKEN))
            .await
            .unwrap()
    );
    // 2 kWh at 0.25 and 0.07 of fees.
    let needs = nano(640_000_000);
    assert!(
        books::charging_advance(&mut tx, now, &promise, needs)
            .await
            .unwrap()
    );
    let left = books::charging_to_advance(&mut tx, &promise).await.unwrap();
    assert_eq!(
        left,
        nano(5 * TOKEN),
        "what is advanced is there to be spent"
    );
    let too_much = nano(5 * TOKEN + 1);
    assert!(
        !books::charging_advance(&mut tx, now, &promise, too_much)
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    let bid = world.order("station", Side::Bid, 0, 2_000, "0.25");
    let offer = world.order("home-a", Side::Offer, 0, 1_500, "0.10");
    assert!(world.hold(&bid).await && world.hold(&offer).await);
    let outcome = world.outcome(0, &[bid, offer], &[(0, 1, 1_500)], "0.2");
    world.contract(&outcome).await;
    outcome
}

async fn a_session_of_a_station(mut world: World) {
    world.deposit("home-b", "100").await;
    let outcome = ordered(&mut world).await;
    // More flows than was bought, and one home's reading is late: a later run corrects.
    for (point, import_wh, export_wh) in [
        ("feeder", 300, 0),
        ("home-a", 0, 1_600),
        ("station", 1_800, 0),
    ] {
        world.meter(point, 0, import_wh, export_wh).await;
    }
    world.run(&outcome, Run::Provisional).await;
    carry(&world, Run::Provisional).await;
    let first = cost(&world).await;
    // 1.5 kWh at 0.27 are the trade; 0.3 kWh lie beside it.
    assert!(
        first.nano() > 405_000_000 && first.nano() <= 405_000_000 + 96_000_000,
        "{first}"
    );
    world.meter("home-b", 0, 0, 700).await;
    world.run(&outcome, Run::Initial).await;
    carry(&world, Run::Initial).await;
    let cost = cost(&world).await;
    assert!(
        cost < first,
        "with more from neighbours it costs less: {cost}, {first}"
    );

    let (promise, now) = (promise(), interval(2).start());
    let (paid, tax) = (Money::from_nano(TOKEN), Money::from_nano(159_663_866));
    let pass_through = PassThrough {
        tax,
        ..PassThrough::default()
    };
    let parts = split(paid, pass_through, &promise.owners, "s-1").unwrap();
    for _ in 0..2 {
        let mut tx = world.db.begin().await.unwrap();
        let release = Money::from_nano(4 * TOKEN);
        let settled = books::charging_settle(&mut tx, now, &promise, Some(&parts), release);
        settled.await.unwrap();
        books::station_sweep(&mut tx, now, &who("station"))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    for chart in [Chart::Available, Chart::Held, Chart::Statement] {
        assert_eq!(token(&world, chart, "station").await, 0, "{chart:?}");
    }
    assert_eq!(token(&world, Chart::Held, "home-b").await, 0);
    assert_eq!(token(&world, Chart::Available, "home-b").await, 99 * TOKEN);
    let owned = async |world: &World| {
        token(world, Chart::Statement, OWNER).await + token(world, Chart::Community, "-").await
    };
    let left = paid.nano() - tax.nano() - cost.nano();
    assert_eq!(
        owned(&world).await,
        left,
        "owners have the rest, to the last unit"
    );

    // A correction takes back what was too much, from tax and owners, once.
    let less = Money::from_nano(600_000_000);
    let credit = Credit::new(now, "the meter", (paid, tax), less)
        .unwrap()
        .unwrap();
    let mut tx = world.db.begin().await.unwrap();
    books::charging_credit(&mut tx, now, &promise, 0, &credit)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut tx = world.db.begin().await.unwrap();
    assert!(
        books::charging_credit(&mut tx, now, &promise, 0, &credit)
            .await
            .is_err()
    );
    drop(tx);
    assert_eq!(
        books::charging_credits(&world.db, "s-1").await.unwrap(),
        std::slice::from_ref(&credit)
    );
    assert_eq!(
        token(&world, Chart::Available, "home-b").await,
        99 * TOKEN + 400_000_000
    );
    assert_eq!(
        token(&world, Chart::Tax, "-").await,
        tax.nano() - credit.tax_nano
    );
    assert_eq!(owned(&world).await, left - (400_000_000 - credit.tax_nano));
    assert_eq!(token(&world, Chart::Statement, "station").await, 0);
    world.check().await;
}

#[tokio::test]
async fn a_station_buys_out_of_the_drivers_hold_and_its_owners_carry_the_rest() {
    a_session_of_a_station(World::on_sqlite(&["home-a", "home-b", "station"]).await).await;
}

#[tokio::test]
async fn a_station_buys_out_of_the_drivers_hold_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b", "station"]).await {
        a_session_of_a_station(world).await;
    }
}

/// A receipt of a session of two intervals whose energy is in the logs: 1.5 of 1.8 kWh from a neighbour, then 0.4 kWh.
async fn receipt(world: &mut World) -> String {
    world.deposit("home-b", "100").await;
    let outcome = ordered(world).await;
    world.meter("station", -1, 0, 0).await;
    for (point, import_wh, export_wh) in [
        ("feeder", 300, 0),
        ("home-a", 0, 1_500),
        ("home-b", 0, 0),
        ("station", 1_800, 0),
    ] {
        world.meter(point, 0, import_wh, export_wh).await;
    }
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(1).end()).await;

    let [begin, end] = [interval(0).start(), interval(0).end()];
    let point = PointId::new("station").unwrap();
    let span = (interval(-1).start(), end);
    let readings = books::charging_readings(&mut &world.db, &point, span).await;
    let readings = readings.unwrap();
    let key = PublicKey::of(&world.gateway_key);
    let proof = |n: usize| Proof {
        reading: readings[n].0.clone(),
        key,
        record: None,
        log: None,
    };
    let settled = books::station_settled(&world.db, &who("station"), (begin, end)).await;
    let mut session = Session::new(Terms::new(promise().quote).unwrap());
    let offered = promise().quote.offered_at;
    let reading = |n: usize| readings[n].1.registers[0].end.wh();
    for (at, event) in [
        (offered, Event::Accepted),
        (offered, Event::HoldPlaced),
        (
            begin,
            Event::Started {
                register_wh: reading(0),
            },
        ),
        (
            end,
            Event::Reading {
                register_wh: reading(1),
                full: false,
            },
        ),
        (end, Event::Stop),
        (end, Event::Captured),
    ] {
        session.apply(at, event);
    }
    let parts = Parts {
        proofs: &[proof(0), proof(1)],
        settled: Some(&settled.unwrap()),
        credits: &[],
        charger: (&[], None),
    };
    write(
        &session,
        &parts,
        &world.community.id,
        &world.community.operator,
    )
    .unwrap()
}

/// The step at which a receipt is refused, and why.
fn refused(text: &str, operator: &SigningKey) -> (&'static str, String) {
    let report = verify(text, Some(PublicKey::of(operator)));
    let (step, why) = report.first_failure().unwrap();
    (step, why.to_owned())
}

/// The same receipt with something changed, signed by the operator itself.
fn signed_again(text: &str, from: &str, to: &str, operator: &SigningKey) -> String {
    let body = text.strip_prefix("{\"receipt\":").unwrap();
    let (body, _) = body.split_once(",\"operator_key\"").unwrap();
    assert!(body.contains(from), "{from}: {body}");
    let changed = body.replacen(from, to, 1);
    let message = format!("commonwatt/street/charging-receipt/v1\n{changed}");
    let signature = STANDARD.encode(operator.sign(message.as_bytes()).to_bytes());
    let text = text.replacen(body, &changed, 1);
    let (head, _) = text.split_once(",\"signature\":").unwrap();
    format!("{head},\"signature\":\"{signature}\"}}\n")
}

#[tokio::test]
async fn a_settlement_without_a_reading_is_no_origin() {
    let mut world = World::on_sqlite(&["home-a", "home-b", "station"]).await;
    world.deposit("home-b", "100").await;
    let outcome = ordered(&mut world).await;
    world.meter("station", -1, 0, 0).await;
    for (point, export_wh) in [("feeder", 0), ("home-a", 1_500), ("home-b", 0)] {
        world.meter(point, 0, 0, export_wh).await;
    }
    world.run(&outcome, Run::Provisional).await;
    world.checkpoint(interval(1).end()).await;
    let span = (interval(0).start(), interval(0).end());
    let station = who("station");
    let settled = books::station_settled(&world.db, &station, span).await;
    assert!(settled.unwrap().is_empty(), "what it had traded is a guess");
    world.meter("station", 0, 1_400, 0).await;
    world.run(&outcome, Run::Initial).await;
    world.checkpoint(interval(2).end()).await;
    let settled = books::station_settled(&world.db, &station, span).await;
    let settled = settled.unwrap();
    assert_eq!(settled[0].line.delivery.imported.wh(), 1_400);
}

#[tokio::test]
async fn a_receipt_whose_origin_was_changed_is_refused_with_the_reason() {
    let mut world = World::on_sqlite(&["home-a", "home-b", "station"]).await;
    let text = receipt(&mut world).await;
    let operator = world.community.operator.clone();
    let report = verify(&text, Some(PublicKey::of(&operator)));
    assert_eq!(report.first_failure(), None, "{report:?}");
    let origin = report.steps.iter().find(|(step, _)| *step == "origin");
    let (_, told) = origin.unwrap();
    assert!(
        told.as_ref()
            .unwrap()
            .starts_with("1500 of 1800 Wh from neighbours"),
        "{told:?}"
    );

    // By anybody: the operator's signature does not hold any more.
    let forged = text.replacen("\"local_wh\":1500", "\"local_wh\":1800", 1);
    assert_eq!(
        refused(&forged, &operator),
        (
            "operator",
            "the receipt was changed after the operator signed it".to_owned()
        )
    );
    // By the operator: the log says otherwise.
    let (all, grid) = ("\"energy_wh\":1800,", "\"local_wh\":1500,\"grid_wh\":300");
    for (from, to, why) in [
        (
            grid,
            "\"local_wh\":1800,\"grid_wh\":0",
            "is not what was settled",
        ),
        (
            grid,
            "\"local_wh\":1800,\"grid_wh\":300",
            "is not what was settled",
        ),
        (all, "\"energy_wh\":1801,", "is not what was settled"),
        (
            "\"not_settled_wh\":0",
            "\"not_settled_wh\":1",
            "do not come to what the meter counted",
        ),
        (
            "\"start\":\"2026-06-21T",
            "\"start\":\"2026-06-20T",
            "is of another meter or time",
        ),
        (
            "\"proof\":\"c2sp.org",
            "\"proof\":\"d2sp.org",
            "a proof is no tlog-proof text",
        ),
        (
            "\\nindex ",
            "\\nindex 9",
            "an entry is not in the ledger log under its root",
        ),
    ] {
        let (step, told) = refused(&signed_again(&text, from, to, &operator), &operator);
        assert!(
            step == "origin" && told.contains(why),
            "{to}: {step}: {told}"
        );
    }
}
