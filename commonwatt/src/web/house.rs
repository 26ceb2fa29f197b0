//! The street as a drawing: houses in a row, panels that shine while there is sun anywhere, and nothing that
//! would tell one home's day.

use maud::{Markup, html};

use super::pages::{HOMES_MIN, sum_w};
use super::words::{Language, Words};
use crate::view::Street;

/// Houses in the drawing; a longer street goes on beyond its edge.
const HOUSES_MAX: usize = 24;
/// Width of a house's ground.
const GROUND: i64 = 64;
/// Power of all roofs together from which on they shine.
const SHINES_W: i64 = 200;

/// The houses, side by side, on their street. They shine by the sum of all roofs, where that hides each of them.
pub(crate) fn row(street: &Street) -> Markup {
    let homes = &street.homes;
    let shown = homes.len().min(HOUSES_MAX);
    let shines = sum_w(street, |home| home.sun_w).is_some_and(|sun| sun > SHINES_W);
    let count = i64::try_from(shown).unwrap_or(0).max(1);
    let wide = count * GROUND + 20;
    html! {
        svg.houses viewBox=(format!("0 0 {wide} 96")) aria-hidden="true" {
            @if shines { circle.disc cx=(wide - 26) cy="20" r="11" {} }
            @for (n, home) in (0_i64..).zip(homes.iter().take(shown)) {
                (house(10 + n * GROUND, n, home.has_sun, shines))
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

/// The street as one picture, for a README or a wall: the newest price above, sums of all homes below; none of a sum that does not hide
/// each home.
pub(crate) fn picture(street: &Street, zone: chrono_tz::Tz, currency: &str) -> Markup {
    let words = Words {
        language: Language::English,
        zone,
        currency: currency.to_owned(),
    };
    let when = words.moment(street.now);
    let headline = super::pages::answer(&words, street);
    let mut sums = vec![format!("{} homes", street.homes.len())];
    let sun = sum_w(street, |home| home.sun_w);
    sums.extend(sun.map(|w| format!("sun {}", words.power(w))));
    let feeder = street.feeder_w.filter(|_| street.homes.len() >= HOMES_MIN);
    sums.extend(feeder.map(|w| {
        let word = if w.value < 0 {
            "gives to the grid"
        } else {
            "takes from the grid"
        };
        format!("{word} {}", words.power(w.value))
    }));
    let sums = sums.join(" · ");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 236" width="700" height="236" {
            style { (maud::PreEscaped(PICTURE_STYLE)) }
            rect.paper width="100%" height="100%" rx="14" {}
            text.when x="24" y="34" { (when) }
            text.headline x="24" y="62" { (headline) }
            svg x="20" y="84" width="660" height="104" viewBox="0 0 660 96" { (row(street)) }
            text.when x="24" y="214" { (sums) }
        }
    }
}

const PICTURE_STYLE: &str = "text{font-family:system-ui,sans-serif;fill:#1d2430}\
    .paper{fill:#f6f5f1}.when{font-size:14px;fill:#5b6675}.headline{font-size:20px;font-weight:700}\
    .wall{fill:#efe9dd}.roof{fill:#b9a893}.door{fill:#b9a893}.window{fill:#fff}.panel{fill:#33465c}\
    .panel.shines{fill:#e69f00}.disc{fill:#e69f00}.ground{stroke:#5b6675;stroke-width:2;fill:none}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Day, Fresh, Home, Log};
    use domain::ids::ParticipantId;
    use domain::money::Price;
    use domain::time::{Interval, Timestamp};

    fn street(homes: usize, suns: usize) -> Street {
        let now = Timestamp::from_unix_s(1_000_000);
        let fresh = |value| {
            Some(Fresh {
                value,
                read_at: now,
            })
        };
        let home = |n: usize| Home {
            id: ParticipantId::new(format!("h-{n}")).unwrap(),
            net_w: None,
            sun_w: fresh(4_321).filter(|_| n < suns),
            battery_w: None,
            soc_permille: None,
            car_w: None,
            has_sun: true,
            has_battery: false,
            has_car: false,
            day: Day::default(),
        };
        Street {
            community: "c".to_owned(),
            now,
            speed: 1,
            open: Interval::containing(now, 900).unwrap(),
            gate_closes: now,
            retail: Price::from_micro_per_kwh(310_000),
            feed_in: Price::from_micro_per_kwh(80_000),
            homes: (0..homes).map(home).collect(),
            feeder_w: fresh(7_654),
            orders: Vec::new(),
            suggestions: Vec::new(),
            cleared: None,
            prices: Vec::new(),
            settled: now,
            log: Log::default(),
        }
    }

    #[test]
    fn the_public_picture_has_no_sum_that_shows_a_single_home() {
        let drawn =
            |homes, suns| picture(&street(homes, suns), chrono_tz::UTC, "EUR").into_string();
        let one = drawn(6, 1);
        assert!(!one.contains("4.3") && !one.contains("sun ") && !one.contains("<circle"));
        assert!(!one.contains("panel shines") && one.contains("takes from the grid"));
        let few = drawn(4, 4);
        assert!(!few.contains("the grid") && !few.contains("sun ") && !few.contains("<circle"));
        let enough = drawn(5, 5);
        assert!(
            enough.contains("sun 21.6") && enough.contains("7.7") && enough.contains("<circle")
        );
    }
}
