//! The meter gateway: it reads meters, inverters, batteries and chargers, makes readings of their
//! counters, signs them, and delivers them at least once. It knows nothing of market or money.
//!
//! In flow order: [`profile`] (what a device's registers mean) → [`bus`] and [`device`] (who talks on
//! a line, and when) → [`poll`] (a sample: values and their time) → [`measure`] (intervals) →
//! [`sign`] → [`spool`] (kept until the platform's signed word) → [`publish`]. [`service`] runs them;
//! [`enrol`] gets its key to the platform.
//! Chargers that come by themselves are heard by [`ocpp`]. The other way round, [`control`] writes set-points to devices, on lease and within local limits.

pub mod bus;
pub mod commission;
pub mod config;
pub mod control;
pub mod device;
pub mod enrol;
pub mod home;
mod home_assistant;
pub mod listen;
pub mod live;
pub mod measure;
pub mod ocpp;
pub mod outline;
pub mod poll;
pub mod probe;
pub mod profile;
pub mod publish;
mod record;
pub mod seen;
pub mod service;
pub mod sign;
pub mod spool;
pub mod status;
pub mod time_source;
pub mod toml_file;
pub mod watch;

pub use config::{Config, point_records};
pub use service::{Gateway, GatewayError, known_key_id, open_key, rotate_key, run};
pub use status::Status;
