//! The plumbing that services share, once: one door to SQLite and PostgreSQL, durable virtual time,
//! ordered start and stop, threads for calculations, durable files, key files, an embedded MQTT broker and a client link, both with TLS, and a page for
//! Prometheus. Nothing here holds a rule of the market, of money or of a device.

pub mod behind;
pub mod broker;
#[cfg(test)]
mod captured_log;
pub mod clock;
pub mod db;
pub mod durable;
pub mod key_file;
pub mod metrics;
pub mod mqtt;
pub mod shutdown;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
