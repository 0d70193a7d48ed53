//! Bodies as charts and services send them, byte for byte, and what is read from each.

use rust_decimal::Decimal;

use super::{Action, ExitAt, Fields, Message, Reason, Stance, Stated, symbol_of};

fn read(body: &[u8]) -> Result<Message, Reason> {
    let fields = Fields::parse(body).map_err(|refusal| refusal.reason)?;
    Message::read(&fields).map_err(|refusal| refusal.reason)
}

macro_rules! example {
    ($name:literal) => {
        read(include_bytes!(concat!("../../testdata/signals/", $name)))
    };
}

fn target(message: &Message) -> Option<Decimal> {
    message.position.and_then(Stated::signed)
}

#[test]
fn strategies_say_where_to_stand() {
    let entry = example!("strategy_entry_long.json").unwrap();
    assert_eq!((target(&entry), entry.action), (Some(10.into()), Some(Action::Buy)));
    assert_eq!(entry.id.as_deref(), Some("Long-2026-11-03T15:31:00Z"));
    let reversal = example!("strategy_reversal_long_to_short.json").unwrap();
    assert_eq!(target(&reversal), Some((-10).into()));
    assert_eq!(reversal.previous.and_then(Stated::signed), Some(10.into()));
    let exit = example!("strategy_exit_flat.json").unwrap();
    assert_eq!(target(&exit), Some(Decimal::ZERO));
}

#[test]
fn bare_numbers_keep_their_digits_and_a_perpetual_is_no_symbol() {
    let crypto = example!("crypto_bare_numbers.json").unwrap();
    assert_eq!(target(&crypto), Some(Decimal::new(-15, 3)));
    assert_eq!(crypto.price.map(|price| price.to_string()).as_deref(), Some("67432.5"));
    let refused = symbol_of(&crypto.ticker, crypto.exchange.as_deref()).unwrap_err();
    assert_eq!(refused.reason, Reason::UnknownSymbol);
}

#[test]
fn what_is_broken_or_unfilled_is_refused() {
    assert_eq!(example!("indicator_plain_text.txt"), Err(Reason::Malformed));
    assert_eq!(example!("broken_json_nan.txt"), Err(Reason::Malformed));
    assert_eq!(example!("broken_json_quote_in_comment.txt"), Err(Reason::Malformed));
    assert_eq!(example!("template_as_typed_into_tradingview.json"), Err(Reason::UnfilledPlaceholder));
}

#[test]
fn other_services_bodies_are_read_as_they_are() {
    let post = example!("traderspost_style.json").unwrap();
    assert_eq!(post.position, Some(Stated { stance: Stance::Long, size: None }));
    assert_eq!(post.stop_loss, Some(ExitAt::Percent(5.into())));
    let smart = example!("openalgo_smart_order_style.json").unwrap();
    assert_eq!((target(&smart), smart.quantity), (Some(5.into()), Some(1.into())));
    let strategy = example!("openalgo_strategy_webhook_style.json").unwrap();
    assert_eq!((target(&strategy), strategy.ticker.as_str()), (Some(Decimal::ZERO), "SBIN"));
}
