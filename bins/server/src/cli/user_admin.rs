//! `user lock|unlock|delete|reset-password|reset-2fa`: what an operator does to a user, beside a running server.
//!
//! Nobody's password is set here or seen. Every act is in the audit log, without an actor and with `"via": "cli"`.

use std::sync::Arc;

use plimsoll_auth::admin::{self, Changed, Erased, Filter, Listed};
use plimsoll_auth::login::LoginKeys;
use plimsoll_auth::ports::AccountStore;
use plimsoll_auth::two_factor_reset::{NewReset as NewFactorReset, Requested};
use plimsoll_auth::{AccountPolicy, AccountState, Act, EmailAddress, User, reset};
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{Clock, StoreError, SystemClock};
use plimsoll_crypto::OsRandom;
use plimsoll_crypto::passwords::Passwords;
use plimsoll_crypto::tokens::SecretToken;
use plimsoll_storage::notify::{Notifier, NotifierSettings};
use plimsoll_storage::platform::keys::PlatformKeys;
use plimsoll_storage::{AfterCommit, CommitNote, Db, PoolKind};
use serde_json::{Value, json};

use crate::bootstrap::{Databases, Settle, StartError, key_ring, prepare};
use crate::config::{Environment, Settings};
use crate::service::random_id;

/// Users read at once.
const PAGE: usize = 500;
/// Users signed out in one transaction.
const LOGOUTS_AT_ONCE: usize = 100;

/// The database with its keys. What is committed through it, running servers are told of.
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) keys: Arc<PlatformKeys>,
    /// Keeps a private server, if this process started one.
    _databases: Databases,
}

/// Tells running servers whose logins changed, so that sessions and sockets end there at once.
struct Tell(Notifier);

impl AfterCommit for Tell {
    fn committed(&self, notes: Vec<CommitNote>) {
        for note in notes {
            match note {
                CommitNote::Stream(event) => self.0.flag(event.stream.to_string()),
                CommitNote::Wake(topic) => self.0.flag(topic),
            }
        }
    }
}

impl Opened {
    pub(super) fn beside(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        let data_dir = prepare(&settings.data_dir)?;
        let databases = Databases::open_beside(settings, environment)?;
        databases.migrate()?;
        let db = databases.pool(PoolKind::Control, 2)?;
        let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Now, &mut OsRandom)?;
        let keys = Arc::new(PlatformKeys::load_or_create(&db, &ring, &mut OsRandom)?);
        let notifier = Notifier::start(&databases.app, NotifierSettings::default())
            .map_err(|source| StartError::System { what: "starting a thread", source })?;
        let db = db.with_keys(Arc::clone(&keys)).with_after_commit(Arc::new(Tell(notifier)));
        Ok(Self { db, keys, _databases: databases })
    }

    /// Leaves the database as it is: for a trial, all of whose transactions are taken back.
    ///
    /// # Errors
    /// The schema is not this release's, the ring lacks a key, or the database cannot be used.
    pub(super) fn as_it_is(settings: &Settings, environment: &Environment) -> Result<Self, StartError> {
        let data_dir = prepare(&settings.data_dir)?;
        let databases = Databases::open_beside(settings, environment)?;
        refuse_another_schema(&databases)?;
        let db = databases.pool(PoolKind::Control, 2)?;
        let ring = key_ring(&settings.keys, &data_dir, &db, Settle::Never, &mut OsRandom)?;
        let keys = Arc::new(PlatformKeys::load_or_pretend(&db, &ring, &mut OsRandom)?);
        let db = db.with_keys(Arc::clone(&keys));
        Ok(Self { db, keys, _databases: databases })
    }

    /// The user with this address.
    pub(super) fn user(&self, email: &str) -> Result<User, StartError> {
        let email = EmailAddress::parse(email).map_err(|why| StartError::Refused(why.to_string()))?;
        let found = self.db.read_blocking(|tx| tx.account_by_email(&email))?;
        found.map(|account| account.user).ok_or_else(no_user)
    }
}

/// For commands that change nothing, migrations included.
///
/// # Errors
/// The schema is not this release's, or the database cannot be used.
pub(super) fn refuse_another_schema(databases: &Databases) -> Result<(), StartError> {
    if databases.plan()?.applied.is_empty() {
        return Ok(());
    }
    let why = "the database is not of this release's schema: `plimsoll migrate` first";
    Err(StartError::Refused(why.to_owned()))
}

fn no_user() -> StartError {
    StartError::Refused("there is no user of this address".to_owned())
}

pub(super) fn act() -> Act {
    Act::without_request(SystemClock.now())
}

/// What is printed of a command: a line, or the same as JSON.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) line: String,
    pub(super) json: Value,
}

impl Said {
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json);
        } else {
            println!("{}", self.line);
        }
    }
}

/// All users, oldest first.
///
/// # Errors
/// The database cannot be used.
pub(super) fn list(opened: &Opened) -> Result<Vec<Listed>, StartError> {
    let mut users: Vec<Listed> = Vec::new();
    loop {
        let before = users.last().map(|listed| listed.user.id);
        let page = opened
            .db
            .run_blocking(|tx| admin::list(tx, &act(), None, &Filter::default(), before, PAGE))
            .map_err(StartError::Store)?;
        let last = page.len() < PAGE;
        users.extend(page);
        if last {
            users.reverse();
            return Ok(users);
        }
    }
}

/// Ends every session of a user.
///
/// # Errors
/// There is no such user, or the database cannot be used.
pub(super) fn logout(opened: &Opened, email: &str) -> Result<Said, StartError> {
    let user = opened.user(email)?;
    let ended = opened.db.run_blocking(|tx| admin::logout(tx, &act(), None, user.id))?.ok_or_else(no_user)?;
    Ok(Said {
        line: format!("{ended} sessions of {} ended", user.email.as_str()),
        json: json!({ "id": user.id, "sessions_ended": ended }),
    })
}

/// Ends every session of every user.
///
/// # Errors
/// The database cannot be used.
pub(super) fn logout_everybody(opened: &Opened) -> Result<Said, StartError> {
    let (mut users, mut sessions, mut after) = (0, 0, None);
    loop {
        let done = opened
            .db
            .run_blocking(|tx| admin::logout_everybody(tx, &act(), None, None, after, LOGOUTS_AT_ONCE))
            .map_err(StartError::Store)?;
        users += done.users;
        sessions += done.sessions;
        after = done.next;
        if after.is_none() {
            let line = format!("{sessions} sessions of {users} users ended");
            return Ok(Said { line, json: json!({ "users": users, "sessions_ended": sessions }) });
        }
    }
}

/// Disables a user, or lets one in again.
///
/// # Errors
/// There is no such user, it is the last administrator, or the database cannot be used.
pub(super) fn set_state(opened: &Opened, email: &str, state: AccountState) -> Result<Said, StartError> {
    let user = opened.user(email)?;
    let changed = opened.db.run_blocking(|tx| admin::set_state(tx, &act(), None, user.id, state))?;
    match changed {
        Changed::Done(listed) => Ok(Said {
            line: format!("{} is {}", listed.user.email.as_str(), listed.user.state),
            json: json!({ "id": listed.user.id, "state": listed.user.state }),
        }),
        Changed::LastAdmin => {
            Err(StartError::Refused("the last active administrator cannot be locked".to_owned()))
        }
        Changed::NotFound | Changed::Unverified => Err(no_user()),
    }
}

/// Makes a locked user nobody.
///
/// # Errors
/// There is no such user, it is not locked, or the database cannot be used.
pub(super) fn delete(opened: &Opened, settings: &Settings, email: &str) -> Result<Said, StartError> {
    let user = opened.user(email)?;
    if user.state != AccountState::Disabled {
        return Err(not_locked());
    }
    let passwords = Passwords::new(settings.limits.argon2, &mut OsRandom)
        .map_err(|why| StartError::Setting { setting: "ARGON2_MEMORY_KIB", message: why.to_string() })?;
    // The hash of what nobody knows, not even this process after the next line.
    let unusable = passwords
        .hash(&SecretToken::generate(&mut OsRandom).expose_text(), &mut OsRandom)
        .map_err(|why| StartError::Refused(why.to_string()))?;
    let erased = opened.db.run_blocking(|tx| admin::erase(tx, &act(), None, user.id, &unusable))?;
    match erased {
        Erased::Done => Ok(Said {
            line: format!("user {} is deleted; orders and audit entries stay under this number", user.id),
            json: json!({ "id": user.id, "deleted": true }),
        }),
        Erased::NotDisabled => Err(not_locked()),
        Erased::NotFound => Err(no_user()),
    }
}

fn not_locked() -> StartError {
    StartError::Refused("only a locked user can be deleted: `plimsoll user lock` first".to_owned())
}

/// Starts the reset of a lost second factor.
///
/// # Errors
/// There is no such user, there is no factor, or the database cannot be used.
pub(super) fn reset_2fa(opened: &Opened, policy: &AccountPolicy, email: &str) -> Result<Said, StartError> {
    let user = opened.user(email)?.id;
    let new = NewFactorReset { id: random_id(&mut OsRandom), cancel: SecretToken::generate(&mut OsRandom) };
    let mut ids = || random_id(&mut OsRandom);
    let requested = opened
        .db
        .run_blocking(|tx| admin::request_two_factor_reset(tx, policy, &act(), None, user, &new, &mut ids))?;
    match requested {
        Requested::Begun { due_at } | Requested::AlreadyBegun { due_at } => Ok(Said {
            line: format!("the second factor is reset at {due_at}, unless its owner stops that by the mail"),
            json: json!({ "id": user, "due_at": due_at }),
        }),
        Requested::NotEnabled => Err(StartError::Refused("the user has no second factor".to_owned())),
        Requested::NoSuchUser => Err(no_user()),
    }
}

/// Mails a link to choose a new password.
///
/// # Errors
/// There is no such user, the user may not sign in, or the database cannot be used.
pub(super) fn reset_password(
    opened: &Opened,
    policy: &AccountPolicy,
    email: &str,
) -> Result<Said, StartError> {
    let user = opened.user(email)?;
    if user.state != AccountState::Active || user.email_verified_at.is_none() {
        return Err(StartError::Refused("the user is locked, or the address is not confirmed".to_owned()));
    }
    let new = reset::NewReset {
        id: random_id(&mut OsRandom),
        token: SecretToken::generate(&mut OsRandom),
        cancel_id: random_id(&mut OsRandom),
        cancel: SecretToken::generate(&mut OsRandom),
        mail: random_id(&mut OsRandom),
    };
    let keys = LoginKeys { pepper: &opened.keys.pepper, devices: &opened.keys.device_cookies };
    let act = act();
    opened.db.run_blocking(|tx| {
        reset::request(tx, policy, keys, &user.email, &new, &act)?;
        let detail = json!({ "via": "cli" });
        let entry = act.entry("user.reset_password", AuditOutcome::Success, None, Some(user.id), detail);
        tx.append_audit(Some(user.id), &entry)?;
        Ok::<_, StoreError>(())
    })?;
    Ok(Said {
        line: format!("a link goes to {}, unless too many were asked for lately", user.email.as_str()),
        json: json!({ "id": user.id, "asked": true }),
    })
}
