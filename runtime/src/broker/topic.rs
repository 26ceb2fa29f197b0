//! Topic names and filters: what is well formed, and what matches what.

/// The longest topic or filter, in bytes.
pub(super) const MAX_TOPIC_BYTES: usize = 512;

/// Whether `topic` may be published to: not empty, no wildcard, no NUL, not too long.
pub(super) fn is_topic(topic: &str) -> bool {
    is_text(topic) && !topic.contains(['+', '#'])
}

/// Whether `filter` may be subscribed to: `+` and `#` stand alone in their level, `#` is last.
pub(super) fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').rev();
    let last_ok = levels
        .next()
        .is_some_and(|last| last == "#" || is_level(last));
    is_text(filter) && last_ok && levels.all(is_level)
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOPIC_BYTES && !text.contains('\0')
}

fn is_level(level: &str) -> bool {
    level == "+" || !level.contains(['+', '#'])
}

/// Splits `$share/group/filter`; `None` for the group of a plain filter. `Err` where the share is
/// malformed.
pub(super) fn split_share(filter: &str) -> Result<(Option<&str>, &str), ()> {
    let Some(share) = filter.strip_prefix("$share/") else {
        return Ok((None, filter));
    };
    match share.split_once('/') {
        Some((group, inner)) if !group.is_empty() && !group.contains(['+', '#']) => {
            Ok((Some(group), inner))
        }
        _ => Err(()),
    }
}

/// Whether everything that `inner` (a topic, or a filter) matches is matched by `filter` too.
///
/// A wildcard in the first level does not match a topic that starts with `$`.
pub(super) fn covers(filter: &str, inner: &str) -> bool {
    if inner.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut inner_levels = inner.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match inner_levels.next() {
            Some("#") | None => return false,
            Some(_) if level == "+" => {}
            Some(same) if same == level => {}
            Some(_) => return false,
        }
    }
    inner_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_topics_are_checked() {
        for good in ["a", "a/b", "/", "+", "#", "a/+/b", "a/#", "$SYS/x", "é/ü"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a+/b", "#/a", "a/++", "a\0"] {
            assert!(!is_filter(bad), "{bad}");
        }
        assert!(is_topic("é/a") && !is_topic("a/+") && !is_topic("#") && !is_topic(""));
        assert!(!is_topic(&"a".repeat(MAX_TOPIC_BYTES + 1)));
    }

    #[test]
    fn covers_is_matching_for_topics_and_inclusion_for_filters() {
        for (filter, inner, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("+", "é", true),
            ("+/+", "/a", true),
            ("cw/v1/+/reading", "cw/v1/+/reading", true),
            ("cw/v1/+/reading", "cw/v1/#", false),
            ("cw/v1/a/#", "cw/v1/+/x", false),
            ("cw/#", "cw/+/#", true),
            ("a", "a/#", false),
        ] {
            assert_eq!(covers(filter, inner), expected, "{filter} covers {inner}");
        }
    }

    #[test]
    fn shares_are_split() {
        assert_eq!(split_share("a/b"), Ok((None, "a/b")));
        assert_eq!(split_share("$share/g/a/+"), Ok((Some("g"), "a/+")));
        assert!(split_share("$share/g").is_err() && split_share("$share//a").is_err());
    }
}
