//! The ledger: what changed an account and was no fill. Positions and expected cash follow from it and the fills.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryableByName, RunQueryDsl};
use plimsoll_core_domain::broker::AccountMovement;
use plimsoll_core_domain::stream::{EventKind, StreamId};
use plimsoll_core_domain::views::{PositionView, json};
use plimsoll_core_domain::{AccountId, StoreError, Symbol};
use plimsoll_reliability::reconcile::{Held, Standing};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::books::AccountOwner;
use crate::db::Tx;
use crate::db::errors::StoreResult;
use crate::db::prepared::prepared;
use crate::platform::orders::event;

/// The name space of ledger ids (RFC 9562 version 5).
const LEDGER: Uuid = Uuid::from_u128(0x0c5a_8f6e_93d7_4b1c_8a4d_51e6_7b20_c9f4);

/// A row to be booked.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: &'static str,
    /// What it is about: with the account it makes the id.
    pub(super) of: String,
    pub(super) word: Option<&'a str>,
    pub(super) broker_id: Option<&'a str>,
    pub(super) symbol: Option<&'a str>,
    pub(super) qty: Decimal,
    pub(super) cost: Decimal,
    pub(super) amount: Decimal,
    pub(super) at: DateTime<Utc>,
}

fn clip(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(at, _)| &text[..at])
}

impl Tx<'_> {
    /// Positions and cash of an account as they follow from the record. To be read in one snapshot.
    ///
    /// # Errors
    /// The store's own.
    pub fn standing(&mut self, account: AccountId) -> Result<Standing, StoreError> {
        #[derive(QueryableByName)]
        struct HeldRow {
            #[diesel(sql_type = Text)]
            symbol: String,
            #[diesel(sql_type = Numeric)]
            qty: Decimal,
            #[diesel(sql_type = Numeric)]
            cost_basis: Decimal,
            #[diesel(sql_type = Numeric)]
            realized_pl: Decimal,
        }
        #[derive(QueryableByName)]
        struct Sums {
            #[diesel(sql_type = Nullable<Numeric>)]
            base: Option<Decimal>,
            #[diesel(sql_type = Numeric)]
            base_flow: Decimal,
            #[diesel(sql_type = Numeric)]
            cost: Decimal,
            #[diesel(sql_type = Numeric)]
            since: Decimal,
            #[diesel(sql_type = BigInt)]
            last: i64,
        }
        let rows =
            prepared("SELECT symbol, qty, cost_basis, realized_pl FROM positions WHERE account_id = ?")
                .bind::<BigInt, _>(account.0)
                .load::<HeldRow>(self.conn())
                .store()?;
        let sums = prepared(
            "SELECT a.cash_base AS base, a.cash_flow AS base_flow, coalesce(sum(l.cost), 0) AS cost, \
             coalesce(sum(l.amount) FILTER (WHERE l.seq > a.cash_ledger), 0) AS since, \
             coalesce(max(l.seq), 0) AS last FROM accounts a LEFT JOIN account_ledger l ON l.account_id = a.id \
             WHERE a.id = ? GROUP BY a.id",
        )
        .bind::<BigInt, _>(account.0)
        .get_result::<Sums>(self.conn())
        .store()?;
        // What the ledger brought in was not paid for.
        let flow = rows.iter().map(|row| row.realized_pl - row.cost_basis).sum::<Decimal>() + sums.cost;
        let cash = sums.base.map(|base| base + flow - sums.base_flow + sums.since);
        let held = rows
            .into_iter()
            .map(|row| Held { symbol: row.symbol, qty: row.qty, cost_basis: row.cost_basis })
            .collect();
        Ok(Standing { held, flow, ledger: sums.last, cash })
    }

    /// The broker's cash agrees with this standing.
    ///
    /// # Errors
    /// The store's own.
    pub fn settle_cash(
        &mut self,
        account: AccountId,
        cash: Decimal,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        prepared("UPDATE accounts SET cash_base = ?, cash_flow = ?, cash_ledger = ? WHERE id = ?")
            .bind::<Numeric, _>(cash)
            .bind::<Numeric, _>(standing.flow)
            .bind::<BigInt, _>(standing.ledger)
            .bind::<BigInt, _>(account.0)
            .execute(self.conn())
            .store()?;
        Ok(())
    }

    /// Of these ids of the broker's movements those that are booked.
    ///
    /// # Errors
    /// The store's own.
    pub fn known_movements(
        &mut self,
        account: AccountId,
        ids: &[String],
    ) -> Result<HashSet<String>, StoreError> {
        #[derive(QueryableByName)]
        struct Known {
            #[diesel(sql_type = Text)]
            broker_id: String,
        }
        let rows =
            prepared("SELECT broker_id FROM account_ledger WHERE account_id = ? AND broker_id = ANY(?)")
                .bind::<BigInt, _>(account.0)
                .bind::<Array<Text>, _>(ids)
                .load::<Known>(self.conn())
                .store()?;
        Ok(rows.into_iter().map(|row| row.broker_id).collect())
    }

    /// Takes positions over as they stood before the account was first compared. Repeats change nothing.
    ///
    /// # Errors
    /// The store's own.
    pub fn adopt_opening(
        &mut self,
        of: AccountOwner,
        held: &[Held],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for one in held {
            let entry = Entry {
                kind: "opening",
                of: format!("opening/{}", one.symbol),
                word: None,
                broker_id: None,
                symbol: Some(&one.symbol),
                qty: one.qty,
                cost: one.cost_basis,
                amount: Decimal::ZERO,
                at: now,
            };
            self.book_entry(of, &entry, now)?;
        }
        Ok(())
    }

    /// Books movements of the broker; the quantities of those that `moves` names change positions. Those that are booked
    /// already are passed over.
    ///
    /// # Errors
    /// The store's own.
    pub fn book_movements(
        &mut self,
        of: AccountOwner,
        rows: &[AccountMovement],
        moves: &HashSet<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for row in rows.iter().filter(|row| row.id.len() <= 128) {
            let qty = row.qty.filter(|_| moves.contains(&row.id)).unwrap_or_default();
            let entry = Entry {
                kind: "movement",
                of: format!("movement/{}", row.id),
                word: Some(clip(&row.kind, 32)),
                broker_id: Some(&row.id),
                symbol: row.symbol.as_deref().map(|symbol| clip(symbol, 20)),
                qty,
                cost: Decimal::ZERO,
                amount: row.amount,
                at: row.at,
            };
            self.book_entry(of, &entry, now)?;
        }
        Ok(())
    }

    /// Books one row, with the position that it changes; `false` when it is booked already.
    pub(super) fn book_entry(
        &mut self,
        of: AccountOwner,
        entry: &Entry<'_>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let symbol = match entry.symbol {
            Some(text) if !entry.qty.is_zero() => Some(self.own_symbol(of.account, text)?),
            _ => None,
        };
        let id = Uuid::new_v5(&LEDGER, format!("{}/{}", of.account, entry.of).as_bytes());
        let written = prepared(
            "INSERT INTO account_ledger (account_id, id, user_id, kind, word, broker_id, symbol, qty, cost, amount, at, \
             created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind::<BigInt, _>(of.account.0)
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(of.user.0)
        .bind::<Text, _>(entry.kind)
        .bind::<Nullable<Text>, _>(entry.word)
        .bind::<Nullable<Text>, _>(entry.broker_id)
        .bind::<Nullable<Text>, _>(symbol.as_ref().map(Symbol::as_str).or(entry.symbol))
        .bind::<Numeric, _>(entry.qty)
        .bind::<Numeric, _>(entry.cost)
        .bind::<Numeric, _>(entry.amount)
        .bind::<Timestamptz, _>(entry.at)
        .bind::<Timestamptz, _>(now)
        .execute(self.conn())
        .store()?;
        if written == 0 {
            return Ok(false);
        }
        if let Some(symbol) = symbol {
            let mut holding = self.lock_holding(of.account, of.user, &symbol, now)?;
            let outside = self.outside_change(of.account, &symbol, holding.position.qty, entry)?;
            holding.position.qty = (holding.position.qty + entry.qty).normalize();
            holding.position.cost_basis = if holding.position.qty.is_zero() {
                Decimal::ZERO
            } else {
                (holding.position.cost_basis + entry.cost).normalize()
            };
            holding.updated_at = now.max(holding.updated_at);
            self.save_holding(&holding, outside)?;
            let changed = event(EventKind::PositionUpdated, json(&PositionView::from(&holding)));
            self.append_events(StreamId::User(of.user), &[changed], now)?;
        }
        Ok(true)
    }

    /// Units that count as from outside by an entry. A movement of the broker's, such as a split, changes what is held in
    /// proportion; all else came from outside.
    fn outside_change(
        &mut self,
        account: AccountId,
        symbol: &Symbol,
        held: Decimal,
        entry: &Entry<'_>,
    ) -> Result<Decimal, StoreError> {
        #[derive(QueryableByName)]
        struct Outside {
            #[diesel(sql_type = Numeric)]
            outside_qty: Decimal,
        }
        if entry.kind != "movement" || held.is_zero() {
            return Ok(entry.qty);
        }
        let row = prepared("SELECT outside_qty FROM positions WHERE account_id = ? AND symbol = ?")
            .bind::<BigInt, _>(account.0)
            .bind::<Text, _>(symbol.as_str())
            .get_result::<Outside>(self.conn())
            .store()?;
        let share = row.outside_qty.checked_mul(entry.qty).and_then(|part| part.checked_div(held));
        Ok(share.unwrap_or(entry.qty).round_dp(9))
    }

    /// The name under which a symbol is held here: brokers write some pairs without the slash that orders have.
    fn own_symbol(&mut self, account: AccountId, text: &str) -> Result<Symbol, StoreError> {
        #[derive(QueryableByName)]
        struct Named {
            #[diesel(sql_type = Text)]
            symbol: String,
        }
        let known = prepared(
            "SELECT symbol FROM positions WHERE account_id = ? AND replace(symbol, '/', '') = replace(?, '/', '') LIMIT 1",
        )
        .bind::<BigInt, _>(account.0)
        .bind::<Text, _>(text)
        .load::<Named>(self.conn())
        .store()?;
        let name = known.into_iter().next().map_or_else(|| text.to_owned(), |row| row.symbol);
        Symbol::new(name).map_err(|why| StoreError::inconsistent("account_ledger", "symbol", account, why))
    }
}
