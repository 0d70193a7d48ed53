//! Half an hour of the bundled SPY recording: a bracket from entry to exit, printed as its stream would tell it.
//!
//! `cargo run -p plimsoll-paper-exchange --example session`

use chrono::{TimeDelta, TimeZone, Utc};
use plimsoll_paper_exchange::order::{OrderClass, Side, StopLoss, TakeProfit};
use plimsoll_paper_exchange::{Change, Exchange, ExchangeConfig, MarketData, NewOrder};
use rust_decimal::Decimal;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Utc.with_ymd_and_hms(2026, 11, 24, 15, 0, 0).single().ok_or("no such time")?;
    let mut exchange = Exchange::new(ExchangeConfig::default(), MarketData::bundled(), 1, start);
    let account = exchange.create_account(None, start);
    let quote = exchange.quote("SPY").ok_or("SPY is bundled")?;
    println!("{} SPY {} / {}", quote.at, quote.bid, quote.ask);

    let away = Decimal::new(10, 2);
    let bracket = NewOrder {
        order_class: OrderClass::Bracket,
        take_profit: Some(TakeProfit { limit_price: Some(quote.last + away) }),
        stop_loss: Some(StopLoss { stop_price: Some(quote.last - away), limit_price: None }),
        ..NewOrder::market("SPY", Side::Buy, 10.into())
    };
    exchange.submit(account, bracket, start)?;
    exchange.advance(start + TimeDelta::minutes(30));
    for change in exchange.drain() {
        if let Change::Update(update) = change {
            let event = update.data;
            let role = event.order.group_role.map_or("", |role| role.as_str());
            let price = event.price.map(|price| format!(" at {price}")).unwrap_or_default();
            println!("{} {role}: {:?}{price}", event.timestamp, event.event);
        }
    }
    let view = exchange.account_view(account)?;
    println!("equity {} of {}", view.equity, view.last_equity);
    Ok(())
}
