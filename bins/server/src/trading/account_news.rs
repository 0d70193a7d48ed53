//! `account_updated`: what the owner hears of the account's money after fills, and when the broker changes something itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core_domain::broker::BrokerAccount;
use plimsoll_core_domain::stream::{EventKind, NewEvent, StreamId};
use plimsoll_core_domain::views::{AccountView, json};
use plimsoll_core_domain::{Clock, StoreError};
use plimsoll_storage::Db;

use super::connection::Connection;

/// Fills come in bursts, and the broker books a little after it reports: one look follows so much later.
const AFTER_FILLS: Duration = Duration::from_millis(300);
/// How often the broker is asked without a fill: deposits, fees, a block.
const EVERY: Duration = Duration::from_secs(60);
/// Until a look that failed is made again.
const AGAIN: Duration = Duration::from_secs(5);

/// Looks again and again, at the instance that has the account. Prices move the equity all the time: that is no news here.
pub(super) async fn tell(connection: Arc<Connection>, db: Db, clock: Arc<dyn Clock>) {
    let mut told: Option<BrokerAccount> = None;
    let (mut filled, mut pause) = (false, EVERY);
    loop {
        tokio::select! {
            () = connection.filled.notified() => {
                filled = true;
                tokio::time::sleep(AFTER_FILLS).await;
            }
            () = tokio::time::sleep(pause) => {}
        }
        pause = EVERY;
        let seen = match connection.broker.account().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(account.id = %connection.account, %error, "the account is not to be had now");
                if filled {
                    pause = AGAIN;
                }
                continue;
            }
        };
        let now = clock.now();
        connection.seen().account = Some((Instant::now(), now, seen.clone()));
        if is_news(told.as_ref(), &seen, filled) {
            let view = AccountView::new(&seen, connection.environment.as_str(), now, false);
            let event = NewEvent { kind: EventKind::AccountUpdated, data: json(&view).into() };
            let stream = StreamId::User(connection.user);
            let seed = u64::from(now.timestamp_subsec_micros());
            let write = db.run_retrying(seed, move |tx| tx.append_event(stream, &event, now).map(drop)).await;
            if let Err(error) = write {
                let error: StoreError = error;
                tracing::warn!(account.id = %connection.account, %error, "a changed account could not be told of yet");
                pause = AGAIN;
                continue;
            }
        }
        (told, filled) = (Some(seen), false);
    }
}

/// Whether the owner is told. Buying power follows prices too, so that it alone is news only after a fill.
fn is_news(told: Option<&BrokerAccount>, seen: &BrokerAccount, filled: bool) -> bool {
    let Some(told) = told else { return filled };
    let (before, after) = (money(told), money(seen));
    before != after || (filled && told.buying_power != seen.buying_power)
}

fn money(account: &BrokerAccount) -> (rust_decimal::Decimal, &str, &str, bool) {
    (account.cash, &account.status, &account.currency, account.trading_blocked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal::Decimal;

    fn account(cash: i64, buying_power: i64, equity: i64) -> BrokerAccount {
        BrokerAccount {
            number: "PA1".to_owned(),
            status: "ACTIVE".to_owned(),
            currency: "USD".to_owned(),
            cash: Decimal::from(cash),
            buying_power: Decimal::from(buying_power),
            equity: Decimal::from(equity),
            last_equity: Decimal::from(1_000),
            trading_blocked: false,
        }
    }

    #[test]
    fn money_and_blocks_are_news_and_prices_are_not() {
        let told = account(1_000, 2_000, 1_000);
        for (seen, filled, news) in [
            (account(1_000, 2_000, 1_000), false, false),
            (account(1_000, 2_000, 1_000), true, false),
            (account(1_000, 2_000, 1_234), true, false),
            (account(1_000, 1_900, 950), false, false),
            (account(1_000, 1_900, 950), true, true),
            (account(900, 1_900, 1_000), false, true),
            (BrokerAccount { trading_blocked: true, ..told.clone() }, false, true),
            (BrokerAccount { status: "INACTIVE".to_owned(), ..told.clone() }, false, true),
        ] {
            assert_eq!(is_news(Some(&told), &seen, filled), news, "{seen:?} {filled}");
        }
        assert!(is_news(None, &told, true), "the first fill is told of");
        assert!(!is_news(None, &told, false), "that the server has started is no news");
    }
}
