//! How the API answers: lists with a way to the next page, as JSON or CSV, and refusals as problem+json.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::ids::ParticipantId;
use domain::money::Price;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::SemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use super::polish::{is_known, tag_of};
use crate::auth::{Role, Viewer, nothing_here};
use crate::web::{Web, broken, problem};

/// Rows on a page where no other number is asked for.
const LIMIT: u32 = 100;
/// Most rows on a page.
pub(super) const LIMIT_MAX: u32 = 1_000;

/// A refusal, ready to send.
pub(crate) struct Refused(Box<Response>);

/// What every handler gives.
pub(crate) type Answer = Result<Response, Refused>;

impl Refused {
    /// A problem with a sentence.
    pub(super) fn new(status: StatusCode, detail: &str) -> Refused {
        Refused(Box::new(problem(status, detail)))
    }

    /// What was asked for makes no sense.
    pub(super) fn bad(detail: &str) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A list has no row behind which it could go on.
    pub(super) fn no_page() -> Refused {
        let detail = "after: there is no such row; it is the `next` of the page before.";
        Refused::new(StatusCode::NOT_FOUND, detail)
    }

    /// There is no such thing, or it is none of the viewer's business.
    pub(super) fn nothing() -> Refused {
        Refused(Box::new(nothing_here()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl From<Box<Response>> for Refused {
    fn from(response: Box<Response>) -> Self {
        Refused(response)
    }
}

/// Something failed here: the log says what, under the reference that the answer names.
macro_rules! failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Refused {
            fn from(error: $error) -> Self {
                Refused(Box::new(broken("a request failed", &format!("{error:#}"))))
            }
        }
    )*};
}
failures! {
    anyhow::Error, settlement::service::ServiceError, market_engine::service::MarketError,
    runtime::db::DbError, domain::money::MoneyError, domain::time::TimeError,
    settlement::calendar::CalendarError
}

/// What was said can be read and makes no sense.
pub(super) fn unprocessable(detail: &str) -> Refused {
    Refused::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// A price in a body, by its field.
pub(super) fn price(name: &str, text: &str) -> Result<Price, Refused> {
    text.parse()
        .map_err(|error| unprocessable(&format!("{name}: {error}.")))
}

/// The viewer's household, or nothing.
pub(super) fn home(viewer: &Viewer) -> Result<&ParticipantId, Refused> {
    viewer.home().ok_or_else(Refused::nothing)
}

/// The viewer has this role, or there is nothing.
pub(super) fn only(viewer: &Viewer, role: Role) -> Result<(), Refused> {
    match viewer.is(role) {
        true => Ok(()),
        false => Err(Refused::nothing()),
    }
}

/// An operator who asks. As an argument before the body: whoever is none learns nothing of what a body needs.
pub(super) struct AsOperator(pub(super) Viewer);

impl FromRequestParts<Web> for AsOperator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Refused> {
        let viewer = Viewer::from_request_parts(parts, web).await;
        let viewer = viewer.map_err(Box::new)?;
        only(&viewer, Role::Operator)?;
        Ok(AsOperator(viewer))
    }
}

/// A researcher who asks; like [`AsOperator`].
pub(super) struct AsResearcher(pub(super) Viewer);

impl FromRequestParts<Web> for AsResearcher {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Refused> {
        let viewer = Viewer::from_request_parts(parts, web).await;
        let viewer = viewer.map_err(Box::new)?;
        only(&viewer, Role::Researcher)?;
        Ok(AsResearcher(viewer))
    }
}

/// What a change was thought of for.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "the description of what `if_match` reads")]
pub(super) struct IfMatch {
    /// The `ETag` that the resource had: it is changed only if it has it still.
    #[param(rename = "If-Match", value_type = Option<String>)]
    if_match: Option<String>,
}

/// Whether the resource, which is this now, is still the one that a change was thought of for.
pub(super) fn if_match<T: Serialize>(headers: &HeaderMap, now: &T) -> Result<(), Refused> {
    let Some(tags) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    let bytes = serde_json::to_vec(now).map_err(anyhow::Error::from)?;
    match is_known(tags, &tag_of(&bytes)) {
        true => Ok(()),
        false => {
            let detail = "It has changed since: read it again, and send its new ETag as If-Match.";
            Err(Refused::new(StatusCode::PRECONDITION_FAILED, detail))
        }
    }
}

/// A household that asks; like [`AsOperator`].
pub(super) struct AsHome(pub(super) Viewer, pub(super) ParticipantId);

impl FromRequestParts<Web> for AsHome {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Refused> {
        let viewer = Viewer::from_request_parts(parts, web).await;
        let viewer = viewer.map_err(Box::new)?;
        let home = home(&viewer)?.clone();
        Ok(AsHome(viewer, home))
    }
}

/// In which form an answer is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    Json,
    Csv,
}

impl Wants {
    /// What `Accept` asks for; the first form of those that are named with the same weight.
    fn of(headers: &HeaderMap) -> Option<Wants> {
        let lines = headers.get_all(header::ACCEPT).iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        if lines.is_empty() {
            return Some(Wants::Json);
        }
        let ranges = lines.iter().flat_map(|line| line.split(','));
        let mut best: Option<(u16, Wants)> = None;
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let wants = match parts.next().unwrap_or_default() {
                "text/csv" | "text/*" => Wants::Csv,
                "application/json" | "application/*" | "*/*" => Wants::Json,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1000, permille);
            if weight > 0 && best.is_none_or(|(best, _)| weight > best) {
                best = Some((weight, wants));
            }
        }
        best.map(|(_, wants)| wants)
    }
}

/// `0.85` as thousandths; what is none counts as all.
fn permille(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part:0<3}");
    digits
        .get(..whole.len() + 3)
        .and_then(|d| d.parse().ok())
        .unwrap_or(1000)
}

impl<S: Send + Sync> FromRequestParts<S> for Wants {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let none = || {
            let detail = "This list comes as application/json or text/csv: Accept names neither.";
            Refused::new(StatusCode::NOT_ACCEPTABLE, detail)
        };
        Wants::of(&parts.headers).ok_or_else(none)
    }
}

/// Which part of a list is wanted. Lists are newest first.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// Only what starts at this time or later.
    #[param(format = DateTime, example = "2026-06-21T00:00:00Z")]
    from: Option<String>,
    /// Only what starts before this time.
    #[param(format = DateTime, example = "2026-06-22T00:00:00Z")]
    to: Option<String>,
    /// Only what comes behind the last row of the page before: its `next`.
    after: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A part of a list that can be read.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) after: Option<String>,
    pub(super) limit: u32,
}

impl Range {
    /// A range of a list that has more to choose by.
    pub(super) fn new(
        (from, to): (Option<String>, Option<String>),
        after: Option<String>,
        limit: Option<u32>,
    ) -> Range {
        Range {
            from,
            to,
            after,
            limit,
        }
    }

    /// Reads it, or says what is wrong.
    pub(super) fn read(self) -> Result<Span, Refused> {
        let time = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match text.parse::<Timestamp>() {
                Ok(time) => Ok(Some(time)),
                Err(error) => Err(Refused::bad(&format!("{name}: {error}."))),
            },
        };
        Ok(Span {
            from: time("from", self.from)?.unwrap_or(Timestamp::EPOCH),
            to: time("to", self.to)?.unwrap_or(Timestamp::from_unix_ms(i64::MAX)),
            after: self.after,
            limit: rows(self.limit)?,
        })
    }
}

/// Which part of a list is wanted that has no times to choose by.
#[derive(Deserialize, IntoParams, Default)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Only what comes behind the last row of the page before: its `next`.
    pub(super) after: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

impl After {
    /// A part by these.
    pub(super) fn new(after: Option<String>, limit: Option<u32>) -> After {
        After { after, limit }
    }

    /// The part of a list that is short enough to be there whole, and the name of its last row where others follow.
    pub(super) fn part<T>(
        &self,
        mut all: Vec<T>,
        name: impl Fn(&T) -> String,
    ) -> Result<(Vec<T>, Option<String>), Refused> {
        let most = usize::try_from(rows(self.limit)?).unwrap_or(usize::MAX);
        if let Some(after) = &self.after {
            let last = all.iter().position(|row| name(row) == *after);
            all.drain(..=last.ok_or_else(Refused::no_page)?);
        }
        let follows = all.len() > most;
        all.truncate(most);
        let next = all.last().filter(|_| follows).map(name);
        Ok((all, next))
    }
}

/// One of the few turns that requests which read or reckon much share with the pages.
pub(super) fn turn(web: &Web) -> Result<SemaphorePermit<'_>, Refused> {
    web.heavy.try_acquire().map_err(|_| {
        let detail = "Others are reading as much: ask again in a moment.";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

/// The number of rows that is asked for.
pub(super) fn rows(limit: Option<u32>) -> Result<u32, Refused> {
    match limit.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Refused::bad(&format!("limit: 1 to {LIMIT_MAX}."))),
    }
}

impl Span {
    /// The span of a list whose rows are named by their start: all before the row behind which it goes on.
    pub(super) fn before(&self) -> Result<(Timestamp, Timestamp), Refused> {
        let Some(after) = &self.after else {
            return Ok((self.from, self.to));
        };
        let after: Result<Timestamp, _> = after.parse();
        let after = after.map_err(|_| Refused::no_page())?;
        Ok((self.from, self.to.min(after)))
    }
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The rows, newest first.
    pub(super) items: Vec<T>,
    /// What `after` is for the page behind this one; none where this is the last.
    pub(super) next: Option<String>,
}

impl<T: Serialize> List<T> {
    /// A page that is followed by another if it is full. `name` is what a row is named by.
    pub(super) fn new(items: Vec<T>, limit: u32, name: impl Fn(&T) -> String) -> Self {
        let is_full = u32::try_from(items.len()).is_ok_and(|n| n >= limit);
        let next = items.last().filter(|_| is_full).map(name);
        List { items, next }
    }

    /// A page of a list that is short enough to be there whole.
    pub(super) fn part(
        all: Vec<T>,
        after: &After,
        name: impl Fn(&T) -> String,
    ) -> Result<Self, Refused> {
        let (items, next) = after.part(all, name)?;
        Ok(List { items, next })
    }

    /// The answer in the form that is wanted. CSV has these columns, `seen.at` what is `at` in `seen`, and its next page in `Link`.
    pub(super) fn answer(self, wants: Wants, columns: &[&str]) -> Answer {
        match wants {
            Wants::Json => Ok(Json(self).into_response()),
            Wants::Csv => csv_of(&self, columns),
        }
    }
}

fn csv_of<T: Serialize>(list: &List<T>, columns: &[&str]) -> Answer {
    let inside = |row: &Value, column: &str| {
        let found = row.pointer(&format!("/{}", column.replace('.', "/")));
        found.cloned().unwrap_or_default()
    };
    let cell = |row: &Value, column: &&str| match &inside(row, column) {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            words.join("+")
        }
        other => other.to_string(),
    };
    let mut out = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| anyhow::anyhow!("a table could not be written: {error}");
    out.write_record(columns).map_err(failed)?;
    for item in &list.items {
        let row = serde_json::to_value(item);
        let row = row.map_err(|error| anyhow::anyhow!("a row could not be written: {error}"))?;
        out.write_record(columns.iter().map(|column| cell(&row, column)))
            .map_err(failed)?;
    }
    let bytes = out.into_inner();
    let bytes = bytes.map_err(|_| anyhow::anyhow!("a table could not be written"))?;
    let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    let mut response = ([(header::CONTENT_TYPE, kind)], bytes).into_response();
    if let Some(next) = &list.next {
        let link = HeaderValue::from_str(&format!("<?after={next}>; rel=\"next\""));
        if let Ok(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// A time as it is written in the API.
pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(accept: &[&'static str]) -> Option<Wants> {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(line));
        }
        Wants::of(&headers)
    }

    #[test]
    fn accept_chooses_the_form() {
        assert_eq!(wants(&[]), Some(Wants::Json));
        assert_eq!(wants(&["*/*"]), Some(Wants::Json));
        assert_eq!(wants(&["text/csv"]), Some(Wants::Csv));
        assert_eq!(
            wants(&["text/html, text/csv;q=0.5, */*;q=0.1"]),
            Some(Wants::Csv)
        );
        assert_eq!(
            wants(&["text/csv;q=0.5, application/json"]),
            Some(Wants::Json)
        );
        assert_eq!(
            wants(&["application/json;q=0.85", "text/csv;q=0.9"]),
            Some(Wants::Csv)
        );
        assert_eq!(wants(&["text/html"]), None);
        assert_eq!(wants(&["text/csv;q=0"]), None);
    }

    #[test]
    fn a_full_page_names_the_one_behind_it() {
        let name = |n: &i64| n.to_string();
        assert_eq!(List::new(vec![3, 2], 2, name).next, Some("2".to_owned()));
        assert_eq!(List::new(vec![3], 2, name).next, None);
        assert_eq!(List::new(vec![], 2, name).next, None);
    }

    #[test]
    fn a_short_list_is_walked_page_by_page() {
        let name = |n: &i64| n.to_string();
        let page = |after: Option<&str>| {
            let after = After::new(after.map(str::to_owned), Some(2));
            after.part(vec![5, 4, 3], name).ok()
        };
        assert_eq!(page(None), Some((vec![5, 4], Some("4".to_owned()))));
        assert_eq!(page(Some("4")), Some((vec![3], None)));
        assert_eq!(page(Some("3")), Some((vec![], None)));
        assert_eq!(page(Some("9")), None);
    }

    #[test]
    fn a_part_of_a_list_is_read_or_refused_by_name() {
        let range = |from: Option<&str>, after: Option<&str>, limit| Range {
            from: from.map(str::to_owned),
            to: None,
            after: after.map(str::to_owned),
            limit,
        };
        let span = range(
            Some("2026-06-21T00:00:00Z"),
            Some("2026-06-22T00:00:00Z"),
            None,
        );
        let span = span.read().ok().unwrap();
        let (from, before) = span.before().ok().unwrap();
        assert_eq!(from.to_string(), "2026-06-21T00:00:00Z");
        assert_eq!(before.to_string(), "2026-06-22T00:00:00Z");
        assert_eq!(span.limit, LIMIT);
        for bad in [
            range(Some("yesterday"), None, None),
            range(None, None, Some(0)),
            range(None, None, Some(LIMIT_MAX + 1)),
        ] {
            assert!(bad.read().is_err());
        }
        let lost = range(None, Some("x"), None).read().ok().unwrap();
        assert!(lost.before().is_err());
    }
}
