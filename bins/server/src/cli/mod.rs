//! The command line. Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 needs attention (the database is not
//! to be reached, an earlier key is still needed).

mod args;
mod audit;
mod backup;
mod check;
mod dead_letters;
mod health;
mod import;
mod key;
mod password;
mod reconcile;
mod risk;
mod rotation;
mod setup_token;
mod user;
mod user_admin;

pub use args::{
    AuditCommand, BackupCommand, Cli, Command, ConfigCommand, DeadLettersCommand, GlobalArgs, ImportArgs,
    KeyCommand, OneUser, OneUserCommand, ReconcileArgs, RiskCommand, RiskScope, UserCommand, WhichLetters,
};

use clap::CommandFactory;
use plimsoll_observability::config_report::{Severity, Verdict};

use crate::bootstrap::{Databases, StartError, harden, prepare, root_cause};
use crate::config::{Environment, Purpose, Settings, load};
use crate::demo;
use crate::runtime::{self, Mode};

/// Wrong use or configuration.
const WRONG: u8 = 2;

/// Why a command ends early: said already, or still to be said.
enum Stop {
    Said(u8),
    Because(StartError),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        Self::Because(error)
    }
}

/// Runs a command and gives its exit code. Everything that goes wrong is a line on standard error.
#[must_use]
pub fn run(cli: Cli, environment: &Environment) -> u8 {
    match dispatch(cli, environment) {
        Ok(code) | Err(Stop::Said(code)) => code,
        Err(Stop::Because(error)) => {
            let text = error.to_string();
            match root_cause(&error) {
                Some(cause) if !text.contains(&cause) => eprintln!("plimsoll: {text}: {cause}"),
                _ => eprintln!("plimsoll: {text}"),
            }
            error.exit_code()
        }
    }
}

fn dispatch(cli: Cli, environment: &Environment) -> Result<u8, Stop> {
    let global = &cli.global;
    match cli.command {
        Command::Serve => {
            let settings = settings(global, environment, Purpose::Serve)?;
            start_logging(&settings)?;
            Ok(runtime::run(&settings, environment, Mode::Serve)?)
        }
        Command::Demo { show_logins: true, json } => {
            let settings = settings(global, environment, Purpose::Demo)?;
            show_logins(&settings, json)
        }
        Command::Demo { show_logins: false, .. } => {
            let settings = settings(global, environment, Purpose::Demo)?;
            start_logging(&settings)?;
            Ok(runtime::run(&settings, environment, Mode::Demo)?)
        }
        Command::Migrate { plan } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            migrate(&settings, environment, plan)
        }
        Command::Config { command } => Ok(check::run(&command, &global.flags(), environment)),
        Command::Health { live, .. } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(health::probe(settings.bind, if live { "/health/live" } else { "/health/ready" }))
        }
        Command::User { command } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            user::run(&settings, environment, command)?;
            Ok(0)
        }
        Command::Risk { command } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            risk::run(&settings, environment, command)?;
            Ok(0)
        }
        Command::Reconcile(asked) => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(reconcile::run(&settings, environment, &asked)?)
        }
        Command::Audit { command: AuditCommand::Verify { anchor, json } } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(audit::verify(&settings, environment, anchor.as_deref(), json)?)
        }
        Command::Backup { command } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(backup::run(&settings, environment, command)?)
        }
        Command::DeadLetters { command } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(dead_letters::run(&settings, environment, command)?)
        }
        Command::Key { command: KeyCommand::Generate { json } } => {
            key::generate(json);
            Ok(0)
        }
        Command::Key { command: KeyCommand::List { json } } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(key::list(&settings, environment, json)?)
        }
        Command::Key { command: KeyCommand::Rotate { dry_run, json } } => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(key::rotate(&settings, environment, dry_run, json)?)
        }
        Command::ImportCredentials(arguments) => {
            let settings = settings(global, environment, Purpose::Serve)?;
            Ok(import::run(&settings, environment, &arguments)?)
        }
        Command::Openapi => {
            println!("{}", plimsoll_api::openapi_document());
            Ok(0)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "plimsoll", &mut std::io::stdout());
            Ok(0)
        }
    }
}

/// The settings, or all that is wrong with them on standard error. Warnings are said too. From here on the process may
/// hold keys, so it is hardened as its profile has it.
fn settings(global: &GlobalArgs, environment: &Environment, purpose: Purpose) -> Result<Settings, Stop> {
    let loaded = load(&global.flags(), environment, purpose);
    let said = match loaded.report.verdict() {
        Verdict::Invalid => Severity::Error,
        Verdict::Warnings | Verdict::Valid => Severity::Warning,
    };
    for finding in loaded.report.of(said) {
        eprintln!("plimsoll: {finding}");
    }
    let settings = loaded.settings.ok_or(Stop::Said(WRONG))?;
    harden(settings.profile);
    Ok(settings)
}

fn start_logging(settings: &Settings) -> Result<(), StartError> {
    plimsoll_observability::logging::init(&settings.log_level, settings.log_format)
        .map_err(|why| StartError::Setting { setting: "LOG_LEVEL", message: why.to_string() })
}

fn show_logins(settings: &Settings, json: bool) -> Result<u8, Stop> {
    let Some(logins) = demo::read(&settings.data_dir)? else {
        let folder = settings.data_dir.display();
        eprintln!("plimsoll: no demonstration was started in {folder} yet; start one with `plimsoll demo`");
        return Ok(1);
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&logins).expect("texts serialise"));
        return Ok(0);
    }
    println!("url: {}", logins.url);
    for user in &logins.users {
        println!("{}: {} password {}", user.role, user.email, user.password);
    }
    if let Some(broker) = &logins.paper_broker {
        println!("paper broker: {} key {} secret {}", broker.url, broker.api_key, broker.api_secret);
    }
    println!("database: {}", logins.database.psql);
    println!("data: {}", logins.data_dir);
    Ok(0)
}

fn migrate(settings: &Settings, environment: &Environment, plan: bool) -> Result<u8, Stop> {
    prepare(&settings.data_dir)?;
    let databases = Databases::open_beside(settings, environment)?;
    let report = if plan { databases.plan()? } else { databases.migrate()? };
    match (report.applied.as_slice(), plan) {
        ([], _) => println!("nothing to apply: the schema is current"),
        (names, true) => names.iter().for_each(|name| println!("would apply {name}")),
        (names, false) => names.iter().for_each(|name| println!("applied {name}")),
    }
    Ok(0)
}
