//! Where signals come in: `/webhooks/inbound`.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod patch;
pub mod rotate;
pub mod signals;
pub mod test;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use plimsoll_auth::IpNetwork;
use plimsoll_auth::vault::user_ring;
use plimsoll_core_domain::signals::{Action, Sizing, SymbolMap};
use plimsoll_core_domain::views::At;
use plimsoll_core_domain::{StoreError, Symbol, UserId};
use plimsoll_crypto::tokens::TokenDigest;
use plimsoll_crypto::{KeyRing, OpenError, OsRandom, WebhookSecret, seal};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::signals::{HookAuth, InboundHook, NewSecret};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::body::{DecimalText, Decimals};
use crate::problem::{FieldProblem, Problem};
use crate::signals::proof::{SECRET, place};

/// Most hooks of a user.
const MAX_HOOKS: i64 = 100;
/// Most characters of a hook's name.
const MAX_NAME_CHARS: usize = 100;
/// Most entries of a hook's lists.
const MAX_ENTRIES: usize = 200;
/// The longest age and silence: a year.
const MAX_SECONDS: i64 = 366 * 86_400;

/// How orders are sized.
#[derive(Serialize, ToSchema)]
pub struct SizingView {
    /// `fixed_qty`, `fixed_notional`, `percent_equity` or `from_signal`.
    mode: &'static str,
    /// Units, an amount of money, or per cent; none with `from_signal`.
    value: Option<String>,
}

/// A hook of the caller's, without its secret.
#[derive(Serialize, ToSchema)]
pub struct InboundWebhook {
    #[schema(value_type = String)]
    id: Uuid,
    /// Where signals are posted to.
    url: String,
    name: String,
    broker: &'static str,
    /// `paper` or `live`.
    environment: &'static str,
    enabled: bool,
    /// It is the one of `POST /webhook`, whose secret is a setting of the server.
    builtin: bool,
    /// Symbols that are traded; none: any.
    symbols: Vec<String>,
    /// `buy`, `sell`, `exit`, `cancel`; none: all.
    actions: Vec<&'static str>,
    /// Tickers of the sender and the symbols that they stand for.
    symbol_map: BTreeMap<String, String>,
    sizing: SizingView,
    /// A signal that says that it is older is refused; `null`: of any age.
    max_age_s: Option<i64>,
    /// Addresses and networks that signals may come from; none: from anywhere.
    allowed_ips: Vec<String>,
    /// `any`, `body_secret` or `hmac`.
    auth: &'static str,
    /// After so long without a signal you are told; `null`: never.
    silent_alert_after_s: Option<i32>,
    /// Until when the secret before the present one is good.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    old_secret_until: Option<At>,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: At,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: At,
}

/// A hook with its new secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct InboundWebhookWithSecret {
    /// `whsec_` and base64: for the body's `secret`, and the key of signatures.
    secret: String,
    #[serde(flatten)]
    webhook: InboundWebhook,
}

fn view(public_url: &str, hook: &InboundHook) -> InboundWebhook {
    let base = public_url.trim_end_matches('/');
    let (settings, rules) = (&hook.settings, &hook.settings.rules);
    InboundWebhook {
        id: hook.id,
        url: if hook.builtin { format!("{base}/webhook") } else { format!("{base}/hooks/{}", hook.id) },
        name: settings.name.clone(),
        broker: "alpaca",
        environment: settings.environment.as_str(),
        enabled: settings.enabled,
        builtin: hook.builtin,
        symbols: rules.symbols.iter().flatten().map(|symbol| symbol.as_str().to_owned()).collect(),
        actions: rules.actions.iter().flatten().map(|action| action.as_str()).collect(),
        symbol_map: rules
            .symbol_map
            .iter()
            .map(|(ticker, symbol)| (ticker.to_owned(), symbol.as_str().to_owned()))
            .collect(),
        sizing: SizingView {
            mode: rules.sizing.mode(),
            value: rules.sizing.value().map(|value| value.to_string()),
        },
        max_age_s: rules.max_age.map(|age| age.num_seconds()),
        allowed_ips: settings.allowed_ips.iter().map(ToString::to_string).collect(),
        auth: settings.auth.as_str(),
        silent_alert_after_s: settings.silent_alert_after_s,
        old_secret_until: hook.old_secret_until.map(At),
        created_at: At(hook.created_at),
        updated_at: At(hook.updated_at),
    }
}

fn none() -> Problem {
    Problem::new("not_found", "there is no such webhook")
}

fn hook_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| none())
}

/// How orders are to be sized.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedSizing {
    /// `fixed_qty`, `fixed_notional`, `percent_equity` or `from_signal`.
    mode: String,
    /// Units, an amount of money, or per cent; absent with `from_signal`.
    #[schema(value_type = Option<String>)]
    value: Option<DecimalText>,
}

impl WantedSizing {
    fn read(&self) -> Result<Sizing, Problem> {
        let mut decimals = Decimals::default();
        let value = decimals.read("/sizing/value", self.value.as_ref());
        decimals.done()?;
        Sizing::new(&self.mode, value)
            .map_err(|(field, why)| Problem::field(format!("/sizing/{field}"), "invalid_sizing", why))
    }
}

/// A field that may be absent, `null`, or a value.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

fn name(text: &str) -> Result<String, Problem> {
    let fits = !text.trim().is_empty()
        && text.chars().count() <= MAX_NAME_CHARS
        && !text.chars().any(char::is_control);
    if fits {
        return Ok(text.to_owned());
    }
    let detail = format!("must have 1 to {MAX_NAME_CHARS} characters and no control characters");
    Err(Problem::field("/name", "invalid_name", detail))
}

/// A list, entry by entry; one that is empty allows anything.
fn entries<T>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, Problem> {
    if texts.len() > MAX_ENTRIES {
        return Err(Problem::field(format!("/{field}"), "too_many", format!("at most {MAX_ENTRIES}")));
    }
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        match read(text) {
            Ok(value) => good.push(value),
            Err(detail) => {
                let (pointer, code) = (format!("/{field}/{at}"), "invalid_entry".to_owned());
                bad.push(FieldProblem { pointer, code, detail });
            }
        }
    }
    if bad.is_empty() { Ok((!good.is_empty()).then_some(good)) } else { Err(Problem::invalid(bad)) }
}

fn symbols(texts: &[String]) -> Result<Option<Vec<Symbol>>, Problem> {
    entries("symbols", texts, |text| Symbol::new(text).map_err(|why| why.to_string()))
}

fn actions(texts: &[String]) -> Result<Option<Vec<Action>>, Problem> {
    entries("actions", texts, |text| text.parse().map_err(|why: &str| why.to_owned()))
}

fn symbol_map(pairs: &BTreeMap<String, String>) -> Result<SymbolMap, Problem> {
    if pairs.len() > MAX_ENTRIES {
        return Err(Problem::field("/symbol_map", "too_many", format!("at most {MAX_ENTRIES}")));
    }
    let (mut map, mut bad) = (SymbolMap::default(), Vec::new());
    for (ticker, symbol) in pairs {
        let read = Symbol::new(symbol.as_str()).map_err(|why| why.to_string());
        if let Err(detail) = read.and_then(|symbol| map.insert(ticker, symbol).map_err(str::to_owned)) {
            let pointer = format!("/symbol_map/{}", ticker.replace('~', "~0").replace('/', "~1"));
            bad.push(FieldProblem { pointer, code: "invalid_entry".to_owned(), detail });
        }
    }
    if bad.is_empty() { Ok(map) } else { Err(Problem::invalid(bad)) }
}

fn networks(texts: &[String]) -> Result<Vec<IpNetwork>, Problem> {
    let read = |text: &str| text.parse().map_err(|why: plimsoll_auth::IpNetworkError| why.to_string());
    entries("allowed_ips", texts, read).map(Option::unwrap_or_default)
}

fn environment(text: &str) -> Result<plimsoll_core_domain::order::Environment, Problem> {
    text.parse().map_err(|_| Problem::field("/environment", "unknown_environment", "must be paper or live"))
}

fn auth(text: &str) -> Result<HookAuth, Problem> {
    text.parse().map_err(|why: &str| Problem::field("/auth", "unknown_auth", why))
}

fn seconds(field: &str, value: i64) -> Result<i64, Problem> {
    if (1..=MAX_SECONDS).contains(&value) {
        return Ok(value);
    }
    Err(Problem::field(format!("/{field}"), "out_of_range", format!("must be from 1 to {MAX_SECONDS}")))
}

fn max_age(value: Option<i64>) -> Result<Option<TimeDelta>, Problem> {
    value.map(|value| seconds("max_age_s", value).map(TimeDelta::seconds)).transpose()
}

fn silence(value: Option<i64>) -> Result<Option<i32>, Problem> {
    let read =
        |value| seconds("silent_alert_after_s", value).map(|good| i32::try_from(good).unwrap_or(i32::MAX));
    value.map(read).transpose()
}

/// A new secret, sealed for its hook under its owner's data key.
fn sealed(
    tx: &mut Tx<'_>,
    ring: &KeyRing,
    (user, hook): (UserId, Uuid),
    secret: &WebhookSecret,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Result<NewSecret, OpenError>, StoreError> {
    let ring = match user_ring(tx, ring, user, at, &mut OsRandom)? {
        Ok(ring) => ring,
        Err(why) => return Ok(Err(why)),
    };
    let sealed = seal(&ring, &place(SECRET, &hook.to_string(), user.0), secret.expose(), &mut OsRandom);
    let sha256 = TokenDigest::of(secret.expose_text().expose_secret().as_bytes()).0;
    Ok(Ok(NewSecret { sealed, sha256 }))
}

fn unreadable() -> Problem {
    Problem::new("credential_unavailable", "the account's secrets cannot be used at the moment")
        .retry_after(60)
}
