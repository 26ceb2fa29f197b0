//! A log that anyone can check: entries once written cannot be changed or left out unseen.
//!
//! Three logs a community: the readings, the market, and the ledger, which also takes in the other
//! two's checkpoints, so that one signed root covers all.

pub mod checkpoint;
pub mod entry;
pub mod tree;
