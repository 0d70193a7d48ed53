//! Hand-written statements that are prepared once per connection.
//!
//! Diesel prepares and caches only what it can identify; its own `sql_query` is parsed anew each time, at more than
//! half the rate lost. A [`Prepared`] is identified by its text, so the text must be one constant: what varies is bound.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel::{PgConnection, RunQueryDsl};

/// A statement: a constant text with `?` where values are bound, in their order.
pub(crate) struct Prepared<'a> {
    text: &'static str,
    binds: Vec<Box<dyn Bind + 'a>>,
}

/// A statement from its text. The text must hold no `?` but its places for values.
pub(crate) fn prepared<'a>(text: &'static str) -> Prepared<'a> {
    Prepared { text, binds: Vec::with_capacity(16) }
}

trait Bind {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

struct Value<ST, T>(T, std::marker::PhantomData<fn() -> ST>);

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
        self.binds.push(Box::new(Value(value, std::marker::PhantomData::<fn() -> ST>)));
        self
    }
}

impl QueryFragment<Pg> for Prepared<'_> {
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

impl QueryId for Prepared<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Prepared<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<PgConnection> for Prepared<'_> {}
