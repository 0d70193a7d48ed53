//! Watchlists: the only thing of an account that the exchange does not know.

use plimsoll_paper_exchange::{AccountId, Refusal};
use plimsoll_storage::paper::Watchlist;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::World;
use crate::wire::{Answer, Call};

const MAX_NAME: usize = 64;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    symbols: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Addition {
    symbol: String,
}

pub(super) fn list(world: &mut World, call: &Call) -> Answer {
    let lists = world.watchlists.iter().filter(|list| list.account == call.account);
    let rows: Vec<Value> = lists.map(|list| head(list, &json!(call.account))).collect();
    Answer::ok(&rows)
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let read = || {
        let body: Body = call.json()?;
        let name = checked_name(body.name)?.ok_or_else(|| refused("watchlist name is required"))?;
        if world.watchlists.iter().any(|list| list.account == call.account && list.name == name) {
            return Err(refused("watchlist name must be unique"));
        }
        Ok((name, known(world, body.symbols.unwrap_or_default())?))
    };
    match read() {
        Err(refusal) => refusal.into(),
        Ok((name, symbols)) => {
            let (id, now) = (world.next_id(), world.now());
            let list =
                Watchlist { id, account: call.account, name, symbols, created_at: now, updated_at: now };
            world.watchlists.push(list);
            saved(world, call, id)
        }
    }
}

pub(super) fn show(world: &mut World, call: &Call, id: Uuid) -> Answer {
    find(world, call.account, id).map(|at| Answer::ok(&whole(world, &world.watchlists[at]))).into()
}

pub(super) fn update(world: &mut World, call: &Call, id: Uuid) -> Answer {
    change(world, call, id, |world, list| {
        let body: Body = call.json()?;
        if let Some(name) = checked_name(body.name)? {
            list.name = name;
        }
        if let Some(symbols) = body.symbols {
            list.symbols = known(world, symbols)?;
        }
        Ok(())
    })
}

pub(super) fn add(world: &mut World, call: &Call, id: Uuid) -> Answer {
    change(world, call, id, |world, list| {
        let addition: Addition = call.json()?;
        for symbol in known(world, vec![addition.symbol])? {
            if list.symbols.contains(&symbol) {
                return Err(refused("duplicate symbol"));
            }
            list.symbols.push(symbol);
        }
        Ok(())
    })
}

pub(super) fn remove(world: &mut World, call: &Call, id: Uuid, symbol: &str) -> Answer {
    change(world, call, id, |_, list| {
        let before = list.symbols.len();
        list.symbols.retain(|kept| kept != symbol);
        if list.symbols.len() == before {
            Err(Refusal::new(404, 40_410_000, "symbol not found"))
        } else {
            Ok(())
        }
    })
}

pub(super) fn delete(world: &mut World, call: &Call, id: Uuid) -> Answer {
    match find(world, call.account, id) {
        Err(refusal) => refusal.into(),
        Ok(at) => {
            world.watchlists.remove(at);
            world.unsaved.delete_watchlist(call.account, id);
            Answer::empty()
        }
    }
}

fn change(
    world: &mut World,
    call: &Call,
    id: Uuid,
    edit: impl FnOnce(&World, &mut Watchlist) -> Result<(), Refusal>,
) -> Answer {
    let at = match find(world, call.account, id) {
        Ok(at) => at,
        Err(refusal) => return refusal.into(),
    };
    let mut list = world.watchlists[at].clone();
    if let Err(refusal) = edit(world, &mut list) {
        return refusal.into();
    }
    list.updated_at = world.now();
    world.watchlists[at] = list;
    saved(world, call, id)
}

fn saved(world: &mut World, call: &Call, id: Uuid) -> Answer {
    match find(world, call.account, id) {
        Err(refusal) => refusal.into(),
        Ok(at) => {
            let list = world.watchlists[at].clone();
            let answer = Answer::ok(&whole(world, &list));
            world.unsaved.save_watchlist(list);
            answer
        }
    }
}

fn find(world: &World, account: AccountId, id: Uuid) -> Result<usize, Refusal> {
    let found = world.watchlists.iter().position(|list| list.account == account && list.id == id);
    found.ok_or_else(|| Refusal::new(404, 40_410_000, "watchlist not found"))
}

fn checked_name(name: Option<String>) -> Result<Option<String>, Refusal> {
    match name {
        Some(name) if name.is_empty() || name.chars().count() > MAX_NAME || name.contains('\0') => {
            Err(refused("watchlist name must have 1 to 64 characters"))
        }
        name => Ok(name),
    }
}

/// Their symbols, each once; ids and short forms become symbols.
fn known(world: &World, symbols: Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut known: Vec<String> = Vec::with_capacity(symbols.len());
    for symbol in symbols {
        let asset =
            world.exchange.asset(&symbol).map_err(|_| refused(format!("asset \"{symbol}\" not found")))?;
        if !known.contains(&asset.symbol) {
            known.push(asset.symbol);
        }
    }
    Ok(known)
}

fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(422, 40_010_001, message)
}

fn head(list: &Watchlist, account: &Value) -> Value {
    json!({
        "id": list.id,
        "account_id": account,
        "name": list.name,
        "created_at": list.created_at,
        "updated_at": list.updated_at,
    })
}

fn whole(world: &World, list: &Watchlist) -> Value {
    let mut row = head(list, &json!(list.account));
    row["assets"] = list
        .symbols
        .iter()
        .filter_map(|symbol| world.exchange.asset(symbol).ok())
        .map(|a| json!(a))
        .collect();
    row
}
