//! Texts of values: durations, rates, addresses.

use std::num::NonZeroU32;
use std::time::Duration;

use plimsoll_api::proxies::TrustedProxies;
use plimsoll_api::state::OrderRate;
use plimsoll_auth::IpNetwork;
use plimsoll_crypto::KeyForm;
use secrecy::SecretString;

/// `90s`, `15m`, `48h`, `7d`, `250ms`: a whole number and one unit; more than nothing.
///
/// # Errors
/// A sentence that says how durations are written.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration: write a whole number and a unit, such as 90s, 15m or 48h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(millis).ok_or_else(wrong)?;
    if millis == 0 {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(Duration::from_millis(millis))
}

/// How long audit entries are kept: `off` for ever, or a duration of a week and more.
///
/// # Errors
/// Why not, for a person.
pub(super) fn audit_retention(text: &str) -> Result<Option<Duration>, String> {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    match text {
        "off" => Ok(None),
        text => match duration(text)? {
            keep if keep >= WEEK => Ok(Some(keep)),
            _ => Err("must be `off` or at least 7d".to_owned()),
        },
    }
}

/// The shortest text that [`duration`] reads back.
#[must_use]
pub fn show_duration(value: Duration) -> String {
    let millis = value.as_millis();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

/// `off`, or `50/s,200`: a rate a second and a burst.
///
/// # Errors
/// A sentence that says how rates are written.
pub fn order_rate(text: &str) -> Result<Option<OrderRate>, String> {
    if text == "off" {
        return Ok(None);
    }
    let parts = || -> Option<OrderRate> {
        let (rate, burst) = text.split_once(',')?;
        let per_second: NonZeroU32 = rate.trim().strip_suffix("/s")?.parse().ok()?;
        let burst: NonZeroU32 = burst.trim().parse().ok()?;
        Some(OrderRate { per_second, burst })
    };
    let rate = parts().ok_or_else(|| {
        format!("`{text}` is no rate: write requests a second and at once, such as 50/s,200, or off")
    })?;
    if rate.burst < rate.per_second {
        return Err("the second number, requests at once, must not be below the rate".to_owned());
    }
    Ok(Some(rate))
}

/// `off`, or `60/min`: so many in a minute, all of them at once if they come so.
///
/// # Errors
/// A sentence that says how rates are written.
pub(super) fn signal_rate(text: &str) -> Result<Option<NonZeroU32>, String> {
    if text == "off" {
        return Ok(None);
    }
    let rate = text.trim().strip_suffix("/min").and_then(|number| number.parse().ok());
    rate.map(Some)
        .ok_or_else(|| format!("`{text}` is no rate: write signals a minute, such as 60/min, or off"))
}

/// A web address without path, query and user, such as `https://trade.example.org`; without a slash at its end.
///
/// # Errors
/// What is wrong with it.
pub fn origin(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").ok_or("must begin with https:// or http://".to_owned())?;
    if scheme != "https" && scheme != "http" {
        return Err("must begin with https:// or http://".to_owned());
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains(['/', '?', '#', '@', '*']) {
        return Err("must be scheme, host and port only".to_owned());
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let good_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if !good_name || !good_port {
        return Err("has no valid host and port".to_owned());
    }
    // browsers leave the scheme's own port out
    let own_port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(own_port).unwrap_or(host);
    Ok(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// `true` or `false`.
///
/// # Errors
/// A sentence that says so.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

/// Addresses and networks, comma-separated, such as `10.0.0.0/8,192.0.2.7`.
///
/// # Errors
/// Which one is none.
pub(super) fn proxies(text: &str) -> Result<TrustedProxies, String> {
    networks(text).map(TrustedProxies::new)
}

/// Networks, comma-separated.
pub(super) fn networks(text: &str) -> Result<Vec<IpNetwork>, String> {
    let network = |item: &str| item.parse::<IpNetwork>().map_err(|why| format!("`{item}`: {why}"));
    list(text).map(network).collect()
}

/// Comma-separated items, trimmed, without empty ones.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Earlier master keys: one a line where the text has a line break, even if only at its end; else comma-separated. Keys
/// in hexadecimal or base64, which have no comma, may share a line.
///
/// # Errors
/// Why one of them is no key; never any part of it.
pub(super) fn old_keys(text: &str) -> Result<Vec<SecretString>, String> {
    let form = |key: &str| KeyForm::of(key).map_err(|why| why.to_string());
    let kept = |key: &str| SecretString::from(key.to_owned());
    if !text.contains('\n') {
        let keys: Vec<&str> = list(text).collect();
        return match keys.iter().try_for_each(|key| form(key).map(drop)) {
            Ok(()) => Ok(keys.into_iter().map(kept).collect()),
            Err(why) if keys.len() > 1 => Err(format!(
                "{why} (a pass phrase with a comma stands on a line of its own, which ends with a line break)"
            )),
            Err(why) => Err(why),
        };
    }
    let encoded = |key: &str| matches!(KeyForm::of(key), Ok(KeyForm::Hex | KeyForm::Base64));
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if list(line).all(encoded) {
            keys.extend(list(line).map(kept));
        } else {
            form(line)?;
            keys.push(kept(line));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("48h", 172_800), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "1h30m",
            "5 s",
            "5S",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_read() {
        for text in ["90s", "15m", "48h", "250ms", "1h"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        assert_eq!(show_duration(Duration::from_secs(3600)), "1h");
    }

    #[test]
    fn rates_have_a_burst_or_are_off() {
        let rate = order_rate("50/s,200").unwrap().unwrap();
        assert_eq!((rate.per_second.get(), rate.burst.get()), (50, 200));
        assert_eq!(order_rate("off"), Ok(None));
        for text in ["", "50", "50/s", "0/s,10", "50/m,200", "50/s,10", "-1/s,5", "OFF"] {
            assert!(order_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn earlier_keys_are_separated_by_commas_or_lines() {
        use secrecy::ExposeSecret;
        const HEX: &str = "8f1c7a9d2e4b6053f1e2d3c4b5a697887766554433221100ffeeddccbbaa9988";
        const BASE64: &str = "hQm0T5dPjmbF2C8NKJcxvJmzY0XHc1q7c1oXv4Q1pF0=";
        const PHRASE: &str = "seven slow herons, one copper lamp";
        let read = |text: &str| -> Result<Vec<String>, String> {
            Ok(old_keys(text)?.iter().map(|key| key.expose_secret().to_owned()).collect())
        };
        let all = |keys: &[&str]| Ok(keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&format!("{HEX}, {BASE64},")), all(&[HEX, BASE64]));
        assert_eq!(read(&format!("{HEX},{BASE64}\n")), all(&[HEX, BASE64]), "a file of before");
        assert_eq!(read(&format!("{PHRASE}\n")), all(&[PHRASE]));
        assert_eq!(read(&format!("{HEX}\r\n\n {PHRASE}\r\n{BASE64}")), all(&[HEX, PHRASE, BASE64]));
        assert_eq!(read("two long phrases here,of before there were lines").map(|keys| keys.len()), Ok(2));
        let short = "seven herons, one lamp";
        let why = read(short).unwrap_err();
        assert!(
            why.contains("too short") && why.contains("line of its own") && !why.contains("herons"),
            "{why}"
        );
        assert_eq!(read(&format!("{short}\n")), all(&[short]));
        assert!(read(&format!("{HEX}\nshort\n")).is_err());
    }

    #[test]
    fn networks_are_addresses_with_or_without_a_length() {
        assert_eq!(networks("10.0.0.0/8, 192.0.2.7,2001:db8::/32").map(|all| all.len()), Ok(3));
        for text in ["10.0.0.1/8", "proxy.internal", "*", "10.0.0.0/8,x"] {
            assert!(networks(text).is_err(), "{text}");
        }
        assert_eq!((yes_or_no("true"), yes_or_no("false")), (Ok(true), Ok(false)));
        assert!(yes_or_no("yes").is_err());
    }

    #[test]
    fn origins_are_exact() {
        assert_eq!(origin("https://Trade.example.org/"), Ok("https://trade.example.org".to_owned()));
        assert_eq!(origin("https://trade.example.org:443"), Ok("https://trade.example.org".to_owned()));
        assert_eq!(origin("http://trade.example.org:443"), Ok("http://trade.example.org:443".to_owned()));
        assert_eq!(origin("http://[::1]:8080"), Ok("http://[::1]:8080".to_owned()));
        for text in [
            "*",
            "null",
            "example.org",
            "ftp://x",
            "https://",
            "https://x/y",
            "https://a@b",
            "https://x:0",
            "https://*.x.org",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
