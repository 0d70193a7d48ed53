//! Positions by average cost: partial closes, sign flips, realised and unrealised profit.

use rust_decimal::Decimal;

use crate::money::{Price, Quantity, round_money};
use crate::order::Side;

/// What an account holds of one symbol. Follows from the fills alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Units held; negative when short.
    pub qty: Decimal,
    /// What the held units cost, with the sign of `qty`: `qty × average entry price`.
    pub cost_basis: Decimal,
    /// Profit realised by closing, since the first fill.
    pub realized_pl: Decimal,
}

/// A number left the range that is kept exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the position does not fit 28 digits")]
pub struct PositionOverflow;

impl Position {
    /// The average price paid (long) or received (short) per held unit; `None` when flat.
    #[must_use]
    pub fn avg_entry_price(&self) -> Option<Decimal> {
        self.cost_basis.checked_div(self.qty).map(round_money)
    }

    /// Profit of the held units at `price`.
    ///
    /// # Errors
    /// [`PositionOverflow`].
    pub fn unrealized_pl(&self, price: Price) -> Result<Decimal, PositionOverflow> {
        Ok(self.market_value(price)? - self.cost_basis)
    }

    /// What the held units are worth at `price`; negative when short.
    ///
    /// # Errors
    /// [`PositionOverflow`].
    pub fn market_value(&self, price: Price) -> Result<Decimal, PositionOverflow> {
        self.qty.checked_mul(price.get()).map(round_money).ok_or(PositionOverflow)
    }

    /// Books a fill and gives the profit that it realised.
    ///
    /// A fill against the position closes it first at average cost; what is left of the fill opens the other side.
    ///
    /// # Errors
    /// [`PositionOverflow`]; the position stays as it was.
    pub fn apply(&mut self, side: Side, qty: Quantity, price: Price) -> Result<Decimal, PositionOverflow> {
        let signed = side.signed(qty.get());
        let closes = !self.qty.is_zero() && (self.qty.is_sign_negative() != signed.is_sign_negative());
        let closing = if closes { qty.get().min(self.qty.abs()) } else { Decimal::ZERO };
        let opening = qty.get() - closing;
        let value = |units: Decimal| price.get().checked_mul(units).ok_or(PositionOverflow);

        let mut next = *self;
        let mut realized = Decimal::ZERO;
        if !closing.is_zero() {
            let cost_closed = if closing == self.qty.abs() {
                self.cost_basis
            } else {
                let share = self.cost_basis.checked_mul(closing).ok_or(PositionOverflow)?;
                round_money(share.checked_div(self.qty.abs()).ok_or(PositionOverflow)?)
            };
            // What is closed of a long was bought at cost_closed and sold at the price; of a short the other way round,
            // and its cost is negative, so that one formula serves both.
            let proceeds = side.opposite().signed(value(closing)?);
            realized = round_money(proceeds - cost_closed);
            next.qty += side.signed(closing);
            next.cost_basis -= cost_closed;
        }
        if !opening.is_zero() {
            next.qty = next.qty.checked_add(side.signed(opening)).ok_or(PositionOverflow)?;
            let cost = next.cost_basis.checked_add(side.signed(value(opening)?)).ok_or(PositionOverflow)?;
            next.cost_basis = round_money(cost);
        }
        next.realized_pl = self.realized_pl.checked_add(realized).ok_or(PositionOverflow)?;
        next.qty = next.qty.normalize();
        next.cost_basis = next.cost_basis.normalize();
        *self = next;
        Ok(realized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn book(fills: &[(Side, &str, &str)]) -> (Position, Vec<Decimal>) {
        let mut position = Position::default();
        let realized = fills
            .iter()
            .map(|(side, qty, price)| {
                position.apply(*side, qty.parse().unwrap(), price.parse().unwrap()).unwrap()
            })
            .collect();
        (position, realized)
    }

    #[test]
    fn average_cost_and_partial_close() {
        let (position, realized) =
            book(&[(Side::Buy, "10", "100"), (Side::Buy, "10", "110"), (Side::Sell, "5", "120")]);
        assert_eq!(position.qty, dec("15"));
        assert_eq!(position.avg_entry_price(), Some(dec("105")));
        assert_eq!(realized[2], dec("75"));
        assert_eq!(position.unrealized_pl("104".parse().unwrap()), Ok(dec("-15")));
    }

    #[test]
    fn a_flip_closes_everything_and_opens_the_rest() {
        let (position, realized) = book(&[(Side::Buy, "10", "100"), (Side::Sell, "15", "90")]);
        assert_eq!(position.qty, dec("-5"));
        assert_eq!(position.cost_basis, dec("-450"));
        assert_eq!(position.avg_entry_price(), Some(dec("90")));
        assert_eq!(realized[1], dec("-100"));
        let (position, realized) =
            book(&[(Side::Sell, "10", "100"), (Side::Buy, "4", "80"), (Side::Buy, "10", "110")]);
        assert_eq!(realized, vec![dec("0"), dec("80"), dec("-60")]);
        assert_eq!((position.qty, position.cost_basis), (dec("4"), dec("440")));
    }

    #[test]
    fn flat_has_no_cost_left() {
        let (position, _) =
            book(&[(Side::Buy, "3", "0.3333"), (Side::Sell, "1", "1"), (Side::Sell, "2", "1")]);
        assert_eq!((position.qty, position.cost_basis), (Decimal::ZERO, Decimal::ZERO));
        assert_eq!(position.avg_entry_price(), None);
        assert_eq!(position.realized_pl, dec("2.0001"));
    }

    #[test]
    fn overflow_changes_nothing() {
        let mut position =
            Position { qty: Decimal::ONE, cost_basis: Decimal::MAX, realized_pl: Decimal::ZERO };
        let before = position;
        let result =
            position.apply(Side::Buy, "999999999999999".parse().unwrap(), "999999999999999".parse().unwrap());
        assert_eq!(result, Err(PositionOverflow));
        assert_eq!(position, before);
    }

    proptest! {
        #[test]
        fn the_position_is_the_sum_of_its_fills(
            fills in prop::collection::vec((any::<bool>(), 1i64..10_000, 1i64..1_000_000), 1..40)
        ) {
            let mut position = Position::default();
            let (mut sum, mut cash) = (Decimal::ZERO, Decimal::ZERO);
            for (buy, qty, price) in fills {
                let side = if buy { Side::Buy } else { Side::Sell };
                let (qty, price) = (Quantity::new(Decimal::new(qty, 2)).unwrap(), Price::new(Decimal::new(price, 4)).unwrap());
                position.apply(side, qty, price).unwrap();
                sum += side.signed(qty.get());
                cash -= side.signed(qty.get() * price.get());
                prop_assert_eq!(position.qty, sum);
                // Money is conserved: what was paid is in the cost of what is held, the rest is profit.
                let difference = (cash + position.cost_basis - position.realized_pl).abs();
                prop_assert!(difference <= Decimal::new(40, 9), "{}", difference);
                prop_assert!(position.qty.is_zero() == position.cost_basis.is_zero());
            }
        }
    }
}
