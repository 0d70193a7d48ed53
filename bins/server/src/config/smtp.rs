//! The SMTP server's settings.

use plimsoll_observability::config_report::Severity;

use super::read::Reader;
use crate::mail::{Postman, SmtpSettings, SmtpTls};

/// All settings that mean nothing without `SMTP_HOST`.
const OTHERS: [&str; 5] = ["SMTP_PORT", "SMTP_USERNAME", "SMTP_PASSWORD", "SMTP_FROM", "SMTP_CA_PATH"];

/// Reads them. What is wrong is reported.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<SmtpSettings> {
    let host = reader.optional("SMTP_HOST", |text| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if text.len() <= 253 && text.chars().all(fits) {
            Ok(text.to_owned())
        } else {
            Err("must be the name or address of a host".to_owned())
        }
    });
    let tls = reader.value("SMTP_TLS", |text| text.parse::<SmtpTls>().map_err(str::to_owned));
    let port = reader.optional("SMTP_PORT", |text| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("must be a port from 1 to 65535".to_owned()),
    });
    let from = reader.optional("SMTP_FROM", |text| {
        text.parse().map_err(|_| "must be an address, or of the form Name <address>".to_owned())
    });
    let username = reader.optional("SMTP_USERNAME", |text| Ok(text.to_owned()));
    let password = reader.secret("SMTP_PASSWORD");
    let extra_ca = reader
        .optional("SMTP_CA_PATH", |path| std::fs::read(path).map_err(|why| format!("cannot be read: {why}")));
    for (one, other) in [("SMTP_USERNAME", "SMTP_PASSWORD"), ("SMTP_PASSWORD", "SMTP_USERNAME")] {
        if reader.is_set(one) && !reader.is_set(other) {
            reader.error(one, format!("is set without {other}"));
        }
    }
    if !reader.is_set("SMTP_HOST") {
        for name in OTHERS {
            if reader.is_set(name) {
                reader.error(name, "is set without SMTP_HOST");
            }
        }
        return None;
    }
    if !reader.is_set("SMTP_FROM") {
        let mend = "set it to the address that mails come from";
        reader.add(Severity::Error, "SMTP_HOST", "is set without SMTP_FROM", Some(mend));
    }
    let tls = tls?;
    if tls == SmtpTls::None && reader.is_set("SMTP_PASSWORD") {
        reader.add(
            Severity::Warning,
            "SMTP_TLS",
            "the password travels in the clear",
            Some("use starttls or tls"),
        );
    }
    let usual = match tls {
        SmtpTls::None => 25,
        SmtpTls::Starttls => 587,
        SmtpTls::Tls => 465,
    };
    let settings = SmtpSettings {
        host: host?,
        port: port.unwrap_or(usual),
        login: username.zip(password),
        from: from?,
        tls,
        extra_ca,
    };
    if let Err(why) = Postman::new(&settings) {
        reader.error(if settings.extra_ca.is_some() { "SMTP_CA_PATH" } else { "SMTP_HOST" }, why.to_string());
    }
    Some(settings)
}
