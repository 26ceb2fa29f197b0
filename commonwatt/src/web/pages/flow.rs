//! A home's power at this moment as a picture: sun, battery, home and street, with arrows as thick as what
//! flows.

use maud::{Markup, html};

use crate::view::{Fresh, Home, Street};
use crate::web::number::is_old;
use crate::web::words::Words;

/// Power that is not worth an arrow.
const NOTHING_W: i64 = 20;

/// The picture, with the same in words for who cannot see it.
pub(super) fn flow(words: &Words, street: &Street, home: &Home) -> Markup {
    let fresh = |value: Option<Fresh>| {
        value
            .filter(|v| !is_old(street.now, street.open.length_s(), *v))
            .map(|v| v.value)
    };
    let (sun, battery) = (fresh(home.sun_w), fresh(home.battery_w));
    let (net, car) = (fresh(home.net_w), fresh(home.car_w));
    let used = net.map(|net| net + sun.unwrap_or(0) + battery.unwrap_or(0));
    let say = |word: &'static str, w: Option<i64>| match w {
        Some(w) => format!("{} {}", words.t(word), words.power(w)),
        None => format!("{} –", words.t(word)),
    };
    let street_word = if net.is_some_and(|w| w < 0) {
        "flow.to_street"
    } else {
        "flow.from_street"
    };
    let battery_word = if battery.is_some_and(|w| w < 0) {
        "flow.charging"
    } else {
        "flow.discharging"
    };
    let spoken = [
        home.has_sun.then(|| say("flow.sun", sun)),
        home.has_battery.then(|| say(battery_word, battery)),
        Some(say("flow.home", used)),
        Some(say(street_word, net)),
        home.has_car.then(|| say("flow.car", car)),
    ];
    let spoken: Vec<String> = spoken.into_iter().flatten().collect();
    html! {
        svg.flow viewBox=(format!("0 -4 360 {}", if home.has_car { 220 } else { 186 })) role="img" aria-label=(spoken.join(", ")) {
            @if home.has_sun {
                (arrow("sun", sun, (180, 58), (180, 92)))
                (node(words, "sun", (180, 34), words.t("flow.sun"), sun))
            }
            @if home.has_battery {
                (arrow("battery", battery, (94, 124), (146, 124)))
                (node(words, "battery", (56, 124), words.t(battery_word), battery))
                @if let Some(soc) = home.soc_permille {
                    text.small x="56" y="176" { (words.permille(soc)) }
                }
            }
            (arrow(if net.is_some_and(|w| w < 0) { "neighbours" } else { "utility" }, net, (266, 124), (214, 124)))
            (node(words, "street", (304, 124), words.t(street_word), net))
            (node(words, "house", (180, 124), words.t("flow.home"), used))
            @if home.has_car {
                (arrow("car", car.map(|w| -w), (180, 192), (180, 158)))
                text.small x="180" y="208" { (say("flow.car", car)) }
            }
        }
    }
}

fn node(words: &Words, kind: &str, at: (i64, i64), name: &str, w: Option<i64>) -> Markup {
    let power = w.map_or_else(|| "–".to_owned(), |w| words.power(w));
    html! {
        g class=(format!("node {kind}")) {
            circle cx=(at.0) cy=(at.1) r="34" {}
            text.power x=(at.0) y=(at.1) { (power) }
            text.name x=(at.0) y=(at.1 + 13) { (name) }
        }
    }
}

/// From `from` to `to` where `w` is above zero, the other way below.
fn arrow(kind: &str, w: Option<i64>, from: (i64, i64), to: (i64, i64)) -> Markup {
    let Some(w) = w.filter(|w| w.abs() >= NOTHING_W) else {
        return html! { path.idle d=(format!("M{} {} L{} {}", from.0, from.1, to.0, to.1)) {} };
    };
    let (from, to) = if w > 0 { (from, to) } else { (to, from) };
    let thick = (w.abs() / 900 + 3).min(10);
    let half = thick / 2 + 5;
    let (dx, dy) = ((to.0 - from.0).signum(), (to.1 - from.1).signum());
    // The shaft ends inside the head.
    let neck = (to.0 - dx * 9, to.1 - dy * 9);
    let head = if dx == 0 {
        format!("M{} {} l{half} {} h{} Z", to.0, to.1, -dy * 12, -2 * half)
    } else {
        format!("M{} {} l{} {half} v{} Z", to.0, to.1, -dx * 12, -2 * half)
    };
    html! {
        g class=(format!("arrow {kind}")) {
            path.shaft stroke-width=(thick) d=(format!("M{} {} L{} {}", from.0, from.1, neck.0, neck.1)) {}
            path.head d=(head) {}
        }
    }
}
