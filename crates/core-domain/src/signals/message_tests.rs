use super::*;

fn read(body: &str) -> Result<Message, Refusal> {
    Message::read(&Fields::parse(body.as_bytes())?)
}

fn refused(body: &str) -> Reason {
    read(body).unwrap_err().reason
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

#[test]
fn a_strategys_own_fields() {
    let message = read(
        r#"{"v":1,"id":"Short-2026-11-03T17:05:01Z","ticker":"AAPL","exchange":"NASDAQ","interval":"5","action":"sell",
        "quantity":"20","position":"short","position_size":"10","previous":"long","previous_size":"10","price":"148.9",
        "comment":"sma cross down","bar_time":"2026-11-03T17:00:00Z","sent_at":"2026-11-03T17:05:01Z"}"#,
    )
    .unwrap();
    assert_eq!(message.id.as_deref(), Some("Short-2026-11-03T17:05:01Z"));
    assert_eq!((message.action, message.quantity), (Some(Action::Sell), Some(dec("20"))));
    assert_eq!(message.position.unwrap().signed(), Some(dec("-10")));
    assert_eq!(message.previous.unwrap().signed(), Some(dec("10")));
    assert_eq!(message.sent_at.unwrap().to_rfc3339(), "2026-11-03T17:05:01+00:00");
    assert_eq!(message.order_type, OrderType::Market);
}

#[test]
fn placeholders_under_their_own_names() {
    let message = read(
        r#"{"ticker":"AAPL","strategy.order.action":"buy","strategy.order.contracts":3,"strategy.position_size":-2,
        "timenow":"2026-11-03T17:05:01Z","time":"2026-11-03T17:00:00Z","strategy.order.id":"L1"}"#,
    )
    .unwrap();
    assert_eq!(
        message.position.unwrap().signed(),
        Some(dec("-2")),
        "the sign counts where no word says more"
    );
    assert_eq!(message.order_name.as_deref(), Some("L1"));
    assert!(message.bar_time.unwrap() < message.sent_at.unwrap());
}

#[test]
fn numbers_quoted_and_bare() {
    for body in
        [r#"{"symbol":"A","side":"buy","qty":0.015}"#, r#"{"symbol":"A","side":"BUY","qty":" 0.0150 "}"#]
    {
        assert_eq!(read(body).unwrap().quantity, Some(dec("0.015")));
    }
    assert_eq!(
        read(r#"{"ticker":"A","action":"buy","quantity":1e-3}"#).unwrap().quantity,
        Some(dec("0.001"))
    );
}

#[test]
fn other_services_names() {
    let smart = read(
        r#"{"apikey":"k","strategy":"S","exchange":"NSE","symbol":"IDEA","action":"BUY","product":"MIS",
        "pricetype":"MARKET","quantity":"1","position_size":"5","price":"0","trigger_price":"0","disclosed_quantity":"0"}"#,
    )
    .unwrap();
    assert_eq!(smart.position.unwrap().signed(), Some(dec("5")));
    assert_eq!((smart.price, smart.order_type), (None, OrderType::Market));
    let flat = read(r#"{"symbol":"SBIN","action":"SELL","position_size":0}"#).unwrap();
    assert_eq!(flat.position.unwrap().signed(), Some(Decimal::ZERO));
    let limit =
        read(r#"{"symbol":"A","action":"SELL","pricetype":"LIMIT","quantity":"1","price":"10.5"}"#).unwrap();
    assert_eq!((limit.order_type, limit.limit_price), (OrderType::Limit, Some("10.5".parse().unwrap())));

    let post = read(
        r#"{"ticker":"AMD","action":"buy","sentiment":"bullish","signalPrice":143.12,"quantity":1,
        "takeProfit":{"percent":10},"stopLoss":{"type":"stop","percent":5}}"#,
    )
    .unwrap();
    assert_eq!(post.position, Some(Stated { stance: Stance::Long, size: None }));
    assert_eq!(post.take_profit, Some(ExitAt::Percent(dec("10"))));
    assert_eq!(post.stop_loss, Some(ExitAt::Percent(dec("5"))));
    assert_eq!(post.price, Some("143.12".parse().unwrap()));
    let exit = read(r#"{"ticker":"AMD","action":"exit"}"#).unwrap();
    assert_eq!(exit.position.unwrap().signed(), Some(Decimal::ZERO));
}

#[test]
fn a_size_without_a_sign_goes_with_its_word() {
    let of = |body: &str| read(body).unwrap().position.and_then(Stated::signed);
    let short = r#"{"ticker":"A","action":"sell","contracts":10,"market_position":"short","market_position_size":10}"#;
    assert_eq!(of(short), Some(dec("-10")));
    assert_eq!(
        of(r#"{"ticker":"A","action":"sell","position_size":-10,"market_position_size":10}"#),
        Some(dec("-10"))
    );
    assert_eq!(
        of(r#"{"ticker":"A","action":"sell","market_position_size":0}"#),
        Some(dec("0")),
        "flat either way"
    );
    // what it stood at before is of use only with its direction
    let before =
        r#"{"ticker":"A","action":"buy","position":"long","position_size":5,"prev_market_position_size":3}"#;
    assert_eq!(read(before).unwrap().previous, None);
}

#[test]
fn what_is_not_understood_is_refused_with_its_reason() {
    for (body, reason) in [
        (r#"{"ticker":"{{ticker}}","action":"buy"}"#, Reason::UnfilledPlaceholder),
        (r#"{"action":"buy","quantity":1}"#, Reason::MissingField),
        (r#"{"ticker":"","action":"buy"}"#, Reason::MissingField),
        (r#"{"ticker":"A","quantity":1}"#, Reason::MissingField),
        (r#"{"ticker":"A","action":"hold"}"#, Reason::UnknownAction),
        (r#"{"ticker":"A","market_position_size":10,"action":"sell"}"#, Reason::MissingField),
        (
            r#"{"ticker":"A","position":"long","position_size":10,"market_position_size":100}"#,
            Reason::Contradiction,
        ),
        (r#"{"ticker":"A","position_size":10,"strategy.position_size":-11}"#, Reason::Contradiction),
        (r#"{"ticker":"A","action":"buy","quantity":"NaN"}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","quantity":1e30}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","quantity":"1e30"}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","quantity":"Infinity"}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","quantity":true}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","price":"NaN"}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","price":-1}"#, Reason::InvalidNumber),
        (r#"{"ticker":"A","action":"buy","quantity":0}"#, Reason::InvalidSize),
        (r#"{"ticker":"A","action":"buy","quantity":"-5"}"#, Reason::InvalidSize),
        (r#"{"ticker":"A","position":"long","position_size":0}"#, Reason::InvalidSize),
        (r#"{"ticker":"A","position":"long","position_size":-1}"#, Reason::Contradiction),
        (r#"{"ticker":"A","position":"flat","position_size":1}"#, Reason::Contradiction),
        (
            r#"{"ticker":"A","action":"sell","contracts":"10","market_position_size":"10"}"#,
            Reason::MissingField,
        ),
        (r#"{"ticker":"A","action":"buy","strategy.market_position_size":10}"#, Reason::MissingField),
        (
            r#"{"ticker":"A","action":"buy","position_size":10,"market_position_size":100}"#,
            Reason::Contradiction,
        ),
        (r#"{"ticker":"A","action":"exit","position":"long","position_size":1}"#, Reason::Contradiction),
        (r#"{"ticker":"A","action":"long","position":"short"}"#, Reason::Contradiction),
        (r#"{"ticker":"A","symbol":"B","action":"buy"}"#, Reason::Contradiction),
        (r#"{"ticker":"A","position":"sideways"}"#, Reason::InvalidField),
        (r#"{"ticker":["A"],"action":"buy"}"#, Reason::InvalidField),
        (r#"{"ticker":"A","action":"buy","sent_at":"yesterday"}"#, Reason::InvalidField),
        (r#"{"ticker":"A","action":"buy","time_in_force":"soon"}"#, Reason::InvalidField),
        (r#"{"ticker":"A","action":"buy","stopLoss":{"percent":100}}"#, Reason::InvalidField),
        (
            r#"{"ticker":"A","action":"buy","stopLoss":{"type":"trailing_stop","trailPercent":1}}"#,
            Reason::Unsupported,
        ),
        (r#"{"ticker":"A","action":"buy","orderType":"iceberg"}"#, Reason::Unsupported),
    ] {
        assert_eq!(refused(body), reason, "{body}");
    }
    let long = format!(r#"{{"ticker":"{}","action":"buy"}}"#, "A".repeat(201));
    assert_eq!(refused(&long), Reason::InvalidField);
}

#[test]
fn times_in_three_forms() {
    for text in
        ["\"2026-11-03T15:31:00Z\"", "1793719860", "\"1793719860000\"", "\"2026-11-03T16:31:00+01:00\""]
    {
        let message = read(&format!(r#"{{"ticker":"A","action":"buy","timestamp":{text}}}"#)).unwrap();
        assert_eq!(message.sent_at.unwrap().timestamp(), 1_793_719_860, "{text}");
    }
}

#[test]
fn two_signals_of_one_second_have_two_keys() {
    let key = |body: &str| read(body).unwrap().content_key();
    let exit =
        r#"{"ticker":"A","action":"sell","quantity":10,"position":"flat","sent_at":"2026-11-03T15:31:00Z"}"#;
    let entry =
        r#"{"ticker":"A","action":"sell","quantity":10,"position":"short","sent_at":"2026-11-03T15:31:00Z"}"#;
    assert_eq!(key(exit), key(&exit.replace("10,", "\"10.0\",").replace("\"A\"", "\"a\"")));
    assert_ne!(key(exit), key(entry));
    assert_eq!(key(r#"{"ticker":"A","action":"buy"}"#), None);
}

#[test]
fn what_is_done_with_orders_and_holdings_states_no_position() {
    for (word, action) in [("cancel", Action::Cancel), ("ADD", Action::Add)] {
        let body = format!(r#"{{"ticker":"A","action":"{word}","quantity":1,"sentiment":"bullish"}}"#);
        let message = read(&body).unwrap();
        assert_eq!((message.action, message.position), (Some(action), None));
        assert_eq!(message.action_word(), word.to_lowercase());
    }
    assert!(read(r#"{"ticker":"A","action":"cancel","quantity":0}"#).is_ok());
    assert_eq!(refused(r#"{"ticker":"A","action":"add","quantity":0}"#), Reason::InvalidSize);
    assert_eq!("cancel".parse::<Action>(), Ok(Action::Cancel));
    assert!("add".parse::<Action>().is_err(), "it is to buy or to sell");
}
