//! A log that anyone can check: entries once written cannot be changed or left out unseen.
//!
//! Three logs a community: the readings, the market, and the ledger, which also takes in the other
//! two's checkpoints, so that one signed root covers all. A reader needs nothing but static resources:
//! the signed root, and tiles of hashes and of entries.

pub use domain::log::{checkpoint, cosignature, note, tree};

pub mod entry;
pub mod policy;
pub mod proof;
pub mod reader;
pub mod tile;
pub mod witness;
