//! Charging sessions in the books of both databases: holds, payments, and what is refused.

use domain::charger_record::ChargerRecord;
use domain::energy::Energy;
use domain::ids::{GatewayId, ParticipantId, PointId};
use domain::money::{Money, Price};
use domain::ocmf;
use domain::posting::{Account, Chart};
use domain::signed::{PublicKey, Signed};
use domain::time::Timestamp;
use settlement::charging::promise::{Payer, Promise};
use settlement::charging::session::Event;
use settlement::charging::split::{Owner, PassThrough, split};
use settlement::charging::terms::Quote;
use settlement::service as books;

use crate::world::{World, interval, sign};

const TOKEN: i64 = 1_000_000_000;

fn promise(session: &str, payer: Payer) -> Promise {
    let at = interval(0).start();
    let owner = |name: &str, basis_points| Owner {
        name: name.to_owned(),
        basis_points,
    };
    Promise {
        quote: Quote {
            session: session.to_owned(),
            station: "home-a.charger".to_owned(),
            currency: "EUR".to_owned(),
            prices: vec![(interval(0), Price::from_micro_per_kwh(300_000))],
            start_fee: Money::from_nano(TOKEN / 2),
            time_per_hour: Money::ZERO,
            parking_per_hour: Money::from_nano(TOKEN),
            parking_grace_s: 1_800,
            tax_ppm: 190_000,
            energy: Energy::from_wh(10_000),
            power_max_w: 11_000,
            ceiling: Money::from_nano(5 * TOKEN),
            offered_at: at,
            valid_until: at.plus_s(300),
            ready_by: at.plus_s(3_600),
        },
        plan: vec![(interval(0), Energy::from_wh(2_500))],
        payer,
        host: ParticipantId::new("home-a").unwrap(),
        buys: false,
        owners: vec![
            owner("home-a", 7_000),
            owner("home-b", 2_500),
            owner(books::COMMUNITY_OWNER, 500),
        ],
    }
}

async fn balance(world: &World, account: Account) -> i64 {
    let all = books::balances(&world.db).await.unwrap();
    let found = all.iter().find(|b| b.account == account);
    found.map_or(0, |b| b.balance)
}

/// A session is kept, held, paid and split; the same steps again change nothing.
async fn paid_and_split(world: &World, payer: Payer, name: &str) {
    let now: Timestamp = interval(1).start();
    let promise = promise(name, payer.clone());
    let home = |chart, id: &str| Account::of(chart, &ParticipantId::new(id).unwrap());
    let purse = match payer {
        Payer::Home(ref id) => home(Chart::Available, id),
        Payer::Card | Payer::RefusingCard => Account::common(Chart::Bridge),
    };
    let watched = [
        (home(Chart::Statement, "home-a"), 2_400 + 990 * 7 / 10),
        (home(Chart::Statement, "home-b"), 990 / 4),
        (Account::common(Chart::Community), 990 / 20),
        (Account::common(Chart::Tax), 610),
        (purse, -4_000),
    ];
    let mut before = Vec::new();
    for (account, _) in &watched {
        before.push(balance(world, account.clone()).await);
    }
    let ceiling = promise.quote.ceiling;
    let mut tx = world.db.begin().await.unwrap();
    books::charging_open(&mut tx, &promise).await.unwrap();
    for (seq, event) in [(0, Event::Accepted), (1, Event::Started { register_wh: 7 })] {
        books::charging_event(&mut tx, name, seq, now, event)
            .await
            .unwrap();
    }
    for _ in 0..2 {
        assert!(
            books::charging_hold(&mut tx, now, &promise, ceiling)
                .await
                .unwrap()
        );
    }
    tx.commit().await.unwrap();
    let stored = books::charging_session(&world.db, name)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.promise, promise);
    assert_eq!(stored.events[1], (now, Event::Started { register_wh: 7 }));

    let thousandths = |n: i64| Money::from_nano(n * 1_000_000);
    let pass_through = PassThrough {
        energy: thousandths(2_100),
        network_fee: thousandths(300),
        tax: thousandths(610),
    };
    // 4.00 paid: 0.61 tax, 2.40 for the energy, 0.99 to the owners.
    let parts = split(thousandths(4_000), pass_through, &promise.owners, name).unwrap();
    for _ in 0..2 {
        let mut tx = world.db.begin().await.unwrap();
        let settled =
            books::charging_settle(&mut tx, now, &promise, Some(&parts), thousandths(1_000));
        settled.await.unwrap();
        tx.commit().await.unwrap();
    }
    for ((account, milli_hint), before) in watched.into_iter().zip(before) {
        let moved = balance(world, account.clone()).await - before;
        // The hints are whole thousandths; what is smaller is below one of them.
        let apart = (moved - milli_hint * 1_000_000).abs();
        assert!(apart < 1_000_000, "{account}: {moved}");
    }
    world.check().await;
}

/// However old and however many, and a damaged one ends nothing; what was captured is none.
async fn unfinished_sessions_are_found(world: &World, station: &str) {
    let start = interval(-40_000).start();
    let mut tx = world.db.begin().await.unwrap();
    for n in 0..=books::SESSIONS_MAX {
        let mut old = promise(&format!("t-{n:05}"), Payer::Card);
        old.quote.offered_at = start;
        books::charging_open(&mut tx, &old).await.unwrap();
    }
    let ended = books::charging_event(&mut tx, "t-00001", 0, start, Event::Captured);
    ended.await.unwrap();
    let broken = "INSERT INTO settle_charging_events (session, seq, at_ms, event)
         VALUES ('t-00002', 0, 0, 'x')";
    tx.execute(broken, runtime::args![]).await.unwrap();
    tx.commit().await.unwrap();
    let (mut after, mut good, mut damaged) = (String::new(), 0, Vec::new());
    loop {
        let page = books::charging_unfinished(&world.db, &after).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        after.clone_from(last);
        for (name, stored) in page.into_iter().filter(|(name, _)| name.starts_with("t-")) {
            match stored {
                Ok(stored) => good += i64::from(stored.promise.quote.station == station),
                Err(_) => damaged.push(name),
            }
        }
    }
    assert_eq!(good, books::SESSIONS_MAX - 1);
    assert_eq!(damaged, ["t-00002"]);
}

async fn sessions_in_the_books(mut world: World) {
    world.deposit("home-b", "100").await;
    paid_and_split(&world, Payer::Home("home-b".to_owned()), "s-home").await;
    paid_and_split(&world, Payer::Card, "s-card").await;
    let poor = promise("s-poor", Payer::Home("home-b".to_owned()));
    let mut tx = world.db.begin().await.unwrap();
    let all = Money::from_nano(1_000_000 * TOKEN);
    let held = books::charging_hold(&mut tx, interval(1).start(), &poor, all).await;
    assert!(!held.unwrap());
    drop(tx);
    let station = poor.quote.station.clone();
    unfinished_sessions_are_found(&world, &station).await;
    assert!(
        books::charging_session(&world.db, "s-none")
            .await
            .unwrap()
            .is_none()
    );
    chargers_records_are_kept(&world).await;
    late_readings_mark_their_sessions(&mut world).await;
}

/// What the meter says from begin to one moment of a session, with these keys.
fn said(moment: i64, keys: Vec<ocmf::PublicKey>, signer: &ocmf::Signer) -> ChargerRecord {
    let begin = interval(0).start();
    let session = ocmf::Session {
        station: "CP-1",
        meter: "m",
        user: "u",
        page: 1,
        readings: [(begin, 1_000), (begin.plus_s(30 * moment), 1_000 + moment)],
        synchronised: true,
    };
    ChargerRecord {
        gateway: GatewayId::new("gateway-1").unwrap(),
        point: PointId::new("home-a.charger").unwrap(),
        heard_at: begin.plus_s(30 * moment),
        transaction: Some(7),
        text: ocmf::write(&session, signer).unwrap(),
        keys,
    }
}

/// Once each, with the keys that it came with; of very many the first and the last are found.
async fn chargers_records_are_kept(world: &World) {
    let signer = ocmf::Signer::from_pkcs8(&ocmf::Signer::generate().unwrap()).unwrap();
    let (now, community) = (interval(20).start(), world.community.id.clone());
    let without = said(1, Vec::new(), &signer);
    let with = ChargerRecord {
        keys: vec![signer.public()],
        ..without.clone()
    };
    let mut records = vec![without.clone(), without.clone(), with];
    records.extend((2..=600).map(|n| said(n, Vec::new(), &signer)));
    let mut tx = world.db.begin().await.unwrap();
    for record in &records {
        let signed = Signed::sign(&world.gateway_key, &community, record);
        let verified = signed.verify(PublicKey::of(&world.gateway_key), &community);
        let kept = books::keep_charger_record(&mut tx, now, &verified.unwrap()).await;
        assert_eq!(kept.unwrap(), books::Kept::Kept);
    }
    tx.commit().await.unwrap();
    let span = (interval(0).start(), interval(30).start());
    let found = books::charger_records(&world.db, &without.point, span).await;
    let found = found.unwrap().into_iter();
    let found: Vec<ChargerRecord> = found.map(|signed| signed.stored().unwrap()).collect();
    assert_eq!(found.len(), 512);
    let texts = |record: &ChargerRecord| found.iter().filter(|f| f.text == record.text).count();
    assert_eq!((texts(&records[0]), texts(&records[601])), (2, 1));
    let early = (interval(-9).start(), interval(-8).start());
    let none = books::charger_records(&world.db, &without.point, early).await;
    assert!(none.unwrap().is_empty());
}

/// A reading of a time in which a session went on, that comes when the next should be there, has it rated anew, once.
async fn late_readings_mark_their_sessions(world: &mut World) {
    let mut late = promise("s-late", Payer::Card);
    late.quote.station = "home-a".to_owned();
    let mut tx = world.db.begin().await.unwrap();
    books::charging_open(&mut tx, &late).await.unwrap();
    let stopped = books::charging_event(&mut tx, "s-late", 0, interval(5).end(), Event::Stop);
    stopped.await.unwrap();
    tx.commit().await.unwrap();
    world.meter("home-a", 3, 100, 0).await;
    let marked = books::charging_late(&world.db, "").await.unwrap();
    assert!(marked.is_empty(), "that one came in time");
    let reading = world.read("home-a", 4, 100, 0);
    let bytes = sign(&world.gateway_key, &world.community, &reading);
    world.accept_bytes(bytes, interval(6).start()).await;
    assert_eq!(
        books::charging_late(&world.db, "").await.unwrap(),
        ["s-late"]
    );
    let mut tx = world.db.begin().await.unwrap();
    books::charging_rates_anew(&mut tx, "s-late").await.unwrap();
    tx.commit().await.unwrap();
    assert!(
        books::charging_late(&world.db, "")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn sessions_are_held_paid_and_split() {
    sessions_in_the_books(World::on_sqlite(&["home-a", "home-b"]).await).await;
}

#[tokio::test]
async fn sessions_are_held_paid_and_split_on_postgres() {
    if let Some(world) = World::on_postgres(&["home-a", "home-b"]).await {
        sessions_in_the_books(world).await;
    }
}
