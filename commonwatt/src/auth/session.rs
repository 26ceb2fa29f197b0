//! How long a session lives, and its cookie. Pure.

use domain::time::Timestamp;

use super::role::Roles;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How exactly it is kept when a session was last seen: not every request is a write.
pub(super) const SEEN_EVERY_MS: i64 = 5 * 60_000;

/// When a session ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Life {
    idle_ms: i64,
    absolute_ms: i64,
}

/// A household's phone stays signed in; who can do harm to others signs in every day.
const fn life(roles: Roles) -> Life {
    if roles.are_privileged() {
        Life {
            idle_ms: 12 * HOUR_MS,
            absolute_ms: 7 * DAY_MS,
        }
    } else {
        Life {
            idle_ms: 30 * DAY_MS,
            absolute_ms: 180 * DAY_MS,
        }
    }
}

/// Whether a session is still good.
pub(super) fn lives(roles: Roles, created: Timestamp, seen: Timestamp, now: Timestamp) -> bool {
    let life = life(roles);
    // A session from the future is one of a clock that was set back: it does not last longer for that.
    now.ms_since(created) < life.absolute_ms
        && now.ms_since(seen) < life.idle_ms
        && created.ms_since(now) < HOUR_MS
}

/// The longest that any session lives: what is older can be deleted.
pub(super) const LONGEST_MS: i64 = 180 * DAY_MS;

/// The cookie's name. With TLS it is one that browsers take only from this very host.
pub(super) const fn cookie_name(secure: bool) -> &'static str {
    if secure {
        "__Host-commonwatt"
    } else {
        "commonwatt"
    }
}

/// The header that sets the cookie, or takes it away where there is no session.
pub(super) fn set_cookie(secure: bool, session: Option<&str>) -> String {
    let (name, tls) = (cookie_name(secure), if secure { "; Secure" } else { "" });
    let (value, age_s) = match session {
        Some(session) => (session, LONGEST_MS / 1000),
        None => ("", 0),
    };
    format!("{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{tls}")
}

/// The session's secret in a request's cookies.
pub(super) fn from_cookies(cookies: &str, secure: bool) -> Option<&str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    let mut own = pairs.filter(|(name, _)| name.trim() == cookie_name(secure));
    own.next().map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::super::role::Role;
    use super::*;

    #[test]
    fn a_session_ends_when_nobody_comes_and_in_the_end_anyway() {
        let start = Timestamp::from_unix_s(1_782_000_000);
        let home: Roles = [Role::Home].into_iter().collect();
        let operator: Roles = [Role::Operator].into_iter().collect();
        let after = |ms| start.plus_ms(ms);
        let idle = |roles, ms| lives(roles, start, start, after(ms));
        assert!(idle(home, 30 * DAY_MS - 1) && !idle(home, 30 * DAY_MS));
        assert!(idle(operator, 12 * HOUR_MS - 1) && !idle(operator, 12 * HOUR_MS));
        let busy = |roles, ms| lives(roles, start, after(ms), after(ms));
        assert!(busy(home, 180 * DAY_MS - 1) && !busy(home, 180 * DAY_MS));
        assert!(busy(operator, 7 * DAY_MS - 1) && !busy(operator, 7 * DAY_MS));
        assert!(
            !lives(home, after(2 * HOUR_MS), start, start),
            "from the future"
        );
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_found_among_others() {
        let plain = set_cookie(false, Some("abc"));
        assert!(plain.starts_with("commonwatt=abc; Path=/;"), "{plain}");
        assert!(plain.contains("HttpOnly; SameSite=Lax") && !plain.contains("Secure"));
        let tls = set_cookie(true, Some("abc"));
        assert!(tls.starts_with("__Host-commonwatt=abc") && tls.ends_with("; Secure"));
        assert!(set_cookie(false, None).contains("commonwatt=; Path=/; Max-Age=0"));
        assert_eq!(from_cookies("a=1; commonwatt=abc; b=2", false), Some("abc"));
        assert_eq!(from_cookies("a=1; commonwatt=abc", true), None);
        assert_eq!(from_cookies("", false), None);
    }
}
