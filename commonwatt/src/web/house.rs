//! A home as a small drawing: roof in the sun's colour while it shines, battery by its level, car when
//! it charges, and an arrow to or from the street.

use maud::{Markup, html};

use crate::view::{Fresh, Home, Street};

/// A home, 100 × 84 units.
pub(crate) fn drawing(home: &Home) -> Markup {
    let shines = home.sun_w.is_some_and(|sun| sun.value > 50);
    let net = home.net_w.map_or(0, |net| net.value);
    html! {
        svg viewBox="0 0 100 84" role="img" aria-label=(words(home)) {
            path.wall d="M20 40 H80 V74 H20 Z" {}
            path.roof d="M12 42 L50 12 L88 42 Z" {}
            @if home.has_sun {
                path.panel.shines[shines] d="M54 19 L82 41 H66 L46 25 Z" {}
            }
            rect.door x="30" y="54" width="11" height="20" rx="1" {}
            @if home.has_battery { (battery(home.soc_permille.unwrap_or(0))) }
            @if home.has_car { (car(home.car_w.is_some_and(|car| car.value > 0))) }
            (arrow(net))
        }
    }
}

/// The street's connection to the grid.
pub(crate) fn transformer(feeder: Option<Fresh>) -> Markup {
    // Power into the street leaves the transformer downwards, like a home that gives.
    let towards_street = feeder.map_or(0, |w| -w.value);
    html! {
        svg viewBox="0 0 100 84" role="img" aria-label="transformer" {
            circle.coil cx="50" cy="28" r="17" {}
            circle.coil cx="50" cy="48" r="17" {}
            path.wire d="M50 4 V11" {}
            (arrow(towards_street))
        }
    }
}

fn battery(soc_permille: i64) -> Markup {
    let level = soc_permille.clamp(0, 1000) * 18 / 1000;
    html! {
        rect.cell x="48" y="53" width="12" height="21" rx="2" {}
        rect.level x="49.5" y=(73 - level) width="9" height=(level) {}
    }
}

fn car(charging: bool) -> Markup {
    html! {
        path.car.charging[charging] d="M64 74 v-6 l4 -6 h14 l5 6 h3 v6 Z" {}
        circle.wheel cx="69" cy="75" r="2.6" {}
        circle.wheel cx="84" cy="75" r="2.6" {}
    }
}

/// Down to the street where the home gives, up where it takes; thicker with more power.
fn arrow(net_w: i64) -> Markup {
    if net_w.abs() < 20 {
        return html! {};
    }
    let width = (net_w.abs() / 800 + 2).min(6);
    // The head grows with the shaft, and the shaft ends inside it.
    let half = width + 2;
    let (class, shaft, head) = if net_w < 0 {
        (
            "flow gives",
            "M10 54 V72".to_owned(),
            format!("M10 80 l-{half} -9 h{} Z", 2 * half),
        )
    } else {
        (
            "flow takes",
            "M10 62 V80".to_owned(),
            format!("M10 54 l-{half} 9 h{} Z", 2 * half),
        )
    };
    html! {
        path class=(class) stroke-width=(width) d=(shaft) {}
        path class=(class) d=(head) {}
    }
}

fn words(home: &Home) -> String {
    let mut parts = vec![home.id.to_string()];
    for (has, name) in [
        (home.has_sun, "solar roof"),
        (home.has_battery, "battery"),
        (home.has_car, "charger"),
    ] {
        if has {
            parts.push(name.to_owned());
        }
    }
    parts.join(", ")
}

/// The street as one picture, for a README or a wall: homes in a row, power under each, the headline above.
pub(crate) fn picture(street: &Street) -> Markup {
    const CELL: usize = 112;
    let columns = 6;
    let width = CELL * columns + 20;
    let headline = super::street::answer(street);
    let when = street
        .now
        .to_chrono()
        .map(|t| t.format("%-d %B %Y, %H:%M UTC").to_string());
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} 360")) width=(width) height="360" {
            style { (maud::PreEscaped(PICTURE_STYLE)) }
            rect.paper width="100%" height="100%" rx="14" {}
            text.when x="22" y="32" { (when.unwrap_or_default()) }
            text.headline x="22" y="58" { (headline) }
            @for (index, home) in street.homes.iter().enumerate() {
                (cell(index, columns, CELL, &drawing(home), home.id.as_str(), home.net_w, ("takes", "gives")))
            }
            (cell(street.homes.len(), columns, CELL, &transformer(street.feeder_w), "grid", street.feeder_w,
                ("gives", "takes")))
        }
    }
}

/// One drawing with its name and its power; `words` are for a value above and below zero.
fn cell(
    index: usize,
    columns: usize,
    size: usize,
    drawing: &Markup,
    name: &str,
    power: Option<Fresh>,
    words: (&str, &str),
) -> Markup {
    let (x, y) = (index % columns * size + 16, index / columns * 140 + 76);
    let flow = power.map(|w| match w.value {
        0 => "balanced".to_owned(),
        w if w < 0 => format!("{} {}", words.1, crate::view::power_text(w)),
        w => format!("{} {}", words.0, crate::view::power_text(w)),
    });
    html! {
        svg x=(x) y=(y) width="100" height="84" viewBox="0 0 100 84" { (drawing) }
        text.name x=(x + 50) y=(y + 98) { (name) }
        text.flowing x=(x + 50) y=(y + 115) { (flow.unwrap_or_default()) }
    }
}

const PICTURE_STYLE: &str = "text{font-family:system-ui,sans-serif;fill:#1d2430}\
    .paper{fill:#f6f5f1}.when{font-size:13px;fill:#5b6675}.headline{font-size:20px;font-weight:700}\
    .name{font-size:12px;font-weight:600;text-anchor:middle}.flowing{font-size:12px;fill:#5b6675;text-anchor:middle}\
    .wall{fill:#efe9dd}.roof{fill:#b9a893}.door{fill:#b9a893}.panel{fill:#33465c}.panel.shines{fill:#e69f00}\
    .cell{fill:none;stroke:#0072b2;stroke-width:1.6}.level{fill:#0072b2}.car{fill:#5b6675}\
    path.car.charging{fill:#56b4e9}.wheel{fill:#1d2430}.coil{fill:none;stroke:#5b6b7a;stroke-width:4}\
    .wire{stroke:#5b6b7a;stroke-width:3}\
    .flow.gives{stroke:#009e73;fill:#009e73}.flow.takes{stroke:#5b6b7a;fill:#5b6b7a}";
