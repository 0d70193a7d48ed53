use super::super::{Fields, Sizing, SymbolMap};
use super::*;
use crate::order::{OrderSize, Pricing};

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn message(body: &str) -> Message {
    Message::read(&Fields::parse(body.as_bytes()).unwrap()).unwrap()
}

fn rules(sizing: Sizing) -> HookRules {
    HookRules { symbol_map: SymbolMap::default(), symbols: None, actions: None, sizing, max_age: None }
}

fn known(held: &str) -> Known {
    Known {
        held: dec(held),
        price: None,
        equity: Some(dec("10000")),
        asset: BrokerAsset {
            symbol: "SPY".parse().unwrap(),
            class: "us_equity".into(),
            tradable: true,
            fractionable: true,
            shortable: true,
        },
    }
}

fn wanted(body: &str, sizing: Sizing, known: &Known) -> Result<Wanted, Refusal> {
    Wanted::of(&message(body), &rules(sizing), &"SPY".parse().unwrap(), known)
}

fn told(wanted: &Wanted) -> String {
    let Some(order) = &wanted.order else { return format!("nothing target {:?}", wanted.target) };
    let size = match order.size {
        OrderSize::Qty(qty) => qty.to_string(),
        OrderSize::Notional(amount) => format!("${amount}"),
    };
    let more = if wanted.more { " and more" } else { "" };
    let closes = if wanted.closes { " closing" } else { "" };
    format!("{} {size}{closes}{more}", order.side)
}

#[test]
fn a_stated_position_is_a_target() {
    let of = |body: &str, held: &str| told(&wanted(body, Sizing::FromSignal, &known(held)).unwrap());
    let long = r#"{"ticker":"SPY","action":"buy","quantity":10,"position":"long","position_size":"10"}"#;
    assert_eq!(of(long, "0"), "buy 10");
    assert_eq!(of(long, "4"), "buy 6");
    assert_eq!(of(long, "10"), "nothing target Some(10)");
    assert_eq!(of(long, "12"), "sell 2 closing");
    assert_eq!(of(long, "-3"), "buy 3 closing and more");
    let short = r#"{"ticker":"SPY","action":"sell","quantity":20,"position":"short","position_size":"10"}"#;
    assert_eq!(of(short, "10"), "sell 10 closing and more");
    let flat = r#"{"ticker":"SPY","action":"sell","quantity":10,"position":"flat","position_size":"0"}"#;
    assert_eq!(of(flat, "10"), "sell 10 closing");
    assert_eq!(of(flat, "0"), "nothing target Some(0)");
    assert_eq!(of(r#"{"ticker":"SPY","action":"close"}"#, "-2.5"), "buy 2.5 closing");
    assert_eq!(of(r#"{"symbol":"SPY","action":"BUY","quantity":1,"position_size":5}"#, "0"), "buy 5");
    assert_eq!(
        of(r#"{"symbol":"SPY","action":"SELL","quantity":100,"position_size":0}"#, "0"),
        "nothing target Some(0)"
    );
}

#[test]
fn an_order_without_a_position_moves_what_is_held() {
    let of = |body: &str, held: &str| told(&wanted(body, Sizing::FromSignal, &known(held)).unwrap());
    let sell = r#"{"ticker":"SPY","action":"sell","quantity":20}"#;
    assert_eq!(of(sell, "0"), "sell 20");
    assert_eq!(of(sell, "30"), "sell 20 closing");
    assert_eq!(of(sell, "5"), "sell 5 closing and more", "no order goes through flat");
    assert_eq!(of(r#"{"ticker":"SPY","action":"buy","quantity":1.5}"#, "1"), "buy 1.5");
}

#[test]
fn sizing_by_money() {
    let sizing = |mode: &str, value: &str| Sizing::new(mode, Some(dec(value))).unwrap();
    let buy = r#"{"ticker":"SPY","action":"buy","price":"30"}"#;
    let of =
        |body: &str, sizing: Sizing, known: &Known| wanted(body, sizing, known).map(|wanted| told(&wanted));
    assert_eq!(of(buy, sizing("fixed_notional", "100"), &known("0")).unwrap(), "buy $100");
    assert_eq!(of(buy, sizing("percent_equity", "2.5"), &known("0")).unwrap(), "buy $250");
    // Whatever the sender says the price is.
    let seen = |held: &str, price: &str| Known { price: Some(price.parse().unwrap()), ..known(held) };
    let long = r#"{"ticker":"SPY","position":"long","price":"1"}"#;
    assert_eq!(of(long, sizing("fixed_notional", "90"), &known("0")).unwrap(), "buy $90");
    assert_eq!(of(long, sizing("fixed_notional", "90"), &seen("1", "30")).unwrap(), "buy 2");
    assert_eq!(of(long, sizing("fixed_notional", "90"), &known("1")).unwrap_err().reason, Reason::NoPrice);
    let short = r#"{"ticker":"SPY","position":"short","price":"1"}"#;
    assert_eq!(of(short, sizing("fixed_notional", "100"), &known("0")).unwrap_err().reason, Reason::NoPrice);
    let whole = of(short, sizing("fixed_notional", "100"), &seen("0", "30")).unwrap();
    assert_eq!(whole, "sell 3", "whole units go short");
    let flat = r#"{"ticker":"SPY","position":"flat"}"#;
    let broke = Known { equity: None, ..known("2") };
    assert_eq!(
        of(flat, sizing("percent_equity", "1"), &broke).unwrap(),
        "sell 2 closing",
        "no size is needed"
    );
    // A buy pays its limit at most; what a sell brings at least bounds nothing.
    let at = |action: &str| {
        format!(r#"{{"ticker":"SPY","action":"{action}","orderType":"limit","limitPrice":"20","price":"1"}}"#)
    };
    assert_eq!(of(&at("buy"), sizing("fixed_notional", "90"), &known("0")).unwrap(), "buy 4.5");
    let sell = of(&at("sell"), sizing("fixed_notional", "90"), &known("0"));
    assert_eq!(sell.unwrap_err().reason, Reason::NoPrice);
    let broke = Known { equity: None, ..known("0") };
    assert_eq!(of(buy, sizing("percent_equity", "1"), &broke).unwrap_err().reason, Reason::NoEquity);
}

/// What a unit of the order costs at most, by Alpaca's contract.
fn at_most(order: &NewOrder, seen: Decimal) -> Decimal {
    match order.pricing {
        Pricing::Limit { limit } | Pricing::StopLimit { limit, .. } if order.side == Side::Buy => limit.get(),
        Pricing::Limit { limit } => limit.get().max(seen),
        Pricing::StopLimit { stop, limit } => limit.get().max(stop.get()).max(seen),
        Pricing::Stop { stop } if order.side == Side::Buy => {
            let factor = if stop.get() < dec("50") { dec("1.04") } else { dec("1.025") };
            (stop.get() * factor).max(seen)
        }
        Pricing::Stop { stop } => stop.get().max(seen),
        _ => seen,
    }
}

#[test]
fn an_amount_is_never_exceeded_by_an_order_s_own_prices() {
    let sizing = Sizing::new("fixed_notional", Some(dec("1000"))).unwrap();
    let seen = Known { price: Some("100".parse().unwrap()), ..known("0") };
    let of = |action: &str, kind: &str, prices: &str| {
        let body = format!(r#"{{"ticker":"SPY","action":"{action}","orderType":"{kind}",{prices}}}"#);
        wanted(&body, sizing, &seen).unwrap().order.unwrap()
    };
    for (action, kind, prices, units) in [
        ("buy", "stop", r#""stopPrice":"200""#, "4.878048780"),
        ("buy", "stop", r#""stopPrice":"40""#, "10"),
        ("buy", "stop_limit", r#""stopPrice":"195","limitPrice":"200""#, "5"),
        ("buy", "limit", r#""limitPrice":"80""#, "12.5"),
        ("sell", "limit", r#""limitPrice":"400""#, "2"),
        ("sell", "stop", r#""stopPrice":"90""#, "10"),
        ("sell", "stop_limit", r#""stopPrice":"90","limitPrice":"500""#, "2"),
    ] {
        let order = of(action, kind, prices);
        let OrderSize::Qty(qty) = order.size else { panic!("{order:?}") };
        assert_eq!(qty.get(), dec(units), "{action} {kind} {prices}");
        assert!(qty.get() * at_most(&order, dec("100")) <= dec("1000"), "{action} {kind} {prices}");
    }
}

#[test]
fn what_cannot_be_sold_short_closes_nothing_on_the_way_there() {
    let short = r#"{"ticker":"SPY","action":"short"}"#;
    let parts = Sizing::FixedQty("2.5".parse().unwrap());
    assert_eq!(wanted(short, parts, &known("10")).unwrap_err().reason, Reason::InvalidSize);
    let stated = r#"{"ticker":"SPY","action":"sell","quantity":12.5}"#;
    assert_eq!(wanted(stated, Sizing::FromSignal, &known("10")).unwrap_err().reason, Reason::InvalidSize);
    let mut hard = known("10");
    hard.asset.shortable = false;
    let refused = wanted(short, Sizing::FixedQty("2".parse().unwrap()), &hard).unwrap_err();
    assert_eq!(refused.reason, Reason::NotTradable);
    // closing needs no short sale
    let close = r#"{"ticker":"SPY","action":"sell","quantity":2.5}"#;
    assert_eq!(told(&wanted(close, Sizing::FromSignal, &hard).unwrap()), "sell 2.5 closing");
}

#[test]
fn exits_ride_on_the_entry_and_never_on_a_close() {
    let body = r#"{"ticker":"SPY","action":"buy","sentiment":"bullish","signalPrice":143.12,"quantity":1,
        "takeProfit":{"percent":10},"stopLoss":{"type":"stop","percent":5}}"#;
    let entry = wanted(body, Sizing::FromSignal, &known("0")).unwrap().order.unwrap();
    assert_eq!(entry.class, OrderClass::Bracket);
    assert_eq!(entry.take_profit, Some("157.43".parse().unwrap()));
    assert_eq!(entry.stop_loss.unwrap().stop, "135.96".parse().unwrap());
    let close = wanted(body, Sizing::FromSignal, &known("3")).unwrap().order.unwrap();
    assert_eq!((close.side, close.class), (Side::Sell, OrderClass::Simple));
    let part = body.replace("\"quantity\":1", "\"quantity\":1.5");
    let refused = wanted(&part, Sizing::FromSignal, &known("0")).unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidOrder, "an exit that cannot be placed is never left out");
    let blind = r#"{"ticker":"SPY","action":"buy","quantity":1,"stopLoss":{"percent":5}}"#;
    assert_eq!(wanted(blind, Sizing::FromSignal, &known("0")).unwrap_err().reason, Reason::NoPrice);
}

#[test]
fn limits_are_kept_but_not_on_the_way_through_flat() {
    let body = r#"{"ticker":"SPY","action":"sell","quantity":5,"orderType":"limit","limitPrice":"101.5","tif":"gtc"}"#;
    let order = wanted(body, Sizing::FromSignal, &known("0")).unwrap().order.unwrap();
    assert!(matches!(order.pricing, Pricing::Limit { limit } if limit.get() == dec("101.5")));
    assert_eq!(order.time_in_force, TimeInForce::Gtc);
    let first = wanted(body, Sizing::FromSignal, &known("2")).unwrap().order.unwrap();
    assert_eq!(first.pricing, Pricing::Market);
    let off = r#"{"ticker":"SPY","action":"sell","quantity":5,"orderType":"limit","limitPrice":"101.555"}"#;
    assert_eq!(wanted(off, Sizing::FromSignal, &known("0")).unwrap_err().reason, Reason::InvalidOrder);
    let none = r#"{"ticker":"SPY","action":"sell","quantity":5,"orderType":"limit"}"#;
    assert_eq!(wanted(none, Sizing::FromSignal, &known("0")).unwrap_err().reason, Reason::InvalidOrder);
}

#[test]
fn a_hook_takes_the_actions_that_it_names() {
    let long_only = HookRules { actions: Some(vec![Action::Buy, Action::Exit]), ..rules(Sizing::FromSignal) };
    let spy = "SPY".parse().unwrap();
    let of = |body: &str, held: &str| {
        Wanted::of(&message(body), &long_only, &spy, &known(held)).map(|wanted| told(&wanted))
    };
    let sell = r#"{"ticker":"SPY","action":"sell","quantity":5}"#;
    assert_eq!(of(sell, "8").unwrap(), "sell 5 closing");
    assert_eq!(of(sell, "0").unwrap_err().reason, Reason::ActionNotAllowed);
    assert_eq!(of(sell, "2").unwrap_err().reason, Reason::ActionNotAllowed, "half of it is not done either");
}

#[test]
fn more_is_added_to_what_is_held() {
    let add = r#"{"ticker":"SPY","action":"add","quantity":3}"#;
    let of = |held: &str| wanted(add, Sizing::FromSignal, &known(held)).map(|wanted| told(&wanted));
    assert_eq!(of("5").unwrap(), "buy 3");
    assert_eq!(of("-5").unwrap(), "sell 3");
    assert_eq!(of("0").unwrap_err().reason, Reason::NothingToDo);
}

mod amounts {
    use proptest::prelude::*;

    use super::*;

    fn price(cents: i64) -> Price {
        Price::new(Decimal::new(cents, 2)).unwrap()
    }

    proptest! {
        /// Whatever a sender writes into an order, what it costs at the dearest of all known prices is what the owner allowed.
        #[test]
        fn no_order_is_worth_more_than_the_amount(
            seen in 100_i64..1_000_000,
            limit in 100_i64..1_000_000,
            stop in 100_i64..1_000_000,
            kind in prop::sample::select(vec!["market", "limit", "stop", "stop_limit"]),
            side in prop::sample::select(vec!["buy", "sell"]),
            knows: bool,
        ) {
            let amount = dec("1000");
            let body = format!(
                r#"{{"ticker":"SPY","action":"{side}","orderType":"{kind}","limitPrice":"{}","stopPrice":"{}","price":"1"}}"#,
                price(limit), price(stop)
            );
            let known = Known { price: knows.then(|| price(seen)), ..known("0") };
            let sizing = Sizing::new("fixed_notional", Some(amount)).unwrap();
            let wanted = match wanted(&body, sizing, &known) {
                Ok(wanted) => wanted,
                Err(refusal) => {
                    prop_assert!(!knows || refusal.reason == Reason::InvalidSize, "{refusal}");
                    return Ok(());
                }
            };
            let order = wanted.order.clone().unwrap();
            let OrderSize::Qty(qty) = order.size else {
                prop_assert_eq!(told(&Wanted { order: Some(order), ..wanted }), "buy $1000");
                return Ok(());
            };
            let (limited, stopped) = (order.pricing.limit_price(), order.pricing.stop_price());
            let dearest = match (order.side, limited) {
                (Side::Buy, Some(limit)) => limit.get(),
                _ => [known.price, limited, stopped].into_iter().flatten().max().unwrap().get(),
            };
            prop_assert!(qty.get() * dearest <= amount, "{qty} at {dearest}");
        }
    }
}
