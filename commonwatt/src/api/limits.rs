//! `/api/v1/limits` and `/api/v1/activations`: which limits devices are under, what one at the feeder would mean before
//! anybody acts, and what devices were told with what their own meters counted then. Limits are issued by signed
//! commands (`/commands`).

use axum::Json;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use domain::command::Act;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{After, Answer, List, Range, Refused, Wants, only, time};
use crate::auth::{Role, Viewer};
use crate::platform::control::{self, Kept};
use crate::view::activation::{self, Activation, HISTORY_S};
use crate::view::limit::{self, AHEAD_S, COMMANDS_MAX, LEASE_S};
use crate::web::Web;

/// So long after it was issued a command may be taken in, for a list of those issued in a time.
const TAKEN_WITHIN_S: i64 = 3_600;

/// A limit that a device is under.
#[derive(Serialize, ToSchema)]
pub(super) struct Limit {
    /// SHA-256 of the signed command, which names it.
    command: String,
    gateway: String,
    device: String,
    /// What is limited.
    set_point: String,
    value: i64,
    unit: &'static str,
    #[schema(format = DateTime)]
    from: String,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// What the gateway has said of it last; none where it has not answered.
    answer: Option<&'static str>,
}

const COLUMNS: [&str; 9] = [
    "command",
    "gateway",
    "device",
    "set_point",
    "value",
    "unit",
    "from",
    "until",
    "answer",
];

impl From<&Kept> for Limit {
    fn from(kept: &Kept) -> Self {
        let (command, set_point) = (&kept.command, kept.command.act.set_point());
        let (value, until) = match command.act {
            Act::Set {
                value, expires_at, ..
            } => (value, Some(time(expires_at))),
            Act::Release { .. } => (0, None),
        };
        Limit {
            command: kept.digest.to_string(),
            gateway: command.gateway.to_string(),
            device: command.device.clone(),
            set_point: set_point.to_string(),
            value,
            unit: set_point.unit(),
            from: time(command.issued_at),
            until,
            answer: kept.answers.last().map(|ack| ack.outcome.word()),
        }
    }
}

/// The limits that are in force.
#[utoipa::path(
    get, path = "/api/v1/limits", tag = "grid", params(After),
    responses((status = 200, content((List<Limit> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(after): Query<After>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let now = web.shared.clock.now();
    let commands = control::recent(&web.shared.db, now.plus_s(-LEASE_S), COMMANDS_MAX).await?;
    let holding = limit::in_force(&commands, now);
    let items = holding.into_iter().map(Limit::from).collect();
    List::part(items, &after, |row: &Limit| row.command.clone())?.answer(wants, &COLUMNS)
}

/// A limit that somebody thinks of.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Thought {
    /// Most that the feeder would take from the grid above.
    #[param(minimum = 0, maximum = 1_000_000_000)]
    import_w: Option<i64>,
    /// Most that it would give.
    #[param(minimum = 0, maximum = 1_000_000_000)]
    export_w: Option<i64>,
    /// From when on; from now on where nothing is said.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Until when; as far as the forecast reaches, twelve hours, where nothing is said.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// What the limit would mean for what is forecast at the feeder.
#[derive(Serialize, ToSchema)]
#[schema(as = LimitPreview)]
pub(super) struct Preview {
    #[schema(format = DateTime)]
    from: String,
    #[schema(format = DateTime)]
    to: String,
    /// Intervals in that time for which there is a forecast.
    intervals: usize,
    /// Those of them that are forecast beyond the limit.
    beyond: usize,
    /// Energy that would have to move or be left out, as forecast.
    energy_wh: i64,
    /// The least and the most of it, within the forecast's band.
    energy_least_wh: i64,
    energy_most_wh: i64,
    /// The most that is forecast in either direction; import above zero.
    peak_w: i64,
}

/// Largest power of a limit.
const POWER_MAX_W: i64 = 1_000_000_000;

/// What a limit at the feeder would mean. It changes nothing.
#[utoipa::path(
    get, path = "/api/v1/limits/preview", tag = "grid", params(Thought),
    responses((status = 200, body = Preview))
)]
pub(super) async fn preview(
    State(web): State<Web>,
    viewer: Viewer,
    Query(thought): Query<Thought>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let (import_w, export_w) = (thought.import_w, thought.export_w);
    let fits = |w: &i64| (0..=POWER_MAX_W).contains(w);
    let mut said = [import_w, export_w].into_iter().flatten().peekable();
    if said.peek().is_none() || !said.all(|w| fits(&w)) {
        let detail = format!("import_w, export_w: at least one of them, 0 to {POWER_MAX_W} W.");
        return Err(Refused::bad(&detail));
    }
    let now = web.shared.clock.now();
    let at = |name: &str, text: Option<String>, otherwise: Timestamp| match text {
        None => Ok(otherwise),
        Some(text) => text
            .parse::<Timestamp>()
            .map_err(|error| Refused::bad(&format!("{name}: {error}."))),
    };
    let from = at("from", thought.from, now)?;
    let to = at("to", thought.to, now.plus_s(AHEAD_S))?;
    if to <= from {
        return Err(Refused::bad("to: after from."));
    }
    let forecast = limit::forecast(&web.shared, now).await?;
    let seen = limit::preview(&forecast, (from, to), limit::Limit { import_w, export_w });
    Ok(Json(Preview {
        from: time(from),
        to: time(to),
        intervals: seen.intervals,
        beyond: seen.beyond,
        energy_wh: seen.wh.1,
        energy_least_wh: seen.wh.0,
        energy_most_wh: seen.wh.2,
        peak_w: seen.peak_w,
    })
    .into_response())
}

/// What a device was told.
#[derive(Serialize, ToSchema)]
#[schema(as = Activation)]
pub(super) struct Told {
    #[serde(flatten)]
    limit: Limit,
    /// Whether the device has shown that it holds it.
    confirmed: bool,
    /// Taken in the whole intervals of its time, by the device's own meter; none where it has none.
    taken_wh: Option<i64>,
    /// Given in them.
    given_wh: Option<i64>,
}

const TOLD_COLUMNS: [&str; 12] = [
    "command",
    "gateway",
    "device",
    "set_point",
    "value",
    "unit",
    "from",
    "until",
    "answer",
    "confirmed",
    "taken_wh",
    "given_wh",
];

impl From<&Activation> for Told {
    fn from(one: &Activation) -> Self {
        let (taken, given) = one.metered.unzip();
        Told {
            limit: Limit::from(&one.kept),
            confirmed: one.is_confirmed(),
            taken_wh: taken.map(domain::energy::Energy::wh),
            given_wh: given.map(domain::energy::Energy::wh),
        }
    }
}

/// What devices were told, newest first, with what their own meters counted in that time; of the last week where no `from`
/// is said. The signed command and every answer are at `/commands/{command}`.
#[utoipa::path(
    get, path = "/api/v1/activations", tag = "grid", params(Range),
    responses((status = 200, content((List<Told> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn activations(
    State(web): State<Web>,
    viewer: Viewer,
    wants: Wants,
    Query(range): Query<Range>,
) -> Answer {
    only(&viewer, Role::Operator)?;
    let span = range.read()?;
    let (shared, now) = (&web.shared, web.shared.clock.now());
    let from = match span.from {
        Timestamp::EPOCH => now.plus_s(-HISTORY_S),
        from => from,
    };
    // A command may be taken in some time after it was issued.
    let taken = (from, span.to.plus_s(TAKEN_WITHIN_S));
    let mut commands = control::between(&shared.db, taken, COMMANDS_MAX).await?;
    commands.retain(|kept| (from..span.to).contains(&kept.command.issued_at));
    let after = After::new(span.after, Some(span.limit));
    let (page, next) = after.part(commands, |kept| kept.digest.to_string())?;
    let page = activation::of(shared, page, now).await?;
    let items = page.iter().map(Told::from).collect();
    List { items, next }.answer(wants, &TOLD_COLUMNS)
}
