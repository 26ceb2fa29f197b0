//! Lines of every kind against devices that misbehave in every way: a wrong value never comes out.

use std::time::Duration;

use meter_gateway::device::modbus::{Line, ModbusError};
use meter_gateway::profile::ModbusRules;

use crate::by_hand::{Act, Asked, ByHand, Framing};

/// How the devices are spoken to: 150 ms for an answer.
const RULES: ModbusRules = {
    let mut rules = crate::job::RULES;
    rules.gap_ms = 0;
    rules.timeout_ms = 150;
    rules
};
const UNIT: u8 = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    RtuOverTcp,
    Serial,
}

use Transport::{RtuOverTcp, Serial, Tcp};

/// A device whose registers hold their own address, and that errs once.
async fn device(
    transport: Transport,
    err: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
) -> (ByHand, Line) {
    let acts = move |number, asked: &Asked| match number {
        1 => err(asked),
        _ => vec![Act::Send(honest(asked))],
    };
    let server = match transport {
        Tcp => ByHand::start(Framing::Tcp, acts).await,
        RtuOverTcp => ByHand::start(Framing::Rtu, acts).await,
        Serial => ByHand::on_serial(acts),
    };
    let address = match transport {
        RtuOverTcp => format!("rtu+tcp://{}", server.address),
        _ => server.address.clone(),
    };
    (server, Line::to(address.parse().unwrap()))
}

fn honest(asked: &Asked) -> Vec<u8> {
    asked.words(&registers(asked.address(), asked.word()))
}

fn registers(address: u16, count: u16) -> Vec<u16> {
    (0..count).map(|i| address + i).collect()
}

/// The answer to a question about another register.
fn other(asked: &Asked) -> Vec<u8> {
    asked.words(&registers(asked.address() + 1000, asked.word()))
}

/// What is to become of the request that is answered wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// An error of this kind, and the connection is dropped.
    Dropped(&'static str),
    /// An error of this kind on a connection that lives.
    Kept(&'static str),
    /// The right value.
    Right,
}

use Fate::{Dropped, Kept, Right};

async fn check(
    transport: Transport,
    name: &str,
    fate: Fate,
    err: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
) {
    let (_server, mut line) = device(transport, err).await;
    let name = format!("{name} on {transport:?}");
    let ask = async |line: &mut Line, address| line.read(UNIT, 3, address, 4, &RULES).await;
    assert_eq!(
        ask(&mut line, 100).await.unwrap(),
        registers(100, 4),
        "{name}"
    );
    let before = line.connect(&RULES).await.unwrap();
    let outcome = ask(&mut line, 200).await;
    let is_dropped = match (fate, &outcome) {
        (Dropped(kind), Err(error)) => {
            assert_eq!(error.kind(), kind, "{name}: {error}");
            true
        }
        (Kept(kind), Err(error)) => {
            assert_eq!(error.kind(), kind, "{name}: {error}");
            false
        }
        (Right, Ok(words)) => {
            assert_eq!(words, &registers(200, 4), "{name}");
            false
        }
        _ => {
            assert_eq!(format!("{outcome:?}"), format!("{fate:?}"), "{name}");
            false
        }
    };
    let after = line.connect(&RULES).await.unwrap();
    assert_eq!(after - before, u64::from(is_dropped), "{name}");
    // What comes later is right or an error, and it is right in the end.
    let mut right = 0;
    for address in (300..3000).step_by(300) {
        match ask(&mut line, address).await {
            Ok(words) => {
                assert_eq!(words, registers(address, 4), "{name}");
                right += 1;
            }
            Err(error) => assert_eq!(right, 0, "{name}: {error}"),
        }
    }
    assert!(right >= 7, "{name}: {right}");
}

fn send(bytes: Vec<u8>) -> Vec<Act> {
    vec![Act::Send(bytes)]
}

#[tokio::test]
async fn late_answers_and_silence() {
    for transport in [Tcp, RtuOverTcp, Serial] {
        // In time for the drained line, for the next request, and for the one after that: where the
        // late answer is taken for the next one, the right one that follows gives it away.
        for late_ms in [160, 190, 240, 290, 320, 360, 390, 430] {
            let name = format!("{late_ms} ms late");
            check(transport, &name, Dropped("timeout"), move |asked| {
                vec![Act::WaitMs(late_ms), Act::Send(honest(asked))]
            })
            .await;
        }
        check(transport, "silence", Dropped("timeout"), |_| Vec::new()).await;
        check(transport, "half an answer", Dropped("timeout"), |asked| {
            send(honest(asked)[..6].to_vec())
        })
        .await;
        check(transport, "in two pieces", Right, |asked| {
            let whole = honest(asked);
            let (first, second) = whole.split_at(5);
            vec![
                Act::Send(first.to_vec()),
                Act::WaitMs(30),
                Act::Send(second.to_vec()),
            ]
        })
        .await;
    }
}

#[tokio::test]
async fn answers_of_others_and_of_other_sizes() {
    for transport in [Tcp, RtuOverTcp, Serial] {
        check(transport, "wrong unit", Dropped("transport"), |asked| {
            let mut changed = asked.clone();
            changed.unit += 1;
            send(honest(&changed))
        })
        .await;
        check(transport, "wrong function", Dropped("transport"), |asked| {
            let mut pdu = vec![4, 8];
            pdu.extend([0; 8]);
            send(asked.frame(UNIT, &pdu))
        })
        .await;
        for count in [0, 3, 5] {
            let name = format!("{count} words");
            check(transport, &name, Dropped("word_count"), move |asked| {
                send(asked.words(&registers(asked.address(), count)))
            })
            .await;
        }
        check(
            transport,
            "two answers in one",
            Dropped("surplus"),
            |asked| send([honest(asked), other(asked)].concat()),
        )
        .await;
        check(
            transport,
            "the other answer first",
            Dropped("surplus"),
            |asked| send([other(asked), honest(asked)].concat()),
        )
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_twice_is_not_the_next_ones() {
    for transport in [Tcp, RtuOverTcp, Serial] {
        let (_server, mut line) = device(transport, |asked| {
            vec![
                Act::Send(honest(asked)),
                Act::WaitMs(20),
                Act::Send(honest(asked)),
            ]
        })
        .await;
        for address in [100, 200] {
            let words = line.read(UNIT, 3, address, 1, &RULES).await.unwrap();
            assert_eq!(words, [address]);
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        let refused = line.read(UNIT, 3, 300, 1, &RULES).await;
        assert!(
            matches!(refused, Err(ModbusError::Transport(_))),
            "{transport:?} {refused:?}"
        );
        let words = line.read(UNIT, 3, 400, 1, &RULES).await.unwrap();
        assert_eq!(words, [400], "{transport:?}");
    }
}

#[tokio::test]
async fn exceptions_are_answers_but_a_gateways_are_not() {
    for transport in [Tcp, RtuOverTcp, Serial] {
        for (code, fate) in [
            (2, Kept("exception")),
            (4, Kept("exception")),
            (5, Kept("busy")),
            (6, Kept("busy")),
            (10, Dropped("gateway")),
            (11, Dropped("gateway")),
        ] {
            let name = format!("exception {code}");
            check(transport, &name, fate, move |asked| {
                send(asked.exception(code))
            })
            .await;
        }
    }
}

#[tokio::test]
async fn flipped_bits_on_an_rtu_line_are_no_values() {
    for transport in [RtuOverTcp, Serial] {
        // Unit, function, length, a value, check sum.
        for (byte, bit) in [
            (0, 1),
            (1, 0),
            (2, 1),
            (2, 6),
            (4, 3),
            (9, 7),
            (11, 0),
            (12, 5),
        ] {
            let (_server, mut line) = device(transport, move |asked| {
                let mut frame = honest(asked);
                frame[byte] ^= 1 << bit;
                send(frame)
            })
            .await;
            let name = format!("byte {byte} bit {bit} on {transport:?}");
            line.read(UNIT, 3, 100, 4, &RULES).await.unwrap();
            let flipped = line.read(UNIT, 3, 200, 4, &RULES).await;
            assert!(flipped.is_err(), "{name}: {flipped:?}");
            assert_eq!(line.connect(&RULES).await.unwrap(), 2, "{name}");
            let words = line.read(UNIT, 3, 300, 4, &RULES).await.unwrap();
            assert_eq!(words, registers(300, 4), "{name}");
        }
        check(transport, "a driver that switches on", Right, |asked| {
            send([vec![0xff], honest(asked)].concat())
        })
        .await;
    }
}

#[tokio::test]
async fn flipped_bits_in_the_header_of_modbus_tcp_are_no_values() {
    // Transaction, protocol, length, unit, function, length of the data.
    for byte in 0..9 {
        for bit in 0..8 {
            let (_server, mut line) = device(Tcp, move |asked| {
                let mut frame = honest(asked);
                frame[byte] ^= 1 << bit;
                send(frame)
            })
            .await;
            line.read(UNIT, 3, 100, 4, &RULES).await.unwrap();
            let rules = ModbusRules {
                timeout_ms: 40,
                ..RULES
            };
            let flipped = line.read(UNIT, 3, 200, 4, &rules).await;
            assert!(flipped.is_err(), "byte {byte} bit {bit}: {flipped:?}");
            assert_eq!(line.connect(&RULES).await.unwrap(), 2, "{byte} {bit}");
        }
    }
}

#[tokio::test]
async fn units_on_a_serial_line_are_asked_with_silence_between() {
    let server = ByHand::on_serial(|_, asked| send(honest(asked)));
    let mut line = Line::to(server.address.parse().unwrap());
    line.read(1, 3, 1, 1, &RULES).await.unwrap();
    let mut waits = Vec::new();
    for unit in [1, 1, 2, 1] {
        let start = std::time::Instant::now();
        line.read(unit, 3, 1, 1, &RULES).await.unwrap();
        waits.push(start.elapsed() >= Duration::from_millis(20));
    }
    assert_eq!(waits[2..], [true, true]);
    let missing = Line::to("serial:/dev/no-such-port".parse().unwrap())
        .read(1, 3, 1, 1, &RULES)
        .await;
    assert!(
        matches!(missing, Err(ModbusError::Connect { .. })),
        "{missing:?}"
    );
}
