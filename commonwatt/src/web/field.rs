//! Numbers as people type them into a field: with a point or a comma, without a unit.

/// `12`, `12.5` or `12,5` in steps of 10^-`decimals`; none where it is no such number, has more decimals, or more than
/// `digits` before them.
pub(crate) fn decimal(text: &str, decimals: usize, digits: usize) -> Option<i64> {
    let text = text.trim();
    let (whole, part) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let is_number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let fits = (1..=digits).contains(&whole.len()) && part.len() <= decimals;
    if !fits || !is_number(whole) || !is_number(part) {
        return None;
    }
    format!("{whole}{part:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_point_or_a_comma_and_nothing_else() {
        assert_eq!(decimal("12", 3, 6), Some(12_000));
        assert_eq!(decimal(" 7,5 ", 3, 6), Some(7_500));
        assert_eq!(decimal("0.001", 3, 6), Some(1));
        for bad in [
            "", ".", "-1", "+1", "1.2345", "1.2.3", "1e3", "1234567", "x", "٣",
        ] {
            assert_eq!(decimal(bad, 3, 6), None, "{bad}");
        }
    }
}
