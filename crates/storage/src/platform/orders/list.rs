//! A page of a user's orders, from the server's bytes straight to JSON: texts are borrowed from the row, and no order is
//! built of one that stands alone.

use chrono::{DateTime, Utc};
use diesel::RunQueryDsl;
use diesel::deserialize::{self, QueryableByName};
use diesel::pg::Pg;
use diesel::row::{Field, NamedRow, Row};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use plimsoll_core_domain::order::{
    Environment, OrderClass, OrderStatus, OrderType, Side, SourceKind, TimeInForce, avg_price,
};
use plimsoll_core_domain::stream::StreamHead;
use plimsoll_core_domain::views::{At, Dec, OrderView, SourceView, json};
use plimsoll_core_domain::{OrderId, StoreError, UserId};
use uuid::Uuid;

use super::row::{OrderColumns, OrderRow, order_columns, orders};
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::{Prepared, prepared};
use crate::db::wire::{Cells, Unreadable, must};
use crate::platform::streams::StreamHeads;

/// Which of a user's orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderFilter {
    /// All.
    #[default]
    All,
    /// Those that are not final.
    Open,
    /// Those that are final.
    Closed,
}

/// A page of a user's orders, newest first.
#[derive(Clone, Debug, Default)]
pub struct OrderPage {
    /// Which.
    pub filter: OrderFilter,
    /// Of one symbol.
    pub symbol: Option<String>,
    /// Of one side.
    pub side: Option<String>,
    /// From one kind of source.
    pub source: Option<String>,
    /// Created at or after.
    pub from: Option<DateTime<Utc>>,
    /// Created before.
    pub to: Option<DateTime<Utc>>,
    /// Only orders older than this one.
    pub before: Option<OrderId>,
    /// At most.
    pub limit: i64,
}

impl OrderPage {
    /// Whether state and place are all that it asks for.
    fn is_plain(&self) -> bool {
        self.symbol.is_none()
            && self.side.is_none()
            && self.source.is_none()
            && self.from.is_none()
            && self.to.is_none()
    }
}

/// An order of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOrder {
    /// Its id.
    pub id: OrderId,
    /// The JSON of its view, legs within.
    pub json: String,
}

/// A page's text. The account is looked up first and every bound stands bare beside its column: the plan walks an index
/// `(account_id, id)` backwards and stops at the limit, also when it is planned for unknown values.
macro_rules! page_text {
    ($which:literal, $filters:literal) => {
        concat!(
            // in the order in which `listed` reads them
            "SELECT o.id, o.client_order_id, o.broker_order_id, o.symbol, o.side, o.type, o.time_in_force, o.qty, \
             o.notional, o.limit_price, o.stop_price, o.trail_price, o.trail_percent, o.extended_hours, \
             o.order_class, o.filled_qty, o.filled_value, o.status, o.status_reason, o.source_kind, o.source_id, \
             o.environment, o.replaces, o.replaced_by, o.created_at, o.submitted_at, o.updated_at, o.closed_at, \
             o.version, \
             (SELECT uuid_send(h.epoch) || int8send(h.head) FROM stream_head h WHERE h.stream_id = ?), \
             (SELECT uuid_send(h.epoch) || int8send(h.head) FROM stream_head h WHERE h.stream_id = 0) \
             FROM orders o WHERE o.account_id = (SELECT a.id FROM accounts a WHERE a.user_id = ? \
             AND a.broker = 'alpaca' AND a.state <> 'inactive') AND o.id < ? ",
            $which,
            $filters,
            "ORDER BY o.account_id DESC, o.id DESC LIMIT ?"
        )
    };
}

/// The texts of a page by state.
macro_rules! page_texts {
    ($filter:expr, $filters:literal) => {
        match $filter {
            OrderFilter::All => page_text!("AND o.parent_id IS NULL ", $filters),
            OrderFilter::Open => page_text!(
                "AND o.closed_at IS NULL AND (o.parent_id IS NULL OR EXISTS (SELECT 1 FROM orders p \
                 WHERE p.account_id = o.account_id AND p.id = o.parent_id AND p.closed_at IS NOT NULL)) ",
                $filters
            ),
            OrderFilter::Closed => {
                page_text!("AND o.parent_id IS NULL AND o.closed_at IS NOT NULL ", $filters)
            }
        }
    };
}

/// Columns of a page.
const COLUMNS: usize = 31;
/// Where the columns of the streams begin: the user's, then the broadcast, as 16 bytes of epoch and 8 of head.
const HEADS: usize = 29;

/// An order of a page; without JSON when it belongs to a group, so that legs are to be looked for.
struct PageRow(Result<(ListedOrder, StreamHeads), StoreError>);

impl QueryableByName<Pg> for PageRow {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let fields: [_; COLUMNS] = std::array::from_fn(|at| Row::get(row, at));
        let cells: [_; COLUMNS] = std::array::from_fn(|at| {
            fields.get(at).and_then(Option::as_ref).and_then(Field::value).map(|value| value.as_bytes())
        });
        let cells = Cells(&cells);
        let read = listed(cells).and_then(|order| Ok((order, heads(cells)?)));
        Ok(Self(read.map_err(|Unreadable(at)| {
            let id = cells.uuid(0).ok().flatten().unwrap_or_default();
            StoreError::inconsistent("orders", &format!("number {at} of a list"), id, "it cannot be read")
        })))
    }
}

fn heads(cells: Cells<'_>) -> Result<StreamHeads, Unreadable> {
    let head = |at: usize| {
        let bytes = must(at, cells.bytes(at))?;
        let (epoch, head) = bytes.split_at_checked(16).ok_or(Unreadable(at))?;
        Ok(StreamHead {
            epoch: Uuid::from_slice(epoch).map_err(|_| Unreadable(at))?,
            head: i64::from_be_bytes(head.try_into().map_err(|_| Unreadable(at))?),
        })
    };
    Ok(StreamHeads { user: head(HEADS)?, broadcast: head(HEADS + 1)? })
}

fn listed(cells: Cells<'_>) -> Result<ListedOrder, Unreadable> {
    let id = OrderId(must(0, cells.uuid(0))?);
    let class: OrderClass = cells.word(14)?;
    if class != OrderClass::Simple {
        return Ok(ListedOrder { id, json: String::new() });
    }
    let (order_type, shown) = (cells.word::<OrderType>(5)?, |at: usize, of: &[OrderType], order_type| {
        Ok(if of.contains(&order_type) { cells.decimal(at)?.map(Dec) } else { None })
    });
    let qty = cells.decimal(7)?.map(Dec);
    let trail_price = shown(11, &[OrderType::TrailingStop], order_type)?;
    let (filled_qty, filled_value) = (must(15, cells.decimal(15))?, must(16, cells.decimal(16))?);
    let view = OrderView {
        id,
        client_order_id: must(1, cells.text(1))?,
        broker_order_id: cells.text(2)?,
        symbol: must(3, cells.text(3))?,
        side: cells.word::<Side>(4)?.as_str(),
        order_type: order_type.as_str(),
        time_in_force: cells.word::<TimeInForce>(6)?.as_str(),
        qty,
        notional: if qty.is_some() { None } else { cells.decimal(8)?.map(Dec) },
        limit_price: shown(9, &[OrderType::Limit, OrderType::StopLimit], order_type)?,
        stop_price: shown(10, &[OrderType::Stop, OrderType::StopLimit], order_type)?,
        trail_price,
        trail_percent: if trail_price.is_some() {
            None
        } else {
            shown(12, &[OrderType::TrailingStop], order_type)?
        },
        extended_hours: must(13, cells.boolean(13))?,
        order_class: class.as_str(),
        legs: Vec::new(),
        filled_qty: Dec(filled_qty),
        avg_fill_price: avg_price(filled_value, filled_qty).map(Dec),
        status: cells.word::<OrderStatus>(17)?.as_str(),
        status_reason: cells.text(18)?,
        source: SourceView { kind: cells.word::<SourceKind>(19)?.as_str(), id: cells.text(20)? },
        environment: cells.word::<Environment>(21)?.as_str(),
        replaces: cells.uuid(22)?.map(OrderId),
        replaced_by: cells.uuid(23)?.map(OrderId),
        created_at: At(must(24, cells.time(24))?),
        submitted_at: cells.time(25)?.map(At),
        updated_at: At(must(26, cells.time(26))?),
        closed_at: cells.time(27)?.map(At),
        version: must(28, cells.bigint(28))?,
    };
    Ok(ListedOrder { id, json: json(&view) })
}

impl Tx<'_> {
    /// A page of a user's orders, newest first. The legs of groups stand in their entries; among the open ones a leg stands
    /// by itself once its entry is final, so that every live order is seen.
    ///
    /// # Errors
    /// The store's own.
    pub fn order_list(&mut self, user: UserId, page: &OrderPage) -> Result<Vec<ListedOrder>, StoreError> {
        Ok(self.order_list_at(user, page)?.0)
    }

    /// The same, with where the user's streams stood at that moment. `None` when one statement could not see both: the
    /// page is empty, or it holds groups. Whoever needs them then reads again in a snapshot.
    ///
    /// # Errors
    /// The store's own.
    pub fn order_list_at(
        &mut self,
        user: UserId,
        page: &OrderPage,
    ) -> Result<(Vec<ListedOrder>, Option<StreamHeads>), StoreError> {
        let rows: Vec<PageRow> = page_statement(user, page).load(self.conn()).store()?;
        let (mut listed, mut at) = (Vec::with_capacity(rows.len()), None);
        for row in rows {
            let (order, heads) = row.0?;
            listed.push(order);
            at = Some(heads);
        }
        let groups: Vec<_> = listed.iter().filter(|row| row.json.is_empty()).map(|row| row.id.0).collect();
        if !groups.is_empty() {
            self.fill_groups(groups, &mut listed)?;
            at = None;
        }
        Ok((listed, at))
    }

    /// Orders of groups need their legs.
    fn fill_groups(&mut self, groups: Vec<Uuid>, listed: &mut [ListedOrder]) -> Result<(), StoreError> {
        let rows = prepared(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders o WHERE o.id = ANY(?) UNION ALL SELECT ",
            order_columns!(),
            " FROM orders o JOIN orders e ON e.account_id = o.account_id AND e.id = o.parent_id \
             WHERE e.id = ANY(?)"
        ))
        .bind::<Array<SqlUuid>, _>(groups.clone())
        .bind::<Array<SqlUuid>, _>(groups)
        .typed::<OrderColumns>()
        .load::<OrderRow>(self.conn())
        .store()?;
        let mut all = orders(rows)?;
        all.sort_by_key(|order| order.id);
        for entry in listed.iter_mut().filter(|entry| entry.json.is_empty()) {
            let Some(order) = all.iter().find(|order| order.id == entry.id) else { continue };
            let mut legs: Vec<_> =
                all.iter().filter(|leg| leg.parent_id == Some(entry.id)).cloned().collect();
            legs.dedup_by_key(|leg| leg.id);
            entry.json = json(&OrderView::new(order, &legs));
        }
        Ok(())
    }
}

fn page_statement(user: UserId, page: &OrderPage) -> Prepared<'_> {
    let plain = page.is_plain();
    let text = if plain {
        page_texts!(page.filter, "")
    } else {
        page_texts!(
            page.filter,
            "AND (?::text IS NULL OR o.symbol = ?) AND (?::text IS NULL OR o.side = ?) \
             AND (?::text IS NULL OR o.source_kind = ?) \
             AND (?::timestamptz IS NULL OR o.created_at >= ?) AND (?::timestamptz IS NULL OR o.created_at < ?) "
        )
    };
    let statement = prepared(text)
        .bind::<BigInt, _>(user.0)
        .bind::<BigInt, _>(user.0)
        .bind::<SqlUuid, _>(page.before.map_or(Uuid::max(), |id| id.0));
    let statement = match plain {
        true => statement,
        false => statement
            .bind::<Nullable<Text>, _>(page.symbol.as_deref())
            .bind::<Nullable<Text>, _>(page.symbol.as_deref())
            .bind::<Nullable<Text>, _>(page.side.as_deref())
            .bind::<Nullable<Text>, _>(page.side.as_deref())
            .bind::<Nullable<Text>, _>(page.source.as_deref())
            .bind::<Nullable<Text>, _>(page.source.as_deref())
            .bind::<Nullable<Timestamptz>, _>(page.from)
            .bind::<Nullable<Timestamptz>, _>(page.from)
            .bind::<Nullable<Timestamptz>, _>(page.to)
            .bind::<Nullable<Timestamptz>, _>(page.to),
    };
    statement.bind::<BigInt, _>(page.limit)
}
