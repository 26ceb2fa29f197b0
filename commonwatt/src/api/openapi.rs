//! The description of the API, made from the handlers themselves.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, KnownFormat, License, ObjectBuilder, OpenApi, Ref,
    RefOr, Required, ResponseBuilder, SchemaFormat, SecurityRequirement, Type,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    alarms, audit, charging, commands, deliveries, events, feeders, health, incidents, intervals,
    keys, ledger, limits, me, meters, orders, own_orders, preferences, readings, runs,
    standing_orders, statements, stations, tokens, trades, witnesses,
};
use crate::web::{PROBLEM, Web};

const ABOUT: &str = "One API for pages, drivers, operators and scripts. Energy is an integer in watt-hours, \
    power in watts; prices are decimal strings in token/kWh, money in token; times are RFC 3339 in UTC. Lists are newest \
    first: `next` of a page is `after` of the page behind it; with `Accept: text/csv` they come as CSV. Errors are \
    problem+json with a `reference` that is in the platform's log. What somebody may not see answers 404. \
    Writes take an `Idempotency-Key`, kept for a day for each account, or address where there is none: the same key with \
    another request answers 422. \
    Orders, standing orders, cancels, readings, claims, revocations and commands are signed messages (COSE_Sign1), which need \
    no account and are their own key; a home that is signed in may say an order in JSON. \
    Signing in is for browsers (`/sign-in/<link>`); programs send `Authorization: Bearer` with a token.";

/// An error.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "the description of what `web::problem` writes")]
pub(super) struct Problem {
    /// The status in words.
    title: String,
    /// The status as a number.
    status: u16,
    /// What happened and what to do.
    detail: String,
    /// Names this answer in the platform's log; of a refused signed message, its SHA-256.
    reference: String,
    /// Of a refused signed message: why, as a word.
    reason: Option<String>,
}

fn described() -> OpenApiRouter<Web> {
    OpenApiRouter::new()
        .routes(routes!(super::platform))
        .routes(routes!(me::me, me::change))
        .routes(routes!(me::participant))
        .routes(routes!(meters::list))
        .routes(routes!(meters::readings))
        .merge(delivered())
        .routes(routes!(intervals::list))
        .routes(routes!(intervals::one))
        .routes(routes!(orders::own, orders::place))
        .routes(routes!(own_orders::one, own_orders::withdraw))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::query))
        .routes(routes!(
            standing_orders::own_standing,
            standing_orders::place_standing
        ))
        .routes(routes!(orders::markets))
        .routes(routes!(orders::book))
        .routes(routes!(orders::clearing))
        .routes(routes!(orders::run))
        .routes(routes!(trades::list))
        .routes(routes!(trades::one))
        .routes(routes!(trades::receipt))
        .routes(routes!(trades::proofs))
        .routes(routes!(deliveries::list))
        .routes(routes!(statements::one))
        .routes(routes!(ledger::checkpoint))
        .routes(routes!(ledger::proof))
        .routes(routes!(ledger::keys))
        .routes(routes!(witnesses::list))
        .routes(routes!(witnesses::evidence))
        .routes(routes!(feeders::list))
        .routes(routes!(feeders::series))
        .routes(routes!(feeders::data_quality))
        .routes(routes!(limits::list))
        .routes(routes!(limits::preview))
        .routes(routes!(limits::activations))
        .routes(routes!(incidents::list, incidents::add))
        .routes(routes!(charging::list))
        .routes(routes!(charging::offers, charging::wish))
        .routes(routes!(charging::sessions, charging::begin))
        .routes(routes!(charging::look, charging::change, charging::stop))
        .routes(routes!(charging::credits, charging::credit))
        .routes(routes!(stations::list))
        .routes(routes!(stations::month))
        .routes(routes!(alarms::list, alarms::say))
        .routes(routes!(preferences::get, preferences::put))
        .routes(routes!(preferences::replay))
        .routes(routes!(runs::list, runs::begin))
        .routes(routes!(runs::one))
        .routes(routes!(runs::table))
        .routes(routes!(tokens::list, tokens::ask))
        .routes(routes!(tokens::confirm))
        .routes(routes!(tokens::cancel))
        .routes(routes!(audit::list))
        .routes(routes!(events::events))
        .routes(routes!(keys::list))
        .routes(routes!(keys::participants))
        .routes(routes!(keys::claim))
        .routes(routes!(keys::introduce))
        .routes(routes!(keys::revoke))
        .routes(routes!(commands::command))
        .routes(routes!(commands::look))
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
}

/// A batch of readings is larger than any other body.
fn delivered() -> OpenApiRouter<Web> {
    let most = DefaultBodyLimit::max(readings::BODY_MAX_BYTES);
    OpenApiRouter::new()
        .routes(routes!(readings::take))
        .layer(most)
}

/// Every described resource, with the description itself.
pub(super) fn routes() -> Router<Web> {
    let (router, api) = described().split_for_parts();
    let text = finished(api).to_pretty_json().unwrap_or_default();
    let text: &'static str = Box::leak(text.into_boxed_str());
    let kind = (header::CONTENT_TYPE, "application/json");
    router.route(
        "/api/v1/openapi.json",
        get(move || async move { ([kind], text).into_response() }),
    )
}

/// Adds what all operations share: errors, and how somebody shows who they are.
fn finished(mut api: OpenApi) -> OpenApi {
    let license = License::new("Apache-2.0");
    api.info = InfoBuilder::new()
        .title("Commonwatt")
        .version("1")
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    let components = api.components.get_or_insert_with(Components::default);
    components
        .schemas
        .insert("Problem".to_owned(), Problem::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let cookie = ApiKey::Cookie(ApiKeyValue::new("commonwatt"));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    for (path, item) in &mut api.paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("put", &mut item.put),
            ("post", &mut item.post),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                operation.operation_id = Some(named(method, path));
                finish(operation);
                if method != "get" {
                    keyed(operation);
                }
            }
        }
    }
    api
}

/// An operation's name, of which there is only one: handlers of several resources are called `list`.
fn named(method: &str, path: &str) -> String {
    let path = path.trim_start_matches("/api/v1/").trim_start_matches('/');
    let words = path
        .split(['/', '.', '-'])
        .map(|word| word.trim_matches(['{', '}']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("{method}_{}", words.join("_"))
}

/// Says that a write takes a key; but not of one that only takes signed messages.
fn keyed(operation: &mut Operation) {
    let is_signed = match &operation.request_body {
        Some(RefOr::T(body)) => body
            .content
            .keys()
            .all(|kind| SIGNED.contains(&kind.as_str())),
        _ => false,
    };
    if is_signed {
        return;
    }
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(128));
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Sent again with it, a write is answered as it was and not done again",
        ))
        .schema(Some(text));
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::T(key.build()));
}

/// The kinds of bodies that are signed messages: each is its own key, so the same again has no effect.
pub(super) const SIGNED: [&str; 2] = ["application/cose", "application/cbor-seq"];

fn finish(operation: &mut Operation) {
    let problem = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
        .build();
    let refused = ResponseBuilder::new()
        .description("An error, with a sentence and a reference")
        .content(PROBLEM, problem)
        .build();
    operation
        .responses
        .responses
        .insert("default".to_owned(), refused.into());
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        let kinds = body.content.iter_mut();
        let signed = kinds.filter(|(kind, _)| SIGNED.contains(&kind.as_str()));
        for (_, message) in signed {
            let RefOr::T(message) = message else {
                continue;
            };
            let bytes = ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
            message.schema = Some(bytes.into());
        }
    }
    let scheme = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    operation.security = Some(vec![
        SecurityRequirement::default(),
        scheme("token"),
        scheme("session"),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_operations_have_one_name() {
        let (_, api) = described().split_for_parts();
        let value = serde_json::to_value(finished(api)).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in value["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(
                    names.insert(name.to_owned()),
                    "{path}: {name} is there twice"
                );
            }
        }
        assert!(names.contains("get_meters_id_readings"), "{names:?}");
    }

    /// What has no rows to be walked by page or written as a table, though its address does not end with one thing's name.
    const NO_LISTS: [&str; 13] = [
        "/api/v1/chargers/{id}/offers",
        "/api/v1/events",
        "/api/v1/evidence",
        "/api/v1/ledger/checkpoint",
        "/api/v1/ledger/keys",
        "/api/v1/ledger/proof",
        "/api/v1/limits/preview",
        "/api/v1/markets/{interval}/book",
        "/api/v1/markets/{interval}/clearing",
        "/api/v1/me",
        "/api/v1/platform",
        "/api/v1/preferences",
        "/health",
    ];

    fn description() -> serde_json::Value {
        let (_, api) = described().split_for_parts();
        serde_json::to_value(finished(api)).unwrap()
    }

    fn has_parameter(operation: &serde_json::Value, name: &str) -> bool {
        let all = operation["parameters"].as_array();
        all.into_iter().flatten().any(|known| known["name"] == name)
    }

    #[test]
    fn every_list_comes_as_csv_and_is_walked_by_page() {
        let api = description();
        let mut lists = 0;
        for (path, item) in api["paths"].as_object().unwrap() {
            let get = &item["get"];
            if get.is_null() || path.ends_with('}') || NO_LISTS.contains(&path.as_str()) {
                continue;
            }
            if path == "/metrics" {
                continue;
            }
            lists += 1;
            let kinds = get["responses"]["200"]["content"].as_object().unwrap();
            assert!(kinds.contains_key("text/csv"), "{path} has no CSV");
            for name in ["after", "limit"] {
                assert!(has_parameter(get, name), "{path} has no {name}");
            }
        }
        assert!(lists > 20, "{lists}");
    }

    #[test]
    fn every_write_takes_a_key_or_is_signed() {
        let api = description();
        for (path, item) in api["paths"].as_object().unwrap() {
            let post = &item["post"];
            if post.is_null() {
                continue;
            }
            let kinds = post["requestBody"]["content"].as_object();
            let mut kinds = kinds.into_iter().flat_map(|kinds| kinds.keys());
            let is_signed =
                kinds.clone().next().is_some() && kinds.all(|kind| SIGNED.contains(&kind.as_str()));
            let is_keyed = has_parameter(post, "Idempotency-Key");
            assert!(
                is_keyed != is_signed,
                "{path}: a key {is_keyed}, signed {is_signed}"
            );
        }
    }

    /// The committed description; `COMMONWATT_BLESS=1` writes it anew.
    #[test]
    fn the_description_is_the_committed_one() {
        let (_, api) = described().split_for_parts();
        let text = finished(api).to_pretty_json().unwrap() + "\n";
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        if std::env::var_os("COMMONWATT_BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            text == committed,
            "the API is not as openapi.json says: look at the difference, and write it anew with \
             COMMONWATT_BLESS=1 cargo test -p commonwatt openapi"
        );
    }
}
