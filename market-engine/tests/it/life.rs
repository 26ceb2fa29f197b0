//! The life of orders under random histories: what the state machine promises, and that a market on a
//! database, stopped and opened again between any two commands, lives the same life.

use std::collections::BTreeMap;

use domain::cancel::Cancel;
use domain::energy::Energy;
use domain::ids::{CommunityId, OrderId, ParticipantId, PointId};
use domain::money::Price;
use domain::order::{Order, Side};
use domain::rejection::Rejection;
use domain::signed::{self, PublicKey, Signed, SigningKey, Verified};
use domain::time::{Interval, Timestamp};
use market_engine::accept::energy_max_wh;
use market_engine::market::{Cleared, Command, Event, Gate, Market, Rules, Secret, gate};
use market_engine::service::{self, Message, Outcome, Setup};
use market_engine::store::MIGRATIONS;
use proptest::prelude::*;
use runtime::db::Db;

use crate::service::take;

/// 1000 Wh in a quarter-hour.
const RATING_W: u32 = 4000;
const SECRET: Secret = Secret([5; 32]);

fn rules() -> Rules {
    Rules {
        orders_per_participant_max: 3,
        changes_per_participant_max: 6,
        messages_per_minute_max: 8,
        share_free: Energy::from_wh(900),
        share_alarm_permille: Some(500),
        share_cap_permille: Some(900),
        ..Rules::default()
    }
}

fn first() -> Interval {
    Interval::new(1_782_000_000, 900).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Place {
        order: Order,
        held: bool,
    },
    Cancel(Cancel),
    Clear,
    /// The order of another step once more.
    Again(usize),
    /// The order of another step once more, after its key has ended.
    Ended(usize),
}

#[derive(Clone, Debug)]
struct Timed {
    after_s: i64,
    step: Step,
}

fn participant(n: u8) -> ParticipantId {
    ParticipantId::new(["ann", "bob", "cem"][usize::from(n)]).unwrap()
}

prop_compose! {
    fn an_order()(
        who in 0_u8..3, sequence in 1_u64..9, n in 0_i64..3, is_bid: bool, energy_wh in 1_i64..1100,
        micro in 0_i64..400_000, replaces in proptest::option::weighted(0.3, 1_u64..9),
    ) -> Order {
        Order {
            participant: participant(who),
            point: PointId::new(participant(who).as_str()).unwrap(),
            side: if is_bid { Side::Bid } else { Side::Offer },
            interval: first().offset(n),
            energy: Energy::from_wh(energy_wh),
            limit: Price::from_micro_per_kwh(micro),
            sequence,
            replaces: replaces.filter(|other| *other != sequence),
            preference: domain::order::Preference::default(),
        }
    }
}

fn a_step() -> impl Strategy<Value = Step> {
    let cancel = (0_u8..3, 1_u64..9, 0_i64..3).prop_map(|(who, sequence, n)| {
        Step::Cancel(Cancel {
            participant: participant(who),
            sequence,
            interval: first().offset(n),
        })
    });
    prop_oneof![
        6 => (an_order(), proptest::bool::weighted(0.85)).prop_map(|(order, held)| Step::Place { order, held }),
        3 => cancel,
        1 => Just(Step::Clear),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Again(index.index(1000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Ended(index.index(1000))),
    ]
}

fn a_history(steps: usize) -> impl Strategy<Value = Vec<Timed>> {
    let after_s = prop_oneof![4 => 0_i64..20, 1 => 0_i64..900];
    let timed = (after_s, a_step()).prop_map(|(after_s, step)| Timed { after_s, step });
    proptest::collection::vec(timed, 1..steps)
}

fn verified<T: signed::Message>(message: &T) -> Verified<T> {
    let (key, street) = (
        SigningKey::from_bytes(&[7; 32]),
        CommunityId::new("street").unwrap(),
    );
    Signed::sign(&key, &street, message)
        .verify(PublicKey::of(&key), &street)
        .unwrap()
}

/// A step's order, where it has one: its own, or that of the step that it repeats.
fn order_of(history: &[Timed], at: usize) -> Option<(&Order, bool)> {
    match &history[at].step {
        Step::Place { order, held } => Some((order, *held)),
        Step::Again(index) | Step::Ended(index) => match &history[index % history.len()].step {
            Step::Place { order, held } => Some((order, *held)),
            _ => None,
        },
        _ => None,
    }
}

/// Lives a history on the machine alone: what happened at each step, and when.
fn live(market: &mut Market, history: &[Timed]) -> Vec<(Timestamp, Vec<Event>)> {
    let mut now = first().start().plus_s(-1800);
    let mut lived = Vec::new();
    for (at, timed) in history.iter().enumerate() {
        now = now.plus_s(timed.after_s);
        let mut events = match (&timed.step, order_of(history, at)) {
            (Step::Cancel(cancel), _) => market.apply(now, Command::Cancel(&verified(cancel))),
            (Step::Ended(_), Some((order, _))) => {
                market.apply(now, Command::Repeat(&verified(order)))
            }
            (_, Some((order, _))) => {
                let order = &verified(order);
                market.apply(
                    now,
                    Command::Place {
                        order,
                        rating_w: RATING_W,
                    },
                )
            }
            _ => market.apply(now, Command::Clear),
        }
        .unwrap();
        if let (Some(Event::HoldAsked { .. }), Some((_, held))) =
            (events.last(), order_of(history, at))
        {
            events.extend(market.apply(now, Command::Held(held)).unwrap());
        }
        lived.push((now, events));
    }
    lived
}

fn begin() -> Market {
    Market::new(rules(), SECRET, first().offset(-2))
}

/// What a history has come to: the interval of every accepted order, and where it is now.
#[derive(Default)]
struct Told {
    orders: BTreeMap<OrderId, (Interval, bool)>,
    cleared: Vec<Interval>,
}

impl Told {
    fn hear(&mut self, now: Timestamp, event: &Event, asked: &[Event]) {
        match event {
            Event::Accepted { order, .. } => {
                let found = asked.iter().find_map(|event| match event {
                    Event::HoldAsked { order, .. } => Some(order.interval),
                    _ => None,
                });
                let interval = found.unwrap();
                assert_eq!(
                    gate(now, interval, &rules()),
                    Gate::Open,
                    "accepted after closure"
                );
                assert!(
                    !self.cleared.contains(&interval),
                    "accepted after its clearing"
                );
                assert!(
                    self.orders.insert(*order, (interval, true)).is_none(),
                    "accepted twice"
                );
            }
            Event::Withdrawn { order, .. } => {
                let (interval, stands) = self.orders.get_mut(order).unwrap();
                assert!(*stands, "taken back twice");
                assert_eq!(
                    gate(now, *interval, &rules()),
                    Gate::Open,
                    "taken back after closure"
                );
                *stands = false;
            }
            Event::Forestalled(cancel) => {
                assert_eq!(gate(now, cancel.interval, &rules()), Gate::Open);
                let out = (cancel.interval, false);
                assert!(
                    self.orders.insert(cancel.order(), out).is_none(),
                    "it had come"
                );
            }
            Event::Cleared(cleared) => self.hear_clearing(cleared),
            Event::Again { order, stands } => assert_eq!(self.orders[order].1, *stands),
            _ => {}
        }
    }

    fn hear_clearing(&mut self, cleared: &Cleared) {
        let interval = cleared.clearing.interval;
        let mut in_book: Vec<OrderId> = cleared.orders.iter().map(|o| o.id).collect();
        in_book.sort();
        let standing = self
            .orders
            .iter()
            .filter(|(_, (of, stands))| *of == interval && *stands);
        let standing: Vec<OrderId> = standing.map(|(id, _)| *id).collect();
        assert_eq!(in_book, standing, "the book is not what stands");
        self.cleared.push(interval);
    }
}

fn assert_within_rating(market: &Market) {
    let most = energy_max_wh(RATING_W, 900);
    for n in 0..3 {
        let mut sums: BTreeMap<(&ParticipantId, Side), (i64, u32)> = BTreeMap::new();
        let mut sides = [0, 0];
        for placed in market.standing(first().offset(n)) {
            let wh = placed.order.energy.wh();
            let (sum, count) = sums
                .entry((&placed.order.participant, placed.order.side))
                .or_default();
            *sum += wh;
            *count += 1;
            sides[usize::from(placed.order.side.code())] += wh;
            assert!(*sum <= most && *count <= 3, "{sums:?}");
        }
        let totals = market.totals(first().offset(n));
        assert_eq!([totals.bid_wh, totals.offer_wh], sides);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_promises_hold(history in a_history(60)) {
        let (mut market, mut told) = (begin(), Told::default());
        for (now, events) in live(&mut market, &history) {
            for event in &events {
                told.hear(now, event, &events);
            }
        }
        assert_within_rating(&market);
    }

    #[test]
    fn positions_are_within_the_rating_after_every_step(history in a_history(25)) {
        for end in 1..=history.len() {
            let mut market = begin();
            live(&mut market, &history[..end]);
            assert_within_rating(&market);
        }
    }

    #[test]
    fn the_same_history_gives_the_same_events_and_again_changes_nothing(history in a_history(60)) {
        let (mut one, mut two) = (begin(), begin());
        let lived = live(&mut one, &history);
        prop_assert_eq!(&lived, &live(&mut two, &history));
        let before = format!("{one:?}");
        let now = lived.last().unwrap().0;
        for (at, (_, events)) in lived.iter().enumerate() {
            if !matches!(events.last(), Some(Event::Accepted { .. })) {
                continue;
            }
            let order = verified(order_of(&history, at).unwrap().0);
            let command = Command::Place { order: &order, rating_w: RATING_W };
            let again = one.apply(now, command).unwrap();
            prop_assert!(matches!(again[..], [Event::Again { .. }]), "{:?}", again);
        }
        prop_assert_eq!(before, format!("{one:?}"));
    }
}

/// A market on a file that is opened anew for every command, as if the program had stopped in between.
struct Stopped {
    path: String,
    setup: Setup,
}

impl Stopped {
    async fn open(&self) -> Db {
        let db = Db::open(&self.path).await.unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        db
    }

    async fn take(&self, now: Timestamp, said: &[Said]) -> Vec<Outcome> {
        let db = self.open().await;
        let mut tx = db.begin().await.unwrap();
        let rating_w = RATING_W;
        let messages = said.iter().map(|said| match said {
            Said::Order(order, _) => Message::Place { order, rating_w },
            Said::Ended(order) => Message::Repeat(order),
            Said::Cancel(cancel) => Message::Cancel(cancel),
        });
        let messages = messages.collect();
        let mut is_held = Vec::new();
        for one in said {
            if let Said::Order(order, held) = one {
                is_held.push((order.message(), *held));
            }
        }
        let mut asked = is_held.into_iter();
        let is_held = |asked_about: &Order| {
            let answers = asked.by_ref();
            answers
                .find(|(order, _)| std::ptr::eq(*order, asked_about))
                .unwrap()
                .1
        };
        let outcomes = take(&mut tx, &self.setup, now, messages, is_held).await;
        tx.commit().await.unwrap();
        db.close().await;
        outcomes
    }

    async fn clear(&self, now: Timestamp) -> Vec<(Cleared, String)> {
        let db = self.open().await;
        let mut tx = db.begin().await.unwrap();
        let all = service::clear_due(&mut tx, &self.setup, now).await.unwrap();
        tx.commit().await.unwrap();
        let mut published = Vec::new();
        for cleared in all {
            let interval = cleared.clearing.interval;
            let book = service::public_book(&db, interval).await.unwrap();
            published.push((cleared, book.unwrap()));
        }
        db.close().await;
        published
    }
}

/// What the machine's events say in the words of the service.
fn outcome_of(events: &[Event]) -> Option<Outcome> {
    Some(match events.last()? {
        Event::Accepted { order, .. } => Outcome::Accepted(*order),
        Event::Withdrawn { order, .. } => Outcome::Withdrawn(*order),
        Event::Forestalled(cancel) => Outcome::Withdrawn(cancel.order()),
        Event::Again { order, stands } => Outcome::Again {
            order: *order,
            stands: *stands,
        },
        Event::Equivocation { .. } => Outcome::Refused(Rejection::Equivocation),
        Event::Refused(reason) => Outcome::Refused(*reason),
        other => panic!("no answer to a message: {other:?}"),
    })
}

/// Clears all that is due, as the service does.
fn clear_all(market: &mut Market, now: Timestamp) -> Vec<(Cleared, String)> {
    let mut all = Vec::new();
    loop {
        let events = market.apply(now, Command::Clear).unwrap();
        let [.., Event::Cleared(cleared), Event::Published { book, .. }] = events.as_slice() else {
            return all;
        };
        all.push(((**cleared).clone(), book.clone()));
    }
}

/// A message, and whether its order's hold is there.
enum Said {
    Order(Verified<Order>, bool),
    /// It was signed with a key that has ended since.
    Ended(Verified<Order>),
    Cancel(Verified<Cancel>),
}

/// The message of a step, if it is one.
fn said(history: &[Timed], at: usize) -> Option<Said> {
    match (&history[at].step, order_of(history, at)) {
        (Step::Cancel(cancel), _) => Some(Said::Cancel(verified(cancel))),
        (Step::Ended(_), Some((order, _))) => Some(Said::Ended(verified(order))),
        (_, Some((order, held))) => Some(Said::Order(verified(order), held)),
        _ => None,
    }
}

/// What the machine answers to a message.
fn answer(market: &mut Market, now: Timestamp, said: &Said) -> Outcome {
    let (command, held) = match said {
        Said::Order(order, held) => {
            let rating_w = RATING_W;
            (Command::Place { order, rating_w }, *held)
        }
        Said::Ended(order) => (Command::Repeat(order), false),
        Said::Cancel(cancel) => (Command::Cancel(cancel), false),
    };
    let mut events = market.apply(now, command).unwrap();
    if matches!(events.last(), Some(Event::HoldAsked { .. })) {
        events = market.apply(now, Command::Held(held)).unwrap();
    }
    outcome_of(&events).unwrap()
}

/// Messages that follow one another reach the market on the database in groups of so many.
async fn lives_the_same_life(history: &[Timed], together: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("market.db").to_str().unwrap().to_owned();
    let (rules, secret) = (rules(), SECRET);
    let stopped = Stopped {
        path,
        setup: Setup { rules, secret },
    };
    let mut now = first().start().plus_s(-1800);
    let mut market = begin();
    assert_eq!(clear_all(&mut market, now), stopped.clear(now).await);
    let mut steps = 0..history.len();
    while let Some(at) = steps.next() {
        now = now.plus_s(history[at].after_s);
        let Some(one) = said(history, at) else {
            assert_eq!(clear_all(&mut market, now), stopped.clear(now).await);
            continue;
        };
        let mut group = vec![one];
        while group.len() < together
            && let Some(next) = steps.clone().next().and_then(|next| said(history, next))
        {
            group.push(next);
            steps.next();
        }
        let expected: Vec<Outcome> = group
            .iter()
            .map(|one| answer(&mut market, now, one))
            .collect();
        let outcomes = stopped.take(now, &group).await;
        assert_eq!(outcomes, expected, "from step {at} of {history:?}");
    }
    let end = first().offset(4).start();
    assert_eq!(clear_all(&mut market, end), stopped.clear(end).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_market_that_stops_between_any_two_commands_lives_the_same_life(history in a_history(40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(lives_the_same_life(&history, 1));
    }

    #[test]
    fn a_market_that_takes_messages_together_lives_the_same_life(
        history in a_history(60), together in 2_usize..20,
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(lives_the_same_life(&history, together));
    }
}

/// Places an order with its hold, and gives the last event.
fn place(market: &mut Market, now: Timestamp, order: &Order) -> Event {
    let order = &verified(order);
    let command = Command::Place {
        order,
        rating_w: RATING_W,
    };
    let mut events = market.apply(now, command).unwrap();
    if matches!(events.last(), Some(Event::HoldAsked { .. })) {
        events = market.apply(now, Command::Held(true)).unwrap();
    }
    events.pop().unwrap()
}

fn plain(who: u8, sequence: u64, side: Side, energy_wh: i64) -> Order {
    Order {
        participant: participant(who),
        point: PointId::new(participant(who).as_str()).unwrap(),
        side,
        interval: first(),
        energy: Energy::from_wh(energy_wh),
        limit: Price::from_micro_per_kwh(200_000),
        sequence,
        replaces: None,
        preference: domain::order::Preference::default(),
    }
}

#[test]
fn an_order_is_replaced_in_one_step_or_not_at_all() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    let old = plain(0, 1, Side::Bid, 600);
    assert!(matches!(
        place(&mut market, now, &old),
        Event::Accepted { .. }
    ));
    // Both together would be more than the point carries.
    let new = Order {
        replaces: Some(1),
        ..plain(0, 2, Side::Bid, 880)
    };
    let command = Command::Place {
        order: &verified(&new),
        rating_w: RATING_W,
    };
    let asked = market.apply(now, command).unwrap();
    let expected = Event::HoldAsked {
        order: new.clone(),
        replaces: Some(old.id()),
    };
    assert_eq!(asked, [expected]);
    let refused = market.apply(now, Command::Held(false)).unwrap();
    assert_eq!(refused, [Event::Refused(Rejection::InsufficientFunds)]);
    let standing = |market: &Market| -> Vec<u64> {
        market
            .standing(first())
            .iter()
            .map(|p| p.order.sequence)
            .collect()
    };
    assert_eq!(standing(&market), [1]);
    market.apply(now, command).unwrap();
    let events = market.apply(now, Command::Held(true)).unwrap();
    let [Event::Withdrawn { order, by }, Event::Accepted { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*order, *by), (old.id(), Some(new.id())));
    assert_eq!(standing(&market), [2]);
    let gone = Order {
        replaces: Some(1),
        ..plain(0, 3, Side::Bid, 10)
    };
    let refused = Event::Refused(Rejection::UnknownOrder);
    assert_eq!(place(&mut market, now, &gone), refused);
    assert_eq!(
        place(&mut market, now, &old),
        Event::Again {
            order: old.id(),
            stands: false
        }
    );
}

#[test]
fn who_sends_too_much_in_a_minute_is_refused_until_the_next() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    let many = |market: &mut Market, now, from: u64, count: u64| -> usize {
        let limited = Event::Refused(Rejection::RateLimited);
        let sent = (from..from + count).map(|n| place(market, now, &plain(0, n, Side::Bid, 1)));
        sent.filter(|event| *event == limited).count()
    };
    assert_eq!(many(&mut market, now, 1, 10), 2, "eight a minute");
    assert_eq!(many(&mut market, now.plus_s(59), 20, 1), 1);
    assert!(matches!(
        place(&mut market, now, &plain(1, 1, Side::Bid, 1)),
        Event::Accepted { .. }
    ));
    assert_eq!(many(&mut market, now.plus_s(60), 30, 8), 0);
    // What was accepted is confirmed all the same.
    let first = plain(0, 1, Side::Bid, 1);
    let again = Event::Again {
        order: first.id(),
        stands: true,
    };
    assert_eq!(place(&mut market, now.plus_s(60), &first), again);
    // Evidence is kept from those too who send too much.
    let other = plain(0, 1, Side::Bid, 2);
    let evidence = Event::Equivocation { order: first.id() };
    assert_eq!(many(&mut market, now.plus_s(60), 40, 1), 1);
    assert_eq!(place(&mut market, now.plus_s(60), &other), evidence);
}

#[test]
fn an_order_that_was_taken_back_before_it_came_does_not_enter_the_book() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    let cancel = |market: &mut Market, now, sequence, interval| {
        let cancel = verified(&Cancel {
            participant: participant(0),
            sequence,
            interval,
        });
        let events = market.apply(now, Command::Cancel(&cancel)).unwrap();
        outcome_of(&events).unwrap()
    };
    let refused = Outcome::Refused;
    let order = plain(0, 1, Side::Bid, 10);
    let gone = Outcome::Again {
        order: order.id(),
        stands: false,
    };
    assert_eq!(
        cancel(&mut market, now, 1, first()),
        Outcome::Withdrawn(order.id())
    );
    assert_eq!(cancel(&mut market, now, 1, first()), gone);
    assert_eq!(outcome_of(&[place(&mut market, now, &order)]), Some(gone));
    assert!(market.standing(first()).is_empty());
    // Only an order that could come, and each is one of the interval's six changes.
    let elsewhere = Order {
        interval: first().next(),
        ..order
    };
    let accepted = Some(Outcome::Accepted(elsewhere.id()));
    assert_eq!(
        outcome_of(&[place(&mut market, now, &elsewhere)]),
        accepted,
        "another interval"
    );
    let (later, long) = (
        first().offset(200),
        Interval::new(first().start_s(), 3600).unwrap(),
    );
    let cases = [
        (1, first().offset(2), refused(Rejection::UnknownOrder)),
        (u64::MAX, first(), refused(Rejection::UnknownOrder)),
        (2, later, refused(Rejection::Future)),
        (2, long, refused(Rejection::IntervalUnaligned)),
    ];
    for (n, (sequence, interval, expected)) in (1_i64..).zip(cases) {
        let now = now.plus_s(60 * n);
        assert_eq!(cancel(&mut market, now, sequence, interval), expected);
    }
    let now = now.plus_s(300);
    for sequence in 2..7 {
        let out = plain(0, sequence, Side::Bid, 10).id();
        assert_eq!(
            cancel(&mut market, now, sequence, first()),
            Outcome::Withdrawn(out)
        );
    }
    let over = refused(Rejection::OverLimit);
    assert_eq!(cancel(&mut market, now, 7, first()), over);
    let order = plain(0, 8, Side::Bid, 10);
    assert_eq!(outcome_of(&[place(&mut market, now, &order)]), Some(over));
}

#[test]
fn a_large_share_of_a_side_is_told_and_a_larger_one_is_refused() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    let accepted = |event: Event| matches!(event, Event::Accepted { .. });
    // 900 Wh are free to everybody, whatever share they are.
    assert!(accepted(place(
        &mut market,
        now,
        &plain(0, 1, Side::Offer, 900)
    )));
    let more = plain(0, 2, Side::Offer, 100);
    let refused = Event::Refused(Rejection::OverLimit);
    assert_eq!(place(&mut market, now, &more), refused, "1000 of 1000 Wh");
    assert!(accepted(place(
        &mut market,
        now,
        &plain(1, 1, Side::Offer, 112)
    )));
    assert!(
        accepted(place(&mut market, now, &more)),
        "1000 of 1112 Wh are 899 thousandths"
    );
    clear_all(&mut market, first().offset(-1).start().plus_s(-300));
    let events = market
        .apply(first().start().plus_s(-300), Command::Clear)
        .unwrap();
    let [
        Event::GateClosed(_),
        Event::ShareAlarm(share),
        Event::Cleared(_),
        Event::Published { .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (share.participant.as_str(), share.side, share.permille()),
        ("ann", Side::Offer, 899)
    );
}

#[test]
fn who_holds_a_large_share_may_still_make_it_smaller() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    let placed = |market: &mut Market, order: &Order| match place(market, now, order) {
        Event::Accepted { .. } => "accepted",
        Event::Refused(reason) => reason.name(),
        other => panic!("{other:?}"),
    };
    let small = plain(1, 1, Side::Offer, 112);
    assert_eq!(placed(&mut market, &small), "accepted");
    assert_eq!(
        placed(&mut market, &plain(0, 1, Side::Offer, 990)),
        "accepted"
    );
    let cancel = Cancel {
        participant: participant(1),
        sequence: 1,
        interval: first(),
    };
    market
        .apply(now, Command::Cancel(&verified(&cancel)))
        .unwrap();
    // All of the side is ann's now.
    let instead = |sequence, replaces, side, energy_wh| Order {
        replaces: Some(replaces),
        ..plain(0, sequence, side, energy_wh)
    };
    let cases = [
        (instead(2, 1, Side::Offer, 991), "over_limit"),
        (instead(3, 1, Side::Offer, 990), "accepted"),
        (instead(4, 3, Side::Bid, 950), "over_limit"),
        (instead(5, 3, Side::Offer, 950), "accepted"),
    ];
    for (order, expected) in cases {
        assert_eq!(placed(&mut market, &order), expected, "{order:?}");
    }
}

#[test]
fn a_public_book_shows_no_name_and_clears_to_the_same_bytes() {
    let (mut market, now) = (begin(), first().start().plus_s(-1800));
    for (who, side) in [(0, Side::Bid), (1, Side::Offer), (2, Side::Bid)] {
        let energy_wh = 300 + i64::from(who);
        place(&mut market, now, &plain(who, 1, side, energy_wh));
        place(
            &mut market,
            now,
            &Order {
                interval: first().next(),
                ..plain(who, 2, side, energy_wh)
            },
        );
    }
    let all = clear_all(&mut market, first().next().start());
    let mut names: Vec<Vec<String>> = Vec::new();
    for (cleared, book) in all.iter().rev().take(2) {
        let again = market_engine::public::rerun(book).unwrap();
        assert_eq!((again.difference, again.orders), (None, 3));
        assert_eq!(again.interval, cleared.clearing.interval);
        let digest = domain::ids::Digest32::of(book.as_bytes());
        assert_eq!(cleared.clearing.public_book, Some(digest));
        for id in cleared.orders.iter().map(|o| o.id.to_string()) {
            assert!(!book.contains(&id), "an id that can be guessed");
        }
        assert!(
            ["ann", "bob", "cem"]
                .iter()
                .all(|name| !book.contains(name)),
            "{book}"
        );
        let parts = book.split("\"participant\":\"").skip(1);
        names.push(parts.map(|part| part[..32].to_owned()).collect());
    }
    assert!(
        names[0].iter().all(|name| !names[1].contains(name)),
        "names live for one interval"
    );
}
