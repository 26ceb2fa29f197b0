//! Settlement: trades beside meter data become postings, a ledger, a verifiable log, and receipts.
//!
//! In flow order: [`accept`] (which readings count), [`bargain`] (which trades), [`deliver`] (traded beside metered), [`settle`]
//! (what it comes to, with the prices of [`tariff`], the [`amounts`] and their sums in [`legs`]), [`run`] (when, and
//! again, [`resettle`] only for those it concerns; [`run_inputs`] says from what), [`log`] (so that nobody can change it),
//! [`prove`] (so that anybody can check it), [`reexecute`] (so that an auditor can settle it again), [`statement`]
//! (a month of it for people, by the local days of [`calendar`]). [`charging`] is what a car pays at a
//! charger. These are pure; [`store`] and [`service`] keep them in a database.

pub mod accept;
pub mod amounts;
pub mod bargain;
pub mod by_hand;
pub mod calendar;
pub mod charging;
pub mod deliver;
pub mod evidence;
pub mod legs;
pub mod log;
pub mod prove;
pub mod reexecute;
pub mod resettle;
pub mod run;
pub mod run_inputs;
pub mod service;
pub mod settle;
pub mod statement;
pub mod store;
pub mod tariff;
