//! Tokens and stake through random histories: every account as a plain model has it, and every rule of the books holds
//! after every step.

use std::collections::BTreeMap;

use domain::ids::{PostingId, timed_id};
use domain::money::Money;
use domain::order::Side;
use domain::posting::{Account, Asset, Chart, Posting, Purpose};
use domain::time::Timestamp;
use proptest::prelude::*;
use runtime::args;
use settlement::service::{
    Moment, NewTokenRequest, PAYOUT_DELAY_S, REQUEST_LIFE_S, ServiceError, TokenKind, TokenState,
    bond_stake, cancel_tokens, check_books, confirm_tokens, expire_tokens, issue_stake, post,
    release_unbonded, request_tokens, token_requests, unbond_stake,
};

use crate::world::{START_S, World, who};

const HOMES: [&str; 2] = ["home-a", "home-b"];

#[derive(Clone, Debug)]
enum Step {
    Ask(TokenKind, usize, i64),
    /// Which of the requests so far, and by whom of two operators.
    Confirm(usize, usize),
    Cancel(usize),
    /// An order that holds so much energy times 0.27.
    Hold(usize, i64),
    Issue(usize, i64),
    Bond(usize, i64),
    Unbond(usize, i64),
    /// So many hours pass.
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let home = 0..HOMES.len();
    let kind = prop_oneof![Just(TokenKind::Deposit), Just(TokenKind::Withdrawal)];
    let amount = 1_i64..2_000_000_000;
    prop_oneof![
        4 => (kind, home.clone(), amount.clone()).prop_map(|(k, h, a)| Step::Ask(k, h, a)),
        1 => home.clone().prop_map(|h| Step::Ask(TokenKind::Payout, h, 0)),
        4 => (0_usize..20, 0_usize..2).prop_map(|(n, by)| Step::Confirm(n, by)),
        1 => (0_usize..20).prop_map(Step::Cancel),
        1 => (home.clone(), 1_i64..3000).prop_map(|(h, wh)| Step::Hold(h, wh)),
        1 => (home.clone(), amount.clone()).prop_map(|(h, a)| Step::Issue(h, a)),
        1 => (home.clone(), amount.clone()).prop_map(|(h, a)| Step::Bond(h, a)),
        1 => (home, amount).prop_map(|(h, a)| Step::Unbond(h, a)),
        2 => (1_i64..50).prop_map(Step::Wait),
    ]
}

type Place = (Asset, Chart, usize);

#[derive(Default)]
struct Model {
    accounts: BTreeMap<Place, i64>,
    unbonding: Vec<(i64, usize, i64)>,
}

impl Model {
    fn at(&self, place: Place) -> i64 {
        self.accounts.get(&place).copied().unwrap_or(0)
    }

    fn add(&mut self, place: Place, amount: i64) {
        *self.accounts.entry(place).or_default() += amount;
    }
}

struct Life {
    world: World,
    model: Model,
    now: Timestamp,
    requests: Vec<[u8; 16]>,
    sequence: i64,
}

const OPERATORS: [&str; 2] = ["ann", "ben"];

impl Life {
    fn moment(&self) -> Moment {
        Moment {
            people: self.now,
            books: self.now,
        }
    }

    async fn ask(&mut self, kind: TokenKind, home: usize, amount: i64) {
        self.sequence += 1;
        let new = NewTokenRequest {
            kind,
            participant: who(HOMES[home]),
            amount: Money::from_nano(amount),
            reference: format!("payment {}", self.sequence),
            payout: (kind == TokenKind::Payout).then(|| format!("account {}", self.sequence)),
        };
        let mut tx = self.world.db.begin().await.unwrap();
        let asked = request_tokens(&mut tx, self.moment(), OPERATORS[0], &new).await;
        let available = (Asset::Token, Chart::Available, home);
        match asked {
            Ok(request) => {
                let again = request_tokens(&mut tx, self.moment(), OPERATORS[0], &new).await;
                assert_eq!(again.unwrap(), request, "asked twice is asked once");
                tx.commit().await.unwrap();
                if kind == TokenKind::Withdrawal {
                    self.model.add(available, -amount);
                    self.model
                        .add((Asset::Token, Chart::Withdrawing, home), amount);
                    assert!(
                        self.model.at(available) >= 0,
                        "more than there was was taken"
                    );
                }
                self.requests.push(request.id);
            }
            Err(ServiceError::Refused(why)) => {
                let too_little = self.model.at(available) < amount;
                let said = if why.contains("can spend") {
                    too_little
                } else {
                    why.contains("paid to") || why.contains("wait already")
                };
                assert!(said, "{why}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn confirm(&mut self, id: [u8; 16], by: usize) {
        let (before, mut tx) = (self.request(id).await, self.world.db.begin().await.unwrap());
        let done = confirm_tokens(&mut tx, self.moment(), OPERATORS[by], id).await;
        let (home, amount) = (self.home(&before), before.asked.amount.nano());
        match done {
            Ok(after) => {
                assert_eq!(OPERATORS[by], OPERATORS[1], "nobody confirms their own");
                assert_eq!(after.state, TokenState::Confirmed);
                tx.commit().await.unwrap();
                if before.state == TokenState::Confirmed {
                    return;
                }
                assert!(self.now < before.expires, "too late");
                match before.asked.kind {
                    TokenKind::Deposit => self
                        .model
                        .add((Asset::Token, Chart::Available, home), amount),
                    TokenKind::Withdrawal => self
                        .model
                        .add((Asset::Token, Chart::Withdrawing, home), -amount),
                    TokenKind::Payout => {}
                }
            }
            Err(ServiceError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn request(&self, id: [u8; 16]) -> settlement::service::TokenRequest {
        let all = token_requests(&self.world.db, None).await.unwrap();
        all.into_iter().find(|r| r.id == id).unwrap()
    }

    fn home(&self, request: &settlement::service::TokenRequest) -> usize {
        let name = request.asked.participant.as_str();
        HOMES.iter().position(|home| *home == name).unwrap()
    }

    fn back(&mut self, request: &settlement::service::TokenRequest) {
        if request.asked.kind == TokenKind::Withdrawal {
            let (home, amount) = (self.home(request), request.asked.amount.nano());
            self.model
                .add((Asset::Token, Chart::Withdrawing, home), -amount);
            self.model
                .add((Asset::Token, Chart::Available, home), amount);
        }
    }

    async fn cancel(&mut self, id: [u8; 16]) {
        let (before, mut tx) = (self.request(id).await, self.world.db.begin().await.unwrap());
        match cancel_tokens(&mut tx, self.moment(), HOMES[0], id).await {
            Ok(_) => {
                tx.commit().await.unwrap();
                if before.state == TokenState::Open {
                    self.back(&before);
                }
            }
            Err(error) => assert!(matches!(error, ServiceError::Refused(_)), "{error}"),
        }
    }

    async fn wait(&mut self, hours: i64) {
        self.now = self.now.plus_s(hours * 3600);
        let mut tx = self.world.db.begin().await.unwrap();
        for ended in expire_tokens(&mut tx, self.moment()).await.unwrap() {
            assert!(ended.at.plus_s(REQUEST_LIFE_S) <= self.now);
            self.back(&ended);
        }
        release_unbonded(&mut tx, self.now).await.unwrap();
        tx.commit().await.unwrap();
        let now_ms = self.now.unix_ms();
        for (_, home, amount) in self
            .model
            .unbonding
            .extract_if(.., |(at, ..)| *at <= now_ms)
            .collect::<Vec<_>>()
        {
            self.model
                .add((Asset::Stake, Chart::Unbonding, home), -amount);
            self.model
                .add((Asset::Stake, Chart::Available, home), amount);
        }
    }

    async fn hold(&mut self, home: usize, wh: i64) {
        let order = self.world.order(HOMES[home], Side::Bid, 0, wh, "0.2");
        if self.world.hold(&order).await {
            let amount = wh * 270_000;
            self.model
                .add((Asset::Token, Chart::Available, home), -amount);
            self.model.add((Asset::Token, Chart::Held, home), amount);
        }
    }

    async fn stake(&mut self, home: usize, amount: i64, from: Option<Chart>, to: Chart) {
        self.sequence += 1;
        let (of, money) = (who(HOMES[home]), Money::from_nano(amount));
        let reference = format!("stake {}", self.sequence);
        let free_at = self.now.plus_s(40 * 3600);
        let mut tx = self.world.db.begin().await.unwrap();
        let (tx_, now) = (&mut tx, self.now);
        let done = match to {
            Chart::Available => issue_stake(tx_, now, &of, money, &reference).await,
            Chart::Bonded => bond_stake(tx_, now, &of, money, &reference).await,
            _ => unbond_stake(tx_, now, &of, money, &reference, free_at).await,
        };
        let enough = from.is_none_or(|from| self.model.at((Asset::Stake, from, home)) >= amount);
        assert_eq!(done.is_ok(), enough, "{done:?}");
        if !enough {
            return;
        }
        tx.commit().await.unwrap();
        if let Some(from) = from {
            self.model.add((Asset::Stake, from, home), -amount);
        }
        self.model.add((Asset::Stake, to, home), amount);
        if to == Chart::Unbonding {
            self.model.unbonding.push((free_at.unix_ms(), home, amount));
        }
    }

    async fn live(&mut self, step: &Step) {
        let known = |n: usize| self.requests.get(n % self.requests.len().max(1)).copied();
        match step {
            Step::Ask(kind, home, amount) => self.ask(*kind, *home, *amount).await,
            Step::Confirm(n, by) => {
                if let Some(id) = known(*n) {
                    self.confirm(id, *by).await;
                }
            }
            Step::Cancel(n) => {
                if let Some(id) = known(*n) {
                    self.cancel(id).await;
                }
            }
            Step::Hold(home, wh) => self.hold(*home, *wh).await,
            Step::Issue(home, amount) => self.stake(*home, *amount, None, Chart::Available).await,
            Step::Bond(home, amount) => {
                let from = Some(Chart::Available);
                self.stake(*home, *amount, from, Chart::Bonded).await;
            }
            Step::Unbond(home, amount) => {
                let from = Some(Chart::Bonded);
                self.stake(*home, *amount, from, Chart::Unbonding).await;
            }
            Step::Wait(hours) => self.wait(*hours).await,
        }
        self.world.check().await;
        for asset in [Asset::Token, Asset::Stake] {
            let mut issued = 0;
            for (home, name) in HOMES.iter().enumerate() {
                for chart in [
                    Chart::Available,
                    Chart::Held,
                    Chart::Withdrawing,
                    Chart::Bonded,
                    Chart::Unbonding,
                ] {
                    let there = self.world.balance(asset, chart, name).await;
                    assert_eq!(
                        there,
                        self.model.at((asset, chart, home)),
                        "{asset:?} {chart:?}"
                    );
                    issued += there;
                }
            }
            let backing = match asset {
                Asset::Stake => Chart::Reserve,
                _ => Chart::Bridge,
            };
            let backing = self.world.balance(asset, backing, "-").await;
            assert_eq!(backing, -issued, "{asset:?} is backed by what was issued");
        }
    }
}

async fn born() -> Life {
    Life {
        world: World::on_sqlite(&HOMES).await,
        model: Model::default(),
        now: Timestamp::from_unix_s(START_S),
        requests: Vec::new(),
        sequence: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn tokens_and_stake_are_where_a_plain_model_has_them(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut life = born().await;
            for step in &steps {
                life.live(step).await;
            }
        });
    }
}

async fn asked(life: &mut Life, kind: TokenKind, amount: i64) -> [u8; 16] {
    life.ask(kind, 0, amount).await;
    *life.requests.last().unwrap()
}

#[tokio::test]
async fn a_changed_payout_counts_after_a_delay_and_can_be_cancelled_until_then() {
    let mut life = born().await;
    let deposit = asked(&mut life, TokenKind::Deposit, 5_000_000_000).await;
    life.confirm(deposit, 1).await;
    let first = asked(&mut life, TokenKind::Payout, 0).await;
    life.confirm(first, 1).await;
    let before = asked(&mut life, TokenKind::Withdrawal, 1_000_000_000).await;
    let paid_to = life.request(before).await.paid_to.unwrap();
    let changed = asked(&mut life, TokenKind::Payout, 0).await;
    life.confirm(changed, 1).await;
    let counts_from = life.request(changed).await.counts_from.unwrap();
    assert_eq!(counts_from, life.now.plus_s(PAYOUT_DELAY_S));
    life.wait(1).await;
    let during = asked(&mut life, TokenKind::Withdrawal, 1_000_000_000).await;
    assert_eq!(life.request(during).await.paid_to.as_ref(), Some(&paid_to));
    life.cancel(changed).await;
    life.wait(PAYOUT_DELAY_S / 3600).await;
    let after = asked(&mut life, TokenKind::Withdrawal, 1_000_000_000).await;
    assert_eq!(
        life.request(after).await.paid_to,
        Some(paid_to),
        "the change was cancelled"
    );
    let again = asked(&mut life, TokenKind::Payout, 0).await;
    life.confirm(again, 1).await;
    life.wait(PAYOUT_DELAY_S / 3600).await;
    // It was asked for under the old payout: nobody shall be paid where the request does not say.
    life.confirm(after, 1).await;
    assert_ne!(life.request(after).await.state, TokenState::Confirmed);
    life.world.check().await;
}

/// The utility's bill of so many nano-tokens, on a home's statement.
async fn owes(life: &Life, home: usize, amount: i64) {
    let posting = Posting {
        id: PostingId(timed_id(life.now, 1, "test", &[&amount.to_be_bytes()])),
        asset: Asset::Token,
        debit: Account::of(Chart::Statement, &who(HOMES[home])),
        credit: Account::common(Chart::Utility),
        amount,
        purpose: Purpose::UtilityDeviation,
        interval: None,
        run: None,
        reference: None,
    };
    let mut tx = life.world.db.begin().await.unwrap();
    post(&mut tx, life.now, &[posting]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_home_that_owes_withdraws_only_what_goes_beyond_it() {
    let mut life = born().await;
    let deposit = asked(&mut life, TokenKind::Deposit, 5_000_000_000).await;
    life.confirm(deposit, 1).await;
    let payout = asked(&mut life, TokenKind::Payout, 0).await;
    life.confirm(payout, 1).await;
    owes(&life, 0, 3_000_000_000).await;
    let mut new = NewTokenRequest {
        kind: TokenKind::Withdrawal,
        participant: who(HOMES[0]),
        amount: Money::from_nano(2_000_000_001),
        reference: "too much".to_owned(),
        payout: None,
    };
    let mut tx = life.world.db.begin().await.unwrap();
    let refused = request_tokens(&mut tx, life.moment(), OPERATORS[0], &new).await;
    let why = refused.unwrap_err().to_string();
    assert!(
        why.contains("can withdraw 2.000000000 tokens") && why.contains("owes 3.000000000 on its"),
        "{why}"
    );
    new.amount = Money::from_nano(2_000_000_000);
    let taken = request_tokens(&mut tx, life.moment(), OPERATORS[0], &new).await;
    assert_eq!(taken.unwrap().state, TokenState::Open);
    // What it owes now is all that it has.
    new.reference = "nothing is left".to_owned();
    new.amount = Money::from_nano(1);
    let refused = request_tokens(&mut tx, life.moment(), OPERATORS[0], &new).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("can withdraw 0.000000000 tokens"), "{why}");
}

#[tokio::test]
async fn the_database_refuses_stake_below_zero_and_assets_in_the_wrong_account() {
    let worlds = [
        Some(World::on_sqlite(&HOMES).await),
        World::on_postgres(&HOMES).await,
    ];
    for world in worlds.into_iter().flatten() {
        for sql in [
            "INSERT INTO settle_balances (asset, chart, owner, credits, debits) VALUES (3, 400, 'home-a', 1, 2)",
            "INSERT INTO settle_balances (asset, chart, owner, credits, debits) VALUES (1, 400, 'home-a', 2, 1)",
            "INSERT INTO settle_balances (asset, chart, owner, credits, debits) VALUES (3, 130, 'home-a', 2, 1)",
            "INSERT INTO settle_balances (asset, chart, owner, credits, debits) VALUES (2, 100, 'home-a', 2, 1)",
            "INSERT INTO settle_balances (asset, chart, owner, credits, debits) VALUES (1, 610, 'home-a', 1, 2)",
        ] {
            let mut tx = world.db.begin().await.unwrap();
            assert!(tx.execute(sql, args![]).await.is_err(), "{sql}");
        }
    }
}

#[tokio::test]
async fn tokens_that_no_request_explains_are_found_at_the_start() {
    let mut life = born().await;
    let deposit = asked(&mut life, TokenKind::Deposit, 5_000_000_000).await;
    life.confirm(deposit, 1).await;
    let payout = asked(&mut life, TokenKind::Payout, 0).await;
    life.confirm(payout, 1).await;
    let withdrawal = asked(&mut life, TokenKind::Withdrawal, 1_000_000_000).await;
    life.confirm(withdrawal, 1).await;
    life.world.check().await;
    let mut tx = life.world.db.begin().await.unwrap();
    for sql in [
        "DROP TRIGGER settle_token_steps_no_delete",
        "DELETE FROM settle_token_steps WHERE request IN
         (SELECT id FROM settle_token_requests WHERE kind = 2)",
    ] {
        tx.execute(sql, args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
    let error = check_books(&life.world.db).await.unwrap_err().to_string();
    assert!(error.contains("withdrawal"), "{error}");
}
