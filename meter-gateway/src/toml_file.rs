//! TOML files written by people: an error names the file, the line and the key.

use serde::de::DeserializeOwned;

/// What is wrong with a TOML file, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}, line {line}, key `{key}`: {message}")]
pub struct TomlError {
    /// The file's name as it was given.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// The key on that line, or the table's header.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Parses `text` into a `T` that denies unknown keys.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
        let key = key_at(text, offset);
        // What stands there may be the password itself.
        let message = match key {
            "password" => "a password is a text in quotes".to_owned(),
            _ => error.message().replace('\n', " "),
        };
        TomlError {
            file: file.to_owned(),
            line,
            key: key.to_owned(),
            message,
        }
    })
}

/// An error at `key` of the `index`th `[[table]]`, or at the first `key` where `table` is empty.
pub(crate) fn wrong_value(
    text: &str,
    file: &str,
    (table, index): (&str, usize),
    key: &str,
    message: impl Into<String>,
) -> TomlError {
    let header = format!("[[{table}]]");
    let lines = || text.lines().enumerate();
    let has_key = |(_, line): &(usize, &str)| key_of(line) == key;
    let (start, found) = if table.is_empty() {
        (0, lines().find(has_key))
    } else {
        let start = lines().filter(|(_, line)| line.trim() == header).nth(index);
        let start = start.map_or(0, |(line, _)| line);
        let own = lines()
            .skip(start + 1)
            .take_while(|(_, line)| !line.starts_with('['));
        (start, own.into_iter().find(has_key))
    };
    let line = found.map_or(start, |(line, _)| line) + 1;
    TomlError {
        file: file.to_owned(),
        line,
        key: key.to_owned(),
        message: message.into(),
    }
}

/// An error at `key` of the table that begins at `span`: an inline table, or one with a header.
pub(crate) fn wrong_at(
    text: &str,
    file: &str,
    span: std::ops::Range<usize>,
    key: &str,
    message: impl Into<String>,
) -> TomlError {
    let start = span.start.min(text.len());
    let rest = text.get(start..).unwrap_or_default();
    // The span of a table with a header is the header's.
    let own = if rest.starts_with('{') {
        text.get(start..span.end).unwrap_or_default()
    } else {
        rest.find("\n[").map_or(rest, |end| &rest[..end])
    };
    let is_key = |at: usize| {
        let before = own[..at].chars().next_back();
        let after = own[at + key.len()..].trim_start();
        after.starts_with('=') && !before.is_some_and(is_key_char)
    };
    let mut found = own.match_indices(key).map(|(at, _)| at);
    let at = start + found.find(|at| is_key(*at)).unwrap_or(0);
    let line = text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
    TomlError {
        file: file.to_owned(),
        line,
        key: key.to_owned(),
        message: message.into(),
    }
}

const fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The key that stands at, or before, `offset` on its line.
fn key_at(text: &str, offset: usize) -> &str {
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let (before, after) = (
        &before[line_start..],
        text.get(offset..).unwrap_or_default(),
    );
    let own = after.split(|c| !is_key_char(c)).next().unwrap_or_default();
    let is_key = !own.is_empty() && after[own.len()..].trim_start().starts_with('=');
    if is_key {
        return own;
    }
    match before.rsplit_once('=') {
        Some((left, _)) => left
            .trim_end()
            .rsplit(|c| !is_key_char(c))
            .next()
            .unwrap_or_default(),
        None => key_of(after.lines().next().unwrap_or_default()),
    }
}

fn key_of(line: &str) -> &str {
    let key = line.split('=').next().unwrap_or_default();
    key.trim().trim_start_matches(['{', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[allow(dead_code, reason = "only its type matters")]
        size: u32,
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let unknown = parse::<Example>("size = 1\ncolour = 3\n", "a.toml").unwrap_err();
        assert_eq!((unknown.line, unknown.key.as_str()), (2, "colour"));
        assert!(
            unknown
                .to_string()
                .starts_with("a.toml, line 2, key `colour`: unknown field")
        );
        let kind = parse::<Example>("# note\nsize = \"big\"\n", "a.toml").unwrap_err();
        assert_eq!((kind.line, kind.key.as_str()), (2, "size"));
        let text = "[[x]]\nname = 1\n[[x]]\nname = 2\n";
        assert_eq!(
            wrong_value(text, "a.toml", ("x", 0), "size", "missing").line,
            1
        );
        assert_eq!(
            wrong_value(text, "a.toml", ("x", 1), "name", "taken").line,
            4
        );
    }
}
