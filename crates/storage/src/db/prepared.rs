//! Hand-written statements that are prepared once per connection.
//!
//! Diesel prepares and caches only what it can identify; its own `sql_query` is parsed anew each time, at more than
//! half the rate lost. A [`Prepared`] is identified by its text, so the text must be one constant: what varies is bound.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel::{PgConnection, RunQueryDsl};

/// A statement: a constant text with `?` where values are bound, in their order.
///
/// Its rows are read by column name, or, once [`typed`](Self::typed), by position: for lists of wide rows, where looking
/// each name up costs more than the row itself.
pub(crate) struct Prepared<'a, ST = Untyped> {
    text: &'static str,
    binds: Vec<Box<dyn Bind + 'a>>,
    columns: PhantomData<fn() -> ST>,
}

/// A statement from its text. The text must hold no `?` but its places for values.
pub(crate) fn prepared<'a>(text: &'static str) -> Prepared<'a> {
    Prepared { text, binds: Vec::with_capacity(16), columns: PhantomData }
}

trait Bind {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

struct Value<ST, T>(T, PhantomData<fn() -> ST>);

impl<ST, T> Bind for Value<ST, T>
where
    Pg: HasSqlType<ST>,
    T: ToSql<ST, Pg>,
{
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<ST, T>(&self.0)
    }
}

impl<'a> Prepared<'a> {
    /// Binds the next value.
    pub(crate) fn bind<ST, T>(mut self, value: T) -> Self
    where
        ST: 'a,
        Pg: HasSqlType<ST>,
        T: ToSql<ST, Pg> + 'a,
    {
        self.binds.push(Box::new(Value(value, PhantomData::<fn() -> ST>)));
        self
    }

    /// The same statement, whose columns have the types of the tuple `ST`, in their order.
    pub(crate) fn typed<ST>(self) -> Prepared<'a, ST> {
        Prepared { text: self.text, binds: self.binds, columns: PhantomData }
    }
}

impl<S> QueryFragment<Pg> for Prepared<'_, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut binds = self.binds.iter();
        for (at, piece) in self.text.split('?').enumerate() {
            if at > 0 {
                let bind = binds.next().ok_or_else(|| {
                    diesel::result::Error::QueryBuilderError("a statement has more places than values".into())
                })?;
                bind.push(&mut out)?;
            }
            out.push_sql(piece);
        }
        match binds.next() {
            None => Ok(()),
            Some(_) => Err(diesel::result::Error::QueryBuilderError(
                "a statement has more values than places".into(),
            )),
        }
    }
}

impl<S> QueryId for Prepared<'_, S> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<S> Query for Prepared<'_, S> {
    type SqlType = S;
}

impl<S> RunQueryDsl<PgConnection> for Prepared<'_, S> {}
