//! `/_sim`: handles for tools and tests. Loopback callers only, without a key, and never from a page in a browser.

use actix_web::guard::{Guard, GuardContext};
use actix_web::http::header::ORIGIN;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_paper_exchange::calendar::{self, Session};
use plimsoll_paper_exchange::clock::Hours;
use plimsoll_paper_exchange::{AccountId, Order, decimal_text};
use rand::rngs::SysRng;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{EngineError, World};
use crate::faults::FaultRule;
use crate::http::{Shared, plain};
use crate::keys::{Login, is_key_text};
use crate::sim_keys;
use crate::wire::Answer;

/// Adds the routes.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/_sim")
            .guard(Local)
            .route("/orders", web::get().to(orders))
            .route("/fills", web::get().to(fills))
            .route("/requests", web::get().to(requests))
            .route("/clock", web::get().to(clock))
            .route("/clock", web::put().to(set_clock))
            .route("/accounts", web::post().to(create_account))
            .route("/keys", web::post().to(sim_keys::add))
            .route("/keys/{key}", web::delete().to(sim_keys::revoke))
            .route("/streams", web::get().to(sim_keys::streams))
            .route("/faults", web::get().to(faults))
            .route("/faults", web::post().to(add_faults))
            .route("/faults", web::put().to(replace_faults))
            .route("/faults", web::delete().to(clear_faults))
            .route("/faults/{id}", web::delete().to(remove_fault))
            .default_service(web::to(crate::http::nowhere)),
    );
}

/// The peer is on this machine and no web page.
struct Local;

impl Guard for Local {
    fn check(&self, context: &GuardContext<'_>) -> bool {
        let peer = context.head().peer_addr;
        peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
            && !context.head().headers().contains_key(ORIGIN)
    }
}

#[derive(Deserialize)]
struct Filter {
    account: Option<AccountId>,
}

#[derive(Serialize)]
struct OrderRow {
    #[serde(flatten)]
    order: Order,
    account: AccountId,
}

#[derive(Serialize)]
struct FillRow {
    account: AccountId,
    order_id: uuid::Uuid,
    client_order_id: String,
    symbol: String,
    side: plimsoll_paper_exchange::order::Side,
    qty: Decimal,
    price: Decimal,
    cum_qty: Decimal,
    execution_id: uuid::Uuid,
    at: DateTime<Utc>,
}

/// All orders of all accounts, in the order of their submission.
async fn orders(shared: web::Data<Shared>, filter: web::Query<Filter>) -> HttpResponse {
    let wanted = filter.account;
    read(&shared, move |world| {
        let records = world
            .exchange
            .ledger_orders()
            .filter(|record| wanted.is_none_or(|wanted| wanted == record.account));
        let mut rows: Vec<_> = records.collect();
        rows.sort_unstable_by_key(|record| record.number);
        let rows: Vec<OrderRow> = rows
            .into_iter()
            .map(|record| OrderRow { order: record.order.clone(), account: record.account })
            .collect();
        Answer::ok(&rows)
    })
    .await
}

/// All executions of all accounts, oldest first.
async fn fills(shared: web::Data<Shared>, filter: web::Query<Filter>) -> HttpResponse {
    let wanted = filter.account;
    read(&shared, move |world| {
        let fills =
            world.exchange.executions().filter(|fill| wanted.is_none_or(|wanted| wanted == fill.account));
        let rows: Vec<FillRow> = fills
            .map(|fill| FillRow {
                account: fill.account,
                order_id: fill.order_id,
                client_order_id: fill.client_order_id.clone(),
                symbol: fill.symbol.clone(),
                side: fill.side,
                qty: fill.qty,
                price: fill.price,
                cum_qty: fill.cum_qty,
                execution_id: fill.id,
                at: fill.at,
            })
            .collect();
        Answer::ok(&rows)
    })
    .await
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

/// What was called on the Trading API's routes, oldest first; `?after=` a `seq`.
async fn requests(shared: web::Data<Shared>, after: web::Query<After>) -> HttpResponse {
    plain(&Answer::ok(&shared.log.after(after.after)))
}

#[derive(Serialize)]
struct ClockRow {
    time: DateTime<Utc>,
    #[serde(with = "rust_decimal::serde::str")]
    speed: Decimal,
    session: Session,
    hours: Hours,
    is_open: bool,
}

async fn clock(shared: web::Data<Shared>) -> HttpResponse {
    read(&shared, |world| Answer::ok(&clock_row(world))).await
}

fn clock_row(world: &World) -> ClockRow {
    let session = calendar::session_of(world.now());
    ClockRow {
        time: world.now(),
        speed: world.clock.speed(),
        session,
        hours: world.clock.state().hours,
        is_open: session == Session::Regular,
    }
}

/// `time` and `session` exclude one another in sense, but both may be given: the time is set first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    #[serde(default)]
    time: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "decimal_text::optional")]
    speed: Option<Decimal>,
    #[serde(default)]
    session: Option<Session>,
}

async fn set_clock(shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    let change: ClockChange = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return bad(error),
    };
    read(&shared, move |world| {
        let changed = world.set_clock(|clock, real| {
            if let Some(time) = change.time {
                clock.set_time(time, real)?;
            }
            if let Some(session) = change.session {
                clock.set_session(session, real);
            }
            change.speed.map_or(Ok(()), |speed| clock.set_speed(speed, real))
        });
        match changed {
            Ok(()) => Answer::ok(&clock_row(world)),
            Err(error) => Answer::json(422, &json!({ "message": error.to_string() })),
        }
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    api_secret: Option<String>,
    #[serde(default, deserialize_with = "decimal_text::optional")]
    cash: Option<Decimal>,
}

async fn create_account(shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    let body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    let wanted: NewAccount = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return bad(error),
    };
    plain(&open_account(&shared, wanted).await)
}

async fn open_account(shared: &Shared, wanted: NewAccount) -> Answer {
    let refused = |status, message: &str| Answer::json(status, &json!({ "message": message }));
    if wanted.cash.is_some_and(|cash| cash.is_sign_negative() || cash > Decimal::from(1_000_000_000_000_u64))
    {
        return refused(422, "cash must be between 0 and 1000000000000");
    }
    if ![&wanted.api_key, &wanted.api_secret].into_iter().flatten().all(|text| is_key_text(text)) {
        return refused(422, "api_key and api_secret must have 1 to 128 visible ASCII characters");
    }
    // held until the key is in use, so that no two accounts get the same one
    let mut file = shared.key_file.lock().await;
    if wanted.api_key.as_ref().is_some_and(|key| shared.keys.contains(key)) {
        return refused(409, "api_key is taken");
    }
    let Ok(mut login) = Login::generate(AccountId::nil(), &mut SysRng) else {
        return refused(500, "the system gives no random bytes");
    };
    login.api_key = wanted.api_key.unwrap_or(login.api_key);
    login.api_secret = wanted.api_secret.unwrap_or(login.api_secret);
    let created = shared
        .engine
        .call(move |world| {
            login.account_id = world.exchange.create_account(wanted.cash, world.now());
            world.unsaved.add_key(login.row());
            login
        })
        .await;
    let login = match created {
        Ok(login) => login,
        Err(error) => return unavailable(error),
    };
    shared.keys.add(login.row());
    if let Err(error) = file.add(login.clone()) {
        tracing::error!(%error, "a new key pair could not be added to the key file; it works all the same");
    }
    Answer::json(201, &login)
}

async fn faults(shared: web::Data<Shared>) -> HttpResponse {
    plain(&Answer::ok(&shared.faults.list()))
}

/// One rule, or a list.
enum Rules {
    One(Box<FaultRule>),
    Many(Vec<FaultRule>),
}

fn rules(body: &[u8]) -> Result<Rules, serde_json::Error> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice(body).map(Rules::Many)
    } else {
        serde_json::from_slice(body).map(Rules::One)
    }
}

async fn add_faults(shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    match rules(&body) {
        Err(error) => bad(error),
        Ok(Rules::One(rule)) => plain(&Answer::json(201, &shared.faults.add(vec![*rule]).first())),
        Ok(Rules::Many(rules)) => plain(&Answer::json(201, &shared.faults.add(rules))),
    }
}

async fn replace_faults(shared: web::Data<Shared>, body: Bytes) -> HttpResponse {
    match serde_json::from_slice(&body) {
        Err(error) => bad(error),
        Ok(rules) => plain(&Answer::ok(&shared.faults.replace(rules))),
    }
}

async fn clear_faults(shared: web::Data<Shared>) -> HttpResponse {
    shared.faults.clear();
    plain(&Answer::empty())
}

async fn remove_fault(shared: web::Data<Shared>, id: web::Path<String>) -> HttpResponse {
    if shared.faults.remove(&id) {
        plain(&Answer::empty())
    } else {
        plain(&Answer::json(404, &json!({ "message": "no such rule" })))
    }
}

async fn read(shared: &Shared, work: impl FnOnce(&mut World) -> Answer + Send + 'static) -> HttpResponse {
    plain(&shared.engine.call(work).await.unwrap_or_else(unavailable))
}

pub(crate) fn unavailable(error: EngineError) -> Answer {
    let message = match error {
        EngineError::NotRun => "the books cannot be written right now; nothing was changed",
        EngineError::Unknown => "the books could not be written; the change may still take effect",
    };
    Answer::json(503, &json!({ "message": message }))
}

pub(crate) fn bad(error: serde_json::Error) -> HttpResponse {
    plain(&Answer::json(400, &json!({ "message": error.to_string() })))
}
