//! Activities and portfolio history: both follow from executions and prices alone.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Months, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::account::{
    AccountId, Activity, ActivityQuery, FillActivity, HistoryQuery, NonTradeActivity, PortfolioHistory,
    Timeframe,
};
use crate::calendar::{self, TradingDay};
use crate::ids::Purpose;
use crate::order::{Direction, OrderStatus};
use crate::record::Execution;
use crate::refusal::Refusal;

use super::Exchange;

const MAX_PAGE: u32 = 100;
/// Steps a history may have.
const MAX_STEPS: usize = 10_000;
/// Days that a history in minutes may cover.
const MINUTE_DAYS: i64 = 7;
/// Days that any other history within days may cover.
const INTRADAY_DAYS: i64 = 31;

impl Exchange {
    /// A page of activities.
    ///
    /// # Errors
    /// 404 for an unknown account, 422 for a page size out of range, an unknown page token or category, or filters that
    /// exclude one another.
    pub fn activities(&self, account: AccountId, query: &ActivityQuery) -> Result<Vec<Activity>, Refusal> {
        let size = query.page_size.unwrap_or(MAX_PAGE);
        if !(1..=MAX_PAGE).contains(&size) {
            return Err(Refusal::field(format!("page_size must be between 1 and {MAX_PAGE}")));
        }
        if query.category.is_some() && !query.types.is_empty() {
            return Err(Refusal::field("category cannot be used with activity_types"));
        }
        if query.date.is_some() && (query.after.is_some() || query.until.is_some()) {
            return Err(Refusal::field("date cannot be used with after or until"));
        }
        let wanted = |trade: bool, kind: &str| match query.category.as_deref() {
            Some("trade_activity") => Ok(trade),
            Some("non_trade_activity") => Ok(!trade),
            Some(other) => Err(Refusal::field(format!("invalid category {other}"))),
            None => Ok(query.types.is_empty() || query.types.iter().any(|wanted| wanted == kind)),
        };
        let in_time = |at: DateTime<Utc>| {
            query.date.is_none_or(|date| calendar::date_of(at) == date)
                && query.after.is_none_or(|after| at > after)
                && query.until.is_none_or(|until| at < until)
        };
        let state = self.account(account)?;
        let mut rows = Vec::new();
        if wanted(false, "CSD")? && query.order_id.is_none() && in_time(state.record.created_at) {
            rows.push(self.deposit(account)?);
        }
        if wanted(true, "FILL")? {
            rows.extend(
                state
                    .executions
                    .iter()
                    .map(|index| &self.executions[*index])
                    .filter(|row| in_time(row.at) && query.order_id.is_none_or(|id| id == row.order_id))
                    .map(fill_activity),
            );
        }
        if query.direction == Direction::Desc {
            rows.reverse();
        }
        let skip = match &query.page_token {
            None => 0,
            Some(token) => {
                let last = rows.iter().position(|row| row.id() == token);
                last.ok_or_else(|| Refusal::field("invalid page_token"))? + 1
            }
        };
        Ok(rows.into_iter().skip(skip).take(size as usize).collect())
    }

    fn deposit(&self, account: AccountId) -> Result<Activity, Refusal> {
        let record = &self.account(account)?.record;
        let id = crate::ids::uuid(self.seed, Purpose::Deposit, u64::from_be_bytes(first_bytes(&record.id)));
        Ok(Activity::NonTrade(NonTradeActivity {
            id: activity_id(record.created_at, id),
            activity_type: "CSD".into(),
            date: calendar::date_of(record.created_at),
            net_amount: record.deposit,
            status: "executed".into(),
            currency: "USD".into(),
            description: String::new(),
            created_at: record.created_at,
        }))
    }

    /// Equity over time: at each step cash and the positions of that instant at that instant's prices.
    ///
    /// # Errors
    /// 404 for an unknown account, 422 for a period that cannot be read or is too long for its step.
    pub fn portfolio_history(
        &self,
        account: AccountId,
        query: &HistoryQuery,
    ) -> Result<PortfolioHistory, Refusal> {
        let created = self.account(account)?.record.created_at;
        let end = query.end.unwrap_or(self.now).min(self.now);
        if query.start.is_some() && query.end.is_some() && query.period.is_some() {
            return Err(Refusal::field("only two of start, end and period may be given"));
        }
        let start = match (query.start, query.period.as_deref()) {
            (Some(start), _) => start,
            (None, period) => before(end, period.unwrap_or("1M"))?,
        };
        if start > end {
            return Err(Refusal::field("start must be before end"));
        }
        let days = (end - start).num_days();
        let timeframe = query.timeframe.unwrap_or(match days {
            0..=2 => Timeframe::Min1,
            3..=10 => Timeframe::Min15,
            _ => Timeframe::Day1,
        });
        let allowed = match timeframe {
            Timeframe::Min1 => MINUTE_DAYS,
            Timeframe::Min5 | Timeframe::Min15 | Timeframe::Hour1 => INTRADAY_DAYS,
            Timeframe::Day1 => i64::MAX,
        };
        if days > allowed {
            return Err(Refusal::field("the timeframe is too small for the period"));
        }
        // Nothing is known of an account before it was opened.
        let first = start.max(created);
        let mut steps = steps(timeframe, first, end);
        if steps.last() != Some(&end) {
            steps.push(end);
        }
        if steps.len() > MAX_STEPS {
            return Err(Refusal::field("the period is too long"));
        }
        let mut books = Books::new(self, account)?;
        let base_value = if start <= created { books.deposit } else { books.equity_at(first) };
        let mut history = PortfolioHistory {
            timestamp: Vec::with_capacity(steps.len()),
            equity: Vec::with_capacity(steps.len()),
            profit_loss: Vec::with_capacity(steps.len()),
            profit_loss_pct: Vec::with_capacity(steps.len()),
            base_value,
            base_value_asof: calendar::last_closed(first).date,
            timeframe,
            cashflow: BTreeMap::new(),
        };
        let mut last = base_value;
        for at in steps {
            let equity = books.equity_at(at);
            let gain = equity - last;
            let part = if base_value.is_zero() { Decimal::ZERO } else { gain / base_value };
            history.timestamp.push(at.timestamp());
            history.equity.push(equity.normalize());
            history.profit_loss.push(gain.normalize());
            history.profit_loss_pct.push(part.round_dp(10).normalize());
            last = equity;
        }
        Ok(history)
    }
}

/// An account's books as they grow; asked for rising instants.
struct Books<'a> {
    exchange: &'a Exchange,
    pending: std::iter::Peekable<std::slice::Iter<'a, usize>>,
    deposit: Decimal,
    cash: Decimal,
    holdings: BTreeMap<&'a str, Decimal>,
}

impl<'a> Books<'a> {
    fn new(exchange: &'a Exchange, account: AccountId) -> Result<Self, Refusal> {
        let state = exchange.account(account)?;
        let deposit = state.record.deposit;
        Ok(Self {
            exchange,
            pending: state.executions.iter().peekable(),
            deposit,
            cash: deposit,
            holdings: BTreeMap::new(),
        })
    }

    fn equity_at(&mut self, at: DateTime<Utc>) -> Decimal {
        while let Some(index) = self.pending.next_if(|index| self.exchange.executions[**index].at <= at) {
            let row: &'a Execution = &self.exchange.executions[*index];
            let signed = row.side.signed(row.qty);
            self.cash -= signed * row.price;
            *self.holdings.entry(&row.symbol).or_default() += signed;
        }
        let price =
            |symbol: &str| self.exchange.market.last(symbol, at).map_or(Decimal::ZERO, |print| print.price);
        let worth: Decimal = self
            .holdings
            .iter()
            .filter(|(_, qty)| !qty.is_zero())
            .map(|(symbol, qty)| qty * price(symbol))
            .sum();
        self.cash + worth
    }
}

fn fill_activity(row: &Execution) -> Activity {
    let done = row.leaves_qty.is_zero();
    Activity::Fill(FillActivity {
        id: activity_id(row.at, row.id),
        activity_type: "FILL".into(),
        transaction_time: row.at,
        kind: if done { "fill" } else { "partial_fill" }.into(),
        price: row.price,
        qty: row.qty,
        side: row.side,
        symbol: row.symbol.clone(),
        leaves_qty: row.leaves_qty,
        order_id: row.order_id,
        cum_qty: row.cum_qty,
        order_status: if done { OrderStatus::Filled } else { OrderStatus::PartiallyFilled },
    })
}

/// New York time to the millisecond, `::`, a UUID.
fn activity_id(at: DateTime<Utc>, id: uuid::Uuid) -> String {
    format!("{}::{id}", calendar::local(at).format("%Y%m%d%H%M%S%3f"))
}

fn first_bytes(id: &uuid::Uuid) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.as_bytes()[..8]);
    bytes
}

/// The start of a period (`1D`, `2W`, `1M`, `1A`) that ends at `end`. A day is a trading day.
fn before(end: DateTime<Utc>, period: &str) -> Result<DateTime<Utc>, Refusal> {
    let invalid = || Refusal::field(format!("invalid period {period}"));
    let (number, unit) = period.split_at_checked(period.len().saturating_sub(1)).ok_or_else(invalid)?;
    let number: u32 = number.parse().ok().filter(|number| (1..=400).contains(number)).ok_or_else(invalid)?;
    let date: NaiveDate = match unit {
        "D" => {
            let today = TradingDay::until_date(calendar::date_of(end));
            // The present session is the last day of the period.
            return Ok((1..number).fold(today, |day, _| day.previous()).open().min(end));
        }
        "W" => calendar::date_of(end) - Days::new(u64::from(number) * 7),
        "M" => calendar::date_of(end) - Months::new(number),
        "A" | "Y" => calendar::date_of(end) - Months::new(number * 12),
        _ => return Err(invalid()),
    };
    Ok(TradingDay::from_date(date).open().min(end))
}

/// Closes of trading days, or steps within core sessions.
fn steps(timeframe: Timeframe, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let minutes = match timeframe {
        Timeframe::Min1 => Some(1),
        Timeframe::Min5 => Some(5),
        Timeframe::Min15 => Some(15),
        Timeframe::Hour1 => Some(60),
        Timeframe::Day1 => None,
    };
    let mut steps = Vec::new();
    let mut day = TradingDay::from_date(calendar::date_of(from));
    while day.open() <= to && steps.len() <= MAX_STEPS {
        match minutes {
            None => steps.push(day.close()),
            Some(minutes) => {
                let mut at = day.open();
                while at <= day.close() {
                    steps.push(at);
                    at += TimeDelta::minutes(minutes);
                }
            }
        }
        day = day.next();
    }
    steps.retain(|at| (from..=to).contains(at));
    steps
}
