//! The gateway as a whole: devices with faults on one side, a strict platform on the other.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod by_hand;
mod device;
mod gateway;
mod home;
mod home_assistant;
mod job;
mod line;
mod mqtt;
mod ocpp;
mod outage;
mod platform;
mod port;
mod profiles;
mod pymodbus;
mod status;
mod truth;
mod watch;
mod wire;
