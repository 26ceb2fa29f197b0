//! The market: homes' wishes become orders, orders meet in a book, a book is cleared into trades.
//!
//! In flow order: [`forecast`], [`bid`] (autopilot), [`standing`] (orders over many intervals), [`accept`],
//! [`market`] (rules, gates, and the state machine of an order's life), [`book`], [`clear`], [`preference`]
//! (wishes beyond price), [`fees`], [`explain`], [`public`] (the book as everybody may see it). [`service`] runs them on the tables of [`store`]; [`mod@file`] clears a file of orders
//! without any of that, [`compare`] by every mechanism at once; [`share`] divides a bill without any auction; [`grid`] says what the wires
//! would carry. An auction serves the largest volume of any single price, better limits first;
//! the one exception is energy that stands against orders of its own participant: it is left out, and
//! both then hold for the book without it (see `clear/merit.rs`). The rules import only `domain`, read no clock and do no I/O.

pub mod accept;
pub mod bid;
pub mod book;
pub mod clear;
pub mod compare;
pub mod explain;
pub mod fees;
pub mod file;
pub mod forecast;
pub mod grid;
pub mod market;
pub mod needed;
pub mod preference;
pub mod public;
pub mod replay;
pub mod service;
pub mod share;
pub mod standing;
pub mod store;
