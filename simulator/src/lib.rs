//! A simulated street: homes with panels, batteries and cars, in whole watts and watt-seconds, and
//! the devices that measure them, served with their real protocols on the loopback interface.
//!
//! | file | turns | into |
//! |---|---|---|
//! | [`scenario`] | TOML | site, feeder, homes |
//! | [`world`] | scenario × seed × instant | the registers of every meter |
//! | [`home`], [`battery`], [`ev`] | sun, load, habits | power and energy of one home |
//! | [`setpoint`], [`journal`] | what devices are told | limits in the physics, and their record |
//! | [`street`] | world × clock | devices on their wires |
//!
//! Beside the street in whole watts stands the fast simulator of thousands of homes:
//!
//! | file | turns | into |
//! |---|---|---|
//! | [`import`] | data in the formats of others | interval energies in whole watt-hours |
//! | [`dataset`] | a folder with `dataset.toml` | what is wrong with it |
//! | [`model`] | weather, habits, devices × interval | whole watt-hours of each home |
//! | [`strategy`] | what is public × what a home knows of itself | orders and what its battery does |
//! | [`run`] | scenario × seed | a run: homes, market and settlement in virtual time, and its folder |

pub mod battery;
pub mod dataset;
mod devices;
pub mod ev;
pub mod home;
pub mod import;
pub mod journal;
mod load;
pub mod model;
mod number;
mod pv;
mod random;
pub mod run;
pub mod scenario;
pub mod setpoint;
pub mod strategy;
pub mod street;
mod weather;
pub mod world;
