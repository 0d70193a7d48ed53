//! The promises about calls.

use plimsoll_core_domain::broker::{BrokerError, OrderListQuery, ReplaceOrder};
use plimsoll_core_domain::order::{LegRole, OrderClass, OrderStatus, Pricing, Side, StopLoss};
use rust_decimal::Decimal;

use super::{Bench, cents, expect_error, quantity, same, status};

impl Bench<'_> {
    pub(super) async fn surroundings(&self) -> Result<(), String> {
        let account = self.broker.account().await.map_err(|error| format!("account: {error}"))?;
        same("whether trading is blocked", &account.trading_blocked, &false)?;
        let clock = self.broker.clock().await.map_err(|error| format!("clock: {error}"))?;
        same("whether the market is open", &clock.is_open, &true)?;
        if clock.next_close <= clock.timestamp || clock.next_open <= clock.timestamp {
            return Err(format!("the next opening or close is past: {clock:?}"));
        }
        let symbol = self.fixture.symbol();
        let asset = self.broker.asset(&symbol).await.map_err(|error| format!("asset {symbol}: {error}"))?;
        same("the asset's symbol", &asset.symbol, &symbol)?;
        same("whether the asset is tradable", &asset.tradable, &true)?;
        self.broker.positions().await.map_err(|error| format!("positions: {error}"))?;
        Ok(())
    }

    pub(super) async fn found_by_both_ids(&self) -> Result<(), String> {
        let sent = self.with_id(self.resting(2));
        let answer = self.broker.submit(&sent).await.map_err(|error| format!("submit: {error}"))?;
        let by_client_id = self
            .broker
            .order_by_client_id(&sent.client_order_id)
            .await
            .map_err(|error| format!("order by client id: {error}"))?;
        let by_id = self.order(&answer.id).await?;
        for (way, seen) in [("the answer", &answer), ("by client id", &by_client_id), ("by id", &by_id)] {
            same(&format!("id, {way}"), &seen.id, &answer.id)?;
            same(
                &format!("client id, {way}"),
                &seen.client_order_id.as_str(),
                &sent.client_order_id.as_str(),
            )?;
            same(&format!("symbol, {way}"), &seen.symbol.as_str(), &sent.order.symbol.as_str())?;
            same(&format!("side, {way}"), &seen.side, &Some(Side::Buy))?;
            same(&format!("type, {way}"), &seen.order_type, &Some(sent.order.pricing.order_type()))?;
            same(&format!("time in force, {way}"), &seen.time_in_force, &Some(sent.order.time_in_force))?;
            same(&format!("class, {way}"), &seen.class, &Some(OrderClass::Simple))?;
            same(&format!("quantity, {way}"), &seen.qty, &Some(Decimal::TWO))?;
            let limit = sent.order.pricing.limit_price().map(Decimal::from);
            same(&format!("limit, {way}"), &seen.limit_price, &limit)?;
            same(&format!("filled, {way}"), &seen.filled_qty, &Decimal::ZERO)?;
        }
        self.order_until(&answer.id, "it works", |order| status(order) == Some(OrderStatus::New)).await?;
        self.cancel_and_wait(&answer.id).await.map(drop)
    }

    pub(super) async fn duplicate_is_refused(&self) -> Result<(), String> {
        let sent = self.with_id(self.resting(1));
        let first = self.broker.submit(&sent).await.map_err(|error| format!("submit: {error}"))?;
        let is_duplicate = |error: &BrokerError| *error == BrokerError::DuplicateClientOrderId;
        expect_error("the same order again", self.broker.submit(&sent).await, is_duplicate)?;
        let mut other = sent.clone();
        other.order = self.resting(3);
        expect_error("another order under its id", self.broker.submit(&other).await, is_duplicate)?;
        self.order_until(&first.id, "it works", |order| status(order) == Some(OrderStatus::New)).await?;
        self.cancel_and_wait(&first.id).await?;
        expect_error("its id again after it ended", self.broker.submit(&sent).await, is_duplicate)?;
        let found = self
            .broker
            .order_by_client_id(&sent.client_order_id)
            .await
            .map_err(|error| format!("order by client id: {error}"))?;
        same("the order under the id", &found.id, &first.id)
    }

    pub(super) async fn unknown_is_not_found(&self) -> Result<(), String> {
        let is_absent = |error: &BrokerError| *error == BrokerError::NotFound;
        let client_id = self.fixture.client_order_id();
        expect_error("an unused client id", self.broker.order_by_client_id(&client_id).await, is_absent)?;
        let id = self.fixture.unknown_order();
        expect_error("an unknown order", self.broker.order(&id).await, is_absent)?;
        expect_error("canceling an unknown order", self.broker.cancel(&id).await, is_absent)?;
        let change = ReplaceOrder { qty: Some(quantity(2)), ..ReplaceOrder::default() };
        expect_error("replacing an unknown order", self.broker.replace(&id, &change).await, is_absent)?;
        let symbol = self.fixture.unknown_symbol();
        expect_error("an unknown asset", self.broker.asset(&symbol).await, is_absent)
    }

    pub(super) async fn cancel(&self) -> Result<(), String> {
        let order = self.place(self.resting(1)).await?;
        let canceled = self.cancel_and_wait(&order.id).await?;
        same("filled quantity", &canceled.filled_qty, &Decimal::ZERO)?;
        if canceled.updated_at < order.updated_at {
            return Err(format!(
                "time of change went back from {} to {}",
                order.updated_at, canceled.updated_at
            ));
        }
        // Too late is a refusal, or done again: never an error that asks to try once more.
        match self.broker.cancel(&order.id).await {
            Ok(()) | Err(BrokerError::Refused { .. }) => Ok(()),
            Err(error) => Err(format!("canceling it again: {error}")),
        }
    }

    async fn held(&self) -> Result<Decimal, String> {
        let positions = self.broker.positions().await.map_err(|error| format!("positions: {error}"))?;
        let symbol = self.fixture.symbol();
        Ok(positions
            .iter()
            .find(|held| held.symbol == symbol.as_str())
            .map_or(Decimal::ZERO, |held| held.qty))
    }

    pub(super) async fn fills_match(&self) -> Result<(), String> {
        let before = self.held().await?;
        let order = self.place(self.buy(3, Pricing::Market)).await?;
        let filled = self
            .order_until(&order.id, "it is filled", |order| status(order) == Some(OrderStatus::Filled))
            .await?;
        same("filled quantity", &filled.filled_qty, &Decimal::from(3))?;
        let average = filled.filled_avg_price.ok_or("a filled order has no average price")?;
        self.until("the book shows its fills", async || {
            let fills = self.fills_of(&order.id).await?;
            let (mut quantity, mut value) = (Decimal::ZERO, Decimal::ZERO);
            for fill in &fills {
                quantity += fill.qty.get();
                value += fill.qty.get() * fill.price.get();
                same("cumulative quantity", &fill.cum_qty.get(), &quantity)?;
                same("the fill's order", &fill.order_id, &order.id)?;
                same("the fill's symbol", &fill.symbol, &order.symbol)?;
                same("the fill's side", &fill.side, &Some(Side::Buy))?;
            }
            same("the sum of the fills", &quantity, &filled.filled_qty)?;
            if (value / quantity - average).abs() > Decimal::new(1, 4) {
                return Err(format!("the fills average {}, the order {average}", value / quantity));
            }
            Ok(())
        })
        .await?;
        self.until("the position shows it", async || {
            same("the position", &self.held().await?, &(before + filled.filled_qty))
        })
        .await
    }

    pub(super) async fn replacement_chain(&self) -> Result<(), String> {
        let old = self.place(self.resting(1)).await?;
        let client_order_id = self.fixture.client_order_id();
        let change = ReplaceOrder {
            client_order_id: Some(client_order_id.clone()),
            qty: Some(quantity(2)),
            limit_price: Some(cents(self.fixture.resting_price().get() - Decimal::new(1, 2))),
            ..ReplaceOrder::default()
        };
        let answer =
            self.broker.replace(&old.id, &change).await.map_err(|error| format!("replace: {error}"))?;
        if answer.id == old.id {
            return Err("the replacement has the replaced order's id".to_owned());
        }
        same("the order that it replaces", &answer.replaces.as_ref(), &Some(&old.id))?;
        let new =
            self.order_until(&answer.id, "it works", |order| status(order) == Some(OrderStatus::New)).await?;
        same("the replacement's client id", &new.client_order_id.as_str(), &client_order_id.as_str())?;
        same("the replacement's quantity", &new.qty, &Some(Decimal::TWO))?;
        same("the replacement's limit", &new.limit_price, &change.limit_price.map(Decimal::from))?;
        let old = self
            .order_until(&old.id, "it is replaced", |order| status(order) == Some(OrderStatus::Replaced))
            .await?;
        same("the order that replaced it", &old.replaced_by.as_ref(), &Some(&new.id))?;
        let found = self
            .broker
            .order_by_client_id(&client_order_id)
            .await
            .map_err(|error| format!("the replacement by its client id: {error}"))?;
        same("the order under the replacement's client id", &found.id, &new.id)?;
        self.cancel_and_wait(&new.id).await.map(drop)
    }

    pub(super) async fn refusal_leaves_nothing(&self) -> Result<(), String> {
        let sent = self.with_id(self.fixture.refused_order());
        let is_refused = |error: &BrokerError| matches!(error, BrokerError::Refused { .. });
        expect_error("an order that must be refused", self.broker.submit(&sent).await, is_refused)?;
        expect_error(
            "looking for it",
            self.broker.order_by_client_id(&sent.client_order_id).await,
            |error| *error == BrokerError::NotFound,
        )?;
        let open = OrderListQuery { open_only: true, ..OrderListQuery::default() };
        let listed = self.broker.orders(&open).await.map_err(|error| format!("orders: {error}"))?;
        match listed.iter().find(|order| order.client_order_id == sent.client_order_id.as_str()) {
            Some(order) => Err(format!("it is listed: {order:?}")),
            None => Ok(()),
        }
    }

    pub(super) async fn legs_are_nested(&self) -> Result<(), String> {
        let entry = self.fixture.resting_price().get();
        let mut order = self.resting(1);
        order.class = OrderClass::Bracket;
        order.take_profit = Some(cents(entry + Decimal::ONE));
        order.stop_loss = Some(StopLoss { stop: cents(entry / Decimal::TWO), limit: None });
        let sent = self.with_id(order);
        let answer = self.broker.submit(&sent).await.map_err(|error| format!("submit: {error}"))?;
        let by_client_id = self
            .broker
            .order_by_client_id(&sent.client_order_id)
            .await
            .map_err(|error| format!("order by client id: {error}"))?;
        for (way, seen) in [("by client id", by_client_id), ("by id", self.order(&answer.id).await?)] {
            same(&format!("class, {way}"), &seen.class, &Some(OrderClass::Bracket))?;
            let (take, stop) = (sent.order.take_profit, sent.order.stop_loss);
            let legs = &seen.legs;
            same(&format!("number of legs, {way}"), &legs.len(), &2)?;
            let take_profit = legs.iter().find(|leg| leg.limit_price == take.map(Decimal::from));
            let stop_loss = legs.iter().find(|leg| leg.stop_price == stop.map(|stop| stop.stop.get()));
            let (Some(take_profit), Some(stop_loss)) = (take_profit, stop_loss) else {
                return Err(format!("the legs, {way}, have other prices: {legs:?}"));
            };
            for (leg, role) in [(take_profit, LegRole::TakeProfit), (stop_loss, LegRole::StopLoss)] {
                same(&format!("side of the {role}, {way}"), &leg.side, &Some(Side::Sell))?;
                if leg.role.is_some_and(|told| told != role) {
                    return Err(format!("the role of the {role}, {way}, is {:?}", leg.role));
                }
            }
        }
        self.order_until(&answer.id, "it works", |order| status(order) == Some(OrderStatus::New)).await?;
        self.cancel_and_wait(&answer.id).await?;
        self.order_until(&answer.id, "its legs are canceled", |order| {
            order.legs.iter().all(|leg| status(leg) == Some(OrderStatus::Canceled))
        })
        .await
        .map(drop)
    }

    pub(super) async fn listing(&self) -> Result<(), String> {
        let mut placed = Vec::new();
        for _ in 0..3 {
            placed.push(self.place(self.resting(1)).await?.id);
        }
        let list = async |query: OrderListQuery| {
            let rows = self.broker.orders(&query).await.map_err(|error| format!("orders: {error}"))?;
            Ok::<_, String>(rows.into_iter().map(|order| order.id).collect::<Vec<_>>())
        };
        let open = OrderListQuery { open_only: true, ..OrderListQuery::default() };
        let ours: Vec<_> = list(open.clone()).await?.into_iter().filter(|id| placed.contains(id)).collect();
        same("the open orders", &ours, &placed)?;
        let after = |id: &_, limit| OrderListQuery {
            after_order_id: Some(Clone::clone(id)),
            limit,
            ..OrderListQuery::default()
        };
        same("the page after the first order", &list(after(&placed[0], 1)).await?, &vec![placed[1].clone()])?;
        same("the page after the second", &list(after(&placed[1], 1)).await?, &vec![placed[2].clone()])?;
        same("the page after the last", &list(after(&placed[2], 0)).await?, &Vec::new())?;
        for id in &placed {
            self.cancel_and_wait(id).await?;
        }
        let still_open = list(open).await?;
        same("whether canceled orders are open", &still_open.iter().any(|id| placed.contains(id)), &false)
    }
}
