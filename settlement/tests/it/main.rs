//! Settlement as the platform uses it: signed readings and orders in, postings, logs and receipts out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails the test"
)]

mod books;
mod by_hand;
mod charging;
mod crash;
mod evidence;
mod forge;
mod interval;
mod key_changes;
mod keys;
mod ledger;
mod log;
mod ocpi;
mod own_keys;
mod readings;
mod receipt_vectors;
mod receipts;
mod reexecute;
mod resettle;
mod statements;
mod station;
mod terms;
mod together;
mod vectors;
mod world;
