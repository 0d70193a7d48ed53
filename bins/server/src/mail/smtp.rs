use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use plimsoll_auth::mail::Letter;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// Longest wait for one answer of the SMTP server.
const COMMAND_WITHIN: Duration = Duration::from_secs(8);
/// "Service not available, closing transmission channel" (RFC 5321 section 4.2.3).
const CLOSING: u16 = 421;
/// Longest time for a whole mail.
const MAIL_WITHIN: Duration = Duration::from_secs(15);

/// How the connection is protected: `SMTP_TLS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Not at all: for a relay on this machine.
    None,
    /// Encrypted by STARTTLS, or not used.
    Starttls,
    /// Encrypted from the first byte.
    Tls,
}

impl FromStr for SmtpTls {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::Starttls),
            "tls" => Ok(Self::Tls),
            _ => Err("must be none, starttls or tls"),
        }
    }
}

/// An SMTP server.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// `SMTP_HOST`.
    pub host: String,
    /// `SMTP_PORT`.
    pub port: u16,
    /// `SMTP_USERNAME` and `SMTP_PASSWORD`.
    pub login: Option<(String, SecretString)>,
    /// `SMTP_FROM`: an address, or `Name <address>`.
    pub from: Mailbox,
    /// `SMTP_TLS`.
    pub tls: SmtpTls,
    /// `SMTP_CA_PATH`: certificates in PEM that are trusted beside the usual ones.
    pub extra_ca: Option<Vec<u8>>,
}

/// Why a mail was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server refuses this mail for good.
    #[error("{0}")]
    Refused(String),
    /// The server takes it later, it says.
    #[error("{0}")]
    Later(String),
    /// The server cannot be used at the moment, or does not answer in time: the mail may have been taken all the same.
    #[error("{0}")]
    Down(String),
}

/// The settings do not make a connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SmtpError(String);

/// Sends mails over SMTP, each over a connection of its own.
#[derive(Clone)]
pub struct Postman {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// The right side of message ids.
    domain: String,
}

impl fmt::Debug for Postman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postman").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Postman {
    /// No connection is made yet.
    ///
    /// # Errors
    /// The host's name or the certificates cannot be used.
    pub fn new(settings: &SmtpSettings) -> Result<Self, SmtpError> {
        let wrong = |why: lettre::transport::smtp::Error| SmtpError(why.to_string());
        let tls = || -> Result<TlsParameters, SmtpError> {
            let mut parameters = TlsParameters::builder(settings.host.clone());
            if let Some(pem) = &settings.extra_ca {
                let certificate =
                    lettre::transport::smtp::client::Certificate::from_pem(pem).map_err(wrong)?;
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().map_err(wrong)
        };
        let tls = match settings.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::Starttls => Tls::Required(tls()?),
            SmtpTls::Tls => Tls::Wrapper(tls()?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(COMMAND_WITHIN));
        if let Some((user, password)) = &settings.login {
            transport =
                transport.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        let domain = settings.from.email.domain().to_owned();
        Ok(Self { transport: transport.build(), from: settings.from.clone(), domain })
    }

    /// Whether the server takes a connection and the login.
    pub async fn answers(&self) -> bool {
        self.transport.test_connection().await.unwrap_or(false)
    }

    /// Sends one mail. Its Message-ID follows from `id`, so that a repeat can be told for what it is.
    ///
    /// # Errors
    /// Answers of the 500s refuse the mail; everything else may pass.
    pub async fn send(&self, id: Uuid, letter: &Letter, at: DateTime<Utc>) -> Result<(), SendError> {
        let refused =
            |why: &dyn fmt::Display| SendError::Refused(format!("the mail cannot be written: {why}"));
        let to: Address = letter.to.as_str().parse().map_err(|why| refused(&why))?;
        let part = |kind: ContentType, body: &str| SinglePart::builder().header(kind).body(body.to_owned());
        let message = Message::builder()
            .message_id(Some(format!("<{id}@{}>", self.domain)))
            .date(at.into())
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject.clone())
            .header(AutoSubmitted)
            .multipart(
                MultiPart::alternative()
                    .singlepart(part(ContentType::TEXT_PLAIN, &letter.text))
                    .singlepart(part(ContentType::TEXT_HTML, &letter.html)),
            )
            .map_err(|why| refused(&why))?;
        // The transport's own limit does not cover every answer of a server.
        let sent = match tokio::time::timeout(MAIL_WITHIN, self.transport.send(message)).await {
            Ok(sent) => sent,
            Err(_) => return Err(SendError::Down("the SMTP server does not answer in time".to_owned())),
        };
        match sent {
            Ok(_) => Ok(()),
            // The server's words may quote the address: the class is all that is kept.
            Err(error) if error.is_permanent() => {
                let code = error.status().map_or_else(String::new, |code| format!(" ({code})"));
                Err(SendError::Refused(format!("the SMTP server refuses the mail{code}")))
            }
            Err(error) => {
                let code = error.status().map_or_else(String::new, |code| format!(" ({code})"));
                let what = if error.is_timeout() {
                    "does not answer in time"
                } else if error.is_transient() {
                    "takes no mail at the moment"
                } else {
                    "cannot be used"
                };
                let why = format!("the SMTP server {what}{code}");
                // of the codes for "later" 421 alone says that the server is about to close
                let later =
                    error.is_transient() && error.status().is_none_or(|code| u16::from(code) != CLOSING);
                Err(if later { SendError::Later(why) } else { SendError::Down(why) })
            }
        }
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834): nobody's out-of-office program answers.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
