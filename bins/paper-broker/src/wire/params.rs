use std::str::FromStr;

use actix_web::web::Query;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use plimsoll_paper_exchange::Refusal;
use rust_decimal::Decimal;
use uuid::Uuid;

/// Query parameters, read as clients of the Trading API write them: booleans in any case (`True`), lists with commas,
/// times as RFC 3339 or dates. An empty value counts as absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        Query::<Vec<(String, String)>>::from_query(query)
            .map(|pairs| Self(pairs.into_inner()))
            .map_err(|_| Refusal::new(400, 40_010_000, "query string is invalid"))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// `None` where it is absent or `null`, as Python writes it.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "0" | "none" | "null") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(_) => Err(invalid(name)),
        }
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.text(name).map(|text| text.parse().map_err(|_| invalid(name))).transpose()
    }

    /// A value of a closed set.
    pub(crate) fn one_of<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        self.text(name).map(|text| parse(text).ok_or_else(|| invalid(name))).transpose()
    }

    pub(crate) fn id(&self, name: &str) -> Result<Option<Uuid>, Refusal> {
        self.parsed(name)
    }

    pub(crate) fn decimal(&self, name: &str) -> Result<Option<Decimal>, Refusal> {
        self.one_of(name, plimsoll_paper_exchange::decimal_text::parse)
    }

    pub(crate) fn date(&self, name: &str) -> Result<Option<NaiveDate>, Refusal> {
        self.one_of(name, |text| text.get(..10).and_then(|day| day.parse().ok()))
    }

    /// An RFC 3339 time; a time without an offset is UTC, a date its first instant.
    pub(crate) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
        self.one_of(name, time)
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    // an unescaped plus sign of an offset arrives as a space
    let text = text.replace(' ', "+");
    if let Ok(at) = DateTime::parse_from_rfc3339(&text) {
        return Some(at.to_utc());
    }
    if let Ok(at) = NaiveDateTime::from_str(&text.replacen('+', "T", 1)) {
        return Some(at.and_utc());
    }
    text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|at| at.and_utc())
}

fn invalid(name: &str) -> Refusal {
    Refusal::new(422, 40_010_001, format!("invalid {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_come_in_any_case() {
        let params = Params::parse("a=True&b=FALSE&c=1&d=maybe").unwrap();
        assert!(params.flag("a").unwrap());
        assert!(!params.flag("b").unwrap());
        assert!(params.flag("c").unwrap());
        assert!(!params.flag("absent").unwrap());
        assert_eq!(params.flag("d").unwrap_err().http_status, 422);
    }

    #[test]
    fn times_have_offsets_fractions_or_neither() {
        for (text, expected) in [
            ("2026-01-02T00%3A00%3A00%2B00%3A00", "2026-01-02T00:00:00Z"),
            ("2026-01-02T00:00:00+00:00", "2026-01-02T00:00:00Z"),
            ("2026-01-02T05:00:00.123456789-05:00", "2026-01-02T10:00:00.123456789Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
            ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ] {
            let params = Params::parse(&format!("after={text}")).unwrap();
            let expected: DateTime<Utc> = expected.parse().unwrap();
            assert_eq!(params.time("after").unwrap(), Some(expected), "{text}");
        }
        assert!(Params::parse("after=yesterday").unwrap().time("after").is_err());
    }

    #[test]
    fn lists_are_split_at_commas() {
        assert_eq!(Params::parse("symbols=A%2C+B,,C").unwrap().list("symbols"), ["A", "B", "C"]);
        assert!(Params::parse("symbols=").unwrap().list("symbols").is_empty());
    }
}
