//! Where a line is: the address as it is written in `gateway.toml`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serial2_tokio::{CharSize, Parity, StopBits};

/// What an address looks like, for people.
const RULE: &str = "host and port like \"192.168.1.20:502\", \"rtu+tcp://192.168.1.20:502\" for RTU \
                    frames over TCP, or \"serial:/dev/ttyUSB0?baud=9600&format=8N1\"";
/// Speeds of a serial port that are taken, in bits per second.
const BAUD: std::ops::RangeInclusive<u32> = 300..=4_000_000;

/// Where a line is, and what is spoken on it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Address {
    /// TCP to `host:port`: Modbus TCP, or a meter's telegrams.
    Tcp(String),
    /// Modbus RTU frames over TCP to `host:port`.
    RtuOverTcp(String),
    /// A serial port: Modbus RTU, or a meter's telegrams.
    Serial(SerialAddress),
}

/// A serial port and its settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SerialAddress {
    /// The port's file.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// Data bits, 7 or 8.
    pub data_bits: u8,
    /// `N`, `E` or `O`.
    pub parity: char,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
}

/// Why a text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no address: {reason}")]
pub struct NotAnAddress {
    text: String,
    reason: String,
}

impl Address {
    /// Host and port, or the port's file: what is there has one address in a configuration.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Address::Tcp(host) | Address::RtuOverTcp(host) => host.clone(),
            Address::Serial(serial) => serial.path.display().to_string(),
        }
    }
}

impl SerialAddress {
    /// Speed and format as profiles write them, like `9600 8N1`.
    #[must_use]
    pub fn settings(&self) -> String {
        let SerialAddress {
            baud,
            data_bits,
            parity,
            stop_bits,
            ..
        } = self;
        format!("{baud} {data_bits}{parity}{stop_bits}")
    }

    /// How long `tenths` tenths of a character last on the wire.
    #[must_use]
    pub fn characters(&self, tenths: u32) -> Duration {
        let parity_bits = u32::from(self.parity != 'N');
        let bits = 1 + u32::from(self.data_bits) + parity_bits + u32::from(self.stop_bits);
        Duration::from_secs(1) * (bits * tenths) / (self.baud * 10)
    }

    pub(super) fn char_size(&self) -> CharSize {
        match self.data_bits {
            7 => CharSize::Bits7,
            _ => CharSize::Bits8,
        }
    }

    pub(super) fn parity(&self) -> Parity {
        match self.parity {
            'E' => Parity::Even,
            'O' => Parity::Odd,
            _ => Parity::None,
        }
    }

    pub(super) fn stop_bits(&self) -> StopBits {
        match self.stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let wrong = |reason: String| NotAnAddress {
            text: text.to_owned(),
            reason,
        };
        if let Some(rest) = text.strip_prefix("serial:") {
            return serial(rest).map(Address::Serial).map_err(wrong);
        }
        let (make, rest): (fn(String) -> Address, &str) = match text.split_once("://") {
            None => (Address::Tcp, text),
            Some(("tcp", rest)) => (Address::Tcp, rest),
            Some(("rtu+tcp", rest)) => (Address::RtuOverTcp, rest),
            Some(_) => return Err(wrong(RULE.to_owned())),
        };
        match rest.rsplit_once(':') {
            Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|p| p > 0) => {
                Ok(make(rest.to_owned()))
            }
            _ => Err(wrong(RULE.to_owned())),
        }
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match inner {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '?', ' ', '[', ']']),
    }
}

fn serial(rest: &str) -> Result<SerialAddress, String> {
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err(RULE.to_owned());
    }
    let mut address = SerialAddress {
        path: PathBuf::from(path),
        baud: 9600,
        data_bits: 8,
        parity: 'N',
        stop_bits: 1,
    };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("baud", baud)) => {
                let known = baud.parse().ok().filter(|baud| BAUD.contains(baud));
                address.baud = known.ok_or("baud is a speed like 9600 or 115200")?;
            }
            Some(("format", format)) => {
                (address.data_bits, address.parity, address.stop_bits) = match format.as_bytes() {
                    [
                        data @ b'7'..=b'8',
                        parity @ (b'N' | b'E' | b'O'),
                        stop @ b'1'..=b'2',
                    ] => (data - b'0', char::from(*parity), stop - b'0'),
                    _ => return Err("format is data bits, parity, stop bits, like 8N1".to_owned()),
                }
            }
            _ => return Err(format!("`{option}` is neither baud=… nor format=…")),
        }
    }
    Ok(address)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) => f.write_str(host),
            Address::RtuOverTcp(host) => write!(f, "rtu+tcp://{host}"),
            Address::Serial(serial) => {
                let SerialAddress {
                    path,
                    baud,
                    data_bits,
                    parity,
                    stop_bits,
                } = serial;
                let path = path.display();
                write!(
                    f,
                    "serial:{path}?baud={baud}&format={data_bits}{parity}{stop_bits}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in [
            "192.168.1.20:502",
            "meter.local:1502",
            "[fe80::1]:502",
            "rtu+tcp://10.0.0.7:4196",
            "serial:/dev/ttyUSB0?baud=19200&format=8E1",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let short: Address = "serial:/dev/ttyUSB0".parse().unwrap();
        let long = "serial:/dev/ttyUSB0?format=8N1&baud=9600".parse().unwrap();
        assert_eq!(short, long);
        assert_eq!(short.place(), "/dev/ttyUSB0");
        assert_eq!("tcp://h:1".parse(), "h:1".parse::<Address>());
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_sentence() {
        for (text, expected) in [
            ("127.0.0.1", "host and port"),
            (":502", "host and port"),
            ("host:0", "host and port"),
            ("host:70000", "host and port"),
            ("http://host:80", "host and port"),
            ("fe80::1:502", "host and port"),
            ("serial:", "host and port"),
            ("serial:/dev/x?baud=0", "baud is a speed"),
            ("serial:/dev/x?format=8X1", "format is data bits"),
            ("serial:/dev/x?speed=9600", "`speed=9600` is neither"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is no address: ")) && error.contains(expected),
                "{error}"
            );
        }
    }

    #[test]
    fn a_characters_time_counts_all_its_bits() {
        let Address::Serial(serial) = "serial:/dev/x?baud=9600&format=8E1".parse().unwrap() else {
            panic!("not serial");
        };
        // 3.5 characters of 11 bits at 9600 bit/s are 4.01 ms.
        assert_eq!(serial.characters(35).as_micros(), 4010);
    }
}
