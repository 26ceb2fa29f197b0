//! `/api/v1/witnesses` and `/api/v1/evidence`: who signs the logs, and what is proven about the operator.
//!
//! Proofs about the operator are for everybody. Those about households and gateways have their messages in
//! them, which nobody but the operator and a judge has to see: here is only how many there are, and the
//! operator writes them out with `commonwatt evidence`.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Value, json};
use settlement::log::checkpoint::Log;
use utoipa::ToSchema;

use super::answer::{After, Answer, List, Wants, time};
use crate::web::Web;

/// How far a witness has signed a log.
#[derive(Serialize, ToSchema)]
struct Signed {
    /// readings, market or ledger.
    log: &'static str,
    /// Entries of the newest checkpoint that it has signed: a witness since the platform runs, a gateway ever.
    signed_size: u64,
    /// Why it has not signed the newest one.
    trouble: Option<String>,
}

/// A witness of the site, or a gateway that has signed the ledger log.
#[derive(Serialize, ToSchema)]
struct Witness {
    /// Its verifier key, as a policy names it.
    key: String,
    /// witness, or gateway.
    kind: &'static str,
    logs: Vec<Signed>,
}

/// The witnesses.
#[derive(Serialize, ToSchema)]
pub(super) struct Witnesses {
    items: Vec<Witness>,
    /// What `after` is for the page behind this one; none where this is the last.
    next: Option<String>,
    /// Why the market stands still; none where it does not.
    alarm: Option<String>,
}

/// Every witness, how far it has signed each log, and why the market stands still if it does. Gateways sign the ledger
/// log, which takes in the other two, and are named by their keys alone.
#[utoipa::path(
    get, path = "/api/v1/witnesses", tag = "proof", params(After),
    responses((status = 200, content((Witnesses = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    let shared = &web.shared;
    let witness = |witness: &crate::site::Witness| Witness {
        key: witness.key.to_string(),
        kind: "witness",
        logs: Log::ALL
            .into_iter()
            .map(|log| {
                let told = shared.watch.told(witness.key.name(), log);
                Signed {
                    log: log.word(),
                    signed_size: told.size,
                    trouble: told.trouble,
                }
            })
            .collect(),
    };
    let mut all: Vec<Witness> = shared.site.witnesses.iter().map(witness).collect();
    let gateways = settlement::service::gateway_witnesses(&shared.db, &shared.community.id);
    all.extend(gateways.await?.into_iter().map(|gateway| Witness {
        key: gateway.key.to_string(),
        kind: "gateway",
        logs: vec![Signed {
            log: Log::Ledger.word(),
            signed_size: gateway.size,
            trouble: None,
        }],
    }));
    let (items, next) = after.part(all, |row: &Witness| row.key.clone())?;
    if wants == Wants::Csv {
        return List {
            items: flat(&items),
            next,
        }
        .answer(wants, &COLUMNS);
    }
    Ok(Json(Witnesses {
        items,
        next,
        alarm: shared.watch.alarm(),
    })
    .into_response())
}

const COLUMNS: [&str; 5] = ["key", "kind", "log", "signed_size", "trouble"];

/// A row for each log of a witness.
fn flat(witnesses: &[Witness]) -> Vec<Value> {
    let rows = witnesses.iter().flat_map(|witness| {
        witness.logs.iter().map(|of| {
            json!({
                "key": witness.key,
                "kind": witness.kind,
                "log": of.log,
                "signed_size": of.signed_size,
                "trouble": of.trouble,
            })
        })
    });
    rows.collect()
}

/// A proof that the operator has broken a rule.
#[derive(Serialize, ToSchema)]
struct Case {
    /// operator_fork or witness_fork
    kind: String,
    /// Its place in the ledger log; none where an older program kept it.
    ledger_index: Option<u64>,
    /// When it was kept.
    #[schema(format = DateTime)]
    kept: String,
    /// The file that `commonwatt judge` reads.
    evidence: Value,
}

/// What is proven.
#[derive(Serialize, ToSchema)]
pub(super) struct Evidence {
    /// Proofs about the operator, and about witnesses.
    operator: Vec<Case>,
    /// Pairs of readings that were signed under one number.
    readings_signed_twice: i64,
    /// Pairs of orders that were.
    orders_signed_twice: usize,
}

/// What is proven about the operator, and how many cases about others the books hold.
#[utoipa::path(
    get, path = "/api/v1/evidence", tag = "proof", responses((status = 200, body = Evidence))
)]
pub(super) async fn evidence(State(web): State<Web>) -> Answer {
    let db = &web.shared.db;
    let case = |case: settlement::service::Case| Case {
        kind: case.kind,
        ledger_index: case.log_index,
        kept: time(case.at),
        evidence: serde_json::from_str(&case.text).unwrap_or_default(),
    };
    let operator = settlement::service::public_cases(db).await?;
    Ok(Json(Evidence {
        operator: operator.into_iter().map(case).collect(),
        readings_signed_twice: settlement::service::reading_cases_count(db).await?,
        orders_signed_twice: market_engine::service::equivocations(db).await?.len(),
    })
    .into_response())
}
