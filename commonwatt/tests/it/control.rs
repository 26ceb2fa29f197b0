//! Control from end to end: a signed command reaches a simulated device's registers, is read back, and
//! ends; what is not the operator's word, or not new, does nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::command::{Ack, Act, Command, End, Limit, Outcome, Refusal, Revert, SetPoint};
use domain::ids::{CommunityId, Digest32, GatewayId};
use domain::signed::{PublicKey, Signed, SigningKey};
use domain::time::Timestamp;
use meter_gateway::{Config, Gateway, open_key};
use runtime::broker::{Access, AccessList, Broker, Limits};
use runtime::clock::Clock;
use runtime::mqtt::{MqttEvent, MqttHandle, MqttLink, MqttOptions, QoS};
use simulator::journal::Journal;
use simulator::scenario::Scenario;
use simulator::street::{BrokerAccess, Endpoint, Street};
use simulator::world::World;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SPEED: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// A street whose car is charging, a broker, and a gateway for its home.
struct Bench {
    world: Arc<Mutex<World>>,
    clock: Clock,
    config: Config,
    operator: SigningKey,
    gateway_key: PublicKey,
    link: MqttHandle,
    events: mpsc::Receiver<MqttEvent>,
    sequence: u64,
    _stop: tokio_util::sync::DropGuard,
}

fn community() -> CommunityId {
    CommunityId::new("street-10").unwrap()
}

async fn broker() -> SocketAddr {
    let users = AccessList::new();
    let all = |read: &str, write: &str| Access {
        read: vec![read.to_owned()],
        write: vec![write.to_owned()],
    };
    users.add("gw-3", b"secret", all("cw/#", "cw/#")).unwrap();
    users
        .add("platform", b"secret", all("cw/#", "cw/#"))
        .unwrap();
    users
        .add("meters", b"secret", all("none", "shelly/#"))
        .unwrap();
    let local = "127.0.0.1:0".parse().unwrap();
    let broker = Broker::bind(local, Arc::new(users), Limits::default());
    let broker = broker.await.unwrap();
    let address = broker.local_addr();
    tokio::spawn(broker.run(CancellationToken::new()));
    address
}

/// The street with the car of home-03 just charging, and the clock at that moment.
fn charging_street() -> (World, Timestamp) {
    let scenario = Scenario::street_10().unwrap();
    let mut world = World::new(&scenario, 17);
    let mut now = scenario.site.start;
    while world.home(2).charger.as_ref().unwrap().power_w < 6_500 {
        now = now.plus_s(60);
        world.advance_to(now);
    }
    (world, now)
}

impl Bench {
    async fn start(dir: &Path) -> Bench {
        let at = broker().await;
        let (mut world, start) = charging_street();
        let (journal, told) = Journal::open(&dir.join("told.jsonl")).unwrap();
        world.replay(told);
        let world = Arc::new(Mutex::new(world));
        let clock = Clock::scaled(start, SPEED);
        let stop = CancellationToken::new();
        let access = BrokerAccess {
            host: at.ip().to_string(),
            port: at.port(),
            user: "meters".into(),
            password: "secret".into(),
        };
        let street = Street::start(
            Arc::clone(&world),
            clock.clone(),
            access,
            Some(journal),
            stop.clone(),
        );
        let street = street.await.unwrap();
        let charger = street.devices.iter().find(|d| {
            d.name == "charger" && d.home.as_ref().is_some_and(|h| h.as_str() == "home-03")
        });
        let Endpoint::Modbus { addr, unit } = charger.unwrap().address else {
            panic!("a KEBA speaks Modbus");
        };
        let operator = SigningKey::from_bytes(&[7; 32]);
        let config = config(dir, at, addr, unit, PublicKey::of(&operator));
        let options = MqttOptions {
            subscriptions: vec![("cw/v1/street-10/gw-3/ack".into(), QoS::AtLeastOnce)],
            host: at.ip().to_string(),
            port: at.port(),
            client_id: "platform".into(),
            user: "platform".into(),
            password: "secret".into(),
            tls: None,
            last_will: None,
            keep_alive_s: 30,
            max_packet_bytes: 64 * 1024,
        };
        let (link, events) = MqttLink::start(options, stop.clone());
        Bench {
            world,
            clock,
            gateway_key: PublicKey::of(&open_key(dir).unwrap()),
            config,
            operator,
            link,
            events,
            sequence: 100,
            _stop: stop.drop_guard(),
        }
    }

    async fn gateway(&self, stop: &CancellationToken) -> Gateway {
        self.gateway_with(self.clock.clone(), stop).await
    }

    async fn gateway_with(&self, clock: Clock, stop: &CancellationToken) -> Gateway {
        let starting = Gateway::start(self.config.clone(), clock, stop.clone());
        let gateway = starting.await.unwrap();
        let waiting = async {
            while gateway.status().devices[0].samples == 0 || !gateway.status().connected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        gateway
    }

    fn command(&mut self, act: Act) -> Command {
        self.sequence += 1;
        Command {
            gateway: GatewayId::new("gw-3").unwrap(),
            device: "charger".into(),
            sequence: self.sequence,
            issued_at: self.clock.now(),
            act,
        }
    }

    fn current(&mut self, ma: i64, for_s: i64) -> Command {
        let expires_at = self.clock.now().plus_s(for_s);
        self.command(Act::Set {
            set_point: SetPoint::ChargerCurrentMa,
            value: ma,
            expires_at,
        })
    }

    fn send(&self, command: &Command, key: &SigningKey) -> (Digest32, Vec<u8>) {
        let bytes = Signed::sign(key, &community(), command).as_bytes().to_vec();
        self.publish(&bytes, false);
        (Digest32::of(&bytes), bytes)
    }

    fn publish(&self, bytes: &[u8], retain: bool) {
        let topic = "cw/v1/street-10/gw-3/cmd";
        self.link
            .publish(topic, bytes, QoS::AtLeastOnce, retain)
            .unwrap();
    }

    /// The next answer to a command, verified with the gateway's key.
    async fn answer(&mut self, command: Digest32) -> Outcome {
        let hearing = async {
            loop {
                let event = self.events.recv().await.unwrap();
                let MqttEvent::Message { payload, .. } = event else {
                    continue;
                };
                let signed = Signed::<Ack>::from_bytes(payload);
                let ack = signed.verify(self.gateway_key, &community()).unwrap();
                if ack.message().command == command {
                    return ack.message().outcome;
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing)
            .await
            .expect("no answer")
    }

    async fn answers(&mut self, command: &Command, expected: &[Outcome]) {
        let key = self.operator.clone();
        let (digest, _) = self.send(command, &key);
        for outcome in expected {
            assert_eq!(self.answer(digest).await, *outcome);
        }
    }

    /// What the charger allows the car now, and what the car draws, in mA and W.
    fn charger(&self) -> (i64, i64) {
        let mut world = self.world.lock().unwrap();
        world.advance_to(self.clock.now());
        let (home, now_s) = (world.home(2), world.now().unix_s());
        let limit_ma = home.settings.charger.limit_ma(now_s);
        (limit_ma, home.charger.as_ref().unwrap().power_w)
    }

    async fn until(&self, what: &str, ready: impl Fn(&Bench) -> bool) {
        let waiting = async {
            while !ready(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(ended.is_ok(), "{what}: {:?}", self.charger());
    }
}

fn config(
    dir: &Path,
    broker: SocketAddr,
    charger: SocketAddr,
    unit: u8,
    operator: PublicKey,
) -> Config {
    use base64::Engine;
    let operator = base64::engine::general_purpose::STANDARD.encode(operator.to_bytes());
    let text = format!(
        r#"
community = "street-10"
gateway = "gw-3"
data_dir = "."
operator_key = "{operator}"

[mqtt]
host = "{}"
port = {}
user = "gw-3"
password = "secret"

[[devices]]
name = "charger"
profile = "keba-p30"
point = "home-03.charger"
role = "live_only"
rating_w = 11000
address = "{charger}"
unit = {unit}

[devices.limits]
set_points = ["charger-current"]
max_current_a = 9
"#,
        broker.ip(),
        broker.port()
    );
    Config::from_toml(&text, &dir.join("gateway.toml").display().to_string()).unwrap()
}

const fn confirmed(value: i64) -> Outcome {
    Outcome::Confirmed {
        value,
        clamped_by: None,
    }
}

const fn accepted(value: i64) -> Outcome {
    Outcome::Accepted {
        value: Some(value),
        clamped_by: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charger_follows_a_lease_and_gets_its_own_value_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path()).await;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let command = bench.current(8_000, 90);
    let shown = confirmed(8_000);
    bench.answers(&command, &[accepted(8_000), shown]).await;
    let slow_w = 8_000 * 690 / 1000;
    bench
        .until("slow charging", |b| b.charger() == (8_000, slow_w))
        .await;
    let fail_safe = bench
        .world
        .lock()
        .unwrap()
        .home(2)
        .settings
        .charger
        .fail_safe();
    assert_eq!(fail_safe, (6_000, 60), "set before the value");
    let digest = Digest32::of(Signed::sign(&bench.operator, &community(), &command).as_bytes());
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    assert_eq!(bench.answer(digest).await, ended);
    assert_eq!(bench.charger().0, 9_000, "the owner's own limit");
    assert!(bench.clock.now() >= Timestamp::from_unix_ms(command.issued_at.unix_ms()).plus_s(90));
    let fail_safe = bench
        .world
        .lock()
        .unwrap()
        .home(2)
        .settings
        .charger
        .fail_safe();
    assert_eq!(fail_safe.1, 0, "no fail-safe is left behind");

    let command = bench.current(32_000, 300);
    let by_limit = Outcome::Accepted {
        value: Some(9_000),
        clamped_by: Some(Limit::MaxCurrent),
    };
    bench.answers(&command, &[by_limit, confirmed(9_000)]).await;
    let mut release = bench.command(Act::Release {
        set_point: SetPoint::ChargerCurrentMa,
    });
    // As if the gateway's clock were two hours behind: what is given back is taken all the same.
    release.issued_at = release.issued_at.plus_s(7_200);
    let done = Outcome::Accepted {
        value: None,
        clamped_by: None,
    };
    bench.answers(&release, &[done]).await;
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_replayed_expired_retained_and_foreign_commands_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path()).await;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let refused = Outcome::Refused;
    let operator = bench.operator.clone();
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let command = bench.current(8_000, 60);
    let (digest, _) = bench.send(&command, &stranger);
    assert_eq!(bench.answer(digest).await, refused(Refusal::BadSignature));

    let good = bench.current(8_000, 600);
    bench
        .answers(&good, &[accepted(8_000), confirmed(8_000)])
        .await;
    let (digest, _) = bench.send(&good, &operator);
    assert_eq!(
        bench.answer(digest).await,
        accepted(8_000),
        "the same bytes are answered again"
    );
    let same_sequence = Command {
        issued_at: good.issued_at.plus_ms(1),
        ..good.clone()
    };
    bench
        .answers(&same_sequence, &[refused(Refusal::SeqReplay)])
        .await;
    let older = Command {
        sequence: good.sequence - 1,
        ..good.clone()
    };
    bench.answers(&older, &[refused(Refusal::SeqReplay)]).await;

    let expire = |at: Timestamp| Act::Set {
        set_point: SetPoint::ChargerCurrentMa,
        value: 7_000,
        expires_at: at,
    };
    let mut old = bench.command(expire(bench.clock.now().plus_s(-5)));
    old.issued_at = old.issued_at.plus_s(-60);
    bench.answers(&old, &[refused(Refusal::Expired)]).await;
    let long = bench.command(expire(bench.clock.now().plus_s(90_000)));
    bench
        .answers(&long, &[refused(Refusal::LeaseTooLong)])
        .await;
    let mut early = bench.command(expire(bench.clock.now().plus_s(7_300)));
    early.issued_at = early.issued_at.plus_s(7_200);
    bench.answers(&early, &[refused(Refusal::Future)]).await;
    let foreign = Command {
        gateway: GatewayId::new("gw-4").unwrap(),
        ..bench.current(7_000, 60)
    };
    bench
        .answers(&foreign, &[refused(Refusal::WrongGateway)])
        .await;
    let unknown = Command {
        device: "boiler".into(),
        ..bench.current(7_000, 60)
    };
    bench
        .answers(&unknown, &[refused(Refusal::UnknownDevice)])
        .await;
    let power = Act::Set {
        set_point: SetPoint::BatteryPowerW,
        value: 500,
        expires_at: bench.clock.now().plus_s(60),
    };
    let power = bench.command(power);
    bench.answers(&power, &[refused(Refusal::NotAllowed)]).await;
    let (device_ma, _) = bench.charger();
    assert_eq!(device_ma, 8_000, "none of them has changed anything");

    stop.cancel();
    gateway.wait().await.unwrap();
    let kept = bench.current(7_000, 600);
    let bytes = Signed::sign(&operator, &community(), &kept)
        .as_bytes()
        .to_vec();
    bench.publish(&bytes, true);
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let outcome = bench.answer(Digest32::of(&bytes)).await;
    assert_eq!(outcome, refused(Refusal::Retained));
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_gateway_leaves_the_charger_to_its_fail_safe_and_comes_back_to_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path()).await;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let command = bench.current(8_000, 240);
    let shown = confirmed(8_000);
    bench.answers(&command, &[accepted(8_000), shown]).await;
    // Nothing is said to the device from here on, as if it were killed.
    stop.cancel();
    gateway.wait().await.unwrap();
    bench
        .until("the fail-safe", |b| {
            b.charger() == (6_000, 6_000 * 690 / 1000)
        })
        .await;

    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let digest = Digest32::of(Signed::sign(&bench.operator, &community(), &command).as_bytes());
    assert_eq!(bench.answer(digest).await, shown, "the lease goes on");
    bench
        .until("the lease's value", |b| b.charger().0 == 8_000)
        .await;
    stop.cancel();
    gateway.wait().await.unwrap();
    // Its end passes while no gateway is there; the next one gives the device its own value back.
    let end = command.issued_at.plus_s(240);
    bench
        .until("the end of the lease", |b| b.clock.now() > end)
        .await;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let ended = Outcome::Ended {
        why: End::Expired,
        revert: Revert::Confirmed,
    };
    let mut last = bench.answer(digest).await;
    if last != ended {
        // It may have said first that the device is not heard yet.
        last = bench.answer(digest).await;
    }
    assert_eq!(last, ended);
    assert_eq!(bench.charger().0, 9_000);
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_no_longer_allows_is_given_back_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path()).await;
    let limits = bench.config.devices[0].limits.take();
    let lent = async |bench: &mut Bench| {
        bench.config.devices[0].limits.clone_from(&limits);
        let stop = CancellationToken::new();
        let gateway = bench.gateway(&stop).await;
        let command = bench.current(8_000, 6_000);
        let expected = [accepted(8_000), confirmed(8_000)];
        bench.answers(&command, &expected).await;
        stop.cancel();
        gateway.wait().await.unwrap();
        Digest32::of(Signed::sign(&bench.operator, &community(), &command).as_bytes())
    };
    let ended = |revert| Outcome::Ended {
        why: End::NotAllowed,
        revert,
    };

    let digest = lent(&mut bench).await;
    bench.config.devices[0].limits = None;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let mut last = bench.answer(digest).await;
    if last == ended(Revert::Pending) {
        last = bench.answer(digest).await;
    }
    assert_eq!(last, ended(Revert::Confirmed));
    assert_eq!(bench.charger().0, 9_000, "what the limits gave it back");
    let again = bench.current(8_000, 60);
    let refused = Outcome::Refused(Refusal::NotAllowed);
    bench.answers(&again, &[refused]).await;
    stop.cancel();
    gateway.wait().await.unwrap();

    let digest = lent(&mut bench).await;
    bench.config.devices[0].name = "wallbox".into();
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    assert_eq!(bench.answer(digest).await, ended(Revert::Unconfirmed));
    stop.cancel();
    gateway.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_between_two_starts_makes_no_lease_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(dir.path()).await;
    let stop = CancellationToken::new();
    let gateway = bench.gateway(&stop).await;
    let command = bench.current(8_000, 3_000);
    let expected = [accepted(8_000), confirmed(8_000)];
    bench.answers(&command, &expected).await;
    stop.cancel();
    gateway.wait().await.unwrap();
    let slow = Clock::scaled(bench.clock.now().plus_s(-1_800), SPEED);
    let stop = CancellationToken::new();
    let gateway = bench.gateway_with(slow, &stop).await;
    let digest = Digest32::of(Signed::sign(&bench.operator, &community(), &command).as_bytes());
    let ended = |revert| Outcome::Ended {
        why: End::Expired,
        revert,
    };
    let mut last = bench.answer(digest).await;
    if last == ended(Revert::Pending) {
        last = bench.answer(digest).await;
    }
    assert_eq!(last, ended(Revert::Confirmed));
    assert_eq!(bench.charger().0, 9_000);
    stop.cancel();
    gateway.wait().await.unwrap();
}
