//! The scenarios that the program brings along.

use super::RunError;
use super::scenario::RunScenario;

/// Name, text and one line of each.
pub const ALL: [(&str, &str, &str); 6] = [
    (
        "street-10",
        include_str!("../../scenarios/street-10.toml"),
        "the street of the demo: ten homes, eight with panels, a week in June",
    ),
    (
        "village-100",
        include_str!("../../scenarios/village-100.toml"),
        "a hundred drawn homes, half with panels, a week in May",
    ),
    (
        "ev-evening",
        include_str!("../../scenarios/ev-evening.toml"),
        "forty homes, most with cars that come home in the evening, dear evening hours",
    ),
    (
        "winter-week",
        include_str!("../../scenarios/winter-week.toml"),
        "thirty homes in a dark week of January",
    ),
    (
        "island-day",
        include_str!("../../scenarios/island-day.toml"),
        "thirty homes in a place where the utility pays nothing and takes much",
    ),
    (
        "dst-days",
        include_str!("../../scenarios/dst-days.toml"),
        "ten homes around the day of 92 quarter hours",
    ),
];

/// The scenario of a name; none where there is no such.
///
/// # Errors
/// Never with the built-in texts, which a test reads.
pub fn scenario(name: &str) -> Option<Result<RunScenario, RunError>> {
    let (name, text, _) = ALL.iter().find(|(known, _, _)| *known == name)?;
    Some(RunScenario::parse(&format!("{name}.toml"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_read_and_named_as_they_are() {
        for (name, _, _) in ALL {
            let scenario = super::scenario(name).unwrap().unwrap();
            assert_eq!(scenario.name, name);
            let again = RunScenario::parse("again", &scenario.to_toml().unwrap()).unwrap();
            assert_eq!(again, scenario);
        }
        assert!(super::scenario("atlantis").is_none());
    }
}
