//! `reconcile`: asks for comparisons of accounts with their brokers. The servers that have the accounts make them.
//!
//! Every wish is in the audit log, without an actor and with `"via": "cli"`.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use plimsoll_auth::vault::CredentialState;
use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::{AccountId, StoreError, UserId};
use plimsoll_crypto::OsRandom;
use plimsoll_reliability::reconcile::{RunStatus, Trigger};
use plimsoll_storage::platform::accounts::TradingAccount;
use plimsoll_storage::platform::reconciliation::RunRow;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ReconcileArgs;
use super::user_admin::{Opened, Said, act};
use crate::bootstrap::StartError;
use crate::config::{Environment, Settings};
use crate::service::random_id;

/// Something needs a look: a comparison did not end well, or not in time.
const LOOK: u8 = 3;
/// How often runs are looked at.
const EVERY: Duration = Duration::from_millis(200);

/// A comparison that was asked for.
struct Asked {
    account: AccountId,
    user: UserId,
    run: Uuid,
    row: Option<RunRow>,
}

impl Asked {
    fn status(&self) -> RunStatus {
        let status = self.row.as_ref().and_then(|row| row.status.parse().ok());
        status.unwrap_or(RunStatus::Queued)
    }
}

/// Asks for comparisons and, if it is to wait, prints how they ended. Answers 0, or 3 when one that was waited for did not
/// end as `ok`.
///
/// # Errors
/// The account is not there or not connected, or the database cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    asked: &ReconcileArgs,
) -> Result<u8, StartError> {
    let opened = Opened::beside(settings, environment)?;
    let accounts = accounts(&opened, asked.account.map(AccountId))?;
    let mut runs = Vec::with_capacity(accounts.len());
    for of in &accounts {
        runs.push(ask(&opened, of.account.id, of.account.user_id)?);
    }
    if asked.wait {
        wait(&opened, &mut runs, Duration::from_secs(asked.timeout))?;
    }
    said(&runs, asked.wait).print(asked.json);
    let well = !asked.wait || runs.iter().all(|run| run.status() == RunStatus::Ok);
    Ok(if well { 0 } else { LOOK })
}

/// The account that was named, or all that a server connects with the broker.
fn accounts(opened: &Opened, named: Option<AccountId>) -> Result<Vec<TradingAccount>, StartError> {
    let mut accounts = opened.db.read_blocking(|tx| tx.trading_accounts()).map_err(StartError::Store)?;
    if let Some(named) = named {
        accounts.retain(|of| of.account.id == named);
        match accounts.first() {
            None => {
                let why = format!("there is no account {named} that is connected with a broker");
                return Err(StartError::Refused(why));
            }
            Some(of) if of.state == CredentialState::Invalid => {
                let why = format!("the broker refuses the key of account {named}");
                return Err(StartError::Refused(why));
            }
            Some(_) => {}
        }
    }
    // Nobody can compare an account whose key is refused.
    accounts.retain(|of| of.state != CredentialState::Invalid);
    Ok(accounts)
}

fn ask(opened: &Opened, account: AccountId, user: UserId) -> Result<Asked, StartError> {
    let (id, act) = (random_id(&mut OsRandom), act());
    let seed = u64::from(act.at.timestamp_subsec_micros());
    let run = opened.db.run_retrying_blocking(seed, |tx| {
        let run = tx.ask_for_run(account, user, Trigger::Demand, id, act.at)?;
        let detail = json!({ "account": account.0, "run": run, "via": "cli" });
        let entry = act.entry("reconciliation.run", AuditOutcome::Success, None, Some(user), detail);
        tx.append_audit(Some(user), &entry)?;
        Ok::<_, StoreError>(run)
    })?;
    Ok(Asked { account, user, run, row: None })
}

fn wait(opened: &Opened, runs: &mut [Asked], limit: Duration) -> Result<(), StartError> {
    let until = Instant::now() + limit;
    loop {
        for run in runs.iter_mut().filter(|run| !run.status().is_final()) {
            run.row =
                opened.db.read_blocking(|tx| tx.run_of(run.user, run.run)).map_err(StartError::Store)?;
        }
        if runs.iter().all(|run| run.status().is_final()) || Instant::now() >= until {
            return Ok(());
        }
        thread::sleep(EVERY);
    }
}

fn in_json(asked: &Asked) -> Value {
    let mut shown = json!({
        "account_id": asked.account.0,
        "run_id": asked.run,
        "status": asked.status().as_str(),
    });
    if let Some(row) = &asked.row {
        shown["scanned"] = row.scanned.into();
        shown["fixed"] = row.fixed.into();
        shown["error"] = row.error.clone().into();
        shown["discrepancies"] = serde_json::from_str(&row.found).unwrap_or_default();
    }
    shown
}

fn in_words(asked: &Asked, waited: bool) -> String {
    let (account, run) = (asked.account, asked.run);
    let mut line = match (&asked.row, asked.status()) {
        (Some(row), status) if status.is_final() => {
            format!("account {account}: {}, {} compared, {} settled", status.as_str(), row.scanned, row.fixed)
        }
        _ if waited => format!("account {account}: run {run} has not ended; does a server run?"),
        _ => format!("account {account}: run {run} is asked for"),
    };
    let Some(row) = &asked.row else { return line };
    if let Some(error) = &row.error {
        // A String takes whatever is written.
        let _ = write!(line, ": {error}");
    }
    let found: Vec<Value> = serde_json::from_str(&row.found).unwrap_or_default();
    for one in &found {
        let text = |name: &str| one[name].as_str().unwrap_or("-");
        let _ = write!(
            line,
            "\n  {} {} {}: {} here, {} at the broker: {}, {}",
            one["id"],
            text("kind"),
            text("symbol"),
            text("local"),
            text("broker"),
            text("class"),
            text("action")
        );
    }
    line
}

fn said(runs: &[Asked], waited: bool) -> Said {
    let lines: Vec<String> = runs.iter().map(|run| in_words(run, waited)).collect();
    let line =
        if runs.is_empty() { "no account is connected with a broker".to_owned() } else { lines.join("\n") };
    Said { line, json: runs.iter().map(in_json).collect() }
}
