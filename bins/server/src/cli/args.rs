//! Commands and flags.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use plimsoll_core_domain::risk::HaltLevel;

use crate::config::Flags;

/// A self-hosted trading-platform backend.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command. They win over environment and file.
#[derive(Debug, Default, Args)]
pub struct GlobalArgs {
    /// Configuration file instead of ./plimsoll.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// development or production (PROFILE)
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Where data is kept (DATA_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the API listens (BIND_ADDR)
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub bind: Option<String>,
    /// error, warn, info, debug, trace, or a filter (LOG_LEVEL)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Seconds of the paper broker's market in one (PAPER_SPEED)
    #[arg(long, global = true, value_name = "NUMBER")]
    pub paper_speed: Option<String>,
}

impl GlobalArgs {
    /// What they say about settings.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let given = [
            ("--profile", "PROFILE", &self.profile),
            ("--data-dir", "DATA_DIR", &self.data_dir),
            ("--bind", "BIND_ADDR", &self.bind),
            ("--log-level", "LOG_LEVEL", &self.log_level),
            ("--paper-speed", "PAPER_SPEED", &self.paper_speed),
        ];
        let values = given.into_iter().filter_map(|(flag, name, value)| Some((flag, name, value.clone()?)));
        Flags { config: self.config.clone(), values: values.collect() }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve,
    /// Run the server with a trader and an admin to try it out
    Demo {
        /// Print the demonstration's logins instead; also while it runs
        #[arg(long)]
        show_logins: bool,
        /// As JSON
        #[arg(long, requires = "show_logins")]
        json: bool,
    },
    /// Bring the database to this release's schema
    Migrate {
        /// Only say what would be applied
        #[arg(long)]
        plan: bool,
    },
    /// Look at the configuration
    Config {
        /// Which look.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Ask the running server at BIND_ADDR how it is: exit code 0 when well
    Health {
        /// Whether its process works
        #[arg(long, conflicts_with = "ready")]
        live: bool,
        /// Whether it can serve (the default)
        #[arg(long)]
        ready: bool,
    },
    /// Users
    User {
        /// What to do.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Risk limits and halts
    Risk {
        /// What to do.
        #[command(subcommand)]
        command: RiskCommand,
    },
    /// Compare accounts with their brokers: exit code 0, or 3 when one that was waited for needs a look
    Reconcile(ReconcileArgs),
    /// The audit log
    Audit {
        /// What to do.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Backups of the database
    Backup {
        /// What to do.
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Jobs that were given up
    DeadLetters {
        /// What to do.
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Keys
    Key {
        /// What to do.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Move broker keys of an earlier platform, kept there as Fernet tokens, into the vault: exit code 0 when all rows are
    /// in, 3 when some failed
    ImportCredentials(ImportArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// Looks at the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with it: exit code 0 when nothing is, else 2
    Check {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every setting and where it came from; secrets as ***
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an administrator; the password is asked for, or read from standard input
    CreateAdmin {
        /// The name to sign in with
        email: String,
        /// Read the password from this file
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Print a token that makes the first administrator over HTTP, once, within ten minutes
    SetupToken,
    /// Print all users
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// End every session of every user; API tokens stay
    LogoutEverybody {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One user.
    #[command(flatten)]
    One(OneUserCommand),
}

/// What to do about risk. Without --user it is about everybody.
#[derive(Debug, Subcommand)]
pub enum RiskCommand {
    /// Print what is halted and, of a user, the limits
    Show(RiskScope),
    /// Halt trading; what is halted further stays so
    Halt {
        /// Whose.
        #[command(flatten)]
        scope: RiskScope,
        /// block_entries, reduce_only, cancel_open or flatten
        #[arg(long)]
        level: HaltLevel,
        /// Why, for people
        #[arg(long)]
        reason: String,
    },
    /// End a halt, and arm the daily loss of its user again
    Resume(RiskScope),
}

/// Which accounts are compared.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// The account of this number; all that are connected when absent
    #[arg(long, value_name = "NUMBER")]
    pub account: Option<i64>,
    /// Wait for the end and print what was found; a running server does the work
    #[arg(long)]
    pub wait: bool,
    /// So many seconds at most
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Whose trading.
#[derive(Debug, Args)]
pub struct RiskScope {
    /// The user who signs in with this name; everybody when absent
    #[arg(long, value_name = "EMAIL")]
    pub user: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with one user.
#[derive(Debug, Subcommand)]
pub enum OneUserCommand {
    /// Mail a link to choose a new password
    ResetPassword(OneUser),
    /// Start the reset of a lost second factor: it takes effect after a day, unless its owner stops it
    #[command(name = "reset-2fa")]
    ResetTwoFactor(OneUser),
    /// Keep a user from signing in, and end every session and API token
    Lock(OneUser),
    /// End every session of a user; API tokens stay
    Logout(OneUser),
    /// Let a locked user sign in again
    Unlock(OneUser),
    /// Delete a locked user: address, name and everything that belongs to signing in; orders and audit entries stay
    Delete(OneUser),
}

/// Which user.
#[derive(Debug, Args)]
pub struct OneUser {
    /// The name that the user signs in with
    pub email: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Compute every signature again and name the first entry that does not verify: exit code 0 when all do, else 1
    Verify {
        /// A checkpoint as the server's log once told of it: it must be there still
        #[arg(long, value_name = "NUMBER:DIGEST")]
        anchor: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make one, and read it back
    Create {
        /// What to remember about it, in at most 200 characters
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        description: String,
        /// Keep it until it is unpinned
        #[arg(long)]
        pin: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print all, newest first; needs no database
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read one whole and check every chunk, row count and checksum; needs no database
    Verify {
        /// Its name, or a file anywhere
        backup: String,
        /// Also restore it into a database of its own, look at that, and drop it
        #[arg(long)]
        rehearse: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace the database by what it was at a backup; what is live now is kept for seven days
    Restore {
        /// The backup's name
        name: String,
        /// The database's name, to say that it is meant
        #[arg(long, value_name = "DATABASE")]
        confirm: String,
        /// Do not back up first what is live: only where that cannot be read any more
        #[arg(long)]
        without_safety_backup: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore the newest verified backup at or before a time: exit code 3 when the gap was not accepted
    RestoreTo {
        /// Such as 2026-11-24T09:30:00Z
        time: DateTime<Utc>,
        /// Accept that what was written between the backup and that time is not restored
        #[arg(long)]
        accept_gap: bool,
        /// The database's name, to say that it is meant
        #[arg(long, value_name = "DATABASE")]
        confirm: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back the last restore of the last seven days
    Undo {
        /// The database's name, to say that it is meant
        #[arg(long, value_name = "DATABASE")]
        confirm: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the jobs that came with a restore and wait, or let those of some kinds run
    Release {
        /// Kinds of jobs
        kinds: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep one whatever its age
    Pin {
        /// Its name
        name: String,
        /// Let it age again instead
        #[arg(long)]
        off: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete what is older than BACKUP_RETENTION_DAYS or more than MAX_BACKUPS
    Cleanup {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print those that nothing became of yet, newest first
    List {
        /// Which.
        #[command(flatten)]
        which: WhichLetters,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one, without what could be a secret
    Show {
        /// Its number
        id: i64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let new jobs do the work of one, or of all that are asked for: exit code 0 when all are replayed, else 3
    Replay {
        /// The number of one; without it, all that fit
        #[arg(conflicts_with_all = ["queue", "kind", "error", "from", "to", "all", "dry_run", "limit"])]
        id: Option<i64>,
        /// Which.
        #[command(flatten)]
        which: WhichLetters,
        /// All of them, where nothing else says which
        #[arg(long)]
        all: bool,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// So many come due in a second
        #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
        per_second: u32,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say that nobody has to do the work of one, and why; it stays on record
    Discard {
        /// Its number
        id: i64,
        /// Why, in 1 to 500 characters
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Default, Args)]
pub struct WhichLetters {
    /// Of this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// With this part in the last error
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Given up at this time or later, such as 2026-11-24T09:30:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<DateTime<Utc>>,
    /// Given up before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<DateTime<Utc>>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Print a new random key, fit for ENCRYPTION_KEY and WEBHOOK_SECRET; it is kept nowhere
    Generate {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print master keys by their ids, and how many stored values need each
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Seal everything that an earlier key sealed with ENCRYPTION_KEY, while servers run: exit code 0 when no earlier key
    /// is needed any more, else 3
    Rotate {
        /// Only open everything and say what would be done
        #[arg(long)]
        dry_run: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to import, and the key that opens it.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV or SQLite, with the columns email, broker, environment, api_key and api_secret
    pub file: PathBuf,
    /// Holds the earlier platform's Fernet key; or, with --old-key-salt, the password that it was made of
    #[arg(long, value_name = "PATH")]
    pub old_key_file: PathBuf,
    /// The salt that the password was stretched with (PBKDF2-HMAC-SHA256): text, hex:… or base64:…
    #[arg(long, value_name = "SALT")]
    pub old_key_salt: Option<String>,
    /// How often it was stretched, unless 100000 times
    #[arg(long, value_name = "NUMBER", requires = "old_key_salt")]
    pub old_key_iterations: Option<u32>,
    /// The table of an SQLite file, where several have the columns
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Leave users alone that have another credential already: their rows fail
    #[arg(long)]
    pub keep_existing: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from(["plimsoll", "serve", "--bind", "127.0.0.1:1", "--config", "x.toml"]);
        let flags = cli.global.flags();
        assert_eq!(flags.values, [("--bind", "BIND_ADDR", "127.0.0.1:1".to_owned())]);
        assert_eq!(flags.config, Some("x.toml".into()));
    }
}
