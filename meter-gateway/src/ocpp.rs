//! Chargers that speak OCPP 1.6J: they come to the gateway, which is their central system.
//!
//! [`frame`] is the envelope, [`meter`] what meter values say, [`point`] the rules of one charge point (pure: texts
//! and time in, texts, samples and what is to be kept out), [`store`] what survives a restart, [`mail`] the way of signed texts to the platform, [`server`] the socket, [`reception`] what runs it all, [`counter`] where the
//! gateway's owner asks chargers.
//! A connector is a device like any other: its samples are measured, signed and delivered, and its set-points are
//! leases. For these it has four registers of its own, as if it were spoken to over Modbus ([`profile`]).

pub mod config;
pub mod counter;
pub mod frame;
pub mod mail;
pub mod meter;
pub mod point;
pub mod profile;
pub mod reception;
pub mod server;
pub mod store;
#[cfg(test)]
mod tests;

pub use config::OcppConfig;
