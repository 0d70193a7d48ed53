//! `risk show|halt|resume`: what an operator does about risk, beside a running server.
//!
//! Every act is in the audit log, without an actor and with `"via": "cli"`. What is halted here for a user is lifted here
//! only.

use std::time::Duration;

use plimsoll_core_domain::audit::AuditOutcome;
use plimsoll_core_domain::risk::{HaltCause, HaltLevel};
use plimsoll_core_domain::views::At;
use plimsoll_core_domain::{StoreError, UserId};
use plimsoll_storage::Tx;
use plimsoll_storage::platform::risk::{Halt, NewHalt, carry_halts, insist};
use serde_json::{Value, json};

use super::user_admin::{Opened, Said, act};
use super::{RiskCommand, RiskScope};
use crate::bootstrap::StartError;
use crate::config::{Environment, Settings};

/// How long a halt is tried: longer than the database lets an idle transaction live.
const WITHIN: Duration = Duration::from_secs(45);

/// Runs a command about risk.
///
/// # Errors
/// There is no such user, the reason is none, or the database cannot be used.
pub(super) fn run(
    settings: &Settings,
    environment: &Environment,
    command: RiskCommand,
) -> Result<(), StartError> {
    let opened = Opened::beside(settings, environment)?;
    let (said, as_json) = match command {
        RiskCommand::Show(RiskScope { user, json }) => (show(&opened, user.as_deref())?, json),
        RiskCommand::Halt { scope: RiskScope { user, json }, level, reason } => {
            (halt(&opened, user.as_deref(), level, &reason)?, json)
        }
        RiskCommand::Resume(RiskScope { user, json }) => (resume(&opened, user.as_deref())?, json),
    };
    said.print(as_json);
    Ok(())
}

fn user_of(opened: &Opened, email: Option<&str>) -> Result<Option<UserId>, StartError> {
    email.map(|email| opened.user(email).map(|user| user.id)).transpose()
}

fn halt_json(halt: Option<&Halt>) -> Value {
    halt.map_or(Value::Null, |halt| {
        json!({
            "level": halt.level,
            "cause": halt.cause,
            "reason": halt.reason,
            "by": halt.by,
            "since": At(halt.since),
        })
    })
}

fn in_words(whose: &str, halt: Option<&Halt>) -> String {
    halt.map_or_else(
        || format!("{whose} is not halted"),
        |halt| {
            let (level, cause, reason) = (halt.level, halt.cause, &halt.reason);
            format!("{whose} is halted at {level} since {} ({cause}): {reason}", halt.since)
        },
    )
}

fn show(opened: &Opened, email: Option<&str>) -> Result<Said, StartError> {
    let user = user_of(opened, email)?;
    let (halts, limits) = opened.db.read_blocking(|tx| {
        let limits = user.map(|user| tx.risk_limits(user)).transpose()?;
        Ok::<_, StoreError>((tx.halt_state(user)?, limits))
    })?;
    let mut lines = vec![in_words("everybody's trading", halts.global.as_ref())];
    let mut shown = json!({ "global": halt_json(halts.global.as_ref()) });
    if let Some(limits) = limits {
        lines.push(in_words("the user's trading", halts.user.as_ref()));
        if let Some(halt) = &halts.operator {
            lines.push(in_words("the user's trading, by the operator,", Some(halt)));
        }
        let limits = serde_json::to_value(&limits.limits).unwrap_or_default();
        for (name, value) in limits.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            lines.push(format!("{name}: {value}"));
        }
        shown["user"] = halt_json(halts.user.as_ref());
        shown["operator"] = halt_json(halts.operator.as_ref());
        shown["limits"] = limits;
    }
    Ok(Said { line: lines.join("\n"), json: shown })
}

/// Puts an act on record: on the user's chain, or on one of the system's.
fn record(tx: &mut Tx<'_>, user: Option<UserId>, action: &str, mut detail: Value) -> Result<(), StoreError> {
    detail["via"] = "cli".into();
    detail["scope"] = if user.is_some() { "user" } else { "global" }.into();
    tx.append_audit(user, &act().entry(action, AuditOutcome::Success, None, user, detail))
}

fn halt(opened: &Opened, email: Option<&str>, level: HaltLevel, reason: &str) -> Result<Said, StartError> {
    if reason.trim().is_empty() || reason.chars().count() > 500 {
        return Err(StartError::Refused("--reason must have 1 to 500 characters".to_owned()));
    }
    let (user, now) = (user_of(opened, email)?, act().at);
    let reason = reason.to_owned();
    let (halt, left) = brought(opened, user, move |tx| {
        let new = NewHalt { level, cause: HaltCause::Manual, reason: &reason, by: None, now };
        let halt = match user {
            Some(user) => tx.halt_user_by_operator(user, &new)?,
            None => tx.halt_everybody(&new)?,
        };
        let detail = json!({ "level": level, "reason": reason, "in_force": halt.level });
        record(tx, user, "risk.halt", detail)?;
        Ok(halt)
    })?;
    let whose = if user.is_some() { "the user's trading" } else { "everybody's trading" };
    let mut said = Said { line: in_words(whose, Some(&halt)), json: halt_json(Some(&halt)) };
    say_pending(&mut said, left);
    Ok(said)
}

/// Does `work` in a transaction and brings what it changed to the accounts of the user, or of everybody. Answers what it
/// did, and how many accounts are left.
fn brought<T, F>(opened: &Opened, user: Option<UserId>, work: F) -> Result<(T, usize), StartError>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, StoreError> + Clone + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source| StartError::System { what: "waiting for the accounts", source })?;
    runtime.block_on(async {
        let done = insist(&opened.db, u64::from(act().at.timestamp_subsec_micros()), WITHIN, work).await?;
        let left = carry_halts(&opened.db, user, WITHIN).await?;
        Ok((done, left))
    })
}

fn say_pending(said: &mut Said, left: usize) {
    said.json["pending_accounts"] = left.into();
    if left > 0 {
        said.line += &format!(
            "; {left} accounts are held by a transaction that does not end: the server goes on with them"
        );
    }
}

/// Ends what the operator halted; for a user for whom that is nothing, what else halts that user.
fn resume(opened: &Opened, email: Option<&str>) -> Result<Said, StartError> {
    let (user, now) = (user_of(opened, email)?, act().at);
    let ((ended, still), left) = brought(opened, user, move |tx| {
        let ended = match user {
            Some(user) => match tx.resume_user_by_operator(user, now)? {
                Some(ended) => Some(ended),
                None => tx.resume_user(user, now)?,
            },
            None => tx.resume_everybody(now)?,
        };
        if let Some(ended) = &ended {
            record(tx, user, "risk.resume", json!({ "level": ended.level, "cause": ended.cause }))?;
        }
        Ok((ended, tx.halt_state(user)?.user))
    })?;
    let mut line = match &ended {
        Some(ended) => format!("the halt at {} is lifted", ended.level),
        None => "nothing was halted".to_owned(),
    };
    if let Some(still) = &still {
        line += &format!("; {}", in_words("the user's trading", Some(still)));
    }
    let mut said = Said {
        line,
        json: json!({ "ended": halt_json(ended.as_ref()), "still": halt_json(still.as_ref()) }),
    };
    say_pending(&mut said, left);
    Ok(said)
}
