//! The demonstration's users, and the file by which people and tools find them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, Utc};
use plimsoll_auth::{EmailAddress, Role};
use plimsoll_core_domain::UserId;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_crypto::{CryptoRng, OsRandom};
use plimsoll_storage::Db;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{StartError, write_private};
use crate::users::{UserError, Wanted, ensure};

/// The file with the logins, in the data folder (0600).
pub const LOGINS_FILE: &str = "demo-logins.json";

const TRADER: (&str, &str) = ("trader", "demo-trader@plimsoll.localhost");
const ADMIN: (&str, &str) = ("admin", "demo-admin@plimsoll.localhost");
/// Characters of a password in base64url: 144 random bits.
const PASSWORD_CHARS: usize = 24;

/// How to get into a demonstration. It holds passwords: it is printed for its owner and never logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoLogins {
    /// The API's address.
    pub url: String,
    /// The users.
    pub users: Vec<DemoUser>,
    /// The broker, when it is the paper broker of the demonstration.
    pub paper_broker: Option<DemoBroker>,
    /// The platform's database.
    pub database: DemoDatabase,
    /// The data folder.
    pub data_dir: String,
    /// Where mails can be read; `None` while nothing sends any.
    pub outbox_url: Option<String>,
}

/// A user of the demonstration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoUser {
    /// `trader` or `admin`.
    pub role: String,
    /// The name to sign in with.
    pub email: String,
    /// The password.
    pub password: String,
}

/// The paper broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoBroker {
    /// Its address.
    pub url: String,
    /// The trader's key.
    pub api_key: String,
    /// The key's secret.
    pub api_secret: String,
}

/// A database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemoDatabase {
    /// A connection string.
    pub url: String,
    /// A line for a shell.
    pub psql: String,
}

impl std::fmt::Debug for DemoLogins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemoLogins").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The logins of the demonstration in this data folder; `None` before its first start.
///
/// # Errors
/// The file cannot be read.
pub fn read(data_dir: &Path) -> Result<Option<DemoLogins>, StartError> {
    let path = data_dir.join(LOGINS_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(logins) => Ok(Some(logins)),
            Err(_) => Err(StartError::Content {
                path,
                what: "does not hold the logins of a demonstration".to_owned(),
            }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError::file(path)(error)),
    }
}

/// Keeps the logins in the data folder.
///
/// # Errors
/// The file cannot be written.
pub fn write(data_dir: &Path, logins: &DemoLogins) -> Result<(), StartError> {
    let text = serde_json::to_string_pretty(logins).expect("texts serialise");
    write_private(&data_dir.join(LOGINS_FILE), &format!("{text}\n"))
}

/// Makes the trader and the admin, or finds them again with the passwords of the last time. Gives them and the trader's
/// id.
///
/// # Errors
/// The store's own.
pub fn seed(
    db: &Db,
    passwords: &Passwords,
    earlier: Option<&DemoLogins>,
    now: DateTime<Utc>,
) -> Result<(Vec<DemoUser>, UserId), UserError> {
    let make = |(name, email): (&str, &str), role| {
        let known = earlier.and_then(|logins| logins.users.iter().find(|user| user.email == email));
        let password = known.map_or_else(|| new_password(&mut OsRandom), |user| user.password.clone());
        let wanted = Wanted {
            email: EmailAddress::parse(email).expect("the constant addresses are well-formed"),
            role,
            password: password.clone().into(),
        };
        let id = ensure(db, passwords, wanted, now)?;
        Ok::<_, UserError>((DemoUser { role: name.to_owned(), email: email.to_owned(), password }, id))
    };
    let (trader, id) = make(TRADER, Role::User)?;
    let (admin, _) = make(ADMIN, Role::Admin)?;
    Ok((vec![trader, admin], id))
}

fn new_password<R: CryptoRng + ?Sized>(rng: &mut R) -> String {
    SecretToken::generate(rng).expose_text().expose_secret().chars().take(PASSWORD_CHARS).collect()
}

/// What a person is told when the demonstration is ready.
#[must_use]
pub fn banner(logins: &DemoLogins, elsewhere: Option<&Path>, account: Option<&str>, took_ms: u128) -> String {
    let mut text = format!("\nPlimsoll is ready after {took_ms} ms.\n\n  API       {}\n", logins.url);
    for user in &logins.users {
        text += &format!("  {:<9} {}   password {}\n", user.role, user.email, user.password);
    }
    if let Some(broker) = &logins.paper_broker {
        text += &format!("  broker    paper broker at {}\n", broker.url);
    }
    text += &format!("  data      {}\n", logins.data_dir);
    if let Some(folder) = elsewhere {
        text += &format!(
            "            the database's files are in {}, as {} cannot enter the data folder\n",
            folder.display(),
            account.unwrap_or("its account"),
        );
    }
    text += &format!("  psql      {}\n", logins.database.psql);
    let wipe = elsewhere.map_or(String::new(), |folder| format!(" {}", folder.display()));
    text += &format!("\n  Stop: Ctrl-C.   Wipe, when stopped: rm -rf {}{wipe}\n", logins.data_dir);
    text += "  These logins again: plimsoll demo --show-logins\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> DemoLogins {
        DemoLogins {
            url: "http://127.0.0.1:8080".to_owned(),
            users: vec![DemoUser {
                role: "trader".to_owned(),
                email: TRADER.1.to_owned(),
                password: "canary".to_owned(),
            }],
            paper_broker: None,
            database: DemoDatabase { url: "postgresql:///x".to_owned(), psql: "psql 'x'".to_owned() },
            data_dir: "/data".to_owned(),
            outbox_url: None,
        }
    }

    #[test]
    fn logins_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), &logins()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(logins()));
        fs::write(folder.path().join(LOGINS_FILE), "[]").unwrap();
        assert_eq!(read(folder.path()).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn the_json_has_the_documented_keys() {
        let value = serde_json::to_value(logins()).unwrap();
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["data_dir", "database", "outbox_url", "paper_broker", "url", "users"]);
    }

    #[test]
    fn the_banner_says_how_to_get_in_stop_and_wipe() {
        let text = banner(&logins(), Some(Path::new("/var/lib/plimsoll/x")), Some("postgres"), 1200);
        for word in
            ["http://127.0.0.1:8080", "canary", "Ctrl-C", "rm -rf /data /var/lib/plimsoll/x", "postgres"]
        {
            assert!(text.contains(word), "{text} lacks {word}");
        }
        assert!(!format!("{:?}", logins()).contains("canary"));
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (new_password(&mut OsRandom), new_password(&mut OsRandom));
        assert_eq!(one.len(), PASSWORD_CHARS);
        assert_ne!(one, other);
    }
}
