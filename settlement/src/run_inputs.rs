//! The digests of a run's record: over all that decided a run, and over all that it posted, each blinded.

use domain::energy::Energy;
use domain::ids::{Digest32, digest_parts};
use domain::posting::{Posting, Run};
use domain::run_record::RunRules;
use domain::signed::{SigningKey, encode};
use domain::time::Interval;
use domain::trade::{Clearing, Trade};

use crate::settle::{Feeder, Inputs};

/// The program that settles, as every run's record names it.
pub const PROGRAM: &str = concat!("commonwatt/", env!("CARGO_PKG_VERSION"));

/// SHA-256 over everything that decides a run, in a fixed order: whoever has the same inputs gets the same
/// digest, and settles to the same postings.
#[must_use]
pub fn inputs_digest(program: &str, inputs: &Inputs<'_>, clearing: &Clearing) -> Digest32 {
    digest_with(program, inputs, clearing, &encoded(inputs.trades))
}

/// Trades as they are digested: encoded, whatever their order was.
pub(crate) fn encoded(trades: &[Trade]) -> Vec<Vec<u8>> {
    let mut trades: Vec<Vec<u8>> = trades.iter().map(Trade::to_cbor).collect();
    trades.sort_unstable();
    trades
}

/// [`inputs_digest`], with the inputs' trades [`encoded`].
pub(crate) fn digest_with(
    program: &str,
    inputs: &Inputs<'_>,
    clearing: &Clearing,
    trades: &[Vec<u8>],
) -> Digest32 {
    let before = [
        program.as_bytes().to_vec(),
        encode(&inputs.interval),
        vec![inputs.options.run.code()],
        encode(&rules_of(inputs, None)),
        clearing.to_cbor(),
    ];
    let mut parts: Vec<Vec<u8>> = inputs.deliveries.iter().map(encode).collect();
    if let Some(Feeder { imported, exported }) = inputs.feeder {
        parts.push([imported.wh().to_be_bytes(), exported.wh().to_be_bytes()].concat());
    }
    // Nothing supplied is as good as nobody.
    let used = inputs.options.used.into_iter().flatten();
    for (participant, used) in used.filter(|(_, used)| **used != Energy::ZERO) {
        parts.push(participant.as_str().as_bytes().to_vec());
        parts.push(used.wh().to_be_bytes().to_vec());
    }
    let parts = before.iter().chain(trades).chain(&parts);
    let parts: Vec<&[u8]> = parts.map(Vec::as_slice).collect();
    Digest32(digest_parts("commonwatt/run-inputs/v2", &parts))
}

/// The rules among a run's inputs, as its record has them.
#[must_use]
pub fn rules_of(inputs: &Inputs<'_>, month_from_s: Option<i64>) -> RunRules {
    let (tariff, options) = (inputs.tariff, &inputs.options);
    RunRules {
        retail: tariff.retail,
        feed_in: tariff.feed_in,
        network_fee: tariff.network_fee,
        terms: options.terms.written(),
        version: options.version.map(str::to_owned),
        steps: options.steps.to_vec(),
        month_from_s,
    }
}

/// SHA-256 over a run's postings in the order of their ids.
#[must_use]
pub fn outcome_digest(postings: &[Posting]) -> Digest32 {
    let parts: Vec<Vec<u8>> = postings.iter().map(encode).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Digest32(digest_parts("commonwatt/run-outcome/v1", &parts))
}

/// What blinds a run's digests: made with the operator's key, so that it is the same again and nobody's guess.
#[must_use]
pub fn blind(operator: &SigningKey, interval: Interval, run: Run) -> Digest32 {
    let key = operator.to_bytes();
    let parts: [&[u8]; 3] = [&key, &encode(&interval), &[run.code()]];
    Digest32(digest_parts("commonwatt/run-blind/v1", &parts))
}

/// A digest as a run's record shows it.
#[must_use]
pub fn blinded(blind: &Digest32, digest: &Digest32) -> Digest32 {
    Digest32(digest_parts(
        "commonwatt/run-blinded/v1",
        &[&blind.0, &digest.0],
    ))
}
