//! The street as a drawing: houses in a row, panels that shine while there is sun anywhere, and nothing that
//! would tell one home's day.

use maud::{Markup, html};

use super::number::is_old;
use super::words::{Language, Words};
use crate::view::{Home, Street};

/// Houses in the drawing; a longer street goes on beyond its edge.
const HOUSES_MAX: usize = 24;
/// Width of a house's ground.
const GROUND: i64 = 64;
/// Power of all roofs together from which on they shine.
const SHINES_W: i64 = 200;

/// The houses, side by side, on their street.
pub(crate) fn row(homes: &[Home]) -> Markup {
    let shown = homes.len().min(HOUSES_MAX);
    let sun: i64 = homes
        .iter()
        .filter_map(|home| home.sun_w)
        .map(|w| w.value.max(0))
        .sum();
    let count = i64::try_from(shown).unwrap_or(0).max(1);
    let wide = count * GROUND + 20;
    html! {
        svg.houses viewBox=(format!("0 0 {wide} 96")) aria-hidden="true" {
            @if sun > SHINES_W { circle.disc cx=(wide - 26) cy="20" r="11" {} }
            @for (n, home) in (0_i64..).zip(homes.iter().take(shown)) {
                (house(10 + n * GROUND, n, home.has_sun, sun > SHINES_W))
            }
            path.ground d=(format!("M0 84 H{wide}")) {}
        }
    }
}

/// One house; neighbours differ a little in height.
fn house(x: i64, n: i64, has_sun: bool, shines: bool) -> Markup {
    let top = 24 + (n * 7) % 12;
    let eaves = top + 22;
    let (left, right, middle) = (x + 8, x + GROUND - 8, x + GROUND / 2);
    html! {
        path.wall d=(format!("M{left} {eaves} V84 H{right} V{eaves} Z")) {}
        path.roof d=(format!("M{} {} L{middle} {top} L{} {} Z", left - 5, eaves + 2, right + 5, eaves + 2)) {}
        @if has_sun {
            path.panel.shines[shines] d=(format!("M{} {} L{} {} h-12 L{} {} Z",
                middle + 4, top + 5, right + 1, eaves, middle - 3, top + 5)) {}
        }
        rect.door x=(left + 6) y="66" width="9" height="18" rx="1" {}
        rect.window x=(right - 17) y=(eaves + 9) width="10" height="9" rx="1" {}
    }
}

/// The street as one picture, for a README or a wall: the newest price above, sums of all homes below.
pub(crate) fn picture(street: &Street, zone: chrono_tz::Tz, currency: &str) -> Markup {
    let words = Words {
        language: Language::English,
        zone,
        currency: currency.to_owned(),
    };
    let when = words.moment(street.now);
    let headline = super::pages::answer(&words, street);
    let fresh = |home: &Home| {
        home.sun_w
            .filter(|w| !is_old(street.now, street.open.length_s(), *w))
    };
    let sun: i64 = street
        .homes
        .iter()
        .filter_map(fresh)
        .map(|w| w.value.max(0))
        .sum();
    let grid = street.feeder_w.map(|w| {
        let word = if w.value < 0 {
            "gives to the grid"
        } else {
            "takes from the grid"
        };
        format!("{word} {}", words.power(w.value))
    });
    let sums = format!(
        "{} homes · sun {} · {}",
        street.homes.len(),
        words.power(sun),
        grid.unwrap_or_default()
    );
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 236" width="700" height="236" {
            style { (maud::PreEscaped(PICTURE_STYLE)) }
            rect.paper width="100%" height="100%" rx="14" {}
            text.when x="24" y="34" { (when) }
            text.headline x="24" y="62" { (headline) }
            svg x="20" y="84" width="660" height="104" viewBox="0 0 660 96" { (row(&street.homes)) }
            text.when x="24" y="214" { (sums) }
        }
    }
}

const PICTURE_STYLE: &str = "text{font-family:system-ui,sans-serif;fill:#1d2430}\
    .paper{fill:#f6f5f1}.when{font-size:14px;fill:#5b6675}.headline{font-size:20px;font-weight:700}\
    .wall{fill:#efe9dd}.roof{fill:#b9a893}.door{fill:#b9a893}.window{fill:#fff}.panel{fill:#33465c}\
    .panel.shines{fill:#e69f00}.disc{fill:#e69f00}.ground{stroke:#5b6675;stroke-width:2;fill:none}";
