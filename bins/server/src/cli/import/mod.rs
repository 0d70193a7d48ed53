//! `import-credentials`: broker keys of an earlier platform, kept there as Fernet tokens, move into the vault.
//!
//! Each row stands for itself, in a transaction of its own: what fails is told and leaves the others alone, and a second
//! run finds what is there already.

mod old_key;
mod report;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_auth::ports::{AccountStore, VaultStore};
use plimsoll_auth::vault::{self, BrokerKeys, BrokerName, Saved, VaultKeys};
use plimsoll_auth::{Act, EmailAddress, UserId};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::order::Environment as Money;
use plimsoll_core_domain::{Clock, StoreError, StoreErrorKind, SystemClock};
use plimsoll_crypto::{FernetKey, OsRandom};
use plimsoll_storage::Tx;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(super) use self::old_key::OldKey;
use self::report::{Line, Outcome, Report};
use self::rows::Row;
use super::ImportArgs;
use super::user_admin::Opened;
use crate::bootstrap::StartError;
use crate::config::{BrokerSettings, Environment, Settings};

/// Some rows failed.
const SOME_FAILED: u8 = 3;

/// Imports a file, prints what became of each row, and answers 0 when all are in, else 3; works beside running servers.
/// Once a row was looked at, the report is printed whatever comes, and an import is in the audit log.
///
/// # Errors
/// The file or the key cannot be read, or the database cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    arguments: &ImportArgs,
) -> Result<u8, StartError> {
    let key = OldKey::read(arguments)?.key()?;
    let opened = match arguments.dry_run {
        true => Opened::as_it_is(settings, environment)?,
        false => Opened::beside(settings, environment)?,
    };
    let broker = &settings.broker;
    let mut import = Import { opened: &opened, key, broker, arguments, seen: BTreeMap::new() };
    let mut report = Report::new(arguments.dry_run, arguments.json);
    let read = rows::each(&arguments.file, arguments.table.as_deref(), |row| {
        report.add(import.row(row));
        Ok(())
    });
    if report.rows() == 0 {
        read?;
        import.record(&report, &arguments.file, true)?;
        report.finish();
        return Ok(0);
    }
    // an export that ends in the middle has rows that are in
    let recorded = import.record(&report, &arguments.file, read.is_ok());
    report.finish();
    read.and(recorded)?;
    Ok(if report.failed() == 0 { 0 } else { SOME_FAILED })
}

struct Import<'a> {
    opened: &'a Opened,
    key: FernetKey,
    broker: &'a BrokerSettings,
    arguments: &'a ImportArgs,
    /// Which line spoke of a user's credential for a broker first.
    seen: BTreeMap<(UserId, BrokerName), u64>,
}

/// What a row says, once it is understood and its tokens are open.
struct Credential {
    email: EmailAddress,
    broker: BrokerName,
    money: Money,
    keys: BrokerKeys,
}

/// Ends a transaction without a commit.
enum Stop {
    Dry(Outcome),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Import<'_> {
    fn row(&mut self, row: Result<Row, rows::BadRow>) -> Line {
        let row = match row {
            Ok(row) => row,
            Err(bad) => return Line::unreadable(bad),
        };
        let outcome = match self.understood(&row) {
            Ok(credential) => again(|| self.kept(row.line, &credential))
                .unwrap_or_else(|error| Outcome::Failed(format!("the database: {error}"))),
            Err(why) => Outcome::Failed(why),
        };
        Line::of(&row, outcome)
    }

    fn understood(&self, row: &Row) -> Result<Credential, String> {
        let email = EmailAddress::parse(row.email.trim()).map_err(|why| format!("email: {why}"))?;
        let broker = row.broker.trim().to_ascii_lowercase();
        let broker = broker.parse().map_err(|_| "broker: alpaca is the only one".to_owned())?;
        let money = row.environment.trim().to_ascii_lowercase();
        let money = money.parse().map_err(|_| "environment: paper or live".to_owned())?;
        let part = |name: &str, token: &str| {
            let message = self.key.open(token).map_err(|why| format!("{name}: {why}"))?;
            let text = str::from_utf8(message.plaintext.expose_secret());
            let text = text.map_err(|_| format!("{name}: the token holds no text"))?;
            Ok::<_, String>(SecretString::from(text.to_owned()))
        };
        let keys = BrokerKeys::parse(part("api_key", &row.api_key)?, part("api_secret", &row.api_secret)?)
            .map_err(|why| why.to_string())?;
        self.broker
            .check_key(money, keys.api_key.expose_secret())
            .map_err(|why| format!("api_key: {why}"))?;
        Ok(Credential { email, broker, money, keys })
    }

    fn kept(&mut self, line: u64, credential: &Credential) -> Result<Outcome, StoreError> {
        let account = self.opened.db.read_blocking(|tx| tx.account_by_email(&credential.email))?;
        let Some(user) = account.map(|account| account.user.id) else {
            return Ok(Outcome::Failed("there is no user of this address".to_owned()));
        };
        let place = (user, credential.broker);
        if let Some(first) = self.seen.get(&place).filter(|first| **first != line) {
            let why = format!("line {first} has a credential of this user for {} already", credential.broker);
            return Ok(Outcome::Failed(why));
        }
        self.seen.insert(place, line);
        let saved = self.opened.db.run_retrying_blocking(line, |tx| {
            let outcome = self.saved(tx, user, credential)?;
            // what would be done is done, looked at and taken back
            if self.arguments.dry_run { Err(Stop::Dry(outcome)) } else { Ok(outcome) }
        });
        match saved {
            Ok(outcome) | Err(Stop::Dry(outcome)) => Ok(outcome),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    fn saved(&self, tx: &mut Tx<'_>, user: UserId, credential: &Credential) -> Result<Outcome, StoreError> {
        let Credential { broker, money, keys, .. } = credential;
        let installed = &self.opened.keys;
        let stored = tx.credentials_of(user)?.into_iter().find(|view| view.broker == *broker);
        if let Some(view) = &stored {
            let same = view.fingerprint == keys.fingerprint(*broker, &installed.pepper);
            if same && view.environment == *money {
                return Ok(Outcome::Present { last4: view.key_last4.clone() });
            }
            if self.arguments.keep_existing {
                return Ok(Outcome::Failed(format!(
                    "the user has another credential for {broker}: it is kept"
                )));
            }
        }
        let act = Act::without_request(SystemClock.now());
        let vault_keys = VaultKeys { ring: &installed.ring, pepper: &installed.pepper };
        let saved = vault::save(tx, vault_keys, None, user, *broker, *money, keys, &act, &mut OsRandom)?;
        Ok(match saved {
            Saved::Done(view) if stored.is_some() => Outcome::Replaced { last4: view.key_last4 },
            Saved::Done(view) => Outcome::Imported { last4: view.key_last4 },
            Saved::OrdersOpen => Outcome::Failed(
                "an order of the other environment is open: let it end or cancel it".to_owned(),
            ),
            Saved::NotActive => Outcome::Failed("the user is locked".to_owned()),
            Saved::Undecryptable => Outcome::Failed("the user's data key does not open".to_owned()),
        })
    }

    /// `whole`: the file was read to its end. A trial leaves no entry.
    fn record(&self, report: &Report, file: &Path, whole: bool) -> Result<(), StartError> {
        if self.arguments.dry_run {
            return Ok(());
        }
        let fine = whole && report.failed() == 0;
        let outcome = if fine { AuditOutcome::Success } else { AuditOutcome::Failure };
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let detail = json!({
            "via": "cli", "file": name, "rows": report.rows(), "in": report.rows() - report.failed(),
            "failed": report.failed(),
        });
        let entry =
            Act::without_request(SystemClock.now()).entry("credential.import", outcome, None, None, detail);
        let db = &self.opened.db;
        Ok(again(|| db.run_retrying_blocking(report.rows(), |tx| tx.append_audit(None, &entry)))?)
    }
}

/// Once more where the database was away or somebody was in the way: what was done then is found by the second look.
fn again<T>(mut work: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match work() {
        Err(error) => match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::Contention | StoreErrorKind::CommitUnknown => {
                work()
            }
            _ => Err(error),
        },
        done => done,
    }
}
