//! Control with leases: a device's set-point is lent to the platform for a time, and given back.
//!
//! [`limits`] say what is allowed at all, [`lease`] is the pure engine that decides what happens next,
//! [`program`] turns values into registers and judges what is read back, [`store`] keeps leases through
//! a restart, and [`service`] brings commands in and writes out. What a device's registers are is in
//! its profile (`crate::profile::control`).

pub mod lease;
pub mod limits;
pub mod program;
pub mod service;
pub mod store;

#[cfg(test)]
mod tests;
