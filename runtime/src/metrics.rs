//! A page of metrics for Prometheus, made anew at every scrape: what is not known then is not on it,
//! instead of being 0 or as it was before.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Scrapes that may be answered at once; further ones wait.
pub const SCRAPES_MAX: usize = 8;
/// Longest time one scrape may take, from connecting to the last byte.
pub const SCRAPE_LIMIT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes; a larger one is refused.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// How long listening rests after the system refused a connection (no more files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The text format, version 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of a series' labels.
pub type Labels = Vec<(&'static str, String)>;

/// Metrics of one moment. Names carry their unit (`_seconds`), and counters get their `_total` here.
#[derive(Debug)]
pub struct Page {
    registry: Registry,
}

impl Page {
    /// An empty page; every name will begin with `prefix` and `_`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Page {
            registry: Registry::with_prefix(prefix),
        }
    }

    /// Values that go up and down, one per set of labels.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, i64)>,
    ) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.registry.register(name, help, family);
    }

    /// Counts since the start of the process, one per set of labels.
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    /// Facts that are text: `name_info{…} 1`.
    pub fn info(&mut self, name: &str, help: &str, labels: Labels) {
        self.registry.register(name, help, Info::new(labels));
    }

    /// The page as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail; the encoder itself reports nothing else.
        if prometheus_client::encoding::prometheus_text::encode(&mut text, &self.registry).is_err()
        {
            text.clear();
        }
        text
    }
}

/// Answers `GET /metrics` with what `page` says at that moment, until `shutdown`.
pub async fn serve<F, Fut>(listener: TcpListener, page: F, shutdown: CancellationToken)
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Page> + Send,
{
    let places = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (page, stop) = (page.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::time::timeout(SCRAPE_LIMIT, scrape(stream, page)) => {}
                        () = stop.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("a scrape could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, one answer. What goes wrong on it is the scraper's to see.
async fn scrape<F, Fut>(stream: TcpStream, page: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Page>,
{
    let answer = service_fn(|request: Request<Incoming>| {
        let page = &page;
        async move { Ok::<_, Infallible>(answer(&request, page).await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a scrape broke off");
    }
}

async fn answer<F, Fut>(request: &Request<Incoming>, page: F) -> Response<Full<Bytes>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Page>,
{
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page().await.render()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            "the metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn page() -> Page {
        let mut page = Page::new("house");
        let room = |name: &str| vec![("room", name.to_owned())];
        page.gauge("age_seconds", "Age", [(room("a\"b\n"), -3), (room("c"), 0)]);
        page.gauge("unknown_seconds", "Nobody knows", []);
        page.counter("steps", "Steps", [(vec![], 7)]);
        page.info("build", "Build", vec![("version", "1".to_owned())]);
        page
    }

    #[test]
    fn the_text_is_the_prometheus_format_and_what_is_unknown_has_no_value() {
        let text = page().render();
        for line in [
            "# TYPE house_age_seconds gauge",
            r#"house_age_seconds{room="a\"b\n"} -3"#,
            r#"house_age_seconds{room="c"} 0"#,
            "# TYPE house_steps_total counter",
            "house_steps_total 7",
            r#"house_build_info{version="1"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
        let unknown = text.lines().filter(|l| l.starts_with("house_unknown"));
        assert_eq!(unknown.count(), 0, "{text}");
    }

    async fn ask(at: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn it_answers_scrapes_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, || async { page() }, stop.clone()));
        let said = ask(at, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("house_steps_total 7"));
        assert!(said.contains("text/plain; version=0.0.4"), "{said}");
        let said = ask(at, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 404"), "{said}");
        let said = ask(at, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 405"), "{said}");
        let long = format!(
            "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        );
        let mut stream = TcpStream::connect(at).await.unwrap();
        let _ = stream.write_all(long.as_bytes()).await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP/1.1 200"));
        let idle = TcpStream::connect(at).await.unwrap();
        stop.cancel();
        task.await.unwrap();
        drop(idle);
    }
}
