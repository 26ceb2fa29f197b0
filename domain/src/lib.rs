//! The vocabulary of Commonwatt: every noun of the flow, one file each. Nothing here does I/O or reads
//! a clock, and nothing here knows tokio, sqlx or axum.
//!
//! In flow order:
//!
//! | noun | type | made by |
//! |---|---|---|
//! | what a meter counted | [`reading::Reading`] | meter-gateway `measure` |
//! | its signed bytes | [`signed::Signed`] | meter-gateway `sign` |
//! | proof that they were checked | [`signed::Verified`] | [`signed::Signed::verify`], nothing else |
//! | the platform's word on it | [`acceptance::Acceptance`], [`rejection::Rejection`] | settlement `accept` |
//! | a wish, and taking it back | [`order::Order`], [`cancel::Cancel`] | market-engine `bid`, or a participant |
//! | a wish over many intervals | [`standing_order::StandingOrder`] | a participant |
//! | a bargain | [`trade::Trade`], [`trade::Clearing`] | market-engine `clear` |
//! | traded beside metered | [`delivery::Delivery`] | settlement `deliver` |
//! | money and energy moved | [`posting::Posting`] | settlement `settle`, `post` |
//! | what a run was made from | [`run_record::RunRecord`] | settlement `run_interval` |
//! | what a household keeps | [`receipt::Receipt`] | settlement `prove` |
//! | what a charger's own meter signed | [`charger_record::ChargerRecord`] | meter-gateway `ocpp` |
//! | a device's set-point on lease | [`command::Command`], [`command::Ack`] | the operator, meter-gateway `control` |
//!
//! Under them: [`energy`] (Wh), [`money`] (price, amount, the only rounding), [`time`] (UTC,
//! half-open intervals), [`json`] (files whose mistakes have a path), [`ocmf`] (readings that chargers sign), [`fees`] (by zone), [`terms`] (of settlement), [`ids`], [`quality`], and
//! [`key_record`] (who may sign for what). [`log`] is what a log's reader checks: the tree and its signed roots.
//! How a key comes and goes, a gateway's or a participant's ([`key_holder`]): [`claim`] → [`introduction`] → [`key_record`] → [`revocation`].

pub mod acceptance;
pub mod cancel;
pub mod charger_record;
pub mod claim;
pub mod command;
pub mod delivery;
pub mod energy;
pub mod fees;
pub mod ids;
pub mod introduction;
pub mod json;
pub mod key_holder;
pub mod key_record;
pub mod log;
pub mod money;
pub mod ocmf;
pub mod openings;
pub mod order;
pub mod order_query;
pub mod posting;
pub mod quality;
pub mod reading;
pub mod receipt;
pub mod record_word;
pub mod rejection;
pub mod revocation;
pub mod run_record;
pub mod signed;
pub mod standing_order;
pub mod terms;
pub mod time;
pub mod trade;
