//! A report as metrics. There is one series per device, or per device and kind of failure; kinds are
//! words of this program, so their number does not grow with what devices or brokers say.

use runtime::metrics::{Labels, Page};

use super::report::{DeviceReport, Outbox, Report, Running};

/// The report's metrics. What is not known has no series.
#[must_use]
pub fn page(report: &Report) -> Page {
    let mut page = Page::new("commonwatt_gateway");
    if let Some(running) = &report.running {
        itself(&mut page, report, running);
        delivery(&mut page, running);
        devices(&mut page, &running.devices);
    }
    if let Some(outbox) = &report.outbox {
        backlog(&mut page, outbox);
    }
    page
}

/// A value without labels.
fn one<N>(value: N) -> Option<(Labels, N)> {
    Some((Vec::new(), value))
}

fn itself(page: &mut Page, report: &Report, running: &Running) {
    let facts = [
        ("version", running.version.clone()),
        ("community", report.community.clone()),
        ("gateway", report.gateway.clone()),
        ("key_id", report.key_id.clone().unwrap_or_default()),
    ];
    page.info("build", "Which gateway and program this is", facts.into());
    page.gauge("up", "Whether the gateway runs", one(1));
    let uptime_s = running.uptime_ms / 1000;
    page.gauge("uptime_seconds", "Time since the start", one(uptime_s));
    let clock = running.clock.iter();
    page.gauge(
        "clock_state",
        "1 for the state in which the clock was at the last sample",
        clock.map(|clock| (vec![("state", clock.state.clone())], 1)),
    );
}

fn delivery(page: &mut Page, running: &Running) {
    let connected = i64::from(running.broker.connected);
    page.gauge(
        "broker_connected",
        "Whether the broker is there",
        one(connected),
    );
    page.counter(
        "readings_signed",
        "Readings signed",
        one(running.readings_signed),
    );
    page.counter(
        "readings_sent",
        "Readings sent, repeats included",
        one(running.readings_sent),
    );
    page.counter(
        "acceptances",
        "Signed acceptances of the platform that were believed",
        one(running.acceptances),
    );
    page.counter(
        "errors",
        "Failures that belong to no device, by kind",
        running
            .errors
            .iter()
            .map(|(kind, count)| (vec![("kind", kind.clone())], *count)),
    );
}

fn backlog(page: &mut Page, outbox: &Outbox) {
    page.gauge(
        "outbox_readings",
        "Readings that wait for the platform's word",
        one(outbox.waiting),
    );
    page.gauge(
        "outbox_oldest_age_seconds",
        "Time since the end of the oldest waiting reading's interval; absent where nothing waits",
        outbox.oldest_age_ms.and_then(|ms| one(ms / 1000)),
    );
    page.gauge(
        "refused_readings",
        "Readings that the platform refused, of the newest thousand",
        one(outbox.refused),
    );
}

fn devices(page: &mut Page, devices: &[DeviceReport]) {
    let label = |device: &DeviceReport| vec![("device", device.name.clone())];
    page.gauge(
        "device_value_age_seconds",
        "Age of the device's last value; absent where it was never read",
        devices
            .iter()
            .filter_map(|d| Some((label(d), d.value_age_ms? / 1000))),
    );
    page.counter(
        "device_samples",
        "Samples read",
        devices.iter().map(|d| (label(d), d.samples)),
    );
    let errors = devices.iter().flat_map(|d| {
        let of_kind = move |(kind, count): (&String, &u64)| {
            let labels = vec![("device", d.name.clone()), ("kind", kind.clone())];
            (labels, *count)
        };
        d.errors.iter().map(of_kind)
    });
    page.counter("device_errors", "Failures of the device, by kind", errors);
}
