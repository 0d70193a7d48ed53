//! Every refusal: status, code and text.

use plimsoll_paper_exchange::account::ConfigurationsPatch;
use plimsoll_paper_exchange::order::{
    CloseAmount, OrderClass, OrderQuery, OrderType, PositionIntent, Side, StopLoss, TimeInForce,
};
use plimsoll_paper_exchange::{ExchangeConfig, MarketData, NewOrder, Refusal, Replacement};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::support::{Sim, buy, dec, gtc, limit, sell, stop, stop_loss, take_profit};

fn refused(refusal: &Refusal, http: u16, code: u32, message: &str) {
    assert_eq!((refusal.http_status, refusal.code, refusal.message.as_str()), (http, Some(code), message));
}

#[test]
fn combinations() {
    let trailing = |price: Option<&str>, percent: Option<&str>| NewOrder {
        kind: OrderType::TrailingStop,
        trail_price: price.map(dec),
        trail_percent: percent.map(dec),
        ..sell(1)
    };
    let class = |order_class: OrderClass, order: NewOrder| NewOrder { order_class, ..order };
    let bracket = |limit: &str, stop: &str| NewOrder {
        order_class: OrderClass::Bracket,
        take_profit: take_profit(limit),
        stop_loss: stop_loss(stop),
        ..buy(1)
    };
    let qty = |text: &str| NewOrder { qty: Some(dec(text)), ..buy(1) };
    let notional = |text: &str| NewOrder { qty: None, notional: Some(dec(text)), ..buy(1) };
    let tif = |time_in_force: TimeInForce, order: NewOrder| NewOrder { time_in_force, ..order };
    let sub_penny = |field: &str, price: &str| {
        format!("invalid {field} {price}. sub-penny increment does not fulfill minimum pricing criteria")
    };
    let coin =
        |order: NewOrder| NewOrder { symbol: "BTC/USD".into(), time_in_force: TimeInForce::Gtc, ..order };
    let cases: Vec<(NewOrder, u16, u32, String)> = vec![
        (NewOrder { symbol: "xyz us".into(), ..buy(1) }, 422, 42210000, "asset \"xyz us\" not found".into()),
        (
            NewOrder { notional: Some(dec("10")), ..buy(1) },
            400,
            40010000,
            "only one of qty or notional is accepted".into(),
        ),
        (NewOrder { qty: None, ..buy(1) }, 422, 40010001, "qty or notional is required".into()),
        (qty("0"), 422, 40010001, "qty must be > 0".into()),
        (qty("-1"), 422, 40010001, "qty must be > 0".into()),
        (qty("0.0000000001"), 422, 40010001, "qty must be limited to 9 decimal places".into()),
        (qty("1000000001"), 422, 40010001, "qty is too large".into()),
        (notional("-5"), 422, 40010001, "notional must be > 0".into()),
        (notional("10.001"), 422, 40010001, "notional value must be limited to 2 decimal places".into()),
        (
            NewOrder { limit_price: Some(dec("1")), ..buy(1) },
            422,
            40010001,
            "market orders require no stop or limit price".into(),
        ),
        (
            NewOrder { stop_price: Some(dec("1")), ..buy(1) },
            422,
            40010001,
            "market orders require no stop or limit price".into(),
        ),
        (
            NewOrder { kind: OrderType::Limit, ..buy(1) },
            422,
            40010001,
            "limit orders require a limit price".into(),
        ),
        (
            NewOrder { stop_price: Some(dec("1")), ..limit(Side::Buy, 1, "1") },
            422,
            40010001,
            "limit orders require no stop price".into(),
        ),
        (limit(Side::Buy, 1, "0"), 422, 40010001, "limit price must be > 0".into()),
        (
            NewOrder { kind: OrderType::Stop, ..buy(1) },
            422,
            40010001,
            "stop orders require a stop price".into(),
        ),
        (
            NewOrder { limit_price: Some(dec("1")), ..stop(Side::Buy, 1, "101") },
            422,
            40010001,
            "stop orders require no limit price".into(),
        ),
        (
            NewOrder { kind: OrderType::StopLimit, ..stop(Side::Buy, 1, "101") },
            422,
            40010001,
            "stop limit orders require both a stop and a limit price".into(),
        ),
        (
            trailing(None, None),
            422,
            40010001,
            "trailing stop orders must specify one of trail_price or trail_percent".into(),
        ),
        (
            trailing(Some("1"), Some("1")),
            422,
            40010001,
            "trailing stop orders must specify one of trail_price or trail_percent".into(),
        ),
        (trailing(Some("0"), None), 422, 40010001, "trail price must be > 0".into()),
        (trailing(None, Some("100")), 422, 40010001, "trail percent must be < 100".into()),
        (
            NewOrder { trail_price: Some(dec("1")), ..buy(1) },
            422,
            40010001,
            "only trailing stop orders accept trail_price or trail_percent".into(),
        ),
        (limit(Side::Buy, 1, "290.123"), 422, 42210000, sub_penny("limit_price", "290.123")),
        (limit(Side::Buy, 1, "0.12345"), 422, 42210000, sub_penny("limit_price", "0.12345")),
        (stop(Side::Buy, 1, "101.001"), 422, 42210000, sub_penny("stop_price", "101.001")),
        (bracket("110.001", "90"), 422, 42210000, sub_penny("take_profit.limit_price", "110.001")),
        (bracket("110", "90.001"), 422, 42210000, sub_penny("stop_loss.stop_price", "90.001")),
        (tif(TimeInForce::Gtc, qty("1.5")), 422, 42210000, "fractional orders must be DAY orders".into()),
        (tif(TimeInForce::Ioc, notional("50")), 422, 42210000, "fractional orders must be DAY orders".into()),
        (
            NewOrder { qty: Some(dec("1.5")), ..bracket("110", "90") },
            422,
            42210000,
            "fractional orders must be simple orders".into(),
        ),
        (
            NewOrder { qty: Some(dec("1.5")), ..trailing(Some("1"), None) },
            422,
            42210000,
            "fractional orders must not be trailing stop orders".into(),
        ),
        (notional("0.99"), 422, 42210000, "cost basis must be >= minimal amount of order 1".into()),
        (
            NewOrder { extended_hours: true, ..buy(1) },
            422,
            40010001,
            "only type=\"limit\" is allowed for extended hours orders".into(),
        ),
        (
            NewOrder { extended_hours: true, ..tif(TimeInForce::Ioc, limit(Side::Buy, 1, "99")) },
            422,
            42210000,
            "extended hours orders must be DAY or GTC orders".into(),
        ),
        (
            tif(TimeInForce::Ioc, trailing(Some("1"), None)),
            422,
            42210000,
            "trailing stop orders must be DAY or GTC orders".into(),
        ),
        (
            tif(TimeInForce::Opg, buy(1)),
            422,
            42210000,
            "opg orders cannot be submitted after 9:28am and before 7:00pm".into(),
        ),
        (
            tif(TimeInForce::Cls, stop(Side::Buy, 1, "101")),
            422,
            42210000,
            "cls orders must be market or limit orders".into(),
        ),
        (
            NewOrder { take_profit: take_profit("110"), ..buy(1) },
            422,
            40010001,
            "simple orders require no take_profit and no stop_loss".into(),
        ),
        (
            NewOrder { take_profit: None, ..bracket("110", "90") },
            422,
            40010001,
            "bracket orders require take_profit.limit_price".into(),
        ),
        (
            NewOrder { stop_loss: None, ..bracket("110", "90") },
            422,
            40010001,
            "bracket orders require stop_loss.stop_price".into(),
        ),
        (
            class(OrderClass::Oto, buy(1)),
            422,
            40010001,
            "oto orders require either take_profit or stop_loss".into(),
        ),
        (
            class(OrderClass::Oto, bracket("110", "90")),
            422,
            40010001,
            "oto orders require either take_profit or stop_loss".into(),
        ),
        (
            class(OrderClass::Oco, NewOrder { side: Side::Sell, ..bracket("110", "90") }),
            422,
            40010001,
            "market orders require no stop or limit price".into(),
        ),
        (
            NewOrder {
                order_class: OrderClass::Oco,
                take_profit: take_profit("110"),
                stop_loss: stop_loss("90"),
                kind: OrderType::Limit,
                ..sell(1)
            },
            422,
            42210000,
            "oco orders must be exit orders".into(),
        ),
        (
            NewOrder { kind: OrderType::TrailingStop, trail_price: Some(dec("1")), ..bracket("110", "90") },
            422,
            42210000,
            "trailing stop orders must be simple orders".into(),
        ),
        (
            NewOrder {
                kind: OrderType::Limit,
                limit_price: Some(dec("99")),
                extended_hours: true,
                ..bracket("110", "90")
            },
            422,
            42210000,
            "complex orders not supported for extended hours trading".into(),
        ),
        (
            tif(TimeInForce::Ioc, bracket("110", "90")),
            422,
            42210000,
            "bracket orders must be DAY or GTC orders".into(),
        ),
        (bracket("90", "91"), 422, 42210000, "take_profit.limit_price must be > stop_loss.stop_price".into()),
        (bracket("110", "100"), 422, 42210000, "stop_loss.stop_price must be <= base_price - 0.01".into()),
        (
            NewOrder { kind: OrderType::Limit, limit_price: Some(dec("95")), ..bracket("110", "95") },
            422,
            42210000,
            "stop_loss.stop_price must be <= base_price - 0.01".into(),
        ),
        (
            NewOrder { side: Side::Sell, ..bracket("90", "100") },
            422,
            42210000,
            "stop_loss.stop_price must be >= base_price + 0.01".into(),
        ),
        (bracket("-1", "-2"), 422, 40010001, "take_profit.limit_price must be > 0".into()),
        (stop(Side::Sell, 1, "100"), 422, 42210000, "stop price must be less than current price".into()),
        (stop(Side::Buy, 1, "100"), 422, 42210000, "stop price must be greater than current price".into()),
        (
            NewOrder { client_order_id: Some("x".repeat(129)), ..buy(1) },
            422,
            40010001,
            "client_order_id must be no more than 128 characters".into(),
        ),
        (
            NewOrder { position_intent: Some(PositionIntent::SellToClose), ..sell(1) },
            422,
            42210000,
            "position intent mismatch, inferred: sell_to_open, specified: sell_to_close".into(),
        ),
        (coin(stop(Side::Buy, 1, "101")), 422, 40010001, "invalid order type for crypto order".into()),
        (tif(TimeInForce::Day, coin(buy(1))), 422, 42210000, "invalid crypto time_in_force".into()),
        (
            NewOrder { time_in_force: TimeInForce::Day, ..coin(buy(1)) },
            422,
            42210000,
            "invalid crypto time_in_force".into(),
        ),
        (coin(bracket("110", "90")), 422, 42210000, "crypto orders must be simple orders".into()),
        (
            coin(NewOrder { qty: Some(dec("0.000001")), ..buy(1) }),
            422,
            42210000,
            "minimal order size is 0.000012".into(),
        ),
        (coin(sell(1)), 403, 40310000, "asset \"BTC/USD\" cannot be sold short".into()),
    ];
    for (order, http, code, message) in cases {
        let mut sim = Sim::fixed();
        let told = format!("{order:?}");
        let refusal = sim.submit(order).expect_err(&told);
        assert_eq!(
            (refusal.http_status, refusal.code, refusal.message.as_str()),
            (http, Some(code), message.as_str()),
            "{told}"
        );
        // Nothing of a refused order remains.
        let all =
            OrderQuery { status: plimsoll_paper_exchange::order::StatusFilter::All, ..OrderQuery::default() };
        assert!(sim.exchange.orders(sim.account, &all).unwrap().is_empty());
        assert!(sim.events.is_empty());
        assert_eq!(sim.records.len(), 2, "the exchange's and the account's");
    }
}

#[test]
fn client_ids_are_unique_for_ever_and_free_after_a_refusal() {
    let mut sim = Sim::fixed();
    let named = |order: NewOrder| NewOrder { client_order_id: Some("mine".into()), ..order };
    sim.submit(named(limit(Side::Buy, 1, "290.123"))).unwrap_err();
    let id = sim.take(named(limit(Side::Buy, 1, "90")));
    refused(&sim.submit(named(buy(1))).unwrap_err(), 422, 40010001, "client_order_id must be unique");
    sim.cancel(id).unwrap();
    sim.settle();
    refused(&sim.submit(named(buy(1))).unwrap_err(), 422, 40010001, "client_order_id must be unique");
    assert_eq!(sim.exchange.order_by_client_id(sim.account, "mine").unwrap().id, id);
    // Another account has its own names.
    let now = sim.now();
    let other = sim.exchange.create_account(None, now);
    sim.exchange.submit(other, named(buy(1)), now).unwrap();
}

#[test]
fn wash_trades() {
    let wash = |kind: &str| {
        format!("potential wash trade detected. opposite side {kind} order exists. use complex orders")
    };
    let mut sim = Sim::fixed();
    sim.hold(10);
    sim.take(limit(Side::Buy, 1, "95"));
    refused(&sim.submit(sell(1)).unwrap_err(), 403, 40310000, &wash("limit"));
    refused(&sim.submit(limit(Side::Sell, 1, "95")).unwrap_err(), 403, 40310000, &wash("limit"));
    sim.submit(limit(Side::Sell, 1, "95.01")).unwrap();
    // A protective stop stands against any simple buy.
    let mut sim = Sim::fixed();
    sim.hold(10);
    sim.take(stop(Side::Sell, 10, "90"));
    refused(&sim.submit(limit(Side::Buy, 1, "80")).unwrap_err(), 403, 40310000, &wash("market/stop"));
}

#[test]
fn quantity_and_shorting() {
    let mut sim = Sim::fixed();
    sim.hold(3);
    let holder = sim.take(limit(Side::Sell, 3, "120"));
    let refusal = sim.submit(limit(Side::Sell, 1, "120")).unwrap_err();
    assert_eq!(
        serde_json::Value::Object(refusal.body()),
        serde_json::json!({
            "available": "0", "code": 40310000, "existing_qty": "3", "held_for_orders": "3",
            "message": "insufficient qty available for order (requested: 1, available: 0)",
            "related_orders": [holder.to_string()], "symbol": "XYZ",
        })
    );
    // No flip through zero.
    let mut sim = Sim::fixed();
    sim.hold(3);
    let refusal = sim.submit(sell(4)).unwrap_err();
    refused(&refusal, 403, 40310000, "insufficient qty available for order (requested: 4, available: 3)");
    assert!(!refusal.extra.contains_key("related_orders"));

    let mut sim = Sim::fixed();
    sim.submit(buy(1)).unwrap();
    refused(
        &sim.submit(sell(1)).unwrap_err(),
        403,
        40310000,
        "cannot open a short sell while a long buy order is open",
    );
    let mut sim = Sim::fixed();
    sim.take(limit(Side::Sell, 1, "120"));
    refused(
        &sim.submit(limit(Side::Buy, 1, "90")).unwrap_err(),
        403,
        40310000,
        "cannot open a long buy while a short sell order is open",
    );
    let mut sim = Sim::fixed();
    let fraction = NewOrder { qty: Some(dec("0.5")), ..sell(1) };
    refused(&sim.submit(fraction).unwrap_err(), 422, 42210000, "fractional orders cannot be sold short");

    let now = sim.now();
    let patch = ConfigurationsPatch { no_shorting: Some(true), ..ConfigurationsPatch::default() };
    sim.exchange.configure(sim.account, patch, now).unwrap();
    refused(&sim.submit(sell(1)).unwrap_err(), 403, 40310000, "account is not allowed to short");
    let poor = sim.exchange.create_account(Some(dec("1999.99")), now);
    refused(
        &sim.exchange.submit(poor, sell(1), now).unwrap_err(),
        403,
        40310000,
        "account is not allowed to short",
    );
}

#[test]
fn buying_power() {
    let mut sim = Sim::fixed();
    // Twice the equity, by the limit, by the collar of 2.5 %, and by 3 % above the ask for shorts.
    for (order, cost) in [
        (limit(Side::Buy, 2001, "100"), "200100"),
        (buy(1952), "200080"),
        (sell(1942), "200026"),
        (limit(Side::Sell, 1900, "110"), "209000"),
        (stop(Side::Buy, 1860, "105"), "200182.5"),
    ] {
        let refusal = sim.submit(order).unwrap_err();
        refused(&refusal, 403, 40310000, "insufficient buying power");
        assert_eq!(refusal.extra["buying_power"], "200000");
        assert_eq!(refusal.extra["cost_basis"], cost);
    }
    // Open orders reduce it, exactly.
    sim.take(limit(Side::Buy, 1000, "99.99"));
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("100010"));
    refused(
        &sim.submit(limit(Side::Buy, 1001, "99.99")).unwrap_err(),
        403,
        40310000,
        "insufficient buying power",
    );
    sim.submit(limit(Side::Buy, 1000, "99.99")).unwrap();
    // Coins are bought with cash only.
    let mut sim = Sim::fixed();
    let coins = |qty: u32| NewOrder { symbol: "BTC/USD".into(), ..gtc(limit(Side::Buy, qty, "100")) };
    refused(&sim.submit(coins(1001)).unwrap_err(), 403, 40310000, "insufficient buying power");
    sim.submit(coins(1000)).unwrap();
    // Below $2 000 there is no margin.
    let now = sim.now();
    let poor = sim.exchange.create_account(Some(dec("1000")), now);
    let view = sim.exchange.account_view(poor).unwrap();
    assert_eq!((view.multiplier, view.buying_power), (Decimal::ONE, dec("1000")));
}

#[test]
fn cancel_and_replace() {
    let mut sim = Sim::fixed();
    let account = sim.account;
    let nobody = Uuid::nil();
    refused(&sim.cancel(nobody).unwrap_err(), 404, 40410000, "order not found");
    let filled = sim.take(buy(1));
    refused(&sim.cancel(filled).unwrap_err(), 422, 42210000, "order is already in \"filled\" state");
    let now = sim.now();
    let price = |price: &str| Replacement { limit_price: Some(dec(price)), ..Replacement::default() };
    let qty = |qty: &str| Replacement { qty: Some(dec(qty)), ..Replacement::default() };
    let replace = |sim: &mut Sim, id, change| sim.exchange.replace(account, id, change, now).unwrap_err();
    refused(&replace(&mut sim, nobody, price("90")), 404, 40410000, "order not found");
    refused(&replace(&mut sim, filled, qty("2")), 422, 42210000, "order is already in \"filled\" state");
    let fresh = sim.submit(limit(Side::Buy, 1, "90")).unwrap().id;
    refused(
        &replace(&mut sim, fresh, price("91")),
        422,
        42210000,
        "cannot replace order in pending_new status",
    );
    sim.settle();
    let cases = [
        (
            Replacement::default(),
            40010001,
            "at least one of qty, time_in_force, limit_price, stop_price or trail is required",
        ),
        (qty("0"), 40010001, "qty must be > 0"),
        (qty("1.5"), 42210000, "qty must be a whole number"),
        (
            price("90.001"),
            42210000,
            "invalid limit_price 90.001. sub-penny increment does not fulfill minimum pricing criteria",
        ),
        (price("-1"), 40010001, "limit price must be > 0"),
        (
            Replacement { stop_price: Some(dec("1")), ..Replacement::default() },
            42210000,
            "stop_price cannot be replaced for limit orders",
        ),
        (
            Replacement { trail: Some(dec("1")), ..Replacement::default() },
            42210000,
            "trail cannot be replaced for limit orders",
        ),
        (
            Replacement { client_order_id: Some(sim.order(filled).client_order_id), ..price("91") },
            40010001,
            "client_order_id must be unique",
        ),
    ];
    for (change, code, text) in cases {
        let now = sim.now();
        refused(&sim.exchange.replace(account, fresh, change, now).unwrap_err(), 422, code, text);
    }
    refused(
        &sim.exchange.replace(account, fresh, qty("5000"), now).unwrap_err(),
        403,
        40310000,
        "insufficient buying power",
    );

    // Closed market: an accepted order cannot be replaced.
    let market = MarketData::fixed_price(dec("100")).unwrap();
    let mut sim = Sim::starting(market, ExchangeConfig::default(), "02:00:00");
    let waiting = sim.take(limit(Side::Buy, 1, "90"));
    let now = sim.now();
    let refusal = sim.exchange.replace(sim.account, waiting, price("91"), now).unwrap_err();
    refused(&refusal, 422, 42210000, "cannot replace order in accepted status");

    let mut sim = Sim::fixed();
    let dollars = sim.take(NewOrder { notional: Some(dec("50")), qty: None, ..limit(Side::Buy, 1, "90") });
    let now = sim.now();
    let refusal = sim.exchange.replace(sim.account, dollars, price("91"), now).unwrap_err();
    refused(&refusal, 422, 42210000, "notional orders cannot be replaced");
}

#[test]
fn look_ups_and_closes() {
    let mut sim = Sim::fixed();
    let (account, now) = (sim.account, sim.now());
    let missing = "position does not exist";
    refused(&sim.exchange.position(account, "XYZ").unwrap_err(), 404, 40410000, missing);
    refused(
        &sim.exchange.close_position(account, "XYZ", CloseAmount::All, now).unwrap_err(),
        404,
        40410000,
        missing,
    );
    refused(&sim.exchange.asset("no such").unwrap_err(), 404, 40410000, "asset not found for no such");
    refused(&sim.exchange.order_by_client_id(account, "x").unwrap_err(), 404, 40410000, "order not found");
    sim.hold(10);
    for (amount, text) in [
        (CloseAmount::Qty(dec("0")), "qty must be > 0"),
        (CloseAmount::Percentage(dec("0")), "percentage must be > 0 and <= 100"),
        (CloseAmount::Percentage(dec("100.1")), "percentage must be > 0 and <= 100"),
    ] {
        let now = sim.now();
        refused(&sim.exchange.close_position(account, "XYZ", amount, now).unwrap_err(), 422, 40010001, text);
    }
    sim.take(stop(Side::Sell, 10, "90"));
    let now = sim.now();
    let refusal = sim.exchange.close_position(account, "XYZ", CloseAmount::All, now).unwrap_err();
    refused(&refusal, 403, 40310000, "insufficient qty available for order (requested: 10, available: 0)");
    // One account never sees another's orders.
    let own = sim.order(sim.exchange.orders(account, &OrderQuery::default()).unwrap()[0].id).id;
    let other = sim.exchange.create_account(None, now);
    refused(&sim.exchange.order(other, own, false).unwrap_err(), 404, 40410000, "order not found");
    refused(&sim.exchange.cancel(other, own, now).unwrap_err(), 404, 40410000, "order not found");
}

#[test]
fn settings() {
    let mut sim = Sim::fixed();
    let now = sim.now();
    let patch =
        |value: &str| ConfigurationsPatch { max_margin_multiplier: Some(value.into()), ..Default::default() };
    let refusal = sim.exchange.configure(sim.account, patch("3"), now).unwrap_err();
    refused(&refusal, 422, 40010001, "max_margin_multiplier must be 1, 2 or 4");
    sim.exchange.configure(sim.account, patch("1"), now).unwrap();
    assert_eq!(sim.exchange.account_view(sim.account).unwrap().buying_power, dec("100000"));
    let patch = ConfigurationsPatch { suspend_trade: Some(true), ..Default::default() };
    sim.exchange.configure(sim.account, patch, now).unwrap();
    refused(&sim.submit(buy(1)).unwrap_err(), 403, 40310000, "trading is suspended by user");
    let patch = ConfigurationsPatch {
        suspend_trade: Some(false),
        fractional_trading: Some(false),
        ..Default::default()
    };
    sim.exchange.configure(sim.account, patch, now).unwrap();
    let half = NewOrder { qty: Some(dec("0.5")), ..buy(1) };
    refused(
        &sim.submit(half).unwrap_err(),
        403,
        40310000,
        "account is not allowed to trade fractional shares",
    );
}

#[test]
fn stop_limit_legs_keep_their_limit() {
    let mut sim = Sim::fixed();
    let leg = StopLoss { stop_price: Some(dec("90")), limit_price: Some(dec("89.5")) };
    let order = NewOrder { order_class: OrderClass::Oto, stop_loss: Some(leg), ..buy(1) };
    let legs = sim.submit(order).unwrap().legs.unwrap();
    assert_eq!((legs[0].kind, legs[0].limit_price), (OrderType::StopLimit, Some(dec("89.5"))));
}
