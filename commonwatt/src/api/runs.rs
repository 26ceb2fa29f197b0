//! `/api/v1/runs`: the runs of `commonwatt simulate` in the platform's folder, for researchers.

use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{After, Answer, AsResearcher, List, Refused, Wants, only};
use crate::auth::{Role, Viewer, may_write};
use crate::platform::lab::{self as run_desk, Begun, NotBegun, State as Stands, Wanted};
use crate::view::lab;
use crate::web::Web;

/// Largest file of a run that is given out here.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A run.
#[derive(Serialize, ToSchema)]
pub(super) struct RunRow {
    /// Its folder, which names it here.
    run: String,
    /// What it is named by everywhere: the same inputs give the same id.
    run_id: String,
    name: String,
    version: String,
    seed: u64,
    mechanism: String,
    /// The first instant.
    start: String,
    days: u32,
    homes: u64,
    intervals: u64,
    /// SHA-256 over all results: the same for the same run on any machine.
    outcome_sha256: String,
}

const COLUMNS: [&str; 11] = [
    "run",
    "run_id",
    "name",
    "version",
    "seed",
    "mechanism",
    "start",
    "days",
    "homes",
    "intervals",
    "outcome_sha256",
];

fn row(run: lab::Run) -> RunRow {
    let lab::Manifest {
        run_id,
        name,
        version,
        seed,
        mechanism,
        start,
        days,
        homes,
        intervals,
        outcome_sha256,
        ..
    } = run.manifest;
    RunRow {
        run: run.folder,
        run_id,
        name,
        version,
        seed,
        mechanism,
        start,
        days,
        homes,
        intervals,
        outcome_sha256,
    }
}

/// Reads from the disk, not on a thread that answers others.
async fn reading<T: Send + 'static>(
    web: &Web,
    read: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, Refused> {
    let folder = web.shared.runs.clone();
    let read = tokio::task::spawn_blocking(move || read(folder));
    Ok(read.await.map_err(anyhow::Error::from)?)
}

/// The runs there are, newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", tag = "lab", params(After),
    responses((status = 200, content((List<RunRow> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    only(&viewer, Role::Researcher)?;
    let runs = reading(&web, |folder| lab::runs(&folder)).await?;
    let items = runs.into_iter().map(row).collect();
    List::part(items, &after, |row: &RunRow| row.run.clone())?.answer(wants, &COLUMNS)
}

/// One run with its files.
#[derive(Serialize, ToSchema)]
pub(super) struct OneRun {
    #[serde(flatten)]
    run: RunRow,
    /// Its files, each at `/api/v1/runs/{run}/tables/{file}`.
    files: Vec<RunFile>,
}

/// A file of a run.
#[derive(Serialize, ToSchema)]
pub(super) struct RunFile {
    file: String,
    bytes: u64,
    rows: Option<u64>,
}

/// One run by its folder's name.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}", tag = "lab",
    params(("run" = String, Path, description = "Its folder, as the list names it")),
    responses((status = 200, body = OneRun), (status = 202, body = UnderWay))
)]
pub(super) async fn one(
    State(web): State<Web>,
    viewer: Viewer,
    Path(name): Path<String>,
) -> Answer {
    only(&viewer, Role::Researcher)?;
    let asked = name.clone();
    let found = reading(&web, move |folder| lab::run(&folder, &asked)).await?;
    let Some(mut found) = found else {
        return match web.lab.state(&name) {
            Some(state) => under_way(name, state),
            None => Err(Refused::nothing()),
        };
    };
    let files = std::mem::take(&mut found.manifest.files);
    let files = files.into_iter().map(|file| RunFile {
        file: file.file,
        bytes: file.bytes,
        rows: file.rows,
    });
    Ok(Json(OneRun {
        files: files.collect(),
        run: row(found),
    })
    .into_response())
}

/// A run that is not done.
#[derive(Serialize, ToSchema)]
#[schema(as = RunUnderWay)]
pub(super) struct UnderWay {
    /// What will be its folder.
    run: String,
    /// How much of it is done, in thousandths.
    done_permille: u64,
}

fn under_way(run: String, state: Stands) -> Answer {
    match state {
        Stands::Running { done_permille } => {
            let body = Json(UnderWay { run, done_permille });
            Ok((StatusCode::ACCEPTED, body).into_response())
        }
        Stands::Failed(why) => {
            let detail = format!("This run has ended without a result: {why}.");
            Err(Refused::new(StatusCode::CONFLICT, &detail))
        }
    }
}

/// A run of a built-in scenario.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRun {
    /// street-10, village-100, ev-evening, winter-week, island-day or dst-days.
    #[schema(example = "street-10")]
    scenario: String,
    /// Seed of everything that is drawn; 1 where none is said.
    seed: Option<u64>,
    /// Days, where others than the scenario's.
    #[schema(minimum = 1)]
    days: Option<u32>,
    /// How the homes trade, where otherwise than the scenario says, as `commonwatt simulate --mechanism` takes it.
    mechanism: Option<String>,
    /// The mechanism's price policy.
    price_policy: Option<String>,
}

/// Begins a run of a built-in scenario: one at a time, of two million home-intervals at most. `Location` is where it will
/// be; until it is done, that answers 202 with how far it is. The same scenario, seed and version are the same run: it is
/// made once.
#[utoipa::path(
    post, path = "/api/v1/runs", tag = "lab", request_body = NewRun,
    responses((status = 202, body = UnderWay), (status = 200, body = UnderWay))
)]
pub(super) async fn begin(
    State(web): State<Web>,
    AsResearcher(viewer): AsResearcher,
    headers: HeaderMap,
    Json(new): Json<NewRun>,
) -> Answer {
    may_write(&viewer, &headers, &web)?;
    let wanted = Wanted {
        scenario: new.scenario,
        seed: new.seed.unwrap_or(1),
        days: new.days,
        mechanism: new.mechanism,
        price_policy: new.price_policy,
    };
    let (desk, free_mib) = (web.lab.clone(), web.shared.free_mib());
    let begun = reading(&web, move |runs| {
        run_desk::begin(&desk, &wanted, (&runs, free_mib))
    });
    let (status, run, done_permille) = match begun.await? {
        Ok(Begun::Runs(run)) => (StatusCode::ACCEPTED, run, 0),
        Ok(Begun::There(run)) => (StatusCode::OK, run, 1000),
        Err(NotBegun::Failed(error)) => return Err(error.into()),
        Err(why) => {
            let status = match why {
                NotBegun::MakesNoSense(_) | NotBegun::TooLarge(_) => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                _ => StatusCode::CONFLICT,
            };
            return Err(Refused::new(status, &why.to_string()));
        }
    };
    let place = [(header::LOCATION, format!("/api/v1/runs/{run}"))];
    let body = Json(UnderWay { run, done_permille });
    Ok((status, place, body).into_response())
}

/// One file of a run: a table as Parquet or CSV, the scenario, the summary. Only files that the run's manifest
/// names are there.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/tables/{file}", tag = "lab",
    params(
        ("run" = String, Path, description = "The run's folder"),
        ("file" = String, Path, description = "A file that the run names")
    ),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>))
)]
pub(super) async fn table(
    State(web): State<Web>,
    viewer: Viewer,
    Path((name, file)): Path<(String, String)>,
) -> Answer {
    only(&viewer, Role::Researcher)?;
    let bytes = reading(&web, move |folder| read(&folder, &name, &file)).await?;
    let bytes = bytes.ok_or_else(Refused::nothing)?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, bytes).into_response())
}

/// A file that the manifest names, where it is not too large to be given out here.
fn read(folder: &std::path::Path, name: &str, file: &str) -> Option<Vec<u8>> {
    let run = lab::run(folder, name)?;
    let known = run.manifest.files.iter().any(|known| known.file == file);
    let is_plain = !file.contains(['/', '\\']) && !file.starts_with('.');
    if !known || !is_plain {
        return None;
    }
    let path = folder.join(name).join(file);
    let size = std::fs::metadata(&path).ok()?.len();
    if size > FILE_MAX_BYTES {
        return None;
    }
    std::fs::read(path).ok()
}
