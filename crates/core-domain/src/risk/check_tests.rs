use proptest::prelude::*;

use super::*;
use crate::order::{OrderRequest, OrderType, Pricing, TimeInForce};

fn order(side: Side, qty: i64, limit: Option<&str>) -> NewOrder {
    OrderRequest {
        symbol: "SPY".into(),
        side: Some(side),
        order_type: Some(if limit.is_some() { OrderType::Limit } else { OrderType::Market }),
        limit_price: limit.map(|price| price.parse().unwrap()),
        time_in_force: Some(TimeInForce::Day),
        qty: Some(qty.into()),
        ..OrderRequest::default()
    }
    .validate()
    .unwrap()
}

fn amount(side: Side, amount: i64) -> NewOrder {
    NewOrder { size: OrderSize::Notional(Price::new(amount.into()).unwrap()), ..order(side, 1, None) }
}

fn price(text: &str) -> Option<Price> {
    Some(text.parse().unwrap())
}

fn candidate(terms: &NewOrder) -> Candidate<'_> {
    Candidate { terms, reference: None, closes: false, replaces: None }
}

fn held(position: i64) -> Exposure {
    Exposure { position: position.into(), last_price: price("100"), ..Exposure::default() }
}

fn limits(order: Option<&str>, position: Option<&str>) -> RiskLimits {
    RiskLimits {
        max_order_notional: order.and_then(price),
        max_position_notional: position.and_then(price),
        ..RiskLimits::default()
    }
}

fn refused(
    order: &Candidate<'_>,
    limits: &RiskLimits,
    exposure: &Exposure,
) -> Option<(RiskRule, String, String)> {
    let refusal = check(order, limits, Halts::default(), exposure).err()?;
    Some((refusal.rule, refusal.limit, refusal.actual))
}

fn row(rule: RiskRule, limit: &str, actual: &str) -> Option<(RiskRule, String, String)> {
    Some((rule, limit.into(), actual.into()))
}

#[test]
fn an_orders_value_is_what_it_may_cost_at_most() {
    let limits = limits(Some("1000"), None);
    let of = |terms: &NewOrder, reference: Option<&str>| {
        let order = Candidate { reference: reference.and_then(price), ..candidate(terms) };
        refused(&order, &limits, &Exposure::default())
    };
    let rule = RiskRule::MaxOrderNotional;
    assert_eq!(of(&order(Side::Buy, 10, Some("100")), Some("999")), None, "a buy pays its limit at most");
    assert_eq!(of(&order(Side::Buy, 10, Some("100.01")), None), row(rule, "1000", "1000.1"));
    assert_eq!(
        of(&order(Side::Sell, 10, Some("1")), Some("101")),
        row(rule, "1000", "1010"),
        "a sell gets more"
    );
    let short = order(Side::Sell, 900, Some("1"));
    assert_eq!(of(&short, None), row(rule, "1000", UNKNOWN), "a sell's limit is the least that it gets");
    let stop = NewOrder { pricing: Pricing::Stop { stop: price("1").unwrap() }, ..order(Side::Buy, 9, None) };
    assert_eq!(of(&stop, None), row(rule, "1000", UNKNOWN), "a stop becomes a market order");
    assert_eq!(of(&stop, Some("112")), row(rule, "1000", "1008"));
    assert_eq!(of(&order(Side::Buy, 10, None), Some("100")), None);
    assert_eq!(of(&order(Side::Buy, 10, None), Some("100.5")), row(rule, "1000", "1005"));
    assert_eq!(
        of(&order(Side::Buy, 1, None), None),
        row(rule, "1000", UNKNOWN),
        "without a price nothing is known"
    );
    assert_eq!(of(&amount(Side::Buy, 1000), None), None);
    assert_eq!(of(&amount(Side::Buy, 1001), None), row(rule, "1000", "1001"));
    // The last fill's price is one, too.
    let terms = order(Side::Buy, 11, None);
    assert_eq!(refused(&candidate(&terms), &limits, &held(0)), row(rule, "1000", "1100"));
}

#[test]
fn a_position_is_what_it_is_when_everything_open_fills() {
    let limits = limits(None, Some("1000"));
    let rule = RiskRule::MaxPositionNotional;
    let of = |side, qty, exposure: &Exposure| refused(&candidate(&order(side, qty, None)), &limits, exposure);
    assert_eq!(of(Side::Buy, 5, &held(5)), None);
    assert_eq!(of(Side::Buy, 6, &held(5)), row(rule, "1000", "1100"));
    assert_eq!(of(Side::Sell, 5, &held(-5)), None);
    assert_eq!(of(Side::Sell, 6, &held(-5)), row(rule, "1000", "1100"), "short positions count alike");
    let open = Exposure { open_units: 4.into(), open_value: 440.into(), ..held(0) };
    assert_eq!(of(Side::Buy, 5, &open), None);
    assert_eq!(of(Side::Buy, 6, &open), row(rule, "1000", "1040"), "at the prices that they were placed at");
    let by_amount = Exposure { open_amounts: 500.into(), ..held(0) };
    assert_eq!(of(Side::Buy, 5, &by_amount), None);
    assert_eq!(of(Side::Buy, 6, &by_amount), row(rule, "1000", "1100"));
    let unpriced = Exposure { unpriced: true, open_units: 1.into(), ..held(0) };
    assert_eq!(of(Side::Buy, 1, &unpriced), row(rule, "1000", UNKNOWN));
    // Through the other side: what is left of it after the position is closed.
    assert_eq!(of(Side::Sell, 20, &held(10)), None);
    assert_eq!(of(Side::Sell, 21, &held(10)), row(rule, "1000", "1100"));
    let selling =
        Exposure { open_units: 10.into(), open_value: 1200.into(), open_dearest: price("120"), ..held(10) };
    assert_eq!(of(Side::Sell, 8, &selling), None, "the position goes first");
    assert_eq!(of(Side::Sell, 9, &selling), row(rule, "1000", "1080"), "at the highest price");
}

#[test]
fn what_makes_a_position_smaller_passes_every_limit_of_value_and_symbol() {
    let symbol = |text: &str| Some([crate::Symbol::new(text).unwrap()].into());
    let limits = RiskLimits {
        allowed_symbols: symbol("QQQ"),
        denied_symbols: symbol("SPY"),
        ..limits(Some("1"), Some("1"))
    };
    let sell = order(Side::Sell, 10, None);
    assert_eq!(refused(&candidate(&sell), &limits, &held(10)), None);
    let open = Exposure { open_units: 1.into(), ..held(10) };
    assert_eq!(refused(&candidate(&sell), &limits, &open), row(RiskRule::AllowedSymbols, "QQQ", "SPY"));
    let group = NewOrder { class: OrderClass::Bracket, ..sell.clone() };
    let rule = RiskRule::AllowedSymbols;
    assert_eq!(refused(&candidate(&group), &limits, &held(10)), row(rule, "QQQ", "SPY"), "legs open anew");
    let close = Candidate { closes: true, ..candidate(&sell) };
    assert_eq!(refused(&close, &limits, &open), None);
    let denied = RiskLimits { allowed_symbols: None, ..limits };
    assert_eq!(refused(&candidate(&sell), &denied, &held(0)), row(RiskRule::DeniedSymbols, "SPY", "SPY"));
    // An empty list of what may be traded allows nothing.
    let nothing = RiskLimits { allowed_symbols: Some([].into()), ..RiskLimits::default() };
    assert_eq!(refused(&candidate(&sell), &nothing, &held(0)), row(RiskRule::AllowedSymbols, "", "SPY"));
}

#[test]
fn counts_count_what_is_there_and_what_comes() {
    let limits =
        RiskLimits { max_open_orders: Some(3), max_orders_per_minute: Some(2), ..RiskLimits::default() };
    let buy = order(Side::Buy, 1, None);
    let of = |terms: &NewOrder, open_orders, last_minute| {
        refused(&candidate(terms), &limits, &Exposure { open_orders, last_minute, ..Exposure::default() })
    };
    assert_eq!(of(&buy, 2, 1), None);
    assert_eq!(of(&buy, 3, 1), row(RiskRule::MaxOpenOrders, "3", "4"));
    assert_eq!(of(&buy, 2, 2), row(RiskRule::MaxOrdersPerMinute, "2", "3"));
    let group = NewOrder { class: OrderClass::Bracket, ..buy.clone() };
    assert_eq!(of(&group, 0, 0), None);
    assert_eq!(of(&group, 1, 0), row(RiskRule::MaxOpenOrders, "3", "4"), "its legs are orders");
    let none = RiskLimits { max_open_orders: Some(0), ..RiskLimits::default() };
    assert!(refused(&candidate(&buy), &none, &Exposure::default()).is_some());
}

#[test]
fn a_halt_lets_through_what_makes_a_position_smaller() {
    let halts = |level| Halts { user: Some(level), global: None };
    let try_it = |level, order: &Candidate<'_>, exposure: &Exposure| {
        check(order, &RiskLimits::default(), halts(level), exposure).map_err(|refusal| refusal.rule)
    };
    let refused = Err(RiskRule::UserHalt);
    let (buy, sell, more) =
        (order(Side::Buy, 1, None), order(Side::Sell, 10, None), order(Side::Sell, 11, None));
    let open = Exposure { open_units: 1.into(), ..held(10) };
    for level in HaltLevel::ALL {
        assert_eq!(try_it(*level, &candidate(&buy), &held(10)), refused, "{level}");
        assert_eq!(try_it(*level, &candidate(&sell), &held(10)), Ok(()), "{level}");
        assert_eq!(try_it(*level, &candidate(&more), &held(10)), refused, "{level}: through the other side");
        assert_eq!(
            try_it(*level, &candidate(&amount(Side::Sell, 1)), &held(10)),
            refused,
            "{level}: by amount"
        );
        assert_eq!(
            try_it(*level, &candidate(&sell), &open),
            refused,
            "{level}: beside an open exit it opens"
        );
        for class in [OrderClass::Bracket, OrderClass::Oto] {
            let group = NewOrder { class, ..sell.clone() };
            assert_eq!(try_it(*level, &candidate(&group), &held(10)), refused, "{level}: legs open anew");
        }
        let exits = NewOrder { class: OrderClass::Oco, ..sell.clone() };
        assert_eq!(try_it(*level, &candidate(&exits), &held(10)), Ok(()), "{level}");
        let sent = Candidate { closes: true, ..candidate(&buy) };
        assert_eq!(try_it(*level, &sent, &held(10)), refused, "{level}");
        // An open entry may become smaller, or dearer, at the lowest level only.
        let expected = if *level == HaltLevel::BlockEntries { Ok(()) } else { refused };
        let entry = order(Side::Buy, 5, Some("90"));
        let was = Candidate { replaces: Some(OrderSize::Qty("5".parse().unwrap())), ..candidate(&entry) };
        assert_eq!(try_it(*level, &was, &held(0)), expected, "{level}");
        let larger = Candidate { replaces: Some(OrderSize::Qty("4".parse().unwrap())), ..was };
        assert_eq!(try_it(*level, &larger, &held(0)), refused, "{level}");
    }
}

#[test]
fn a_refusal_says_rule_limit_and_actual_value() {
    let halts = Halts { user: None, global: Some(HaltLevel::ReduceOnly) };
    let buy = order(Side::Buy, 3, None);
    let halted = check(&candidate(&buy), &limits(Some("1"), None), halts, &held(0)).unwrap_err();
    assert_eq!(halted.code(), "trading_halted");
    assert_eq!(
        halted.to_string(),
        "global_halt: reduce_only is in force, and the order is a buy of 3 SPY at a position of 0 with 0 open on its side"
    );
    let limit = check(&candidate(&buy), &limits(Some("1"), None), Halts::default(), &held(0)).unwrap_err();
    assert_eq!(limit.code(), "risk_limit");
    assert_eq!(limit.to_string(), "max_order_notional: the limit is 1, and it would be 300");
    assert!(!limit.price_unknown() && !halted.price_unknown());
    let unpriced = check(&candidate(&buy), &limits(Some("1"), None), Halts::default(), &Exposure::default());
    assert!(unpriced.unwrap_err().price_unknown());
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Order { buy: bool, qty: i64, price: i64 },
    Fill { at: usize },
    Cancel { at: usize },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (any::<bool>(), 1..12_i64, 50..150_i64).prop_map(|(buy, qty, price)| Act::Order { buy, qty, price }),
        2 => any::<usize>().prop_map(|at| Act::Fill { at }),
        1 => any::<usize>().prop_map(|at| Act::Cancel { at }),
    ];
    proptest::collection::vec(act, 1..60)
}

proptest! {
    /// Whatever is ordered, filled and canceled in whatever order: should everything open on one side fill, the units
    /// bought or sold beyond flat never cost more than the limit.
    #[test]
    fn no_sequence_takes_a_position_beyond_its_limit(acts in acts()) {
        let most = Decimal::from(1000);
        let limits = limits(None, Some("1000"));
        let (mut position, mut open) = (Decimal::ZERO, Vec::<(Side, Decimal, Decimal)>::new());
        // Everything trades at one price at most, so that the value of a position does not move by itself.
        let mark = price("150");
        for act in acts {
            match act {
                Act::Order { buy, qty, price: limit } => {
                    let side = if buy { Side::Buy } else { Side::Sell };
                    let terms = order(side, qty, Some(&limit.to_string()));
                    let on_side = || open.iter().filter(|(of, ..)| *of == side);
                    let cost = |limit: Decimal| if buy { limit } else { Decimal::from(150) };
                    let exposure = Exposure {
                        position,
                        last_price: mark,
                        open_units: on_side().map(|(_, units, _)| *units).sum(),
                        open_value: on_side().map(|(_, units, limit)| units * cost(*limit)).sum(),
                        open_dearest: on_side().map(|(_, _, limit)| Price::new(cost(*limit)).unwrap()).max(),
                        ..Exposure::default()
                    };
                    if check(&candidate(&terms), &limits, Halts::default(), &exposure).is_ok() {
                        open.push((side, Decimal::from(qty), Decimal::from(limit)));
                    }
                }
                Act::Fill { at } if !open.is_empty() => {
                    let (side, units, _) = open.remove(at % open.len());
                    position += if side == Side::Buy { units } else { -units };
                }
                Act::Cancel { at } if !open.is_empty() => {
                    open.remove(at % open.len());
                }
                Act::Fill { .. } | Act::Cancel { .. } => {}
            }
            // The cheapest that a unit can be held at is 50: so many units are never exceeded.
            for side in [Side::Buy, Side::Sell] {
                let ahead: Decimal = open.iter().filter(|(of, ..)| *of == side).map(|(_, units, _)| *units).sum();
                let worst = match side { Side::Buy => position + ahead, Side::Sell => ahead - position };
                prop_assert!(worst * Decimal::from(50) <= most, "{worst} units on {side}");
            }
        }
    }
}
