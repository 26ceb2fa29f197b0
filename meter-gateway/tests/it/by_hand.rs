//! Servers whose every answer is made by hand, to misbehave in ways that no library would.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serial2_tokio::SerialPort;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What a server does about a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    WaitMs(u64),
}

/// How a connection frames its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    Tcp,
    Rtu,
}

/// Makes the acts for the n-th request of all connections: `unit`, and the PDU from the function
/// code on.
pub(crate) type Acts = Arc<dyn Fn(usize, &Asked) -> Vec<Act> + Send + Sync>;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    framing: Framing,
    transaction: [u8; 2],
    pub(crate) unit: u8,
    pub(crate) pdu: Vec<u8>,
}

impl Asked {
    pub(crate) fn address(&self) -> u16 {
        u16::from_be_bytes([self.pdu[1], self.pdu[2]])
    }

    /// Number of registers, or the value of a single write.
    pub(crate) fn word(&self) -> u16 {
        u16::from_be_bytes([self.pdu[3], self.pdu[4]])
    }

    /// A whole answer of `unit` with this PDU.
    pub(crate) fn frame(&self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        match self.framing {
            Framing::Tcp => {
                let [high, low] = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
                let mut frame = [&self.transaction[..], &[0, 0, high, low, unit]].concat();
                frame.extend_from_slice(pdu);
                frame
            }
            Framing::Rtu => {
                let mut frame = vec![unit];
                frame.extend_from_slice(pdu);
                frame.extend(crc(&frame));
                frame
            }
        }
    }

    /// The right answer to a read, with these words.
    pub(crate) fn words(&self, words: &[u16]) -> Vec<u8> {
        let mut pdu = vec![self.pdu[0], u8::try_from(words.len() * 2).unwrap()];
        pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self.frame(self.unit, &pdu)
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        self.frame(self.unit, &[self.pdu[0] | 0x80, code])
    }
}

/// The CRC of Modbus RTU, bit by bit as its specification says, low byte first.
pub(crate) fn crc(frame: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in frame {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            };
        }
    }
    crc.to_le_bytes()
}

async fn next(stream: &mut (impl AsyncRead + Unpin), framing: Framing) -> std::io::Result<Asked> {
    let mut transaction = [0; 2];
    let (unit, pdu) = match framing {
        Framing::Tcp => {
            let mut header = [0; 7];
            stream.read_exact(&mut header).await?;
            transaction.copy_from_slice(&header[..2]);
            let length = u16::from_be_bytes([header[4], header[5]]);
            let mut pdu = vec![0; usize::from(length) - 1];
            stream.read_exact(&mut pdu).await?;
            (header[6], pdu)
        }
        Framing::Rtu => {
            let mut frame = vec![0; 7];
            stream.read_exact(&mut frame).await?;
            let rest = if frame[1] == 16 {
                usize::from(frame[6]) + 2
            } else {
                1
            };
            let start = frame.len();
            frame.resize(start + rest, 0);
            stream.read_exact(&mut frame[start..]).await?;
            let (body, sum) = frame.split_at(frame.len() - 2);
            assert_eq!(sum, crc(body), "the gateway sends right check sums");
            (body[0], body[1..].to_vec())
        }
    };
    Ok(Asked {
        framing,
        transaction,
        unit,
        pdu,
    })
}

/// Answers the requests on one connection until it ends.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    framing: Framing,
    acts: Acts,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    while let Ok(asked) = next(&mut stream, framing).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            seen.len() - 1
        };
        for act in acts(number, &asked) {
            match act {
                Act::WaitMs(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Act::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Two ends of a pseudo serial line, and the file of the second.
pub(crate) fn serial_pair() -> (SerialPort, SerialPort, String) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let open = || -> BTreeSet<String> {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        let names = targets.map(|target| target.display().to_string());
        names.filter(|name| name.starts_with("/dev/pts/")).collect()
    };
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let before = open();
    let (near, far) = SerialPort::pair().unwrap();
    let new = open().difference(&before).next().cloned();
    (near, far, new.unwrap())
}

/// A server on TCP.
pub(crate) struct ByHand {
    pub(crate) address: String,
    pub(crate) connections: Arc<AtomicU32>,
    pub(crate) seen: Arc<Mutex<Vec<Asked>>>,
}

impl ByHand {
    pub(crate) async fn start(
        framing: Framing,
        acts: impl Fn(usize, &Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = ByHand {
            address: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
            seen: Arc::default(),
        };
        let (connections, seen) = (server.connections.clone(), server.seen.clone());
        let acts: Acts = Arc::new(acts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, framing, acts.clone(), seen.clone()));
            }
        });
        server
    }

    /// A server on a serial port.
    pub(crate) fn on_serial(
        acts: impl Fn(usize, &Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let (near, far, path) = serial_pair();
        let server = ByHand {
            address: format!("serial:{path}?baud=115200"),
            connections: Arc::default(),
            seen: Arc::default(),
        };
        let seen = server.seen.clone();
        tokio::spawn(async move {
            serve(near, Framing::Rtu, Arc::new(acts), seen).await;
            // The port exists as long as somebody has it open.
            drop(far);
        });
        server
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}
