use super::*;

fn dec(text: &str) -> Option<Decimal> {
    Some(text.parse().unwrap())
}

fn request(change: impl FnOnce(&mut OrderRequest)) -> OrderRequest {
    let mut request = OrderRequest {
        symbol: "AAPL".into(),
        side: Some(Side::Buy),
        order_type: Some(OrderType::Market),
        time_in_force: Some(TimeInForce::Day),
        qty: dec("10"),
        ..OrderRequest::default()
    };
    change(&mut request);
    request
}

fn codes(change: impl FnOnce(&mut OrderRequest)) -> Vec<(&'static str, &'static str)> {
    match request(change).validate() {
        Ok(order) => panic!("accepted: {order:?}"),
        Err(errors) => errors.into_iter().map(|e| (e.pointer, e.code)).collect(),
    }
}

fn limit(request: &mut OrderRequest, price: &str) {
    request.order_type = Some(OrderType::Limit);
    request.limit_price = dec(price);
}

#[test]
fn plain_orders_of_every_type_are_taken() {
    assert!(request(|_| ()).validate().is_ok());
    assert!(request(|r| limit(r, "150.25")).validate().is_ok());
    assert!(request(|r| limit(r, "0.1234")).validate().is_ok());
    assert!(
        request(|r| {
            r.order_type = Some(OrderType::Stop);
            r.stop_price = dec("99.5");
        })
        .validate()
        .is_ok()
    );
    assert!(
        request(|r| {
            r.order_type = Some(OrderType::TrailingStop);
            r.trail_percent = dec("2.5");
        })
        .validate()
        .is_ok()
    );
    assert!(
        request(|r| {
            r.qty = None;
            r.notional = dec("100.50");
        })
        .validate()
        .is_ok()
    );
    assert!(
        request(|r| {
            r.symbol = "BTC/USD".into();
            r.time_in_force = Some(TimeInForce::Gtc);
            r.qty = dec("0.000000001");
        })
        .validate()
        .is_ok()
    );
    assert!(
        request(|r| {
            limit(r, "10");
            r.extended_hours = true;
        })
        .validate()
        .is_ok()
    );
}

#[test]
fn all_errors_are_told_at_once() {
    let errors = OrderRequest::default().validate().unwrap_err();
    let pointers: Vec<_> = errors.iter().map(|e| e.pointer).collect();
    assert_eq!(pointers, ["/symbol", "/side", "/type", "/time_in_force", "/qty"]);
}

#[test]
fn sizes_out_of_range_are_refused() {
    assert_eq!(codes(|r| r.qty = dec("0")), [("/qty", "not_positive")]);
    assert_eq!(codes(|r| r.qty = dec("-3")), [("/qty", "not_positive")]);
    assert_eq!(codes(|r| r.qty = dec("0.0000000001")), [("/qty", "too_precise")]);
    assert_eq!(codes(|r| r.qty = dec("1000000000000000")), [("/qty", "too_large")]);
    assert_eq!(codes(|r| r.notional = dec("5")), [("/notional", "not_allowed")]);
    assert_eq!(
        codes(|r| {
            r.qty = None;
            r.notional = dec("5.001");
        }),
        [("/notional", "too_precise")]
    );
    assert_eq!(
        codes(|r| {
            r.qty = None;
            r.notional = dec("0.99");
        }),
        [("/notional", "too_small")]
    );
}

#[test]
fn prices_belong_to_their_types() {
    assert_eq!(codes(|r| r.limit_price = dec("1")), [("/limit_price", "not_allowed")]);
    assert_eq!(codes(|r| r.stop_price = dec("1")), [("/stop_price", "not_allowed")]);
    assert_eq!(codes(|r| r.trail_price = dec("1")), [("/trail_price", "not_allowed")]);
    assert_eq!(codes(|r| r.order_type = Some(OrderType::Limit)), [("/limit_price", "required")]);
    assert_eq!(codes(|r| limit(r, "290.123")), [("/limit_price", "sub_penny")]);
    assert_eq!(codes(|r| limit(r, "0.12345")), [("/limit_price", "sub_penny")]);
    assert_eq!(codes(|r| r.order_type = Some(OrderType::TrailingStop)), [("/trail_price", "required")]);
    assert_eq!(
        codes(|r| {
            r.order_type = Some(OrderType::TrailingStop);
            r.trail_percent = dec("100");
        }),
        [("/trail_percent", "too_large")]
    );
}

#[test]
fn combinations_that_no_broker_takes_are_refused() {
    assert_eq!(
        codes(|r| {
            r.qty = dec("1.5");
            r.time_in_force = Some(TimeInForce::Gtc);
        }),
        [("/time_in_force", "not_allowed")]
    );
    assert_eq!(codes(|r| r.extended_hours = true), [("/extended_hours", "not_allowed")]);
    assert_eq!(
        codes(|r| {
            r.order_type = Some(OrderType::Stop);
            r.stop_price = dec("9");
            r.time_in_force = Some(TimeInForce::Opg);
        }),
        [("/time_in_force", "not_allowed")]
    );
    assert_eq!(codes(|r| r.symbol = "BTC/USD".into()), [("/time_in_force", "not_allowed")]);
    assert_eq!(codes(|r| r.symbol = "aapl".into()), [("/symbol", "invalid_symbol")]);
}

fn bracket(request: &mut OrderRequest, take: &str, stop: &str) {
    request.class = Some(OrderClass::Bracket);
    request.take_profit = dec(take);
    request.stop_loss = Some((dec(stop), None));
}

#[test]
fn groups_have_their_legs_on_the_right_sides() {
    assert!(request(|r| bracket(r, "110", "90")).validate().is_ok());
    assert!(
        request(|r| {
            r.side = Some(Side::Sell);
            bracket(r, "90", "110");
        })
        .validate()
        .is_ok()
    );
    assert_eq!(codes(|r| bracket(r, "90", "110")), [("/stop_loss/stop_price", "wrong_side")]);
    assert_eq!(
        codes(|r| {
            limit(r, "100");
            bracket(r, "110", "105");
        }),
        [("/stop_loss/stop_price", "wrong_side")]
    );
    assert_eq!(
        codes(|r| {
            bracket(r, "110", "90");
            r.take_profit = None;
        }),
        [("/take_profit", "required")]
    );
    assert_eq!(
        codes(|r| {
            bracket(r, "110", "90");
            r.stop_loss = Some((None, None));
        }),
        [("/stop_loss/stop_price", "required"), ("/stop_loss", "required"),]
    );
    assert_eq!(
        codes(|r| {
            bracket(r, "110", "90");
            r.class = None;
        }),
        [("/take_profit", "not_allowed"), ("/stop_loss", "not_allowed"),]
    );
    assert_eq!(
        codes(|r| {
            bracket(r, "110", "90");
            r.qty = dec("1.5");
        }),
        [("/order_class", "not_allowed")]
    );
    let oco = request(|r| {
        r.side = Some(Side::Sell);
        r.order_type = Some(OrderType::Limit);
        bracket(r, "110", "90");
        r.class = Some(OrderClass::Oco);
    });
    assert_eq!(oco.validate().unwrap().pricing, Pricing::Limit { limit: "110".parse().unwrap() });
}
