//! Reading devices: which requests a profile needs ([`plan`]), and what the answers mean ([`values`]).
//! The wires themselves are in the modules beside them.

pub mod address;
pub mod decode;
pub mod dump;
pub mod modbus;
pub mod mqtt;
pub mod plan;
pub mod sunspec;
pub mod telegram;
#[cfg(test)]
mod tests;
pub mod values;
pub mod wire;

pub use plan::{Block, Explained, Plan, Read, Registers};
pub use values::{Decoded, Identity, Values};
