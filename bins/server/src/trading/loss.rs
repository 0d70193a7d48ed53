//! The daily loss of an account, while its owner has a limit of it.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_core_domain::Clock;
use plimsoll_storage::Db;
use plimsoll_storage::platform::risk::LossLook;

use super::connection::Connection;

/// Looks at the account again and again: after fills, after whoever asked for the account, and in between. Each look halts
/// trading when the limit is reached.
pub(super) async fn watch(connection: Arc<Connection>, db: Db, clock: Arc<dyn Clock>, every: Duration) {
    let account = connection.account;
    loop {
        tokio::select! {
            () = connection.moved.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
        if !connection.is_loss_limited() {
            continue;
        }
        match connection.broker.account().await {
            Ok(seen) => {
                let (equity, last_equity, now) = (seen.equity, seen.last_equity, clock.now());
                let seed = u64::from(now.timestamp_subsec_micros());
                let looked =
                    db.run_retrying(seed, move |tx| tx.look_at_loss(account, equity, last_equity, now)).await;
                match looked {
                    Ok(LossLook::Halts { reached, halt }) => {
                        tracing::warn!(account.id = %account, rule = reached.rule.as_str(), limit = reached.limit, actual = reached.actual, level = %halt.level, "trading is halted: the daily loss reached its limit");
                    }
                    Ok(LossLook::Within | LossLook::Halted) => {}
                    Err(error) => {
                        tracing::warn!(account.id = %account, %error, "the daily loss could not be held against its limit now");
                    }
                }
            }
            Err(error) => {
                tracing::debug!(account.id = %account, %error, "the account's equity is not to be had now");
            }
        }
        // However many fills come: the broker is asked a few times in each period at most.
        tokio::time::sleep(every / 10).await;
    }
}
