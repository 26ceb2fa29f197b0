//! Writes, bits and jobs on a line.

use std::sync::Arc;
use std::time::Duration;

use domain::time::Timestamp;
use meter_gateway::bus::{Desk, JOBS_MAX, Place, Poller, Schedule, Step, run_line};
use meter_gateway::device::decode::WordOrder;
use meter_gateway::device::modbus::{Line, ModbusError};
use meter_gateway::profile::{ModbusRules, Profile};
use runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::by_hand::{Act, Asked, ByHand, Framing};

pub(crate) const RULES: ModbusRules = ModbusRules {
    transports: Vec::new(),
    serial: None,
    unit_id: None,
    function: None,
    word_order: WordOrder::HighFirst,
    connect_delay_ms: 0,
    keep_alive_s: None,
    offset_per_connector: None,
    max_words: 125,
    one_value_per_read: false,
    max_hole_words: 0,
    gap_ms: 1,
    timeout_ms: 300,
    models: Vec::new(),
};

/// A device that takes every write and whose registers hold their own address.
fn honest(asked: &Asked) -> Vec<u8> {
    match asked.pdu[0] {
        1 | 2 => {
            let bytes = asked.word().div_ceil(8);
            let mut pdu = vec![asked.pdu[0], u8::try_from(bytes).unwrap()];
            pdu.extend((0..bytes).map(|_| 0b1010_0101));
            asked.frame(asked.unit, &pdu)
        }
        5 | 6 | 16 => asked.frame(asked.unit, &asked.pdu[..5]),
        _ => {
            let words: Vec<u16> = (0..asked.word()).map(|i| asked.address() + i).collect();
            asked.words(&words)
        }
    }
}

#[tokio::test]
async fn writes_are_confirmed_by_the_device() {
    let server = ByHand::start(Framing::Tcp, |_, asked| vec![Act::Send(honest(asked))]).await;
    let mut line = Line::new(&server.address);
    line.write(3, 6, 40_000, &[65_535], &RULES).await.unwrap();
    line.write(3, 5, 17, &[1], &RULES).await.unwrap();
    line.write(3, 16, 9, &[1, 2, 0xabcd], &RULES).await.unwrap();
    let sent: Vec<(u8, Vec<u8>)> = {
        let seen = server.seen.lock().unwrap();
        seen.iter().map(|a| (a.unit, a.pdu.clone())).collect()
    };
    let expected: [(u8, Vec<u8>); 3] = [
        (3, vec![6, 0x9c, 0x40, 0xff, 0xff]),
        (3, vec![5, 0, 17, 0xff, 0]),
        (3, vec![16, 0, 9, 0, 3, 6, 0, 1, 0, 2, 0xab, 0xcd]),
    ];
    assert_eq!(sent, expected);
    assert_eq!(
        line.read(3, 1, 0, 11, &RULES).await.unwrap(),
        [1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1]
    );
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_wrong_echo_is_an_error_and_drops_the_connection() {
    for wrong in 0..4_usize {
        let server = ByHand::start(Framing::Tcp, move |_, asked| {
            let mut pdu = asked.pdu[..5].to_vec();
            match wrong {
                // Another address, another value or count, another function, one byte too few.
                0 => pdu[2] ^= 1,
                1 => pdu[4] ^= 1,
                2 => pdu[0] = if pdu[0] == 6 { 16 } else { 6 },
                _ => drop(pdu.pop()),
            }
            vec![Act::Send(asked.frame(asked.unit, &pdu))]
        })
        .await;
        let mut line = Line::new(&server.address);
        for (attempt, (function, words)) in (1..).zip([(6, &[500][..]), (16, &[1, 2])]) {
            let answer = line.write(1, function, 1000, words, &RULES).await;
            assert!(answer.is_err(), "{wrong} {function}");
            let connection = line.connect(&RULES).await.unwrap();
            assert_eq!(connection, attempt + 1, "{wrong} {function}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_sent() {
    let server = ByHand::start(Framing::Tcp, |_, asked| vec![Act::Send(honest(asked))]).await;
    let mut line = Line::new(&server.address);
    let cases: [(u8, &[u16]); 6] = [
        (5, &[2]),
        (5, &[]),
        (6, &[1, 2]),
        (16, &[]),
        (16, &[0; 124]),
        (3, &[1]),
    ];
    for (function, words) in cases {
        let refused = line.write(1, function, 0, words, &RULES).await;
        let count = words.len();
        assert!(
            matches!(refused, Err(ModbusError::NoRequest { function: f, count: c })
                if f == function && c == count),
            "{refused:?}"
        );
    }
    for (function, count) in [(3, 0), (4, 126), (1, 2001), (5, 1), (7, 1)] {
        let refused = line.read(1, function, 0, count, &RULES).await;
        assert!(
            matches!(refused, Err(ModbusError::NoRequest { .. })),
            "{refused:?}"
        );
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

fn read(address: u16) -> Step {
    let place = Place::Register {
        function: 3,
        address,
        unit: None,
    };
    Step::Read { place, count: 1 }
}

fn write(address: u16, words: &[u16]) -> Step {
    Step::Write {
        place: Place::Register {
            function: 3,
            address,
            unit: Some(9),
        },
        function: 16,
        words: words.to_vec(),
    }
}

/// A line with two devices that are polled every second.
fn line(address: &str, shutdown: &CancellationToken) -> Desk {
    let clock = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 1);
    let profile = Arc::new(Profile::built_in("keba-p30").unwrap());
    let pollers = vec![
        Poller::new(4, profile.clone(), 1),
        Poller::new(5, profile, 2),
    ];
    let (sender, jobs) = mpsc::channel(JOBS_MAX);
    let mut desk = Desk::default();
    desk.add(4, sender.clone());
    desk.add(5, sender);
    let (reports, mut heard) = mpsc::channel(8);
    tokio::spawn(async move { while heard.recv().await.is_some() {} });
    tokio::spawn(run_line(
        address.parse().unwrap(),
        pollers,
        Schedule::new(1, 900, 1),
        clock,
        reports,
        jobs,
        shutdown.clone(),
    ));
    desk
}

#[tokio::test]
async fn a_jobs_steps_follow_each_other_without_anything_in_between() {
    let server = ByHand::start(Framing::Tcp, |_, asked| vec![Act::Send(honest(asked))]).await;
    let shutdown = CancellationToken::new();
    let desk = line(&server.address, &shutdown);
    let jobs = (0..4_u16).map(|n| {
        let desk = desk.clone();
        let steps = vec![write(100 + n, &[n]), read(200 + n), read(300 + n)];
        tokio::spawn(async move { desk.run(4 + usize::from(n % 2), steps).await })
    });
    for (n, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
        let n = u16::try_from(n).unwrap();
        let answer = job.await.unwrap().unwrap();
        assert_eq!(answer, [vec![], vec![200 + n], vec![300 + n]]);
    }
    shutdown.cancel();
    let seen = server.seen.lock().unwrap();
    for n in 0..4_u16 {
        let start = seen.iter().position(|a| a.address() == 100 + n).unwrap();
        let own = u8::try_from(1 + n % 2).unwrap();
        let steps: Vec<_> = seen[start..start + 3]
            .iter()
            .map(|a| (a.unit, a.pdu[0], a.address()))
            .collect();
        let expected = [(9, 16, 100 + n), (own, 3, 200 + n), (own, 3, 300 + n)];
        assert_eq!(steps, expected);
    }
}

#[tokio::test]
async fn a_failed_step_ends_the_job_and_an_unknown_device_has_no_line() {
    let server = ByHand::start(Framing::Tcp, |_, asked| {
        if asked.address() == 666 {
            return vec![Act::Send(asked.exception(3))];
        }
        vec![Act::Send(honest(asked))]
    })
    .await;
    let shutdown = CancellationToken::new();
    let desk = line(&server.address, &shutdown);
    let steps = vec![write(666, &[1]), read(777)];
    let refused = desk.run(4, steps).await;
    assert!(
        matches!(refused, Err(ModbusError::Exception(3))),
        "{refused:?}"
    );
    let is_read = |address| {
        let seen = server.seen.lock().unwrap();
        seen.iter().any(|a| a.address() == address)
    };
    assert!(!is_read(777), "nothing is done after a failure");
    let sunspec = Step::Read {
        place: Place::Sunspec {
            model: 123,
            offset: 5,
        },
        count: 1,
    };
    let missing = desk.run(4, vec![sunspec]).await;
    assert!(
        matches!(missing, Err(ModbusError::NoPlace(_))),
        "{missing:?}"
    );
    let unknown = desk.run(17, vec![read(1)]).await;
    assert!(matches!(unknown, Err(ModbusError::NoLine)), "{unknown:?}");
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let ended = desk.run(4, vec![read(1)]).await;
    assert!(matches!(ended, Err(ModbusError::NoLine)), "{ended:?}");
}

#[tokio::test]
async fn polls_go_on_while_a_clock_that_was_set_back_stands_still() {
    let server = ByHand::start(Framing::Tcp, |_, asked| vec![Act::Send(honest(asked))]).await;
    let clock = Clock::scaled(Timestamp::from_unix_s(1_782_000_000), 20);
    let profile = Arc::new(Profile::built_in("eastron-sdm630").unwrap());
    let (_sender, jobs) = mpsc::channel(JOBS_MAX);
    let (reports, mut heard) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    tokio::spawn(run_line(
        server.address.parse().unwrap(),
        vec![Poller::new(0, profile, 1)],
        Schedule::new(5, 900, 20),
        clock.clone(),
        reports,
        jobs,
        shutdown.clone(),
    ));
    let mut next = async || {
        let report = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await;
        let report = report.expect("a poll").unwrap();
        (report.outcome.unwrap().read_at, report.watch.elapsed_ms)
    };
    next().await;
    clock.set_by(-3_600_000);
    let still = clock.now();
    let mut before_ms = next().await.1;
    for _ in 0..4 {
        let (read_at, elapsed_ms) = next().await;
        assert!(read_at <= still, "the clock stands still");
        let waited_ms = elapsed_ms - before_ms;
        assert!((2_000..=9_000).contains(&waited_ms), "{waited_ms}");
        before_ms = elapsed_ms;
    }
    // It has caught up: the plan falls back to the clock, and nobody waits for what is over.
    clock.set_by(3_600_000);
    for _ in 0..3 {
        let (read_at, elapsed_ms) = next().await;
        assert!(read_at >= still && elapsed_ms - before_ms <= 12_000);
        before_ms = elapsed_ms;
    }
    shutdown.cancel();
}
