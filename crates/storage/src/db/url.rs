//! Adding parameters to a libpq connection string, in either of its two forms.

use std::fmt::Write as _;

/// Server settings (`-c name=value`) and connection keywords to put into a connection string.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) keywords: Vec<(&'static str, String)>,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// The connection string with `extras` added. Keywords already present keep their value: what the operator wrote
/// wins. Server settings are put before the operator's own `options`, and the server lets the last one win.
pub(crate) fn with_extras(url: &str, extras: &Extras) -> String {
    let ours = extras.settings.iter().fold(String::new(), |mut all, (name, value)| {
        let gap = if all.is_empty() { "" } else { " " };
        write!(all, "{gap}-c {name}={value}").expect("writing to a String");
        all
    });
    if is_uri(url) { extend_uri(url, extras, &ours) } else { extend_keywords(url, extras, &ours) }
}

/// The same server, another database.
///
/// Only the database's name changes; user, host, password and parameters stay.
pub fn with_database(url: &str, database: &str) -> String {
    if !is_uri(url) {
        return format!("{url} dbname='{}'", quote(database)); // the last of two equal keywords wins
    }
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority_at = base.find("://").map_or(0, |at| at + 3);
    let path_at = base[authority_at..].find('/').map_or(base.len(), |at| authority_at + at);
    let mut out = format!("{}/{}", &base[..path_at], percent_encode(database));
    if let Some(query) = query {
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("dbname=")).collect();
        out.push('?');
        out.push_str(&kept.join("&"));
    }
    out
}

/// The database that a connection string names, if it names one.
pub fn database_of(url: &str) -> Option<String> {
    if !is_uri(url) {
        return keyword_value(url, "dbname");
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority_at = base.find("://").map_or(0, |at| at + 3);
    let from_path =
        base[authority_at..].split_once('/').map(|(_, name)| name).filter(|name| !name.is_empty());
    query.split('&').find_map(|pair| pair.strip_prefix("dbname=")).or(from_path).map(percent_decode)
}

fn is_uri(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn extend_uri(url: &str, extras: &Extras, ours: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    for (key, value) in &extras.keywords {
        if !pairs.iter().any(|(have, _)| have == key) {
            pairs.push(((*key).to_owned(), percent_encode(value)));
        }
    }
    if !ours.is_empty() {
        match pairs.iter_mut().find(|(key, _)| key == "options") {
            Some((_, theirs)) => *theirs = format!("{}%20{theirs}", percent_encode(ours)),
            None => pairs.push(("options".to_owned(), percent_encode(ours))),
        }
    }
    let query: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    if query.is_empty() { base.to_owned() } else { format!("{base}?{}", query.join("&")) }
}

fn extend_keywords(url: &str, extras: &Extras, ours: &str) -> String {
    let mut out = url.trim().to_owned();
    for (key, value) in &extras.keywords {
        if keyword_value(url, key).is_none() {
            write!(out, " {key}='{}'", quote(value)).expect("writing to a String");
        }
    }
    if !ours.is_empty() {
        let all = match keyword_value(url, "options") {
            Some(theirs) => format!("{ours} {theirs}"),
            None => ours.to_owned(),
        };
        write!(out, " options='{}'", quote(&all)).expect("writing to a String");
    }
    out
}

/// The last value of `wanted` in libpq's `keyword = value` form (values may be quoted, with `\` escapes).
fn keyword_value(conninfo: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let mut rest = conninfo.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let mut chars = after.trim_start().char_indices().peekable();
        let text = after.trim_start();
        let quoted = text.starts_with('\'');
        if quoted {
            chars.next();
        }
        let (mut value, mut end) = (String::new(), text.len());
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                '\'' if quoted => {
                    end = at + 1;
                    break;
                }
                c if !quoted && c.is_whitespace() => {
                    end = at;
                    break;
                }
                c => value.push(c),
            }
        }
        if key.trim() == wanted {
            found = Some(value);
        }
        rest = text[end..].trim_start();
    }
    found
}

fn quote(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String");
        }
    }
    out
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extras() -> Extras {
        Extras {
            keywords: vec![("connect_timeout", "3".into()), ("application_name", "plimsoll-http".into())],
            settings: vec![("statement_timeout", "5000".into()), ("lock_timeout", "2000".into())],
        }
    }

    #[test]
    fn a_plain_uri_gets_everything() {
        assert_eq!(
            with_extras("postgres://u:p%40@db.example:5433/app", &extras()),
            "postgres://u:p%40@db.example:5433/app?connect_timeout=3&application_name=plimsoll-http\
             &options=-c%20statement_timeout%3D5000%20-c%20lock_timeout%3D2000"
        );
    }

    #[test]
    fn what_the_operator_wrote_stays() {
        assert_eq!(
            with_extras(
                "postgresql:///app?host=/run/pg&connect_timeout=9&options=-c%20geqo%3Doff",
                &extras()
            ),
            "postgresql:///app?host=/run/pg&connect_timeout=9\
             &options=-c%20statement_timeout%3D5000%20-c%20lock_timeout%3D2000%20-c%20geqo%3Doff\
             &application_name=plimsoll-http"
        );
    }

    #[test]
    fn the_keyword_form_is_extended_in_its_own_way() {
        assert_eq!(
            with_extras(r"host=/run/pg password='a b\'c=d' connect_timeout = 9", &extras()),
            r"host=/run/pg password='a b\'c=d' connect_timeout = 9 application_name='plimsoll-http' options='-c statement_timeout=5000 -c lock_timeout=2000'"
        );
        assert_eq!(keyword_value(r"password='a b\'c=d' user=x", "password").as_deref(), Some("a b'c=d"));
        assert_eq!(keyword_value("user=x  dbname = y", "dbname").as_deref(), Some("y"));
    }

    #[test]
    fn another_database_on_the_same_server() {
        for (url, expected) in [
            ("postgres://u@h:1/app?sslmode=require", "postgres://u@h:1/other?sslmode=require"),
            ("postgres://u@h", "postgres://u@h/other"),
            ("postgresql:///app?host=/run/pg&dbname=x", "postgresql:///other?host=/run/pg"),
            ("host=h dbname=app", "host=h dbname=app dbname='other'"),
        ] {
            let changed = with_database(url, "other");
            assert_eq!(changed, expected);
            assert_eq!(database_of(&changed).as_deref(), Some("other"), "{url}");
        }
        assert_eq!(database_of("postgres://u@h"), None);
        assert_eq!(database_of("postgres://u@h/a%20b").as_deref(), Some("a b"));
    }
}
