//! Fills: what was traded. Positions and realised profit follow from fills alone.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, FillId, OrderId, Symbol};
use crate::money::{Price, Quantity};
use crate::order::Side;

/// From where a fill was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FillSource {
    /// The broker's event stream.
    Stream,
    /// The broker's book of activities.
    Rest,
    /// The gap between the order's totals and the fills known: priced from the averages.
    Inferred,
}

impl FillSource {
    /// The name on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Rest => "rest",
            Self::Inferred => "inferred",
        }
    }
}

impl std::str::FromStr for FillSource {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Stream, Self::Rest, Self::Inferred]
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or("a fill's source is stream, rest or inferred")
    }
}

/// An execution as it was learnt, before it is booked: it covers the units `cum_qty - qty .. cum_qty` of its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// How many units.
    pub qty: Quantity,
    /// At which price each.
    pub price: Price,
    /// The order's filled quantity after it. With the order it identifies the execution, whatever told of it.
    pub cum_qty: Quantity,
    /// From where it was learnt.
    pub source: FillSource,
    /// When, by the broker's clock.
    pub executed_at: DateTime<Utc>,
    /// The broker's id of it: an attribute, since stream and activities have different ones.
    pub broker_id: Option<String>,
}

impl Execution {
    /// The first unit it covers, as a count of units before it.
    #[must_use]
    pub fn from_qty(&self) -> Decimal {
        self.cum_qty.get() - self.qty.get()
    }
}

/// A booked fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Ours.
    pub id: FillId,
    /// The order that was filled.
    pub order_id: OrderId,
    /// The account it belongs to.
    pub account_id: AccountId,
    /// What was traded.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// What was learnt.
    pub execution: Execution,
    /// In the account's currency.
    pub fee: Decimal,
    /// The profit that this fill realised, by average cost.
    pub realized_pl: Decimal,
}

/// Where a learnt execution stands towards those that are booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booking {
    /// None of its units is booked: book it.
    New,
    /// All of its units are booked: nothing to do.
    Known,
}

/// Why an execution cannot be booked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// Some of its units are booked and some are not: one of the two reports is wrong.
    #[error("units {from} to {to} are booked in part")]
    Overlap {
        /// The first unit.
        from: Decimal,
        /// The last unit.
        to: Decimal,
    },
    /// It would fill more than was ordered.
    #[error("the order is for {ordered}, the fill reaches {reached}")]
    Overfill {
        /// The order's quantity.
        ordered: Decimal,
        /// The cumulative quantity after the fill.
        reached: Decimal,
    },
    /// Its cumulative quantity is below its own quantity.
    #[error("the cumulative quantity {cum_qty} is below the fill's own {qty}")]
    Impossible {
        /// The cumulative quantity.
        cum_qty: Decimal,
        /// The fill's quantity.
        qty: Decimal,
    },
}

/// The units of one order that are booked, as disjoint intervals `(from, to]` in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillBook {
    intervals: Vec<(Decimal, Decimal)>,
}

impl FillBook {
    /// From the `(quantity, cumulative quantity)` pairs of booked fills, in any order.
    #[must_use]
    pub fn new(booked: impl IntoIterator<Item = (Decimal, Decimal)>) -> Self {
        let mut intervals: Vec<_> = booked.into_iter().map(|(qty, cum)| (cum - qty, cum)).collect();
        intervals.sort_unstable();
        Self { intervals }
    }

    /// The sum of the booked fills.
    #[must_use]
    pub fn filled(&self) -> Decimal {
        self.intervals.iter().map(|(from, to)| to - from).sum()
    }

    /// Books the execution's units, or says that they are booked.
    ///
    /// # Errors
    /// [`FillError`]; the book stays as it was.
    pub fn book(&mut self, execution: &Execution, ordered: Option<Quantity>) -> Result<Booking, FillError> {
        let (from, to) = (execution.from_qty(), execution.cum_qty.get());
        if from.is_sign_negative() && !from.is_zero() {
            return Err(FillError::Impossible { cum_qty: to, qty: execution.qty.get() });
        }
        if let Some(ordered) = ordered
            && to > ordered.get()
        {
            return Err(FillError::Overfill { ordered: ordered.get(), reached: to });
        }
        let covered: Decimal =
            self.intervals.iter().map(|(a, b)| ((*b).min(to) - (*a).max(from)).max(Decimal::ZERO)).sum();
        if covered == to - from {
            return Ok(Booking::Known);
        }
        if !covered.is_zero() {
            return Err(FillError::Overlap { from, to });
        }
        let at = self.intervals.partition_point(|(a, _)| *a < from);
        self.intervals.insert(at, (from, to));
        Ok(Booking::New)
    }

    /// The units up to `total` that no booked fill covers, as `(from, to]`.
    #[must_use]
    pub fn gaps(&self, total: Decimal) -> Vec<(Decimal, Decimal)> {
        let mut gaps = Vec::new();
        let mut reached = Decimal::ZERO;
        for (from, to) in &self.intervals {
            if *from > reached {
                gaps.push((reached, (*from).min(total)));
            }
            reached = reached.max(*to);
        }
        if total > reached {
            gaps.push((reached, total));
        }
        gaps.retain(|(from, to)| to > from);
        gaps
    }
}

/// What the booked fills of an order become when real executions come for units that were inferred: `None` when none were.
///
/// The inferred fills that `incoming` touches make room. Units of them that stay without a real fill are inferred anew,
/// so that the filled quantity never shrinks; they keep what is left of the value that was inferred.
///
/// # Errors
/// [`FillError`]: the executions contradict what is booked.
pub fn make_room(
    booked: &[Execution],
    incoming: &[Execution],
    ordered: Option<Quantity>,
) -> Result<Option<Vec<Execution>>, FillError> {
    let meets =
        |a: &Execution, b: &Execution| a.from_qty().max(b.from_qty()) < a.cum_qty.get().min(b.cum_qty.get());
    let is_real = |one: &&Execution| one.source != FillSource::Inferred;
    let touched: Vec<&Execution> = booked
        .iter()
        .filter(|one| one.source == FillSource::Inferred)
        .filter(|one| incoming.iter().filter(is_real).any(|other| meets(one, other)))
        .collect();
    if touched.is_empty() {
        return Ok(None);
    }
    let mut next: Vec<Execution> = booked.iter().filter(|one| !touched.contains(one)).cloned().collect();
    let mut book = FillBook::new(next.iter().map(|one| (one.qty.get(), one.cum_qty.get())));
    for one in incoming.iter().filter(is_real) {
        if book.book(one, ordered)? == Booking::New {
            next.push(one.clone());
        }
    }
    for one in touched {
        let (from, to) = (one.from_qty(), one.cum_qty.get());
        let left: Vec<(Decimal, Decimal)> =
            book.gaps(to).into_iter().map(|(a, b)| (a.max(from), b)).filter(|(a, b)| b > a).collect();
        let units: Decimal = left.iter().map(|(a, b)| b - a).sum();
        let real: Decimal = next
            .iter()
            .map(|other| {
                let shared = other.cum_qty.get().min(to) - other.from_qty().max(from);
                shared.max(Decimal::ZERO) * other.price.get()
            })
            .sum();
        let rest = (one.qty.get() * one.price.get() - real).checked_div(units).map(|price| price.round_dp(9));
        let price = rest.and_then(|price| Price::new(price).ok()).unwrap_or(one.price);
        for (a, b) in left {
            if let (Ok(qty), Ok(cum_qty)) = (Quantity::new(b - a), Quantity::new(b)) {
                next.push(Execution { qty, cum_qty, price, ..one.clone() });
            }
        }
    }
    next.sort_by_key(|one| one.cum_qty.get());
    Ok(Some(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn execution(qty: i64, cum: i64) -> Execution {
        Execution {
            qty: Quantity::new(qty.into()).unwrap(),
            price: Price::new(Decimal::ONE).unwrap(),
            cum_qty: Quantity::new(cum.into()).unwrap(),
            source: FillSource::Stream,
            executed_at: DateTime::UNIX_EPOCH,
            broker_id: None,
        }
    }

    #[test]
    fn the_same_units_are_booked_once_whatever_told_of_them() {
        let mut book = FillBook::default();
        let ordered = Some(Quantity::new(10.into()).unwrap());
        assert_eq!(book.book(&execution(6, 10), ordered), Ok(Booking::New));
        assert_eq!(book.book(&execution(4, 4), ordered), Ok(Booking::New));
        assert_eq!(book.book(&execution(4, 4), ordered), Ok(Booking::Known));
        assert_eq!(book.book(&execution(10, 10), ordered), Ok(Booking::Known));
        assert_eq!(book.filled(), Decimal::from(10));
    }

    #[test]
    fn wrong_reports_are_refused_and_change_nothing() {
        let mut book = FillBook::new([(Decimal::from(4), Decimal::from(4))]);
        let before = book.clone();
        let ordered = Some(Quantity::new(10.into()).unwrap());
        assert!(matches!(book.book(&execution(5, 6), ordered), Err(FillError::Overlap { .. })));
        assert!(matches!(book.book(&execution(1, 11), ordered), Err(FillError::Overfill { .. })));
        assert!(matches!(book.book(&execution(3, 2), ordered), Err(FillError::Impossible { .. })));
        assert_eq!(book, before);
    }

    fn priced(qty: i64, cum: i64, price: i64, source: FillSource) -> Execution {
        Execution { price: Price::new(price.into()).unwrap(), source, ..execution(qty, cum) }
    }

    #[test]
    fn real_fills_take_the_place_of_inferred_ones() {
        use FillSource::{Inferred, Rest, Stream};
        let booked = [priced(4, 4, 100, Stream), priced(6, 10, 110, Inferred)];
        // The whole, in other parts than it was inferred in.
        let real = [priced(1, 5, 100, Rest), priced(5, 10, 112, Rest)];
        let after = make_room(&booked, &real, None).unwrap().unwrap();
        assert_eq!(after, [booked[0].clone(), real[0].clone(), real[1].clone()]);
        // A part: what is left keeps what is left of the value.
        let part = [priced(2, 10, 120, Rest)];
        let after = make_room(&booked, &part, None).unwrap().unwrap();
        assert_eq!(after, [booked[0].clone(), priced(4, 8, 105, Inferred), part[0].clone()]);
        // One that reaches beyond.
        let booked = [priced(4, 4, 100, Inferred)];
        let after = make_room(&booked, &[priced(6, 6, 90, Stream)], None).unwrap().unwrap();
        assert_eq!(after, [priced(6, 6, 90, Stream)]);
    }

    #[test]
    fn nothing_makes_room_for_what_is_known_or_inferred_itself() {
        use FillSource::{Inferred, Rest, Stream};
        let booked = [priced(4, 4, 100, Stream), priced(6, 10, 110, Inferred)];
        assert_eq!(make_room(&booked, &[priced(4, 4, 100, Rest)], None), Ok(None));
        assert_eq!(make_room(&booked, &[priced(6, 10, 90, Inferred)], None), Ok(None));
        let across = [priced(4, 6, 100, Rest)];
        assert!(matches!(make_room(&booked, &across, None), Err(FillError::Overlap { .. })));
    }

    #[test]
    fn gaps_are_what_is_missing_up_to_the_total() {
        let book =
            FillBook::new([(Decimal::from(2), Decimal::from(4)), (Decimal::from(1), Decimal::from(8))]);
        let gap = |a: i64, b: i64| (Decimal::from(a), Decimal::from(b));
        assert_eq!(book.gaps(Decimal::from(10)), vec![gap(0, 2), gap(4, 7), gap(8, 10)]);
        assert_eq!(book.gaps(Decimal::from(5)), vec![gap(0, 2), gap(4, 5)]);
        assert_eq!(FillBook::default().gaps(Decimal::ZERO), vec![]);
    }

    proptest! {
        #[test]
        fn any_order_with_repeats_books_the_same(
            sizes in prop::collection::vec(1i64..50, 1..12),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let total: i64 = sizes.iter().sum();
            let mut cum = 0;
            let all: Vec<_> = sizes.iter().map(|qty| { cum += qty; execution(*qty, cum) }).collect();
            let mut shuffled: Vec<_> = picks.iter().map(|pick| pick.get(&all).clone()).collect();
            shuffled.extend(all.iter().rev().cloned());
            let mut book = FillBook::default();
            let mut sum = Decimal::ZERO;
            for execution in &shuffled {
                if book.book(execution, Some(Quantity::new(total.into()).unwrap())).unwrap() == Booking::New {
                    sum += execution.qty.get();
                }
                prop_assert!(book.filled() <= Decimal::from(total));
            }
            prop_assert_eq!(book.filled(), Decimal::from(total));
            prop_assert_eq!(sum, Decimal::from(total));
            prop_assert!(book.gaps(Decimal::from(total)).is_empty());
        }
    }
}
